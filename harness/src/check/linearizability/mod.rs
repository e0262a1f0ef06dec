//! Clients cannot tell the cluster from one machine that does one operation at a time.
//!
//! In: the clients' history. Out: a verdict with, per key that fails, few operations that no order explains.
//! Never: what nodes say of themselves; a verdict from a search that was not finished.
//!
//! # The model
//!
//! Each key is a register, absent at first. Linearizability is local (Herlihy & Wing 1990, theorem 1): a history
//! is linearizable when that of each key is, so each key is judged by itself. An operation is what it *needs* the
//! register to hold and what it *makes* of it:
//!
//! | operation | needs | makes |
//! |---|---|---|
//! | `read` that saw v | v | |
//! | `write` v, `delete` | | v, nothing |
//! | `cas` from e to v, swapped | e | v |
//! | `cas` that did not swap and saw v | v | |
//!
//! A `cas` that saw the very value it expected and did not swap needs what no register can hold. What failed for
//! certain and saw nothing is left out. What stayed open (`info`, or the history ends before) may happen at any
//! time after its invocation, or never: it *may*, the others *must*.
//!
//! # What is dropped before the search
//!
//! 1. An open read: it asks nothing, and changes nothing.
//! 2. An open write or `cas` whose value v no other operation needs. If there is an order with it, there is one
//!    without it: between it and the next operation that makes something, nothing needs v, so nothing needs
//!    anything there (whatever was linearized in between without needs is such a maker itself), and leaving it
//!    out changes what the register holds in that stretch alone. If there is an order without it, that order
//!    stands, because it may never have happened. That v is unique is not needed. Dropping a `cas` drops its need
//!    too, which may leave another one unneeded: so it is repeated until nothing changes.
//!
//! # How it is decided
//!
//! By [`zones`], in O(n log n), where each value that somebody saw was made once, as the harness' own clients make
//! them. Else by [`search()`], within a budget.

mod core;
#[cfg(test)]
mod exhaustive;
mod search;
mod zone_core;
pub mod zones;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::evidence::{Evidence, seconds_since};
use super::verdict::{Finding, Tally, Verdict, Witness, count};
use crate::history::{Ended, History, Operation};
pub use search::{Budget, Conclusion, Searched, search};
use zones::Zoned;

/// Per key, the operations can be put in an order that respects real time, in which each sees what a register
/// would hold.
///
/// Reads: the clients' operations in the history. Fails: for each key that cannot be explained, naming a small set
/// of operations that cannot be ordered, and where the longest legal prefix ends. Unknown: the search spent its
/// budget (how far it came is told), an operation is none of a register, or no operation was acknowledged. Cannot
/// see: what no client asked for. Cost: O(n log n) where each value that was seen was made once; else exponential at
/// worst, and near linear in practice: 2 000 000 steps and 2 000 000 remembered states for each key at most.
pub fn linearizability(evidence: &Evidence) -> Verdict {
    judge_book(&Book {
        history: &evidence.history,
        file: "history.jsonl",
        lines: None,
        epoch_ns: evidence.epoch_ns,
    })
}

/// A history, and what its lines and times are called when it is told.
#[derive(Debug, Clone, Copy)]
pub struct Book<'h> {
    pub history: &'h History,
    /// The file, as witnesses name it.
    pub file: &'h str,
    /// Where the history's entries stand, when each has not a line of its own: a line for each entry.
    pub lines: Option<&'h [u32]>,
    /// Where times are counted from.
    pub epoch_ns: u64,
}

impl Book<'_> {
    pub(in crate::check) fn at(&self, t: u64) -> String {
        seconds_since(self.epoch_ns, t)
    }

    pub(in crate::check) fn witness(&self, line: u32, text: impl Into<String>) -> Witness {
        Witness { file: self.file.to_owned(), line: self.line(line), text: text.into() }
    }

    /// Of an entry, in the file.
    pub(in crate::check) fn line(&self, entry: u32) -> u32 {
        let known = self.lines.and_then(|lines| lines.get((entry as usize).checked_sub(1)?));
        known.copied().unwrap_or(entry)
    }
}

