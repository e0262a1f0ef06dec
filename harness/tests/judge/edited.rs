//! Kept runs of which one thing is changed, and what is said of it.

use std::fs;
use std::path::Path;

use mkraft_harness::check::{Status, judge};
use mkraft_harness::history::folder::RunFolder;
use mkraft_harness::report;

use super::folders::copy;

fn objectives() -> tempfile::TempDir {
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs/objectives"))
}

fn edit(run: &tempfile::TempDir, file: &str, from: &str, to: &str) {
    let path = run.path().join(file);
    let before = fs::read_to_string(&path).unwrap();
    assert!(before.contains(from), "{file} has no {from}");
    fs::write(path, before.replace(from, to)).unwrap();
}

/// Of a fault done at 0.2 s and healed step by step at 0.595 s, by how long it was to last and when the load ended.
#[test]
fn a_fault_that_was_healed_before_the_load_ended_is_not_cut_short_by_its_end() {
    let cases = [
        ("800ms", 400_000_000_u64, "1 fault planned: 1 done"),
        // A script has healed it, long before it would have ended by itself.
        ("800ms", 10_000_000_000, "1 fault planned: 1 done"),
        // The end of the run has.
        ("500ms", 10_000_000_000, "1 fault planned: 1 done, 1 cut short by the end of the load"),
    ];
    for (duration, hold, expected) in cases {
        let run = objectives();
        edit(&run, "scenario.yaml", "duration: 800ms", &format!("duration: {duration}"));
        edit(&run, "scenario.yaml", "down: 400ms", "down: 200ms");
        edit(&run, "plan.jsonl", "\"hold\":400000000", &format!("\"hold\":{hold}"));
        let results = judge(&RunFolder::new(run.path())).unwrap().results;
        let faults = results.checks.iter().find(|check| check.name == "faults").unwrap();
        assert_eq!(faults.verdict.summary, expected, "{duration} {hold}");
    }
}

/// What an operator asks for may stay without an answer, where others like it had theirs.
#[test]
fn a_transfer_without_an_answer_is_open_and_one_of_many_does_no_harm() {
    for (first, expected) in
        [("installed", Ok("3 faults planned: 2 done, 1 open")), ("indeterminate", Err(2))]
    {
        let run = objectives();
        let step =
            "{\"at\":395000000,\"fault\":\"transfer\",\"target\":\"follower\",\"hold\":0,\"draw\":0}\n";
        let path = |file| run.path().join(file);
        let plan = fs::read_to_string(path("plan.jsonl")).unwrap();
        fs::write(path("plan.jsonl"), plan + step + step).unwrap();
        let history = fs::read_to_string(path("history.jsonl")).unwrap();
        let (before, after) = history.split_at(history.find("{\"index\":14,").unwrap());
        let line = |step, kind, time, outcome: &str, detail| {
            format!(
                "{{\"index\":0,\"time\":{time},\"process\":\"nemesis\",\"type\":\"{kind}\",\"f\":\"transfer\",\"value\":\
                 {{\"step\":{step},\"target\":\"follower\",\"nodes\":[],\"outcome\":{outcome},\"detail\":\"{detail}\"{}}}}}\n",
                if kind == "info" { ",\"whole\":true" } else { "" }
            )
        };
        let asked = [(1, first), (2, "indeterminate")].map(|(step, outcome)| {
            let time = 1_595_000_000;
            line(step, "invoke", time, "null", "")
                + &line(step, "info", time, &format!("\"{outcome}\""), "as told")
        });
        let lines = [before, &asked.concat(), after].concat();
        edit(&run, "run.json", "\"history_lines\": 22", "\"history_lines\": 26");
        let numbered = lines.lines().enumerate().map(|(index, line)| {
            let (_, rest) = line.split_once(',').unwrap();
            format!("{{\"index\":{index},{rest}\n")
        });
        fs::write(path("history.jsonl"), numbered.collect::<String>()).unwrap();
        let results = judge(&RunFolder::new(run.path())).unwrap().results;
        let faults = &results.checks.iter().find(|check| check.name == "faults").unwrap().verdict;
        match expected {
            Ok(summary) => assert_eq!((faults.status, &*faults.summary), (Status::Holds, summary)),
            Err(doubts) => assert_eq!((faults.status, faults.findings.len()), (Status::Unknown, doubts)),
        }
    }
}

#[test]
fn operations_that_were_not_started_stand_in_every_report_with_the_reason() {
    let run = objectives();
    let folder = RunFolder::new(run.path());
    let told = |folder: &RunFolder| {
        let judgement = judge(folder).unwrap();
        report::write_all(folder, &judgement).unwrap();
        let text = report::terminal(&judgement.results, folder, report::Detail::Roots, false);
        [text, fs::read_to_string(folder.report()).unwrap(), fs::read_to_string(folder.results()).unwrap()]
    };
    for report in told(&folder) {
        assert!(!report.contains("not started") && !report.contains("not_started"), "{report}");
    }
    edit(
        &run,
        "run.json",
        "\"interrupted\"",
        "\"not_started\": { \"too_many\": 12, \"withheld\": 34 }, \"interrupted\"",
    );
    let [text, page, json] = told(&folder);
    let both = "12 since too many were under way, 34 withheld from all whom their client might ask";
    assert!(text.contains(&format!("\n  not started: {both}\n")), "{text}");
    assert!(page.contains(&format!("not started: {both}.")), "{page}");
    assert!(json.contains("\"withheld\": 34"), "{json}");
}
