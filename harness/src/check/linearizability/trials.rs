//! A checker so plain that one sees it is right, for tests of the others: it tries every order, of any kind of object.
//!
//! In: a handful of operations and what each does to a state. Out: whether some order explains them; and whether a quick
//! judge says the same of many random histories. Never: a clever step.

use std::collections::BTreeSet;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::core::{core, shortest_prefix};
use super::object::{OPEN, Object, Span, Timed};
use super::search::{Conclusion, Searched};

/// What an object holds, and what an operation makes of it: nothing where it cannot come next.
pub trait Plain: Object {
    type State: Clone + Default;

    fn step(state: &Self::State, act: &Self::Act) -> Option<Self::State>;
}

/// Tries all orders of all that must happen and any of those that may.
pub fn has_order<P: Plain>(acts: &[P::Act]) -> bool {
    let spans: Vec<Span> = acts.iter().map(Timed::span).collect();
    place::<P>(acts, &spans, &mut vec![false; acts.len()], &P::State::default())
}

fn place<P: Plain>(acts: &[P::Act], spans: &[Span], placed: &mut [bool], state: &P::State) -> bool {
    let left = |placed: &[bool], at: usize| spans[at].must && !placed[at];
    if (0..acts.len()).all(|at| !left(placed, at)) {
        return true;
    }
    for at in 0..acts.len() {
        // Nothing that is left may have ended before this one began.
        let late = (0..acts.len()).any(|other| left(placed, other) && spans[other].ret < spans[at].call);
        let Some(after) = (!placed[at] && !late).then(|| P::step(state, &acts[at])).flatten() else {
            continue;
        };
        placed[at] = true;
        let found = place::<P>(acts, spans, placed, &after);
        placed[at] = false;
        if found {
            return true;
        }
    }
    false
}

/// Up to so many operations, near or far, in the order of their calls; all of them completed.
pub fn spans(rng: &mut ChaCha8Rng, most: usize) -> Vec<Span> {
    let size = rng.random_range(1..=most);
    let mut times: Vec<u32> = (1..=3 * size as u32).collect();
    let mut spans: Vec<Span> = (0..size)
        .map(|_| {
            let spread = rng.random_range(1..8);
            let one = times.remove(rng.random_range(0..2.min(times.len())));
            let other = times.remove(rng.random_range(0..spread.min(times.len())));
            Span { call: one.min(other), ret: one.max(other), must: true, source: 0 }
        })
        .collect();
    spans.sort_by_key(|span| span.call);
    spans
}

/// The operations in the order of some moment within each.
pub fn moments(rng: &mut ChaCha8Rng, spans: &[Span]) -> Vec<usize> {
    let mut order: Vec<(u32, usize)> =
        (0..).zip(spans).map(|(at, span)| (rng.random_range(span.call..=span.ret), at)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, at)| at).collect()
}

pub fn open_some(rng: &mut ChaCha8Rng, spans: &mut [Span], share: f64) {
    for span in spans.iter_mut().filter(|_| rng.random_bool(share)) {
        *span = span.opened();
    }
}

/// Histories that were judged alike.
pub struct Trial<A> {
    histories: Vec<Vec<A>>,
}

impl<A> Trial<A> {
    pub fn count(&self, wanted: impl Fn(&[A]) -> bool) -> usize {
        self.histories.iter().filter(|acts| wanted(acts)).count()
    }
}

/// Asserts that `judge` says of each history, with and without what is not needed, what every order tried says.
pub fn agree<P: Plain>(
    histories: u64,
    random: fn(&mut ChaCha8Rng) -> Vec<P::Act>,
    judge: fn(&[P::Act]) -> Searched,
) -> Trial<P::Act>
where
    P::Act: std::fmt::Debug,
{
    let (mut lawful, mut open, mut trial) = (0, 0, Trial { histories: Vec::new() });
    for seed in 0..histories {
        let acts = random(&mut ChaCha8Rng::seed_from_u64(seed));
        let expected = has_order::<P>(&acts);
        for acts in [&acts, &P::needed(&acts)] {
            let found = judge(acts).conclusion;
            assert_ne!(found, Conclusion::OutOfBudget, "seed {seed}: {acts:#?}");
            assert_eq!(found == Conclusion::Linearizable, expected, "seed {seed}: {found:?} {acts:#?}");
        }
        lawful += u64::from(expected);
        open += u64::from(acts.iter().any(|act| !act.span().must));
        trial.histories.push(acts);
    }
    // All kinds must be there in numbers, or the agreement says little.
    let few = histories / 5;
    assert!((few..histories - few).contains(&lawful), "{lawful} of {histories} have an order");
    assert!(open > few, "{open} of {histories} have open operations");
    trial
}

/// Asserts that no way to make a history smaller takes an order away.
pub fn reductions_are_sound<P: Plain>(histories: u64, random: fn(&mut ChaCha8Rng) -> Vec<P::Act>)
where
    P::Act: std::fmt::Debug,
{
    let mut smaller = 0;
    for seed in 0..histories {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let acts = P::tidy(random(&mut rng));
        if !has_order::<P>(&acts) {
            continue;
        }
        for reduction in P::REDUCTIONS {
            let mut parts = (reduction.parts)(&acts);
            parts.retain(|_| rng.random_bool(0.4));
            let rest = (reduction.without)(&acts, &parts);
            assert!(has_order::<P>(&rest), "seed {seed}: {acts:#?} has an order, not so {rest:#?}");
            smaller += u64::from(rest != acts);
        }
    }
    assert!(smaller > histories / 10, "{smaller} were made smaller");
}

/// Asserts that what is told of a history without an order has none either, shows it as soon, and cannot be made smaller.
pub fn cores_are_small<P: Plain>(histories: u64, mean_max: usize, random: fn(&mut ChaCha8Rng) -> Vec<P::Act>)
where
    P::Act: std::fmt::Debug,
{
    let (mut cores, mut size) = (0, 0);
    for seed in 0..histories {
        let acts = random(&mut ChaCha8Rng::seed_from_u64(seed));
        if has_order::<P>(&acts) {
            continue;
        }
        let prefix = shortest_prefix::<P>(&P::needed(&acts));
        let (core, line) = core::<P>(&P::needed(&acts));
        assert!(!has_order::<P>(&prefix), "seed {seed}: {acts:#?}\n{prefix:#?}");
        assert!(!has_order::<P>(&core), "seed {seed}: {acts:#?}\n{core:#?}");
        let last = |acts: &[P::Act]| acts.iter().map(|act| act.span().ret).filter(|&ret| ret != OPEN).max();
        assert_eq!(line, last(&prefix), "seed {seed}: {acts:#?}\n{core:#?}");
        // What the prefix does not know yet may be known by what is told.
        assert!(last(&core) <= line, "seed {seed}: {acts:#?}\n{core:#?}");
        let calls: BTreeSet<u32> = prefix.iter().map(|act| act.span().call).collect();
        assert!(core.iter().all(|act| calls.contains(&act.span().call)), "seed {seed}");
        for reduction in P::REDUCTIONS {
            for part in (reduction.parts)(&core) {
                let rest = (reduction.without)(&core, &[part]);
                assert!(rest == core || has_order::<P>(&rest), "seed {seed}: {core:#?}\n{rest:#?}");
            }
        }
        (cores, size) = (cores + 1, size + core.len());
    }
    assert!(cores > histories / 10, "{cores} cores");
    assert!(size <= mean_max * cores as usize, "{size} operations in {cores} cores");
}
