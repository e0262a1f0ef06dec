//! Fewer faults: the complements of ddmin (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input",
//! 2002). Its subsets are left out, for a failed try is not one run but several; what is left is 1-minimal without.
//!
//! In: a scenario and a size. Out: the scenario without each run of so many faults. Never: another order of faults.

use std::time::Duration;

use super::Smaller;
use super::pinned::{begin, fit, last_end, set_begin};
use crate::scenario::{FaultRule, Scenario};

/// Where the room in the end would fall below this, it is left as it is.
const DURATION_MIN: Duration = Duration::from_secs(1);

/// `closing`: what follows takes the place, in time, of what is left out.
pub fn without(scenario: &Scenario, chunk: usize, closing: bool) -> Vec<Smaller> {
    let faults = &scenario.faults;
    let starts = (0..faults.len()).step_by(chunk.max(1));
    let ranges = starts.map(|start| start..(start + chunk.max(1)).min(faults.len()));
    let all = ranges.map(|range| {
        let how = match (range.len(), faults.len()) {
            (left_out, all) if left_out == all => "without faults".to_owned(),
            (1, _) => format!("without {}", faults[range.start]),
            _ => format!("without faults {} to {}", range.start + 1, range.end),
        };
        let place = range.start;
        let kept: Vec<FaultRule> = [&faults[..range.start], &faults[range.end..]].concat();
        let mut less = Scenario { faults: kept, ..scenario.clone() };
        if closing && !less.faults.is_empty() {
            close(&mut less, scenario, range.start, range.end);
        }
        fit(&mut less);
        Smaller { scenario: less, how, place }
    });
    all.collect()
}

/// The first fault after the gap strikes where the first one in it did, the others as long after it as before; and so
/// much later is the end.
fn close(less: &mut Scenario, before: &Scenario, from: usize, to: usize) {
    if let Some(next) = before.faults.get(to) {
        let earlier = begin(next) - begin(&before.faults[from]);
        for rule in &mut less.faults[from..] {
            set_begin(rule, begin(rule) - earlier);
        }
    }
    let room = before.duration.saturating_sub(last_end(&before.faults));
    less.duration = (last_end(&less.faults) + room).max(DURATION_MIN).min(before.duration);
}
