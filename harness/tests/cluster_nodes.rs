//! Nodes under hands and malice: every act proven, every end noticed. A script stands in for the node.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mkraft_harness::cluster::{
    ActError, Cluster, DeedKind, Layout, NodeFolder, NodeState, Order, Status, Wiring,
};
use mkraft_harness::collect::{DumpError, collect};
use mkraft_harness::history::{OpType, Strike, StrikeOutcome};
use mkraft_harness::nemesis::{self, Book, Means};
use mkraft_harness::scenario::{FaultKind, Manner, Plan, Step};
use mkraft_harness::system::{Mkraft, Settings};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;
use tokio::sync::watch;

const DEADLINE: Duration = Duration::from_secs(20);

struct Scene {
    folder: TempDir,
    cluster: Arc<Cluster>,
}

/// Three nodes, of which those named have a file in their data folder that makes them behave badly.
async fn scene(bad: &[(&str, &str)]) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    for (node, file) in bad {
        let data = NodeFolder::new(folder.path(), node).data();
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join(file), "").unwrap();
    }
    let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster_stand_in.sh");
    let system = Mkraft::find(Some(&stand_in)).await.unwrap();
    assert_eq!(system.version, "stand-in 1.0");
    let timing = Settings::timed(Duration::from_millis(500), Duration::from_millis(50));
    let guard = PathBuf::from(env!("CARGO_BIN_EXE_mkraft-harness"));
    let layout = Layout { guard, ..Layout::new(3, timing, folder.path(), Wiring::Linked) };
    let cluster = Arc::new(Cluster::start(system, &layout).await.unwrap());
    let scene = Scene { folder, cluster };
    for node in ["n1", "n2", "n3"].into_iter().filter(|node| !bad.contains(&(node, "damaged"))) {
        scene.serves(node, 1).await;
    }
    scene
}

impl Scene {
    /// Waits until a node's `count`th start is past its beginnings.
    async fn serves(&self, node: &str, count: usize) {
        let starts = NodeFolder::new(self.folder.path(), node).data().join("starts");
        let begun = || fs::read_to_string(&starts).unwrap_or_default().lines().count();
        until("the node has begun", || begun() >= count).await;
    }

    async fn close(self) {
        let pids: Vec<u32> =
            self.cluster.nodes().iter().flat_map(|node| node.starts()).map(|start| start.pid).collect();
        Arc::into_inner(self.cluster).unwrap().close().await.unwrap();
        for pid in pids {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "pid {pid} is left");
        }
    }
}

async fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let began = Instant::now();
    while !fact() {
        assert!(began.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn thread_state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

#[tokio::test]
async fn a_node_is_paused_resumed_killed_and_started_with_proof() {
    let scene = scene(&[]).await;
    let node = scene.cluster.node("n2");
    let pid = node.starts()[0].pid;

    let paused = node.pause().await.unwrap();
    assert_eq!((paused.pid, paused.kind), (pid, DeedKind::Paused { threads: 1 }));
    assert_eq!((thread_state(pid), node.state()), ('T', NodeState::Paused));
    let again = node.pause().await.unwrap_err();
    assert!(
        matches!(again, ActError::Already { state: NodeState::Paused, .. }) && again.definite(),
        "{again}"
    );

    assert_eq!(node.resume().await.unwrap().kind, DeedKind::Resumed);
    assert_ne!(thread_state(pid), 'T');
    assert_eq!(node.state(), NodeState::Running);

    node.pause().await.unwrap();
    assert_eq!(node.kill().await.unwrap().kind, DeedKind::Killed);
    assert_eq!(node.state(), NodeState::Down);
    assert!(node.kill().await.unwrap_err().definite());

    let started = node.start().await.unwrap();
    assert_eq!((started.kind, started.start, node.state()), (DeedKind::Started, 2, NodeState::Running));
    assert_ne!(started.pid, pid);
    assert!(node.start().await.unwrap_err().definite());

    let endings = scene.cluster.endings();
    assert_eq!(endings.len(), 1);
    let ending = &endings[0];
    assert_eq!((ending.pid, ending.status, ending.order), (pid, Status::Signal(9), Some(Order::Kill)));
    assert!(ending.expected);
    scene.close().await;
}

#[tokio::test]
async fn a_crash_loop_ends_its_kills_with_the_most_that_there_may_be_and_says_so() {
    let scene = scene(&[]).await;
    let node = Arc::clone(&scene.cluster.nodes()[1]);
    node.crash_loop(Duration::from_millis(1), 3, ChaCha8Rng::seed_from_u64(7)).await.unwrap();
    until("the last start", || node.start_count() == 4).await;
    assert_eq!(node.state(), NodeState::CrashLoop, "until it is undone");
    let ended = node.end_crash_loop().await.unwrap();
    assert_eq!(ended.kind, DeedKind::CrashLoopEnded { kills: 3, others: 0, spent: true });
    assert!(
        ended.to_string().contains("3 times ended by signal 9 and started again, as often as"),
        "{ended}"
    );
    assert_eq!((node.start_count(), node.state()), (4, NodeState::Running));
    drop(node);
    scene.close().await;
}

#[tokio::test]
async fn sigterm_is_obeyed_even_by_a_paused_node_or_followed_by_sigkill() {
    let scene = scene(&[("n3", "stubborn")]).await;
    let grace = Duration::from_millis(300);
    scene.cluster.node("n1").pause().await.unwrap();
    for node in ["n1", "n2"] {
        let stopped = scene.cluster.node(node).terminate(DEADLINE).await.unwrap();
        assert_eq!(stopped.kind, DeedKind::Stopped { status: Status::Code(0), forced: false });
    }
    let stubborn = scene.cluster.node("n3").terminate(grace).await.unwrap();
    assert_eq!(stubborn.kind, DeedKind::Stopped { status: Status::Signal(9), forced: true });
    assert!(stubborn.took >= grace && stubborn.to_string().contains("did not obey"), "{stubborn}");
    let orders: BTreeMap<String, Option<Order>> =
        scene.cluster.endings().into_iter().map(|ending| (ending.node, ending.order)).collect();
    assert_eq!(orders["n1"], Some(Order::Terminate));
    assert_eq!(orders["n3"], Some(Order::KillAfterGrace));
    scene.close().await;
}

#[tokio::test]
async fn a_node_that_ends_unasked_is_a_finding_and_stays_down() {
    let scene = scene(&[("n1", "fragile"), ("n2", "damaged")]).await;
    fs::remove_file(NodeFolder::new(scene.folder.path(), "n1").data().join("fragile")).unwrap();
    until("both have ended", || scene.cluster.endings().len() == 2).await;
    let endings = scene.cluster.endings();
    let told: BTreeMap<&str, (Status, bool)> =
        endings.iter().map(|ending| (ending.node.as_str(), (ending.status, ending.expected))).collect();
    assert_eq!(told, BTreeMap::from([("n1", (Status::Code(7), false)), ("n2", (Status::Code(3), false))]));
    let log = fs::read_to_string(scene.cluster.node_folder("n2").log()).unwrap();
    assert_eq!(log, "refusing to start on a damaged log\n");
    let states = scene.cluster.states();
    assert_eq!(
        (states["n1"], states["n2"], states["n3"]),
        (NodeState::Down, NodeState::Down, NodeState::Running)
    );
    scene.close().await;
}

#[tokio::test]
async fn every_pair_and_every_client_has_a_link_of_its_own_to_what_listens() {
    let scene = scene(&[]).await;
    let names: Vec<String> = scene.cluster.links().iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), 9);
    assert!(
        names.contains(&"n3 -> n1".to_string()) && names.contains(&"clients -> n2".to_string()),
        "{names:?}"
    );
    // The stand-in does not listen; the test does so in its place.
    let n2 = tokio::net::TcpListener::bind(scene.cluster.direct_addresses()["n2"]).await.unwrap();
    let _client = tokio::net::TcpStream::connect(scene.cluster.client_addresses()["n2"]).await.unwrap();
    tokio::time::timeout(DEADLINE, n2.accept()).await.unwrap().unwrap();
    scene.close().await;
}

