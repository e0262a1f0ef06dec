//! Faults that wait for facts, on real nodes: each strikes whom the evidence names, and scripts go on step by step.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mkraft_harness::cluster::{Cluster, Layout, NodeState, Wiring};
use mkraft_harness::history::{OpType, Recorder, Strike, StrikeOutcome};
use mkraft_harness::nemesis::{self, Book, Means};
use mkraft_harness::scenario::{Plan, Scenario};
use mkraft_harness::system::{Mkraft, Settings};
use mkraft_harness::workload::Load;
use mkraft_proto::evidence::{Event, Line, Role};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

const DEADLINE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);

type Told = (OpType, String, Strike);
type Lines = Arc<Mutex<Vec<Told>>>;

/// Nodes under load.
struct Scene {
    folder: TempDir,
    cluster: Arc<Cluster>,
    recorder: Arc<Recorder>,
    load: Load,
}

/// The node beside this harness, built if it is not there or out of date.
fn node_program() -> PathBuf {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "mkraft-node"]).status();
    assert!(built.unwrap().success(), "the node does not build");
    Path::new(env!("CARGO_BIN_EXE_mkraft-harness")).with_file_name("mkraft-node")
}

async fn scene(nodes: u32, spares: u32) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let timing = Settings::timed(Duration::from_millis(500), Duration::from_millis(50));
    // So that snapshots are taken all the time, and whoever was away needs one.
    let settings = Settings { compact_entries: 100, ..timing };
    let guard = PathBuf::from(env!("CARGO_BIN_EXE_mkraft-harness"));
    let layout = Layout { guard, spares, ..Layout::new(nodes, settings, folder.path(), Wiring::Linked) };
    let system = Mkraft::find(Some(&node_program())).await.unwrap();
    let cluster = Arc::new(Cluster::start(system, &layout).await.unwrap());
    assert!(cluster.leader_within(DEADLINE).await.is_some(), "nobody leads");
    let recorder = Arc::new(Recorder::create(&folder.path().join("history.jsonl")).unwrap());
    let yaml = "# A test.\nname: test\nduration: 1h\nworkload: { kind: register, clients: 6, keys: 3, rate: 200, timeout: 500ms }";
    let workload = Scenario::parse("test.yaml", yaml).unwrap_or_else(|error| panic!("{error}")).workload;
    let addresses: Vec<_> = cluster.client_addresses().into_iter().collect();
    let load = Load::start(&workload, 7, &addresses, cluster.gates(), Arc::clone(&recorder)).await.unwrap();
    Scene { folder, cluster, recorder, load }
}

/// A run of the nemesis, and what it writes.
struct Run {
    lines: Lines,
    stop: watch::Sender<bool>,
    means: Means,
    nemesis: tokio::task::JoinHandle<Result<Vec<nemesis::Left>, nemesis::BookError>>,
}

impl Scene {
    /// Carries out steps as they stand in a plan.
    fn suffers(&self, steps: &[&str]) -> Run {
        let plan =
            Plan::from_jsonl("plan.jsonl", &steps.iter().map(|step| format!("{step}\n")).collect::<String>());
        let plan = plan.unwrap_or_else(|error| panic!("{error}"));
        let lines = Lines::default();
        let written = Arc::clone(&lines);
        let book: Book = Arc::new(move |kind, f, strike| {
            written.lock().unwrap().push((kind, f.to_string(), strike));
            Ok(())
        });
        let means = Means::new(Arc::clone(&self.cluster), book).hearing(Arc::clone(&self.recorder));
        let (stop, stopped) = watch::channel(false);
        let nemesis = tokio::spawn({
            let means = means.clone();
            async move { nemesis::run(&plan, Instant::now(), &means, stopped).await }
        });
        Run { lines, stop, means, nemesis }
    }

    /// Every line that the nodes have written.
    fn evidence(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for node in self.cluster.nodes() {
            for boot in fs::read_dir(self.cluster.node_folder(node.name()).events()).unwrap() {
                let text = fs::read_to_string(boot.unwrap().path()).unwrap();
                // The last one may be being written.
                let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
                lines.extend(whole.map(|line| serde_json::from_str::<Line>(line).unwrap()));
            }
        }
        lines
    }

