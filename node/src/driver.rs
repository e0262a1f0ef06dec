//! Order in time: the one loop that joins raft, storage, machine and transport.
//!
//! In: [`Event`]s from a bounded inbox, and the passing of time. Out: effects, carried out in the order of
//! their fields. Never: an answer before its reason is durable, or a second try of a failed sync. Whatever
//! events are there are stepped together, so that they share one write and one sync (group commit).

mod inbox;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use mkraft_proto::evidence;
use mkraft_proto::v1::{Error, ErrorCode};
use tokio::sync::{oneshot, watch};

pub use inbox::{Arrivals, Inbox};

use crate::acts::Acts;
use crate::events::{self, EventLog, EventsError};
use crate::machine::{Answer, KeyValue, Machine, Query, Reading};
use crate::raft::{
    Effects, Entry, Index, Initial, Input, Message, Options, Proposal, Raft, Reply, RequestId, RoleName, Term,
};
use crate::storage::{Storage, StorageError};
use crate::transport::{NodeStatus, Outbox};

/// One turn of the loop takes at most this many events, and stops at this many bytes.
const BATCH_EVENTS_MAX: usize = 1024;
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Of commands that clients wait for; beyond it, a further one is refused, unless it is alone.
const UNCOMMITTED_BYTES_MAX: usize = 64 << 20;
/// Who is refused may come back after what the oldest of these has waited so far, within these bounds.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(10);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

/// What reaches the driver from outside.
pub enum Event {
    Message(Message),
    /// A command for the state machine.
    Write {
        payload: Arc<[u8]>,
        respond: Respond<Answer>,
    },
    /// `stale`: from the state as it is. Otherwise linearizable.
    Read {
        query: Query,
        stale: bool,
        respond: Respond<Reading>,
    },
    /// End cleanly.
    Stop {
        reason: String,
    },
}

pub type Respond<T> = oneshot::Sender<Result<T, Error>>;

impl Event {
    fn bytes(&self) -> usize {
        match self {
            Event::Message(message) => message.size(),
            Event::Write { payload, .. } => payload.len(),
            Event::Read { .. } | Event::Stop { .. } => 0,
        }
    }
}

/// Why a node ends that nobody asked to.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Events(#[from] EventsError),
}

/// A request whose proposal or read is with the core.
enum Pending {
    Write(Waiting),
    Read { query: Query, respond: Respond<Reading> },
}

/// Who waits for a command to be applied.
struct Waiting {
    respond: Respond<Answer>,
    bytes: usize,
    since: Instant,
}

/// What a driver joins.
pub struct Parts {
    pub options: Options,
    pub initial: Initial,
    pub tick: Duration,
    pub storage: Storage,
    pub events: Option<EventLog>,
    pub inbox: Arrivals,
    pub outbox: Outbox,
}

pub struct Driver {
    raft: Raft,
    storage: Storage,
    machine: Machine<KeyValue>,
    applied: Index,
    events: Option<EventLog>,
    acts: Acts,
    inbox: Arrivals,
    outbox: Outbox,
    status: watch::Sender<NodeStatus>,
    tick: Duration,
    requests: RequestId,
    pending: HashMap<RequestId, Pending>,
    /// Proposals that stand in the log, until an entry is applied at their index.
    proposed: BTreeMap<Index, (Term, Waiting)>,
    /// Of all commands that somebody waits for.
    uncommitted_bytes: usize,
    refused: u64,
}

impl Driver {
    /// Carries out what is known to be committed, and writes the first lines of evidence.
    pub fn new(parts: Parts) -> Result<(Driver, watch::Receiver<NodeStatus>), DriverError> {
        let Parts { options, initial, tick, storage, events, inbox, outbox } = parts;
        let applied = initial.snapshot.index;
        let (raft, effects) = Raft::new(options, initial);
        let (status, receiver) = watch::channel(NodeStatus { raft: raft.status(), applied: applied.0 });
        let mut driver = Driver {
            acts: Acts::new(&raft),
            raft,
            storage,
            machine: Machine::new(KeyValue::default()),
            applied,
            events,
            inbox,
            outbox,
            status,
            tick,
            requests: 0,
            pending: HashMap::new(),
            proposed: BTreeMap::new(),
            uncommitted_bytes: 0,
            refused: 0,
        };
        driver.record(Acts::at_boot(&driver.raft, applied))?;
        driver.carry_out(effects)?;
        Ok((driver, receiver))
    }

