//! Between whom the links are that a fault is done to, at the moment it strikes.
//!
//! In: the links of the scenario, every node with its state, the members, who leads, and the step's draw. Out: pairs,
//! each a way that bytes go, from the one to the other. Never: a clock, a socket, or randomness beside the draw.

use std::collections::BTreeSet;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::target::{self, View, resolve};
use crate::cluster::Source;
use crate::scenario::{Links, Shape, Side, Target};

/// Bytes go from the first to the second, whoever opened the connection.
pub type Pair = (Source, Source);

/// Whether one must know who leads before the links mean anything.
pub fn needs_leader(links: Links) -> bool {
    matches!(links, Links::Shape(Shape::PartialMesh)) || links.targets().any(target::needs_leader)
}

/// Whether they are the same whatever the state of the cluster.
pub fn are_given(links: Links) -> bool {
    !matches!(links, Links::Shape(_)) && links.targets().all(target::is_given)
}

/// The nodes that `links` name, among all whose links are meant; of a shape all of them.
pub fn named(links: Links, view: &View<'_>, draw: u64) -> Result<BTreeSet<String>, String> {
    let names = match links {
        Links::Of(target) => resolve(target, view, |_| true, draw)?,
        Links::Between { from, to, .. } => {
            let (one, other) = sides(from, to, view, draw)?;
            let of = |side, ends: Vec<Source>| if matches!(side, Side::Nodes(_)) { ends } else { Vec::new() };
            let ends = of(from, one).into_iter().chain(of(to, other));
            ends.filter_map(|end| if let Source::Node(name) = end { Some(name) } else { None }).collect()
        }
        Links::Shape(_) => {
            let ends = pairs(links, view, draw)?.into_iter().flat_map(|(from, to)| [from, to]);
            ends.filter_map(|end| if let Source::Node(name) = end { Some(name) } else { None }).collect()
        }
    };
    Ok(names.into_iter().collect())
}

/// The pairs that `links` come to; `Err` is the reason why there are none.
pub fn pairs(links: Links, view: &View<'_>, draw: u64) -> Result<BTreeSet<Pair>, String> {
    let all: Vec<String> = view.nodes.iter().map(|node| node.name.clone()).collect();
    let pairs = match links {
        Links::Of(target) => {
            let meant = resolve(target, view, |_| true, draw)?;
            every_pair(&all, |from, to| meant.contains(from) || meant.contains(to))
        }
        Links::Between { from, to, both_ways } => {
            let (from, to) = sides(from, to, view, draw)?;
            let there = from.iter().flat_map(|from| to.iter().map(move |to| (from.clone(), to.clone())));
            let there: BTreeSet<Pair> = there.filter(|(from, to)| from != to).collect();
            let back = there.iter().filter(|_| both_ways).map(|(from, to)| (to.clone(), from.clone()));
            back.chain(there.iter().cloned()).collect()
        }
        Links::Shape(shape) => drawn(shape, view, &all, &mut ChaCha8Rng::seed_from_u64(draw))?,
    };
    if pairs.is_empty() { Err(format!("there are no links for {links}")) } else { Ok(pairs) }
}

fn sides(from: Side, to: Side, view: &View<'_>, draw: u64) -> Result<(Vec<Source>, Vec<Source>), String> {
    let nodes = |names: Vec<String>| -> Vec<Source> { names.into_iter().map(Source::Node).collect() };
    let others = |side: &[String]| -> Vec<Source> {
        let others = view.nodes.iter().map(|node| &node.name).filter(|name| !side.contains(name));
        others.cloned().map(Source::Node).collect()
    };
    let found =
        |target: Target, not: &[String], draw| resolve(target, view, |node| !not.contains(&node.name), draw);
    Ok(match (from, to) {
        (Side::Nodes(from), Side::Nodes(to)) => {
            let from = found(from, &[], draw)?;
            // Another draw for the other side, and never the same node.
            let to = found(to, &from, draw.rotate_left(32))?;
            (nodes(from), nodes(to))
        }
        (Side::Nodes(from), Side::Others) => {
            let from = found(from, &[], draw)?;
            (nodes(from.clone()), others(&from))
        }
        (Side::Others, Side::Nodes(to)) => {
            let to = found(to, &[], draw)?;
            (others(&to), nodes(to))
        }
        (Side::Clients, Side::Nodes(to)) => (vec![Source::Clients], nodes(found(to, &[], draw)?)),
        (Side::Nodes(from), Side::Clients) => (nodes(found(from, &[], draw)?), vec![Source::Clients]),
        (Side::Clients | Side::Others, Side::Clients | Side::Others) => {
            return Err(format!("there are no links from {from} to {to}"));
        }
    })
}

