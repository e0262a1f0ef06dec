//! Faults of membership: nodes that are added, removed and replaced while others are broken and clients ask.
//!
//! In: the members in force, and a target among them or beside them. Out: what the leader answered, which is the
//! proof. Never: a change that leaves fewer than two voters, or no majority of voters that run: what then stands
//! still would show nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::account::Breakage;
use super::keep::Claim;
use super::target::{candidates, resolve};
use super::{Aim, Doing, Struck, Told, Undo, Undone};
use crate::cluster::{Cluster, NodeState, Refused};
use crate::history::StrikeOutcome;
use crate::scenario::Target;
use crate::system::operator::{Change, Members};

/// A change that needs nobody to catch up: what keeps it from its commit is another fault, which passes.
const CHANGE_LIMIT: Duration = Duration::from_secs(8);
/// From a learner without a log to a voter: it may have to receive a snapshot, more than once.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(10);
/// With one voter alone there is no agreement to break.
const VOTERS_MIN: usize = 2;

/// Makes the target a voter, by way of a learner; undone by removing it.
pub(super) fn add(aim: Aim) -> Doing<Struck> {
    Box::pin(async move {
        let fits = |members: &Members, name: &str| !members.has_voter(name);
        joined(aim, fits, Standing::Voter).await
    })
}

/// Makes the target a learner; undone by removing it.
pub(super) fn learn(aim: Aim) -> Doing<Struck> {
    Box::pin(async move {
        let fits = |members: &Members, name: &str| !members.has(name);
        joined(aim, fits, Standing::Learner).await
    })
}

/// Makes the target no member; undone by making it again what it was.
pub(super) fn remove(aim: Aim) -> Doing<Struck> {
    Box::pin(async move {
        let cluster = Arc::clone(&aim.cluster);
        let name =
            match chosen(&aim, &aim.target, |name| aim.members.has(name) && may_leave(&aim, name, None)) {
                Ok(name) => name,
                Err(reason) => return Struck::skipped(reason),
            };
        let was = if aim.members.has_voter(&name) { Standing::Voter } else { Standing::Learner };
        let claim = aim.claim.clone();
        if let Err(reason) = claim.breaks(changed(&aim.members, Some(&name), None)) {
            return Struck::skipped(reason);
        }
        let change = Change { remove: vec![name.clone()], ..Change::default() };
        let told = told(&name, cluster.change(&change, CHANGE_LIMIT).await);
        struck(told, Undo::or_again(move || brought_back(cluster, claim, name, was)))
    })
}

/// A spare takes the target's place in one joint change. There is nothing to undo: as many vote as before.
pub(super) fn replace(aim: Aim) -> Doing<Struck> {
    Box::pin(async move {
        let fits = |name: &str| !aim.members.has(name);
        let spare = match chosen(&aim, &Target::Spare, fits) {
            Ok(spare) => spare,
            Err(reason) => return Struck::skipped(reason),
        };
        let fits = |name: &str| aim.members.has_voter(name) && may_leave(&aim, name, Some(&spare));
        let old = match chosen(&aim, &aim.target, fits) {
            Ok(old) => old,
            Err(reason) => return Struck::skipped(reason),
        };
        if let Err(reason) = aim.claim.breaks(changed(&aim.members, Some(&old), Some(&spare))) {
            return Struck::skipped(reason);
        }
        let change = Change { promote: vec![spare.clone()], remove: vec![old.clone()], ..Change::default() };
        let told = joins(&aim.cluster, &spare, Some(change)).await;
        let nodes = if told.outcome == StrikeOutcome::Skipped { Vec::new() } else { vec![old, spare] };
        Struck { told: Told { nodes, ..told }, undo: None }
    })
}

/// What a member is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Learner,
    Voter,
}

/// Brings the target in; undone by removing it.
async fn joined(aim: Aim, fits: fn(&Members, &str) -> bool, standing: Standing) -> Struck {
    let name = match chosen(&aim, &aim.target, |name| fits(&aim.members, name)) {
        Ok(name) => name,
        Err(reason) => return Struck::skipped(reason),
    };
    let (cluster, claim) = (Arc::clone(&aim.cluster), aim.claim.clone());
    let comes = (standing == Standing::Voter).then_some(&*name);
    if let Err(reason) = claim.breaks(changed(&aim.members, None, comes)) {
        return Struck::skipped(reason);
    }
    let told = joins(&cluster, &name, promotion(&name, standing)).await;
    struck(told, Undo::or_again(move || taken_out(cluster, claim, name)))
}

fn promotion(name: &str, standing: Standing) -> Option<Change> {
    let promote = Change { promote: vec![name.to_owned()], ..Change::default() };
    (standing == Standing::Voter).then_some(promote)
}

fn struck(told: Told, undo: Undo) -> Struck {
    let undo = (told.outcome != StrikeOutcome::Skipped).then_some(undo);
    Struck { told, undo }
}

