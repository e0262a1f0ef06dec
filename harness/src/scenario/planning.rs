//! Turns rules into the steps of a plan.
//!
//! In: a [`Scenario`] and a seed. Out: steps by time. Never: numbers that hang on another rule than the one they are
//! for.
//!
//! Each rule has a stream of numbers of its own, found by what the rule says and not by its place: taking one rule away
//! leaves the strikes of the others as they were. How long a fault lasts is not a part of that: it may be shortened, and
//! strikes as before.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::{
    Act, After, Choice, Deed, Fault, Heal, Hold, Move, On, Phases, Rule, Scenario, Schedule, Script, Step,
    Trigger, Watch, Weighted, seed,
};

/// Strikes of one rule at most. Validation keeps the mean ten times lower, so that no seed comes near.
const STRIKES_MAX: usize = 10_000;

/// Between strikes of one rule at least, however the jitter falls.
const GAP_MIN_NS: u64 = 1_000_000;

pub(super) fn steps(scenario: &Scenario, seed: u64) -> Vec<Step> {
    let mut planner = Planner { seed, alike: BTreeMap::new(), steps: Vec::new(), scripts: 0 };
    let load = Span { begin: 0, end: nanoseconds(scenario.duration), place: String::new() };
    for rule in &scenario.drawn(seed) {
        planner.rule(rule, &load);
    }
    planner.in_order()
}

struct Planner {
    seed: u64,
    /// How many rules there were that say the same.
    alike: BTreeMap<String, u64>,
    steps: Vec<Step>,
    scripts: u32,
}

/// The load, or a phase of it.
struct Span {
    begin: u64,
    end: u64,
    /// Which phase it is; nothing of the load.
    place: String,
}

impl Span {
    /// When a wait ends that goes on to the end of it.
    fn until(&self) -> Option<u64> {
        (!self.place.is_empty()).then_some(self.end)
    }

    fn watch(&self, on: On) -> Watch {
        Watch { fact: on.fact, by: on.by, within: on.within.map(nanoseconds), until: self.until() }
    }
}

impl Planner {
    fn rule(&mut self, rule: &Rule, span: &Span) {
        if let Rule::Phases(phases) = rule {
            return self.phases(phases, span);
        }
        let purpose = format!("{}{}", span.place, purpose(rule));
        let number = self.alike.entry(purpose.clone()).or_default();
        let mut numbers = seed::stream(self.seed, &purpose, *number);
        *number += 1;
        match rule {
            Rule::Strike { schedule, choice } => self.strikes(*schedule, choice, span, &mut numbers),
            Rule::Trigger(trigger) => self.trigger(trigger, span, &mut numbers),
            Rule::Script(script) => self.script(script, span, &mut numbers),
            Rule::Phases(_) => {}
        }
    }

    fn phases(&mut self, all: &Phases, span: &Span) {
        let mut begin = span.begin + nanoseconds(all.at);
        for time in 0..all.times {
            for (number, phase) in all.phases.iter().enumerate() {
                let end = begin + nanoseconds(phase.length);
                let place = format!("{}phase {number} time {time} ", span.place);
                let inner = Span { begin, end, place };
                for rule in &phase.parallel {
                    self.rule(rule, &inner);
                }
                begin = end;
            }
        }
    }

    fn strikes(&mut self, schedule: Schedule, choice: &Choice, span: &Span, numbers: &mut ChaCha8Rng) {
        let gap = |numbers: &mut ChaCha8Rng| match schedule {
            Schedule::At(at) => nanoseconds(at),
            Schedule::Every { interval, jitter_percent } => {
                stretched(nanoseconds(interval), jitter_percent, numbers.next_u64())
            }
            Schedule::Between { least, most } => {
                between(After { least, most }, 1_000_000, numbers.next_u64())
            }
        };
        let mut at = span.begin;
        for _ in 0..STRIKES_MAX {
            at += gap(numbers);
            let fault = chosen(choice, numbers);
            let draw = numbers.next_u64();
            if at >= span.end {
                break;
            }
            self.steps.push(alone(at, fault, draw));
            if matches!(schedule, Schedule::At(_)) {
                break;
            }
        }
    }

