//! Money moves between accounts and is never made or lost.
//!
//! In: `read`s of all balances and `transfer`s between two accounts. Out: a verdict. Never: a read called wrong that
//! some order of the transfers explains.
//!
//! # What is checked
//!
//! 1. Each read sees the same accounts, their sum is that of the first read, and none is below zero. These are the
//!    checks of Jepsen's bank.
//! 2. Real time. For a read and an account, *before* is the sum of what transfers did to the account that were
//!    acknowledged before the read was invoked; they are part of what it saw. Those invoked before it completed, and not
//!    acknowledged before it was invoked, *may* be part of it: they move the balance by something between their sum of
//!    withdrawals and their sum of deposits. So the balance less *before*, less what may have been done, bounds what the
//!    account held at first: from each read an interval. At first it held one amount; so all intervals of an account
//!    have a point in common, or no order explains them. Two reads that have none are named.
//!
//! The second finds an acknowledged transfer that was lost, a failed one that was done, a transfer done twice, and a
//! read of an older state, as soon as more was moved than what was under way at the two reads.
//!
//! # What it cannot see
//!
//! The sums of an account are looked at, not which transfers make them up: to look for those is to look for subsets of
//! a given sum, for which no fast way is known. So a wrong order that no sum shows is not seen; and each transfer of
//! unknown outcome widens the intervals of its two accounts for all reads after it.
//!
//! Cost: O(n log n + the size of all reads).

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::check::linearizability::{Book, OPEN};
use crate::check::verdict::{Finding, Tally, Verdict, count};
use crate::history::{Ended, Operation};

/// So many reads apart are looked at for two that exclude each other.
const APART_MAX: usize = 64;

/// Findings of one kind, told at most.
const SHOWN_MAX: usize = 3;

/// Transfers between two reads, told at most: of more of them none says anything.
const BETWEEN_MAX: usize = 4;

/// Reads see a constant total, and balances that the transfers of their time explain.
///
/// Reads: the operations `read` and `transfer` of a history. Fails: see the file's documentation. Unknown: a value is no
/// balance or transfer, or no read was acknowledged. `total` is that of the first read where it is not given.
pub fn judge_bank(book: &Book, total: Option<i64>) -> Verdict {
    let mut tally = Tally::default();
    let bank = Bank::of(book, &mut tally);
    let mut flaws = Flaws { book, kinds: BTreeMap::new() };
    let expected = total.map(i128::from).or_else(|| bank.reads.first().map(Read::total));
    for read in &bank.reads {
        bank.look_at(read, expected.unwrap_or_default(), &mut flaws);
    }
    if !bank.incomplete {
        bank.compare(&mut flaws);
    }
    flaws.into_tally(&mut tally);
    tally.examined = bank.reads.len() as u64;
    tally.verdict("no read of the accounts was acknowledged", |examined| {
        let (accounts, transfers) = (bank.accounts.len() as u64, bank.transfers.len() as u64);
        format!(
            "{} of {} hold {} in sum, and {transfers} transfers explain them",
            count(examined, "read"),
            count(accounts, "account"),
            expected.unwrap_or_default()
        )
    })
}

/// Lines are in the order of time.
struct Read<'h> {
    operation: &'h Operation,
    call: u32,
    ret: u32,
    /// By number of the account; each has one, or the read is not compared with others.
    balances: Vec<Option<i64>>,
    /// Of accounts that the first read did not see.
    strangers: Vec<&'h str>,
}

impl Read<'_> {
    fn total(&self) -> i128 {
        self.balances.iter().flatten().map(|&balance| i128::from(balance)).sum()
    }
}

struct Transfer<'h> {
    operation: &'h Operation,
    call: u32,
    /// [`OPEN`] unless it was acknowledged.
    ret: u32,
    from: Option<u32>,
    to: Option<u32>,
    amount: i64,
}

struct Bank<'h> {
    /// Those of the first read.
    accounts: Vec<&'h str>,
    /// In the order of their calls.
    reads: Vec<Read<'h>>,
    /// Those that may have happened.
    transfers: Vec<Transfer<'h>>,
    /// Transfers may be missing.
    incomplete: bool,
}

