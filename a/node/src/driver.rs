//! Order in time: the one loop that joins raft, storage, machine and transport.
//!
//! In: [`Event`]s from a bounded inbox, and the passing of time. Out: effects, carried out in the order that
//! `carrying` gives. Never: an answer before its reason is durable, or a second try of a failed sync. Whatever
//! events are there are stepped together, so that they share one write and one sync (group commit).

mod answers;
mod carrying;
mod disk;
mod event;
mod inbox;
mod requests;
#[cfg(test)]
mod tests;

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use mkraft_proto::evidence;
use tokio::sync::watch;

pub use disk::WriteFn;
pub use event::{Event, Members, Operation, ReadFrom, Respond};
pub use inbox::{Arrivals, Inbox};

use answers::answer;
use carrying::{Backlog, Writes};
use disk::Disk;
use requests::{Pending, Requests};

use crate::acts::Acts;
use crate::carriers::Carriers;
use crate::causes::with_causes;
use crate::events::{self, EventLog, EventsError};
use crate::machine::{KeyValue, Machine};
use crate::raft::{
    Effects, Index, Initial, Input, Options, Position, Proposal, Raft, RequestId, RoleName, Snapshot, Status,
};
use crate::storage::{Snapshots, StorageError};
use crate::transport::{NodeStatus, Outbox};

/// One turn of the loop takes at most this many events, and stops at this many bytes.
const BATCH_EVENTS_MAX: usize = 1024;
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Answers that wait for the state; beyond it, reads are refused as busy.
const WAITING_ANSWERS_MAX: usize = 1 << 16;
/// Operators who wait for the next snapshot; more are refused as busy.
const COMPACTING_MAX: usize = 1 << 10;

/// Why a node ends that nobody asked to.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Events(#[from] EventsError),
}

/// What a driver joins.
pub struct Parts {
    pub options: Options,
    pub initial: Initial,
    pub tick: Duration,
    /// What makes a write durable, in a thread of its own.
    pub write: WriteFn,
    pub snapshots: Snapshots,
    /// In the state of the newest snapshot.
    pub machine: Machine<KeyValue>,
    pub events: Option<EventLog>,
    /// The other end of `inbox`, for the threads that write and that carry snapshots.
    pub own: Inbox,
    pub inbox: Arrivals,
    pub outbox: Outbox,
}

pub struct Driver {
    raft: Raft,
    disk: Disk,
    writes: Writes,
    /// The last entry of the log as the disk has it.
    durable: Index,
    machine: Machine<KeyValue>,
    applied: Index,
    backlog: Backlog,
    events: Option<EventLog>,
    acts: Acts,
    /// What the lines tell so far.
    told: Status,
    told_commit: Index,
    inbox: Arrivals,
    outbox: Outbox,
    carriers: Carriers,
    /// Machines that the core has chosen to go on with, until the effects that say so are carried out; oldest first.
    arrived: Vec<(Position, Box<Machine<KeyValue>>)>,
    /// A snapshot that stands on the disk, until the log there reaches it.
    taken: Option<Snapshot>,
    status: watch::Sender<NodeStatus>,
    tick: Duration,
    requests: Requests,
    /// Who waits for the next snapshot to be taken.
    compacting: Vec<Respond<Members>>,
    /// There is no room for the write under way.
    is_full: bool,
    refused: u64,
    booted: Instant,
    /// What a leader has for handing over before it stops.
    hand_over_within: Duration,
}