fn drawn(
    shape: Shape,
    view: &View<'_>,
    all: &[String],
    numbers: &mut ChaCha8Rng,
) -> Result<BTreeSet<Pair>, String> {
    let votes = |name: &&String| view.members.has_voter(name);
    let mut voters: Vec<String> = all.iter().filter(votes).cloned().collect();
    if voters.len() < shape.voters_min() as usize {
        return Err(format!("{} voters are too few for {shape}", voters.len()));
    }
    voters.shuffle(numbers);
    let others: Vec<&String> = all.iter().filter(|name| !votes(name)).collect();
    Ok(match shape {
        Shape::Halves | Shape::OneWay | Shape::Bridge => {
            let rest = if shape == Shape::Bridge { &voters[1..] } else { &voters[..] };
            let mut one: BTreeSet<&String> = rest[..rest.len() / 2].iter().collect();
            let mut other: BTreeSet<&String> = rest[rest.len() / 2..].iter().collect();
            for name in others {
                if numbers.random_bool(0.5) {
                    one.insert(name)
                } else {
                    other.insert(name)
                };
            }
            // The smaller one may be either.
            let (from, to) = if numbers.random_bool(0.5) { (one, other) } else { (other, one) };
            every_pair(all, |a, b| {
                let there = from.contains(a) && to.contains(b);
                there || (shape != Shape::OneWay && from.contains(b) && to.contains(a))
            })
        }
        Shape::Ring => {
            let (size, majority) = (voters.len(), voters.len() / 2 + 1);
            let place = |name: &String| voters.iter().position(|voter| voter == name);
            every_pair(all, |from, to| {
                let (Some(from), Some(to)) = (place(from), place(to)) else { return false };
                // Each hears itself, those before it and those after it: with an odd majority as many of both.
                (from + size - to + (majority - 1) / 2) % size >= majority
            })
        }
        Shape::Grudge => {
            let mut pairs = every_pair(all, |_, _| true);
            let one = pairs.iter().nth(numbers.random_range(0..pairs.len())).cloned();
            pairs.retain(|pair| Some(pair) == one.as_ref() || numbers.random_bool(0.5));
            pairs
        }
        Shape::PartialMesh => {
            let Some(leader) = view.leader else { return Err("no node leads".to_owned()) };
            let spared = (voters.len() - 1) / 2;
            let lost: BTreeSet<&String> = voters.iter().filter(|name| *name != leader).take(spared).collect();
            every_pair(all, |a, b| (a == leader && lost.contains(b)) || (b == leader && lost.contains(a)))
        }
    })
}

/// Those among `nodes` that `fits`.
fn every_pair(nodes: &[String], fits: impl Fn(&String, &String) -> bool) -> BTreeSet<Pair> {
    let of = |from| nodes.iter().filter(move |to| from != *to).map(move |to| (from, to));
    let fitting = nodes.iter().flat_map(of).filter(|(from, to)| fits(from, to));
    fitting.map(|(from, to)| (Source::Node(from.clone()), Source::Node(to.clone()))).collect()
}

