//! Malice: carries out the plan, each fault at its time, and undoes it.
//!
//! In: a plan, a cluster, a book. Out: lines of the process `nemesis`: an `invoke` that names step and target,
//! an `info` with what it came to, the outcome and its proof. Never: a fault that the plan does not have,
//! or an `installed` that was not seen.
//!
//! Strikes are open loop: each waits for its time in a task of its own, and for the time to undo it, so that
//! faults overlap. Those of one family take turns: who acts holds the family's turn from the `invoke` to the
//! `info`, so that each finds what those before it have done. Of several families acts overlap too: a node may be
//! killed while the members change. To wait for a leader, and to hold a fault, is outside of the turn.
//!
//! A family of faults is a file of strikes and a row for each in [`Fault::of`]: a [`Strike`] finds out what its
//! target comes to, be it nodes, members or whatever the family acts on, acts, and gives back its proof and how it
//! is undone. What the end of the run finds not undone is left to [`heal_all`].

mod links;
mod members;
mod operate;
mod process;
mod shapes;
mod target;
mod ways;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::cluster::{Cluster, Leader};
use crate::history::{self, OpType, StrikeOutcome};
use crate::scenario::{Act, FaultKind, Hold, Manner, Plan, Step, Target, Whom};
use crate::system::operator::Members;

use links::Bond;

/// How long a strike on the leader waits for one: an election or two.
pub const LEADER_LIMIT: Duration = Duration::from_secs(2);
/// An older answer to the question who leads is asked again.
const LEADER_FRESH: Duration = Duration::from_millis(20);

/// Writes one line of the nemesis: its type, its `f` and its value.
pub type Book = Arc<dyn Fn(OpType, &str, history::Strike) -> Result<(), BookError> + Send + Sync>;
/// Why a line could not be written, or that the plan is none.
pub type BookError = Box<dyn std::error::Error + Send + Sync>;

/// One kind of fault.
struct Fault {
    family: Family,
    strike: Strike,
}

/// By what it is done to.
#[derive(Clone, Copy)]
enum Strike {
    Nodes(fn(Aim<Target>) -> Doing<Struck>),
    Links(fn(Aim<Bond>) -> Doing<Struck>),
}

/// Faults that take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    /// What these leave, the last heal undoes by what it sees: whoever is paused or down.
    Processes,
    /// Changes of the members may take seconds, and there can be only one at a time.
    Members,
    /// What an operator asks for and nobody undoes.
    Operator,
    Links,
}

/// Undoes one strike, now or at the end of the run. It finds out itself what is left to undo.
type Undo = Box<dyn FnOnce() -> Doing<Told> + Send>;

type Doing<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a strike is told.
struct Aim<T = Target> {
    cluster: Arc<Cluster>,
    target: T,
    /// Asked for only where the target hangs on it.
    leader: Option<Leader>,
    members: Members,
    /// Decides where the target leaves a choice.
    draw: u64,
}

impl Aim<()> {
    fn at<T>(self, target: T) -> Aim<T> {
        let Aim { cluster, target: (), leader, members, draw } = self;
        Aim { cluster, target, leader, members, draw }
    }
}

/// What an act came to, as the book tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    nodes: Vec<String>,
    outcome: StrikeOutcome,
    /// The proof, or the reason.
    detail: String,
}

struct Struck {
    told: Told,
    /// None when there is nothing to undo.
    undo: Option<Undo>,
}

/// A fault that the end of the run found not undone.
pub struct Left {
    family: Family,
    step: u64,
    target: String,
    undo: Undo,
}

impl Fault {
    fn of(kind: FaultKind) -> Fault {
        use Family::{Links, Members, Operator, Processes};
        let nodes = |family, strike: fn(Aim) -> Doing<Struck>| (family, Strike::Nodes(strike));
        let links = |strike: fn(Aim<Bond>) -> Doing<Struck>| (Links, Strike::Links(strike));
        let (family, strike) = match kind {
            FaultKind::Kill => nodes(Processes, process::kill),
            FaultKind::Pause => nodes(Processes, process::pause),
            FaultKind::Restart => nodes(Processes, process::stop),
            FaultKind::Stop => nodes(Processes, process::stop),
            FaultKind::Add => nodes(Members, members::add),
            FaultKind::Learn => nodes(Members, members::learn),
            FaultKind::Remove => nodes(Members, members::remove),
            FaultKind::Replace => nodes(Members, members::replace),
            FaultKind::Transfer => nodes(Operator, operate::transfer),
            FaultKind::Compact => nodes(Operator, operate::compact),
            FaultKind::Cut => links(links::cut),
            FaultKind::Isolate => links(links::cut),
            FaultKind::Flaky => links(links::flaky),
            FaultKind::Delay => links(links::slow),
            FaultKind::Throttle => links(links::slow),
            FaultKind::SlowClose => links(links::slow),
            FaultKind::Reset => links(links::reset),
            FaultKind::Refuse => links(links::refuse),
            FaultKind::HalfOpen => links(links::half_open),
        };
        Fault { family, strike }
    }
}

