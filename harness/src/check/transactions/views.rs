//! What each transaction saw of each key, and whether that agrees with itself.
//!
//! In: [`Transactions`]. Out: a [`View`] for each key that an acknowledged transaction read, the views of a key side by
//! side. Never: a view that contradicts its own transaction; it is told, and nothing is concluded from it.

use std::ops::Range;

use serde_json::Value;

use super::anomaly::{Anomalies, Kind};
use super::micro::{Act, Micro, Transactions};
use super::words::{Words, list};
use crate::history::Ended;

/// All that one transaction saw of one key.
#[derive(Debug, Clone, Copy)]
pub struct View<'h> {
    pub transaction: u32,
    pub key: u32,
    /// How much of it was there before the transaction: its own appends do not count.
    pub base: u32,
    /// What its last read saw; its other reads are prefixes of it.
    pub list: &'h [Value],
    /// How many appends of its own followed that read.
    pub tail: u32,
}

#[derive(Debug, Default)]
pub struct Views<'h> {
    /// Those of a key side by side, in the order of their transactions' calls.
    all: Vec<View<'h>>,
    /// Of each key.
    ranges: Vec<Range<usize>>,
}

impl<'h> Views<'h> {
    pub fn of(words: Words<'_, 'h>, anomalies: &mut Anomalies) -> Views<'h> {
        let transactions = words.transactions;
        let mut all = Vec::new();
        let (mut by_key, mut own) = (Vec::new(), Vec::new());
        for at in 0..transactions.list.len() as u32 {
            if transactions.list[at as usize].ended != Ended::Ok {
                continue;
            }
            by_key.clear();
            by_key.extend_from_slice(transactions.micros(at));
            by_key.sort_by_key(|micro| micro.key);
            for micros in by_key.chunk_by(|one, other| one.key == other.key) {
                match view(at, micros, &mut own) {
                    Ok(None) => {}
                    Ok(Some(view)) => all.push(view),
                    Err(contradiction) => {
                        anomalies.add(Kind::Internal, || contradiction.tell(words, at, micros[0].key));
                    }
                }
            }
        }
        all.sort_by_key(|view| view.key);
        let ranges = ranges(&all, transactions);
        Views { all, ranges }
    }

    pub fn of_key(&self, key: u32) -> &[View<'h>] {
        &self.all[self.ranges[key as usize].clone()]
    }
}

fn ranges(views: &[View], transactions: &Transactions) -> Vec<Range<usize>> {
    let mut ranges = vec![0..0; transactions.keys.len()];
    for (at, view) in views.iter().enumerate() {
        let range = &mut ranges[view.key as usize];
        *range = if range.end == 0 { at..at + 1 } else { range.start..at + 1 };
    }
    ranges
}

/// A read that its own transaction contradicts.
struct Contradiction<'h> {
    /// What was read before it, if anything was.
    before: Option<&'h [Value]>,
    /// Appended between the two.
    own: Vec<&'h Value>,
    read: &'h [Value],
}

/// A list begins with what was there before, grows by the transaction's own appends, and by nothing else.
fn view<'h>(
    transaction: u32,
    micros: &[Micro<'h>],
    own: &mut Vec<&'h Value>,
) -> Result<Option<View<'h>>, Contradiction<'h>> {
    own.clear();
    let mut view: Option<View> = None;
    for micro in micros {
        let list = match micro.act {
            Act::Append(value) => {
                own.push(value);
                continue;
            }
            Act::Read(list) => list,
        };
        let before = view.map(|view| view.list);
        let base =
            list.len().checked_sub(own.len()).filter(|&base| list[base..].iter().eq(own.iter().copied()));
        let fits = base.is_some_and(|base| before.is_none_or(|before| before == &list[..base]));
        let Some(base) = base.filter(|_| fits) else {
            return Err(Contradiction { before, own: own.clone(), read: list });
        };
        own.clear();
        let base = view.map_or(base as u32, |view| view.base);
        view = Some(View { transaction, key: micro.key, base, list, tail: 0 });
    }
    Ok(view.map(|view| View { tail: own.len() as u32, ..view }))
}

impl Contradiction<'_> {
    fn tell(&self, words: Words, transaction: u32, key: u32) -> crate::check::verdict::Finding {
        let mut story: Vec<String> = Vec::new();
        story.extend(self.before.map(|before| format!("read {}", list(before))));
        story.extend(self.own.iter().map(|value| format!("appended {value}")));
        let (key, read) = (words.key(key), list(self.read));
        words.finding(
            format!("T1 {} {key}, and then it read {read}", story.join(" and ") + " of"),
            &[transaction],
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn micro(step: &Value) -> Micro<'_> {
        let act = step.as_array().map_or(Act::Append(step), |list| Act::Read(list));
        Micro { key: 0, act }
    }

    #[test]
    fn a_list_grows_by_the_transactions_own_appends_and_by_nothing_else() {
        // What happens: a number is appended, a list is read. Then: base and tail, if it is possible.
        let cases = [
            (json!([[]]), Some((0, 0))),
            (json!([[1, 2]]), Some((2, 0))),
            (json!([[1, 2], 3]), Some((2, 1))),
            (json!([[1, 2], 3, [1, 2, 3], 4, 5]), Some((2, 2))),
            (json!([3, [1, 2, 3], [1, 2, 3]]), Some((2, 0))),
            (json!([3, 4, [3, 4]]), Some((0, 0))),
            (json!([[1], [1, 2]]), None),
            (json!([[1], [2]]), None),
            (json!([[1], 2, [1]]), None),
            (json!([[1], 2, [2]]), None),
            (json!([[1], 2, [1, 3, 2]]), None),
            (json!([3, [1, 2]]), None),
            (json!([3, [3, 1]]), None),
            (json!([3, 4, [4]]), None),
        ];
        for (story, expected) in cases {
            let micros: Vec<Micro> = story.as_array().unwrap().iter().map(micro).collect();
            let found = view(0, &micros, &mut Vec::new()).ok().flatten();
            assert_eq!(found.map(|view| (view.base, view.tail)), expected, "{story}");
        }
    }
}
