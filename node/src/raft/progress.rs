//! What a leader knows of one follower, and how much it may send it.
//!
//! In: what was sent and what was answered. Out: the next position to send from. Never: a message.

use std::collections::VecDeque;

use super::Index;

pub struct Progress {
    /// The follower's log agrees with the leader's up to here, durably.
    pub match_index: Index,
    /// The next entry to send.
    pub next_index: Index,
    pub flow: Flow,
    /// It was heard since the leader last counted its followers (check-quorum).
    pub active: bool,
    /// The newest round of confirmation it has answered.
    pub round: u64,
}

pub enum Flow {
    /// Where its log agrees is not known: one append at a time, until one matches.
    Probe { waiting: bool },
    /// Its log agrees: appends follow each other without waiting, within a window of bytes.
    Replicate(Window),
}

/// Appends that are on their way: the last index and the size in bytes of each.
#[derive(Default)]
pub struct Window {
    appends: VecDeque<(Index, usize)>,
    bytes: usize,
}

impl Progress {
    pub fn new(last: Index) -> Progress {
        Progress {
            match_index: Index(0),
            next_index: last.next(),
            flow: Flow::Probe { waiting: false },
            active: false,
            round: 0,
        }
    }

    pub fn may_send(&self, inflight_bytes_max: usize) -> bool {
        match &self.flow {
            Flow::Probe { waiting } => !waiting,
            Flow::Replicate(window) => window.bytes < inflight_bytes_max,
        }
    }

    /// An append with entries up to `last` was sent.
    pub fn sent(&mut self, last: Index, bytes: usize) {
        match &mut self.flow {
            Flow::Probe { waiting } => *waiting = true,
            Flow::Replicate(window) => {
                self.next_index = last.next();
                window.appends.push_back((last, bytes));
                window.bytes += bytes;
            }
        }
    }

    pub fn matched(&mut self, index: Index) {
        self.match_index = self.match_index.max(index);
        self.next_index = self.next_index.max(self.match_index.next());
        match &mut self.flow {
            Flow::Probe { .. } => {
                self.next_index = self.match_index.next();
                self.flow = Flow::Replicate(Window::default());
            }
            Flow::Replicate(window) => window.free(index),
        }
    }

    /// The follower has no entry at `prev`. False when that is old news.
    pub fn conflicts(&self, prev: Index) -> bool {
        match self.flow {
            Flow::Probe { .. } => prev.next() == self.next_index,
            Flow::Replicate(_) => prev > self.match_index,
        }
    }

    /// Starts to look for where the logs agree, from `next`. A probe that would only be repeated waits for the
    /// heartbeat: a follower that lost what it had acknowledged conflicts there for ever.
    pub fn probe(&mut self, next: Index) {
        let next = next.max(self.match_index.next());
        let stuck = matches!(self.flow, Flow::Probe { .. }) && next == self.next_index;
        self.next_index = next;
        self.flow = Flow::Probe { waiting: stuck };
    }
}

impl Window {
    fn free(&mut self, matched: Index) {
        while let Some(&(last, bytes)) = self.appends.front() {
            if last > matched {
                break;
            }
            self.bytes -= bytes;
            self.appends.pop_front();
        }
    }
}
