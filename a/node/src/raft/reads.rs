//! Linearizable reads without a log write: ReadIndex and leases (thesis §6.4).
//!
//! In: reads, of this node's clients or of another node's. Out: which of them the state may answer.
//!
//! A read may be answered from the state at its read index once a quorum has confirmed, after the read
//! arrived, that its leader still led. Confirmation goes in numbered rounds of the leader's own making, one
//! at a time: reads that arrive while one is under way share the next. Every append carries the number of
//! the last round, so that under load the appends themselves confirm.
//!
//! With leases, each heartbeat is a round too, and for some time from its *begin* a quorum that confirmed it
//! elects nobody else: each has promised to hear no candidate for the least election timeout after it heard its
//! leader. Within that time the leader answers at once. This rests on clocks: [`Options::lease`](super::Options) must be
//! shorter than the shortest time in which any node's ticks fill that timeout, less one tick, which may come early.

use std::collections::{BTreeMap, VecDeque};

use super::{Body, Index, Leader, NodeId, Raft, Reply, RequestId, Role, SplitMix64, Term};

/// Reads that wait for the next round; beyond it they are refused as busy.
const WAITING_MAX: usize = 1 << 16;

/// Rounds whose begin is remembered; an answer to an older one renews no lease.
const ROUNDS_MAX: usize = 64;

/// Questions of this node that its leader has not answered; beyond it, reads are refused as busy.
const FORWARDED_MAX: usize = 1 << 10;

/// Who wants to read.
#[derive(Clone, Copy)]
enum Reader {
    /// A client of this node.
    Own(RequestId),
    /// Another node, for clients of its own.
    Peer(NodeId, u64),
}

#[derive(Default)]
pub struct Reads {
    /// The last round begun; 0 before the first.
    round: u64,
    /// When the newest rounds began.
    begun: VecDeque<(u64, u64)>,
    /// The round that those asked for wait for.
    asked_round: u64,
    asked: VecDeque<Reader>,
    /// For the next round.
    waiting: VecDeque<Reader>,
}

impl Reads {
    pub fn round(&self) -> u64 {
        self.round
    }

    /// On the leader's clock.
    pub fn begun_at(&self, round: u64) -> Option<u64> {
        self.begun.iter().rfind(|begun| begun.0 == round).map(|begun| begun.1)
    }

    fn begin(&mut self, now: u64) {
        self.round += 1;
        self.begun.push_back((self.round, now));
        if self.begun.len() > ROUNDS_MAX {
            self.begun.pop_front();
        }
    }
}

/// Reads whose index the leader is asked for, under tokens that no other boot of this node has used.
pub struct Forwarded {
    tokens: SplitMix64,
    /// By token: who reads, and the ticks since the leader was asked.
    asked: BTreeMap<u64, (Vec<RequestId>, u32)>,
    /// The index is known, and not reached yet; with the ticks since it is known.
    waiting: Vec<(Index, Vec<RequestId>, u32)>,
}

impl Forwarded {
    pub fn new(seed: u64) -> Forwarded {
        // Another stream of numbers than that of the election timeouts.
        let tokens = SplitMix64(seed ^ 0x7265_6164);
        Forwarded { tokens, asked: BTreeMap::new(), waiting: Vec::new() }
    }
}

impl Raft {
    pub(super) fn read(&mut self, ids: Vec<RequestId>) {
        if !matches!(self.role, Role::Leader(_)) {
            return self.refuse(ids);
        }
        ids.into_iter().for_each(|id| self.take_read(Reader::Own(id)));
        self.confirm_reads();
    }

    fn take_read(&mut self, reader: Reader) {
        let leased = self.lease_holds();
        let Role::Leader(leader) = &mut self.role else { return self.answer_read(reader, false) };
        if leased {
            self.answer_read(reader, true);
        } else if leader.reads.waiting.len() < WAITING_MAX {
            leader.reads.waiting.push_back(reader);
        } else {
            match reader {
                Reader::Own(id) => self.effects.reply.push(Reply::Busy { id }),
                Reader::Peer(..) => self.answer_read(reader, false),
            }
        }
    }

    /// Answers the reads of a confirmed round, and begins the next round where reads wait for one.
    pub(super) fn confirm_reads(&mut self) {
        let (own, now) = (self.options.id, self.now);
        loop {
            let Role::Leader(leader) = &mut self.role else { return };
            let Leader { reads, progress, first, .. } = &mut **leader;
            if !reads.asked.is_empty() {
                let round = reads.round;
                let reached =
                    |voter| progress.get(&voter).map_or(if voter == own { round } else { 0 }, |p| p.round);
                if self.configurations.current().quorum_reached(reached) < reads.asked_round {
                    return;
                }
                // All that is committed is applied before replies go out, and commit only grew since the
                // round began: the state is at the read index or beyond it.
                for reader in std::mem::take(&mut reads.asked) {
                    self.answer_read(reader, true);
                }
                continue;
            }
            // Until its own first entry is committed, a leader may not know all that is (§8).
            if reads.waiting.is_empty() || self.commit < *first {
                return;
            }
            reads.begin(now);
            reads.asked_round = reads.round;
            reads.asked = std::mem::take(&mut reads.waiting);
            self.heartbeat();
        }
    }

