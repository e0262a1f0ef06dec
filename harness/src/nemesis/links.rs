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
use tokio::time::sleep;

use super::ways::{ACT_LIMIT, Harm, Ways, reset_all, within};
use super::{Aim, Doing, Struck, Told};
use crate::cluster::{self, Cluster, Delay, Direction, End, Link, Rule};
use crate::scenario::{Distribution, Healing, Links, Manner};

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
        let ways = match Ways::of(&aim, Harm::Severed) {
            Ok(ways) => ways,
            Err(reason) => return Struck::skipped(reason),
        };
        let Manner::Cut { heal } = aim.target.manner else { unreachable!("{:?}", aim.target) };
        ways.set(|_| Rule::Hold);
        let passed = ways.passed();
        ways.show(|| ways.held() > 0).await;
        let (held, since) = (ways.held(), ways.passed() - passed);
        let detail = format!("{}: cut, {since} bytes passed since and {held} wait", ways.told());
        ways.struck(since == 0, detail, move |ways| ways.healed(heal, Some(passed)))
    })
}

/// Cut and healed again and again, each pair by itself. Proof: how often.
pub(super) fn flaky(aim: Aim<Bond>) -> Doing<Struck> {
    Box::pin(async move {
        let ways = match Ways::of(&aim, Harm::Severed) {
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
        let undo = move |ways: Ways| async move {
            flapping.shutdown().await;
            let told = ways.healed(heal, None).await;
            let detail = format!("{}; cut {} times", told.detail, cuts.load(Ordering::Relaxed));
            Told { detail, ..told }
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
        let slow_close = matches!(aim.target.manner, Manner::SlowClose { .. });
        let harm = if slow_close { Harm::None } else { Harm::Slowed };
        let ways = match Ways::of(&aim, harm) {
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
        let ruled = ways.are_ruled();
        ways.struck(ruled, detail, |ways| ways.healed(Healing::Deliver, None))
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
        manner => unreachable!("{manner:?} slows no link"),
    }
}

fn slowness(manner: Manner) -> String {
    match manner {
        Manner::Delay { by, .. } => format!("bytes come about {by:?} later"),
        Manner::Throttle { rate_bytes } => format!("at most {rate_bytes} bytes pass in a second"),
        Manner::SlowClose { by } => format!("that a connection has ended is told {by:?} later"),
        manner => unreachable!("{manner:?} slows no link"),
    }
}

/// Connections end for both sides, once. Proof: those that stood are gone.
pub(super) fn reset(aim: Aim<Bond>) -> Doing<Struck> {
    Box::pin(async move {
        let ways = match Ways::of(&aim, Harm::None) {
            Ok(ways) => ways,
            Err(reason) => return Struck::skipped(reason),
        };
        let links = ways.opened();
        if links.iter().all(|link| link.standing().is_empty()) {
            return Struck::skipped(format!("{}: no connection stands", ways.told()));
        }
        let (reset, gone) = reset_all(&links).await;
        let detail = format!("{}: {reset} connections reset", ways.told());
        Struck { told: ways.result(gone, detail), undo: None }
    })
}

/// Connections end, and there are no new ones. Proof: the kernel refuses the harness' own.
pub(super) fn refuse(aim: Aim<Bond>) -> Doing<Struck> {
    Box::pin(async move {
        let ways = match Ways::of(&aim, Harm::Severed) {
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
        let undo = move |ways: Ways| async move {
            let links = ways.opened();
            for link in &links {
                link.admit(fault);
            }
            let open = || links.iter().all(|link| link.listens() || link.is_refusing());
            let open = within(ACT_LIMIT, open).await;
            ways.result(open, format!("{}: can be connected to", ways.told()))
        };
        ways.struck(refuse, detail, undo)
    })
}

/// Connections end for the one side, to which the bytes go, and the other is not told. Proof: they have, by number.
pub(super) fn half_open(aim: Aim<Bond>) -> Doing<Struck> {
    Box::pin(async move {
        let ways = match Ways::of(&aim, Harm::Slowed) {
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
        let undo = |ways: Ways| async move {
            let halves =
                |ways: &Ways| -> usize { ways.links().iter().map(|(link, _)| link.half_open().len()).sum() };
            let believed = halves(&ways);
            for (link, _) in ways.links() {
                link.reset_half_open();
            }
            let gone = within(ACT_LIMIT, || halves(&ways) == 0).await;
            let told = ways.told();
            ways.result(gone, format!("{told}: {believed} were still believed to stand, and are told"))
        };
        ways.struck(done, detail, undo)
    })
}

/// Takes back whatever is left on any link. Returns those that had something, as the book tells them.
pub(super) fn heal_all(cluster: &Cluster) -> Vec<String> {
    cluster.links().iter().filter(|link| link.heal()).map(ToString::to_string).collect()
}