#[tokio::test]
async fn collecting_stops_and_dumps_every_node_and_says_what_is_missing() {
    let scene = scene(&[("n2", "damaged")]).await;
    scene.cluster.node("n1").pause().await.unwrap();
    until("n2 has ended", || scene.cluster.endings().len() == 1).await;
    let collection = collect(&scene.cluster).await;
    let [n1, n2, n3] = &collection.nodes[..] else { panic!("{collection:?}") };
    for node in [n1, n3] {
        let stop = node.stop.as_ref().unwrap().as_ref().unwrap();
        assert_eq!(stop.kind, DeedKind::Stopped { status: Status::Code(0), forced: false });
        node.dump.as_ref().unwrap();
        let dump = fs::read_to_string(scene.cluster.node_folder(&node.node).dump()).unwrap();
        assert_eq!(dump, "{\"the first line of\":\"a dump\"}\n");
    }
    assert!(n2.stop.is_none());
    let error = n2.dump.as_ref().unwrap_err();
    assert!(matches!(error, DumpError::Failed { status: Status::Code(1), .. }), "{error}");
    assert!(error.to_string().contains("damaged at byte 7"), "{error}");
    let folder = scene.cluster.node_folder("n2");
    assert!(!folder.dump().exists(), "half a dump must not be taken for one");
    assert!(fs::read_to_string(folder.dump_log()).unwrap().contains("damaged at byte 7"));
    assert_eq!(collection.troubles(), [error.to_string()]);

    collection.keep_data(true).await.unwrap();
    assert!(folder.data().exists());
    collection.keep_data(false).await.unwrap();
    assert!(!folder.data().exists());
    scene.close().await;
}

type Lines = Arc<Mutex<Vec<(OpType, String, Strike)>>>;

fn book() -> (Book, Lines) {
    let lines = Lines::default();
    let written = Arc::clone(&lines);
    let book: Book = Arc::new(move |kind, f, strike| {
        written.lock().unwrap().push((kind, f.to_string(), strike));
        Ok(())
    });
    (book, lines)
}

