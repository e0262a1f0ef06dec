//! Faults of processes and of the load on real nodes: each lands, seen from outside, and heals.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod scene;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mkraft_harness::cluster::{Layout, NodeState, Status};
use mkraft_harness::history::StrikeOutcome;
use mkraft_harness::nemesis::{self, Book, Means};
use mkraft_harness::system::Mkraft;
use mkraft_harness::system::gates::Sort;
use tokio::time::{Instant, sleep, timeout};

use scene::{DEADLINE, POLL, Scene, node_program, scene};

const SIGKILL: Status = Status::Signal(9);

/// Nodes that can be upgraded to what `next` makes in a folder.
async fn upgradable(next: impl FnOnce(&Path) -> PathBuf) -> Scene {
    scene(async |layout: Layout| {
        let next = Some(Mkraft::find(Some(&next(&layout.folder))).await.unwrap());
        Layout { next, ..layout }
    })
    .await
}

/// The same program in other bytes.
fn another_build(folder: &Path) -> PathBuf {
    let next = folder.join("mkraft-node-next");
    fs::copy(node_program(), &next).unwrap();
    fs::OpenOptions::new().append(true).open(&next).unwrap().write_all(b"next").unwrap();
    next
}

fn pid(scene: &Scene, node: &str) -> u32 {
    scene.cluster.node(node).starts().last().unwrap().pid
}

/// The state letter of each thread.
fn states(pid: u32) -> BTreeSet<char> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stat = |task: std::io::Result<fs::DirEntry>| fs::read_to_string(task.ok()?.path().join("stat")).ok();
    let letter = |stat: String| stat.rsplit_once(") ")?.1.chars().next();
    tasks.filter_map(stat).filter_map(letter).collect()
}

