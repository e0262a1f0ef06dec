//! The order in which each key's elements were appended, and what contradicts it without any cycle.
//!
//! In: [`Transactions`] and their [`Views`]. Out: an [`Order`] for each key, and which transactions took effect. Never:
//! a conclusion from a key whose reads contradict each other, or whose elements two transactions may have appended.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use super::anomaly::{Anomalies, Kind};
use super::micro::{Act, Names, Transactions};
use super::views::{View, Views};
use super::words::{Words, bare, list};
use crate::check::verdict::{Finding, Tally};
use crate::history::Ended;

/// In place of a transaction: nobody known, or nobody who may have.
pub const NOBODY: u32 = u32::MAX;

const NOWHERE: u32 = u32::MAX;

/// Reads of one key with an element twice that are looked through for one without.
const FLAWED_MAX: usize = 8;

/// What is known of the order of one key's elements.
#[derive(Debug, Default)]
pub struct Order<'h> {
    /// Its reads agree, and each element has one writer: conclusions may be drawn.
    pub sound: bool,
    /// The longest that was read; every other read is a prefix of it.
    pub read: &'h [Value],
    /// Who appended each of its elements; [`NOBODY`] where that cannot be. After them those of `extended`.
    pub writers: Vec<u32>,
    /// One that read all of `read` and appended next; else [`NOBODY`].
    pub extended: u32,
    /// Those that took effect, with appends that stand nowhere in `writers`: they come after all of it.
    pub unobserved: Vec<u32>,
}

#[derive(Debug)]
pub struct Orders<'h> {
    /// Of each key.
    pub keys: Vec<Order<'h>>,
    /// Of each transaction: it was acknowledged, or somebody saw what it did.
    pub committed: Vec<bool>,
}

/// An append, or several of one value to one key of which one at most may have happened.
#[derive(Debug, Clone, Copy)]
struct Element {
    key: u32,
    writer: u32,
    /// Counts all appends: those of one transaction are in its order.
    place: u32,
    /// In the key's order.
    position: u32,
}

impl<'h> Orders<'h> {
    pub fn of(
        words: Words<'_, 'h>,
        views: &Views<'h>,
        tally: &mut Tally,
        anomalies: &mut Anomalies,
    ) -> Orders<'h> {
        let transactions = words.transactions;
        let mut elements = Elements::of(words, tally);
        let committed = transactions.list.iter().map(|transaction| transaction.ended == Ended::Ok).collect();
        let mut orders = Orders { keys: Vec::with_capacity(transactions.keys.len()), committed };
        let mut scratch = Scratch::new(transactions.list.len());
        for key in 0..transactions.keys.len() as u32 {
            let mut order = Order { extended: NOBODY, ..Order::default() };
            if !elements.ambiguous.contains(&key) {
                let mut flaws = Flaws { words, key, anomalies };
                order.sound = longest(views.of_key(key), &mut order.read, &mut flaws);
                elements.place(key, &mut order, views.of_key(key), &mut flaws, tally);
                if order.sound {
                    scratch.torn(&order, views.of_key(key), &mut flaws);
                    elements.own(&order, views.of_key(key), &mut flaws);
                }
                for &writer in order.writers.iter().filter(|&&writer| writer != NOBODY) {
                    orders.committed[writer as usize] = true;
                }
                elements.extend(key, &mut order, views.of_key(key), transactions);
            }
            orders.keys.push(order);
        }
        for element in elements.all.iter().filter(|element| element.position == NOWHERE) {
            let Element { key, writer, .. } = *element;
            let order = &mut orders.keys[key as usize];
            let counts = order.sound && orders.committed[writer as usize];
            // One that has another append in the order is torn, and told.
            let mut appends =
                transactions.appends(writer, key).filter_map(|value| elements.known(key, value));
            let is_new = order.unobserved.last() != Some(&writer);
            if counts && is_new && appends.all(|known| elements.all[known].position == NOWHERE) {
                order.unobserved.push(writer);
            }
        }
        orders
    }
}

/// Where findings about one key go.
struct Flaws<'f, 'b, 'h> {
    words: Words<'b, 'h>,
    key: u32,
    anomalies: &'f mut Anomalies,
}

impl Flaws<'_, '_, '_> {
    /// `text` is given the key in words.
    fn add(&mut self, kind: Kind, transactions: &[u32], text: impl FnOnce(&str) -> String) {
        let words = self.words;
        self.anomalies.add(kind, || words.finding(text(&words.key(self.key)), transactions));
    }
}

