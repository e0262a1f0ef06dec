//! Raft as a pure state machine: leader election, log replication, linearizable reads, snapshots, membership.
//!
//! In: one [`Input`] at a time. Out: [`Effects`], carried out in field order by `driver`, its only caller.
//! Never: a clock, a disk, a socket, a thread, an `async`, a `Result`, unseeded randomness.
//!
//! Follows the extended Raft paper, §5 to §8, and Ongaro's thesis for pre-vote (§9.6), check-quorum (§6.2),
//! ReadIndex and leases (§6.4), leadership transfer (§3.10), membership (§4) and the leader's writing in parallel
//! with its followers (§10.2.1). Deviations:
//!
//! - A rejected append comes back with the newest position that could agree, not with one index less (§5.3
//!   allows it; `replication` has the argument).
//! - A voter that hears from a leader ignores candidates, whatever their term (thesis §4.2.3).
//! - Vote requests leave only once the candidate's own vote is durable, and it counts that vote only then.
//!
//! A bug panics with the facts. What a peer sent is the world: it is refused and counted, never trusted.

mod admission;
mod election;
mod handover;
mod interface;
mod log;
mod membership;
mod message;
mod progress;
mod quorum;
mod reads;
mod replication;
mod snapshot;

use std::collections::BTreeMap;

pub use interface::*;
pub use message::*;

use handover::Handover;
use log::Log;
use membership::Configurations;
use progress::Progress;
use quorum::Votes;
use reads::{Forwarded, Reads};
use snapshot::Receiving;

enum Role {
    Follower,
    PreCandidate(Votes),
    /// `vote_sequence` is the write that makes its own vote durable.
    Candidate {
        votes: Votes,
        vote_sequence: u64,
    },
    Leader(Box<Leader>),
}

struct Leader {
    /// Of every other member.
    progress: BTreeMap<NodeId, Progress>,
    /// The last of its own entries that its own disk holds.
    durable: Index,
    /// Its no-op: once this is committed, so is all that could have been committed before (§8).
    first: Index,
    reads: Reads,
    heartbeat_elapsed: u32,
    /// Attempts to send a snapshot, of all followers.
    streams: u64,
    /// Until the next tick.
    chunks_left: u64,
    /// Who waits for the change under way.
    change: Option<RequestId>,
    /// It asked another to campaign: nobody waits for its lease any more.
    lease_given_up: bool,
}

pub struct Raft {
    options: Options,
    term: Term,
    vote: Option<NodeId>,
    log: Log,
    commit: Index,
    /// Bytes of the entries that are committed and in no snapshot.
    committed_bytes: usize,
    /// The newest.
    snapshot: Snapshot,
    /// One was asked for.
    taking: bool,
    receiving: Option<Receiving>,
    configurations: Configurations,
    role: Role,
    leader: Option<NodeId>,
    handover: Option<Handover>,
    /// Reads of this node that its leader was asked for.
    forwarded: Forwarded,
    /// As [`Input::Clock`] last said.
    now: u64,
    /// Ticks since this node has heard a leader, of whatever term, or has booted and may have heard one before.
    heard_elapsed: u32,
    /// Ticks since a leader was heard, a vote was given or a campaign begun; for a leader, since it last
    /// counted its followers.
    election_elapsed: u32,
    /// Drawn anew at each campaign and change of term.
    election_timeout: u32,
    random: SplitMix64,
    writes: u64,
    /// The last write of this boot that is durable.
    written: u64,
    /// Ticks since a write was last finished, or begun after all were.
    writing_elapsed: u32,
    refused: u64,
    /// What the running step wants written.
    pending: Write,
    effects: Effects,
}

