//! The part of election safety that is about how a leader came to be: by the votes of a quorum.
//!
//! In: evidence. Out: findings in the caller's tally. Never: a verdict of its own; a finding where the line that would
//! refute it may be missing.

use std::collections::{BTreeMap, BTreeSet};

use mkraft_proto::evidence::Role;

use super::evidence::{Act, Boot, Evidence, Fact, Kinds, NodeRef, witness};
use super::verdict::{Finding, Tally, count};

/// Every leader had durable votes of a quorum before it led, and whatever term has entries had a leader.
pub fn elected(evidence: &Evidence, tally: &mut Tally) {
    let elections = Elections::of(evidence);
    for (&term, leaders) in &elections.leaders {
        // Two of them are told as such.
        if let &[leader] = &leaders[..] {
            voted_in(evidence, &elections, term, leader, tally);
        }
    }
    // A leader tells that it leads before anybody can have an entry of it.
    if evidence.gaps_in(Kinds::ROLE).next().is_none() {
        for (&term, &(node, boot, fact)) in &elections.entries {
            if !elections.leaders.contains_key(&term) {
                let text = format!("there are entries of term {term}, and no node led it");
                let told = format!("{} appended an entry of term {term}", evidence.name(node));
                tally.violated(Finding::new(text, [witness(boot, fact, told)]));
            }
        }
    }
    for &(node, candidate, boot, fact) in &elections.strangers {
        let (name, whom) = (evidence.name(node), evidence.name(candidate));
        let text = format!("{name} voted for {whom}, which is no node of this run");
        tally.doubt(Finding::new(text.clone(), [witness(boot, fact, text)]));
    }
}

type Place<'e> = (NodeRef, &'e Boot, &'e Fact);

#[derive(Default)]
struct Elections<'e> {
    leaders: BTreeMap<u64, Vec<Place<'e>>>,
    /// By term and candidate: who voted, and when.
    votes: BTreeMap<(u64, NodeRef), Vec<(NodeRef, u64)>>,
    /// The first line that tells of an entry of a term.
    entries: BTreeMap<u64, Place<'e>>,
    strangers: Vec<(NodeRef, NodeRef, &'e Boot, &'e Fact)>,
    /// Some `config` line says that others count than all nodes of the run.
    configured: bool,
}

impl<'e> Elections<'e> {
    fn of(evidence: &'e Evidence) -> Elections<'e> {
        let mut elections = Elections::default();
        for (node, facts) in evidence.nodes() {
            let mut known: BTreeSet<u64> = BTreeSet::new();
            for (boot, fact) in facts.facts() {
                match &fact.act {
                    Act::Role { term, role: Role::Leader } => {
                        elections.leaders.entry(*term).or_default().push((node, boot, fact));
                    }
                    Act::Vote { term, candidate } => {
                        elections.votes.entry((*term, *candidate)).or_default().push((node, fact.t));
                        if candidate.0 as usize >= evidence.nodes.len() {
                            elections.strangers.push((node, *candidate, boot, fact));
                        }
                    }
                    // In a line terms rise: the first and the last entry tell of nearly all.
                    Act::Append { entries, .. } => {
                        let entries = facts.appended(*entries);
                        for held in entries.first().into_iter().chain(entries.last()) {
                            let term = u64::from(held.entry.term);
                            if known.insert(term) {
                                elections.entries.entry(term).or_insert((node, boot, fact));
                            }
                        }
                    }
                    Act::Config(config) => {
                        let mut voters = config.voters.clone();
                        voters.sort_unstable();
                        elections.configured |=
                            voters != evidence.initial_voters() || !config.outgoing.is_empty();
                    }
                    _ => {}
                }
            }
        }
        elections
    }
}

fn voted_in(
    evidence: &Evidence,
    elections: &Elections,
    term: u64,
    (node, boot, fact): Place,
    tally: &mut Tally,
) {
    let before = |&&(_, t): &&(NodeRef, u64)| t <= fact.t;
    let votes = elections.votes.get(&(term, node));
    let voters: BTreeSet<NodeRef> =
        votes.into_iter().flatten().filter(before).map(|(voter, _)| *voter).collect();
    let needed = evidence.nodes.len() / 2 + 1;
    // A voter tells of its vote before it sends it.
    let whole = evidence.gaps_in(Kinds::VOTE | Kinds::ROLE).next().is_none();
    if voters.len() >= needed || elections.configured || !whole {
        return;
    }
    let (name, at) = (evidence.name(node), evidence.at(fact.t));
    let votes = count(voters.len() as u64, "vote");
    let text = format!("{name} became leader of term {term} at {at} with {votes}; a quorum is {needed}");
    tally.violated(Finding::new(text.clone(), [witness(boot, fact, text)]));
}
