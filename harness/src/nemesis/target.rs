//! Who is meant: turns a target of the scenario into nodes, at the moment the fault strikes.
//!
//! In: the target, every node with its state, the members, who leads, whom names and facts stand for, which nodes the
//! fault can be done to, and the step's draw. Out: names in the order of the nodes, or the reason why there is none. Never: a clock, a socket, or
//! randomness beside the draw.
//!
//! Where there is a choice (`random`, `follower`, `minority`, `majority`, ...), nodes that run go before nodes that
//! another fault has paused, so that faults which overlap add up instead of falling on the same nodes. Nodes
//! that the fault cannot be done to are never chosen; if fewer are left than the target asks for, it is these.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::cluster::{Cluster, NodeState};
use crate::scenario::{Name, Target};
use crate::system::operator::Members;

/// A node as the target sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    pub state: NodeState,
}

/// How things stand at the moment of the strike.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub nodes: &'a [Candidate],
    pub members: &'a Members,
    pub leader: Option<&'a str>,
    pub known: &'a Known,
}

/// Whom the words stand for that only this round of a script knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Whom the fact was about that was waited for.
    pub it: Option<String>,
    /// Whom earlier steps came to: nobody, where one was skipped.
    pub named: BTreeMap<Name, Vec<String>>,
}

/// Whether one must know who leads before the target means anything.
pub fn needs_leader(target: Target) -> bool {
    matches!(target, Target::Leader | Target::Follower)
}

/// Whether it means the same nodes whatever the state of the cluster.
pub fn is_given(target: Target) -> bool {
    matches!(target, Target::Node(_) | Target::It | Target::Named(_))
}

pub fn candidates(cluster: &Cluster) -> Vec<Candidate> {
    let nodes = cluster.nodes().iter();
    nodes.map(|node| Candidate { name: node.name().to_owned(), state: node.state() }).collect()
}

/// The nodes that `target` comes to; `Err` is the reason why none. Of `snapshotting` it is those to be watched.
pub fn resolve(
    target: Target,
    view: &View<'_>,
    fits: impl Fn(&Candidate) -> bool,
    draw: u64,
) -> Result<Vec<String>, String> {
    if needs_leader(target) && view.leader.is_none() {
        return Err("no node leads".to_owned());
    }
    let meant: Vec<_> =
        view.nodes.iter().enumerate().filter(|(_, node)| view.may_mean(target, node)).collect();
    if meant.is_empty() {
        return Err(view.nobody(target));
    }
    let mut chosen: Vec<_> = meant.iter().copied().filter(|(_, node)| fits(node)).collect();
    if chosen.is_empty() {
        let meant: Vec<_> = meant.iter().map(|(_, node)| describe(node)).collect();
        return Err(format!("nothing to strike: {}", meant.join(", ")));
    }
    chosen.shuffle(&mut ChaCha8Rng::seed_from_u64(draw));
    // Stable: the draw decides within each state.
    chosen.sort_by_key(|(_, node)| node.state != NodeState::Running);
    match target {
        Target::All | Target::Snapshotting | Target::Named(_) => {}
        Target::Minority => view.spare_a_quorum(&mut chosen),
        Target::Majority => view.leave_no_quorum(&mut chosen),
        _ => chosen.truncate(1),
    }
    if chosen.is_empty() {
        return Err(view.nobody(target));
    }
    chosen.sort_by_key(|(position, _)| *position);
    Ok(chosen.into_iter().map(|(_, node)| node.name.clone()).collect())
}

