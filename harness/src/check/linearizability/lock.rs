//! Locks with acquire and release.
//!
//! In: the operations on one lock. Out: whether they have an order. Never: a lock released by who does not hold it.
//!
//! The lock is free at first. `acquire` needs it free and gives it to its owner, `release` needs its owner to hold it.
//! The owner is the operation's value, a token made for one acquisition; without a value it is the process. A failed
//! one says nothing. What stayed open may happen at any time after its invocation, or never.
//!
//! # Holds
//!
//! From an acquire to the release after it nobody else does anything: together they are a *hold*, and an order of
//! operations is an order of holds. Which release ends which acquire is known where an owner has at most one of each, and
//! where each of its operations returned before the next was called: then they take turns. (Else the search decides,
//! for which a lock is a register: acquire swaps free for the owner, release swaps back.)
//!
//! Per owner, with what must happen and what may:
//!
//! - A release without an acquire before it: if it must, there is no order; else it never happens.
//! - An acquire that may, without a release that must: it is left out, and its release. A hold left out of an order leaves
//!   an order.
//! - A release that may, after an acquire that must: it happens. In an order without it its acquire is the last
//!   operation; it can stand after that, for it completes after all else.
//! - An acquire that must, without a release: the hold never ends; its release is called after all else.
//! - An acquire that may, whose release must: it happened, and its completion is open.
//!
//! So each hold has two operations, acquire first, and no order within if the release returned before the acquire
//! was called. What remains is to order holds that stay together, of which A stands before B wherever an operation of A
//! returned before one of B was called. That is what [`zones`](super::register::zones) show for the blocks of a register:
//! such an order exists when no two forward zones overlap and no backward one lies inside a forward one. O(n log n).

use std::collections::{HashMap, HashSet};

use super::object::{Numbers, OPEN, Object, Reduction, Span, Timed};
use super::register::zones::{Block, circle};
use super::register::{self, Held};
use super::search::{Budget, Searched};
use crate::history::{Ended, History, Operation};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    span: Span,
    owner: u32,
    does: Does,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Acquire,
    Release,
}

impl Timed for Act {
    fn span(&self) -> Span {
        self.span
    }

    fn opened(&self) -> Option<Act> {
        Some(Act { span: self.span.opened(), ..*self })
    }
}

/// The owners of one lock.
#[derive(Debug, Default)]
pub struct Lock {
    tokens: Numbers,
    processes: HashMap<u64, u32>,
}

impl Object for Lock {
    type Act = Act;

    const NAME: &'static str = "lock";

    const REDUCTIONS: &'static [Reduction<Act>] = &[Reduction { parts: hold_calls, without: without_holds }];

    fn read(&mut self, source: u32, operation: &Operation) -> Result<Option<Act>, &'static str> {
        let does = match &*operation.f {
            "acquire" => Does::Acquire,
            "release" => Does::Release,
            _ => return Err("its function is none of acquire, release"),
        };
        if operation.ended == Ended::Fail {
            return Ok(None);
        }
        let owner = match operation.value.is_null() {
            false => 2 * self.tokens.of(&operation.value.json()),
            true => {
                let next = self.processes.len() as u32;
                2 * *self.processes.entry(operation.process).or_insert(next) + 1
            }
        };
        let span = Span::of(source, operation, operation.ended == Ended::Ok);
        Ok(Some(Act { span, owner, does }))
    }

    /// Leaves out what may happen and belongs to no hold that must.
    fn needed(acts: &[Act]) -> Vec<Act> {
        let gone: HashSet<u32> =
            holds(acts).into_iter().filter(|hold| hold.is_idle(acts)).flat_map(|hold| hold.acts).collect();
        (0..).zip(acts).filter(|(at, _)| !gone.contains(at)).map(|(_, act)| *act).collect()
    }

    fn judge(acts: &[Act], budget: Budget) -> Searched {
        let holds = holds(acts);
        if holds.iter().any(|hold| !hold.is_known) {
            return search(acts, budget);
        }
        let mut blocks = Vec::with_capacity(holds.len());
        let has_order = holds.iter().filter(|hold| !hold.is_idle(acts)).all(|hold| {
            let block = hold.block(acts);
            blocks.extend(block);
            block.is_some()
        });
        let total = acts.iter().filter(|act| act.span.must).count();
        Searched::decided(has_order && circle(&mut blocks).is_none(), total)
    }

    fn alone(_: &Act) -> &'static str {
        "gave back what it did not hold"
    }

    fn short(_: &History, _: &[Act], _: &Act, _: &Act, operation: &Operation) -> String {
        let owner =
            if operation.value.is_null() { String::new() } else { format!(" by {}", operation.value) };
        format!("{}{owner}", operation.f)
    }
}

/// As a register, which is swapped.
fn search(acts: &[Act], budget: Budget) -> Searched {
    let swap = |act: &Act| {
        let Span { call, ret, must, source } = act.span;
        let (free, held) = (Some(Held::ABSENT), Some(Held(act.owner + 1)));
        let (needs, makes) = if act.does == Does::Acquire { (free, held) } else { (held, free) };
        register::Act { call, ret, needs, makes, must, source }
    };
    register::search(&acts.iter().map(swap).collect::<Vec<_>>(), budget)
}

/// An acquire and the release after it, by their places; or only one of them; or all of an owner's operations.
struct Hold {
    acts: Vec<u32>,
    /// False for all of an owner's operations, of which one cannot tell which belong together.
    is_known: bool,
}

