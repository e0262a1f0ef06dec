//! The system under test: how a node of it starts, is asked, is dumped.
//!
//! In: where a node lives. Out: what to launch, what a node says of itself. Never: a process; `cluster` has
//! the hands. What the harness knows of mkraft in particular stands in this room alone.

pub mod call;
pub mod client;
pub mod gates;
pub mod glimpse;
pub mod mkraft;
pub mod operator;
pub mod stored;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use mkraft::Mkraft;

use crate::scenario;

/// Where a node lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `n1`, `n2`, ...
    pub name: String,
    pub listen: SocketAddr,
    /// Every other node, and where this one reaches it.
    pub peers: Vec<(String, SocketAddr)>,
    /// Who votes in the beginning; none of them where a node is to join later.
    pub voters: Vec<String>,
    /// What it remembers; kept over its starts.
    pub data: PathBuf,
    /// What it writes down about itself; without, it writes nothing.
    pub events: Option<PathBuf>,
}

/// What all nodes are told alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The least; each is drawn between this and its double.
    pub election_timeout: Duration,
    pub heartbeat: Duration,
    /// A snapshot is due when the log has grown by so many entries, or by so many bytes.
    pub compact_entries: u64,
    pub compact_bytes: u64,
    /// Bytes of snapshots sent a second.
    pub snapshot_rate: u64,
    /// Of a file of the log.
    pub segment_bytes: u64,
    /// Whether a leader answers reads by its lease.
    pub leases: bool,
}

impl Settings {
    /// As a scenario has them.
    pub fn of(cluster: &scenario::Cluster) -> Settings {
        Settings {
            election_timeout: cluster.election_timeout,
            heartbeat: cluster.heartbeat,
            compact_entries: cluster.compact_entries,
            compact_bytes: cluster.compact_bytes,
            snapshot_rate: cluster.snapshot_rate,
            segment_bytes: cluster.segment_bytes,
            leases: cluster.leases,
        }
    }

    /// With the node's own defaults for all but the times.
    pub const fn timed(election_timeout: Duration, heartbeat: Duration) -> Settings {
        Settings {
            election_timeout,
            heartbeat,
            compact_entries: 256 << 10,
            compact_bytes: 64 << 20,
            snapshot_rate: 64 << 20,
            segment_bytes: 8 << 20,
            leases: false,
        }
    }
}

/// What a node says of itself when asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    pub term: u64,
    pub role: mkraft_proto::evidence::Role,
    /// As far as the node knows.
    pub leader: Option<String>,
    pub last: u64,
    pub commit: u64,
    pub applied: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    #[error(
        "no node at {}: build it with `cargo build --release`, or name it with --node",
        looked_at.display()
    )]
    NoProgram { looked_at: PathBuf },
    #[error("failed to read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{} --version` {reason}", program.display())]
    Version { program: PathBuf, reason: String },
}
