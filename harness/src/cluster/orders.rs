//! The words between the harness and its guard: one JSON object a line, requests down, replies up.
//!
//! In: nothing. Out: plain values. Never: a process or a pipe; see `guard` (who obeys) and `keeper` (who asks).

use std::fmt;
use std::path::PathBuf;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::ground::Ground;

/// What the harness asks. `id` comes back in the reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub(super) enum Request {
    Spawn {
        id: u64,
        launch: Launch,
    },
    Signal {
        id: u64,
        pid: u32,
        signal: Signal,
    },
    /// Stops the process and lets it run in turn, until it ends or is steadied.
    Stutter {
        id: u64,
        pid: u32,
        stopped_ns: u64,
        running_ns: u64,
    },
    /// What came of that so far.
    Look {
        id: u64,
        pid: u32,
    },
    /// Ends it; the process runs.
    Steady {
        id: u64,
        pid: u32,
    },
    /// Lets the process open so many descriptors beyond those it has; null: as many as when it was started.
    Descriptors {
        id: u64,
        pid: u32,
        spare: Option<u32>,
    },
}

/// What the guard says: `Ready` first of all, an answer to each request, and `Exited` once per spawned process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub(super) enum Reply {
    Ready {
        ground: Ground,
    },
    /// No ground could be claimed; the guard ends.
    Unready {
        error: String,
    },
    /// The program runs: its exec has succeeded.
    Spawned {
        id: u64,
        pid: u32,
    },
    NotSpawned {
        id: u64,
        error: String,
    },
    /// The kernel has taken the signal, for the whole process group.
    Signalled {
        id: u64,
    },
    /// To all that is asked of a process that stutters.
    Stuttered {
        id: u64,
        so_far: Stuttered,
    },
    /// How many it has open, and below which number each must be from now on.
    Descriptors {
        id: u64,
        open: u64,
        limit: u64,
    },
    NotLimited {
        id: u64,
        error: String,
    },
    /// There is no such process, for `Exited` was said before; or it does not stutter.
    Gone {
        id: u64,
    },
    /// The process has ended and was reaped; until this line, its pid cannot mean another process.
    Exited {
        pid: u32,
        exit: Exit,
    },
}

/// How a process starts: in a group of its own, standard input empty, output appended to files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub folder: PathBuf,
    pub stdout: PathBuf,
    pub stderr: PathBuf,
    /// Folders of groups of the kernel that it is put into before it runs. Those that are not there are made, and removed
    /// when the guard ends.
    pub groups: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Signal {
    Kill,
    Stop,
    Continue,
    Terminate,
}

/// What came of stopping a process and letting it run in turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stuttered {
    /// How often it was stopped.
    pub stops: u64,
    /// How many of these took effect for all its threads, by the kernel's word.
    pub seen: u64,
    /// How long it was stopped in all, of how long this has lasted.
    pub stopped_ns: u64,
    pub within_ns: u64,
}

impl fmt::Display for Stuttered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        let Stuttered { stops, seen, stopped_ns, within_ns } = *self;
        write!(f, "stopped {stops} times ({seen} seen) for {:.3} s of ", seconds(stopped_ns))?;
        write!(f, "{:.3} s", seconds(within_ns))
    }
}

/// How and when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub status: Status,
    /// CLOCK_MONOTONIC in nanoseconds, when the guard saw it: at or shortly after the end.
    pub at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Code(i32),
    Signal(i32),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Code(code) => write!(f, "exit code {code}"),
            Status::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// CLOCK_MONOTONIC in nanoseconds: the clock of the history and of the nodes' evidence.
pub(super) fn now() -> u64 {
    // The call fails only for a clock that the kernel does not have.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or((0, 0), |t| (t.tv_sec(), t.tv_nsec()));
    time.0 as u64 * 1_000_000_000 + time.1 as u64
}
