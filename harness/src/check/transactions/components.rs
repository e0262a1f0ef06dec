//! Which nodes lie on cycles together.
//!
//! In: a [`Graph`], the kinds of edges that count, and nodes that do not. Out: its strongly connected components of
//! more than one node, by Tarjan's algorithm (SIAM J. Comput. 1972). Never: recursion, whose depth a history would set.

use super::graph::{Graph, Kinds};

const UNSEEN: u32 = u32::MAX;

/// Each in no particular order. Cost: O(nodes + edges).
pub fn components(graph: &Graph, kinds: Kinds, without: &[bool]) -> Vec<Vec<u32>> {
    let nodes = graph.nodes();
    let mut search = Search {
        low: vec![UNSEEN; nodes as usize],
        done: vec![false; nodes as usize],
        stack: Vec::new(),
        path: Vec::new(),
        seen: 0,
    };
    let mut found = Vec::new();
    for root in 0..nodes {
        if search.low[root as usize] == UNSEEN && !without[root as usize] {
            search.from(root, graph, kinds, without, &mut found);
        }
    }
    found
}

struct Search {
    /// The earliest node, by number in the order of seeing, that is known to be reached and still open.
    low: Vec<u32>,
    /// Its component is complete.
    done: Vec<bool>,
    /// Seen, and their components not complete.
    stack: Vec<u32>,
    /// The way to the current node: each with its own number, the next of its edges, and its place in the stack.
    path: Vec<Step>,
    seen: u32,
}

struct Step {
    node: u32,
    number: u32,
    edge: usize,
    place: usize,
}

impl Search {
    fn enter(&mut self, node: u32, graph: &Graph) {
        self.low[node as usize] = self.seen;
        let place = self.stack.len();
        self.path.push(Step { node, number: self.seen, edge: graph.from(node).start, place });
        self.stack.push(node);
        self.seen += 1;
    }

    fn from(&mut self, root: u32, graph: &Graph, kinds: Kinds, without: &[bool], found: &mut Vec<Vec<u32>>) {
        self.enter(root, graph);
        while let Some(step) = self.path.last_mut() {
            let node = step.node as usize;
            if step.edge < graph.from(step.node).end {
                let edge = graph.edges()[step.edge];
                step.edge += 1;
                let to = edge.to as usize;
                if edge.kind & kinds == 0 || without[to] || self.done[to] {
                    continue;
                }
                if self.low[to] == UNSEEN {
                    self.enter(edge.to, graph);
                } else {
                    self.low[node] = self.low[node].min(self.low[to]);
                }
                continue;
            }
            let (low, is_root, place) = (self.low[node], self.low[node] == step.number, step.place);
            self.path.pop();
            if is_root {
                let component = self.stack.split_off(place);
                component.iter().for_each(|&node| self.done[node as usize] = true);
                if component.len() > 1 {
                    found.push(component);
                }
            }
            if let Some(before) = self.path.last() {
                let before = before.node as usize;
                self.low[before] = self.low[before].min(low);
            }
        }
    }
}
