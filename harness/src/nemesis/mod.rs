//! Malice: carries out the plan, each fault at its time, and undoes it.
//!
//! In: a plan, a cluster, a book. Out: lines of the process `nemesis`: an `invoke` that names step and target,
//! an `info` with the nodes it came to, the outcome and its proof. Never: a fault that the plan does not have,
//! or an `installed` that was not seen.
//!
//! Strikes are open loop: each waits for its time in a task of its own, and for the time to undo it, so that
//! faults overlap. But a process of the history does one operation at a time, and so does the nemesis: who
//! acts holds its turn from the `invoke` to the `info`. What may take long is done outside of the turn: to wait
//! for a leader before the `invoke`, to hold the fault after the `info`. Within it are the acts alone, which
//! take milliseconds, or the grace of a node that does not obey SIGTERM.
//!
//! A family of faults is a file with one [`Fault`] each, and a row in [`Fault::of`].

mod process;
mod target;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::cluster::{ActError, Cluster, Deed, Leader, NodeState, at_once};
use crate::history::{OpType, Strike, StrikeOutcome};
use crate::scenario::{FaultKind, Plan, Step, Target};

pub use target::{Candidate, needs_leader, resolve};

/// How long a strike on the leader waits for one: an election or two.
pub const LEADER_LIMIT: Duration = Duration::from_secs(2);
/// An older answer to the question who leads is asked again.
const LEADER_FRESH: Duration = Duration::from_millis(20);

/// Writes one line of the nemesis: its type, its `f` and its value.
pub type Book = Arc<dyn Fn(OpType, &str, Strike) -> Result<(), BookError> + Send + Sync>;
/// Why a line could not be written, or that the plan is none.
pub type BookError = Box<dyn std::error::Error + Send + Sync>;

/// One kind of fault, to be done and to be undone.
struct Fault {
    /// States of a node that it can be done to.
    fits: fn(NodeState) -> bool,
    strike: for<'a> fn(&'a Cluster, &'a str) -> Doing<'a>,
    /// Told which start of the node was struck.
    undo: for<'a> fn(&'a Cluster, &'a str, u64) -> Doing<'a>,
}

/// A node and which of its starts a fault was done to.
type Struck = (u64, String);

type Doing<'a> = Pin<Box<dyn Future<Output = Result<Deed, ActError>> + Send + 'a>>;

impl Fault {
    fn of(kind: FaultKind) -> &'static Fault {
        match kind {
            FaultKind::Kill => &process::KILL,
            FaultKind::Pause => &process::PAUSE,
            FaultKind::Restart => &process::RESTART,
            FaultKind::Stop => &process::STOP,
        }
    }
}

