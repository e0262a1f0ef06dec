//! Faults of links: bytes that stop, come late or slowly, and connections that end for both sides or for one.
//!
//! In: pairs, by their shape. Out: what was seen on the links: that no byte passes any more, how many wait, which
//! connections are gone; and when it is undone, that they flow again. Never: a byte looked into, or an `installed` by
//! the mere word of who asked for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::shapes::{Pair, describe, pairs};
use super::target::{View, candidates};
use super::{Aim, Doing, Struck, Told, Undo};
use crate::cluster::{self, Cluster, Delay, Direction, End, Link, Rule, Source};
use crate::history::StrikeOutcome;
use crate::scenario::{Distribution, Healing, Links, Manner};

/// How long one waits for the links to show a fault. That no byte came to be held is no proof against it.
const SHOW_LIMIT: Duration = Duration::from_millis(150);
/// For what is a matter of the harness alone: connections that end, listeners that close, bytes that are let go.
const ACT_LIMIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(2);

/// What a strike on links is told, beside what all are told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bond {
    pub links: Links,
    pub manner: Manner,
    /// Tells its rules from those of other faults.
    pub fault: u64,
}

/// Bytes wait. Proof: the count of those that passed stands still.
pub(super) fn cut(aim: Aim<Bond>) -> Doing<Struck> {
    Box::pin(async move {
        let ways = match Ways::of(&aim) {
            Ok(ways) => ways,
            Err(reason) => return Struck::skipped(reason),
        };
        let Manner::Cut { heal } = aim.target.manner else { unreachable!("{:?}", aim.target) };
        ways.set(|_| Rule::Hold);
        let passed = ways.passed();
        ways.show(|| ways.held() > 0).await;
        let (held, since) = (ways.held(), ways.passed() - passed);
        let detail = format!("{}: cut, {since} bytes passed since and {held} wait", ways.told());
        let undo = |ways: Ways| -> Undo {
            Box::new(move || Box::pin(async move { ways.healed(heal, Some(passed)).await }))
        };
        ways.struck(since == 0, detail, undo)
    })
}

/// Cut and healed again and again, each pair by itself. Proof: how often.
pub(super) fn flaky(aim: Aim<Bond>) -> Doing<Struck> {
    Box::pin(async move {
        let ways = match Ways::of(&aim) {
            Ok(ways) => ways,
            Err(reason) => return Struck::skipped(reason),
        };
        let Manner::Flaky { flap, heal } = aim.target.manner else { unreachable!("{:?}", aim.target) };
        let cuts = Arc::new(AtomicU64::new(0));
        let mut flapping = JoinSet::new();
        for (number, pair) in (0..).zip(&ways.pairs) {
            let one = Ways { pairs: [pair.clone()].into(), ..ways.clone() };
            let numbers = ChaCha8Rng::seed_from_u64(aim.draw.wrapping_add(number));
            flapping.spawn(flap_on(one, flap, heal, numbers, Arc::clone(&cuts)));
        }
        within(3 * flap + ACT_LIMIT, || cuts.load(Ordering::Relaxed) > 0).await;
        let seen = cuts.load(Ordering::Relaxed);
        let detail = format!("{}: cut and healed in turn, {seen} cuts so far", ways.told());
        let undo = |ways: Ways| -> Undo {
            Box::new(move || {
                Box::pin(async move {
                    flapping.shutdown().await;
                    let told = ways.healed(heal, None).await;
                    let detail = format!("{}; cut {} times", told.detail, cuts.load(Ordering::Relaxed));
                    Told { detail, ..told }
                })
            })
        };
        ways.struck(seen > 0, detail, undo)
    })
}

async fn flap_on(ways: Ways, flap: Duration, heal: Healing, mut numbers: ChaCha8Rng, cuts: Arc<AtomicU64>) {
    loop {
        sleep(flap.mul_f64(numbers.random_range(0.5..1.5))).await;
        ways.set(|_| Rule::Hold);
        cuts.fetch_add(1, Ordering::Relaxed);
        sleep(flap.mul_f64(numbers.random_range(0.5..1.5))).await;
        ways.lift(heal).await;
    }
}

