//! Disks that a loss of power could have left, opened by real nodes: as they were, and as they would be had a sync lied.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::path::Path;
use std::process::Command;

use assert_cmd::assert::OutputAssertExt;
use mkraft_harness::disk;
use predicates::prelude::*;

const HARNESS: &str = env!("CARGO_BIN_EXE_mkraft-harness");
const SCENARIO: &str = "\
# What was synced is there.
name: ledgers
duration: 3s
cluster: { nodes: 3, disks: simulated, compact-entries: 40 }
workload: { kind: register, clients: 4, rate: 100 }
faults: [{ at: 1500ms, power-loss: follower, down: 100ms }]
expect: { recovers-within: 20s }
";

fn harness() -> Command {
    Command::new(HARNESS)
}

/// The node beside this harness, built if it is not there or out of date.
fn build_node() {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "mkraft-node"]).status();
    assert!(built.unwrap().success(), "the node does not build");
}

/// Has every sync in the ledger of a node say that it failed. The node had its power all the time, and did nothing that
/// it could not have done after such a sync.
fn lie(run: &Path) -> String {
    let ledgers =
        ["n1", "n2", "n3"].map(|node| (node, run.join("nodes").join(node).join("disk/ledger.jsonl")));
    let powered = |(node, path): (&'static str, _)| {
        let text = fs::read_to_string(&path).unwrap();
        (!text.contains("power-loss")).then_some((node, path, text))
    };
    let (node, path, text) = ledgers.into_iter().find_map(powered).unwrap();
    let lie = text.replace(r#""failed":false"#, r#""failed":true"#);
    assert_ne!(lie, text, "no sync in {}", path.display());
    fs::write(&path, lie).unwrap();
    node.to_owned()
}

#[test]
fn every_disk_that_could_be_left_starts_with_what_was_told_and_a_sync_that_lied_is_found() {
    if let Some(missing) = disk::missing() {
        eprintln!("SKIPPED, nothing is shown: {missing}");
        return;
    }
    build_node();
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("ledgers.yaml");
    fs::write(&scenario, SCENARIO).unwrap();
    let runs = folder.path().join("runs");
    harness().arg("run").arg(&scenario).arg("--out").arg(&runs).assert().code(0);
    let run = runs.join("latest");

    let states = |count: &str| {
        let mut command = harness();
        command.arg("crash-states").arg(&run).args(["--states", count]);
        command.assert()
    };
    let sum = predicate::str::is_match(
        r"^\d+ states of the disks of 3 nodes at \d+ moments .*: 0 wrong, 0 unclear\n$",
    );
    states("60").code(0).stdout(sum.unwrap());
    assert!(!run.join("crash-states").exists());

    let node = lie(&run);
    states("60").code(1).stdout(predicate::str::contains(format!("VIOLATED  {node}, power lost after line")));
    let kept = fs::read_dir(run.join("crash-states")).unwrap().count();
    assert!(kept >= 2, "a state and what it is");
}

#[test]
fn a_run_without_a_ledger_has_no_states() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs");
    let run = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let mut command = harness();
    command.arg("crash-states").arg(&run).arg("--node").arg("/bin/true");
    command.assert().code(70).stderr(predicate::str::contains("has no ledger"));
}

#[test]
fn an_audit_says_that_a_node_acknowledges_nothing_early() {
    if let Some(missing) = disk::missing() {
        eprintln!("SKIPPED, nothing is shown: {missing}");
        return;
    }
    build_node();
    let mut command = harness();
    command.args(["audit-fsync", "--seconds", "1"]);
    command
        .assert()
        .code(0)
        .stdout(predicate::str::contains("HOLDS  all of them were durable on both before"));
}
