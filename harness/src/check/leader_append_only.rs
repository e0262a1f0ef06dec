//! A leader never cuts or overwrites its own log (§5.3).

use super::about::About;
use super::evidence::{Act, Boot, Evidence, Fact, Kinds, witness};
use super::replay::{Misfit, Replay};
use super::verdict::{Finding, Tally, Verdict, count};

/// A leader never cuts or overwrites its own log (§5.3).
///
/// Reads: `role`, `truncate` and `append` lines of each node in order. Fails: naming the line that made it leader
/// and the one that cuts or overwrites. Unknown: such lines of a node may be missing, or no leader appended
/// anything. Cannot see: what a leader changes in memory only. Cost: O(entries).
pub fn leader_append_only(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    for (node, facts) in evidence.nodes() {
        let name = evidence.name(node);
        let mut replay = Replay::default();
        let mut elected: Option<(&Boot, &Fact)> = None;
        for (boot, fact) in facts.facts() {
            let last = replay.log.last();
            let fits = replay.take(facts, fact);
            match &fact.act {
                Act::Boot(_) | Act::Hole => elected = None,
                Act::Role { .. } => elected = replay.leads().then_some((boot, fact)),
                _ => {}
            }
            let Some((election_boot, election)) = elected else { continue };
            let (act, entries) = match (&fact.act, fits) {
                (Act::Append { .. }, Err(Misfit::Overwrite { first, last })) => {
                    (format!("overwrote its entries {first} to {last}"), first..=last)
                }
                (Act::Append { .. }, _) => {
                    tally.examined += 1;
                    continue;
                }
                (Act::Truncate { after }, _) => {
                    let entries = after.saturating_add(1)..=last.max(after.saturating_add(1));
                    (format!("cut its own log after entry {after}"), entries)
                }
                _ => continue,
            };
            let term = replay.term;
            let elected = format!("{name} became leader of term {term} at {}", evidence.at(election.t));
            let text = format!("{name}, leader of term {term}, {act} at {}", evidence.at(fact.t));
            let witnesses =
                [witness(election_boot, election, elected), witness(boot, fact, format!("{name} {act}"))];
            let about = About::OwnLogCut { node, term, entries, at: fact.t };
            tally.violated(Finding::new(text, witnesses).about(about));
        }
    }
    tally.doubt_gaps(evidence, Kinds::LOG | Kinds::ROLE);
    tally.verdict("no leader appended anything in any file", |appends| {
        format!("{} by leaders, none of them cut or overwrote", count(appends, "append"))
    })
}
