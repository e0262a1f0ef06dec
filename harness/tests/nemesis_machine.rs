//! Faults of what a machine gives its node: clocks, descriptors, memory, CPUs. Each lands, as the process itself or the
//! kernel tells, and heals.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mkraft_harness::cluster::{
    Clock, Cluster, Controller, Dial, Layout, NodeFolder, NodeState, Order, Tree, Wiring,
    clocks_can_be_changed, put_clock_library,
};
use mkraft_harness::history::{OpType, Strike, StrikeOutcome, monotonic_ns};
use mkraft_harness::nemesis::{self, Book, Means};
use mkraft_harness::scenario::{Plan, Scenario};
use mkraft_harness::system::{Mkraft, Settings};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

const HARNESS: &str = env!("CARGO_BIN_EXE_mkraft-harness");
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);
/// By which a wait may be late on a machine that does other things too.
const LATE_MS: u64 = 1000;

/// A folder as a run has it, with the page of one node.
struct Trial {
    run: TempDir,
    clock: Clock,
}

impl Trial {
    fn new() -> Trial {
        assert!(clocks_can_be_changed(), "the harness was built without its library");
        let run = tempfile::tempdir().unwrap();
        let folder = NodeFolder::new(run.path(), "n1");
        fs::create_dir_all(folder.root()).unwrap();
        put_clock_library(run.path()).unwrap();
        let clock = Clock::create(folder.root()).unwrap();
        Trial { run, clock }
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let folder = NodeFolder::new(self.run.path(), "n1");
        command.args(arguments).envs(Clock::environment()).current_dir(folder.root()).stdin(Stdio::null());
        command
    }

    /// The program that says what its clocks tell.
    fn reader(&self) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/preload/clock_reader.rs");
        let program = self.run.path().join("clock_reader");
        let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
        let mut compiler = Command::new(rustc);
        compiler.args(["--edition", "2024", "-D", "warnings", "-o"]).arg(&program).arg(&source);
        assert!(compiler.status().unwrap().success());
        program
    }
}

/// What the reader says: how long its wait was by its own clock and by the kernel's, in ms; its wall clock in s.
fn said(output: &[u8]) -> (u64, u64, i64) {
    let text = String::from_utf8(output.to_vec()).unwrap();
    let numbers: Vec<i64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    (numbers[0] as u64, numbers[1] as u64, numbers[2])
}

fn wall_s() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64
}

#[test]
fn every_wait_lasts_as_long_as_the_changed_clock_says() {
    const TOLD_MS: u64 = 2000;
    let trial = Trial::new();
    let reader = trial.reader();
    trial.clock.rate(Dial::Monotonic, 400);
    trial.clock.wall_back(Duration::from_secs(3600));
    let told = TOLD_MS.to_string();
    for wait in ["sleep", "park", "channel", "condition", "epoll", "poll", "select", "timer"] {
        let output = trial.command(&reader, &[wait, &told]).output().unwrap();
        assert!(output.status.success(), "{wait}: {output:?}");
        let (by_itself, by_kernel, wall) = said(&output.stdout);
        assert!(
            (TOLD_MS..TOLD_MS + 4 * LATE_MS).contains(&by_itself),
            "{wait}: {by_itself} ms by its own clock"
        );
        // The kernel's clock has ticks of 10 ms.
        let least = TOLD_MS / 4 - 20;
        assert!((least..least + LATE_MS).contains(&by_kernel), "{wait}: {by_kernel} ms of true time");
        assert!((wall - (wall_s() - 3600)).abs() < 5, "{wait}: the wall clock says {wall}");
    }
    assert_eq!(trial.clock.processes(), 8);
}

