//! The part of election safety that is about how a leader came to be: by the votes of a quorum.
//!
//! In: evidence. Out: findings in the caller's tally. Never: a verdict of its own; a finding where the line that would
//! refute it may be missing.

use std::collections::{BTreeMap, BTreeSet};

use mkraft_proto::evidence::Role;

use super::configurations::Voters;
use super::evidence::{Act, Boot, Evidence, Fact, Kinds, NodeRef, witness};
use super::verdict::{Finding, Tally, count};

/// Every leader had durable votes of a quorum before it led, and whatever term has entries had a leader.
pub fn elected(evidence: &Evidence, tally: &mut Tally) {
    let elections = Elections::of(evidence);
    for (&term, leaders) in &elections.leaders {
        // Two of them are told as such.
        if let [(leader, voters)] = &leaders[..] {
            voted_in(evidence, &elections, term, *leader, voters, tally);
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
    /// With who counted for each when it won: what its own log held last, committed or not (§6).
    leaders: BTreeMap<u64, Vec<(Place<'e>, Voters)>>,
    /// By term and candidate: who voted, and when.
    votes: BTreeMap<(u64, NodeRef), Vec<(NodeRef, u64)>>,
    /// The first line that tells of an entry of a term.
    entries: BTreeMap<u64, Place<'e>>,
    strangers: Vec<(NodeRef, NodeRef, &'e Boot, &'e Fact)>,
}

impl<'e> Elections<'e> {
    fn of(evidence: &'e Evidence) -> Elections<'e> {
        let mut elections = Elections::default();
        for (node, facts) in evidence.nodes() {
            let mut known: BTreeSet<u64> = BTreeSet::new();
            let mut voters = Voters::initial(evidence);
            for (boot, fact) in facts.facts() {
                match &fact.act {
                    Act::Role { term, role: Role::Leader } => {
                        let leader = ((node, boot, fact), voters.clone());
                        elections.leaders.entry(*term).or_default().push(leader);
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
                    Act::Config(config) => voters = (&**config).into(),
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
    counted: &Voters,
    tally: &mut Tally,
) {
    let before = |&&(_, t): &&(NodeRef, u64)| t <= fact.t;
    let votes = elections.votes.get(&(term, node));
    let voted: BTreeSet<NodeRef> =
        votes.into_iter().flatten().filter(before).map(|(voter, _)| *voter).collect();
    let of = |group: &[NodeRef]| group.iter().filter(|voter| voted.contains(voter)).count();
    // A voter tells of its vote before it sends it, and a candidate who counts before it wins.
    let whole = evidence.gaps_in(Kinds::VOTE | Kinds::ROLE).next().is_none()
        && evidence.is_whole(node, Kinds::CONFIG);
    let Some(short) = counted.groups().find(|group| of(group) <= group.len() / 2).filter(|_| whole) else {
        return;
    };
    let (name, at, needed) = (evidence.name(node), evidence.at(fact.t), short.len() / 2 + 1);
    let votes = count(of(short) as u64, "vote");
    let names: Vec<_> = short.iter().map(|&voter| evidence.name(voter)).collect();
    let text = format!(
        "{name} became leader of term {term} at {at} with {votes} of {}; a quorum is {needed}",
        names.join(", ")
    );
    tally.violated(Finding::new(text.clone(), [witness(boot, fact, text)]));
}
