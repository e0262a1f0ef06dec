//! Who is meant: turns a target of the scenario into nodes, at the moment the fault strikes.
//!
//! In: the target, every node with its state, who leads, which states the fault can be done to, and the step's
//! draw. Out: names in the order of the nodes, or the reason why there is none. Never: a clock, a socket, or
//! randomness beside the draw.
//!
//! Where there is a choice (`random`, `follower`, `minority`, `majority`), nodes that run go before nodes that
//! another fault has paused, so that faults which overlap add up instead of falling on the same nodes. Nodes
//! that the fault cannot be done to are never chosen; if fewer are left than the target asks for, it is these.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::cluster::NodeState;
use crate::scenario::Target;

/// A node as the target sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    pub state: NodeState,
}

/// Whether one must know who leads before the target means anything.
pub fn needs_leader(target: Target) -> bool {
    matches!(target, Target::Leader | Target::Follower)
}

/// The nodes that `target` comes to; `Err` is the reason why none.
pub fn resolve(
    target: Target,
    nodes: &[Candidate],
    leader: Option<&str>,
    fits: fn(NodeState) -> bool,
    draw: u64,
) -> Result<Vec<String>, String> {
    let wanted = target.size(nodes.len() as u32);
    if wanted == 0 {
        return Err(format!("a cluster of {} has no {target}", nodes.len()));
    }
    if needs_leader(target) && leader.is_none() {
        return Err("no node leads".to_string());
    }
    let meant = |node: &Candidate| match target {
        Target::Leader => Some(node.name.as_str()) == leader,
        Target::Follower => Some(node.name.as_str()) != leader,
        Target::Node(number) => node.name == format!("n{number}"),
        Target::Random | Target::Minority | Target::Majority | Target::All => true,
    };
    let mut chosen: Vec<(usize, &Candidate)> =
        nodes.iter().enumerate().filter(|(_, node)| meant(node) && fits(node.state)).collect();
    if chosen.is_empty() {
        let meant: Vec<String> = nodes.iter().filter(|node| meant(node)).map(describe).collect();
        return Err(format!("nothing to strike: {}", meant.join(", ")));
    }
    chosen.shuffle(&mut ChaCha8Rng::seed_from_u64(draw));
    // Stable: the draw decides within each state.
    chosen.sort_by_key(|(_, node)| node.state != NodeState::Running);
    chosen.truncate(wanted as usize);
    chosen.sort_by_key(|(position, _)| *position);
    Ok(chosen.into_iter().map(|(_, node)| node.name.clone()).collect())
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

    fn alive(state: NodeState) -> bool {
        state != NodeState::Down
    }

    fn running(state: NodeState) -> bool {
        state == NodeState::Running
    }

    #[test]
    fn targets_without_a_choice_come_to_the_same_nodes_for_every_draw() {
        type Case = (
            &'static str,
            &'static str,
            Option<&'static str>,
            fn(NodeState) -> bool,
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
                let found = resolve(target.parse().unwrap(), &nodes(states), leader, fits, draw);
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
            let of =
                |draw| resolve(target.parse().unwrap(), &nodes(states), Some("n1"), alive, draw).unwrap();
            let found: BTreeSet<Vec<String>> = (0..500).map(of).collect();
            assert!(found.iter().all(|names| names.len() == size), "{target} of {states}: {found:?}");
            assert_eq!(found.len(), choices, "{target} of {states}: {found:?}");
            assert_eq!(of(7), of(7));
        }
    }
}
