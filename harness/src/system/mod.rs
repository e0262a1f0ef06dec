//! The system under test: how a node of it starts, is asked, is dumped.
//!
//! In: where a node lives. Out: what to launch, what a node says of itself. Never: a process; `cluster` has
//! the hands. What the harness knows of mkraft in particular stands in this room alone.

pub mod call;
pub mod client;
pub mod mkraft;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use mkraft::Mkraft;

/// Where a node lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `n1`, `n2`, ...
    pub name: String,
    pub listen: SocketAddr,
    /// Every other node, and where this one reaches it.
    pub peers: Vec<(String, SocketAddr)>,
    /// What it remembers; kept over its starts.
    pub data: PathBuf,
    /// What it writes down about itself; without, it writes nothing.
    pub events: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The least; each is drawn between this and its double.
    pub election_timeout: Duration,
    pub heartbeat: Duration,
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