    fn is_whole(&self) -> bool {
        let run = self.cluster.states().values().all(|state| *state == NodeState::Running);
        run && self.cluster.links().iter().all(|link| !link.heal())
    }

    async fn close(mut self) {
        self.load.stop().await;
        assert_eq!(self.load.trouble(), None);
        let endings = self.cluster.endings();
        assert!(endings.iter().all(|ending| ending.expected), "{endings:#?}");
        Arc::into_inner(self.cluster).expect("nobody holds the cluster").close().await.unwrap();
        drop(self.folder);
    }
}

impl Run {
    /// To its own end. With what it left nothing may be held any more.
    async fn ends(self) -> Vec<Told> {
        let (told, left) = self.ends_with().await;
        assert_eq!(left, 0);
        told
    }

    /// With the number of faults left to the last heal.
    async fn ends_with(self) -> (Vec<Told>, usize) {
        let left = match timeout(DEADLINE, self.nemesis).await {
            Ok(ended) => ended.unwrap().unwrap(),
            Err(_) => panic!("not within {DEADLINE:?}: {:#?}", self.lines.lock().unwrap()),
        };
        let count = left.len();
        let healed = nemesis::heal_all(&self.means, left).await.unwrap();
        assert_eq!(healed, StrikeOutcome::Installed);
        let mut lines = self.lines.lock().unwrap().clone();
        let (_, _, last) = lines.pop().unwrap();
        assert_eq!((last.target.as_str(), last.whole), ("all", Some(true)));
        lines.pop();
        (lines, count)
    }

    async fn until(&self, what: &str, fact: impl Fn(&[Told]) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !fact(&self.lines.lock().unwrap()) {
            assert!(Instant::now() < deadline, "{what}: {:#?}", self.lines.lock().unwrap());
            sleep(POLL).await;
        }
    }
}

/// `info` lines, shortly: `kill 0 installed`.
fn infos(told: &[Told]) -> Vec<String> {
    let infos = told.iter().filter(|(kind, ..)| *kind == OpType::Info);
    let shortly = |(_, f, strike): &Told| {
        let outcome = match strike.outcome.unwrap() {
            StrikeOutcome::Installed => "installed",
            StrikeOutcome::Skipped => "skipped",
            StrikeOutcome::Indeterminate => "indeterminate",
        };
        format!("{f} {} {outcome}", strike.step.unwrap())
    };
    infos.map(shortly).collect()
}

fn info<'t>(told: &'t [Told], f: &str, step: u64) -> &'t Strike {
    let is_it =
        |(kind, name, strike): &&Told| *kind == OpType::Info && name == f && strike.step == Some(step);
    &told.iter().find(is_it).unwrap_or_else(|| panic!("no {f} of {step}: {told:#?}")).2
}

/// The node and the number of `on elected: n3 in term 5, seen ...`
fn cue(detail: &str, fact: &str) -> (String, u64) {
    let about = detail.strip_prefix(&format!("on {fact}: ")).unwrap_or_else(|| panic!("{detail}"));
    let about: Vec<&str> = about.split([',', ' ']).collect();
    assert!(detail.contains(" ms and struck ") && detail.contains(" ms after; "), "{detail}");
    (about[0].to_owned(), about.get(3).and_then(|number| number.parse().ok()).unwrap_or(0))
}

