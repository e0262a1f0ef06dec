//! Which operations clients may send to which node: the one thing that the load and those who steer it share.
//!
//! In: what is withheld from a node, from now on. Out: yes or no to each operation that is about to be sent, and how
//! many were. Never: a request that passes after a gate was shut: to ask and to count is one act.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an operation may do; all its requests are of its sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// It changes nothing.
    Read,
    /// It may change something, though it may read first.
    Write,
}

/// A gate for each node.
#[derive(Debug, Default)]
pub struct Gates(BTreeMap<String, Arc<Gate>>);

/// Before one node.
#[derive(Debug, Default)]
pub struct Gate([Mutex<Leaf>; 2]);

/// What one sort of operations finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Leaf {
    /// By how many it is held shut.
    shut: u32,
    passage: Passage,
}

/// What came to a gate so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passage {
    /// Requests that were sent on.
    pub passed: u64,
    /// Requests that went elsewhere or nowhere, and operations that did not begin.
    pub turned_away: u64,
}

impl Gates {
    /// All open.
    pub fn before(nodes: impl IntoIterator<Item = String>) -> Gates {
        Gates(nodes.into_iter().map(|node| (node, Arc::default())).collect())
    }

    /// An open one, which nobody else knows, where there is no such node.
    pub fn of(&self, node: &str) -> Arc<Gate> {
        self.0.get(node).cloned().unwrap_or_default()
    }

    /// Opens all, whoever holds them shut. Returns the nodes before which one was shut.
    pub fn open_all(&self) -> Vec<&str> {
        let opened = |gate: &Gate| {
            let shut = gate.0.iter().map(|leaf| std::mem::take(&mut held(leaf).shut));
            shut.sum::<u32>() > 0
        };
        self.0.iter().filter(|(_, gate)| opened(gate)).map(|(node, _)| node.as_str()).collect()
    }
}

impl Gate {
    /// Returns what has come so far: nothing of this sort passes any more.
    pub fn shut(&self, sort: Sort) -> Passage {
        let mut leaf = self.leaf(sort);
        leaf.shut += 1;
        leaf.passage
    }

    /// As often as it was shut. Returns what has come so far.
    pub fn open(&self, sort: Sort) -> Passage {
        let mut leaf = self.leaf(sort);
        leaf.shut = leaf.shut.saturating_sub(1);
        leaf.passage
    }

    pub fn is_open(&self, sort: Sort) -> bool {
        self.leaf(sort).shut == 0
    }

    /// True: the request may be sent, and is counted.
    pub fn pass(&self, sort: Sort) -> bool {
        let mut leaf = self.leaf(sort);
        let open = leaf.shut == 0;
        if open {
            leaf.passage.passed += 1;
        } else {
            leaf.passage.turned_away += 1;
        }
        open
    }

    /// An operation did not begin for its sake.
    pub fn turn_away(&self, sort: Sort) {
        self.leaf(sort).passage.turned_away += 1;
    }

    fn leaf(&self, sort: Sort) -> MutexGuard<'_, Leaf> {
        held(&self.0[sort as usize])
    }
}

/// Held for a line that cannot panic.
fn held(leaf: &Mutex<Leaf>) -> MutexGuard<'_, Leaf> {
    leaf.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_nothing_pass_while_anybody_holds_it_shut_and_other_sorts_always() {
        let gates = Gates::before(["n1".to_owned(), "n2".to_owned()]);
        let gate = gates.of("n1");
        assert!(gate.pass(Sort::Read));
        let before = gate.shut(Sort::Read);
        gate.shut(Sort::Read);
        assert!(!gate.pass(Sort::Read) && !gate.is_open(Sort::Read));
        assert!(gate.pass(Sort::Write) && gates.of("n2").pass(Sort::Read));
        gate.turn_away(Sort::Read);
        assert_eq!(gate.open(Sort::Read), Passage { turned_away: 2, ..before });
        assert!(!gate.is_open(Sort::Read), "the other one still holds it");
        assert_eq!(gates.open_all(), ["n1"]);
        assert!(gate.pass(Sort::Read) && gates.open_all().is_empty());
    }
}
