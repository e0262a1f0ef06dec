//! Lawful histories of one busy register, as long as one likes, decided by a seed.
//!
//! In: a [`Shape`] and a seed. Out: the lines of a `history.jsonl`. Never: a clock; a history no register could have.
//!
//! Clients are in a closed loop: one operation each at any time. An operation takes effect at some moment between
//! invocation and completion. A share of them stays unknown; half of these took effect, and the client goes on under
//! a new number, as a process that left an operation open never returns.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub operations: u32,
    pub clients: u32,
    /// Of a hundred operations; the rest are reads.
    pub writes: u32,
    pub swaps: u32,
    /// Of a hundred operations that could change something.
    pub unknown: f64,
    /// One read, at about this share of the history, sees a value from long before.
    pub stale_at: Option<f64>,
}

#[derive(Clone, Copy)]
enum Function {
    Read,
    Write,
    /// Half of the swaps expect what the register holds just then, the others what it held at the invocation.
    Swap {
        expected: u64,
        lucky: bool,
    },
}

struct Client {
    process: u64,
    function: Function,
    value: u64,
    expected: u64,
    seen: u64,
    known: bool,
    effect: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Invoke,
    Effect,
    Complete,
}

/// Writes the lines. What the register holds at first is absent: 0 here, null in the lines.
pub fn write_history(shape: Shape, seed: u64, out: &mut impl Write) -> io::Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut queue = BinaryHeap::new();
    let mut clients: Vec<Client> = (0..u64::from(shape.clients))
        .map(|process| Client {
            process,
            function: Function::Read,
            value: 0,
            expected: 0,
            seen: 0,
            known: true,
            effect: true,
        })
        .collect();
    for client in 0..clients.len() {
        queue.push(Reverse((random.random_range(1..1_000_000_u64), client, Step::Invoke)));
    }
    let (mut invoked, mut values, mut register, mut index) = (0, 0, 0, 0_u64);
    let mut processes = u64::from(shape.clients);
    let mut stale_left = shape.stale_at.map(|share| (f64::from(shape.operations) * share) as u32);
    let mut early = 0;
    while let Some(Reverse((time, at, step))) = queue.pop() {
        let client = &mut clients[at];
        let mut kind = "invoke";
        match step {
            Step::Invoke if invoked == shape.operations => continue,
            Step::Invoke => {
                invoked += 1;
                let draw = random.random_range(0..100);
                values += 1;
                client.value = values;
                client.function = match draw {
                    draw if draw < shape.writes => Function::Write,
                    draw if draw < shape.writes + shape.swaps => {
                        Function::Swap { expected: register, lucky: random.random_bool(0.5) }
                    }
                    _ => Function::Read,
                };
                client.known =
                    matches!(client.function, Function::Read) || !random.random_bool(shape.unknown / 100.0);
                client.effect = client.known || random.random_bool(0.5);
                let effect_at = time + random.random_range(1..1_000_000);
                queue.push(Reverse((effect_at, at, Step::Effect)));
                queue.push(Reverse((effect_at + random.random_range(1..1_000_000), at, Step::Complete)));
                // What a lucky swap expects is not known yet, and an invocation must name it: it takes effect now.
                if let Function::Swap { lucky: true, .. } = client.function {
                    client.expected = register;
                    client.seen = register;
                    register = if client.effect { client.value } else { register };
                }
                early = if invoked == shape.operations / 100 + 1 { register } else { early };
            }
            Step::Effect => {
                match client.function {
                    Function::Read => client.seen = register,
                    Function::Write if client.effect => register = client.value,
                    Function::Swap { expected, lucky: false } => {
                        client.expected = expected;
                        client.seen = register;
                        register =
                            if client.effect && register == expected { client.value } else { register };
                    }
                    Function::Write | Function::Swap { .. } => {}
                }
                continue;
            }
            Step::Complete => {
                kind = if client.known { "ok" } else { "info" };
                queue.push(Reverse((time + random.random_range(1..200_000), at, Step::Invoke)));
            }
        }
        if let Function::Swap { expected, lucky: false } = client.function {
            client.expected = expected;
        }
        let completes = step == Step::Complete;
        let (f, value) = match client.function {
            Function::Read if completes => {
                if stale_left.is_some_and(|left| left <= invoked) {
                    stale_left = None;
                    client.seen = early;
                }
                ("read", or_null(client.seen))
            }
            Function::Read => ("read", "null".to_owned()),
            Function::Write => ("write", client.value.to_string()),
            Function::Swap { .. } => ("cas", format!("[{},{}]", or_null(client.expected), client.value)),
        };
        let mut seen = String::new();
        if let (Function::Swap { .. }, "ok", false) = (client.function, kind, client.seen == client.expected)
        {
            kind = "fail";
            seen = format!(r#","seen":{}"#, or_null(client.seen));
        }
        let process = client.process;
        writeln!(
            out,
            r#"{{"index":{index},"time":{time},"process":{process},"type":"{kind}","f":"{f}","key":"k1","value":{value}{seen},"node":"n1","session":{process},"sequence":{}}}"#,
            client.value
        )?;
        index += 1;
        if kind == "info" {
            client.process = processes;
            processes += 1;
        }
    }
    Ok(())
}

fn or_null(value: u64) -> String {
    if value == 0 { "null".to_owned() } else { value.to_string() }
}