const TRIGGER: &str = r#"{"at":0,"on":"FACT","fault":"pause","target":"it","hold":20000000,"draw":7}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_on_each_fact_strikes_the_node_that_the_evidence_names() {
    let scene = scene(3, 1).await;
    let kill_leader = r#"{"at":1000000,"fault":"kill","target":"leader","hold":1500000000,"draw":1}"#;
    let restart = r#"{"at":1000000,"fault":"restart","target":"n2","hold":0,"draw":1}"#;
    let away = r#"{"at":1000000,"fault":"kill","target":"follower","hold":4000000000,"draw":1}"#;
    let isolate = r#"{"at":1000000,"fault":"isolate","target":"leader","manner":{"cut":{"heal":"deliver"}},"hold":3000000000,"draw":1}"#;
    let add = r#"{"at":1000000,"fault":"add","target":"n4","hold":1000000,"draw":1}"#;
    type Proof = fn(&Event, u64) -> bool;
    let in_no_line: Proof = |_, _| true;
    let cases: [(&str, Option<&str>, Proof); 15] = [
        ("write-ok", None, in_no_line),
        ("read-ok", None, in_no_line),
        ("append", None, |event, first| matches!(event, Event::Append { first: of, .. } if *of == first)),
        ("commit 3", None, |event, index| matches!(event, Event::Commit { index: of, .. } if *of == index)),
        ("commit +20", None, |event, index| matches!(event, Event::Commit { index: of, .. } if *of == index)),
        (
            "snapshot",
            None,
            |event, index| matches!(event, Event::Snapshot { index: of, installed: false, .. } if *of == index),
        ),
        ("snapshot-begins", None, in_no_line),
        (
            "candidate",
            Some(kill_leader),
            |event, term| matches!(event, Event::Role { term: of, role: Role::Candidate, .. } if *of == term),
        ),
        (
            "elected",
            Some(kill_leader),
            |event, term| matches!(event, Event::Role { term: of, role: Role::Leader, .. } if *of == term),
        ),
        (
            "term",
            Some(kill_leader),
            |event, term| matches!(event, Event::Role { term: of, .. } if *of == term),
        ),
        ("boot", Some(restart), |event, _| matches!(event, Event::Boot { .. })),
        (
            "installed",
            Some(away),
            |event, index| matches!(event, Event::Snapshot { index: of, installed: true, .. } if *of == index),
        ),
        (
            "truncate",
            Some(isolate),
            |event, after| matches!(event, Event::Truncate { after: of } if *of == after),
        ),
        (
            "config",
            Some(add),
            |event, index| matches!(event, Event::Config { index: of, .. } if *of == index),
        ),
        (
            "joint",
            Some(add),
            |event, index| matches!(event, Event::Config { index: of, outgoing, .. } if *of == index && !outgoing.is_empty()),
        ),
    ];
    for (fact, stimulus, proof) in cases {
        let trigger = TRIGGER.replace("FACT", fact);
        let steps: Vec<&str> = [Some(trigger.as_str()), stimulus].into_iter().flatten().collect();
        let told = scene.suffers(&steps).ends().await;
        let strike = info(&told, "pause", 0);
        assert_eq!(strike.outcome, Some(StrikeOutcome::Installed), "{fact}: {}", strike.detail);
        let (node, number) = cue(&strike.detail, fact);
        assert_eq!(strike.nodes, [&*node], "{fact}: {}", strike.detail);
        let shows = |line: &Line| line.node == node && proof(&line.event, number);
        assert!(scene.evidence().iter().any(shows), "{fact}: no line tells of {}", strike.detail);
        assert!(scene.is_whole(), "{fact}");
        assert!(scene.cluster.leader_within(DEADLINE).await.is_some(), "{fact}: nobody leads");
    }
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_elected_is_killed_after_its_line_again_and_again() {
    let scene = scene(3, 0).await;
    let steps: Vec<String> = (0..5)
        .map(|round| {
            let round = if round == 0 { String::new() } else { format!(r#","round":{round}"#) };
            format!(
                r#"{{"at":0,"script":0{round},"on":"elected","fault":"kill","target":"it","hold":300000000,"draw":7}}"#
            )
        })
        .collect();
    let mut steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    steps.push(r#"{"at":1000000,"fault":"kill","target":"leader","hold":300000000,"draw":1}"#);
    let told = scene.suffers(&steps).ends().await;
    let evidence = scene.evidence();
    let mut terms = Vec::new();
    for round in 0..5 {
        let strike = info(&told, "kill", round);
        assert_eq!(strike.outcome, Some(StrikeOutcome::Installed), "{}", strike.detail);
        let (node, term) = cue(&strike.detail, "elected");
        assert_eq!(strike.nodes, [&*node]);
        let elected = |line: &&Line| {
            line.node == node
                && matches!(line.event, Event::Role { term: of, role: Role::Leader, .. } if of == term)
        };
        let line = evidence.iter().find(elected).unwrap_or_else(|| panic!("{node} did not lead term {term}"));
        let ending = scene.cluster.node(&node).starts()[line.boot as usize - 1].ending.clone().unwrap();
        assert!(ending.at > line.t && ending.expected, "{ending:?}");
        terms.push(term);
    }
    assert!(terms.is_sorted_by(|before, after| before < after), "each election is struck once: {terms:?}");
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choreography_is_danced_in_its_order_and_from_round_to_round() {
    let scene = scene(5, 0).await;
    let moves = [
        r#"{"at":0,"script":0ROUND,"name":"old","fault":"isolate","target":"leader","manner":{"cut":{"heal":"deliver"}},"hold":"until-healed","draw":1}"#,
        r#"{"at":0,"script":0ROUND,"name":"new","on":"elected","by":"other","within":60000000000,"after":150000000,"fault":"stop","target":"it","hold":"until-healed","draw":2}"#,
        r#"{"at":0,"script":0ROUND,"on":"write-ok","by":"other","within":60000000000,"heal":"old","draw":3}"#,
        r#"{"at":0,"script":0ROUND,"heal":"all","draw":4}"#,
    ];
    let steps: Vec<String> = ["", r#","round":1"#]
        .iter()
        .flat_map(|round| moves.map(|step| step.replace("ROUND", round)))
        .collect();
    let told = scene.suffers(&steps.iter().map(String::as_str).collect::<Vec<_>>()).ends().await;
    let done = ["isolate 0", "stop 1", "heal 0", "heal 1", "isolate 4", "stop 5", "heal 4", "heal 5"];
    assert_eq!(infos(&told), done.map(|done| format!("{done} installed")));
    let evidence = scene.evidence();
    for first in [0, 4] {
        // All links of it, and of nobody else.
        let isolated = info(&told, "isolate", first);
        let old = isolated.detail.split(' ').next().unwrap();
        let stopped = info(&told, "stop", first + 1);
        let (new, term) = cue(&stopped.detail, "elected");
        assert_eq!(stopped.nodes, [&*new]);
        assert!(isolated.detail.contains(&format!("{old} <-> ")), "{}", isolated.detail);
        let elected = |line: &Line| {
            line.node == new
                && matches!(line.event, Event::Role { term: of, role: Role::Leader, .. } if of == term)
        };
        assert!(evidence.iter().any(elected), "{}", stopped.detail);
        // Of five one is away, then two, which leaves three that agree.
        assert_eq!((isolated.whole, stopped.whole), (Some(true), Some(true)));
    }
    assert!(scene.is_whole());
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_that_does_not_come_in_time_ends_its_round_and_what_is_held_is_healed() {
    let scene = scene(3, 0).await;
    let moves = [
        r#"{"at":0,"script":3ROUND,"name":"slow","fault":"delay","target":"n1","manner":{"delay":{"by_ns":1000000,"spread_percent":0,"distribution":"uniform"}},"hold":"until-healed","draw":1}"#,
        // Nobody has so much.
        r#"{"at":0,"script":3ROUND,"on":"commit 1000000000","within":50000000,"name":"much","fault":"kill","target":"it","hold":"until-healed","draw":2}"#,
        r#"{"at":0,"script":3ROUND,"fault":"kill","target":"much","hold":0,"draw":3}"#,
        r#"{"at":0,"script":3ROUND,"heal":"slow","draw":4}"#,
        r#"{"at":0,"script":3ROUND,"heal":"all","draw":5}"#,
    ];
    let steps: Vec<String> = ["", r#","round":1"#]
        .iter()
        .flat_map(|round| moves.map(|step| step.replace("ROUND", round)))
        .collect();
    let mut steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    steps.push(r#"{"at":0,"script":4,"on":"commit 1000000000","by":"n2","within":50000000,"draw":1}"#);
    let told = scene.suffers(&steps).ends().await;
    let of_script = |steps: std::ops::Range<u64>| -> Vec<Told> {
        let of = |(_, _, strike): &&Told| strike.step.is_some_and(|step| steps.contains(&step));
        told.iter().filter(of).cloned().collect()
    };
    for first in [0, 5] {
        let told = of_script(first..first + 5);
        let expected = [
            format!("delay {first} installed"),
            format!("kill {} skipped", first + 1),
            format!("kill {} skipped", first + 2),
            format!("heal {first} installed"),
        ];
        assert_eq!(infos(&told), expected);
        let missed = "no commit 1000000000 came within 50ms";
        assert_eq!(info(&told, "kill", first + 1).detail, missed);
        let after = format!("step {} was waiting before it: {missed}", first + 1);
        assert_eq!(info(&told, "kill", first + 2).detail, after);
    }
    let waited = info(&told, "wait", 10);
    assert_eq!((waited.outcome, waited.target.as_str()), (Some(StrikeOutcome::Skipped), "commit 1000000000"));
    assert_eq!(waited.detail, "no commit 1000000000 by n2 came within 50ms");
    assert!(scene.is_whole());
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_that_can_be_seen_no_more_is_told_at_once_and_one_that_others_may_bring_when_the_load_ends() {
    let scene = scene(3, 0).await;
    let run = scene.suffers(&[
        r#"{"at":0,"on":"commit 1000000000","by":"n2","fault":"kill","target":"it","hold":0,"draw":1}"#,
        r#"{"at":0,"on":"commit 1000000000","fault":"pause","target":"it","hold":0,"draw":1}"#,
        r#"{"at":1000000000,"fault":"compact","target":"n1","hold":0,"draw":1}"#,
    ]);
    run.until("the others are waiting", |told| infos(told).len() == 1).await;
    let boot = scene.cluster.node_folder("n2").events().join("boot-0001.jsonl");
    fs::remove_file(&boot).unwrap();
    run.until("it is told", |told| infos(told).len() == 2).await;
    run.stop.send(true).unwrap();
    let told = run.ends().await;
    let lost = format!("n2 is followed no more: {} was taken away", boot.display());
    let of_n2 = info(&told, "kill", 0);
    assert_eq!(of_n2.detail, format!("no commit 1000000000 by n2 can be seen: {lost}"));
    let of_anyone = info(&told, "pause", 1);
    assert_eq!(of_anyone.detail, format!("the load ended first; {lost}"));
    let outcomes = [of_n2, of_anyone].map(|strike| strike.outcome);
    assert_eq!(outcomes, [Some(StrikeOutcome::Skipped); 2]);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_script_holds_when_the_load_ends_is_left_to_the_last_heal() {
    let scene = scene(3, 0).await;
    let run = scene.suffers(&[
        r#"{"at":0,"script":0,"name":"cut","fault":"isolate","target":"n1","manner":{"cut":{"heal":"deliver"}},"hold":"until-healed","draw":1}"#,
        r#"{"at":0,"script":0,"name":"down","fault":"kill","target":"n2","hold":"until-healed","draw":1}"#,
        r#"{"at":0,"script":0,"on":"commit 1000000000","fault":"kill","target":"it","hold":0,"draw":1}"#,
        r#"{"at":0,"script":0,"heal":"all","draw":1}"#,
        r#"{"at":3600000000000,"fault":"kill","target":"n3","hold":0,"draw":1}"#,
    ]);
    run.until("both are held", |told| infos(told).len() == 2).await;
    run.stop.send(true).unwrap();
    let (told, left) = run.ends_with().await;
    assert_eq!(left, 1, "of processes the last heal knows by itself");
    assert_eq!(
        infos(&told),
        ["isolate 0 installed", "kill 1 installed", "kill 2 skipped", "heal 0 installed"]
    );
    assert_eq!(info(&told, "kill", 2).detail, "the load ended first");
    assert_eq!(info(&told, "kill", 1).whole, Some(false));
    assert!(scene.is_whole());
    scene.close().await;
}
