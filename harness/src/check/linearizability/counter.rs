//! Counters with add and read, 0 at first.
//!
//! In: the operations on one counter. Out: whether they have an order. Never: a sum that wraps.
//!
//! A failed add says nothing, nor does a read that did not succeed. An add that stayed open may happen at any time after
//! its invocation, or never.
//!
//! # Bounds
//!
//! A read sees at least what it would with all adds that returned before it was called, and of the others called before
//! it returned those that are below zero (that may have happened); at most the same with those above zero. And where no
//! add is below zero, no read sees less than one that returned before it was called. What breaks this has no order.
//! O(n log n).
//!
//! # Where all adds are alike
//!
//! The [search](super::search) then never has a choice: a read that fits is put in order at once, and of adds alike only
//! the one that completes first is tried, which loses no order. So each of its steps is forced, and there are no
//! more of them than adds; each looks at the operations that overlap. Where what is added differs, the sums that
//! adds could come to may be many (to say whether a subset comes to a number is hard in itself): the search has its budget.
//! It goes back when, no add being below zero, the counter is beyond what a read that is left saw.
//!
//! # How a history without an order is made smaller
//!
//! Any read may be left out. Adds cannot, for each counts. But those that returned before any of the reads that are left
//! was called stand before all of them in some order, if there is one, for nobody sees in what order they came: they
//! are one sum. And those called after all these reads returned stand behind them, where nobody sees them.

use std::collections::HashSet;

use super::object::{OPEN, Object, Reduction, Span, Timed, short};
use super::search::{self, Budget, Machine, Opens, Searched};
use crate::history::{Ended, History, Operation};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    /// Of many that are one sum, the last.
    span: Span,
    does: Does,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// So much, by so many operations.
    Add(i128, u32),
    Read(i128),
}

impl Timed for Act {
    fn span(&self) -> Span {
        self.span
    }

    fn opened(&self) -> Option<Act> {
        self.added().map(|_| Act { span: self.span.opened(), ..*self })
    }
}

impl Act {
    fn added(&self) -> Option<i128> {
        match self.does {
            Does::Add(sum, _) => Some(sum),
            Does::Read(_) => None,
        }
    }

    fn seen(&self) -> Option<i128> {
        match self.does {
            Does::Add(..) => None,
            Does::Read(seen) => Some(seen),
        }
    }
}

#[derive(Debug, Default)]
pub struct Counter;

impl Object for Counter {
    type Act = Act;

    const NAME: &'static str = "counter";

    const REDUCTIONS: &'static [Reduction<Act>] = &[
        Reduction { parts: reads, without: without_reads },
        Reduction { parts: |_| vec![0], without: |acts, _| summed(acts) },
    ];

    fn read(&mut self, source: u32, operation: &Operation) -> Result<Option<Act>, &'static str> {
        let must = operation.ended == Ended::Ok;
        let does = match &*operation.f {
            "add" if operation.ended == Ended::Fail => return Ok(None),
            "add" => {
                let sum =
                    operation.value.as_i64().ok_or("an add whose value is no whole number of 64 bits")?;
                Does::Add(sum.into(), 1)
            }
            "read" if !must => return Ok(None),
            "read" => {
                let seen = operation.result.as_i64();
                Does::Read(seen.ok_or("a read that saw no whole number of 64 bits")?.into())
            }
            _ => return Err("its function is none of add, read"),
        };
        Ok(Some(Act { span: Span::of(source, operation, must), does }))
    }

    /// Leaves out open adds that no read can have seen.
    fn needed(acts: &[Act]) -> Vec<Act> {
        let last = acts.iter().filter(|act| act.seen().is_some()).map(|act| act.span.ret).max().unwrap_or(0);
        let is_needed = |act: &&Act| act.span.must || act.span.call < last && act.added() != Some(0);
        acts.iter().filter(is_needed).copied().collect()
    }

    fn judge(acts: &[Act], budget: Budget) -> Searched {
        if !is_within_bounds(acts) {
            return Searched::decided(false, acts.iter().filter(|act| act.span.must).count());
        }
        search(acts, budget)
    }

    fn gathered(core: Vec<Act>) -> Vec<Act> {
        open_gathered(core)
    }

    fn alone(_: &Act) -> &'static str {
        "saw what nothing was added for"
    }

    fn short(_: &History, _: &[Act], act: &Act, _: &Act, operation: &Operation) -> String {
        match act.does {
            Does::Add(sum, many @ 2..) if act.span.must => format!("add, with {} before: {sum}", many - 1),
            Does::Add(sum, many @ 2..) => format!("open add, with {} more: {sum}", many - 1),
            Does::Add(..) | Does::Read(_) => short(operation),
        }
    }
}