#[test]
fn a_wait_under_way_follows_a_change_of_its_clock() {
    let trial = Trial::new();
    let reader = trial.reader();
    for wait in ["sleep", "park", "epoll", "poll"] {
        let before = trial.clock.processes();
        let child = trial.command(&reader, &[wait, "300000"]).stdout(Stdio::piped()).spawn().unwrap();
        while trial.clock.processes() == before {
            thread::sleep(POLL);
        }
        let change = trial.clock.rate(Dial::Monotonic, 100_000);
        let output = child.wait_with_output().unwrap();
        let (by_itself, by_kernel, _) = said(&output.stdout);
        assert!(by_itself >= 300_000 && by_kernel < 10_000, "{wait}: {by_itself} ms in {by_kernel} ms");
        assert!(trial.clock.heard(change) > 0);
        trial.clock.rate(Dial::Monotonic, 100);
        let jumped = trial.clock.processes();
        let child = trial.command(&reader, &[wait, "300000"]).stdout(Stdio::piped()).spawn().unwrap();
        while trial.clock.processes() == jumped {
            thread::sleep(POLL);
        }
        // Until it has begun to wait, it has read its clock once at the least.
        thread::sleep(Duration::from_millis(200));
        trial.clock.forth(Dial::Monotonic, Duration::from_secs(300));
        let (by_itself, by_kernel, _) = said(&child.wait_with_output().unwrap().stdout);
        assert!(by_itself >= 300_000 && by_kernel < 10_000, "{wait}: {by_itself} ms in {by_kernel} ms");
    }
}

/// The node beside this harness, built if it is not there or out of date.
fn node_program() -> PathBuf {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "mkraft-node"]).status();
    assert!(built.unwrap().success(), "the node does not build");
    Path::new(HARNESS).with_file_name("mkraft-node")
}

struct Scene {
    folder: TempDir,
    cluster: Arc<Cluster>,
}

type Lines = Arc<Mutex<Vec<(OpType, String, Strike)>>>;

