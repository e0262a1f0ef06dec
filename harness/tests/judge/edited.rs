//! Kept runs of which one thing is changed, and what is said of it.

use std::fs;
use std::path::Path;

use mkraft_harness::check::judge;
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
