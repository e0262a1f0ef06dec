//! Short cycles, the most severe kinds first.
//!
//! In: a [`Graph`]. Out: [`Cycle`]s that share no transaction, a bounded number. Never: "no cycle" where there is one;
//! and a budget spent makes a cycle longer than it need be, or of a milder kind, never wrong.
//!
//! Kinds of edges are looked at in growing sets. What a set adds to those before it, each cycle that is left must
//! have, so a cycle is closed by such an edge, and the shortest way back from its end is sought. Which edges first? A
//! system that is mostly right puts most edges forward in time; a cycle has one that goes back.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};

use super::anomaly::{Kind, Shape};
use super::components::components;
use super::graph::{Edge, Graph, Kinds, PASSING, RT, RW, WR, WW};
use super::micro::{Transaction, Transactions};

/// Told at most: the first ones tell the story.
pub const CYCLES_MAX: usize = 8;

/// Edges looked at to find cycles that are short, at most; one way back for each cycle is always sought to its end.
const LOOKS_MAX: usize = 50_000_000;

/// Each transaction with the edge that leads to the next, and from the last to the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    pub links: Vec<Link>,
}

/// From a transaction to another, whatever nodes lay between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub from: u32,
    pub to: u32,
    pub kind: Kinds,
    pub key: u32,
}

impl Cycle {
    pub fn kind(&self) -> Kind {
        let count = |kind| self.links.iter().filter(|link| link.kind == kind).count();
        let shape = match (count(RW), count(WR)) {
            (0, 0) => Shape::G0,
            (0, _) => Shape::G1c,
            (1, _) => Shape::GSingle,
            _ => Shape::G2,
        };
        Kind::Cycle { realtime: count(RT) > 0, shape }
    }
}

/// A cycle of these kinds has a `closing` edge, and the way back is sought first without those that make it milder.
struct Layer {
    closing: Kinds,
    ways_back: &'static [Kinds],
}

const LAYERS: [Layer; 6] = [
    Layer { closing: WW, ways_back: &[WW] },
    Layer { closing: WR, ways_back: &[WW | WR] },
    Layer { closing: RW, ways_back: &[WW | WR, WW | WR | RW] },
    Layer { closing: WW, ways_back: &[WW | RT] },
    Layer { closing: WR, ways_back: &[WW | WR | RT] },
    Layer { closing: RW, ways_back: &[WW | WR | RT, WW | WR | RW | RT] },
];

/// Cost: O(nodes + edges) where there is none.
pub fn cycles(graph: &Graph, transactions: &Transactions) -> Vec<Cycle> {
    let mut without = vec![false; graph.nodes() as usize];
    let mut found = Vec::new();
    if components(graph, Kinds::MAX, &without).is_empty() {
        return found;
    }
    let mut search = Search::new(graph, &transactions.list);
    for layer in &LAYERS {
        loop {
            let kinds = layer.ways_back.iter().fold(layer.closing | PASSING, |all, kinds| all | kinds);
            let components = components(graph, kinds, &without);
            if components.is_empty() {
                break;
            }
            for component in components {
                if found.len() == CYCLES_MAX {
                    return found;
                }
                let cycle = search.cycle(layer, &component);
                // The next ones are to be independent of it.
                cycle.links.iter().for_each(|link| without[link.from as usize] = true);
                found.push(cycle);
            }
        }
    }
    found
}

struct Search<'g> {
    graph: &'g Graph,
    list: &'g [Transaction],
    /// The component that a node belongs to, by a number that is never used again.
    member: Vec<u32>,
    members: u32,
    /// How a node was reached in the current search, which has a number too.
    reached: Vec<(u32, u32)>,
    searches: u32,
    looks: usize,
}

