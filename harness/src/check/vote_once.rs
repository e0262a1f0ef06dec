//! No node votes for two candidates in one term (§5.2).

use std::collections::{BTreeMap, BTreeSet};

use super::about::About;
use super::evidence::{Act, Evidence, Kinds, NodeRef, witness};
use super::verdict::{Finding, Tally, Verdict, Witness, count};

/// No node votes for two candidates in one term, over all its boots (§5.2, and §8 of the extended paper).
///
/// Reads: every `vote` line, and the vote that each `boot` line says the disk gave back. Fails: naming two lines
/// of one node and one term with different candidates. Unknown: `boot` or `vote` lines of a node may be missing.
/// Cannot see: a vote that was granted without a line; that a vote was forgotten while nobody asked again (see
/// durability). Cost: O(votes).
pub fn vote_once(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    for (node, facts) in evidence.nodes() {
        let name = evidence.name(node);
        let mut told_of: BTreeSet<(u64, NodeRef)> = BTreeSet::new();
        let mut votes: BTreeMap<u64, (NodeRef, u64, Witness)> = BTreeMap::new();
        for (boot, fact) in facts.facts() {
            let (term, candidate, verb) = match &fact.act {
                Act::Vote { term, candidate } => (*term, *candidate, "voted"),
                Act::Boot(act) => match act.vote {
                    Some(vote) => (act.term, vote, "read back from its disk that it voted"),
                    None => continue,
                },
                _ => continue,
            };
            tally.examined += 1;
            let (at, for_whom) = (evidence.at(fact.t), evidence.name(candidate));
            let told = witness(boot, fact, format!("{name} {verb} for {for_whom} in term {term} at {at}"));
            match votes.get(&term) {
                Some((earlier, since, first)) if *earlier != candidate => {
                    // Each boot after it reads the second vote back.
                    if !told_of.insert((term, candidate)) {
                        continue;
                    }
                    let candidates = [*earlier, candidate];
                    let about = About::TwoVotes { node, term, candidates, at: [*since, fact.t] };
                    let earlier = evidence.name(*earlier);
                    let text = format!("{name} voted in term {term} for {earlier} and for {for_whom}");
                    tally.violated(Finding::new(text, [first.clone(), told]).about(about));
                }
                Some(_) => {}
                None => _ = votes.insert(term, (candidate, fact.t, told)),
            }
        }
    }
    tally.doubt_gaps(evidence, Kinds::BOOT | Kinds::VOTE);
    tally.verdict("no vote in any file", |votes| {
        format!("{}: no node voted for two in one term", count(votes, "vote"))
    })
}
