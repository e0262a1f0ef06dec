//! The words between the harness and a disk of its: one JSON object a line, requests down, replies up.
//!
//! In: nothing. Out: plain values. Never: a mount or a pipe; see `process` (who obeys) and `keeper` (who asks).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::model::{Lost, Unsynced};
use crate::scenario::Distribution;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// Comes back in the reply.
    pub id: u64,
    pub request: Request,
}

/// What the harness asks; `Mount` first of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Request {
    Mount(Place),
    LosePower { draw: u64 },
    Fail(Fail),
    Slow(Slow),
    Hang,
    Full,
    Heal,
    Look,
    Unmount,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Replied {
    pub id: u64,
    pub reply: Reply,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reply {
    Mounted,
    Lost(Lost),
    Done,
    Look(Box<Look>),
    Refused {
        reason: String,
    },
    /// The last word of a disk.
    Unmounted,
}

/// Where a disk is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// An empty folder, over which it is mounted.
    pub mount: PathBuf,
    /// A folder of the disk's own on the machine's disk, which is made: `store/`, `ledger.jsonl`, `ledger.bytes`.
    pub beside: PathBuf,
    /// Of what its ledger keeps; none is kept with 0.
    pub ledger_bytes_max: u64,
}

/// Enough for a run of minutes.
pub const LEDGER_BYTES_MAX: u64 = 256 << 20;

impl Place {
    pub fn new(mount: impl Into<PathBuf>, beside: impl Into<PathBuf>) -> Place {
        Place { mount: mount.into(), beside: beside.into(), ledger_bytes_max: LEDGER_BYTES_MAX }
    }
}

/// What a node asks of its disk, as far as faults tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    Read,
    Write,
    /// Of a file or a folder.
    Sync,
    /// All else that reads or changes what is on the disk: names, lengths, space.
    Other,
}

/// The `nth` call of this kind from now on, 1 being the next, ends with EIO, and so do those after it, `times` in all.
/// A sync that fails has made nothing durable, and no later one makes durable what it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fail {
    pub call: Call,
    pub nth: u64,
    pub times: u64,
}

impl Fail {
    /// Once.
    pub fn nth(call: Call, nth: u64) -> Fail {
        Fail { call, nth, times: 1 }
    }
}

/// Every sync and write takes so much longer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slow {
    pub by: Duration,
    /// Of `by`: 0.5 is half of it.
    pub spread: f64,
    pub distribution: Distribution,
    /// Of the times that are drawn.
    pub seed: u64,
}

/// How many calls of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub reads: u64,
    pub writes: u64,
    pub syncs: u64,
    pub others: u64,
}

impl Counts {
    pub fn add(&mut self, call: Call) {
        *match call {
            Call::Read => &mut self.reads,
            Call::Write => &mut self.writes,
            Call::Sync => &mut self.syncs,
            Call::Other => &mut self.others,
        } += 1;
    }

    pub fn all(&self) -> u64 {
        self.reads + self.writes + self.syncs + self.others
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { reads, writes, syncs, others } = self;
        write!(f, "{reads} reads, {writes} writes, {syncs} syncs, {others} others")
    }
}

/// What was done to how many calls, since the disk was mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// CLOCK_MONOTONIC ns of this look.
    pub at: u64,
    pub calls: Counts,
    pub failed: Counts,
    pub slowed: Counts,
    /// By so much in all.
    pub slowed_ns: u64,
    /// Those that had to wait for a heal.
    pub hung: Counts,
    /// Those that wait now, as the disk is slow or hangs.
    pub waiting: u64,
    /// ENOSPC, or less written than was asked.
    pub refused: u64,
    pub power_losses: u64,
    /// Files and folders that are open.
    pub open: u64,
    pub unsynced: Unsynced,
    /// What files have space for.
    pub allocated_bytes: u64,
    pub store: StoreFailures,
    pub ledger: Kept,
}

/// How often the machine's own disk failed under this one. No node is to be blamed for what it did then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreFailures {
    pub count: u64,
    /// The first of them in words.
    pub first: Option<String>,
}

impl StoreFailures {
    pub(super) fn note(&mut self, what: &str) {
        self.count += 1;
        self.first.get_or_insert_with(|| what.to_owned());
    }
}

impl fmt::Display for StoreFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StoreFailures { count, first } = self;
        let times = if *count == 1 { "time" } else { "times" };
        write!(f, "its store on the machine's own disk failed {count} {times}")?;
        first.iter().try_for_each(|first| write!(f, ", at first so: {first}"))
    }
}

/// How much the ledger holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub calls: u64,
    pub bytes: u64,
    /// It has reached its bound, or could not be written: what came later is not in it.
    pub cut: bool,
}

/// CLOCK_MONOTONIC in nanoseconds: the clock of the history and of the nodes' evidence.
pub(super) fn now() -> u64 {
    // The call fails only for a clock that the kernel does not have.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or((0, 0), |t| (t.tv_sec(), t.tv_nsec()));
    time.0 as u64 * 1_000_000_000 + time.1 as u64
}
