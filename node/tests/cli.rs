//! The command line as its users meet it: real processes of the node on loopback.

// What tests share may unwrap as tests do.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::CommandCargoExt;
use predicates::prelude::*;
use predicates::str::contains;

const DEADLINE: Duration = Duration::from_secs(20);

fn node() -> assert_cmd::Command {
    Command::cargo_bin("mkraft-node").unwrap().into()
}

/// A cluster of one, which ends with the test.
struct Single {
    child: Child,
    address: String,
}

impl Single {
    fn start(folder: &Path) -> Single {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let child = Command::cargo_bin("mkraft-node")
            .unwrap()
            .args([
                "run",
                "--id",
                "n1",
                "--listen",
                &address,
                "--election-timeout",
                "60ms",
                "--heartbeat",
                "20ms",
            ])
            .arg("--data-dir")
            .arg(folder.join("data"))
            .arg("--events")
            .arg(folder.join("events"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let single = Single { child, address };
        let deadline = Instant::now() + DEADLINE;
        while !single.status().contains("leader") {
            assert!(Instant::now() < deadline, "no leader within {DEADLINE:?}: {}", single.status());
            std::thread::yield_now();
        }
        single
    }

    fn status(&self) -> String {
        let output = node().args(["status", "--node", &format!("n1={}", self.address)]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn kv(&self, args: &[&str]) -> assert_cmd::assert::Assert {
        node().args(["kv", "--node", &format!("n1={}", self.address)]).args(args).assert()
    }

    fn terminate(mut self) -> std::process::ExitStatus {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        // Already gone after `terminate`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_person_can_put_get_swap_and_delete() {
    let folder = tempfile::tempdir().unwrap();
    let single = Single::start(folder.path());
    single.kv(&["get", "a"]).code(1).stdout("(none)\n");
    single.kv(&["put", "a", "1"]).success().stdout("ok\n");
    single.kv(&["get", "a"]).success().stdout("1\n");
    single.kv(&["get", "a", "--stale"]).success().stdout("1\n");
    single.kv(&["cas", "a", "--expect", "9", "2"]).code(1).stdout("1\n");
    single.kv(&["cas", "a", "--expect", "1", "2"]).success().stdout("ok\n");
    single.kv(&["cas", "b", "--absent", "3"]).success();
    single.kv(&["delete", "a"]).success();
    single.kv(&["delete", "a"]).code(1).stdout("(none)\n");
    single.kv(&["put", "", "1"]).code(2).stderr(contains("a key has 1 to 4096 bytes, this one has 0"));
}

#[test]
fn a_person_can_append_range_and_do_several_things_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let single = Single::start(folder.path());
    single.kv(&["range"]).code(1).stdout("(none)\n");
    single.kv(&["append", "log/a", "one"]).success().stdout("ok\n");
    single.kv(&["append", "log/a", ",two"]).success();
    single.kv(&["put", "log/b", "x"]).success();
    single.kv(&["put", "other", "y"]).success();
    single.kv(&["range", "log/"]).success().stdout("log/a\tone,two\nlog/b\tx\n").stderr("");
    single
        .kv(&["range", "--limit", "1", "--after", "log/a"])
        .success()
        .stdout("log/b\tx\n")
        .stderr(contains("there are more keys: --after log/b"));

    let output = single.kv(&["get", "log/b", "--with-version"]).success().get_output().stdout.clone();
    let output = String::from_utf8(output).unwrap();
    let (version, value) = output.trim_end().split_once('\t').unwrap();
    assert_eq!(value, "x");
    single.kv(&["delete", "log/b", "--version", "1"]).code(1).stdout(format!("{version}\n"));
    let found = ["--if", "value log/a one,two", "--if", &format!("version log/b {version}")];
    let then = ["--then", "put c two words", "--then", "append c !", "--then", "get c"];
    let otherwise = ["--else", "delete log/a"];
    let txn = [&["txn"], &found[..], &then, &otherwise].concat();
    single.kv(&txn).success().stdout("ok\nok\ntwo words!\n");
    single.kv(&["delete", "log/b", "--version", version]).success().stdout("ok\n");
    single.kv(&txn).code(1).stdout("ok\n");
    single.kv(&["txn", "--if", "absent log/a", "--then", "get log/a"]).success().stdout("(none)\n");

    single.kv(&["txn", "--then", "put c"]).code(2).stderr(contains("expected `get KEY`, `put KEY VALUE`"));
    single.kv(&["txn", "--if", "version c x"]).code(2).stderr(contains("\"x\" is not a version"));
    single.kv(&["txn", "--then", "get "]).code(2).stderr(contains("a key has 1 to 4096 bytes"));
}

#[test]
fn a_stopped_node_comes_back_with_what_it_held_and_its_disk_agrees_with_its_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let single = Single::start(folder.path());
    single.kv(&["put", "a", "1"]).success();
    node()
        .arg("dump")
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .assert()
        .code(2)
        .stderr(contains("is in use: a node runs on it"));
    assert!(single.terminate().success());

    let dump = node().arg("dump").arg("--data-dir").arg(folder.path().join("data")).output().unwrap();
    let dump = String::from_utf8(dump.stdout).unwrap();
    let single = Single::start(folder.path());
    single.kv(&["get", "a"]).success().stdout("1\n");

    let facts = |text: &str| {
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let without_context = lines.map(|mut line| {
            for field in ["seq", "t", "boot"] {
                line.as_object_mut().unwrap().remove(field);
            }
            line
        });
        without_context.collect::<Vec<_>>()
    };
    let dumped = facts(&dump);
    let events = facts(&std::fs::read_to_string(folder.path().join("events/boot-0002.jsonl")).unwrap());
    assert_eq!(dumped, events[..dumped.len()]);
    let first = std::fs::read_to_string(folder.path().join("events/boot-0001.jsonl")).unwrap();
    assert!(first.lines().last().unwrap().contains(r#""event":"stop","reason":"SIGTERM""#));
}

#[test]
fn a_damaged_disk_is_named_by_file_and_offset_and_its_node_refuses_to_start() {
    let folder = tempfile::tempdir().unwrap();
    let single = Single::start(folder.path());
    single.kv(&["put", "a", "1"]).success();
    single.kv(&["put", "b", "2"]).success();
    assert!(single.terminate().success());
    let data = folder.path().join("data");
    let verify = |more: &[&str]| node().arg("verify").args(more).arg("--data-dir").arg(&data).assert();
    verify(&[]).code(0).stdout(contains("sound: 1 segments"));
    let segment = data.join("log-0000000000000001.wal");
    let mut bytes = std::fs::read(&segment).unwrap();
    // In the first record after the base.
    bytes[170] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let named = contains(format!("{}: damaged at byte ", segment.display()));
    verify(&[])
        .code(1)
        .stdout(named.clone().and(contains("damaged: 1 segments")))
        .stderr(contains("new member"));
    let output = verify(&["--json"]).code(1).get_output().stdout.clone();
    let report: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(report["sound"], false);
    assert_eq!(report["damages"][0]["file"], segment.to_str().unwrap());
    let run = ["run", "--id", "n1", "--listen", "127.0.0.1:0", "--data-dir"];
    node().args(run).arg(&data).assert().code(2).stderr(named.and(contains("new member")));
    node().args(["verify", "--data-dir", "/dev/null/x"]).assert().code(2).stderr(contains("/dev/null/x"));
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let run = |args: &[&str]| node().arg("run").args(args).arg("--data-dir").arg(&data).assert();
    run(&["--id", "one", "--listen", "127.0.0.1:1"])
        .code(2)
        .stderr(contains("id: \"one\" is not a node's identity"));
    let config = folder.path().join("node.yaml");
    std::fs::write(&config, "heart-beat: 20ms\n").unwrap();
    run(&["--config", config.to_str().unwrap()]).code(2).stderr(contains("`heart-beat`").count(1));
    run(&["--id", "n1"]).code(2).stderr(contains("listen is missing"));
    run(&["--id", "n1", "--listen", "127.0.0.1:1", "--peer", "n2"]).code(2).stderr(contains("peer: \"n2\""));
    assert!(!data.exists(), "a node that was told nonsense has made its folder");
    node().args(["dump", "--data-dir", "/dev/null/x"]).assert().code(2).stderr(contains("/dev/null/x"));
    node()
        .args(["kv", "--node", "n1=127.0.0.1:1", "--timeout", "200ms", "get", "a"])
        .assert()
        .code(2)
        .stderr(contains("no answer within 200ms").and(contains("n1")));
    for timeout in ["61m", "500000000000y"] {
        node()
            .args(["kv", "--node", "n1=127.0.0.1:1", "--timeout", timeout, "get", "a"])
            .assert()
            .code(2)
            .stderr(contains("a timeout is at most 1h"));
    }
}

#[test]
fn an_attempt_ends_when_the_time_is_up() {
    // Takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("n1={}", silent.local_addr().unwrap());
    let start = Instant::now();
    node()
        .args(["kv", "--node", &address, "--timeout", "200ms", "get", "a"])
        .assert()
        .code(2)
        .stderr(contains("no answer within 200ms"));
    assert!(start.elapsed() < Duration::from_secs(2), "took {:?}", start.elapsed());
}

#[test]
fn an_address_in_use_is_named_and_the_disk_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = folder.path().join("data");
    node()
        .args(["run", "--id", "n1", "--listen", &address, "--data-dir"])
        .arg(&data)
        .assert()
        .code(2)
        .stderr(contains(address));
    assert!(!data.exists());
}