impl Raft {
    /// A follower. Its first [`Effects`] hold the entries known to be committed.
    pub fn new(options: Options, initial: Initial) -> (Raft, Effects) {
        let HardState { term, vote, commit } = initial.hard_state;
        let log = Log::new(initial.begin, initial.entries);
        let snapshot = initial.snapshot;
        assert!(
            log.holds(snapshot.position),
            "the disk holds a snapshot of {:?}, but its log is {:?} to {:?}",
            snapshot.position,
            log.begin(),
            log.last()
        );
        assert!(options.election_ticks > options.heartbeat_ticks, "a leader must be heard before a campaign");
        assert!(
            commit <= log.last().index,
            "the disk holds commit {commit}, but the log ends at {:?}",
            log.last()
        );
        assert!(log.last().term <= term, "the log ends at {:?}, in a term after {term:?}", log.last());
        let options_seed = options.seed;
        let mut raft = Raft {
            random: SplitMix64(options.seed),
            options,
            term,
            vote,
            commit: snapshot.position.index,
            committed_bytes: 0,
            taking: false,
            receiving: None,
            configurations: {
                let index = snapshot.position.index;
                let first =
                    if index == Index(0) { initial.configuration } else { snapshot.configuration.clone() };
                Configurations::new(index, first, log.entries())
            },
            log,
            snapshot,
            role: Role::Follower,
            leader: None,
            handover: None,
            forwarded: Forwarded::new(options_seed),
            now: 0,
            // Who has never been in a term has heard nobody.
            heard_elapsed: if term == Term(0) { u32::MAX } else { 0 },
            election_elapsed: 0,
            election_timeout: 0,
            writes: 0,
            written: 0,
            writing_elapsed: 0,
            refused: 0,
            pending: Write::default(),
            effects: Effects::default(),
        };
        raft.restart_election_timer();
        raft.commit_to(commit.max(raft.commit));
        let effects = raft.take_effects();
        (raft, effects)
    }

    pub fn step(&mut self, input: Input) -> Effects {
        match input {
            Input::Tick => self.tick(),
            Input::Message(message) => self.receive(message),
            Input::Propose(proposals) => self.propose(proposals),
            Input::Read(ids) => self.read(ids),
            Input::ReadHere(ids) => self.read_here(ids),
            Input::Clock(now) => self.now = self.now.max(now),
            Input::Change(id, change) => self.change(id, &change),
            Input::Transfer(id, to) => self.transfer(id, to),
            Input::Compact => self.compact(),
            Input::Persisted(write) => self.persisted(write),
            Input::Snapshotted(snapshot) => self.snapshotted(snapshot),
            Input::Received(snapshot) => self.received(snapshot),
            Input::Unreceived(position) => self.unreceived(position),
        }
        self.take_effects()
    }

    pub fn status(&self) -> Status {
        Status {
            term: self.term,
            role: self.role_name(),
            leader: self.leader,
            last: self.log.last().index,
            commit: self.commit,
        }
    }

    pub fn vote(&self) -> Option<NodeId> {
        self.vote
    }

    /// The one in force, and the index of the entry that holds it: 0 for the one this node was started with.
    pub fn configuration(&self) -> (Index, &Configuration) {
        (self.configurations.index(), self.configurations.current())
    }

