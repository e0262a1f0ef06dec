//! The kinds of load, and what each has that the others have not.
//!
//! In: nothing. Out: [`WorkloadKind`] with its defaults, and one list of [`Field`]s by which every kind is read,
//! written and documented. Never: what clients do with it; `workload` has that.

use std::fmt;
use std::mem::discriminant;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::words::Words;

pub const KEYS_MAX: u32 = 100_000;
pub const SHARE_MAX: u32 = 1_000_000;
/// A key's value stays well below the size that a node takes, whatever the numbers in it.
const ADDS_PER_KEY_MAX: u32 = 10_000;
const APPENDS_PER_KEY_MAX: u32 = 1_000;
const OPERATIONS_MAX: u32 = 16;
const ACCOUNTS_MAX: u32 = 64;
const MONEY_MAX: u32 = 1_000_000_000;
/// A load that is told to stop waits for what is under way.
const HOLD_MAX: Duration = Duration::from_secs(5);

/// What the clients do. A new kind is a new variant, a line of [`Words::WORDS`] and one of `fields`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadKind {
    Register(Register),
    Set(Set),
    Counter(Counter),
    Append(Append),
    Bank(Bank),
    Lock(Lock),
}

/// One value a key, read, written and compared-and-swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register {
    pub keys: u32,
    /// Shares of the kinds of operation; only their ratio counts. Here and below.
    pub read: u32,
    pub write: u32,
    pub cas: u32,
}

/// Sets that only grow; a full one is left for a fresh one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set {
    /// Sets in use at a time.
    pub keys: u32,
    pub adds_per_key: u32,
    pub add: u32,
    pub read: u32,
}

/// One integer a key, changed by a transaction that compares the version it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    pub keys: u32,
    pub add: u32,
    pub read: u32,
}

/// Transactions that read and append to several lists; a full one is left for a fresh one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Append {
    /// Lists in use at a time.
    pub keys: u32,
    pub appends_per_key: u32,
    /// Reads and appends of one transaction, at most.
    pub operations: u32,
    /// Transactions that append without a condition.
    pub append: u32,
    /// Transactions that only read.
    pub read: u32,
    /// Transactions that read first, and append if nobody did since.
    pub compare: u32,
}

/// Money that moves between accounts and is never more or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bank {
    pub accounts: u32,
    /// Of all accounts together.
    pub total: u32,
    /// Of one transfer.
    pub transfer_max: u32,
    pub read: u32,
    pub transfer: u32,
}

/// Locks that are acquired, held for a while and released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    pub keys: u32,
    pub hold: Duration,
}

/// Something particular to a kind that can be written in YAML.
pub(super) enum Field<'k> {
    /// A key of `workload`.
    Number { key: &'static str, value: &'k mut u32, range: RangeInclusive<u32> },
    /// A key of `workload`, in whole milliseconds.
    Time { key: &'static str, value: &'k mut Duration, most: Duration },
    /// A key of `mix`, 0 to [`SHARE_MAX`].
    Share { word: &'static str, value: &'k mut u32 },
}

/// A number that only some kinds of load have, apart from its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Particular {
    /// As in YAML.
    pub word: &'static str,
    pub value: u32,
    pub least: u32,
    /// Of the kinds of operation, of which one must be left.
    pub is_share: bool,
}

/// Each kind with its defaults.
impl Words for WorkloadKind {
    const WORDS: &'static [(&'static str, WorkloadKind)] = &[
        ("register", WorkloadKind::Register(Register { keys: 3, read: 50, write: 35, cas: 15 })),
        ("set", WorkloadKind::Set(Set { keys: 2, adds_per_key: 200, add: 60, read: 40 })),
        ("counter", WorkloadKind::Counter(Counter { keys: 3, add: 60, read: 40 })),
        (
            "append",
            WorkloadKind::Append(Append {
                keys: 4,
                appends_per_key: 32,
                operations: 4,
                append: 50,
                read: 20,
                compare: 30,
            }),
        ),
        (
            "bank",
            WorkloadKind::Bank(Bank { accounts: 5, total: 100, transfer_max: 5, read: 40, transfer: 60 }),
        ),
        ("lock", WorkloadKind::Lock(Lock { keys: 2, hold: Duration::from_millis(20) })),
    ];

    fn to_word(self) -> Option<&'static str> {
        Self::WORDS.iter().find(|(_, kind)| discriminant(kind) == discriminant(&self)).map(|(word, _)| *word)
    }
}

