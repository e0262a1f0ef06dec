//! Faults of processes: killed, paused, restarted, stopped; and how all of them are healed.
//!
//! In: nodes, by their target. Out: what was done to them, proven. Never: a choice; `target` makes it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::account::Breakage;
use super::target::{candidates, resolve};
use super::{Aim, Doing, Struck, Told};
use crate::cluster::{ActError, Cluster, Deed, GRACE, Node, NodeState, at_once};
use crate::history::StrikeOutcome;
use crate::scenario::Target;

/// How long a node that writes a snapshot is waited for.
const WATCH_LIMIT: Duration = Duration::from_secs(2);
const WATCH_POLL: Duration = Duration::from_micros(500);

/// SIGKILL; started again on the same data.
pub(super) fn kill(aim: Aim) -> Doing<Struck> {
    let act: Act = |node| Box::pin(async move { node.kill().await });
    let fault = Fault { fits: alive, act, undo: start };
    match aim.target {
        Target::Snapshotting => Box::pin(kill_snapshotting(aim, fault)),
        _ => Box::pin(strike(aim, fault)),
    }
}

/// SIGSTOP; SIGCONT.
pub(super) fn pause(aim: Aim) -> Doing<Struck> {
    let act: Act = |node| Box::pin(async move { node.pause().await });
    let undo: Act = |node| Box::pin(async move { node.resume().await });
    Box::pin(strike(aim, Fault { fits: running, act, undo }))
}

/// SIGTERM; started again on the same data.
pub(super) fn stop(aim: Aim) -> Doing<Struck> {
    let act: Act = |node| Box::pin(async move { node.terminate(GRACE).await });
    Box::pin(strike(aim, Fault { fits: alive, act, undo: start }))
}

/// Resumes every node that is paused and starts every one that is down.
pub(super) async fn heal_all(cluster: &Cluster) -> Told {
    let (mut names, mut results) = (Vec::new(), Vec::new());
    for node in cluster.nodes().iter().filter(|node| node.state() != NodeState::Running) {
        names.push(node.name().to_owned());
        let paused = node.state() == NodeState::Paused;
        results.push(if paused { node.resume().await } else { node.start().await });
    }
    match results.is_empty() {
        true => {
            Told { nodes: names, outcome: StrikeOutcome::Installed, detail: "every node runs".to_owned() }
        }
        false => sum_up(names, &results),
    }
}

type Act = fn(Arc<Node>) -> Doing<Result<Deed, ActError>>;

/// What one kind of fault does to one node.
#[derive(Clone, Copy)]
struct Fault {
    /// States of a node that it can be done to.
    fits: fn(NodeState) -> bool,
    act: Act,
    undo: Act,
}

async fn strike(aim: Aim, fault: Fault) -> Struck {
    let nodes = candidates(&aim.cluster);
    let names = match resolve(aim.target, &aim.view(&nodes), |node| (fault.fits)(node.state), aim.draw) {
        Ok(names) => names,
        Err(reason) => return Struck::skipped(reason),
    };
    let chosen = aim.cluster.nodes().iter().filter(|node| names.iter().any(|name| name == node.name()));
    let nodes: Vec<_> = chosen.map(|node| (node.start_count(), Arc::clone(node))).collect();
    let broken =
        nodes.iter().fold(Breakage::default(), |broken, (start, node)| broken.process(node.name(), *start));
    if let Err(reason) = aim.claim.breaks(broken) {
        return Struck::skipped(reason);
    }
    let told = sum_up(names, &at_once(nodes.iter().map(|(_, node)| (fault.act)(Arc::clone(node)))).await);
    if let Some(ended_ns) = last_end(&nodes) {
        aim.mark.done_at(ended_ns);
    }
    struck(told, nodes, fault)
}

