//! Faults of disks: power lost, a call that fails, a disk that is slow, hangs or is full.
//!
//! In: nodes, by their target, on disks of the harness. Out: what was done to them, proven by what the disk says it did.
//! Never: a byte of a disk; the disk itself knows what it has forgotten.

use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::account::Breakage;
use super::process::{Fault, act, alive, kill_snapshotting, number, running, same_start, start, strike};
use super::{Aim, Doing, Struck};
use crate::cluster::{Cluster, Node, Trouble};
use crate::disk::{Call, Slow};
use crate::scenario::{DiskCall, Manner, Target};

/// SIGKILL, and what was not synced is gone; started again on what is left.
pub(super) fn power_loss(aim: Aim) -> Doing<Struck> {
    let draw = aim.draw;
    let act = act(move |node| async move {
        // The disks of one strike do not tear alike.
        let mut numbers = ChaCha8Rng::seed_from_u64(draw);
        numbers.set_stream(number(&node));
        node.lose_power(numbers.next_u64()).await
    });
    let fault = Fault { fits: alive, act, undo: start(), same: same_start, breaks: Breakage::process };
    match aim.target {
        Target::Snapshotting => Box::pin(kill_snapshotting(aim, fault)),
        _ => Box::pin(strike(aim, fault)),
    }
}

/// The nth call of a kind fails; started again if it has ended.
pub(super) fn eio(aim: Aim) -> Doing<Struck> {
    let Manner::Fail { call, nth } = aim.manner else { unreachable!("{:?}", aim.manner) };
    let call = match call {
        DiskCall::Read => Call::Read,
        DiskCall::Write => Call::Write,
        DiskCall::Sync => Call::Sync,
    };
    let act = act(move |node| async move { node.fail_disk(call, u64::from(nth)).await });
    let undo = self::act(|node| async move { node.start_after_failure().await });
    let fits = |node: &Node| running(node) && node.has_sound_disk();
    Box::pin(strike(aim, Fault { fits, act, undo, same: same_start, breaks: Breakage::process }))
}

/// It takes longer to write and to sync.
pub(super) fn slow(aim: Aim) -> Doing<Struck> {
    let Manner::Delay { by, spread_percent, distribution } = aim.manner else {
        unreachable!("{:?}", aim.manner)
    };
    let spread = f64::from(spread_percent) / 100.0;
    let seed = aim.draw;
    trouble(aim, move |number| {
        Trouble::Slow(Slow { by, spread, distribution, seed: seed.wrapping_add(number) })
    })
}

/// It answers nothing.
pub(super) fn hang(aim: Aim) -> Doing<Struck> {
    trouble(aim, |_| Trouble::Hung)
}

/// It has no room for more.
pub(super) fn fill(aim: Aim) -> Doing<Struck> {
    trouble(aim, |_| Trouble::Full)
}

/// Heals every disk that has a trouble: whose, and whether all are.
pub(super) async fn heal_all(cluster: &Cluster) -> (Vec<String>, bool) {
    let (mut told, mut all) = (Vec::new(), true);
    for node in cluster.nodes() {
        if node.simulated_disk().is_some() && node.has_troubled_disk().await {
            let healed = node.heal_disk().await;
            all &= healed.is_ok();
            told.push(healed.map_or_else(|error| error.to_string(), |deed| deed.to_string()));
        }
    }
    (told, all)
}

/// What lasts, whatever becomes of the process: so it is there to be undone however often the node is started.
fn trouble(aim: Aim, of: impl Fn(u64) -> Trouble + Send + Sync + 'static) -> Doing<Struck> {
    let of = Arc::new(of);
    let act = act(move |node| {
        let trouble = of(number(&node));
        async move { node.trouble_disk(trouble).await }
    });
    let undo = self::act(|node| async move { node.heal_disk().await });
    let breaks = |broken: Breakage, node: &str, _| broken.node(node);
    let fits = |node: &Node| alive(node) && node.has_sound_disk();
    Box::pin(strike(aim, Fault { fits, act, undo, same: |_, _| true, breaks }))
}