impl Scene {
    /// Three nodes that serve, whose clocks and limits can be changed.
    async fn new(limits: Vec<Controller>) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let system = Mkraft::find(Some(&node_program())).await.unwrap();
        let settings = Settings::timed(Duration::from_millis(500), Duration::from_millis(50));
        let layout = Layout::new(3, settings, folder.path(), Wiring::Linked);
        let layout = Layout { guard: PathBuf::from(HARNESS), clocks: true, limits, ..layout };
        let cluster = Arc::new(Cluster::start(system, &layout).await.unwrap());
        let scene = Scene { folder, cluster };
        scene.serves().await;
        scene
    }

    async fn serves(&self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let status = self.cluster.status().await;
            let all = status.len() == 3 && status.values().all(Result::is_ok);
            if all && self.cluster.leader().await.is_some() {
                return;
            }
            assert!(Instant::now() < deadline, "{status:?}");
            sleep(POLL).await;
        }
    }

    /// Carries out some lines of a scenario; meanwhile the nodes are asked how they are, so that they read their clocks.
    async fn suffers(&self, faults: &[&str]) -> Suffered {
        let rules: String = faults.iter().map(|fault| format!("  - {{ {fault} }}\n")).collect();
        let head = "# A test.\nname: test\nduration: 2h\nworkload: { kind: register }\nfaults:\n";
        let scenario = Scenario::parse("test.yaml", &format!("{head}{rules}"));
        let plan = Plan::of(&scenario.unwrap_or_else(|error| panic!("{error}")), 7);
        let lines = Lines::default();
        let book: Book = {
            let lines = Arc::clone(&lines);
            Arc::new(move |kind, f, strike| {
                lines.lock().unwrap().push((kind, f.to_string(), strike));
                Ok(())
            })
        };
        let (stop, stopped) = watch::channel(false);
        let means = Means::new(Arc::clone(&self.cluster), book);
        let asked = {
            let cluster = Arc::clone(&self.cluster);
            tokio::spawn(async move {
                loop {
                    cluster.status().await;
                    sleep(5 * POLL).await;
                }
            })
        };
        let nemesis = {
            let means = means.clone();
            async move {
                let run = nemesis::run(&plan, Instant::now(), &means, stopped);
                timeout(DEADLINE, run).await.unwrap().unwrap()
            }
        };
        Suffered { lines, stop, means, asked, nemesis: tokio::spawn(nemesis) }
    }

    fn pid(&self, node: &str) -> u32 {
        self.cluster.node(node).starts().last().unwrap().pid
    }

    fn log(&self, node: &str) -> String {
        fs::read_to_string(NodeFolder::new(self.folder.path(), node).log()).unwrap()
    }

    fn evidence(&self, node: &str) -> Vec<serde_json::Value> {
        let events = NodeFolder::new(self.folder.path(), node).events();
        let text = fs::read_to_string(events.join("boot-0001.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn close(self) {
        Arc::into_inner(self.cluster).unwrap().close().await.unwrap();
    }
}

/// A nemesis that carries out some lines of a scenario.
struct Suffered {
    lines: Lines,
    stop: watch::Sender<bool>,
    means: Means,
    asked: tokio::task::JoinHandle<()>,
    nemesis: tokio::task::JoinHandle<Vec<nemesis::Left>>,
}

impl Suffered {
    /// The `info` line of this kind.
    async fn told(&self, f: &str) -> Strike {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let found = {
                let lines = self.lines.lock().unwrap();
                lines.iter().find(|(kind, found, _)| *kind == OpType::Info && found == f).cloned()
            };
            if let Some((_, _, strike)) = found {
                return strike;
            }
            assert!(Instant::now() < deadline, "no {f}: {:#?}", self.lines.lock().unwrap());
            sleep(POLL).await;
        }
    }

    async fn installed(&self, f: &str) -> Strike {
        let strike = self.told(f).await;
        assert_eq!(strike.outcome, Some(StrikeOutcome::Installed), "{f}: {}", strike.detail);
        strike
    }

    /// As a run ends: what is held is healed.
    async fn ends(self) {
        self.stop.send_replace(true);
        let left = timeout(DEADLINE, self.nemesis).await.unwrap().unwrap();
        assert_eq!(nemesis::heal_all(&self.means, left).await.unwrap(), StrikeOutcome::Installed);
        self.asked.abort();
        _ = self.asked.await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clocks_are_changed_logs_the_changed_time_and_bears_witness_by_the_true_one() {
    let began = monotonic_ns();
    let scene = Scene::new(Vec::new()).await;
    let run = scene
        .suffers(&[
            "at: 0s, jump-clock: n2, by: 20h",
            "at: 0s, drift-clock: n3, clock: both, rate: 1000%, for: 2s",
        ])
        .await;
    let jumped = run.installed("jump-clock").await;
    assert!(
        jumped.detail.contains("n2: its wall clock is 72000.000 s ahead, at 100%, read "),
        "{}",
        jumped.detail
    );
    let drifting = run.installed("drift-clock").await;
    assert!(drifting.detail.contains("at 1000%, read "), "{}", drifting.detail);
    run.installed("heal").await;
    let ahead = scene.cluster.clock("n3").unwrap().look(Dial::Monotonic);
    assert_eq!(ahead.percent, 100);
    assert!(ahead.ahead_ns >= 17_000_000_000, "{ahead:?}");
    // The line that it writes when it stops is of the time that it was told.
    scene.cluster.node("n2").terminate(Duration::from_secs(5)).await.unwrap();
    let log = scene.log("n2");
    let last =
        humantime::parse_rfc3339(log.lines().last().unwrap().split_whitespace().next().unwrap()).unwrap();
    let ahead = last.duration_since(std::time::SystemTime::now()).unwrap().as_secs();
    assert!((19 * 3600..=20 * 3600).contains(&ahead), "{ahead} s ahead: {log}");
    scene.cluster.node("n2").start().await.unwrap();
    scene.serves().await;
    run.ends().await;
    let ended = monotonic_ns();
    for node in ["n2", "n3"] {
        assert_eq!(scene.cluster.clock(node).unwrap().look(Dial::Wall).ahead_ns, 0, "{node}");
        let lines = scene.evidence(node);
        assert!(!lines.is_empty());
        for line in lines {
            let t = line["t"].as_u64().unwrap();
            assert!((began..=ended).contains(&t), "{node}: {t} is not between {began} and {ended}: {line}");
        }
    }
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_nobody_reads_is_not_said_to_be_changed() {
    let scene = Scene::new(Vec::new()).await;
    // What is stopped reads nothing.
    scene.cluster.node("n1").pause().await.unwrap();
    let run = scene.suffers(&["at: 0s, jump-clock: n1, by: 1h"]).await;
    assert_eq!(run.told("jump-clock").await.outcome, Some(StrikeOutcome::Skipped));
    run.ends().await;
    scene.close().await;
}

/// What a client of HTTP/2 says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Speaks first, as HTTP/2 does, and is answered if there is anybody.
fn is_answered(address: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.write_all(PREFACE).unwrap();
    stream.read(&mut [0; 9]).is_ok_and(|bytes| bytes > 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_descriptors_takes_no_connection_until_it_has_some() {
    let scene = Scene::new(Vec::new()).await;
    let (address, pid) = (scene.cluster.direct_addresses()["n1"], scene.pid("n1"));
    let ask = move || tokio::task::spawn_blocking(move || is_answered(address));
    assert!(ask().await.unwrap());
    let limit = || {
        let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap().to_owned();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let before = limit();
    let run = scene.suffers(&["at: 0s, descriptors: n1, for: 2s"]).await;
    let told = run.installed("descriptors").await;
    assert!(limit() < 100 && told.detail.contains(&format!("none from {} on", limit())), "{}", told.detail);
    // Those that were there may have gone, and leave room for a few.
    let mut refused = false;
    let mut held = Vec::new();
    for _ in 0..20 {
        refused = refused || !ask().await.unwrap();
        if refused {
            break;
        }
        held.push(TcpStream::connect(address).unwrap());
    }
    assert!(refused, "n1 takes every connection");
    run.installed("heal").await;
    assert_eq!(limit(), before);
    drop(held);
    let deadline = Instant::now() + DEADLINE;
    while !ask().await.unwrap() {
        assert!(Instant::now() < deadline, "n1 takes no connection any more");
    }
    scene.serves().await;
    assert_eq!(scene.pid("n1"), pid, "it has ended");
    run.ends().await;
    scene.close().await;
}

/// The trees in which groups can be made, or none where this machine lets nobody make any.
fn can(controllers: &[Controller]) -> bool {
    let find = |controller: &Controller| Tree::find(*controller);
    match controllers.iter().map(find).collect::<Result<Vec<_>, _>>() {
        Ok(_) => true,
        Err(why) => {
            eprintln!("left out, for this machine cannot do it: {why}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_out_of_memory_is_ended_by_the_kernel_and_started_again() {
    if !can(&[Controller::Memory]) {
        return;
    }
    let scene = Scene::new(vec![Controller::Memory]).await;
    let pid = scene.pid("n2");
    let run = scene.suffers(&["at: 0s, memory: n2, most: 64KiB, for: 1h"]).await;
    run.installed("memory").await;
    // Connections take memory.
    let address = scene.cluster.direct_addresses()["n2"];
    let (deadline, mut held) = (Instant::now() + DEADLINE, Vec::new());
    while scene.cluster.node("n2").state() == NodeState::Running {
        assert!(Instant::now() < deadline, "n2 lives on {} connections", held.len());
        if let Ok(mut stream) = TcpStream::connect(address) {
            _ = stream.write_all(PREFACE);
            held.push(stream);
        }
        sleep(POLL).await;
    }
    let ending = scene.cluster.endings().into_iter().find(|ending| ending.pid == pid).unwrap();
    assert_eq!((ending.order, ending.expected), (Some(Order::OutOfMemory), true), "{ending:?}");
    let lines = Arc::clone(&run.lines);
    run.ends().await;
    let told = format!("{:?}", lines.lock().unwrap());
    assert!(told.contains("the kernel ended it 1 times"), "{told}");
    scene.serves().await;
    assert_ne!(scene.pid("n2"), pid);
    // One that ends by SIGKILL without a limit is a finding still.
    let pid = scene.pid("n2");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    while scene.cluster.node("n2").state() == NodeState::Running {
        sleep(POLL).await;
    }
    let ending = scene.cluster.endings().into_iter().find(|ending| ending.pid == pid).unwrap();
    assert!(!ending.expected, "{ending:?}");
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_little_of_a_cpu_is_kept_from_it_and_then_is_not() {
    if !can(&[Controller::Cpu]) {
        return;
    }
    let scene = Scene::new(vec![Controller::Cpu]).await;
    let group = Tree::find(Controller::Cpu).unwrap().group(scene.cluster.guard().pid(), "n3");
    assert!(group.has(scene.pid("n3")));
    let free = group.in_force().unwrap();
    let run = scene.suffers(&["at: 0s, cpu: n3, most: 1%, for: 3s"]).await;
    run.installed("cpu").await;
    assert!(group.in_force().unwrap().starts_with("1000"), "{}", group.in_force().unwrap());
    let healed = run.installed("heal").await;
    assert!(group.felt().unwrap() > 0, "{}", healed.detail);
    assert_eq!(group.in_force().unwrap(), free);
    run.ends().await;
    scene.serves().await;
    let folder = group.folder().to_path_buf();
    scene.close().await;
    assert!(!folder.exists(), "{} is left", folder.display());
}
