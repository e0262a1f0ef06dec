//! A checker so plain that one sees it is right: it tries every order. For tests of the other one.
//!
//! In: a handful of operations. Out: whether some order explains them. Never: a clever step.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Act, Held, OPEN};

/// Tries all orders of all that must happen and any of those that may.
pub fn has_order(operations: &[Act]) -> bool {
    place(operations, &mut vec![false; operations.len()], Held::ABSENT)
}

fn place(operations: &[Act], placed: &mut [bool], state: Held) -> bool {
    let left = |placed: &[bool], at: usize| operations[at].must && !placed[at];
    if (0..operations.len()).all(|at| !left(placed, at)) {
        return true;
    }
    for at in 0..operations.len() {
        let operation = operations[at];
        // Nothing that is left may have ended before this one began.
        let late =
            (0..operations.len()).any(|other| left(placed, other) && operations[other].ret < operation.call);
        let fits = operation.needs.is_none_or(|needs| needs == state);
        if placed[at] || late || !fits {
            continue;
        }
        placed[at] = true;
        let found = place(operations, placed, operation.makes.unwrap_or(state));
        placed[at] = false;
        if found {
            return true;
        }
    }
    false
}

/// A random history of up to `most` operations: half of them are what a register could have done, with one result
/// changed now and then, the others anything at all.
pub fn random_history(seed: u64, most: usize) -> Vec<Act> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let size = rng.random_range(1..=most);
    let distinct = rng.random_bool(0.5);
    let mut times: Vec<u32> = (1..=3 * size as u32).collect();
    let mut take =
        |rng: &mut ChaCha8Rng, among: usize| times.remove(rng.random_range(0..among.min(times.len())));
    let mut operations: Vec<Act> = (0..size)
        .map(|_| {
            let spread = rng.random_range(1..8);
            let (one, other) = (take(&mut rng, 2), take(&mut rng, spread));
            let (call, ret) = (one.min(other), one.max(other));
            Act { call, ret, needs: None, makes: None, must: true, source: 0 }
        })
        .collect();
    operations.sort_by_key(|operation| operation.call);
    let plausible = rng.random_bool(0.6);
    let slips = if plausible { 0.1 } else { 1.0 };
    fill(&mut rng, &mut operations, distinct, slips);
    for operation in &mut operations {
        if operation.makes.is_some() && rng.random_bool(0.25) {
            (operation.must, operation.ret) = (false, OPEN);
        }
    }
    operations
}

/// A lawful history as a run makes it: so many clients at once, distinct values, and now and then an open write.
pub fn busy_history(seed: u64, size: u32, clients: u32) -> Vec<Act> {
    busy(seed, size, clients, true)
}

/// The same with three values, written again and again, and absence.
pub fn repeating_history(seed: u64, size: u32, clients: u32) -> Vec<Act> {
    busy(seed, size, clients, false)
}

fn busy(seed: u64, size: u32, clients: u32, distinct: bool) -> Vec<Act> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut events: Vec<(u32, usize)> = Vec::new();
    for at in 0..size {
        let begin = at * 10 + rng.random_range(0..10);
        let end = begin + rng.random_range(1..=20 * clients);
        events.extend([(begin, at as usize), (end, at as usize)]);
    }
    events.sort_unstable();
    let mut operations = vec![None; size as usize];
    for (line, (_, at)) in (1..).zip(events) {
        let whole = Act { call: line, ret: line, needs: None, makes: None, must: true, source: 0 };
        operations[at].get_or_insert(whole).ret = line;
    }
    let mut operations: Vec<Act> = operations.into_iter().flatten().collect();
    operations.sort_by_key(|operation| operation.call);
    fill(&mut rng, &mut operations, distinct, 0.0);
    for operation in operations.iter_mut().filter(|operation| operation.makes.is_some()) {
        if rng.random_bool(0.04) {
            (operation.must, operation.ret) = (false, OPEN);
        }
    }
    operations
}

/// Lets a late read see what was there long before.
pub fn make_one_stale(operations: &mut [Act], place: usize) {
    let mut made =
        operations.iter().filter(|operation| operation.must).filter_map(|operation| operation.makes);
    let early = made.nth(place);
    let mut reads = operations.iter_mut().rev().filter(|operation| operation.makes.is_none());
    if let (Some(read), Some(early)) = (reads.nth(place), early) {
        read.needs = Some(early);
    }
}

/// Says what each does, in the order of some moment within each; so many see anything at all.
fn fill(rng: &mut impl Rng, operations: &mut [Act], distinct: bool, slips: f64) {
    let mut order: Vec<(u32, usize)> = (0..operations.len())
        .map(|at| (rng.random_range(operations[at].call..=operations[at].ret), at))
        .collect();
    order.sort_unstable();
    let (mut state, mut next) = (Held::ABSENT, 1);
    for (_, at) in order {
        let mut fresh = |rng: &mut _| match distinct {
            true => {
                next += 1;
                Held(next)
            }
            false => Held(Rng::next_u32(rng) % 4),
        };
        let some = Held(rng.random_range(0..5));
        let seen = if rng.random_bool(slips) { some } else { state };
        let operation = &mut operations[at];
        match rng.random_range(0..10) {
            0..4 => operation.needs = Some(seen),
            4..7 => operation.makes = Some(fresh(rng)),
            _ => (operation.needs, operation.makes) = (Some(seen), Some(fresh(rng))),
        }
        state = operation.makes.unwrap_or(state);
    }
}
