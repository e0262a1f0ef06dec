//! A disk: what is durable, what is still being written and which messages wait for it, what a crash leaves.
//!
//! In: the `persist` and `send_durable` of each effect, in order; snapshots once they stand whole. Out: what may
//! leave now, and completions. Never: a write that overtakes another, or one that is durable in part.

use std::collections::VecDeque;
use std::sync::Arc;

use mkraft_node::raft::{
    Configuration, Entry, HardState, Index, Initial, Message, Persist, Position, Snapshot, Term, Write,
    WriteId,
};

/// What a snapshot holds: the machine's own bytes, and beside them all that it ever applied.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    pub applied: Arc<Vec<Entry>>,
    pub bytes: Arc<[u8]>,
}

/// What a restart would find.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Image {
    pub hard_state: HardState,
    /// The log begins after this.
    pub begin: Position,
    pub entries: Vec<Entry>,
    /// Under their names, oldest first.
    pub snapshots: Vec<(Snapshot, State)>,
}

#[derive(Default)]
pub struct Disk {
    pub durable: Image,
    queue: VecDeque<Outstanding>,
}

/// A write under way, and what leaves once it is durable.
struct Outstanding {
    persist: Persist,
    release: Vec<Message>,
}

/// Some writes became durable; `id` is the last of them.
pub struct Completion {
    pub id: WriteId,
    pub release: Vec<Message>,
}

impl Image {
    pub fn last(&self) -> Position {
        self.entries.last().map_or(self.begin, Entry::position)
    }

    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.begin.index {
            return Some(self.begin.term);
        }
        let offset = index.0.checked_sub(self.begin.index.0 + 1)?;
        self.entries.get(offset as usize).map(|entry| entry.term)
    }

    pub fn holds(&self, position: Position) -> bool {
        self.term_at(position.index) == Some(position.term)
    }

    /// Holds it, or begins after it; what is before a begin is committed.
    pub fn covers(&self, position: Position) -> bool {
        position.index < self.begin.index || self.holds(position)
    }

    /// The newest that the log reaches: all others were never taken in, or are of no use.
    pub fn snapshot(&self) -> Option<&(Snapshot, State)> {
        let held = self.snapshots.iter().filter(|(snapshot, _)| self.holds(snapshot.position));
        held.max_by_key(|(snapshot, _)| snapshot.position.index)
    }

    fn apply(&mut self, write: Write) {
        if let Some(after) = write.truncate_after {
            assert!(after < self.last().index, "a cut after {after} cuts nothing of {:?}", self.last());
            self.entries.truncate((after.0 - self.begin.index.0) as usize);
        }
        if let Some(begin) = write.begin {
            let after = begin.position.index;
            assert!(begin.clear || self.holds(begin.position), "a log cannot begin at {begin:?}");
            self.entries.retain(|entry| !begin.clear && entry.index > after);
            self.begin = begin.position;
            assert!(self.snapshot().is_some(), "no snapshot covers what was before {begin:?}");
            self.snapshots.retain(|(snapshot, _)| snapshot.position.index >= after);
        }
        for entry in write.entries {
            assert_eq!(entry.index, self.last().index.next(), "the disk would have a hole or an overlap");
            self.entries.push(entry);
        }
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
    }
}

impl Disk {
    /// Gives back the messages that wait for nothing.
    pub fn submit(&mut self, persist: Option<Persist>, messages: Vec<Message>) -> Vec<Message> {
        match (persist, self.queue.back_mut()) {
            (Some(persist), _) => self.queue.push_back(Outstanding { persist, release: messages }),
            (None, Some(last)) => last.release.extend(messages),
            (None, None) => return messages,
        }
        Vec::new()
    }

    /// Writes that are not durable.
    pub fn outstanding(&self) -> usize {
        self.queue.len()
    }

    /// A snapshot stands whole under its name, beside whatever is being written.
    pub fn place(&mut self, snapshot: Snapshot, state: State) {
        self.durable.snapshots.retain(|(found, _)| found.position != snapshot.position);
        self.durable.snapshots.push((snapshot, state));
    }

    /// The newest snapshot is damaged, where an older one and the log make up for it.
    pub fn damage_newest(&mut self) -> bool {
        let Some(newest) = self.durable.snapshot().map(|(snapshot, _)| snapshot.position) else {
            return false;
        };
        let mut without = self.durable.clone();
        without.snapshots.retain(|(snapshot, _)| snapshot.position != newest);
        let made_up_for = without.snapshot().is_some() || without.begin.index == Index(0);
        if made_up_for {
            self.durable = without;
        }
        made_up_for
    }

    /// Makes the oldest `count` writes durable, with one completion for them all.
    pub fn complete(&mut self, count: usize) -> Option<Completion> {
        let mut completion = None::<Completion>;
        for Outstanding { persist, mut release } in self.queue.drain(..count.min(self.queue.len())) {
            self.durable.apply(persist.write);
            let mut released = completion.map_or(Vec::new(), |before| before.release);
            released.append(&mut release);
            completion = Some(Completion { id: persist.id, release: released });
        }
        completion
    }

    /// Loses all but the oldest `kept` of the writes under way, and every message that waited.
    pub fn crash(&mut self, kept: usize) {
        self.complete(kept);
        self.queue.clear();
        // As a boot does: what the log does not reach goes.
        let durable = &self.durable;
        let held = durable.snapshots.iter().filter(|(snapshot, _)| durable.holds(snapshot.position));
        self.durable.snapshots = held.cloned().collect();
    }

    pub fn initial(&self, configuration: Configuration) -> Initial {
        Initial {
            hard_state: self.durable.hard_state,
            begin: self.durable.begin,
            entries: self.durable.entries.clone(),
            snapshot: self.durable.snapshot().map(|(snapshot, _)| snapshot.clone()).unwrap_or_default(),
            configuration,
        }
    }
}
