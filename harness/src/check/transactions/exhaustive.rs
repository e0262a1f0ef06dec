//! A checker so plain that one sees it is right: it tries every order. For tests of the other one.
//!
//! In: a handful of transactions. Out: whether some order explains them, and them as a history. Never: a clever step.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::history::{Ended, History, Operation};

/// A transaction as a test writes it down. Lines tell the time.
#[derive(Debug, Clone, PartialEq)]
pub struct Plain {
    pub call: u32,
    /// Of its completion, whatever it says; none: the history ends before.
    pub ret: Option<u32>,
    pub ended: Ended,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Append(u32, u32),
    Read(u32, Vec<u32>),
}

/// Tries all orders of the acknowledged ones and any of the open ones.
pub fn has_order(plain: &[Plain]) -> bool {
    let mut placed: Vec<bool> = plain.iter().map(|one| one.ended == Ended::Fail).collect();
    place(plain, &mut placed, &BTreeMap::new())
}

fn place(plain: &[Plain], placed: &mut [bool], lists: &BTreeMap<u32, Vec<u32>>) -> bool {
    let must = |placed: &[bool], at: usize| plain[at].ended == Ended::Ok && !placed[at];
    if (0..plain.len()).all(|at| !must(placed, at)) {
        return true;
    }
    for at in 0..plain.len() {
        // Nothing that is left may have ended before this one began.
        let is_before = |other: usize| plain[other].ret.is_some_and(|ret| ret < plain[at].call);
        let late = (0..plain.len()).any(|other| must(placed, other) && is_before(other));
        if placed[at] || late {
            continue;
        }
        let mut then = lists.clone();
        if carry_out(&plain[at], &mut then) {
            placed[at] = true;
            let found = place(plain, placed, &then);
            placed[at] = false;
            if found {
                return true;
            }
        }
    }
    false
}

/// False where it sees something else than an acknowledged one did.
fn carry_out(plain: &Plain, lists: &mut BTreeMap<u32, Vec<u32>>) -> bool {
    plain.steps.iter().all(|step| match step {
        Step::Append(key, value) => {
            lists.entry(*key).or_default().push(*value);
            true
        }
        Step::Read(key, seen) => plain.ended != Ended::Ok || lists.entry(*key).or_default() == seen,
    })
}

/// As clients would have recorded it, each transaction by a process of its own.
pub fn history(plain: &[Plain]) -> History {
    let mut plain: Vec<&Plain> = plain.iter().collect();
    plain.sort_by_key(|one| one.call);
    let f: Arc<str> = "txn".into();
    let value = |one: &Plain, seen: bool| -> Value {
        let step = |step: &Step| match step {
            Step::Append(key, value) => json!(["append", key, value]),
            Step::Read(key, list) if seen => json!(["r", key, list]),
            Step::Read(key, _) => json!(["r", key, null]),
        };
        one.steps.iter().map(step).collect()
    };
    let operation = |(process, one): (u64, &&Plain)| Operation {
        process,
        f: f.clone(),
        key: None,
        value: value(one, false).into(),
        result: if one.ended == Ended::Ok { value(one, true).into() } else { Value::Null.into() },
        seen: None,
        error: None,
        node: None,
        ticket: None,
        invoked_at: u64::from(one.call) * 1_000_000,
        completed_at: one.ret.map(|ret| u64::from(ret) * 1_000_000),
        ended: one.ended,
        invoke_line: one.call,
        completion_line: one.ret,
    };
    let operations: Vec<_> = (0..).zip(&plain).map(operation).collect();
    let lines = plain.iter().flat_map(|one| [Some(one.call), one.ret]).flatten().max().unwrap_or(0);
    History { operations, strikes: Vec::new(), lines }
}
