//! Honest users: what they do and when, whom they ask, what they write into the witness book.
//!
//! In: a workload, a seed, the addresses of the nodes, a recorder. Out: a history that keeps Jepsen's rules,
//! and [`Counters`]. Never: a fault, or a claim beyond what a user can know; a doubt is recorded as one.

mod ask;
mod generator;
mod last_reads;
mod load;
mod route;
mod sessions;
mod user;

pub use generator::{Action, Arrival, Generator, Request};
pub use load::{Counters, Load, Snapshot};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::scenario::{Mix, Pacing, Placement, Workload, WorkloadKind};

    pub fn workload() -> Workload {
        Workload {
            kind: WorkloadKind::Register,
            clients: 6,
            keys: 3,
            rate: 200,
            pacing: Pacing::Open,
            placement: Placement::Roam,
            timeout: Duration::from_secs(1),
            connections: 2,
            mix: Mix { read: 2, write: 2, cas: 1 },
        }
    }
}
