//! The words of the core: identities, positions, entries, the messages of figure 2, and what goes in and out.
//!
//! In: nothing. Out: plain values. Never: a wire format (`transport` translates) or a file format (`storage`).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Identity of a node; written `n1`, `n2`, ...
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// A term of office; 0 is before the first election.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Term(pub u64);

/// A position in the log, from 1; 0 is before the first entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Index(pub u64);

impl Term {
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl Index {
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }

    /// The index before this one; that of 0 is 0.
    pub fn prev(self) -> Index {
        Index(self.0.saturating_sub(1))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "term {self}")
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{self}")
    }
}

/// Where an entry stands: two logs that share a position share all before it (Log Matching, §5.3).
///
/// Ordered as §5.4.1 compares logs: by term, then by index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    pub term: Term,
    pub index: Index,
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A new leader's first entry (§8).
    Noop,
    /// For the state machine.
    Command,
    /// A configuration; takes effect once appended (§6).
    Config,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub index: Index,
    pub term: Term,
    pub kind: EntryKind,
    pub payload: Arc<[u8]>,
}

impl Entry {
    pub fn position(&self) -> Position {
        Position { term: self.term, index: self.index }
    }

    /// Bytes this entry is counted for in windows and batches.
    pub fn size(&self) -> usize {
        self.payload.len() + 32
    }
}

/// What figure 2 calls persistent state, without the log. `commit` is a lower bound, kept for a quick start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    pub term: Term,
    pub vote: Option<NodeId>,
    pub commit: Index,
}

/// Who counts. `outgoing` is empty outside a joint configuration (§6).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Configuration {
    pub voters: BTreeSet<NodeId>,
    pub outgoing: BTreeSet<NodeId>,
    pub learners: BTreeSet<NodeId>,
}

/// What an operator wishes of the membership. What is so already is no mistake: a change may be asked for again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// These become learners.
    pub add: BTreeSet<NodeId>,
    /// These learners become voters.
    pub promote: BTreeSet<NodeId>,
    pub remove: BTreeSet<NodeId>,
}

/// Why a change cannot be, however long one waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    NamedTwice(NodeId),
    AlreadyVoter(NodeId),
    NoLearner(NodeId),
    NoVoters,
    TooMany(usize),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::NamedTwice(id) => write!(f, "{id} is named for two things"),
            Unfit::AlreadyVoter(id) => write!(f, "{id} is a voter, and no voter becomes a learner"),
            Unfit::NoLearner(id) => write!(f, "{id} is no learner, and only learners become voters"),
            Unfit::NoVoters => write!(f, "nobody would be left to vote"),
            Unfit::TooMany(most) => write!(f, "there would be more than {most} members"),
        }
    }
}

/// Why a leader does not do what an operator asks; nothing of it was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Nothing of its own term is committed yet.
    NotReady,
    ChangeUnderWay,
    HandingOver,
    /// Who is to be promoted lacks so many entries, or is not known to follow.
    Lagging {
        node: NodeId,
        lacks: u64,
    },
    /// There is nobody to hand over to, or who was named is no voter.
    NoSuccessor,
    Unfit(Unfit),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotReady => write!(f, "the leader has not committed in its own term yet"),
            Refusal::ChangeUnderWay => write!(f, "another change is under way"),
            Refusal::HandingOver => write!(f, "the leader is handing over"),
            Refusal::Lagging { node, lacks } => {
                write!(f, "{node} is not caught up: it lacks {lacks} entries, or is not known to follow")
            }
            Refusal::NoSuccessor => write!(f, "there is no such voter to hand over to"),
            Refusal::Unfit(unfit) => unfit.fmt(f),
        }
    }
}

/// A state of the machine that stands for all entries up to `position` (§7). Its bytes never enter the core.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    pub position: Position,
    /// The newest at or before `position`.
    pub configuration: Configuration,
    /// Length of the state.
    pub bytes: u64,
    /// Of the state: two with the same are the same, whoever took them.
    pub digest: u64,
}

impl Snapshot {
    /// How many chunks of at most this length its state goes in; an empty one takes one too.
    pub fn chunks(&self, chunk_bytes: u64) -> u64 {
        self.bytes.div_ceil(chunk_bytes).max(1)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    pub from: NodeId,
    pub to: NodeId,
    /// The sender's term; in the answer to a pre-vote the term it was asked in, unless the sender's is later.
    pub term: Term,
    pub body: Body,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// `pre`: asks whether an election could be won, and changes nobody's term (thesis §9.6).
    /// `asked`: the leader wishes it, so that who hears one votes all the same (thesis §4.2.3).
    RequestVote {
        pre: bool,
        asked: bool,
        last: Position,
    },
    VoteReply {
        pre: bool,
        granted: bool,
    },
    /// Without entries, a heartbeat. `round` names the confirmation of leadership it belongs to (thesis §6.4).
    Append {
        prev: Position,
        entries: Vec<Entry>,
        commit: Index,
        round: u64,
    },
    AppendReply {
        round: u64,
        outcome: AppendOutcome,
    },
    /// InstallSnapshot of §7, chunk by chunk; the bytes of chunk `number` go beside it, outside the core.
    Chunk {
        snapshot: Snapshot,
        /// The leader's name for this attempt.
        stream: u64,
        number: u64,
    },
    /// All chunks before `next` are there. That the snapshot is installed, only `Matched` says.
    ChunkReply {
        stream: u64,
        next: u64,
    },
    /// Campaign at once: the leader hands over to this node (thesis §3.10).
    TimeoutNow,
    /// What must a read have seen that this node answers (thesis §6.4)? `token` is of the asker's making.
    ReadIndex {
        token: u64,
    },
    /// None: the one who was asked does not lead.
    ReadIndexReply {
        token: u64,
        index: Option<Index>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendOutcome {
    /// The log agrees with the leader's up to here, durably.
    Matched(Index),
    /// There is no entry at the `Append`'s `prev`; `hint` is the newest position that could agree.
    Conflict { prev: Index, hint: Position },
}

impl Message {
    /// Bytes this message is counted for in batches.
    pub fn size(&self) -> usize {
        match &self.body {
            Body::Append { entries, .. } => entries.iter().map(Entry::size).sum(),
            _ => 0,
        }
    }
}

impl Body {
    /// True for what answers a request; it travels back on the stream on which the request came.
    pub fn is_reply(&self) -> bool {
        matches!(
            self,
            Body::VoteReply { .. }
                | Body::AppendReply { .. }
                | Body::ChunkReply { .. }
                | Body::ReadIndexReply { .. }
        )
    }
}

/// What must be on disk: all of it in one write and one sync, in the order of its fields.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Write {
    /// Cut the log after this index first.
    pub truncate_after: Option<Index>,
    pub begin: Option<Begin>,
    /// Consecutive; the first follows what is left of the log.
    pub entries: Vec<Entry>,
    pub hard_state: Option<HardState>,
}

/// From now on the log begins after `position`; a snapshot holds what was before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begin {
    pub position: Position,
    /// The whole log goes, also what is beyond `position`: the snapshot of another stands in its place (§7).
    pub clear: bool,
}

impl Write {
    pub fn is_empty(&self) -> bool {
        self.truncate_after.is_none()
            && self.begin.is_none()
            && self.entries.is_empty()
            && self.hard_state.is_none()
    }

