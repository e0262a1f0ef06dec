//! A cluster of real nodes through links: it elects, and survives what the hands can do to it.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mkraft_harness::cluster::{Cluster, DeedKind, GRACE, Layout, Leader, Source, Status, Wiring};
use mkraft_harness::collect::collect;
use mkraft_harness::system::{Mkraft, Settings};
use mkraft_proto::v1::kv_client::KvClient;
use mkraft_proto::v1::{GetRequest, PutRequest};
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};

const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// The node beside this harness, built if it is not there or out of date.
fn node_program() -> PathBuf {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "mkraft-node"]).status();
    assert!(built.unwrap().success(), "the node does not build");
    Path::new(env!("CARGO_BIN_EXE_mkraft-harness")).with_file_name("mkraft-node")
}

async fn start(folder: &Path, wiring: Wiring) -> Cluster {
    let timing = Settings::timed(Duration::from_millis(500), Duration::from_millis(50));
    let guard = PathBuf::from(env!("CARGO_BIN_EXE_mkraft-harness"));
    let system = Mkraft::find(Some(&node_program())).await.unwrap();
    Cluster::start(system, &Layout { guard, ..Layout::new(3, timing, folder, wiring) }).await.unwrap()
}

/// Waits for a leader of a later term than `term`.
async fn leader_after(cluster: &Cluster, term: u64) -> Leader {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match cluster.leader().await {
            Some(leader) if leader.term > term => return leader,
            _ => assert!(
                Instant::now() < deadline,
                "no leader after term {term}: {:?}",
                cluster.status().await
            ),
        }
        sleep(POLL).await;
    }
}

/// Waits until every node has applied as much as the leader had committed.
async fn all_have_applied(cluster: &Cluster, commit: u64) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let status = cluster.status().await;
        if status.len() == 3
            && status.values().all(|answer| answer.as_ref().is_ok_and(|answer| answer.applied >= commit))
        {
            return;
        }
        assert!(Instant::now() < deadline, "not all have applied {commit}: {status:?}");
        sleep(POLL).await;
    }
}

fn client(address: SocketAddr) -> KvClient<Channel> {
    KvClient::new(Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy())
}

/// Asks the leader until it answers: it may be one that is just being deposed.
async fn put(cluster: &Cluster, key: &'static str, value: &'static str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let leader = leader_after(cluster, 0).await;
        let request = PutRequest { ticket: None, key: key.into(), value: value.into() };
        let mut client = client(cluster.client_addresses()[&leader.node]);
        match tokio::time::timeout(Duration::from_secs(2), client.put(request)).await {
            Ok(Ok(_)) => return,
            answer => assert!(Instant::now() < deadline, "no write to {leader:?}: {answer:?}"),
        }
    }
}

async fn get(cluster: &Cluster, key: &'static str) -> Option<String> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let leader = leader_after(cluster, 0).await;
        let mut client = client(cluster.client_addresses()[&leader.node]);
        let request = GetRequest { key: key.into(), stale: false, here: false };
        match tokio::time::timeout(Duration::from_secs(2), client.get(request)).await {
            Ok(Ok(reply)) => {
                return reply.into_inner().value.map(|value| String::from_utf8(value.to_vec()).unwrap());
            }
            answer => assert!(Instant::now() < deadline, "no read from {leader:?}: {answer:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_over_links_survive_a_kill_a_pause_and_a_restart_of_their_leader() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = start(folder.path(), Wiring::Linked).await;
    let first = leader_after(&cluster, 0).await;
    put(&cluster, "fruit", "apple").await;

    cluster.node(&first.node).kill().await.unwrap();
    let second = leader_after(&cluster, first.term).await;
    assert_ne!(second.node, first.node);
    assert_eq!(get(&cluster, "fruit").await.as_deref(), Some("apple"));
    cluster.node(&first.node).start().await.unwrap();

    let paused = cluster.node(&second.node).pause().await.unwrap();
    assert!(matches!(paused.kind, DeedKind::Paused { threads } if threads > 1), "{paused}");
    let third = leader_after(&cluster, second.term).await;
    assert_ne!(third.node, second.node);
    put(&cluster, "fruit", "pear").await;
    cluster.node(&second.node).resume().await.unwrap();

    let stopped = cluster.node(&third.node).terminate(GRACE).await.unwrap();
    assert_eq!(stopped.kind, DeedKind::Stopped { status: Status::Code(0), forced: false }, "{stopped}");
    cluster.node(&third.node).start().await.unwrap();
    assert_eq!(get(&cluster, "fruit").await.as_deref(), Some("pear"));
    let leader = leader_after(&cluster, 0).await.node;
    let commit = cluster.status().await[&leader].as_ref().unwrap().commit;
    all_have_applied(&cluster, commit).await;

    assert!(cluster.endings().iter().all(|ending| ending.expected), "{:#?}", cluster.endings());
    for node in cluster.nodes() {
        assert!(node.starts().last().unwrap().answered);
    }
    for link in cluster.links().iter().filter(|link| link.source != Source::Clients) {
        assert!(link.traffic().forward_bytes > 0, "{link} carried nothing: {:?}", link.traffic());
    }
    let collection = collect(&cluster).await;
    assert_eq!(collection.troubles(), [""; 0]);
    for node in cluster.nodes() {
        let folder = cluster.node_folder(node.name());
        assert!(std::fs::metadata(folder.dump()).unwrap().len() > 0);
        let boots = std::fs::read_dir(folder.events()).unwrap().count();
        assert_eq!(boots as u64, node.start_count(), "{} left one file of evidence a boot", node.name());
    }
    collection.keep_data(false).await.unwrap();
    cluster.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_at_once_on_one_machine_do_not_meet() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let linked = start(folders[0].path(), Wiring::Linked).await;
    let direct = start(folders[1].path(), Wiring::Direct).await;
    put(&linked, "cluster", "linked").await;
    put(&direct, "cluster", "direct").await;
    assert_eq!(get(&linked, "cluster").await.as_deref(), Some("linked"));
    assert_eq!(get(&direct, "cluster").await.as_deref(), Some("direct"));
    assert!(direct.links().is_empty() && direct.client_addresses() == direct.direct_addresses());
    for cluster in [linked, direct] {
        cluster.close().await.unwrap();
    }
}
