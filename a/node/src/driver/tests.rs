//! The driver, turn by turn, with a disk that takes everything and is done when a test says so.

use std::time::Instant;

use mkraft_proto::v1::ErrorCode;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::answers::RETRY_AFTER_MIN;
use super::requests::UNCOMMITTED_BYTES_MAX;
use super::*;
use crate::machine::Query;
use crate::raft::{
    AppendOutcome, Body, Change, Configuration, Entry, EntryKind, Message, NodeId, RoleName, Snapshot, Term,
};
use crate::storage::{self, Storage};

const LEASE: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_secs(60);

/// n1 of two voters; the other is what the test says in its name.
struct Bench {
    driver: Driver,
    status: watch::Receiver<NodeStatus>,
    inbox: Inbox,
    _folder: TempDir,
}

impl Bench {
    fn new(lease: Option<Duration>, compact_entries: u64) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let id = NodeId(1);
        let (storage, _) = Storage::open(folder.path(), id, storage::Options::default()).unwrap();
        let voters = [id, NodeId(2)].into();
        let options = Options {
            id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            append_bytes_max: 1 << 20,
            inflight_bytes_max: 1 << 20,
            uncommitted_entries_max: 1 << 10,
            compact_entries,
            compact_bytes: 1 << 30,
            tail_entries: 0,
            tail_bytes: 0,
            chunk_bytes: 1 << 10,
            chunks_per_tick: 1,
            chunks_inflight_max: 1,
            promote_lag_entries_max: 1,
            patience: 0,
            lease: lease.map(|lease| lease.as_micros() as u64),
            seed: 1,
        };
        let (own, inbox) = Inbox::new();
        let configuration = Configuration { voters, ..Configuration::default() };
        let parts = Parts {
            options,
            initial: Initial { configuration, ..Initial::default() },
            tick: Duration::from_millis(1),
            snapshots: storage.snapshots(),
            write: Box::new(|_| Ok(())),
            machine: Machine::new(KeyValue::default()),
            events: None,
            own: own.clone(),
            inbox,
            outbox: Outbox::default(),
        };
        let (driver, status) = Driver::new(parts).unwrap();
        Bench { driver, status, inbox: own, _folder: folder }
    }

    fn turn(&mut self, event: Event) {
        let mut batch = Batch::default();
        self.driver.take(event, &mut batch);
        self.driver.carry_out(batch.effects).unwrap();
    }

    /// From the other voter.
    fn hear(&mut self, term: u64, body: Body) {
        self.turn(Event::Message(Message { from: NodeId(2), to: NodeId(1), term: Term(term), body }));
    }

    fn tick(&mut self) {
        let mut effects = Effects::default();
        self.driver.raft.step(Input::Clock(self.driver.clock()));
        self.driver.step(Input::Tick, &mut effects);
        self.driver.carry_out(effects).unwrap();
    }

    /// The driver hears that its write is done only now, however long it has been.
    fn disk_is_done(&mut self) {
        let Ok(Event::Written(Some(done))) = self.driver.inbox.next(DEADLINE) else {
            panic!("no write is under way")
        };
        let mut effects = Effects::default();
        self.driver.written(done, &mut effects).unwrap();
        self.driver.carry_out(effects).unwrap();
    }

    /// Elected in term 1; the write of its no-op is under way.
    fn lead(&mut self) {
        while self.driver.raft.status().role != RoleName::PreCandidate {
            self.tick();
        }
        self.hear(0, Body::VoteReply { pre: true, granted: true });
        assert_eq!(self.driver.raft.status().role, RoleName::Candidate);
        self.disk_is_done();
        self.hear(1, Body::VoteReply { pre: false, granted: true });
        assert_eq!(self.driver.raft.status().role, RoleName::Leader);
    }
}

fn position(index: u64, term: u64) -> Position {
    Position { index: Index(index), term: Term(term) }
}

fn entry(index: u64, term: u64) -> Entry {
    Entry { index: Index(index), term: Term(term), kind: EntryKind::Noop, payload: [].into() }
}

fn append(prev: Position, entries: Vec<Entry>, commit: u64) -> Body {
    Body::Append { prev, entries, commit: Index(commit), round: 0 }
}

