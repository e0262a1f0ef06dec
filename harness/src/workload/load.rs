//! The load of a run: all its users, from the first operation until it is told to stop.
//!
//! In: a workload, a seed, addresses, a recorder. Out: lines in the recorder, and numbers for those who watch.
//! Never: an end of its own accord; users go on through faults and healing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::ask::Nodes;
use super::generator::{Draw, Generator};
use super::kinds;
use super::late::Lateness;
use super::lore::Lore;
use super::operation::{FollowUp, Kind};
use super::route::Route;
use super::sessions::Sessions;
use super::user::{self, Process};
use super::{last_reads, set_up};
use crate::history::{Op, OpType, Recorder, monotonic_ns};
use crate::scenario::{Workload, stream};
use crate::system::gates::Gates;

/// Numbers of a load that runs.
#[derive(Debug, Default)]
pub struct Counters {
    ok: AtomicU64,
    fail: AtomicU64,
    info: AtomicU64,
    pub(super) shed: AtomicU64,
    pub(super) withheld: AtomicU64,
    /// When the newest write that has succeeded was invoked.
    write_began_ns: AtomicU64,
    /// Of all that were started by a schedule.
    pub(super) late: Lateness,
}

/// [`Counters`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub ok: u64,
    pub fail: u64,
    pub info: u64,
    /// Operations that never started, since too many of their client were under way.
    pub shed: u64,
    /// Operations that never started, since every node that they might ask was withheld from them.
    pub withheld: u64,
}

/// What the users of a load share.
pub struct Yard {
    pub(super) nodes: Arc<Nodes>,
    pub(super) sessions: Sessions,
    pub(super) counters: Counters,
    pub(super) lore: Lore,
    pub(super) timeout: Duration,
    recorder: Arc<Recorder>,
    /// What users owed when the load was stopped.
    owed: Mutex<Vec<(Process, FollowUp)>>,
    stop: watch::Receiver<bool>,
    next_process: AtomicU64,
    /// Why the history is not to be trusted.
    trouble: OnceLock<String>,
}

/// A load that runs. Dropped, it stops at once.
pub struct Load {
    yard: Arc<Yard>,
    users: JoinSet<()>,
    stop: watch::Sender<bool>,
    kind: Box<dyn Kind>,
    /// Of the one who looks at the end.
    draw: Draw,
}

impl Load {
    /// Does what must be done before the load, and begins it; must be called within a tokio runtime. `addresses` are
    /// those of the clients' links, `gates` say what may be sent there. Fails, with the reason, when the nodes will not have it set up.
    pub async fn start(
        workload: &Workload,
        seed: u64,
        addresses: &[(String, SocketAddr)],
        gates: &Gates,
        recorder: Arc<Recorder>,
    ) -> Result<Load, String> {
        assert!(!addresses.is_empty(), "a load needs nodes");
        let nodes = Arc::new(Nodes::new(addresses, workload.connections, gates));
        let (stop, stopped) = watch::channel(false);
        let yard = Arc::new(Yard {
            sessions: Sessions::prepare(&nodes),
            nodes,
            counters: Counters::default(),
            lore: Lore::default(),
            timeout: workload.timeout,
            recorder,
            owed: Mutex::default(),
            stop: stopped,
            next_process: AtomicU64::new(0),
            trouble: OnceLock::new(),
        });
        let kind = kinds::of(workload.kind);
        if let Some(txn) = kind.set_up() {
            set_up::set_up(&yard, txn).await?;
        }
        let mut users = JoinSet::new();
        for client in 0..workload.clients {
            let route = Route { placement: workload.placement, client, nodes: addresses.len() };
            let generator = Generator::new(stream(seed, "client", client.into()), client, workload);
            users.spawn(user::live(yard.clone(), route, generator, workload.pacing));
        }
        let draw = Draw::new(stream(seed, "last looks", 0), workload.clients, workload.clients);
        Ok(Load { yard, users, stop, kind, draw })
    }

    pub fn snapshot(&self) -> Snapshot {
        self.yard.counters.snapshot()
    }

    /// By how much operations were invoked after their time.
    pub fn late(&self) -> &Lateness {
        &self.yard.counters.late
    }

    /// True when a write has succeeded that was invoked after this time (CLOCK_MONOTONIC).
    pub fn written_since(&self, time_ns: u64) -> bool {
        self.yard.counters.write_began_ns.load(Ordering::Relaxed) > time_ns
    }

    /// Why the history is not to be trusted, if it is not.
    pub fn trouble(&self) -> Option<&str> {
        self.yard.trouble.get().map(String::as_str)
    }

    /// Starts no further operation and waits for those under way: no longer than the wait for a session and the
    /// timeouts of an operation and of one that follows from it.
    pub async fn stop(&mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.users.join_next().await {
            if let Err(error) = ended {
                self.yard.trouble.get_or_init(|| format!("a bug in a user of the load: {error}"));
            }
        }
    }

    /// Does what users still owe, then looks once more at everything, through the leader, with retries. Returns what
    /// could not be seen.
    pub async fn read_all(&mut self, within: Duration) -> Vec<String> {
        last_reads::read_all(&self.yard, &*self.kind, &mut self.draw, within).await
    }
}

impl Yard {
    pub(super) fn new_process(&self) -> Process {
        Process::new(self.next_process.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the time of the line.
    pub(super) fn record(&self, op: Op) -> u64 {
        match self.recorder.record(op) {
            Ok(time) => time,
            Err(error) => {
                self.trouble.get_or_init(|| error.to_string());
                monotonic_ns()
            }
        }
    }

    /// The process that goes on after this one's operation has ended so.
    pub(super) fn after(&self, process: Process, ended: OpType) -> Process {
        match ended {
            OpType::Info => process.succeeded_by(self.next_process.fetch_add(1, Ordering::Relaxed)),
            _ => process,
        }
    }

    /// Comes when the load is told to stop.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.clone();
        async move {
            // An error means that the load itself is gone.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }

    pub(super) fn owe(&self, process: Process, owed: FollowUp) {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner).push((process, owed));
    }

    pub(super) fn take_owed(&self) -> Vec<(Process, FollowUp)> {
        std::mem::take(&mut self.owed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Counters {
    fn snapshot(&self) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            ok: read(&self.ok),
            fail: read(&self.fail),
            info: read(&self.info),
            shed: read(&self.shed),
            withheld: read(&self.withheld),
        }
    }

    pub(super) fn end(&self, kind: OpType) {
        let counter = match kind {
            OpType::Ok => &self.ok,
            OpType::Fail => &self.fail,
            OpType::Info => &self.info,
            OpType::Invoke => unreachable!("an operation does not end by its invocation"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn written(&self, began_ns: u64) {
        self.write_began_ns.fetch_max(began_ns, Ordering::Relaxed);
    }
}
