//! Transactions over several lists are strictly serializable, and bank accounts lose nothing.
//!
//! In: the clients' history. Out: a verdict with, per cycle of transactions that cannot be ordered, each step of it in
//! words. Never: what nodes say of themselves; a search whose time grows with how many transactions overlap.
//!
//! # The model
//!
//! A key is a list, empty at first. A transaction is a list of micro-operations, done as one: `append` puts an element
//! at the end, `r` sees the whole list. A history is strictly serializable when all transactions that were acknowledged,
//! and any of those of unknown outcome, have an order in which each sees what those before it made, and which has one
//! before another if it was acknowledged before the other was invoked. The idea to infer that order from lists is that of
//! Kingsbury & Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations" (VLDB 2020), and the names of
//! what goes wrong are those of Adya's thesis (MIT 1999).
//!
//! # What must come before what
//!
//! Each read of a list is the history of that list. So the longest read of a key tells the order of its elements, and
//! every other read of it is a prefix. A transaction that read all of it and appended extends it: nothing can stand
//! between the two. What took effect and stands nowhere in it comes after all of it. From this:
//!
//! - **ww**: of two elements side by side, the writer of the first comes before that of the second.
//! - **wr**: the writer of the last element that a transaction read comes before it.
//! - **rw**: a transaction comes before the writer of the first element that it did not read, or, if it read all, before
//!   those whose appends stand nowhere.
//! - **rt**: what was acknowledged comes before what was invoked later. What stayed open may come at any time after its
//!   invocation. A process does one thing at a time, so its own order is part of this.
//!
//! What stayed open counts when somebody saw an element of it. Otherwise it is left out.
//!
//! # What cannot be
//!
//! | name | what was found |
//! |---|---|
//! | garbage | an element that nobody ever appended |
//! | duplicate-elements | an element twice in one read, appended once |
//! | internal | a transaction that contradicts itself: a read without its own append, or that changes between two reads; its appends in another order |
//! | G1a | an element whose transaction failed for certain |
//! | G1b | some but not all of a transaction's appends to one key |
//! | incompatible-order | two reads of a key of which neither is a prefix of the other |
//! | G0 | a cycle of ww |
//! | G1c | a cycle of ww and wr |
//! | G-single | a cycle with one rw: what read skew and many a lost update are |
//! | G2 | a cycle with several rw: write skew |
//! | G0-realtime, ... | a cycle that rt is part of: a stale read, an append acknowledged and lost (G-single-realtime) |
//!
//! # What the verdict proves
//!
//! *Violated* is never wrong. Each edge says what every order must do: if ever an element stood elsewhere in the list,
//! some read would have seen another list than it saw. So a cycle cannot be ordered, and neither can what the other
//! names tell of. Nothing is concluded from a key whose reads contradict each other: that is told, and enough.
//!
//! *Holds* is never wrong either, which for list append is not hard to see. Take any order of the transactions that took
//! effect in which all edges go forward; as there is no cycle, there is one. By ww, the elements of a key are appended in
//! the order in which they were read, and those that nobody read after them, in whatever order. By wr and rw a
//! transaction that read n elements stands after the writer of the nth and before that of the next; as no read is torn
//! (G1b) and none contradicts its own transaction (internal), it sees just these. By rt real time is respected. What was
//! left out had unknown outcome and was seen by nobody, so it may never have happened.
//!
//! Both directions are tested against a checker that tries every order (`exhaustive`, in the tests).
//!
//! *Unknown* is said of values that two transactions may both have appended to one key: nobody can tell which of them a
//! read saw, so nothing is concluded from that key. And of what is no transaction of this model.
//!
//! It does not say: in which order what was never read took effect, or whether it was kept: an acknowledged append to a
//! key that nobody reads later may be lost. A workload reads each key in the end for that.
//!
//! # Cost
//!
//! O(n log n) in micro-operations and elements read, whatever the number of clients: an element is looked at once a read.
//! For real time, moments between transactions stand for the pairs (`graph`). Cycles are found by components
//! (`components`), and looked for one by one only where there are some (`cycles`).

mod anomaly;
mod bank;
mod components;
mod cycles;
#[cfg(test)]
mod exhaustive;
mod graph;
mod micro;
mod orders;
#[cfg(test)]
mod simulated;
mod story;
#[cfg(test)]
mod tests;
mod views;
mod words;

use super::linearizability::Book;
use super::verdict::{Tally, Verdict, count};
use crate::history::Ended;
use anomaly::Anomalies;
pub use bank::judge_bank;
use cycles::cycles;
use graph::Graph;
use micro::Transactions;
use orders::Orders;
use story::Story;
use views::Views;
use words::Words;

/// The transactions have an order that respects real time, in which each sees what those before it made.
///
/// Reads: the operations `txn` of a history. Fails: for each anomaly of the table above; cycles are short, share no
/// transaction and are eight at most. Unknown: two transactions append the same value to one key, an operation is no
/// transaction of lists, or none was acknowledged. Cannot see: what no client read. Cost: O(n log n).
pub fn judge_append(book: &Book) -> Verdict {
    let mut tally = Tally::default();
    let mut anomalies = Anomalies::default();
    let transactions = Transactions::of(book, &mut tally);
    let words = Words { book, transactions: &transactions };
    let views = Views::of(words, &mut anomalies);
    let orders = Orders::of(words, &views, &mut tally, &mut anomalies);
    let graph = Graph::of(&transactions, &views, &orders);
    let story = Story { words, views: &views, orders: &orders };
    for cycle in cycles(&graph, &transactions) {
        anomalies.add(cycle.kind(), || story.tell(&cycle));
    }
    anomalies.into_tally(&mut tally);
    let with = |ended: Ended, committed: bool| {
        let all = transactions.list.iter().zip(&orders.committed);
        all.filter(|&(one, &took_effect)| one.ended == ended && took_effect == committed).count() as u64
    };
    tally.examined = with(Ended::Ok, true);
    let (seen, unseen) = (with(Ended::Info, true), with(Ended::Info, false));
    tally.verdict("no transaction was acknowledged", |examined| {
        let (all, lists) = (count(examined + seen, "transaction"), count(transactions.keys.len() as u64, "list"));
        format!("{all} on {lists} have an order ({seen} open ones that were seen among them, {unseen} unobserved left out)")
    })
}