/// With all open adds as one, which is only told.
fn open_gathered(core: Vec<Act>) -> Vec<Act> {
    let (open, mut rest): (Vec<Act>, Vec<Act>) = core.into_iter().partition(|act| !act.span.must);
    let many = open.len() as u32;
    let sum = open.iter().filter_map(Act::added).sum();
    rest.extend(open.first().map(|first| Act { span: first.span, does: Does::Add(sum, many) }));
    rest.sort_by_key(|act| act.span.call);
    rest
}

/// See the module's documentation.
fn is_within_bounds(acts: &[Act]) -> bool {
    let adds = || acts.iter().filter_map(|act| Some((act.span, act.added()?)));
    let called = Sums::of(adds().map(|(span, sum)| (span.call, sum)).collect());
    let returned =
        Sums::of(adds().filter(|(span, _)| span.must).map(|(span, sum)| (span.ret, sum)).collect());
    let only_grows = adds().all(|(_, sum)| sum >= 0);
    let mut rets: Vec<(u32, i128)> =
        acts.iter().filter_map(|act| Some((act.span.ret, act.seen()?))).collect();
    rets.sort_unstable();
    let mut rets = rets.into_iter().peekable();
    let mut seen_before = i128::MIN;
    acts.iter().filter_map(|act| Some((act.span, act.seen()?))).all(|(span, seen)| {
        while let Some((_, seen)) = rets.next_if(|&(ret, _)| ret < span.call) {
            seen_before = seen_before.max(seen);
        }
        let (below, above) = called.before(span.ret);
        let (least, most) = returned.before(span.call);
        // What returned counts whatever its sign.
        (most + below..=least + above).contains(&seen) && !(only_grows && seen < seen_before)
    })
}

/// Sums of what is below and above zero up to a line.
struct Sums {
    lines: Vec<(u32, i128, i128)>,
}

impl Sums {
    fn of(mut adds: Vec<(u32, i128)>) -> Sums {
        adds.sort_unstable();
        let mut sums = (0, 0);
        let lines = adds.into_iter().map(|(line, sum)| {
            sums = (sums.0 + sum.min(0), sums.1 + sum.max(0));
            (line, sums.0, sums.1)
        });
        Sums { lines: lines.collect() }
    }

    fn before(&self, line: u32) -> (i128, i128) {
        let count = self.lines.partition_point(|&(other, ..)| other < line);
        count.checked_sub(1).map_or((0, 0), |last| (self.lines[last].1, self.lines[last].2))
    }
}

fn search(acts: &[Act], budget: Budget) -> Searched {
    let spans: Vec<Span> = acts.iter().map(Timed::span).collect();
    search::search(&spans, CounterMachine::new(acts), budget)
}

/// A counter in the midst of a search.
struct CounterMachine {
    does: Vec<Does>,
    classes: Vec<u32>,
    count: usize,
    sum: i128,
    /// What was seen, in order, when the counter can only move one way; else empty.
    seen: Vec<i128>,
    reads: usize,
    reads_done: usize,
}

impl CounterMachine {
    fn new(acts: &[Act]) -> CounterMachine {
        let only_falls = acts.iter().filter_map(Act::added).all(|sum| sum <= 0);
        let only_grows = acts.iter().filter_map(Act::added).all(|sum| sum >= 0);
        // What only falls is looked at upside down.
        let turn = |does| match does {
            Does::Add(sum, many) if only_falls => Does::Add(-sum, many),
            Does::Read(seen) if only_falls => Does::Read(-seen),
            does => does,
        };
        let does: Vec<Does> = acts.iter().map(|act| turn(act.does)).collect();
        let kind = |does: &Does| match *does {
            Does::Add(sum, _) => (false, sum),
            Does::Read(seen) => (true, seen),
        };
        let mut kinds: Vec<(bool, i128)> = does.iter().map(kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let classes =
            does.iter().map(|does| kinds.partition_point(|other| *other < kind(does)) as u32).collect();
        let seen = |does: &Does| if let Does::Read(seen) = does { Some(*seen) } else { None };
        let reads = does.iter().filter_map(seen).count();
        let mut seen: Vec<i128> = does.iter().filter_map(seen).filter(|_| only_falls || only_grows).collect();
        seen.sort_unstable();
        CounterMachine { does, classes, count: kinds.len(), sum: 0, seen, reads, reads_done: 0 }
    }
}

impl Machine for CounterMachine {
    fn observes(&self, place: u32) -> bool {
        matches!(self.does[place as usize], Does::Read(_) | Does::Add(0, _))
    }

