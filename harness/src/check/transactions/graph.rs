//! What must come before what.
//!
//! In: the [`Orders`] of the keys and the [`Views`]. Out: a [`Graph`] over the transactions that took effect. Never: an
//! edge for each pair: besides transactions there are nodes that stand for a moment, or for the end of a key's order.

use super::micro::Transactions;
use super::orders::{NOBODY, Orders};
use super::views::Views;
use crate::check::linearizability::OPEN;

/// Why one comes before the other; a set of them is their sum.
pub type Kinds = u8;

/// It appended, and the other appended after it.
pub const WW: Kinds = 1;
/// It appended what the other read.
pub const WR: Kinds = 2;
/// It did not see what the other appended.
pub const RW: Kinds = 4;
/// It was acknowledged before the other was invoked.
pub const RT: Kinds = 8;
/// From the end of a key's order to an append that nobody saw: the edge before it says why.
pub const PASSING: Kinds = 16;

#[derive(Debug, Clone, Copy)]
pub struct Edge {
    pub from: u32,
    pub to: u32,
    pub kind: Kinds,
    /// Of no meaning for real time.
    pub key: u32,
}

/// Nodes are the transactions, then the ends of the keys' orders, then moments.
#[derive(Debug)]
pub struct Graph {
    /// Sorted by where they come from.
    edges: Vec<Edge>,
    /// Where those of each node begin.
    begins: Vec<u32>,
    transactions: u32,
}

impl Graph {
    pub fn of(transactions: &Transactions, views: &Views, orders: &Orders) -> Graph {
        let count = transactions.list.len() as u32;
        let mut edges = Vec::with_capacity(6 * transactions.list.len());
        for key in 0..orders.keys.len() as u32 {
            of_key(key, count + key, views, orders, &mut edges);
        }
        let moments = count + orders.keys.len() as u32;
        let nodes = real_time(transactions, &orders.committed, moments, &mut edges);
        Graph::sorted(edges, nodes, count)
    }

    /// By counting.
    fn sorted(edges: Vec<Edge>, nodes: u32, transactions: u32) -> Graph {
        let mut begins = vec![0_u32; nodes as usize + 1];
        for edge in &edges {
            begins[edge.from as usize + 1] += 1;
        }
        let mut sum = 0;
        for begin in &mut begins {
            sum += *begin;
            *begin = sum;
        }
        let mut next = begins.clone();
        let mut sorted = edges.clone();
        for edge in edges {
            let place = &mut next[edge.from as usize];
            sorted[*place as usize] = edge;
            *place += 1;
        }
        Graph { edges: sorted, begins, transactions }
    }

    pub fn nodes(&self) -> u32 {
        self.begins.len() as u32 - 1
    }

    /// Else it is no transaction.
    pub fn is_transaction(&self, node: u32) -> bool {
        node < self.transactions
    }

    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// Places in [`Graph::edges`].
    pub fn from(&self, node: u32) -> std::ops::Range<usize> {
        self.begins[node as usize] as usize..self.begins[node as usize + 1] as usize
    }
}

/// Each element comes after the one before it, and each read between two of them.
fn of_key(key: u32, end: u32, views: &Views, orders: &Orders, edges: &mut Vec<Edge>) {
    let order = &orders.keys[key as usize];
    if !order.sound {
        return;
    }
    let mut edge = |from: u32, to: u32, kind| {
        if from != to && from != NOBODY && to != NOBODY {
            edges.push(Edge { from, to, kind, key });
        }
    };
    let known = order.writers.iter().copied().filter(|&writer| writer != NOBODY);
    let mut last = NOBODY;
    for writer in known {
        edge(last, writer, WW);
        last = writer;
    }
    let (read, all) = (order.read.len(), order.writers.len());
    let open_end = !order.unobserved.is_empty();
    for view in views.of_key(key) {
        let base = view.base as usize;
        let before = base.checked_sub(1).map_or(NOBODY, |before| order.writers[before]);
        edge(before, view.transaction, WR);
        // Between two elements of one writer a read is torn, which is told as that and not as a cycle too.
        if base < all && order.writers[base] != before {
            edge(view.transaction, order.writers[base], RW);
        }
        // One that appends after this read without being next may itself be among those at the end.
        let is_next = order.extended == view.transaction;
        if open_end && view.list.len() == read && (view.tail == 0 || is_next) {
            edge(view.transaction, end, RW);
        }
    }
    // Whoever read all comes before them, and so does what it read.
    if open_end {
        order.unobserved.iter().for_each(|&writer| edge(end, writer, PASSING));
    }
}

/// A moment stands between some acknowledgements and the invocations after them; moments follow each other. So each
/// pair has a path, and there are as many edges as lines.
fn real_time(transactions: &Transactions, committed: &[bool], first: u32, edges: &mut Vec<Edge>) -> u32 {
    let list = &transactions.list;
    let mut ends: Vec<(u32, u32)> = (0..list.len() as u32)
        .map(|at| (list[at as usize].ret, at))
        .filter(|&(ret, _)| ret != OPEN)
        .collect();
    ends.sort_unstable();
    let mut ends = ends.into_iter().peekable();
    let (mut moment, mut next) = (None, first);
    let mut edge = |from, to| edges.push(Edge { from, to, kind: RT, key: 0 });
    for (at, transaction) in (0..).zip(list).filter(|&(at, _)| committed[at as usize]) {
        let mut fresh = None;
        while let Some((_, ended)) = ends.next_if(|&(ret, _)| ret < transaction.call) {
            let fresh = *fresh.get_or_insert_with(|| {
                next += 1;
                next - 1
            });
            edge(ended, fresh);
        }
        if let Some(fresh) = fresh {
            if let Some(before) = moment {
                edge(before, fresh);
            }
            moment = Some(fresh);
        }
        if let Some(moment) = moment {
            edge(moment, at);
        }
    }
    next
}
