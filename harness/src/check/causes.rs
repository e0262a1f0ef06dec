//! Which violation follows from which, so that one root cause is told once.
//!
//! In: all that is wrong in a run, as facts. Out: for each finding its direct causes, and for each root what follows
//! from it. Never: a link between two checks because of what they are; only because of the facts they share.
//!
//! B follows from A when the argument that B cannot happen, in the paper or the thesis, rests on the very instance of
//! the lemma that A breaks: two leaders of term 3 explain two entries of term 3 at one index, and none of term 4. Where
//! the facts do not show that, B is a root of its own: told once too often does no harm, hidden does.
//!
//! [`rank`] orders the kinds such that a cause stands before its consequence; so there is no circle. Two pairs may stand
//! in the same rank: a leader that lacks what was committed, after a leader of an earlier term that lacked it too; and
//! logs that differ below an entry, after logs that parted at the same one and show it lower.

use std::collections::BTreeSet;

use super::about::{About, Indices, hold, meet};
use super::evidence::{Evidence, NodeRef};
use super::joined::{Joined, Known};
use super::verdict::{Consequence, Finding};
use crate::history::{Datum, Ended, Operation};

/// For each finding, the places of its direct causes among the findings: those that are no causes of another of them.
pub fn direct_causes(joined: &Joined, findings: &[&About]) -> Vec<Vec<usize>> {
    let scene = Scene { joined, evidence: joined.evidence, headless: headless(joined.evidence, findings) };
    let mut order: Vec<usize> = (0..findings.len()).collect();
    order.sort_by_key(|&at| (rank(findings[at]), place(findings[at])));
    let mut all: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); findings.len()];
    let mut direct = vec![Vec::new(); findings.len()];
    for (place, &effect) in order.iter().enumerate() {
        let causes = order[..place].iter().copied();
        let causes: BTreeSet<usize> =
            causes.filter(|&cause| scene.follows(findings[cause], findings[effect])).collect();
        let further: BTreeSet<usize> = causes.iter().flat_map(|&cause| all[cause].iter().copied()).collect();
        direct[effect] = causes.difference(&further).copied().collect();
        all[effect] = causes.union(&further).copied().collect();
    }
    direct
}

/// Writes to each root what follows from it, check by check in the order of `findings`, which come with their checks.
pub fn consequences(direct: &[Vec<usize>], findings: &[(&str, &Finding)]) -> Vec<Vec<Consequence>> {
    let mut told = vec![Vec::new(); findings.len()];
    for (root, told) in told.iter_mut().enumerate().filter(|(at, _)| direct[*at].is_empty()) {
        let mut from: BTreeSet<usize> = BTreeSet::from([root]);
        // Causes may stand after their consequences in the list; as many rounds as there are steps in a chain.
        loop {
            let follow =
                |at: &usize| !from.contains(at) && direct[*at].iter().any(|cause| from.contains(cause));
            let more: Vec<usize> = (0..findings.len()).filter(follow).collect();
            if more.is_empty() {
                break;
            }
            from.extend(more);
        }
        from.remove(&root);
        let mut checks: Vec<(&str, Vec<&Finding>)> = Vec::new();
        for (check, finding) in from.into_iter().map(|at| findings[at]) {
            match checks.last_mut().filter(|(last, _)| *last == check) {
                Some((_, those)) => those.push(finding),
                None => checks.push((check, vec![finding])),
            }
        }
        *told = checks.into_iter().map(|(check, those)| consequence(check, &those)).collect();
    }
    told
}

fn consequence(check: &str, findings: &[&Finding]) -> Consequence {
    let ids = findings.iter().map(|finding| finding.id.clone()).collect();
    Consequence { check: check.to_owned(), extent: extent(findings), ids }
}

