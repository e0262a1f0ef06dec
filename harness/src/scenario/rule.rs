//! What stands under `faults:`: lines, and what they are made of.
//!
//! In: nothing. Out: [`Faults`], plain values; `write` says them as YAML. Never: a strike; a plan has those.

use std::time::Duration;

use super::{By, Fact, FaultKind, Heal, Manner, Name, Whom};

#[derive(Debug, Clone, PartialEq)]
pub enum Faults {
    Rules(Vec<Rule>),
    /// Each seed draws rules of its own, from all that there are.
    Swarm,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// At a time, or again and again.
    Strike { schedule: Schedule, choice: Choice },
    /// When a fact comes.
    Trigger(Trigger),
    /// Lines that go on for a while, and then others.
    Phases(Phases),
    /// Moves in an order.
    Script(Script),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Once, this long after the start of the load, or of the phase.
    At(Duration),
    /// Again and again, first after one interval, each stretched or shrunk by up to `jitter_percent` of it.
    Every { interval: Duration, jitter_percent: u32 },
    /// Again and again, each time and the first time after as much as is drawn between these; `every: 2s to 5s`.
    Between { least: Duration, most: Duration },
}

/// What a line does each time.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    One(Fault),
    /// One of these, drawn.
    Any(Vec<Weighted>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Weighted {
    /// Only the ratio counts.
    pub weight: u32,
    pub fault: Fault,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub kind: FaultKind,
    pub target: Whom,
    pub manner: Manner,
    /// From doing to undoing, `for:` or `down:`; zero for what ends by itself. None: until it is healed.
    pub hold: Option<Duration>,
    /// Decides among the nodes that fit the target, in the place of the seed.
    pub draw: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// The fact is watched for from then on.
    pub at: Duration,
    pub on: On,
    /// This long after the fact.
    pub after: After,
    /// One after the other.
    pub times: u32,
    pub choice: Choice,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct On {
    pub fact: Fact,
    pub by: Option<By>,
    /// None: for as long as the load goes on, or the phase.
    pub within: Option<Duration>,
}

/// As much as is drawn between these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct After {
    pub least: Duration,
    pub most: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Phases {
    /// When the first one begins.
    pub at: Duration,
    /// So many times all of them, one after the other.
    pub times: u32,
    pub phases: Vec<Phase>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// `for:` in YAML.
    pub length: Duration,
    /// With times that count from the begin of the phase.
    pub parallel: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    pub at: Duration,
    /// So many times all the rounds.
    pub times: u32,
    /// One is written as `steps`. What is held at the end of a round is healed, and its names are forgotten.
    pub rounds: Vec<Vec<Move>>,
}

/// Done when the one before is.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// Of the nodes that its fault comes to, or of the one that its fact is about.
    pub name: Option<Name>,
    pub on: Option<On>,
    /// This long after the fact, or after the move before.
    pub after: After,
    pub deed: Deed,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    Strike(Fault),
    Heal(Heal),
    /// Only waits.
    Wait,
}

impl Faults {
    pub fn is_empty(&self) -> bool {
        matches!(self, Faults::Rules(rules) if rules.is_empty())
    }
}

impl Choice {
    /// Whatever it may do.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        let (one, any) = match self {
            Choice::One(fault) => (Some(fault), &[][..]),
            Choice::Any(any) => (None, &any[..]),
        };
        one.into_iter().chain(any.iter().map(|weighted| &weighted.fault))
    }
}

impl Rule {
    /// Whatever it may do.
    pub fn faults(&self) -> Vec<&Fault> {
        match self {
            Rule::Strike { choice, .. } | Rule::Trigger(Trigger { choice, .. }) => choice.faults().collect(),
            Rule::Phases(Phases { phases, .. }) => {
                phases.iter().flat_map(|phase| &phase.parallel).flat_map(Rule::faults).collect()
            }
            Rule::Script(Script { rounds, .. }) => {
                let moves = rounds.iter().flatten();
                let faults = moves.filter_map(|step| match &step.deed {
                    Deed::Strike(fault) => Some(fault),
                    Deed::Heal(_) | Deed::Wait => None,
                });
                faults.collect()
            }
        }
    }
}

impl After {
    pub const NOTHING: After = After { least: Duration::ZERO, most: Duration::ZERO };

    pub fn is_drawn(self) -> bool {
        self.least != self.most
    }
}

impl Phases {
    /// All of them, all times.
    pub fn length(&self) -> Duration {
        self.phases.iter().map(|phase| phase.length).sum::<Duration>() * self.times
    }
}
