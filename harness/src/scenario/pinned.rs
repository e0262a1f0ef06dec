//! Writes a plan back as rules that leave nothing to a seed.
//!
//! In: a [`Plan`]. Out: rules, of which a scenario makes the same plan under every seed, its times rounded down to what
//! YAML can say. Never: a draw.
//!
//! A step is a line with its time and its draw, a script one with its rounds. What waits until the end of a phase stands
//! in a phase that is just as long.

use std::time::Duration;

use super::planning::needs_heal;
use super::{
    Act, After, Choice, Deed, Fault, Heal, Hold, Move, On, Phase, Phases, Plan, Rule, Schedule, Script, Step,
    Trigger, Watch,
};

impl Plan {
    /// Panics on a step whose target no fault of its kind can have: [`Plan::from_jsonl`] gives none.
    pub fn rules(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        let mut told = std::collections::BTreeSet::new();
        for step in &self.steps {
            match step.script {
                None => rules.push(alone(step)),
                Some(script) if told.insert(script) => {
                    rules.push(script_of(self.steps.iter().filter(|other| other.script == Some(script))));
                }
                Some(_) => {}
            }
        }
        rules
    }
}

fn alone(step: &Step) -> Rule {
    let at = milliseconds(step.at);
    let choice = Choice::One(fault(step).unwrap_or_else(|| panic!("{step:?} is of no script and no fault")));
    match step.on {
        None => Rule::Strike { schedule: Schedule::At(at), choice },
        Some(watch) => within(at, watch.until, |at| {
            Rule::Trigger(Trigger { at, on: on(watch), after: after(step.after), times: 1, choice })
        }),
    }
}

fn script_of<'s>(steps: impl Iterator<Item = &'s Step> + Clone) -> Rule {
    let at = milliseconds(steps.clone().map(|step| step.at).min().unwrap_or_default());
    let until = steps.clone().find_map(|step| step.on?.until);
    let mut rounds: Vec<(u32, Vec<Move>)> = Vec::new();
    for step in steps {
        let deed = match &step.act {
            Act::Strike { .. } => Deed::Strike(fault(step).unwrap_or_else(|| unreachable!("it strikes"))),
            Act::Heal(heal) => Deed::Heal(*heal),
            Act::Wait => Deed::Wait,
        };
        let one = Move { name: step.name, on: step.on.map(on), after: after(step.after), deed };
        match rounds.last_mut() {
            Some((round, moves)) if *round == step.round => moves.push(one),
            _ => rounds.push((step.round, vec![one])),
        }
    }
    let rounds = rounds.into_iter().map(|(_, moves)| without_last_heal(moves)).collect();
    within(at, until, |at| Rule::Script(Script { at, times: 1, rounds }))
}

/// The heal that a plan adds at the end of a round goes without saying.
fn without_last_heal(mut moves: Vec<Move>) -> Vec<Move> {
    let healed = Deed::Heal(Heal::All);
    if let Some((last, before)) = moves.split_last()
        && last.deed == healed
        && last.on.is_none()
        && needs_heal(before)
        && last.after == After::NOTHING
    {
        moves.pop();
    }
    moves
}

/// In a phase that ends when the waits do, if they do before the load.
fn within(at: Duration, until: Option<u64>, rule: impl FnOnce(Duration) -> Rule) -> Rule {
    match until.map(milliseconds).and_then(|until| until.checked_sub(at)).filter(|length| !length.is_zero()) {
        None => rule(at),
        Some(length) => {
            let phase = Phase { length, parallel: vec![rule(Duration::ZERO)] };
            Rule::Phases(Phases { at, times: 1, phases: vec![phase] })
        }
    }
}

fn fault(step: &Step) -> Option<Fault> {
    let Act::Strike { fault: kind, target, manner, hold } = &step.act else { return None };
    let target = kind.whom(target).unwrap_or_else(|error| panic!("{step:?}: {error}"));
    let hold = match hold {
        Hold::For(nanoseconds) => Some(milliseconds(*nanoseconds)),
        Hold::UntilHealed => None,
    };
    Some(Fault { kind: *kind, target, manner: *manner, hold, draw: Some(step.draw) })
}

fn on(watch: Watch) -> On {
    On { fact: watch.fact, by: watch.by, within: watch.within.map(milliseconds) }
}

fn after(nanoseconds: u64) -> After {
    let time = Duration::from_micros(nanoseconds / 1_000);
    After { least: time, most: time }
}

fn milliseconds(nanoseconds: u64) -> Duration {
    Duration::from_millis(nanoseconds / 1_000_000)
}
