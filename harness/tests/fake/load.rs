//! One load against fake nodes, from its start to its last looks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mkraft_harness::history::{Ended, History, Operation, Recorder};
use mkraft_harness::scenario::Workload;
use mkraft_harness::system::gates::Gates;
use mkraft_harness::workload::{Load, Snapshot};

use super::{Fakes, Manner};

const DEADLINE: Duration = Duration::from_secs(20);

/// Runs the load until `done`, stops it, reads every key, and returns what was recorded.
///
/// Reading the history proves that it keeps Jepsen's rules: no process invokes twice at a time, or after `info`.
pub fn run(workload: &Workload, manners: &[Manner], done: impl Fn(&Fakes, Snapshot) -> bool) -> Run {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let (fakes, snapshot, unread) = runtime.block_on(async {
        let fakes = Fakes::start(manners).await;
        let recorder = Arc::new(Recorder::create(&path).unwrap());
        let mut load =
            Load::start(workload, 42, &fakes.addresses, &Gates::default(), recorder.clone()).await.unwrap();
        let began = Instant::now();
        while !done(&fakes, load.snapshot()) {
            assert!(began.elapsed() < DEADLINE, "never came to its end: {:?}", load.snapshot());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        load.stop().await;
        assert_eq!(load.trouble(), None);
        let snapshot = load.snapshot();
        for (node, manner) in manners.iter().enumerate() {
            if *manner == Manner::Hang {
                fakes.set_manner(node, Manner::Answer);
                fakes.wait_for_a_write(DEADLINE).await;
            }
        }
        let unread = load.read_all(Duration::from_secs(2)).await;
        fakes.wait_until_idle(DEADLINE).await;
        recorder.flush().unwrap();
        (fakes, snapshot, unread)
    });
    Run { fakes, snapshot, unread, history: History::read(&path).unwrap() }
}

pub struct Run {
    pub fakes: Fakes,
    pub snapshot: Snapshot,
    pub unread: Vec<String>,
    pub history: History,
}

impl Run {
    pub fn ended(&self, ended: Ended) -> impl Iterator<Item = &Operation> {
        self.history.operations.iter().filter(move |operation| operation.ended == ended)
    }

    pub fn processes(&self) -> BTreeSet<u64> {
        self.history.operations.iter().map(|operation| operation.process).collect()
    }
}
