//! A disk that hangs, or is full: three whole nodes in this process, on real sockets and folders, of which some cannot write
//! for a while.

// What tests share may unwrap as tests do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use mkraft_node::config::Config;
use mkraft_node::driver::{Driver, Inbox, Parts};
use mkraft_node::events::{self, EventLog};
use mkraft_node::machine::{KeyValue, Machine};
use mkraft_node::raft::{Configuration, Initial, NodeId};
use mkraft_node::storage::{self, Storage, StorageError};
use mkraft_node::transport::{Outbox, Transport};
use mkraft_proto::evidence::{Event, Line, Role};
use mkraft_proto::v1::admin_client::AdminClient;
use mkraft_proto::v1::kv_client::KvClient;
use mkraft_proto::v1::{Error, ErrorCode, GetRequest, PutRequest, StatusReply, StatusRequest};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

const ELECTION_TIMEOUT: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
/// Of one request; a write that hangs is not answered before.
const REQUEST_LIMIT: Duration = Duration::from_secs(4);

/// Closed, it lets no write begin.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicBool,
    full: AtomicBool,
}

impl Gate {
    fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let closed = self.closed.lock().unwrap();
        self.waiting.store(*closed, Ordering::Relaxed);
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
    }

    fn fill(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    fn has_room(&self) -> Result<(), StorageError> {
        if !self.full.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.waiting.store(true, Ordering::Relaxed);
        let source = std::io::Error::from_raw_os_error(28);
        Err(StorageError::NoRoom { action: "write", path: "a new segment".into(), source })
    }
}

struct Node {
    address: String,
    gate: Arc<Gate>,
    inbox: Inbox,
    driver: Option<std::thread::JoinHandle<()>>,
}

/// Dropped in the order of its fields.
struct Cluster {
    nodes: BTreeMap<NodeId, Node>,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Cluster {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let bind = || runtime.block_on(Transport::bind("127.0.0.1:0".parse().unwrap())).unwrap();
        let listeners: BTreeMap<NodeId, _> = (1..=3).map(|id| (NodeId(id), bind())).collect();
        let address = |listener: &tokio::net::TcpListener| listener.local_addr().unwrap();
        let addresses: BTreeMap<_, _> = listeners.iter().map(|(id, bound)| (*id, address(bound))).collect();
        let mut nodes = BTreeMap::new();
        for (id, listener) in listeners {
            let others = addresses.iter().filter(|(peer, _)| **peer != id);
            let config = Config {
                id,
                data_dir: folder.path().join(format!("{id}/data")),
                listen: addresses[&id],
                peers: others.map(|(peer, address)| (*peer, address.to_string())).collect(),
                events: Some(folder.path().join(format!("{id}/events"))),
                election_timeout: ELECTION_TIMEOUT,
                heartbeat: Duration::from_millis(100),
                compact_entries: 1 << 20,
                compact_bytes: 1 << 30,
                snapshot_rate: 1 << 20,
                segment_bytes: 8 << 20,
                voters: None,
                patience: 0,
                leases: false,
            };
            nodes.insert(id, start(&config, listener, &runtime));
        }
        Cluster { nodes, runtime, folder }
    }

    fn endpoint(&self, id: NodeId) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.nodes[&id].address)).unwrap()
    }

    fn status(&self, id: NodeId) -> Option<StatusReply> {
        let endpoint = self.endpoint(id);
        self.runtime.block_on(async {
            let mut client = AdminClient::new(endpoint.connect().await.ok()?);
            Some(client.status(StatusRequest {}).await.ok()?.into_inner())
        })
    }

    /// One request of this node alone; an error that the node made, with its code.
    fn put(&self, id: NodeId, key: &str, value: &str) -> Result<(), ErrorCode> {
        let request = PutRequest { ticket: None, key: key.to_owned().into(), value: value.to_owned().into() };
        self.ask(id, |mut client| async move { client.put(request).await.map(drop) })
    }

    fn get(&self, id: NodeId, key: &str, here: bool) -> Result<Vec<u8>, ErrorCode> {
        let request = GetRequest { key: key.to_owned().into(), stale: false, here };
        self.ask(id, |mut client| async move {
            let reply = client.get(request).await?.into_inner();
            Ok(reply.value.unwrap_or_default().to_vec())
        })
    }

    fn ask<T, F: Future<Output = Result<T, tonic::Status>>>(
        &self,
        id: NodeId,
        request: impl FnOnce(KvClient<Channel>) -> F,
    ) -> Result<T, ErrorCode> {
        let endpoint = self.endpoint(id);
        self.runtime.block_on(async {
            let client = KvClient::new(endpoint.connect().await.unwrap());
            let answer = tokio::time::timeout(REQUEST_LIMIT, request(client)).await;
            let answer = answer.map_err(|_| ErrorCode::Timeout)?;
            answer.map_err(|status| Error::from_status(&status).code())
        })
    }

    fn leader(&self) -> Option<NodeId> {
        let leads =
            |id: &&NodeId| self.status(**id).is_some_and(|status| status.role().as_str_name() == "LEADER");
        self.nodes.keys().find(leads).copied()
    }

    fn events(&self, id: NodeId) -> PathBuf {
        self.folder.path().join(format!("{id}/events/boot-0001.jsonl"))
    }
}

