//! Registers with read, write, compare-and-swap and delete, absent at first.
//!
//! In: the operations of one key. Out: whether they have an order. Never: a value that is compared by its text twice.
//!
//! An operation is what it *needs* the register to hold and what it *makes* of it:
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
//! them. Else by [`search()`] with a [`machine`], within a budget.
//!
//! # How a history without an order is made smaller
//!
//! A set of operations may be left out when nothing that stays needs a value made in it: in an order of all, each that
//! stays sees what the last maker before it made; that maker stays too, so the same order without the set is legal. And
//! a compare-and-swap may be taken for a write.

#[cfg(test)]
mod exhaustive;
mod machine;
#[cfg(test)]
mod tests;
mod zone_core;
pub mod zones;

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;

use super::object::{Numbers, Object, Reduction, Span, Timed};
use super::search::{self, Budget, Searched};
use crate::history::{Ended, Operation};
use machine::RegisterMachine;
use zones::Zoned;

pub use super::object::OPEN;

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

impl Timed for Act {
    fn span(&self) -> Span {
        Span { call: self.call, ret: self.ret, must: self.must, source: self.source }
    }

    fn opened(&self) -> Option<Act> {
        self.makes.map(|_| Act { ret: OPEN, must: false, ..*self })
    }
}

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
    needs: Option<Cow<'h, Value>>,
    makes: Option<Cow<'h, Value>>,
    impossible: bool,
    must: bool,
}

impl<'h> Asked<'h> {
    fn of(operation: &'h Operation) -> Result<Option<Asked<'h>>, &'static str> {
        let must = operation.ended == Ended::Ok;
        let failed = operation.ended == Ended::Fail;
        let mut asked = Asked { needs: None, makes: None, impossible: false, must };
        match (&*operation.f, &operation.seen) {
            ("read", _) if !must => return Ok(None),
            ("read", _) => asked.needs = Some(operation.result.json()),
            ("write" | "delete", _) if failed => return Ok(None),
            ("write", _) if operation.value.is_null() => return Err("a write without a value"),
            ("write", _) => asked.makes = Some(operation.value.json()),
            ("delete", _) => asked.makes = Some(Cow::Owned(Value::Null)),
            ("cas", seen) => {
                let Some([expected, new]) = operation.value.as_array().map(Vec::as_slice) else {
                    return Err("a cas whose value is not [expected, new]");
                };
                match (failed, seen) {
                    (true, None) => return Ok(None),
                    (true, Some(seen)) => {
                        asked.needs = Some(seen.json());
                        asked.impossible = *seen == *expected;
                        asked.must = true;
                    }
                    (false, _) => {
                        (asked.needs, asked.makes) =
                            (Some(Cow::Borrowed(expected)), Some(Cow::Borrowed(new)));
                    }
                }
            }
            _ => return Err("its function is none of read, write, cas, delete"),
        }
        Ok(Some(asked))
    }
}

/// The values of one key.
#[derive(Debug, Default)]
pub struct Register {
    numbers: Numbers,
}

impl Object for Register {
    type Act = Act;

    const NAME: &'static str = "register";

    const KEYED: bool = true;

