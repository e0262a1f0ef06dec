//! The part of durability that clients can see: what was acknowledged is in the committed log.
//!
//! In: evidence, and each node's log as it was found at the end. Out: findings in the caller's tally. Never: a verdict
//! of its own.

use std::collections::HashMap;

use mkraft_proto::evidence::Outcome;

use super::about::{About, EntryId};
use super::configurations::committed;
use super::evidence::{Act, Evidence, Kinds, NodeRef, history_witness};
use super::pool::Visited;
use super::replay::Replay;
use super::verdict::{Finding, Tally, Witness};
use crate::history::{Ended, Operation};

/// Every acknowledged write was applied, and is on the disks of a majority of those who count at the end. Returns how many could be
/// joined.
pub fn acknowledged(evidence: &Evidence, finals: &[Replay], tally: &mut Tally) -> u64 {
    let mut writes: HashMap<(u64, u64), Write> = HashMap::new();
    for (number, operation) in evidence.history.operations.iter().enumerate() {
        if let (Ended::Ok, Some(ticket), true) = (operation.ended, operation.ticket, &*operation.f != "read")
        {
            writes.insert(ticket, Write { number, operation, place: None });
        }
    }
    find_applied(evidence, &mut writes);
    let voters = committed(evidence).last.voters;
    tally.examined += writes.len() as u64;
    let mut writes: Vec<_> = writes.into_values().collect();
    writes.sort_unstable_by_key(|write| write.number);
    for Write { number, operation, place } in &writes {
        let line = operation.completion_line.unwrap_or(operation.invoke_line);
        let what = format!("{} of key {}", operation.f, operation.key.as_deref().unwrap_or("?"));
        let at = operation.completed_at.map_or_else(String::new, |t| format!(" at {}", evidence.at(t)));
        let told = history_witness(
            line,
            format!("process {} was told that its {what} happened{at}", operation.process),
        );
        let Some(place) = place else {
            let text = format!("an acknowledged {what} was applied by no node");
            let about =
                About::WriteLost { operation: *number, entry: None, applied_by: None, lacking: Vec::new() };
            let finding = Finding::new(text, [told]).about(about);
            // The node that answered had applied it before: only its own lines can be what is missing.
            let whole = |(node, _)| evidence.is_whole(node, Kinds::APPLY);
            let asked = |(node, _): &(NodeRef, _)| operation.node.as_deref() == Some(evidence.name(*node));
            match evidence.nodes().find(asked).map_or_else(|| evidence.nodes().all(whole), whole) {
                true => tally.violated(finding),
                false => tally.doubt(finding),
            }
            continue;
        };
        if let Some(lacking) = missing(finals, &voters, place) {
            let text = place.told_missing(evidence, &lacking);
            let file = evidence.nodes[place.node.0 as usize].boots[place.boot].file.clone();
            let applied = format!("{} applied it as entry {}", evidence.name(place.node), place.entry.index);
            let applied = Witness { file, line: place.line, text: applied };
            let about = About::WriteLost {
                operation: *number,
                entry: Some(place.entry),
                applied_by: Some(place.node),
                lacking,
            };
            let text = format!("an acknowledged {what} is lost: {text}");
            let finding = Finding::new(text, [told, applied]).about(about);
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
    entry: EntryId,
}

/// An acknowledged write, a place in the history's operations.
struct Write<'e> {
    number: usize,
    operation: &'e Operation,
    place: Option<Place>,
}

impl Place {
    fn told_missing(&self, evidence: &Evidence, lacking: &[NodeRef]) -> String {
        let names: Vec<_> = lacking.iter().map(|&node| evidence.name(node)).collect();
        let EntryId { index, term, .. } = self.entry;
        format!("at the end entry {index} of term {term} is not in the log of {}", names.join(", "))
    }
}

fn find_applied(evidence: &Evidence, writes: &mut HashMap<(u64, u64), Write>) {
    let mut visited = Visited::default();
    for (node, facts) in evidence.nodes() {
        for (boot, fact) in facts
            .boots
            .iter()
            .enumerate()
            .flat_map(|(at, boot)| boot.facts.iter().map(move |fact| (at, fact)))
        {
            let Act::Apply { first, entries } = fact.act else { continue };
            // Only the first application counts here.
            let old = visited.visit(entries);
            for (index, entry) in (first..).zip(facts.applied(entries)).skip(old) {
                if entry.outcome != Outcome::Applied || (entry.session, entry.sequence) == (0, 0) {
                    continue;
                }
                let write = writes.get_mut(&(entry.session, entry.sequence));
                if let Some(Write { place: place @ None, .. }) = write {
                    let entry = EntryId { index, term: entry.term, digest: entry.digest };
                    *place = Some(Place { node, boot, line: fact.line, entry });
                }
            }
        }
    }
}

/// Those who lack it, when no majority has it of those who vote at the end.
///
/// Of a joint configuration the majority of those who come is enough to ask for: what was committed before it was
/// committed by them too, and so is what comes after, however it ends (§6).
fn missing(finals: &[Replay], voters: &[NodeRef], place: &Place) -> Option<Vec<NodeRef>> {
    let EntryId { index, term, digest } = place.entry;
    let has = |replay: &Replay| {
        let held = replay.log.get(index).map(|held| (held.entry.term, held.entry.digest));
        index < replay.log.first() || held == Some((term, digest))
    };
    let lacks = |node: &&NodeRef| !finals.get(node.0 as usize).is_some_and(has);
    let lacking: Vec<_> = voters.iter().filter(lacks).copied().collect();
    let enough = voters.len() - lacking.len() > voters.len() / 2;
    (!enough).then_some(lacking)
}