/// Bytes come late, or slowly, or an end does. Proof: bytes that wait; or none came.
pub(super) fn slow(aim: Aim<Bond>) -> Doing<Struck> {
    Box::pin(async move {
        let ways = match Ways::of(&aim) {
            Ok(ways) => ways,
            Err(reason) => return Struck::skipped(reason),
        };
        let (manner, draw) = (aim.target.manner, aim.draw);
        ways.set(|number| rule(manner, draw.wrapping_add(number)));
        let passed = ways.passed();
        let mut most = 0;
        ways.show(|| {
            most = most.max(ways.held());
            most > 0
        })
        .await;
        let since = ways.passed() - passed;
        let detail =
            format!("{}: {}; {since} bytes passed since, {most} waited", ways.told(), slowness(manner));
        let undo = |ways: Ways| -> Undo {
            Box::new(move || Box::pin(async move { ways.healed(Healing::Deliver, None).await }))
        };
        let ruled = ways.are_ruled();
        ways.struck(ruled, detail, undo)
    })
}

fn rule(manner: Manner, seed: u64) -> Rule {
    match manner {
        Manner::Delay { by, spread_percent, distribution } => Rule::Delay(Delay {
            middle: by,
            spread: f64::from(spread_percent) / 100.0,
            distribution: match distribution {
                Distribution::Uniform => cluster::Distribution::Uniform,
                Distribution::Normal => cluster::Distribution::Normal,
                Distribution::Pareto => cluster::Distribution::Pareto,
            },
            seed,
        }),
        Manner::Throttle { rate_bytes } => Rule::Throttle { bytes_per_s: rate_bytes },
        Manner::SlowClose { by } => Rule::SlowClose(by),
        Manner::Plain | Manner::Cut { .. } | Manner::Flaky { .. } => unreachable!("{manner:?} slows nothing"),
    }
}

fn slowness(manner: Manner) -> String {
    match manner {
        Manner::Delay { by, .. } => format!("bytes come about {by:?} later"),
        Manner::Throttle { rate_bytes } => format!("at most {rate_bytes} bytes pass in a second"),
        Manner::SlowClose { by } => format!("that a connection has ended is told {by:?} later"),
        Manner::Plain | Manner::Cut { .. } | Manner::Flaky { .. } => String::new(),
    }
}

/// Connections end for both sides, once. Proof: those that stood are gone.
pub(super) fn reset(aim: Aim<Bond>) -> Doing<Struck> {
    Box::pin(async move {
        let ways = match Ways::of(&aim) {
            Ok(ways) => ways,
            Err(reason) => return Struck::skipped(reason),
        };
        let links = ways.opened();
        if links.iter().all(|link| link.standing().is_empty()) {
            return Struck::skipped(format!("{}: no connection stands", ways.told()));
        }
        let (reset, gone) = reset_all(&links).await;
        let detail = format!("{}: {reset} connections reset", ways.told());
        let struck = ways.struck(gone, detail, |_| -> Undo { Box::new(|| unreachable!("it is over")) });
        Struck { undo: None, ..struck }
    })
}

/// Connections end, and there are no new ones. Proof: the kernel refuses the harness' own.
pub(super) fn refuse(aim: Aim<Bond>) -> Doing<Struck> {
    Box::pin(async move {
        let ways = match Ways::of(&aim) {
            Ok(ways) => ways,
            Err(reason) => return Struck::skipped(reason),
        };
        let (links, fault) = (ways.opened(), ways.fault);
        for link in &links {
            link.refuse(fault);
        }
        within(ACT_LIMIT, || links.iter().all(|link| !link.listens())).await;
        let (reset, gone) = reset_all(&links).await;
        let mut refuse = gone;
        for link in &links {
            refuse &= link.refuses().await;
        }
        let detail = format!("{}: {reset} connections reset, and new ones refused", ways.told());
        let undo = |ways: Ways| -> Undo {
            Box::new(move || {
                Box::pin(async move {
                    let links = ways.opened();
                    for link in &links {
                        link.admit(fault);
                    }
                    let open = || links.iter().all(|link| link.listens() || link.is_refusing());
                    let open = within(ACT_LIMIT, open).await;
                    ways.result(open, format!("{}: can be connected to", ways.told()))
                })
            })
        };
        ways.struck(refuse, detail, undo)
    })
}

