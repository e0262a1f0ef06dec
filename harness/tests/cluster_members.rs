//! Faults of members, leadership and snapshots on real nodes: each lands, proven by what the cluster says of itself,
//! and what is to be undone is undone.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mkraft_harness::cluster::{Cluster, Layout, Leader, NodeState, Wiring};
use mkraft_harness::history::{OpType, Strike, StrikeOutcome};
use mkraft_harness::nemesis::{self, Book, Left, Means};
use mkraft_harness::scenario::{FaultKind, Manner, Plan, Scenario, Step};
use mkraft_harness::system::operator::Members;
use mkraft_harness::system::{Mkraft, Settings};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

type Lines = Vec<(OpType, String, Strike)>;

struct Scene {
    _folder: TempDir,
    cluster: Arc<Cluster>,
}

/// n1, n2 and n3 vote; n4 and n5 are spares.
async fn scene() -> Scene {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "mkraft-node"]).status();
    assert!(built.unwrap().success(), "the node does not build");
    let program = Path::new(env!("CARGO_BIN_EXE_mkraft-harness")).with_file_name("mkraft-node");
    let system = Mkraft::find(Some(&program)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::timed(Duration::from_millis(500), Duration::from_millis(50));
    let guard = PathBuf::from(env!("CARGO_BIN_EXE_mkraft-harness"));
    let layout = Layout { guard, spares: 2, ..Layout::new(3, settings, folder.path(), Wiring::Linked) };
    let cluster = Arc::new(Cluster::start(system, &layout).await.unwrap());
    let scene = Scene { _folder: folder, cluster };
    scene.leader().await;
    scene
}

/// And what was written into it.
fn book() -> (Arc<Mutex<Lines>>, Book) {
    let told: Arc<Mutex<Lines>> = Arc::default();
    let lines = Arc::clone(&told);
    let book: Book = Arc::new(move |kind, f, strike| {
        lines.lock().unwrap().push((kind, f.to_string(), strike));
        Ok(())
    });
    (told, book)
}

/// What came of undoing each step, in order.
fn healed(told: &Mutex<Lines>) -> Vec<Strike> {
    let lines = told.lock().unwrap().clone();
    let heals = lines.into_iter().filter(|(kind, f, _)| *kind == OpType::Info && f == "heal");
    heals.map(|(_, _, heal)| heal).filter(|heal| heal.step.is_some()).collect()
}

fn plan(faults: &[&str]) -> Plan {
    let head = "# A test.\nname: test\nduration: 2h\ncluster: { spares: 2 }\nworkload: { kind: register }\nfaults:\n";
    let rules: String = faults.iter().map(|fault| format!("  - {{ {fault} }}\n")).collect();
    let scenario = Scenario::parse("test.yaml", &format!("{head}{rules}"));
    Plan::of(&scenario.unwrap_or_else(|error| panic!("{error}")), 7)
}

impl Scene {
    async fn leader(&self) -> Leader {
        self.cluster.leader_within(DEADLINE).await.expect("a node leads")
    }

    async fn voters(&self) -> BTreeSet<String> {
        self.cluster.members().await.voters
    }

    /// One strike and its undoing; `stop_after` lines of the book the run ends.
    async fn strike(&self, fault: FaultKind, target: &str, stop_after: usize) -> (Lines, Vec<Left>) {
        let lines: Arc<Mutex<Lines>> = Arc::default();
        let (stop, stopped) = watch::channel(false);
        let book: Book = {
            let lines = Arc::clone(&lines);
            Arc::new(move |kind, f, strike| {
                let mut lines = lines.lock().unwrap();
                lines.push((kind, f.to_string(), strike));
                if lines.len() >= stop_after {
                    stop.send_replace(true);
                }
                Ok(())
            })
        };
        let hold = if stop_after == 2 { DEADLINE } else { POLL };
        let hold = hold.as_nanos() as u64;
        let step = Step::strike(0, fault, target, Manner::Plain, hold, 3);
        let plan = Plan { steps: vec![step] };
        let means = Means::new(Arc::clone(&self.cluster), book);
        let run = nemesis::run(&plan, Instant::now(), &means, stopped);
        let left = tokio::time::timeout(DEADLINE, run).await.unwrap().unwrap();
        let lines = lines.lock().unwrap().clone();
        (lines, left)
    }

    /// What came of a strike, and of its undoing where there is one.
    async fn outcome(&self, fault: FaultKind, target: &str) -> (Strike, Option<Strike>) {
        let (lines, left) = self.strike(fault, target, usize::MAX).await;
        assert!(left.is_empty());
        let mut told = lines.into_iter().filter(|(kind, ..)| *kind == OpType::Info);
        let (_, f, strike) = told.next().unwrap();
        assert_eq!(f, fault.to_string());
        let heal = told.next().map(|(_, f, heal)| {
            assert_eq!(f, "heal");
            heal
        });
        assert!(told.next().is_none());
        (strike, heal)
    }