    /// Runs until it is told to stop. After an error those who wait are still here: dropping the driver answers
    /// them, which nobody may after a failed write.
    pub fn run(&mut self) -> Result<(), DriverError> {
        let mut next_tick = Instant::now() + self.tick;
        loop {
            let mut next = match self.inbox.next(next_tick.saturating_duration_since(Instant::now())) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return self.stop("nobody can reach this node".into()),
            };
            let mut batch = Batch::default();
            while let Some(event) = next {
                batch.bytes += event.bytes();
                batch.events += 1;
                self.take(event, &mut batch);
                next = if batch.is_full() { None } else { self.inbox.next_now() };
            }
            // After the messages: a node that was stopped hears its leader before it counts the time.
            // However many ticks were missed, it counts one.
            if Instant::now() >= next_tick {
                self.step(Input::Tick, &mut batch.effects);
                next_tick = Instant::now() + self.tick;
            }
            if !batch.proposals.is_empty() {
                self.step(Input::Propose(std::mem::take(&mut batch.proposals)), &mut batch.effects);
            }
            if !batch.reads.is_empty() {
                self.step(Input::Read(std::mem::take(&mut batch.reads)), &mut batch.effects);
            }
            self.carry_out(batch.effects)?;
            if let Some(reason) = batch.stop {
                return self.stop(reason);
            }
        }
    }

    fn take(&mut self, event: Event, batch: &mut Batch) {
        match event {
            Event::Message(message) => self.step(Input::Message(message), &mut batch.effects),
            Event::Write { payload, respond } => {
                let bytes = payload.len();
                if self.uncommitted_bytes > 0 && self.uncommitted_bytes + bytes > UNCOMMITTED_BYTES_MAX {
                    return answer(respond, Err(self.busy()));
                }
                self.uncommitted_bytes += bytes;
                let id = self.pend(Pending::Write(Waiting { respond, bytes, since: Instant::now() }));
                batch.proposals.push(Proposal { id, payload });
            }
            Event::Read { query, stale: true, respond } => {
                answer(respond, Ok(self.machine.state().read(&query)));
            }
            Event::Read { query, stale: false, respond } => {
                let id = self.pend(Pending::Read { query, respond });
                batch.reads.push(id);
            }
            Event::Stop { reason } => batch.stop = Some(reason),
        }
    }

    fn pend(&mut self, pending: Pending) -> RequestId {
        self.requests += 1;
        self.pending.insert(self.requests, pending);
        self.requests
    }

    fn step(&mut self, input: Input, effects: &mut Effects) {
        effects.absorb(self.raft.step(input));
        self.acts.observe(&self.raft);
    }

    /// Until a completed write asks for nothing more.
    fn carry_out(&mut self, mut effects: Effects) -> Result<(), DriverError> {
        loop {
            let leading = self.acts.take_leading();
            self.record(leading)?;
            for message in effects.send {
                self.outbox.send(message);
            }
            let mut next = Effects::default();
            let standing = self.acts.take_standing();
            match effects.persist {
                Some(persist) => {
                    self.storage.write(&persist.write)?;
                    let commit = self.acts.take_commit();
                    self.record(standing.into_iter().chain(events::durable(&persist.write)).chain(commit))?;
                    self.step(Input::Persisted(persist.id), &mut next);
                }
                None => {
                    let commit = self.acts.take_commit();
                    self.record(standing.into_iter().chain(commit))?;
                }
            }
            for message in effects.send_durable {
                self.outbox.send(message);
            }
            self.apply(effects.apply)?;
            for reply in effects.reply {
                self.reply(reply);
            }
            // Status tells of nothing whose line is still owed.
            if next.is_empty() && self.acts.is_empty() {
                self.after_step();
                return Ok(());
            }
            effects = next;
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), DriverError> {
        let Some(first) = entries.first().map(|entry| entry.index) else { return Ok(()) };
        assert_eq!(first, self.applied.next(), "the core hands out entries in order");
        self.applied = entries.last().map_or(first, |entry| entry.index);
        let apply = |entry| {
            let applied = self.machine.apply(&entry);
            (entry, applied)
        };
        let applied: Vec<_> = entries.into_iter().map(apply).collect();
        self.record(events::apply(&applied))?;
        for (entry, applied) in applied {
            let Some((term, waiting)) = self.proposed.remove(&entry.index) else { continue };
            let result = applied.answer.filter(|_| term == entry.term).ok_or_else(leadership_lost);
            self.settle(waiting, result);
        }
        Ok(())
    }

    fn reply(&mut self, reply: Reply) {
        let (id, error) = match reply {
            Reply::Proposed { id, position } => {
                let Some(Pending::Write(waiting)) = self.pending.remove(&id) else {
                    panic!("request {id} was proposed, but is no pending write")
                };
                let before = self.proposed.insert(position.index, (position.term, waiting));
                if let Some((_, waiting)) = before {
                    self.settle(waiting, Err(leadership_lost()));
                }
                return;
            }
            Reply::Readable { id } => {
                let Some(Pending::Read { query, respond }) = self.pending.remove(&id) else {
                    panic!("request {id} may be read, but is no pending read")
                };
                return answer(respond, Ok(self.machine.state().read(&query)));
            }
            Reply::NotLeader { id, leader } => {
                let message = match leader {
                    Some(leader) => format!("{leader} leads"),
                    None => "no leader is known".into(),
                };
                let leader = leader.map_or(0, |leader| leader.0);
                (id, Error { leader, ..Error::new(ErrorCode::NotLeader, message) })
            }
            Reply::Busy { id } => (id, self.busy()),
        };
        match self.pending.remove(&id) {
            Some(Pending::Write(waiting)) => self.settle(waiting, Err(error)),
            Some(Pending::Read { respond, .. }) => answer(respond, Err(error)),
            None => panic!("request {id} is refused, but is not pending"),
        }
    }

    /// What follows from the core's state rather than from an effect.
    fn after_step(&mut self) {
        let raft = self.raft.status();
        if raft.role != RoleName::Leader {
            // Their entries may yet commit under another leader: a retry within the session finds out.
            for (_, (_, waiting)) in std::mem::take(&mut self.proposed) {
                self.settle(waiting, Err(leadership_lost()));
            }
        }
        let applied = self.applied.0;
        self.status.send_if_modified(|status| {
            let changed = status.raft != raft || status.applied != applied;
            *status = NodeStatus { raft, applied };
            changed
        });
        if self.raft.refused() > self.refused {
            self.refused = self.raft.refused();
            tracing::warn!(total = self.refused, "refused a message that no correct peer could have sent");
        }
    }

    /// The command counts no longer.
    fn settle(&mut self, waiting: Waiting, result: Result<Answer, Error>) {
        self.uncommitted_bytes -= waiting.bytes;
        answer(waiting.respond, result);
    }

    fn busy(&self) -> Error {
        let oldest = self.proposed.first_key_value().map(|(_, (_, waiting))| waiting.since.elapsed());
        let after = oldest.unwrap_or_default().clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
        let busy = Error::new(ErrorCode::Busy, "too much waits to be committed, or to be read");
        Error { retry_after_ms: after.as_millis() as u32, ..busy }
    }

    fn record(&mut self, lines: impl IntoIterator<Item = evidence::Event>) -> Result<(), DriverError> {
        match &mut self.events {
            Some(events) => Ok(events.write_all(lines)?),
            None => Ok(()),
        }
    }

    fn stop(&mut self, reason: String) -> Result<(), DriverError> {
        tracing::info!(reason, "stopped");
        self.record([evidence::Event::Stop { reason }])
    }
}

