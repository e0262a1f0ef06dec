//! A user: starts operations at their time, and writes down what it asked and what it learned.
//!
//! In: arrivals. Out: lines of the history. Never: a second operation on a process that is in one, or any on a
//! process whose last one is open.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prost::bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::ask::{Asked, Late, NoAnswer};
use super::generator::{Arrival, Generator, Request, key_name};
use super::load::Yard;
use super::route::Route;
use crate::history::{Op, OpType, Process as ProcessName};
use crate::scenario::Pacing;
use crate::system::client::{NodeClient, Swap, Ticket};

/// Operations of one client under way at a time; beyond it they are shed, and counted.
pub const OUTSTANDING_PER_CLIENT_MAX: usize = 256;

/// One thread of control: one operation at a time, and none after one that stayed open.
pub struct Process {
    number: u64,
    /// Opened before the first write.
    session: Option<Session>,
}

struct Session {
    id: u64,
    /// The last sequence number used.
    sequence: u64,
}

/// What a node answered, in the history's words.
enum Answer {
    Read(Value),
    Written,
    Swapped,
    NotSwapped { seen: Value },
}

/// Goes on until `stop` says so; then waits for what is under way.
pub async fn live(
    yard: Arc<Yard>,
    route: Route,
    generator: Generator,
    pacing: Pacing,
    mut stop: watch::Receiver<bool>,
) {
    // An arrival may be sent to a node that never answers; only the deadline of its operation ends it.
    let stopped = async move {
        // An error means that the load itself is gone.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    match pacing {
        Pacing::Open => live_open(yard, route, generator, stopped).await,
        Pacing::Closed => live_closed(yard, route, generator, stopped).await,
    }
}

async fn live_open(yard: Arc<Yard>, route: Route, generator: Generator, stopped: impl Future<Output = ()>) {
    let mut under_way = JoinSet::new();
    let mut idle: Vec<Process> = Vec::new();
    let mut at = Instant::now();
    tokio::pin!(stopped);
    'arrivals: for arrival in generator {
        at += arrival.gap;
        loop {
            tokio::select! {
                biased;
                () = &mut stopped => break 'arrivals,
                Some(ended) = under_way.join_next() => idle.extend(unwind(ended)),
                () = sleep_until(at) => break,
            }
        }
        if under_way.len() >= OUTSTANDING_PER_CLIENT_MAX {
            yard.counters.shed.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let process = idle.pop().unwrap_or_else(|| yard.new_process());
        under_way.spawn(operate(yard.clone(), route, process, arrival));
    }
    while let Some(ended) = under_way.join_next().await {
        unwind(ended);
    }
}

async fn live_closed(yard: Arc<Yard>, route: Route, generator: Generator, stopped: impl Future<Output = ()>) {
    let mut process = yard.new_process();
    let mut at = Instant::now();
    tokio::pin!(stopped);
    for arrival in generator {
        // What was missed while the last one went on is not made up for: the rate is an upper bound.
        at = (at + arrival.gap).max(Instant::now());
        tokio::select! {
            biased;
            () = &mut stopped => return,
            () = sleep_until(at) => {}
        }
        let alive = operate(yard.clone(), route, process, arrival).await;
        process = alive.unwrap_or_else(|| yard.new_process());
    }
}

