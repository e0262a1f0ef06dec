//! Which faults a disk has, and what they do to a call.
//!
//! In: faults as they come and go, calls as they come. Out: a [`Way`] for each call, and counts of what was done.
//! Never: a wait, a call made.

use std::f64::consts::TAU;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::orders::{Call, Counts, Fail, Slow};
use crate::scenario::Distribution;

/// No draw is more than so many times the delay it is drawn around.
const TIMES_MAX: f64 = 20.0;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Go,
    Fail,
    Wait(Duration),
    /// Until the disk is healed.
    Hang,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    fails: Vec<Fail>,
    slow: Option<(Slow, ChaCha8Rng)>,
    hangs: bool,
    full: bool,
    pub done: Done,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Done {
    pub calls: Counts,
    pub failed: Counts,
    pub slowed: Counts,
    pub slowed_ns: u64,
    pub hung: Counts,
    pub refused: u64,
}

impl Faults {
    pub fn fail(&mut self, fail: Fail) {
        self.fails.push(Fail { nth: fail.nth.max(1), ..fail });
    }

    pub fn slow(&mut self, slow: Slow) {
        self.slow = Some((slow, ChaCha8Rng::seed_from_u64(slow.seed)));
    }

    pub fn hang(&mut self) {
        self.hangs = true;
    }

    pub fn fill(&mut self) {
        self.full = true;
    }

    /// Whether there is no new block.
    pub fn full(&self) -> bool {
        self.full
    }

    pub fn heal(&mut self) {
        *self = Faults { done: self.done.clone(), ..Faults::default() };
    }

    pub fn judge(&mut self, call: Call) -> Way {
        self.done.calls.add(call);
        let mut fails = false;
        for fail in self.fails.iter_mut().filter(|fail| fail.call == call) {
            match fail.nth {
                1 => {
                    fails |= fail.times > 0;
                    fail.times = fail.times.saturating_sub(1);
                }
                _ => fail.nth -= 1,
            }
        }
        self.fails.retain(|fail| fail.times > 0);
        if self.hangs {
            self.done.hung.add(call);
            return Way::Hang;
        }
        if fails {
            self.done.failed.add(call);
            return Way::Fail;
        }
        match &mut self.slow {
            Some((slow, numbers)) if matches!(call, Call::Write | Call::Sync) => {
                let longer = draw(slow, numbers);
                self.done.slowed.add(call);
                self.done.slowed_ns += longer.as_nanos() as u64;
                Way::Wait(longer)
            }
            _ => Way::Go,
        }
    }
}

fn draw(slow: &Slow, numbers: &mut impl Rng) -> Duration {
    let spread = slow.spread.clamp(0.0, 1.0);
    let factor = match slow.distribution {
        Distribution::Uniform => 1.0 + spread * (2.0 * unit(numbers) - 1.0),
        // Box and Muller.
        Distribution::Normal => {
            1.0 + spread * (-2.0 * unit(numbers).ln()).sqrt() * (TAU * unit(numbers)).cos()
        }
        // With a least of 1 - s, a shape of 1 / s makes the mean 1.
        Distribution::Pareto => (1.0 - spread) * unit(numbers).powf(-spread),
    };
    slow.by.mul_f64(factor.clamp(0.0, TIMES_MAX))
}

/// Evenly above 0, up to 1.
fn unit(numbers: &mut impl Rng) -> f64 {
    ((numbers.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_call_of_its_kind_fails_and_no_other() {
        let mut faults = Faults::default();
        faults.fail(Fail::nth(Call::Sync, 3));
        faults.fail(Fail { call: Call::Read, nth: 1, times: 2 });
        let calls =
            [Call::Sync, Call::Write, Call::Sync, Call::Read, Call::Sync, Call::Read, Call::Sync, Call::Read];
        let ways = calls.map(|call| faults.judge(call));
        assert_eq!(ways, [Way::Go, Way::Go, Way::Go, Way::Fail, Way::Fail, Way::Fail, Way::Go, Way::Go]);
        assert_eq!(faults.done.failed, Counts { reads: 2, syncs: 1, ..Counts::default() });
        assert_eq!(faults.done.calls, Counts { reads: 3, writes: 1, syncs: 4, others: 0 });
    }

    #[test]
    fn a_slow_disk_delays_writes_and_syncs_around_the_middle_and_a_healed_one_nothing() {
        for distribution in [Distribution::Uniform, Distribution::Normal, Distribution::Pareto] {
            let mut faults = Faults::default();
            faults.slow(Slow { by: Duration::from_millis(20), spread: 0.3, distribution, seed: 4 });
            assert_eq!(faults.judge(Call::Read), Way::Go);
            let calls = 20_000;
            for _ in 0..calls {
                assert!(matches!(faults.judge(Call::Sync), Way::Wait(_)));
            }
            let mean = faults.done.slowed_ns as f64 / f64::from(calls) / 1e6;
            assert!((19.5..20.5).contains(&mean), "{distribution:?}: {mean} ms");
            faults.heal();
            assert_eq!(faults.judge(Call::Write), Way::Go);
            assert_eq!(faults.done.slowed.syncs, u64::from(calls as u32));
        }
    }
}
