//! A node's term never falls (§5.1).

use super::about::About;
use super::evidence::{Act, Boot, Evidence, Fact, Kinds, witness};
use super::verdict::{Finding, Tally, Verdict, count};

/// A node's term never falls, over all its boots (§5.1).
///
/// Reads: the term in every `boot`, `role`, `vote` and `commit` line of a node, in order. Fails: naming the line
/// with the higher term and the later line with the lower one. Unknown: such lines of a node may be missing.
/// Cannot see: a term a node was in without writing a line. Cost: O(lines).
pub fn term_monotonic(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    for (node, facts) in evidence.nodes() {
        let name = evidence.name(node);
        let mut highest: Option<(u64, &Boot, &Fact)> = None;
        for (boot, fact) in facts.facts() {
            let Some(term) = term(&fact.act) else { continue };
            tally.examined += 1;
            match highest {
                Some((before, earlier_boot, earlier)) if term < before => {
                    let text =
                        format!("{name} fell from term {before} to term {term} at {}", evidence.at(fact.t));
                    let higher = format!("{name} is in term {before} at {}", evidence.at(earlier.t));
                    let lower = format!("{name} is in term {term} at {}", evidence.at(fact.t));
                    let witnesses = [witness(earlier_boot, earlier, higher), witness(boot, fact, lower)];
                    let about = About::TermFell { node, from: before, to: term, at: fact.t };
                    tally.violated(Finding::new(text, witnesses).about(about));
                    highest = Some((term, boot, fact));
                }
                Some((before, ..)) if term == before => {}
                _ => highest = Some((term, boot, fact)),
            }
        }
    }
    tally.doubt_gaps(evidence, Kinds::BOOT | Kinds::ROLE | Kinds::VOTE | Kinds::COMMIT);
    tally.verdict("no line with a term in any file", |examined| {
        format!("in {} no term fell", count(examined, "line"))
    })
}

fn term(act: &Act) -> Option<u64> {
    match act {
        Act::Boot(boot) => Some(boot.term),
        Act::Role { term, .. } | Act::Vote { term, .. } | Act::Commit { term, .. } => Some(*term),
        _ => None,
    }
}
