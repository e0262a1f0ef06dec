//! The commands that need no cluster, as a person meets them: what is printed where, and the exit code.
//!
//! In: the built program and the scenarios of this repository. Never: a node.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use mkraft_harness::scenario::{Act, FaultKind, Hold, Plan, Rule, Scenario};
use predicates::prelude::*;
use predicates::str::{contains, is_empty, starts_with};

const QUICKSTART: &str = "quickstart.yaml";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The program, in the repository's folder.
fn harness(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkraft-harness"));
    command.current_dir(repository()).args(arguments);
    command
}

/// The scenarios of this repository, each with the name of its file.
fn scenarios() -> Vec<(String, Scenario)> {
    let folder = repository().join("scenarios");
    let entries = std::fs::read_dir(folder).expect("the folder of scenarios can be read");
    let mut scenarios: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("its entries can be read").path();
            let stem = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
            (stem, Scenario::load(&path).unwrap_or_else(|error| panic!("{error}")))
        })
        .collect();
    scenarios.sort_by(|one, other| one.0.cmp(&other.0));
    scenarios
}

#[test]
fn every_scenario_is_named_like_its_file_and_can_prove_something() {
    let scenarios = scenarios();
    for expected in [
        "everyone-down",
        "leader-killer",
        "majority-down-and-back",
        "minority-down",
        "paused-leader",
        "quickstart",
        "rolling-restart",
    ] {
        assert!(scenarios.iter().any(|(stem, _)| stem == expected), "{expected} is gone");
    }
    for (stem, scenario) in &scenarios {
        assert_eq!(&scenario.name, stem);
        assert!(scenario.expect.ok_min >= 100, "{stem}: an idle run would pass");
        assert!(!Plan::of(scenario, 0).steps.is_empty(), "{stem}: nothing is broken");
    }
}

#[test]
fn no_fault_of_a_scenario_strikes_while_another_lasts() {
    // A `leader` strikes nothing while there is none, and then the run shows less than it claims. Where members or
    // snapshots are at stake, to strike while another fault lasts is what is claimed.
    let takes_down = |kind: FaultKind| {
        matches!(kind, FaultKind::Kill | FaultKind::Pause | FaultKind::Restart | FaultKind::Stop)
    };
    let margin = 500_000_000;
    for (stem, scenario) in scenarios() {
        let rules = scenario.drawn(0);
        let alone = rules.iter().flat_map(Rule::faults).all(|fault| takes_down(fault.kind))
            && scenario.expect.snapshots_installed_min == 0;
        for seed in 0..200 {
            let steps = Plan::of(&scenario, seed).steps;
            // What waits for a fact comes when it comes.
            let by_clock = steps.iter().all(|step| step.on.is_none());
            for pair in steps.windows(2).filter(|_| alone && by_clock) {
                let Act::Strike { hold: Hold::For(hold), .. } = pair[0].act else {
                    panic!("{stem}: {:?}", pair[0])
                };
                let over = pair[0].at + hold + margin;
                assert!(over <= pair[1].at, "{stem} with seed {seed}: {:?} and {:?}", pair[0], pair[1]);
            }
            let strikes = steps.len() as u64;
            assert!(
                strikes >= scenario.expect.leader_changes_min,
                "{stem} with seed {seed}: {strikes} strikes"
            );
        }
    }
}

#[test]
fn list_names_every_scenario_with_its_claim() {
    let listed = harness(&["list"]).assert().code(0).stderr(is_empty());
    let text = String::from_utf8(listed.get_output().stdout.clone()).unwrap();
    let mut rows = text.lines();
    assert_eq!(
        rows.next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["NAME", "LENGTH", "NODES", "CLAIM"]
    );
    let scenarios = scenarios();
    for (row, (stem, scenario)) in rows.zip(&scenarios) {
        assert!(row.starts_with(&format!("{stem} ")) && row.ends_with(&scenario.claim), "{row}");
    }
    assert_eq!(text.lines().count(), scenarios.len() + 1);
}

#[test]
fn list_tells_what_is_wrong_with_a_folder() {
    let empty = tempfile::tempdir().unwrap();
    let folder = empty.path().to_str().unwrap();
    harness(&["list", folder]).assert().code(64).stderr(contains("expected files *.yaml"));
    harness(&["list", "no-such-folder"])
        .assert()
        .code(64)
        .stderr(starts_with("error: failed to read no-such-folder: "));
}

#[test]
fn list_shows_the_good_and_tells_of_the_bad() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(repository().join("scenarios").join(QUICKSTART), folder.path().join(QUICKSTART)).unwrap();
    std::fs::write(folder.path().join("broken.yaml"), "# A claim.\nname: broken\nduration: 5\n").unwrap();
    harness(&["list", folder.path().to_str().unwrap()])
        .assert()
        .code(64)
        .stdout(contains("quickstart"))
        .stderr(contains("broken.yaml:3:11").and(contains("a duration such as 500ms, 5s, 2m")));
}

#[test]
fn validate_says_one_line_for_each_good_scenario() {
    harness(&["validate", "scenarios/quickstart.yaml", "scenarios/everyone-down.yaml"])
        .assert()
        .code(0)
        .stdout("ok  quickstart: 10s, 4 strikes with seed 0\nok  everyone-down: 20s, 3 strikes with seed 0\n")
        .stderr(is_empty());
}

#[test]
fn validate_tells_every_mistake_of_every_file() {
    let bad = "harness/tests/bad_scenarios";
    let (unit, several) = (format!("{bad}/duration-without-unit.yaml"), format!("{bad}/many-at-once.yaml"));
    harness(&["validate", &unit, "scenarios/quickstart.yaml", &several, "absent.yaml"])
        .assert()
        .code(64)
        .stdout(starts_with("ok  quickstart").and(contains("\n").count(1)))
        .stderr(
            contains(format!("{unit}:3:11"))
                .and(contains(format!("{several}:")).count(10))
                .and(contains("failed to read absent.yaml: No such file or directory"))
                // Colour is for terminals.
                .and(contains("\u{1b}").not()),
        );
}

#[test]
fn a_wrong_command_line_is_a_usage_error_and_help_is_none() {
    for wrong in [&["frobnicate"][..], &["validate"], &["list", "--nope"], &[]] {
        harness(wrong).assert().code(64).stdout(is_empty()).stderr(contains("Usage: mkraft-harness"));
    }
    harness(&["--help"]).assert().code(0).stdout(contains("64  the command line or a scenario is wrong"));
    harness(&["--version"]).assert().code(0).stdout(starts_with("mkraft-harness "));
    harness(&["help", "validate"]).assert().code(0);
}