fn step(at_ms: u64, fault: FaultKind, target: &str, hold_ms: u64) -> Step {
    let (at, hold) = (at_ms * 1_000_000, hold_ms * 1_000_000);
    Step::strike(at, fault, target, Manner::Plain, hold, 7)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nemesis_carries_out_overlapping_strikes_one_act_at_a_time() {
    let scene = scene(&[]).await;
    let (book, lines) = book();
    let plan = Plan {
        steps: vec![
            step(0, FaultKind::Pause, "n1", 2_000),
            step(300, FaultKind::Kill, "n2", 1_200),
            step(600, FaultKind::Kill, "n2", 100),
            step(900, FaultKind::Kill, "all", 600),
            step(2_300, FaultKind::Restart, "n3", 0),
            step(2_600, FaultKind::Stop, "minority", 10),
            step(2_900, FaultKind::Pause, "leader", 10),
        ],
    };
    let (_stop, stopped) = watch::channel(false);
    let began = tokio::time::Instant::now();
    let means = Means::new(Arc::clone(&scene.cluster), book);
    let left = nemesis::run(&plan, began, &means, stopped).await.unwrap();
    nemesis::heal_all(&means, left).await.unwrap();
    drop(means);
    let lines = lines.lock().unwrap().clone();
    for pair in lines.chunks(2) {
        let [(OpType::Invoke, f, invoke), (OpType::Info, same_f, info)] = pair else { panic!("{pair:?}") };
        assert_eq!((f, invoke.step, &invoke.target), (same_f, info.step, &info.target));
        assert!(invoke.nodes.is_empty() && invoke.outcome.is_none() && info.outcome.is_some());
        assert!(invoke.whole.is_none() && info.whole.is_some());
    }
    let info = |f: &str, step: Option<u64>| {
        let mut found = lines
            .iter()
            .filter(|(kind, name, strike)| *kind == OpType::Info && name == f && strike.step == step);
        let strike = found.next().map(|(_, _, strike)| strike.clone());
        assert!(found.next().is_none(), "{f} of {step:?} came twice");
        strike
    };
    let installed = |f: &str, step: u64, nodes: &[&str]| {
        let strike = info(f, Some(step)).unwrap_or_else(|| panic!("no {f} of {step}: {lines:#?}"));
        assert_eq!(
            (strike.outcome, strike.nodes),
            (Some(StrikeOutcome::Installed), nodes.iter().map(ToString::to_string).collect()),
            "{}",
            strike.detail
        );
    };
    installed("pause", 0, &["n1"]);
    installed("kill", 1, &["n2"]);
    let whole = |f: &str, step| info(f, step).unwrap().whole;
    // One of three is broken, then two, then all, then none.
    assert_eq!((whole("pause", Some(0)), whole("kill", Some(1))), (Some(true), Some(false)));
    assert_eq!((whole("kill", Some(3)), whole("heal", None)), (Some(false), Some(true)));
    // n2 was down at the time of step 2, and step 3 struck those that were not.
    let skipped = info("kill", Some(2)).unwrap();
    assert_eq!((skipped.outcome, skipped.nodes.len()), (Some(StrikeOutcome::Skipped), 0));
    assert_eq!(skipped.detail, "nothing to strike: n2 is Down");
    assert_eq!(info("heal", Some(2)), None, "what was not done is not undone");
    installed("kill", 3, &["n1", "n3"]);
    installed("heal", 1, &["n2"]);
    installed("heal", 3, &["n1", "n3"]);
    installed("restart", 4, &["n3"]);
    installed("heal", 4, &["n3"]);
    // The pause of step 0 ended with the kill of step 3: there is nothing to resume.
    let overtaken = info("heal", Some(0)).unwrap();
    assert_eq!(overtaken.outcome, Some(StrikeOutcome::Skipped), "{}", overtaken.detail);
    assert_eq!(info("pause", Some(6)).unwrap().detail, "no node leads");
    assert_eq!(info("heal", None).unwrap().detail, "every node runs");
    assert!(scene.cluster.states().values().all(|state| *state == NodeState::Running));
    assert!(scene.cluster.endings().iter().all(|ending| ending.expected), "{:#?}", scene.cluster.endings());
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nemesis_that_is_stopped_leaves_its_faults_to_the_last_heal() {
    let scene = scene(&[]).await;
    let (book, lines) = book();
    let steps = vec![
        step(0, FaultKind::Pause, "n1", 3_600_000),
        step(0, FaultKind::Kill, "n2", 3_600_000),
        step(3_600_000, FaultKind::Kill, "n3", 0),
    ];
    let (stop, stopped) = watch::channel(false);
    let began = tokio::time::Instant::now();
    let means = Means::new(Arc::clone(&scene.cluster), book);
    let nemesis = {
        let means = means.clone();
        tokio::spawn(async move { nemesis::run(&Plan { steps }, began, &means, stopped).await })
    };
    until("both faults are recorded", || lines.lock().unwrap().len() == 4).await;
    stop.send(true).unwrap();
    let left = tokio::time::timeout(DEADLINE, nemesis).await.unwrap().unwrap().unwrap();
    assert_eq!(lines.lock().unwrap().len(), 4);

    nemesis::heal_all(&means, left).await.unwrap();
    drop(means);
    let (_, f, healed) = lines.lock().unwrap().last().unwrap().clone();
    assert_eq!((f.as_str(), healed.step, healed.target.as_str()), ("heal", None, "all"));
    assert_eq!(
        (healed.nodes, healed.outcome),
        (vec!["n1".into(), "n2".into()], Some(StrikeOutcome::Installed))
    );
    assert!(scene.cluster.states().values().all(|state| *state == NodeState::Running));
    scene.close().await;
}
