//! The run in numbers, for the report and for what a scenario expects.
//!
//! In: evidence. Out: [`Numbers`]. Never: a verdict.

use std::collections::{BTreeMap, BTreeSet};

use mkraft_proto::evidence::Role;
use serde::{Deserialize, Serialize};

use super::configurations::committed;
use super::evidence::{Act, Evidence};
use super::measured::Measured;
use super::recovery::recovery_seconds;
use crate::history::folder::NotStarted;
use crate::history::{Ended, StrikeOutcome};
use crate::scenario::Step;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// By function: `read`, `write`, ...
    pub functions: BTreeMap<String, Counts>,
    /// By kind of fault; heals are left out.
    pub faults: BTreeMap<String, Strikes>,
    /// Terms with a leader, less one.
    pub leader_changes: u64,
    /// Snapshots that nodes had from a leader and put in the place of their logs.
    #[serde(default)]
    pub snapshots_installed: u64,
    /// Configurations committed after the first, each another than the one before.
    #[serde(default)]
    pub config_changes: u64,
    /// From the last heal to the first write that succeeded after it.
    pub recovery_seconds: Option<f64>,
    #[serde(default, skip_serializing_if = "NotStarted::is_nothing")]
    pub not_started: NotStarted,
    /// Length of the load.
    pub load_seconds: Option<f64>,
    /// How soon and how much was served; none when no load is recorded.
    #[serde(default)]
    pub service: Option<Measured>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub ok: u64,
    pub fail: u64,
    pub info: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strikes {
    /// Steps of the plan.
    #[serde(default)]
    pub planned: u64,
    pub installed: u64,
    pub skipped: u64,
    /// Or without a line that says what came of it.
    pub indeterminate: u64,
}

impl Numbers {
    pub fn of(evidence: &Evidence) -> Numbers {
        let mut numbers = Numbers {
            recovery_seconds: recovery_seconds(evidence),
            service: Measured::of(evidence),
            not_started: evidence.info.not_started,
            ..Numbers::default()
        };
        for operation in &evidence.history.operations {
            let counts = match numbers.functions.get_mut(&*operation.f) {
                Some(counts) => counts,
                None => numbers.functions.entry(operation.f.to_string()).or_default(),
            };
            match operation.ended {
                Ended::Ok => counts.ok += 1,
                Ended::Fail => counts.fail += 1,
                Ended::Info => counts.info += 1,
            }
        }
        for (fault, _) in evidence.plan.steps.iter().filter_map(Step::fault) {
            numbers.faults.entry(fault.to_string()).or_default().planned += 1;
        }
        for strike in evidence.history.strikes.iter().filter(|strike| &*strike.f != "heal") {
            let strikes = numbers.faults.entry(strike.f.to_string()).or_default();
            match strike.completed.as_ref().and_then(|completed| completed.outcome) {
                Some(StrikeOutcome::Installed) => strikes.installed += 1,
                Some(StrikeOutcome::Skipped) => strikes.skipped += 1,
                Some(StrikeOutcome::Indeterminate) | None => strikes.indeterminate += 1,
            }
        }
        let facts = evidence.nodes.iter().flat_map(|node| node.facts());
        let terms: BTreeSet<u64> = facts
            .filter_map(|(_, fact)| match fact.act {
                Act::Role { term, role: Role::Leader } => Some(term),
                _ => None,
            })
            .collect();
        numbers.leader_changes = (terms.len() as u64).saturating_sub(1);
        let installed = evidence.nodes.iter().flat_map(|node| node.facts());
        let installed =
            installed.filter(|(_, fact)| matches!(fact.act, Act::Snapshot { installed: true, .. }));
        numbers.snapshots_installed = installed.count() as u64;
        numbers.config_changes = committed(evidence).changes;
        let load = evidence.info.load_began_ns.zip(evidence.info.load_ended_ns);
        numbers.load_seconds = load.map(|(began, ended)| ended.saturating_sub(began) as f64 / 1e9);
        numbers
    }

    pub fn of_function(&self, f: &str) -> Option<Counts> {
        self.functions.get(f).copied()
    }

    pub fn ok(&self) -> u64 {
        sum(self.functions.values().map(|counts| counts.ok))
    }

    pub fn operations(&self) -> u64 {
        sum(self.functions.values().flat_map(|counts| [counts.ok, counts.fail, counts.info]))
    }
}

/// A `results.json` may have been written by anybody.
fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}
