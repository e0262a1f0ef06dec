//! What a majority is, for one configuration or a joint one (§6): then it takes both majorities.
//!
//! In: a [`Configuration`] and something of each voter. Out: what a quorum agrees on.

use std::collections::{BTreeMap, BTreeSet};

use super::{Configuration, NodeId};

impl Configuration {
    /// The greatest value that a quorum has reached, when each voter has reached `of(voter)`.
    pub fn quorum_reached<T: Ord + Copy + Default>(&self, of: impl Fn(NodeId) -> T) -> T {
        let incoming = majority_reached(&self.voters, &of);
        if self.outgoing.is_empty() { incoming } else { incoming.min(majority_reached(&self.outgoing, &of)) }
    }

    pub fn has_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Everybody who receives the log.
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied().collect()
    }

    /// Everybody who votes.
    pub fn electorate(&self) -> BTreeSet<NodeId> {
        self.voters.iter().chain(&self.outgoing).copied().collect()
    }
}

fn majority_reached<T: Ord + Copy + Default>(voters: &BTreeSet<NodeId>, of: impl Fn(NodeId) -> T) -> T {
    let mut reached: Vec<T> = voters.iter().map(|&voter| of(voter)).collect();
    reached.sort_unstable_by(|a, b| b.cmp(a));
    reached.get(voters.len() / 2).copied().unwrap_or_default()
}

/// The answers to one request for votes.
#[derive(Default)]
pub struct Votes(BTreeMap<NodeId, bool>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tally {
    Won,
    Lost,
    Open,
}

impl Votes {
    /// The first answer of a voter is the one that counts.
    pub fn record(&mut self, voter: NodeId, granted: bool) {
        self.0.entry(voter).or_insert(granted);
    }

    pub fn tally(&self, configuration: &Configuration) -> Tally {
        let won = configuration.quorum_reached(|voter| self.0.get(&voter) == Some(&true));
        // Who has not answered may still grant.
        let possible = configuration.quorum_reached(|voter| self.0.get(&voter) != Some(&false));
        match (won, possible) {
            (true, _) => Tally::Won,
            (false, false) => Tally::Lost,
            (false, true) => Tally::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().map(|&id| NodeId(id)).collect()
    }

    #[test]
    fn a_quorum_is_more_than_half_of_each_configuration() {
        let reached = |id: NodeId| [0, 9, 7, 5, 3, 1][id.0 as usize];
        let cases: [(&[u64], &[u64], u64); 7] = [
            (&[1], &[], 9),
            (&[1, 2], &[], 7),
            (&[1, 2, 3], &[], 7),
            (&[1, 2, 3, 4], &[], 5),
            (&[1, 2, 3, 4, 5], &[], 5),
            (&[1, 2, 3], &[3, 4, 5], 3),
            (&[], &[], 0),
        ];
        for (voters, outgoing, want) in cases {
            let configuration =
                Configuration { voters: ids(voters), outgoing: ids(outgoing), learners: ids(&[]) };
            assert_eq!(configuration.quorum_reached(reached), want, "{configuration:?}");
        }
    }

    #[test]
    fn an_election_is_lost_only_when_it_cannot_be_won() {
        let configuration = Configuration { voters: ids(&[1, 2, 3, 4]), ..Default::default() };
        let mut votes = Votes::default();
        for (voter, granted, want) in
            [(1, true, Tally::Open), (2, true, Tally::Open), (2, false, Tally::Open), (3, false, Tally::Open)]
        {
            votes.record(NodeId(voter), granted);
            assert_eq!(votes.tally(&configuration), want);
        }
        votes.record(NodeId(4), false);
        assert_eq!(votes.tally(&configuration), Tally::Lost);
    }
}