impl Told {
    fn skipped(reason: impl Into<String>) -> Told {
        Told { nodes: Vec::new(), outcome: StrikeOutcome::Skipped, detail: reason.into() }
    }
}

impl Struck {
    fn skipped(reason: impl Into<String>) -> Struck {
        Struck { told: Told::skipped(reason), undo: None }
    }
}

/// Carries out `plan`, whose times count from `began`, until its end or until `stop` turns true.
///
/// Returns when no act is under way, with what still holds then: it is for [`heal_all`]. Fails when the book does,
/// or when the plan has a target that is none.
pub async fn run(
    plan: &Plan,
    began: Instant,
    cluster: Arc<Cluster>,
    book: Book,
    stop: watch::Receiver<bool>,
) -> Result<Vec<Left>, BookError> {
    let nemesis = Arc::new(Nemesis { cluster, book, turns: Turns::default(), stop });
    let mut strikes = JoinSet::new();
    for (number, step) in plan.steps.iter().enumerate() {
        let at = began + Duration::from_nanos(step.at);
        strikes.spawn(Arc::clone(&nemesis).carry_out(number as u64, step.clone(), at));
    }
    let mut result = Ok(Vec::new());
    while let Some(ended) = strikes.join_next().await {
        match (ended, &mut result) {
            (Ok(Ok(left)), Ok(all)) => all.extend(left),
            (Ok(Err(error)), Ok(_)) => result = Err(error),
            (Ok(_), Err(_)) => {}
            (Err(error), _) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    if let Ok(left) = &mut result {
        left.sort_by_key(|left| left.step);
    }
    result
}

/// Undoes what is `left` on links; resumes every node that is paused, starts every one that is down and takes back
/// whatever else lies on a link, recorded as a `heal` of no step; then undoes what else is `left`, with all that in
/// service again.
///
/// Heals all it can, whatever fails. To be called when [`run`] has returned. The outcome is that of the nodes.
pub async fn heal_all(
    cluster: &Arc<Cluster>,
    book: &Book,
    left: Vec<Left>,
) -> Result<StrikeOutcome, BookError> {
    let (on_links, others): (Vec<_>, Vec<_>) =
        left.into_iter().partition(|left| left.family == Family::Links);
    let mut written = undo_each(book, on_links).await;
    written = written.and(book(OpType::Invoke, "heal", line(None, "all", None)));
    let mut told = process::heal_all(cluster).await;
    let healed = links::heal_all(cluster);
    if !healed.is_empty() {
        told.detail += &format!("; healed {}", healed.join(", "));
    }
    let outcome = told.outcome;
    written = written.and(book(OpType::Info, "heal", line(None, "all", Some(told))));
    written.and(undo_each(book, others).await).map(|()| outcome)
}

async fn undo_each(book: &Book, left: Vec<Left>) -> Result<(), BookError> {
    let mut written = Ok(());
    for Left { family: _, step, target, undo } in left {
        let begun = book(OpType::Invoke, "heal", line(Some(step), &target, None));
        let told = undo().await;
        let ended = book(OpType::Info, "heal", line(Some(step), &target, Some(told)));
        written = written.and(begun).and(ended);
    }
    written
}

/// What a step strikes.
#[derive(Clone, Copy)]
struct Deed<'a> {
    kind: FaultKind,
    target: &'a str,
    manner: Manner,
    draw: u64,
}

struct Nemesis {
    cluster: Arc<Cluster>,
    book: Book,
    turns: Turns,
    stop: watch::Receiver<bool>,
}

/// One for each family, held from an `invoke` to its `info`.
#[derive(Default)]
struct Turns {
    processes: Mutex<()>,
    members: Mutex<()>,
    operator: Mutex<()>,
    links: Mutex<()>,
}

impl Turns {
    fn of(&self, family: Family) -> &Mutex<()> {
        match family {
            Family::Processes => &self.processes,
            Family::Members => &self.members,
            Family::Operator => &self.operator,
            Family::Links => &self.links,
        }
    }
}

impl Nemesis {
    /// One step, from before its time to after its undoing. What it leaves to be undone: nothing, or one.
    async fn carry_out(
        self: Arc<Self>,
        number: u64,
        step: Step,
        at: Instant,
    ) -> Result<Option<Left>, BookError> {
        if !self.waited_until(at).await {
            return Ok(None);
        }
        let Act::Strike { fault: kind, target, manner, hold } = &step.act else { return Ok(None) };
        let fault = Fault::of(*kind);
        if step.on.is_some() || step.script.is_some() {
            self.write(OpType::Invoke, &kind.to_string(), number, target, None)?;
            let told = Told::skipped("facts are not waited for, and scripts not followed");
            self.write(OpType::Info, &kind.to_string(), number, target, Some(told))?;
            return Ok(None);
        }
        let deed = Deed { kind: *kind, target, manner: *manner, draw: step.draw };
        let Some(undo) = self.strike(&fault, number, deed).await? else { return Ok(None) };
        let left = |undo| match fault.family {
            Family::Processes => None,
            family => Some(Left { family, step: number, target: target.clone(), undo }),
        };
        let Hold::For(hold) = *hold else { return Ok(left(undo)) };
        if !self.waited_until(Instant::now() + Duration::from_nanos(hold)).await {
            return Ok(left(undo));
        }
        let _turn = self.turns.of(fault.family).lock().await;
        if *self.stop.borrow() {
            return Ok(left(undo));
        }
        self.write(OpType::Invoke, "heal", number, target, None)?;
        let told = undo().await;
        self.write(OpType::Info, "heal", number, target, Some(told))?;
        Ok(None)
    }

    /// Returns how what it may have done is undone.
    async fn strike(&self, fault: &Fault, number: u64, deed: Deed<'_>) -> Result<Option<Undo>, BookError> {
        let f = deed.kind.to_string();
        let whom = deed.kind.whom(deed.target)?;
        let needs_leader = match whom {
            Whom::Nodes(target) => target::needs_leader(target) || deed.kind == FaultKind::Transfer,
            Whom::Links(links) => shapes::needs_leader(links),
        };
        let mut leader = match needs_leader {
            true => self.cluster.leader_within(LEADER_LIMIT).await,
            false => None,
        };
        let known = Instant::now();
        let _turn = self.turns.of(fault.family).lock().await;
        let ended = *self.stop.borrow();
        if !ended && leader.is_some() && known.elapsed() > LEADER_FRESH {
            leader = self.cluster.leader().await;
        }
        self.write(OpType::Invoke, &f, number, deed.target, None)?;
        let struck = match ended {
            true => Struck::skipped("the load ended first"),
            false => {
                let (cluster, members) = (Arc::clone(&self.cluster), self.cluster.members().await);
                let aim = Aim { cluster, target: (), leader, members, draw: deed.draw };
                match (fault.strike, whom) {
                    (Strike::Nodes(strike), Whom::Nodes(target)) => strike(aim.at(target)).await,
                    (Strike::Links(strike), Whom::Links(links)) => {
                        strike(aim.at(Bond { links, manner: deed.manner, fault: number })).await
                    }
                    _ => unreachable!("{} is done to {whom:?}", deed.kind),
                }
            }
        };
        self.write(OpType::Info, &f, number, deed.target, Some(struck.told))?;
        Ok(struck.undo)
    }

    fn write(
        &self,
        kind: OpType,
        f: &str,
        number: u64,
        target: &str,
        told: Option<Told>,
    ) -> Result<(), BookError> {
        (self.book)(kind, f, line(Some(number), target, told))
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

/// As the book has it; nothing is told when it begins.
fn line(step: Option<u64>, target: &str, told: Option<Told>) -> history::Strike {
    let target = target.to_owned();
    match told {
        None => {
            let (nodes, detail) = (Vec::new(), String::new());
            history::Strike { step, target, nodes, outcome: None, detail, whole: None }
        }
        Some(Told { nodes, outcome, detail }) => {
            history::Strike { step, target, nodes, outcome: Some(outcome), detail, whole: None }
        }
    }
}
