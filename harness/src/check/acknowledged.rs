//! The part of durability that clients can see: what was acknowledged is in the committed log.
//!
//! In: evidence, and each node's log as it was found at the end. Out: findings in the caller's tally. Never: a verdict
//! of its own.

use std::collections::HashMap;

use mkraft_proto::evidence::Outcome;

use super::about::{About, EntryId};
use super::evidence::{Act, ConfigAct, Evidence, Kinds, NodeRef, history_witness};
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
    tally.examined += writes.len() as u64;
    let counts = last_configuration(evidence);
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
        if let Some(lacking) = missing(evidence, finals, counts, place) {
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

/// Who counts at the end, as told by the node that knows most to be committed. None: no line tells of anybody, and all
/// nodes count.
fn last_configuration(evidence: &Evidence) -> Option<&ConfigAct> {
    let told = |(node, _): (NodeRef, _)| {
        let facts = evidence.nodes[node.0 as usize].boots.iter().flat_map(|boot| &boot.facts);
        let (mut commit, mut configurations) = (0, Vec::new());
        for fact in facts {
            match &fact.act {
                Act::Commit { index, .. } | Act::Snapshot { index, .. } => commit = commit.max(*index),
                Act::Boot(boot) => commit = commit.max(boot.snapshot),
                Act::Config(config) => configurations.push(&**config),
                _ => {}
            }
        }
        let known = configurations.into_iter().rfind(|config| config.index <= commit);
        known.filter(|config| !config.voters.is_empty()).map(|config| (commit, config))
    };
    evidence.nodes().filter_map(told).max_by_key(|(commit, _)| *commit).map(|(_, config)| config)
}

/// Those who lack it, when no majority of those who count has it.
fn missing(
    evidence: &Evidence,
    finals: &[Replay],
    counts: Option<&ConfigAct>,
    place: &Place,
) -> Option<Vec<NodeRef>> {
    let EntryId { index, term, digest } = place.entry;
    let has = |replay: &&Replay| {
        let held = replay.log.get(index).map(|held| (held.entry.term, held.entry.digest));
        index < replay.log.first() || held == Some((term, digest))
    };
    let majority = |of: &dyn Fn(NodeRef) -> bool| {
        let counted = evidence.nodes().zip(finals).filter(|((node, _), _)| of(*node));
        let (all, holders) = counted
            .fold((0, 0), |(all, holders), (_, replay)| (all + 1, holders + usize::from(has(&replay))));
        holders > all / 2
    };
    let kept = match counts {
        None => majority(&|_| true),
        Some(ConfigAct { voters, outgoing, .. }) => {
            majority(&|node| voters.contains(&node))
                && (outgoing.is_empty() || majority(&|node| outgoing.contains(&node)))
        }
    };
    if kept {
        return None;
    }
    let counted = |node: &NodeRef| {
        counts.is_none_or(|counts| counts.voters.contains(node) || counts.outgoing.contains(node))
    };
    let lacking = evidence.nodes().zip(finals).filter(|((node, _), replay)| counted(node) && !has(replay));
    Some(lacking.map(|((node, _), _)| node).collect())
}
