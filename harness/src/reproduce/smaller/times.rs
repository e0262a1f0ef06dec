//! Shorter: the scenario, its faults, and the time between them.
//!
//! In: a scenario. Out: the same in less time. Never: a fault that strikes later, or lasts longer.

use std::cmp::Reverse;
use std::time::Duration;

use super::Smaller;
use super::pinned::{begin, end, fit, hold, last_end, rules, rules_mut, set_begin, set_hold, whole_ms};
use crate::scenario::{Rule, Scenario};

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
        for place in 0..rules(scenario).len() {
            all.push(gap(scenario, place, part));
            all.push(held_less(scenario, place, part));
        }
    }
    all.push(room(scenario, |room| room.min(AFTER_LAST), 0));
    let saved = |smaller: &Smaller| {
        let in_holds = |scenario: &Scenario| rules(scenario).iter().filter_map(hold).sum::<Duration>();
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
    for rule in rules_mut(&mut shorter) {
        set_begin(rule, whole_ms(begin(rule) / part));
        let less = held(rule, part);
        set_hold(rule, less);
    }
    shorter.duration = whole_ms(scenario.duration / part).max(last_end(&shorter));
    finish(shorter, format!("in 1/{part} of the time"))
}

/// What is left of a hold; at least a millisecond, where there was one.
fn held(rule: &Rule, part: u32) -> Duration {
    let before = hold(rule).unwrap_or_default();
    whole_ms(before / part).max(before.min(Duration::from_millis(1)))
}

fn holds(scenario: &Scenario, part: u32) -> Smaller {
    let mut shorter = scenario.clone();
    for rule in rules_mut(&mut shorter) {
        let less = held(rule, part);
        set_hold(rule, less);
    }
    finish(shorter, format!("faults last 1/{part} as long"))
}

/// Between the last fault and the end.
fn room(scenario: &Scenario, less: impl Fn(Duration) -> Duration, part: u32) -> Smaller {
    let last = last_end(scenario).min(scenario.duration);
    let duration = last + whole_ms(less(scenario.duration - last));
    let how = match part {
        0 => "it ends soon after the last fault".to_owned(),
        part => format!("1/{part} of the time after the last fault"),
    };
    finish(Scenario { duration, ..scenario.clone() }, how)
}

/// From one fault, or the beginning, to the next; all that follows comes so much earlier.
fn gap(scenario: &Scenario, place: usize, part: u32) -> Smaller {
    let at = begin(&rules(scenario)[place]);
    let before = place.checked_sub(1).map_or(Duration::ZERO, |place| begin(&rules(scenario)[place]));
    let saved = whole_ms(at - before) - whole_ms((at - before) / part);
    let mut shorter = scenario.clone();
    for rule in &mut rules_mut(&mut shorter)[place..] {
        set_begin(rule, begin(rule) - saved);
    }
    shorter.duration -= saved;
    finish(shorter, format!("1/{part} of the time before {}", rules(scenario)[place]))
}

/// How long one lasts; what begins after its end comes so much earlier.
fn held_less(scenario: &Scenario, place: usize, part: u32) -> Smaller {
    let rule = &rules(scenario)[place];
    let (over, less) = (end(rule), held(rule, part));
    let saved = hold(rule).unwrap_or_default() - less;
    let mut shorter = scenario.clone();
    set_hold(&mut rules_mut(&mut shorter)[place], less);
    for later in rules_mut(&mut shorter).iter_mut().filter(|later| begin(later) >= over) {
        set_begin(later, begin(later) - saved);
    }
    shorter.duration = (scenario.duration - saved).max(last_end(&shorter));
    finish(shorter, format!("1/{part} as long: {rule}"))
}

fn finish(mut scenario: Scenario, how: String) -> Smaller {
    fit(&mut scenario);
    Smaller { scenario, how, place: 0 }
}