impl WorkloadKind {
    pub fn word(self) -> &'static str {
        self.to_word().unwrap_or_else(|| panic!("WORDS has no line for {self:?}"))
    }

    /// The functions that a history of it must hold, in the words of its lines.
    pub fn functions(mut self) -> Vec<&'static str> {
        match self {
            WorkloadKind::Append(_) => vec!["txn"],
            WorkloadKind::Lock(_) => vec!["acquire", "release"],
            _ => {
                let fields = self.fields();
                let asked = fields.into_iter().filter_map(|field| match field {
                    Field::Share { word, value } if *value > 0 => Some(word),
                    _ => None,
                });
                asked.collect()
            }
        }
    }

    /// Its numbers, in the order in which they are written.
    pub fn particulars(mut self) -> Vec<Particular> {
        let particular = |field| match field {
            Field::Number { key: word, value, range } => {
                Some(Particular { word, value: *value, least: *range.start(), is_share: false })
            }
            Field::Share { word, value } => {
                Some(Particular { word, value: *value, least: 0, is_share: true })
            }
            Field::Time { .. } => None,
        };
        self.fields().into_iter().filter_map(particular).collect()
    }

    /// Changes one of its numbers.
    pub fn set(&mut self, number: &str, to: u32) {
        for field in self.fields() {
            match field {
                Field::Number { key: word, value, .. } | Field::Share { word, value } if word == number => {
                    *value = to;
                }
                _ => {}
            }
        }
    }

    /// Operations that one start of a client comes to, at most.
    pub fn operations_per_start(self) -> u64 {
        match self {
            WorkloadKind::Lock(_) => 2,
            _ => 1,
        }
    }

    /// In the order in which they are written.
    pub(super) fn fields(&mut self) -> Vec<Field<'_>> {
        let number = |key, value, range| Field::Number { key, value, range };
        let share = |word, value| Field::Share { word, value };
        match self {
            WorkloadKind::Register(Register { keys, read, write, cas }) => {
                let keys = number("keys", keys, 1..=KEYS_MAX);
                vec![keys, share("read", read), share("write", write), share("cas", cas)]
            }
            WorkloadKind::Set(Set { keys, adds_per_key, add, read }) => vec![
                number("keys", keys, 1..=KEYS_MAX),
                number("adds-per-key", adds_per_key, 1..=ADDS_PER_KEY_MAX),
                share("add", add),
                share("read", read),
            ],
            WorkloadKind::Counter(Counter { keys, add, read }) => {
                vec![number("keys", keys, 1..=KEYS_MAX), share("add", add), share("read", read)]
            }
            WorkloadKind::Append(Append { keys, appends_per_key, operations, append, read, compare }) => {
                vec![
                    number("keys", keys, 1..=KEYS_MAX),
                    number("appends-per-key", appends_per_key, 1..=APPENDS_PER_KEY_MAX),
                    number("operations", operations, 1..=OPERATIONS_MAX),
                    share("append", append),
                    share("read", read),
                    share("compare", compare),
                ]
            }
            WorkloadKind::Bank(Bank { accounts, total, transfer_max, read, transfer }) => vec![
                number("accounts", accounts, 2..=ACCOUNTS_MAX),
                number("total", total, 1..=MONEY_MAX),
                number("transfer-max", transfer_max, 1..=MONEY_MAX),
                share("read", read),
                share("transfer", transfer),
            ],
            WorkloadKind::Lock(Lock { keys, hold }) => vec![
                number("keys", keys, 1..=KEYS_MAX),
                Field::Time { key: "hold", value: hold, most: HOLD_MAX },
            ],
        }
    }

    /// The keys that stand under `workload` for this kind alone.
    pub(super) fn keys(mut self) -> Vec<&'static str> {
        let shared = !self.shares().is_empty();
        let keys = self.fields().into_iter().filter_map(|field| match field {
            Field::Number { key, .. } | Field::Time { key, .. } => Some(key),
            Field::Share { .. } => None,
        });
        keys.chain(shared.then_some("mix")).collect()
    }

    /// The keys of its `mix`.
    pub(super) fn shares(mut self) -> Vec<&'static str> {
        let shares = self.fields().into_iter().filter_map(|field| match field {
            Field::Share { word, .. } => Some(word),
            _ => None,
        });
        shares.collect()
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_one_that_could_be_written() {
        for (word, kind) in WorkloadKind::WORDS {
            assert_eq!(kind.word(), *word);
            let mut kind = *kind;
            for field in kind.fields() {
                match field {
                    Field::Number { key, value, range } => assert!(range.contains(value), "{word}: {key}"),
                    Field::Time { key, value, most } => assert!(*value <= most, "{word}: {key}"),
                    Field::Share { word: share, value } => {
                        assert!((1..=SHARE_MAX).contains(value), "{word}: {share}");
                    }
                }
            }
        }
    }

    #[test]
    fn each_number_can_be_set_to_its_least_and_nothing_else_changes() {
        for (word, kind) in WorkloadKind::WORDS {
            for particular in kind.particulars() {
                let mut changed = *kind;
                changed.set(particular.word, particular.least);
                let expected: Vec<Particular> = kind
                    .particulars()
                    .into_iter()
                    .map(|it| if it == particular { Particular { value: it.least, ..it } } else { it })
                    .collect();
                assert_eq!(changed.particulars(), expected, "{word}: {}", particular.word);
            }
        }
    }

    #[test]
    fn a_function_without_a_share_is_not_asked_for() {
        let register = WorkloadKind::Register(Register { keys: 1, read: 0, write: 1, cas: 2 });
        assert_eq!(register.functions(), ["write", "cas"]);
        let expected = [
            &["read", "write", "cas"][..],
            &["add", "read"],
            &["add", "read"],
            &["txn"],
            &["read", "transfer"],
            &["acquire", "release"],
        ];
        for ((_, kind), expected) in WorkloadKind::WORDS.iter().zip(expected) {
            assert_eq!(kind.functions(), expected);
        }
    }
}