/// A panic in an operation is ours, and ends the load.
fn unwind(ended: Result<Option<Process>, JoinError>) -> Option<Process> {
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// One operation from invoke to its end; `None` when the process may do no more.
async fn operate(yard: Arc<Yard>, route: Route, mut process: Process, arrival: Arrival) -> Option<Process> {
    let request = arrival.request(yard.seen(arrival.key));
    let ended = perform(&yard, route, &mut process, request, arrival.draw).await;
    (ended != OpType::Info).then_some(process)
}

/// Carries `request` out and records it. After [`OpType::Info`] the process may do no more.
pub async fn perform(
    yard: &Yard,
    route: Route,
    process: &mut Process,
    request: Request,
    draw: u64,
) -> OpType {
    let ticket = match request {
        Request::Read { .. } => None,
        _ => match process.next_ticket(yard).await {
            Some(ticket) => Some(ticket),
            None => {
                yard.record(invocation(process, request, None));
                let error = "no session: none could be opened, nothing was sent".to_owned();
                let op = Op { kind: OpType::Fail, error: Some(error), ..invocation(process, request, None) };
                yard.record(op);
                yard.counters.end(OpType::Fail);
                return OpType::Fail;
            }
        },
    };
    // What is on its way is what others will most likely find.
    if let Request::Write { key, value } = request {
        yard.saw(key, Some(value));
    }
    let invoke = invocation(process, request, ticket);
    let began = yard.record(invoke.clone());
    let deadline = Instant::now() + yard.timeout;
    let late = if request.is_read() { Late::Cancel } else { Late::Leave };
    let call = move |client| send(client, request, ticket);
    let asked = yard.nodes.ask(route, draw, deadline, late, call).await;
    let op = conclusion(invoke, yard, request, asked);
    let kind = op.kind;
    yard.record(op);
    yard.counters.end(kind);
    if kind == OpType::Ok && !request.is_read() {
        yard.counters.written(began);
    }
    kind
}

impl Process {
    pub fn new(number: u64) -> Process {
        Process { number, session: None }
    }

    /// A number for the next write, never used before.
    async fn next_ticket(&mut self, yard: &Yard) -> Option<Ticket> {
        if self.session.is_none() {
            let id = yard.sessions.take(yard.timeout).await?;
            self.session = Some(Session { id, sequence: 0 });
        }
        let session = self.session.as_mut()?;
        session.sequence += 1;
        Some(Ticket { session: session.id, sequence: session.sequence })
    }
}

async fn send(
    client: Arc<NodeClient>,
    request: Request,
    ticket: Option<Ticket>,
) -> Result<Answer, crate::system::client::Failure> {
    let key = Bytes::from(key_name(request.key()));
    let ticket = ticket.unwrap_or_default();
    match request {
        Request::Read { .. } => Ok(Answer::Read(decode(client.get(key).await?))),
        Request::Write { value, .. } => {
            client.put(ticket, key, encode(value)).await?;
            Ok(Answer::Written)
        }
        Request::CompareAndSwap { expected, new, .. } => {
            match client.compare_and_swap(ticket, key, expected.map(encode), encode(new)).await? {
                Swap { swapped: true, .. } => Ok(Answer::Swapped),
                Swap { seen, .. } => Ok(Answer::NotSwapped { seen: decode(seen) }),
            }
        }
    }
}

fn invocation(process: &Process, request: Request, ticket: Option<Ticket>) -> Op {
    let (f, value) = match request {
        Request::Read { .. } => ("read", Value::Null),
        Request::Write { value, .. } => ("write", Value::from(value)),
        Request::CompareAndSwap { expected, new, .. } => ("cas", serde_json::json!([expected, new])),
    };
    Op {
        index: 0,
        time: 0,
        process: ProcessName::Client(process.number),
        kind: OpType::Invoke,
        f: f.to_owned(),
        key: Some(key_name(request.key())),
        value,
        seen: None,
        error: None,
        node: None,
        session: ticket.map(|ticket| ticket.session),
        sequence: ticket.map(|ticket| ticket.sequence),
    }
}

/// The line that ends an operation; tells the yard what was seen.
fn conclusion(invoke: Op, yard: &Yard, request: Request, asked: Asked<Answer>) -> Op {
    let op = Op { node: Some(yard.nodes.name(asked.node).to_owned()), ..invoke };
    let key = request.key();
    match (asked.result, request) {
        (Ok(Answer::Read(value)), _) => {
            yard.saw(key, value.as_u64());
            Op { kind: OpType::Ok, value, ..op }
        }
        (Ok(Answer::NotSwapped { seen }), _) => {
            yard.saw(key, seen.as_u64());
            Op { kind: OpType::Fail, seen: Some(seen), error: Some("another value was there".into()), ..op }
        }
        (Ok(Answer::Written | Answer::Swapped), Request::Write { value, .. }) => {
            yard.saw(key, Some(value));
            Op { kind: OpType::Ok, ..op }
        }
        (Ok(Answer::Written | Answer::Swapped), Request::CompareAndSwap { new, .. }) => {
            yard.saw(key, Some(new));
            Op { kind: OpType::Ok, ..op }
        }
        (Ok(Answer::Written | Answer::Swapped), Request::Read { .. }) => unreachable!("a read only reads"),
        // A read changes nothing: unanswered, it certainly had no effect.
        (Err(NoAnswer { error, .. }), Request::Read { .. }) => {
            Op { kind: OpType::Fail, error: Some(error), ..op }
        }
        (Err(NoAnswer { open, error }), _) => {
            let kind = if open { OpType::Info } else { OpType::Fail };
            Op { kind, error: Some(error), ..op }
        }
    }
}

/// Decimal, so that a person can read it with `kv get`.
fn encode(value: u64) -> Bytes {
    Bytes::from(value.to_string())
}

/// A number where it is one; anything else was never written, and the judge shall see it as it is.
fn decode(bytes: Option<Bytes>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    let text = String::from_utf8_lossy(&bytes);
    match text.parse::<u64>() {
        Ok(number) if number.to_string() == text => Value::from(number),
        _ => Value::from(text.into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_written_by_us_is_not_taken_for_a_number() {
        for (bytes, value) in [
            (None, Value::Null),
            (Some("17"), Value::from(17)),
            (Some("017"), Value::from("017")),
            (Some("+17"), Value::from("+17")),
            (Some(""), Value::from("")),
        ] {
            assert_eq!(decode(bytes.map(Bytes::from)), value);
        }
    }
}
