//! Malice: carries out the plan, each fault at its time, and undoes it.
//!
//! In: a plan, a cluster, a book. Out: lines of the process `nemesis`: an `invoke` that names step and target,
//! an `info` with what it came to, the outcome and its proof. Never: a fault that the plan does not have,
//! or an `installed` that was not seen.
//!
//! Steps of one [`script`] are done in order, each when the one before is done; scripts, and steps of none, do not wait for
//! each other. A step waits for its time, for the [`facts`] it is to follow, then makes its [`strike`]; and what it
//! did is undone at a time of its own, or by a later step. So faults overlap. Those of one family take turns: who acts
//! holds the family's turn from the `invoke` to the `info`, so that each finds what those before it have done. Of
//! several families acts overlap too: a node may be killed while the members change. To wait for a leader or for a fact,
//! and to hold a fault, is outside of the turn.
//!
//! A family of faults is a file of strikes and a row for each in [`Fault::of`]: a [`Strike`] finds out what its
//! target comes to, be it nodes, members or whatever the family acts on; claims what it is to break from the [`keep`]er
//! of the quorum, whose [`account`] says in every `info` whether the cluster is whole; acts; and gives back its proof
//! and how it is undone. What the end of the run finds not undone is left to [`heal_all`].

mod account;
mod clocks;
mod damage;
mod disks;
mod facts;
mod keep;
mod limits;
mod links;
mod members;
mod operate;
mod process;
mod roll;
mod script;
mod shapes;
mod strike;
mod target;
mod ways;
mod withhold;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::history::{self, OpType, Recorder, StrikeOutcome};
use crate::scenario::{FaultKind, Keep, Plan, Step, Target};

use facts::Facts;
use keep::Keeper;
use links::Bond;
use script::Script;
use strike::Aim;

/// How long a strike on the leader waits for one: an election or two.
pub const LEADER_LIMIT: Duration = Duration::from_secs(2);
/// An older answer to the question who leads is asked again.
const LEADER_FRESH: Duration = Duration::from_millis(20);

/// Writes one line of the nemesis: its type, its `f` and its value.
pub type Book = Arc<dyn Fn(OpType, &str, history::Strike) -> Result<(), BookError> + Send + Sync>;
/// Why a line could not be written, or that the plan is none.
pub type BookError = Box<dyn std::error::Error + Send + Sync>;

/// What a nemesis works on and with.
#[derive(Clone)]
pub struct Means {
    cluster: Arc<Cluster>,
    book: Book,
    /// Where facts of clients come from.
    recorder: Option<Arc<Recorder>>,
    keeper: Keeper,
}

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
    /// Restarts of one node after the other, which take seconds, while other processes are broken.
    Rolls,
    /// What is kept from the nodes.
    Load,
    /// Of what a node keeps, while it is down: nobody else may start it before that is undone.
    Damage,
    /// What disks do while their nodes run, or try to.
    Disks,
    Clocks,
    /// What nodes may use of the machine.
    Limits,
}

impl Family {
    /// Whether a fault breaks nothing more once its undoing came to this. A process that was not brought back is broken
    /// until it is started again, which the account sees by itself.
    fn is_over(self, undone: StrikeOutcome) -> bool {
        match undone {
            StrikeOutcome::Installed => true,
            StrikeOutcome::Skipped => self != Family::Processes,
            StrikeOutcome::Indeterminate => false,
        }
    }
}

/// Undoes one strike, now or at the end of the run. It finds out itself what is left to undo.
struct Undo(Box<dyn FnOnce() -> Doing<Undone> + Send>);

/// What an undoing came to.
struct Undone {
    told: Told,
    /// What other faults have done keeps it from being undone as long as it lasts: the end of the run tries again.
    again: Option<Undo>,
}

type Doing<T> = Pin<Box<dyn Future<Output = T> + Send>>;

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

impl Means {
    /// With nothing to be kept, and no facts of clients.
    pub fn new(cluster: Arc<Cluster>, book: Book) -> Means {
        let keeper = Keeper::new(Arc::clone(&cluster), Keep::Nothing);
        Means { cluster, book, recorder: None, keeper }
    }

    pub fn keeping(self, keep: Keep) -> Means {
        let keeper = Keeper::new(Arc::clone(&self.cluster), keep);
        Means { keeper, ..self }
    }

