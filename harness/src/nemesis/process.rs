//! Faults of processes: killed, paused, restarted, stopped, slow, in a crash loop; and how all of them are healed.
//!
//! In: nodes, by their target. Out: what was done to them, proven. Never: a choice; `target` makes it.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, sleep};

use super::account::Breakage;
use super::target::{Candidate, candidates, resolve};
use super::{Aim, Doing, Struck, Told, Undo};
use crate::cluster::{ActError, Cluster, Deed, GRACE, Node, NodeState, at_once};
use crate::history::StrikeOutcome;
use crate::scenario::{Manner, Target};

/// How long a node that writes a snapshot is waited for.
const WATCH_LIMIT: Duration = Duration::from_secs(2);
const WATCH_POLL: Duration = Duration::from_micros(500);

/// SIGKILL; started again on the same data.
pub(super) fn kill(aim: Aim) -> Doing<Struck> {
    let act: Act = act(|node| async move { node.kill().await });
    let fault = Fault { fits: alive, act, undo: start(), same: same_start, breaks: Breakage::process };
    match aim.target {
        Target::Snapshotting => Box::pin(kill_snapshotting(aim, fault)),
        _ => Box::pin(strike(aim, fault)),
    }
}

/// SIGSTOP; SIGCONT.
pub(super) fn pause(aim: Aim) -> Doing<Struck> {
    let act = act(|node| async move { node.pause().await });
    let undo = self::act(|node| async move { node.resume().await });
    Box::pin(strike(aim, Fault { fits: running, act, undo, same: same_start, breaks: Breakage::process }))
}

/// SIGSTOP and SIGCONT in turn; SIGCONT.
pub(super) fn slow(aim: Aim) -> Doing<Struck> {
    let Manner::Slow { stopped, running: runs } = aim.manner else { unreachable!("{:?}", aim.manner) };
    let act = act(move |node| async move { node.slow(stopped, runs).await });
    let undo = self::act(|node| async move { node.steady().await });
    Box::pin(strike(aim, Fault { fits: running, act, undo, same: same_start, breaks: Breakage::process }))
}

/// SIGKILL, and started again on the same data, again and again; left running.
pub(super) fn crash_loop(aim: Aim) -> Doing<Struck> {
    let (Manner::CrashLoop { up }, draw) = (aim.manner, aim.draw) else { unreachable!("{:?}", aim.manner) };
    let act = act(move |node| async move {
        // Nodes of one strike do not die in step.
        let mut numbers = ChaCha8Rng::seed_from_u64(draw);
        numbers.set_stream(number(&node));
        node.crash_loop(up, numbers).await
    });
    let undo = self::act(|node| async move { node.end_crash_loop().await });
    // Nobody else starts a node in a crash loop.
    let same = |node: &Node, _| node.state() == NodeState::CrashLoop;
    // However often it starts.
    let breaks = |broken: Breakage, node: &str, _| broken.node(node);
    Box::pin(strike(aim, Fault { fits: alive, act, undo, same, breaks }))
}

/// SIGTERM; started again on the same data.
pub(super) fn stop(aim: Aim) -> Doing<Struck> {
    let act = act(|node| async move { node.terminate(GRACE).await });
    Box::pin(strike(
        aim,
        Fault { fits: alive, act, undo: start(), same: same_start, breaks: Breakage::process },
    ))
}

/// Has every node run: whoever is paused, slow, in a crash loop or down.
pub(super) async fn heal_all(cluster: &Cluster) -> Told {
    let (mut names, mut results) = (Vec::new(), Vec::new());
    for node in cluster.nodes().iter().filter(|node| node.state() != NodeState::Running) {
        names.push(node.name().to_owned());
        results.push(match node.state() {
            NodeState::Paused => node.resume().await,
            NodeState::Slow => node.steady().await,
            NodeState::CrashLoop => node.end_crash_loop().await,
            NodeState::Damaged | NodeState::Down | NodeState::Running => node.start().await,
        });
    }
    match results.is_empty() {
        true => {
            Told { nodes: names, outcome: StrikeOutcome::Installed, detail: "every node runs".to_owned() }
        }
        false => sum_up(names, &results),
    }
}

pub(super) type Act = Arc<dyn Fn(Arc<Node>) -> Doing<Result<Deed, ActError>> + Send + Sync>;

pub(super) fn act<D>(act: impl Fn(Arc<Node>) -> D + Send + Sync + 'static) -> Act
where
    D: Future<Output = Result<Deed, ActError>> + Send + 'static,
{
    Arc::new(move |node| Box::pin(act(node)))
}

/// What one kind of fault does to one node.
pub(super) struct Fault {
    /// Whether it can be done to a node as it is.
    pub fits: fn(&Node) -> bool,
    pub act: Act,
    pub undo: Act,
    /// Whether what was done at this start of the node is there to be undone.
    pub same: fn(&Node, u64) -> bool,
    /// Until when it counts as broken, for it was struck at this start.
    pub breaks: fn(Breakage, &str, u64) -> Breakage,
}

pub(super) async fn strike(aim: Aim, fault: Fault) -> Struck {
    let nodes = candidates(&aim.cluster);
    let fits = |node: &Candidate| (fault.fits)(aim.cluster.node(&node.name));
    let names = match resolve(aim.target, &aim.view(&nodes), fits, aim.draw) {
        Ok(names) => names,
        Err(reason) => return Struck::skipped(reason),
    };
    let chosen = aim.cluster.nodes().iter().filter(|node| names.iter().any(|name| name == node.name()));
    let nodes: Vec<_> = chosen.map(|node| (node.start_count(), Arc::clone(node))).collect();
    let broken = nodes
        .iter()
        .fold(Breakage::default(), |broken, (start, node)| (fault.breaks)(broken, node.name(), *start));
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
pub(super) async fn kill_snapshotting(aim: Aim, fault: Fault) -> Struck {
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
                match node.resume().await {
                    Ok(_) => continue,
                    Err(error) if error.definite() => continue,
                    Err(error) => {
                        return struck(
                            sum_up(vec![node.name().to_owned()], &[Err(error)]),
                            vec![(start, Arc::clone(node))],
                            fault,
                        );
                    }
                }
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
    Struck { told, undo: Some(Undo::new(move || undo(nodes, fault))) }
}

/// Told which start of each node was struck: what befell a later one is another strike's to undo.
async fn undo(struck: Vec<(u64, Arc<Node>)>, fault: Fault) -> Told {
    let names = struck.iter().map(|(_, node)| node.name().to_owned()).collect();
    let undoings = struck.into_iter().map(|(start, node)| {
        let (same, undo) = ((fault.same)(&node, start), Arc::clone(&fault.undo));
        async move {
            match same {
                true => undo(node).await,
                false => Err(ActError::Overtaken { node: node.name().to_owned() }),
            }
        }
    });
    sum_up(names, &at_once(undoings).await)
}

/// Nobody but its loop acts on a node in a crash loop, and nobody but who damaged it on one that is.
pub(super) fn alive(node: &Node) -> bool {
    !matches!(node.state(), NodeState::Down | NodeState::CrashLoop | NodeState::Damaged)
}

pub(super) fn running(node: &Node) -> bool {
    node.state() == NodeState::Running
}

pub(super) fn start() -> Act {
    act(|node| async move { node.start().await })
}

pub(super) fn same_start(node: &Node, start: u64) -> bool {
    node.start_count() == start
}

/// 2 of n2.
pub(super) fn number(node: &Node) -> u64 {
    node.name().trim_start_matches('n').parse().unwrap_or_default()
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