    fn answer_read(&mut self, reader: Reader, leads: bool) {
        let (leader, commit) = (self.leader, self.commit);
        match reader {
            Reader::Own(id) if leads => self.effects.reply.push(Reply::Readable { id }),
            Reader::Own(id) => self.effects.reply.push(Reply::NotLeader { id, leader }),
            Reader::Peer(peer, token) => {
                let index = leads.then_some(commit);
                self.send_durable(peer, Body::ReadIndexReply { token, index });
            }
        }
    }

    /// Of a leadership that is over.
    pub(super) fn refuse_reads(&mut self, reads: Reads) {
        for reader in reads.asked.into_iter().chain(reads.waiting) {
            self.answer_read(reader, false);
        }
    }

    // Leases.

    /// With each heartbeat.
    pub(super) fn begin_lease(&mut self) {
        if let (Some(_), Role::Leader(leader)) = (self.options.lease, &mut self.role) {
            leader.reads.begin(self.now);
        }
    }

    /// True when no other can have been elected before now.
    fn lease_holds(&self) -> bool {
        let (Some(span), Role::Leader(leader)) = (self.options.lease, &self.role) else { return false };
        let (own, now) = (self.options.id, self.now);
        let confirmed = |voter| match leader.progress.get(&voter) {
            Some(progress) => progress.confirmed_at,
            None if voter == own => now,
            None => 0,
        };
        let since = self.configurations.current().quorum_reached(confirmed);
        let free = leader.lease_given_up || self.handover.is_some() || self.commit < leader.first;
        !free && since > 0 && now < since.saturating_add(span)
    }

    // Reads that another node answers (thesis §6.4).

    pub(super) fn read_here(&mut self, ids: Vec<RequestId>) {
        if matches!(self.role, Role::Leader(_)) {
            return self.read(ids);
        }
        let Some(leader) = self.leader else { return self.refuse(ids) };
        if self.forwarded.asked.len() >= FORWARDED_MAX {
            return self.effects.reply.extend(ids.into_iter().map(|id| Reply::Busy { id }));
        }
        let token = self.forwarded.tokens.next();
        self.forwarded.asked.insert(token, (ids, 0));
        self.send_durable(leader, Body::ReadIndex { token });
    }

    /// A question of another node.
    pub(super) fn read_index(&mut self, from: NodeId, term: Term, token: u64) {
        if term < self.term {
            return self.answer_read(Reader::Peer(from, token), false);
        }
        self.take_read(Reader::Peer(from, token));
        self.confirm_reads();
    }

    pub(super) fn read_index_reply(&mut self, token: u64, index: Option<Index>) {
        let Some((ids, _)) = self.forwarded.asked.remove(&token) else { return };
        match index {
            Some(index) => self.forwarded.waiting.push((index, ids, 0)),
            None => self.refuse(ids),
        }
        self.answer_forwarded();
    }

    /// Answers what this node's commit has reached.
    pub(super) fn answer_forwarded(&mut self) {
        let commit = self.commit;
        for (_, ids, _) in self.forwarded.waiting.extract_if(.., |(index, ..)| *index <= commit) {
            self.effects.reply.extend(ids.into_iter().map(|id| Reply::Readable { id }));
        }
    }

    /// Gives up on questions that were lost, or whose leader is, and on what this node may never come to know.
    pub(super) fn tick_forwarded(&mut self) {
        let patience = self.options.election_ticks;
        let mut lost = Vec::new();
        self.forwarded.asked.retain(|_, (ids, elapsed)| {
            *elapsed += 1;
            if *elapsed > patience {
                lost.append(ids);
            }
            *elapsed <= patience
        });
        self.forwarded.waiting.retain_mut(|(_, ids, elapsed)| {
            *elapsed += 1;
            if *elapsed > patience {
                lost.append(ids);
            }
            *elapsed <= patience
        });
        self.refuse(lost);
    }

    /// A node that has come to lead asks itself.
    pub(super) fn forward_again(&mut self) {
        let asked = std::mem::take(&mut self.forwarded.asked);
        asked.into_values().for_each(|(ids, _)| self.read(ids));
    }

    fn refuse(&mut self, ids: Vec<RequestId>) {
        let leader = self.leader;
        self.effects.reply.extend(ids.into_iter().map(|id| Reply::NotLeader { id, leader }));
    }
}