    /// The log after its begin.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.log.entries()
    }

    /// Messages refused because no correct peer could have sent them.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn role_name(&self) -> RoleName {
        match self.role {
            Role::Follower if !self.is_voter() => RoleName::Learner,
            Role::Follower => RoleName::Follower,
            Role::PreCandidate(_) => RoleName::PreCandidate,
            Role::Candidate { .. } => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    fn tick(&mut self) {
        self.election_elapsed = self.election_elapsed.saturating_add(1);
        self.heard_elapsed = self.heard_elapsed.saturating_add(1);
        let writing = self.written < self.writes;
        self.writing_elapsed = if writing { self.writing_elapsed.saturating_add(1) } else { 0 };
        let hangs = self.writing_elapsed >= self.options.election_ticks;
        self.tick_handover();
        self.tick_forwarded();
        if let Role::Leader(leader) = &mut self.role {
            leader.heartbeat_elapsed += 1;
            let heartbeat = leader.heartbeat_elapsed >= self.options.heartbeat_ticks;
            if hangs {
                // Others can serve better, and its disk may never write again.
                return self.become_follower(self.term);
            }
            if self.election_elapsed >= self.options.election_ticks {
                self.check_quorum();
            }
            if heartbeat {
                self.begin_lease();
                self.heartbeat();
            }
            self.tick_transfers();
        } else if self.election_elapsed >= self.election_timeout && self.may_campaign() && !hangs {
            self.pre_campaign();
        }
    }

    /// The rules for all servers of figure 2, then the handler of the message.
    fn receive(&mut self, message: Message) {
        if !self.admits(&message) {
            self.refused += 1;
            return;
        }
        let Message { from, term, body, .. } = message;
        if term > self.term && !matches!(body, Body::RequestVote { pre: true, .. }) {
            if matches!(body, Body::RequestVote { asked: false, .. }) && self.hears_leader() {
                return; // A removed or lonely node must not disturb (thesis §4.2.3).
            }
            self.become_follower(term);
        }
        match body {
            Body::RequestVote { pre: true, last, .. } => self.request_pre_vote(from, term, last),
            Body::VoteReply { pre: true, granted } if term == self.term => self.pre_vote_reply(from, granted),
            Body::RequestVote { pre: false, asked, last } => self.request_vote(from, term, asked, last),
            Body::VoteReply { pre: false, granted } if term == self.term => self.vote_reply(from, granted),
            Body::Append { prev, entries, commit, round } => {
                self.append(from, term, prev, entries, commit, round)
            }
            Body::AppendReply { round, outcome } if term == self.term => {
                self.append_reply(from, round, outcome)
            }
            Body::Chunk { snapshot, stream, number } => self.chunk(from, term, snapshot, stream, number),
            Body::ChunkReply { stream, next } if term == self.term => self.chunk_reply(from, stream, next),
            Body::TimeoutNow => self.timeout_now(from, term),
            Body::ReadIndex { token } => self.read_index(from, term, token),
            Body::ReadIndexReply { token, index } if term == self.term => self.read_index_reply(token, index),
            // Of an earlier term: counts for nothing.
            Body::VoteReply { .. }
            | Body::AppendReply { .. }
            | Body::ChunkReply { .. }
            | Body::ReadIndexReply { .. } => {}
        }
    }

    fn persisted(&mut self, write: WriteId) {
        if write.sequence > self.written {
            (self.written, self.writing_elapsed) = (write.sequence, 0);
        }
        if write.term != self.term {
            return;
        }
        let own = self.options.id;
        match &mut self.role {
            Role::Candidate { vote_sequence, .. } if write.sequence >= *vote_sequence => {
                self.vote_reply(own, true)
            }
            Role::Leader(leader) => {
                assert!(write.last >= leader.durable, "{write:?} shrinks a leader's durable log");
                leader.durable = write.last;
                self.advance_commit();
            }
            _ => {}
        }
    }

    fn become_follower(&mut self, term: Term) {
        assert!(term >= self.term, "{:?} would go back to {term:?}", self.term);
        if term > self.term {
            self.term = term;
            self.vote = None;
            self.write_hard_state();
        }
        self.leader = None;
        match std::mem::replace(&mut self.role, Role::Follower) {
            // A new term alone is no reason to wait longer: only a leader's word or a vote given is (§5.2).
            Role::Follower => {}
            Role::PreCandidate(_) | Role::Candidate { .. } => self.restart_election_timer(),
            Role::Leader(leader) => {
                self.restart_election_timer();
                let change = leader.change.map(|id| Reply::ChangeLost { id });
                self.effects.reply.extend(change);
                self.refuse_reads(leader.reads);
            }
        }
    }

    /// Hands out what is newly committed.
    fn commit_to(&mut self, index: Index) {
        if index > self.commit {
            assert!(
                index <= self.log.last().index,
                "commit {index} is beyond the log's {:?}",
                self.log.last()
            );
            for entry in self.log.range(self.commit.next(), index) {
                self.committed_bytes += entry.size();
                self.effects.apply.push(entry.clone());
            }
            self.commit = index;
            self.answer_forwarded();
            self.consider_snapshot();
        }
    }

    fn write_hard_state(&mut self) {
        self.pending.hard_state = Some(HardState { term: self.term, vote: self.vote, commit: self.commit });
    }

    /// The write that the running step's changes will be part of.
    fn next_write(&self) -> u64 {
        self.writes + 1
    }

    fn take_effects(&mut self) -> Effects {
        if !self.pending.is_empty() {
            // The commit index costs nothing where something is written anyway; in a record of its own it would.
            self.write_hard_state();
            self.writes = self.next_write();
            let id = WriteId { term: self.term, sequence: self.writes, last: self.log.last().index };
            self.effects.persist = Some(Persist { id, write: std::mem::take(&mut self.pending) });
        }
        std::mem::take(&mut self.effects)
    }

    fn send(&mut self, to: NodeId, body: Body) {
        let message = Message { from: self.options.id, to, term: self.term, body };
        self.effects.send.push(message);
    }

    fn send_durable(&mut self, to: NodeId, body: Body) {
        let message = Message { from: self.options.id, to, term: self.term, body };
        self.effects.send_durable.push(message);
    }

    fn restart_election_timer(&mut self) {
        self.election_elapsed = 0;
        let least = self.options.election_ticks;
        let patience = least.saturating_mul(self.options.patience);
        self.election_timeout = patience + least + (self.random.next() % u64::from(least)) as u32;
    }
}

/// Steele, Lea & Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
