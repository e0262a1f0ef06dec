//! What may hold bytes up on one way of a link, and how several faults on the same way add up.
//!
//! In: a [`Rule`] for each fault that lies on the way. Out: the [`Effect`] that pumps obey, and counts of what went
//! and of what waits. Never: a fault that undoes another: each lifts its own rule and no more.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand_chacha::rand_core::Rng;
use tokio::sync::watch;
use tokio::time::Instant;

/// No byte waits for longer than so many times the middle of its delay, however heavy the tail.
pub const DELAY_TIMES_MAX: u32 = 10;

/// What happens to bytes that go in one direction of a link. Without a rule they pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// They wait until the rule is lifted.
    Hold,
    /// They wait for a time of their own, and never overtake each other.
    Delay(Delay),
    /// So many bytes a second pass, of all connections together.
    Throttle { bytes_per_s: u64 },
    /// They pass, but that a connection has ended is told so much later.
    SlowClose(Duration),
}

/// How long bytes wait. The mean is `middle`, before what is below zero or beyond [`DELAY_TIMES_MAX`] is cut off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delay {
    pub middle: Duration,
    /// As a share of the middle: what it means, the distribution says.
    pub spread: f64,
    pub distribution: Distribution,
    /// Where the draws begin.
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Evenly from `middle - spread` to `middle + spread`.
    Uniform,
    /// With `spread` as its standard deviation.
    Normal,
    /// Never below `middle - spread`, and rarely far above: a heavy tail.
    Pareto,
}

impl Delay {
    pub fn draw(&self, numbers: &mut impl Rng) -> Duration {
        let factor = match self.distribution {
            Distribution::Uniform => 1.0 + self.spread * (2.0 * unit(numbers) - 1.0),
            // Box and Muller.
            Distribution::Normal => {
                let radius = (-2.0 * unit(numbers).ln()).sqrt();
                1.0 + self.spread * radius * (TAU * unit(numbers)).cos()
            }
            // With a least of 1 - s, a shape of 1 / s makes the mean 1.
            Distribution::Pareto => (1.0 - self.spread) * unit(numbers).powf(-self.spread),
        };
        self.middle.mul_f64(factor.clamp(0.0, f64::from(DELAY_TIMES_MAX)))
    }
}

