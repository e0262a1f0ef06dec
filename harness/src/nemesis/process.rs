//! Faults of processes: killed, paused, restarted, stopped.
//!
//! In: a node. Out: what was done to it, proven. Never: a choice; `target` has made it.

use super::{Doing, Fault};
use crate::cluster::{ActError, Cluster, Deed, GRACE, Node, NodeState};

/// SIGKILL; started again on the same data.
pub(super) static KILL: Fault = Fault { fits: alive, strike: kill, undo: start };

/// SIGSTOP; SIGCONT.
pub(super) static PAUSE: Fault = Fault { fits: running, strike: pause, undo: resume };

/// SIGTERM; started again as soon as it has ended.
pub(super) static RESTART: Fault = Fault { fits: alive, strike: terminate, undo: start };

/// SIGTERM; started again on the same data.
pub(super) static STOP: Fault = Fault { fits: alive, strike: terminate, undo: start };

fn alive(state: NodeState) -> bool {
    state != NodeState::Down
}

fn running(state: NodeState) -> bool {
    state == NodeState::Running
}

fn kill<'a>(cluster: &'a Cluster, node: &'a str) -> Doing<'a> {
    Box::pin(cluster.node(node).kill())
}

fn pause<'a>(cluster: &'a Cluster, node: &'a str) -> Doing<'a> {
    Box::pin(cluster.node(node).pause())
}

fn terminate<'a>(cluster: &'a Cluster, node: &'a str) -> Doing<'a> {
    Box::pin(cluster.node(node).terminate(GRACE))
}

fn start<'a>(cluster: &'a Cluster, node: &'a str, struck: u64) -> Doing<'a> {
    Box::pin(unless_overtaken(cluster.node(node), struck, Node::start))
}

fn resume<'a>(cluster: &'a Cluster, node: &'a str, struck: u64) -> Doing<'a> {
    Box::pin(unless_overtaken(cluster.node(node), struck, Node::resume))
}

/// Undoes only what was done to this start of the node: what befell a later one is another strike's to undo.
async fn unless_overtaken<'a>(
    node: &'a Node,
    struck: u64,
    undo: impl AsyncFnOnce(&'a Node) -> Result<Deed, ActError>,
) -> Result<Deed, ActError> {
    if node.start_count() == struck {
        undo(node).await
    } else {
        Err(ActError::Overtaken { node: node.name().to_string() })
    }
}
