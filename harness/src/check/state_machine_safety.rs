//! All nodes apply the same entries in the same order (§5.4.3).

use super::by_index::ByIndex;
use super::evidence::{Act, Applied, Boot, Evidence, Fact, Kinds, NodeRef, witness};
use super::replay::Replay;
use super::verdict::{Finding, Tally, Verdict, Witness};

/// index -> (term, digest) applied is a function over all nodes and boots; each boot applies in order and without
/// gaps from its snapshot on, what its own log holds, and never beyond what it knows to be committed (§5.4.3).
///
/// Reads: `boot`, `commit`, `apply` and all that tells of the log. Fails: naming the lines. Unknown: such lines of
/// a node may be missing, or nothing was applied. Cannot see: whether two machines made the same of the same
/// command. Cost: O(entries), and memory for each distinct one.
pub fn state_machine_safety(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    let total = evidence.nodes().map(|(_, node)| node.applications()).sum();
    let mut known: ByIndex<Seen> = ByIndex::new(total);
    for (node, facts) in evidence.nodes() {
        let mut replay = Replay::default();
        // None while lines are missing.
        let mut next: Option<u64> = None;
        let mut differed = false;
        for (place, boot) in facts.boots.iter().enumerate() {
            for fact in &boot.facts {
                _ = replay.take(facts, fact);
                match &fact.act {
                    Act::Boot(act) => next = Some(act.snapshot + 1),
                    Act::Snapshot { index, installed: true, .. } => next = Some(index + 1),
                    Act::Hole => next = None,
                    _ => {}
                }
                let Act::Apply { first, entries } = fact.act else { continue };
                let here = Here { evidence, node, boot, fact };
                let entries = facts.applied(entries);
                if let Some(finding) = here.order(first, entries.len() as u64, next, &replay) {
                    tally.violated(finding);
                }
                next = next.map(|_| first + entries.len() as u64);
                for (index, &entry) in (first..).zip(entries) {
                    tally.examined += 1;
                    let seen = Seen { entry, node, place: place as u32, line: fact.line };
                    let finding =
                        here.same(index, seen, &mut known).or_else(|| here.own(index, entry, &replay));
                    // What follows a difference differs too: it is told once for each node.
                    if let (Some(finding), false) = (finding, differed) {
                        tally.violated(finding);
                        differed = true;
                    }
                }
            }
        }
    }
    tally.doubt_gaps(evidence, Kinds::LOG | Kinds::COMMIT | Kinds::APPLY);
    let distinct = known.iter().count();
    tally.verdict("nothing was applied in any file", |applied| {
        format!(
            "{applied} applications of {distinct} entries: in order, never beyond commit, everywhere the same"
        )
    })
}

#[derive(Clone, Copy)]
struct Seen {
    entry: Applied,
    node: NodeRef,
    place: u32,
    line: u32,
}

/// The line that is looked at.
#[derive(Clone, Copy)]
struct Here<'e> {
    evidence: &'e Evidence,
    node: NodeRef,
    boot: &'e Boot,
    fact: &'e Fact,
}

impl Here<'_> {
    fn order(&self, first: u64, count: u64, next: Option<u64>, replay: &Replay) -> Option<Finding> {
        let (name, at) = (self.evidence.name(self.node), self.evidence.at(self.fact.t));
        let last = first + count.saturating_sub(1);
        let text = match next {
            Some(next) if first != next => {
                format!("{name} applied entry {first} at {at}, when entry {next} was next")
            }
            _ if replay.trusted && last > replay.commit => {
                let commit = replay.commit;
                format!("{name} applied entry {last} at {at}, when it knew no more than {commit} committed")
            }
            _ => return None,
        };
        Some(Finding::new(text.clone(), [witness(self.boot, self.fact, text)]))
    }

    fn same(&self, index: u64, seen: Seen, known: &mut ByIndex<Seen>) -> Option<Finding> {
        let Some(before) = known.get(index) else {
            known.insert(index, seen);
            return None;
        };
        if (before.entry.term, before.entry.digest) == (seen.entry.term, seen.entry.digest) {
            return None;
        }
        let (one, other) = (self.evidence.name(before.node), self.evidence.name(self.node));
        let told = |name: &str, entry: Applied| {
            format!("{name} applied entry {index} as of term {}, digest {}", entry.term, entry.digest)
        };
        let file = self.evidence.nodes[before.node.0 as usize].file(before.place as usize)?.file.clone();
        let first = Witness { file, line: before.line, text: told(one, before.entry) };
        let second = witness(self.boot, self.fact, told(other, seen.entry));
        let text = match one == other {
            true => format!("{one} applied two different entries at index {index}"),
            false => format!("{one} and {other} applied different entries at index {index}"),
        };
        Some(Finding::new(text, [first, second]))
    }

    fn own(&self, index: u64, entry: Applied, replay: &Replay) -> Option<Finding> {
        let held = replay.log.get(index).filter(|_| replay.trusted)?.entry;
        if (held.term, held.digest) == (entry.term, entry.digest) {
            return None;
        }
        let name = self.evidence.name(self.node);
        let text = format!(
            "{name} applied entry {index} as of term {}, digest {}; its own log has term {}, digest {}",
            entry.term, entry.digest, held.term, held.digest
        );
        Some(Finding::new(text.clone(), [witness(self.boot, self.fact, text)]))
    }
}
