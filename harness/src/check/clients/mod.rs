//! What a violation has to do with the clients, in one sentence for each operation it touches.
//!
//! In: what a finding is about, and the clients' operations joined to the nodes' entries. Out: few sentences. Never: a
//! verdict; a fact that no line tells.

mod unordered;

use std::collections::BTreeMap;
use std::fmt::Display;

use super::about::{About, EntryId};
use super::evidence::NodeRef;
use super::joined::{Joined, Joint, Standing};
use super::verdict::count;
use crate::history::{Ended, Operation};
use unordered::unordered;

/// Sentences for one finding at most; then how many more operations there are.
const TOLD_MAX: usize = 4;

/// Characters of a value at most.
const VALUE_MAX: usize = 24;

/// The sentences of one finding.
pub fn sentences(joined: &Joined, about: &About) -> Vec<String> {
    match about {
        About::Unordered { operations } => unordered(joined, operations),
        About::WriteLost { entry: Some(entry), .. } => {
            let Some(joint) = joined.entry(*entry) else { return Vec::new() };
            vec![fate(joined, *entry, joint)]
        }
        About::TwoLeaders { term, .. } => touched(joined, joined.of_term(*term)),
        // And not what was written in their place.
        About::Incomplete { term, lacks, .. } => {
            let lacked = |(entry, _): &(EntryId, _)| u64::from(entry.term) < *term;
            touched(joined, joined.at(lacks.clone()).filter(lacked))
        }
        About::Conflict { entries, .. } => {
            touched(joined, entries.iter().filter_map(|&entry| Some((entry, joined.entry(entry)?))))
        }
        about => touched(joined, about.indices().into_iter().flat_map(|stretch| joined.at(stretch))),
    }
}

/// The operations behind entries: first those that were acknowledged.
fn touched<'j>(joined: &Joined, entries: impl Iterator<Item = (EntryId, &'j Joint)>) -> Vec<String> {
    let mut operations: BTreeMap<(bool, EntryId), &Operation> = BTreeMap::new();
    for (entry, joint) in entries {
        if let Some((_, operation)) = joined.operation_of(joint) {
            operations.insert((operation.ended != Ended::Ok, entry), operation);
        }
    }
    let tell = |(&(_, entry), operation): (&(bool, EntryId), &&Operation)| {
        let EntryId { index, term, .. } = entry;
        format!("entry {index} of term {term} is {}, {}", named(operation), ended(joined, operation))
    };
    let shown = if operations.len() == TOLD_MAX + 1 { TOLD_MAX + 1 } else { TOLD_MAX };
    let mut told: Vec<String> = operations.iter().take(shown).map(tell).collect();
    let rest = operations.len().saturating_sub(shown);
    if rest > 0 {
        let acknowledged = operations.keys().skip(shown).filter(|(open, _)| !open).count();
        told.push(format!(
            "and {}, {acknowledged} of them acknowledged",
            count(rest as u64, "more operation")
        ));
    }
    told
}

/// `, while n3 still led term 3`
fn standing(joined: &Joined, read: &Operation, committed_in: u64) -> String {
    let Some(asked) = read.node.as_deref() else { return String::new() };
    let Some(node) = joined.evidence.node_named(asked) else { return String::new() };
    let at = |t: u64| joined.standing(node, t);
    let Some(begin) = at(read.invoked_at) else { return String::new() };
    let end = read.completed_at.and_then(at).unwrap_or(begin);
    let role = |stood: Standing, still: bool| {
        let still = if still && stood.term < committed_in { "still " } else { "" };
        let verb = if stood.leads { "led" } else { "followed in" };
        format!("{still}{verb} term {}", stood.term)
    };
    let role = match (begin.leads, begin.term) == (end.leads, end.term) {
        true => format!("while {asked} {}", role(begin, true)),
        false => format!(
            "and {asked} {} when it was asked, {} when it had answered",
            role(begin, true),
            role(end, false)
        ),
    };
    format!(", {role} and had applied {}", end.applied)
}

/// Where an operation's entry is, and where another one is in its place.
fn fate(joined: &Joined, entry: EntryId, joint: &Joint) -> String {
    let EntryId { index, term, .. } = entry;
    let evidence = joined.evidence;
    let names = |nodes: &mut dyn Iterator<Item = NodeRef>| {
        let names: Vec<_> = nodes.map(|node| evidence.name(node).to_owned()).collect();
        names.join(" and ")
    };
    let whose = joined.operation_of(joint).map_or_else(
        || "it".to_owned(),
        |(_, operation)| format!("{}, {},", named(operation), ended(joined, operation)),
    );
    let mut text = format!("{whose} is entry {index} of term {term}");
    match joint.commits.first() {
        Some(known) => {
            text += &format!(", committed by {} at {}", evidence.name(known.node), evidence.at(known.t));
        }
        None => text += ", which no line tells to be committed",
    }
    if !joint.applied.is_empty() {
        text += &format!(", applied by {}", names(&mut joint.applied.iter().map(|known| known.node)));
    }
    let others =
        joined.at(index..=index).filter(|(other, joint)| *other != entry && !joint.applied.is_empty());
    for (other, joint) in others.take(2) {
        let by = names(&mut joint.applied.iter().map(|known| known.node));
        text += &format!("; {by} applied an entry {index} of term {} in its place", other.term);
    }
    text
}

/// `p23's write of k0=2517`
fn named(operation: &Operation) -> String {
    format!("p{}'s {}", operation.process, what(operation))
}

/// `the read of k0 (p737, asked of n3)`
fn called(operation: &Operation) -> String {
    let asked = operation.node.as_deref().map_or_else(String::new, |node| format!(", asked of {node}"));
    format!("the {} (p{}{asked})", what(operation), operation.process)
}

fn what(operation: &Operation) -> String {
    let Operation { f, key, value, .. } = operation;
    let short = |value: &dyn Display| {
        let text = value.to_string();
        match text.chars().count() <= VALUE_MAX {
            true => text,
            false => text.chars().take(VALUE_MAX).chain("...".chars()).collect(),
        }
    };
    let of = key.as_deref().unwrap_or("");
    match (&**f, value.as_array().map(Vec::as_slice)) {
        ("read", _) if key.is_some() => format!("read of {of} that saw {}", short(&operation.result)),
        ("read", _) => format!("read that saw {}", short(&operation.result)),
        ("cas", Some([expected, new])) => format!("cas of {of} from {} to {}", short(expected), short(new)),
        ("delete", _) => format!("delete of {of}"),
        (f, _) if value.is_null() => f.to_owned(),
        (f, _) if key.is_none() => format!("{f} of {}", short(value)),
        (f, _) => format!("{f} of {of}={}", short(value)),
    }
}

fn ended(joined: &Joined, operation: &Operation) -> String {
    let at = operation.completed_at.map_or_else(String::new, |t| format!(" at {}", joined.evidence.at(t)));
    match operation.ended {
        Ended::Ok => format!("acknowledged{at}"),
        Ended::Fail if operation.seen.is_some() => format!("answered{at}"),
        Ended::Fail => format!("which failed for certain{at}"),
        Ended::Info => "never acknowledged".to_owned(),
    }
}
