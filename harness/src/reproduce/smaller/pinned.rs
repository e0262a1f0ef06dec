//! A recorded plan as a scenario of its own, and the times of its faults.
//!
//! In: a scenario and the plan that was made of it. Out: a scenario whose faults are that plan, whatever the seed.
//! Never: a fault that the plan does not have.

use std::time::Duration;

use crate::scenario::{
    Choice, Expect, Fault, Faults, Phases, Plan, Rule, Scenario, Schedule, Script, Trigger,
};

/// The plan as rules, and no expectation of how much must happen: less will.
pub fn pinned(scenario: &Scenario, plan: &Plan) -> Scenario {
    let expect = Expect {
        ok_min: 1,
        leader_changes_min: 0,
        snapshots_installed_min: 0,
        config_changes_min: 0,
        ..scenario.expect.clone()
    };
    let (name, faults) = (format!("{}-shrunk", scenario.name), Faults::Rules(plan.rules()));
    let mut pinned = Scenario { name, faults, expect, ..scenario.clone() };
    fit(&mut pinned);
    pinned
}

/// None of a swarm, which a pinned scenario is not.
pub fn rules(scenario: &Scenario) -> &[Rule] {
    match &scenario.faults {
        Faults::Rules(rules) => rules,
        Faults::Swarm => &[],
    }
}

pub fn rules_mut(scenario: &mut Scenario) -> &mut [Rule] {
    match &mut scenario.faults {
        Faults::Rules(rules) => rules,
        Faults::Swarm => &mut [],
    }
}

/// The finest that most of a scenario can say.
pub fn whole_ms(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis() as u64)
}

/// When it strikes first, or begins to wait.
pub fn begin(rule: &Rule) -> Duration {
    match rule {
        Rule::Strike { schedule: Schedule::At(at), .. }
        | Rule::Trigger(Trigger { at, .. })
        | Rule::Phases(Phases { at, .. })
        | Rule::Script(Script { at, .. }) => *at,
        Rule::Strike {
            schedule: Schedule::Every { interval: first, .. } | Schedule::Between { least: first, .. },
            ..
        } => *first,
    }
}

pub fn set_begin(rule: &mut Rule, begin: Duration) {
    match rule {
        Rule::Strike { schedule: Schedule::At(at), .. }
        | Rule::Trigger(Trigger { at, .. })
        | Rule::Phases(Phases { at, .. })
        | Rule::Script(Script { at, .. }) => *at = begin,
        // No plan is written so.
        Rule::Strike { schedule: Schedule::Every { .. } | Schedule::Between { .. }, .. } => {}
    }
}

/// How long the fault of a rule that strikes at its time lasts.
pub fn hold(rule: &Rule) -> Option<Duration> {
    match rule {
        Rule::Strike { choice: Choice::One(Fault { hold, .. }), .. } => *hold,
        _ => None,
    }
}

pub fn set_hold(rule: &mut Rule, held: Duration) {
    if let Rule::Strike { choice: Choice::One(Fault { hold: Some(hold), .. }), .. } = rule {
        *hold = held;
    }
}

/// When it is over, as far as that is planned.
pub fn end(rule: &Rule) -> Duration {
    let length = match rule {
        Rule::Phases(phases) => phases.length(),
        _ => hold(rule).unwrap_or_default(),
    };
    begin(rule) + length
}

/// When the last fault is undone.
pub fn last_end(scenario: &Scenario) -> Duration {
    rules(scenario).iter().map(end).max().unwrap_or_default()
}

/// By time, and none beyond the scenario's end, where all are undone anyway.
pub fn fit(scenario: &mut Scenario) {
    let duration = scenario.duration;
    let Faults::Rules(rules) = &mut scenario.faults else { return };
    rules.retain(|rule| begin(rule) < duration);
    for rule in rules.iter_mut() {
        let most = duration - begin(rule);
        if let Some(held) = hold(rule) {
            set_hold(rule, held.min(most));
        }
        if let Rule::Phases(Phases { phases, times: 1, .. }) = rule
            && let [phase] = phases.as_mut_slice()
        {
            phase.length = phase.length.min(most);
        }
    }
    rules.sort_by_key(begin);
}
