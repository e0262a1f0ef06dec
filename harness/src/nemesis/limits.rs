//! Faults of what a node may use of its machine: descriptors, memory, time on the CPUs.
//!
//! In: nodes, by their target, and the most that they may have. Out: limits that are in force by the kernel's word; when
//! they are lifted, how often they were felt. Never: an end for want of memory that counts against the node: it is the
//! fault's doing, and the node is started again when the fault is undone.

use super::account::Breakage;
use super::process::{Fault, act, running, same_start, strike};
use super::{Aim, Doing, Struck};
use crate::cluster::{Node, Resource};
use crate::scenario::Manner;

pub(super) fn descriptors(aim: Aim) -> Doing<Struck> {
    let Manner::Descriptors { most } = aim.manner else { unreachable!("{:?}", aim.manner) };
    let limit = act(move |node| async move { node.limit_descriptors(most).await });
    let lift = act(|node| async move { node.free_descriptors().await });
    let fits = |node: &Node| running(node) && !node.is_limited(Resource::Descriptors);
    // A process that was started since has its own limit.
    Box::pin(strike(aim, Fault { fits, act: limit, undo: lift, same: same_start, breaks }))
}

pub(super) fn memory(aim: Aim) -> Doing<Struck> {
    let Manner::Memory { most_bytes } = aim.manner else { unreachable!("{:?}", aim.manner) };
    let limit = act(move |node| async move { node.limit_memory(most_bytes).await });
    let lift = act(|node| async move { node.free_memory().await });
    let fits = |node: &Node| running(node) && !node.is_limited(Resource::Memory);
    Box::pin(strike(aim, Fault { fits, act: limit, undo: lift, same: whichever_start, breaks }))
}

pub(super) fn cpu(aim: Aim) -> Doing<Struck> {
    let Manner::Cpu { most_percent } = aim.manner else { unreachable!("{:?}", aim.manner) };
    let limit = act(move |node| async move { node.limit_cpu(most_percent.into()).await });
    let lift = act(|node| async move { node.free_cpu().await });
    let fits = |node: &Node| running(node) && !node.is_limited(Resource::Cpu);
    Box::pin(strike(aim, Fault { fits, act: limit, undo: lift, same: whichever_start, breaks }))
}

/// The limit is on all that run in the node's group.
fn whichever_start(_: &Node, _: u64) -> bool {
    true
}

fn breaks(broken: Breakage, node: &str, _: u64) -> Breakage {
    broken.node(node)
}
