//! First-in-first-out queues with enqueue and dequeue, empty at first.
//!
//! In: the operations on one queue. Out: whether they have an order. Never: a value that comes out twice.
//!
//! `dequeue` takes the value that is longest in it, or says that it is empty. A failed operation says nothing. An enqueue
//! that stayed open may happen at any time after its invocation, or never; so may a dequeue, and nobody knows what
//! it took. An open enqueue of a value that nobody took is left out: what nobody takes hinders others at most.
//!
//! # Distinct values
//!
//! Where no value is enqueued twice, the patterns of Henzinger, Sezgin & Vafeiadis ("Aspect-oriented linearizability proofs",
//! CONCUR 2013) decide in O(n log n). Write e(v) and d(v) for what enqueues and dequeues v, and a ≺ b when a returned before
//! b was called. There is no order if and only if
//!
//! 1. something takes v, and nothing enqueues it, or d(v) ≺ e(v);
//! 2. two take v;
//! 3. e(u) ≺ e(v), v is taken, and u never is or d(v) ≺ d(u);
//! 4. one that found it empty was called and returned while there was always some v in it: while e(v) had returned and
//!    d(v), if there is one, was not called; one v after the other.
//!
//! That each of them rules an order out is plain. Now let none of them be. An operation's interval is from call to return.
//! Cut e(v)'s at the return of d(v), and let d(v)'s begin no sooner than e(v)'s; by (1) none becomes empty. From now on these
//! intervals are meant. (3) does not hold for them either: let e(u) ≺ e(v) and d(v) ≺ d(u). One of them is new, the first because
//! d(u) returned before e(v) was called, or the second because d(v) returned before e(u) was called. If only the first is,
//! d(v) returned before d(u) did, so before e(v) was called, against (1). If only the second is, d(v) returned before e(u) did,
//! so before e(v) was called, against (1). If both are, d(u) returned before e(v) was called, hence by (1) before d(v) returned,
//! hence before e(u) was called, against (1). Nor does (4): where e(v) returned before d(v) was called, nothing was cut
//! there, and elsewhere it still did not. Let values that are never taken have a d after all else. Say u → v when
//! e(u) ≺ e(v) or d(u) ≺ d(v).
//!
//! *→ has no circle.* By (3) none of two. In a shortest one the two relations take turns, for each of them is
//! transitive; so it has u1, u2, u3, u4 with e(u1) ≺ e(u2), d(u2) ≺ d(u3), e(u3) ≺ e(u4). Of two intervals that end before two
//! others begin, one ends before the other's successor begins: e(u1) ≺ e(u4), a shorter circle, or e(u3) ≺ e(u2), one of two.
//!
//! *So values can be put in a row* that respects →. Put e(v) at the greatest call of all e(u) with u not after v in the
//! row, and d(v) likewise. Each lies within its interval, for had e(v) returned before e(u) was called, v → u. In time
//! e's and d's then follow the row, and e(v) is not after d(v); where they meet, take e's first. Values come out as they went in, and
//! those never taken are the last of the row. That is an order.
//!
//! *Where it was found empty*, by (4) there is a moment t in that interval at which no v must be in it: each e(v) returns
//! after t or d(v) is called before t. Let *early* be those of which e(v) or d(v) returned before t; d(v) was called before t,
//! for if e(v) returned before t, t is not ruled out; and e(v) was, for d(v) is not called before it. Cut their intervals
//! at t; and let those of the others begin at t or later. For two early ones, and for two late ones, ≺ is as it
//! was; and early ones come before late ones. So (3) does not hold, and the order of above has all early ones
//! taken at t and no late one in it. Other moments are no more ruled out than before; so this is done for each of them.
//!
//! # Open dequeues
//!
//! As long as nobody found it empty: a value u that was surely enqueued and that nobody is known to have taken may be taken
//! by an open dequeue. It must be, when v is taken though e(u) ≺ e(v), and then by one that was called before any such d(v) returned:
//! the least of these returns is u's *deadline*. One dequeue takes one value; so sort deadlines and calls of open dequeues:
//! there is a way if and only if each deadline comes after the call at its place. What is not matched stays. With
//! open dequeues and one that found the queue empty, or with a value enqueued twice, the search decides.
//!
//! # How a history without an order is made smaller
//!
//! A value may be left out, with all that enqueue or dequeue it: the others come out in the same order. So may each that
//! found it empty. Of open dequeues no more are of use than there are values which nobody is known to have taken; and
//! of those that do the same the first called do.

use std::collections::{HashMap, HashSet, VecDeque};