impl Hold {
    /// None of it must happen, and nobody misses it.
    fn is_idle(&self, acts: &[Act]) -> bool {
        self.is_known && self.acts.iter().all(|&at| !acts[at as usize].span.must)
    }

    /// Its zone; none when it has no order within.
    fn block(&self, acts: &[Act]) -> Option<Block> {
        let of = |does| {
            self.acts.iter().map(|&at| acts[at as usize]).find(|act| act.does == does).map(|act| act.span)
        };
        let (acquire, release) = (of(Does::Acquire)?, of(Does::Release));
        let (call, ret) = release.map_or((OPEN, OPEN), |release| (release.call, release.ret));
        let block =
            Block { first_ret: acquire.ret.min(ret), last_call: acquire.call.max(call), root: self.acts[0] };
        (ret > acquire.call).then_some(block)
    }
}

fn holds(acts: &[Act]) -> Vec<Hold> {
    let mut owners: Vec<u32> = (0..acts.len() as u32).collect();
    owners.sort_by_key(|&at| acts[at as usize].owner);
    let same = |&one: &u32, &other: &u32| acts[one as usize].owner == acts[other as usize].owner;
    let mut holds = Vec::with_capacity(acts.len() / 2 + 1);
    for places in owners.chunk_by(same) {
        let does = |at: u32| acts[at as usize].does;
        let is_pair = matches!(places, [one, other] if does(*one) != does(*other));
        let is_turn = |pair: &[u32]| acts[pair[0] as usize].span.ret < acts[pair[1] as usize].span.call;
        if is_pair || !places.windows(2).all(is_turn) {
            holds.push(Hold { acts: places.to_vec(), is_known: is_pair });
            continue;
        }
        // They take turns; whoever breaks that stands alone.
        let ends = |one: &u32, other: &u32| does(*one) == Does::Acquire && does(*other) == Does::Release;
        holds.extend(places.chunk_by(ends).map(|places| Hold { acts: places.to_vec(), is_known: true }));
    }
    holds
}

/// Each hold by the call of its first operation.
fn hold_calls(acts: &[Act]) -> Vec<u32> {
    let mut calls: Vec<u32> = holds(acts).iter().map(|hold| acts[hold.acts[0] as usize].span.call).collect();
    calls.sort_unstable();
    calls
}

fn without_holds(acts: &[Act], calls: &[u32]) -> Vec<Act> {
    let calls: HashSet<u32> = calls.iter().copied().collect();
    let mut stays = vec![true; acts.len()];
    for hold in holds(acts).iter().filter(|hold| calls.contains(&acts[hold.acts[0] as usize].span.call)) {
        hold.acts.iter().for_each(|&at| stays[at as usize] = false);
    }
    acts.iter().zip(stays).filter(|(_, stays)| *stays).map(|(act, _)| *act).collect()
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;

    use super::super::trials::{self, Plain};
    use super::*;

    impl Plain for Lock {
        type State = Option<u32>;

        fn step(state: &Option<u32>, act: &Act) -> Option<Option<u32>> {
            match act.does {
                Does::Acquire => state.is_none().then_some(Some(act.owner)),
                Does::Release => (*state == Some(act.owner)).then_some(None),
            }
        }
    }

    /// What a lock could have done, with slips; owners of one hold each, or few that come again.
    fn random(rng: &mut ChaCha8Rng) -> Vec<Act> {
        let mut spans = trials::spans(rng, 6);
        let tokens = rng.random_bool(0.9);
        let slips = if rng.random_bool(0.5) { 0.08 } else { 0.4 };
        let (mut holder, mut next) = (None, 0);
        let mut acts = vec![None; spans.len()];
        for at in trials::moments(rng, &spans) {
            let slip = rng.random_bool(slips);
            let does = if holder.is_some() { Does::Release } else { Does::Acquire };
            next += 1;
            let owner = holder.unwrap_or(if tokens { next } else { next % 3 });
            let (does, owner) = match slip {
                true if rng.random_bool(0.5) => (does, rng.random_range(0..next.max(1) + 1)),
                true => (if does == Does::Acquire { Does::Release } else { Does::Acquire }, owner),
                false => (does, owner),
            };
            holder = (does == Does::Acquire).then_some(owner);
            acts[at] = Some((does, owner));
        }
        trials::open_some(rng, &mut spans, 0.2);
        let act = |(span, act): (Span, Option<_>)| act.map(|(does, owner)| Act { span, owner, does });
        spans.into_iter().zip(acts).filter_map(act).collect()
    }

    #[test]
    fn holds_and_every_order_tried_agree_on_a_hundred_thousand_random_histories() {
        let trial = trials::agree::<Lock>(120_000, random, |acts| Lock::judge(acts, Budget::DEFAULT));
        let known = trial.count(|acts| holds(acts).iter().all(|hold| hold.is_known));
        assert!(known >= 100_000, "{known} without a search");
    }

    #[test]
    fn the_search_agrees_too() {
        trials::agree::<Lock>(20_000, random, |acts| search(acts, Budget::DEFAULT));
    }

    #[test]
    fn a_smaller_history_keeps_an_order_and_a_core_has_none() {
        trials::reductions_are_sound::<Lock>(20_000, random);
        trials::cores_are_small::<Lock>(10_000, 5, random);
    }
}
