//! `replay` with real nodes and with damaged folders, as a person meets it.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod broken_node;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use broken_node::{Place, copy, kept_run, text};
use mkraft_harness::history::folder::RunFolder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn a_replay_does_the_recorded_plan_again_and_says_of_which_run_it_is() {
    let place = Place::new();
    let recorded = place.violated_run();
    let output = place.harness(&["replay", "--out"]).arg(place.out()).arg(&recorded).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let told = "Replay of broken-5, which violated no-crash; now: the same, no-crash";
    assert!(text(&output).contains(told), "{}", text(&output));
    let [old, new] = [recorded, place.out().join("broken-5-2")].map(RunFolder::new);
    assert_eq!(fs::read(old.plan()).unwrap(), fs::read(new.plan()).unwrap());
    assert_eq!(fs::read(old.scenario()).unwrap(), fs::read(new.scenario()).unwrap());
    let origin = new.read_info().unwrap().replay_of.unwrap();
    let info = old.read_info().unwrap();
    assert_eq!((origin.folder.as_str(), origin.started), ("broken-5", info.started));
    assert_eq!(info.replay_of, None);
    assert_eq!(new.read_info().unwrap().node_binary, info.node_binary, "the node of that run");
}

#[test]
fn many_replays_state_a_rate_and_keep_the_guilty_and_one_that_held() {
    let place = Place::new();
    let recorded = place.violated_run();
    let mut command = place.harness(&["replay", "--times", "2", "--out"]);
    let output = command.arg(place.out()).arg(&recorded).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("2 of 2 (100 %, 95 % interval 34 % to 100 %)"), "{}", text(&output));
    assert_eq!(place.folders(), ["broken-5", "broken-5-2", "broken-5-3"]);

    // With a sound node it holds.
    let mut command = place.harness(&["replay", "--times", "2", "--node"]);
    let output =
        command.arg(broken_node::sound()).arg("--out").arg(place.out()).arg(&recorded).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("0 of 2 (0 %, 95 % interval 0 % to 66 %)"), "{}", text(&output));
    assert!(text(&output).contains("another program than the run had"), "{}", text(&output));
    assert_eq!(place.folders(), ["broken-5", "broken-5-2", "broken-5-3", "broken-5-4"]);
}

#[test]
fn interrupted_replays_tell_what_is_known_so_far_and_are_no_pass() {
    let place = Place::new();
    let recorded = place.violated_run();
    let mut command = place.harness(&["replay", "--times", "50", "--node"]);
    command.arg(broken_node::sound()).arg("--out").arg(place.out()).arg(&recorded);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("try 1 of 50: ")), "no try ended");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    lines.for_each(drop);
    let output = child.wait_with_output().unwrap();
    assert_ne!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("1 tries of 50, interrupted"), "{}", text(&output));
    assert_eq!(place.folders(), ["broken-5", "broken-5-2"]);
}

#[test]
fn a_damaged_folder_is_refused_and_the_damage_is_named() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage, &str); 7] = [
        ("no folder", |run| fs::remove_dir_all(run).unwrap(), "expected a run folder"),
        ("no plan", |run| fs::remove_file(run.join("plan.jsonl")).unwrap(), "plan.jsonl"),
        ("a cut plan", |run| cut(&run.join("plan.jsonl")), "the file is cut"),
        ("a cut run.json", |run| cut(&run.join("run.json")), "run.json"),
        ("no scenario", |run| fs::remove_file(run.join("scenario.yaml")).unwrap(), "scenario.yaml"),
        (
            "another scenario",
            |run| edit(&run.join("scenario.yaml"), "name: ", "name: x"),
            "scenario beside it",
        ),
        ("a late step", |run| edit(&run.join("plan.jsonl"), r#""at":238"#, r#""at":99238"#), "after the end"),
    ];
    for (what, damage, expected) in damages {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        copy(&kept_run("planted-vote-twice"), &run);
        damage(&run);
        for asked in ["replay", "shrink"] {
            let output = broken_node::harness(&[asked]).arg(&run).current_dir(&folder).output().unwrap();
            assert_eq!(output.status.code(), Some(64), "{asked}, {what}: {}", text(&output));
            assert!(text(&output).contains(expected), "{asked}, {what}: {}", text(&output));
        }
        assert!(!folder.path().join("runs").exists(), "nothing was run");
    }
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 2]).unwrap();
}

fn edit(path: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(old));
    fs::write(path, text.replacen(old, new, 1)).unwrap();
}
