//! Queues without a search, by the patterns that have no order.
//!
//! In: the operations on one queue. Out: whether they have an order; nothing where the patterns do not say.
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

use std::collections::HashMap;

use super::super::object::{OPEN, Span};
use super::{Act, Does};

/// One value: what enqueues and what dequeues it.
#[derive(Debug, Clone, Copy)]
struct Passage {
    enqueue: Span,
    dequeue: Option<Span>,
}

/// Whether there is an order; none where the patterns do not say.
pub fn by_patterns(acts: &[Act]) -> Option<bool> {
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
