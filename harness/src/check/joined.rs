//! The clients' operations joined to what the nodes did with them: which entry, committed and applied when and by whom.
//!
//! In: evidence, and what findings are about. Out: [`Joined`]. Never: a verdict; memory for anything but the entries
//! that findings touch. It is made once, and only when something is violated: it goes over all lines once more.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use mkraft_proto::evidence::Digest;

use super::about::{About, EntryId, Indices};
use super::evidence::{Act, Evidence, Kinds, Node, NodeRef};
use super::replay::Replay;
use crate::history::{Ended, Operation};

pub struct Joined<'e> {
    pub evidence: &'e Evidence,
    entries: BTreeMap<EntryId, Joint>,
    of_ticket: HashMap<(u64, u64), Vec<EntryId>>,
    /// Places in the history's operations.
    operations: HashMap<(u64, u64), usize>,
    standings: BTreeMap<(NodeRef, u64), Standing>,
}

/// What became of an entry.
#[derive(Debug, Default)]
pub struct Joint {
    /// Session and sequence; none when it has no client, or nobody applied it or one like it.
    pub ticket: Option<(u64, u64)>,
    /// By each node that knew it to be committed, the first time: in the order of time.
    pub commits: Vec<Known>,
    /// By each node that applied it, the first time: in the order of time.
    pub applied: Vec<Known>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub t: u64,
    pub node: NodeRef,
    /// The node's own term then; 0 when its lines do not say.
    pub term: u64,
}

/// How a node stood at a moment, as far as its lines tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub leads: bool,
    pub term: u64,
    pub commit: u64,
    pub applied: u64,
}

/// What is asked of the evidence.
#[derive(Default)]
struct Wanted {
    indices: Vec<Indices>,
    terms: BTreeSet<u64>,
    digests: HashSet<Digest>,
    tickets: HashSet<(u64, u64)>,
    moments: BTreeMap<NodeRef, BTreeSet<u64>>,
}

impl<'e> Joined<'e> {
    /// Joins what these findings touch.
    pub fn of<'a>(evidence: &'e Evidence, abouts: impl Iterator<Item = &'a About>) -> Joined<'e> {
        let mut wanted = Wanted::default();
        let mut joined = Joined {
            evidence,
            entries: BTreeMap::new(),
            of_ticket: HashMap::new(),
            operations: HashMap::new(),
            standings: BTreeMap::new(),
        };
        for about in abouts {
            wanted.add(evidence, about);
            if let About::Conflict { entries, .. } | About::Diverged { entries, .. } = about {
                entries.iter().for_each(|&entry| _ = joined.entries.entry(entry).or_default());
            }
        }
        wanted.indices = merged(wanted.indices);
        evidence.nodes().for_each(|(node, facts)| joined.applications(&wanted, node, facts));
        evidence.nodes().for_each(|(node, facts)| joined.follow(&wanted, node, facts));
        joined.operations();
        for joint in joined.entries.values_mut() {
            joint.applied.sort_by_key(|known| known.t);
            joint.commits.sort_by_key(|known| known.t);
        }
        joined
    }

    /// All that is known of an entry.
    pub fn entry(&self, entry: EntryId) -> Option<&Joint> {
        self.entries.get(&entry)
    }

    /// What is known of the entries at these indices.
    pub fn at(&self, indices: Indices) -> impl Iterator<Item = (EntryId, &Joint)> {
        let first = EntryId { index: *indices.start(), term: 0, digest: Digest(0) };
        let last = EntryId { index: *indices.end(), term: u32::MAX, digest: Digest(u64::MAX) };
        // A stretch may be empty, which a range of a map may not.
        let range = (first <= last).then(|| self.entries.range(first..=last));
        range.into_iter().flatten().map(|(&entry, joint)| (entry, joint))
    }

    /// What is known of the entries that a leader of this term made.
    pub fn of_term(&self, term: u64) -> impl Iterator<Item = (EntryId, &Joint)> {
        let entries = self.entries.iter().map(|(&entry, joint)| (entry, joint));
        entries.filter(move |(entry, _)| u64::from(entry.term) == term)
    }

    /// The client's operation that an entry is, as its place in the history's operations.
    pub fn operation_of(&self, joint: &Joint) -> Option<(usize, &'e Operation)> {
        let number = *self.operations.get(&joint.ticket?)?;
        Some((number, self.evidence.history.operations.get(number)?))
    }