/// Evenly above 0, up to 1.
fn unit(numbers: &mut impl Rng) -> f64 {
    ((numbers.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// What all the rules of a way come to: it holds if one does; of delays and slow ends the longest, of rates the
/// smallest counts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Effect {
    pub hold: bool,
    pub delay: Option<Delay>,
    pub bytes_per_s: Option<u64>,
    pub slow_close: Duration,
}

impl Effect {
    fn of<'r>(rules: impl Iterator<Item = &'r Rule>) -> Effect {
        let mut effect = Effect::default();
        for rule in rules {
            match *rule {
                Rule::Hold => effect.hold = true,
                Rule::Delay(delay) => {
                    let longer = effect.delay.is_none_or(|other| other.middle < delay.middle);
                    effect.delay = if longer { Some(delay) } else { effect.delay };
                }
                Rule::Throttle { bytes_per_s } => {
                    effect.bytes_per_s = Some(effect.bytes_per_s.map_or(bytes_per_s, |r| r.min(bytes_per_s)));
                }
                Rule::SlowClose(by) => effect.slow_close = effect.slow_close.max(by),
            }
        }
        effect
    }

    /// Whether bytes need not wait; that a connection has ended may have to.
    pub fn passes(&self) -> bool {
        !self.hold && self.delay.is_none() && self.bytes_per_s.is_none()
    }

    /// Whether the sender is to see nothing of what its bytes must wait for, as far as there is room.
    pub fn reads_ahead(&self) -> bool {
        self.hold || self.delay.is_some()
    }
}

/// One direction of a link.
#[derive(Debug)]
pub(super) struct Way {
    rules: Mutex<BTreeMap<u64, Rule>>,
    effect: watch::Sender<Effect>,
    /// When the last byte has passed that a rate let on so far.
    free_at: Mutex<Option<Instant>>,
    passed: AtomicU64,
    held: AtomicU64,
}

impl Default for Way {
    fn default() -> Way {
        Way {
            rules: Mutex::default(),
            effect: watch::Sender::new(Effect::default()),
            free_at: Mutex::default(),
            passed: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }
}

impl Way {
    /// When it returns, no byte passes any more that the rule would hold up.
    pub fn set(&self, fault: u64, rule: Rule) {
        self.change(|rules| rules.insert(fault, rule));
    }

    pub fn lift(&self, fault: u64) {
        self.change(|rules| rules.remove(&fault));
    }

    /// Returns whether there was any rule.
    pub fn lift_all(&self) -> bool {
        let any = !self.lock().is_empty();
        if any {
            self.change(BTreeMap::clear);
        }
        any
    }

    /// Whether a rule of any fault lies on it.
    pub fn is_ruled(&self) -> bool {
        !self.lock().is_empty()
    }

    /// While what is borrowed is held, [`Way::set`] waits: so who writes under it, writes under that effect.
    pub fn effect(&self) -> watch::Ref<'_, Effect> {
        self.effect.borrow()
    }

    pub fn effects(&self) -> watch::Receiver<Effect> {
        self.effect.subscribe()
    }

    /// When so many bytes, which may go at `from`, will have passed at this rate.
    pub fn reserve(&self, from: Instant, length: usize, bytes_per_s: u64) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = free_at.map_or(from, |free_at| free_at.max(from));
        let end = begin + Duration::from_secs_f64(length as f64 / bytes_per_s as f64);
        *free_at = Some(end);
        end
    }

    pub fn count_passed(&self, bytes: usize) {
        self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    pub fn count_held(&self, bytes: usize) {
        self.held.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn count_let_go(&self, bytes: usize) {
        self.held.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Read from the one side and not yet given to the other.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<u64, Rule>) -> T) {
        let mut rules = self.lock();
        change(&mut rules);
        let effect = Effect::of(rules.values());
        if effect.bytes_per_s.is_none() {
            *self.free_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        self.effect.send_replace(effect);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn delay(ms: u64, spread: f64, distribution: Distribution) -> Delay {
        Delay { middle: Duration::from_millis(ms), spread, distribution, seed: 0 }
    }

    #[test]
    fn each_distribution_has_its_middle_and_its_bounds() {
        let draws = 20_000;
        for (distribution, spread, least, most) in [
            (Distribution::Uniform, 0.0, 100.0, 100.0),
            (Distribution::Uniform, 0.3, 70.0, 130.0),
            (Distribution::Normal, 0.3, 0.0, 1_000.0),
            (Distribution::Pareto, 0.3, 70.0, 1_000.0),
        ] {
            let delay = delay(100, spread, distribution);
            let mut numbers = ChaCha8Rng::seed_from_u64(4);
            let drawn: Vec<f64> =
                (0..draws).map(|_| delay.draw(&mut numbers).as_secs_f64() * 1_000.0).collect();
            assert!(drawn.iter().all(|ms| (least - 1e-3..=most + 1e-3).contains(ms)), "{delay:?}");
            let mean = drawn.iter().sum::<f64>() / f64::from(draws);
            assert!((98.0..102.0).contains(&mean), "{delay:?} has a mean of {mean} ms");
            let deviation =
                (drawn.iter().map(|ms| (ms - mean).powi(2)).sum::<f64>() / f64::from(draws)).sqrt();
            match distribution {
                Distribution::Uniform => assert!((deviation - 100.0 * spread / 3_f64.sqrt()).abs() < 1.0),
                Distribution::Normal => assert!((deviation - 100.0 * spread).abs() < 1.0, "{deviation}"),
                // The tail: some wait for more than thrice the middle, which a normal one never does.
                Distribution::Pareto => assert!(drawn.iter().any(|ms| *ms > 300.0)),
            }
        }
    }

    #[test]
    fn faults_on_one_way_add_up_and_each_lifts_its_own() {
        let way = Way::default();
        let (short, long) = (delay(5, 0.0, Distribution::Uniform), delay(50, 0.1, Distribution::Pareto));
        way.set(1, Rule::Hold);
        way.set(2, Rule::Delay(long));
        way.set(3, Rule::Delay(short));
        way.set(4, Rule::Throttle { bytes_per_s: 10 });
        way.set(5, Rule::Throttle { bytes_per_s: 1_000 });
        way.set(6, Rule::SlowClose(Duration::from_secs(1)));
        let all = Effect {
            hold: true,
            delay: Some(long),
            bytes_per_s: Some(10),
            slow_close: Duration::from_secs(1),
        };
        assert_eq!(*way.effect(), all);
        way.lift(1);
        way.lift(1);
        assert_eq!(*way.effect(), Effect { hold: false, ..all });
        way.lift(2);
        way.lift(4);
        assert_eq!(
            *way.effect(),
            Effect { delay: Some(short), bytes_per_s: Some(1_000), hold: false, ..all }
        );
        assert!(!way.effect().passes());
        way.lift(3);
        way.lift(5);
        assert!(way.effect().passes() && way.is_ruled());
        assert!(way.lift_all() && !way.lift_all() && !way.is_ruled());
        assert_eq!(*way.effect(), Effect::default());
    }

    #[test]
    fn a_rate_is_shared_by_all_who_go_that_way() {
        let way = Way::default();
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(way.reserve(now, 500, 1_000), now + second / 2);
        assert_eq!(way.reserve(now, 500, 1_000), now + second);
        assert_eq!(way.reserve(now + 5 * second, 1_000, 1_000), now + 6 * second);
    }
}
