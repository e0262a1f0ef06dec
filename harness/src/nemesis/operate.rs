//! What an operator does to a cluster that is well: leadership is handed over, snapshots are taken.
//!
//! In: a target. Out: who led then, or what the snapshots stand for. Never: anything to undo.

use std::sync::Arc;

use super::target::{candidates, resolve};
use super::{Aim, Doing, Struck, Told};
use crate::cluster::{Leader, NodeState, Refused, at_once};
use crate::history::StrikeOutcome;

/// The leader hands over to the target. Proof: the target leads a later term.
pub(super) fn transfer(aim: Aim) -> Doing<Struck> {
    Box::pin(async move {
        let Some(leader) = aim.leader.clone() else { return Struck::skipped("no node leads") };
        let mut names = match targets(&aim) {
            Ok(names) => names,
            Err(reason) => return Struck::skipped(reason),
        };
        let Some(to) = names.pop().filter(|to| *to != leader.node) else {
            return Struck::skipped(format!("{} leads already", leader.node));
        };
        if !aim.members.voters.contains(&to) {
            return Struck::skipped(format!("{to} does not vote"));
        }
        let told = match aim.cluster.transfer(&leader, &to).await {
            Ok(Leader { node, term }) => {
                let detail = format!("{} handed over: {node} leads term {term}", leader.node);
                Told { nodes: vec![leader.node, to], outcome: StrikeOutcome::Installed, detail }
            }
            Err(Refused { definite: true, message }) => Told::skipped(message),
            Err(Refused { definite: false, message }) => {
                Told { nodes: vec![leader.node, to], outcome: StrikeOutcome::Indeterminate, detail: message }
            }
        };
        Struck { told, undo: None }
    })
}

/// The target takes a snapshot. Proof: the entry that its answer says the newest one stands for.
pub(super) fn compact(aim: Aim) -> Doing<Struck> {
    Box::pin(async move {
        let names = match targets(&aim) {
            Ok(names) => names,
            Err(reason) => return Struck::skipped(reason),
        };
        let asked = names.iter().cloned().map(|name| {
            let cluster = Arc::clone(&aim.cluster);
            async move {
                let start = cluster.node(&name).start_count();
                let answer = cluster.compact(&name).await;
                // Another fault came first. What a snapshot that was cut short leaves behind is that fault's.
                let node = cluster.node(&name);
                let interrupted = node.state() != NodeState::Running || node.start_count() != start;
                answer.map_err(|refused| match interrupted {
                    true => {
                        Refused { definite: true, message: format!("{name}: went down while it was asked") }
                    }
                    false => refused,
                })
            }
        });
        let answers = at_once(asked).await;
        let done = |answer: &Result<u64, Refused>| answer.as_ref().is_ok_and(|index| *index > 0);
        let not = |answer: &Result<u64, Refused>| match answer {
            Ok(index) => *index == 0,
            Err(refused) => refused.definite,
        };
        let outcome = match () {
            () if answers.iter().all(done) => StrikeOutcome::Installed,
            () if answers.iter().all(not) => StrikeOutcome::Skipped,
            () => StrikeOutcome::Indeterminate,
        };
        let told = names.iter().zip(&answers).map(|(name, answer)| match answer {
            Ok(0) => format!("{name}: has nothing to stand for"),
            Ok(index) => format!("{name}: has a snapshot of all up to entry {index}"),
            Err(refused) => refused.to_string(),
        });
        let detail = told.collect::<Vec<_>>().join("; ");
        let names = if outcome == StrikeOutcome::Skipped { Vec::new() } else { names.clone() };
        Struck { told: Told { nodes: names, outcome, detail }, undo: None }
    })
}

/// Of those that run.
fn targets(aim: &Aim) -> Result<Vec<String>, String> {
    let nodes = candidates(&aim.cluster);
    resolve(aim.target, &aim.view(&nodes), |node| node.state == NodeState::Running, aim.draw)
}
