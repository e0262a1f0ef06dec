//! Histories of a simulated store, decided by a seed: for tests.
//!
//! In: a [`Store`] and a seed. Out: transactions with true concurrency. Never: two appends of one value.
//!
//! A lawful store does each transaction at one moment between its invocation and its completion; one of unknown
//! outcome at some moment, perhaps after its completion, or never. Slips make it lie now and then.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::exhaustive::{Plain, Step};
use crate::history::Ended;

#[derive(Debug, Clone, Copy)]
pub struct Store {
    pub transactions: u32,
    pub clients: u32,
    pub keys: u32,
    pub steps_max: u32,
    /// Of a hundred transactions.
    pub open: u32,
    pub failed: u32,
    /// Of a hundred steps: done at a moment of their own, so that the transaction is not one.
    pub loose: u32,
    /// Of a hundred transactions: done as one, and before the invocation or after the completion.
    pub untimely: u32,
    /// Of a hundred reads: what they tell is spoiled.
    pub spoiled: u32,
    /// Of a hundred failed transactions and of reads: the failed took effect, the reads are of long ago.
    pub lying: u32,
}

impl Store {
    pub const LAWFUL: Store = Store {
        transactions: 300,
        clients: 10,
        keys: 4,
        steps_max: 4,
        open: 5,
        failed: 5,
        loose: 0,
        untimely: 0,
        spoiled: 0,
        lying: 0,
    };
}

/// In the order of their calls.
pub fn simulate(store: Store, seed: u64) -> Vec<Plain> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut moments: Vec<(u64, usize, usize)> = Vec::new();
    let mut spans: Vec<(u64, u64)> = Vec::new();
    let mut plain: Vec<Plain> = Vec::new();
    let mut free = vec![0_u64; store.clients as usize];
    let mut value = 0;
    for at in 0..store.transactions as usize {
        let client = random.random_range(0..free.len());
        let call = free[client] + 2 * random.random_range(1..20);
        let ret = call + 2 * random.random_range(1..60);
        let chance = |random: &mut ChaCha8Rng, of_hundred: u32| random.random_range(0..100) < of_hundred;
        let ended = match () {
            () if chance(&mut random, store.open) => Ended::Info,
            () if chance(&mut random, store.failed) => Ended::Fail,
            () => Ended::Ok,
        };
        free[client] = ret;
        let steps = (0..random.random_range(1..=store.steps_max)).map(|_| {
            let key = random.random_range(0..store.keys);
            value += 1;
            if random.random_bool(0.5) { Step::Append(key, value) } else { Step::Read(key, Vec::new()) }
        });
        let steps: Vec<Step> = steps.collect();
        let takes_effect = match ended {
            Ended::Ok => true,
            Ended::Fail => chance(&mut random, store.lying),
            Ended::Info => random.random_bool(0.5),
        };
        let until = if ended == Ended::Info { ret + 200 } else { ret };
        let (from, to) = match chance(&mut random, store.untimely) {
            true => (call.saturating_sub(100), until + 100),
            false => (call, until),
        };
        // Odd, so it is no invocation's or completion's.
        let moment = random.random_range(from / 2..to / 2) * 2 + 1;
        for step in (0..steps.len()).filter(|_| takes_effect) {
            let own = random.random_range(call / 2..until / 2) * 2 + 1;
            moments.push((if chance(&mut random, store.loose) { own } else { moment }, at, step));
        }
        spans.push((call, ret));
        plain.push(Plain { call: 0, ret: None, ended, steps });
    }
    carry_out(store, &mut random, &mut plain, moments);
    number_lines(&mut random, &mut plain, &spans);
    plain.sort_by_key(|one| one.call);
    plain
}

fn carry_out(
    store: Store,
    random: &mut ChaCha8Rng,
    plain: &mut [Plain],
    mut moments: Vec<(u64, usize, usize)>,
) {
    moments.sort_unstable();
    let mut lists: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (_, at, step) in moments {
        match &mut plain[at].steps[step] {
            Step::Append(key, value) => lists.entry(*key).or_default().push(*value),
            Step::Read(key, seen) => {
                seen.clone_from(lists.entry(*key).or_default());
                if random.random_range(0..100) < store.lying {
                    seen.truncate(random.random_range(0..=seen.len()));
                }
                if random.random_range(0..100) < store.spoiled {
                    spoil(random, seen);
                }
            }
        }
    }
}

fn spoil(random: &mut ChaCha8Rng, seen: &mut Vec<u32>) {
    match (random.random_range(0..4), seen.len()) {
        (0, _) => seen.push(random.random_range(1..20)),
        (1, 1..) => seen.push(seen[0]),
        (2, length @ 2..) => seen.swap(length - 1, length - 2),
        (3, length @ 2..) => _ = seen.remove(random.random_range(0..length - 1)),
        _ => {}
    }
}

/// Lines in the order of time; of a few open ones the history ends before they complete.
fn number_lines(random: &mut ChaCha8Rng, plain: &mut [Plain], spans: &[(u64, u64)]) {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (at, &(call, ret)) in spans.iter().enumerate() {
        events.push((call, true, at));
        if plain[at].ended != Ended::Info || random.random_bool(0.8) {
            events.push((ret, false, at));
        }
    }
    events.sort_unstable();
    for (line, (_, is_call, at)) in (1..).zip(events) {
        if is_call {
            plain[at].call = line;
        } else {
            plain[at].ret = Some(line);
        }
    }
}
