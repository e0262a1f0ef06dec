//! Leadership transfer (thesis §3.10): a leader brings one voter up to date and asks it to campaign at once.
//!
//! In: an operator's wish. Out: the message that asks, and how it ended. Never: two leaders' worth of promises: from
//! the moment it asks, the leader's lease is over for the rest of its term, however the transfer ends, because
//! what it asked for may still arrive.
//!
//! While it lasts no proposal is taken, or the target might never be up to date. It ends when another leader is
//! heard, or after the least election timeout; then the leader, if it still leads, goes on as before.

use super::election::Why;
use super::progress::Flow;
use super::{Body, NodeId, Raft, Refusal, Reply, RequestId, Role, Term};

pub struct Handover {
    id: RequestId,
    target: NodeId,
    /// Ticks since it began.
    elapsed: u32,
    /// The target was asked to campaign.
    asked: bool,
}

impl Raft {
    /// Without a target, to whichever voter is the furthest.
    pub(super) fn transfer(&mut self, id: RequestId, to: Option<NodeId>) {
        let own = self.options.id;
        if !matches!(self.role, Role::Leader(_)) {
            let leader = self.leader;
            return self.effects.reply.push(Reply::NotLeader { id, leader });
        }
        if to == Some(own) {
            return self.effects.reply.push(Reply::Transferred { id });
        }
        let target = match to {
            Some(to) => Some(to).filter(|to| self.configurations.current().voters.contains(to)),
            None => self.best_voter(),
        };
        let why = match target {
            _ if self.handover.is_some() => Refusal::HandingOver,
            None => Refusal::NoSuccessor,
            Some(target) => {
                self.handover = Some(Handover { id, target, elapsed: 0, asked: false });
                return self.advance_handover();
            }
        };
        self.effects.reply.push(Reply::Refused { id, why });
    }

    /// Asks the target once it holds all of the leader's log.
    pub(super) fn advance_handover(&mut self) {
        let last = self.log.last().index;
        let (Role::Leader(leader), Some(handover)) = (&self.role, &mut self.handover) else { return };
        let Some(progress) = leader.progress.get(&handover.target) else {
            return self.end_handover(false);
        };
        if !handover.asked && progress.match_index == last {
            handover.asked = true;
            let target = handover.target;
            self.ask_to_campaign(target);
        }
    }

    pub(super) fn ask_to_campaign(&mut self, target: NodeId) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.lease_given_up = true;
        self.send(target, Body::TimeoutNow);
    }

    pub(super) fn tick_handover(&mut self) {
        let Some(handover) = &mut self.handover else { return };
        handover.elapsed += 1;
        let Handover { elapsed, asked, target, .. } = *handover;
        if elapsed >= self.options.election_ticks {
            self.end_handover(false);
        } else if asked && elapsed % self.options.heartbeat_ticks.max(1) == 0 {
            self.ask_to_campaign(target);
        }
    }

    /// Another leads now, or this node does again.
    pub(super) fn handed_over_to(&mut self, leader: NodeId) {
        if let Some(handover) = &self.handover {
            self.end_handover(handover.target == leader);
        }
    }

    fn end_handover(&mut self, done: bool) {
        let Some(Handover { id, asked, .. }) = self.handover.take() else { return };
        self.effects.reply.push(match done {
            true => Reply::Transferred { id },
            false => Reply::NotTransferred { id, asked },
        });
    }

    /// The leader of this term asks this node to stand for election at once.
    pub(super) fn timeout_now(&mut self, from: NodeId, term: Term) {
        if self.follows(from, term) && self.may_campaign() {
            self.campaign(Why::Asked);
        }
    }

    /// Another than this node, heard of late, with the longest log; the first of several.
    pub(super) fn best_voter(&self) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let voters = self.configurations.current().voters.iter();
        let follows = voters.filter_map(|id| leader.progress.get(id).map(|progress| (*id, progress)));
        let follows = follows.filter(|(_, progress)| matches!(progress.flow, Flow::Replicate(_)));
        let best = follows.max_by_key(|(id, progress)| (progress.match_index, std::cmp::Reverse(*id)));
        best.map(|(id, _)| id)
    }
}
