//! What clients saw and no order explains: what each read missed, and what became of each change.
//!
//! In: the operations of a core, joined to the nodes' entries. Out: few sentences. Never: "missed" where the read may
//! have seen it; the sums of counters and banks do not say which of the changes they are made of.

use std::collections::HashMap;

use serde_json::Value;

use super::super::about::EntryId;
use super::super::joined::{Joined, Joint};
use super::super::models::Model;
use super::{TOLD_MAX, called, ended, fate, named, standing};
use crate::history::{Datum, Ended, Operation};

pub fn unordered(joined: &Joined, operations: &[usize]) -> Vec<String> {
    let history = &joined.evidence.history.operations;
    let core = operations.iter().filter_map(|&number| Some((number, history.get(number)?)));
    let mut story = Story { joined, core: core.collect(), told: Vec::new(), explained: Vec::new() };
    match Model::of_workload(&joined.evidence.scenario.workload.kind) {
        Model::Register | Model::CasRegister => story.registers(),
        Model::Set => story.lacking("missed", |read, add| lacks(&read.result, &add.value)),
        Model::Append => story.lacking("missed", reads_without),
        Model::Lock => story.lacking("was granted over", |later, first| holds(joined, first, later)),
        Model::Counter | Model::Bank | Model::Queue => story.sums(),
    }
    let Story { core, mut told, explained, .. } = story;
    for (number, _) in core.into_iter().filter(|(number, _)| !explained.contains(number)) {
        told.extend(joined.entries_of(number).take(2).map(|(entry, joint)| fate(joined, entry, joint)));
    }
    told.truncate(TOLD_MAX + 2);
    told
}

struct Story<'s, 'e> {
    joined: &'s Joined<'e>,
    /// With their places in the history's operations.
    core: Vec<(usize, &'e Operation)>,
    told: Vec<String>,
    /// Those of which no more need be said.
    explained: Vec<usize>,
}

/// An operation, and an entry it became.
type Made<'s, 'e> = (usize, &'e Operation, EntryId, &'s Joint);

impl<'s, 'e> Story<'s, 'e> {
    /// A read of a register saw one value: what it missed is newer than the entry of that.
    fn registers(&mut self) {
        let makers = makers(self.joined, &self.core);
        for (number, read) in self.core.clone() {
            let Some(saw) = seen(read) else { continue };
            let own = makers.get(&saw.to_string()).copied();
            if own.is_none() && !saw.is_null() {
                self.told.push(format!("{} saw what no operation of the history wrote", called(read)));
                continue;
            }
            // What failed for certain must not be seen.
            if let Some((_, failed)) = own.filter(|(_, maker)| maker.ended == Ended::Fail) {
                let ended = ended(self.joined, failed);
                self.told.push(format!("{} saw {}, {ended}", called(read), named(failed)));
                continue;
            }
            let indices = |number| self.joined.entries_of(number).map(|(entry, _)| entry.index);
            let saw = own.and_then(|(number, _)| indices(number).max());
            if own.is_some() && saw.is_none() {
                continue;
            }
            let is_newer =
                |write: &Operation, entry: EntryId| makes(write).is_some() && Some(entry.index) > saw;
            if let Some(missed) = self.newest((number, read), is_newer) {
                self.tell(read, "missed", missed);
            }
        }
    }

    /// Of each operation that was acknowledged, the newest change that it was certainly made without.
    fn lacking(&mut self, verb: &str, lacks: impl Fn(&Operation, &Operation) -> bool) {
        for (number, read) in self.core.clone() {
            let without = |change: &Operation, _| read.key == change.key && lacks(read, change);
            if let (Some(missed), Ended::Ok) = (self.newest((number, read), without), read.ended) {
                self.tell(read, verb, missed);
            }
        }
    }

    /// How the nodes stood that answered: next to the entries of the changes.
    fn sums(&mut self) {
        for (_, read) in self.core.iter().filter(|(_, read)| &*read.f == "read") {
            let stood = standing(self.joined, read, 0);
            if !stood.is_empty() {
                self.told.push(format!("{} was answered{stood}", called(read)));
            }
        }
    }