/// A cluster that fails must not hang in its own ruins.
impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.values_mut() {
            node.gate.open();
            node.gate.fill(false);
            node.inbox.stop("the test is over".into());
            let Some(driver) = node.driver.take() else { continue };
            let driver = driver.join();
            assert!(driver.is_ok() || std::thread::panicking());
        }
    }
}

fn start(config: &Config, listener: tokio::net::TcpListener, runtime: &Runtime) -> Node {
    let (mut storage, recovered) =
        Storage::open(&config.data_dir, config.id, storage::Options::default()).unwrap();
    let mut log = EventLog::create(config.events.as_deref().unwrap(), config.id).unwrap();
    log.write_all(events::recovery(&recovered, "test")).unwrap();
    let (folder, mut known) = (storage.identity().folder, storage.known().unwrap());
    let met = known.folders().clone();
    let meet = Box::new(move |peer, folder| Ok(known.meet(peer, folder)?));
    let configuration = Configuration { voters: config.all(), ..Configuration::default() };
    let gate = Arc::new(Gate::default());
    let (inbox, arrivals) = Inbox::new();
    let outbox = Outbox::default();
    let passing = gate.clone();
    let parts = Parts {
        options: config.options(config.id.0),
        initial: Initial { configuration, ..Initial::default() },
        tick: config.tick(),
        snapshots: storage.snapshots(),
        write: Box::new(move |write| {
            passing.pass();
            passing.has_room()?;
            storage.write(write)
        }),
        machine: Machine::new(KeyValue::default()),
        events: Some(log),
        own: inbox.clone(),
        inbox: arrivals,
        outbox: outbox.clone(),
    };
    let (mut driver, status) = Driver::new(parts).unwrap();
    let driver = std::thread::spawn(move || driver.run().unwrap());
    let (id, peers) = (config.id, config.peers.clone());
    let transport = Transport { id, peers, folder, met, meet, inbox: inbox.clone(), outbox, status };
    runtime.spawn(transport.serve(listener, std::future::pending()));
    Node { address: config.listen.to_string(), gate, inbox, driver: Some(driver) }
}

fn wait<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(POLL);
    }
}

fn roles(path: &Path) -> Vec<(u64, Role)> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let role = |line: Line| match line.event {
        Event::Role { term, role, .. } => Some((term, role)),
        _ => None,
    };
    lines.filter_map(role).collect()
}

#[test]
fn a_leader_whose_disk_hangs_steps_down_others_serve_and_it_comes_back() {
    let cluster = Cluster::start();
    let old = wait("somebody leads", || cluster.leader());
    wait("a write is taken", || cluster.put(old, "a", "1").ok());

    cluster.nodes[&old].gate.close();
    let term = cluster.status(old).unwrap().term;
    // A majority commits without the leader's own disk, and the state answers.
    assert_eq!(cluster.put(old, "a", "2"), Ok(()));
    let new = wait("another leads", || cluster.leader().filter(|id| *id != old));
    assert!(cluster.status(new).unwrap().term > term);
    wait("the next one takes a write", || cluster.put(new, "b", "3").ok());
    assert_eq!(cluster.get(new, "a", false), Ok(b"2".to_vec()));

    // All of this while the disk hangs: the one it hangs under says so by itself, and refuses at once.
    let told = roles(&cluster.events(old));
    assert!(told.ends_with(&[(term, Role::Leader), (term, Role::Follower)]), "{told:?}");
    assert_eq!(cluster.put(old, "c", "4"), Err(ErrorCode::NotLeader));
    let status = cluster.status(old).unwrap();
    assert_eq!((status.term, status.role().as_str_name()), (term, "FOLLOWER"));

    cluster.nodes[&old].gate.open();
    wait("it follows again", || cluster.get(old, "b", true).ok().filter(|value| value == b"3"));
    let lines = std::fs::read_to_string(cluster.events(old)).unwrap();
    let appended = |index| {
        let held = |line: &str| match serde_json::from_str::<Line>(line).map(|line| line.event) {
            Ok(Event::Append { first, entries, .. }) => {
                (first..first + entries.len() as u64).contains(&index)
            }
            _ => false,
        };
        lines.lines().any(held)
    };
    let last: u64 = cluster.status(old).unwrap().applied;
    assert!((1..=last).all(appended), "all that it applied is on its disk now");
}

