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