/// Finds the longest read without an element twice; false when another one is no prefix of it, or has one twice.
fn longest<'h>(views: &[View<'h>], read: &mut &'h [Value], flaws: &mut Flaws) -> bool {
    let mut flawed = BTreeSet::new();
    let mut chosen = None;
    while chosen.is_none() && flawed.len() < FLAWED_MAX {
        let clean = (0..views.len()).filter(|at| !flawed.contains(at));
        // Of equals the first.
        match clean.max_by_key(|&at| (views[at].list.len(), Reverse(at))) {
            Some(at) if twice(views[at].list).is_some() => _ = flawed.insert(at),
            Some(at) => chosen = Some(&views[at]),
            None => break,
        }
    }
    let Some(chosen) = chosen else {
        tell_twice(views, &flawed, flaws);
        return flawed.is_empty();
    };
    *read = chosen.list;
    let mut other = None;
    for (at, view) in views.iter().enumerate() {
        if chosen.list.starts_with(view.list) || flawed.contains(&at) {
            continue;
        }
        if twice(view.list).is_some() {
            flawed.insert(at);
        } else {
            other = other.or(Some(view));
        }
    }
    tell_twice(views, &flawed, flaws);
    if let Some(other) = other {
        let same = chosen.list.iter().zip(other.list).take_while(|(one, other)| one == other).count();
        flaws.add(Kind::IncompatibleOrder, &[other.transaction, chosen.transaction], |key| {
            let (one, other) = (list(other.list), list(chosen.list));
            let place = same + 1;
            format!("T1 read {one} of {key}, and T2 read {other}: they differ in element {place}, and lists only grow")
        });
    }
    flawed.is_empty() && other.is_none()
}

/// The places of an element that stands in a list twice.
fn twice(list: &[Value]) -> Option<(usize, usize)> {
    let mut names = Names::default();
    // As long as all differ, each one's number is its place.
    let mut places = list.iter().enumerate().map(|(at, value)| (names.number(0, value) as usize, at));
    places.find(|(first, at)| first < at)
}

fn tell_twice(views: &[View], flawed: &BTreeSet<usize>, flaws: &mut Flaws) {
    let Some(view) = flawed.first().map(|&at| &views[at]) else { return };
    let Some((first, again)) = twice(view.list) else { return };
    flaws.add(Kind::DuplicateElements, &[view.transaction], |key| {
        let value = bare(&view.list[again]);
        let (first, again, read) = (first + 1, again + 1, list(view.list));
        format!("T1 read {value} of {key} as element {first} and again as element {again} of {read}, and it was appended once")
    });
}

struct Elements {
    all: Vec<Element>,
    names: Names,
    ambiguous: HashSet<u32>,
}

impl Elements {
    fn of(words: Words, tally: &mut Tally) -> Elements {
        let transactions = words.transactions;
        let failed = |writer: u32| transactions.list[writer as usize].ended == Ended::Fail;
        let mut elements = Elements { all: Vec::new(), names: Names::default(), ambiguous: HashSet::new() };
        let mut place = 0;
        for writer in 0..transactions.list.len() as u32 {
            for micro in transactions.micros(writer) {
                let Act::Append(value) = micro.act else { continue };
                let key = micro.key;
                let number = elements.names.number(key, value) as usize;
                place += 1;
                let element = Element { key, writer, place, position: NOWHERE };
                match elements.all.get_mut(number) {
                    None => elements.all.push(element),
                    Some(_) if failed(writer) => {}
                    Some(known) if failed(known.writer) => *known = element,
                    Some(known) => {
                        if elements.ambiguous.insert(key) {
                            tally.doubt(ambiguous(words, key, value, [known.writer, writer]));
                        }
                    }
                }
            }
        }
        elements
    }

    fn known(&self, key: u32, value: &Value) -> Option<usize> {
        self.names.known(key, value).map(|number| number as usize)
    }

    /// Says who wrote each element of the longest read, and tells of those that nobody can have written.
    fn place(&mut self, key: u32, order: &mut Order, views: &[View], flaws: &mut Flaws, tally: &mut Tally) {
        let transactions = flaws.words.transactions;
        let reader = |position: usize| {
            let saw = |view: &&View| view.list.get(position) == order.read.get(position);
            views.iter().find(saw).map_or(0, |view| view.transaction)
        };
        for (position, value) in order.read.iter().enumerate() {
            let known = self.known(key, value);
            let writer = known.map(|known| self.all[known].writer);
            match writer {
                Some(writer) if transactions.list[writer as usize].ended != Ended::Fail => {
                    if let Some(known) = known {
                        self.all[known].position = position as u32;
                    }
                    order.writers.push(writer);
                    continue;
                }
                Some(writer) => flaws.add(Kind::AbortedRead, &[reader(position), writer], |key| {
                    let value = bare(value);
                    format!("T1 read {value} of {key}, and T2, which appended it, failed for certain")
                }),
                None if transactions.incomplete => {
                    let text = format!(
                        "{} has {}, and what appended it is not known",
                        flaws.words.key(key),
                        bare(value)
                    );
                    tally.doubt(flaws.words.finding(text, &[reader(position)]));
                }
                None => flaws.add(Kind::Garbage, &[reader(position)], |key| {
                    let value = bare(value);
                    format!("T1 read {value} of {key}, which nobody ever appended")
                }),
            }
            order.writers.push(NOBODY);
        }
    }

