//! What a finding is about, as facts and not as words.
//!
//! In: what a check knows when it finds something. Out: [`About`], by which findings are linked to one another
//! (`causes`) and joined to the clients' operations (`joined`). Never: text, or anything that `results.json` holds.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use mkraft_proto::evidence::Digest;

use super::evidence::NodeRef;

/// Indices of a log.
pub type Indices = RangeInclusive<u64>;

/// An entry, wherever it stands: two nodes with the same one have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    pub index: u64,
    pub term: u32,
    pub digest: Digest,
}

/// The facts of one violation. Times are those of the evidence; `u64::MAX` for what a dump shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum About {
    /// Nothing that anything follows from, and that follows from nothing.
    #[default]
    Nothing,
    /// A process ended that nobody had asked to.
    Ended {
        node: NodeRef,
        /// It was the node's last one.
        last: bool,
    },
    /// A disk gave back an older term, or not the vote.
    HardStateLost {
        node: NodeRef,
        /// Those in which it may vote again.
        terms: Indices,
        at: u64,
    },
    /// A disk gave back less, or other entries, than it held.
    EntriesLost {
        node: NodeRef,
        entries: Indices,
        at: u64,
    },
    TermFell {
        node: NodeRef,
        from: u64,
        to: u64,
        at: u64,
    },
    TwoVotes {
        node: NodeRef,
        term: u64,
        candidates: [NodeRef; 2],
        /// Of the first vote and of the second.
        at: [u64; 2],
    },
    TwoLeaders {
        term: u64,
        leaders: [NodeRef; 2],
        at: u64,
    },
    /// A leader cut or overwrote its own log.
    OwnLogCut {
        node: NodeRef,
        term: u64,
        entries: Indices,
        at: u64,
    },
    /// Entries appended where a log did not end; `entries` are those that no line tells of, or that no line had cut.
    Unfit {
        node: NodeRef,
        entries: Indices,
        at: u64,
    },
    /// Two logs share index and term of an entry, and differ there or below.
    Conflict {
        nodes: [NodeRef; 2],
        entries: [EntryId; 2],
        /// Index and term at which log matching is lost: those of the entries when these differ, else those of the
        /// first entry that both logs have by index and term after they have parted.
        lost_at: (u64, u64),
    },
    /// A leader committed by its own count what a quorum did not have.
    CommitShort {
        leader: NodeRef,
        term: u64,
        commits: Vec<Indices>,
        /// Nodes that lacked each of them.
        lacking: Vec<NodeRef>,
        /// How many more would have been needed, at most.
        short_by: usize,
        /// When those that lacked it had one of the same index and term, enough of them for a quorum: the terms in
        /// which their logs and the leader's first clash.
        clashes: BTreeSet<u64>,
        at: u64,
    },
    /// A leader committed an entry of an older term by counting (figure 8).
    CommitForeign {
        term: u64,
        commits: Vec<Indices>,
        at: u64,
    },
    /// A new leader lacks what an earlier term had committed.
    Incomplete {
        leader: NodeRef,
        term: u64,
        voters: Vec<NodeRef>,
        /// In which it was known to be committed.
        committed_in: u64,
        lacks: Indices,
        /// What stood in the leader's log in their place.
        own: Vec<EntryId>,
        /// Where its log and the committed one first have an entry of the same index and term after they have parted.
        clash: Option<u64>,
        at: u64,
    },
    /// Applied before the node knew it to be committed.
    AppliedEarly {
        node: NodeRef,
        entries: Vec<Indices>,
        at: u64,
    },
    /// Applied out of order, or not what the node's own log holds.
    AppliedWrong {
        entries: Indices,
        at: u64,
    },
    /// Two different entries were applied at one index; the second node is the one that is new to it.
    Diverged {
        nodes: [NodeRef; 2],
        entries: [EntryId; 2],
        at: u64,
    },
    /// One write took effect as two entries.
    Twice {
        ticket: (u64, u64),
        nodes: [NodeRef; 2],
        indices: [u64; 2],
    },
    /// An entry took effect on one node and not on another.
    OutcomeDiffers {
        nodes: [NodeRef; 2],
        index: u64,
    },
    /// What had failed for certain took effect. The operation is a place in the history's operations.
    FailedTookEffect {
        operation: usize,
        index: u64,
    },
    /// An acknowledged write is not in the log, or was never applied.
    WriteLost {
        operation: usize,
        entry: Option<EntryId>,
        applied_by: Option<NodeRef>,
        lacking: Vec<NodeRef>,
    },
    /// Clients saw what no order explains; places in the history's operations.
    Unordered {
        operations: Vec<usize>,
    },
    /// Nothing was served again in time.
    NotServed,
}

impl About {
    /// When it showed; none when no line of evidence has a time for it.
    pub fn at(&self) -> Option<u64> {
        use About::*;
        match self {
            HardStateLost { at, .. }
            | EntriesLost { at, .. }
            | TermFell { at, .. }
            | TwoVotes { at: [_, at], .. }
            | TwoLeaders { at, .. }
            | OwnLogCut { at, .. }
            | Unfit { at, .. }
            | CommitShort { at, .. }
            | CommitForeign { at, .. }
            | Incomplete { at, .. }
            | AppliedEarly { at, .. }
            | AppliedWrong { at, .. }
            | Diverged { at, .. } => Some(*at).filter(|&at| at != u64::MAX),
            _ => None,
        }
    }

    /// The indices whose entries it touches.
    pub fn indices(&self) -> Vec<Indices> {
        use About::*;
        match self {
            EntriesLost { entries, .. }
            | OwnLogCut { entries, .. }
            | Unfit { entries, .. }
            | AppliedWrong { entries, .. }
            | Incomplete { lacks: entries, .. } => vec![entries.clone()],
            CommitShort { commits: entries, .. }
            | CommitForeign { commits: entries, .. }
            | AppliedEarly { entries, .. } => entries.clone(),
            Conflict { entries, .. } | Diverged { entries, .. } => {
                vec![entries[0].index..=entries[0].index]
            }
            Twice { indices, .. } => indices.iter().map(|&index| index..=index).collect(),
            OutcomeDiffers { index, .. } | FailedTookEffect { index, .. } => vec![*index..=*index],
            WriteLost { entry: Some(entry), .. } => vec![entry.index..=entry.index],
            _ => Vec::new(),
        }
    }
}

/// True when one of the stretches holds the index.
pub fn hold(stretches: &[Indices], index: u64) -> bool {
    stretches.iter().any(|stretch| stretch.contains(&index))
}

/// True when they have an index in common.
pub fn meet(one: &Indices, other: &Indices) -> bool {
    one.start() <= other.end() && other.start() <= one.end()
}

/// Adds a stretch that begins where the last one ended, or later, without counting one index a piece.
pub fn extend(stretches: &mut Vec<Indices>, more: Indices) {
    match stretches.last_mut() {
        Some(last) if *more.start() <= last.end().saturating_add(1) && more.start() >= last.start() => {
            *last = *last.start()..=*last.end().max(more.end());
        }
        _ => stretches.push(more),
    }
}
