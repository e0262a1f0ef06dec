//! Members that come and go, between real processes: what an operator asks, and what all of them tell of it.

// What tests share may unwrap as tests do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::CommandCargoExt;
use mkraft_proto::evidence::{Event, Line};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const DEADLINE: Duration = Duration::from_secs(60);

/// Four nodes that know each other's addresses; n4 is no member.
struct Cluster {
    folder: tempfile::TempDir,
    addresses: BTreeMap<String, String>,
    children: BTreeMap<String, Child>,
}

impl Cluster {
    fn start() -> Cluster {
        let listeners: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let addresses = (1..).map(|id| format!("n{id}")).zip(listeners.iter().map(address)).collect();
        drop(listeners);
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Cluster { folder, addresses, children: BTreeMap::new() };
        for id in ["n1", "n2", "n3"] {
            cluster.run(id, &["--leases", "--voter", "n1", "--voter", "n2", "--voter", "n3"]);
        }
        cluster.run("n4", &["--leases", "--join"]);
        cluster
    }

    fn run(&mut self, id: &str, more: &[&str]) {
        let mut command = Command::cargo_bin("mkraft-node").unwrap();
        command.args(["run", "--id", id, "--listen", &self.addresses[id]]).args(more);
        for (peer, address) in self.addresses.iter().filter(|(peer, _)| *peer != id) {
            command.args(["--peer", &format!("{peer}={address}")]);
        }
        command.arg("--data-dir").arg(self.data(id));
        command.arg("--events").arg(self.events(id));
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(self.errors(id)).unwrap();
        self.children.insert(id.into(), command.stderr(Stdio::from(errors)).spawn().unwrap());
    }

    fn data(&self, id: &str) -> PathBuf {
        self.folder.path().join(id).join("data")
    }

    fn errors(&self, id: &str) -> PathBuf {
        self.folder.path().join(format!("{id}.stderr"))
    }

    /// What it has said of all its boots.
    fn said(&self, id: &str) -> String {
        std::fs::read_to_string(self.errors(id)).unwrap()
    }

    fn events(&self, id: &str) -> PathBuf {
        self.folder.path().join(id).join("events")
    }