/// Carries out `plan`, whose times count from `began`, until its end or until `stop` turns true.
///
/// Returns when no act is under way. What still holds then is left for [`heal_all`]. Fails when the book does, or
/// when the plan has a target that is none.
pub async fn run(
    plan: &Plan,
    began: Instant,
    cluster: Arc<Cluster>,
    book: Book,
    stop: watch::Receiver<bool>,
) -> Result<(), BookError> {
    let nemesis = Arc::new(Nemesis { cluster, book, turn: Mutex::new(()), stop });
    let mut strikes = JoinSet::new();
    for (number, step) in plan.steps.iter().enumerate() {
        let at = began + Duration::from_nanos(step.at);
        strikes.spawn(Arc::clone(&nemesis).carry_out(number as u64, step.clone(), at));
    }
    let mut result = Ok(());
    while let Some(ended) = strikes.join_next().await {
        match ended {
            Ok(ended) => result = result.and(ended),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    result
}

/// Resumes every node that is paused and starts every one that is down; recorded as a `heal` of no step.
///
/// Heals all it can, whatever fails. To be called when [`run`] has returned.
pub async fn heal_all(cluster: &Arc<Cluster>, book: &Book) -> Result<StrikeOutcome, BookError> {
    let line =
        |nodes, outcome, detail| Strike { step: None, target: "all".to_string(), nodes, outcome, detail };
    let begun = book(OpType::Invoke, "heal", line(Vec::new(), None, String::new()));
    let broken = candidates(cluster).into_iter().filter(|node| node.state != NodeState::Running);
    let names: Vec<String> = broken.map(|node| node.name).collect();
    let mut results = Vec::new();
    for name in &names {
        let node = cluster.node(name);
        results.push(if node.state() == NodeState::Paused {
            node.resume().await
        } else {
            node.start().await
        });
    }
    let (outcome, detail) = match results.is_empty() {
        true => (StrikeOutcome::Installed, "every node runs".to_string()),
        false => sum_up(&results),
    };
    let ended = book(OpType::Info, "heal", line(names, Some(outcome), detail));
    begun.and(ended).map(|()| outcome)
}

struct Nemesis {
    cluster: Arc<Cluster>,
    book: Book,
    /// Held from an `invoke` to its `info`.
    turn: Mutex<()>,
    stop: watch::Receiver<bool>,
}

impl Nemesis {
    /// One step, from before its time to after its undoing.
    async fn carry_out(self: Arc<Self>, number: u64, step: Step, at: Instant) -> Result<(), BookError> {
        if !self.waited_until(at).await {
            return Ok(());
        }
        let Some(struck) = self.strike(number, &step).await? else { return Ok(()) };
        if !self.waited_until(Instant::now() + Duration::from_nanos(step.hold)).await {
            return Ok(());
        }
        self.undo(number, &step, struck).await
    }

    /// Returns the nodes it may have struck, each with the start that was meant; None when it struck none.
    async fn strike(&self, number: u64, step: &Step) -> Result<Option<Vec<Struck>>, BookError> {
        let (fault, f) = (Fault::of(step.fault), step.fault.to_string());
        let target: Target = step.target.parse()?;
        let mut leader = match needs_leader(target) {
            true => self.cluster.leader_within(LEADER_LIMIT).await,
            false => None,
        };
        let known = Instant::now();
        let _turn = self.turn.lock().await;
        if *self.stop.borrow() {
            let skipped = Some((StrikeOutcome::Skipped, "the load ended first".to_string()));
            self.write(OpType::Invoke, &f, number, step, Vec::new(), None)?;
            self.write(OpType::Info, &f, number, step, Vec::new(), skipped)?;
            return Ok(None);
        }
        if leader.is_some() && known.elapsed() > LEADER_FRESH {
            leader = self.cluster.leader().await;
        }
        self.write(OpType::Invoke, &f, number, step, Vec::new(), None)?;
        let nodes = match self.meant(target, step, leader, fault) {
            Ok(nodes) => nodes,
            Err(reason) => {
                let skipped = Some((StrikeOutcome::Skipped, reason));
                self.write(OpType::Info, &f, number, step, Vec::new(), skipped)?;
                return Ok(None);
            }
        };
        let start = |node: String| (self.cluster.node(&node).start_count(), node);
        let struck: Vec<Struck> = nodes.iter().cloned().map(start).collect();
        let strikes = struck.iter().cloned().map(|(_, node)| {
            let cluster = Arc::clone(&self.cluster);
            async move { (fault.strike)(&cluster, &node).await }
        });
        let (outcome, detail) = sum_up(&at_once(strikes).await);
        self.write(OpType::Info, &f, number, step, nodes, Some((outcome, detail)))?;
        Ok((outcome != StrikeOutcome::Skipped).then_some(struck))
    }

    async fn undo(&self, number: u64, step: &Step, struck: Vec<Struck>) -> Result<(), BookError> {
        let fault = Fault::of(step.fault);
        let _turn = self.turn.lock().await;
        if *self.stop.borrow() {
            return Ok(());
        }
        self.write(OpType::Invoke, "heal", number, step, Vec::new(), None)?;
        let nodes = struck.iter().map(|(_, node)| node.clone()).collect();
        let undoings = struck.into_iter().map(|(start, node)| {
            let cluster = Arc::clone(&self.cluster);
            async move { (fault.undo)(&cluster, &node, start).await }
        });
        let undone = sum_up(&at_once(undoings).await);
        self.write(OpType::Info, "heal", number, step, nodes, Some(undone))
    }

    fn meant(
        &self,
        target: Target,
        step: &Step,
        leader: Option<Leader>,
        fault: &Fault,
    ) -> Result<Vec<String>, String> {
        let leader = leader.as_ref().map(|leader| leader.node.as_str());
        resolve(target, &candidates(&self.cluster), leader, fault.fits, step.draw)
    }

    fn write(
        &self,
        kind: OpType,
        f: &str,
        number: u64,
        step: &Step,
        nodes: Vec<String>,
        outcome: Option<(StrikeOutcome, String)>,
    ) -> Result<(), BookError> {
        let (outcome, detail) = match outcome {
            Some((outcome, detail)) => (Some(outcome), detail),
            None => (None, String::new()),
        };
        (self.book)(
            kind,
            f,
            Strike { step: Some(number), target: step.target.clone(), nodes, outcome, detail },
        )
    }

    /// False: the run was stopped before.
    async fn waited_until(&self, time: Instant) -> bool {
        let mut stop = self.stop.clone();
        tokio::select! {
            // What is due is done, even when the end comes with it.
            biased;
            () = sleep_until(time) => true,
            // An error means that nobody is left to stop us, which is as good as being stopped.
            _ = stop.wait_for(|stop| *stop) => false,
        }
    }
}

fn candidates(cluster: &Cluster) -> Vec<Candidate> {
    let nodes = cluster.nodes().iter();
    nodes.map(|node| Candidate { name: node.name().to_string(), state: node.state() }).collect()
}

/// Installed when all were done, skipped when certainly none was, else indeterminate.
fn sum_up(results: &[Result<Deed, ActError>]) -> (StrikeOutcome, String) {
    let outcome = if results.iter().all(Result::is_ok) {
        StrikeOutcome::Installed
    } else if results.iter().all(|result| result.as_ref().is_err_and(ActError::definite)) {
        StrikeOutcome::Skipped
    } else {
        StrikeOutcome::Indeterminate
    };
    let told = results.iter().map(|result| match result {
        Ok(deed) => deed.to_string(),
        Err(error) => error.to_string(),
    });
    (outcome, told.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::DeedKind;

    #[test]
    fn an_outcome_is_what_all_its_nodes_allow() {
        let took = Duration::from_micros(400);
        let done = || Ok(Deed { node: "n1".into(), pid: 7, start: 1, kind: DeedKind::Killed, took });
        let not = || Err(ActError::Already { node: "n2".into(), state: NodeState::Down });
        let perhaps = || Err(ActError::Unproven { node: "n3".into(), pid: 8, seen: "state S".into() });
        let cases = [
            (vec![done(), done()], StrikeOutcome::Installed),
            (vec![not(), not()], StrikeOutcome::Skipped),
            (vec![done(), not()], StrikeOutcome::Indeterminate),
            (vec![not(), perhaps()], StrikeOutcome::Indeterminate),
            (vec![perhaps()], StrikeOutcome::Indeterminate),
        ];
        for (results, expected) in cases {
            assert_eq!(sum_up(&results).0, expected, "{results:?}");
        }
        assert_eq!(
            sum_up(&[done(), not()]).1,
            "n1: pid 7 ended by signal 9 after 0.4 ms; n2: is Down already"
        );
    }
}
