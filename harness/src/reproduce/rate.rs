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

    /// So few hits are unlikely where `rate` are hit, or more.
    pub fn is_unlikely_at(self, rate: f64) -> bool {
        let (n, rate) = (f64::from(self.of), rate.clamp(1e-6, 1.0 - 1e-6));
        // Of no hit, one, two, ...: the lower tail of the binomial distribution.
        let mut chance = (1.0 - rate).powf(n);
        let mut all = chance;
        for hits in 1..=self.hits {
            let hits = f64::from(hits);
            chance *= (n - hits + 1.0) / hits * rate / (1.0 - rate);
            all += chance;
        }
        all < DOUBT
    }

    /// These are twenty times as likely where three quarters of `rate` are hit as where a quarter is: Wald's sequential
    /// test (1945), by which a few hits in a row are enough, and one that came after misses is not.
    pub fn shows(self, rate: f64) -> bool {
        let (much, little) = (rate * 0.75, rate * 0.25);
        let misses = f64::from(self.of - self.hits);
        let weight =
            f64::from(self.hits) * (much / little).ln() + misses * ((1.0 - much) / (1.0 - little)).ln();
        self.hits > 0 && weight >= -DOUBT.ln()
    }

    /// What to expect of the next try, when `before` tries' worth of a rate was believed already.
    pub fn expected(self, believed: f64, before: f64) -> f64 {
        (f64::from(self.hits) + believed * before) / (f64::from(self.of) + before)
    }
}

/// `8 of 10 (80 %, 95 % interval 49 % to 94 %)`
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of(f, "")
    }
}

/// `8 of 10 tries (80 %, 95 % interval 49 % to 94 %)`
pub struct Tries(pub Count);

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.of(f, if self.0.of == 1 { " try" } else { " tries" })
    }
}

impl Count {
    fn of(self, f: &mut fmt::Formatter<'_>, what: &str) -> fmt::Result {
        write!(f, "{} of {}{what}", self.hits, self.of)?;
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
    fn few_hits_are_unlikely_as_the_binomial_distribution_says() {
        // P(X <= 1 | 10, 0.4) = 0.0464, P(X <= 1 | 9, 0.4) = 0.0705, P(X <= 2 | 20, 0.3) = 0.0355.
        for (hits, of, rate, unlikely) in [
            (1, 10, 0.4, true),
            (1, 9, 0.4, false),
            (2, 20, 0.3, true),
            (3, 20, 0.3, false),
            (0, 5, 0.5, true),
            (0, 4, 0.5, false),
            (0, 0, 0.9, false),
            (5, 5, 1.0, false),
        ] {
            assert_eq!(Count { hits, of }.is_unlikely_at(rate), unlikely, "{hits} of {of} at {rate}");
        }
        for rate in [1.0, 0.6, 0.1] {
            let tries = tries_to_doubt(rate);
            assert!(Count { hits: 0, of: tries }.is_unlikely_at(rate / 2.0));
            assert!(!Count { hits: 0, of: tries - 1 }.is_unlikely_at(rate / 2.0));
        }
    }

    #[test]
    fn a_rate_is_shown_by_hits_in_a_row_and_by_more_of_them_among_misses() {
        for (hits, of, rate, shown) in [
            (2, 2, 0.8, false),
            (3, 3, 0.8, true),
            (3, 4, 0.8, false),
            (4, 5, 0.8, true),
            (3, 3, 1.0, true),
            (4, 6, 1.0, false),
            (3, 6, 0.2, false),
            (3, 5, 0.2, true),
            (0, 0, 0.2, false),
        ] {
            assert_eq!(Count { hits, of }.shows(rate), shown, "{hits} of {of} at {rate}");
        }
    }

    #[test]
    fn a_count_is_told_with_what_it_is_worth() {
        assert_eq!(Count { hits: 8, of: 10 }.to_string(), "8 of 10 (80 %, 95 % interval 49 % to 94 %)");
        assert_eq!(Count::default().to_string(), "0 of 0");
        let tries = Tries(Count { hits: 0, of: 1 }).to_string();
        assert_eq!(tries, "0 of 1 try (0 %, 95 % interval 0 % to 79 %)");
    }
}