    /// Asks all that run; standard output of a command that succeeds, standard error of one that does not.
    fn ask(&self, command: &str, timeout: &str, args: &[&str]) -> Result<String, String> {
        let mut node = Command::cargo_bin("mkraft-node").unwrap();
        node.arg(command).args(["--timeout", timeout]);
        for id in self.children.keys() {
            node.args(["--node", &format!("{id}={}", self.addresses[id])]);
        }
        let output = node.args(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    fn members(&self, args: &[&str]) -> String {
        self.ask("members", "30s", args).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    fn leader(&self) -> String {
        let shown = self.members(&["show"]);
        shown.lines().next().unwrap().split_whitespace().last().unwrap().to_owned()
    }

    /// Of the newest boot; the last line may not be whole.
    fn told(&self, id: &str) -> Vec<Event> {
        let files = std::fs::read_dir(self.events(id)).unwrap();
        let newest = files.map(|file| file.unwrap().path()).max().unwrap();
        let text = std::fs::read_to_string(newest).unwrap();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        lines.map(|line| line.event).collect()
    }

    fn wait(&self, what: &str, fact: impl Fn() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !fact() {
            assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
            std::thread::yield_now();
        }
    }

    fn terminate(&mut self, id: &str) {
        let mut child = self.children.remove(id).unwrap();
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        assert!(child.wait().unwrap().success());
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

#[test]
fn a_node_joins_takes_the_place_of_the_leader_and_the_next_leader_hands_over_when_it_stops() {
    let mut cluster = Cluster::start();
    cluster.ask("kv", "30s", &["put", "a", "1"]).unwrap();
    assert!(cluster.members(&["show"]).contains("voters    n1 n2 n3\nlearners  -\nindex     0"));
    let refused = cluster.ask("members", "5s", &["add-learner", "n9"]).unwrap_err();
    assert!(refused.contains("knows no address of n9"), "{refused}");
    let refused = cluster.ask("members", "5s", &["promote", "n4"]).unwrap_err();
    assert!(refused.contains("n4 is no learner"), "{refused}");

    let added = cluster.members(&["add-learner", "n4"]);
    assert!(added.contains("voters    n1 n2 n3\nlearners  n4"), "{added}");
    assert_eq!(cluster.members(&["add-learner", "n4"]), added, "to ask again changes nothing");
    let old = cluster.leader();
    let replaced = cluster.members(&["replace", &old, "n4"]);
    let voters: Vec<&str> = ["n1", "n2", "n3", "n4"].into_iter().filter(|id| **id != *old).collect();
    let want = format!("voters    {}\nlearners  -", voters.join(" "));
    assert!(replaced.contains(&want), "{replaced}");

    let second = cluster.leader();
    assert_ne!(second, old, "who is removed leads no more");
    // It tells of the commit that removes it while it leads: others may learn of it at once.
    let changed: u64 = replaced.split_whitespace().last().unwrap().parse().unwrap();
    let led = |event: &Event| matches!(event, Event::Role { role, .. } if format!("{role:?}") == "Leader");
    let steps_down = |told: &[Event]| {
        let last = told.iter().rposition(led)?;
        let later = told[last + 1..].iter().position(|event| matches!(event, Event::Role { .. }));
        later.map(|at| last + 1 + at)
    };
    cluster.wait("the old leader steps down", || steps_down(&cluster.told(&old)).is_some());
    let told = cluster.told(&old);
    let commits = |event: &Event| matches!(event, Event::Commit { index, .. } if *index >= changed);
    let committed = told.iter().position(commits);
    assert!(committed.is_some_and(|at| at < steps_down(&told).unwrap()), "{committed:?} of {told:?}");
    assert_eq!(cluster.ask("kv", "30s", &["get", "a", "--here"]).unwrap(), "1\n");
    let target = voters.iter().find(|id| **id != second).unwrap();
    let transferred = cluster.members(&["transfer", target]);
    assert!(transferred.starts_with(&format!("leader    {target}\n")), "{transferred}");
    assert!(cluster.members(&["compact"]).contains(&format!("{target} has a snapshot at ")));

    // All that count tell of the joint configuration and of the last one.
    let joint = |event: &Event| matches!(event, Event::Config { outgoing, .. } if outgoing.len() == 3);
    for id in &voters {
        let last = |event: &Event| matches!(event, Event::Config { voters: told, outgoing, .. } if outgoing.is_empty() && *told == voters);
        cluster.wait("all tell of the change", || cluster.told(id).iter().any(last));
        assert!(cluster.told(id).iter().any(joint), "{id}");
    }

    let before = cluster.leader();
    let stays = voters.iter().find(|id| **id != before).unwrap();
    let elections = |cluster: &Cluster| {
        let asked = |event: &&Event| matches!(event, Event::Role { role, .. } if format!("{role:?}") == "PreCandidate");
        voters
            .iter()
            .filter(|id| **id != before)
            .map(|id| cluster.told(id).iter().filter(asked).count())
            .sum::<usize>()
    };
    let pre_votes = elections(&cluster);
    cluster.terminate(&before);
    assert_eq!(cluster.ask("kv", "30s", &["put", "a", "2"]).unwrap(), "ok\n");
    assert_ne!(cluster.leader(), before);
    assert_eq!(elections(&cluster), pre_votes, "nobody had to wait for a time-out; {stays} at least");
}

#[test]
fn a_cluster_that_was_stopped_as_a_whole_still_knows_its_folders_and_whom_it_began_with() {
    let mut cluster = Cluster::start();
    cluster.ask("kv", "30s", &["put", "a", "1"]).unwrap();
    let known = |cluster: &Cluster, id: &str| {
        std::fs::read_to_string(cluster.data(id).join("cluster")).unwrap_or_default()
    };
    cluster.wait("n1 and n2 know n3's folder", || {
        ["n1", "n2"].iter().all(|id| known(&cluster, id).contains("folder 3 "))
    });
    for id in ["n4", "n3", "n2", "n1"] {
        cluster.terminate(id);
    }
    std::fs::remove_dir_all(cluster.data("n3")).unwrap();

    // With the voters left away, and one that may not come back under its name.
    for id in ["n1", "n2", "n3"] {
        cluster.run(id, &["--leases"]);
    }
    assert_eq!(cluster.ask("kv", "30s", &["put", "a", "2"]).unwrap(), "ok\n");
    let shown = cluster.members(&["show"]);
    assert!(shown.contains("voters    n1 n2 n3\nlearners  -\nindex     0"), "{shown}");
    for id in ["n1", "n2"] {
        let refused = "n3 has come back with another data folder";
        cluster.wait("the others tell of it", || cluster.said(id).contains(refused));
    }
    let follows = |event: &Event| matches!(event, Event::Role { leader: Some(_), .. });
    let told = cluster.told("n3");
    assert!(!told.iter().any(follows), "somebody has spoken to it: {told:?}");

    cluster.terminate("n2");
    cluster.run("n2", &["--leases", "--voter", "n1", "--voter", "n2"]);
    let ended = cluster.children.get_mut("n2").unwrap().wait().unwrap();
    assert_eq!(ended.code(), Some(2));
    let said = cluster.said("n2");
    assert!(said.contains("the cluster began with n1 n2 n3, and now n1 n2 is given"), "{said}");
}
