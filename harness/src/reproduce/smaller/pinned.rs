//! A recorded plan as a scenario of its own, and the times of its faults.
//!
//! In: a scenario and the plan that was made of it. Out: a scenario whose faults are that plan, whatever the seed.
//! Never: a fault that the plan does not have.

use std::time::Duration;

use crate::scenario::{Expect, FaultRule, Plan, Scenario, Schedule, Step};

/// The plan as rules, and no expectation of how much must happen: less will.
pub fn pinned(scenario: &Scenario, plan: &Plan) -> Scenario {
    let expect = Expect {
        ok_min: 1,
        leader_changes_min: 0,
        snapshots_installed_min: 0,
        config_changes_min: 0,
        ..scenario.expect
    };
    let faults = plan.steps.iter().filter_map(rule).collect();
    let mut pinned =
        Scenario { name: format!("{}-shrunk", scenario.name), faults, expect, ..scenario.clone() };
    fit(&mut pinned);
    pinned
}

fn rule(step: &Step) -> Option<FaultRule> {
    Some(FaultRule {
        schedule: Schedule::At(whole_ms(Duration::from_nanos(step.at))),
        kind: step.fault,
        target: step.fault.whom(&step.target).ok()?,
        manner: step.manner,
        hold: whole_ms(Duration::from_nanos(step.hold)),
    })
}

/// The finest that a scenario can say.
pub fn whole_ms(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis() as u64)
}

/// When it strikes first.
pub fn begin(rule: &FaultRule) -> Duration {
    match rule.schedule {
        Schedule::At(at) => at,
        Schedule::Every { interval, .. } => interval,
    }
}

pub fn set_begin(rule: &mut FaultRule, begin: Duration) {
    if let Schedule::At(at) = &mut rule.schedule {
        *at = begin;
    }
}

/// When it is undone, as far as that is planned.
pub fn end(rule: &FaultRule) -> Duration {
    begin(rule) + rule.hold
}

/// When the last fault is undone.
pub fn last_end(faults: &[FaultRule]) -> Duration {
    faults.iter().map(end).max().unwrap_or_default()
}

/// By time, and none beyond the scenario's end, where all are undone anyway.
pub fn fit(scenario: &mut Scenario) {
    let duration = scenario.duration;
    scenario.faults.retain(|rule| begin(rule) < duration);
    for rule in &mut scenario.faults {
        rule.hold = rule.hold.min(duration - begin(rule));
    }
    scenario.faults.sort_by_key(begin);
}
