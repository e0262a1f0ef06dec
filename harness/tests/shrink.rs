//! `shrink` with real nodes, as a person meets it.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod broken_node;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use broken_node::{Place, kept_run, text};
use mkraft_harness::scenario::{Plan, Scenario};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn a_search_that_is_interrupted_writes_what_it_has_and_that_can_be_run() {
    let place = Place::new();
    let recorded = place.violated_run();
    let mut command = place.harness(&["shrink", "--minutes", "60", "--jobs", "2"]);
    let mut child = command.arg(&recorded).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let smaller = lines.find(|line| line.contains("smaller")).unwrap();
    assert!(smaller.contains("1 fault, "), "{smaller}");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    lines.for_each(drop);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("interrupted"), "{}", text(&output));

    let file = place.out().join("broken-shrunk.yaml");
    let shrunk = Scenario::load(&file).unwrap();
    assert!(shrunk.claim.starts_with("Violates no-crash in "), "{}", shrunk.claim);
    assert!(shrunk.claim.ends_with("shrunk from broken-5."), "{}", shrunk.claim);
    let plan = Plan::of(&shrunk, 77).steps;
    let faults: Vec<_> = plan.iter().map(|step| step.fault().unwrap().1).collect();
    assert_eq!(faults, ["n1"], "the kill alone is needed");
    assert!(shrunk.duration < Scenario::load(recorded.join("scenario.yaml")).unwrap().duration);
    let left =
        fs::read_dir(place.out()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.starts_with('.')), "nothing but results is left");

    let mut command = place.harness(&["run", "--seed", "5", "--node"]);
    let output = command.arg(place.node()).arg("--out").arg(place.out()).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("no idea what these files are"), "{}", text(&output));
}

#[test]
fn a_run_that_violated_nothing_is_not_shrunk() {
    let output = broken_node::harness(&["shrink"]).arg(kept_run("innocent")).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", text(&output));
    assert!(text(&output).contains("innocent violated nothing"), "{}", text(&output));
}
