//! How long it takes from a line of evidence to the deed that waited for it: `on elected, kill it`, again and again.
//!
//! In: nothing; it starts a cluster of real nodes. Out: percentiles of when the line was seen and when the process was
//! proven dead, on standard output. Never: a verdict on them: they are the machine's as much as ours.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;
use mkraft_harness::cluster::{Cluster, Layout, Wiring};
use mkraft_harness::history::{OpType, StrikeOutcome};
use mkraft_harness::nemesis::{self, Book, Means};
use mkraft_harness::scenario::Plan;
use mkraft_harness::system::{Mkraft, Settings};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

const ELECTIONS: u32 = 60;
const LIMIT: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() {
    let harness = PathBuf::from(env!("CARGO_BIN_EXE_mkraft-harness"));
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--package", "mkraft-node"])
        .status();
    assert!(built.unwrap().success(), "the node does not build");
    let node = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/mkraft-node");
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::timed(Duration::from_millis(300), Duration::from_millis(30));
    let layout = Layout { guard: harness, ..Layout::new(3, settings, folder.path(), Wiring::Linked) };
    let system = Mkraft::find(Some(&node)).await.unwrap();
    let cluster = Arc::new(Cluster::start(system, &layout).await.unwrap());
    let steps = (0..ELECTIONS).map(|round| {
        let round = if round == 0 { String::new() } else { format!(r#","round":{round}"#) };
        format!(
            r#"{{"at":0,"script":0{round},"on":"elected","fault":"kill","target":"it","hold":100000000,"draw":0}}{}"#,
            "\n"
        )
    });
    let plan = Plan::from_jsonl("plan.jsonl", &steps.collect::<String>()).unwrap();
    let details = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&details);
    let book: Book = Arc::new(move |kind, f, strike| {
        if kind == OpType::Info && f == "kill" && strike.outcome == Some(StrikeOutcome::Installed) {
            told.lock().unwrap().push(strike.detail);
        }
        Ok(())
    });
    let means = Means::new(Arc::clone(&cluster), book);
    let (_stop, stopped) = watch::channel(false);
    let run = nemesis::run(&plan, Instant::now(), &means, stopped);
    let left = timeout(LIMIT, run).await.expect("elections go on").unwrap();
    nemesis::heal_all(&means, left).await.unwrap();
    drop(means);
    Arc::into_inner(cluster).unwrap().close().await.unwrap();
    let details = details.lock().unwrap();
    println!("from the line of an election to its leader's end, {} of {ELECTIONS}:", details.len());
    for (what, before, after) in
        [("seen", ", seen ", " ms and struck "), ("struck", " ms and struck ", " ms after")]
    {
        let mut times = Histogram::<u64>::new(3).unwrap();
        for detail in details.iter() {
            let time = detail.split_once(before).and_then(|(_, rest)| rest.split_once(after));
            let time: f64 = time.unwrap_or_else(|| panic!("{detail}")).0.parse().unwrap();
            times.record((time * 1e3) as u64).unwrap();
        }
        let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "{what:<8} p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, worst {:.2} ms",
            at(0.5),
            at(0.9),
            at(0.99),
            times.max() as f64 / 1e3
        );
    }
}