impl<'g> Search<'g> {
    fn new(graph: &'g Graph, list: &'g [Transaction]) -> Search<'g> {
        let nodes = graph.nodes() as usize;
        Search {
            graph,
            list,
            member: vec![0; nodes],
            members: 0,
            reached: vec![(0, 0); nodes],
            searches: 0,
            looks: 0,
        }
    }

    /// The shortest of the most severe kind, as far as the budget reaches.
    fn cycle(&mut self, layer: &Layer, component: &[u32]) -> Cycle {
        self.members += 1;
        component.iter().for_each(|&node| self.member[node as usize] = self.members);
        let closing = self.closing(layer.closing, component);
        for (left, &kinds) in
            layer.ways_back.iter().enumerate().map(|(at, kinds)| (layer.ways_back.len() - at, kinds))
        {
            let mut best: Option<Cycle> = None;
            for &edge in &closing {
                let may_stop = best.is_some() || left > 1;
                let shorter_than = best.as_ref().map_or(usize::MAX, |cycle| cycle.links.len());
                // Two transactions are the least.
                if shorter_than == 2 || may_stop && self.looks > LOOKS_MAX {
                    break;
                }
                best = self.way_back(edge, kinds | PASSING, shorter_than).or(best);
            }
            if let Some(cycle) = best {
                return cycle;
            }
        }
        unreachable!("{} nodes reach each other, and no cycle among them was found", component.len())
    }

    /// The edges of these kinds within the component, those first that go furthest back in time.
    fn closing(&self, kinds: Kinds, component: &[u32]) -> Vec<usize> {
        let inside = |edge: &Edge| edge.kind & kinds != 0 && self.member[edge.to as usize] == self.members;
        let mut ends: HashMap<u32, i64> = HashMap::new();
        let mut closing: Vec<(i64, usize)> = Vec::new();
        for at in component.iter().flat_map(|&node| self.graph.from(node)) {
            let edge = &self.graph.edges()[at];
            if inside(edge) {
                let end = match self.list.get(edge.to as usize) {
                    Some(to) => to.ret.into(),
                    None => *ends.entry(edge.to).or_insert_with(|| self.first_return_after(edge.to)),
                };
                closing.push((i64::from(self.list[edge.from as usize].call) - end, at));
            }
        }
        closing.sort_unstable_by_key(|&(back, at)| (Reverse(back), at));
        closing.into_iter().map(|(_, at)| at).collect()
    }

    /// Of the transactions that come after the end of a key's order.
    fn first_return_after(&self, end: u32) -> i64 {
        let after = self.graph.from(end).filter_map(|at| self.list.get(self.graph.edges()[at].to as usize));
        after.map(|transaction| transaction.ret.into()).min().unwrap_or(i64::MAX)
    }

    /// The cycle of `edge` and the fewest transactions from its end to its begin; none if it is not `shorter_than`.
    ///
    /// Nodes that are no transactions cost nothing, and go to the front of the queue.
    fn way_back(&mut self, edge: usize, kinds: Kinds, shorter_than: usize) -> Option<Cycle> {
        self.searches += 1;
        let Edge { from: goal, to: start, .. } = self.graph.edges()[edge];
        let cost = |node: u32| usize::from(self.graph.is_transaction(node));
        let mut queue = VecDeque::from([(start, cost(start))]);
        self.reached[start as usize] = (self.searches, edge as u32);
        while let Some((node, cost_so_far)) = queue.pop_front() {
            // The goal is one more.
            if cost_so_far + 1 >= shorter_than {
                return None;
            }
            if kinds & RT != 0 && self.precedes(node, goal) {
                return Some(self.closed(goal, node, Edge { from: node, to: goal, kind: RT, key: 0 }));
            }
            for at in self.graph.from(node) {
                self.looks += 1;
                let next = self.graph.edges()[at];
                let (seen, _) = self.reached[next.to as usize];
                let inside = self.member[next.to as usize] == self.members;
                if next.kind & kinds == 0 || seen == self.searches || !inside {
                    continue;
                }
                if next.to == goal {
                    return Some(self.closed(goal, node, next));
                }
                self.reached[next.to as usize] = (self.searches, at as u32);
                match cost(next.to) {
                    0 => queue.push_front((next.to, cost_so_far)),
                    more => queue.push_back((next.to, cost_so_far + more)),
                }
            }
        }
        None
    }

    fn precedes(&self, one: u32, other: u32) -> bool {
        self.list.get(one as usize).is_some_and(|one| one.ret < self.list[other as usize].call)
    }

    /// Goes back from `node` to `goal`, where the search began, and leaves out what is no transaction.
    fn closed(&self, goal: u32, mut node: u32, last: Edge) -> Cycle {
        let mut edges = vec![last];
        while node != goal {
            let (_, edge) = self.reached[node as usize];
            edges.push(self.graph.edges()[edge as usize]);
            node = self.graph.edges()[edge as usize].from;
        }
        let mut links: Vec<Link> = Vec::new();
        for &Edge { from, to, kind, key } in edges.iter().rev() {
            match links.last_mut() {
                Some(link) if !self.graph.is_transaction(from) => link.to = to,
                _ => links.push(Link { from, to, kind, key }),
            }
        }
        Cycle { links }
    }
}
