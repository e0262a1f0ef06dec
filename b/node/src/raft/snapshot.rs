//! Log compaction (§7): when a snapshot is due, where the log begins after it, and how one reaches a follower.
//!
//! In: that a snapshot was taken or received, chunks as they arrive. Out: where the log begins, which chunk goes to
//! whom, which ones to keep. Never: a byte of a state. Whoever carries out the effects takes, reads, sends and
//! receives those, and says when a snapshot stands whole on the disk.
//!
//! Differs from §7: there the follower answers each chunk and the leader sends the next; here several are on
//! their way, at a bounded rate, beside heartbeats that ask whether the snapshot is installed yet. Nothing that is
//! said of chunks moves the leader's `match_index`: a follower that has installed says `Matched`, as for entries,
//! once that is durable.

use super::membership::Configurations;
use super::progress::Flow;
use super::{
    Accept, AppendOutcome, Begin, Body, Configuration, Index, NodeId, Position, Raft, Role, Snapshot, Term,
};

/// A leader that may begin its log later waits for followers that are being served, until the log has grown to
/// this many times what a snapshot is due at.
const HELD_FOR_FOLLOWERS: usize = 4;

/// Heartbeats without an acknowledgement after which a snapshot is sent from the start, and the newest there is.
const STALLED_MAX: u32 = 10;

/// A snapshot whose chunks arrive in order.
pub struct Receiving {
    pub snapshot: Snapshot,
    pub next: u64,
}

impl Raft {
    /// The newest snapshot; the default where there is none.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What the log begins after.
    pub fn begin(&self) -> Position {
        self.log.begin()
    }

    /// What a snapshot of the state as applied up to `index` stands for.
    pub fn snapshot_at(&self, index: Index) -> (Position, Configuration) {
        assert!(
            index <= self.commit,
            "a snapshot at {index} would hold more than the commit {}",
            self.commit
        );
        let term = self.log.term_at(index);
        let term = term.unwrap_or_else(|| panic!("{index:?} is before the log's {:?}", self.log.begin()));
        (Position { term, index }, self.configurations.at(index).1.clone())
    }

    /// True when a snapshot now would stand for no more than the newest does.
    pub fn is_compacted(&self) -> bool {
        let nothing_new = self.commit == self.snapshot.position.index;
        !self.taking && (nothing_new || !self.may_take())
    }

    /// Asks for a snapshot, however little is committed since the last one.
    pub(super) fn compact(&mut self) {
        if !self.taking && !self.is_compacted() {
            (self.taking, self.effects.take) = (true, true);
        }
    }

    /// A snapshot says who the members are; a node that joins may not have come to the entry that tells it.
    fn may_take(&self) -> bool {
        !self.taking && !self.configurations.at(self.commit).1.voters.is_empty()
    }

    /// Asks for a snapshot once enough is committed since the last one.
    pub(super) fn consider_snapshot(&mut self) {
        let entries = self.commit.0 - self.snapshot.position.index.0;
        let options = &self.options;
        // What is written for a snapshot stays in proportion to what is written for the log.
        let bytes = options.compact_bytes.max((self.snapshot.bytes / 4) as usize);
        let due = entries >= options.compact_entries || self.committed_bytes >= bytes;
        if due && self.may_take() {
            (self.taking, self.effects.take) = (true, true);
        }
    }

    /// A snapshot of what was applied here stands on the disk.
    pub(super) fn snapshotted(&mut self, snapshot: Snapshot) {
        self.taking = false;
        // One from the leader may have overtaken it.
        if snapshot.position.index <= self.snapshot.position.index {
            return;
        }
        assert!(self.log.holds(snapshot.position), "the log does not hold the snapshot's {snapshot:?}");
        let after = snapshot.position.index.next();
        self.snapshot = snapshot;
        self.committed_bytes = match self.commit >= after {
            true => self.log.range(after, self.commit).map(|entry| entry.size()).sum(),
            false => 0,
        };
        let begin = self.begin_for_followers(self.begin_with_tail());
        if begin > self.log.begin().index {
            self.log.begin_after(begin);
            self.configurations.begins_after(begin);
            self.pending.begin = Some(Begin { position: self.log.begin(), clear: false });
        }
        self.consider_snapshot();
    }

    /// A tail before the snapshot stays, for followers that lag a little.
    fn begin_with_tail(&self) -> Index {
        let (mut begin, mut bytes) = (self.snapshot.position.index, 0);
        let least = self.log.begin().index.0.max(begin.0.saturating_sub(self.options.tail_entries));
        let mut tail = self.log.entries_before(begin);
        while begin.0 > least
            && let Some(entry) = tail.next()
        {
            bytes += entry.size();
            if bytes > self.options.tail_bytes {
                break;
            }
            begin = begin.prev();
        }
        begin
    }

