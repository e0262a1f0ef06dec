//! How often something happens, from a few tries.
//!
//! In: counts. Out: a rate, its interval, and how many tries are enough to doubt one. Never: a rate without the
//! number of tries behind it.

use std::fmt;

/// Of the normal distribution: 95 % lie within so many deviations of the middle.
const Z: f64 = 1.959_963_984_540_054;

/// What is less likely than this is taken not to be.
const DOUBT: f64 = 0.05;

/// Of so many tries, so many did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub hits: u32,
    pub of: u32,
}

impl Count {
    pub fn add(&mut self, hit: bool) {
        self.of += 1;
        self.hits += u32::from(hit);
    }

    /// The 95 % interval of the rate by Wilson (1927), which keeps what it promises for few tries and at rates near
    /// 0 and 1 (Brown, Cai and DasGupta, "Interval Estimation for a Binomial Proportion", 2001). None of no tries.
    pub fn interval(self) -> Option<(f64, f64)> {
        if self.of == 0 {
            return None;
        }
        let n = f64::from(self.of);
        let rate = f64::from(self.hits) / n;
        let middle = (rate + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let reach = Z / (1.0 + Z * Z / n) * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
        let low = if self.hits == 0 { 0.0 } else { middle - reach };
        let high = if self.hits == self.of { 1.0 } else { middle + reach };
        Some((low, high))
    }

    /// What to expect of the next try, when `before` tries' worth of a rate was believed already.
    pub fn expected(self, believed: f64, before: f64) -> f64 {
        (f64::from(self.hits) + believed * before) / (f64::from(self.of) + before)
    }
}

/// `8 of 10 (80 %, 95 % interval 49 % to 94 %)`
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.hits, self.of)?;
        let Some((low, high)) = self.interval() else { return Ok(()) };
        let percent = |rate: f64| (100.0 * rate).round() as u32;
        let rate = f64::from(self.hits) / f64::from(self.of);
        write!(f, " ({} %, 95 % interval {} % to {} %)", percent(rate), percent(low), percent(high))
    }
}

/// So many tries in a row without a hit are unlikely where at least half of `rate` is hit.
pub fn tries_to_doubt(rate: f64) -> u32 {
    let missed = 1.0 - (rate / 2.0).clamp(1e-6, 0.5);
    // At most three million, by the bounds above.
    (DOUBT.ln() / missed.ln()).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_tables() {
        // Found in another way than by the formula: where q lies Z deviations of its own from the rate that was seen,
        // |hits/of - q| = Z sqrt(q(1-q)/of), by bisection.
        for (hits, of, low, high) in [
            (8, 10, 0.490_162, 0.943_318),
            (5, 10, 0.236_593, 0.763_407),
            (0, 10, 0.0, 0.277_533),
            (10, 10, 0.722_467, 1.0),
            (1, 1, 0.206_549, 1.0),
            (15, 50, 0.191_036, 0.437_504),
        ] {
            let (found_low, found_high) = Count { hits, of }.interval().unwrap();
            assert!((found_low - low).abs() < 1e-6, "{hits} of {of}: {found_low}");
            assert!((found_high - high).abs() < 1e-6, "{hits} of {of}: {found_high}");
        }
        assert_eq!(Count::default().interval(), None);
    }

    #[test]
    fn the_interval_holds_the_true_rate_about_as_often_as_it_says() {
        for rate in [0.1_f64, 0.3, 0.5, 0.9] {
            let n = 20;
            let mut covered = 0.0;
            let mut chance = (1.0 - rate).powi(n);
            for hits in 0..=n {
                let (low, high) = Count { hits: hits as u32, of: n as u32 }.interval().unwrap();
                covered += if (low..=high).contains(&rate) { chance } else { 0.0 };
                chance *= f64::from(n - hits) / f64::from(hits + 1) * rate / (1.0 - rate);
            }
            assert!((0.93..=0.99).contains(&covered), "at {rate}: {covered}");
        }
    }

    #[test]
    fn enough_tries_make_the_doubt_and_one_fewer_does_not() {
        for (rate, tries) in [(1.0, 5), (0.8, 6), (0.5, 11), (0.2, 29), (0.02, 299)] {
            assert_eq!(tries_to_doubt(rate), tries, "{rate}");
            assert!((1.0 - rate / 2.0).powi(tries as i32) < 0.05);
            assert!((1.0 - rate / 2.0).powi(tries as i32 - 1) >= 0.05);
        }
        assert!(tries_to_doubt(0.0) > 1_000_000);
    }

    #[test]
    fn a_count_is_told_with_what_it_is_worth() {
        assert_eq!(Count { hits: 8, of: 10 }.to_string(), "8 of 10 (80 %, 95 % interval 49 % to 94 %)");
        assert_eq!(Count::default().to_string(), "0 of 0");
    }
}
