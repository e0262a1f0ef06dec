//! Seeded simulation: clusters of one to eight cores under everything a network, a disk and a power plug can do.
//!
//! In: seeds. Out: the least seed whose schedule breaks an invariant of `cluster::witness`, and how to see it; or
//! what was done, what was drawn in and what was seen.
//!
//! | variable | what it asks for |
//! |---|---|
//! | `MKRAFT_SEED=17` | one schedule, and a trace of all that happens in it |
//! | `MKRAFT_SCHEDULES=20000` | so many |
//! | `MKRAFT_FIRST=1000` | the first seed, from which they count up |
//! | `MKRAFT_SECONDS=600` | on and on until the time is over, instead of a number of them |
//! | `MKRAFT_COUNT=1` | all of them whatever fails, and how many do |
//! | `MKRAFT_EVIDENCE=DIR` | a run folder for each, which `mkraft-harness check` judges |

mod cluster;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cluster::witness::Seen;
use cluster::world::{self, Finished, Telling};

const SCHEDULES: u64 = 400;
/// Where time is all that ends a run, one schedule of so many is run a second time.
const TWICE_EVERY: u64 = 16;

/// What the environment asks for.
struct Asked {
    first: u64,
    schedules: u64,
    until: Option<Instant>,
    count_failures: bool,
    evidence: Option<PathBuf>,
}

#[derive(Default)]
struct Total {
    schedules: u64,
    seen: Seen,
    /// Of each feature, how many schedules drew it in.
    features: Vec<(&'static str, u64)>,
    failed: Vec<(u64, String)>,
}

#[test]
fn no_schedule_breaks_an_invariant() {
    let evidence = std::env::var_os("MKRAFT_EVIDENCE").map(PathBuf::from);
    if let Some(seed) = number("MKRAFT_SEED") {
        let finished = world::run(seed, Telling { print: true, evidence: evidence.as_deref() });
        println!("seed {seed} holds: trace {:016x}, {:?}", finished.hash, finished.seen);
        return;
    }
    let seconds = number("MKRAFT_SECONDS");
    let asked = Asked {
        first: number("MKRAFT_FIRST").unwrap_or(1),
        schedules: number("MKRAFT_SCHEDULES").unwrap_or(if seconds.is_some() { u64::MAX } else { SCHEDULES }),
        until: seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
        count_failures: number("MKRAFT_COUNT").is_some_and(|count| count > 0),
        evidence,
    };
    let began = Instant::now();
    let total = run_all(&asked);
    total.tell(&asked, began.elapsed());
    if let Some((seed, _)) = total.failed.iter().min() {
        panic!(
            "schedule {seed} fails; replay it with\n  \
             MKRAFT_SEED={seed} cargo test --release -p mkraft-node --test simulation -- --nocapture"
        );
    }
    if total.schedules >= SCHEDULES {
        assert_not_vacuous(total.schedules, &total.seen);
    }
}

fn run_all(asked: &Asked) -> Total {
    let (next, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
    let total = Mutex::new(Total::default());
    let work = || {
        let mut own = Total::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let over = asked.until.is_some_and(|until| Instant::now() >= until);
            if number >= asked.schedules || over || stopped.load(Ordering::Relaxed) {
                break;
            }
            let seed = asked.first.wrapping_add(number);
            match catch_unwind(AssertUnwindSafe(|| run_one(asked, seed))) {
                Ok(finished) => own.add(&finished),
                Err(panic) => {
                    own.schedules += 1;
                    own.failed.push((seed, message(&*panic)));
                    if !asked.count_failures {
                        // Those below it are under way or done.
                        stopped.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
        if let Ok(mut total) = total.lock() {
            total.absorb(own);
        }
    };
    if asked.count_failures {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    drop(std::panic::take_hook());
    total.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The same seed gives the same trace.
fn run_one(asked: &Asked, seed: u64) -> Finished {
    let telling = Telling { print: false, evidence: asked.evidence.as_deref() };
    let finished = world::run(seed, telling);
    if asked.until.is_none() && !asked.count_failures || seed.is_multiple_of(TWICE_EVERY) {
        let again = world::run(seed, telling);
        assert_eq!(finished.hash, again.hash, "seed {seed} gives two traces");
    }
    finished
}

impl Total {
    fn add(&mut self, finished: &Finished) {
        self.schedules += 1;
        self.seen.add(&finished.seen);
        self.count(finished.features.iter().map(|(name, drawn)| (*name, u64::from(*drawn))));
    }

    fn absorb(&mut self, other: Total) {
        self.schedules += other.schedules;
        self.seen.add(&other.seen);
        self.count(other.features.into_iter());
        self.failed.extend(other.failed);
    }

    fn count(&mut self, features: impl Iterator<Item = (&'static str, u64)>) {
        for (place, (name, count)) in features.enumerate() {
            match self.features.get_mut(place) {
                Some(known) => known.1 += count,
                None => self.features.push((name, count)),
            }
        }
    }

    fn tell(&self, asked: &Asked, took: Duration) {
        let Total { schedules, seen, failed, .. } = self;
        let seconds = took.as_secs_f64().max(0.001);
        println!("{schedules} schedules from seed {}, {} steps, in {seconds:.1} s", asked.first, seen.steps);
        let rates = [*schedules, seen.steps].map(|count| count as f64 / seconds);
        println!("{:.0} schedules/s, {:.0} steps/s", rates[0], rates[1]);
        println!("\ndrawn in, of 100 schedules");
        let share = |count: u64| 100.0 * count as f64 / (*schedules).max(1) as f64;
        self.features.iter().for_each(|(name, count)| println!("  {name:24} {:6.1}", share(*count)));
        println!("\nseen                              all   a schedule");
        for (name, count) in seen.each() {
            let each = count as f64 / (*schedules).max(1) as f64;
            println!("  {:20} {count:14} {each:12.2}", name.replace('_', " "));
        }
        if let Some((seed, why)) = failed.iter().min() {
            let why = why.lines().next().unwrap_or_default();
            println!("\nfirst schedule that fails: {seed}: {why}");
            println!("{} of {schedules} schedules fail", failed.len());
        }
    }
}

/// On average at least, of each thing that a schedule is there to show.
fn assert_not_vacuous(schedules: u64, seen: &Seen) {
    let least = [
        ("elections", seen.elections, 2 * schedules),
        ("committed", seen.committed, 20 * schedules),
        ("acknowledged", seen.acknowledged, 5 * schedules),
        ("retries", seen.retries, schedules),
        ("duplicates", seen.duplicates, schedules / 2),
        ("truncations", seen.truncations, schedules / 10),
        ("reads", seen.reads, 2 * schedules),
        ("reads refused", seen.reads_refused, schedules / 10),
        ("boots", seen.boots, 4 * schedules),
        ("inherited", seen.inherited, schedules / 10),
        ("snapshots", seen.snapshots, schedules),
        ("compacted", seen.compacted, schedules),
        ("installed", seen.installed, schedules / 4),
        ("configurations", seen.configurations, schedules),
        ("joint", seen.joint, schedules / 4),
        ("changed", seen.changed, schedules / 2),
        ("transferred", seen.transferred, schedules / 10),
        ("operations refused", seen.operations_refused, schedules / 4),
        ("reads leased", seen.reads_leased, schedules / 4),
        ("reads here", seen.reads_here, schedules / 4),
    ];
    for (name, count, least) in least {
        assert!(count >= least, "{schedules} schedules saw {name} {count} times, which shows nothing");
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not `{text}`")))
}
