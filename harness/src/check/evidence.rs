//! All that a run left behind, in a compact form that every check reads.
//!
//! In: a run folder (`reading` does it). Out: [`Evidence`]: the facts of each node in their order, what is missing
//! among them, the history, the plan. Never: a judgement, a time of day, a path outside the folder.

use std::ops::BitOr;
use std::sync::Arc;

use mkraft_proto::evidence::{Digest, EntryKind, Outcome, Role};

pub use super::pool::{Held, Span};
use super::verdict::Witness;
use crate::history::History;
use crate::history::folder::{End, RunInfo};
use crate::scenario::{Plan, Scenario};

#[derive(Debug)]
pub struct Evidence {
    pub info: RunInfo,
    pub scenario: Scenario,
    pub plan: Plan,
    pub history: History,
    pub nodes: Vec<Node>,
    pub gaps: Vec<Gap>,
    /// The names of the nodes, in their order, then others that lines speak of.
    pub(super) names: Vec<String>,
    /// Where times are counted from: the begin of the load.
    pub(super) epoch_ns: u64,
}

/// A node, or a name some line speaks of; below `nodes.len()` it is a place in `nodes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeRef(pub u32);

/// What one node wrote over all its boots.
#[derive(Debug, Default)]
pub struct Node {
    pub boots: Vec<Boot>,
    /// Read from its disk when it had stopped: a boot fact and the log.
    pub dump: Option<Boot>,
    /// Of all nodes together.
    pub(super) held: Arc<Vec<Held>>,
    pub(super) applied: Arc<Vec<Applied>>,
    pub(super) entries: usize,
    pub(super) applications: usize,
}

/// One file of evidence.
#[derive(Debug)]
pub struct Boot {
    /// From the folder's root.
    pub file: String,
    pub facts: Vec<Fact>,
    /// From 1; 0 for a dump.
    pub number: u64,
    /// How the process ended, when it is known which process wrote this file.
    pub end: Option<End>,
    /// What the process found on its disk had been changed while it was down.
    pub damaged: bool,
}

#[derive(Debug)]
pub struct Fact {
    pub t: u64,
    /// From 1.
    pub line: u32,
    pub act: Act,
}

/// As in [`mkraft_proto::evidence::Event`], with entries kept apart. An `append` line whose entries
/// stand in several stretches of the pool is as many facts.
#[derive(Debug)]
pub enum Act {
    Boot(Box<BootAct>),
    Role {
        term: u64,
        role: Role,
    },
    Vote {
        term: u64,
        candidate: NodeRef,
    },
    Append {
        first: u64,
        entries: Span,
        recovered: bool,
    },
    Truncate {
        after: u64,
    },
    Commit {
        index: u64,
        term: u64,
    },
    Apply {
        first: u64,
        entries: Span,
    },
    Snapshot {
        index: u64,
        term: u64,
        /// Of the state.
        digest: Digest,
        installed: bool,
    },
    Config(Box<ConfigAct>),
    Stop,
    /// Not a line: here lines are missing, so what follows cannot be joined to what came before.
    Hole,
}

#[derive(Debug)]
pub struct BootAct {
    pub term: u64,
    pub vote: Option<NodeRef>,
    pub commit: u64,
    pub snapshot: u64,
    pub first: u64,
    pub last: u64,
}

#[derive(Debug)]
pub struct ConfigAct {
    /// The entry that holds it; 0 for what a cluster begins with.
    pub index: u64,
    pub voters: Vec<NodeRef>,
    pub outgoing: Vec<NodeRef>,
    pub learners: Vec<NodeRef>,
}

/// An entry as appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub digest: Digest,
    pub term: u32,
    pub kind: EntryKind,
}

/// An entry as applied; session and sequence are 0 when it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    pub digest: Digest,
    pub session: u64,
    pub sequence: u64,
    pub term: u32,
    pub outcome: Outcome,
}

/// Something is missing in the evidence.
#[derive(Debug, Clone)]
pub struct Gap {
    pub node: NodeRef,
    /// Lines of these kinds may be missing.
    pub lost: Kinds,
    pub text: String,
    pub witness: Witness,
}

/// A set of kinds of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u16);

impl Kinds {
    pub const NONE: Kinds = Kinds(0);
    pub const BOOT: Kinds = Kinds(1);
    pub const ROLE: Kinds = Kinds(1 << 1);
    pub const VOTE: Kinds = Kinds(1 << 2);
    pub const APPEND: Kinds = Kinds(1 << 3);
    pub const TRUNCATE: Kinds = Kinds(1 << 4);
    pub const COMMIT: Kinds = Kinds(1 << 5);
    pub const APPLY: Kinds = Kinds(1 << 6);
    pub const SNAPSHOT: Kinds = Kinds(1 << 7);
    pub const CONFIG: Kinds = Kinds(1 << 8);
    pub const STOP: Kinds = Kinds(1 << 9);
    pub const DUMP: Kinds = Kinds(1 << 10);
    /// Whatever a node writes while it runs.
    pub const EVENTS: Kinds = Kinds((1 << 10) - 1);
    /// What it takes to follow a node's log.
    pub const LOG: Kinds = Kinds(Kinds::BOOT.0 | Kinds::APPEND.0 | Kinds::TRUNCATE.0 | Kinds::SNAPSHOT.0);

    pub fn meets(self, other: Kinds) -> bool {
        self.0 & other.0 != 0
    }

