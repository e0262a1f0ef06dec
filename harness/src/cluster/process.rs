//! One node's process: started, killed, paused, resumed, terminated, each act with its proof. What goes on for a
//! while has a file of its own: [`slow`], [`crash_loop`], [`damaged`], [`limits`]; and so has what befalls its [`disk`].
//! What an act came to is in [`deed`].
//!
//! In: orders, one at a time per node. Out: a [`Deed`] that was seen to be done, or an [`ActError`] that says
//! whether anything may have happened. Never: an end that nobody noticed, or a restart that nobody ordered.

mod crash_loop;
mod damaged;
mod deed;
mod disk;
mod limits;
mod slow;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::{Instant, sleep, timeout};

use super::group::{Controller, Group};
use super::keeper::{Child, Guard, GuardError};
use super::orders::{Launch, Signal, Status};
use crate::disk::Disk;
use crate::system::Mkraft;
use crash_loop::Looping;
pub use deed::{ActError, Deed, DeedKind};
pub use disk::Trouble;
use limits::Limits;
pub use limits::Resource;

/// How long a node may take to stop cleanly before it is killed.
pub const GRACE: Duration = Duration::from_secs(5);

/// From a signal that cannot be refused to its effect: microseconds, unless the machine is overwhelmed.
const EFFECT_LIMIT: Duration = Duration::from_secs(5);
const EFFECT_POLL: Duration = Duration::from_micros(500);

/// Exit code of a Rust program that panicked.
const PANIC: i32 = 101;
const SIGKILL: i32 = nix::sys::signal::Signal::SIGKILL as i32;
const SIGTERM: i32 = nix::sys::signal::Signal::SIGTERM as i32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    Running,
    /// Stopped by SIGSTOP; it must be resumed or killed before SIGTERM can reach it.
    Paused,
    /// Stopped and running in turn: it does what it is asked, late.
    Slow,
    /// Killed and started again and again: up at one moment and down at the next.
    CrashLoop,
    /// Down, and what it has on its disk was changed: only who did so starts it.
    Damaged,
    Down,
}

/// One process of a node: from its spawning to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    pub pid: u32,
    /// It ran the next binary.
    pub next: bool,
    /// The number of its file of evidence, if it opened one; None when it writes none.
    pub evidence: Option<u64>,
    /// It was seen to answer, so it must have left evidence.
    pub answered: bool,
    /// What it found on its disk had been changed while it was down.
    pub damaged: bool,
    /// It told that by file and place, and ended.
    pub refused: bool,
    /// None while it lives.
    pub ending: Option<Ending>,
}

/// How one start of a node ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub node: String,
    /// Which start of the node this was, from 1.
    pub start: u64,
    pub pid: u32,
    pub status: Status,
    /// CLOCK_MONOTONIC in nanoseconds.
    pub at: u64,
    /// What the harness had ordered; null when nothing.
    pub order: Option<Order>,
    /// False for a finding: it ended unasked, or not in the way that was asked.
    pub expected: bool,
    /// It told an error and ended, after what it stands on was made to fail.
    pub failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    Kill,
    Terminate,
    /// It did not obey SIGTERM in time.
    KillAfterGrace,
    /// The kernel was told to leave it so little memory that it ended it.
    OutOfMemory,
}

/// A node as the harness holds it, over all its starts.
pub struct Node {
    name: String,
    launch: Launch,
    /// The program that it starts once it is upgraded.
    next: Option<PathBuf>,
    upgraded: AtomicBool,
    /// Where it writes its evidence.
    events: Option<PathBuf>,
    /// What can be limited of it.
    groups: Vec<(Controller, Group)>,
    guard: Arc<Guard>,
    /// What its data lies on; None when that is the machine's own.
    disk: Option<Arc<Disk>>,
    /// What is the matter with the disk for a while. Who holds both locks took `hand` first.
    trouble: Mutex<Option<disk::Standing>>,
    /// Held over an act: nobody else acts on this node meanwhile.
    hand: Mutex<()>,
    life: Arc<watch::Sender<Life>>,
    looping: Mutex<Option<Looping>>,
}

