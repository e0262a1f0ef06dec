//! A write takes effect once, and one that failed for certain never (thesis §6.3).

use std::collections::HashSet;

use mkraft_proto::evidence::Outcome;

use super::about::About;
use super::by_index::ByIndex;
use super::evidence::{Act, Evidence, Kinds, NodeRef, history_witness};
use super::pool::Visited;
use super::verdict::{Finding, Tally, Verdict, Witness};
use crate::history::Ended;

/// No (session, sequence) takes effect at two indices; an entry has the same outcome on every node; no operation
/// that failed for certain takes effect (thesis §6.3).
///
/// Reads: `apply` lines, and the failed operations of the history. Fails: naming both lines. Unknown: `apply` lines
/// of a node may be missing, or no entry has a session. Cannot see: writes without a session. A compare-and-swap
/// that failed because it saw another value is in the log by right. Cost: O(n log n) in applied entries, with 32
/// bytes of memory for each.
pub fn exactly_once(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    let total = evidence.nodes().map(|(_, node)| node.applications()).sum();
    let mut outcomes: ByIndex<(Outcome, Line)> = ByIndex::new(total);
    let mut effects: Vec<Effect> = Vec::new();
    let (mut visited, mut all_agree) = (Visited::default(), true);
    for (node, facts) in evidence.nodes() {
        for (place, boot) in facts.boots.iter().enumerate() {
            for fact in &boot.facts {
                let Act::Apply { first, entries } = fact.act else { continue };
                let line = Line { node, place: place as u32, line: fact.line };
                // As long as all agree, the same application says nothing new.
                let old = if all_agree { visited.visit(entries) } else { 0 };
                for (index, entry) in (first..).zip(facts.applied(entries)).skip(old) {
                    if entry.session == 0 {
                        continue;
                    }
                    tally.examined += 1;
                    match outcomes.get(index) {
                        Some((before, other)) if *before != entry.outcome => {
                            all_agree = false;
                            tally.violated(outcome_differs(
                                evidence,
                                index,
                                (*before, *other),
                                (entry.outcome, line),
                            ));
                        }
                        Some(_) => {}
                        None => {
                            outcomes.insert(index, (entry.outcome, line));
                            if entry.outcome == Outcome::Applied {
                                let ticket = (entry.session, entry.sequence);
                                effects.push(Effect { ticket, index, line });
                            }
                        }
                    }
                }
            }
        }
    }
    effects.sort_unstable_by_key(|effect| (effect.ticket, effect.index));
    for pair in effects.windows(2) {
        if let [one, other] = pair
            && one.ticket == other.ticket
        {
            tally.violated(twice(evidence, one, other));
        }
    }
    failed_ones(evidence, &effects, &mut tally);
    tally.doubt_gaps(evidence, Kinds::APPLY);
    tally.verdict("no entry of a session was applied in any file", |_| {
        format!("{} writes of sessions took effect, each once; none of them had failed", effects.len())
    })
}

/// An entry that took effect.
struct Effect {
    ticket: (u64, u64),
    index: u64,
    line: Line,
}

#[derive(Clone, Copy)]
struct Line {
    node: NodeRef,
    place: u32,
    line: u32,
}

impl Line {
    fn witness(self, evidence: &Evidence, text: String) -> Option<Witness> {
        let file = evidence.nodes[self.node.0 as usize].file(self.place as usize)?.file.clone();
        Some(Witness { file, line: self.line, text: format!("{} {text}", evidence.name(self.node)) })
    }
}

fn failed_ones(evidence: &Evidence, effects: &[Effect], tally: &mut Tally) {
    let operations = &evidence.history.operations;
    let lives = operations.iter().filter(|operation| operation.ended != Ended::Fail);
    // An operation may be tried again with the ticket of one that failed.
    let lives: HashSet<_> = lives.filter_map(|operation| operation.ticket).collect();
    for (place, operation) in operations.iter().enumerate() {
        let (Ended::Fail, None, Some(ticket)) = (operation.ended, &operation.seen, operation.ticket) else {
            continue;
        };
        let Ok(at) = effects.binary_search_by_key(&ticket, |effect| effect.ticket) else { continue };
        if lives.contains(&ticket) {
            continue;
        }
        let (f, key, index) = (&operation.f, operation.key.as_deref().unwrap_or("?"), effects[at].index);
        let text = format!("a {f} of key {key} failed for certain, and took effect as entry {index}");
        let line = operation.completion_line.unwrap_or(operation.invoke_line);
        let error = operation.error.as_deref().unwrap_or("no reason");
        let told = format!("process {} was told that its {f} did not happen: {error}", operation.process);
        let effect = effects[at].line.witness(evidence, format!("applied it as entry {index}"));
        let witnesses: Vec<_> = [Some(history_witness(line, told)), effect].into_iter().flatten().collect();
        tally.violated(
            Finding::new(text, witnesses).about(About::FailedTookEffect { operation: place, index }),
        );
    }
}

fn twice(evidence: &Evidence, one: &Effect, other: &Effect) -> Finding {
    let (session, sequence) = one.ticket;
    let text = format!(
        "write {sequence} of session {session} took effect twice, as entry {} and as entry {}",
        one.index, other.index
    );
    let told =
        |effect: &Effect| effect.line.witness(evidence, format!("applied it as entry {}", effect.index));
    let about = About::Twice {
        ticket: one.ticket,
        nodes: [one.line.node, other.line.node],
        indices: [one.index, other.index],
    };
    Finding::new(text, [told(one), told(other)].into_iter().flatten().collect::<Vec<_>>()).about(about)
}

fn outcome_differs(evidence: &Evidence, index: u64, one: (Outcome, Line), other: (Outcome, Line)) -> Finding {
    let word = |outcome| match outcome {
        Outcome::Applied => "applied",
        Outcome::Duplicate => "took for a duplicate",
        Outcome::Refused => "refused",
    };
    let (name, other_name) = (evidence.name(one.1.node), evidence.name(other.1.node));
    let text = format!("{name} {} entry {index}, and {other_name} {} it", word(one.0), word(other.0));
    let told =
        |(outcome, line): (Outcome, Line)| line.witness(evidence, format!("{} entry {index}", word(outcome)));
    let about = About::OutcomeDiffers { nodes: [one.1.node, other.1.node], index };
    Finding::new(text, [told(one), told(other)].into_iter().flatten().collect::<Vec<_>>()).about(about)
}
