//! A cluster of real nodes, and a nemesis that carries out some lines of a scenario on it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mkraft_harness::cluster::{Cluster, Ending, Layout, Wiring};
use mkraft_harness::history::{OpType, Strike, StrikeOutcome};
use mkraft_harness::nemesis::{self, Book, Means};
use mkraft_harness::scenario::{Plan, Scenario};
use mkraft_harness::system::{Mkraft, Settings};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

pub const HARNESS: &str = env!("CARGO_BIN_EXE_mkraft-harness");
pub const DEADLINE: Duration = Duration::from_secs(60);
pub const POLL: Duration = Duration::from_millis(2);

pub struct Scene {
    /// The nodes' files, until the end of the test.
    _folder: TempDir,
    pub cluster: Arc<Cluster>,
}

/// The node beside this harness, built if it is not there or out of date.
pub fn node_program() -> PathBuf {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "mkraft-node"]).status();
    assert!(built.unwrap().success(), "the node does not build");
    Path::new(HARNESS).with_file_name("mkraft-node")
}

/// Three nodes that serve. `change` has the last word on what they are made of.
pub async fn scene(change: impl AsyncFnOnce(Layout) -> Layout) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let system = Mkraft::find(Some(&node_program())).await.unwrap();
    let settings = Settings::timed(Duration::from_millis(500), Duration::from_millis(50));
    let guard = PathBuf::from(HARNESS);
    let layout = Layout { guard, ..Layout::new(3, settings, folder.path(), Wiring::Linked) };
    let layout = change(layout).await;
    let cluster = Arc::new(Cluster::start(system, &layout).await.unwrap());
    let scene = Scene { _folder: folder, cluster };
    scene.serves().await;
    scene
}

pub type Lines = Arc<Mutex<Vec<(OpType, String, Strike)>>>;

/// A nemesis that carries out some lines of a scenario.
pub struct Suffering {
    pub lines: Lines,
    pub stop: watch::Sender<bool>,
    pub nemesis: JoinHandle<Vec<nemesis::Left>>,
}

impl Scene {
    pub async fn serves(&self) {
        let all_answer = || async {
            let status = self.cluster.status().await;
            status.len() == self.cluster.nodes().len()
                && status.values().all(|status| status.as_ref().is_ok_and(|status| status.applied > 0))
        };
        let deadline = Instant::now() + DEADLINE;
        while !(all_answer().await && self.cluster.leader().await.is_some()) {
            assert!(Instant::now() < deadline, "{:?}", self.cluster.status().await);
            sleep(POLL).await;
        }
    }

    pub fn suffers(&self, faults: &[&str]) -> Suffering {
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
        let nemesis = async move {
            let run = nemesis::run(&plan, Instant::now(), &means, stopped);
            timeout(DEADLINE, run).await.unwrap().unwrap()
        };
        Suffering { lines, stop, nemesis: tokio::spawn(nemesis) }
    }

    pub fn endings(&self, node: &str) -> Vec<Ending> {
        self.cluster.endings().into_iter().filter(|ending| ending.node == node).collect()
    }

    pub async fn close(self) {
        Arc::into_inner(self.cluster).unwrap().close().await.unwrap();
    }
}

impl Suffering {
    /// The `info` line of this kind.
    pub async fn told(&self, f: &str) -> Strike {
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

    pub async fn installed(&self, f: &str) -> Strike {
        let strike = self.told(f).await;
        assert_eq!(strike.outcome, Some(StrikeOutcome::Installed), "{f}: {}", strike.detail);
        strike
    }

    pub async fn ends(self) {
        assert!(timeout(DEADLINE, self.nemesis).await.unwrap().unwrap().is_empty());
        drop(self.stop);
    }
}