#[test]
fn commands_are_refused_as_busy_beyond_their_bytes_until_those_before_are_settled() {
    let Bench { mut driver, .. } = Bench::new(None, 1 << 20);
    let large = 1 << 20;
    for round in 0..2 {
        let mut batch = Batch::default();
        let mut write = |driver: &mut Driver| {
            let (respond, response) = oneshot::channel();
            driver.take(Event::Write { payload: vec![0; large].into(), respond }, &mut batch);
            response
        };
        let mut taken: Vec<_> = (0..UNCOMMITTED_BYTES_MAX / large).map(|_| write(&mut driver)).collect();
        let busy = write(&mut driver).try_recv().unwrap().unwrap_err();
        assert_eq!(busy.code(), ErrorCode::Busy, "round {round}");
        assert!(busy.retry_after_ms >= RETRY_AFTER_MIN.as_millis() as u32, "{busy:?}");
        assert!(taken.iter_mut().all(|response| response.try_recv().is_err()), "answered too early");
        // This node does not lead, and says so to each.
        driver.step(Input::Propose(std::mem::take(&mut batch.proposals)), &mut batch.effects);
        driver.carry_out(batch.effects).unwrap();
        for mut response in taken {
            assert_eq!(response.try_recv().unwrap().unwrap_err().code(), ErrorCode::NotLeader);
        }
        assert_eq!(driver.requests.uncommitted_bytes(), 0);
    }
}

/// A process may be stopped for long between the moment it looks at the clock and the one it takes an event.
#[test]
fn a_lease_that_ended_while_the_driver_waited_answers_nobody() {
    let mut bench = Bench::new(Some(LEASE), 1 << 20);
    bench.lead();
    bench.disk_is_done();
    bench.tick();
    let round = 1;
    bench.hear(1, Body::AppendReply { round, outcome: AppendOutcome::Matched(Index(1)) });
    assert_eq!(bench.driver.raft.status().commit, Index(1));
    let confirmed = Instant::now();
    let ask = |bench: &mut Bench| {
        // Who removes nobody has only to know that it leads.
        let change = Change { remove: [NodeId(9)].into(), ..Change::default() };
        let (respond, mut answered) = oneshot::channel();
        let batch =
            bench.driver.gather(Some(Event::Operate { operation: Operation::Change(change), respond }));
        bench.driver.carry_out(batch.effects).unwrap();
        answered.try_recv().is_ok()
    };
    while confirmed.elapsed() < 2 * LEASE {
        std::thread::yield_now();
    }
    assert!(!ask(&mut bench), "answered by a lease that had ended");
    let round = 2;
    bench.tick();
    bench.hear(1, Body::AppendReply { round, outcome: AppendOutcome::Matched(Index(1)) });
    // The lease is as good as new, unless this machine was away for as long.
    let asked = Instant::now();
    assert!(ask(&mut bench) || asked.elapsed() >= LEASE / 2);
}

#[test]
fn a_snapshot_that_waits_to_be_taken_gives_way_to_two_that_are_installed() {
    let mut bench = Bench::new(None, 2);
    bench.hear(1, append(Position::default(), vec![entry(1, 1), entry(2, 1)], 0));
    bench.hear(1, append(position(2, 1), vec![], 2));
    let received = |index| {
        let configuration =
            Configuration { voters: [NodeId(1), NodeId(2)].into(), ..Configuration::default() };
        let snapshot = Snapshot { position: position(index, 1), configuration, bytes: 1, digest: index };
        Event::Received { snapshot, machine: Box::new(Machine::new(KeyValue::default())) }
    };
    bench.turn(received(10));
    bench.disk_is_done();
    bench.turn(received(20));
    bench.disk_is_done();
    bench.disk_is_done();
    assert_eq!(bench.driver.applied, Index(20));
    assert!(bench.driver.arrived.is_empty());
}

#[test]
fn a_status_does_not_go_back_to_what_a_node_was_when_its_write_began() {
    let mut bench = Bench::new(None, 1 << 20);
    bench.lead();
    assert!(bench.driver.writes.is_running());
    let told = |bench: &Bench| {
        let Status { term, role, .. } = bench.status.borrow().raft;
        (term, role)
    };
    // Its disk hangs.
    while bench.driver.raft.status().role == RoleName::Leader {
        bench.tick();
    }
    assert_eq!(told(&bench), (Term(1), RoleName::Follower));
    bench.hear(2, append(Position::default(), vec![entry(1, 2)], 0));
    bench.disk_is_done();
    assert_eq!(told(&bench), (Term(1), RoleName::Follower));
}

#[test]
fn after_a_failure_nothing_is_answered_any_more() {
    let mut bench = Bench::new(None, 1 << 20);
    let (respond, mut answered) = oneshot::channel();
    let source = std::io::ErrorKind::StorageFull.into();
    let failed = StorageError::Sync { path: "snapshots".into(), source };
    let query = Query::Get { key: "a".into() };
    bench.inbox.request(Event::Read { query, from: ReadFrom::Stale, respond }).unwrap();
    let batch = bench.driver.gather(Some(Event::Failed(failed)));
    assert!(matches!(batch.written, Some(Err(StorageError::Sync { .. }))));
    assert!(answered.try_recv().is_err());
}