/// `term 4`, `3 entries`, `k0, k4`, or how many.
fn extent(findings: &[&Finding]) -> String {
    let terms: BTreeSet<u64> = findings
        .iter()
        .filter_map(|finding| match finding.about {
            About::TwoVotes { term, .. }
            | About::TwoLeaders { term, .. }
            | About::Incomplete { term, .. } => Some(term),
            _ => None,
        })
        .collect();
    let keys: Vec<&str> = findings
        .iter()
        .filter(|finding| matches!(finding.about, About::Unordered { .. }))
        .filter_map(|finding| finding.text.strip_prefix("key ")?.split_once(':').map(|(key, _)| key))
        .collect();
    let list = |names: Vec<String>| match names.len() {
        0..=4 => names.join(", "),
        more => format!("{}, and {} more", names[..3].join(", "), more - 3),
    };
    if !terms.is_empty() {
        let word = if terms.len() == 1 { "term" } else { "terms" };
        return format!("{word} {}", list(terms.iter().map(u64::to_string).collect()));
    }
    let differ = |finding: &&Finding| match finding.about {
        About::Conflict { entries, .. } | About::Diverged { entries, .. } => Some(entries[0].index),
        _ => None,
    };
    let indices: BTreeSet<u64> = findings.iter().copied().filter_map(|finding| differ(&finding)).collect();
    if !indices.is_empty() {
        let word = if indices.len() == 1 { "entry" } else { "entries" };
        return format!("{word} {}", list(indices.iter().map(u64::to_string).collect()));
    }
    if keys.len() == findings.len() {
        return list(keys.into_iter().map(str::to_owned).collect());
    }
    if findings.iter().all(|finding| matches!(finding.about, About::WriteLost { .. })) {
        return super::verdict::count(findings.len() as u64, "acknowledged write");
    }
    if findings.len() > 1 { findings.len().to_string() } else { String::new() }
}

/// Causes before consequences.
fn rank(about: &About) -> u8 {
    match about {
        About::Nothing | About::Ended { .. } => 0,
        About::HardStateLost { .. } | About::EntriesLost { .. } => 1,
        About::TermFell { .. } => 2,
        About::TwoVotes { .. } => 3,
        About::TwoLeaders { .. } => 4,
        About::OwnLogCut { .. } => 5,
        About::Unfit { .. } => 6,
        About::Conflict { .. } => 7,
        About::CommitShort { .. } | About::CommitForeign { .. } => 8,
        About::Incomplete { .. } => 9,
        About::AppliedEarly { .. } | About::AppliedWrong { .. } => 10,
        About::Diverged { .. } => 11,
        About::Twice { .. } | About::OutcomeDiffers { .. } | About::FailedTookEffect { .. } => 12,
        About::WriteLost { .. } => 13,
        About::Unordered { .. } => 14,
        About::NotServed => 15,
    }
}

/// Causes before consequences of the same rank.
fn place(about: &About) -> u64 {
    match about {
        About::Incomplete { term, .. } => *term,
        About::Conflict { entries, .. } => entries[0].index,
        _ => 0,
    }
}

/// True when so many nodes ended unasked, and were not started again, that no quorum was left.
fn headless(evidence: &Evidence, findings: &[&About]) -> bool {
    let ended = |about: &&About| match about {
        About::Ended { node, last: true } => Some(*node),
        _ => None,
    };
    let gone: BTreeSet<NodeRef> = findings.iter().filter_map(ended).collect();
    let nodes = evidence.nodes.len();
    !gone.is_empty() && nodes - gone.len() < nodes / 2 + 1
}

struct Scene<'j, 'e> {
    joined: &'j Joined<'e>,
    evidence: &'e Evidence,
    headless: bool,
}

impl Scene<'_, '_> {
    fn follows(&self, cause: &About, effect: &About) -> bool {
        if rank(cause) == 0 {
            return self.headless
                && matches!((cause, effect), (About::Ended { last: true, .. }, About::NotServed));
        }
        match effect {
            About::TermFell { .. } | About::TwoVotes { .. } | About::TwoLeaders { .. } => {
                elections(cause, effect)
            }
            About::Unfit { .. } | About::Conflict { .. } => logs(cause, effect),
            About::CommitShort { .. } | About::Incomplete { .. } => commits(cause, effect),
            About::Diverged { .. } => self.diverged(cause, effect),
            About::Twice { .. } | About::OutcomeDiffers { .. } => effects(cause, effect),
            About::WriteLost { entry: Some(_), .. } => lost(cause, effect),
            About::Unordered { operations } => self.unordered(cause, operations),
            _ => false,
        }
    }

    /// Two nodes apply different entries.
    fn diverged(&self, cause: &About, effect: &About) -> bool {
        let About::Diverged { nodes, entries, at } = effect else { return false };
        let index = entries[0].index;
        let both_of = |term: u64| entries.iter().all(|entry| u64::from(entry.term) == term);
        match cause {
            // Each leader of a term makes its own entries; or each has older ones committed, as the leader of that term.
            About::TwoLeaders { term, leaders, .. } => {
                let known_in_it = |(entry, node): (_, &NodeRef)| {
                    let commits = self.joined.entry(entry).map_or(&[][..], |joint| &joint.commits[..]);
                    let told = |known: &Known| known.node == *node || leaders.contains(&known.node);
                    commits.iter().any(|known| told(known) && known.term == *term)
                };
                both_of(*term) || entries.iter().copied().zip(nodes).all(known_in_it)
            }
            About::Conflict { lost_at: (from, term), .. } => both_of(*term) && *from <= index,
            About::EntriesLost { node, entries, at: lost_at } => {
                nodes.contains(node) && entries.contains(&index) && lost_at <= at
            }
            About::CommitShort { commits, .. } | About::CommitForeign { commits, .. } => hold(commits, index),
            About::Incomplete { term, lacks, own, .. } => {
                let written =
                    |entry: &super::about::EntryId| u64::from(entry.term) >= *term || own.contains(entry);
                lacks.contains(&index) && entries.iter().any(written)
            }
            About::AppliedEarly { node, entries, .. } => nodes.contains(node) && hold(entries, index),
            _ => false,
        }
    }