impl<'h> Bank<'h> {
    fn of(book: &Book<'h>, tally: &mut Tally) -> Bank<'h> {
        let operations = &book.history.operations;
        let is_read = |operation: &&Operation| &*operation.f == "read" && operation.ended == Ended::Ok;
        let accounts = operations.iter().filter(is_read).find_map(balances).unwrap_or_default();
        let accounts: Vec<&str> = accounts.into_iter().map(|(name, _)| name).collect();
        let numbers: BTreeMap<&str, u32> = accounts.iter().copied().zip(0..).collect();
        let mut bank = Bank { accounts, reads: Vec::new(), transfers: Vec::new(), incomplete: false };
        for operation in operations {
            let line = operation.completion_line.filter(|_| operation.ended == Ended::Ok);
            let (call, ret) = (operation.invoke_line, line.unwrap_or(OPEN));
            let mut doubt = |line, why: &str| {
                let told = book.witness(line, why);
                tally.doubt(Finding::new(format!("an operation that no bank has: {why}"), [told]));
            };
            match (&*operation.f, operation.ended) {
                ("transfer", Ended::Fail) => {}
                ("transfer", _) => match transfer(operation) {
                    Some((from, to, amount)) => {
                        let [from, to] = [from, to].map(|name| numbers.get(name.as_str()).copied());
                        bank.transfers.push(Transfer { operation, call, ret, from, to, amount });
                    }
                    None => {
                        doubt(call, "a transfer whose value is not {\"from\": a, \"to\": b, \"amount\": n}");
                        bank.incomplete = true;
                    }
                },
                ("read", Ended::Ok) => match balances(operation) {
                    Some(seen) => bank.reads.push(read(operation, (call, ret), &seen, &numbers)),
                    None => doubt(ret, "a read that did not see an object of accounts and whole numbers"),
                },
                ("read", _) => {}
                _ => {
                    doubt(call, "its function is none of read, transfer");
                    bank.incomplete = true;
                }
            }
        }
        bank
    }

    /// What one read says by itself.
    fn look_at(&self, read: &Read<'h>, expected: i128, flaws: &mut Flaws) {
        let lacking = || self.accounts.iter().zip(&read.balances).filter(|(_, balance)| balance.is_none());
        if !read.strangers.is_empty() || lacking().next().is_some() {
            flaws.add(Kind::Accounts, &[read.operation], || {
                let lacking: Vec<_> = lacking().map(|(&name, _)| name).collect();
                let mut wrong = Vec::new();
                if !lacking.is_empty() {
                    wrong.push(format!("without {}", lacking.join(", ")));
                }
                if !read.strangers.is_empty() {
                    wrong.push(format!("with {}", read.strangers.join(", ")));
                }
                format!("a read saw other accounts than the first one: {}", wrong.join(" and "))
            });
        } else if read.total() != expected {
            flaws.add(Kind::Total, &[read.operation], || {
                format!("a read saw {} in sum, where there are {expected}", read.total())
            });
        }
        let below =
            || self.accounts.iter().zip(&read.balances).filter(|(_, balance)| balance.is_some_and(|b| b < 0));
        if below().next().is_some() {
            flaws.add(Kind::BelowZero, &[read.operation], || {
                let told =
                    below().map(|(name, balance)| format!("{} in account {name}", balance.unwrap_or(0)));
                format!("a read saw less than nothing: {}", told.collect::<Vec<_>>().join(", "))
            });
        }
    }

    /// From each read, what each account can have held at first; two that exclude each other are told.
    fn compare(&self, flaws: &mut Flaws) {
        let mut accounts: Vec<Held> = self.accounts.iter().map(|_| Held::default()).collect();
        self.bounds(|account, read, low, high| {
            let held = &mut accounts[account];
            if held.least.is_none_or(|(known, _)| known < low) {
                held.least = Some((low, read));
            }
            if held.most.is_none_or(|(known, _)| known > high) {
                held.most = Some((high, read));
            }
        });
        let mut told = 0;
        for (account, held) in accounts.iter().enumerate() {
            let (Some((low, one)), Some((high, other))) = (held.least, held.most) else { continue };
            if low <= high {
                continue;
            }
            // Of those that exclude each other, two that are near each other say most.
            told += 1;
            let nearest = if told <= SHOWN_MAX { self.nearest(account) } else { None };
            let (low, one, high, other) = nearest.unwrap_or((low, one, high, other));
            let reads = [one.min(other), one.max(other)].map(|read| &self.reads[read]);
            let mut shown: Vec<&Operation> = reads.iter().map(|read| read.operation).collect();
            let within: Vec<_> = self.between(account as u32, reads).take(BETWEEN_MAX + 1).collect();
            if within.len() <= BETWEEN_MAX {
                shown.splice(1..1, within);
            }
            flaws.add(Kind::Unexplained, &shown, || {
                let [before, after] = reads.map(|read| read.balances[account].unwrap_or_default());
                let (name, by) = (self.accounts[account], low - high);
                let much = if other < one { "more" } else { "less" };
                format!(
                    "account {name} held {before} and then {after}: {by} {much} than the transfers between the two \
                     reads can explain, even with any of those under way at them"
                )
            });
        }
    }

    /// Two reads that exclude each other, as near to each other as there are any: what the one says was there at
    /// least, and the other at most. None are looked for that are far apart.
    fn nearest(&self, account: usize) -> Option<(i128, usize, i128, usize)> {
        let mut held = vec![(i128::MIN, i128::MAX); self.reads.len()];
        self.bounds(|other, read, low, high| {
            if other == account {
                held[read] = (low, high);
            }
        });
        let excluding = |one: usize, other: usize| {
            let ((low, _), (_, high)) = (held[one], held[other]);
            (low > high).then_some((low, one, high, other))
        };
        (1..held.len().min(APART_MAX)).find_map(|apart| {
            let mut pairs = (apart..held.len()).map(|later| (later - apart, later));
            pairs.find_map(|(one, other)| excluding(one, other).or_else(|| excluding(other, one)))
        })
    }

    /// The transfers that surely came between two reads.
    fn between(&self, account: u32, [one, other]: [&Read; 2]) -> impl Iterator<Item = &'h Operation> {
        let (from, to) = (one.ret, other.call);
        let inside = move |transfer: &&Transfer| {
            let touches = transfer.from == Some(account) || transfer.to == Some(account);
            touches && from < transfer.call && transfer.ret < to
        };
        self.transfers.iter().filter(inside).map(|transfer| transfer.operation)
    }