use super::object::{Numbers, OPEN, Object, Reduction, Span, Timed};
use super::search::{self, Budget, Machine, Searched, random};
use crate::history::{Ended, History, Operation};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    span: Span,
    does: Does,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Does {
    Enqueue(u32),
    Dequeue(u32),
    /// Found nothing.
    Empty,
    /// Took something, if it happened.
    Take,
}

impl Timed for Act {
    fn span(&self) -> Span {
        self.span
    }

    fn opened(&self) -> Option<Act> {
        let does = match self.does {
            Does::Enqueue(value) => Does::Enqueue(value),
            Does::Dequeue(_) | Does::Empty | Does::Take => Does::Take,
        };
        Some(Act { span: self.span.opened(), does })
    }
}

/// The values of one queue.
#[derive(Debug, Default)]
pub struct Queue {
    numbers: Numbers,
}

impl Object for Queue {
    type Act = Act;

    const NAME: &'static str = "queue";

    const REDUCTIONS: &'static [Reduction<Act>] = &[
        Reduction { parts: values, without: without_values },
        Reduction { parts: empties, without: without_empties },
    ];

    fn read(&mut self, source: u32, operation: &Operation) -> Result<Option<Act>, &'static str> {
        let must = operation.ended == Ended::Ok;
        let does = match &*operation.f {
            "enqueue" | "dequeue" if operation.ended == Ended::Fail => return Ok(None),
            "enqueue" if operation.value.is_null() => return Err("an enqueue without a value"),
            "enqueue" => Does::Enqueue(self.numbers.of(&operation.value.json())),
            "dequeue" if !must => Does::Take,
            "dequeue" if operation.result.is_null() => Does::Empty,
            "dequeue" => Does::Dequeue(self.numbers.of(&operation.result.json())),
            _ => return Err("its function is none of enqueue, dequeue"),
        };
        Ok(Some(Act { span: Span::of(source, operation, must), does }))
    }

    fn needed(acts: &[Act]) -> Vec<Act> {
        let mut left: HashMap<u32, i64> = HashMap::new();
        for act in acts {
            match act.does {
                Does::Enqueue(value) => *left.entry(value).or_default() += 1,
                Does::Dequeue(value) => *left.entry(value).or_default() -= 1,
                Does::Empty | Does::Take => {}
            }
        }
        let taken: HashSet<u32> = acts.iter().filter_map(|act| act.taken()).collect();
        let is_idle =
            |act: &Act| !act.span.must && act.enqueued().is_some_and(|value| !taken.contains(&value));
        for value in acts.iter().filter(|act| is_idle(act)).filter_map(Act::enqueued) {
            *left.entry(value).or_default() -= 1;
        }
        let mut takers = left.values().filter(|&&left| left > 0).sum::<i64>();
        let is_needed = |act: &&Act| match act.does {
            Does::Take => {
                takers -= 1;
                takers >= 0
            }
            _ => !is_idle(act),
        };
        acts.iter().filter(is_needed).copied().collect()
    }

    fn judge(acts: &[Act], budget: Budget) -> Searched {
        match by_patterns(acts) {
            Some(has_order) => Searched::decided(has_order, acts.iter().filter(|act| act.span.must).count()),
            None => search(acts, budget),
        }
    }

    fn alone(act: &Act) -> &'static str {
        match act.does {
            Does::Empty => "found it empty",
            _ => "took what nobody had enqueued",
        }
    }

    fn short(_: &History, _: &[Act], act: &Act, _: &Act, operation: &Operation) -> String {
        match act.does {
            Does::Enqueue(_) => format!("enqueue {}", operation.value),
            Does::Dequeue(_) => format!("dequeue {}", operation.result),
            Does::Empty => "dequeue of nothing".to_owned(),
            Does::Take => "dequeue".to_owned(),
        }
    }
}

impl Act {
    fn enqueued(&self) -> Option<u32> {
        if let Does::Enqueue(value) = self.does { Some(value) } else { None }
    }

    fn taken(&self) -> Option<u32> {
        if let Does::Dequeue(value) = self.does { Some(value) } else { None }
    }
}

/// One value: what enqueues and what dequeues it.
#[derive(Debug, Clone, Copy)]
struct Passage {
    enqueue: Span,
    dequeue: Option<Span>,
}

