//! Snapshots between real processes: what a follower that was away for long gets, and what all of them tell of it.

// What tests share may unwrap as tests do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::CommandCargoExt;
use mkraft_proto::evidence::{Event, Line};

const DEADLINE: Duration = Duration::from_secs(60);

/// Three nodes that take a snapshot every few entries.
struct Cluster {
    folder: tempfile::TempDir,
    addresses: BTreeMap<String, String>,
    children: BTreeMap<String, Child>,
}

impl Cluster {
    fn start() -> Cluster {
        let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let addresses = (1..).map(|id| format!("n{id}")).zip(listeners.iter().map(address)).collect();
        drop(listeners);
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Cluster { folder, addresses, children: BTreeMap::new() };
        ["n1", "n2", "n3"].into_iter().for_each(|id| cluster.run(id));
        cluster
    }

    fn run(&mut self, id: &str) {
        let mut command = Command::cargo_bin("mkraft-node").unwrap();
        command.args(["run", "--id", id, "--listen", &self.addresses[id], "--compact-entries", "40"]);
        for (peer, address) in self.addresses.iter().filter(|(peer, _)| *peer != id) {
            command.args(["--peer", &format!("{peer}={address}")]);
        }
        command.arg("--data-dir").arg(self.data(id)).arg("--events").arg(self.events(id));
        self.children.insert(id.into(), command.stderr(Stdio::null()).spawn().unwrap());
    }

    fn kill(&mut self, id: &str) {
        let mut child = self.children.remove(id).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn data(&self, id: &str) -> PathBuf {
        self.folder.path().join(id).join("data")
    }

    fn events(&self, id: &str) -> PathBuf {
        self.folder.path().join(id).join("events")
    }

    /// Asks only those that run.
    fn kv(&self, args: &[&str]) -> String {
        let mut command = Command::cargo_bin("mkraft-node").unwrap();
        command.arg("kv").args(["--timeout", "30s"]);
        for id in self.children.keys() {
            command.args(["--node", &format!("{id}={}", self.addresses[id])]);
        }
        let output = command.args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn stale(&self, id: &str, key: &str) -> String {
        let node = format!("{id}={}", self.addresses[id]);
        let mut command = Command::cargo_bin("mkraft-node").unwrap();
        let output = command.args(["kv", "--node", &node, "get", key, "--stale"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// The lines of a node's newest boot; the last may not be whole.
    fn told(&self, id: &str) -> Vec<Event> {
        let files = std::fs::read_dir(self.events(id)).into_iter().flatten();
        let Some(newest) = files.map(|file| file.unwrap().path()).max() else { return Vec::new() };
        lines(&std::fs::read_to_string(newest).unwrap())
    }

    fn wait(&self, what: &str, fact: impl Fn() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !fact() {
            assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn lines(text: &str) -> Vec<Event> {
    text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()).map(|line| line.event).collect()
}

fn snapshots(events: &[Event]) -> BTreeMap<u64, String> {
    let digest = |event: &Event| match event {
        Event::Snapshot { index, digest, .. } => Some((*index, digest.to_string())),
        _ => None,
    };
    events.iter().filter_map(digest).collect()
}

fn node(args: &[&str], data: &Path) -> String {
    let mut command = Command::cargo_bin("mkraft-node").unwrap();
    let output = command.args(args).arg("--data-dir").arg(data).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_follower_that_was_away_gets_the_leaders_state_and_keeps_it_over_a_kill() {
    let mut cluster = Cluster::start();
    cluster.kv(&["put", "before", "1"]);
    cluster.wait("n3 has the first write", || cluster.stale("n3", "before") == "1\n");
    cluster.kill("n3");
    for round in 0..100 {
        cluster.kv(&["put", &format!("key{}", round % 7), &round.to_string()]);
    }
    cluster.run("n3");
    let installed = |event: &Event| matches!(event, Event::Snapshot { installed: true, .. });
    cluster.wait("n3 has installed a snapshot", || cluster.told("n3").iter().any(installed));
    cluster.kv(&["put", "after", "2"]);
    cluster.wait("n3 follows on", || cluster.stale("n3", "after") == "2\n");
    assert_eq!((cluster.stale("n3", "key1"), cluster.stale("n3", "before")), ("99\n".into(), "1\n".into()));

    // One state at one index, whoever took it.
    let mut known = BTreeMap::new();
    for id in ["n1", "n2", "n3"] {
        for (index, digest) in snapshots(&cluster.told(id)) {
            assert_eq!(*known.entry(index).or_insert(digest.clone()), digest, "{id} at {index}");
        }
    }
    assert!(known.len() >= 2, "{known:?}");

    cluster.kill("n3");
    let mut dump = lines(&node(&["dump"], &cluster.data("n3")));
    // Of clients that the command line opened a session for; no boot tells of them.
    let sessions = dump.split_off(dump.len() - 1);
    let [Event::Sessions { index, sessions }] = &sessions[..] else { panic!("{sessions:?}") };
    assert!(sessions.iter().all(|session| session.0 <= session.1 && session.1 <= *index), "{sessions:?}");
    assert!(sessions.len() > 10, "{sessions:?}");
    let Event::Boot { snapshot, first, last, .. } = dump[0] else { panic!("{:?}", dump[0]) };
    assert!(snapshot > 0 && first <= snapshot + 1 && last >= snapshot, "{:?}", dump[0]);
    assert!(snapshots(&dump).contains_key(&snapshot), "{:?}", dump[1]);
    assert!(node(&["verify"], &cluster.data("n3")).contains("sound"));
    cluster.run("n3");
    cluster.wait("n3 is back", || cluster.stale("n3", "after") == "2\n");
    assert_eq!(cluster.stale("n3", "key1"), "99\n");
    let told = cluster.told("n3");
    let words = |events: &[Event], count| events.iter().take(count).cloned().collect::<Vec<_>>();
    assert_eq!(words(&told, dump.len()), dump, "the next boot says what the dump said");
}
