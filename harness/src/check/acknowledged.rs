//! The part of durability that clients can see: what was acknowledged is in the committed log.
//!
//! In: evidence, and each node's log as it was found at the end. Out: findings in the caller's tally. Never: a verdict
//! of its own.

use std::collections::HashMap;

use mkraft_proto::evidence::Outcome;

use super::evidence::{Act, Evidence, Kinds, NodeRef, history_witness};
use super::replay::Replay;
use super::verdict::{Finding, Tally, Witness};
use crate::history::{Ended, Operation};

/// Every acknowledged write was applied, and is on the disks of a majority at the end. Returns how many could be
/// joined.
pub fn acknowledged(evidence: &Evidence, finals: &[Replay], tally: &mut Tally) -> u64 {
    let mut writes: HashMap<(u64, u64), (&Operation, Option<Place>)> = HashMap::new();
    for operation in &evidence.history.operations {
        if let (Ended::Ok, Some(ticket), true) = (operation.ended, operation.ticket, &*operation.f != "read")
        {
            writes.insert(ticket, (operation, None));
        }
    }
    find_applied(evidence, &mut writes);
    tally.examined += writes.len() as u64;
    let mut writes: Vec<_> = writes.into_values().collect();
    writes.sort_unstable_by_key(|(operation, _)| operation.invoke_line);
    for (operation, place) in &writes {
        let line = operation.completion_line.unwrap_or(operation.invoke_line);
        let what = format!("{} of key {}", operation.f, operation.key.as_deref().unwrap_or("?"));
        let at = operation.completed_at.map_or_else(String::new, |t| format!(" at {}", evidence.at(t)));
        let told = history_witness(
            line,
            format!("process {} was told that its {what} happened{at}", operation.process),
        );
        let Some(place) = place else {
            let text = format!("an acknowledged {what} was applied by no node");
            let finding = Finding::new(text, [told]);
            // The node that answered had applied it before: only its own lines can be what is missing.
            let whole = |(node, _)| evidence.is_whole(node, Kinds::APPLY);
            let asked = |(node, _): &(NodeRef, _)| operation.node.as_deref() == Some(evidence.name(*node));
            match evidence.nodes().find(asked).map_or_else(|| evidence.nodes().all(whole), whole) {
                true => tally.violated(finding),
                false => tally.doubt(finding),
            }
            continue;
        };
        if let Some(text) = missing(evidence, finals, place) {
            let file = evidence.nodes[place.node.0 as usize].boots[place.boot].file.clone();
            let applied = format!("{} applied it as entry {}", evidence.name(place.node), place.index);
            let applied = Witness { file, line: place.line, text: applied };
            let finding = Finding::new(format!("an acknowledged {what} is lost: {text}"), [told, applied]);
            match finals.iter().all(|replay| replay.trusted) && evidence.is_whole(place.node, Kinds::APPLY) {
                true => tally.violated(finding),
                false => tally.doubt(finding),
            }
        }
    }
    writes.len() as u64
}

/// Where an acknowledged write was applied.
struct Place {
    node: NodeRef,
    boot: usize,
    line: u32,
    index: u64,
    term: u32,
    digest: u64,
}

fn find_applied(evidence: &Evidence, writes: &mut HashMap<(u64, u64), (&Operation, Option<Place>)>) {
    for (node, facts) in evidence.nodes() {
        for (boot, fact) in facts
            .boots
            .iter()
            .enumerate()
            .flat_map(|(at, boot)| boot.facts.iter().map(move |fact| (at, fact)))
        {
            let Act::Apply { first, entries } = fact.act else { continue };
            for (index, entry) in (first..).zip(facts.applied(entries)) {
                if entry.outcome != Outcome::Applied || (entry.session, entry.sequence) == (0, 0) {
                    continue;
                }
                if let Some((_, place @ None)) = writes.get_mut(&(entry.session, entry.sequence)) {
                    let (term, digest) = (entry.term, entry.digest.0);
                    *place = Some(Place { node, boot, line: fact.line, index, term, digest });
                }
            }
        }
    }
}

/// Says who lacks it when no majority has it.
fn missing(evidence: &Evidence, finals: &[Replay], place: &Place) -> Option<String> {
    let has = |replay: &&Replay| {
        let held = replay.log.get(place.index).map(|held| (held.entry.term, held.entry.digest.0));
        place.index < replay.log.first() || held == Some((place.term, place.digest))
    };
    let holders = finals.iter().filter(has).count();
    if holders > finals.len() / 2 {
        return None;
    }
    let lacking = evidence.nodes().zip(finals).filter(|(_, replay)| !has(replay));
    let names: Vec<_> = lacking.map(|((node, _), _)| evidence.name(node)).collect();
    Some(format!(
        "at the end entry {} of term {} is not in the log of {}",
        place.index,
        place.term,
        names.join(", ")
    ))
}
