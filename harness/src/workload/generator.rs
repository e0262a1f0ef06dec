//! What a client does, and when: an endless sequence that depends on nothing but its random stream.
//!
//! In: a random stream, the client's number, the shape of the load. Out: one [`Arrival`] after another.
//! Never: a clock, a socket, or a look at what became of earlier operations. What the past decides, such as the value
//! that a compare-and-swap expects, an operation finds out when it starts.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::kinds;
use super::operation::{Kind, Operation};
use crate::scenario::Workload;

/// The next operation of a client, as far as it can be known ahead.
#[derive(Debug)]
pub struct Arrival {
    /// Since the start of the operation before it; of the first, since the start of the load.
    pub gap: Duration,
    pub operation: Box<dyn Operation>,
    /// Decides which node is asked where the placement leaves it open.
    pub draw: u64,
}

/// Chance and fresh values, for one client.
pub struct Draw {
    random: ChaCha8Rng,
    /// Of `drawers`, from 0.
    drawer: u64,
    drawers: u64,
    /// Values made so far.
    values: u64,
}

pub struct Generator {
    draw: Draw,
    kind: Box<dyn Kind>,
    /// Mean of the exponentially distributed gaps, in seconds.
    gap_mean: f64,
}

impl Draw {
    /// Of client `client` of `clients`, from 0; the number after the last is of the one who looks at the end.
    pub fn new(random: ChaCha8Rng, client: u32, clients: u32) -> Draw {
        assert!(client <= clients, "client {client} of {clients}");
        Draw { random, drawer: client.into(), drawers: u64::from(clients) + 1, values: 0 }
    }

    /// A value that no other call, of this or another client's, returns.
    pub fn value(&mut self) -> u64 {
        let value = self.values * self.drawers + self.drawer + 1;
        self.values += 1;
        value
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        self.random.random_range(0..bound)
    }

    /// The place of one of `shares`, each as often as its share says.
    pub fn among(&mut self, shares: &[u32]) -> usize {
        let total = shares.iter().map(|share| u64::from(*share)).sum();
        let mut left = self.random.random_range(0..total);
        for (place, share) in shares.iter().enumerate() {
            match left.checked_sub((*share).into()) {
                Some(rest) => left = rest,
                None => return place,
            }
        }
        unreachable!("{left} is below the sum of {shares:?}")
    }
}

impl Generator {
    /// Client `client` of `workload.clients`, from 0.
    pub fn new(random: ChaCha8Rng, client: u32, workload: &Workload) -> Generator {
        assert!(workload.rate > 0, "a validated scenario has a rate");
        Generator {
            draw: Draw::new(random, client, workload.clients),
            kind: kinds::of(workload.kind),
            gap_mean: f64::from(workload.clients) / f64::from(workload.rate),
        }
    }
}

impl Iterator for Generator {
    type Item = Arrival;

    /// Never `None`.
    fn next(&mut self) -> Option<Arrival> {
        // 1 - u is in (0, 1], so its logarithm is finite; the gaps of a Poisson process.
        let u: f64 = self.draw.random.random();
        let gap = Duration::from_secs_f64(-(1.0 - u).ln() * self.gap_mean);
        let operation = self.kind.draw(&mut self.draw);
        Some(Arrival { gap, operation, draw: self.draw.random.random() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand_chacha::rand_core::SeedableRng;
    use serde_json::Value;

    use super::super::lore::Lore;
    use super::super::tests::{all_kinds, workload};
    use super::*;

    fn arrivals(workload: &Workload, seed: u64, client: u32, count: usize) -> Vec<Arrival> {
        Generator::new(ChaCha8Rng::seed_from_u64(seed), client, workload).take(count).collect()
    }

    #[test]
    fn the_same_stream_gives_the_same_operations() {
        for kind in all_kinds() {
            let drawn = |seed| {
                let workload = Workload { kind, ..workload() };
                format!("{:?}", arrivals(&workload, seed, 0, 300))
            };
            assert_eq!(drawn(1), drawn(1));
            assert_ne!(drawn(1), drawn(2));
        }
    }

    /// The values that an operation of this name writes.
    fn written(f: &str, value: &Value) -> Vec<i64> {
        match (f, value) {
            ("write" | "add" | "acquire", value) => vec![value.as_i64().unwrap()],
            ("cas", value) => vec![value[1].as_i64().unwrap()],
            ("txn", Value::Array(acts)) => {
                acts.iter().filter(|act| act[0] == "append").map(|act| act[2].as_i64().unwrap()).collect()
            }
            _ => Vec::new(),
        }
    }

    #[test]
    fn no_value_is_written_twice_by_anyone() {
        // An addend needs no name, and money has none.
        for kind in all_kinds().filter(|kind| !["counter", "bank"].contains(&kind.word())) {
            let workload = Workload { kind, ..workload() };
            let mut values = BTreeSet::new();
            for client in 0..workload.clients {
                for mut arrival in arrivals(&workload, client.into(), client, 500) {
                    arrival.operation.begin(&Lore::default());
                    let invocation = arrival.operation.invocation();
                    for value in written(invocation.f, &invocation.value) {
                        assert!(values.insert(value), "{kind}: {value} came twice");
                    }
                }
            }
            let mut last = Draw::new(ChaCha8Rng::seed_from_u64(1), workload.clients, workload.clients);
            assert!((0..500).all(|_| values.insert(last.value() as i64)), "{kind}");
            assert!(values.len() > 1_000, "{kind}");
        }
    }

    #[test]
    fn all_clients_together_keep_the_rate() {
        for kind in all_kinds() {
            let workload = Workload { kind, ..workload() };
            let all = arrivals(&workload, 7, 0, 20_000);
            let seconds: f64 = all.iter().map(|arrival| arrival.gap.as_secs_f64()).sum();
            let rate = 20_000.0 / seconds * f64::from(workload.clients);
            assert!((rate / f64::from(workload.rate) - 1.0).abs() < 0.05, "{kind}: {rate} a second");
        }
    }

    #[test]
    fn each_kind_keeps_its_mix() {
        for (word, expected) in [
            ("register", &[("read", 0.50), ("write", 0.35), ("cas", 0.15)][..]),
            ("set", &[("add", 0.6), ("read", 0.4)]),
            ("counter", &[("add", 0.6), ("read", 0.4)]),
            ("append", &[("txn", 1.0)]),
            ("bank", &[("read", 0.4), ("transfer", 0.6)]),
            ("lock", &[("acquire", 1.0)]),
        ] {
            let kind = all_kinds().find(|kind| kind.word() == word).unwrap();
            let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
            for mut arrival in arrivals(&Workload { kind, ..workload() }, 7, 0, 20_000) {
                arrival.operation.begin(&Lore::default());
                *counts.entry(arrival.operation.invocation().f).or_default() += 1.0 / 20_000.0;
            }
            assert_eq!(counts.len(), expected.len(), "{counts:?}");
            for (f, share) in expected {
                assert!((counts[f] / share - 1.0).abs() < 0.05, "{word}: {counts:?}");
            }
        }
    }

    #[test]
    fn a_share_of_nothing_is_never_drawn() {
        let mut draw = Draw::new(ChaCha8Rng::seed_from_u64(1), 0, 1);
        let drawn: BTreeSet<usize> = (0..500).map(|_| draw.among(&[0, 3, 0, 1, 0])).collect();
        assert_eq!(drawn, BTreeSet::from([1, 3]));
    }
}