    /// Joins a later write to this one: what it cuts is not written at all.
    pub fn absorb(&mut self, later: Write) {
        if let Some(after) = later.truncate_after {
            if self.entries.first().is_none_or(|first| after < first.index.prev()) {
                let earlier = self.truncate_after.unwrap_or(after);
                self.truncate_after = Some(earlier.min(after));
            }
            let kept = self.entries.partition_point(|entry| entry.index <= after);
            self.entries.truncate(kept);
        }
        if let Some(begin) = later.begin {
            self.absorb_begin(begin);
        }
        self.entries.extend(later.entries);
        self.hard_state = later.hard_state.or(self.hard_state);
    }

    fn absorb_begin(&mut self, begin: Begin) {
        let gone = self.entries.iter().take_while(|entry| entry.index <= begin.position.index).count();
        // As entries come after it in one write, a log that does not reach so far yet is cleared instead.
        let before = self.begin.is_some_and(|earlier| earlier.clear);
        let clear = begin.clear || before || gone > 0;
        if begin.clear {
            self.entries.clear()
        } else {
            drop(self.entries.drain(..gone))
        }
        if clear {
            self.truncate_after = None;
        }
        self.begin = Some(Begin { clear, ..begin });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(truncate_after: Option<u64>, entries: &[(u64, u64)]) -> Write {
        let entry = |&(index, term): &(u64, u64)| Entry {
            index: Index(index),
            term: Term(term),
            kind: EntryKind::Command,
            payload: [].into(),
        };
        let entries = entries.iter().map(entry).collect();
        Write { truncate_after: truncate_after.map(Index), entries, ..Write::default() }
    }

    fn begin(index: u64, term: u64, clear: bool) -> Write {
        let position = Position { index: Index(index), term: Term(term) };
        Write { begin: Some(Begin { position, clear }), ..Write::default() }
    }

    #[test]
    fn joined_writes_do_what_they_would_have_done_one_by_one() {
        let cases = [
            (write(None, &[(5, 1)]), write(None, &[(6, 1)]), write(None, &[(5, 1), (6, 1)])),
            (write(None, &[(5, 1), (6, 1)]), write(Some(5), &[(6, 2)]), write(None, &[(5, 1), (6, 2)])),
            // The whole of the earlier write is cut, and nothing of what was there before it.
            (write(None, &[(5, 1), (6, 1)]), write(Some(4), &[(5, 2)]), write(None, &[(5, 2)])),
            (write(None, &[(5, 1), (6, 1)]), write(Some(3), &[(4, 2)]), write(Some(3), &[(4, 2)])),
            (write(Some(4), &[(5, 1)]), write(Some(4), &[(5, 2)]), write(Some(4), &[(5, 2)])),
            (write(Some(4), &[(5, 1)]), write(Some(2), &[(3, 2)]), write(Some(2), &[(3, 2)])),
            (write(None, &[]), write(Some(2), &[(3, 2)]), write(Some(2), &[(3, 2)])),
        ];
        let after =
            |begin: Write, entries: &[(u64, u64)]| Write { entries: write(None, entries).entries, ..begin };
        let begins = [
            (write(None, &[(5, 1)]), begin(4, 1, false), after(begin(4, 1, false), &[(5, 1)])),
            (write(None, &[(5, 1), (6, 1)]), begin(5, 1, false), after(begin(5, 1, true), &[(6, 1)])),
            (write(Some(4), &[(5, 1)]), begin(5, 1, false), begin(5, 1, true)),
            (write(Some(4), &[(5, 1)]), begin(9, 2, true), begin(9, 2, true)),
            (begin(9, 2, true), write(None, &[(10, 2)]), after(begin(9, 2, true), &[(10, 2)])),
            (after(begin(9, 2, true), &[(10, 2)]), begin(10, 2, false), begin(10, 2, true)),
            (after(begin(9, 2, true), &[(10, 2)]), begin(10, 3, true), begin(10, 3, true)),
            (begin(3, 1, false), begin(4, 1, false), begin(4, 1, false)),
        ];
        for (mut first, second, both) in cases.into_iter().chain(begins) {
            first.absorb(second);
            assert_eq!(first, both);
        }
    }
}