    /// For each account and read the least and the most that the account can have held at first.
    fn bounds(&self, mut each: impl FnMut(usize, usize, i128, i128)) {
        let mut events: Vec<(u32, Event)> = Vec::new();
        for (at, transfer) in self.transfers.iter().enumerate() {
            events.push((transfer.call, Event::Begins(at)));
            if transfer.ret != OPEN {
                events.push((transfer.ret, Event::Acknowledged(at)));
            }
        }
        for (at, read) in self.reads.iter().enumerate() {
            events.push((read.call, Event::ReadBegins(at)));
            events.push((read.ret, Event::ReadEnds(at)));
        }
        events.sort_unstable();
        let mut begun = Moved::new(self.accounts.len());
        let mut acknowledged = Moved::new(self.accounts.len());
        // What was acknowledged when a read began, while it lasts.
        let mut surely: Vec<Option<Moved>> = self.reads.iter().map(|_| None).collect();
        for (_, event) in events {
            match event {
                Event::Begins(at) => begun.add(&self.transfers[at]),
                Event::Acknowledged(at) => acknowledged.add(&self.transfers[at]),
                Event::ReadBegins(at) => surely[at] = Some(acknowledged.clone()),
                Event::ReadEnds(at) => {
                    let Some(surely) = surely[at].take() else { continue };
                    for (account, balance) in self.reads[at].balances.iter().enumerate() {
                        let Some(balance) = balance.map(i128::from) else { continue };
                        // It was given all that may have been given, and only that was taken which surely was.
                        let low = balance - begun.deposits[account] + surely.withdrawals[account];
                        let high = balance - surely.deposits[account] + begun.withdrawals[account];
                        each(account, at, low, high);
                    }
                }
            }
        }
    }
}

