//! Linearizable reads without a log write: ReadIndex (thesis §6.4).
//!
//! A read may be answered from the state at its read index once a quorum has confirmed, after the read
//! arrived, that its leader still led. Confirmation goes in numbered rounds of the leader's own making, one
//! at a time: reads that arrive while one is under way share the next. Every append carries the number of
//! the last round, so that under load the appends themselves confirm.

use std::collections::VecDeque;

use super::{Leader, Raft, Reply, RequestId, Role};

/// Reads that wait for the next round; beyond it they are refused as busy.
const WAITING_MAX: usize = 1 << 16;

#[derive(Default)]
pub struct Reads {
    /// The last round begun; 0 before the first.
    round: u64,
    /// The last round that a quorum has confirmed.
    confirmed: u64,
    /// Of the round under way.
    asked: VecDeque<RequestId>,
    /// For the next round.
    waiting: VecDeque<RequestId>,
}

impl Reads {
    pub fn round(&self) -> u64 {
        self.round
    }

    pub fn into_ids(self) -> impl Iterator<Item = RequestId> {
        self.asked.into_iter().chain(self.waiting)
    }
}

impl Raft {
    pub(super) fn read(&mut self, ids: Vec<RequestId>) {
        let Role::Leader(leader) = &mut self.role else {
            let leader = self.leader;
            return self.effects.reply.extend(ids.into_iter().map(|id| Reply::NotLeader { id, leader }));
        };
        for id in ids {
            if leader.reads.waiting.len() < WAITING_MAX {
                leader.reads.waiting.push_back(id);
            } else {
                self.effects.reply.push(Reply::Busy { id });
            }
        }
        self.confirm_reads();
    }

    /// Answers the reads of a confirmed round, and begins the next round where reads wait for one.
    pub(super) fn confirm_reads(&mut self) {
        let own = self.options.id;
        loop {
            let Role::Leader(leader) = &mut self.role else { return };
            let Leader { reads, progress, first, .. } = &mut **leader;
            if reads.confirmed < reads.round {
                let round = reads.round;
                let reached =
                    |voter| progress.get(&voter).map_or(if voter == own { round } else { 0 }, |p| p.round);
                if self.configuration.quorum_reached(reached) < round {
                    return;
                }
                reads.confirmed = round;
                // All that is committed is applied before replies go out, and commit only grew since the
                // round began: the state is at the read index or beyond it.
                self.effects.reply.extend(reads.asked.drain(..).map(|id| Reply::Readable { id }));
            }
            // Until its own first entry is committed, a leader may not know all that is (§8).
            if reads.waiting.is_empty() || self.commit < *first {
                return;
            }
            reads.round += 1;
            reads.asked = std::mem::take(&mut reads.waiting);
            self.heartbeat();
        }
    }
}
