//! Few operations that show why a history has no order.
//!
//! In: the operations of one key, known to have no order. Out: a [`Finding`] with a small set of them that still
//! has none, in words and as a drawing. Never: an operation left out whose absence could be the fault.
//!
//! First the shortest prefix without an order: what completes later is open in it. Where zones judge, the few
//! operations around its last line are taken from them. Then operations are left out while no order appears. Leaving
//! out must not break a history that has one, or the rest would prove nothing. A set may be left out when nothing
//! that stays needs a value made in it: in an order of all, each that stays sees what the last maker before it made;
//! that maker stays too, so the same order without the set is legal. And a compare-and-swap may be taken for a write.

use std::collections::{BTreeMap, BTreeSet};

use super::search::{Budget, Conclusion};
use super::zones::{self, Zoned};
use super::{Act, Book, Held, OPEN, Register, judge, needed, of, renumbered, zone_core};
use crate::check::verdict::Finding;
use crate::history::Operation;

/// How often an operation is looked at to find the core, at most: it is small enough long before.
const LOOKS_MAX: usize = 30_000_000;

/// What one search may cost for that; one that costs more counts as "has an order".
const BUDGET: Budget = Budget { steps: 20_000, states: 20_000 };

/// Operations drawn and told at most.
const SHOWN_MAX: usize = 16;

/// The story of one key.
pub fn finding(book: &Book, key: &str, register: &Register, operations: &[Act]) -> Finding {
    let core = core(operations);
    let tell = |act: &Act| Told::of(book, act);
    let text = match &core[..] {
        [only] if only.needs.is_some() => {
            let told = tell(only);
            format!("{}{} saw what nobody had written", of(key), told.what)
        }
        core => format!("{}these {} operations have no order that explains them", of(key), core.len()),
    };
    let last = core.iter().map(|act| act.ret).filter(|&ret| ret != OPEN).max();
    let legal = last
        .map(|entry| format!("; all before line {} of the history can still be explained", book.line(entry)));
    let mut finding = Finding::new(text + legal.as_deref().unwrap_or_default(), Vec::new());
    let shown: BTreeSet<u32> = core.iter().map(|act| act.call).collect();
    let whole = register.operations.iter().filter(|act| shown.contains(&act.call));
    let whole: BTreeMap<u32, &Act> = whole.map(|act| (act.call, act)).collect();
    for act in core.iter().take(SHOWN_MAX) {
        let told = tell(act);
        let whole = whole.get(&act.call).copied().unwrap_or(act);
        // Open in the prefix, it may have been completed after it.
        let line = if whole.ret == OPEN { act.call } else { whole.ret };
        let as_write = if act.needs == whole.needs || act.needs.is_some() { "" } else { " (as a write)" };
        let witness = book.witness(line, format!("{}{as_write}, {}", told.what, told.when));
        finding.witnesses.push(witness);
    }
    finding.drawing = draw(book, &core);
    finding
}

/// A small part that has no order either, and completes with the shortest prefix that has none.
fn core(operations: &[Act]) -> Vec<Act> {
    match zones::judge(operations, OPEN) {
        Zoned::Broken(broken) => {
            let line = zone_core::first_broken_line(operations, broken);
            shrink(zone_core::suspects(operations, line))
        }
        Zoned::Ordered | Zoned::Ambiguous => shrink(shortest_prefix(operations)),
    }
}

/// Those invoked up to a line, with what completes after it left open.
pub fn prefix(operations: &[Act], line: u32) -> Vec<Act> {
    let begun = operations.iter().filter(|act| act.call <= line);
    let cut = begun.filter_map(|act| match act.ret {
        ret if ret <= line => Some(*act),
        _ if act.makes.is_none() => None,
        _ => Some(Act { ret: OPEN, must: false, ..*act }),
    });
    needed(&cut.collect::<Vec<_>>())
}

/// A history that has an order has one for each prefix; so the first prefix without is found by halving.
fn shortest_prefix(operations: &[Act]) -> Vec<Act> {
    let mut lines: Vec<u32> = operations.iter().map(|act| act.ret).filter(|&ret| ret != OPEN).collect();
    lines.sort_unstable();
    let (mut low, mut high) = (0, lines.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match judge(&prefix(operations, lines[middle]), Budget::DEFAULT).conclusion {
            Conclusion::NotLinearizable => high = middle,
            Conclusion::Linearizable | Conclusion::OutOfBudget => low = middle + 1,
        }
    }
    match lines.get(low) {
        Some(&line) => prefix(operations, line),
        None => operations.to_vec(),
    }
}

