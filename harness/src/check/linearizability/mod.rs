//! Clients cannot tell the cluster from one machine that does one operation at a time.
//!
//! In: the clients' history. Out: a verdict with, per key that fails, few operations that no order explains.
//! Never: what nodes say of themselves; a verdict from a search that was not finished.
//!
//! Each key is an object of its own. Linearizability is local (Herlihy & Wing 1990, theorem 1): a history is
//! linearizable when that of each key is, so each key is judged by itself, several at a time. What an object is, and
//! how quickly one can tell, stands with each kind:
//!
//! | object | decided by |
//! |---|---|
//! | [`register`] | zones in O(n log n) where each value seen was made once, else the search |
//! | [`set`] | the chain of what was read, in time linear in that |
//! | [`counter`] | bounds in O(n log n), then the search, which has no choice where all adds are alike |
//! | [`queue`] | patterns in O(n log n) where no value is enqueued twice, else (see there) the search |
//! | [`lock`] | zones in O(n log n) where an owner's operations do not overlap, else the search |

mod core;
pub mod counter;
pub mod lock;
pub mod object;
mod parallel;
pub mod queue;
pub mod register;
pub mod search;
pub mod set;
mod timeline;
#[cfg(test)]
mod trials;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::evidence::{Evidence, seconds_since};
use super::verdict::{FINDINGS_MAX, Finding, Tally, Verdict, Witness, count};
use crate::history::History;
pub use object::OPEN;
use object::{Object, Timed};
use parallel::in_parallel;
use search::{Budget, Conclusion, Searched};

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

impl<'h> Book<'h> {
    /// Of a run.
    pub fn of(evidence: &'h Evidence) -> Book<'h> {
        Book { history: &evidence.history, file: "history.jsonl", lines: None, epoch_ns: evidence.epoch_ns }
    }

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

/// Judges a history of one kind of object, each key by itself.
pub fn judge_objects<O: Object>(book: &Book) -> Verdict {
    let mut tally = Tally::default();
    let keys = by_key::<O>(book, &mut tally);
    let judged = in_parallel(
        &keys,
        |(_, acts)| acts.len(),
        |(_, acts)| {
            let needed = O::needed(acts);
            (acts.len() - needed.len(), O::judge(&needed, Budget::of(needed.len())))
        },
    );
    let is_violated = |searched: &Searched| searched.conclusion == Conclusion::NotLinearizable;
    let violated = keys.iter().zip(&judged).filter(|(_, (_, searched))| is_violated(searched));
    // Those after are counted, and not told.
    let violated: Vec<_> = violated.map(|(key, _)| key).collect();
    let told = &violated[..violated.len().min(FINDINGS_MAX)];
    let findings = in_parallel(
        told,
        |(_, acts)| acts.len(),
        |(key, acts)| core::finding::<O>(book, key, acts, &O::needed(acts)),
    );
    findings.into_iter().for_each(|finding| tally.violated(finding));
    for (key, _) in &violated[told.len()..] {
        tally.violated(Finding::new(format!("{}no order explains its operations", of(key)), []));
    }
    let mut dropped = 0;
    for ((key, acts), (left_out, searched)) in keys.iter().zip(&judged) {
        tally.examined += acts.iter().filter(|act| act.span().must).count() as u64;
        dropped += left_out;
        if searched.conclusion == Conclusion::OutOfBudget {
            let Searched { steps, reached, total, .. } = searched;
            let text = format!(
                "{}the search gave up after {steps} steps; it had ordered {reached} of {total} operations",
                of(key)
            );
            let last = acts.last().map(|last| book.witness(last.span().call, "the key's last operation"));
            tally.doubt(Finding::new(text, last.into_iter().collect::<Vec<_>>()));
        }
    }
    tally.verdict(&format!("no operation on a {} was acknowledged", O::NAME), |examined| {
        let keys = count(keys.len() as u64, "key");
        format!("{examined} operations on {keys} have an order ({dropped} open ones, unobserved, left out)")
    })
}

/// Each key's operations, in the order of their calls.
fn by_key<O: Object>(book: &Book, tally: &mut Tally) -> Vec<(Arc<str>, Vec<O::Act>)> {
    let mut keys: BTreeMap<Arc<str>, (O, Vec<O::Act>)> = BTreeMap::new();
    let nameless: Arc<str> = "".into();
    for (source, operation) in (0..).zip(&book.history.operations) {
        let read = match operation.key.as_ref().or((!O::KEYED).then_some(&nameless)) {
            // Most operations are on a key that is there already; its name is not counted up for that.
            Some(key) => {
                if !keys.contains_key(key) {
                    keys.insert(key.clone(), Default::default());
                }
                let Some((object, acts)) = keys.get_mut(key) else { continue };
                object.read(source, operation).map(|act| acts.extend(act))
            }
            None => O::default()
                .read(source, operation)
                .and_then(|act| act.map_or(Ok(()), |_| Err("it has no key"))),
        };
        if let Err(why) = read {
            let told = book.witness(operation.invoke_line, why);
            tally.doubt(Finding::new(format!("an operation that no {} has: {why}", O::NAME), [told]));
        }
    }
    let asked = keys.into_iter().filter(|(_, (_, acts))| !acts.is_empty());
    asked.map(|(key, (_, acts))| (key, acts)).collect()
}

/// `key k1: `; nothing where there is one object without a name.
fn of(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("key {key}: ") }
}
