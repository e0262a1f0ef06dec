//! Carrying out effects: what goes at once, what waits for the running write, what waits for the state.
//!
//! In: the effects of a turn, and that a write is durable. Out: messages, lines of evidence, writes, answers; in the
//! order that docs/decisions/disk-thread.md gives. Never: two writes under way, or a message that was to wait for
//! the disk before its write is durable.
//!
//! What the core asks for while a write is under way is gathered, and becomes the next one: one record, one sync.

use std::collections::VecDeque;
use std::sync::Arc;

use mkraft_proto::evidence;

use super::answers::{self, answer};
use super::requests::Pending;
use super::{Driver, DriverError};
use crate::events;
use crate::machine::Machine;
use crate::raft::{
    Body, Effects, Entry, Index, Input, Message, Position, Reply, RoleName, Snapshot, Status, WriteId,
};
use crate::storage::StorageError;
use crate::transport::NodeStatus;

/// Messages that wait for one write; of more, which only a disk that hangs lets gather, the oldest are lost.
const WAITING_MESSAGES_MAX: usize = 4096;

/// What waits for the disk.
#[derive(Default)]
pub(super) struct Writes {
    running: Option<Running>,
    /// `persist`, `send_durable` and `install` of what will be written next.
    gathered: Effects,
    /// Of the entries in it.
    gathered_bytes: usize,
}

struct Running {
    id: WriteId,
    write: Arc<crate::raft::Write>,
    /// Before the lines of the log, and after them.
    lines: (Vec<evidence::Event>, Vec<evidence::Event>),
    send_durable: Vec<Message>,
    install: Option<Snapshot>,
    /// What these lines tell.
    status: Status,
}

/// What waits until the state holds all that is committed.
enum Later {
    Reply(Reply),
    Take,
}

/// What is committed and not applied, and what waits for it.
#[derive(Default)]
pub(super) struct Backlog {
    entries: VecDeque<Entry>,
    later: VecDeque<(Index, Later)>,
}

impl Writes {
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The snapshot that the running write installs.
    pub fn installing(&self) -> Option<Position> {
        self.running.as_ref()?.install.as_ref().map(|snapshot| snapshot.position)
    }

    pub fn gathered_bytes(&self) -> usize {
        self.gathered_bytes
    }

    /// What is told at once is newer than what the lines of the running write will tell.
    fn outdate(&mut self, now: Status) {
        if let Some(running) = self.running.as_mut().filter(|running| running.status.term == now.term) {
            let Status { role, leader, commit, .. } = now;
            running.status = Status { role, leader, commit, ..running.status };
        }
    }

    fn gather(&mut self, effects: Effects) {
        let entries = effects.persist.iter().flat_map(|persist| &persist.write.entries);
        self.gathered_bytes += entries.map(Entry::size).sum::<usize>();
        self.gathered.absorb(effects);
        let messages = &mut self.gathered.send_durable;
        let excess = messages.len().saturating_sub(WAITING_MESSAGES_MAX);
        messages.drain(..excess);
    }
}

impl Backlog {
    /// Answers that wait.
    pub fn len(&self) -> usize {
        self.later.len()
    }
}

impl Driver {
    pub(super) fn carry_out(&mut self, effects: Effects) -> Result<(), DriverError> {
        let Effects { send, persist, send_durable, install, apply, reply, accept: _, take } = effects;
        let leading = self.acts.take_at_once();
        if !leading.is_empty() {
            self.writes.outdate(self.raft.status());
        }
        self.tell(leading)?;
        for message in send {
            match message.body {
                Body::Chunk { .. } => self.carriers.send(message),
                _ => self.outbox.send(message),
            }
        }
        if install.is_some() {
            // The new state holds what these would have done.
            self.backlog.entries.clear();
        }
        self.backlog.entries.extend(apply);
        self.writes.gather(Effects { persist, send_durable, install, ..Effects::default() });
        self.write_next()?;
        self.reply_or_wait(reply, take);
        self.advance()?;
        self.after_turn();
        Ok(())
    }

    /// The running write is durable.
    pub(super) fn written(
        &mut self,
        result: Result<(), StorageError>,
        effects: &mut Effects,
    ) -> Result<(), DriverError> {
        result?;
        let Some(running) = self.writes.running.take() else { panic!("a write is done that nobody began") };
        let Running { id, write, lines: (before, after), send_durable, install, status } = running;
        self.tell(before)?;
        let installed = install.as_ref().map(|snapshot| events::snapshot(snapshot, true));
        self.record(events::durable(&write, installed))?;
        self.tell(after)?;
        self.durable = id.last;
        self.acts.told();
        self.told = status;
        // Only now: what it brings about rests on these lines.
        self.step(Input::Persisted(id), effects);
        send_durable.into_iter().for_each(|message| self.outbox.send(message));
        if let Some(snapshot) = install {
            self.install(&snapshot);
        }
        Ok(())
    }

    /// Begins to write what has gathered, unless a write is under way; what waits for none goes.
    fn write_next(&mut self) -> Result<(), DriverError> {
        if self.writes.running.is_some() {
            return Ok(());
        }
        let Effects { persist, send_durable, install, .. } = std::mem::take(&mut self.writes.gathered);
        self.writes.gathered_bytes = 0;
        let (before, after) = self.acts.take_waiting();
        let status = self.raft.status();
        match persist {
            Some(persist) => {
                let write = Arc::new(persist.write);
                self.disk.begin(write.clone());
                let lines = (before, after);
                let id = persist.id;
                self.writes.running = Some(Running { id, write, lines, send_durable, install, status });
            }
            None => {
                assert!(install.is_none(), "a snapshot is installed only with a write that says so");
                self.tell(before)?;
                self.tell(after)?;
                self.acts.told();
                self.told = status;
                send_durable.into_iter().for_each(|message| self.outbox.send(message));
            }
        }
        Ok(())
    }