/// As [`linearizability`], of a history wherever it comes from.
pub fn judge_book(book: &Book) -> Verdict {
    let mut tally = Tally::default();
    let mut keys: BTreeMap<Arc<str>, Register> = BTreeMap::new();
    for (source, operation) in (0..).zip(&book.history.operations) {
        match Asked::of(operation) {
            Ok(None) => {}
            Ok(Some((key, asked))) => match keys.get_mut(key) {
                Some(register) => register.add(source, operation, asked),
                None => keys.entry(key.clone()).or_default().add(source, operation, asked),
            },
            Err(why) => {
                let told = book.witness(operation.invoke_line, why);
                tally.doubt(Finding::new(format!("an operation that no register has: {why}"), [told]));
            }
        }
    }
    let mut dropped = 0;
    for (key, register) in &keys {
        tally.examined += register.operations.iter().filter(|operation| operation.must).count() as u64;
        let operations = needed(&register.operations);
        dropped += register.operations.len() - operations.len();
        let searched = judge(&operations, Budget::DEFAULT);
        match searched.conclusion {
            Conclusion::Linearizable => {}
            Conclusion::NotLinearizable => {
                tally.violated(core::finding(book, key, register, &operations));
            }
            Conclusion::OutOfBudget => {
                let Searched { steps, reached, total, .. } = searched;
                let text = format!(
                    "{}the search gave up after {steps} steps; it had ordered {reached} of {total} operations",
                    of(key)
                );
                let last = register.operations.last();
                let told = last.map(|last| book.witness(last.call, "the key's last operation"));
                tally.doubt(Finding::new(text, told.into_iter().collect::<Vec<_>>()));
            }
        }
    }
    tally.verdict("no operation on a register was acknowledged", |examined| {
        let keys = count(keys.len() as u64, "key");
        format!("{examined} operations on {keys} have an order ({dropped} open ones, unobserved, left out)")
    })
}

/// `key k1: `; nothing where there is one register without a name.
fn of(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("key {key}: ") }
}

/// An operation on one register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    /// Line of the invocation: lines are in the order of time.
    pub call: u32,
    /// Line of the completion; [`OPEN`] when there is none that binds.
    pub ret: u32,
    pub needs: Option<Held>,
    pub makes: Option<Held>,
    /// It happened; else it may have.
    pub must: bool,
    /// Place in the history's operations, for words.
    pub source: u32,
}

/// The completion of what may happen at any later time.
pub const OPEN: u32 = u32::MAX;

/// What a register holds, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Held(pub u32);

impl Held {
    /// What each register holds at first.
    pub const ABSENT: Held = Held(0);
    /// What none ever holds.
    pub const IMPOSSIBLE: Held = Held(u32::MAX);
}

/// What an operation needs and makes, with values still as in the history.
struct Asked<'h> {
    needs: Option<&'h Value>,
    makes: Option<&'h Value>,
    impossible: bool,
    must: bool,
}

