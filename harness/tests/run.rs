//! `run`, `check` and `report` with real nodes, as a person or CI meets them.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mkraft_harness::history::folder::{End, RunFolder};
use mkraft_harness::history::{Ended, History};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const HARNESS: &str = env!("CARGO_BIN_EXE_mkraft-harness");
const DEADLINE: Duration = Duration::from_secs(60);

const SCENARIO: &str = "\
# A killed leader takes no acknowledged write with it.
name: short
duration: 4s
cluster: { nodes: 3 }
workload: { kind: register, clients: 4, keys: 2, rate: 100 }
faults:
  - { at: 1s, kill: leader, down: 1s }
expect: { ok-min: 50, leader-changes-min: 1, recovers-within: 10s }
";

/// The node beside this harness, built if it is not there or out of date.
fn node_program() -> PathBuf {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "mkraft-node"]).status();
    assert!(built.unwrap().success(), "the node does not build");
    Path::new(HARNESS).with_file_name("mkraft-node")
}

struct Place {
    folder: tempfile::TempDir,
    scenario: PathBuf,
}

impl Place {
    fn with(scenario: &str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scenario.yaml");
        std::fs::write(&path, scenario).unwrap();
        Place { folder, scenario: path }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("runs")
    }

    fn run(&self, node: &Path) -> Command {
        let mut command = Command::new(HARNESS);
        command.args(["run", "--seed", "5", "--out"]).arg(self.out()).arg("--node").arg(node);
        command.arg(&self.scenario).stdin(Stdio::null());
        command
    }
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn command(arguments: &[&str], run: &Path) -> Output {
    Command::new(HARNESS).args(arguments).arg(run).output().unwrap()
}

#[test]
fn a_run_leaves_a_folder_that_tells_the_same_wherever_it_is_copied() {
    let place = Place::with(SCENARIO);
    let output = place.run(&node_program()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));

    let run = place.out().join("short-5");
    assert_eq!(std::fs::read_link(place.out().join("latest")).unwrap(), Path::new("short-5"));
    let info = RunFolder::new(&run).read_info().unwrap();
    assert_eq!((info.harness_failure, info.interrupted), (None, false));
    let ends: Vec<End> = info.nodes.iter().flat_map(|node| &node.boots).map(|boot| boot.end).collect();
    assert_eq!(ends.iter().filter(|end| **end == End::Signal(9)).count(), 1, "{ends:?}");
    assert_eq!(ends.iter().filter(|end| **end == End::Stopped).count(), 3, "{ends:?}");
    assert!(info.load_began_ns < info.last_heal_ns && info.last_heal_ns < info.load_ended_ns);
    let files: BTreeSet<_> = std::fs::read_dir(&run)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected = [
        "history.jsonl",
        "junit.xml",
        "nodes",
        "plan.jsonl",
        "report.html",
        "results.json",
        "run.json",
        "scenario.yaml",
    ];
    assert_eq!(files, expected.map(String::from).into());
    assert!(!run.join("nodes/n1/data").exists(), "nothing was violated");

    let copy = place.folder.path().join("elsewhere");
    assert!(Command::new("cp").arg("-r").args([&run, &copy]).status().unwrap().success());
    std::fs::remove_file(copy.join("results.json")).unwrap();
    let unjudged = command(&["report"], &copy);
    assert_eq!(unjudged.status.code(), Some(64), "{}", text(&unjudged));
    let again = command(&["check"], &copy);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    let results = |folder: &Path| std::fs::read_to_string(folder.join("results.json")).unwrap();
    assert_eq!(results(&copy), results(&run));
    let report = command(&["report"], &copy);
    assert_eq!((report.status.code(), report.stdout), (Some(0), again.stdout));
}

#[test]
fn every_kind_of_load_does_all_it_can_and_every_node_agrees_what_that_was() {
    for kind in ["set", "counter", "append", "bank", "lock"] {
        let place = Place::with(
            &SCENARIO
                .replace("kind: register, clients: 4, keys: 2, rate: 100", &format!("kind: {kind}, rate: 60"))
                .replace("ok-min: 50", "ok-min: 30"),
        );
        let output = place.run(&node_program()).output().unwrap();
        let run = place.out().join("short-5");
        assert!(!text(&output).contains("not read at the end"), "{kind}: {}", text(&output));
        assert_eq!(output.status.code(), Some(0), "{kind}: {}", text(&output));
        let history = History::read(&run.join("history.jsonl")).unwrap();
        let last = history.operations.last().unwrap();
        let looked = if kind == "lock" { "release" } else { "read or txn" };
        assert!(looked.contains(&*last.f) && last.ended == Ended::Ok, "{kind}: {last:?}");
        assert!(last.invoked_at > RunFolder::new(&run).read_info().unwrap().load_ended_ns.unwrap(), "{kind}");
    }
}