    /// Facts of clients are what this one records.
    pub fn hearing(self, recorder: Arc<Recorder>) -> Means {
        Means { recorder: Some(recorder), ..self }
    }

    fn write(
        &self,
        kind: OpType,
        f: &str,
        step: Option<u64>,
        target: &str,
        told: Option<Told>,
    ) -> Result<(), BookError> {
        let whole = told.is_some().then(|| self.keeper.is_whole());
        let (nodes, outcome, detail) = match told {
            None => (Vec::new(), None, String::new()),
            Some(Told { nodes, outcome, detail }) => (nodes, Some(outcome), detail),
        };
        (self.book)(
            kind,
            f,
            history::Strike { step, target: target.to_owned(), nodes, outcome, detail, whole },
        )
    }
}

impl Fault {
    fn of(kind: FaultKind) -> Fault {
        use Family::{Clocks, Damage, Disks, Limits, Links, Load, Members, Operator, Processes, Rolls};
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
            FaultKind::Slow => nodes(Processes, process::slow),
            FaultKind::CrashLoop => nodes(Processes, process::crash_loop),
            FaultKind::Roll => nodes(Rolls, roll::roll),
            FaultKind::Upgrade => nodes(Rolls, roll::upgrade),
            FaultKind::Withhold => nodes(Load, withhold::withhold),
            FaultKind::BitFlip => nodes(Damage, damage::bit_flip),
            FaultKind::Truncate => nodes(Damage, damage::truncate),
            FaultKind::SwapBlocks => nodes(Damage, damage::swap_blocks),
            FaultKind::PowerLoss => nodes(Processes, disks::power_loss),
            FaultKind::Eio => nodes(Processes, disks::eio),
            FaultKind::SlowDisk => nodes(Disks, disks::slow),
            FaultKind::HungDisk => nodes(Disks, disks::hang),
            FaultKind::FullDisk => nodes(Disks, disks::fill),
            FaultKind::JumpClock => nodes(Clocks, clocks::jump),
            FaultKind::DriftClock => nodes(Clocks, clocks::drift),
            FaultKind::Descriptors => nodes(Limits, limits::descriptors),
            FaultKind::Memory => nodes(Limits, limits::memory),
            FaultKind::Cpu => nodes(Limits, limits::cpu),
        };
        Fault { family, strike }
    }
}