struct Life {
    /// Never [`NodeState::CrashLoop`] or [`NodeState::Damaged`]: what the process does at this moment.
    state: NodeState,
    /// In a crash loop, which alone acts on the node.
    looping: bool,
    /// What it has on its disk was changed, and is not mended: who did so alone acts on the node.
    damaged: bool,
    child: Option<Child>,
    order: Option<Order>,
    /// What its process stands on was made to fail: it may end with an error.
    failing: bool,
    limits: Limits,
    starts: Vec<Start>,
}

/// What a node's processes stand on.
pub(super) struct StandsOn {
    pub guard: Arc<Guard>,
    /// What its data lies on; None when that is the machine's own.
    pub disk: Option<Arc<Disk>>,
    /// What can be limited of it.
    pub groups: Vec<(Controller, Group)>,
}

impl Node {
    pub(super) fn new(
        name: String,
        launch: Launch,
        next: Option<PathBuf>,
        events: Option<PathBuf>,
        stands_on: StandsOn,
    ) -> Node {
        let (state, starts) = (NodeState::Down, Vec::new());
        let life = Life {
            state,
            looping: false,
            damaged: false,
            child: None,
            order: None,
            failing: false,
            limits: Limits::default(),
            starts,
        };
        let (hand, looping) = (Mutex::new(()), Mutex::new(None));
        let life = Arc::new(watch::Sender::new(life));
        let (upgraded, trouble) = (AtomicBool::new(false), Mutex::new(None));
        let StandsOn { guard, disk, groups } = stands_on;
        Node { name, launch, next, upgraded, events, groups, guard, disk, trouble, hand, life, looping }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn state(&self) -> NodeState {
        let life = self.life.borrow();
        match *life {
            Life { looping: true, .. } => NodeState::CrashLoop,
            Life { damaged: true, .. } => NodeState::Damaged,
            Life { state, .. } => state,
        }
    }

    /// Whether it can answer at this moment.
    pub fn is_up(&self) -> bool {
        matches!(self.life.borrow().state, NodeState::Running | NodeState::Slow)
    }

    /// From its next start on it runs the next binary. False when there is none.
    pub fn upgrade(&self) -> bool {
        let possible = self.next.is_some();
        self.upgraded.fetch_or(possible, Ordering::Relaxed);
        possible
    }

    /// The program of its last start, or of the first to come.
    pub fn program(&self) -> &PathBuf {
        let next = self.life.borrow().starts.last().is_some_and(|start| start.next);
        self.next.as_ref().filter(|_| next).unwrap_or(&self.launch.program)
    }

    /// Which start of the node this is, from 1; 0 before the first.
    pub fn start_count(&self) -> u64 {
        self.life.borrow().starts.len() as u64
    }

    /// The newest start, if there was one.
    pub fn last_start(&self) -> Option<Start> {
        self.life.borrow().starts.last().cloned()
    }

    /// Every start of the node, in order.
    pub fn starts(&self) -> Vec<Start> {
        self.life.borrow().starts.clone()
    }

    /// Notes that the start of this number was seen to answer.
    pub(super) fn note_answer(&self, start: u64) {
        self.life.send_modify(|life| {
            if let Some(start) = (start as usize).checked_sub(1).and_then(|at| life.starts.get_mut(at)) {
                start.answered = true;
            }
        });
    }

    /// Starts it on the data it has. Proof: its exec succeeded; that it serves is not waited for.
    pub async fn start(&self) -> Result<Deed, ActError> {
        let hand = self.hand.lock().await;
        self.free()?;
        self.start_held(&hand).await
    }

    async fn start_held(&self, _hand: &MutexGuard<'_, ()>) -> Result<Deed, ActError> {
        let state = self.life.borrow().state;
        if state != NodeState::Down {
            return Err(self.already(state));
        }
        let began = Instant::now();
        let next = self.next.as_ref().filter(|_| self.upgraded.load(Ordering::Relaxed));
        let program = next.unwrap_or(&self.launch.program).clone();
        let (next, launch) = (next.is_some(), Launch { program, ..self.launch.clone() });
        // Nobody else writes there: every earlier process has ended.
        let last = self.events.as_deref().and_then(|events| Mkraft::last_evidence(events).ok());
        let evidence = last.map(|last| last.saturating_add(1));
        let child = self.guard.spawn(&launch).await.map_err(|source| self.guard_failed(source))?;
        self.life.send_modify(|life| {
            life.state = NodeState::Running;
            let damaged = life.damaged;
            let start = Start {
                pid: child.pid,
                next,
                evidence,
                answered: false,
                damaged,
                refused: false,
                ending: None,
            };
            life.starts.push(start);
            life.child = Some(child.clone());
            life.order = None;
            life.failing = false;
        });
        let (name, groups) = (self.name.clone(), self.groups.clone());
        tokio::spawn(watch_over(name, child.clone(), groups, Arc::clone(&self.life)));
        Ok(self.deed(&child, DeedKind::Started, began))
    }

    /// SIGKILL, running, slow or paused. Proof: it ended by signal 9.
    pub async fn kill(&self) -> Result<Deed, ActError> {
        let hand = self.hand.lock().await;
        self.free()?;
        self.kill_held(&hand).await
    }

    async fn kill_held(&self, hand: &MutexGuard<'_, ()>) -> Result<Deed, ActError> {
        let child = self.child(&[NodeState::Running, NodeState::Slow, NodeState::Paused])?;
        let began = Instant::now();
        match self.end_by(hand, &child, Order::Kill, EFFECT_LIMIT).await? {
            Some(Status::Signal(SIGKILL)) => Ok(self.deed(&child, DeedKind::Killed, began)),
            Some(status) => Err(ActError::EndedBefore { node: self.name.clone(), status }),
            None => Err(self.unproven(&child, "SIGKILL was sent, no end was seen")),
        }
    }

    /// SIGSTOP. Proof: every thread in state T.
    pub async fn pause(&self) -> Result<Deed, ActError> {
        let _hand = self.hand.lock().await;
        self.free()?;
        let child = self.child(&[NodeState::Running])?;
        let began = Instant::now();
        self.signal(&child, Signal::Stop).await?;
        // Said before it is proven: a node that may be stopped must not be taken for one that runs.
        self.life.send_if_modified(|life| life.turn(&child, NodeState::Paused));
        let threads = self.threads_until(&child, |stopped, threads| stopped == threads).await?;
        Ok(self.deed(&child, DeedKind::Paused { threads }, began))
    }

    /// SIGCONT. Proof: no thread in state T.
    pub async fn resume(&self) -> Result<Deed, ActError> {
        let hand = self.hand.lock().await;
        self.resume_held(&hand).await
    }

    /// SIGTERM (what keeps the node from running is undone first), and SIGKILL if it has not ended after `grace`.
    pub async fn terminate(&self, grace: Duration) -> Result<Deed, ActError> {
        if self.state() == NodeState::CrashLoop {
            self.end_crash_loop().await?;
        }
        let hand = self.hand.lock().await;
        match self.state() {
            NodeState::Paused => _ = self.resume_held(&hand).await?,
            NodeState::Slow => _ = self.steady_held(&hand).await?,
            NodeState::Running | NodeState::CrashLoop | NodeState::Damaged | NodeState::Down => {
                self.free()?
            }
        }
        let child = self.child(&[NodeState::Running])?;
        let began = Instant::now();
        if let Some(status) = self.end_by(&hand, &child, Order::Terminate, grace).await? {
            return Ok(self.deed(&child, DeedKind::Stopped { status, forced: false }, began));
        }
        match self.end_by(&hand, &child, Order::KillAfterGrace, EFFECT_LIMIT).await? {
            Some(status) => {
                let forced = status == Status::Signal(SIGKILL);
                Ok(self.deed(&child, DeedKind::Stopped { status, forced }, began))
            }
            None => Err(self.unproven(&child, "SIGTERM and SIGKILL were sent, no end was seen")),
        }
    }

    async fn resume_held(&self, _hand: &MutexGuard<'_, ()>) -> Result<Deed, ActError> {
        let child = self.child(&[NodeState::Paused])?;
        let began = Instant::now();
        self.signal(&child, Signal::Continue).await?;
        self.threads_until(&child, |stopped, _| stopped == 0).await?;
        self.life.send_if_modified(|life| life.turn(&child, NodeState::Running));
        Ok(self.deed(&child, DeedKind::Resumed, began))
    }

    /// Orders the end of `child` and waits for it: None when it is not seen within `limit`.
    async fn end_by(
        &self,
        _hand: &MutexGuard<'_, ()>,
        child: &Child,
        order: Order,
        limit: Duration,
    ) -> Result<Option<Status>, ActError> {
        self.life.send_modify(|life| life.order = Some(order));
        let signal = if order == Order::Terminate { Signal::Terminate } else { Signal::Kill };
        // False means that the end is on its way to us.
        self.guard.signal(child, signal).await.map_err(|source| self.guard_failed(source))?;
        if order != Order::Terminate {
            self.let_go_of_disk().await?;
        }
        let mut life = self.life.subscribe();
        let ended = timeout(limit, life.wait_for(|life| life.state == NodeState::Down)).await;
        let status = match ended {
            Ok(Ok(life)) => life.starts.last().and_then(|start| start.ending.as_ref()).map(|end| end.status),
            _ => None,
        };
        Ok(status)
    }

    async fn signal(&self, child: &Child, signal: Signal) -> Result<(), ActError> {
        let sent = self.guard.signal(child, signal).await.map_err(|source| self.guard_failed(source))?;
        if sent { Ok(()) } else { Err(self.ended_before(child).await) }
    }

    /// Waits until (threads in state T, threads) are as wanted; returns the number of threads.
    async fn threads_until(
        &self,
        child: &Child,
        wanted: impl Fn(usize, usize) -> bool,
    ) -> Result<usize, ActError> {
        let deadline = Instant::now() + EFFECT_LIMIT;
        loop {
            let seen = thread_states(child.pid);
            if self.life.borrow().child.as_ref().is_none_or(|now| now.pid != child.pid) {
                return Err(self.ended_before(child).await);
            }
            match seen {
                Ok(states) if !states.is_empty() && wanted(stopped(&states), states.len()) => {
                    return Ok(states.len());
                }
                _ if Instant::now() < deadline => sleep(EFFECT_POLL).await,
                Ok(states) => return Err(self.unproven(child, format!("thread states {states:?}"))),
                Err(error) => return Err(self.unproven(child, error.to_string())),
            }
        }
    }

    /// An error in a crash loop, and with a damaged disk: nobody else acts on the node then.
    fn free(&self) -> Result<(), ActError> {
        match self.state() {
            state @ (NodeState::CrashLoop | NodeState::Damaged) => Err(self.already(state)),
            _ => Ok(()),
        }
    }

    fn child(&self, states: &[NodeState]) -> Result<Child, ActError> {
        let life = self.life.borrow();
        match &life.child {
            Some(child) if states.contains(&life.state) => Ok(child.clone()),
            _ => Err(self.already(life.state)),
        }
    }

    fn deed(&self, child: &Child, kind: DeedKind, began: Instant) -> Deed {
        let (node, start) = (self.name.clone(), self.start_count());
        Deed { node, pid: child.pid, start, kind, took: began.elapsed() }
    }

    fn already(&self, state: NodeState) -> ActError {
        ActError::Already { node: self.name.clone(), state }
    }

    fn unproven(&self, child: &Child, seen: impl Into<String>) -> ActError {
        ActError::Unproven { node: self.name.clone(), pid: child.pid, seen: seen.into() }
    }

    fn guard_failed(&self, source: GuardError) -> ActError {
        ActError::Guard { node: self.name.clone(), source }
    }

    async fn ended_before(&self, child: &Child) -> ActError {
        match timeout(EFFECT_LIMIT, child.exit()).await {
            Ok(Ok(exit)) => ActError::EndedBefore { node: self.name.clone(), status: exit.status },
            Ok(Err(source)) => self.guard_failed(source),
            Err(_) => self.unproven(child, "the guard takes it for ended, no end was seen"),
        }
    }
}

impl Life {
    /// Takes a new state, unless the process that it is about has ended meanwhile.
    fn turn(&mut self, child: &Child, state: NodeState) -> bool {
        let same = self.child.as_ref().is_some_and(|now| now.pid == child.pid);
        if same {
            self.state = state;
        }
        same
    }
}

/// Does acts on several nodes at once; the results are in the order of the acts.
pub async fn at_once<A>(acts: impl Iterator<Item = A>) -> Vec<A::Output>
where
    A: Future<Output: Send + 'static> + Send + 'static,
{
    let acts: Vec<_> = acts.map(tokio::spawn).collect();
    let mut results = Vec::new();
    for act in acts {
        match act.await {
            Ok(result) => results.push(result),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    results
}

/// Waits for the end of one start of a node, and writes it down.
async fn watch_over(
    node: String,
    child: Child,
    groups: Vec<(Controller, Group)>,
    life: Arc<watch::Sender<Life>>,
) {
    // A lost guard is an error of every later act; what the node died of is not known then.
    let Ok(exit) = child.exit().await else { return };
    life.send_modify(|life| {
        let (start, pid) = (life.starts.len() as u64, child.pid);
        let mut order = life.order.take();
        if order.is_none() && exit.status == Status::Signal(SIGKILL) && life.is_out_of_memory(&groups) {
            order = Some(Order::OutOfMemory);
            life.limits.out_of_memory += 1;
        }
        let failed = life.failing && is_error(exit.status);
        let expected = failed || order.is_some_and(|order| as_ordered(order, exit.status));
        if !expected {
            tracing::warn!("{node} (pid {pid}) ended with {}, ordered: {order:?}", exit.status);
        }
        let (status, at) = (exit.status, exit.at);
        if let Some(last) = life.starts.last_mut() {
            last.ending = Some(Ending { node, start, pid, status, at, order, expected, failed });
        }
        life.state = NodeState::Down;
        life.child = None;
    });
}

fn as_ordered(order: Order, status: Status) -> bool {
    match order {
        Order::Kill | Order::OutOfMemory => status == Status::Signal(SIGKILL),
        // It may obey SIGTERM at the last moment.
        Order::KillAfterGrace => matches!(status, Status::Signal(SIGKILL) | Status::Code(0)),
        // By the signal itself: SIGTERM came before the node had begun to listen for it.
        Order::Terminate => matches!(status, Status::Code(0) | Status::Signal(SIGTERM)),
    }
}

/// It told an error and ended, as a program does; and not by a panic.
fn is_error(status: Status) -> bool {
    matches!(status, Status::Code(code) if code != 0 && code != PANIC)
}

/// The state letter of each thread of a process, from `/proc`.
fn thread_states(pid: u32) -> io::Result<Vec<char>> {
    let mut states = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(thread?.path().join("stat")) {
            Ok(stat) => states.extend(state_letter(&stat)),
            // A thread that ended while we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(states)
}

/// The letter follows the name in parentheses, which may hold any character, a parenthesis too.
fn state_letter(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn stopped(states: &[char]) -> usize {
    states.iter().filter(|state| **state == 'T').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_found_behind_a_name_that_imitates_one() {
        assert_eq!(state_letter("12 (a) S) T (x)) R 1 2 3"), Some('R'));
        assert_eq!(state_letter("cut short"), None);
    }

    #[test]
    fn an_end_is_expected_only_as_it_was_ordered() {
        let cases = [
            (Order::Kill, Status::Signal(9), true),
            (Order::Kill, Status::Code(0), false),
            (Order::Terminate, Status::Code(0), true),
            (Order::Terminate, Status::Signal(15), true),
            (Order::Terminate, Status::Code(101), false),
            (Order::Terminate, Status::Signal(9), false),
            (Order::KillAfterGrace, Status::Signal(9), true),
        ];
        for (order, status, expected) in cases {
            assert_eq!(as_ordered(order, status), expected, "{order:?} {status}");
        }
    }
}