/// Whether there is an order; none where the patterns do not say.
fn by_patterns(acts: &[Act]) -> Option<bool> {
    let mut enqueues: HashMap<u32, Span> = HashMap::new();
    for (value, span) in acts.iter().filter_map(|act| Some((act.enqueued()?, act.span))) {
        if enqueues.insert(value, span).is_some() {
            return None;
        }
    }
    let takes: Vec<u32> = acts.iter().filter(|act| act.does == Does::Take).map(|act| act.span.call).collect();
    let empties: Vec<Span> = acts.iter().filter(|act| act.does == Does::Empty).map(|act| act.span).collect();
    if !takes.is_empty() && !empties.is_empty() {
        return None;
    }
    let mut dequeues: HashMap<u32, Span> = HashMap::new();
    for (value, span) in acts.iter().filter_map(|act| Some((act.taken()?, act.span))) {
        let is_fresh = enqueues.get(&value).is_some_and(|enqueue| enqueue.call < span.ret);
        if !is_fresh || dequeues.insert(value, span).is_some() {
            return Some(false);
        }
    }
    // An open one that nobody took did not happen.
    let passages =
        enqueues.iter().map(|(value, &enqueue)| Passage { enqueue, dequeue: dequeues.get(value).copied() });
    let mut passages: Vec<Passage> =
        passages.filter(|passage| passage.enqueue.must || passage.dequeue.is_some()).collect();
    passages.sort_unstable_by_key(|passage| passage.enqueue.call);
    Some(match_takes(&mut passages, takes) && is_in_turn(&passages) && was_empty(&passages, &empties))
}

/// Gives values that somebody must have taken to open dequeues; false when there are not enough in time.
fn match_takes(passages: &mut [Passage], mut takes: Vec<u32>) -> bool {
    // The least return of a dequeue, of values enqueued no sooner than this one.
    let mut least: Vec<u32> = vec![OPEN; passages.len() + 1];
    for (at, passage) in passages.iter().enumerate().rev() {
        least[at] = least[at + 1].min(passage.dequeue.map_or(OPEN, |dequeue| dequeue.ret));
    }
    let deadline = |passage: &Passage| {
        let after = passages.partition_point(|other| other.enqueue.call < passage.enqueue.ret);
        (passage.dequeue.is_none() && least[after] != OPEN).then_some(least[after])
    };
    let mut due: Vec<(u32, usize)> =
        passages.iter().enumerate().filter_map(|(at, passage)| Some((deadline(passage)?, at))).collect();
    due.sort_unstable();
    takes.sort_unstable();
    if due.len() > takes.len() {
        return false;
    }
    for (&(deadline, at), call) in due.iter().zip(takes) {
        if call > deadline {
            return false;
        }
        passages[at].dequeue = Some(Span { call, ret: OPEN, must: false, source: 0 });
    }
    true
}

/// No value came out before another that went in before it; `passages` are in the order of their enqueues' calls.
fn is_in_turn(passages: &[Passage]) -> bool {
    let called = |passage: &Passage| passage.dequeue.map_or(OPEN, |dequeue| dequeue.call);
    let mut returned: Vec<(u32, u32)> =
        passages.iter().map(|passage| (passage.enqueue.ret, called(passage))).collect();
    returned.sort_unstable();
    let mut returned = returned.into_iter().peekable();
    let mut last_call = 0;
    passages.iter().all(|passage| {
        while let Some((_, call)) = returned.next_if(|&(ret, _)| ret < passage.enqueue.call) {
            last_call = last_call.max(call);
        }
        // One taken by an open dequeue returns after all calls there are, but not after one that never comes: those are
        // matched.
        passage.dequeue.is_none_or(|dequeue| last_call < dequeue.ret || dequeue.ret == OPEN)
    })
}

