//! Restarts of one node after the other, as an operator does them: on the same binary, or from one to the next.
//!
//! In: nodes, by their target. Out: of each, the processes before and after, and that it has caught up; of an upgrade,
//! the digest of the program that the new process runs. Never: a node stopped without which no majority of the voters
//! would run, but of one or two, where the roll as a whole is told as time without a quorum; a second one before the
//! first has come back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::account::Breakage;
use super::keep::Claim;
use super::strike::Aim;
use super::target::{candidates, resolve};
use super::{Doing, Struck, Told, Undo};
use crate::cluster::{Cluster, Deed, GRACE, Node, NodeState};
use crate::history::StrikeOutcome;
use crate::system::mkraft::digest;

/// For a node to be well enough to be stopped, and for it to come back and catch up.
const NODE_LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(10);

/// SIGTERM and a start, of one after the other.
pub(super) fn roll(aim: Aim) -> Doing<Struck> {
    Box::pin(roll_on(aim, None))
}

/// The same, and what starts is the next binary.
pub(super) fn upgrade(aim: Aim) -> Doing<Struck> {
    Box::pin(async move {
        match aim.cluster.next().map(|next| next.digest.clone()) {
            Some(digest) => roll_on(aim, Some(digest)).await,
            None => Struck::skipped("there is no next binary"),
        }
    })
}

async fn roll_on(aim: Aim, next: Option<String>) -> Struck {
    let nodes = candidates(&aim.cluster);
    let is_left = |name: &str| next.is_none() || !runs_next(aim.cluster.node(name));
    if nodes.iter().all(|node| !is_left(&node.name)) {
        return Struck::skipped("every node runs the next binary already");
    }
    let names = match resolve(aim.target, &aim.view(&nodes), |node| is_left(&node.name), aim.draw) {
        Ok(names) => names,
        Err(reason) => return Struck::skipped(reason),
    };
    let mut roll = Roll {
        cluster: aim.cluster,
        next,
        claim: aim.claim,
        stop: aim.stop,
        not_spared: Breakage::default(),
    };
    let (mut done, mut begun, mut trouble) = (Vec::new(), 0, None);
    for name in &names {
        match roll.node(name, &mut begun).await {
            Ok(told) => done.push(told),
            Err(why) => {
                trouble = Some(format!("{name}: {why}"));
                break;
            }
        }
    }
    let outcome = match (&trouble, begun) {
        (None, _) => StrikeOutcome::Installed,
        (Some(_), 0) => StrikeOutcome::Skipped,
        (Some(_), _) => StrikeOutcome::Indeterminate,
    };
    let nodes: Vec<String> = names.into_iter().take(begun).collect();
    done.extend(trouble);
    let told = Told { nodes: nodes.clone(), outcome, detail: done.join("; ") };
    let is_owed = outcome == StrikeOutcome::Installed && roll.not_spared != Breakage::default();
    Struck { told, undo: is_owed.then(|| all_back(nodes)) }
}

/// Of a roll that left no quorum at times its own line says that none was whole, and the line of its heal, which comes at
/// once, that one is again.
fn all_back(nodes: Vec<String>) -> Undo {
    let detail = "no quorum was whole while one of these was away; all are back".to_owned();
    let told = Told { nodes, outcome: StrikeOutcome::Installed, detail };
    Undo::new(move || async move { told })
}

struct Roll {
    cluster: Arc<Cluster>,
    /// The digest of the binary that is to start.
    next: Option<String>,
    claim: Claim,
    stop: watch::Receiver<bool>,
    /// The nodes without which there was no majority of the voters, while they were away.
    not_spared: Breakage,
}

impl Roll {
    /// Counts in `begun` when something may have been done to it.
    async fn node(&mut self, name: &str, begun: &mut usize) -> Result<String, String> {
        let cluster = Arc::clone(&self.cluster);
        let node = cluster.node(name);
        let stopped = self.stopped(node, begun).await?;
        if self.next.is_some() {
            node.upgrade();
        }
        let deadline = Instant::now() + NODE_LIMIT;
        let started = node.start().await.map_err(|error| error.to_string())?;
        let (began, mut told) = (Instant::now(), format!("{stopped}; started as pid {}", started.pid));
        if let Some(next) = &self.next {
            let (pid, runs) = self.program(node, deadline).await.map_err(|why| format!("{told}; {why}"))?;
            if pid != started.pid {
                told += &format!(", ended by another fault, and started as pid {pid}");
            }
            if runs != *next {
                return Err(format!("{told}: runs a program with digest {runs}, and not {next}"));
            }
            told += &format!(" of {runs}");
        }
        // What was committed when it started is what it must have applied, once it counts.
        let committed = self.committed().await;
        while let Some(why) = self.keeps_from_leaving(name, committed).await {
            self.wait(deadline, &why).await.map_err(|why| format!("{told}; {why}"))?;
        }
        self.release();
        Ok(format!("{told}, had applied {committed} after {:.3} s", began.elapsed().as_secs_f64()))
    }