/// The number before `word`.
fn number(detail: &str, word: &str) -> u64 {
    let words: Vec<&str> = detail.split(' ').collect();
    let at = words.iter().position(|found| *found == word);
    at.and_then(|at| words[at - 1].parse().ok()).unwrap_or_else(|| panic!("no number of {word} in: {detail}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_pauses_stops_and_restarts_are_what_they_say_and_heal() {
    let scene = scene(async |layout| layout).await;
    let process = pid(&scene, "n2");
    let run = scene.suffers(&["at: 0s, pause: n2, for: 500ms"]);
    run.installed("pause").await;
    assert_eq!(states(process), ['T'].into());
    run.installed("heal").await;
    assert!(!states(process).contains(&'T'));
    run.ends().await;
    let cases = [
        ("at: 0s, kill: n2, down: 100ms", "kill", SIGKILL),
        ("at: 0s, stop: n2, down: 100ms", "stop", Status::Code(0)),
        ("at: 0s, restart: n2", "restart", Status::Code(0)),
    ];
    for (count, (fault, f, status)) in (1..).zip(cases) {
        let run = scene.suffers(&[fault]);
        run.installed(f).await;
        run.installed("heal").await;
        run.ends().await;
        let endings = scene.endings("n2");
        assert_eq!((endings.len(), endings[count - 1].status), (count, status), "{fault}");
        assert_eq!(scene.cluster.node("n2").state(), NodeState::Running, "{fault}");
        scene.serves().await;
    }
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_node_is_seen_stopped_and_running_in_turn_and_then_runs_on() {
    let scene = scene(async |layout| layout).await;
    let process = pid(&scene, "n1");
    let run = scene.suffers(&["at: 0s, slow: n1, for: 2s, stopped: 20ms, running: 20ms"]);
    run.installed("slow").await;
    assert_eq!(scene.cluster.node("n1").state(), NodeState::Slow);
    // Both are seen again and again: here three times each.
    let deadline = Instant::now() + Duration::from_millis(1_800);
    for turn in 0..3 {
        for stopped in [true, false] {
            while (states(process) == ['T'].into()) != stopped {
                assert!(Instant::now() < deadline, "turn {turn}: never seen with stopped = {stopped}");
                sleep(Duration::from_micros(500)).await;
            }
        }
    }
    let heal = run.installed("heal").await;
    let stops = number(&heal.detail, "times");
    // 50, on a machine that does nothing else.
    assert!((10..=51).contains(&stops), "{}", heal.detail);
    let until = Instant::now() + Duration::from_millis(100);
    while Instant::now() < until {
        assert!(!states(process).contains(&'T'), "stopped after it was healed");
        sleep(POLL).await;
    }
    run.ends().await;
    assert_eq!(pid(&scene, "n1"), process);
    scene.serves().await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_slow_can_be_killed_and_what_is_down_is_not_steadied() {
    let scene = scene(async |layout| layout).await;
    let run = scene.suffers(&["at: 0s, slow: n1, for: 1s", "at: 500ms, kill: n1, down: 1s"]);
    let overtaken = run.told("heal").await;
    assert_eq!(
        (overtaken.step, overtaken.outcome),
        (Some(0), Some(StrikeOutcome::Skipped)),
        "{}",
        overtaken.detail
    );
    run.ends().await;
    assert_eq!(scene.endings("n1").len(), 1);
    scene.serves().await;
    assert!(!states(pid(&scene, "n1")).contains(&'T'));
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_kills_again_and_again_by_itself_and_leaves_the_node_running() {
    let scene = scene(async |layout| layout).await;
    let faults = ["at: 0s, crash-loop: n3, for: 2s, up: 100ms", "at: 1s, kill: n3", "at: 1s, pause: n3"];
    let run = scene.suffers(&faults);
    run.installed("crash-loop").await;
    assert_eq!(scene.cluster.node("n3").state(), NodeState::CrashLoop);
    let heal = run.installed("heal").await;
    let kills = number(&heal.detail, "times") as usize;
    assert!(kills >= 5, "{}", heal.detail);
    for other in ["kill", "pause"] {
        let skipped = run.told(other).await;
        assert_eq!(skipped.detail, "nothing to strike: n3 is CrashLoop");
    }
    run.ends().await;
    let endings = scene.endings("n3");
    assert_eq!(endings.len(), kills);
    assert!(endings.iter().all(|ending| ending.status == SIGKILL && ending.expected), "{endings:#?}");
    assert_eq!(scene.cluster.node("n3").start_count() as usize, kills + 1);
    scene.serves().await;
    assert_eq!(scene.endings("n3").len(), kills, "one more after it was healed");
    scene.close().await;
}

/// What is in the files of a node's data, but for the one that says how far it is durable.
fn data(scene: &Scene, node: &str) -> BTreeMap<String, Vec<u8>> {
    let data = scene.cluster.node_folder(node).data();
    let files = fs::read_dir(data).unwrap().map(|file| file.unwrap());
    let files = files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()));
    files.filter(|(name, _)| name != "durable" && name != "lock").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_at_rest_is_there_is_refused_by_name_and_is_put_right() {
    let scene = scene(async |layout| layout).await;
    let cases = [
        ("at: 0s, bit-flip: n2, file: log, place: middle, down: 300ms", "bit-flip"),
        ("at: 0s, truncate: n2, file: log, place: header, down: 300ms", "truncate"),
        ("at: 0s, swap-blocks: n2, file: log, place: middle, down: 300ms", "swap-blocks"),
    ];
    let node = scene.cluster.node("n2");
    for (fault, f) in cases {
        let run = scene.suffers(&[fault, "at: 100ms, kill: n2, down: 0s"]);
        let strike = run.installed(f).await;
        assert_eq!(node.state(), NodeState::Damaged, "{}", strike.detail);
        let damaged = data(&scene, "n2");
        let heal = run.installed("heal").await;
        assert!(heal.detail.contains("refused with exit code 2"), "{}", heal.detail);
        assert_eq!(run.told("kill").await.detail, "nothing to strike: n2 is Damaged");
        run.ends().await;
        let starts = node.starts();
        let [.., refused, mended] = &starts[..] else { panic!("{starts:?}") };
        assert!(refused.damaged && refused.refused && !refused.answered, "{refused:?}");
        assert!(!mended.damaged && !mended.refused && mended.answered, "{mended:?}");
        scene.serves().await;
        // Whatever was written since stands behind what was there.
        let now = data(&scene, "n2");
        let differing: Vec<_> =
            damaged.iter().filter(|(name, bytes)| now.get(*name) != Some(bytes)).collect();
        assert_eq!(
            differing.len(),
            1,
            "{f}: {:?}",
            differing.iter().map(|(name, _)| name).collect::<Vec<_>>()
        );
        assert!(strike.detail.contains(differing[0].0), "{}", strike.detail);
        let shorter = differing[0].1.len() < now[differing[0].0].len();
        assert_eq!(shorter, f == "truncate");
    }
    let run = scene.suffers(&["at: 0s, bit-flip: n1, file: snapshot"]);
    assert_eq!(run.told("bit-flip").await.detail, "n1: it has no snapshot yet");
    run.ends().await;
    assert_eq!(scene.endings("n1"), [], "nobody is killed for a file that is not there");
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_restarts_one_node_after_the_other_and_waits_for_those_that_are_away() {
    let scene = scene(async |layout| layout).await;
    // Without n2 the roll may stop none of the others.
    let run = scene.suffers(&["at: 0s, kill: n2, down: 2s", "at: 500ms, roll: all"]);
    let roll = run.installed("roll").await;
    assert_eq!(roll.nodes, ["n1", "n2", "n3"]);
    run.ends().await;
    let endings: Vec<(String, Status)> =
        scene.cluster.endings().into_iter().map(|ending| (ending.node, ending.status)).collect();
    let stopped = |node: &str| (node.to_owned(), Status::Code(0));
    let expected = [("n2".to_owned(), SIGKILL), stopped("n1"), stopped("n2"), stopped("n3")];
    assert_eq!(endings, expected);
    assert_eq!(roll.detail.matches("had applied").count(), 3, "{}", roll.detail);
    scene.serves().await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_is_seen_in_what_the_processes_run_and_outlives_them() {
    let scene = upgradable(another_build).await;
    let next = scene.cluster.folder().join("mkraft-node-next");
    let runs_next = |node: &str| {
        let program = fs::read_link(format!("/proc/{}/exe", pid(&scene, node))).unwrap();
        (program == fs::canonicalize(&next).unwrap(), scene.cluster.node(node).starts().last().unwrap().next)
    };
    let run = scene.suffers(&["at: 0s, upgrade: n2"]);
    run.installed("upgrade").await;
    run.ends().await;
    assert_eq!(["n1", "n2", "n3"].map(runs_next), [(false, false), (true, true), (false, false)]);

    let run = scene.suffers(&["at: 0s, kill: all, down: 0s"]);
    run.installed("heal").await;
    run.ends().await;
    scene.serves().await;
    assert_eq!(["n1", "n2", "n3"].map(runs_next), [(false, false), (true, true), (false, false)]);

    let run = scene.suffers(&["at: 0s, upgrade: all"]);
    assert_eq!(run.installed("upgrade").await.nodes, ["n1", "n3"], "n2 is left alone");
    run.ends().await;
    let run = scene.suffers(&["at: 0s, upgrade: leader"]);
    assert_eq!(run.told("upgrade").await.detail, "every node runs the next binary already");
    run.ends().await;
    scene.serves().await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_whose_new_process_is_killed_by_another_fault_looks_at_the_next_one() {
    let scene = upgradable(another_build).await;
    // While the program is read, or when it just has been.
    let run = scene.suffers(&["at: 0s, on: boot by n2, kill: it, down: 200ms", "at: 0s, upgrade: n2"]);
    let upgrade = run.installed("upgrade").await;
    let kill = run.installed("kill").await;
    assert_eq!(kill.nodes, ["n2"]);
    run.ends().await;
    assert_eq!(scene.cluster.node("n2").start_count(), 3, "{}", upgrade.detail);
    assert!(upgrade.detail.contains("had applied"), "{}", upgrade.detail);
    scene.serves().await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_voters_no_quorum_is_told_to_be_whole_while_they_are_rolled() {
    let scene = scene(async |layout| Layout { nodes: 2, ..layout }).await;
    let run = scene.suffers(&["at: 0s, roll: all"]);
    let roll = run.installed("roll").await;
    assert_eq!((roll.nodes.len(), roll.whole), (2, Some(false)), "{}", roll.detail);
    let back = run.installed("heal").await;
    assert_eq!((back.step, back.whole, back.nodes), (Some(0), Some(true), roll.nodes));
    run.ends().await;
    scene.close().await;
    // Of three, one at a time is not missed, and there is nothing to be healed.
    let scene = self::scene(async |layout| layout).await;
    let run = scene.suffers(&["at: 0s, roll: n1"]);
    assert_eq!(run.installed("roll").await.whole, Some(true));
    let lines = Arc::clone(&run.lines);
    run.ends().await;
    assert_eq!(lines.lock().unwrap().len(), 2);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_binary_that_is_none_stops_the_upgrade_at_the_first_node() {
    let scene = upgradable(|folder| {
        let script = folder.join("next");
        fs::write(&script, "#!/bin/sh\n[ \"$1\" = --version ] && echo next 2 && exit\nexec sleep 100\n")
            .unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        script
    })
    .await;
    let run = scene.suffers(&["at: 0s, upgrade: all"]);
    let strike = run.told("upgrade").await;
    assert_eq!((strike.outcome, strike.nodes), (Some(StrikeOutcome::Indeterminate), vec!["n1".into()]));
    assert!(strike.detail.contains("runs a program with digest"), "{}", strike.detail);
    run.ends().await;
    assert_eq!(["n1", "n2", "n3"].map(|node| scene.cluster.node(node).start_count()), [2, 1, 1]);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_ends_with_the_load_and_says_how_far_it_came() {
    let scene = scene(async |layout| layout).await;
    let run = scene.suffers(&["at: 0s, kill: n3, down: 1h", "at: 500ms, roll: all"]);
    run.installed("kill").await;
    let deadline = Instant::now() + DEADLINE;
    while !run.lines.lock().unwrap().iter().any(|(_, f, _)| f == "roll") {
        assert!(Instant::now() < deadline);
        sleep(POLL).await;
    }
    run.stop.send_replace(true);
    let strike = run.told("roll").await;
    assert_eq!((strike.outcome, strike.nodes.len()), (Some(StrikeOutcome::Skipped), 0), "{}", strike.detail);
    assert!(strike.detail.ends_with("when the load ended"), "{}", strike.detail);
    let left = timeout(DEADLINE, run.nemesis).await.unwrap().unwrap();
    assert!(left.is_empty());
    assert_eq!(scene.endings("n1").len() + scene.endings("n2").len(), 0);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_heal_ends_what_goes_on() {
    let scene = scene(async |layout| layout).await;
    let faults = [
        "at: 0s, slow: n1, for: 1h",
        "at: 0s, crash-loop: n2, for: 1h, up: 4s",
        "at: 0s, withhold: n3, for: 1h",
    ];
    let run = scene.suffers(&faults);
    for f in ["slow", "crash-loop", "withhold"] {
        run.installed(f).await;
    }
    let gate = scene.cluster.gates().of("n3");
    assert!(!gate.is_open(Sort::Read) && !gate.is_open(Sort::Write));
    run.stop.send_replace(true);
    let left = timeout(DEADLINE, run.nemesis).await.unwrap().unwrap();
    let lines = Arc::clone(&run.lines);
    let book: Book = Arc::new(move |kind, f, strike| {
        lines.lock().unwrap().push((kind, f.to_string(), strike));
        Ok(())
    });
    let means = Means::new(Arc::clone(&scene.cluster), book);
    let outcome = nemesis::heal_all(&means, left).await.unwrap();
    drop(means);
    let (_, _, told) = run.lines.lock().unwrap().last().unwrap().clone();
    assert_eq!((outcome, &told.nodes[..]), (StrikeOutcome::Installed, &["n1".into(), "n2".into()][..]));
    assert!(gate.is_open(Sort::Read) && gate.is_open(Sort::Write));
    assert!(scene.cluster.states().values().all(|state| *state == NodeState::Running));
    scene.serves().await;
    scene.close().await;
}