/// Takes swaps for writes and leaves out what can be left out: first in ever smaller lots, then one by one.
fn shrink(operations: Vec<Act>) -> Vec<Act> {
    let mut operations = renumbered(&operations);
    let mut looks = 0;
    let mut has_none = |operations: &[Act]| {
        looks += operations.len();
        looks <= LOOKS_MAX && judge(operations, BUDGET).conclusion == Conclusion::NotLinearizable
    };
    let swaps = operations.iter().filter(|act| act.needs.is_some() && act.makes.is_some());
    let swaps: Vec<u32> = swaps.map(|act| act.call).collect();
    by_lots(&mut operations, swaps, as_writes, &mut has_none);
    let values: BTreeSet<Held> = operations.iter().flat_map(|act| [act.needs, act.makes]).flatten().collect();
    by_lots(&mut operations, values.into_iter().collect(), without_values, &mut has_none);
    let mut at = operations.len();
    while at > 0 {
        at -= 1;
        let makes = operations[at].makes;
        let needed_by = |(other, act): (usize, &Act)| other != at && act.needs == makes;
        if makes.is_some() && operations.iter().enumerate().any(needed_by) {
            continue;
        }
        let mut rest = operations.clone();
        rest.remove(at);
        if has_none(&rest) {
            operations = rest;
            // A write may have lost its last reader.
            at = operations.len();
        }
    }
    operations
}

/// Makes the operations smaller by one lot of `parts` after the other, as long as they have no order.
fn by_lots<T>(
    operations: &mut Vec<Act>,
    mut parts: Vec<T>,
    smaller: fn(&[Act], &[T]) -> Vec<Act>,
    has_none: &mut impl FnMut(&[Act]) -> bool,
) {
    let mut lot = parts.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < parts.len() {
            let end = (at + lot).min(parts.len());
            let rest = smaller(operations, &parts[at..end]);
            if rest != *operations && has_none(&rest) {
                *operations = rest;
                parts.drain(at..end);
            } else {
                at = end;
            }
        }
        if lot == 1 {
            return;
        }
        lot = lot.div_ceil(2);
    }
}

/// Takes the swaps of these calls for writes.
fn as_writes(operations: &[Act], calls: &[u32]) -> Vec<Act> {
    let weaken = |act: &Act| match act.makes {
        Some(_) if calls.contains(&act.call) => Act { needs: None, ..*act },
        _ => *act,
    };
    operations.iter().map(weaken).collect()
}