/// Connections end for the one side, to which the bytes go, and the other is not told. Proof: they have, by number.
pub(super) fn half_open(aim: Aim<Bond>) -> Doing<Struck> {
    Box::pin(async move {
        let ways = match Ways::of(&aim) {
            Ok(ways) => ways,
            Err(reason) => return Struck::skipped(reason),
        };
        let ends = ways.links().into_iter().map(|(link, direction)| {
            let told = if direction == Direction::Forward { End::Target } else { End::Source };
            (link, link.open_by_half(told))
        });
        let ends: Vec<(&Link, BTreeSet<u64>)> = ends.collect();
        let count: usize = ends.iter().map(|(_, struck)| struck.len()).sum();
        if count == 0 {
            return Struck::skipped(format!("{}: no connection stands", ways.told()));
        }
        let is_half = |(link, struck): &(&Link, BTreeSet<u64>)| {
            let (standing, half) = (link.standing(), link.half_open());
            struck.iter().all(|number| half.contains(number) || !standing.contains(number))
        };
        let done = within(ACT_LIMIT, || ends.iter().all(is_half)).await;
        let detail = format!("{}: {count} connections ended, and the one side not told", ways.told());
        let undo = |ways: Ways| -> Undo {
            Box::new(move || {
                Box::pin(async move {
                    let halves = |ways: &Ways| -> usize {
                        ways.links().iter().map(|(link, _)| link.half_open().len()).sum()
                    };
                    let believed = halves(&ways);
                    for (link, _) in ways.links() {
                        link.reset_half_open();
                    }
                    let gone = within(ACT_LIMIT, || halves(&ways) == 0).await;
                    let told = ways.told();
                    ways.result(
                        gone,
                        format!("{told}: {believed} were still believed to stand, and are told"),
                    )
                })
            })
        };
        ways.struck(done, detail, undo)
    })
}

/// Takes back whatever is left on any link. Returns those that had something, as the book tells them.
pub(super) fn heal_all(cluster: &Cluster) -> Vec<String> {
    cluster.links().iter().filter(|link| link.heal()).map(ToString::to_string).collect()
}

/// The ways of links over which bytes go from the one to the other of each pair.
#[derive(Clone)]
struct Ways {
    cluster: Arc<Cluster>,
    pairs: BTreeSet<Pair>,
    fault: u64,
}

impl Ways {
    fn of(aim: &Aim<Bond>) -> Result<Ways, String> {
        let nodes = candidates(&aim.cluster);
        let leader = aim.leader.as_ref().map(|leader| leader.node.as_str());
        let view = View { nodes: &nodes, members: &aim.members, leader };
        let pairs = pairs(aim.target.links, &view, aim.draw)?;
        let ways = Ways { cluster: Arc::clone(&aim.cluster), pairs, fault: aim.target.fault };
        match ways.links().is_empty() {
            true => Err("there are no links: everybody speaks to the nodes themselves".to_owned()),
            false => Ok(ways),
        }
    }

    /// With the direction in which the bytes go.
    fn links(&self) -> Vec<(&Link, Direction)> {
        let of = |(from, to): &Pair| {
            let there = self.cluster.link(from, to).map(|link| (link, Direction::Forward));
            let back = self.cluster.link(to, from).map(|link| (link, Direction::Backward));
            there.into_iter().chain(back)
        };
        self.pairs.iter().flat_map(of).collect()
    }

    /// Those over which the first of a pair connects to the second.
    fn opened(&self) -> Vec<&Link> {
        self.pairs.iter().filter_map(|(from, to)| self.cluster.link(from, to)).collect()
    }

    fn set(&self, rule: impl Fn(u64) -> Rule) {
        for (number, (link, direction)) in (0..).zip(self.links()) {
            link.set(direction, self.fault, rule(number));
        }
    }

    async fn lift(&self, heal: Healing) -> (usize, bool) {
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
    async fn healed(self, heal: Healing, passed_then: Option<u64>) -> Told {
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

    fn held(&self) -> u64 {
        self.links().iter().map(|(link, direction)| link.traffic().held(*direction)).sum()
    }

    fn passed(&self) -> u64 {
        self.links().iter().map(|(link, direction)| link.traffic().passed(*direction)).sum()
    }

    fn are_ruled(&self) -> bool {
        self.links().iter().all(|(link, direction)| link.is_ruled(*direction))
    }

    /// Waits for traffic to show the fault, but not for long: there may be none.
    async fn show(&self, fact: impl FnMut() -> bool) {
        within(SHOW_LIMIT, fact).await;
    }

    fn told(&self) -> String {
        describe(&self.pairs)
    }

    fn struck(self, proven: bool, detail: String, undo: impl FnOnce(Ways) -> Undo) -> Struck {
        let told = self.result(proven, detail);
        Struck { told, undo: Some(undo(self)) }
    }

    fn result(&self, proven: bool, detail: String) -> Told {
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
async fn reset_all(links: &[&Link]) -> (usize, bool) {
    let stood: Vec<(&Link, BTreeSet<u64>)> = links.iter().map(|link| (*link, link.reset())).collect();
    let gone = || stood.iter().all(|(link, stood)| link.standing().is_disjoint(stood));
    let gone = within(ACT_LIMIT, gone).await;
    (stood.iter().map(|(_, stood)| stood.len()).sum(), gone)
}

/// Whether it came true in time.
async fn within(limit: Duration, mut fact: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !fact() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(POLL).await;
    }
    true
}