    fn install(&mut self, snapshot: &Snapshot) {
        let position = snapshot.position;
        self.arrived.retain(|(arrived, _)| arrived.index >= position.index);
        let Some(found) = self.arrived.iter().position(|(arrived, _)| *arrived == position) else {
            panic!("{snapshot:?} is to be installed, but its machine has not come")
        };
        let (_, machine) = self.arrived.remove(found);
        let before: Machine<_> = std::mem::replace(&mut self.machine, *machine);
        self.applied = position.index;
        tracing::info!(index = %position.index, bytes = snapshot.bytes, "installed a snapshot from the leader");
        // To let go of a large state takes long.
        std::thread::spawn(move || drop(before));
    }

    /// Who is refused hears it at once, whatever the disk does; what the state must answer waits for the state.
    fn reply_or_wait(&mut self, replies: Vec<Reply>, take: bool) {
        let commit = self.raft.status().commit;
        for reply in replies {
            match reply {
                Reply::Readable { .. } | Reply::Changed { .. } | Reply::Transferred { .. } => {
                    self.backlog.later.push_back((commit, Later::Reply(reply)));
                }
                _ => self.reply(reply),
            }
        }
        if take {
            self.backlog.later.push_back((commit, Later::Take));
        }
    }

    /// Applies what is committed as far as lines tell of it, and does what waited for that.
    fn advance(&mut self) -> Result<(), DriverError> {
        let told = self.told_commit;
        let count = self.backlog.entries.partition_point(|entry| entry.index <= told);
        let entries: Vec<Entry> = self.backlog.entries.drain(..count).collect();
        self.apply(entries)?;
        let applied = self.applied;
        while self.backlog.later.front().is_some_and(|(index, _)| *index <= applied) {
            let Some((_, later)) = self.backlog.later.pop_front() else { break };
            match later {
                Later::Reply(reply) => self.reply(reply),
                // The state of a snapshot that is being installed comes first.
                Later::Take if self.applied < self.raft.begin().index => {
                    self.backlog.later.push_back((self.raft.status().commit, Later::Take));
                }
                Later::Take => {
                    let (position, configuration) = self.raft.snapshot_at(self.applied);
                    self.carriers.take(self.machine.freeze(), position, configuration);
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), DriverError> {
        let Some(first) = entries.first().map(|entry| entry.index) else { return Ok(()) };
        assert_eq!(first, self.applied.next(), "entries are applied in order");
        self.applied = entries.last().map_or(first, |entry| entry.index);
        let apply = |entry| {
            let applied = self.machine.apply(&entry);
            (entry, applied)
        };
        let applied: Vec<_> = entries.into_iter().map(apply).collect();
        self.record(events::apply(&applied))?;
        for (entry, applied) in applied {
            self.requests.applied(&entry, applied.answer);
        }
        Ok(())
    }

    fn reply(&mut self, reply: Reply) {
        let (id, error) = match reply {
            Reply::Proposed { id, position } => return self.requests.proposed(id, position),
            Reply::Readable { id } => {
                return match self.requests.take(id) {
                    Some(Pending::Read { query, respond }) => {
                        answer(respond, Ok(self.machine.state().read(&query)));
                    }
                    Some(Pending::Operation { respond }) => answer(respond, Ok(self.members())),
                    _ => panic!("request {id} may be read, but is no pending read"),
                };
            }
            Reply::Changed { id } | Reply::Transferred { id } => {
                return match self.requests.take(id) {
                    Some(Pending::Operation { respond }) => answer(respond, Ok(self.members())),
                    Some(Pending::HandOver) => {}
                    _ => panic!("request {id} is done, but is no pending operation"),
                };
            }
            Reply::NotLeader { id, leader } => (id, answers::not_leader(leader)),
            Reply::Busy { id } => (id, self.requests.busy()),
            Reply::ChangeLost { id } => (id, answers::leadership_lost()),
            Reply::NotTransferred { id, asked } => (id, answers::not_transferred(asked)),
            Reply::Refused { id, why } => (id, answers::refused(why)),
        };
        self.requests.refused(id, error);
    }

    /// What follows from the core's state rather than from an effect.
    fn after_turn(&mut self) {
        let raft = self.raft.status();
        if raft.role != RoleName::Leader {
            self.requests.leadership_lost();
        }
        // Status tells of nothing whose line is still owed.
        if !self.acts.owes() {
            self.told = raft;
        }
        let (raft, applied) = (self.told, self.applied.0);
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

    /// Writes these lines, after which what they tell may be acted on.
    pub(super) fn tell(&mut self, lines: Vec<evidence::Event>) -> Result<(), DriverError> {
        for line in &lines {
            if let evidence::Event::Commit { index, .. } = line {
                self.told_commit = self.told_commit.max(Index(*index));
            }
        }
        self.record(lines)
    }

    pub(super) fn record(
        &mut self,
        lines: impl IntoIterator<Item = evidence::Event>,
    ) -> Result<(), DriverError> {
        match &mut self.events {
            Some(events) => Ok(events.write_all(lines)?),
            None => Ok(()),
        }
    }
}
