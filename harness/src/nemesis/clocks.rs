//! Faults of clocks: they jump, or go at another rate.
//!
//! In: nodes, by their target, and which of their clocks. Out: what their processes were told, and how soon they read it.
//! Never: a change of which nobody saw that the process has read the clock since: a program may ask the kernel itself.
//!
//! A clock that is off breaks no quorum: its node runs and is reached.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::target::{Candidate, candidates, resolve};
use super::{Aim, Doing, Struck, Told, Undo};
use crate::cluster::{Change, Clock, Cluster, Dial, NodeState};
use crate::history::StrikeOutcome;
use crate::scenario::{Clocks, Direction, Manner};

/// How long a process is waited for that is to read its clock. One that serves anybody does so again and again.
const HEARD_LIMIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(1);
const TRUE_PERCENT: u32 = 100;

/// Jumps; the wall clock jumps back by as much.
pub(super) fn jump(aim: Aim) -> Doing<Struck> {
    Box::pin(async move {
        let Manner::JumpClock { clock, by, direction } = aim.manner else { unreachable!("{:?}", aim.manner) };
        let dials = dials(clock);
        if direction == Direction::Back && dials.contains(&Dial::Monotonic) {
            return Struck::skipped("a monotonic clock never goes back");
        }
        let turn = move |clock: &Clock, dial, direction| match direction {
            Direction::Forward => Some(clock.forth(dial, by)),
            Direction::Back if dial == Dial::Wall => Some(clock.wall_back(by)),
            Direction::Back => None,
        };
        let opposite = match direction {
            Direction::Forward => Direction::Back,
            Direction::Back => Direction::Forward,
        };
        let act = move |clock: &Clock, dial| turn(clock, dial, direction);
        let undo = move |clock: &Clock, dial| turn(clock, dial, opposite);
        strike(aim, dials, |_| true, act, undo).await
    })
}

/// Another rate from where it is; the true rate from where it is then.
pub(super) fn drift(aim: Aim) -> Doing<Struck> {
    Box::pin(async move {
        let Manner::DriftClock { clock, rate_percent } = aim.manner else { unreachable!("{:?}", aim.manner) };
        let is_true = |clock: &Clock, dial| clock.look(dial).percent == u64::from(TRUE_PERCENT);
        let dials = dials(clock);
        let act = move |clock: &Clock, dial| Some(clock.rate(dial, rate_percent));
        let undo = move |clock: &Clock, dial| Some(clock.rate(dial, TRUE_PERCENT));
        // Of two rates at a time the first to end would end both.
        strike(aim, dials, move |clock| dials.iter().all(|dial| is_true(clock, *dial)), act, undo).await
    })
}

/// Has every clock tell the truth, as far as there is one. The nodes of which one did not.
pub(super) fn heal_all(cluster: &Cluster) -> Vec<String> {
    let names = cluster.nodes().iter().map(|node| node.name());
    let is_off = |name: &&str| cluster.clock(name).is_some_and(|clock| !clock.be_true().is_empty());
    names.filter(is_off).map(str::to_owned).collect()
}

fn dials(clock: Clocks) -> &'static [Dial] {
    match clock {
        Clocks::Wall => &[Dial::Wall],
        Clocks::Monotonic => &[Dial::Monotonic],
        Clocks::Both => &[Dial::Wall, Dial::Monotonic],
    }
}

/// A clock that was changed, whose process is to read it.
struct Changed {
    node: String,
    changes: Vec<Change>,
}

/// What one does to a clock; None where there is nothing to be done.
trait Act: Fn(&Clock, Dial) -> Option<Change> + Send + 'static {}

impl<A: Fn(&Clock, Dial) -> Option<Change> + Send + 'static> Act for A {}

async fn strike(
    aim: Aim,
    dials: &'static [Dial],
    fits: impl Fn(&Clock) -> bool,
    act: impl Act,
    undo: impl Act,
) -> Struck {
    let nodes = candidates(&aim.cluster);
    let reads = |node: &Candidate| matches!(node.state, NodeState::Running | NodeState::Slow);
    let is_fit = |node: &Candidate| reads(node) && aim.cluster.clock(&node.name).is_some_and(&fits);
    let names = match resolve(aim.target, &aim.view(&nodes), is_fit, aim.draw) {
        Ok(names) => names,
        Err(reason) => return Struck::skipped(reason),
    };
    let has_page = |name: &&String| aim.cluster.clock(name).is_some_and(|clock| clock.processes() > 0);
    if let Some(name) = names.iter().find(|name| !has_page(name)) {
        return Struck::skipped(format!("the processes of {name} have not loaded the library"));
    }
    let changed = change(&aim.cluster, &names, dials, &act);
    aim.mark.done();
    let told = hear(&aim.cluster, changed).await;
    let cluster = Arc::clone(&aim.cluster);
    let undo = Undo::new(move || async move {
        let changed = change(&cluster, &names, dials, &undo);
        hear(&cluster, changed).await
    });
    Struck { told, undo: Some(undo) }
}

fn change(cluster: &Cluster, names: &[String], dials: &[Dial], act: &impl Act) -> Vec<Changed> {
    let of = |name: &String| {
        let clock = cluster.clock(name);
        let changes = clock.into_iter().flat_map(|clock| dials.iter().filter_map(|dial| act(clock, *dial)));
        Changed { node: name.clone(), changes: changes.collect() }
    };
    names.iter().map(of).collect()
}

/// Waits until each of these clocks was read, or nobody is there to read it.
async fn hear(cluster: &Cluster, all: Vec<Changed>) -> Told {
    let began = Instant::now();
    let (mut outcome, mut told) = (StrikeOutcome::Installed, Vec::new());
    for Changed { node, changes } in &all {
        let Some(clock) = cluster.clock(node) else { continue };
        if changes.is_empty() {
            told.push(format!("{node}: its monotonic clock stays ahead"));
        }
        for change in changes {
            let readings = || clock.heard(*change);
            while readings() == 0 && began.elapsed() < HEARD_LIMIT && is_awake(cluster, node) {
                sleep(POLL).await;
            }
            let (heard, took) = (readings(), began.elapsed().as_secs_f64() * 1e3);
            let is_now = describe(clock, change.dial);
            told.push(match heard {
                0 if is_awake(cluster, node) => {
                    outcome = StrikeOutcome::Indeterminate;
                    format!("{node}: {is_now}, and its process has not read it in {took:.0} ms")
                }
                0 => format!("{node}: {is_now}, once its process runs"),
                _ => format!("{node}: {is_now}, read {heard} times within {took:.1} ms"),
            });
        }
    }
    Told { nodes: all.into_iter().map(|changed| changed.node).collect(), outcome, detail: told.join("; ") }
}

/// Whether it can be expected to read its clock. Another fault may have stopped it since.
fn is_awake(cluster: &Cluster, node: &str) -> bool {
    matches!(cluster.node(node).state(), NodeState::Running | NodeState::Slow)
}

/// `its wall clock is 10.000 s behind, at 100%`
fn describe(clock: &Clock, dial: Dial) -> String {
    let look = clock.look(dial);
    let name = match dial {
        Dial::Wall => "wall",
        Dial::Monotonic => "monotonic",
    };
    let off = Duration::from_nanos(look.ahead_ns.unsigned_abs()).as_secs_f64();
    let side = if look.ahead_ns < 0 { "behind" } else { "ahead" };
    format!("its {name} clock is {off:.3} s {side}, at {}%", look.percent)
}
