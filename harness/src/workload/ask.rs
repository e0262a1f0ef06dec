//! One operation's way to an answer: requests to one node after another, until its deadline.
//!
//! In: a call that can be made on any node. Out: its reply, or whether it may have taken effect all the same.
//! Never: a second request for something that may not be done twice; the caller's call carries a ticket.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::route::{Belief, Route};
use crate::system::call::{Call, Reply};
use crate::system::client::{Advice, Failure, NodeClient, Ticket};
use crate::system::gates::{Gate, Gates, Sort};

/// Requests given up by their users that stay in flight to one node, where they may yet take effect. They hold
/// HTTP/2 streams, of which a connection has a few hundred, that fresh requests need.
const ABANDONED_PER_NODE_MAX: usize = 64;

/// All that users know of the system they use.
pub struct Nodes {
    clients: Vec<Arc<NodeClient>>,
    gates: Vec<Arc<Gate>>,
    abandoned: Vec<Mutex<VecDeque<AbortHandle>>>,
    pub belief: Belief,
}

/// What became of a call that must be over by a deadline.
pub struct Asked<T> {
    /// The node that was asked last.
    pub node: usize,
    pub result: Result<T, NoAnswer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAnswer {
    /// Some request may have taken effect, or may yet.
    pub open: bool,
    /// The session that it was asked in is of no more use.
    pub session_lost: bool,
    pub error: String,
}

/// What to do with a request whose deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// Take it back, as far as that goes.
    Cancel,
    /// Leave it in flight: a node that wakes finds it, and a write may take effect after its user gave up.
    Leave,
}

impl Nodes {
    /// Must be called within a tokio runtime.
    pub fn new(addresses: &[(String, SocketAddr)], connections: u32, gates: &Gates) -> Nodes {
        let client = |(node, address): &(String, SocketAddr)| {
            Arc::new(NodeClient::new(node.clone(), *address, connections))
        };
        Nodes {
            clients: addresses.iter().map(client).collect(),
            gates: addresses.iter().map(|(node, _)| gates.of(node)).collect(),
            abandoned: addresses.iter().map(|_| Mutex::default()).collect(),
            belief: Belief::default(),
        }
    }

    pub fn count(&self) -> usize {
        self.clients.len()
    }

    pub fn name(&self, node: usize) -> &str {
        self.clients[node].node()
    }

    /// Whether an operation of this sort cannot begin, for every node that it may ask is withheld from it. Asked once
    /// of each operation: it is counted.
    pub fn withhold(&self, route: Route, draw: u64, sort: Sort) -> bool {
        let first = route.first(&self.belief, draw);
        let asked = if route.is_bound() { &self.gates[first..=first] } else { &self.gates[..] };
        let withheld = asked.iter().all(|gate| !gate.is_open(sort));
        if withheld {
            asked.iter().for_each(|gate| gate.turn_away(sort));
        }
        withheld
    }

    /// The node to send a request to in place of `node`, if that is withheld. What is no operation passes everywhere.
    fn admit(&self, route: Route, node: usize, sort: Option<Sort>) -> Option<usize> {
        let Some(sort) = sort else { return Some(node) };
        let others = if route.is_bound() { 1 } else { self.count() };
        let mut nodes = (node..node + others).map(|node| node % self.count());
        nodes.find(|node| self.gates[*node].pass(sort))
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.clients.iter().position(|client| client.node() == name)
    }

    /// Has `call` carried out by one node or another. A change that comes too late is left on its way, a read is not.
    pub async fn carry_out(
        &self,
        route: Route,
        draw: u64,
        deadline: Instant,
        call: &Call,
        ticket: Option<Ticket>,
        sort: Option<Sort>,
    ) -> Asked<Reply> {
        let late = if call.changes() { Late::Leave } else { Late::Cancel };
        let request = |client: Arc<NodeClient>| {
            let call = call.clone();
            async move { client.ask(call, ticket).await }
        };
        self.ask(route, draw, deadline, late, sort, request).await
    }

    /// Makes `call` on one node after another, as `route` and the gates lead, until one answers or `deadline` passes.
    /// What has no `sort` is no operation, and no gate is shut to it.
    pub async fn ask<T, F>(
        &self,
        route: Route,
        draw: u64,
        deadline: Instant,
        late: Late,
        sort: Option<Sort>,
        call: impl Fn(Arc<NodeClient>) -> F,
    ) -> Asked<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let began = Instant::now();
        let first = route.first(&self.belief, draw);
        let Some(mut node) = self.admit(route, first, sort) else { return self.withheld(first, false) };
        let mut open = false;
        // Ends: `Route::next` allows so many attempts and no more.
        for attempt in 1.. {
            let mut request = Box::pin(call(self.clients[node].clone()));
            let (failure, in_time) = match timeout_at(deadline, &mut request).await {
                Ok(Ok(reply)) => {
                    self.belief.set(node);
                    return Asked { node, result: Ok(reply) };
                }
                Ok(Err(failure)) => (failure, true),
                Err(_) => {
                    if late == Late::Leave {
                        self.leave(node, request);
                    }
                    (Failure::timed_out(began.elapsed()), false)
                }
            };
            open |= !failure.definite;
            let hint = failure.leader.as_deref().and_then(|name| self.number(name));
            self.belief.learn(node, &failure, hint);
            match route.next(attempt, node, &failure, hint).filter(|_| in_time) {
                Some(detour) if Instant::now() + detour.pause < deadline => {
                    sleep(detour.pause).await;
                    match self.admit(route, detour.node, sort) {
                        Some(next) => node = next,
                        None => return self.withheld(node, open),
                    }
                }
                _ => {
                    let error = describe(&failure, attempt, open);
                    let session_lost = failure.advice == Advice::ChangeSession;
                    return Asked { node, result: Err(NoAnswer { open, session_lost, error }) };
                }
            }
        }
        unreachable!("the attempts are counted by the route")
    }

    fn withheld<T>(&self, node: usize, open: bool) -> Asked<T> {
        let error = format!("withheld from {}: not sent", self.name(node));
        Asked { node, result: Err(NoAnswer { open, session_lost: false, error }) }
    }

    /// Goes on with a request that nobody waits for any more.
    fn leave<T: Send + 'static>(&self, node: usize, request: impl Future<Output = T> + Send + 'static) {
        let mut abandoned = self.abandoned[node].lock().unwrap_or_else(PoisonError::into_inner);
        abandoned.push_back(tokio::spawn(request).abort_handle());
        if abandoned.len() > ABANDONED_PER_NODE_MAX
            && let Some(oldest) = abandoned.pop_front()
        {
            oldest.abort();
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for abandoned in &mut self.abandoned {
            let abandoned = abandoned.get_mut().unwrap_or_else(PoisonError::into_inner);
            abandoned.drain(..).for_each(|request| request.abort());
        }
    }
}

fn describe(failure: &Failure, attempt: u32, open: bool) -> String {
    let attempts = if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
    let earlier = if open && failure.definite { ", an earlier one is open" } else { "" };
    format!("{}{attempts}{earlier}", failure.message)
}