    /// The entries an operation became; more than one when it was tried again, or nodes disagree.
    pub fn entries_of(&self, operation: usize) -> impl Iterator<Item = (EntryId, &Joint)> {
        let ticket = self.evidence.history.operations.get(operation).and_then(|operation| operation.ticket);
        let entries = ticket.and_then(|ticket| self.of_ticket.get(&ticket));
        entries.into_iter().flatten().filter_map(|&entry| Some((entry, self.entries.get(&entry)?)))
    }

    /// True when some node applied another entry at the same index.
    pub fn replaced(&self, entry: EntryId) -> bool {
        self.at(entry.index..=entry.index).any(|(other, joint)| other != entry && !joint.applied.is_empty())
    }

    /// How a node stood when an operation was asked of it, or had been answered; none when its lines do not say.
    pub fn standing(&self, node: NodeRef, t: u64) -> Option<Standing> {
        self.standings.get(&(node, t)).copied()
    }

    /// Finds the entries that are asked for, with whoever applied them.
    fn applications(&mut self, wanted: &Wanted, node: NodeRef, facts: &Node) {
        for (_, fact) in facts.facts() {
            let Act::Apply { first, entries } = fact.act else { continue };
            for (index, applied) in (first..).zip(facts.applied(entries)) {
                let ticket = Some((applied.session, applied.sequence)).filter(|&ticket| ticket != (0, 0));
                let wants = ticket.is_some_and(|ticket| wanted.tickets.contains(&ticket))
                    || wanted.has_index(index)
                    || wanted.terms.contains(&u64::from(applied.term))
                    || wanted.digests.contains(&applied.digest);
                if !wants {
                    continue;
                }
                let entry = EntryId { index, term: applied.term, digest: applied.digest };
                let joint = self.entries.entry(entry).or_default();
                joint.ticket = joint.ticket.or(ticket);
                note(&mut joint.applied, Known { t: fact.t, node, term: 0 });
                if let Some(ticket) = ticket {
                    let entries = self.of_ticket.entry(ticket).or_default();
                    if !entries.contains(&entry) {
                        entries.push(entry);
                    }
                }
            }
        }
    }

    /// Follows a node for its commits and for how it stood.
    fn follow(&mut self, wanted: &Wanted, node: NodeRef, facts: &Node) {
        let mut replay = Replay::default();
        let (mut applied, mut begun) = (0, false);
        // A leader may know of a commit before its own disk has the entry.
        let mut waiting: Vec<(u64, Known)> = Vec::new();
        let empty = BTreeSet::new();
        let mut moments = wanted.moments.get(&node).unwrap_or(&empty).iter().copied().peekable();
        let stands = |replay: &Replay, applied: u64| Standing {
            leads: replay.leads(),
            term: replay.term,
            commit: replay.commit,
            applied,
        };
        let whole = self.evidence.is_whole(node, Kinds::ROLE | Kinds::BOOT | Kinds::COMMIT | Kinds::APPLY);
        for (_, fact) in facts.facts() {
            while let Some(t) = moments.next_if(|&t| t < fact.t) {
                if begun && whole {
                    self.standings.insert((node, t), stands(&replay, applied));
                }
            }
            let before = replay.commit;
            _ = replay.take(facts, fact);
            match &fact.act {
                Act::Boot(act) => {
                    (applied, begun) = (act.snapshot, true);
                    waiting.clear();
                }
                Act::Apply { first, entries } => {
                    applied = first.saturating_add(facts.applied(*entries).len() as u64).saturating_sub(1);
                }
                Act::Stop => begun = false,
                Act::Hole => waiting.clear(),
                Act::Commit { index, term } => {
                    let known = Known { t: fact.t, node, term: *term };
                    let range = before.saturating_add(1)..=*index;
                    let indices: BTreeSet<u64> = self.at(range).map(|(entry, _)| entry.index).collect();
                    waiting.extend(indices.into_iter().map(|index| (index, known)));
                    self.settle(&mut waiting, &replay);
                }
                Act::Append { .. } if !waiting.is_empty() => self.settle(&mut waiting, &replay),
                _ => {}
            }
        }
        for t in moments {
            if begun && whole {
                self.standings.insert((node, t), stands(&replay, applied));
            }
        }
    }

    /// Notes the commits whose entry the log has.
    fn settle(&mut self, waiting: &mut Vec<(u64, Known)>, replay: &Replay) {
        waiting.retain(|&(index, known)| {
            let Some(held) = replay.log.get(index) else { return true };
            let entry = EntryId { index, term: held.entry.term, digest: held.entry.digest };
            if let Some(joint) = self.entries.get_mut(&entry) {
                note(&mut joint.commits, known);
            }
            false
        });
    }

