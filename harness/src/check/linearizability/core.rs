//! Few operations that show why a history has no order.
//!
//! In: the operations of one key, known to have no order. Out: a [`Finding`] with a small set of them that still
//! has none, in words and as a drawing. Never: an operation left out whose absence could be the fault.
//!
//! First the shortest prefix without an order: what completes later is open in it. Where an object has a quick way, it
//! names a few operations around its last line. Then the history is made smaller while no order appears, in the ways the
//! kind of object allows: none of them breaks a history that has an order, or the rest would prove nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::object::{OPEN, Object, Reduction, Timed};
use super::search::{Budget, Conclusion};
use super::timeline::{Row, draw};
use super::{Book, of};
use crate::check::verdict::Finding;

/// How often an operation is looked at to find the core, at most: it is small enough long before.
const LOOKS_MAX: usize = 30_000_000;

/// What one search may cost for that; one that costs more counts as "has an order".
const BUDGET: Budget = Budget { steps: 20_000, states: 20_000 };

/// Operations drawn and told at most.
const SHOWN_MAX: usize = 16;

/// The story of one key: `whole` are its operations, `acts` those of them that were judged.
pub fn finding<O: Object>(book: &Book, key: &str, whole: &[O::Act], acts: &[O::Act]) -> Finding {
    let (core, last) = core::<O>(acts);
    let core = O::gathered(core);
    let shown: BTreeSet<u32> = core.iter().map(|act| act.span().call).collect();
    let whole = whole.iter().filter(|act| shown.contains(&act.span().call));
    let whole: BTreeMap<u32, &O::Act> = whole.map(|act| (act.span().call, act)).collect();
    let whole = |act: &'_ O::Act| whole.get(&act.span().call).copied();
    let row = |act: &O::Act| row::<O>(book, &core, act, whole(act).unwrap_or(act));
    let text = match &core[..] {
        [only] => format!("{}{} {}", of(key), row(only).what(), O::alone(only)),
        core => format!("{}these {} operations have no order that explains them", of(key), core.len()),
    };
    let legal = last
        .map(|entry| format!("; all before line {} of the history can still be explained", book.line(entry)));
    let mut finding = Finding::new(text + legal.as_deref().unwrap_or_default(), Vec::new());
    let rows: Vec<Row> = core.iter().take(SHOWN_MAX).map(row).collect();
    for (row, act) in rows.iter().zip(&core) {
        let whole = whole(act).unwrap_or(act);
        // Open in the prefix, it may have been completed after it.
        let line = if whole.span().ret == OPEN { act.span().call } else { whole.span().ret };
        let text = format!("{}{}, {}", row.what(), O::taken_as(act, whole), row.when);
        finding.witnesses.push(book.witness(line, text));
    }
    finding.drawing = draw(&rows);
    if core.len() > rows.len() {
        finding.drawing.push(format!("... and {} more", core.len() - rows.len()));
    }
    finding
}

fn row<O: Object>(book: &Book, core: &[O::Act], act: &O::Act, whole: &O::Act) -> Row {
    let span = act.span();
    let short = |operation: &_| O::short(book.history, core, act, whole, operation);
    Row::of(book, span, book.history.operations.get(span.source as usize).map(short).unwrap_or_default())
}

/// A small part that has no order either, and the line that completes the shortest prefix without one.
pub fn core<O: Object>(acts: &[O::Act]) -> (Vec<O::Act>, Option<u32>) {
    let suspects = O::suspects(acts).unwrap_or_else(|| shortest_prefix::<O>(acts));
    let last = suspects.iter().map(|act| act.span().ret).filter(|&ret| ret != OPEN).max();
    (shrink::<O>(suspects), last)
}

/// Those invoked up to a line, with what completes after it left open.
pub fn prefix<O: Object>(acts: &[O::Act], line: u32) -> Vec<O::Act> {
    let begun = acts.iter().filter(|act| act.span().call <= line);
    let cut = begun.filter_map(|act| if act.span().ret <= line { Some(act.clone()) } else { act.opened() });
    O::needed(&cut.collect::<Vec<_>>())
}

/// A history that has an order has one for each prefix; so the first prefix without is found by halving.
pub fn shortest_prefix<O: Object>(acts: &[O::Act]) -> Vec<O::Act> {
    let mut lines: Vec<u32> = acts.iter().map(|act| act.span().ret).filter(|&ret| ret != OPEN).collect();
    lines.sort_unstable();
    let (mut low, mut high) = (0, lines.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match O::judge(&prefix::<O>(acts, lines[middle]), Budget::of(middle)).conclusion {
            Conclusion::NotLinearizable => high = middle,
            Conclusion::Linearizable | Conclusion::OutOfBudget => low = middle + 1,
        }
    }
    match lines.get(low) {
        Some(&line) => prefix::<O>(acts, line),
        None => acts.to_vec(),
    }
}

/// Leaves out what can be left out, until nothing more can.
fn shrink<O: Object>(acts: Vec<O::Act>) -> Vec<O::Act> {
    let mut acts = O::tidy(acts);
    let mut looks = 0;
    let mut has_none = |acts: &[O::Act]| {
        looks += acts.iter().map(Timed::weight).sum::<usize>() + 1;
        looks <= LOOKS_MAX && O::judge(acts, BUDGET).conclusion == Conclusion::NotLinearizable
    };
    let mut is_smaller = true;
    while std::mem::take(&mut is_smaller) {
        for reduction in O::REDUCTIONS {
            is_smaller |= by_lots(&mut acts, reduction, &mut has_none);
        }
    }
    acts
}

/// Leaves out one lot of parts after the other as long as there is no order: ever smaller lots, then one by one.
fn by_lots<A: Timed>(
    acts: &mut Vec<A>,
    reduction: &Reduction<A>,
    has_none: &mut impl FnMut(&[A]) -> bool,
) -> bool {
    let mut parts = (reduction.parts)(acts);
    let mut lot = parts.len().div_ceil(2).max(1);
    let mut is_smaller = false;
    loop {
        // What comes late is what shows the fault, so what comes first is tried last.
        let mut end = parts.len();
        while end > 0 {
            let begin = end.saturating_sub(lot);
            let rest = (reduction.without)(acts, &parts[begin..end]);
            if rest != *acts && has_none(&rest) {
                *acts = rest;
                parts.drain(begin..end);
                is_smaller = true;
            }
            end = begin;
        }
        if lot == 1 {
            return is_smaller;
        }
        lot = lot.div_ceil(2);
    }
}
