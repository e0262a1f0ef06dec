//! Shorter: the scenario, its faults, and the time between them.
//!
//! In: a scenario. Out: the same in less time. Never: a fault that strikes later, or lasts longer.

use std::cmp::Reverse;
use std::time::Duration;

use super::Smaller;
use super::pinned::{begin, end, fit, last_end, set_begin, whole_ms};
use crate::scenario::{FaultRule, Scenario};

/// After the violation, and after the last fault.
const AFTER_SHOWN: Duration = Duration::from_secs(1);
const AFTER_LAST: Duration = Duration::from_millis(500);
/// Less than this is not worth a try.
const SAVING_MIN: Duration = Duration::from_millis(100);
/// Of a time that is to become less, what is left: tried in this order.
const PARTS: [u32; 2] = [4, 2];

/// Just after the violation was shown, the first time and the last time of several tries.
pub fn ends(scenario: &Scenario, shown: Option<(Duration, Duration)>) -> Vec<Smaller> {
    let ends = shown.into_iter().flat_map(|(earliest, latest)| [earliest, latest]);
    let mut ends: Vec<Duration> = ends.map(|shown| whole_ms(shown) + AFTER_SHOWN).collect();
    ends.dedup();
    ends.retain(|duration| *duration + SAVING_MIN <= scenario.duration);
    let until = |(place, duration)| {
        let how = format!("only to {}, just after it was shown", humantime::format_duration(duration));
        Smaller { place, ..finish(Scenario { duration, ..scenario.clone() }, how) }
    };
    (0..).zip(ends).map(until).collect()
}

/// Those that save the most come first.
pub fn shorter(scenario: &Scenario) -> Vec<Smaller> {
    let mut all = Vec::new();
    for part in PARTS {
        all.push(everything(scenario, part));
        all.push(holds(scenario, part));
        all.push(room(scenario, |room| room / part, part));
        for place in 0..scenario.faults.len() {
            all.push(gap(scenario, place, part));
            all.push(hold(scenario, place, part));
        }
    }
    all.push(room(scenario, |room| room.min(AFTER_LAST), 0));
    let saved = |smaller: &Smaller| {
        let in_holds = |scenario: &Scenario| scenario.faults.iter().map(|rule| rule.hold).sum::<Duration>();
        let (less, before) = (&smaller.scenario, scenario);
        (before.duration - less.duration, in_holds(before).saturating_sub(in_holds(less)))
    };
    all.retain(|smaller| {
        let (of_all, of_holds) = saved(smaller);
        of_all.max(of_holds) >= SAVING_MIN
    });
    all.sort_by_key(|smaller| Reverse(saved(smaller)));
    (0..).zip(all).map(|(place, smaller)| Smaller { place, ..smaller }).collect()
}

fn everything(scenario: &Scenario, part: u32) -> Smaller {
    let mut shorter = scenario.clone();
    for rule in &mut shorter.faults {
        set_begin(rule, whole_ms(begin(rule) / part));
        rule.hold = held(rule, part);
    }
    shorter.duration = whole_ms(scenario.duration / part).max(last_end(&shorter.faults));
    finish(shorter, format!("in 1/{part} of the time"))
}

/// What is left of a hold; at least a millisecond, where there was one.
fn held(rule: &FaultRule, part: u32) -> Duration {
    whole_ms(rule.hold / part).max(rule.hold.min(Duration::from_millis(1)))
}

fn holds(scenario: &Scenario, part: u32) -> Smaller {
    let mut shorter = scenario.clone();
    for rule in &mut shorter.faults {
        rule.hold = held(rule, part);
    }
    finish(shorter, format!("faults last 1/{part} as long"))
}

/// Between the last fault and the end.
fn room(scenario: &Scenario, less: impl Fn(Duration) -> Duration, part: u32) -> Smaller {
    let last = last_end(&scenario.faults).min(scenario.duration);
    let duration = last + whole_ms(less(scenario.duration - last));
    let how = match part {
        0 => "it ends soon after the last fault".to_owned(),
        part => format!("1/{part} of the time after the last fault"),
    };
    finish(Scenario { duration, ..scenario.clone() }, how)
}

/// From one fault, or the beginning, to the next; all that follows comes so much earlier.
fn gap(scenario: &Scenario, place: usize, part: u32) -> Smaller {
    let at = begin(&scenario.faults[place]);
    let before = place.checked_sub(1).map_or(Duration::ZERO, |place| begin(&scenario.faults[place]));
    let saved = whole_ms(at - before) - whole_ms((at - before) / part);
    let mut shorter = scenario.clone();
    for rule in &mut shorter.faults[place..] {
        set_begin(rule, begin(rule) - saved);
    }
    shorter.duration -= saved;
    finish(shorter, format!("1/{part} of the time before {}", scenario.faults[place]))
}

/// How long one lasts; what begins after its end comes so much earlier.
fn hold(scenario: &Scenario, place: usize, part: u32) -> Smaller {
    let rule = &scenario.faults[place];
    let (over, less) = (end(rule), held(rule, part));
    let saved = rule.hold - less;
    let mut shorter = scenario.clone();
    shorter.faults[place].hold = less;
    for later in shorter.faults.iter_mut().filter(|later| begin(later) >= over) {
        set_begin(later, begin(later) - saved);
    }
    shorter.duration = (scenario.duration - saved).max(last_end(&shorter.faults));
    finish(shorter, format!("1/{part} as long: {rule}"))
}

fn finish(mut scenario: Scenario, how: String) -> Smaller {
    fit(&mut scenario);
    Smaller { scenario, how, place: 0 }
}