/// Both ways of a pair at once, as `n1 <-> n2`; then what goes one way only.
pub fn describe(pairs: &BTreeSet<Pair>) -> String {
    let back = |(from, to): &Pair| pairs.contains(&(to.clone(), from.clone()));
    let name = |end: &Source| match end {
        Source::Clients => "clients".to_owned(),
        Source::Node(name) => name.clone(),
    };
    let both = pairs.iter().filter(|pair| pair.0 < pair.1 && back(pair));
    let both = both.map(|(from, to)| format!("{} <-> {}", name(from), name(to)));
    let one = pairs.iter().filter(|pair| !back(pair));
    let one = one.map(|(from, to)| format!("{} -> {}", name(from), name(to)));
    both.chain(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::target::{Candidate, Known};
    use super::*;
    use crate::cluster::NodeState;
    use crate::system::operator::Members;

    fn nodes(count: u32) -> Vec<Candidate> {
        (1..=count).map(|n| Candidate { name: format!("n{n}"), state: NodeState::Running }).collect()
    }

    /// Where the first `voters` vote, the others do not, and n1 leads.
    fn found(links: &str, voters: u32, spares: u32, draw: u64) -> BTreeSet<(String, String)> {
        let (nodes, members) = (nodes(voters + spares), Members::first(voters));
        let view = View { nodes: &nodes, members: &members, leader: Some("n1"), known: &Known::default() };
        let name = |end| match end {
            Source::Clients => "clients".to_owned(),
            Source::Node(name) => name,
        };
        let pairs = pairs(links.parse().unwrap(), &view, draw).unwrap();
        pairs.into_iter().map(|(from, to)| (name(from), name(to))).collect()
    }

    fn names(numbers: std::ops::RangeInclusive<u32>) -> BTreeSet<String> {
        numbers.map(|n| format!("n{n}")).collect()
    }

    fn is_symmetric(pairs: &BTreeSet<(String, String)>) -> bool {
        pairs.iter().all(|(from, to)| pairs.contains(&(to.clone(), from.clone())))
    }

    /// Whom `name` still reaches and hears, over any number of nodes.
    fn connected(pairs: &BTreeSet<(String, String)>, all: &BTreeSet<String>, name: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::from([name.to_owned()]);
        loop {
            let cut = |a: &String, b: &String| pairs.contains(&(a.clone(), b.clone()));
            let next = all.iter().find(|to| {
                !reached.contains(*to) && reached.iter().any(|from| !cut(from, to) && !cut(to, from))
            });
            match next {
                Some(next) => reached.insert(next.clone()),
                None => return reached,
            };
        }
    }

    fn size() -> impl Strategy<Value = (u32, u32)> {
        (3..=9_u32, 0..=3_u32)
    }

    proptest! {
        #[test]
        fn halves_are_two_that_hear_themselves_and_not_each_other((voters, spares) in size(), draw: u64) {
            let (pairs, all) = (found("halves", voters, spares, draw), names(1..=voters + spares));
            prop_assert!(is_symmetric(&pairs));
            let one = connected(&pairs, &all, "n1");
            let other: BTreeSet<String> = all.difference(&one).cloned().collect();
            prop_assert_eq!(pairs.len(), 2 * one.len() * other.len());
            prop_assert!(one.iter().all(|a| other.iter().all(|b| pairs.contains(&(a.clone(), b.clone())))));
            let vote = one.intersection(&names(1..=voters)).count() as u32;
            prop_assert!(vote == voters / 2 || vote == voters - voters / 2, "{vote} of {voters}");
        }

        #[test]
        fn one_way_is_the_one_direction_of_halves((voters, spares) in size(), draw: u64) {
            let pairs = found("one-way", voters, spares, draw);
            let all = names(1..=voters + spares);
            prop_assert!(pairs.iter().all(|(from, to)| !pairs.contains(&(to.clone(), from.clone()))));
            let from: BTreeSet<_> = pairs.iter().map(|(from, _)| from.clone()).collect();
            let to: BTreeSet<_> = pairs.iter().map(|(_, to)| to.clone()).collect();
            prop_assert!(from.is_disjoint(&to));
            prop_assert_eq!(from.union(&to).cloned().collect::<BTreeSet<_>>(), all);
            prop_assert_eq!(pairs.len(), from.len() * to.len());
        }

        #[test]
        fn a_bridge_is_the_one_node_that_joins_two_halves((voters, spares) in size(), draw: u64) {
            let (pairs, all) = (found("bridge", voters, spares, draw), names(1..=voters + spares));
            prop_assert!(is_symmetric(&pairs));
            let free: Vec<_> = all.iter().filter(|name| pairs.iter().all(|(from, _)| from != *name)).collect();
            prop_assert_eq!(free.len(), 1, "{:?}", pairs);
            prop_assert!(names(1..=voters).contains(free[0]));
            prop_assert_eq!(connected(&pairs, &all, free[0]), all.clone());
            // Without it there are two parts, each without the other.
            let rest: BTreeSet<_> = all.iter().filter(|name| *name != free[0]).cloned().collect();
            let part = connected(&pairs, &rest, rest.first().unwrap());
            prop_assert_eq!(pairs.len(), 2 * part.len() * (rest.len() - part.len()));
            prop_assert!(part.len() < rest.len());
        }

        #[test]
        fn in_a_ring_each_hears_a_majority_and_no_two_the_same((voters, spares) in size(), draw: u64) {
            let pairs = found("ring", voters, spares, draw);
            let all = names(1..=voters);
            let hears = |name: &String| -> BTreeSet<String> {
                all.iter().filter(|from| !pairs.contains(&((*from).clone(), name.clone()))).cloned().collect()
            };
            let heard: BTreeSet<BTreeSet<String>> = all.iter().map(hears).collect();
            prop_assert_eq!(heard.len(), voters as usize);
            prop_assert!(heard.iter().all(|heard| heard.len() as u32 == voters / 2 + 1), "{:?}", heard);
            prop_assert!(all.iter().all(|name| hears(name).contains(name)));
            prop_assert_eq!(is_symmetric(&pairs), (voters / 2 + 1) % 2 == 1);
        }

        #[test]
        fn a_grudge_is_never_nothing_and_any_way_may_be_in_it((voters, spares) in (2..=5_u32, 0..=1_u32)) {
            let all = names(1..=voters + spares);
            let drawn: Vec<_> = (0..200).map(|draw| found("grudge", voters, spares, draw)).collect();
            prop_assert!(drawn.iter().all(|pairs| !pairs.is_empty()));
            let ever: BTreeSet<_> = drawn.iter().flatten().cloned().collect();
            prop_assert_eq!(ever.len(), all.len() * (all.len() - 1));
            prop_assert!(drawn.iter().any(|pairs| !is_symmetric(pairs)));
        }

        #[test]
        fn of_a_partial_mesh_the_leader_keeps_a_quorum_and_all_others_everybody((voters, spares) in size(), draw: u64) {
            let pairs = found("partial-mesh", voters, spares, draw);
            prop_assert!(is_symmetric(&pairs) && pairs.iter().all(|(from, to)| from == "n1" || to == "n1"));
            let lost = pairs.iter().filter(|(from, _)| from == "n1").count() as u32;
            prop_assert_eq!(lost, (voters - 1) / 2);
            prop_assert!(pairs.iter().flat_map(|(a, b)| [a, b]).all(|name| names(1..=voters).contains(name)));
        }

        #[test]
        fn of_a_target_all_links_are_meant_and_no_others((voters, spares) in size(), draw: u64) {
            let all = names(1..=voters + spares);
            for (target, count) in [("leader", 1), ("random", 1), ("minority", (voters - 1) / 2), ("n2", 1)] {
                let pairs = found(target, voters, spares, draw);
                prop_assert!(is_symmetric(&pairs));
                let alone: Vec<_> = all
                    .iter()
                    .filter(|name| pairs.iter().filter(|(from, _)| from == *name).count() == all.len() - 1)
                    .collect();
                let (count, nodes) = (count as usize, all.len());
                // With all but one of them, that one has no links left either.
                prop_assert!(alone.len() == count || count == nodes - 1, "{}: {:?}", target, pairs);
                prop_assert_eq!(pairs.len(), 2 * count * (nodes - count) + count * (count - 1));
            }
            prop_assert_eq!(found("all", voters, spares, draw).len(), all.len() * (all.len() - 1));
        }

        #[test]
        fn two_sides_are_never_the_same_node_and_an_arrow_has_one_direction((voters, spares) in size(), draw: u64) {
            let two = found("follower -> follower", voters, spares, draw);
            prop_assert!(two.len() == 1 && two.iter().all(|(from, to)| from != to && from != "n1" && to != "n1"));
            let others = names(2..=voters + spares);
            let from_leader = found("leader -> others", voters, spares, draw);
            let expected = others.iter().map(|to| ("n1".to_owned(), to.clone()));
            prop_assert_eq!(from_leader.clone(), expected.collect::<BTreeSet<_>>());
            let to_leader = found("others -> leader", voters, spares, draw);
            prop_assert!(to_leader.is_disjoint(&from_leader));
            let both = found("leader <-> others", voters, spares, draw);
            prop_assert_eq!(&both, &from_leader.union(&to_leader).cloned().collect());
            prop_assert_eq!(both, found("leader", voters, spares, draw));
        }
    }

    #[test]
    fn clients_have_links_with_the_nodes_that_are_meant() {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(found("leader -> clients", 3, 0, 1), [pair("n1", "clients")].into());
        assert_eq!(found("clients <-> n3", 3, 0, 1), [pair("n3", "clients"), pair("clients", "n3")].into());
        assert_eq!(
            found("clients -> all", 2, 1, 1),
            names(1..=3).iter().map(|n| pair("clients", n)).collect()
        );
    }

    #[test]
    fn pairs_are_told_shortly_and_none_are_a_reason() {
        let (nodes, members) = (nodes(3), Members::first(3));
        let view = View { nodes: &nodes, members: &members, leader: None, known: &Known::default() };
        let told = |links: &str| pairs(links.parse().unwrap(), &view, 1).map(|pairs| describe(&pairs));
        assert_eq!(told("n1 <-> others").unwrap(), "n1 <-> n2, n1 <-> n3");
        assert_eq!(told("n1 -> others").unwrap(), "n1 -> n2, n1 -> n3");
        assert_eq!(told("clients <-> n2").unwrap(), "clients <-> n2");
        assert_eq!(told("n2 -> clients").unwrap(), "n2 -> clients");
        for links in ["partial-mesh", "leader", "leader -> clients"] {
            assert_eq!(told(links), Err("no node leads".to_owned()), "{links}");
            assert!(needs_leader(links.parse().unwrap()));
        }
        let alone = Members::first(1);
        let view = View { members: &alone, ..view };
        let told = |links: &str| pairs(links.parse().unwrap(), &view, 1);
        assert_eq!(told("bridge"), Err("1 voters are too few for bridge".to_owned()));
    }
}
