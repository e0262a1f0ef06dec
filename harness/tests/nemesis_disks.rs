//! Faults of disks on real nodes: each lands, seen in files and in how the nodes end, and heals.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod scene;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mkraft_harness::cluster::{Layout, NodeState, Status};
use mkraft_harness::disk;
use mkraft_harness::history::StrikeOutcome;
use mkraft_harness::nemesis::{self, Book, Means};
use mkraft_harness::system::call::Call;
use mkraft_harness::system::client::NodeClient;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use scene::{DEADLINE, POLL, Scene, scene};

/// None, loudly, where this machine can have no disk of the harness.
async fn on_disks() -> Option<Scene> {
    if let Some(missing) = disk::missing() {
        eprintln!("SKIPPED, nothing is shown: {missing}");
        return None;
    }
    Some(scene(async |layout| Layout { disks: true, ..layout }).await)
}

/// Writes to whoever takes it, so that disks have something to do.
struct Writer {
    done: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Writer {
    fn start(scene: &Scene) -> Writer {
        let clients: Vec<NodeClient> = scene
            .cluster
            .direct_addresses()
            .into_iter()
            .map(|(node, address)| NodeClient::new(node, address, 1))
            .collect();
        let done = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&done);
        let task = tokio::spawn(async move {
            for client in clients.iter().cycle() {
                let put = Call::Put { key: "key".into(), value: "value".into() };
                let limit = Duration::from_millis(300);
                while let Ok(Ok(_)) = timeout(limit, client.ask(put.clone(), None)).await {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                sleep(POLL).await;
            }
        });
        Writer { done, task }
    }

    /// Some more writes were answered.
    async fn goes_on(&self) {
        let (before, deadline) = (self.done.load(Ordering::Relaxed), Instant::now() + DEADLINE);
        while self.done.load(Ordering::Relaxed) < before + 10 {
            assert!(Instant::now() < deadline, "no write is answered any more");
            sleep(POLL).await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn data(scene: &Scene, node: &str) -> PathBuf {
    scene.cluster.node_folder(node).data()
}

async fn leader(scene: &Scene) -> String {
    scene.cluster.leader_within(DEADLINE).await.unwrap().node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_of_power_takes_what_was_not_synced_and_the_node_comes_back() {
    let Some(scene) = on_disks().await else { return };
    let data = data(&scene, "n2");
    let written = |name: &str| {
        let mut file = File::create(data.join(name)).unwrap();
        file.write_all(b"here").unwrap();
        file
    };
    written("synced").sync_all().unwrap();
    File::open(&data).unwrap().sync_all().unwrap();
    written("unsynced");
    written("nameless").sync_all().unwrap();
    assert_eq!(fs::read(data.join("unsynced")).unwrap(), b"here");

    let run = scene.suffers(&["at: 0s, power-loss: n2, down: 2s"]);
    let strike = run.installed("power-loss").await;
    assert!(strike.detail.contains("ended by signal 9, lost"), "{}", strike.detail);
    assert_eq!(fs::read(data.join("synced")).unwrap(), b"here");
    assert!(!data.join("unsynced").exists() && !data.join("nameless").exists());
    fs::remove_file(data.join("synced")).unwrap();
    run.installed("heal").await;
    run.ends().await;
    assert!(scene.endings("n2").iter().all(|ending| ending.expected));
    scene.serves().await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_ends_the_node_as_it_should_and_it_is_started_again() {
    let Some(scene) = on_disks().await else { return };
    let writer = Writer::start(&scene);
    writer.goes_on().await;
    let run = scene.suffers(&["at: 0s, eio: leader, call: sync, nth: 2, down: 100ms"]);
    let strike = run.installed("eio").await;
    assert!(
        strike.detail.contains("sync number 2 failed with EIO, and it ended with exit code"),
        "{}",
        strike.detail
    );
    run.installed("heal").await;
    run.ends().await;
    let endings = scene.endings(&strike.nodes[0]);
    assert!(matches!(endings[..], [ref one] if one.failed && one.expected), "{endings:?}");
    assert!(matches!(endings[0].status, Status::Code(_)), "{endings:?}");
    scene.serves().await;
    writer.goes_on().await;
    drop(writer);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_never_comes_is_no_fault() {
    let Some(scene) = on_disks().await else { return };
    let run = scene.suffers(&["at: 0s, eio: n1, call: sync, nth: 10000, down: 0s"]);
    let strike = run.told("eio").await;
    assert_eq!(strike.outcome, Some(StrikeOutcome::Skipped), "{}", strike.detail);
    run.ends().await;
    assert!(scene.cluster.endings().is_empty());
    scene.serves().await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_hangs_is_followed_by_another_and_can_be_killed() {
    let Some(scene) = on_disks().await else { return };
    let writer = Writer::start(&scene);
    writer.goes_on().await;
    let old = leader(&scene).await;
    let run = scene.suffers(&["at: 0s, hung-disk: leader, for: 4s"]);
    let strike = run.installed("hung-disk").await;
    assert_eq!(strike.nodes.join(" "), old);
    let deadline = Instant::now() + DEADLINE;
    while leader(&scene).await == old {
        assert!(Instant::now() < deadline, "{old} still leads");
        sleep(POLL).await;
    }
    writer.goes_on().await;
    let killed = scene.suffers(&[&format!("at: 0s, kill: {old}, down: 0s")]);
    killed.installed("kill").await;
    killed.ends().await;
    let heal = run.installed("heal").await;
    assert!(heal.detail.contains("is not hanging any more"), "{}", heal.detail);
    run.ends().await;
    scene.serves().await;
    drop(writer);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_takes_its_time_until_it_is_healed() {
    let Some(scene) = on_disks().await else { return };
    let run = scene.suffers(&["at: 0s, slow-disk: n3, by: 200ms, for: 3s"]);
    run.installed("slow-disk").await;
    let file = data(&scene, "n3").join("slow");
    let write = || {
        let began = Instant::now();
        File::create(&file).unwrap().write_all(b"here").unwrap();
        began.elapsed()
    };
    let took = tokio::task::block_in_place(write);
    assert!(took >= Duration::from_millis(200), "{took:?}");
    run.installed("heal").await;
    run.ends().await;
    let disk = scene.cluster.node("n3").simulated_disk().unwrap();
    let slowed = disk.look().await.unwrap().slowed;
    assert!(slowed.writes > 0);
    tokio::task::block_in_place(write);
    assert_eq!(disk.look().await.unwrap().slowed, slowed);
    fs::remove_file(&file).unwrap();
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_has_no_block_left_until_it_is_healed() {
    let Some(scene) = on_disks().await else { return };
    let run = scene.suffers(&["at: 0s, full-disk: n3, for: 2s"]);
    run.installed("full-disk").await;
    let file = data(&scene, "n3").join("more");
    let write = || fs::write(&file, vec![1; 1 << 20]);
    assert_eq!(write().unwrap_err().kind(), io::ErrorKind::StorageFull);
    run.installed("heal").await;
    run.ends().await;
    write().unwrap();
    fs::remove_file(&file).unwrap();
    scene.serves().await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_trouble_befalls_only_the_disks_that_have_none() {
    let Some(scene) = on_disks().await else { return };
    let slow = scene.suffers(&["at: 0s, slow-disk: n2, by: 5ms, for: 1h"]);
    slow.installed("slow-disk").await;
    let run = scene.suffers(&["at: 0s, full-disk: all, for: 100ms"]);
    assert_eq!(run.installed("full-disk").await.nodes, ["n1", "n3"]);
    run.ends().await;
    scene.cluster.node("n2").heal_disk().await.unwrap();
    slow.stop.send_replace(true);
    timeout(DEADLINE, slow.nemesis).await.unwrap().unwrap();
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_heal_heals_disks() {
    let Some(scene) = on_disks().await else { return };
    let faults = ["at: 0s, hung-disk: n1, for: 1h", "at: 0s, power-loss: n2, down: 1h"];
    let run = scene.suffers(&faults);
    for f in ["hung-disk", "power-loss"] {
        run.installed(f).await;
    }
    run.stop.send_replace(true);
    let left = timeout(DEADLINE, run.nemesis).await.unwrap().unwrap();
    let book: Book = Arc::new(|_, _, _| Ok(()));
    let means = Means::new(Arc::clone(&scene.cluster), book);
    assert_eq!(nemesis::heal_all(&means, left).await.unwrap(), StrikeOutcome::Installed);
    drop(means);
    assert!(!scene.cluster.node("n1").has_troubled_disk().await);
    assert!(scene.cluster.states().values().all(|state| *state == NodeState::Running));
    scene.serves().await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_hangs_is_not_looked_at_for_damage() {
    let Some(scene) = on_disks().await else { return };
    let run = scene.suffers(&["at: 0s, hung-disk: n3, for: 1h"]);
    run.installed("hung-disk").await;
    let flips = scene.suffers(&["at: 0s, bit-flip: n3, file: log, place: middle, down: 100ms"]);
    let flip = flips.told("bit-flip").await;
    assert_eq!(flip.outcome, Some(StrikeOutcome::Skipped), "{}", flip.detail);
    assert_eq!(flip.detail, "n3: its disk hangs, and whoever reads its files with it");
    flips.ends().await;
    assert_eq!(scene.cluster.node("n3").start_count(), 1, "nobody was killed for it");
    scene.cluster.node("n3").heal_disk().await.unwrap();
    run.stop.send_replace(true);
    timeout(DEADLINE, run.nemesis).await.unwrap().unwrap();
    scene.close().await;
}
