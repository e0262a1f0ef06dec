//! Faults of links under the nemesis: each lands, with proof, and heals. A script stands in for the nodes, and the
//! test for what they say to each other.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mkraft_harness::cluster::{Cluster, Layout, Wiring};
use mkraft_harness::history::{OpType, Strike, StrikeOutcome};
use mkraft_harness::nemesis::{self, Book, Means};
use mkraft_harness::scenario::{Keep, Plan, Scenario, Step};
use mkraft_harness::system::{Mkraft, Settings};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const DEADLINE: Duration = Duration::from_secs(30);
const BEAT: Duration = Duration::from_millis(5);

/// Three nodes that all speak to each other, and clients who speak to all of them.
struct Scene {
    _folder: TempDir,
    cluster: Arc<Cluster>,
    talk: JoinSet<()>,
}

async fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster_stand_in.sh");
    let system = Mkraft::find(Some(&stand_in)).await.unwrap();
    let timing = Settings::timed(Duration::from_millis(500), Duration::from_millis(50));
    let guard = PathBuf::from(env!("CARGO_BIN_EXE_mkraft-harness"));
    let layout = Layout { guard, ..Layout::new(3, timing, folder.path(), Wiring::Linked) };
    let cluster = Arc::new(Cluster::start(system, &layout).await.unwrap());
    let mut talk = JoinSet::new();
    for address in cluster.direct_addresses().into_values() {
        let listener = TcpListener::bind(address).await.unwrap();
        talk.spawn(echo(listener));
    }
    for link in cluster.links() {
        talk.spawn(speak(link.listen));
    }
    let scene = Scene { _folder: folder, cluster, talk };
    scene.flows().await;
    scene
}

/// Gives back what it gets.
async fn echo(listener: TcpListener) {
    let mut peers = JoinSet::new();
    loop {
        let (mut peer, _) = listener.accept().await.unwrap();
        peers.spawn(async move {
            let (mut reads, mut writes) = peer.split();
            _ = tokio::io::copy(&mut reads, &mut writes).await;
        });
    }
}

/// Says a word again and again, over another connection when the last one has ended.
async fn speak(address: SocketAddr) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            let (mut reads, mut writes) = stream.split();
            let mut buffer = [0; 4096];
            let hears = async { while reads.read(&mut buffer).await.is_ok_and(|length| length > 0) {} };
            let says = async {
                while writes.write_all(b"word").await.is_ok() {
                    sleep(BEAT).await;
                }
            };
            tokio::select! { () = hears => {}, () = says => {} }
        }
        sleep(BEAT).await;
    }
}

impl Scene {
    /// Waits until bytes have passed both ways on every link.
    async fn flows(&self) {
        let links = self.cluster.links();
        let seen: Vec<_> = links.iter().map(|link| link.traffic()).collect();
        let flow = |(link, seen): (&mkraft_harness::cluster::Link, &mkraft_harness::cluster::Traffic)| {
            let now = link.traffic();
            now.forward_bytes > seen.forward_bytes && now.backward_bytes > seen.backward_bytes
        };
        let deadline = Instant::now() + DEADLINE;
        while !links.iter().zip(&seen).all(flow) {
            assert!(Instant::now() < deadline, "not every link flows within {DEADLINE:?}");
            sleep(BEAT).await;
        }
    }

    /// Carries out one line of a scenario, as soon as may be. Its `invoke`, its `info`, and the two of its heal.
    async fn suffers(&self, fault: &str) -> Vec<(OpType, String, Strike)> {
        let (book, lines) = book();
        let (_stop, stopped) = watch::channel(false);
        let plan = Plan { steps: vec![step(fault)] };
        let means = Means::new(Arc::clone(&self.cluster), book);
        let run = nemesis::run(&plan, Instant::now(), &means, stopped);
        let left = timeout(DEADLINE, run).await.unwrap().unwrap();
        assert!(left.is_empty());
        let lines = lines.lock().unwrap();
        lines.clone()
    }

    async fn close(mut self) {
        self.talk.shutdown().await;
        Arc::into_inner(self.cluster).unwrap().close().await.unwrap();
    }
}