/// What the events of one turn add up to.
#[derive(Default)]
struct Batch {
    events: usize,
    bytes: usize,
    effects: Effects,
    proposals: Vec<Proposal>,
    reads: Vec<RequestId>,
    stop: Option<String>,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.events >= BATCH_EVENTS_MAX || self.bytes >= BATCH_BYTES_MAX || self.stop.is_some()
    }
}

/// Who asked may have gone.
fn answer<T>(respond: Respond<T>, result: Result<T, Error>) {
    let _ = respond.send(result);
}

fn leadership_lost() -> Error {
    Error::new(ErrorCode::LeadershipLost, "leadership was lost before the entry was known to be committed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{Configuration, NodeId};
    use crate::storage;

    #[test]
    fn commands_are_refused_as_busy_beyond_their_bytes_until_those_before_are_settled() {
        let folder = tempfile::tempdir().unwrap();
        let id = NodeId(1);
        let (storage, _) = Storage::open(folder.path(), id, storage::Options::default()).unwrap();
        let voters = [id, NodeId(2)].into();
        let options = Options {
            id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            append_bytes_max: 1 << 20,
            inflight_bytes_max: 1 << 20,
            uncommitted_entries_max: 1 << 10,
            seed: 1,
        };
        let (_sender, inbox) = Inbox::new();
        let parts = Parts {
            options,
            initial: Initial {
                configuration: Configuration { voters, ..Configuration::default() },
                ..Initial::default()
            },
            tick: Duration::from_millis(1),
            storage,
            events: None,
            inbox,
            outbox: Outbox::default(),
        };
        let (mut driver, _status) = Driver::new(parts).unwrap();
        let large = 1 << 20;
        for round in 0..2 {
            let mut batch = Batch::default();
            let mut write = |driver: &mut Driver| {
                let (respond, response) = oneshot::channel();
                driver.take(Event::Write { payload: vec![0; large].into(), respond }, &mut batch);
                response
            };
            let mut taken: Vec<_> = (0..UNCOMMITTED_BYTES_MAX / large).map(|_| write(&mut driver)).collect();
            let busy = write(&mut driver).try_recv().unwrap().unwrap_err();
            assert_eq!(busy.code(), ErrorCode::Busy, "round {round}");
            assert!(busy.retry_after_ms >= RETRY_AFTER_MIN.as_millis() as u32, "{busy:?}");
            assert!(taken.iter_mut().all(|response| response.try_recv().is_err()), "answered too early");
            // This node does not lead, and says so to each.
            driver.step(Input::Propose(std::mem::take(&mut batch.proposals)), &mut batch.effects);
            driver.carry_out(batch.effects).unwrap();
            for mut response in taken {
                assert_eq!(response.try_recv().unwrap().unwrap_err().code(), ErrorCode::NotLeader);
            }
            assert_eq!(driver.uncommitted_bytes, 0);
        }
    }
}