    /// Nothing is broken at present; but of a roll that left no quorum the line that says so is still to be written.
    fn release(&self) {
        if self.not_spared == Breakage::default() {
            self.claim.release();
        }
    }

    /// Waits until it may be stopped, and stops it.
    async fn stopped(&mut self, node: &Node, begun: &mut usize) -> Result<Deed, String> {
        let deadline = Instant::now() + NODE_LIMIT;
        loop {
            let why = match self.keeps_from_stopping(node).await {
                Some(why) => why,
                // Until it has come back, and not only until it is started.
                None if let Err(why) = self.claims(node).await => why,
                None => match node.terminate(GRACE).await {
                    Ok(deed) => {
                        *begun += 1;
                        return Ok(deed);
                    }
                    // Another fault was quicker.
                    Err(error) if error.definite() => {
                        self.release();
                        error.to_string()
                    }
                    Err(error) => {
                        *begun += 1;
                        return Err(error.to_string());
                    }
                },
            };
            self.wait(deadline, &why).await?;
        }
    }

    /// Of three or more voters a quorum is left, which reaches each other; fewer have none to spare at any time.
    async fn claims(&mut self, node: &Node) -> Result<(), String> {
        let broken = self.not_spared.clone().node(node.name());
        let voters = self.cluster.members().await.voters;
        if voters.len() >= 3 {
            return self.claim.spares_a_quorum(broken);
        }
        self.claim.breaks(broken.clone())?;
        if voters.contains(node.name()) {
            self.not_spared = broken;
        }
        Ok(())
    }

    /// What its newest process runs, and its pid: another fault may have ended the one that was started here, and started
    /// the next.
    async fn program(&self, node: &Node, deadline: Instant) -> Result<(u32, String), String> {
        let living = || node.last_start().filter(|start| start.ending.is_none()).map(|start| start.pid);
        loop {
            let why = match living() {
                None => format!("is {:?}", node.state()),
                Some(pid) => match program_of(pid).await {
                    // Of a process that has ended since, it may be that of anybody.
                    Ok(runs) if living() == Some(pid) => return Ok((pid, runs)),
                    Ok(_) => format!("pid {pid} ended while its program was read"),
                    Err(why) => why,
                },
            };
            self.wait(deadline, &why).await?;
        }
    }

    /// An error when the time is over: that of the node, or that of the load.
    async fn wait(&self, deadline: Instant, why: &str) -> Result<(), String> {
        if *self.stop.borrow() {
            return Err(format!("{why} when the load ended"));
        }
        if Instant::now() >= deadline {
            return Err(format!("{why} after {NODE_LIMIT:?}"));
        }
        sleep(POLL).await;
        Ok(())
    }

    async fn keeps_from_stopping(&self, node: &Node) -> Option<String> {
        if *self.stop.borrow() {
            return Some("is not stopped yet".to_owned());
        }
        let state = node.state();
        if !matches!(state, NodeState::Running | NodeState::Slow) {
            return Some(format!("is {state:?}"));
        }
        let (members, states) = (self.cluster.members().await, self.cluster.states());
        let stays = |voter: &&String| {
            voter.as_str() != node.name() && states.get(*voter) == Some(&NodeState::Running)
        };
        let enough = [&members.voters, &members.outgoing].into_iter().all(|voters| {
            // One alone, or a cluster of two, has none to spare at any time.
            voters.len() < 3
                || !voters.contains(node.name())
                || 2 * voters.iter().filter(stays).count() > voters.len()
        });
        (!enough).then(|| "without it no majority of the voters would run".to_owned())
    }

    async fn keeps_from_leaving(&self, name: &str, committed: u64) -> Option<String> {
        // One that is no member is not told what is committed.
        let is_member = self.cluster.members().await.has(name);
        match self.cluster.status().await.get(name) {
            Some(Ok(status)) if !is_member || status.applied >= committed => None,
            Some(Ok(status)) => Some(format!("has applied {} of {committed}", status.applied)),
            Some(Err(_)) => Some("does not answer".to_owned()),
            None => Some(format!("is {:?}", self.cluster.node(name).state())),
        }
    }

    /// The highest commit index that any node tells.
    async fn committed(&self) -> u64 {
        let status = self.cluster.status().await;
        status.values().flatten().map(|status| status.commit).max().unwrap_or_default()
    }
}

fn runs_next(node: &Node) -> bool {
    !matches!(node.state(), NodeState::Down | NodeState::Damaged)
        && node.last_start().is_some_and(|start| start.next)
}

/// The digest of the program that a process runs, whatever its path says by now.
async fn program_of(pid: u32) -> Result<String, String> {
    let read = move || digest(Path::new(&format!("/proc/{pid}/exe")));
    match tokio::task::spawn_blocking(read).await {
        Ok(digest) => digest.map_err(|error| format!("the program of pid {pid} cannot be read: {error}")),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