#[test]
fn a_node_that_stops_while_its_disk_hangs_waits_for_it_and_tells_of_what_it_took() {
    let mut cluster = Cluster::start();
    let leader = wait("somebody leads", || cluster.leader());
    wait("a write is taken", || cluster.put(leader, "a", "1").ok());
    let stops = *cluster.nodes.keys().find(|id| **id != leader).unwrap();
    cluster.nodes[&stops].gate.close();
    wait("a write that hangs", || {
        cluster.put(leader, "a", "2").unwrap();
        cluster.nodes[&stops].gate.waiting.load(Ordering::Relaxed).then_some(())
    });
    cluster.nodes[&stops].inbox.stop("asked to".into());
    // As long as it would take to hand over, and longer.
    let driver = cluster.nodes.get_mut(&stops).unwrap().driver.take().unwrap();
    let asked = Instant::now();
    while asked.elapsed() < 2 * ELECTION_TIMEOUT {
        assert!(!driver.is_finished(), "it has not waited for its disk");
        std::thread::sleep(POLL);
    }
    cluster.nodes[&stops].gate.open();
    driver.join().unwrap();
    let lines = std::fs::read_to_string(cluster.events(stops)).unwrap();
    let told: Vec<Event> =
        lines.lines().map(|line| serde_json::from_str::<Line>(line).unwrap().event).collect();
    assert!(
        matches!(&told[told.len() - 2..], [Event::Append { .. } | Event::Commit { .. }, Event::Stop { .. }]),
        "{told:?}"
    );
    let mut last = told.iter().filter_map(|event| match event {
        Event::Append { first, entries, .. } => Some(first + entries.len() as u64 - 1),
        _ => None,
    });
    let data = cluster.folder.path().join(format!("{stops}/data"));
    // The thread that wrote lets go of the folder a moment later.
    let open = || Storage::open(&data, stops, storage::Options::default()).ok();
    let (_, recovered) = wait("its folder is free", open);
    assert_eq!(recovered.entries.last().map(|entry| entry.index.0), last.next_back());
}

fn is_refused(result: Result<(), ErrorCode>) -> bool {
    let refused = result.err().filter(|code| code.definite());
    refused.is_some()
}

#[test]
fn a_leader_whose_disk_is_full_hands_over_refuses_writes_and_goes_on_when_there_is_room() {
    let cluster = Cluster::start();
    let old = wait("somebody leads", || cluster.leader());
    wait("a write is taken", || cluster.put(old, "a", "1").ok());

    cluster.nodes[&old].gate.fill(true);
    // A majority commits it without the leader's own disk; whether the leader still answers is a race.
    let second = cluster.put(old, "a", "2");
    let new = wait("another leads", || cluster.leader().filter(|id| *id != old));
    assert!(is_refused(cluster.put(old, "c", "4")));
    wait("the next one takes a write", || cluster.put(new, "b", "3").ok());
    let seen = cluster.get(new, "a", false).unwrap();
    assert!(seen == b"2" || (seen == b"1" && second.is_err()), "{second:?}");
    assert_ne!(cluster.leader(), Some(old));
    assert!(is_refused(cluster.put(old, "c", "4")));

    cluster.nodes[&old].gate.fill(false);
    wait("it follows again", || cluster.get(old, "b", true).ok().filter(|value| value == b"3"));
    assert_eq!(cluster.get(old, "c", true), Ok(Vec::new()), "what was refused is nowhere");
}

#[test]
fn when_all_disks_are_full_writes_fail_for_certain_and_are_taken_again_with_room() {
    let cluster = Cluster::start();
    let leader = wait("somebody leads", || cluster.leader());
    wait("a write is taken", || cluster.put(leader, "a", "1").ok());
    cluster.nodes.values().for_each(|node| node.gate.fill(true));
    // Of the first it is open what becomes of it.
    _ = cluster.put(leader, "open", "2");
    let mut refused = 0;
    wait("every node refuses", || {
        let all = cluster.nodes.keys().all(|id| is_refused(cluster.put(*id, "refused", "3")));
        refused = if all { refused + 1 } else { 0 };
        (refused > 20).then_some(())
    });
    cluster.nodes.values().for_each(|node| node.gate.fill(false));
    let leader = wait("a write is taken again", || {
        cluster.leader().filter(|leader| cluster.put(*leader, "b", "4").is_ok())
    });
    assert_eq!(cluster.get(leader, "a", false), Ok(b"1".to_vec()));
    assert_eq!(cluster.get(leader, "refused", false), Ok(Vec::new()));
}

#[test]
fn a_node_that_stops_while_its_disk_is_full_does_not_wait_for_room() {
    let mut cluster = Cluster::start();
    let leader = wait("somebody leads", || cluster.leader());
    wait("a write is taken", || cluster.put(leader, "a", "1").ok());
    let stops = *cluster.nodes.keys().find(|id| **id != leader).unwrap();
    cluster.nodes[&stops].gate.fill(true);
    wait("a write that finds no room", || {
        cluster.put(leader, "a", "2").unwrap();
        cluster.nodes[&stops].gate.waiting.load(Ordering::Relaxed).then_some(())
    });
    cluster.nodes[&stops].inbox.stop("asked to".into());
    let driver = cluster.nodes.get_mut(&stops).unwrap().driver.take().unwrap();
    wait("it has stopped", || driver.is_finished().then_some(()));
    driver.join().unwrap();
    let lines = std::fs::read_to_string(cluster.events(stops)).unwrap();
    let last: Line = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert!(matches!(last.event, Event::Stop { .. }), "{last:?}");
}