    fn trigger(&mut self, trigger: &Trigger, span: &Span, numbers: &mut ChaCha8Rng) {
        let at = span.begin + nanoseconds(trigger.at);
        let script = (trigger.times > 1).then(|| self.next_script());
        for round in 0..trigger.times {
            let fault = chosen(&trigger.choice, numbers);
            let after = between(trigger.after, 1_000, numbers.next_u64());
            let on = Some(span.watch(trigger.on));
            self.steps.push(Step { script, round, on, after, ..alone(at, fault, numbers.next_u64()) });
        }
    }

    fn script(&mut self, script: &Script, span: &Span, numbers: &mut ChaCha8Rng) {
        let at = span.begin + nanoseconds(script.at);
        let number = Some(self.next_script());
        let all = (0..script.times).flat_map(|_| &script.rounds);
        for (round, moves) in (0..).zip(all) {
            let step =
                |act, draw| Step { at, script: number, round, name: None, on: None, after: 0, act, draw };
            for Move { name, on, after, deed } in moves {
                let after = between(*after, 1_000, numbers.next_u64());
                let draw = numbers.next_u64();
                let (act, draw) = match deed {
                    Deed::Strike(fault) => (strike(fault), fault.draw.unwrap_or(draw)),
                    Deed::Heal(heal) => (Act::Heal(*heal), 0),
                    Deed::Wait => (Act::Wait, 0),
                };
                let on = on.map(|on| span.watch(on));
                self.steps.push(Step { name: *name, on, after, ..step(act, draw) });
            }
            if needs_heal(moves) {
                self.steps.push(step(Act::Heal(Heal::All), 0));
            }
        }
    }

    fn next_script(&mut self) -> u32 {
        self.scripts += 1;
        self.scripts - 1
    }

    /// By time, and at the same time in the order of the rules; scripts have their numbers in that order too.
    fn in_order(mut self) -> Vec<Step> {
        self.steps.sort_by_key(|step| step.at);
        let mut numbers = BTreeMap::new();
        for script in self.steps.iter_mut().filter_map(|step| step.script.as_mut()) {
            let next = numbers.len() as u32;
            *script = *numbers.entry(*script).or_insert(next);
        }
        self.steps
    }
}

/// Whether something may still be held after these moves, and the last one does not heal it whatever comes.
pub(super) fn needs_heal(moves: &[Move]) -> bool {
    let held = |step: &Move| matches!(&step.deed, Deed::Strike(fault) if fault.hold.is_none());
    let plain =
        |last: &Move| last.deed == Deed::Heal(Heal::All) && last.on.is_none() && last.after == After::NOTHING;
    moves.iter().any(held) && !moves.last().is_some_and(plain)
}

/// What the rule says, except how long a fault lasts and how many times it all comes. Of what strikes by the clock
/// neither weights nor the manner are in it: recorded seeds hang on that.
fn purpose(rule: &Rule) -> String {
    match rule {
        Rule::Strike { schedule, choice: Choice::One(fault) } => {
            format!("fault {} {} {}", fault.kind, fault.target, timing(*schedule))
        }
        Rule::Strike { schedule, choice } => format!("mix {} {}", deeds(choice), timing(*schedule)),
        Rule::Trigger(Trigger { at, on, after, choice, .. }) => {
            let faults: Vec<String> = choice.faults().map(said).collect();
            format!("trigger {} {on} at {} after {after}", faults.join(", "), nanoseconds(*at))
        }
        Rule::Script(Script { at, rounds, .. }) => {
            let round = |moves: &Vec<Move>| moves.iter().map(move_said).collect::<Vec<_>>().join(", ");
            let rounds: Vec<String> = rounds.iter().map(round).collect();
            format!("script at {} {}", nanoseconds(*at), rounds.join("; "))
        }
        Rule::Phases(_) => unreachable!("numbers are for the rules in phases"),
    }
}

