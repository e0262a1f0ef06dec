//! A user: starts operations at their time, and writes down what it asked and what it learned.
//!
//! In: arrivals. Out: lines of the history. Never: a second operation on a process that is in one, or any on a
//! process whose last one is open.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Value;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::ask::NoAnswer;
use super::generator::{Arrival, Generator};
use super::load::Yard;
use super::operation::{FollowUp, Operation, Step};
use super::route::Route;
use super::sessions::Session;
use crate::history::{Op, OpType, Process as ProcessName};
use crate::scenario::{Pacing, Placement};
use crate::system::client::Ticket;
use crate::system::gates::Sort;

/// Operations of one client under way at a time; beyond it they are shed, and counted.
pub const OUTSTANDING_PER_CLIENT_MAX: usize = 256;

/// One thread of control: one operation at a time, and none after one that stayed open.
pub struct Process {
    number: u64,
    /// Taken before the first write.
    session: Option<Session>,
    /// When its next operation was to be invoked, where a schedule says so.
    due: Option<Instant>,
}

/// Goes on until the load is stopped; then waits for what is under way.
pub async fn live(yard: Arc<Yard>, route: Route, generator: Generator, pacing: Pacing) {
    // An arrival may be sent to a node that never answers; only the deadline of its operation ends it.
    let stopped = yard.stopped();
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
        if is_withheld(&yard, route, &arrival) {
            continue;
        }
        if under_way.len() >= OUTSTANDING_PER_CLIENT_MAX {
            yard.counters.shed.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let mut process = idle.pop().unwrap_or_else(|| yard.new_process());
        process.due = Some(at);
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
        if is_withheld(&yard, route, &arrival) {
            continue;
        }
        let alive = operate(yard.clone(), route, process, arrival).await;
        process = alive.unwrap_or_else(|| yard.new_process());
    }
}

fn is_withheld(yard: &Yard, route: Route, arrival: &Arrival) -> bool {
    let withheld = yard.nodes.withhold(route, arrival.draw, sort(&*arrival.operation));
    if withheld {
        yard.counters.withheld.fetch_add(1, Ordering::Relaxed);
    }
    withheld
}

fn sort(operation: &dyn Operation) -> Sort {
    if operation.changes() { Sort::Write } else { Sort::Read }
}

