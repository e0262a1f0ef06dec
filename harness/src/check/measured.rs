//! Service in numbers: what a scenario may bound, measured whether it does or not.
//!
//! In: [`Service`]. Out: [`Measured`], as `results.json` has it. Never: a verdict.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::service::{Service, Stretch, Wait};

/// Times in seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Whether every line of the nemesis says if a quorum was whole; what does not is taken to have changed nothing.
    pub whole_told: bool,
    /// How long a quorum was whole within the load.
    pub whole_seconds: f64,
    /// Of this what counts for service: a quorum that returns has to settle first.
    pub counted_seconds: f64,
    /// Percent of that in which there was service; none when less counts than settling takes, or nobody asked in it.
    pub service_percent: Option<f64>,
    /// The longest gap of service in that.
    pub longest_gap_seconds: Option<f64>,
    /// By kind of fault: from when it was done to the first success.
    pub struck: BTreeMap<String, Times>,
    /// From when it was undone.
    pub healed: BTreeMap<String, Times>,
}

/// To the first success while a quorum was whole, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// How many were followed by one.
    pub served: u64,
    /// Of these.
    pub median: Option<f64>,
    pub worst: Option<f64>,
    /// Nothing had succeeded after the worst time when the quorum was lost or the load ended.
    pub in_vain: bool,
}

impl Measured {
    /// None when no load is recorded.
    pub fn of(evidence: &Evidence) -> Option<Measured> {
        let service = Service::of(evidence)?;
        let counted = service.counted_ns();
        let unserved: Vec<u64> = service.unserved().iter().map(|(stretch, _)| stretch.length()).collect();
        let without: u64 = unserved.iter().sum();
        let judged = service.unjudged().is_none();
        let by_kind = |waits: &[Wait]| {
            let mut kinds: BTreeMap<String, Vec<Wait>> = BTreeMap::new();
            for wait in waits {
                let kind = evidence.history.strikes[wait.fault].f.to_string();
                kinds.entry(kind).or_default().push(*wait);
            }
            kinds.into_iter().map(|(kind, waits)| (kind, Times::of(&waits))).collect()
        };
        Some(Measured {
            whole_told: service.untold.is_none(),
            whole_seconds: seconds(service.whole.iter().map(|stretch| stretch.length()).sum()),
            counted_seconds: seconds(counted),
            service_percent: judged.then(|| 100.0 * counted.saturating_sub(without) as f64 / counted as f64),
            longest_gap_seconds: judged.then(|| seconds(unserved.into_iter().max().unwrap_or(0))),
            struck: by_kind(&service.struck),
            healed: by_kind(&service.healed),
        })
    }
}

impl Times {
    fn of(waits: &[Wait]) -> Times {
        let mut served: Vec<u64> = waits.iter().filter_map(|wait| wait.served).map(Stretch::length).collect();
        served.sort_unstable();
        let in_vain = waits.iter().filter_map(|wait| wait.in_vain).map(Stretch::length).max();
        let slowest = served.last().copied();
        Times {
            served: served.len() as u64,
            // Of an even number the later one: it is one that was measured.
            median: served.get(served.len() / 2).copied().map(seconds),
            worst: slowest.max(in_vain).map(seconds),
            in_vain: in_vain > slowest,
        }
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_time_may_be_one_in_which_nothing_came() {
        let wait = |served, in_vain| {
            let stretch = |to: u64| Stretch { from: 0, to: to * 1_000_000_000 };
            Wait {
                fault: 0,
                since: 0,
                line: 1,
                served: Option::map(served, stretch),
                in_vain: Option::map(in_vain, stretch),
            }
        };
        let waits = [wait(Some(3), None), wait(Some(1), Some(2)), wait(Some(2), None)];
        let times = Times { served: 3, median: Some(2.0), worst: Some(3.0), in_vain: false };
        assert_eq!(Times::of(&waits), times);
        let times = Times { served: 1, median: Some(3.0), worst: Some(9.0), in_vain: true };
        assert_eq!(Times::of(&[waits[0], wait(None, Some(9))]), times);
        assert_eq!(Times::of(&[]), Times::default());
    }
}
