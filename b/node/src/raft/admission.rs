//! What of a peer's message can be true at all.
//!
//! In: a message, as it came. Out: whether a correct peer could have sent it to this node as it stands now.
//! Never: a change; a message that is not admitted counts for nothing, and neither does its term.
//!
//! Whatever passes here cannot make the handlers panic: positions are in order, terms are of the past, and
//! what a reply claims of this node's log is there.

use super::progress::Flow;
use super::{
    AppendOutcome, Body, Configuration, Entry, EntryKind, Index, Message, NodeId, Position, Raft, Role, Term,
};

/// How far a term may be ahead of this node's own: a century of elections, ten a second. Without a bound, one
/// message with the greatest term there is would end all elections for ever.
const TERM_LEAP_MAX: u64 = 1 << 35;

impl Raft {
    pub(super) fn admits(&self, message: &Message) -> bool {
        let Message { from, to, term, ref body } = *message;
        if to != self.options.id || from == to || term.0.saturating_sub(self.term.0) > TERM_LEAP_MAX {
            return false;
        }
        match body {
            // A candidate has raised its term, and its log holds nothing of the new one.
            Body::RequestVote { pre: false, last, .. } => last.term < term,
            Body::RequestVote { pre: true, last, .. } => last.term <= term,
            // Nobody agrees to what this node has not asked yet.
            Body::VoteReply { granted, .. } => !granted || term <= self.term,
            Body::Append { prev, entries, .. } => {
                // One of an earlier term may well deny what is committed by now; it will hear of the later term.
                let denied = || self.denies_leader(from, term) || self.denies_committed(*prev, entries);
                well_formed(*prev, entries, term) && (term < self.term || !denied())
            }
            Body::Chunk { snapshot, number, .. } => {
                let position = snapshot.position;
                let known = self.log.term_at(position.index).filter(|_| position.index <= self.commit);
                let denied =
                    self.denies_leader(from, term) || known.is_some_and(|known| known != position.term);
                let possible = position.index > Index(0) && position.term <= term && position.term > Term(0);
                possible
                    && *number < snapshot.chunks(self.options.chunk_bytes)
                    && snapshot.configuration.is_possible()
                    && (term < self.term || !denied)
            }
            // An answer to this node's own; what deposes it is an AppendReply.
            Body::ChunkReply { stream, next } => {
                term <= self.term && self.admits_chunk_reply(from, term, *stream, *next)
            }
            Body::TimeoutNow => term > Term(0) && (term < self.term || !self.denies_leader(from, term)),
            Body::ReadIndex { .. } => true,
            // Whoever knows a later term does not lead this one.
            Body::ReadIndexReply { index, .. } => term <= self.term || index.is_none(),
            Body::AppendReply { round, outcome } => self.admits_append_reply(term, *round, outcome),
        }
    }

    fn admits_append_reply(&self, term: Term, round: u64, outcome: &AppendOutcome) -> bool {
        if term > self.term {
            return matches!(outcome, AppendOutcome::Conflict { .. });
        }
        let Role::Leader(leader) = &self.role else { return true };
        let (AppendOutcome::Matched(index) | AppendOutcome::Conflict { prev: index, .. }) = *outcome;
        // Of who is no member any more it counts for nothing, but may well be true.
        term < self.term || (round <= leader.reads.round() && index <= self.log.last().index)
    }

    fn admits_chunk_reply(&self, from: NodeId, term: Term, stream: u64, next: u64) -> bool {
        let Role::Leader(leader) = &self.role else { return true };
        if term < self.term {
            return true;
        }
        leader.progress.get(&from).is_none_or(|progress| match &progress.flow {
            Flow::Snapshot(transfer) if transfer.stream == stream => transfer.admits(next),
            _ => stream <= leader.streams,
        })
    }

    /// True when another leads this term already (§5.2).
    fn denies_leader(&self, from: NodeId, term: Term) -> bool {
        term == self.term && self.leader.is_some_and(|leader| leader != from)
    }

    /// True when following this append would cut what is committed, which no leader may ask.
    fn denies_committed(&self, prev: Position, entries: &[Entry]) -> bool {
        let positions = std::iter::once(prev).chain(entries.iter().map(Entry::position));
        positions
            .take_while(|position| position.index <= self.commit)
            .any(|position| self.log.term_at(position.index).is_some_and(|term| term != position.term))
    }
}

/// From the leader of a term, consecutive after `prev`, in terms that never fall and are not of the future.
fn well_formed(prev: Position, entries: &[Entry], term: Term) -> bool {
    let mut before = prev;
    let ordered = entries.iter().all(|entry| {
        let follows = before.index.0.checked_add(1) == Some(entry.index.0);
        let rises = entry.term >= before.term && entry.term > Term(0);
        before = entry.position();
        let known = entry.kind != EntryKind::Config || Configuration::decode(&entry.payload).is_some();
        follows && rises && known
    });
    ordered && before.term <= term && term > Term(0)
}
