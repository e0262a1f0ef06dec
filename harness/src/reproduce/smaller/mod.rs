//! What may be tried in place of a scenario that violates: the same with something left out.
//!
//! In: a scenario whose faults strike at times of their own, and what of it is to become smaller. Out: scenarios, of
//! which some make no sense. Never: one that is larger in anything, or a guess whether it violates.

mod load;
pub mod pinned;
mod steps;
mod times;

use std::time::Duration;

pub use self::pinned::pinned;
use crate::scenario::Scenario;

/// A shorter load has no time to show anything.
const DURATION_MIN: Duration = Duration::from_millis(500);

/// What is made smaller, in the order in which it pays: what saves time makes all later tries cheaper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// All that comes after what is wrong was shown.
    End,
    /// Faults, with their time: those after them strike earlier.
    Steps,
    /// Faults, and those after them strike when they did.
    StepsInPlace,
    /// Rounds of scripts, and their moves.
    Scripts,
    /// How long faults last, and the time between them.
    Times,
    /// Clients, their rate, keys and kinds of operations.
    Load,
    Nodes,
}

pub const PASSES: [Pass; 7] =
    [Pass::End, Pass::Steps, Pass::StepsInPlace, Pass::Scripts, Pass::Times, Pass::Load, Pass::Nodes];

/// One scenario to try.
#[derive(Debug, Clone, PartialEq)]
pub struct Smaller {
    pub scenario: Scenario,
    /// For a person: `without faults 3 to 5`.
    pub how: String,
    /// Where in the scenario it is smaller: after a success, those that follow come first.
    pub place: usize,
}

/// All of one pass, in the order in which they are to be tried. `chunk` is how many faults are left
/// out at a time; `shown` is when the violation was seen first and
/// last in tries of the scenario, if that is known.
pub fn smaller(
    scenario: &Scenario,
    pass: Pass,
    chunk: usize,
    shown: Option<(Duration, Duration)>,
) -> Vec<Smaller> {
    let mut all = match pass {
        Pass::End => times::ends(scenario, shown),
        Pass::Steps => steps::without(scenario, chunk, true),
        Pass::StepsInPlace => steps::without(scenario, chunk, false),
        Pass::Scripts => steps::scripts(scenario),
        Pass::Times => times::shorter(scenario),
        Pass::Load => load::lighter(scenario),
        Pass::Nodes => load::fewer_nodes(scenario),
    };
    let least = scenario.duration.min(DURATION_MIN);
    all.retain(|Smaller { scenario: less, .. }| less.duration >= least && less != scenario);
    all
}

impl Smaller {
    /// By the same rules as what a person writes: no fault at a node that is no more, none that outlasts the scenario.
    pub fn can_be_written(&self) -> bool {
        Scenario::parse("", &self.scenario.to_yaml()).is_ok_and(|read| read == self.scenario)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::scenario::{Plan, Step};

    /// A longer plan takes its time to read and shows no more.
    const STEPS_MAX: usize = 50;
    /// Tried of each pass, about.
    const SOME: usize = 20;

    /// Those of this repository.
    fn scenarios() -> Vec<Scenario> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|file| file.extension().is_some_and(|it| it == "yaml"))
            .map(|it| Scenario::load(it).unwrap())
            .collect()
    }

    #[test]
    fn every_recorded_plan_can_be_written_and_is_the_same_for_every_seed() {
        for scenario in scenarios() {
            for seed in 0..3 {
                let plan = Plan::of(&scenario, seed);
                let pinned = pinned(&scenario, &plan);
                let read = Scenario::parse(&pinned.name, &pinned.to_yaml());
                assert_eq!(read.unwrap_or_else(|error| panic!("{error}")), pinned);
                let [one, other] = [1, 99].map(|seed| Plan::of(&pinned, seed));
                assert_eq!(one, other, "{}", scenario.name);
                // Apart from times, which are written in whole milliseconds: what falls into one may change places.
                let deeds = |plan: &Plan| {
                    let fact = |step: &Step| step.on.map(|on| format!("{} by {:?}", on.fact, on.by));
                    let deed = |step: &Step| (step.act.to_string(), fact(step), step.draw);
                    let mut deeds: Vec<_> = plan.steps.iter().map(deed).collect();
                    deeds.sort();
                    deeds
                };
                let (before, after) = (deeds(&plan), deeds(&one));
                assert_eq!(before, after, "{} with seed {seed}", scenario.name);
            }
        }
    }

    #[test]
    fn nothing_that_is_tried_is_larger_and_most_of_it_can_be_written() {
        let mut passes = BTreeSet::new();
        for scenario in scenarios() {
            let first = pinned(&scenario, &Plan::of(&scenario, 1));
            let steps = Plan::of(&first, 0).steps.len();
            if steps > STEPS_MAX {
                continue;
            }
            let shown = Some((first.duration / 2, first.duration * 2 / 3));
            for pass in PASSES {
                let all = smaller(&first, pass, 2, shown);
                // Of a plan of hundreds of steps there are as many, which are all alike.
                let some: Vec<_> = all.iter().step_by(all.len() / SOME + 1).collect();
                let written: Vec<_> = some.iter().filter(|it| it.can_be_written()).collect();
                // Of a script, what a later move names cannot be left out; of a cluster, who is named.
                let least = if matches!(pass, Pass::Scripts | Pass::Nodes) { 0 } else { some.len() };
                assert!(
                    written.len() >= least,
                    "{}, {pass:?}: {} of {}",
                    scenario.name,
                    written.len(),
                    some.len()
                );
                if !written.is_empty() {
                    passes.insert(format!("{pass:?}"));
                }
                for less in written {
                    let (scenario, how) = (&less.scenario, &less.how);
                    assert!(scenario.duration <= first.duration, "{how}");
                    assert!(Plan::of(scenario, 0).steps.len() <= steps, "{how}");
                    assert!(scenario.workload.rate <= first.workload.rate, "{how}");
                }
            }
        }
        assert_eq!(passes.len(), PASSES.len(), "{passes:?}");
    }
}
