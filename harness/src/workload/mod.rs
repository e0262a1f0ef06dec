//! Honest users: what they do and when, whom they ask, what they write into the witness book.
//!
//! In: a workload, a seed, the addresses of the nodes, a recorder. Out: a history that keeps Jepsen's rules,
//! and [`Counters`]. Never: a fault, or a claim beyond what a user can know; a doubt is recorded as one.

mod ask;
mod generator;
mod kinds;
mod last_reads;
mod late;
mod load;
mod lore;
mod operation;
mod route;
mod sessions;
mod set_up;
mod text;
mod user;

pub use late::Lateness;
pub use load::{Counters, Load, Snapshot};

#[cfg(test)]
mod tests {
    use crate::scenario::{Scenario, Workload, WorkloadKind};

    pub fn workload() -> Workload {
        of("register").workload
    }

    /// Each with its defaults.
    pub fn all_kinds() -> impl Iterator<Item = WorkloadKind> {
        ["register", "set", "counter", "append", "bank", "lock"]
            .into_iter()
            .map(|word| of(word).workload.kind)
    }

    fn of(word: &str) -> Scenario {
        let text = format!("# A test.\nname: test\nduration: 9s\nworkload: {{ kind: {word} }}");
        Scenario::parse("test.yaml", &text).unwrap()
    }
}