impl<'h> Asked<'h> {
    /// None for what certainly did not happen or may be left out; an error for what is no register's operation.
    fn of(operation: &'h Operation) -> Result<Option<(&'h Arc<str>, Asked<'h>)>, &'static str> {
        let must = operation.ended == Ended::Ok;
        let failed = operation.ended == Ended::Fail;
        let mut asked = Asked { needs: None, makes: None, impossible: false, must };
        match (&*operation.f, &operation.seen) {
            ("read", _) if !must => return Ok(None),
            ("read", _) => asked.needs = Some(&operation.result),
            ("write" | "delete", _) if failed => return Ok(None),
            ("write", _) if operation.value.is_null() => return Err("a write without a value"),
            ("write", _) => asked.makes = Some(&operation.value),
            ("delete", _) => asked.makes = Some(&Value::Null),
            ("cas", seen) => {
                let Some([expected, new]) = operation.value.as_array().map(Vec::as_slice) else {
                    return Err("a cas whose value is not [expected, new]");
                };
                match (failed, seen) {
                    (true, None) => return Ok(None),
                    (true, Some(seen)) => {
                        asked.needs = Some(seen);
                        asked.impossible = seen == expected;
                        asked.must = true;
                    }
                    (false, _) => (asked.needs, asked.makes) = (Some(expected), Some(new)),
                }
            }
            _ => return Err("its function is none of read, write, cas, delete"),
        }
        let key = operation.key.as_ref().ok_or("it has no key")?;
        Ok(Some((key, asked)))
    }
}

/// The history of one key.
#[derive(Debug, Default)]
struct Register {
    operations: Vec<Act>,
    /// Most values are small numbers; these need no text.
    numbers: HashMap<u64, Held>,
    others: HashMap<String, Held>,
}

impl Register {
    fn add(&mut self, source: u32, operation: &Operation, asked: Asked) {
        let mut number = |value: &Value| {
            let next = Held((self.numbers.len() + self.others.len()) as u32 + 1);
            match (value, value.as_u64()) {
                (Value::Null, _) => Held::ABSENT,
                (_, Some(number)) => *self.numbers.entry(number).or_insert(next),
                (value, None) => *self.others.entry(value.to_string()).or_insert(next),
            }
        };
        let needs = asked.needs.map(&mut number);
        let makes = asked.makes.map(&mut number);
        let needs = if asked.impossible { Some(Held::IMPOSSIBLE) } else { needs };
        let ret = operation.completion_line.filter(|_| asked.must).unwrap_or(OPEN);
        let act = Act { call: operation.invoke_line, ret, needs, makes, must: asked.must, source };
        self.operations.push(act);
    }
}

/// Looks for an order of `operations`, which are in the order of their calls: by zones, and where they do not apply
/// by search.
pub fn judge(operations: &[Act], budget: Budget) -> Searched {
    let conclusion = match zones::judge(operations, OPEN) {
        Zoned::Ordered => Conclusion::Linearizable,
        Zoned::Broken(_) => Conclusion::NotLinearizable,
        Zoned::Ambiguous => return search(operations, budget),
    };
    let total = operations.iter().filter(|act| act.must).count();
    let reached = if conclusion == Conclusion::Linearizable { total } else { 0 };
    Searched { conclusion, steps: 0, reached, total }
}

/// Leaves out what need not be looked at: see the module's documentation.
pub fn needed(operations: &[Act]) -> Vec<Act> {
    let bound = |value: Held| (value != Held::IMPOSSIBLE).then_some(value.0 as usize);
    let values = operations.iter().flat_map(|act| [act.needs, act.makes]).flatten().filter_map(bound);
    let mut needs = vec![0_u32; values.max().map_or(0, |most| most + 1)];
    let place = |value: Option<Held>| value.and_then(bound);
    for at in operations.iter().filter_map(|act| place(act.needs)) {
        needs[at] += 1;
    }
    let mut kept = operations.to_vec();
    loop {
        let before = kept.len();
        kept.retain(|act| {
            let own = u32::from(act.makes == act.needs);
            let unneeded = place(act.makes).is_none_or(|at| needs[at] == own);
            if act.must || !unneeded {
                return true;
            }
            if let Some(at) = place(act.needs) {
                needs[at] -= 1;
            }
            false
        });
        if kept.len() == before {
            return kept;
        }
    }
}

/// The same operations with values counted from 1 without holes.
fn renumbered(operations: &[Act]) -> Vec<Act> {
    let values = operations.iter().flat_map(|act| [act.needs, act.makes]).flatten();
    let mut values: Vec<Held> = values.chain([Held::ABSENT]).collect();
    values.sort_unstable();
    values.dedup();
    let number = |value: Held| match value {
        Held::IMPOSSIBLE => value,
        value => Held(values.partition_point(|&other| other < value) as u32),
    };
    let renumber = |act: &Act| Act { needs: act.needs.map(number), makes: act.makes.map(number), ..*act };
    operations.iter().map(renumber).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_and_every_order_tried_agree_on_random_histories() {
        let mut lawful = 0;
        for seed in 0..20_000 {
            let operations = exhaustive::random_history(seed, 7);
            let expected = exhaustive::has_order(&operations);
            lawful += u32::from(expected);
            for operations in [operations.clone(), needed(&operations)] {
                let found = search(&operations, Budget::DEFAULT).conclusion == Conclusion::Linearizable;
                assert_eq!(found, expected, "seed {seed}: {operations:#?}");
            }
        }
        // Both kinds must be there in numbers, or the agreement says little.
        assert!((5_000..15_000).contains(&lawful), "{lawful} of 20000 have an order");
    }

    #[test]
    fn fifty_clients_on_one_key_are_judged_with_few_steps() {
        for seed in 0..6 {
            let mut operations = exhaustive::busy_history(seed, 1500, 25);
            let searched = search(&needed(&operations), Budget::DEFAULT);
            assert_eq!(searched.conclusion, Conclusion::Linearizable, "seed {seed}: {searched:?}");
            assert!(searched.steps < 20_000, "seed {seed}: {searched:?}");
            // A read late in the history of what was there long ago.
            let early = operations.iter().find_map(|operation| operation.makes.filter(|_| operation.must));
            let read = operations.iter_mut().rev().find(|operation| operation.makes.is_none());
            read.expect("there are reads").needs = early;
            let searched = search(&needed(&operations), Budget::DEFAULT);
            assert_eq!(searched.conclusion, Conclusion::NotLinearizable, "seed {seed}: {searched:?}");
        }
    }
}
