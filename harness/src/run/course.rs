//! The course of a run, from the first answer of its cluster to the last read.
//!
//! In: a started cluster, a plan, a recorder. Out: a history, and [`Course`]: when what was, and what went wrong.
//! Never: an early return past the healing and the last reads, once the load has begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::Run;
use super::progress::{Phase, Progress, View};
use super::ready::ready;
use crate::cluster::{Cluster, Leader};
use crate::history::folder::NotStarted;
use crate::history::{NemesisProcess, Op, OpType, Process, Recorder, StrikeOutcome, monotonic_ns};
use crate::nemesis::{self, Book, BookError, Left, Means};
use crate::scenario::Plan;
use crate::workload::Load;

/// How often the run is looked at, and its lines are handed to the kernel.
const TICK: Duration = Duration::from_millis(200);
/// From the word to stop until no act of the nemesis is under way: a node may need its grace.
const NEMESIS_END_LIMIT: Duration = Duration::from_secs(30);
const HEAL_LIMIT: Duration = Duration::from_secs(30);
/// Load beyond the time in which the cluster must have recovered, so that a failure to do so is seen to be one.
const RECOVERY_MARGIN: Duration = Duration::from_secs(1);
/// Load after the recovery: what was healed is used once more.
const SETTLE: Duration = Duration::from_millis(500);
const LAST_READS_LIMIT: Duration = Duration::from_secs(10);
/// A wait for a session, an operation, and one that follows from it.
const LOAD_END_TIMEOUTS: u32 = 3;
/// Beyond these.
const LOAD_END_MARGIN: Duration = Duration::from_secs(10);

/// When what was (CLOCK_MONOTONIC), and what went wrong.
#[derive(Debug, Default)]
pub struct Course {
    pub load_began_ns: Option<u64>,
    pub load_ended_ns: Option<u64>,
    pub last_heal_ns: Option<u64>,
    pub not_started: NotStarted,
    /// Nodes that did not answer when the time to recover was over.
    pub silent: Vec<String>,
    failures: Vec<String>,
    /// A disk of the harness failed under a node.
    pub disk_failure: Option<String>,
    /// Worth a person's look, and no failure of the harness.
    pub notes: Vec<String>,
}

impl Course {
    /// The harness could not do its work.
    pub fn fail(&mut self, why: String) {
        self.failures.push(why);
    }

    pub fn failure(&self) -> Option<String> {
        (!self.failures.is_empty()).then(|| self.failures.join("; "))
    }
}

/// Load and faults for the scenario's duration; then, whatever happened: heal, wait, read a last time.
pub async fn conduct(run: &Run<'_>, cluster: &Arc<Cluster>, recorder: &Arc<Recorder>, course: &mut Course) {
    if let Err(why) = ready(cluster, &run.interrupt).await {
        return course.fail(why);
    }
    if run.interrupt.came() {
        return;
    }
    let addresses: Vec<_> = cluster.client_addresses().into_iter().collect();
    let faults = Arc::new(AtomicU64::new(0));
    let means = Means::new(Arc::clone(cluster), book(recorder, &faults));
    let means = means.keeping(run.scenario.keep).hearing(Arc::clone(recorder));
    let workload = &run.scenario.workload;
    let load = Load::start(workload, run.seed, &addresses, cluster.gates(), recorder.clone()).await;
    let load = match load {
        Ok(load) => load,
        Err(why) => return course.fail(why),
    };
    let mut stage = Stage {
        run,
        recorder,
        faults,
        load,
        watch: Watch::start(cluster.clone()),
        progress: Progress::new(run.aloud),
    };
    // In this order: no fault strikes before its time as counted from what `run.json` says.
    course.load_began_ns = Some(monotonic_ns());
    let began = Instant::now();
    let left = stage.strike(&run.plan, began, &means, course).await;
    stage.heal(&means, left, course).await;
    stage.recover(course).await;
    stage.end(course).await;
}

/// All that is in motion while the load goes on.
struct Stage<'a> {
    run: &'a Run<'a>,
    recorder: &'a Recorder,
    faults: Arc<AtomicU64>,
    load: Load,
    watch: Watch,
    progress: Progress,
}