    /// By the word that stands in `event`.
    pub fn of_word(word: &str) -> Option<Kinds> {
        Some(match word {
            "boot" => Kinds::BOOT,
            "role" => Kinds::ROLE,
            "vote" => Kinds::VOTE,
            "append" => Kinds::APPEND,
            "truncate" => Kinds::TRUNCATE,
            "commit" => Kinds::COMMIT,
            "apply" => Kinds::APPLY,
            "snapshot" => Kinds::SNAPSHOT,
            "config" => Kinds::CONFIG,
            "stop" => Kinds::STOP,
            _ => return None,
        })
    }
}

impl BitOr for Kinds {
    type Output = Kinds;
    fn bitor(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }
}

impl Boot {
    /// What the boot line says; none when the file does not begin with one.
    pub fn begin(&self) -> Option<&BootAct> {
        match self.facts.first()?.act {
            Act::Boot(ref act) => Some(act),
            _ => None,
        }
    }

    /// True when the node wrote `stop`: no act of it is without its line.
    pub fn stopped(&self) -> bool {
        matches!(self.facts.last(), Some(Fact { act: Act::Stop, .. }))
    }

    /// When a line was written; what a dump shows was there at a time nobody told.
    pub fn time_of(&self, fact: &Fact) -> u64 {
        if self.number == 0 { u64::MAX } else { fact.t }
    }

    /// True unless the process is known to have ended of its own will.
    pub fn may_have_been_killed(&self) -> bool {
        !matches!(self.end, Some(End::Stopped | End::Exit(_)))
    }
}

impl Node {
    /// The entries of an `append`, each with the log before it.
    pub fn appended(&self, span: Span) -> &[Held] {
        span.of(&self.held)
    }

    pub fn applied(&self, span: Span) -> &[Applied] {
        span.of(&self.applied)
    }

    /// Every boot, and then the dump: [`Node::file`] finds one by its place here.
    pub fn files(&self) -> impl Iterator<Item = &Boot> {
        self.boots.iter().chain(&self.dump)
    }

    pub fn file(&self, place: usize) -> Option<&Boot> {
        self.boots.get(place).or(self.dump.as_ref())
    }

    /// How many entries all lines of this node hold, again and again.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// How many applications all lines of this node hold.
    pub fn applications(&self) -> usize {
        self.applications
    }

    /// The last line up to a time that put something at an index, or the first one after it.
    ///
    /// Goes over all lines: for witnesses only.
    pub fn line_with(&self, index: u64, t: u64) -> Option<(&Boot, &Fact)> {
        let holds = |fact: &Fact| match fact.act {
            Act::Append { first, entries, .. } => {
                index.checked_sub(first).is_some_and(|place| place < u64::from(entries.len))
            }
            _ => false,
        };
        let before = self.facts().filter(|(_, fact)| fact.t <= t && holds(fact)).last();
        before.or_else(|| self.facts().find(|(_, fact)| holds(fact)))
    }

    /// All facts over all boots, in order, with the boot they are of.
    pub fn facts(&self) -> impl Iterator<Item = (&Boot, &Fact)> {
        self.boots.iter().flat_map(|boot| boot.facts.iter().map(move |fact| (boot, fact)))
    }
}

impl Evidence {
    pub fn name(&self, node: NodeRef) -> &str {
        &self.names[node.0 as usize]
    }

    /// One of the nodes of the run.
    pub fn node_named(&self, name: &str) -> Option<NodeRef> {
        self.nodes().map(|(node, _)| node).find(|&node| self.name(node) == name)
    }

    pub fn nodes(&self) -> impl Iterator<Item = (NodeRef, &Node)> {
        self.nodes.iter().enumerate().map(|(at, node)| (NodeRef(at as u32), node))
    }

    /// Gaps that may have swallowed lines of any of `kinds`.
    pub fn gaps_in(&self, kinds: Kinds) -> impl Iterator<Item = &Gap> {
        self.gaps.iter().filter(move |gap| gap.lost.meets(kinds))
    }

    /// True when no line of `kinds` of this node can be missing.
    pub fn is_whole(&self, node: NodeRef, kinds: Kinds) -> bool {
        !self.gaps_in(kinds).any(|gap| gap.node == node)
    }

    /// A time as it is told: seconds since the load began.
    pub fn at(&self, t: u64) -> String {
        seconds_since(self.epoch_ns, t)
    }

    /// Who counts until a `config` line says otherwise: every node of the run that is no spare.
    pub fn initial_voters(&self) -> Vec<NodeRef> {
        let cluster = &self.scenario.cluster;
        let spare =
            |name: &str| (1..=cluster.spares).any(|spare| name == format!("n{}", cluster.nodes + spare));
        self.nodes().map(|(node, _)| node).filter(|&node| !spare(self.name(node))).collect()
    }
}

/// `+7.410 s`
pub fn seconds_since(epoch_ns: u64, t: u64) -> String {
    let ns = i128::from(t) - i128::from(epoch_ns);
    format!("{:+.3} s", ns as f64 / 1e9)
}

/// The line of a fact, with the fact in words.
pub fn witness(boot: &Boot, fact: &Fact, text: impl Into<String>) -> Witness {
    Witness { file: boot.file.clone(), line: fact.line, text: text.into() }
}

/// A line of the history.
pub fn history_witness(line: u32, text: impl Into<String>) -> Witness {
    Witness { file: "history.jsonl".into(), line, text: text.into() }
}