    /// It was done, and what there is to undo was undone.
    async fn installed(&self, fault: FaultKind, target: &str) -> Strike {
        let (strike, heal) = self.outcome(fault, target).await;
        assert_eq!(strike.outcome, Some(StrikeOutcome::Installed), "{fault} {target}: {}", strike.detail);
        let undone = heal.as_ref().is_none_or(|heal| heal.outcome == Some(StrikeOutcome::Installed));
        assert!(undone, "{fault} {target}: {heal:?}");
        strike
    }

    async fn skipped(&self, fault: FaultKind, target: &str, reason: &str) {
        let (strike, heal) = self.outcome(fault, target).await;
        assert_eq!((strike.outcome, heal), (Some(StrikeOutcome::Skipped), None), "{fault} {target}");
        assert!(strike.detail.contains(reason), "{fault} {target}: {}", strike.detail);
        assert_eq!(strike.nodes, [""; 0]);
    }

    async fn close(self) {
        Arc::into_inner(self.cluster).unwrap().close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go_and_come_back() {
    let scene = scene().await;
    let first = Members::first(3).voters;

    let learned = scene.installed(FaultKind::Learn, "spare").await;
    assert!(learned.detail.contains("n1 n2 n3 vote") && learned.detail.ends_with("learn"), "{learned:?}");
    let added = scene.installed(FaultKind::Add, "spare").await;
    assert!(added.detail.contains(&format!("n1 n2 n3 {} vote", added.nodes[0])), "{added:?}");
    assert_eq!(scene.voters().await, first);

    let leader = scene.leader().await.node;
    let removed = scene.installed(FaultKind::Remove, "leader").await;
    assert_eq!(removed.nodes, [leader.as_str()]);
    assert_eq!(scene.voters().await, first, "it votes again");
    assert_ne!(scene.leader().await.node, leader);

    let replaced = scene.installed(FaultKind::Replace, "follower").await;
    let [old, new] = &replaced.nodes[..] else { panic!("{replaced:?}") };
    let mut voters = first.clone();
    assert!(voters.remove(old) && voters.insert(new.clone()));
    assert_eq!(scene.voters().await, voters);

    scene.skipped(FaultKind::Add, "learner", "no member is a learner").await;
    scene.skipped(FaultKind::Learn, new, "nothing to strike").await;
    // Two of three: to remove the third would leave none that agree.
    let down: Vec<_> = voters.iter().take(2).collect();
    for name in &down {
        scene.cluster.node(name).kill().await.unwrap();
    }
    let third = voters.iter().nth(2).unwrap();
    scene.skipped(FaultKind::Remove, third, "nothing to strike").await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_added_when_the_run_ends_is_removed_by_the_last_heal() {
    let scene = scene().await;
    let (lines, left) = scene.strike(FaultKind::Add, "n5", 2).await;
    assert_eq!((lines.len(), left.len()), (2, 1), "{lines:?}");
    assert!(scene.voters().await.contains("n5"));
    let (told, book) = book();
    nemesis::heal_all(&Means::new(Arc::clone(&scene.cluster), book), left).await.unwrap();
    assert_eq!(scene.voters().await, Members::first(3).voters);
    let told = told.lock().unwrap().clone();
    let steps: Vec<_> = told.iter().map(|(kind, f, strike)| (*kind, f.as_str(), strike.step)).collect();
    let (invoke, info) = (OpType::Invoke, OpType::Info);
    let heals = [(invoke, None), (info, None), (invoke, Some(0)), (info, Some(0))];
    assert_eq!(steps, heals.map(|(kind, step)| (kind, "heal", step)));
    assert_eq!(told[3].2.outcome, Some(StrikeOutcome::Installed), "{told:?}");
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_keep_from_being_undone_is_left_to_the_end_of_the_run() {
    let scene = scene().await;
    let (told, book) = book();
    let means = Means::new(Arc::clone(&scene.cluster), book);
    let plan = plan(&["steps: [{ name: came, add: n4 }, { remove: n1 }, { remove: n2 }, { heal: came }]"]);
    let (_stop, stopped) = watch::channel(false);
    let run = nemesis::run(&plan, Instant::now(), &means, stopped);
    let left = tokio::time::timeout(DEADLINE, run).await.unwrap().unwrap();
    nemesis::heal_all(&means, left).await.unwrap();
    assert_eq!(scene.voters().await, Members::first(3).voters);
    let (done, skipped) = (Some(StrikeOutcome::Installed), Some(StrikeOutcome::Skipped));
    let heals = [(0, skipped), (1, done), (2, done), (0, done)].map(|(step, outcome)| (Some(step), outcome));
    let healed = healed(&told);
    assert_eq!(healed.iter().map(|heal| (heal.step, heal.outcome)).collect::<Vec<_>>(), heals, "{healed:#?}");
    assert_eq!(healed[0].detail, "n4: not undone: without n4 fewer than 2 would vote");
    drop(means);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_run_undoes_the_newest_change_first() {
    let scene = scene().await;
    let (told, book) = book();
    let means = Means::new(Arc::clone(&scene.cluster), book);
    let faults =
        ["at: 0s, add: n4, for: 1h", "at: 200ms, remove: n1, for: 1h", "at: 400ms, remove: n2, for: 1h"];
    let plan = plan(&faults);
    let (stop, stopped) = watch::channel(false);
    let run = nemesis::run(&plan, Instant::now(), &means, stopped);
    let changed = async {
        let changed = |lines: &Lines| lines.iter().filter(|(kind, ..)| *kind == OpType::Info).count() == 3;
        while !changed(&told.lock().unwrap()) {
            sleep(POLL).await;
        }
        stop.send_replace(true);
    };
    let run = tokio::time::timeout(DEADLINE, async { tokio::join!(run, changed).0 });
    let left = run.await.unwrap().unwrap();
    assert_eq!(scene.voters().await, ["n3".to_owned(), "n4".to_owned()].into());
    nemesis::heal_all(&means, left).await.unwrap();
    assert_eq!(scene.voters().await, Members::first(3).voters);
    let healed = healed(&told);
    let outcomes: Vec<_> = healed.iter().map(|heal| (heal.step, heal.outcome)).collect();
    assert_eq!(outcomes, [2, 1, 0].map(|step| (Some(step), Some(StrikeOutcome::Installed))), "{healed:#?}");
    drop(means);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_and_snapshots_are_taken() {
    let scene = scene().await;
    let before = scene.leader().await;
    let transfer = scene.installed(FaultKind::Transfer, "follower").await;
    let [from, to] = &transfer.nodes[..] else { panic!("{transfer:?}") };
    assert_eq!(*from, before.node);
    let after = scene.leader().await;
    assert!(after.node == *to && after.term > before.term, "{transfer:?}, and then {after:?}");
    scene.skipped(FaultKind::Transfer, to, "leads already").await;
    scene.skipped(FaultKind::Transfer, "n4", "does not vote").await;

    let compacted = scene.installed(FaultKind::Compact, "leader").await;
    assert!(compacted.detail.contains("has a snapshot of all up to entry"), "{compacted:?}");
    scene.skipped(FaultKind::Compact, "spare", "has nothing to stand for").await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_killed_in_the_middle_of_a_snapshot_or_not_at_all() {
    let scene = scene().await;
    scene.skipped(FaultKind::Kill, "snapshotting", "no node was seen to write a snapshot").await;
    // Whoever takes one again and again is caught in the middle of it.
    let leader = scene.leader().await.node;
    let busy = {
        let (cluster, leader) = (Arc::clone(&scene.cluster), leader.clone());
        tokio::spawn(async move {
            // Each change is an entry more, without which there is nothing to take.
            while cluster.node(&leader).state() != NodeState::Down {
                for name in ["n4", "n5"] {
                    let change = |add: bool| {
                        let names = vec![name.to_owned()];
                        match add {
                            true => {
                                mkraft_harness::system::operator::Change { add: names, ..Default::default() }
                            }
                            false => mkraft_harness::system::operator::Change {
                                remove: names,
                                ..Default::default()
                            },
                        }
                    };
                    for add in [true, false] {
                        _ = cluster.change(&change(add), Duration::from_secs(1)).await;
                        _ = cluster.compact(&leader).await;
                    }
                }
            }
        })
    };
    let deadline = Instant::now() + DEADLINE;
    let strike = loop {
        // It is killed only if it is seen to answer.
        scene.cluster.status().await;
        let (strike, heal) = scene.outcome(FaultKind::Kill, "snapshotting").await;
        if strike.outcome == Some(StrikeOutcome::Installed) {
            assert_eq!(heal.unwrap().outcome, Some(StrikeOutcome::Installed));
            break strike;
        }
        assert!(Instant::now() < deadline, "{strike:?}");
        sleep(POLL).await;
    };
    busy.abort();
    _ = busy.await;
    assert!(strike.detail.contains("bytes of taken.snap.tmp written"), "{strike:?}");
    scene.close().await;
}