    /// What a transaction appends stands in its order, and is not there before it.
    fn own(&self, order: &Order, views: &[View], flaws: &mut Flaws) {
        let transactions = flaws.words.transactions;
        let key = flaws.key;
        let place = |position: usize| {
            let known = self.known(key, &order.read[position])?;
            Some(self.all[known].place)
        };
        for (at, pair) in order.writers.windows(2).enumerate() {
            let same = pair[0] == pair[1] && pair[0] != NOBODY;
            if same && place(at) > place(at + 1) {
                flaws.add(Kind::Internal, &[pair[0]], |key| {
                    let [first, then] = [0, 1].map(|more| bare(&order.read[at + more]));
                    format!("T1 appended {then} and then {first} to {key}, and they stand as {first} {then}")
                });
            }
        }
        for view in views {
            let mut appends = transactions.appends(view.transaction, key);
            let is_early = |value: &&Value| {
                self.known(key, value).is_some_and(|known| self.all[known].position < view.base)
            };
            if let Some(value) = appends.find(is_early) {
                flaws.add(Kind::Internal, &[view.transaction], |key| {
                    let read = list(view.list);
                    format!(
                        "T1 read {read} of {key} with its own append of {} before it made it",
                        bare(value)
                    )
                });
            }
        }
    }

    /// Who read all there is and appended to it comes next, for nobody can stand between.
    fn extend(&mut self, key: u32, order: &mut Order, views: &[View], transactions: &Transactions) {
        let all = order.read.len();
        let is_next = |view: &&View| {
            let mut appends = transactions.appends(view.transaction, key);
            let is_early =
                |value: &Value| self.known(key, value).is_some_and(|at| self.all[at].position < view.base);
            order.sound && view.list.len() == all && view.tail > 0 && !appends.any(is_early)
        };
        let next = views.iter().filter(is_next).max_by_key(|view| (view.tail, Reverse(view.transaction)));
        let Some(next) = next else { return };
        order.extended = next.transaction;
        order.writers.resize(all + next.tail as usize, next.transaction);
        let appends: Vec<_> = transactions.appends(next.transaction, key).collect();
        for (position, value) in (all as u32..).zip(&appends[appends.len() - next.tail as usize..]) {
            if let Some(known) = self.known(key, value) {
                self.all[known].position = position;
            }
        }
    }
}

fn ambiguous(words: Words, key: u32, value: &Value, writers: [u32; 2]) -> Finding {
    let (key, value) = (words.key(key), bare(value));
    let text = if writers[0] == writers[1] {
        format!("T1 appends {value} to {key} twice, so the order of this key cannot be told")
    } else {
        format!("T1 and T2 both append {value} to {key}, so the order of this key cannot be told")
    };
    words.finding(text, if writers[0] == writers[1] { &writers[..1] } else { &writers })
}

/// Room for something about each transaction, used anew for each key.
struct Scratch {
    appends_seen: Vec<u32>,
}

impl Scratch {
    fn new(transactions: usize) -> Scratch {
        Scratch { appends_seen: vec![0; transactions] }
    }

    /// Finds reads that saw some of another transaction's appends, and not all of them.
    fn torn(&mut self, order: &Order, views: &[View], flaws: &mut Flaws) {
        let transactions = flaws.words.transactions;
        let key = flaws.key;
        let total = |writer: u32| transactions.appends(writer, key).count() as u32;
        // After so many elements: who had begun and not finished. Two, as one of them may be the reader.
        let mut torn: Vec<[u32; 2]> = Vec::new();
        let mut unfinished = BTreeSet::new();
        for (at, &writer) in order.writers.iter().enumerate() {
            if writer != NOBODY {
                let seen = &mut self.appends_seen[writer as usize];
                *seen += 1;
                if *seen < total(writer) {
                    unfinished.insert(writer);
                } else {
                    unfinished.remove(&writer);
                }
            }
            if !unfinished.is_empty() {
                torn.resize(at, [NOBODY; 2]);
                let mut two = unfinished.iter().copied();
                torn.push([two.next().unwrap_or(NOBODY), two.next().unwrap_or(NOBODY)]);
            }
        }
        for &writer in order.writers.iter().filter(|&&writer| writer != NOBODY) {
            self.appends_seen[writer as usize] = 0;
        }
        if torn.is_empty() {
            return;
        }
        let mut told = BTreeSet::new();
        for view in views.iter().filter(|view| view.base > 0) {
            let Some(writers) = torn.get(view.base as usize - 1) else { continue };
            let others = writers.iter().filter(|&&writer| writer != NOBODY && writer != view.transaction);
            for &writer in others {
                if told.insert(writer) {
                    flaws.add(Kind::IntermediateRead, &[view.transaction, writer], |key| {
                        let total = total(writer);
                        let read = list(&view.list[..view.base as usize]);
                        format!("T1 read {read} of {key}, with some but not all of the {total} appends of T2")
                    });
                }
            }
        }
    }
}
