//! Intent: what a scenario says, with every default spelled out, and the plan a seed makes of it.
//!
//! In: YAML and a seed. Out: [`Scenario`] and [`Plan`], plain values. Never: a process, a socket, a clock.

mod fact;
mod faults;
mod fields;
mod kinds;
mod leaf;
mod limits;
mod links;
mod manner;
mod moves;
mod name;
mod needs;
mod pinned;
mod plan;
mod planning;
mod problem;
mod read;
mod rule;
mod rules;
mod schedule;
mod seed;
mod step;
mod swarm;
mod tree;
mod whom;
mod words;
mod write;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use fact::{By, Fact, UnknownBy, UnknownFact, Watch};
pub use kinds::{Append, Bank, Counter, Lock, Particular, Register, Set, WorkloadKind};
pub use limits::{ANY, Limits};
pub use links::{Links, Shape, Side, UnknownLinks};
pub use manner::{
    CRASHES_MAX, Clocks, Direction, DiskCall, Distribution, Healing, Manner, Ops, Part, Stored,
};
pub use name::{Name, UnknownName};
pub use needs::Need;
pub use plan::{Plan, PlanError};
pub use problem::{Problem, ScenarioError};
pub use rule::{
    After, Choice, Deed, Fault, Faults, Move, On, Phase, Phases, Rule, Schedule, Script, Trigger, Weighted,
};
pub use seed::stream;
pub use step::{Act, Heal, Hold, Step, UnknownHeal};
pub use words::{FAULT_FORMS, FaultForm, HoldForm, LinksForm, UnknownTarget, UnknownWhom};

/// A scenario as resolved: nothing is left to a default.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    pub name: String,
    /// The first line of the file: what this scenario claims.
    pub claim: String,
    pub cluster: Cluster,
    /// How long faults and load go on; healing and the last reads come after.
    pub duration: Duration,
    pub workload: Workload,
    pub keep: Keep,
    pub faults: Faults,
    pub expect: Expect,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Who vote from the beginning, named n1, n2, ...
    pub nodes: u32,
    /// Nodes named after them, which are no members until the cluster adds them.
    pub spares: u32,
    /// The least; each is drawn between this and its double.
    pub election_timeout: Duration,
    pub heartbeat: Duration,
    /// A node takes a snapshot when its log has grown by so many entries, or by so many bytes.
    pub compact_entries: u64,
    pub compact_bytes: u64,
    /// Bytes a second, of snapshots that a leader sends.
    pub snapshot_rate: u64,
    /// Of a file of a node's log.
    pub segment_bytes: u64,
    /// Whether a leader answers reads by its lease.
    pub leases: bool,
    pub disks: Disks,
}

/// What the nodes' data lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disks {
    /// The run folder itself.
    Plain,
    /// A file system of the harness, which keeps a ledger and can fail, hang and forget.
    Simulated,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// With what only this kind has.
    pub kind: WorkloadKind,
    pub clients: u32,
    /// Operations a second, of all clients together. With a closed loop, an upper bound.
    pub rate: u32,
    pub pacing: Pacing,
    pub placement: Placement,
    /// After this an operation is open for ever, and its process never invokes again.
    pub timeout: Duration,
    /// Connections that each client node link has.
    pub connections: u32,
}

/// When the next operation starts; `loop:` in YAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pacing {
    /// At its time, whatever became of those before.
    Open,
    /// When the client's last one has ended.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Each operation goes to a node drawn from the seed.
    Roam,
    /// To the node last named as leader.
    Leader,
    /// Client c asks node c modulo the number of nodes, and no other; `pinned` in YAML.
    Pinned,
    /// All clients ask this node (from 1); `n2` in YAML.
    Node(u32),
}