fn step(fault: &str) -> Step {
    let yaml = format!(
        "# A test.\nname: test\nduration: 2h\nworkload: {{ kind: register }}\nfaults: [{{ at: 0s, {fault} }}]"
    );
    let scenario = Scenario::parse("test.yaml", &yaml).unwrap_or_else(|error| panic!("{error}"));
    Plan::of(&scenario, 7).steps.remove(0)
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

/// The number before `word`.
fn number(detail: &str, word: &str) -> u64 {
    let words: Vec<&str> = detail.split(' ').collect();
    let at = words.iter().position(|found| found.trim_end_matches([',', ';']) == word);
    at.and_then(|at| words[at - 1].parse().ok()).unwrap_or_else(|| panic!("no number of {word} in: {detail}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_fault_lands_with_proof_and_when_it_is_healed_all_bytes_flow() {
    let scene = scene().await;
    type Shown = fn(&str, &str);
    let cases: [(&str, &[&str], Shown); 13] = [
        ("isolate: n1, for: 200ms", &["n1", "n2", "n3"], |struck, healed| {
            assert!(struck.starts_with("n1 <-> n2, n1 <-> n3: cut, 0 bytes passed since and "), "{struck}");
            assert!(number(healed, "bytes") > 0 && healed.ends_with("had waited and go on"), "{healed}");
        }),
        ("cut: n1 -> n2, for: 200ms", &["n1", "n2"], |struck, healed| {
            assert!(struck.starts_with("n1 -> n2: cut, 0 bytes passed"), "{struck}");
            assert!(number(healed, "bytes") > 0 && healed.ends_with("had waited and go on"), "{healed}");
        }),
        ("cut: minority <-> others, heal: reset, for: 200ms", &["n1", "n2", "n3"], |_, healed| {
            assert!(number(healed, "bytes") > 0 && number(healed, "connections") >= 4, "{healed}");
        }),
        ("cut: n3 -> clients, for: 200ms", &["n3"], |struck, _| {
            assert!(struck.starts_with("n3 -> clients: cut, 0 bytes passed"), "{struck}");
        }),
        ("cut: ring, for: 100ms", &["n1", "n2", "n3"], |struck, _| {
            assert_eq!(struck.matches(" -> ").count(), 3, "{struck}");
        }),
        ("flaky: all, flap: 30ms, for: 400ms", &["n1", "n2", "n3"], |_, healed| {
            assert!(number(healed, "times") >= 6, "{healed}");
        }),
        ("flaky: n1 -> n2, flap: 30ms, heal: reset, for: 400ms", &["n1", "n2"], |_, healed| {
            assert!(number(healed, "times") >= 2, "{healed}");
        }),
        (
            "delay: halves, by: 50ms, spread: 30%, distribution: normal, for: 200ms",
            &["n1", "n2", "n3"],
            |struck, _| {
                assert!(
                    struck.contains("bytes come about 50ms later") && number(struck, "waited") > 0,
                    "{struck}"
                );
            },
        ),
        ("throttle: clients -> n1, rate: 100B, for: 200ms", &["n1"], |struck, _| {
            assert!(struck.starts_with("clients -> n1: at most 100 bytes pass in a second"), "{struck}");
        }),
        ("slow-close: n1 <-> n2, by: 5ms, for: 50ms", &["n1", "n2"], |struck, _| {
            assert!(struck.contains("told 5ms later"), "{struck}");
        }),
        ("reset: n1", &["n1", "n2", "n3"], |struck, healed| {
            assert!(number(struck, "connections") >= 4 && healed.is_empty(), "{struck}");
        }),
        ("refuse: n2, for: 200ms", &["n1", "n2", "n3"], |struck, healed| {
            assert!(struck.ends_with("connections reset, and new ones refused"), "{struck}");
            assert!(healed.ends_with("can be connected to"), "{healed}");
        }),
        ("half-open: n1 -> n2, for: 200ms", &["n1", "n2"], |struck, healed| {
            assert_eq!(number(struck, "connections"), 2, "{struck}");
            assert!(healed.ends_with("2 were still believed to stand, and are told"), "{healed}");
        }),
    ];
    for (fault, nodes, shown) in cases {
        let lines = scene.suffers(fault).await;
        let detail = |at: usize| lines.get(at).map_or("", |(_, _, strike)| strike.detail.as_str());
        for (kind, _, strike) in lines.iter().filter(|(kind, ..)| *kind == OpType::Info) {
            let told = (*kind, strike.outcome, strike.nodes.iter().map(String::as_str).collect::<Vec<_>>());
            let expected = (OpType::Info, Some(StrikeOutcome::Installed), nodes.to_vec());
            assert_eq!(told, expected, "{fault}: {}", strike.detail);
        }
        assert_eq!(lines.len(), if fault.starts_with("reset") { 2 } else { 4 }, "{fault}");
        shown(detail(1), detail(3));
        scene.flows().await;
        for link in scene.cluster.links() {
            assert!(!link.heal(), "{fault} has left something on {link}");
        }
    }
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_twice_flows_when_both_are_healed_and_what_is_left_the_last_heal_takes_back() {
    let scene = scene().await;
    let (book, lines) = book();
    let (stop, stopped) = watch::channel(false);
    let faults = [
        "cut: n1 -> n2, for: 200ms",
        "cut: n1 <-> others, for: 1h",
        "flaky: n2 <-> n3, flap: 20ms, for: 1h",
        "refuse: clients -> all, for: 1h",
        "half-open: n2 -> clients, for: 1h",
    ];
    let steps: Vec<Step> = faults.iter().map(|fault| step(fault)).collect();
    let healed = |lines: &Lines, step| {
        let lines = lines.lock().unwrap();
        lines.iter().any(|(kind, f, strike)| *kind == OpType::Info && f == "heal" && strike.step == step)
    };
    let means = Means::new(Arc::clone(&scene.cluster), book);
    let nemesis = tokio::spawn({
        let means = means.clone();
        async move { nemesis::run(&Plan { steps }, Instant::now(), &means, stopped).await }
    });
    let all_struck = || lines.lock().unwrap().iter().filter(|(kind, ..)| *kind == OpType::Info).count() >= 6;
    let deadline = Instant::now() + DEADLINE;
    while !(healed(&lines, Some(0)) && all_struck()) {
        assert!(Instant::now() < deadline, "{:#?}", lines.lock().unwrap());
        sleep(BEAT).await;
    }
    // The second cut still holds what the first one does not any more.
    let link = |from: &str| scene.cluster.links().iter().find(|link| link.to_string() == from).unwrap();
    let passed = link("n1 -> n2").traffic().forward_bytes;
    sleep(4 * BEAT).await;
    assert_eq!(link("n1 -> n2").traffic().forward_bytes, passed);
    stop.send(true).unwrap();
    let left = timeout(DEADLINE, nemesis).await.unwrap().unwrap().unwrap();
    let outcome = nemesis::heal_all(&means, left).await.unwrap();
    drop(means);
    assert_eq!(outcome, StrikeOutcome::Installed);
    assert!((1..4).all(|step| healed(&lines, Some(step))) && healed(&lines, None));
    scene.flows().await;
    assert!(scene.cluster.links().iter().all(|link| !link.heal()));
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_quorum_is_kept_of_two_faults_that_would_take_it_together_the_second_is_skipped() {
    let scene = scene().await;
    let (book, lines) = book();
    let mut steps: Vec<Step> = [
        "isolate: n1, for: 1h",
        "kill: n2, down: 1h",
        "cut: n2 -> n3, for: 1h",
        // What n1 has is lost already, resets break nothing that lasts, and clients have the others.
        "kill: n1, down: 1h",
        "delay: n1 <-> others, by: 1ms, for: 1h",
        "reset: n2 <-> n3",
        "cut: clients <-> n1, for: 1h",
        "cut: clients <-> n3, for: 1h",
        "slow-close: all, by: 1ms, for: 1h",
    ]
    .map(step)
    .into();
    let means = Means::new(Arc::clone(&scene.cluster), book).keeping(Keep::Quorum);
    let mut left = Vec::new();
    // One after the other: what is struck at once may come in any order.
    for (number, step) in steps.drain(..).enumerate() {
        let before = (0..number).map(|_| Step { at: u64::MAX / 4, ..step.clone() });
        let plan = Plan { steps: before.chain([step.clone()]).collect() };
        let (stop, stopped) = watch::channel(false);
        let run = nemesis::run(&plan, Instant::now(), &means, stopped);
        let struck = || lines.lock().unwrap().len() == 2 * (number + 1);
        let stopping = async {
            while !struck() {
                sleep(BEAT).await;
            }
            stop.send_replace(true);
        };
        let (ended, ()) = timeout(DEADLINE, async { tokio::join!(run, stopping) }).await.unwrap();
        left.extend(ended.unwrap());
    }
    let told: Vec<_> =
        lines.lock().unwrap().iter().filter(|(kind, ..)| *kind == OpType::Info).cloned().collect();
    let outcomes: Vec<_> = told.iter().map(|(_, _, strike)| strike.outcome.unwrap()).collect();
    use StrikeOutcome::{Installed, Skipped};
    assert_eq!(
        outcomes,
        [Installed, Skipped, Skipped, Installed, Installed, Installed, Installed, Skipped, Installed],
        "{told:#?}"
    );
    let reason = "it would leave no whole quorum: n1 <-> n2 by step 0, n1 <-> n3 by step 0";
    assert_eq!((told[1].2.detail.as_str(), told[2].2.detail.as_str()), (reason, reason));
    // Nothing is said of service any more once clients are cut off, be it from who does not count anyway.
    let whole: Vec<_> = told.iter().map(|(_, _, strike)| strike.whole.unwrap()).collect();
    assert_eq!(whole, [true, true, true, true, true, true, false, false, false], "{told:#?}");
    assert_eq!(nemesis::heal_all(&means, left).await.unwrap(), Installed);
    drop(means);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shape_that_is_not_there_is_skipped_with_the_reason() {
    let scene = scene().await;
    let lines = scene.suffers("cut: partial-mesh, for: 200ms").await;
    let (_, _, strike) = lines.last().unwrap();
    assert_eq!(lines.len(), 2, "what was not done is not undone");
    assert_eq!((strike.outcome, strike.detail.as_str()), (Some(StrikeOutcome::Skipped), "no node leads"));
    scene.close().await;
}
