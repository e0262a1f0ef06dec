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
use crate::carriers::Carriers;
use crate::events::{self, EventLog, EventsError};
use crate::machine::{Answer, KeyValue, Machine, Query, Reading};
use crate::raft::{
    Body, Change, Configuration, Effects, Entry, Index, Initial, Input, Message, NodeId, Options, Position,
    Proposal, Raft, Refusal, Reply, RequestId, RoleName, Snapshot, Term,
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
const RETRY_OPERATION_AFTER: Duration = Duration::from_millis(100);

/// What reaches the driver from outside.
pub enum Event {
    Message(Message),
    /// A chunk of a snapshot, and its bytes.
    Chunk {
        message: Message,
        data: Vec<u8>,
    },
    /// The snapshot that was asked for is on the disk, or it failed.
    Taken(Result<Snapshot, StorageError>),
    /// A snapshot of the leader's is on the disk, and this is the machine whose state it holds.
    Received {
        snapshot: Snapshot,
        machine: Box<Machine<KeyValue>>,
    },
    /// It could not be kept, or was not what was sent.
    Unreceived(Position),
    /// A command for the state machine.
    Write {
        payload: Arc<[u8]>,
        respond: Respond<Answer>,
    },
    Read {
        query: Query,
        from: ReadFrom,
        respond: Respond<Reading>,
    },
    /// What an operator asks; answered with the configuration in force afterwards.
    Operate {
        operation: Operation,
        respond: Respond<Members>,
    },
    /// End cleanly.
    Stop {
        reason: String,
    },
}

/// Whose state answers a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadFrom {
    /// The leader's; linearizable.
    Leader,
    /// This node's, once it holds all that the leader says it must; linearizable.
    Here,
    /// This node's, as it is.
    Stale,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Only tells.
    Members,
    Change(Change),
    /// Without a target, to the voter that is furthest.
    Transfer(Option<NodeId>),
    /// Of this node, whether it leads or not: takes a snapshot now.
    Compact,
}

/// What an operator is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members {
    /// Of the entry that holds the configuration; 0 for the one the cluster began with.
    pub index: Index,
    pub configuration: Configuration,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// What this node's newest snapshot stands for.
    pub snapshot: Index,
}

pub type Respond<T> = oneshot::Sender<Result<T, Error>>;

