//! From a run folder to `results.json`.
//!
//! In: a run folder. Out: every check's verdict and what they come to together. Never: anything that depends on
//! where the folder stands or when it is judged.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::numbers::Numbers;
use super::reading::EvidenceError;
use super::verdict::{Status, Verdict};
use super::{CHECKS, Check};
use crate::history::folder::{FolderError, RunFolder, write_json};

/// `results.json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    pub scenario: String,
    /// What the scenario claims.
    pub claim: String,
    pub seed: u64,
    pub overall: Overall,
    pub exit_code: u8,
    /// Why the harness itself could not do its work.
    pub harness_failure: Option<String>,
    /// Causes before consequences.
    pub checks: Vec<CheckResult>,
    pub numbers: Numbers,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    pub name: String,
    pub section: String,
    pub claim: String,
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What all verdicts come to. Violated outranks the harness' failure, which outranks unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overall {
    Holds,
    Violated,
    Unknown,
    HarnessFailed,
}

/// Each check has memory of its own.
const CORES_MAX: usize = 2;

/// Results with the evidence they rest on.
#[derive(Debug)]
pub struct Judgement {
    pub evidence: Evidence,
    pub results: Results,
}

#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    #[error(transparent)]
    Write(#[from] FolderError),
}

/// Judges a run folder and writes its `results.json`.
pub fn judge(folder: &RunFolder) -> Result<Judgement, JudgeError> {
    let evidence = Evidence::read(folder)?;
    let results = Results::of(&evidence);
    write_json(&folder.results(), &results)?;
    Ok(Judgement { evidence, results })
}

impl Results {
    pub fn of(evidence: &Evidence) -> Results {
        let run = |check: &Check| CheckResult {
            name: check.name.to_owned(),
            section: check.section.to_owned(),
            claim: check.claim.to_owned(),
            verdict: (check.judge)(evidence),
        };
        let checks = in_parallel(CHECKS, run);
        let harness_failure = evidence.info.harness_failure.clone();
        let overall = Overall::of(checks.iter().map(|check| check.verdict.status), harness_failure.is_some());
        Results {
            scenario: evidence.info.scenario.clone(),
            claim: evidence.scenario.claim.clone(),
            seed: evidence.info.seed,
            overall,
            exit_code: overall.exit_code(),
            harness_failure,
            checks,
            numbers: Numbers::of(evidence),
        }
    }
}

/// Each of `items` by whichever core is free. Results stand in the order of the items.
fn in_parallel<T: Sync, R: Send>(items: &[T], run: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, slots) = (AtomicUsize::new(0), items.iter().map(|_| Mutex::new(None)).collect::<Vec<_>>());
    let work = || {
        while let Some((item, slot)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| items.get(at).zip(slots.get(at)))
        {
            let result = run(item);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, NonZero::get).min(CORES_MAX);
        (1..cores).for_each(|_| _ = scope.spawn(work));
        work();
    });
    slots.into_iter().filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

impl Overall {
    fn of(statuses: impl Iterator<Item = Status> + Clone, harness_failed: bool) -> Overall {
        let any = |wanted| statuses.clone().any(|status| status == wanted);
        match () {
            () if any(Status::Violated) => Overall::Violated,
            () if harness_failed => Overall::HarnessFailed,
            () if any(Status::Unknown) => Overall::Unknown,
            () => Overall::Holds,
        }
    }

    pub fn exit_code(self) -> u8 {
        match self {
            Overall::Holds => 0,
            Overall::Violated => 1,
            Overall::Unknown => 2,
            Overall::HarnessFailed => 70,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violated_outranks_the_harness_failure_which_outranks_unknown() {
        use Status::{Holds, Unknown, Violated};
        let cases = [
            (vec![Holds, Holds], false, Overall::Holds),
            (vec![Holds, Unknown], false, Overall::Unknown),
            (vec![Holds, Unknown], true, Overall::HarnessFailed),
            (vec![Holds], true, Overall::HarnessFailed),
            (vec![Unknown, Violated], true, Overall::Violated),
        ];
        for (statuses, harness_failed, expected) in cases {
            assert_eq!(Overall::of(statuses.iter().copied(), harness_failed), expected, "{statuses:?}");
        }
    }
}
