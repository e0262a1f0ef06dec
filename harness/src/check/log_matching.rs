//! Two logs that share an entry are the same up to it (§5.3).

use std::collections::HashMap;

use super::about::{About, EntryId};
use super::by_index::ByIndex;
use super::evidence::{Act, Boot, Entry, Evidence, Fact, Kinds, NodeRef, witness};
use super::pool::Visited;
use super::replay::{Log, Misfit, Replay};
use super::verdict::{Finding, Tally, Verdict, Witness};

/// (index, term) -> h is a function, over every append of every node at all times, and over the dumps (§5.3).
///
/// Reads: `boot`, `append`, `truncate` and `snapshot` lines, and the dumps. Fails: naming the first two lines that
/// show one index and term with different logs up to there; or a line that appends where the log has entries that
/// no line cut, or beyond its end. Unknown: such lines of a node, or its dump, may be missing. Cannot see: entries
/// that never became durable; the log before a snapshot that no file shows. Cost: O(entries), and 32 bytes of
/// memory for each distinct entry.
pub fn log_matching(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    let mut known = Positions::new(evidence);
    let (mut visited, mut all_agree) = (Visited::default(), true);
    for (node, facts) in evidence.nodes() {
        let mut replay = Replay::default();
        let mut differed = false;
        for (place, boot) in facts.files().enumerate() {
            for fact in &boot.facts {
                let trusted = replay.trusted;
                if let (Err(misfit), true) = (replay.take(facts, fact), trusted) {
                    tally.violated(unfit(evidence, node, boot, fact, misfit));
                }
                let Act::Append { first, entries, .. } = fact.act else { continue };
                tally.examined += u64::from(entries.len);
                // As long as all agree, the same log says nothing new.
                let old = if all_agree { visited.visit(entries) } else { 0 };
                for (index, held) in (first..).zip(facts.appended(entries)).skip(old) {
                    let (chain, entry) = (held.chain().unwrap_or(0), held.entry);
                    let seen = Seen { chain, entry, node, place: place as u32, line: fact.line };
                    let Some(before) = known.meet(index, seen) else { continue };
                    // One difference makes all later chain hashes differ: it is told once for each node.
                    if !differed {
                        tally.violated(difference(evidence, index, &before, &seen));
                    }
                    (differed, all_agree) = (true, false);
                }
            }
        }
    }
    tally.doubt_gaps(evidence, Kinds::LOG | Kinds::DUMP);
    let distinct = known.count;
    tally.verdict("no entry in any file", |entries| {
        format!("{entries} entries seen, {distinct} distinct: logs that share an entry agree up to it")
    })
}

/// Where an entry was seen first, and what the log was up to there.
#[derive(Clone, Copy)]
struct Seen {
    /// 0: not known.
    chain: u64,
    entry: Entry,
    node: NodeRef,
    /// Among [`super::evidence::Node::files`].
    place: u32,
    line: u32,
}

/// What is known of each (index, term). Most indices have one term, which stands in `first`.
struct Positions {
    first: ByIndex<Seen>,
    others: HashMap<(u64, u32), Seen>,
    count: u64,
}

impl Positions {
    fn new(evidence: &Evidence) -> Positions {
        let entries: usize = evidence.nodes().map(|(_, node)| node.entries()).sum();
        Positions { first: ByIndex::new(entries), others: HashMap::new(), count: 0 }
    }

    /// Learns what was seen, or returns what it contradicts.
    fn meet(&mut self, index: u64, seen: Seen) -> Option<Seen> {
        let term = seen.entry.term;
        let place = match self.first.get_mut(index) {
            Some(first) if first.entry.term == term => Some(first),
            Some(_) => self.others.get_mut(&(index, term)),
            None => {
                self.count += 1;
                self.first.insert(index, seen);
                return None;
            }
        };
        let Some(before) = place else {
            self.count += 1;
            self.others.insert((index, term), seen);
            return None;
        };
        let differs = before.entry != seen.entry
            || (before.chain != seen.chain && before.chain != 0 && seen.chain != 0);
        if before.chain == 0 && !differs {
            before.chain = seen.chain;
        }
        differs.then_some(*before)
    }
}

fn difference(evidence: &Evidence, index: u64, before: &Seen, seen: &Seen) -> Finding {
    let (one, other) = (evidence.name(before.node), evidence.name(seen.node));
    let term = seen.entry.term;
    let text = if before.entry != seen.entry {
        format!("{one} and {other} hold different entries at index {index} of term {term}")
    } else {
        format!("{one} and {other} share entry {index} of term {term}, and their logs below it differ")
    };
    let told = |seen: &Seen| -> Option<Witness> {
        let boot = evidence.nodes[seen.node.0 as usize].file(seen.place as usize)?;
        let text = format!(
            "{}: entry {index}, {} of term {term}, digest {}, log up to it {:016x}",
            evidence.name(seen.node),
            seen.entry.kind,
            seen.entry.digest,
            seen.chain
        );
        Some(Witness { file: boot.file.clone(), line: seen.line, text })
    };
    let entries = [before, seen].map(|seen| {
        let Entry { term, digest, .. } = seen.entry;
        EntryId { index, term, digest }
    });
    let lost_at = lost_at(evidence, index, before, seen);
    let about = About::Conflict { nodes: [before.node, seen.node], entries, lost_at };
    Finding::new(text, [before, seen].into_iter().filter_map(told).collect::<Vec<_>>()).about(about)
}

/// See [`About::Conflict`]. Follows both nodes anew.
fn lost_at(evidence: &Evidence, index: u64, before: &Seen, seen: &Seen) -> (u64, u64) {
    let term = |entry: Entry| u64::from(entry.term);
    let below = (before.entry == seen.entry).then(|| {
        let (one, other) = (log_with(evidence, index, before)?, log_with(evidence, index, seen)?);
        let parted = one.parts_from(&other, index)?;
        let terms = |index| Some((index, term(one.get(index)?.entry), term(other.get(index)?.entry)));
        (parted..=index).filter_map(terms).find(|(_, own, other)| own == other)
    });
    below.flatten().map_or((index, term(seen.entry)), |(index, term, _)| (index, term))
}

/// The log of a node when it held this entry: after that line, or when it was through with what its disk gave back.
fn log_with(evidence: &Evidence, index: u64, seen: &Seen) -> Option<Log> {
    let facts = &evidence.nodes[seen.node.0 as usize];
    let mut replay = Replay::default();
    for (place, boot) in facts.files().enumerate() {
        for fact in &boot.facts {
            _ = replay.take(facts, fact);
            let is_told = (place, fact.line) >= (seen.place as usize, seen.line);
            let held = replay.log.get(index).filter(|held| held.entry == seen.entry);
            if is_told && held.is_some_and(|held| held.chain().unwrap_or(0) == seen.chain) {
                return Some(replay.log);
            }
        }
    }
    None
}

fn unfit(evidence: &Evidence, node: NodeRef, boot: &Boot, fact: &Fact, misfit: Misfit) -> Finding {
    let name = evidence.name(node);
    let (text, entries) = match misfit {
        Misfit::Hole { first, last } => (
            format!("{name} appended from entry {first} on, and its log ended at {last}"),
            last + 1..=first - 1,
        ),
        Misfit::Overwrite { first, last } => (
            format!("{name} appended from entry {first} on over entries up to {last} that no line had cut"),
            first..=last,
        ),
    };
    let told = format!("{text} ({})", evidence.at(fact.t));
    let about = About::Unfit { node, entries, at: boot.time_of(fact) };
    Finding::new(text, [witness(boot, fact, told)]).about(about)
}