/// What an account can have held at first, as far as reads say, each with the read that says so.
#[derive(Default)]
struct Held {
    least: Option<(i128, usize)>,
    most: Option<(i128, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Begins(usize),
    Acknowledged(usize),
    ReadBegins(usize),
    ReadEnds(usize),
}

/// What transfers moved, by account; neither is negative.
#[derive(Clone)]
struct Moved {
    withdrawals: Vec<i128>,
    deposits: Vec<i128>,
}

impl Moved {
    fn new(accounts: usize) -> Moved {
        Moved { withdrawals: vec![0; accounts], deposits: vec![0; accounts] }
    }

    fn add(&mut self, transfer: &Transfer) {
        let amount = i128::from(transfer.amount);
        // To take a negative amount is to give.
        let (from, to) = if amount < 0 { (transfer.to, transfer.from) } else { (transfer.from, transfer.to) };
        if let Some(from) = from {
            self.withdrawals[from as usize] += amount.abs();
        }
        if let Some(to) = to {
            self.deposits[to as usize] += amount.abs();
        }
    }
}

fn read<'h>(
    operation: &'h Operation,
    (call, ret): (u32, u32),
    seen: &[(&'h str, i64)],
    numbers: &BTreeMap<&str, u32>,
) -> Read<'h> {
    let mut read = Read { operation, call, ret, balances: vec![None; numbers.len()], strangers: Vec::new() };
    for &(name, balance) in seen {
        match numbers.get(name) {
            Some(&number) => read.balances[number as usize] = Some(balance),
            None => read.strangers.push(name),
        }
    }
    read
}

fn balances(operation: &Operation) -> Option<Vec<(&str, i64)>> {
    let accounts = operation.result.as_object()?;
    accounts.iter().map(|(name, balance)| Some((name.as_str(), balance.as_i64()?))).collect()
}

/// From whom to whom how much; an account's number is its name.
fn transfer(operation: &Operation) -> Option<(String, String, i64)> {
    let fields = operation.value.as_object()?;
    let name = |field: &str| match fields.get(field)? {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    Some((name("from")?, name("to")?, fields.get("amount")?.as_i64()?))
}

/// In the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Accounts,
    Total,
    BelowZero,
    Unexplained,
}

struct Flaws<'f, 'h> {
    book: &'f Book<'h>,
    kinds: BTreeMap<Kind, (Vec<Finding>, usize)>,
}

impl Flaws<'_, '_> {
    fn add(&mut self, kind: Kind, operations: &[&Operation], text: impl FnOnce() -> String) {
        let (findings, count) = self.kinds.entry(kind).or_default();
        *count += 1;
        if findings.len() < SHOWN_MAX {
            let witness = |&operation: &&Operation| {
                let Operation { process, value, result, invoked_at, completed_at, .. } = operation;
                let what = match &*operation.f {
                    "read" => format!("read {result}"),
                    f => format!("{f} {value}"),
                };
                let (from, to) =
                    (self.book.at(*invoked_at), self.book.at(completed_at.unwrap_or(*invoked_at)));
                let line = operation.completion_line.unwrap_or(operation.invoke_line);
                self.book.witness(line, format!("process {process}'s {what}, from {from} to {to}"))
            };
            findings.push(Finding::new(text(), operations.iter().map(witness).collect::<Vec<_>>()));
        }
    }

    fn into_tally(self, tally: &mut Tally) {
        let mut rest = 0;
        for (findings, count) in self.kinds.into_values() {
            rest += count - findings.len();
            findings.into_iter().for_each(|finding| tally.violated(finding));
        }
        tally.violated_more(rest);
    }
}
