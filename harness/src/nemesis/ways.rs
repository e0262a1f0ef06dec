//! The ways that a fault of links lies on: what is laid on them, what was seen there, and how it is taken back.
//!
//! In: the pairs of a shape, in a cluster. Out: counts and connections before and after. Never: a rule of another fault
//! touched, or a wait without a bound.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::account::Breakage;
use super::links::Bond;
use super::shapes::{Pair, describe, named, pairs};
use super::strike::Mark;
use super::target::candidates;
use super::{Aim, Struck, Told, Undo};
use crate::cluster::{Cluster, Direction, Link, Rule, Source};
use crate::history::StrikeOutcome;
use crate::scenario::Healing;

/// How long one waits for the links to show a fault. That no byte came to be held is no proof against it.
const SHOW_LIMIT: Duration = Duration::from_millis(150);
/// For what is a matter of the harness alone: connections that end, listeners that close, bytes that are let go.
pub(super) const ACT_LIMIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(2);

/// The ways of links over which bytes go from the one to the other of each pair.
#[derive(Clone)]
pub(super) struct Ways {
    pub cluster: Arc<Cluster>,
    pub pairs: BTreeSet<Pair>,
    pub fault: u64,
    pub mark: Arc<Mark>,
}

/// What a fault means to those between whom it is, as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    /// Nothing that one could tell from a connection that ends.
    None,
    /// They do not hear each other in time.
    Slowed,
    /// They do not hear each other; and a node that clients do not hear serves nobody.
    Severed,
}

impl Ways {
    /// `Err` is the reason to let it be.
    pub fn of(aim: &Aim<Bond>, harm: Harm) -> Result<Ways, String> {
        let nodes = candidates(&aim.cluster);
        let view = aim.view(&nodes);
        let pairs = pairs(aim.target.links, &view, aim.draw)?;
        aim.mark.named(named(aim.target.links, &view, aim.draw)?);
        let (cluster, fault, mark) = (Arc::clone(&aim.cluster), aim.target.fault, Arc::clone(&aim.mark));
        let ways = Ways { cluster, pairs, fault, mark };
        if ways.links().is_empty() {
            return Err("there are no links: everybody speaks to the nodes themselves".to_owned());
        }
        aim.claim.breaks(ways.breakage(harm))?;
        Ok(ways)
    }

    fn breakage(&self, harm: Harm) -> Breakage {
        let broken = Breakage::default();
        self.pairs.iter().fold(broken, |broken, ends| match (harm, ends) {
            (Harm::Severed | Harm::Slowed, (Source::Node(from), Source::Node(to))) => broken.pair(from, to),
            (
                Harm::Severed,
                (Source::Node(node), Source::Clients) | (Source::Clients, Source::Node(node)),
            ) => broken.node(node).hush(),
            (Harm::Slowed, (Source::Node(_), Source::Clients) | (Source::Clients, Source::Node(_))) => {
                broken.hush()
            }
            _ => broken,
        })
    }

    /// With the direction in which the bytes go.
    pub fn links(&self) -> Vec<(&Link, Direction)> {
        let of = |(from, to): &Pair| {
            let there = self.cluster.link(from, to).map(|link| (link, Direction::Forward));
            let back = self.cluster.link(to, from).map(|link| (link, Direction::Backward));
            there.into_iter().chain(back)
        };
        self.pairs.iter().flat_map(of).collect()
    }

    /// Those over which the first of a pair connects to the second.
    pub fn opened(&self) -> Vec<&Link> {
        self.pairs.iter().filter_map(|(from, to)| self.cluster.link(from, to)).collect()
    }

    pub fn set(&self, rule: impl Fn(u64) -> Rule) {
        for (number, (link, direction)) in (0..).zip(self.links()) {
            link.set(direction, self.fault, rule(number));
        }
        self.mark.done();
    }

