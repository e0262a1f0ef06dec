//! One strike, from the question whom it means to the line that says what it came to.
//!
//! In: a fault, its target, and the fact that it was waiting for, if it was. Out: the lines of the book, and what is to be
//! undone. Never: a question to the cluster that the target does not hang on, or a turn waited for by a strike on a
//! fact that knows its nodes: the moment is all that such a strike is about.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::facts::Seen;
use super::keep::Claim;
use super::links::Bond;
use super::target::{Candidate, Known, View};
use super::{
    BookError, Family, Fault, LEADER_FRESH, LEADER_LIMIT, Nemesis, Strike, Struck, Told, Undo, shapes, target,
};
use crate::cluster::{Cluster, Leader};
use crate::history::{OpType, StrikeOutcome, monotonic_ns};
use crate::scenario::{FaultKind, Manner, Target, Whom};
use crate::system::operator::Members;

/// What a strike is told.
pub(super) struct Aim<T = Target> {
    pub cluster: Arc<Cluster>,
    pub target: T,
    /// Asked for only where the target hangs on it.
    pub leader: Option<Leader>,
    pub members: Members,
    pub known: Known,
    pub manner: Manner,
    /// Decides where the target leaves a choice.
    pub draw: u64,
    /// To be asked before anything is broken.
    pub claim: Claim,
    pub mark: Arc<Mark>,
    /// Turns true when the load has ended: what takes long ends then.
    pub stop: watch::Receiver<bool>,
}

/// What a strike says beside what it came to.
#[derive(Default)]
pub(super) struct Mark {
    /// CLOCK_MONOTONIC in nanoseconds; without it the strike was done when it returned.
    done_ns: OnceLock<u64>,
    /// The nodes that a name stands for from now on; without it those that the strike came to.
    named: OnceLock<Vec<String>>,
}

/// What there is to a strike before it is due.
#[derive(Clone, Copy)]
pub(super) struct Blow<'a> {
    /// Line of the plan.
    pub step: u64,
    pub kind: FaultKind,
    pub target: &'a str,
    pub manner: Manner,
    pub draw: u64,
    /// The fact that it was waiting for.
    pub cue: Option<&'a Seen>,
    pub known: &'a Known,
}

/// What a strike leaves.
pub(super) struct Landed {
    pub family: Family,
    pub named: Vec<String>,
    pub undo: Option<Undo>,
}

impl<T> Aim<T> {
    pub fn view<'a>(&'a self, nodes: &'a [Candidate]) -> View<'a> {
        let leader = self.leader.as_ref().map(|leader| leader.node.as_str());
        View { nodes, members: &self.members, leader, known: &self.known }
    }
}

impl Aim<()> {
    fn at<T>(self, target: T) -> Aim<T> {
        let Aim { cluster, target: (), leader, members, known, manner, draw, claim, mark, stop } = self;
        Aim { cluster, target, leader, members, known, manner, draw, claim, mark, stop }
    }
}

impl Mark {
    /// The deed is done now; its proof may take longer.
    pub fn done(&self) {
        self.done_at(monotonic_ns());
    }

    /// The first word counts.
    pub fn done_at(&self, time_ns: u64) {
        self.done_ns.get_or_init(|| time_ns);
    }

    pub fn named(&self, nodes: impl IntoIterator<Item = String>) {
        self.named.get_or_init(|| nodes.into_iter().collect());
    }
}

impl Nemesis {
    pub(super) async fn strike(&self, blow: Blow<'_>) -> Result<Landed, BookError> {
        let Blow { step, kind, target, cue, .. } = blow;
        let (f, fault, whom) = (kind.to_string(), Fault::of(kind), kind.whom(target)?);
        let is_given = match whom {
            Whom::Nodes(target) => target::is_given(target),
            Whom::Links(links) => shapes::are_given(links),
        };
        let mut leader = match needs_leader(kind, whom) {
            true => self.means.cluster.leader_within(LEADER_LIMIT).await,
            false => None,
        };
        let known_at = Instant::now();
        // Who acts on one node waits for others who do so anyway, and rules of links do not meet.
        let at_once = cue.is_some()
            && is_given
            && matches!(fault.family, Family::Processes | Family::Links | Family::Disks);
        let _turn = match at_once {
            true => None,
            false => Some(self.turns.of(fault.family).lock().await),
        };
        let ended = *self.stop.borrow();
        if !ended && leader.is_some() && known_at.elapsed() > LEADER_FRESH {
            leader = self.means.cluster.leader().await;
        }
        self.write(OpType::Invoke, &f, step, target, None)?;
        let mark = Arc::<Mark>::default();
        let mut struck = match ended {
            true => Struck::skipped("the load ended first"),
            false => {
                let members = match is_given && fault.family != Family::Members {
                    true => self.means.cluster.known_members(),
                    false => self.means.cluster.members().await,
                };
                let aim = Aim {
                    cluster: Arc::clone(&self.means.cluster),
                    target: (),
                    leader,
                    members,
                    known: blow.known.clone(),
                    manner: blow.manner,
                    draw: blow.draw,
                    claim: self.means.keeper.claim(step),
                    mark: Arc::clone(&mark),
                    stop: self.stop.clone(),
                };
                match (fault.strike, whom) {
                    (Strike::Nodes(strike), Whom::Nodes(target)) => strike(aim.at(target)).await,
                    (Strike::Links(strike), Whom::Links(links)) => {
                        strike(aim.at(Bond { links, manner: blow.manner, fault: step })).await
                    }
                    _ => unreachable!("{kind} is done to {whom:?}"),
                }
            }
        };
        mark.done();
        self.account_for(step, &struck);
        let named = match struck.told.outcome {
            StrikeOutcome::Skipped => Vec::new(),
            _ => mark.named.get().cloned().unwrap_or_else(|| struck.told.nodes.clone()),
        };
        if let (Some(cue), Some(done_ns)) = (cue, mark.done_ns.get()) {
            struck.told.detail = format!("{}; {}", on(cue, *done_ns), struck.told.detail);
        }
        self.write(OpType::Info, &f, step, target, Some(struck.told))?;
        Ok(Landed { family: fault.family, named, undo: struck.undo })
    }

    /// A step that is not to be.
    pub(super) fn skip(&self, step: u64, f: &str, target: &str, reason: &str) -> Result<(), BookError> {
        self.write(OpType::Invoke, f, step, target, None)?;
        self.write(OpType::Info, f, step, target, Some(Told::skipped(reason)))
    }

    /// What is there to be undone is broken until then, and so is what nobody knows.
    fn account_for(&self, step: u64, struck: &Struck) {
        let claim = self.means.keeper.claim(step);
        match (&struck.undo, struck.told.outcome) {
            (_, StrikeOutcome::Indeterminate) => {}
            (Some(_), _) => claim.settle(),
            (None, _) => claim.release(),
        }
    }
}

fn needs_leader(kind: FaultKind, whom: Whom) -> bool {
    match whom {
        Whom::Nodes(target) => target::needs_leader(target) || kind == FaultKind::Transfer,
        Whom::Links(links) => shapes::needs_leader(links),
    }
}

/// `on elected: n3 in term 5, seen 0.21 ms and struck 0.90 ms after`
fn on(cue: &Seen, done_ns: u64) -> String {
    let after = |time: u64| Duration::from_nanos(time.saturating_sub(cue.at_ns)).as_secs_f64() * 1e3;
    let (fact, about) = (cue.fact, cue.about());
    format!("on {fact}: {about}, seen {:.2} ms and struck {:.2} ms after", after(cue.seen_ns), after(done_ns))
}
