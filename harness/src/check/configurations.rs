//! Who counts, by what the nodes tell: `config` lines, and before the first of them the scenario.
//!
//! In: evidence. Out: the members that counted for a node at a moment, and those committed last. Never: a verdict.
//!
//! Of a joint configuration, in which the voters change, two majorities are needed: of those who come and of those
//! who go (§6). Learners, removed nodes and spares count for nothing.

use std::collections::BTreeMap;

use super::evidence::{Act, ConfigAct, Evidence, NodeRef};

/// Who votes, and of a joint configuration who voted before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voters {
    pub voters: Vec<NodeRef>,
    pub outgoing: Vec<NodeRef>,
}

impl Voters {
    pub fn initial(evidence: &Evidence) -> Voters {
        Voters { voters: sorted(evidence.initial_voters()), outgoing: Vec::new() }
    }

    /// Each of them must agree by majority. Who knows of no voters has one group, which cannot agree.
    pub fn groups(&self) -> impl Iterator<Item = &[NodeRef]> {
        let outgoing = Some(&self.outgoing[..]).filter(|group| !group.is_empty());
        std::iter::once(&self.voters[..]).chain(outgoing)
    }
}

fn sorted(mut nodes: Vec<NodeRef>) -> Vec<NodeRef> {
    nodes.sort_unstable();
    nodes
}

impl From<&ConfigAct> for Voters {
    fn from(config: &ConfigAct) -> Voters {
        Voters { voters: sorted(config.voters.clone()), outgoing: sorted(config.outgoing.clone()) }
    }
}

/// Configurations that were committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// How many times one was another than the one before.
    pub changes: u64,
    pub last: Voters,
}

/// As far as lines of one node tell both of a configuration and of its commit.
pub fn committed(evidence: &Evidence) -> Committed {
    let mut all: BTreeMap<u64, &ConfigAct> = BTreeMap::new();
    for (_, facts) in evidence.nodes() {
        // In force, and perhaps not committed; what a later line does not reach any more was cut.
        let mut open: Vec<&ConfigAct> = Vec::new();
        let mut commit = 0;
        for (_, fact) in facts.facts() {
            match &fact.act {
                // A node that is to join begins with nobody.
                Act::Config(config) if config.voters.is_empty() => continue,
                Act::Config(config) => {
                    open.retain(|before| before.index < config.index);
                    open.push(config);
                }
                Act::Commit { index, .. } => commit = *index,
                Act::Snapshot { index, installed: true, .. } => commit = commit.max(*index),
                _ => continue,
            }
            all.extend(
                open.extract_if(.., |config| config.index <= commit).map(|config| (config.index, config)),
            );
        }
    }
    // A node that begins with a snapshot tells what held there, under the snapshot's index.
    let mut committed = Committed { changes: 0, last: Voters::initial(evidence) };
    let mut learners: &[NodeRef] = &[];
    for config in all.values() {
        let voters = Voters::from(*config);
        committed.changes += u64::from((&voters, &config.learners[..]) != (&committed.last, learners));
        (committed.last, learners) = (voters, &config.learners);
    }
    committed
}