impl Stage<'_> {
    /// Until the scenario's time is over, or there is no sense in going on. Returns what has not been undone.
    async fn strike(&mut self, plan: &Plan, began: Instant, means: &Means, course: &mut Course) -> Vec<Left> {
        let (stop, stopped) = watch::channel(false);
        let nemesis = {
            let (plan, means) = (plan.clone(), means.clone());
            async move { nemesis::run(&plan, began, &means, stopped).await }
        };
        let mut nemesis = tokio::spawn(nemesis);
        let end = began + self.run.scenario.duration;
        let mut interrupt = self.run.interrupt.clone();
        self.show_until(Some(end), async {
            tokio::select! {
                () = sleep_until(end) => {}
                () = interrupt.wait() => {}
            }
        })
        .await;
        stop.send_replace(true);
        match timeout(NEMESIS_END_LIMIT, &mut nemesis).await {
            Ok(Ok(Ok(left))) => return left,
            Ok(Ok(Err(error))) => course.fail(format!("the nemesis failed: {error}")),
            Ok(Err(error)) => course.fail(format!("a bug in the nemesis: {error}")),
            Err(_) => {
                nemesis.abort();
                course.fail(format!("the nemesis did not end within {NEMESIS_END_LIMIT:?}"));
            }
        }
        Vec::new()
    }

    async fn heal(&mut self, means: &Means, left: Vec<Left>, course: &mut Course) {
        let means = means.clone();
        let healing = tokio::spawn(async move { nemesis::heal_all(&means, left).await });
        match timeout(HEAL_LIMIT, healing).await {
            Ok(Ok(Ok(StrikeOutcome::Installed))) => course.last_heal_ns = Some(monotonic_ns()),
            Ok(Ok(Ok(_))) => {
                course.fail(
                    "the last heal did not bring every node back: its line in the history says why".into(),
                );
            }
            Ok(Ok(Err(error))) => course.fail(format!("the last heal could not be recorded: {error}")),
            Ok(Err(error)) => course.fail(format!("a bug in the last heal: {error}")),
            Err(_) => course.fail(format!("the last heal did not end within {HEAL_LIMIT:?}")),
        }
    }

    /// Users go on until a write has succeeded and every node answers, or the time for that is over.
    async fn recover(&mut self, course: &mut Course) {
        let Some(healed_ns) = course.last_heal_ns else { return };
        let deadline = Instant::now() + self.run.scenario.expect.recovers_within + RECOVERY_MARGIN;
        while Instant::now() < deadline && !(self.load.written_since(healed_ns) && self.watch.all_answer()) {
            self.show_until(None, sleep(TICK / 4)).await;
        }
        course.silent = self.watch.silent();
        self.show_until(None, sleep(SETTLE)).await;
    }

    async fn end(mut self, course: &mut Course) {
        let limit = LOAD_END_TIMEOUTS * self.run.scenario.workload.timeout + LOAD_END_MARGIN;
        if timeout(limit, self.load.stop()).await.is_err() {
            course.fail(format!("the load did not end within {limit:?}"));
        }
        course.load_ended_ns = Some(monotonic_ns());
        self.show(Phase::LastReads);
        let unread = self.load.read_all(LAST_READS_LIMIT).await;
        if !unread.is_empty() {
            course.notes.push(format!("not read at the end, though tried: {}", unread.join(", ")));
        }
        let load = self.load.snapshot();
        course.not_started = NotStarted { too_many: load.shed, withheld: load.withheld };
        if !course.not_started.is_nothing() {
            course.notes.push(format!("operations that were not started: {}", course.not_started));
        }
        if let Some(trouble) = self.load.trouble() {
            course.fail(trouble.to_owned());
        }
        self.watch.stop().await;
        self.progress.clear();
    }

    /// Shows how things are going until `done`; `end` is when the load's own time is over.
    async fn show_until(&mut self, end: Option<Instant>, done: impl Future<Output = ()>) {
        tokio::pin!(done);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut done => return,
                _ = ticks.tick() => {}
            }
            self.show(match end {
                Some(end) => Phase::Load { left: end.saturating_duration_since(Instant::now()) },
                None => Phase::Recovery,
            });
            // Without a file to write to, every line after says so again; the load keeps the first trouble.
            let _ = self.recorder.flush();
            if end.is_some() && self.load.trouble().is_some() {
                return;
            }
        }
    }

    fn show(&mut self, phase: Phase) {
        let sight = self.watch.sight.borrow();
        let faults = self.faults.load(Ordering::Relaxed);
        let view = View { phase, faults, load: self.load.snapshot(), leader: sight.leader.as_ref() };
        self.progress.show(&view);
    }
}

/// Asks the nodes again and again how they are.
struct Watch {
    sight: watch::Receiver<Sight>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Sight {
    leader: Option<Leader>,
    silent: Vec<String>,
}

impl Watch {
    fn start(cluster: Arc<Cluster>) -> Watch {
        let (sender, sight) = watch::channel(Sight::default());
        let task = tokio::spawn(async move {
            while !sender.is_closed() {
                let status = cluster.status().await;
                let answers = |name: &str| matches!(status.get(name), Some(Ok(_)));
                let names = cluster.nodes().iter().map(|node| node.name());
                let silent = names.filter(|name| !answers(name)).map(str::to_owned).collect();
                sender.send_replace(Sight { leader: crate::cluster::leader_of(&status), silent });
                sleep(TICK / 2).await;
            }
        });
        Watch { sight, task }
    }

    fn all_answer(&self) -> bool {
        self.sight.borrow().silent.is_empty()
    }

    fn silent(&self) -> Vec<String> {
        self.sight.borrow().silent.clone()
    }

    /// Lets go of the cluster.
    async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Writes the nemesis' lines, and counts the faults that were seen to be done.
fn book(recorder: &Arc<Recorder>, faults: &Arc<AtomicU64>) -> Book {
    let (recorder, faults) = (recorder.clone(), faults.clone());
    Arc::new(move |kind, f, strike| -> Result<(), BookError> {
        if kind == OpType::Info && f != "heal" && strike.outcome == Some(StrikeOutcome::Installed) {
            faults.fetch_add(1, Ordering::Relaxed);
        }
        recorder.record(Op {
            index: 0,
            time: 0,
            process: Process::Nemesis(NemesisProcess::Nemesis),
            kind,
            f: f.to_owned(),
            key: None,
            value: serde_json::to_value(strike)?,
            seen: None,
            error: None,
            node: None,
            session: None,
            sequence: None,
        })?;
        Ok(())
    })
}
