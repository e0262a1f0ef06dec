//! The run was worth judging: enough was done for its verdicts to mean anything.

use super::evidence::Evidence;
use super::numbers::Numbers;
use super::verdict::{Finding, Tally, Verdict, Witness, count};

/// What the scenario expects has happened: `ok-min`, `leader-changes-min`, and each kind of operation of the load
/// succeeded at least once.
///
/// Reads: the history, the `role` lines, the scenario. Fails: never; a run in which too little happened proves
/// nothing, and proves nothing wrong. Unknown: an expectation is not met, the run was interrupted, or the harness
/// failed. Cannot see: whether what happened was of the kind the claim is about. Cost: O(operations).
pub fn expectations(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    let numbers = Numbers::of(evidence);
    let expect = &evidence.scenario.expect;
    let doubt = |tally: &mut Tally, file: &str, text: String| {
        let witness = Witness { file: file.into(), line: 0, text: text.clone() };
        tally.doubt(Finding::new(text, [witness]));
    };
    tally.examined = numbers.operations();
    if evidence.info.interrupted {
        doubt(&mut tally, "run.json", "the run was interrupted before its time".to_owned());
    }
    if let Some(failure) = &evidence.info.harness_failure {
        doubt(&mut tally, "run.json", format!("the harness itself failed: {failure}"));
    }
    if numbers.ok() < expect.ok_min {
        let text = format!("{} operations succeeded; ok-min is {}", numbers.ok(), expect.ok_min);
        doubt(&mut tally, "history.jsonl", text);
    }
    for f in evidence.scenario.workload.kind.functions() {
        if numbers.of_function(f).is_none_or(|counts| counts.ok == 0) {
            let text = format!("no {f} ever succeeded, and the load is one of them");
            doubt(&mut tally, "history.jsonl", text);
        }
    }
    if numbers.leader_changes < expect.leader_changes_min {
        let text = format!(
            "{}; leader-changes-min is {}",
            count(numbers.leader_changes, "leader change"),
            expect.leader_changes_min
        );
        doubt(&mut tally, "nodes", text);
    }
    tally.verdict("no operation in the history", |_| {
        let (ok, changes) = (numbers.ok(), count(numbers.leader_changes, "leader change"));
        let (ok_min, changes_min) = (expect.ok_min, expect.leader_changes_min);
        format!("{ok} operations succeeded (at least {ok_min}), {changes} (at least {changes_min})")
    })
}
