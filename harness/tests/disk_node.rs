//! A real node on a disk that forgets: all that it has acknowledged is there after any loss of power.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use mkraft_harness::disk::ledger::{Act, Cut, Ledger, Replay};
use mkraft_harness::disk::model::ROOT;
use mkraft_harness::disk::states::States;
use mkraft_harness::disk::{self, Disk, Place};

const HARNESS: &str = env!("CARGO_BIN_EXE_mkraft-harness");
const LIMIT: Duration = Duration::from_secs(300);
const ROUNDS: u64 = 6;
const KEYS: u64 = 12;

#[test]
fn a_node_has_all_it_acknowledged_after_each_of_many_power_losses() {
    if let Some(missing) = disk::missing() {
        eprintln!("SKIPPED, nothing is proven: {missing}");
        return;
    }
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "mkraft-node"]).status();
    assert!(built.unwrap().success(), "the node does not build");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, survives()).await.expect("it ends in time") });
}

async fn survives() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let place = Place::new(&data, folder.path().join("beside"));
    let disk = Disk::mount(Path::new(HARNESS), &place).await.unwrap();
    let node = Node { data, folder: folder.path().to_owned(), address: free_address() };
    let mut lost = 0;
    for round in 0..ROUNDS {
        let mut running = node.start();
        for key in 0..KEYS {
            let key = format!("{round}-{key}");
            let put = node.kv(&["put", &key, &"value".repeat(500)]);
            assert!(put.status.success(), "{put:?} {}", node.told());
        }
        running.0.kill().unwrap();
        // Not waited for: the power goes while the node is on its way out.
        let loss = disk.lose_power(round).await.unwrap();
        lost += loss.names + loss.files;
        running.0.wait().unwrap();
        for command in ["verify", "dump"] {
            let checked = node.command().args([command, "--data-dir"]).arg(&node.data).output().unwrap();
            assert!(checked.status.success(), "{command} after {loss}: {checked:?}");
        }
    }
    let running = node.start();
    for (round, key) in (0..ROUNDS).flat_map(|round| (0..KEYS).map(move |key| (round, key))) {
        let got = node.kv(&["get", &format!("{round}-{key}")]);
        let value = String::from_utf8_lossy(&got.stdout);
        assert_eq!(value.trim(), "value".repeat(500), "{got:?} {}", node.told());
    }
    drop(running);
    assert!(lost > 0, "at some time something was on its way");

    let look = disk.look().await.unwrap();
    assert!(look.calls.syncs > ROUNDS * KEYS && !look.ledger.cut, "{look:?}");
    let ledger = Ledger::read(&place.beside).unwrap();
    assert_eq!(ledger.cut, Some(Cut::NoEnd), "it may go on");
    let acts = |is: fn(&Act) -> bool| ledger.entries.iter().filter(|entry| is(&entry.act)).count() as u64;
    assert_eq!(acts(|act| matches!(act, Act::PowerLoss { .. })), ROUNDS);
    assert!(acts(|act| matches!(act, Act::Sync { failed: false, .. })) > ROUNDS * KEYS);
    assert!(acts(|act| matches!(act, Act::Rename { .. })) > 1, "snapshots come under their names");
    assert_replays(&ledger, disk.path());
    disk.unmount().await.unwrap();
    assert!(!disk::is_mounted(disk.path()).unwrap());
    assert_eq!(Ledger::read(&place.beside).unwrap().cut, None);
}

/// What the ledger tells is what is there.
fn assert_replays(ledger: &Ledger, mount: &Path) {
    let mut replay = Replay::new(ledger);
    replay.go_to(ledger.entries.len()).unwrap();
    let model = replay.model();
    let names = model.entries(ROOT).unwrap().now();
    assert_eq!(fs::read_dir(mount).unwrap().count(), names.len());
    for (name, file) in names {
        let there = fs::read(mount.join(name)).unwrap();
        assert!(model.read(*file, 0, there.len() + 1) == Ok(there), "{name} is another in the ledger");
    }
    let states: Vec<_> = States::of(model, 20, 1).collect();
    assert!(states.iter().all(|state| state.tree.contains_key("identity")));
}

struct Node {
    data: PathBuf,
    folder: PathBuf,
    address: String,
}

impl Node {
    fn command(&self) -> Command {
        Command::new(Path::new(HARNESS).with_file_name("mkraft-node"))
    }

    fn start(&self) -> Running {
        let log = fs::File::options().append(true).create(true).open(self.folder.join("log")).unwrap();
        let mut command = self.command();
        command.args(["run", "--id", "n1", "--compact-entries", "10", "--election-timeout", "150ms"]);
        command.args(["--heartbeat", "30ms", "--listen", &self.address, "--data-dir"]).arg(&self.data);
        Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn kv(&self, arguments: &[&str]) -> Output {
        let node = format!("n1={}", self.address);
        self.command().args(["kv", "--timeout", "20s", "--node", &node]).args(arguments).output().unwrap()
    }

    fn told(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

/// A node, which ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
