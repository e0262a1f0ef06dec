//! Transactions in words and as a drawing.
//!
//! In: which transactions a finding is about. Out: a [`Finding`] that calls them T1, T2, ... in that order, with the
//! line of each. Never: a list of a thousand elements in full.

use serde_json::Value;

use super::micro::{Act, Transactions};
use crate::check::linearizability::{Book, OPEN};
use crate::check::timeline::{Row, draw};
use crate::check::verdict::Finding;

/// Elements of a list told at most: the last ones.
const ELEMENTS_MAX: usize = 8;

/// Transactions of one finding told at most.
const SHOWN_MAX: usize = 16;

#[derive(Debug, Clone, Copy)]
pub struct Words<'b, 'h> {
    pub book: &'b Book<'h>,
    pub transactions: &'b Transactions<'h>,
}

impl<'h> Words<'_, 'h> {
    /// The text speaks of T1, T2, ...: these transactions.
    pub fn finding(&self, text: String, transactions: &[u32]) -> Finding {
        let shown = &transactions[..transactions.len().min(SHOWN_MAX)];
        let witness = |(at, &transaction): (usize, &u32)| {
            let Line { call, ret, .. } = self.line(transaction);
            let (what, when) = (self.what(transaction), self.when(transaction));
            self.book.witness(if ret == OPEN { call } else { ret }, format!("T{}: {what}, {when}", at + 1))
        };
        let witnesses: Vec<_> = shown.iter().enumerate().map(witness).collect();
        let mut finding = Finding::new(text, witnesses);
        if transactions.len() > 1 {
            let row = |(at, &transaction): (usize, &u32)| {
                let Line { call, ret, process } = self.line(transaction);
                let label = format!("T{} p{process} {}", at + 1, self.micros(transaction));
                Row { label, call, ret: (ret != OPEN).then_some(ret) }
            };
            let rows: Vec<_> = shown.iter().enumerate().map(row).collect();
            finding.drawing = draw(&rows, transactions.len() - shown.len());
        }
        finding
    }

    pub fn key(&self, key: u32) -> String {
        match self.transactions.keys.get(key as usize) {
            Some(Value::String(name)) => format!("key {name}"),
            Some(name) => format!("key {name}"),
            None => "a key".to_owned(),
        }
    }

    /// `line 12, +1.300 s`: when it was invoked.
    pub fn invoked(&self, transaction: u32) -> String {
        let Line { call, .. } = self.line(transaction);
        let at = self.operation(transaction).map(|operation| self.book.at(operation.invoked_at));
        format!("line {}, {}", self.book.line(call), at.unwrap_or_default())
    }

    /// `line 12, +1.300 s`: when it was acknowledged.
    pub fn completed(&self, transaction: u32) -> String {
        let Line { ret, .. } = self.line(transaction);
        let at = self.operation(transaction).and_then(|operation| operation.completed_at);
        format!("line {}, {}", self.book.line(ret), at.map(|t| self.book.at(t)).unwrap_or_default())
    }

    fn line(&self, transaction: u32) -> Line {
        let told = self.transactions.list[transaction as usize];
        let process = self.operation(transaction).map_or(0, |operation| operation.process);
        Line { call: told.call, ret: told.ret, process }
    }

    fn operation(&self, transaction: u32) -> Option<&'h crate::history::Operation> {
        let source = self.transactions.list[transaction as usize].source;
        self.book.history.operations.get(source as usize)
    }

    fn what(&self, transaction: u32) -> String {
        let Some(operation) = self.operation(transaction) else { return String::new() };
        let asked = operation.node.as_deref().map_or_else(String::new, |node| format!(" asked of {node}"));
        format!("process {}'s {}{asked}", operation.process, self.micros(transaction))
    }

    fn when(&self, transaction: u32) -> String {
        let Some(operation) = self.operation(transaction) else { return String::new() };
        let from = self.book.at(operation.invoked_at);
        match (operation.ended, operation.completed_at) {
            (crate::history::Ended::Ok, Some(t)) => format!("from {from} to {}", self.book.at(t)),
            (crate::history::Ended::Fail, _) => format!("invoked at {from}, failed for certain"),
            _ => format!("invoked at {from}, its outcome unknown"),
        }
    }

    /// `append 4 7, r 2 [1 2]`
    fn micros(&self, transaction: u32) -> String {
        let tell = |micro: &super::micro::Micro| {
            let key = self.transactions.keys[micro.key as usize];
            match micro.act {
                Act::Append(value) => format!("append {} {}", bare(key), bare(value)),
                Act::Read(seen) => format!("r {} {}", bare(key), list(seen)),
            }
        };
        let micros = self.transactions.micros(transaction);
        let mut told: Vec<_> = micros.iter().take(ELEMENTS_MAX).map(tell).collect();
        if micros.len() > ELEMENTS_MAX {
            told.push(format!("... {} more", micros.len() - ELEMENTS_MAX));
        }
        told.join(", ")
    }
}

struct Line {
    call: u32,
    ret: u32,
    process: u64,
}

/// As Jepsen writes it, and of a long one the end: `[... 41 42 43]`.
pub fn list(values: &[Value]) -> String {
    let skipped = values.len().saturating_sub(ELEMENTS_MAX);
    let dots = (skipped > 0).then(|| "...".to_owned());
    let told: Vec<String> = dots.into_iter().chain(values[skipped..].iter().map(bare)).collect();
    format!("[{}]", told.join(" "))
}

/// A value, and a string without its quotes.
pub fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
