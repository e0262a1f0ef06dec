//! What is committed in one term stands in the log of every later leader (§5.4).

use std::collections::BTreeMap;

use super::about::{About, EntryId};
use super::evidence::{Act, Boot, Evidence, Fact, Kinds, Node, NodeRef, witness};
use super::replay::{Held, Log, Replay};
use super::verdict::{Finding, Tally, Verdict, count};

/// Each new leader's log has h(c) at c, for the highest c committed in an earlier term (§5.4).
///
/// Reads: `role`, `commit` and all that tells of the log. Fails: naming the line of the election and that of the
/// commit. Unknown: such lines of a node may be missing, or nobody was elected. Cannot see: a commit that no line
/// tells; entries below a snapshot. Cost: O(entries).
///
/// Terms count and not times: a leader of a higher term must have the entry even if it was elected, by the clock,
/// before the commit; for then its voters had refused to take part in that commit.
pub fn leader_completeness(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    let committed = highest_commits(evidence);
    let mut tested = 0;
    for (node, facts) in evidence.nodes() {
        let mut replay = Replay::default();
        for (boot, fact) in facts.facts() {
            _ = replay.take(facts, fact);
            let Act::Role { term, .. } = fact.act else { continue };
            if !replay.leads() {
                continue;
            }
            tally.examined += 1;
            let Some(commit) = before(&committed, term).filter(|_| replay.trusted) else { continue };
            tested += 1;
            if let Some(fault) = fault(&replay, commit) {
                tally.violated(incomplete(evidence, (node, &replay), (boot, fact, term), commit, fault));
            }
        }
    }
    tally.doubt_gaps(evidence, Kinds::LOG | Kinds::ROLE | Kinds::COMMIT);
    tally.verdict("no node became leader in any file", |elections| {
        let elections = count(elections, "election");
        format!("{elections}, {tested} of them after commits of earlier terms: no leader lacked any")
    })
}

/// The highest index some node knew to be committed while it was in a term.
#[derive(Clone, Copy)]
struct Commit<'e> {
    index: u64,
    term: u64,
    /// None when the entry never came to the disk of that node.
    held: Option<Held>,
    node: NodeRef,
    boot: &'e Boot,
    fact: &'e Fact,
}

/// By term; each is the highest of its term and all before.
fn highest_commits(evidence: &Evidence) -> BTreeMap<u64, Commit<'_>> {
    let mut highest: BTreeMap<u64, Commit> = BTreeMap::new();
    for (node, facts) in evidence.nodes() {
        let mut replay = Replay::default();
        // A commit may be known before the entry is on this disk: it waits here for its entry.
        let mut waiting: Vec<Commit> = Vec::new();
        for (boot, fact) in facts.facts() {
            _ = replay.take(facts, fact);
            match fact.act {
                Act::Commit { index, term } if replay.trusted => {
                    if highest.get(&term).is_none_or(|known| known.index < index || known.held.is_none()) {
                        waiting.push(Commit { index, term, held: None, node, boot, fact });
                    }
                }
                Act::Boot(_) | Act::Hole => {
                    waiting.drain(..).for_each(|commit| raise(&mut highest, commit));
                }
                Act::Append { .. } => {}
                _ => continue,
            }
            waiting.retain_mut(|commit| {
                commit.held = replay.log.get(commit.index).copied();
                if commit.held.is_some() {
                    raise(&mut highest, *commit);
                }
                commit.held.is_none()
            });
        }
        waiting.drain(..).for_each(|commit| raise(&mut highest, commit));
    }
    let mut so_far: Option<Commit> = None;
    for commit in highest.values_mut() {
        so_far = match so_far {
            Some(before) if before.index > commit.index => Some(before),
            _ => Some(*commit),
        };
        *commit = so_far.unwrap_or(*commit);
    }
    highest
}

fn raise<'e>(highest: &mut BTreeMap<u64, Commit<'e>>, commit: Commit<'e>) {
    let known = highest.entry(commit.term).or_insert(commit);
    let better = (commit.index, commit.held.is_some()) > (known.index, known.held.is_some());
    if better {
        *known = commit;
    }
}

fn before<'a, 'e>(committed: &'a BTreeMap<u64, Commit<'e>>, term: u64) -> Option<&'a Commit<'e>> {
    committed.range(..term).next_back().map(|(_, commit)| commit)
}

fn fault(replay: &Replay, commit: &Commit) -> Option<String> {
    let index = commit.index;
    if index < replay.log.first() {
        return None;
    }
    let Some(own) = replay.log.get(index) else {
        return Some(format!("its log ended at {}", replay.log.last()));
    };
    let held = commit.held?;
    if own.entry != held.entry {
        return Some(format!(
            "its entry {index} is of term {} with digest {}",
            own.entry.term, own.entry.digest
        ));
    }
    match (own.chain(), held.chain()) {
        (Some(own), Some(held)) if own != held => Some(format!("its log differs below entry {index}")),
        _ => None,
    }
}

fn incomplete(
    evidence: &Evidence,
    (node, replay): (NodeRef, &Replay),
    (boot, fact, term): (&Boot, &Fact, u64),
    commit: &Commit,
    fault: String,
) -> Finding {
    let (name, other, index) = (evidence.name(node), evidence.name(commit.node), commit.index);
    let entry = match commit.held {
        Some(held) => format!("entry {index} of term {}", held.entry.term),
        None => format!("entry {index}"),
    };
    let committed =
        format!("{other} knew {entry} committed in term {} at {}", commit.term, evidence.at(commit.fact.t));
    let elected = format!("{name} became leader of term {term} at {}, and {fault}", evidence.at(fact.t));
    let text = format!("{name} became leader of term {term} without {entry}, which {other} had committed");
    let log = committed_log(evidence, commit);
    // From the first committed entry that the new leader has not, to the last.
    let lacks = replay.log.parts_from(&log, index).unwrap_or(index)..=index;
    let own = lacks.clone().map_while(|index| Some((index, replay.log.get(index)?)));
    let about = About::Incomplete {
        leader: node,
        term,
        voters: voters(evidence, node, term),
        committed_in: commit.term,
        own: own.map(|(index, held)| id(index, held)).collect(),
        clash: replay.log.clashes_in(&log, index),
        lacks,
        at: fact.t,
    };
    let witnesses = [witness(commit.boot, commit.fact, committed), witness(boot, fact, elected)];
    Finding::new(text, witnesses).about(about)
}

fn id(index: u64, held: &Held) -> EntryId {
    EntryId { index, term: held.entry.term, digest: held.entry.digest }
}

/// The log of the node which knew of the commit, followed anew up to its line.
fn committed_log(evidence: &Evidence, commit: &Commit) -> Log {
    let facts = &evidence.nodes[commit.node.0 as usize];
    let mut committer = Replay::default();
    for (_, fact) in facts.facts() {
        _ = committer.take(facts, fact);
        // Its entry may have come to the disk after the commit was known.
        let seen = fact.t > commit.fact.t || std::ptr::eq(fact, commit.fact);
        if seen && (commit.held.is_none() || committer.log.get(commit.index).copied() == commit.held) {
            break;
        }
    }
    committer.log
}

/// Those who voted for it, as far as lines tell.
fn voters(evidence: &Evidence, leader: NodeRef, in_term: u64) -> Vec<NodeRef> {
    let voted = |fact: &Fact| matches!(fact.act, Act::Vote { term, candidate } if (term, candidate) == (in_term, leader));
    let of = |(node, facts): (NodeRef, &Node)| facts.facts().any(|(_, fact)| voted(fact)).then_some(node);
    evidence.nodes().filter_map(of).collect()
}