    /// Clients see what no order explains.
    fn unordered(&self, cause: &About, operations: &[usize]) -> bool {
        let of = |number: &usize| self.evidence.history.operations.get(*number);
        let entries = || operations.iter().flat_map(|&number| self.joined.entries_of(number));
        let asked_of = |operation: &Operation, node: NodeRef| {
            operation.node.as_deref() == Some(self.evidence.name(node))
        };
        match cause {
            About::WriteLost { operation, .. } => operations.contains(operation),
            About::Twice { ticket, .. } => {
                operations.iter().filter_map(of).any(|op| op.ticket == Some(*ticket))
            }
            About::FailedTookEffect { operation, .. } => {
                let Some(failed) = of(operation) else { return false };
                let swapped = failed.value.as_array().and_then(|pair| pair.get(1)).cloned();
                let made = swapped.map_or_else(|| failed.value.clone(), Datum::from);
                let saw = |op: &Operation| {
                    op.key == failed.key && (op.result == made || op.seen.as_ref() == Some(&made))
                };
                operations.iter().filter_map(of).any(|op| saw(op) && op.value != failed.value)
            }
            About::OutcomeDiffers { index, .. } => entries().any(|(entry, _)| entry.index == *index),
            // One of the operations is an entry that stands for another one elsewhere, from there on.
            About::Diverged { entries: differ, .. } => entries().any(|(entry, _)| {
                differ.contains(&entry) || (entry.index >= differ[0].index && self.joined.replaced(entry))
            }),
            About::Incomplete { term, lacks, .. } => {
                entries().any(|(entry, _)| lacks.contains(&entry.index) && u64::from(entry.term) < *term)
            }
            // Seen by a client of that node before anybody knew it to be committed.
            About::AppliedEarly { node, entries: early, .. } => {
                let told = |op: &Operation| op.ended == Ended::Ok && asked_of(op, *node);
                let told_at = operations.iter().filter_map(of).filter(|op| told(op));
                let told_at = told_at.filter_map(|op| op.completed_at).max();
                entries().any(|(entry, joint)| {
                    let committed = joint.commits.first().map(|known| known.t);
                    hold(early, entry.index)
                        && told_at.is_some_and(|told| committed.is_none_or(|committed| committed > told))
                })
            }
            // Answered by one of two leaders of the term in which the other one's entry, or its own, was made.
            About::TwoLeaders { term, leaders, .. } => {
                let led = |op: &Operation, node: NodeRef| {
                    let moments = [Some(op.invoked_at), op.completed_at];
                    let stood = moments.into_iter().flatten().filter_map(|t| self.joined.standing(node, t));
                    asked_of(op, node) && stood.into_iter().any(|stood| stood.leads && stood.term == *term)
                };
                let answered = |op: &Operation| leaders.iter().any(|&leader| led(op, leader));
                operations.iter().filter_map(of).any(answered)
                    && entries().any(|(entry, _)| u64::from(entry.term) == *term)
            }
            _ => false,
        }
    }
}

/// A term falls with the disk, a node votes anew in a term it has forgotten, and two are elected by that vote.
fn elections(cause: &About, effect: &About) -> bool {
    match (cause, effect) {
        (About::HardStateLost { node, terms, at }, About::TermFell { node: fell, from, to, at: fell_at }) => {
            node == fell && at == fell_at && meet(terms, &(*to..=*from))
        }
        (About::HardStateLost { node, terms, at: lost }, About::TwoVotes { node: voter, term, at, .. }) => {
            node == voter && terms.contains(term) && at[0] <= *lost && *lost <= at[1]
        }
        (About::TermFell { node, from, to, at: fell }, About::TwoVotes { node: voter, term, at, .. }) => {
            node == voter && (to..=from).contains(&term) && at[0] <= *fell && *fell <= at[1]
        }
        (About::TwoVotes { term, candidates, .. }, About::TwoLeaders { term: led, leaders, .. }) => {
            term == led && candidates.iter().all(|candidate| leaders.contains(candidate))
        }
        _ => false,
    }
}

