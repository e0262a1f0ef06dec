//! How much load the harness makes: the clients of a run, and the history they write, against nodes that answer at once.
//!
//! In: nothing; the nodes are a process of their own, which this program starts as itself. Out: for each rate what was
//! achieved of it, how late operations were invoked, how many never were, and what one cost this process, on standard
//! output. Never: a verdict on these, which are the machine's as much as ours; a figure of a history with a wrong answer.
#![allow(clippy::unwrap_used)]

#[path = "../tests/fake/mod.rs"]
mod fake;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mkraft_harness::check::Status;
use mkraft_harness::check::linearizability::Book;
use mkraft_harness::check::models::Model;
use mkraft_harness::history::{Ended, History, Operation, Recorder};
use mkraft_harness::scenario::{Scenario, Workload};
use mkraft_harness::system::gates::Gates;
use mkraft_harness::workload::Load;
use nix::sys::resource::{UsageWho, getrusage};
use tokio::time::{MissedTickBehavior, interval};

/// As the harness itself has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// With this word the program is the nodes.
const NODES: &str = "nodes-that-answer-at-once";
const NODE_COUNT: usize = 3;
const CLIENTS: u32 = 200;
const RATES: [u32; 2] = [5_000, 20_000];
const LOAD: Duration = Duration::from_secs(5);
/// As often as a run does.
const FLUSH: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() {
    if std::env::args().any(|word| word == NODES) {
        return be_nodes().await;
    }
    for rate in RATES {
        let mut nodes = Nodes::start();
        drive(rate, &nodes.addresses).await;
        nodes.end();
    }
}

/// Serves until whoever started it closes standard input.
async fn be_nodes() {
    let fakes = fake::Fakes::start(&[fake::Manner::Answer; NODE_COUNT]).await;
    let mut out = std::io::stdout();
    for (name, address) in &fakes.addresses {
        writeln!(out, "{name} {address}").unwrap();
    }
    out.flush().unwrap();
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await.unwrap().unwrap();
}

struct Nodes {
    process: Child,
    addresses: Vec<(String, SocketAddr)>,
}

impl Nodes {
    fn start() -> Nodes {
        let program = std::env::current_exe().unwrap();
        let mut process =
            Command::new(program).arg(NODES).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().take(NODE_COUNT);
        let addresses = lines.map(|line| {
            let line = line.unwrap();
            let (name, address) = line.split_once(' ').unwrap();
            (name.to_owned(), address.parse().unwrap())
        });
        Nodes { addresses: addresses.collect(), process }
    }

    fn end(&mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success(), "the nodes failed");
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        // When it has ended already there is nothing to kill.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

async fn drive(rate: u32, addresses: &[(String, SocketAddr)]) {
    let folder = tempfile::tempdir_in(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")).unwrap();
    let path = folder.path().join("history.jsonl");
    let recorder = Arc::new(Recorder::create(&path).unwrap());
    let (began, before) = (Instant::now(), processor_time());
    let gates = Gates::default();
    let mut load = Load::start(&workload(rate), 7, addresses, &gates, Arc::clone(&recorder)).await.unwrap();
    let mut ticks = interval(FLUSH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while began.elapsed() < LOAD {
        ticks.tick().await;
        recorder.flush().unwrap();
    }
    let (seconds, so_far) = (began.elapsed().as_secs_f64(), load.snapshot());
    load.stop().await;
    recorder.flush().unwrap();
    let processor = processor_time().saturating_sub(before);
    assert_eq!(load.trouble(), None);
    let end = load.snapshot();
    let started = end.ok + end.fail + end.info;
    let late = |permille| load.late().quantile(permille).as_secs_f64() * 1e3;
    println!(
        "{rate} operations/s: {:.0} achieved; late p50 {:.2} ms, p99 {:.2} ms; {:.2}% not started, {} without an answer; \
         {:.1} us of processor time each",
        (so_far.ok + so_far.fail) as f64 / seconds,
        late(500),
        late(990),
        end.shed as f64 / (started + end.shed) as f64 * 100.0,
        assert_answers(&path, started),
        processor.as_secs_f64() * 1e6 / started as f64,
    );
}

fn workload(rate: u32) -> Workload {
    let workload = format!("{{ kind: register, clients: {CLIENTS}, keys: 20, rate: {rate}, timeout: 5s }}");
    let yaml = format!("# The harness is no bottleneck.\nname: drive\nduration: 5s\nworkload: {workload}\n");
    Scenario::parse("drive.yaml", &yaml).unwrap().workload
}

/// All answers together are right. How many operations have none: on a machine that is too slow for that.
fn assert_answers(path: &Path, started: u64) -> usize {
    let history = History::read(path).unwrap();
    assert_eq!(history.operations.len() as u64, started);
    let book = Book { history: &history, file: "history.jsonl", lines: None, epoch_ns: 0 };
    let verdict = Model::CasRegister.verdict(&book);
    assert_eq!(verdict.status, Status::Holds, "{}", verdict.summary);
    let answered = |operation: &&Operation| operation.ended == Ended::Ok || operation.seen.is_some();
    history.operations.len() - history.operations.iter().filter(answered).count()
}

/// Of all threads of this process, in the kernel too.
fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64))
        .sum()
}
