//! What a leader knows of one follower, and how much it may send it.
//!
//! In: what was sent and what was answered. Out: the next position to send from. Never: a message.

use std::collections::VecDeque;

use super::{Index, Snapshot};

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
    /// When that round began, as the leader's clock says.
    pub confirmed_at: u64,
}

pub enum Flow {
    /// Where its log agrees is not known: one append at a time, until one matches.
    Probe { waiting: bool },
    /// Its log agrees: appends follow each other without waiting, within a window of bytes.
    Replicate(Window),
    /// What it lacks is no longer in the log: a snapshot goes to it first.
    Snapshot(Transfer),
}

/// A snapshot on its way, in chunks.
pub struct Transfer {
    pub snapshot: Snapshot,
    /// Acknowledgements of another stream count for nothing.
    pub stream: u64,
    chunks: u64,
    /// The follower has all before this, as it last said.
    acked: u64,
    /// The next to send.
    next: u64,
    /// It has acknowledged something since the last heartbeat.
    moved: bool,
    /// Heartbeats since it last did.
    pub stalled: u32,
}

impl Transfer {
    fn new(snapshot: Snapshot, stream: u64, chunks: u64) -> Transfer {
        Transfer { snapshot, stream, chunks, acked: 0, next: 0, moved: true, stalled: 0 }
    }

    /// The next chunk, if no more than `inflight_max` are on their way; one at a time to who does not answer.
    pub fn take_next(&mut self, inflight_max: u64) -> Option<u64> {
        let inflight_max = if self.stalled > 0 { 1 } else { inflight_max };
        let may = self.next < self.chunks && self.next - self.acked < inflight_max;
        may.then(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// A follower that lost what it had begins again.
    pub fn acknowledged(&mut self, next: u64) {
        (self.moved, self.stalled) = (true, 0);
        self.acked = next;
        self.next = self.next.max(next);
    }

    /// Sends again what nobody has acknowledged since the last heartbeat. Once all is, the last chunk asks
    /// whether the follower still has what it is to install.
    pub fn heartbeat(&mut self) {
        if std::mem::take(&mut self.moved) {
            return;
        }
        self.stalled += 1;
        self.acked = self.acked.min(self.chunks - 1);
        self.next = self.acked;
    }

    pub fn admits(&self, next: u64) -> bool {
        next <= self.chunks
    }
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
            confirmed_at: 0,
        }
    }

    pub fn may_send(&self, inflight_bytes_max: usize) -> bool {
        match &self.flow {
            Flow::Probe { waiting } => !waiting,
            Flow::Replicate(window) => window.bytes < inflight_bytes_max,
            Flow::Snapshot(_) => false,
        }
    }

    pub fn install(&mut self, snapshot: Snapshot, stream: u64, chunks: u64) {
        self.next_index = snapshot.position.index.next();
        self.flow = Flow::Snapshot(Transfer::new(snapshot, stream, chunks));
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
            Flow::Snapshot(transfer) => panic!("an append was sent beside stream {}", transfer.stream),
        }
    }

    /// `begin`: what the log begins after.
    pub fn matched(&mut self, index: Index, begin: Index) {
        self.match_index = self.match_index.max(index);
        self.next_index = self.next_index.max(self.match_index.next());
        match &mut self.flow {
            Flow::Replicate(window) => return window.free(index),
            // Whatever it is that brought it this far.
            Flow::Snapshot(transfer) if self.match_index < begin.min(transfer.snapshot.position.index) => {
                return;
            }
            Flow::Probe { .. } | Flow::Snapshot(_) => {}
        }
        self.next_index = self.match_index.next();
        self.flow = Flow::Replicate(Window::default());
    }

    /// The follower has no entry at `prev`. False when that is old news.
    pub fn conflicts(&self, prev: Index) -> bool {
        match self.flow {
            Flow::Probe { .. } => prev.next() == self.next_index,
            Flow::Replicate(_) => prev > self.match_index,
            Flow::Snapshot(_) => false,
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