#[test]
fn an_interrupted_run_is_healed_collected_and_judged_and_is_no_pass() {
    let place = Place::with(&SCENARIO.replace("4s", "60s"));
    let child = place.run(&node_program()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let history = place.out().join("short-5/history.jsonl");
    let began = Instant::now();
    while !std::fs::read_to_string(&history).is_ok_and(|text| text.contains(r#""type":"ok""#)) {
        assert!(began.elapsed() < DEADLINE, "no operation in {}", history.display());
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let info = RunFolder::new(place.out().join("short-5")).read_info().unwrap();
    assert!(info.interrupted && info.last_heal_ns.is_some());
    assert!(text(&output).contains("interrupted"), "{}", text(&output));
    assert!(place.out().join("short-5/nodes/n3/dump.jsonl").exists());
}

#[test]
fn nodes_that_end_unasked_at_once_are_a_violation_told_with_their_last_words() {
    let place = Place::with(SCENARIO);
    let node = place.folder.path().join("mkraft-node");
    let script =
        "#!/bin/sh\n[ \"$1\" = --version ] && echo stand-in 1 && exit\necho 'no such flag' >&2\nexit 3\n";
    std::fs::write(&node, script).unwrap();
    std::fs::set_permissions(&node, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = place.run(&node).output().unwrap();
    // It outranks that the harness could do nothing with them, which is told as well.
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let failure = RunFolder::new(place.out().join("short-5")).read_info().unwrap().harness_failure;
    assert!(failure.is_some_and(|failure| failure.contains("no such flag")));
    assert!(text(&output).contains("no such flag"), "{}", text(&output));
}

#[test]
fn a_missing_node_says_what_to_build() {
    let place = Place::with(SCENARIO);
    let output = place.run(Path::new("/nowhere/mkraft-node")).output().unwrap();
    assert_eq!(output.status.code(), Some(70));
    assert!(text(&output).contains("cargo build --release"), "{}", text(&output));
    assert!(!place.out().exists(), "nothing was run");
}

#[test]
fn a_folder_that_is_none_is_a_mistake_of_the_one_who_asks() {
    for asked in ["check", "report"] {
        let output = command(&[asked], Path::new("/nowhere/run"));
        assert_eq!(output.status.code(), Some(64));
        assert!(text(&output).contains("/nowhere/run"), "{}", text(&output));
    }
}

#[test]
fn an_upgrade_needs_a_second_binary_and_the_run_tells_which_boot_ran_it() {
    let place = Place::with(&SCENARIO.replace("kill: leader, down: 1s", "upgrade: follower"));
    let node = node_program();
    let refused = place.run(&node).output().unwrap();
    assert_eq!(refused.status.code(), Some(64));
    let expected = format!("{}:7: `upgrade` needs a second program", place.scenario.display());
    assert!(text(&refused).contains(&expected), "{}", text(&refused));
    assert!(!place.out().exists(), "nothing was run");

    // The same program in other bytes.
    let next = place.folder.path().join("next");
    let mut bytes = std::fs::read(&node).unwrap();
    bytes.extend(b"next");
    std::fs::write(&next, bytes).unwrap();
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o755)).unwrap();
    // A follower alone makes no other leader.
    std::fs::write(
        &place.scenario,
        std::fs::read_to_string(&place.scenario)
            .unwrap()
            .replace("leader-changes-min: 1", "leader-changes-min: 0"),
    )
    .unwrap();
    let output = place.run(&node).arg("--node-next").arg(&next).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains(" --node-next "), "{}", text(&output));
    let info = RunFolder::new(place.out().join("short-5")).read_info().unwrap();
    let binary = info.next_binary.unwrap();
    assert!(binary.path.ends_with("/next") && binary.xxh3 != info.node_binary.xxh3, "{binary:?}");
    assert_eq!(info.next_version, Some(info.node_version));
    let boots: Vec<(u64, bool)> = info
        .nodes
        .iter()
        .flat_map(|node| &node.boots)
        .map(|boot| (boot.evidence.unwrap(), boot.next))
        .collect();
    assert_eq!(boots.iter().filter(|boot| **boot == (1, false)).count(), 3, "{boots:?}");
    assert_eq!(boots.iter().filter(|boot| **boot == (2, true)).count(), 1, "{boots:?}");
}

#[test]
fn what_is_withheld_from_a_node_it_is_not_asked_and_all_else_it_is() {
    for placement in ["pinned", "roam"] {
        let scenario = SCENARIO
            .replace("kill: leader, down: 1s", "withhold: n1, ops: reads, for: 2s")
            .replace("rate: 100", &format!("rate: 100, placement: {placement}"))
            .replace("ok-min: 50, leader-changes-min: 1", "ok-min: 50");
        let place = Place::with(&scenario);
        let output = place.run(&node_program()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let history = History::read(&place.out().join("short-5/history.jsonl")).unwrap();
        let found = |f: &str| history.strikes.iter().find(|strike| &*strike.f == f).unwrap();
        let (since, until) = (found("withhold").completed_at.unwrap(), found("heal").invoked_at);
        let detail = &found("heal").completed.as_ref().unwrap().detail;
        assert!(detail.contains("n1: 0 reads were sent to it"), "{detail}");
        assert!(!detail.contains(", 0 turned away"), "{detail}");
        let within = |time: u64| since < time && time < until;
        let asked: Vec<_> =
            history.operations.iter().filter(|operation| within(operation.invoked_at)).collect();
        let of = |f: &str, node: &str| {
            asked
                .iter()
                .filter(|operation| &*operation.f == f && operation.node.as_deref() == Some(node))
                .count()
        };
        assert!(!asked.iter().any(|read| &*read.f == "read"
                && read.node.as_deref() == Some("n1")
                && read.ended == Ended::Ok
                // One that others refused may end at n1 once it is asked again.
                && read.completed_at.is_some_and(within)));
        assert!(of("read", "n2") + of("read", "n3") > 10, "{placement}: reads go on elsewhere");
        // Who roams ends at the leader.
        let leads = placement == "roam" || of("write", "n1") > 0;
        assert!(leads, "{placement}: writes to n1 go on");
        // Who roams asks another; who is pinned starts nothing, which is counted.
        let withheld = RunFolder::new(place.out().join("short-5")).read_info().unwrap().not_started.withheld;
        assert_eq!(withheld > 0, placement == "pinned", "{placement}: {withheld}");
    }
}