    pub async fn lift(&self, heal: Healing) -> (usize, bool) {
        let links = self.links();
        let (reset, gone) = match heal {
            Healing::Deliver => (0, true),
            Healing::Reset => {
                let mut once: Vec<&Link> = links.iter().map(|(link, _)| *link).collect();
                once.sort_by_key(|link| link.listen);
                once.dedup_by_key(|link| link.listen);
                reset_all(&once).await
            }
        };
        for (link, direction) in links {
            link.lift(direction, self.fault);
        }
        (reset, gone)
    }

    /// Lifts the rules. Proof: nothing waits any more where no other fault holds it.
    pub async fn healed(self, heal: Healing, passed_then: Option<u64>) -> Told {
        let (held, passed) = (self.held(), self.passed());
        let stood_still = passed_then.is_none_or(|then| then == passed);
        let (reset, gone) = self.lift(heal).await;
        let free = |(link, direction): &(&Link, Direction)| !link.is_ruled(*direction);
        let waits = || -> u64 {
            let free = self.links().into_iter().filter(free);
            free.map(|(link, direction)| link.traffic().held(direction)).sum()
        };
        let drained = within(ACT_LIMIT, || waits() == 0).await;
        let fate = match heal {
            Healing::Deliver => format!("{held} bytes had waited and go on"),
            Healing::Reset => format!("{held} bytes had waited and are lost with {reset} connections"),
        };
        let mut detail = format!("{}: {fate}", self.told());
        if let Some(then) = passed_then.filter(|_| !stood_still) {
            detail += &format!("; {} bytes had passed all the same", passed - then);
        }
        if !drained {
            detail += &format!("; {} bytes still wait for a side that reads nothing", waits());
        }
        self.result(stood_still && gone, detail)
    }

    pub fn held(&self) -> u64 {
        self.links().iter().map(|(link, direction)| link.traffic().held(*direction)).sum()
    }

    pub fn passed(&self) -> u64 {
        self.links().iter().map(|(link, direction)| link.traffic().passed(*direction)).sum()
    }

    pub fn are_ruled(&self) -> bool {
        self.links().iter().all(|(link, direction)| link.is_ruled(*direction))
    }

    /// Waits for traffic to show the fault, but not for long: there may be none.
    pub async fn show(&self, fact: impl FnMut() -> bool) {
        within(SHOW_LIMIT, fact).await;
    }

    pub fn told(&self) -> String {
        describe(&self.pairs)
    }

    pub fn struck<F>(
        self,
        proven: bool,
        detail: String,
        undo: impl FnOnce(Ways) -> F + Send + 'static,
    ) -> Struck
    where
        F: Future<Output = Told> + Send + 'static,
    {
        let told = self.result(proven, detail);
        Struck { told, undo: Some(Undo::new(move || undo(self))) }
    }

    pub fn result(&self, proven: bool, detail: String) -> Told {
        let ends = self.pairs.iter().flat_map(|(from, to)| [from, to]);
        let names: BTreeSet<&String> = ends
            .filter_map(|end| match end {
                Source::Clients => None,
                Source::Node(name) => Some(name),
            })
            .collect();
        // In the order of the nodes.
        let nodes = self.cluster.nodes().iter().map(|node| node.name().to_owned());
        let nodes = nodes.filter(|name| names.contains(name)).collect();
        let outcome = if proven { StrikeOutcome::Installed } else { StrikeOutcome::Indeterminate };
        Told { nodes, outcome, detail }
    }
}

/// How many connections stood, and whether they are gone.
pub(super) async fn reset_all(links: &[&Link]) -> (usize, bool) {
    let stood: Vec<(&Link, BTreeSet<u64>)> = links.iter().map(|link| (*link, link.reset())).collect();
    let gone = || stood.iter().all(|(link, stood)| link.standing().is_disjoint(stood));
    let gone = within(ACT_LIMIT, gone).await;
    (stood.iter().map(|(_, stood)| stood.len()).sum(), gone)
}

/// Whether it came true in time.
pub(super) async fn within(limit: Duration, mut fact: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !fact() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(POLL).await;
    }
    true
}