impl View<'_> {
    fn may_mean(&self, target: Target, node: &Candidate) -> bool {
        let (members, name) = (self.members, node.name.as_str());
        match target {
            Target::Leader => Some(name) == self.leader,
            Target::Follower => members.has_voter(name) && Some(name) != self.leader,
            Target::Learner => members.learners.contains(name),
            Target::Spare => !members.has(name),
            Target::Random => members.has(name),
            Target::Minority | Target::Majority => members.has_voter(name),
            Target::Node(number) => name == format!("n{number}"),
            Target::All | Target::Snapshotting => true,
            Target::It => Some(name) == self.known.it.as_deref(),
            Target::Named(given) => {
                self.known.named.get(&given).is_some_and(|nodes| nodes.iter().any(|node| node == name))
            }
        }
    }

    fn nobody(&self, target: Target) -> String {
        match target {
            Target::Learner => "no member is a learner".to_owned(),
            Target::Spare => "every node is a member".to_owned(),
            Target::It | Target::Named(_) => format!("`{target}` came to nobody"),
            _ => format!("a cluster of {} has no {target}", self.members.voters.len()),
        }
    }

    /// Whether what is left of the voters can agree: a majority of each of the configurations that count.
    fn has_quorum_without(&self, struck: &[(usize, &Candidate)]) -> bool {
        let is_struck = |name: &&String| struck.iter().any(|(_, node)| node.name == **name);
        [&self.members.voters, &self.members.outgoing].into_iter().filter(|set| !set.is_empty()).all(|set| {
            let left = set.len() - set.iter().filter(is_struck).count();
            left > set.len() / 2
        })
    }

    /// As many as there may be, in their order.
    fn spare_a_quorum(&self, chosen: &mut Vec<(usize, &Candidate)>) {
        let mut struck = Vec::new();
        for &node in chosen.iter() {
            struck.push(node);
            if !self.has_quorum_without(&struck) {
                struck.pop();
            }
        }
        *chosen = struck;
    }

    /// As few as there must be, in their order; all where that is not enough.
    fn leave_no_quorum(&self, chosen: &mut Vec<(usize, &Candidate)>) {
        let enough = (1..chosen.len()).find(|&count| !self.has_quorum_without(&chosen[..count]));
        chosen.truncate(enough.unwrap_or(chosen.len()));
    }
}

