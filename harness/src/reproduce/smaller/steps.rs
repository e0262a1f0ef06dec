//! Fewer faults: the complements of ddmin (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input",
//! 2002). Its subsets are left out, for a failed try is not one run but several; what is left is 1-minimal without.
//!
//! In: a scenario and a size. Out: the scenario without each run of so many faults. Never: another order of faults.

use std::time::Duration;

use super::Smaller;
use super::pinned::{begin, fit, last_end, rules, rules_mut, set_begin};
use crate::scenario::{After, Faults, Move, Rule, Scenario, Script};

/// Where the room in the end would fall below this, it is left as it is.
const DURATION_MIN: Duration = Duration::from_secs(1);

/// `closing`: what follows takes the place, in time, of what is left out.
pub fn without(scenario: &Scenario, chunk: usize, closing: bool) -> Vec<Smaller> {
    let faults = rules(scenario);
    let starts = (0..faults.len()).step_by(chunk.max(1));
    let ranges = starts.map(|start| start..(start + chunk.max(1)).min(faults.len()));
    let all = ranges.map(|range| {
        let how = match (range.len(), faults.len()) {
            (left_out, all) if left_out == all => "without faults".to_owned(),
            (1, _) => format!("without {}", faults[range.start]),
            _ => format!("without faults {} to {}", range.start + 1, range.end),
        };
        let place = range.start;
        let kept: Vec<Rule> = [&faults[..range.start], &faults[range.end..]].concat();
        let mut less = Scenario { faults: Faults::Rules(kept), ..scenario.clone() };
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
    if let Some(next) = rules(before).get(to) {
        let earlier = begin(next) - begin(&rules(before)[from]);
        for rule in &mut rules_mut(less)[from..] {
            set_begin(rule, begin(rule) - earlier);
        }
    }
    let room = before.duration.saturating_sub(last_end(before));
    less.duration = (last_end(less) + room).max(DURATION_MIN).min(before.duration);
}

/// Scripts with fewer rounds, and rounds with fewer moves and waits.
pub fn scripts(scenario: &Scenario) -> Vec<Smaller> {
    let mut all = Vec::new();
    let mut push = |at: usize, rounds: Vec<Vec<Move>>, how: String| {
        let mut less = scenario.clone();
        if let Rule::Script(script) = &mut rules_mut(&mut less)[at] {
            script.rounds = rounds;
        }
        let place = all.len();
        all.push(Smaller { scenario: less, how, place });
    };
    for (at, rule) in rules(scenario).iter().enumerate() {
        let Rule::Script(Script { rounds, .. }) = rule else { continue };
        let half = rounds.len().div_ceil(2);
        if rounds.len() > 1 {
            push(at, rounds[..half].to_vec(), format!("the first {half} rounds of script {}", at + 1));
            push(
                at,
                rounds[half..].to_vec(),
                format!("the last {} rounds of script {}", rounds.len() - half, at + 1),
            );
            for round in 0..rounds.len() {
                let kept = [&rounds[..round], &rounds[round + 1..]].concat();
                push(at, kept, format!("without round {} of script {}", round + 1, at + 1));
            }
        }
        for (number, moves) in rounds.iter().enumerate() {
            let place =
                |which: usize| format!("move {} of round {} of script {}", which + 1, number + 1, at + 1);
            let changed = |moves: Vec<Move>| {
                let mut rounds = rounds.clone();
                rounds[number] = moves;
                rounds
            };
            for which in (0..moves.len()).filter(|_| moves.len() > 1) {
                let kept = [&moves[..which], &moves[which + 1..]].concat();
                push(at, changed(kept), format!("without {}", place(which)));
            }
            for which in (0..moves.len()).filter(|which| moves[*which].after != After::NOTHING) {
                let mut sooner = moves.clone();
                sooner[which].after = After::NOTHING;
                push(at, changed(sooner), format!("without the wait before {}", place(which)));
            }
        }
    }
    all
}
