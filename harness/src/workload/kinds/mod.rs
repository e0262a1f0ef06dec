//! The kinds of load, each a file: which operations it has, and what each asks the nodes.
//!
//! In: the kind's settings. Out: a [`Kind`]. Never: knowledge of one kind anywhere else in `workload`.

mod append;
mod bank;
mod counter;
mod lock;
mod register;
mod set;

use super::operation::Kind;
use crate::scenario::WorkloadKind;

pub fn of(kind: WorkloadKind) -> Box<dyn Kind> {
    match kind {
        WorkloadKind::Register(kind) => Box::new(kind),
        WorkloadKind::Set(kind) => Box::new(kind),
        WorkloadKind::Counter(kind) => Box::new(kind),
        WorkloadKind::Append(kind) => Box::new(kind),
        WorkloadKind::Bank(kind) => Box::new(kind),
        WorkloadKind::Lock(kind) => Box::new(kind),
    }
}

/// Why a transaction with comparisons did nothing.
const RACE_LOST: &str = "another came first: a comparison was false";

/// So many keys are looked at in the end, where load leaves keys behind: the newest.
const LAST_LOOKS_MAX: u32 = 1_000;

/// A node in a map, to try operations on without a network.
#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::bytes::Bytes;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::super::generator::Draw;
    use super::super::lore::Lore;
    use super::super::operation::{Operation, Step};
    use crate::system::call::{Act, Call, Compare, Found, Is, Reply, Swap, Txn, TxnDone};

    #[derive(Default)]
    pub struct Store {
        values: BTreeMap<Bytes, (Bytes, u64)>,
        version: u64,
    }

    impl Store {
        pub fn found(&self, key: &Bytes) -> Found {
            match self.values.get(key) {
                Some((value, version)) => Found { value: Some(value.clone()), version: *version },
                None => Found::default(),
            }
        }

        pub fn text(&self, key: &str) -> Option<String> {
            let value = self.found(&Bytes::copy_from_slice(key.as_bytes())).value?;
            Some(String::from_utf8(value.to_vec()).unwrap())
        }

        pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
            self.version += 1;
            self.values.insert(key.into(), (value.into(), self.version));
        }

        pub fn carry_out(&mut self, call: Call) -> Reply {
            match call {
                Call::Get { key } => Reply::Got(self.found(&key)),
                Call::Put { key, value } => {
                    self.put(key, value);
                    Reply::Done
                }
                Call::Append { key, suffix } => {
                    self.act(Act::Append { key, suffix });
                    Reply::Done
                }
                Call::CompareAndSwap { key, expected, value } => {
                    let seen = self.found(&key).value;
                    let swapped = seen == expected;
                    if swapped {
                        self.put(key, value);
                    }
                    Reply::Swapped(Swap { swapped, seen })
                }
                Call::Txn(txn) => Reply::Txn(self.txn(txn)),
            }
        }

        pub fn txn(&mut self, txn: Txn) -> TxnDone {
            let succeeded = txn.compare.iter().all(|Compare { key, is }| match is {
                Is::Version(version) => self.found(key).version == *version,
                Is::Value(value) => self.found(key).value.as_ref() == Some(value),
            });
            let acts = if succeeded { txn.then } else { txn.otherwise };
            TxnDone { succeeded, found: acts.into_iter().filter_map(|act| self.act(act)).collect() }
        }

        fn act(&mut self, act: Act) -> Option<Found> {
            match act {
                Act::Get { key } => return Some(self.found(&key)),
                Act::Put { key, value } => self.put(key, value),
                Act::Delete { key } => {
                    self.values.remove(&key);
                }
                Act::Append { key, suffix } => {
                    let before = self.found(&key).value.unwrap_or_default();
                    self.put(key, [before, suffix].concat());
                }
            }
            None
        }
    }

    pub fn draw() -> Draw {
        Draw::new(ChaCha8Rng::seed_from_u64(7), 0, 1)
    }

    /// Carries out all that is left of an operation, which comes to its end.
    pub fn finish(operation: &mut dyn Operation, step: Step, store: &mut Store, lore: &Lore) -> Step {
        let mut step = step;
        for _ in 0..8 {
            let Step::Ask(call) = step else { return step };
            assert!(
                operation.changes() || !call.changes(),
                "{operation:?} says that it only reads: {call:?}"
            );
            step = operation.next(Some(store.carry_out(call)), lore);
        }
        panic!("never ends: {operation:?}")
    }

    /// The whole of an operation, with nobody between.
    pub fn carry_out(operation: &mut dyn Operation, store: &mut Store, lore: &Lore) -> Step {
        operation.begin(lore);
        let step = operation.next(None, lore);
        finish(operation, step, store, lore)
    }
}
