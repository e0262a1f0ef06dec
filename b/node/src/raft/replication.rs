//! Log replication (§5.3) and commitment (§5.4.2).
//!
//! The way back of a diverged follower takes one exchange for each of its terms that the leader does not
//! share, at most: a follower without an entry at `prev` answers with its newest position whose term is at
//! most that of `prev`; above it, it holds only terms that the leader cannot have there. The leader does the
//! same with its own log against that hint.

use super::progress::Flow;
use super::{
    AppendOutcome, Body, Entry, EntryKind, Index, NodeId, Position, Proposal, Raft, Reply, Role, Term,
};

impl Raft {
    pub(super) fn propose(&mut self, proposals: Vec<Proposal>) {
        let leads = matches!(self.role, Role::Leader(_));
        for Proposal { id, payload } in proposals {
            let reply = if !leads {
                Reply::NotLeader { id, leader: self.leader }
            } else if self.handover.is_some()
                || self.log.last().index.0 - self.commit.0 >= self.options.uncommitted_entries_max
            {
                Reply::Busy { id }
            } else {
                Reply::Proposed { id, position: self.append_own(EntryKind::Command, payload) }
            };
            self.effects.reply.push(reply);
        }
        self.send_appends();
    }

    /// A leader's first entry: what came before commits with it (§8).
    pub(super) fn append_noop(&mut self) {
        self.append_own(EntryKind::Noop, [].into());
        self.send_appends();
    }

    pub(super) fn append_own(&mut self, kind: EntryKind, payload: std::sync::Arc<[u8]>) -> Position {
        let entry = Entry { index: self.log.last().index.next(), term: self.term, kind, payload };
        let position = entry.position();
        self.configurations.appended(&entry);
        self.log.push(entry.clone());
        self.pending.entries.push(entry);
        position
    }

    /// To each follower, as much as its window allows.
    pub(super) fn send_appends(&mut self) {
        for peer in self.peers() {
            self.send_append(peer);
        }
    }

    fn send_append(&mut self, peer: NodeId) {
        let last = self.log.last().index;
        loop {
            let Role::Leader(leader) = &mut self.role else { return };
            let round = leader.reads.round();
            let Some(progress) = leader.progress.get_mut(&peer) else { return };
            if progress.next_index > last || !progress.may_send(self.options.inflight_bytes_max) {
                return;
            }
            if progress.next_index <= self.log.begin().index {
                return self.begin_transfer(peer);
            }
            let prev = progress.next_index.prev();
            let mut bytes = 0;
            let mut entries = Vec::new();
            for entry in self.log.range(progress.next_index, last) {
                if !entries.is_empty() && bytes + entry.size() > self.options.append_bytes_max {
                    break;
                }
                bytes += entry.size();
                entries.push(entry.clone());
            }
            progress.sent(Index(prev.0 + entries.len() as u64), bytes);
            self.send_append_at(peer, prev, entries, round);
        }
    }

    /// An append without entries to each follower: it is heard, and answers whether it still agrees.
    pub(super) fn heartbeat(&mut self) {
        for peer in self.peers() {
            let Role::Leader(leader) = &mut self.role else { return };
            leader.heartbeat_elapsed = 0;
            let round = leader.reads.round();
            let Some(progress) = leader.progress.get_mut(&peer) else { continue };
            if progress.next_index <= self.log.begin().index {
                self.begin_transfer(peer);
            }
            self.heartbeat_to(peer, round);
        }
    }