    /// Finds whose the entries are: also those that nobody applied, when one of the same content was applied elsewhere.
    fn operations(&mut self) {
        let known = self.entries.iter().filter_map(|(entry, joint)| Some((entry.digest, joint.ticket?)));
        let by_digest: HashMap<Digest, (u64, u64)> = known.collect();
        for (entry, joint) in self.entries.iter_mut().filter(|(_, joint)| joint.ticket.is_none()) {
            joint.ticket = by_digest.get(&entry.digest).copied();
        }
        let tickets: HashSet<_> = self.entries.values().filter_map(|joint| joint.ticket).collect();
        for (number, operation) in self.evidence.history.operations.iter().enumerate() {
            if let Some(ticket) = operation.ticket.filter(|ticket| tickets.contains(ticket)) {
                // One that failed for certain may be tried again with the same ticket.
                let known = self.operations.entry(ticket).or_insert(number);
                if self.evidence.history.operations[*known].ended == Ended::Fail {
                    *known = number;
                }
            }
        }
    }
}

impl Wanted {
    fn add(&mut self, evidence: &Evidence, about: &About) {
        self.indices.extend(about.indices());
        match about {
            About::TwoLeaders { term, .. } => _ = self.terms.insert(*term),
            About::Conflict { entries, .. } => self.digests.extend(entries.iter().map(|entry| entry.digest)),
            About::Twice { ticket, .. } => _ = self.tickets.insert(*ticket),
            About::FailedTookEffect { operation, .. } | About::WriteLost { operation, .. } => {
                self.operation(evidence, *operation);
            }
            About::Unordered { operations } => {
                operations.iter().for_each(|&operation| self.operation(evidence, operation));
            }
            _ => {}
        }
    }

    fn operation(&mut self, evidence: &Evidence, number: usize) {
        let Some(operation) = evidence.history.operations.get(number) else { return };
        self.tickets.extend(operation.ticket);
        let asked = operation.node.as_deref().and_then(|name| evidence.node_named(name));
        if let Some(node) = asked {
            let moments = [Some(operation.invoked_at), operation.completed_at];
            self.moments.entry(node).or_default().extend(moments.into_iter().flatten());
        }
    }

    fn has_index(&self, index: u64) -> bool {
        let at = self.indices.partition_point(|stretch| *stretch.end() < index);
        self.indices.get(at).is_some_and(|stretch| stretch.contains(&index))
    }
}

/// Keeps the first time of each node.
fn note(list: &mut Vec<Known>, known: Known) {
    match list.iter_mut().find(|other| other.node == known.node) {
        Some(other) if other.t <= known.t => {}
        Some(other) => *other = known,
        None => list.push(known),
    }
}

/// In order, and without overlaps.
fn merged(mut stretches: Vec<Indices>) -> Vec<Indices> {
    stretches.sort_by_key(|stretch| *stretch.start());
    let mut merged: Vec<Indices> = Vec::new();
    for stretch in stretches {
        super::about::extend(&mut merged, stretch);
    }
    merged
}

/// The operations that witnesses name by a line of the history, as places in its operations.
pub fn operations_at(evidence: &Evidence, lines: &BTreeSet<u32>) -> HashMap<u32, usize> {
    let mut found = HashMap::new();
    for (number, operation) in evidence.history.operations.iter().enumerate() {
        for line in [Some(operation.invoke_line), operation.completion_line].into_iter().flatten() {
            if lines.contains(&line) {
                found.insert(line, number);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_joined_where_they_touch_and_an_index_is_found_in_them() {
        let indices = merged(vec![7..=9, 1..=2, 3..=3, 20..=20, 8..=12]);
        assert_eq!(indices, [1..=3, 7..=12, 20..=20]);
        let wanted = Wanted { indices, ..Wanted::default() };
        let found: Vec<u64> = (0..25).filter(|&index| wanted.has_index(index)).collect();
        assert_eq!(found, [1, 2, 3, 7, 8, 9, 10, 11, 12, 20]);
    }

    #[test]
    fn of_each_node_the_first_time_counts() {
        let known = |t, node| Known { t, node: NodeRef(node), term: 1 };
        let mut list = Vec::new();
        [known(5, 0), known(3, 1), known(2, 0), known(9, 1)].into_iter().for_each(|it| note(&mut list, it));
        assert_eq!(list, [known(2, 0), known(3, 1)]);
    }
}