    /// The newest entry among the operations that fit and were known to be committed before this one was asked.
    fn newest(
        &self,
        (number, read): (usize, &Operation),
        fits: impl Fn(&Operation, EntryId) -> bool,
    ) -> Option<Made<'s, 'e>> {
        let joined = self.joined;
        let changes = self.core.iter().filter(|(other, _)| *other != number);
        let entries = changes.flat_map(|&(number, change)| {
            joined.entries_of(number).map(move |(entry, joint)| (number, change, entry, joint))
        });
        let before = |joint: &Joint| {
            let known = joint.commits.first().or(joint.applied.first());
            known.is_some_and(|known| known.t <= read.invoked_at)
        };
        let fitting = entries.filter(|(_, change, entry, joint)| fits(change, *entry) && before(joint));
        fitting.max_by_key(|(_, _, entry, _)| entry.index)
    }

    fn tell(&mut self, read: &Operation, verb: &str, (number, change, entry, joint): Made) {
        let Some(known) = joint.commits.first().or(joint.applied.first()) else { return };
        let done = if joint.commits.is_empty() { "applied" } else { "committed" };
        self.told.push(format!(
            "{} {verb} {}: entry {}, term {}, {done} by {} at {}{}",
            called(read),
            named(change),
            entry.index,
            entry.term,
            self.joined.evidence.name(known.node),
            self.joined.evidence.at(known.t),
            standing(self.joined, read, known.term),
        ));
        self.explained.push(number);
    }
}

/// True of a list without this element.
fn lacks(list: &Datum, element: &Datum) -> bool {
    let element = element.json();
    list.as_array().is_some_and(|list| !list.contains(&element))
}

/// True when a transaction read a list without an element that the other one appended to it.
fn reads_without(reader: &Operation, writer: &Operation) -> bool {
    let (Some(reads), Some(appends)) = (reader.result.as_array(), writer.value.as_array()) else {
        return false;
    };
    let lacks = |read: &Value, append: &Value| {
        let of_it = read[0] == "r" && append[0] == "append" && read[1] == append[1];
        of_it && read[2].as_array().is_some_and(|list| !list.contains(&append[2]))
    };
    appends.iter().any(|append| reads.iter().any(|read| lacks(read, append)))
}

/// True when one acquired a lock, and nobody was asked to release it before another one had it.
fn holds(joined: &Joined, first: &Operation, later: &Operation) -> bool {
    let acquired = |operation: &Operation| &*operation.f == "acquire" && operation.ended == Ended::Ok;
    let released = |operation: &Operation| {
        &*operation.f == "release"
            && (&operation.key, &operation.value) == (&first.key, &first.value)
            && later.completed_at.is_some_and(|had| operation.invoked_at < had)
    };
    acquired(first) && acquired(later) && !joined.evidence.history.operations.iter().any(released)
}

/// By what they made: the operations that wrote what the reads among these saw, wherever in the history they stand.
fn makers<'e>(joined: &Joined<'e>, core: &[(usize, &Operation)]) -> HashMap<String, (usize, &'e Operation)> {
    let mut makers: HashMap<String, (usize, &Operation)> = HashMap::new();
    let wanted: Vec<(&Operation, Datum)> =
        core.iter().filter_map(|(_, read)| Some((*read, seen(read)?))).collect();
    for (number, operation) in joined.evidence.history.operations.iter().enumerate() {
        let Some(made) = makes(operation) else { continue };
        if wanted.iter().any(|(read, saw)| *saw == made && read.key == operation.key) {
            let maker = makers.entry(made.to_string()).or_insert((number, operation));
            if maker.1.ended == Ended::Fail {
                *maker = (number, operation);
            }
        }
    }
    makers
}

/// What a register's operation saw, when it saw one value.
fn seen(operation: &Operation) -> Option<Datum> {
    let saw = match (&*operation.f, &operation.seen, operation.ended) {
        ("read", _, Ended::Ok) => operation.result.clone(),
        ("cas", Some(seen), _) => seen.clone(),
        ("cas", None, Ended::Ok) => operation.value.as_array()?.first()?.clone().into(),
        _ => return None,
    };
    (saw.as_array().is_none() && saw.as_object().is_none()).then_some(saw)
}

/// What a register's operation writes.
fn makes(operation: &Operation) -> Option<Datum> {
    match &*operation.f {
        "write" => Some(operation.value.clone()),
        "cas" if operation.seen.is_none() => operation.value.as_array()?.get(1).cloned().map(Datum::from),
        "delete" => Some(Datum::NULL),
        _ => None,
    }
}
