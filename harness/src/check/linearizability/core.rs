//! Few operations that show why a history has no order.
//!
//! In: the operations of one key, known to have no order. Out: a [`Finding`] with a small set of them that still
//! has none, in words and as a drawing. Never: an operation left out whose absence could be the fault.
//!
//! First the shortest prefix without an order: what completes later is open in it. Then operations are left out
//! while no order appears. Leaving out must not break a history that has one, or the rest would prove nothing. A set
//! may be left out when nothing that stays needs a value made in it: in an order of all, each that stays sees what
//! the last maker before it made; that maker stays too, so the same order without the set is legal.

use std::collections::{BTreeMap, BTreeSet};

use super::search::{Budget, Conclusion, search};
use super::{Act, Held, OPEN, Register, needed};
use crate::check::evidence::{Evidence, history_witness};
use crate::check::verdict::{Finding, Witness};
use crate::history::Operation;

/// Searches made to find the core, at most: it is small enough long before.
const SEARCHES_MAX: usize = 3_000;

/// What one such search may cost; one that costs more counts as "has an order".
const BUDGET: Budget = Budget { steps: 20_000, states: 20_000 };

/// Operations drawn and told at most.
const SHOWN_MAX: usize = 16;

/// The story of one key.
pub fn finding(evidence: &Evidence, key: &str, register: &Register, operations: &[Act]) -> Finding {
    let prefix = shortest_prefix(operations);
    let core = shrink(prefix);
    let tell = |act: &Act| Told::of(evidence, act);
    let text = match &core[..] {
        [only] if only.needs.is_some() => {
            let told = tell(only);
            format!("key {key}: {} saw what nobody had written", told.what)
        }
        core => format!("key {key}: these {} operations have no order that explains them", core.len()),
    };
    let last = core.iter().map(|act| act.ret).filter(|&ret| ret != OPEN).max();
    let legal = last.map(|line| format!("; all before line {line} of the history can still be explained"));
    let mut finding = Finding::new(text + legal.as_deref().unwrap_or_default(), Vec::new());
    let whole: BTreeMap<u32, &Act> = register.operations.iter().map(|act| (act.call, act)).collect();
    for act in core.iter().take(SHOWN_MAX) {
        let told = tell(act);
        // Open in the prefix, it may have been completed after it.
        let ret = whole.get(&act.call).map_or(act.ret, |act| act.ret);
        let line = if ret == OPEN { act.call } else { ret };
        let witness: Witness = history_witness(line, format!("{}, {}", told.what, told.when));
        finding.witnesses.push(witness);
    }
    finding.drawing = draw(evidence, &core);
    finding
}

/// Those invoked up to a line, with what completes after it left open.
fn prefix(operations: &[Act], line: u32) -> Vec<Act> {
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
        let searched = search(&prefix(operations, lines[middle]), Budget::DEFAULT);
        match searched.conclusion {
            Conclusion::NotLinearizable => high = middle,
            Conclusion::Linearizable | Conclusion::OutOfBudget => low = middle + 1,
        }
    }
    match lines.get(low) {
        Some(&line) => prefix(operations, line),
        None => operations.to_vec(),
    }
}

/// Leaves out what can be left out, first by values in ever smaller lots, then one by one.
fn shrink(mut operations: Vec<Act>) -> Vec<Act> {
    let mut searches = 0;
    let mut has_none = |operations: &[Act]| {
        searches += 1;
        let searched = || search(operations, BUDGET).conclusion;
        searches <= SEARCHES_MAX && searched() == Conclusion::NotLinearizable
    };
    let values: BTreeSet<Held> = operations.iter().flat_map(|act| [act.needs, act.makes]).flatten().collect();
    let mut values: Vec<Held> = values.into_iter().collect();
    let mut lot = values.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < values.len() {
            let end = (at + lot).min(values.len());
            let rest = without_values(&operations, &values[at..end]);
            if rest.len() < operations.len() && has_none(&rest) {
                operations = rest;
                values.drain(at..end);
            } else {
                at = end;
            }
        }
        if lot == 1 {
            break;
        }
        lot = lot.div_ceil(2);
    }
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
    fn of(evidence: &Evidence, act: &Act) -> Told {
        let Some(operation) = evidence.history.operations.get(act.source as usize) else {
            return Told { what: "an operation".into(), short: String::new(), when: String::new() };
        };
        let short = short(operation);
        let from = evidence.at(operation.invoked_at);
        let when = match (act.ret, operation.completed_at) {
            (OPEN, _) | (_, None) => format!("invoked at {from}, open when the last of these completed"),
            (_, Some(t)) => format!("from {from} to {}", evidence.at(t)),
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
fn draw(evidence: &Evidence, core: &[Act]) -> Vec<String> {
    let shown = &core[..core.len().min(SHOWN_MAX)];
    let ends = shown.iter().flat_map(|act| [act.call, act.ret]).filter(|&line| line != OPEN);
    let events: BTreeSet<u32> = ends.collect();
    let step = (70 / events.len().max(1)).clamp(2, 8);
    let column = |line: u32| events.range(..line).count() * step;
    let labels: Vec<_> = shown.iter().map(|act| Told::of(evidence, act).short).collect();
    let processes = shown.iter().map(|act| {
        evidence.history.operations.get(act.source as usize).map_or(0, |operation| operation.process)
    });
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

    #[test]
    fn a_core_is_part_of_its_history_and_has_no_order_either() {
        let mut cores = 0;
        for seed in 0..4_000 {
            let operations = exhaustive::random_history(seed, 7);
            if exhaustive::has_order(&operations) {
                continue;
            }
            let prefix = shortest_prefix(&operations);
            assert!(!exhaustive::has_order(&prefix), "seed {seed}: {operations:#?}");
            let core = shrink(prefix.clone());
            assert!(!exhaustive::has_order(&core), "seed {seed}: {operations:#?}\n{core:#?}");
            assert!(core.iter().all(|act| prefix.contains(act)), "seed {seed}");
            cores += 1;
        }
        assert!(cores > 500, "{cores} histories without an order");
    }

    #[test]
    fn one_stale_read_among_many_operations_is_told_with_few() {
        let mut operations = Vec::new();
        for round in 0..300 {
            let (line, value) = (round * 4 + 1, Some(Held(round + 1)));
            let act = |call, needs, makes| Act { call, ret: call + 1, needs, makes, must: true, source: 0 };
            operations.push(act(line, None, value));
            // One read sees what was there two writes ago.
            let stale = if round == 200 { Some(Held(round - 1)) } else { value };
            operations.push(act(line + 2, stale, None));
        }
        let core = shrink(shortest_prefix(&operations));
        assert!(core.len() <= 4, "{core:#?}");
    }
}