impl Driver {
    /// Carries out what is known to be committed, and writes the first lines of evidence.
    pub fn new(parts: Parts) -> Result<(Driver, watch::Receiver<NodeStatus>), DriverError> {
        let Parts { options, initial, tick, write, snapshots, machine, events, own, inbox, outbox } = parts;
        // Longer than the core tries.
        let hand_over_within = tick * (options.election_ticks + 2 * options.heartbeat_ticks);
        let applied = initial.snapshot.position.index;
        let disk = Disk::new(write, own.clone());
        let carriers = Carriers::new(snapshots, own, outbox.clone());
        let (raft, effects) = Raft::new(options, initial);
        let told = raft.status();
        let (status, receiver) = watch::channel(NodeStatus { raft: told, applied: applied.0 });
        let mut driver = Driver {
            acts: Acts::new(&raft),
            raft,
            disk,
            writes: Writes::default(),
            durable: told.last,
            machine,
            applied,
            backlog: Backlog::default(),
            events,
            told,
            told_commit: applied,
            inbox,
            outbox,
            carriers,
            arrived: Vec::new(),
            taken: None,
            status,
            tick,
            requests: Requests::default(),
            compacting: Vec::new(),
            is_full: false,
            refused: 0,
            booted: Instant::now(),
            hand_over_within,
        };
        driver.tell(Acts::at_boot(&driver.raft, applied))?;
        driver.carry_out(effects)?;
        Ok((driver, receiver))
    }