/// A panic in an operation is ours, and ends the load.
fn unwind(ended: Result<Option<Process>, JoinError>) -> Option<Process> {
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// One operation from invoke to its end, and what follows from it; `None` when the process may do no more.
async fn operate(
    yard: Arc<Yard>,
    route: Route,
    mut process: Process,
    mut arrival: Arrival,
) -> Option<Process> {
    let ended = perform(&yard, route, &mut process, &mut *arrival.operation, arrival.draw).await;
    let mut process = match arrival.operation.follow_up(ended) {
        None => (ended != OpType::Info).then_some(process),
        Some(owed) => pay(&yard, route, yard.after(process, ended), owed, arrival.draw).await,
    }?;
    if let Some(session) = process.session.take() {
        yard.sessions.give_back(session);
    }
    Some(process)
}

/// Does what is owed until nothing is, or leaves it for the end of the load.
async fn pay(
    yard: &Yard,
    mut route: Route,
    mut process: Process,
    mut owed: FollowUp,
    draw: u64,
) -> Option<Process> {
    loop {
        tokio::select! {
            biased;
            () = yard.stopped() => {
                yard.owe(process, owed);
                return None;
            }
            () = sleep(owed.pause) => {}
        }
        let ended = perform(yard, route, &mut process, &mut *owed.operation, draw).await;
        match owed.operation.follow_up(ended) {
            None => return (ended != OpType::Info).then_some(process),
            Some(more) => owed = more,
        }
        process = yard.after(process, ended);
        // A debt is paid where that is possible, whomever its user would rather ask.
        route.placement = Placement::Leader;
    }
}

/// Carries `operation` out and records it. After [`OpType::Info`] the process may do no more.
pub async fn perform(
    yard: &Yard,
    route: Route,
    process: &mut Process,
    operation: &mut dyn Operation,
    draw: u64,
) -> OpType {
    operation.begin(&yard.lore);
    let mut ticket = None;
    if operation.changes() {
        ticket = process.next_ticket(yard).await;
        if ticket.is_none() {
            yard.record(invocation(process, operation, None));
            let error = "no session: none could be opened, nothing was sent".to_owned();
            let op = Op { kind: OpType::Fail, error: Some(error), ..invocation(process, operation, None) };
            yard.record(op);
            yard.counters.end(OpType::Fail);
            return OpType::Fail;
        }
    }
    let invoke = invocation(process, operation, ticket);
    let began = yard.record(invoke.clone());
    if let Some(due) = process.due.take() {
        yard.counters.late.note(due.elapsed());
    }
    let (end, node) = converse(yard, route, process, operation, ticket, draw).await;
    let op = Op { node: node.map(|node| yard.nodes.name(node).to_owned()), ..invoke };
    let op = match end {
        End::Ok(value) => Op { kind: OpType::Ok, value, ..op },
        End::Fail { error, seen } => Op { kind: OpType::Fail, error: Some(error), seen, ..op },
        End::Open { error } => Op { kind: OpType::Info, error: Some(error), ..op },
    };
    let kind = op.kind;
    yard.record(op);
    yard.counters.end(kind);
    if kind == OpType::Ok && operation.changes() {
        yard.counters.written(began);
    }
    kind
}

enum End {
    Ok(Value),
    Fail { error: String, seen: Option<Value> },
    Open { error: String },
}

/// One call after another until the operation has ended, or its time is over; with the node that was asked last.
async fn converse(
    yard: &Yard,
    route: Route,
    process: &mut Process,
    operation: &mut dyn Operation,
    ticket: Option<Ticket>,
    draw: u64,
) -> (End, Option<usize>) {
    let deadline = Instant::now() + yard.timeout;
    let (mut reply, mut node, mut changed, sort) = (None, None, false, Some(sort(operation)));
    // Ends: an operation is a few calls long.
    loop {
        let call = match operation.next(reply, &yard.lore) {
            Step::Ok(value) => return (End::Ok(value), node),
            Step::Fail { error, seen } => return (End::Fail { error, seen }, node),
            Step::Ask(call) => call,
        };
        assert!(!changed, "a second change in one operation, under the same ticket: {operation:?}");
        changed = call.changes();
        let ticket = ticket.filter(|_| changed);
        let asked = yard.nodes.carry_out(route, draw, deadline, &call, ticket, sort).await;
        node = Some(asked.node);
        match asked.result {
            Ok(answer) => reply = Some(answer),
            Err(NoAnswer { open, session_lost, error }) => {
                if session_lost {
                    process.session = None;
                }
                // What only reads changes nothing: unanswered, it certainly had no effect.
                let end = if changed && open { End::Open { error } } else { End::Fail { error, seen: None } };
                return (end, node);
            }
        }
    }
}

impl Process {
    pub fn new(number: u64) -> Process {
        Process { number, session: None, due: None }
    }

    /// Goes on under another number, in the same session: what is open there can then no longer take effect once a
    /// later write of it has.
    pub fn succeeded_by(self, number: u64) -> Process {
        Process { number, ..self }
    }

    /// A number for the next write, never used before.
    async fn next_ticket(&mut self, yard: &Yard) -> Option<Ticket> {
        if self.session.is_none() {
            self.session = yard.sessions.take(yard.timeout).await;
        }
        self.session.as_mut().map(Session::next_ticket)
    }
}

fn invocation(process: &Process, operation: &dyn Operation, ticket: Option<Ticket>) -> Op {
    let invocation = operation.invocation();
    Op {
        index: 0,
        time: 0,
        process: ProcessName::Client(process.number),
        kind: OpType::Invoke,
        f: invocation.f.to_owned(),
        key: invocation.key,
        value: invocation.value,
        seen: None,
        error: None,
        node: None,
        session: ticket.map(|ticket| ticket.session),
        sequence: ticket.map(|ticket| ticket.sequence),
    }
}