    /// No later than what followers need that are being served, as long as the log is not too long for that.
    fn begin_for_followers(&self, begin: Index) -> Index {
        let Role::Leader(leader) = &self.role else { return begin };
        if self.log.bytes() > HELD_FOR_FOLLOWERS * self.options.compact_bytes {
            return begin;
        }
        let needed = leader.progress.values().filter_map(|progress| match &progress.flow {
            Flow::Snapshot(transfer) => (transfer.stalled == 0).then_some(transfer.snapshot.position.index),
            Flow::Replicate(_) => progress.active.then_some(progress.match_index),
            Flow::Probe { .. } => None,
        });
        needed.fold(begin, Index::min).max(self.log.begin().index)
    }

    // The leader.

    /// The follower needs what is no longer in the log.
    pub(super) fn begin_transfer(&mut self, peer: NodeId) {
        let chunks = self.snapshot.chunks(self.options.chunk_bytes);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&peer) else { return };
        leader.streams += 1;
        progress.install(self.snapshot.clone(), leader.streams, chunks);
        self.send_chunks(peer);
    }

    /// With each heartbeat.
    pub(super) fn keep_transfer(&mut self, peer: NodeId) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&peer) else { return };
        let Flow::Snapshot(transfer) = &mut progress.flow else { return };
        transfer.heartbeat();
        if transfer.stalled >= STALLED_MAX {
            return self.begin_transfer(peer);
        }
        self.send_chunks(peer);
    }

    /// With each tick comes a new allowance.
    pub(super) fn tick_transfers(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.chunks_left = self.options.chunks_per_tick;
        for peer in self.peers() {
            self.send_chunks(peer);
        }
    }

    fn send_chunks(&mut self, peer: NodeId) {
        loop {
            let Role::Leader(leader) = &mut self.role else { return };
            let Some(progress) = leader.progress.get_mut(&peer) else { return };
            let Flow::Snapshot(transfer) = &mut progress.flow else { return };
            if leader.chunks_left == 0 {
                return;
            }
            let Some(number) = transfer.take_next(self.options.chunks_inflight_max) else { return };
            leader.chunks_left -= 1;
            let body = Body::Chunk { snapshot: transfer.snapshot.clone(), stream: transfer.stream, number };
            self.send(peer, body);
        }
    }

    pub(super) fn chunk_reply(&mut self, from: NodeId, stream: u64, next: u64) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.active = true;
        let Flow::Snapshot(transfer) = &mut progress.flow else { return };
        if transfer.stream == stream {
            transfer.acknowledged(next);
            self.send_chunks(from);
        }
    }

    // The follower.

    pub(super) fn chunk(&mut self, from: NodeId, term: Term, snapshot: Snapshot, stream: u64, number: u64) {
        if !self.follows(from, term) {
            return;
        }
        if self.covers(snapshot.position) {
            return self.acknowledge_snapshot(from, snapshot.position.index);
        }
        // Whoever sends it: what has one position, length and digest is one state.
        let same = self.receiving.as_ref().is_some_and(|receiving| receiving.snapshot == snapshot);
        if !same && number == 0 {
            self.receiving = Some(Receiving { snapshot: snapshot.clone(), next: 0 });
        }
        let next = match &mut self.receiving {
            Some(receiving) if same || number == 0 => {
                if number == receiving.next {
                    receiving.next += 1;
                    let last = receiving.next == snapshot.chunks(self.options.chunk_bytes);
                    self.effects.accept.push(Accept { snapshot, number, last });
                }
                receiving.next
            }
            _ => 0,
        };
        self.send_durable(from, Body::ChunkReply { stream, next });
    }

    /// True when this node has all that a snapshot of this position stands for: what it covers is committed, so
    /// entries that the log holds up to there are (§7: what follows them stays).
    fn covers(&mut self, position: Position) -> bool {
        if position.index > self.commit && self.log.holds(position) {
            self.commit_to(position.index);
        }
        position.index <= self.commit
    }

    /// A snapshot from a leader stands whole on this node's disk.
    pub(super) fn received(&mut self, snapshot: Snapshot) {
        self.receiving.take_if(|receiving| receiving.snapshot == snapshot);
        let position = snapshot.position;
        if !self.covers(position) {
            assert!(
                !matches!(self.role, Role::Leader(_)),
                "a leader does not hold the committed {position:?}"
            );
            self.log.replace(position);
            self.pending.begin = Some(Begin { position, clear: true });
            (self.commit, self.committed_bytes) = (position.index, 0);
            let configuration = snapshot.configuration.clone();
            self.configurations = Configurations::new(position.index, configuration, std::iter::empty());
            self.snapshot = snapshot.clone();
            self.effects.install = Some(snapshot);
            self.answer_forwarded();
        }
        if let (Role::Follower, Some(leader)) = (&self.role, self.leader) {
            self.acknowledge_snapshot(leader, position.index);
        }
    }

    /// What was received is not what was sent, or could not be kept.
    pub(super) fn unreceived(&mut self, position: Position) {
        self.receiving.take_if(|receiving| receiving.snapshot.position == position);
    }

    /// Of what is committed, any leader of this term holds the same.
    fn acknowledge_snapshot(&mut self, leader: NodeId, index: Index) {
        let outcome = AppendOutcome::Matched(index);
        self.send_durable(leader, Body::AppendReply { round: 0, outcome });
    }
}