/// What no fault may take away: a strike that would is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    Nothing,
    /// Voters that run and reach each other, and are a majority of each configuration in force.
    Quorum,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// SIGKILL; started again on the same data after `down`.
    Kill,
    /// SIGSTOP; SIGCONT after `for`.
    Pause,
    /// SIGTERM; started again on the same data as soon as it has ended.
    Restart,
    /// SIGTERM; started again on the same data after `down`.
    Stop,
    /// Made a voter, by way of a learner; removed after `for`.
    Add,
    /// Made a learner; removed after `for`.
    Learn,
    /// Made no member; made again what it was after `for`.
    Remove,
    /// A spare votes in its place, in one change.
    Replace,
    /// It leads, because the leader handed over to it.
    Transfer,
    /// It takes a snapshot.
    Compact,
    /// Bytes wait until `for` is over.
    Cut,
    /// The same, of all links of a node with others.
    Isolate,
    /// Cut and healed again and again.
    Flaky,
    /// Bytes come late.
    Delay,
    /// Only so many bytes come in a second.
    Throttle,
    /// That a connection has ended is told late.
    SlowClose,
    /// Connections are reset, once.
    Reset,
    /// Connections are reset, and nobody can connect until `for` is over.
    Refuse,
    /// Connections end for the one side, and the other is not told until `for` is over.
    HalfOpen,
    /// SIGSTOP and SIGCONT in turn until `for` is over.
    Slow,
    /// SIGKILL and a start on the same data, again and again until `for` is over.
    CrashLoop,
    /// SIGTERM and a start on the same data, of one node after the other.
    Roll,
    /// The same, and what starts is the next binary.
    Upgrade,
    /// Clients send it none of some operations until `for` is over.
    Withhold,
    /// SIGKILL, and its disk forgets what was not synced; started again on what is left after `down`.
    PowerLoss,
    /// A call to its disk fails, of which it may end; it runs again after `down`.
    Eio,
    /// Its disk takes longer until `for` is over.
    SlowDisk,
    /// Its disk answers nothing until `for` is over.
    HungDisk,
    /// Its disk has no room for more until `for` is over.
    FullDisk,
    /// SIGKILL, and a bit is another in a file; started after `down`, and mended if it refuses.
    BitFlip,
    /// SIGKILL, and a file is shorter; the same.
    Truncate,
    /// SIGKILL, and two blocks of a file are in each other's place; the same.
    SwapBlocks,
    /// The clocks of its processes jump; the wall clock jumps back after `for`.
    JumpClock,
    /// They go at another rate until `for` is over.
    DriftClock,
    /// It can open few descriptors more until `for` is over.
    Descriptors,
    /// It has no more memory than this until `for` is over.
    Memory,
    /// It has no more of a CPU than this until `for` is over.
    Cpu,
}

/// What a fault is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    Nodes(Target),
    Links(Links),
}

/// Of the members, and how many vote, is meant what is in force when the fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The node that leads.
    Leader,
    /// A voter that does not.
    Follower,
    /// A member that does not vote.
    Learner,
    /// A node that is no member.
    Spare,
    /// Any member.
    Random,
    /// As many voters as the rest can do without: (voters - 1) / 2, drawn.
    Minority,
    /// As few voters as leave no quorum: (voters + 1) / 2 rounded down, drawn.
    Majority,
    /// A node in the middle of writing a snapshot, taken or received.
    Snapshotting,
    /// Every node.
    All,
    /// This one (from 1).
    Node(u32),
    /// The one that the fact was about which was waited for.
    It,
    /// Those that an earlier move of this round of a script came to.
    Named(Name),
}

/// What must have happened for the verdicts to mean anything, and how soon and how much must be served.
#[derive(Debug, Clone, PartialEq)]
pub struct Expect {
    /// Operations that ended `ok`, at least.
    pub ok_min: u64,
    /// Terms with a leader, less one, at least.
    pub leader_changes_min: u64,
    /// The same, at most; more breaks the claim.
    pub leader_changes_max: Option<u64>,
    /// Snapshots that followers had from a leader and put in the place of their logs, at least.
    pub snapshots_installed_min: u64,
    /// Configurations that took effect and stayed, besides the first, at least: a change of the voters is two.
    pub config_changes_min: u64,
    /// A write succeeds within this after the last heal.
    pub recovers_within: Duration,
    /// An operation invoked after a fault struck succeeds within this, as long as a quorum is whole.
    pub serves_within: Limits,
    /// The same after a fault was undone.
    pub heals_within: Limits,
    /// Of the time in which a quorum was whole, the share in which there was service, at least.
    pub service_min_percent: u32,
}

impl Scenario {
    pub fn load(path: impl AsRef<Path>) -> Result<Scenario, ScenarioError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ScenarioError::Read { path: path.to_owned(), source })?;
        Scenario::parse(&path.display().to_string(), &text)
    }

    /// `file` is what messages call the text.
    pub fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        read::scenario(text).map_err(|problems| ScenarioError::Invalid {
            file: file.to_owned(),
            text: text.to_owned(),
            problems,
        })
    }
}