    fn heartbeat_to(&mut self, peer: NodeId, round: u64) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&peer) else { return };
        let prev = progress.next_index.prev();
        match &mut progress.flow {
            Flow::Probe { waiting } => *waiting = true,
            Flow::Replicate(_) => {}
            Flow::Snapshot(transfer) => {
                // Once it is installed, the follower agrees here, whatever became of its answers.
                let commit = self.commit;
                let body =
                    Body::Append { prev: transfer.snapshot.position, entries: Vec::new(), commit, round };
                self.send(peer, body);
                return self.keep_transfer(peer);
            }
        }
        self.send_append_at(peer, prev, Vec::new(), round);
    }

    fn send_append_at(&mut self, peer: NodeId, prev: Index, entries: Vec<Entry>, round: u64) {
        let term = self.log.term_at(prev).unwrap_or_else(|| panic!("{prev:?} of {peer} is not in the log"));
        let prev = Position { term, index: prev };
        let commit = self.commit;
        self.send(peer, Body::Append { prev, entries, commit, round });
    }

    pub(super) fn append(
        &mut self,
        from: NodeId,
        term: Term,
        prev: Position,
        entries: Vec<Entry>,
        commit: Index,
        round: u64,
    ) {
        if !self.follows(from, term) {
            return;
        }
        if prev.index > self.commit && !self.log.holds(prev) {
            let hint = self.log.newest_with_term_at_most(prev.index, prev.term);
            let outcome = AppendOutcome::Conflict { prev: prev.index, hint };
            return self.send_durable(from, Body::AppendReply { round, outcome });
        }
        let verified = Index(prev.index.0 + entries.len() as u64);
        self.take_entries(entries);
        // What lies beyond the last entry of this append has not been compared with the leader's log.
        self.commit_to(commit.min(verified));
        self.send_durable(from, Body::AppendReply { round, outcome: AppendOutcome::Matched(verified) });
    }

    /// Follows the sender of what only a leader sends; false when its term is over.
    pub(super) fn follows(&mut self, from: NodeId, term: Term) -> bool {
        if term < self.term {
            // The reply's term is what deposes the sender. It says nothing else: the sender may lead again in
            // this very term, with rounds and positions of its own, when a late append of its earlier
            // leadership is answered. An echoed round would then confirm a read that nobody confirmed.
            let outcome = AppendOutcome::Conflict { prev: Index(0), hint: Position::default() };
            self.send_durable(from, Body::AppendReply { round: 0, outcome });
            return false;
        }
        if !matches!(self.role, Role::Follower) {
            self.become_follower(term);
        }
        self.leader = Some(from);
        (self.election_elapsed, self.heard_elapsed) = (0, 0);
        self.handed_over_to(from);
        true
    }

    /// Adds the entries that the log does not hold yet, cutting those that conflict with them. A delayed
    /// append that conflicts with nothing cuts nothing (figure 2, AppendEntries 3).
    fn take_entries(&mut self, entries: Vec<Entry>) {
        let held = |entry: &Entry| entry.index <= self.commit || self.log.holds(entry.position());
        let Some(first_new) = entries.iter().position(|entry| !held(entry)) else { return };
        let keep = entries[first_new].index.prev();
        if keep < self.log.last().index {
            self.log.truncate_after(keep);
            self.configurations.truncated_after(keep);
            self.pending.truncate_after = Some(keep);
        }
        for entry in entries.into_iter().skip(first_new) {
            self.configurations.appended(&entry);
            self.log.push(entry.clone());
            self.pending.entries.push(entry);
        }
    }

    pub(super) fn append_reply(&mut self, from: NodeId, round: u64, outcome: AppendOutcome) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.active = true;
        if round > progress.round {
            progress.round = round;
            progress.confirmed_at = leader.reads.begun_at(round).unwrap_or(progress.confirmed_at);
        }
        match outcome {
            AppendOutcome::Matched(index) => {
                progress.matched(index, self.log.begin().index);
                self.advance_commit();
                self.advance_handover();
            }
            AppendOutcome::Conflict { prev, hint } => {
                if progress.conflicts(prev) && hint.index < self.log.begin().index {
                    self.begin_transfer(from);
                } else if progress.conflicts(prev) {
                    let agreed = self.log.newest_with_term_at_most(hint.index, hint.term).index;
                    progress.probe(agreed.next().min(prev));
                }
            }
        }
        self.confirm_reads();
        self.send_append(from);
    }

    /// Advances `commit` to the newest entry that a quorum holds.
    pub(super) fn advance_commit(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let own = self.options.id;
        let quorum =
            self.configurations.current().quorum_reached(|voter| match leader.progress.get(&voter) {
                Some(progress) => progress.match_index,
                None if voter == own => leader.durable,
                None => Index(0),
            });
        assert!(quorum <= self.log.last().index, "a quorum holds {quorum}, the leader does not");
        // Counting replicas commits only entries of our own term; older ones commit with them (§5.4.2, figure 8).
        if quorum > self.commit && self.log.term_at(quorum) == Some(self.term) {
            self.commit_to(quorum);
            self.confirm_reads();
            self.advance_change();
        }
    }

    pub(super) fn peers(&self) -> Vec<NodeId> {
        match &self.role {
            Role::Leader(leader) => leader.progress.keys().copied().collect(),
            _ => Vec::new(),
        }
    }
}