/// Makes a node a learner, then does what is to be done once it has caught up. When that certainly cannot be, it is
/// taken out again, so that nothing is done by halves.
async fn joins(cluster: &Cluster, name: &str, then: Option<Change>) -> Told {
    let learn = Change { add: vec![name.to_owned()], ..Change::default() };
    let was_learner = cluster.members().await.learners.contains(name);
    let learner = match was_learner {
        true => Ok(cluster.members().await),
        false => cluster.change(&learn, CHANGE_LIMIT).await,
    };
    let (Some(then), Ok(members)) = (then, &learner) else { return told(name, learner) };
    let before = format!("{name} learns since entry {}", members.index);
    let refused = match cluster.change(&then, CATCH_UP_LIMIT).await {
        Ok(members) => {
            let detail = format!("{before}; {}", describe(&members));
            return Told { nodes: vec![name.to_owned()], outcome: StrikeOutcome::Installed, detail };
        }
        Err(refused) => refused,
    };
    let whole = refused.definite && !was_learner;
    let leave = Change { remove: vec![name.to_owned()], ..Change::default() };
    let outcome = match refused.definite {
        true if whole && cluster.change(&leave, CHANGE_LIMIT).await.is_err() => StrikeOutcome::Indeterminate,
        true => StrikeOutcome::Skipped,
        false => StrikeOutcome::Indeterminate,
    };
    let nodes = if outcome == StrikeOutcome::Skipped { Vec::new() } else { vec![name.to_owned()] };
    Told { nodes, outcome, detail: format!("{before}, and no more than that: {refused}") }
}

/// Undoes that a node was brought in.
fn taken_out(cluster: Arc<Cluster>, claim: Claim, name: String) -> Doing<Undone> {
    Box::pin(async move {
        let members = cluster.members().await;
        if !members.has(&name) {
            return Undone::told(Told::skipped(format!("{name}: is no member any more")));
        }
        let leaves_enough = leaves_enough(&cluster, &members, &name, None);
        let told = match leaves_enough.and_then(|()| claim.breaks(changed(&members, Some(&name), None))) {
            Ok(()) => {
                let change = Change { remove: vec![name.clone()], ..Change::default() };
                told(&name, cluster.change(&change, CHANGE_LIMIT).await)
            }
            Err(reason) => Told::skipped(reason),
        };
        undone(told, &name.clone(), move || taken_out(cluster, claim, name))
    })
}

/// Undoes that a node was taken out.
fn brought_back(cluster: Arc<Cluster>, claim: Claim, name: String, standing: Standing) -> Doing<Undone> {
    Box::pin(async move {
        let members = cluster.members().await;
        if members.has_voter(&name) || (standing == Standing::Learner && members.has(&name)) {
            return Undone::told(Told::skipped(format!("{name}: is a member already")));
        }
        let comes = (standing == Standing::Voter).then_some(&*name);
        let told = match claim.breaks(changed(&members, None, comes)) {
            Ok(()) => joins(&cluster, &name, promotion(&name, standing)).await,
            Err(reason) => Told::skipped(reason),
        };
        undone(told, &name.clone(), move || brought_back(cluster, claim, name, standing))
    })
}

/// What certainly was not done is tried again later: so many others have left or do not run, or nobody leads.
fn undone(told: Told, name: &str, again: impl FnOnce() -> Doing<Undone> + Send + 'static) -> Undone {
    match told.outcome {
        StrikeOutcome::Skipped => Undone {
            told: Told::skipped(format!("{name}: not undone: {}", told.detail)),
            again: Some(Undo::or_again(again)),
        },
        StrikeOutcome::Installed | StrikeOutcome::Indeterminate => Undone::told(told),
    }
}

/// The one node that `target` comes to.
fn chosen(aim: &Aim, target: &Target, fits: impl Fn(&str) -> bool) -> Result<String, String> {
    let nodes = candidates(&aim.cluster);
    let names = resolve(*target, &aim.view(&nodes), |node| fits(&node.name), aim.draw)?;
    names.into_iter().next().ok_or_else(|| format!("{target} is no node"))
}

/// That the voters are to be others.
fn changed(members: &Members, leaves: Option<&str>, comes: Option<&str>) -> Breakage {
    let stay = members.voters.iter().filter(|voter| Some(voter.as_str()) != leaves).cloned();
    let voters: BTreeSet<String> = stay.chain(comes.map(str::to_owned)).collect();
    if voters == members.voters { Breakage::default() } else { Breakage::default().voters(voters) }
}

fn may_leave(aim: &Aim, name: &str, comes: Option<&str>) -> bool {
    leaves_enough(&aim.cluster, &aim.members, name, comes).is_ok()
}

/// Whether the cluster goes on without a member, and with another in its place.
fn leaves_enough(
    cluster: &Cluster,
    members: &Members,
    name: &str,
    comes: Option<&str>,
) -> Result<(), String> {
    if !members.has_voter(name) {
        return Ok(());
    }
    let states = cluster.states();
    let runs = |voter: &&str| states.get(*voter) == Some(&NodeState::Running);
    let stay = members.voters.iter().map(String::as_str).filter(|voter| *voter != name);
    let voters: BTreeSet<&str> = stay.chain(comes).collect();
    let running = voters.iter().copied().filter(runs).count();
    if voters.len() < VOTERS_MIN {
        return Err(format!("without {name} fewer than {VOTERS_MIN} would vote"));
    }
    if running <= voters.len() / 2 {
        return Err(format!("without {name} no majority of the voters would run"));
    }
    Ok(())
}

fn told(name: &str, answer: Result<Members, Refused>) -> Told {
    match answer {
        Ok(members) => Told {
            nodes: vec![name.to_owned()],
            outcome: StrikeOutcome::Installed,
            detail: describe(&members),
        },
        Err(Refused { definite: true, message }) => Told::skipped(message),
        Err(Refused { definite: false, message }) => {
            Told { nodes: vec![name.to_owned()], outcome: StrikeOutcome::Indeterminate, detail: message }
        }
    }
}

fn describe(members: &Members) -> String {
    let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let learners = match members.learners.is_empty() {
        true => String::new(),
        false => format!(", {} learn", list(&members.learners)),
    };
    format!("by entry {} {} vote{learners}", members.index, list(&members.voters))
}
