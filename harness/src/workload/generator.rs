//! What a client does, and when: an endless sequence that depends on nothing but its random stream.
//!
//! In: a random stream, the client's number, the shape of the load. Out: one [`Arrival`] after another.
//! Never: a clock, a socket, or a look at what became of earlier operations. What a compare-and-swap expects
//! is the one thing that the past decides, and it is handed in when the operation starts.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::scenario::{Mix, Workload};

/// The next operation of a client, as far as it can be known ahead.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// Since the start of the operation before it; of the first, since the start of the load.
    pub gap: Duration,
    pub key: u32,
    pub action: Action,
    /// Decides which node is asked where the placement leaves it open.
    pub draw: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Read,
    /// The value is written once in the whole run, so that a read tells which write it saw.
    Write(u64),
    /// To this value, which is as unique as a written one.
    Swap(u64),
}

/// An operation, complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Read {
        key: u32,
    },
    Write {
        key: u32,
        value: u64,
    },
    /// `expected`: absent asks that the key does not exist.
    CompareAndSwap {
        key: u32,
        expected: Option<u64>,
        new: u64,
    },
}

pub struct Generator {
    random: ChaCha8Rng,
    client: u64,
    clients: u64,
    keys: u32,
    mix: Mix,
    /// Mean of the exponentially distributed gaps, in seconds.
    gap_mean: f64,
    /// Values made so far by this client.
    values: u64,
}

impl Generator {
    /// Client `client` of `workload.clients`, from 0.
    pub fn new(random: ChaCha8Rng, client: u32, workload: &Workload) -> Generator {
        assert!(client < workload.clients, "client {client} of {}", workload.clients);
        assert!(workload.rate > 0 && workload.keys > 0, "a validated scenario has a rate and keys");
        assert!(share(&workload.mix) > 0, "a validated mix has a kind of operation in it");
        Generator {
            random,
            client: client.into(),
            clients: workload.clients.into(),
            keys: workload.keys,
            mix: workload.mix.clone(),
            gap_mean: f64::from(workload.clients) / f64::from(workload.rate),
            values: 0,
        }
    }

    /// A value that no other call, of this or another client's generator, returns.
    fn value(&mut self) -> u64 {
        let value = self.values * self.clients + self.client + 1;
        self.values += 1;
        value
    }
}

impl Iterator for Generator {
    type Item = Arrival;

    /// Never `None`.
    fn next(&mut self) -> Option<Arrival> {
        // 1 - u is in (0, 1], so its logarithm is finite; the gaps of a Poisson process.
        let u: f64 = self.random.random();
        let gap = Duration::from_secs_f64(-(1.0 - u).ln() * self.gap_mean);
        let key = self.random.random_range(0..self.keys);
        let kind = self.random.random_range(0..share(&self.mix));
        let draw = self.random.random();
        let action = if kind < u64::from(self.mix.read) {
            Action::Read
        } else if kind < u64::from(self.mix.read) + u64::from(self.mix.write) {
            Action::Write(self.value())
        } else {
            Action::Swap(self.value())
        };
        Some(Arrival { gap, key, action, draw })
    }
}

impl Arrival {
    /// The operation, now that it starts; `seen` is the newest value its users know of its key.
    pub fn request(&self, seen: Option<u64>) -> Request {
        let key = self.key;
        match self.action {
            Action::Read => Request::Read { key },
            Action::Write(value) => Request::Write { key, value },
            Action::Swap(new) => Request::CompareAndSwap { key, expected: seen, new },
        }
    }
}

impl Request {
    pub fn key(&self) -> u32 {
        match *self {
            Request::Read { key } | Request::Write { key, .. } | Request::CompareAndSwap { key, .. } => key,
        }
    }

    pub fn is_read(&self) -> bool {
        matches!(self, Request::Read { .. })
    }
}

/// How a key is written, on the wire and in the history.
pub fn key_name(key: u32) -> String {
    format!("k{key}")
}

fn share(mix: &Mix) -> u64 {
    u64::from(mix.read) + u64::from(mix.write) + u64::from(mix.cas)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::workload::tests::workload;

    fn arrivals(seed: u64, client: u32, count: usize) -> Vec<Arrival> {
        Generator::new(ChaCha8Rng::seed_from_u64(seed), client, &workload()).take(count).collect()
    }

    #[test]
    fn the_same_stream_gives_the_same_operations() {
        assert_eq!(arrivals(1, 0, 500), arrivals(1, 0, 500));
        assert_ne!(arrivals(1, 0, 500), arrivals(2, 0, 500));
    }

    #[test]
    fn no_value_is_written_twice_by_anyone() {
        let mut values = BTreeSet::new();
        for client in 0..workload().clients {
            for arrival in arrivals(client.into(), client, 500) {
                if let Action::Write(value) | Action::Swap(value) = arrival.action {
                    assert!(values.insert(value), "{value} came twice");
                }
            }
        }
        assert!(values.len() > 500);
    }

    #[test]
    fn all_clients_together_keep_the_rate_and_the_mix() {
        let workload = workload();
        let all = arrivals(7, 0, 20_000);
        let seconds: f64 = all.iter().map(|arrival| arrival.gap.as_secs_f64()).sum();
        let rate = 20_000.0 / seconds * f64::from(workload.clients);
        assert!((rate / f64::from(workload.rate) - 1.0).abs() < 0.05, "{rate} a second");
        let reads = all.iter().filter(|arrival| arrival.action == Action::Read).count() as f64;
        let expected = 20_000.0 * f64::from(workload.mix.read) / share(&workload.mix) as f64;
        assert!((reads / expected - 1.0).abs() < 0.05, "{reads} reads");
        assert_eq!(all.iter().map(|arrival| arrival.key).collect::<BTreeSet<_>>().len(), 3);
    }

    #[test]
    fn a_compare_and_swap_expects_what_was_seen_last() {
        let arrival = Arrival { gap: Duration::ZERO, key: 2, action: Action::Swap(9), draw: 0 };
        for seen in [None, Some(4)] {
            assert_eq!(arrival.request(seen), Request::CompareAndSwap { key: 2, expected: seen, new: 9 });
        }
    }
}
