//! Lawful histories of transactions over lists, as long as one likes, decided by a seed.
//!
//! In: a [`Shape`] and a seed. Out: the lines of a `history.jsonl`. Never: a clock; a list without bound.
//!
//! Clients are in a closed loop. A transaction takes effect at some moment between invocation and completion, and has 1
//! to 4 micro-operations, half of them reads, on a few lists at a time; a list that was appended to often enough gives way
//! to a new one. A share of the transactions stays unknown; half of these took effect, and the client goes on under a new
//! number.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub transactions: u32,
    pub clients: u32,
    /// Lists in use at a time.
    pub lists: usize,
    /// To one list.
    pub appends: u32,
    /// Of a hundred transactions.
    pub unknown: f64,
    /// The first append after this share of the history is acknowledged and lost.
    pub lost_at: Option<f64>,
}

#[derive(Clone)]
enum Micro {
    Append(u32, u32),
    Read(u32, Vec<u32>),
}

#[derive(Clone)]
struct Client {
    process: u64,
    micros: Vec<Micro>,
    known: bool,
    effect: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Invoke,
    Effect,
    Complete,
}

struct Lists {
    /// What each holds.
    held: Vec<Vec<u32>>,
    /// Those in use, with how often they were appended to.
    in_use: Vec<(u32, u32)>,
}

impl Lists {
    fn micro(&mut self, random: &mut ChaCha8Rng, appends: u32) -> Micro {
        let place = random.random_range(0..self.in_use.len());
        let (list, count) = &mut self.in_use[place];
        if random.random_bool(0.5) {
            return Micro::Read(*list, Vec::new());
        }
        *count += 1;
        let micro = Micro::Append(*list, *count);
        if *count == appends {
            (*list, *count) = (self.held.len() as u32, 0);
            self.held.push(Vec::new());
        }
        micro
    }

    fn carry_out(&mut self, micros: &mut [Micro], lost: bool) {
        for micro in micros {
            match micro {
                Micro::Append(..) if lost => {}
                Micro::Append(list, value) => self.held[*list as usize].push(*value),
                Micro::Read(list, seen) => seen.clone_from(&self.held[*list as usize]),
            }
        }
    }
}

/// Writes the lines.
pub fn write_history(shape: Shape, seed: u64, out: &mut impl Write) -> io::Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let in_use = (0..shape.lists as u32).map(|list| (list, 0)).collect();
    let mut lists = Lists { held: vec![Vec::new(); shape.lists], in_use };
    let idle = |process| Client { process, micros: Vec::new(), known: true, effect: true };
    let mut clients: Vec<Client> = (0..u64::from(shape.clients)).map(idle).collect();
    let mut queue = BinaryHeap::new();
    for client in 0..clients.len() {
        queue.push(Reverse((random.random_range(1..1_000_000_u64), client, Step::Invoke)));
    }
    let (mut invoked, mut index, mut processes) = (0, 0_u64, u64::from(shape.clients));
    let mut lost_after = shape.lost_at.map(|share| (f64::from(shape.transactions) * share) as u32);
    while let Some(Reverse((time, at, step))) = queue.pop() {
        let client = &mut clients[at];
        let kind = match step {
            Step::Invoke if invoked == shape.transactions => continue,
            Step::Invoke => {
                invoked += 1;
                let count = random.random_range(1..=4);
                client.micros = (0..count).map(|_| lists.micro(&mut random, shape.appends)).collect();
                client.known = !random.random_bool(shape.unknown / 100.0);
                client.effect = client.known || random.random_bool(0.5);
                let effect_at = time + random.random_range(1..1_000_000);
                queue.push(Reverse((effect_at, at, Step::Effect)));
                queue.push(Reverse((effect_at + random.random_range(1..1_000_000), at, Step::Complete)));
                "invoke"
            }
            Step::Effect => {
                // One that only appends, so that it cannot see that it was lost, to lists that will be read again.
                let is_early = |&value: &u32| value < shape.appends / 2;
                let is_fit = |micro: &Micro| matches!(micro, Micro::Append(_, value) if is_early(value));
                let appends = client.micros.iter().all(is_fit);
                let lost = appends && client.known && lost_after.is_some_and(|after| after < invoked);
                if lost {
                    lost_after = None;
                }
                if client.effect {
                    lists.carry_out(&mut client.micros, lost);
                }
                continue;
            }
            Step::Complete => {
                queue.push(Reverse((time + random.random_range(1..200_000), at, Step::Invoke)));
                if client.known { "ok" } else { "info" }
            }
        };
        let process = client.process;
        write!(
            out,
            r#"{{"index":{index},"time":{time},"process":{process},"type":"{kind}","f":"txn","value":["#
        )?;
        write_micros(&client.micros, kind == "ok", out)?;
        writeln!(out, r#"],"node":"n1"}}"#)?;
        index += 1;
        if kind == "info" {
            client.process = processes;
            processes += 1;
        }
    }
    Ok(())
}

fn write_micros(micros: &[Micro], seen: bool, out: &mut impl Write) -> io::Result<()> {
    for (at, micro) in micros.iter().enumerate() {
        out.write_all(if at > 0 { b"," } else { b"" })?;
        match micro {
            Micro::Append(list, value) => write!(out, r#"["append",{list},{value}]"#)?,
            Micro::Read(list, _) if !seen => write!(out, r#"["r",{list},null]"#)?,
            Micro::Read(list, values) => {
                write!(out, r#"["r",{list},["#)?;
                for (at, value) in values.iter().enumerate() {
                    out.write_all(if at > 0 { b"," } else { b"" })?;
                    write!(out, "{value}")?;
                }
                out.write_all(b"]]")?;
            }
        }
    }
    Ok(())
}
