//! How late operations are started: the distance of an open load from its own schedule, which is the harness' alone.
//!
//! In: one time for each operation. Out: quantiles, a quarter too high at most. Never: memory that grows, or a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Parts of each doubling.
const PARTS: u64 = 4;
/// Up to `2^42` nanoseconds, an hour; what is later counts as that.
const BUCKETS: usize = 41 * PARTS as usize;

/// Counts in buckets of times, each a quarter of a doubling wide.
#[derive(Debug)]
pub struct Lateness {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Lateness {
    fn default() -> Lateness {
        Lateness { buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl Lateness {
    pub fn note(&self, late: Duration) {
        let ns = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(ns)].fetch_add(1, Ordering::Relaxed);
    }

    /// So many of a thousand were not later than this; zero when nothing was noted.
    pub fn quantile(&self, permille: u64) -> Duration {
        let counts: Vec<u64> = self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let wanted = (counts.iter().sum::<u64>() * permille).div_ceil(1000);
        let mut so_far = 0;
        let place = counts.iter().position(|count| {
            so_far += count;
            so_far >= wanted.max(1)
        });
        place.map_or(Duration::ZERO, |place| Duration::from_nanos(end(place)))
    }
}

/// Below [`PARTS`] nanoseconds each has its own; then by the highest bits.
fn bucket(ns: u64) -> usize {
    if ns < PARTS {
        return ns as usize;
    }
    let doublings = u64::from(ns.ilog2() - PARTS.ilog2());
    let part = (ns >> doublings) - PARTS;
    (((doublings + 1) * PARTS + part) as usize).min(BUCKETS - 1)
}

/// The longest time in a bucket.
fn end(bucket: usize) -> u64 {
    let (doublings, part) = (bucket as u64 / PARTS, bucket as u64 % PARTS);
    match doublings {
        0 => part,
        doublings => ((PARTS + part + 1) << (doublings - 1)) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_bucket_that_ends_at_it_or_soon_after() {
        let hour = 3_600_000_000_000;
        for ns in (0..2_000).chain((11..42).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let end = end(bucket(ns));
            assert!(ns <= end && end <= ns + ns / 4, "{ns} ends at {end}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert!(end(BUCKETS - 1) > hour);
    }

    #[test]
    fn a_quantile_is_the_time_within_which_so_many_started() {
        let late = Lateness::default();
        assert_eq!(late.quantile(500), Duration::ZERO);
        for ms in 1..=100 {
            late.note(Duration::from_millis(ms));
        }
        for (permille, ms) in [(500, 50), (990, 99), (1000, 100), (0, 1)] {
            let (found, exact) = (late.quantile(permille), Duration::from_millis(ms));
            assert!(exact <= found && found <= exact.mul_f64(1.25), "{permille}: {found:?}");
        }
    }
}