    const REDUCTIONS: &'static [Reduction<Act>] = &[
        Reduction { parts: swaps, without: as_writes },
        Reduction { parts: values, without: without_values },
        Reduction { parts: calls, without: without_calls },
    ];

    fn read(&mut self, source: u32, operation: &Operation) -> Result<Option<Act>, &'static str> {
        let Some(asked) = Asked::of(operation)? else { return Ok(None) };
        let mut number = |value: Cow<Value>| Held(self.numbers.of(&value));
        let needs = asked.needs.map(&mut number);
        let makes = asked.makes.map(&mut number);
        let needs = if asked.impossible { Some(Held::IMPOSSIBLE) } else { needs };
        let Span { call, ret, must, source } = Span::of(source, operation, asked.must);
        Ok(Some(Act { call, ret, needs, makes, must, source }))
    }

    fn needed(acts: &[Act]) -> Vec<Act> {
        needed(acts)
    }

    fn judge(acts: &[Act], budget: Budget) -> Searched {
        judge(acts, budget)
    }

    fn suspects(acts: &[Act]) -> Option<Vec<Act>> {
        let Zoned::Broken(broken) = zones::judge(acts, OPEN) else { return None };
        Some(zone_core::suspects(acts, zone_core::first_broken_line(acts, broken)))
    }

    fn tidy(acts: Vec<Act>) -> Vec<Act> {
        renumbered(&acts)
    }

    fn alone(act: &Act) -> &'static str {
        match act.needs {
            Some(Held::IMPOSSIBLE) => "did not swap, though it saw what it expected",
            _ => "saw what nobody had written",
        }
    }

    fn taken_as(act: &Act, whole: &Act) -> &'static str {
        if act.needs.is_none() && whole.needs.is_some() { " (as a write)" } else { "" }
    }
}

/// Looks for an order of `operations`, which are in the order of their calls: by zones, and where they do not apply
/// by search.
pub fn judge(operations: &[Act], budget: Budget) -> Searched {
    let total = || operations.iter().filter(|act| act.must).count();
    match zones::judge(operations, OPEN) {
        Zoned::Ordered => Searched::decided(true, total()),
        Zoned::Broken(_) => Searched::decided(false, total()),
        Zoned::Ambiguous => search(operations, budget),
    }
}

/// Looks for an order by search alone.
pub fn search(operations: &[Act], budget: Budget) -> Searched {
    let spans: Vec<Span> = operations.iter().map(Timed::span).collect();
    search::search(&spans, RegisterMachine::new(operations), budget)
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

/// The calls of swaps.
fn swaps(operations: &[Act]) -> Vec<u32> {
    operations.iter().filter(|act| act.needs.is_some() && act.makes.is_some()).map(|act| act.call).collect()
}

/// Takes the swaps of these calls for writes.
fn as_writes(operations: &[Act], calls: &[u32]) -> Vec<Act> {
    let weaken = |act: &Act| match act.makes {
        Some(_) if calls.contains(&act.call) => Act { needs: None, ..*act },
        _ => *act,
    };
    operations.iter().map(weaken).collect()
}

fn values(operations: &[Act]) -> Vec<u32> {
    let values = operations.iter().flat_map(|act| [act.needs, act.makes]).flatten();
    values.map(|value| value.0).collect::<BTreeSet<u32>>().into_iter().collect()
}

/// Leaves out all that need or make these values, and whatever needs what they make.
fn without_values(operations: &[Act], values: &[u32]) -> Vec<Act> {
    let mut gone: BTreeSet<Held> = values.iter().map(|&value| Held(value)).collect();
    let touched = |act: &Act, gone: &BTreeSet<Held>| {
        let of = |value: Option<Held>| value.is_some_and(|value| gone.contains(&value));
        of(act.needs) || of(act.makes)
    };
    loop {
        let before = gone.len();
        for act in operations {
            if touched(act, &gone) {
                gone.extend(act.makes);
            }
        }
        if gone.len() == before {
            break;
        }
    }
    operations.iter().filter(|act| !touched(act, &gone)).copied().collect()
}

fn calls(operations: &[Act]) -> Vec<u32> {
    operations.iter().map(|act| act.call).collect()
}

/// Leaves out the operations of these calls, if no other needs what they make.
fn without_calls(operations: &[Act], calls: &[u32]) -> Vec<Act> {
    let (gone, stay): (Vec<Act>, Vec<Act>) = operations.iter().partition(|act| calls.contains(&act.call));
    let made: BTreeSet<Held> = gone.iter().filter_map(|act| act.makes).collect();
    let is_needed = stay.iter().any(|act| act.needs.is_some_and(|value| made.contains(&value)));
    if is_needed { operations.to_vec() } else { stay }
}