/// One leader a term that never changes its own log makes one entry at an index.
fn logs(cause: &About, effect: &About) -> bool {
    match (cause, effect) {
        (About::OwnLogCut { node, at, .. }, About::Unfit { node: other, at: then, .. }) => {
            (node, at) == (other, then)
        }
        (About::TwoLeaders { term, .. }, About::Conflict { lost_at: (_, lost_in), .. }) => term == lost_in,
        (About::OwnLogCut { term, entries: cut, .. }, About::Conflict { lost_at: (index, lost_in), .. }) => {
            term == lost_in && cut.contains(index)
        }
        (About::EntriesLost { node, entries: lost, .. }, About::Conflict { nodes, lost_at, .. }) => {
            nodes.contains(node) && lost.contains(&lost_at.0)
        }
        // Above the place where log matching is lost, no entry stands for the log below it.
        (
            About::Conflict { entries: lower, lost_at, .. },
            About::Conflict { entries, lost_at: lost_again_at, .. },
        ) => lost_at == lost_again_at && lower[0].index < entries[0].index,
        _ => false,
    }
}

/// What a quorum has stays on a quorum, and so a later leader has it.
fn commits(cause: &About, effect: &About) -> bool {
    match effect {
        About::CommitShort { commits, lacking, short_by, clashes, at, .. } => match cause {
            // A leader counts by index and term: equal ones must mean equal logs.
            About::TwoLeaders { term, .. } => clashes.contains(term),
            About::Conflict { lost_at: (index, term), .. } => {
                let above = |stretch: &Indices| stretch.end() >= index;
                clashes.contains(term) && commits.iter().all(above)
            }
            About::EntriesLost { node, entries, at: then } | About::Unfit { node, entries, at: then } => {
                let lost = commits.iter().all(|stretch| entries.contains(stretch.end()));
                *short_by <= 1 && lacking.contains(node) && lost && then <= at
            }
            _ => false,
        },
        About::Incomplete { leader, term, voters, committed_in, lacks, own, clash, at } => {
            let took_part = |node: &NodeRef| node == leader || voters.contains(node);
            match cause {
                // Voters compare by index and term too.
                About::TwoLeaders { term: led, .. } => {
                    // And a leader's commit is not safe from the other leader of its term, who writes in its place.
                    *clash == Some(*led) || (committed_in == led && !own.is_empty())
                }
                About::Conflict { lost_at: (_, term), .. } => *clash == Some(*term),
                About::CommitShort { term: earlier, commits, .. }
                | About::CommitForeign { term: earlier, commits, .. } => {
                    earlier < term && commits.iter().any(|stretch| meet(stretch, lacks))
                }
                About::EntriesLost { node, entries, at: then }
                | About::OwnLogCut { node, entries, at: then, .. }
                | About::Unfit { node, entries, at: then } => {
                    took_part(node) && meet(entries, lacks) && then <= at
                }
                About::Incomplete { term: earlier, lacks: others, .. } => {
                    earlier < term && meet(others, lacks)
                }
                _ => false,
            }
        }
        _ => false,
    }
}

/// Machines that took the same entries in the same order agree on what took effect.
fn effects(cause: &About, effect: &About) -> bool {
    let (nodes, index) = match effect {
        About::OutcomeDiffers { nodes, index } => (nodes, *index),
        About::Twice { nodes, indices, .. } => (nodes, indices[0].max(indices[1])),
        _ => return false,
    };
    match cause {
        About::Diverged { nodes: [_, strayed], entries, .. } => {
            nodes.contains(strayed) && entries[0].index <= index
        }
        _ => false,
    }
}

/// An acknowledged write is not in the log.
fn lost(cause: &About, effect: &About) -> bool {
    let About::WriteLost { entry: Some(entry), applied_by, lacking, .. } = effect else { return false };
    let index = entry.index;
    match cause {
        About::EntriesLost { node, entries, .. } | About::OwnLogCut { node, entries, .. } => {
            lacking.contains(node) && entries.contains(&index)
        }
        About::TwoLeaders { term, .. } => u64::from(entry.term) == *term,
        About::Conflict { lost_at: (from, term), .. } => u64::from(entry.term) == *term && *from <= index,
        About::CommitShort { commits, .. } | About::CommitForeign { commits, .. } => hold(commits, index),
        About::Incomplete { term, lacks, .. } => lacks.contains(&index) && u64::from(entry.term) < *term,
        About::AppliedEarly { node, entries, .. } => *applied_by == Some(*node) && hold(entries, index),
        About::Diverged { entries, .. } => entries.contains(entry),
        _ => false,
    }
}