/// When the last of the struck processes ended, as the guard saw it; none while one lives.
fn last_end(nodes: &[(u64, Arc<Node>)]) -> Option<u64> {
    let end = |(start, node): &(u64, Arc<Node>)| {
        let starts = node.starts();
        let struck = (*start as usize).checked_sub(1).and_then(|place| starts.get(place))?;
        struck.ending.as_ref().map(|ending| ending.at)
    };
    nodes.iter().map(end).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Kills whichever node is seen to be writing a snapshot. It is stopped to be looked at: so what was seen of the
/// file is what it was killed in.
async fn kill_snapshotting(aim: Aim, fault: Fault) -> Struck {
    let deadline = Instant::now() + WATCH_LIMIT;
    let answers = |node: &Node| node.starts().last().is_some_and(|start| start.answered);
    while Instant::now() < deadline {
        for node in aim.cluster.nodes() {
            let seen = || aim.cluster.unfinished_snapshot(node.name());
            // What an earlier start has left goes before the next one answers.
            if node.state() != NodeState::Running || !answers(node) || seen().is_none() {
                continue;
            }
            let start = node.start_count();
            if let Err(reason) = aim.claim.breaks(Breakage::default().process(node.name(), start)) {
                return Struck::skipped(reason);
            }
            if node.pause().await.is_err() {
                continue;
            }
            let Some((file, bytes)) = seen() else {
                // It is paused for no longer than this, whatever became of it.
                _ = node.resume().await;
                continue;
            };
            let mut told = sum_up(vec![node.name().to_owned()], &[(fault.act)(Arc::clone(node)).await]);
            told.detail += &format!(", with {bytes} bytes of {file} written");
            return struck(told, vec![(start, Arc::clone(node))], fault);
        }
        sleep(WATCH_POLL).await;
    }
    Struck::skipped(format!("no node was seen to write a snapshot within {WATCH_LIMIT:?}"))
}

fn struck(told: Told, nodes: Vec<(u64, Arc<Node>)>, fault: Fault) -> Struck {
    if told.outcome == StrikeOutcome::Skipped {
        return Struck { told, undo: None };
    }
    Struck { told, undo: Some(Box::new(move || Box::pin(undo(nodes, fault)))) }
}

/// Told which start of each node was struck: what befell a later one is another strike's to undo.
async fn undo(struck: Vec<(u64, Arc<Node>)>, fault: Fault) -> Told {
    let names = struck.iter().map(|(_, node)| node.name().to_owned()).collect();
    let undoings = struck.into_iter().map(|(start, node)| async move {
        match node.start_count() == start {
            true => (fault.undo)(node).await,
            false => Err(ActError::Overtaken { node: node.name().to_owned() }),
        }
    });
    sum_up(names, &at_once(undoings).await)
}

fn alive(state: NodeState) -> bool {
    state != NodeState::Down
}

fn running(state: NodeState) -> bool {
    state == NodeState::Running
}

fn start(node: Arc<Node>) -> Doing<Result<Deed, ActError>> {
    Box::pin(async move { node.start().await })
}

/// Installed when all were done, skipped when certainly none was, else indeterminate.
fn sum_up(nodes: Vec<String>, results: &[Result<Deed, ActError>]) -> Told {
    let outcome = if results.iter().all(Result::is_ok) {
        StrikeOutcome::Installed
    } else if results.iter().all(|result| result.as_ref().is_err_and(ActError::definite)) {
        StrikeOutcome::Skipped
    } else {
        StrikeOutcome::Indeterminate
    };
    let told = results.iter().map(|result| match result {
        Ok(deed) => deed.to_string(),
        Err(error) => error.to_string(),
    });
    Told { nodes, outcome, detail: told.collect::<Vec<_>>().join("; ") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::DeedKind;

    #[test]
    fn an_outcome_is_what_all_its_nodes_allow() {
        let took = Duration::from_micros(400);
        let done = || Ok(Deed { node: "n1".into(), pid: 7, start: 1, kind: DeedKind::Killed, took });
        let not = || Err(ActError::Already { node: "n2".into(), state: NodeState::Down });
        let perhaps = || Err(ActError::Unproven { node: "n3".into(), pid: 8, seen: "state S".into() });
        let cases = [
            (vec![done(), done()], StrikeOutcome::Installed),
            (vec![not(), not()], StrikeOutcome::Skipped),
            (vec![done(), not()], StrikeOutcome::Indeterminate),
            (vec![not(), perhaps()], StrikeOutcome::Indeterminate),
            (vec![perhaps()], StrikeOutcome::Indeterminate),
        ];
        for (results, expected) in cases {
            assert_eq!(sum_up(Vec::new(), &results).outcome, expected, "{results:?}");
        }
        assert_eq!(
            sum_up(Vec::new(), &[done(), not()]).detail,
            "n1: pid 7 ended by signal 9 after 0.4 ms; n2: is Down already"
        );
    }
}
