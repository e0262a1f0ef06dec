//! What a large snapshot costs: a state is filled, snapshotted and installed on an empty follower, while clients write.
//!
//! In: `INSTALL_BYTES` of the state (1 GiB where it is not given), in values of 4 to 64 KiB. Out: what clients saw
//! before, while the leader writes its snapshot, and while the follower gets it; the peak memory of each node.
//! Never: a file that stays, or a figure of a run in which a write failed.

// A measurement may end with a panic that says why.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mkraft_proto::v1::admin_client::AdminClient;
use mkraft_proto::v1::kv_client::KvClient;
use mkraft_proto::v1::{CompactRequest, PutRequest, StatusReply, StatusRequest};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

const FILLERS: u64 = 16;
const CLIENTS: u64 = 8;
const VALUE_BYTES: usize = 1 << 10;
const BEFORE: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(600);

struct Cluster {
    folder: tempfile::TempDir,
    addresses: BTreeMap<u64, String>,
    children: BTreeMap<u64, Child>,
}

impl Cluster {
    fn new() -> Cluster {
        let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let addresses = (1..).zip(listeners.iter().map(address)).collect();
        Cluster { folder: tempfile::tempdir().unwrap(), addresses, children: BTreeMap::new() }
    }

    fn run(&mut self, id: u64) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkraft-node"));
        command.args(["run", "--id", &format!("n{id}"), "--listen", &self.addresses[&id]]);
        for (peer, address) in self.addresses.iter().filter(|(peer, _)| **peer != id) {
            command.args(["--peer", &format!("n{peer}={address}")]);
        }
        command.arg("--data-dir").arg(self.folder.path().join(id.to_string()));
        self.children.insert(id, command.stderr(Stdio::null()).spawn().unwrap());
    }

    fn channel(&self, id: u64) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.addresses[&id])).unwrap().connect_lazy()
    }

    async fn status(&self, id: u64) -> Option<StatusReply> {
        let mut admin = AdminClient::new(self.channel(id));
        Some(admin.status(StatusRequest {}).await.ok()?.into_inner())
    }

    /// Of a process, as the kernel counts it.
    fn memory(&self, id: u64, what: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.children[&id].id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    fn told_memory(&self) -> String {
        let of = |id| {
            format!("n{id} {} MiB now, {} MiB at most", self.memory(id, "VmRSS"), self.memory(id, "VmHWM"))
        };
        self.children.keys().copied().map(of).collect::<Vec<_>>().join("; ")
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

/// Clients that write to the leader in a closed loop, until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Vec<(Instant, Duration)>>,
}

impl Load {
    fn on(channel: &Channel) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (mut kv, stop) = (KvClient::new(channel.clone()), stop.clone());
            clients.spawn(async move {
                let mut acknowledged = Vec::new();
                for round in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let begun = Instant::now();
                    kv.put(put(&format!("load-{client}-{}", round % 1000), VALUE_BYTES)).await.unwrap();
                    acknowledged.push((Instant::now(), begun.elapsed()));
                }
                acknowledged
            });
        }
        Load { stop, clients }
    }

    async fn end(self) -> Vec<(Instant, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all: Vec<_> = self.clients.join_all().await.into_iter().flatten().collect();
        all.sort_unstable();
        all
    }
}

fn put(key: &str, bytes: usize) -> PutRequest {
    PutRequest { ticket: None, key: key.to_owned().into(), value: vec![b'x'; bytes].into() }
}

fn tell(what: &str, all: &[(Instant, Duration)], from: Instant, to: Instant) {
    let within: Vec<_> = all.iter().filter(|(at, _)| (from..to).contains(at)).collect();
    let mut latencies: Vec<_> = within.iter().map(|(_, latency)| *latency).collect();
    latencies.sort_unstable();
    assert!(latencies.len() > 100, "{what}: only {} writes in {:?}", latencies.len(), to - from);
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    let gap = within.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
    let rate = latencies.len() as f64 / (to - from).as_secs_f64();
    println!(
        "{what:22} {:6.1} s  {rate:7.0} writes/s  p50 {:.1?}  p99 {:.1?}  slowest {:.1?}  longest gap {gap:.1?}",
        (to - from).as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// How many values it took.
async fn fill(channel: &Channel, bytes: u64) -> u64 {
    let (next, filled) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut fillers = JoinSet::new();
    for _ in 0..FILLERS {
        let (mut kv, next, filled) = (KvClient::new(channel.clone()), next.clone(), filled.clone());
        fillers.spawn(async move {
            while filled.load(Ordering::Relaxed) < bytes {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let length = (4 << 10) + (number.wrapping_mul(0x9e37_79b9) % (60 << 10)) as usize;
                kv.put(put(&format!("state-{number:08}"), length)).await.unwrap();
                filled.fetch_add(length as u64, Ordering::Relaxed);
            }
        });
    }
    fillers.join_all().await;
    next.load(Ordering::Relaxed)
}

async fn wait<T>(what: &str, mut fact: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = fact().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn measure() {
    let bytes = std::env::var("INSTALL_BYTES").map_or(1 << 30, |text| text.parse().unwrap());
    let mut cluster = Cluster::new();
    cluster.run(1);
    cluster.run(2);
    let leader = wait("somebody leads", async || {
        for id in [1, 2] {
            if cluster.status(id).await.is_some_and(|status| status.leader == id) {
                return Some(id);
            }
        }
        None
    })
    .await;
    let channel = cluster.channel(leader);
    let begun = Instant::now();
    let values = fill(&channel, bytes).await;
    println!("{} MiB in {values} values, filled in {:.1?}; n{leader} leads", bytes >> 20, begun.elapsed());
    println!("filled: {}", cluster.told_memory());

    let load = Load::on(&channel);
    let begun = Instant::now();
    tokio::time::sleep(BEFORE).await;
    let taking = Instant::now();
    let compacted = AdminClient::new(channel.clone()).compact(CompactRequest {}).await.unwrap().into_inner();
    let taken = Instant::now();
    println!("snapshot at {}: {}", compacted.snapshot, cluster.told_memory());
    let installing = Instant::now();
    cluster.run(3);
    wait("n3 has the state", async || {
        let status = cluster.status(3).await.filter(|status| status.applied >= compacted.snapshot)?;
        let ahead = cluster.status(leader).await?.commit;
        (ahead.saturating_sub(status.applied) < 1000).then_some(())
    })
    .await;
    let installed = Instant::now();
    let all = load.end().await;
    tell("before", &all, begun, taking);
    tell("snapshot being taken", &all, taking, taken);
    tell("follower gets it", &all, installing, installed);
    println!("installed: {}", cluster.told_memory());
}

fn main() {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(measure());
}
