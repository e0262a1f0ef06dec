//! What each transaction did, taken out of the history.
//!
//! In: a [`Book`] of `txn` operations whose value is a list of `["append", key, value]` and `["r", key, list]`. Out:
//! [`Transactions`], with keys as numbers, and doubts about what could not be understood. Never: an append left out
//! that may have happened, without saying so.

use std::collections::HashMap;

use serde_json::Value;

use crate::check::linearizability::{Book, OPEN};
use crate::check::verdict::{Finding, Tally};
use crate::history::{Ended, Operation};

/// A transaction, and which lines it stood between; lines are in the order of time.
#[derive(Debug, Clone, Copy)]
pub struct Transaction {
    pub call: u32,
    /// [`OPEN`] unless it was acknowledged.
    pub ret: u32,
    /// Place in the history's operations, for words.
    pub source: u32,
    pub ended: Ended,
}

/// A micro-operation.
#[derive(Debug, Clone, Copy)]
pub struct Micro<'h> {
    pub key: u32,
    pub act: Act<'h>,
}

#[derive(Debug, Clone, Copy)]
pub enum Act<'h> {
    Append(&'h Value),
    /// What an acknowledged transaction saw.
    Read(&'h [Value]),
}

#[derive(Debug, Default)]
pub struct Transactions<'h> {
    /// In the order of their calls.
    pub list: Vec<Transaction>,
    micros: Vec<Micro<'h>>,
    /// Where the micro-operations of each begin in `micros`.
    begins: Vec<u32>,
    /// Each key as the history writes it.
    pub keys: Vec<&'h Value>,
    /// Appends may be missing here: nobody can say that a value was never appended.
    pub incomplete: bool,
}

impl<'h> Transactions<'h> {
    pub fn of(book: &Book<'h>, tally: &mut Tally) -> Transactions<'h> {
        let mut transactions = Transactions::default();
        let mut names = Names::default();
        for (source, operation) in (0..).zip(&book.history.operations) {
            transactions.begins.push(transactions.micros.len() as u32);
            let acknowledged = operation.ended == Ended::Ok;
            let ret = operation.completion_line.filter(|_| acknowledged).unwrap_or(OPEN);
            let mut transaction =
                Transaction { call: operation.invoke_line, ret, source, ended: operation.ended };
            let mut doubt = |line, why: &str| {
                let told = book.witness(line, why);
                tally.doubt(Finding::new(format!("a transaction that cannot be judged: {why}"), [told]));
            };
            match asked(operation) {
                Err(why) => {
                    doubt(operation.invoke_line, why);
                    transactions.incomplete = true;
                    // Nothing is known of it.
                    transaction.ended = Ended::Fail;
                }
                Ok(asked) => {
                    let seen = if acknowledged { answered(operation) } else { None };
                    if acknowledged && seen.is_none() {
                        let line = operation.completion_line.unwrap_or(operation.invoke_line);
                        doubt(line, "it completes with other micro-operations than it was invoked with");
                        (transaction.ended, transaction.ret) = (Ended::Info, OPEN);
                    }
                    transactions.take(asked, seen, &mut names);
                }
            }
            transactions.list.push(transaction);
        }
        transactions.begins.push(transactions.micros.len() as u32);
        transactions
    }

    /// In the order in which the transaction did them; the reads of what was not acknowledged are not there.
    pub fn micros(&self, transaction: u32) -> &[Micro<'h>] {
        let [begin, end] = [0, 1].map(|more| self.begins[transaction as usize + more] as usize);
        &self.micros[begin..end]
    }

    /// Its appends to a key, in its order.
    pub fn appends(&self, transaction: u32, key: u32) -> impl Iterator<Item = &'h Value> {
        let of_key = self.micros(transaction).iter().filter(move |micro| micro.key == key);
        of_key.filter_map(|micro| match micro.act {
            Act::Append(value) => Some(value),
            Act::Read(_) => None,
        })
    }

    fn take(&mut self, asked: &'h [Value], answered: Option<&'h [Value]>, names: &mut Names) {
        for (at, micro) in asked.iter().enumerate() {
            let Some((f, key, value)) = parts(micro) else { continue };
            let seen = answered.and_then(|answered| parts(&answered[at]));
            let act = match (f, seen) {
                (F::Append, _) => Act::Append(value),
                (F::Read, None) => continue,
                // Nothing there is an empty list.
                (F::Read, Some((.., seen))) => Act::Read(seen.as_array().map_or(&[], Vec::as_slice)),
            };
            let number = names.number(0, key);
            if number as usize == self.keys.len() {
                self.keys.push(key);
            }
            self.micros.push(Micro { key: number, act });
        }
    }
}

/// Numbers from 0 for values, each within a scope; most values are small numbers, and these need no text.
#[derive(Debug, Default)]
pub struct Names {
    numbers: HashMap<(u32, u64), u32>,
    others: HashMap<(u32, String), u32>,
}

impl Names {
    pub fn number(&mut self, scope: u32, value: &Value) -> u32 {
        let next = (self.numbers.len() + self.others.len()) as u32;
        match value.as_u64() {
            Some(number) => *self.numbers.entry((scope, number)).or_insert(next),
            None => *self.others.entry((scope, value.to_string())).or_insert(next),
        }
    }

    pub fn known(&self, scope: u32, value: &Value) -> Option<u32> {
        match value.as_u64() {
            Some(number) => self.numbers.get(&(scope, number)).copied(),
            None => self.others.get(&(scope, value.to_string())).copied(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum F {
    Append,
    Read,
}

/// Of a micro-operation: what is done, to which key, with what.
fn parts(micro: &Value) -> Option<(F, &Value, &Value)> {
    match micro.as_array().map(Vec::as_slice)? {
        [f, key, value] => match f.as_str()? {
            "append" => Some((F::Append, key, value)),
            "r" if value.is_null() || value.is_array() => Some((F::Read, key, value)),
            _ => None,
        },
        _ => None,
    }
}

fn asked(operation: &Operation) -> Result<&[Value], &'static str> {
    if &*operation.f != "txn" {
        return Err("its function is not txn");
    }
    let micros = operation.value.as_array().ok_or("its value is no list of micro-operations")?;
    match micros.iter().all(|micro| parts(micro).is_some()) {
        true => Ok(micros),
        false => Err("a micro-operation is neither [\"append\", key, value] nor [\"r\", key, list]"),
    }
}

/// What it completed with, if that is what it was invoked with.
fn answered(operation: &Operation) -> Option<&[Value]> {
    let (asked, answered) = (operation.value.as_array()?, operation.result.as_array()?);
    let same = |asked: &Value, answered: &Value| match (parts(asked), parts(answered)) {
        (Some((F::Append, key, value)), Some((F::Append, key_then, value_then))) => {
            key == key_then && value == value_then
        }
        (Some((F::Read, key, _)), Some((F::Read, key_then, _))) => key == key_then,
        _ => false,
    };
    let all =
        asked.len() == answered.len() && asked.iter().zip(answered).all(|(one, other)| same(one, other));
    all.then_some(answered)
}
