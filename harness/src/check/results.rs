//! From a run folder to `results.json`.
//!
//! In: a run folder. Out: every check's verdict and what they come to together. Never: anything that depends on
//! where the folder stands or when it is judged.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::about::About;
use super::causes::{consequences, direct_causes};
use super::clients::sentences;
use super::evidence::Evidence;
use super::joined::{Joined, operations_at};
use super::numbers::Numbers;
use super::parallel::in_parallel;
use super::reading::EvidenceError;
use super::verdict::{Finding, Status, Verdict};
use super::{CHECKS, Check};
use crate::history::folder::{FolderError, RunFolder, write_json};
use crate::scenario::Scenario;

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
    /// Why it was not run at all: what it needs, and this machine cannot do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
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
    /// Nothing was run. Never said of what was.
    Skipped,
}

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
        let mut checks = in_parallel(CHECKS, run);
        connect(evidence, &mut checks);
        let harness_failure = evidence.info.failure();
        let harness = match (&evidence.info.disk_failure, &harness_failure) {
            (Some(_), _) => Harness::SankTheNodes,
            (None, Some(_)) => Harness::Failed,
            (None, None) => Harness::Worked,
        };
        let overall = Overall::of(checks.iter().map(|check| check.verdict.status), harness);
        Results {
            scenario: evidence.info.scenario.clone(),
            claim: evidence.scenario.claim.clone(),
            seed: evidence.info.seed,
            overall,
            exit_code: overall.exit_code(),
            harness_failure,
            skipped: None,
            checks,
            numbers: Numbers::of(evidence),
        }
    }
}

impl Results {
    /// Of a scenario that was not run.
    pub fn skipped(scenario: &Scenario, seed: u64, why: String) -> Results {
        let overall = Overall::Skipped;
        Results {
            scenario: scenario.name.clone(),
            claim: scenario.claim.clone(),
            seed,
            overall,
            exit_code: overall.exit_code(),
            harness_failure: None,
            skipped: Some(why),
            checks: Vec::new(),
            numbers: Numbers::default(),
        }
    }

    /// The roots that a finding follows from, with their checks; none when it is a root itself.
    pub fn roots_of<'r>(&'r self, finding: &Finding) -> Vec<(&'r CheckResult, &'r Finding)> {
        let all =
            self.checks.iter().flat_map(|check| check.verdict.findings.iter().map(move |root| (check, root)));
        let explains = |root: &Finding| {
            root.consequences.iter().any(|consequence| consequence.ids.contains(&finding.id))
        };
        all.filter(|(_, root)| !finding.id.is_empty() && explains(root)).collect()
    }

    /// By its id, with its check.
    pub fn finding(&self, id: &str) -> Option<(&CheckResult, &Finding)> {
        let mut all =
            self.checks.iter().flat_map(|check| check.verdict.findings.iter().map(move |it| (check, it)));
        all.find(|(_, finding)| finding.id == id)
    }

    /// The checks that explain all that a check found; none when any of it is a root.
    pub fn explained_by<'r>(&'r self, check: &CheckResult) -> Vec<&'r str> {
        if !check.is_consequence() {
            return Vec::new();
        }
        let roots = check.verdict.findings.iter().flat_map(|finding| self.roots_of(finding));
        let mut names: Vec<&str> = Vec::new();
        for (root, _) in roots {
            if !names.contains(&root.name.as_str()) {
                names.push(&root.name);
            }
        }
        names
    }
}

impl CheckResult {
    /// What nothing else explains; also what was not looked at for its cause.
    pub fn roots(&self) -> impl Iterator<Item = &Finding> {
        let violated = self.verdict.status == Status::Violated;
        self.verdict.findings.iter().filter(move |finding| violated && finding.causes.is_empty())
    }

    /// Everything it found follows from something else.
    pub fn is_consequence(&self) -> bool {
        let Verdict { status, findings, more, .. } = &self.verdict;
        *status == Status::Violated && *more == 0 && findings.iter().all(|finding| !finding.causes.is_empty())
    }
}