    fn fits(&self, place: u32) -> bool {
        match self.does[place as usize] {
            Does::Add(..) => true,
            Does::Read(seen) => seen == self.sum,
        }
    }

    fn apply(&mut self, place: u32) {
        match self.does[place as usize] {
            Does::Add(sum, _) => self.sum += sum,
            Does::Read(_) => self.reads_done += 1,
        }
    }

    fn revert(&mut self, place: u32) {
        match self.does[place as usize] {
            Does::Add(sum, _) => self.sum -= sum,
            Does::Read(_) => self.reads_done -= 1,
        }
    }

    /// The sum is that of those put in order.
    fn hash(&self) -> u128 {
        0
    }

    fn class(&self, place: u32) -> u32 {
        self.classes[place as usize]
    }

    fn classes(&self) -> usize {
        self.count
    }

    /// A read that is left saw less; those done saw no more than the counter, as it only grew.
    fn is_dead(&self) -> bool {
        self.reads_done < self.seen.partition_point(|&seen| seen < self.sum)
    }

    /// Nothing, where nobody is left to see it.
    fn wanted(&mut self, _: &[u32], opens: &Opens, choices: &mut Vec<u32>) -> bool {
        if self.reads_done < self.reads {
            choices.extend(opens.all());
        }
        true
    }
}

/// The calls of reads.
fn reads(acts: &[Act]) -> Vec<u32> {
    acts.iter().filter(|act| act.seen().is_some()).map(|act| act.span.call).collect()
}

fn without_reads(acts: &[Act], calls: &[u32]) -> Vec<Act> {
    let calls: HashSet<u32> = calls.iter().copied().collect();
    acts.iter().filter(|act| act.added().is_some() || !calls.contains(&act.span.call)).copied().collect()
}

/// With what returned before the first read as one add, and nothing of what was called after the last.
fn summed(acts: &[Act]) -> Vec<Act> {
    let reads = || acts.iter().filter(|act| act.seen().is_some()).map(|act| act.span);
    let first_call = reads().map(|read| read.call).min().unwrap_or(OPEN);
    let last_ret = reads().map(|read| read.ret).max().unwrap_or(OPEN);
    let is_early = |act: &Act| act.added().is_some() && act.span.must && act.span.ret < first_call;
    let early = || acts.iter().filter(|act| is_early(act));
    let sum = early().filter_map(Act::added).sum();
    let many = early().map(|act| if let Does::Add(_, many) = act.does { many } else { 0 }).sum();
    let last = early().max_by_key(|act| act.span.ret);
    let summed = last.map(|last| Act { span: last.span, does: Does::Add(sum, many) });
    let stays = |act: &&Act| !is_early(act) && (act.seen().is_some() || act.span.call < last_ret);
    let mut rest: Vec<Act> = summed.into_iter().chain(acts.iter().filter(stays).copied()).collect();
    rest.sort_by_key(|act| act.span.call);
    rest
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;

    use super::super::search::Conclusion;
    use super::super::trials::{self, Plain};
    use super::*;

    impl Plain for Counter {
        type State = i128;

        fn step(state: &i128, act: &Act) -> Option<i128> {
            match act.does {
                Does::Add(sum, _) => Some(state + sum),
                Does::Read(seen) => (seen == *state).then_some(seen),
            }
        }
    }

    /// What a counter could have done, with slips: by ones, by what only grows or falls, or by anything.
    fn random(rng: &mut ChaCha8Rng) -> Vec<Act> {
        let mut spans = trials::spans(rng, 6);
        let (least, most) = [(1, 1), (-1, -1), (0, 3), (-3, 0), (-2, 3)][rng.random_range(0..5)];
        let slips = if rng.random_bool(0.5) { 0.1 } else { 0.7 };
        let reads = rng.random_range(0.3..0.7);
        let mut sum = 0;
        let mut does = vec![None; spans.len()];
        for at in trials::moments(rng, &spans) {
            does[at] = Some(if rng.random_bool(reads) {
                Does::Read(if rng.random_bool(slips) { sum + rng.random_range(-2..=2) } else { sum })
            } else {
                let by = rng.random_range(least..=most);
                sum += by;
                Does::Add(by, 1)
            });
        }
        trials::open_some(rng, &mut spans, 0.2);
        let act = |(span, does): (Span, Option<Does>)| {
            let act = Act { span, does: does? };
            if act.span.must { Some(act) } else { act.opened() }
        };
        spans.into_iter().zip(does).filter_map(act).collect()
    }

    #[test]
    fn the_judge_and_every_order_tried_agree_on_a_hundred_thousand_random_histories() {
        let trial = trials::agree::<Counter>(110_000, random, |acts| Counter::judge(acts, Budget::DEFAULT));
        let alike = trial.count(|acts| acts.iter().filter_map(Act::added).all(|sum| sum == 1));
        assert!(alike > 20_000, "{alike} with adds alike");
    }

    #[test]
    fn the_search_agrees_without_the_bounds() {
        trials::agree::<Counter>(20_000, random, |acts| search(acts, Budget::DEFAULT));
    }

    #[test]
    fn a_smaller_history_keeps_an_order_and_a_core_has_none() {
        trials::reductions_are_sound::<Counter>(20_000, random);
        trials::cores_are_small::<Counter>(10_000, 4, random);
    }

    /// Of so many clients, the order of whose moments is that of their returns; the last read is wrong by so much.
    fn busy(adds: u32, clients: u32, by: impl Fn(u32) -> i128, wrong: i128) -> Vec<Act> {
        let mut acts = Vec::new();
        let mut sum = 0;
        for at in 0..adds {
            let span = |call, ret| Span { call, ret, must: !at.is_multiple_of(50), source: 0 };
            let (call, ret) = (4 * at + 1, 4 * (at + clients));
            let does = if at % 3 == 2 { Does::Read(sum) } else { Does::Add(by(at), 1) };
            sum += if let Does::Add(by, _) = does { by } else { 0 };
            let act = Act { span: span(call, ret), does };
            acts.extend(if act.span.must { Some(act) } else { act.opened() });
        }
        let read = Span { call: 9 * adds, ret: 9 * adds + 1, must: true, source: 0 };
        acts.push(Act { span: read, does: Does::Read(sum + wrong) });
        acts
    }

    #[test]
    fn where_the_budget_ends_the_search_says_how_far_it_came() {
        let span = |call, ret| Span { call, ret, must: true, source: 0 };
        // Sums of even numbers never come to an odd one, which bounds do not see.
        let mut acts: Vec<Act> =
            (1..=40).map(|at| Act { span: span(at, 100 + at), does: Does::Add(1 << at, 1) }).collect();
        acts.push(Act { span: span(50, 60), does: Does::Read((1 << 35) + 1) });
        let searched = Counter::judge(&acts, Budget { steps: 5_000, states: 5_000 });
        assert_eq!((searched.conclusion, searched.total), (Conclusion::OutOfBudget, 41));
        assert!(searched.reached > 0 && searched.reached < 41, "{searched:?}");
    }

    #[test]
    fn adds_alike_are_judged_without_a_wrong_choice_and_told_as_one_sum() {
        let acts = busy(20_000, 30, |_| 1, 0);
        let searched = Counter::judge(&Counter::needed(&acts), Budget { steps: 20_000, states: 20_000 });
        assert_eq!(searched.conclusion, Conclusion::Linearizable, "{searched:?}");
        let acts = busy(20_000, 30, |_| 1, -20_000);
        let (core, _) = super::super::core::core::<Counter>(&Counter::needed(&acts));
        let told = Counter::gathered(core);
        assert_eq!(told.len(), 3, "{} are told", told.len());
    }
}
