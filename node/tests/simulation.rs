//! Seeded simulation: clusters of one to five cores under everything a network, a disk and a power plug can do.
//!
//! In: seeds. Out: the least seed whose schedule breaks an invariant of `cluster::witness`, and how to see it.
//!
//! `MKRAFT_SCHEDULES=20000` runs more; `MKRAFT_SEED=17` replays one and prints what happens.

mod cluster;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use cluster::witness::Seen;
use cluster::world;

/// Seeds from 1.
const SCHEDULES: u64 = 400;

#[test]
fn no_schedule_breaks_an_invariant() {
    if let Some(seed) = number("MKRAFT_SEED") {
        let finished = world::run(seed, true);
        println!("seed {seed} holds: trace {:016x}, {:?}", finished.hash, finished.seen);
        return;
    }
    let schedules = number("MKRAFT_SCHEDULES").unwrap_or(SCHEDULES);
    let next = AtomicU64::new(1);
    let failed = AtomicU64::new(u64::MAX);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut total = Seen::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > schedules.min(failed.load(Ordering::Relaxed)) {
                return total;
            }
            match catch_unwind(AssertUnwindSafe(|| twice(seed))) {
                Ok(seen) => total.add(&seen),
                Err(_) => drop(failed.fetch_min(seed, Ordering::Relaxed)),
            }
        }
    };
    let mut total = Seen::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().for_each(|thread| total.add(&thread.join().unwrap()));
    });
    let seed = failed.into_inner();
    assert!(
        seed == u64::MAX,
        "schedule {seed} of {schedules} fails; replay it with\n  \
         MKRAFT_SEED={seed} cargo test -p mkraft-node --test simulation -- --nocapture"
    );
    println!("{schedules} schedules hold: {total:?}");
    assert_not_vacuous(schedules, &total);
}

/// The same seed gives the same trace.
fn twice(seed: u64) -> Seen {
    let (first, second) = (world::run(seed, false), world::run(seed, false));
    assert_eq!(first.hash, second.hash, "seed {seed} gives two traces");
    first.seen
}

/// On average at least, of each thing that a schedule is there to show.
fn assert_not_vacuous(schedules: u64, seen: &Seen) {
    let least = [
        ("elections", seen.elections, 2 * schedules),
        ("committed", seen.committed, 20 * schedules),
        ("acknowledged", seen.acknowledged, 5 * schedules),
        ("truncations", seen.truncations, schedules / 10),
        ("reads", seen.reads, 2 * schedules),
        ("reads refused", seen.reads_refused, schedules / 10),
        ("boots", seen.boots, 4 * schedules),
        ("inherited", seen.inherited, schedules / 10),
        ("snapshots", seen.snapshots, schedules),
        ("compacted", seen.compacted, schedules),
        ("installed", seen.installed, schedules / 10),
        ("configurations", seen.configurations, schedules),
        ("joint", seen.joint, schedules / 4),
        ("changed", seen.changed, schedules / 2),
        ("transferred", seen.transferred, schedules / 10),
        ("operations refused", seen.operations_refused, schedules / 4),
        ("reads here", seen.reads_here, schedules / 4),
    ];
    for (name, count, least) in least {
        assert!(count >= least, "{schedules} schedules saw {name} {count} times, which shows nothing");
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not `{text}`")))
}