impl Undo {
    fn new<F>(act: impl FnOnce() -> F + Send + 'static) -> Undo
    where
        F: Future<Output = Told> + Send + 'static,
    {
        Undo::or_again(move || Box::pin(async move { Undone::told(act().await) }))
    }

    fn or_again(act: impl FnOnce() -> Doing<Undone> + Send + 'static) -> Undo {
        Undo(Box::new(act))
    }

    async fn carry_out(self) -> Undone {
        (self.0)().await
    }
}

impl Undone {
    fn told(told: Told) -> Undone {
        Undone { told, again: None }
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
/// when the plan has a target that is none, or when the facts that it waits for cannot be followed.
pub async fn run(
    plan: &Plan,
    began: Instant,
    means: &Means,
    stop: watch::Receiver<bool>,
) -> Result<Vec<Left>, BookError> {
    let facts = Facts::watch(plan, &means.cluster, means.recorder.as_ref())
        .map_err(|error| format!("facts cannot be followed: {error}"))?;
    let nemesis = Arc::new(Nemesis { means: means.clone(), facts, turns: Turns::default(), stop });
    let mut under_way = JoinSet::new();
    for steps in scripts(plan) {
        under_way.spawn(Script::new(Arc::clone(&nemesis), began).carry_out(steps));
    }
    let mut result = Ok(Vec::new());
    while let Some(ended) = under_way.join_next().await {
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

/// The steps, with their lines, of each script; a step of none is a script of its own.
fn scripts(plan: &Plan) -> Vec<Vec<(u64, Step)>> {
    let mut scripts = Vec::new();
    let mut places: BTreeMap<u32, usize> = BTreeMap::new();
    for (number, step) in (0..).zip(&plan.steps) {
        let next = scripts.len();
        let place = step.script.map_or(next, |script| *places.entry(script).or_insert(next));
        if place == next {
            scripts.push(Vec::new());
        }
        scripts[place].push((number, step.clone()));
    }
    scripts
}

/// Undoes what is `left` on links, load, disks, damaged files, clocks and limits; has every node run again, and takes back
/// whatever else lies on a link or a clock or is withheld from a node, recorded as a `heal` of no step; then undoes what
/// else is `left`, the newest first, with all that in service again.
///
/// Heals all it can, whatever fails. To be called when [`run`] has returned. The outcome is that of the nodes.
pub async fn heal_all(means: &Means, left: Vec<Left>) -> Result<StrikeOutcome, BookError> {
    // These can be healed whatever the other nodes do, and a removal is better undone when they all run.
    let first = |left: &Left| {
        use Family::{Clocks, Damage, Disks, Limits, Links, Load};
        matches!(left.family, Links | Load | Disks | Damage | Clocks | Limits)
    };
    let (first, others): (Vec<_>, Vec<_>) = left.into_iter().partition(first);
    let mut written = undo_each(means, first).await;
    written = written.and(means.write(OpType::Invoke, "heal", None, "all", None));
    let (disks, all_healed) = disks::heal_all(&means.cluster).await;
    let mut told = process::heal_all(&means.cluster).await;
    if !disks.is_empty() {
        told.detail += &format!("; {}", disks.join("; "));
    }
    if !all_healed {
        told.outcome = StrikeOutcome::Indeterminate;
    }
    let healed = links::heal_all(&means.cluster);
    if !healed.is_empty() {
        told.detail += &format!("; healed {}", healed.join(", "));
    }
    let asked_again = means.cluster.gates().open_all();
    if !asked_again.is_empty() {
        told.detail += &format!("; nothing is withheld from {} any more", asked_again.join(", "));
    }
    let told_right = clocks::heal_all(&means.cluster);
    if !told_right.is_empty() {
        told.detail += &format!("; the clocks of {} are right again", told_right.join(", "));
    }
    let outcome = told.outcome;
    if outcome == StrikeOutcome::Installed {
        means.keeper.release_all();
    }
    written = written.and(means.write(OpType::Info, "heal", None, "all", Some(told)));
    written.and(undo_each(means, others.into_iter().rev()).await).map(|()| outcome)
}

async fn undo_each(means: &Means, left: impl IntoIterator<Item = Left>) -> Result<(), BookError> {
    let mut written = Ok(());
    for Left { family, step, target, undo } in left {
        let begun = means.write(OpType::Invoke, "heal", Some(step), &target, None);
        let Undone { mut told, again } = undo.carry_out().await;
        if again.is_some() {
            told.outcome = StrikeOutcome::Indeterminate;
        }
        if family.is_over(told.outcome) {
            means.keeper.claim(step).release();
        }
        let ended = means.write(OpType::Info, "heal", Some(step), &target, Some(told));
        written = written.and(begun).and(ended);
    }
    written
}

/// A run of it.
struct Nemesis {
    means: Means,
    /// None when the plan waits for none.
    facts: Option<Facts>,
    turns: Turns,
    stop: watch::Receiver<bool>,
}

impl Nemesis {
    fn write(
        &self,
        kind: OpType,
        f: &str,
        step: u64,
        target: &str,
        told: Option<Told>,
    ) -> Result<(), BookError> {
        self.means.write(kind, f, Some(step), target, told)
    }
}

/// One for each family, held from an `invoke` to its `info`.
#[derive(Default)]
struct Turns {
    processes: Mutex<()>,
    members: Mutex<()>,
    operator: Mutex<()>,
    links: Mutex<()>,
    rolls: Mutex<()>,
    load: Mutex<()>,
    damage: Mutex<()>,
    disks: Mutex<()>,
    clocks: Mutex<()>,
    limits: Mutex<()>,
}

impl Turns {
    fn of(&self, family: Family) -> &Mutex<()> {
        match family {
            Family::Processes => &self.processes,
            Family::Members => &self.members,
            Family::Operator => &self.operator,
            Family::Links => &self.links,
            Family::Rolls => &self.rolls,
            Family::Load => &self.load,
            Family::Damage => &self.damage,
            Family::Disks => &self.disks,
            Family::Clocks => &self.clocks,
            Family::Limits => &self.limits,
        }
    }
}