/// Each found it empty at a moment at which nothing had to be in it.
fn was_empty(passages: &[Passage], empties: &[Span]) -> bool {
    let stay =
        |passage: &Passage| (passage.enqueue.ret, passage.dequeue.map_or(OPEN, |dequeue| dequeue.call));
    let mut stays: Vec<(u32, u32)> = passages.iter().map(stay).filter(|(from, to)| from < to).collect();
    stays.sort_unstable();
    // Those that overlap are one.
    let mut joined: Vec<(u32, u32)> = Vec::new();
    for (from, to) in stays {
        match joined.last_mut() {
            Some(last) if from < last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    empties.iter().all(|empty| {
        let after = joined.partition_point(|&(from, _)| from < empty.call);
        after.checked_sub(1).is_none_or(|last| joined[last].1 < empty.ret)
    })
}

fn search(acts: &[Act], budget: Budget) -> Searched {
    let spans: Vec<Span> = acts.iter().map(Timed::span).collect();
    search::search(&spans, QueueMachine::new(acts), budget)
}

/// A queue in the midst of a search.
///
/// It goes back when a value is behind another that surely comes out later: one that nobody takes, or whose dequeue is
/// called after that of the first returned.
struct QueueMachine {
    does: Vec<Does>,
    classes: Vec<u32>,
    count: usize,
    /// Values, each with the last call of a dequeue that it or one before it waits for.
    queue: VecDeque<(u32, u32)>,
    /// How many have come out.
    out: u64,
    hash: u128,
    /// Taken by open dequeues, the last one last.
    taken: Vec<(u32, u32)>,
    /// By value: the first call of what may take it, and the last return; 0 when it may stay.
    first_call: Vec<u32>,
    last_ret: Vec<u32>,
    /// What was put behind something that comes out later.
    stuck: u32,
}

impl QueueMachine {
    fn new(acts: &[Act]) -> QueueMachine {
        let mut kinds: Vec<Does> = acts.iter().map(|act| act.does).collect();
        let values =
            acts.iter().filter_map(|act| act.enqueued().or(act.taken())).max().map_or(0, |most| most + 1);
        kinds.sort_unstable();
        kinds.dedup();
        let take =
            acts.iter().filter(|act| act.does == Does::Take).map(|act| act.span.call).min().unwrap_or(OPEN);
        let mut first_call = vec![take; values as usize];
        let mut last_ret = vec![0; values as usize];
        for (value, span) in acts.iter().filter_map(|act| Some((act.taken()?, act.span))) {
            let (call, ret) = (&mut first_call[value as usize], &mut last_ret[value as usize]);
            (*call, *ret) = ((*call).min(span.call), (*ret).max(span.ret));
        }
        // One of several alike may stay.
        let mut more = vec![0_i64; values as usize];
        acts.iter().filter_map(Act::enqueued).for_each(|value| more[value as usize] += 1);
        acts.iter().filter_map(Act::taken).for_each(|value| more[value as usize] -= 1);
        for (ret, _) in last_ret.iter_mut().zip(more).filter(|&(_, more)| more > 0) {
            *ret = 0;
        }
        let class = |act: &Act| kinds.partition_point(|kind| *kind < act.does) as u32;
        QueueMachine {
            does: acts.iter().map(|act| act.does).collect(),
            classes: acts.iter().map(class).collect(),
            count: kinds.len(),
            queue: VecDeque::new(),
            out: 0,
            hash: 0,
            taken: Vec::new(),
            first_call,
            last_ret,
            stuck: 0,
        }
    }

    /// Of a value at a place, counted from the first that ever was in it.
    fn toggle(&mut self, value: u32, place: u64) {
        self.hash ^= random(place << 32 | u64::from(value) | 1 << 63);
    }

    fn is_stuck(&self, value: u32) -> bool {
        let ahead = self.queue.back().map_or(0, |&(_, call)| call);
        let ret = self.last_ret[value as usize];
        ret != 0 && ret < ahead
    }

    fn dequeue(&mut self) -> (u32, u32) {
        let first = self.queue.pop_front().unwrap_or_default();
        self.toggle(first.0, self.out);
        self.out += 1;
        first
    }

    fn put_back(&mut self, first: (u32, u32)) {
        self.out -= 1;
        self.toggle(first.0, self.out);
        self.queue.push_front(first);
    }
}

impl Machine for QueueMachine {
    fn observes(&self, place: u32) -> bool {
        self.does[place as usize] == Does::Empty
    }

    fn fits(&self, place: u32) -> bool {
        match self.does[place as usize] {
            Does::Enqueue(_) => true,
            Does::Dequeue(value) => self.queue.front().is_some_and(|&(first, _)| first == value),
            Does::Empty => self.queue.is_empty(),
            Does::Take => !self.queue.is_empty(),
        }
    }

    fn apply(&mut self, place: u32) {
        match self.does[place as usize] {
            Does::Enqueue(value) => {
                self.stuck += u32::from(self.is_stuck(value));
                let ahead = self.queue.back().map_or(0, |&(_, call)| call);
                self.toggle(value, self.out + self.queue.len() as u64);
                self.queue.push_back((value, ahead.max(self.first_call[value as usize])));
            }
            Does::Dequeue(_) | Does::Take => {
                let first = self.dequeue();
                self.taken.push(first);
            }
            Does::Empty => {}
        }
    }

    fn revert(&mut self, place: u32) {
        match self.does[place as usize] {
            Does::Enqueue(value) => {
                self.queue.pop_back();
                self.toggle(value, self.out + self.queue.len() as u64);
                self.stuck -= u32::from(self.is_stuck(value));
            }
            Does::Dequeue(_) | Does::Take => {
                let first = self.taken.pop().unwrap_or_default();
                self.put_back(first);
            }
            Does::Empty => {}
        }
    }

    fn hash(&self) -> u128 {
        self.hash
    }

    fn class(&self, place: u32) -> u32 {
        self.classes[place as usize]
    }

    fn classes(&self) -> usize {
        self.count
    }

    fn is_dead(&self) -> bool {
        self.stuck > 0
    }
}

fn values(acts: &[Act]) -> Vec<u32> {
    let mut values: Vec<u32> = acts.iter().filter_map(|act| act.enqueued().or(act.taken())).collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn without_values(acts: &[Act], values: &[u32]) -> Vec<Act> {
    let gone: HashSet<u32> = values.iter().copied().collect();
    let stays = |act: &&Act| act.enqueued().or(act.taken()).is_none_or(|value| !gone.contains(&value));
    Queue::needed(&acts.iter().filter(stays).copied().collect::<Vec<_>>())
}

/// The calls of those that found nothing.
fn empties(acts: &[Act]) -> Vec<u32> {
    acts.iter().filter(|act| act.does == Does::Empty).map(|act| act.span.call).collect()
}

fn without_empties(acts: &[Act], calls: &[u32]) -> Vec<Act> {
    let gone: HashSet<u32> = calls.iter().copied().collect();
    acts.iter().filter(|act| act.does != Does::Empty || !gone.contains(&act.span.call)).copied().collect()
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;

    use super::super::trials::{self, Plain};
    use super::*;

    impl Plain for Queue {
        type State = VecDeque<u32>;

        fn step(state: &VecDeque<u32>, act: &Act) -> Option<VecDeque<u32>> {
            let mut state = state.clone();
            match act.does {
                Does::Enqueue(value) => state.push_back(value),
                Does::Dequeue(value) if state.pop_front() != Some(value) => return None,
                Does::Dequeue(_) => {}
                Does::Empty if !state.is_empty() => return None,
                Does::Empty => {}
                Does::Take => _ = state.pop_front()?,
            }
            Some(state)
        }
    }

    /// What a queue could have done, with slips; mostly with distinct values.
    fn random_acts(rng: &mut ChaCha8Rng) -> Vec<Act> {
        let mut spans = trials::spans(rng, 7);
        let distinct = rng.random_bool(0.8);
        let slips = if rng.random_bool(0.4) { 0.1 } else { 0.8 };
        let enqueues = rng.random_range(0.4..0.65);
        let mut state: VecDeque<u32> = VecDeque::new();
        let mut does = vec![None; spans.len()];
        for (next, at) in trials::moments(rng, &spans).into_iter().enumerate() {
            does[at] = Some(if rng.random_bool(enqueues) {
                let value = if distinct { next as u32 } else { rng.random_range(0..2) };
                state.push_back(value);
                Does::Enqueue(value)
            } else if rng.random_bool(slips) {
                match state.len() {
                    0 => Does::Dequeue(rng.random_range(0..6)),
                    _ if rng.random_bool(0.3) => Does::Empty,
                    size => state.remove(rng.random_range(0..size)).map_or(Does::Empty, Does::Dequeue),
                }
            } else {
                state.pop_front().map_or(Does::Empty, Does::Dequeue)
            });
        }
        trials::open_some(rng, &mut spans, 0.15);
        let act = |(span, does): (Span, Option<Does>)| {
            let act = Act { span, does: does? };
            if act.span.must { Some(act) } else { act.opened() }
        };
        spans.into_iter().zip(does).filter_map(act).collect()
    }

    #[test]
    fn patterns_and_every_order_tried_agree_on_a_hundred_thousand_random_histories() {
        let trial = trials::agree::<Queue>(140_000, random_acts, |acts| Queue::judge(acts, Budget::DEFAULT));
        let known = trial.count(|acts| by_patterns(acts).is_some());
        let empty =
            trial.count(|acts| by_patterns(acts).is_some() && acts.iter().any(|act| act.does == Does::Empty));
        let takes =
            trial.count(|acts| by_patterns(acts).is_some() && acts.iter().any(|act| act.does == Does::Take));
        assert!(known >= 100_000, "{known} without a search");
        assert!(empty > 20_000 && takes > 10_000, "{empty} with empty dequeues, {takes} with open ones");
    }

    #[test]
    fn the_search_agrees_too() {
        trials::agree::<Queue>(20_000, random_acts, |acts| search(acts, Budget::DEFAULT));
    }

    #[test]
    fn a_smaller_history_keeps_an_order_and_a_core_has_none() {
        trials::reductions_are_sound::<Queue>(20_000, random_acts);
        trials::cores_are_small::<Queue>(10_000, 5, random_acts);
    }
}
