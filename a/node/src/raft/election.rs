//! Leader election (§5.2, §5.4.1), with pre-vote (thesis §9.6) and check-quorum (thesis §6.2).

use super::quorum::{Tally, Votes};
use super::reads::Reads;
use super::{Body, Leader, Message, NodeId, Position, Progress, Raft, Role, Term};

/// What brings a node to campaign.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It has heard no leader for long, and others have not either.
    Silence,
    /// The leader hands over to it.
    Asked,
}

impl Raft {
    /// Asks whether an election could be won, before a term is spent on it.
    pub(super) fn pre_campaign(&mut self) {
        self.become_follower(self.term);
        self.restart_election_timer();
        let mut votes = Votes::default();
        votes.record(self.options.id, true);
        if votes.tally(self.configurations.current()) == Tally::Won {
            return self.campaign(Why::Silence);
        }
        self.role = Role::PreCandidate(votes);
        self.request_votes(true, Why::Silence);
    }

    pub(super) fn campaign(&mut self, why: Why) {
        self.become_follower(self.term.next());
        self.restart_election_timer();
        self.vote = Some(self.options.id);
        self.write_hard_state();
        self.role = Role::Candidate { votes: Votes::default(), vote_sequence: self.next_write() };
        self.request_votes(false, why);
    }

    fn request_votes(&mut self, pre: bool, why: Why) {
        let last = self.log.last();
        let asked = why == Why::Asked;
        for voter in self.configurations.current().electorate() {
            if voter != self.options.id {
                self.send_durable(voter, Body::RequestVote { pre, asked, last });
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

    pub(super) fn request_vote(&mut self, from: NodeId, term: Term, asked: bool, last: Position) {
        let free = self.vote.is_none_or(|vote| vote == from) && self.leader.is_none();
        let bound = !asked && self.is_bound_by_lease();
        let granted = term == self.term && free && !bound && last >= self.log.last();
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
        if !self.configurations.current().has_voter(from) {
            return;
        }
        votes.record(from, granted);
        match votes.tally(self.configurations.current()) {
            Tally::Won => self.campaign(Why::Silence),
            Tally::Lost => self.become_follower(self.term),
            Tally::Open => {}
        }
    }

    /// A vote of the current term; the candidate's own comes here once it is durable.
    pub(super) fn vote_reply(&mut self, from: NodeId, granted: bool) {
        let Role::Candidate { votes, .. } = &mut self.role else { return };
        if !self.configurations.current().has_voter(from) {
            return;
        }
        votes.record(from, granted);
        match votes.tally(self.configurations.current()) {
            Tally::Won => self.become_leader(),
            Tally::Lost => self.become_follower(self.term),
            Tally::Open => {}
        }
    }

    fn become_leader(&mut self) {
        assert!(matches!(self.role, Role::Candidate { .. }), "only a candidate wins an election");
        let last = self.log.last().index;
        let own = self.options.id;
        let peers = self.configurations.current().members().into_iter().filter(|&peer| peer != own);
        let leader = Leader {
            progress: peers.map(|peer| (peer, Progress::new(last))).collect(),
            // What it held as a follower is durable: its candidacy was written after it.
            durable: last,
            first: last.next(),
            reads: Reads::default(),
            heartbeat_elapsed: 0,
            streams: 0,
            chunks_left: self.options.chunks_per_tick,
            change: None,
            lease_given_up: false,
        };
        self.role = Role::Leader(Box::new(leader));
        self.leader = Some(own);
        self.election_elapsed = 0;
        self.handed_over_to(own);
        self.forward_again();
        self.append_noop();
    }

    /// True while a leader is known and was heard within the least election timeout.
    pub(super) fn hears_leader(&self) -> bool {
        let hears = self.leader.is_some() && self.election_elapsed < self.options.election_ticks;
        hears || self.is_bound_by_lease()
    }

    /// True while a leader that this node has heard, in whatever term, in this boot or perhaps the one before, may
    /// answer reads because nobody else can be elected.
    fn is_bound_by_lease(&self) -> bool {
        let promises = self.options.lease.is_some() && !matches!(self.role, Role::Leader(_));
        promises && self.heard_elapsed < self.options.election_ticks
    }

    /// A leader that no quorum answers steps down, so that its clients look elsewhere.
    pub(super) fn check_quorum(&mut self) {
        let own = self.options.id;
        let Role::Leader(leader) = &mut self.role else { return };
        let progress = &leader.progress;
        let heard = |voter| voter == own || progress.get(&voter).is_some_and(|progress| progress.active);
        if !self.configurations.current().quorum_reached(heard) {
            return self.become_follower(self.term);
        }
        self.election_elapsed = 0;
        for progress in leader.progress.values_mut() {
            progress.active = false;
        }
    }
}
