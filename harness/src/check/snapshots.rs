//! The part of state-machine-safety that compares snapshots with one another and with what was applied.
//!
//! In: evidence, and in which term each entry was applied. Out: findings in the caller's tally. Never: a verdict of its
//! own, or a look at who had applied what when.

use std::collections::BTreeMap;

use mkraft_proto::evidence::Digest;

use super::evidence::{Act, Boot, Evidence, Fact, NodeRef, witness};
use super::verdict::{Finding, Tally, Witness};

/// What a line tells of the state up to an index.
#[derive(Clone, Copy)]
struct Told<'e> {
    evidence: &'e Evidence,
    node: NodeRef,
    boot: &'e Boot,
    fact: &'e Fact,
    index: u64,
    term: u64,
    digest: Digest,
}

/// One log makes one state at each index, and holds one entry there, of one term. What is wrong with a node's snapshots is
/// told once.
pub fn snapshots(evidence: &Evidence, applied_in: impl Fn(u64) -> Option<(u64, Witness)>, tally: &mut Tally) {
    let mut known: BTreeMap<u64, Told> = BTreeMap::new();
    for (node, facts) in evidence.nodes() {
        let lines = facts.files().flat_map(|boot| boot.facts.iter().map(move |fact| (boot, fact)));
        let mut told = lines.filter_map(|(boot, fact)| match fact.act {
            Act::Snapshot { index, term, digest, .. } => {
                Some(Told { evidence, node, boot, fact, index, term, digest })
            }
            _ => None,
        });
        let finding = told.find_map(|told| {
            let first = known.entry(told.index).or_insert(told);
            told.against(first).or_else(|| told.against_applied(applied_in(told.index)?))
        });
        finding.into_iter().for_each(|finding| tally.violated(finding));
    }
}

impl Told<'_> {
    fn name(&self) -> &str {
        self.evidence.name(self.node)
    }

    fn witness(&self) -> Witness {
        let Told { index, term, digest, .. } = self;
        let text = format!("{}'s snapshot up to entry {index} has term {term}, digest {digest}", self.name());
        witness(self.boot, self.fact, text)
    }

    fn against(&self, first: &Told) -> Option<Finding> {
        let (one, other, index) = (first.name(), self.name(), self.index);
        let text = if first.digest != self.digest {
            format!("snapshots of {one} and {other} up to entry {index} hold different states")
        } else if first.term != self.term {
            format!("snapshots of {one} and {other} end at entry {index}, and not in one term")
        } else {
            return None;
        };
        Some(Finding::new(text, [first.witness(), self.witness()]))
    }

    fn against_applied(&self, (term, applied): (u64, Witness)) -> Option<Finding> {
        let text = format!(
            "{}'s snapshot ends at entry {} of term {}, which was applied as of term {term}",
            self.name(),
            self.index,
            self.term
        );
        (self.term != term).then(|| Finding::new(text, [applied, self.witness()]))
    }
}
