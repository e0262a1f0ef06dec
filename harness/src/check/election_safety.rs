//! At most one node wins each term (§5.2).

use std::collections::BTreeMap;

use mkraft_proto::evidence::Role;

use super::about::About;
use super::elected::elected;
use super::evidence::{Act, Evidence, Kinds, NodeRef, witness};
use super::membership::membership;
use super::verdict::{Finding, Tally, Verdict, Witness, count};

/// At most one node wins each term (§5.2), by the votes of a quorum; and where there are entries, there was a leader.
///
/// Reads: every node's `role`, `vote`, `config` and `append` lines. Fails: naming the lines with which two nodes, or one node
/// twice, became leader of one term; that of a leader fewer than a quorum had voted for; a line with an entry of a term nobody led;
/// `config` lines that contradict the log, one another, or the way in which voters change (§6). Unknown:
/// `role` lines of a node may be missing, a vote is for nobody of this run, or no node ever led. Cannot see: a leader
/// killed before its line was written. Cost: O(lines).
pub fn election_safety(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    let mut leaders: BTreeMap<u64, (NodeRef, Witness)> = BTreeMap::new();
    for (node, facts) in evidence.nodes() {
        let name = evidence.name(node);
        for (boot, fact) in facts.facts() {
            let Act::Role { term, role: Role::Leader } = fact.act else { continue };
            tally.examined += 1;
            let at = evidence.at(fact.t);
            let told = witness(boot, fact, format!("{name} became leader of term {term} at {at}"));
            match leaders.get(&term) {
                Some((other, first)) if *other != node => {
                    let text = format!("term {term} had two leaders: {} and {name}", evidence.name(*other));
                    let about = About::TwoLeaders { term, leaders: [*other, node], at: fact.t };
                    tally.violated(Finding::new(text, [first.clone(), told]).about(about));
                }
                // A leader that gave up, or was started again, may win a higher term only.
                Some((_, first)) => {
                    let text = format!("{name} became leader of term {term} a second time");
                    tally.violated(Finding::new(text, [first.clone(), told]));
                }
                None => _ = leaders.insert(term, (node, told)),
            }
        }
    }
    elected(evidence, &mut tally);
    membership(evidence, &mut tally);
    tally.doubt_gaps(evidence, Kinds::ROLE);
    tally.verdict("no node became leader in any file", |_| {
        format!("{} had a leader, none had two", count(leaders.len() as u64, "term"))
    })
}