fn move_said(Move { name, on, after, deed }: &Move) -> String {
    let deed = match deed {
        Deed::Strike(fault) => said(fault),
        Deed::Heal(heal) => format!("heal {heal}"),
        Deed::Wait => "wait".to_owned(),
    };
    let name = name.map(|name| format!("name {name}"));
    let on = on.map(|on| on.to_string());
    let after = (*after != After::NOTHING).then(|| format!("after {after}"));
    [Some(deed), name, on, after].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Without how long it lasts, and without a draw.
fn said(fault: &Fault) -> String {
    let mut manner = fault.manner;
    let terms = manner.terms();
    let terms = terms.iter().map(|term| format!(" {} {term}", term.key()));
    format!("{} {}{}", fault.kind, fault.target, terms.collect::<String>())
}

fn timing(schedule: Schedule) -> String {
    match schedule {
        Schedule::At(at) => format!("at {} 0", nanoseconds(at)),
        Schedule::Every { interval, jitter_percent } => {
            format!("every {} {jitter_percent}", nanoseconds(interval))
        }
        Schedule::Between { least, most } => {
            format!("every {} to {}", nanoseconds(least), nanoseconds(most))
        }
    }
}

fn deeds(choice: &Choice) -> String {
    let words: Vec<_> = choice.faults().map(|fault| format!("{} {}", fault.kind, fault.target)).collect();
    words.join(", ")
}

fn alone(at: u64, fault: &Fault, draw: u64) -> Step {
    let draw = fault.draw.unwrap_or(draw);
    Step { at, script: None, round: 0, name: None, on: None, after: 0, act: strike(fault), draw }
}

fn strike(fault: &Fault) -> Act {
    let hold = fault.hold.map_or(Hold::UntilHealed, |hold| Hold::For(nanoseconds(hold)));
    Act::Strike { fault: fault.kind, target: fault.target.to_string(), manner: fault.manner, hold }
}

/// Nothing is drawn where there is no choice.
fn chosen<'c>(choice: &'c Choice, numbers: &mut ChaCha8Rng) -> &'c Fault {
    let any = match choice {
        Choice::One(fault) => return fault,
        Choice::Any(any) => any,
    };
    let all: u64 = any.iter().map(|weighted| u64::from(weighted.weight)).sum();
    let mut left = scaled(all, numbers.next_u64());
    for Weighted { weight, fault } in any {
        match left.checked_sub(u64::from(*weight)) {
            None => return fault,
            Some(rest) => left = rest,
        }
    }
    unreachable!("a number below the sum of the weights falls on one of them")
}

/// `interval` stretched or shrunk by up to `jitter_percent` of it, evenly by `draw`; in whole numbers, which are
/// the same everywhere.
fn stretched(interval: u64, jitter_percent: u32, draw: u64) -> u64 {
    let reach = interval / 100 * u64::from(jitter_percent);
    (interval - reach + scaled(2 * reach + 1, draw)).max(GAP_MIN_NS)
}

/// One of the multiples of `grain` in it, in nanoseconds.
fn between(after: After, grain: u64, draw: u64) -> u64 {
    let (least, most) = (nanoseconds(after.least), nanoseconds(after.most));
    least + scaled((most - least) / grain + 1, draw) * grain
}

/// Evenly below `below`, by `draw`.
fn scaled(below: u64, draw: u64) -> u64 {
    ((u128::from(draw) * u128::from(below)) >> u64::BITS) as u64
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("validation keeps durations within a day")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_reaches_its_bounds_and_not_beyond() {
        let second = 1_000_000_000;
        assert_eq!(stretched(second, 50, 0), second / 2);
        assert_eq!(stretched(second, 50, u64::MAX), second / 2 * 3);
        assert_eq!(stretched(second, 50, u64::MAX / 2), second);
        assert_eq!(stretched(second, 100, 0), GAP_MIN_NS);
        assert_eq!(stretched(second, 0, u64::MAX), second);
    }

    #[test]
    fn what_is_drawn_between_two_times_reaches_both() {
        let after = After { least: Duration::from_millis(2), most: Duration::from_millis(5) };
        let of = |draw| between(after, 1_000_000, draw);
        assert_eq!([of(0), of(u64::MAX / 2), of(u64::MAX)], [2_000_000, 3_000_000, 5_000_000]);
        let fixed = After { least: after.least, most: after.least };
        assert_eq!([0, u64::MAX].map(|draw| between(fixed, 1_000, draw)), [2_000_000; 2]);
    }
}