fn describe(node: &Candidate) -> String {
    format!("{} is {:?}", node.name, node.state)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `RRPD`: n1 and n2 run, n3 is paused, n4 is down.
    fn nodes(states: &str) -> Vec<Candidate> {
        let state = |letter| match letter {
            'R' => NodeState::Running,
            'P' => NodeState::Paused,
            'D' => NodeState::Down,
            _ => panic!("no state {letter}"),
        };
        let named = |(at, letter)| Candidate { name: format!("n{}", at + 1), state: state(letter) };
        states.chars().enumerate().map(named).collect()
    }

    fn alive(node: &Candidate) -> bool {
        node.state != NodeState::Down
    }

    fn running(node: &Candidate) -> bool {
        node.state == NodeState::Running
    }

    /// Where all of `states` vote.
    fn of_voters(
        target: &str,
        states: &str,
        leader: Option<&str>,
        fits: fn(&Candidate) -> bool,
        draw: u64,
    ) -> Result<Vec<String>, String> {
        let (nodes, members) = (nodes(states), Members::first(states.len() as u32));
        resolve(
            target.parse().unwrap(),
            &View { nodes: &nodes, members: &members, leader, known: &Known::default() },
            fits,
            draw,
        )
    }

    fn members(voters: &[&str], outgoing: &[&str], learners: &[&str]) -> Members {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Members { voters: set(voters), outgoing: set(outgoing), learners: set(learners), index: 7 }
    }

    #[test]
    fn members_are_those_in_force_and_of_two_configurations_both_must_go_on() {
        // n4 comes in the place of n1, n5 learns, n6 is no member.
        let joint = members(&["n2", "n3", "n4"], &["n1", "n2", "n3"], &["n5"]);
        let nodes = nodes("RRRRRR");
        let view = View { nodes: &nodes, members: &joint, leader: Some("n1"), known: &Known::default() };
        let found = |target: &str| -> BTreeSet<String> {
            let target = target.parse().unwrap();
            (0..200).map(|draw| resolve(target, &view, alive, draw).unwrap().join(" ")).collect()
        };
        let expected = |all: &[&str]| all.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        assert_eq!(found("follower"), expected(&["n2", "n3", "n4"]));
        assert_eq!(found("learner"), expected(&["n5"]));
        assert_eq!(found("spare"), expected(&["n6"]));
        assert_eq!(found("random"), expected(&["n1", "n2", "n3", "n4", "n5"]));
        assert_eq!(found("minority"), expected(&["n1 n4", "n2", "n3"]));
        assert_eq!(found("snapshotting"), expected(&["n1 n2 n3 n4 n5 n6"]));
        assert!(found("majority").iter().all(|names| names.split(' ').count() >= 2));
        let alone = members(&["n1"], &[], &[]);
        let view = View { members: &alone, ..view };
        let none = |target: &str| resolve(target.parse().unwrap(), &view, alive, 0).unwrap_err();
        assert_eq!(none("learner"), "no member is a learner");
        assert_eq!(none("follower"), "a cluster of 1 has no follower");
        assert_eq!(none("minority"), "a cluster of 1 has no minority");
    }

    #[test]
    fn it_and_names_are_whom_the_round_knows_and_all_of_these() {
        let name = |word: &str| word.parse::<Name>().unwrap();
        let named = [(name("old"), vec!["n1".into(), "n3".into()]), (name("none"), vec![])];
        let known = Known { it: Some("n2".into()), named: named.into() };
        let (nodes, members) = (nodes("RPD"), Members::first(3));
        let view = View { nodes: &nodes, members: &members, leader: None, known: &known };
        let found = |target: &str, fits: fn(&Candidate) -> bool| {
            resolve(target.parse().unwrap(), &view, fits, 7).map(|names| names.join(" "))
        };
        assert_eq!(found("it", alive), Ok("n2".into()));
        assert_eq!(found("it", running), Err("nothing to strike: n2 is Paused".into()));
        assert_eq!(found("old", |_| true), Ok("n1 n3".into()));
        assert_eq!(found("old", alive), Ok("n1".into()));
        assert_eq!(found("none", alive), Err("`none` came to nobody".into()));
        let nobody = View { known: &Known::default(), ..view };
        let lost = resolve(Target::It, &nobody, alive, 7);
        assert_eq!(lost, Err("`it` came to nobody".into()));
    }

    #[test]
    fn targets_without_a_choice_come_to_the_same_nodes_for_every_draw() {
        type Case = (
            &'static str,
            &'static str,
            Option<&'static str>,
            fn(&Candidate) -> bool,
            Result<&'static str, &'static str>,
        );
        let cases: [Case; 14] = [
            ("leader", "RRR", Some("n2"), alive, Ok("n2")),
            ("leader", "RRR", None, alive, Err("no node leads")),
            ("follower", "RRR", None, alive, Err("no node leads")),
            ("follower", "RDR", Some("n1"), alive, Ok("n3")),
            ("follower", "RPR", Some("n1"), alive, Ok("n3")),
            ("follower", "RDD", Some("n1"), alive, Err("nothing to strike: n2 is Down, n3 is Down")),
            ("random", "DDRD", None, alive, Ok("n3")),
            ("random", "PDPR", None, alive, Ok("n4")),
            ("minority", "R", None, alive, Err("a cluster of 1 has no minority")),
            ("majority", "RDPDR", None, alive, Ok("n1 n3 n5")),
            ("majority", "RDPDR", None, running, Ok("n1 n5")),
            ("all", "RPDR", None, alive, Ok("n1 n2 n4")),
            ("n3", "RRR", None, alive, Ok("n3")),
            ("n3", "RRD", None, alive, Err("nothing to strike: n3 is Down")),
        ];
        for (target, states, leader, fits, expected) in cases {
            for draw in 0..20 {
                let found = of_voters(target, states, leader, fits, draw);
                let found = found.map(|names| names.join(" "));
                assert_eq!(
                    found.as_deref().map_err(|reason| reason.as_str()),
                    expected,
                    "{target} of {states}"
                );
            }
        }
    }

    #[test]
    fn the_draw_reaches_every_choice_of_the_right_size_and_decides_it_alone() {
        let cases = [
            ("random", "RRRRR", 1, 5),
            ("follower", "RRRRR", 1, 4),
            ("minority", "RRRRR", 2, 10),
            ("minority", "RRRR", 1, 4),
            ("majority", "RRRRR", 3, 10),
            ("majority", "RRRR", 2, 6),
            // Those that run first: n1 and n4 are always among them.
            ("majority", "RPPRP", 3, 3),
        ];
        for (target, states, size, choices) in cases {
            let of = |draw| of_voters(target, states, Some("n1"), alive, draw).unwrap();
            let found: BTreeSet<Vec<String>> = (0..500).map(of).collect();
            assert!(found.iter().all(|names| names.len() == size), "{target} of {states}: {found:?}");
            assert_eq!(found.len(), choices, "{target} of {states}: {found:?}");
            assert_eq!(of(7), of(7));
        }
    }
}