/// Leaves out all that need or make these values, and whatever needs what they make.
fn without_values(operations: &[Act], values: &[Held]) -> Vec<Act> {
    let mut gone: BTreeSet<Held> = values.iter().copied().collect();
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

/// An operation in words.
struct Told {
    /// `process 4's read of 17`
    what: String,
    short: String,
    when: String,
}

impl Told {
    fn of(book: &Book, act: &Act) -> Told {
        let Some(operation) = book.history.operations.get(act.source as usize) else {
            return Told { what: "an operation".into(), short: String::new(), when: String::new() };
        };
        let short = short(operation);
        let from = book.at(operation.invoked_at);
        let when = match (act.ret, operation.completed_at) {
            (OPEN, _) | (_, None) => format!("invoked at {from}, open when the last of these completed"),
            (_, Some(t)) => format!("from {from} to {}", book.at(t)),
        };
        let asked = operation.node.as_deref().map_or_else(String::new, |node| format!(" asked of {node}"));
        Told { what: format!("process {}'s {short}{asked}", operation.process), short, when }
    }
}

/// `write 17`, `read 17`, `cas 17 to 18`, `cas of 17 saw 16`
fn short(operation: &Operation) -> String {
    let pair = operation.value.as_array().map(Vec::as_slice);
    match (&*operation.f, &operation.seen, pair) {
        ("read", ..) => format!("read {}", operation.result),
        ("cas", Some(seen), Some([expected, _])) => format!("cas of {expected} saw {seen}"),
        ("cas", None, Some([expected, new])) => format!("cas {expected} to {new}"),
        ("delete", ..) => "delete".to_owned(),
        (f, ..) => format!("{f} {}", operation.value),
    }
}

/// One row an operation; time runs to the right, in steps from one event to the next.
fn draw(book: &Book, core: &[Act]) -> Vec<String> {
    let shown = &core[..core.len().min(SHOWN_MAX)];
    let ends = shown.iter().flat_map(|act| [act.call, act.ret]).filter(|&line| line != OPEN);
    let events: BTreeSet<u32> = ends.collect();
    let step = (70 / events.len().max(1)).clamp(2, 8);
    let column = |line: u32| events.range(..line).count() * step;
    let labels: Vec<_> = shown.iter().map(|act| Told::of(book, act).short).collect();
    let processes = shown
        .iter()
        .map(|act| book.history.operations.get(act.source as usize).map_or(0, |operation| operation.process));
    let labels: Vec<_> =
        processes.zip(labels).map(|(process, short)| format!("p{process} {short}")).collect();
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).min(36);
    let row = |(act, label): (&Act, &String)| {
        let begin = column(act.call);
        let (end, close) = match act.ret {
            OPEN => (column(OPEN), "- ?"),
            ret => (column(ret), "|"),
        };
        let label: String = label.chars().take(width).collect();
        let bar = "-".repeat(end.saturating_sub(begin + 1));
        format!("{label:width$}  {}|{bar}{close}", " ".repeat(begin))
    };
    let mut rows: Vec<String> = shown.iter().zip(&labels).map(row).collect();
    if core.len() > shown.len() {
        rows.push(format!("... and {} more", core.len() - shown.len()));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::exhaustive;
    use super::*;

    /// Seen as less: left out, or a swap taken for a write.
    fn is_part(core: &[Act], whole: &[Act]) -> bool {
        core.iter().all(|act| {
            let same = whole.iter().find(|other| other.call == act.call);
            same.is_some_and(|other| {
                let lax = act.needs.is_none() && act.makes.is_some();
                (act.ret, act.must) == (other.ret, other.must)
                    && act.makes.is_some() == other.makes.is_some()
                    && (lax || act.needs.is_some() == other.needs.is_some())
            })
        })
    }

    #[test]
    fn a_core_is_part_of_its_history_and_has_no_order_either() {
        let (mut cores, mut of_zones) = (0, 0);
        for seed in 0..6_000 {
            let operations = exhaustive::random_history(seed, 7);
            if exhaustive::has_order(&operations) {
                continue;
            }
            let prefix = shortest_prefix(&operations);
            assert!(!exhaustive::has_order(&prefix), "seed {seed}: {operations:#?}");
            let core = core(&operations);
            assert!(!exhaustive::has_order(&core), "seed {seed}: {operations:#?}\n{core:#?}");
            assert!(is_part(&core, &prefix), "seed {seed}: {prefix:#?}\n{core:#?}");
            // Both end with the line that shows it first.
            let last = |acts: &[Act]| acts.iter().map(|act| act.ret).filter(|&ret| ret != OPEN).max();
            assert_eq!(last(&core), last(&prefix), "seed {seed}: {operations:#?}");
            // Nothing more can be left out.
            for at in 0..core.len() {
                let mut rest = core.clone();
                let gone = rest.remove(at);
                let bare = gone.makes.is_some() && rest.iter().any(|act| act.needs == gone.makes);
                assert!(bare || exhaustive::has_order(&rest), "seed {seed}: {core:#?}");
            }
            cores += 1;
            of_zones += u32::from(matches!(zones::judge(&operations, OPEN), Zoned::Broken(_)));
        }
        assert!(cores > 1_000 && of_zones > 500, "{cores} histories without an order, {of_zones} by zones");
    }

    #[test]
    fn one_stale_read_among_many_operations_is_told_with_at_most_four() {
        for seed in 0..60 {
            let mut operations = exhaustive::busy_history(seed, 600, 2 + seed as u32 % 20);
            exhaustive::make_one_stale(&mut operations, seed as usize % 5);
            if matches!(zones::judge(&operations, OPEN), Zoned::Broken(_)) {
                let core = core(&operations);
                assert!(core.len() <= 4, "seed {seed}: {core:#?}");
            }
        }
    }

    #[test]
    fn a_stale_read_after_a_long_chain_of_swaps_is_told_with_three() {
        let act = |call: u32, needs, makes| Act { call, ret: call + 1, needs, makes, must: true, source: 0 };
        let mut operations = vec![act(1, None, Some(Held(1)))];
        operations.extend((1..2_000).map(|at| act(2 * at + 1, Some(Held(at)), Some(Held(at + 1)))));
        for stale in [1, 700, 1_999] {
            let mut operations = operations.clone();
            operations.push(act(5_000, Some(Held(stale)), None));
            let core = core(&operations);
            assert_eq!(core.len(), 3, "{core:#?}");
        }
    }
}
