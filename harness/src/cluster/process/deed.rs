//! What an act on a node came to: a proof that it was done, or why it was not.
//!
//! In: what was seen of the node and of what it stands on. Out: plain values, and their words for the history. Never: an
//! act; who makes one says what became of it.

use std::fmt;
use std::time::Duration;

use super::{EFFECT_LIMIT, NodeState, SIGKILL, Trouble, disk};
use crate::cluster::keeper::GuardError;
use crate::cluster::orders::{Status, Stuttered};
use crate::disk::{Call, DiskError, Lost};

/// An act and its proof.
#[derive(Debug, Clone, PartialEq)]
pub struct Deed {
    pub node: String,
    pub pid: u32,
    pub start: u64,
    pub kind: DeedKind,
    /// From the signal to its proof.
    pub took: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub enum DeedKind {
    Started,
    /// Its end by SIGKILL was seen.
    Killed,
    /// Every thread was seen in state T.
    Paused {
        threads: usize,
    },
    /// No thread was in state T any more.
    Resumed,
    /// It ended after SIGTERM; `forced` when SIGKILL had to follow.
    Stopped {
        status: Status,
        forced: bool,
    },
    /// A stop was seen; it runs and is stopped in turn from now on.
    Slowed {
        stopped: Duration,
        running: Duration,
    },
    /// It runs on, and no thread is in state T.
    Steadied(Stuttered),
    /// Its end by SIGKILL was seen, and it was started again; and so on from now on.
    CrashLooped,
    /// Each of so many ends by SIGKILL was seen; it runs.
    CrashLoopEnded {
        kills: u64,
        /// It ended by itself before it was killed.
        others: u64,
        /// No more were allowed: it had run on since the last.
        spent: bool,
    },
    /// Its end by SIGKILL was seen, and its disk has forgotten this.
    LostPower(Lost),
    /// Its disk has failed a call, and so it ended, if it did.
    FailedByDisk {
        call: Call,
        nth: u64,
        ended: Option<Status>,
    },
    /// It had not ended.
    RanOn,
    /// So many calls have met it so far.
    TroubledByDisk {
        trouble: Trouble,
        met: u64,
    },
    /// So many met it; some may still wait.
    DiskHealed {
        trouble: Trouble,
        met: u64,
        waiting: u64,
    },
    /// Each descriptor that it opens from now on must be below this number.
    FewDescriptors {
        open: u64,
        limit: u64,
    },
    ManyDescriptors {
        open: u64,
        limit: u64,
    },
    LittleMemory {
        bytes: u64,
    },
    /// So many processes ended for want of it.
    MuchMemory {
        kills: u64,
    },
    /// Of one.
    LittleCpu {
        percent: u64,
    },
    /// In so many periods it was kept from a CPU.
    MuchCpu {
        throttled: u64,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum ActError {
    #[error("{node}: is {state:?} already")]
    Already { node: String, state: NodeState },
    #[error("{node}: ended by itself with {status}, before the order reached it")]
    EndedBefore { node: String, status: Status },
    #[error("{node}: was started again since, so that nothing of it is left")]
    Overtaken { node: String },
    #[error("{node}: pid {pid} not proven within {EFFECT_LIMIT:?}: {seen}")]
    Unproven { node: String, pid: u32, seen: String },
    #[error("{node}: its disk is {trouble} already")]
    DiskAlready { node: String, trouble: String },
    #[error("{node}: no call came that could fail: {call:?}")]
    NoCall { node: String, call: Call },
    #[error("{node}: {source}")]
    Disk { node: String, source: DiskError },
    #[error("{node}: no limit can be set: {reason}")]
    Limit { node: String, reason: String },
    #[error("{node}: {source}")]
    Guard { node: String, source: GuardError },
}

impl ActError {
    /// True when the order certainly had no effect.
    pub fn definite(&self) -> bool {
        match self {
            ActError::Already { .. }
            | ActError::EndedBefore { .. }
            | ActError::Overtaken { .. }
            | ActError::DiskAlready { .. }
            | ActError::NoCall { .. }
            | ActError::Limit { .. } => true,
            ActError::Disk { .. } => false,
            ActError::Guard { source, .. } => matches!(source, GuardError::Spawn { .. }),
            ActError::Unproven { .. } => false,
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Deed { node, pid, kind, took, .. } = self;
        match kind {
            DeedKind::Started => write!(f, "{node}: started as pid {pid}")?,
            DeedKind::Killed => write!(f, "{node}: pid {pid} ended by signal {SIGKILL}")?,
            DeedKind::Paused { threads } => {
                write!(f, "{node}: pid {pid} stopped, {threads} threads in state T")?
            }
            DeedKind::Resumed => write!(f, "{node}: pid {pid} runs again")?,
            DeedKind::Stopped { status, forced: false } => {
                write!(f, "{node}: pid {pid} ended with {status}")?
            }
            DeedKind::Stopped { status, forced: true } => {
                write!(f, "{node}: pid {pid} did not obey SIGTERM, ended with {status}")?;
            }
            DeedKind::Slowed { stopped, running } => {
                write!(
                    f,
                    "{node}: pid {pid} stopped for {stopped:?} at a time, running for {running:?}, a stop seen"
                )?;
            }
            DeedKind::Steadied(so_far) => return write!(f, "{node}: pid {pid} runs on, {so_far}"),
            DeedKind::CrashLooped => {
                write!(f, "{node}: ended by signal {SIGKILL}, started as pid {pid}, and so on")?;
            }
            DeedKind::CrashLoopEnded { kills, others, spent } => {
                write!(f, "{node}: {kills} times ended by signal {SIGKILL} and started again")?;
                if *others > 0 {
                    write!(f, ", {others} times by itself")?;
                }
                if *spent {
                    write!(f, ", as often as there may be in one loop, and ran on since")?;
                }
                return write!(f, ", runs as pid {pid}");
            }
            DeedKind::LostPower(lost) => write!(f, "{node}: pid {pid} ended by signal {SIGKILL}, {lost}")?,
            DeedKind::FailedByDisk { call, nth, ended } => {
                write!(f, "{node}: {}", disk::told_of_failure(*call, *nth, *ended))?;
            }
            DeedKind::RanOn => return write!(f, "{node}: runs on as pid {pid}"),
            DeedKind::TroubledByDisk { trouble, met: 0 } => {
                return write!(f, "{node}: its disk is {trouble}, no call has met it yet");
            }
            DeedKind::TroubledByDisk { trouble, met } => {
                write!(f, "{node}: its disk is {trouble}, met by {met} calls")?;
            }
            DeedKind::DiskHealed { trouble, met, waiting } => {
                write!(f, "{node}: its disk is not {trouble} any more, {met} calls met it in all")?;
                if *waiting > 0 {
                    write!(f, ", {waiting} still wait")?;
                }
            }
            DeedKind::FewDescriptors { open, limit } => {
                write!(f, "{node}: pid {pid} has {open} descriptors, and opens none from {limit} on")?;
            }
            DeedKind::ManyDescriptors { open, limit } => {
                write!(f, "{node}: pid {pid} has {open} descriptors, and opens them below {limit}")?;
            }
            DeedKind::LittleMemory { bytes } => {
                write!(f, "{node}: pid {pid} has {bytes} bytes of memory")?;
            }
            DeedKind::MuchMemory { kills } => {
                write!(f, "{node}: its memory has no limit, for which the kernel ended it {kills} times")?;
            }
            DeedKind::LittleCpu { percent } => write!(f, "{node}: pid {pid} has {percent}% of a CPU")?,
            DeedKind::MuchCpu { throttled } => {
                write!(f, "{node}: it has all of a CPU, from which it was kept in {throttled} periods")?;
            }
        }
        write!(f, " after {:.1} ms", took.as_secs_f64() * 1e3)
    }
}
