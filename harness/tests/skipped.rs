//! A scenario that needs what a machine cannot do is not run, and nobody can overlook it.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const HARNESS: &str = env!("CARGO_BIN_EXE_mkraft-harness");

fn scenario(folder: &Path, name: &str, faults: &str) -> String {
    let path = folder.join(format!("{name}.yaml"));
    let text = format!(
        "# A claim.\nname: {name}\nduration: 1s\nworkload: {{ kind: register, rate: 50 }}\nfaults: [{faults}]\n"
    );
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "mkraft-node"]).status();
    assert!(built.unwrap().success(), "the node does not build");
    let out = folder.join("runs");
    Command::new(HARNESS).args(["run", "--out"]).arg(out).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_skipped_scenario_starts_nothing_and_says_so_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let needy = scenario(folder.path(), "needy", "{ at: 500ms, jump-clock: n1, by: 1s }");
    let output = run(folder.path(), &["--without", "preload", &needy]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stdout));
    let told = text(&output.stdout);
    assert!(told.contains("SKIPPED  needy, seed 0: nothing was run"), "{told}");
    let last = told.lines().last().unwrap();
    assert!(last.starts_with("SKIPPED: 1 of 1 scenarios not run: needy"), "{last}");
    let run_folder = folder.path().join("runs/needy-0");
    let results: serde_json::Value =
        serde_json::from_slice(&fs::read(run_folder.join("results.json")).unwrap()).unwrap();
    assert_eq!(results["overall"], "skipped");
    assert!(results["skipped"].as_str().unwrap().starts_with("preload, for jump-clock, drift-clock: "));
    let junit = fs::read_to_string(run_folder.join("junit.xml")).unwrap();
    assert!(junit.contains("<skipped message=") && junit.contains("skipped=\"1\""), "{junit}");
    assert!(!run_folder.join("nodes").exists() && !run_folder.join("history.jsonl").exists());
    for (command, code) in [("check", 3), ("report", 3)] {
        let again = Command::new(HARNESS).arg(command).arg(&run_folder).output().unwrap();
        assert_eq!(again.status.code(), Some(code), "{command}");
        assert!(text(&again.stdout).contains("SKIPPED  needy"), "{command}");
    }
}

#[test]
fn where_all_are_required_a_skipped_scenario_is_unknown_and_others_run_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let plain = scenario(folder.path(), "plain", "{ at: 300ms, pause: follower, for: 100ms }");
    let needy = scenario(folder.path(), "needy", "{ on: elected, kill: it }");
    for (more, code) in [(&[][..], 3), (&["--require-all"], 2)] {
        let arguments = [&["--without", "inotify", &plain, &needy], more].concat();
        let output = run(folder.path(), &arguments);
        let told = text(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains("HOLDS  plain"), "{told}");
        assert!(told.contains("1 of 2 scenarios ran, 1 skipped:"), "{told}");
        assert!(told.lines().last().unwrap().starts_with("SKIPPED: 1 of 2 scenarios not run"), "{told}");
    }
}