    /// Runs until it is told to stop. After an error those who wait are still here: dropping the driver answers
    /// them, which nobody may after a failed write.
    pub fn run(&mut self) -> Result<(), DriverError> {
        let mut next_tick = Instant::now() + self.tick;
        let mut stopping = None::<Stopping>;
        loop {
            let first = match self.inbox.next(next_tick.saturating_duration_since(Instant::now())) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return self.stop("nobody can reach this node".into()),
            };
            let mut batch = self.gather(first);
            // After the messages: a node that was stopped hears its leader before it counts the time.
            // However many ticks were missed, it counts one.
            if Instant::now() >= next_tick {
                self.raft.step(Input::Clock(self.clock()));
                self.step(Input::Tick, &mut batch.effects);
                next_tick = Instant::now() + self.tick;
            }
            if let Some(result) = batch.written.take() {
                self.written(result, &mut batch.effects)?;
            }
            let compacted = self.take_in_snapshot(&mut batch)?;
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
                let id = self.requests.pend(Pending::HandOver);
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
            if let Some(Stopping { id, until, .. }) = stopping
                && (!self.requests.is_pending(id) || Instant::now() >= until)
            {
                self.finish_write()?;
                let reason = stopping.map_or(String::new(), |stopping| stopping.reason);
                return self.stop(reason);
            }
        }
    }

    /// Takes what is there to be taken, `next` first.
    fn gather(&mut self, mut next: Option<Event>) -> Batch {
        let mut batch = Batch::default();
        while let Some(event) = next {
            // Before each: it may have come after a wait, or this process may have been stopped since the one before,
            // and a lease that ended meanwhile answers nobody.
            self.raft.step(Input::Clock(self.clock()));
            batch.bytes += event.bytes();
            batch.events += 1;
            self.take(event, &mut batch);
            next = if batch.is_full() { None } else { self.inbox.next_now() };
        }
        batch
    }

    /// A snapshot counts once the log on the disk holds its position: a boot would take it for one that was received
    /// and never taken in.
    fn take_in_snapshot(&mut self, batch: &mut Batch) -> Result<bool, DriverError> {
        if let Some(taken) = batch.taken.take() {
            self.taken = Some(taken?);
        }
        let durable = self.durable;
        let Some(snapshot) = self.taken.take_if(|taken| taken.position.index <= durable) else {
            return Ok(false);
        };
        self.record([events::snapshot(&snapshot, false)])?;
        self.step(Input::Snapshotted(snapshot), &mut batch.effects);
        Ok(true)
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
            Event::NoRoom(error) => self.no_room(&error, batch),
            Event::NoRoomForSnapshot(error) => {
                tracing::warn!(error = with_causes(&error), "no snapshot was taken; it is tried again");
                for respond in std::mem::take(&mut self.compacting) {
                    answer(respond, Err(answers::no_room()));
                }
            }
            Event::Written(Some(result)) => {
                self.is_full = false;
                batch.written = Some(result);
            }
            Event::Written(None) => panic!("the thread that writes has panicked"),
            Event::Taken(taken) => batch.taken = Some(taken),
            Event::Received { snapshot, machine } => {
                let position = snapshot.position;
                self.step(Input::Received(snapshot), &mut batch.effects);
                if batch.effects.install.as_ref().is_some_and(|chosen| chosen.position == position) {
                    // It takes the place of one that is gathered, and not of one that is being written.
                    let writing = self.writes.installing();
                    self.arrived.retain(|(arrived, _)| Some(*arrived) == writing);
                    self.arrived.push((position, machine));
                }
            }
            Event::Failed(error) => batch.written = Some(Err(error)),
            Event::Unreceived(position) => self.step(Input::Unreceived(position), &mut batch.effects),
            Event::Write { respond, .. } if self.is_full => answer(respond, Err(answers::no_room())),
            Event::Write { payload, respond } => {
                let unwritten = self.writes.gathered_bytes();
                if let Some(id) = self.requests.pend_write(payload.len(), unwritten, respond) {
                    batch.proposals.push(Proposal { id, payload });
                }
            }
            Event::Read { query, from: ReadFrom::Stale, respond } => {
                answer(respond, Ok(self.machine.state().read(&query)));
            }
            Event::Read { respond, .. } if self.backlog.len() >= WAITING_ANSWERS_MAX => {
                answer(respond, Err(self.requests.busy()));
            }
            Event::Read { query, from, respond } => {
                let id = self.requests.pend(Pending::Read { query, respond });
                if from == ReadFrom::Here { batch.reads_here.push(id) } else { batch.reads.push(id) }
            }
            Event::Operate { operation: Operation::Compact, respond } => self.compact(respond, batch),
            Event::Operate { operation, respond } => {
                let id = self.requests.pend(Pending::Operation { respond });
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

    /// Until there is room again nothing that this node has not promised yet is promised, and another had better lead. With
    /// nobody to hand over to it steps down as with a disk that hangs.
    fn no_room(&mut self, error: &StorageError, batch: &mut Batch) {
        if !std::mem::replace(&mut self.is_full, true) {
            tracing::warn!(
                error = with_causes(error),
                "the disk is full: no write is taken until there is room"
            );
        }
        if self.raft.status().role == RoleName::Leader {
            let id = self.requests.pend(Pending::HandOver);
            self.step(Input::Transfer(id, None), &mut batch.effects);
        }
    }

    fn compact(&mut self, respond: Respond<Members>, batch: &mut Batch) {
        if self.raft.is_compacted() {
            return answer(respond, Ok(self.members()));
        }
        self.compacting.retain(|respond| !respond.is_closed());
        if self.compacting.len() >= COMPACTING_MAX {
            return answer(respond, Err(self.requests.busy()));
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

    fn step(&mut self, input: Input, effects: &mut Effects) {
        effects.absorb(self.raft.step(input));
        self.acts.observe(&self.raft);
    }

    /// What the disk has taken is told before the node ends; what has gathered since was promised to nobody.
    ///
    /// However long it takes: a node that has said that it stopped must not have a write under way. Who will not
    /// wait for a disk that hangs has SIGKILL.
    fn finish_write(&mut self) -> Result<(), DriverError> {
        // What found no room has changed nothing.
        if self.is_full {
            self.disk.give_up();
        }
        let mut patience = Some(Instant::now() + self.hand_over_within);
        while self.writes.is_running() {
            let left = patience.map(|until| until.saturating_duration_since(Instant::now()));
            match self.inbox.next(left.unwrap_or(Duration::MAX)) {
                Ok(Event::Failed(error)) => return Err(error.into()),
                Ok(Event::NoRoom(_)) => self.disk.give_up(),
                Ok(Event::Written(Some(Err(error)))) if error.is_full() => return Ok(()),
                Ok(Event::Written(Some(result))) => self.written(result, &mut Effects::default())?,
                Ok(Event::Written(None)) => panic!("the thread that writes has panicked"),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    tracing::warn!(
                        "the disk hangs: a write is under way, and this node stops when it is done"
                    );
                    patience = None;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        Ok(())
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
    written: Option<Result<(), StorageError>>,
    taken: Option<Result<Snapshot, StorageError>>,
    stop: Option<String>,
}

impl Batch {
    /// After a failure nothing more is answered.
    fn is_full(&self) -> bool {
        let ends = self.stop.is_some() || matches!(self.written, Some(Err(_)));
        ends || self.events >= BATCH_EVENTS_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}
