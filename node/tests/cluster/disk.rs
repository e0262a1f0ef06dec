//! A disk: what is durable, what is still being written and which messages wait for it, what a crash leaves.
//!
//! In: the `persist` and `send_durable` of each effect, in order. Out: what may leave now, and completions.
//! Never: a write that overtakes another, or one that is durable in part.

use std::collections::VecDeque;

use mkraft_node::raft::{
    Configuration, Entry, HardState, Index, Initial, Message, Persist, Position, Term, Write, WriteId,
};

/// What a restart would find.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Image {
    pub hard_state: HardState,
    pub entries: Vec<Entry>,
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
        self.entries.last().map_or(Position::default(), Entry::position)
    }

    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == Index(0) {
            return Some(Term(0));
        }
        self.entries.get(index.0 as usize - 1).map(|entry| entry.term)
    }

    pub fn holds(&self, position: Position) -> bool {
        self.term_at(position.index) == Some(position.term)
    }

    fn apply(&mut self, write: Write) {
        if let Some(after) = write.truncate_after {
            assert!(after < self.last().index, "a cut after {after} cuts nothing of {:?}", self.last());
            self.entries.truncate(after.0 as usize);
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
    }

    pub fn initial(&self, configuration: Configuration) -> Initial {
        Initial {
            hard_state: self.durable.hard_state,
            snapshot: Position::default(),
            entries: self.durable.entries.clone(),
            configuration,
        }
    }
}
