//! Leader election (§5.2, §5.4.1), with pre-vote (thesis §9.6) and check-quorum (thesis §6.2).

use super::quorum::{Tally, Votes};
use super::reads::Reads;
use super::{Body, Leader, Message, NodeId, Position, Progress, Raft, Role, Term};

impl Raft {
    /// Asks whether an election could be won, before a term is spent on it.
    pub(super) fn pre_campaign(&mut self) {
        self.become_follower(self.term);
        self.restart_election_timer();
        let mut votes = Votes::default();
        votes.record(self.options.id, true);
        if votes.tally(&self.configuration) == Tally::Won {
            return self.campaign();
        }
        self.role = Role::PreCandidate(votes);
        self.request_votes(true);
    }

    fn campaign(&mut self) {
        self.become_follower(self.term.next());
        self.restart_election_timer();
        self.vote = Some(self.options.id);
        self.write_hard_state();
        self.role = Role::Candidate { votes: Votes::default(), vote_sequence: self.next_write() };
        self.request_votes(false);
    }

    fn request_votes(&mut self, pre: bool) {
        let last = self.log.last();
        for voter in self.configuration.electorate() {
            if voter != self.options.id {
                self.send_durable(voter, Body::RequestVote { pre, last });
            }
        }
    }

    pub(super) fn request_pre_vote(&mut self, from: NodeId, term: Term, last: Position) {
        let granted = term >= self.term && last >= self.log.last() && !self.hears_leader();
        // In the term of the question, so that the answer counts for no other; or in the voter's, if it is
        // later, for the candidate to learn.
        let term = term.max(self.term);
        let body = Body::VoteReply { pre: true, granted };
        self.effects.send_durable.push(Message { from: self.options.id, to: from, term, body });
    }

    pub(super) fn request_vote(&mut self, from: NodeId, term: Term, last: Position) {
        let free = self.vote.is_none_or(|vote| vote == from) && self.leader.is_none();
        let granted = term == self.term && free && last >= self.log.last();
        if granted {
            self.election_elapsed = 0;
            if self.vote.is_none() {
                self.vote = Some(from);
                self.write_hard_state();
            }
        }
        self.send_durable(from, Body::VoteReply { pre: false, granted });
    }

    pub(super) fn pre_vote_reply(&mut self, from: NodeId, granted: bool) {
        let Role::PreCandidate(votes) = &mut self.role else { return };
        if !self.configuration.has_voter(from) {
            return;
        }
        votes.record(from, granted);
        match votes.tally(&self.configuration) {
            Tally::Won => self.campaign(),
            Tally::Lost => self.become_follower(self.term),
            Tally::Open => {}
        }
    }

    /// A vote of the current term; the candidate's own comes here once it is durable.
    pub(super) fn vote_reply(&mut self, from: NodeId, granted: bool) {
        let Role::Candidate { votes, .. } = &mut self.role else { return };
        if !self.configuration.has_voter(from) {
            return;
        }
        votes.record(from, granted);
        match votes.tally(&self.configuration) {
            Tally::Won => self.become_leader(),
            Tally::Lost => self.become_follower(self.term),
            Tally::Open => {}
        }
    }

    fn become_leader(&mut self) {
        assert!(matches!(self.role, Role::Candidate { .. }), "only a candidate wins an election");
        let last = self.log.last().index;
        let own = self.options.id;
        let peers = self.configuration.members().into_iter().filter(|&peer| peer != own);
        let leader = Leader {
            progress: peers.map(|peer| (peer, Progress::new(last))).collect(),
            // What it held as a follower is durable: its candidacy was written after it.
            durable: last,
            first: last.next(),
            reads: Reads::default(),
            heartbeat_elapsed: 0,
            streams: 0,
            chunks_left: self.options.chunks_per_tick,
        };
        self.role = Role::Leader(Box::new(leader));
        self.leader = Some(own);
        self.election_elapsed = 0;
        self.append_noop();
    }

    /// True while a leader is known and was heard within the least election timeout.
    pub(super) fn hears_leader(&self) -> bool {
        self.leader.is_some() && self.election_elapsed < self.options.election_ticks
    }

    /// A leader that no quorum answers steps down, so that its clients look elsewhere.
    pub(super) fn check_quorum(&mut self) {
        let own = self.options.id;
        let Role::Leader(leader) = &mut self.role else { return };
        let progress = &leader.progress;
        let heard = |voter| voter == own || progress.get(&voter).is_some_and(|progress| progress.active);
        if !self.configuration.quorum_reached(heard) {
            return self.become_follower(self.term);
        }
        self.election_elapsed = 0;
        for progress in leader.progress.values_mut() {
            progress.active = false;
        }
    }
}