impl Event {
    /// What a peer said.
    pub fn message(&self) -> Option<&Message> {
        match self {
            Event::Message(message) | Event::Chunk { message, .. } => Some(message),
            _ => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Event::Message(message) => message.size(),
            Event::Chunk { data, .. } => data.len(),
            Event::Write { payload, .. } => payload.len(),
            _ => 0,
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
    Read {
        query: Query,
        respond: Respond<Reading>,
    },
    Operation {
        respond: Respond<Members>,
    },
    /// This node's own, before it stops.
    HandOver,
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
    /// In the state of the newest snapshot.
    pub machine: Machine<KeyValue>,
    pub events: Option<EventLog>,
    /// The other end of `inbox`, for the threads that carry snapshots.
    pub own: Inbox,
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
    carriers: Carriers,
    /// The machine that the core has chosen to go on with, until the effects that say so are carried out.
    arrived: Option<(Position, Box<Machine<KeyValue>>)>,
    status: watch::Sender<NodeStatus>,
    tick: Duration,
    requests: RequestId,
    pending: HashMap<RequestId, Pending>,
    /// Proposals that stand in the log, until an entry is applied at their index.
    proposed: BTreeMap<Index, (Term, Waiting)>,
    /// Who waits for the next snapshot to be taken.
    compacting: Vec<Respond<Members>>,
    /// Of all commands that somebody waits for.
    uncommitted_bytes: usize,
    refused: u64,
    booted: Instant,
    /// What a leader has for handing over before it stops.
    hand_over_within: Duration,
}

impl Driver {
    /// Carries out what is known to be committed, and writes the first lines of evidence.
    pub fn new(parts: Parts) -> Result<(Driver, watch::Receiver<NodeStatus>), DriverError> {
        let Parts { options, initial, tick, storage, machine, events, own, inbox, outbox } = parts;
        // Longer than the core tries.
        let hand_over_within = tick * (options.election_ticks + 2 * options.heartbeat_ticks);
        let applied = initial.snapshot.position.index;
        let carriers = Carriers::new(storage.snapshots(), own, outbox.clone());
        let (raft, effects) = Raft::new(options, initial);
        let (status, receiver) = watch::channel(NodeStatus { raft: raft.status(), applied: applied.0 });
        let mut driver = Driver {
            acts: Acts::new(&raft),
            raft,
            storage,
            machine,
            applied,
            events,
            inbox,
            outbox,
            carriers,
            arrived: None,
            status,
            tick,
            requests: 0,
            pending: HashMap::new(),
            proposed: BTreeMap::new(),
            compacting: Vec::new(),
            uncommitted_bytes: 0,
            refused: 0,
            booted: Instant::now(),
            hand_over_within,
        };
        driver.record(Acts::at_boot(&driver.raft, applied))?;
        driver.carry_out(effects)?;
        Ok((driver, receiver))
    }

    /// Runs until it is told to stop. After an error those who wait are still here: dropping the driver answers
    /// them, which nobody may after a failed write.
    pub fn run(&mut self) -> Result<(), DriverError> {
        let mut next_tick = Instant::now() + self.tick;
        let mut stopping = None::<Stopping>;
        loop {
            // Before anything is sent: a lease counts from then.
            self.raft.step(Input::Clock(self.clock()));
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
                self.raft.step(Input::Clock(self.clock()));
                self.step(Input::Tick, &mut batch.effects);
                next_tick = Instant::now() + self.tick;
            }
            let taken = batch.taken.take().transpose()?;
            let compacted = taken.is_some();
            if let Some(snapshot) = taken {
                self.record([events::snapshot(&snapshot, false)])?;
                self.step(Input::Snapshotted(snapshot), &mut batch.effects);
            }
            if !batch.proposals.is_empty() {
                self.step(Input::Propose(std::mem::take(&mut batch.proposals)), &mut batch.effects);
            }
            // After all reads of this turn were asked: none is answered by a lease that ended before it began.
            self.raft.step(Input::Clock(self.clock()));
            if !batch.reads.is_empty() {
                self.step(Input::Read(std::mem::take(&mut batch.reads)), &mut batch.effects);
            }
            if !batch.reads_here.is_empty() {
                self.step(Input::ReadHere(std::mem::take(&mut batch.reads_here)), &mut batch.effects);
            }
            if let (Some(reason), None) = (batch.stop, &stopping) {
                let id = self.pend(Pending::HandOver);
                stopping = Some(Stopping { reason, id, until: Instant::now() + self.hand_over_within });
                self.step(Input::Transfer(id, None), &mut batch.effects);
            }
            self.carry_out(batch.effects)?;
            if compacted {
                for respond in std::mem::take(&mut self.compacting) {
                    answer(respond, Ok(self.members()));
                }
            }
            // Whoever does not lead, or has nobody to hand over to, is refused and stops at once.
            if let Some(Stopping { reason, id, until }) = &stopping
                && (!self.pending.contains_key(id) || Instant::now() >= *until)
            {
                let reason = reason.clone();
                return self.stop(reason);
            }
        }
    }

    /// Monotonic, in microseconds; see [`Input::Clock`].
    fn clock(&self) -> u64 {
        u64::try_from(self.booted.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn take(&mut self, event: Event, batch: &mut Batch) {
        match event {
            Event::Message(message) => self.step(Input::Message(message), &mut batch.effects),
            // Without room for its bytes it is as good as lost, and will be sent again.
            Event::Chunk { message, data } => {
                if self.carriers.have_room() {
                    self.step(Input::Message(message), &mut batch.effects);
                    if let Some(accept) = batch.effects.accept.pop() {
                        self.carriers.keep(accept, data);
                    }
                }
            }
            Event::Taken(taken) => batch.taken = Some(taken),
            Event::Received { snapshot, machine } => {
                let position = snapshot.position;
                self.step(Input::Received(snapshot), &mut batch.effects);
                if batch.effects.install.as_ref().is_some_and(|chosen| chosen.position == position) {
                    self.arrived = Some((position, machine));
                }
            }
            Event::Unreceived(position) => self.step(Input::Unreceived(position), &mut batch.effects),
            Event::Write { payload, respond } => {
                let bytes = payload.len();
                if self.uncommitted_bytes > 0 && self.uncommitted_bytes + bytes > UNCOMMITTED_BYTES_MAX {
                    return answer(respond, Err(self.busy()));
                }
                self.uncommitted_bytes += bytes;
                let id = self.pend(Pending::Write(Waiting { respond, bytes, since: Instant::now() }));
                batch.proposals.push(Proposal { id, payload });
            }
            Event::Read { query, from: ReadFrom::Stale, respond } => {
                answer(respond, Ok(self.machine.state().read(&query)));
            }
            Event::Read { query, from, respond } => {
                let id = self.pend(Pending::Read { query, respond });
                if from == ReadFrom::Here { batch.reads_here.push(id) } else { batch.reads.push(id) }
            }
            Event::Operate { operation: Operation::Compact, respond } => self.compact(respond, batch),
            Event::Operate { operation, respond } => {
                let id = self.pend(Pending::Operation { respond });
                match operation {
                    Operation::Members => batch.reads.push(id),
                    Operation::Change(change) => self.step(Input::Change(id, change), &mut batch.effects),
                    Operation::Transfer(to) => self.step(Input::Transfer(id, to), &mut batch.effects),
                    Operation::Compact => unreachable!("the arm before takes it"),
                }
            }
            Event::Stop { reason } => batch.stop = Some(reason),
        }
    }

    fn compact(&mut self, respond: Respond<Members>, batch: &mut Batch) {
        if self.raft.is_compacted() {
            return answer(respond, Ok(self.members()));
        }
        self.step(Input::Compact, &mut batch.effects);
        self.compacting.push(respond);
    }

    fn members(&self) -> Members {
        let (index, configuration) = self.raft.configuration();
        Members {
            index,
            configuration: configuration.clone(),
            leader: self.raft.status().leader,
            snapshot: self.raft.snapshot().position.index,
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
                match message.body {
                    Body::Chunk { .. } => self.carriers.send(message),
                    _ => self.outbox.send(message),
                }
            }
            let mut next = Effects::default();
            let standing = self.acts.take_standing();
            let installed = effects.install.as_ref().map(|snapshot| events::snapshot(snapshot, true));
            match effects.persist {
                Some(persist) => {
                    self.storage.write(&persist.write)?;
                    let after = self.acts.take_configurations().into_iter().chain(self.acts.take_commit());
                    let lines = standing.into_iter().chain(events::durable(&persist.write, installed));
                    self.record(lines.chain(after))?;
                    self.step(Input::Persisted(persist.id), &mut next);
                }
                None => {
                    assert!(installed.is_none(), "a snapshot is installed only with a write that says so");
                    let after = self.acts.take_configurations().into_iter().chain(self.acts.take_commit());
                    self.record(standing.into_iter().chain(after))?;
                }
            }
            for message in effects.send_durable {
                self.outbox.send(message);
            }
            if let Some(snapshot) = effects.install {
                self.install(&snapshot);
            }
            self.apply(effects.apply)?;
            if effects.take {
                let (position, configuration) = self.raft.snapshot_at(self.applied);
                self.carriers.take(self.machine.freeze(), position, configuration);
            }
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

    fn install(&mut self, snapshot: &Snapshot) {
        let Some((position, machine)) = self.arrived.take() else {
            panic!("{snapshot:?} is to be installed, but its machine has not come")
        };
        assert_eq!(position, snapshot.position, "another machine has come than is to be installed");
        let before = std::mem::replace(&mut self.machine, *machine);
        self.applied = position.index;
        tracing::info!(index = %position.index, bytes = snapshot.bytes, "installed a snapshot from the leader");
        // To let go of a large state takes long.
        std::thread::spawn(move || drop(before));
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
                return match self.pending.remove(&id) {
                    Some(Pending::Read { query, respond }) => {
                        answer(respond, Ok(self.machine.state().read(&query)));
                    }
                    Some(Pending::Operation { respond }) => answer(respond, Ok(self.members())),
                    _ => panic!("request {id} may be read, but is no pending read"),
                };
            }
            Reply::Changed { id } | Reply::Transferred { id } => {
                return match self.pending.remove(&id) {
                    Some(Pending::Operation { respond }) => answer(respond, Ok(self.members())),
                    Some(Pending::HandOver) => {}
                    _ => panic!("request {id} is done, but is no pending operation"),
                };
            }
            Reply::NotLeader { id, leader } => (id, not_leader(leader)),
            Reply::Busy { id } => (id, self.busy()),
            Reply::ChangeLost { id } => (id, leadership_lost()),
            Reply::NotTransferred { id, asked } => (id, not_transferred(asked)),
            Reply::Refused { id, why } => (id, refused(why)),
        };
        match self.pending.remove(&id) {
            Some(Pending::Write(waiting)) => self.settle(waiting, Err(error)),
            Some(Pending::Read { respond, .. }) => answer(respond, Err(error)),
            Some(Pending::Operation { respond }) => answer(respond, Err(error)),
            Some(Pending::HandOver) => {}
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

/// A node that is told to stop hands over first, if it leads.
struct Stopping {
    reason: String,
    /// Of the transfer.
    id: RequestId,
    until: Instant,
}

/// What the events of one turn add up to.
#[derive(Default)]
struct Batch {
    events: usize,
    bytes: usize,
    effects: Effects,
    proposals: Vec<Proposal>,
    reads: Vec<RequestId>,
    reads_here: Vec<RequestId>,
    taken: Option<Result<Snapshot, StorageError>>,
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

fn not_leader(leader: Option<NodeId>) -> Error {
    let message = match leader {
        Some(leader) => format!("{leader} leads"),
        None => "no leader is known".into(),
    };
    Error { leader: leader.map_or(0, |leader| leader.0), ..Error::new(ErrorCode::NotLeader, message) }
}

fn not_transferred(asked: bool) -> Error {
    match asked {
        true => {
            Error::new(ErrorCode::Timeout, "the target was asked to lead, and did not in time; it yet may")
        }
        false => busy_for("the target did not come up to date in time; nothing was transferred"),
    }
}

/// What may be otherwise soon is told as busy.
fn refused(why: Refusal) -> Error {
    match why {
        Refusal::NotReady | Refusal::ChangeUnderWay | Refusal::HandingOver | Refusal::Lagging { .. } => {
            busy_for(why.to_string())
        }
        Refusal::NoSuccessor | Refusal::Unfit(_) => Error::new(ErrorCode::Invalid, why.to_string()),
    }
}

fn busy_for(message: impl Into<String>) -> Error {
    let retry_after_ms = RETRY_OPERATION_AFTER.as_millis() as u32;
    Error { retry_after_ms, ..Error::new(ErrorCode::Busy, message) }
}

fn leadership_lost() -> Error {
    Error::new(ErrorCode::LeadershipLost, "leadership was lost before the entry was known to be committed")
}

#[cfg(test)]
mod tests {
    use super::*;
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
            compact_entries: 1 << 20,
            compact_bytes: 1 << 30,
            tail_entries: 0,
            tail_bytes: 0,
            chunk_bytes: 1 << 10,
            chunks_per_tick: 1,
            chunks_inflight_max: 1,
            promote_lag_entries_max: 1,
            patience: 0,
            lease: None,
            seed: 1,
        };
        let (own, inbox) = Inbox::new();
        let parts = Parts {
            options,
            initial: Initial {
                configuration: Configuration { voters, ..Configuration::default() },
                ..Initial::default()
            },
            tick: Duration::from_millis(1),
            storage,
            machine: Machine::new(KeyValue::default()),
            events: None,
            own,
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