/// Gives each finding of what is wrong its name, what the clients had to do with it, and its place among causes and
/// consequences.
fn connect(evidence: &Evidence, checks: &mut [CheckResult]) {
    name(evidence, checks);
    let places = wrong(checks);
    if places.is_empty() {
        return;
    }
    let finding = |&(check, at): &(usize, usize)| &checks[check].verdict.findings[at];
    let abouts: Vec<&About> = places.iter().map(|place| &finding(place).about).collect();
    let joined = Joined::of(evidence, abouts.iter().copied());
    let direct = direct_causes(&joined, &abouts);
    let named: Vec<(&str, &Finding)> =
        places.iter().map(|place| (checks[place.0].name.as_str(), finding(place))).collect();
    let consequences = consequences(&direct, &named);
    let told: Vec<_> = abouts.iter().map(|about| sentences(&joined, about)).collect();
    let ids: Vec<String> = named.iter().map(|(_, finding)| finding.id.clone()).collect();
    let connected = direct.into_iter().zip(consequences).zip(told);
    for ((check, at), ((causes, consequences), clients)) in places.into_iter().zip(connected) {
        let finding = &mut checks[check].verdict.findings[at];
        finding.causes = causes.into_iter().map(|cause| ids[cause].clone()).collect();
        finding.consequences = consequences;
        finding.clients = clients;
    }
}

/// Where the findings of what is wrong stand: check, and finding in it.
fn wrong(checks: &[CheckResult]) -> Vec<(usize, usize)> {
    let violated = checks.iter().enumerate().filter(|(_, check)| check.verdict.status == Status::Violated);
    violated
        .flat_map(|(at, check)| (0..check.verdict.findings.len()).map(move |finding| (at, finding)))
        .collect()
}

/// Numbers the findings, and finds the operations of those that are about clients alone by the lines they name.
fn name(evidence: &Evidence, checks: &mut [CheckResult]) {
    let violated = || checks.iter().filter(|check| check.verdict.status == Status::Violated);
    let of_clients = |check: &&CheckResult| check.name == "linearizability";
    let findings = violated().filter(of_clients).flat_map(|check| &check.verdict.findings);
    let lines: BTreeSet<u32> =
        findings.flat_map(|finding| &finding.witnesses).map(|witness| witness.line).collect();
    let operations = match lines.is_empty() {
        true => HashMap::new(),
        false => operations_at(evidence, &lines),
    };
    for check in checks.iter_mut().filter(|check| check.verdict.status == Status::Violated) {
        let of_clients = of_clients(&&*check);
        for (number, finding) in (1..).zip(&mut check.verdict.findings) {
            finding.id = format!("{}/{number}", check.name);
            if of_clients {
                let named = finding.witnesses.iter().filter_map(|witness| operations.get(&witness.line));
                finding.about = About::Unordered { operations: named.copied().collect() };
            }
        }
    }
}

/// How the harness did its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harness {
    Worked,
    Failed,
    /// What the nodes stand on failed: whatever they did may come of that.
    SankTheNodes,
}

impl Overall {
    fn of(statuses: impl Iterator<Item = Status> + Clone, harness: Harness) -> Overall {
        let any = |wanted| statuses.clone().any(|status| status == wanted);
        match () {
            () if harness == Harness::SankTheNodes => Overall::HarnessFailed,
            () if any(Status::Violated) => Overall::Violated,
            () if harness == Harness::Failed => Overall::HarnessFailed,
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
            Overall::Skipped => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violated_outranks_the_harness_failure_which_outranks_unknown_unless_the_nodes_failed_with_it() {
        use Harness::{Failed, SankTheNodes, Worked};
        use Status::{Holds, Unknown, Violated};
        let cases = [
            (vec![Holds, Holds], Worked, Overall::Holds),
            (vec![Holds, Unknown], Worked, Overall::Unknown),
            (vec![Holds, Unknown], Failed, Overall::HarnessFailed),
            (vec![Holds], Failed, Overall::HarnessFailed),
            (vec![Unknown, Violated], Failed, Overall::Violated),
            (vec![Unknown, Violated], SankTheNodes, Overall::HarnessFailed),
            (vec![Holds], SankTheNodes, Overall::HarnessFailed),
        ];
        for (statuses, harness, expected) in cases {
            assert_eq!(Overall::of(statuses.iter().copied(), harness), expected, "{statuses:?} {harness:?}");
        }
    }
}
