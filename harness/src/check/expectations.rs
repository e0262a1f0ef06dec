//! The run was worth judging: enough was done for its verdicts to mean anything.

use super::evidence::Evidence;
use super::numbers::Numbers;
use super::verdict::{Finding, Tally, Verdict, Witness, count};

/// What the scenario expects has happened: `ok-min`, `leader-changes-min`, `snapshots-installed-min`,
/// `config-changes-min`, and each kind of operation of the load succeeded at least once.
///
/// Reads: the history, the `role`, `snapshot`, `config` and `commit` lines, the scenario. Fails: never; a run in which too little happened proves
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
    if let Some(failure) = evidence.info.failure() {
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
    let changes = count(numbers.leader_changes, "leader change");
    let installed = count(numbers.snapshots_installed, "snapshot") + " installed";
    let configured = count(numbers.config_changes, "configuration") + " committed";
    let least = [
        (changes, numbers.leader_changes, expect.leader_changes_min, "leader-changes-min"),
        (installed, numbers.snapshots_installed, expect.snapshots_installed_min, "snapshots-installed-min"),
        (configured, numbers.config_changes, expect.config_changes_min, "config-changes-min"),
    ];
    for (told, found, least, key) in &least {
        if found < least {
            doubt(&mut tally, "nodes", format!("{told}; {key} is {least}"));
        }
    }
    tally.verdict("no operation in the history", |_| {
        let mut text = format!("{} operations succeeded (at least {})", numbers.ok(), expect.ok_min);
        for (told, _, least, key) in &least {
            if *least > 0 || *key == "leader-changes-min" {
                text += &format!(", {told} (at least {least})");
            }
        }
        text
    })
}
