//! How a fault is done, beside where and for how long: the keys that only some kinds have.
//!
//! In: nothing. Out: [`Manner`], and its terms one by one, for whoever reads, writes or documents them. Never: a
//! knowledge of YAML.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use humantime::format_duration;
use serde::{Deserialize, Serialize};

use super::leaf::Leaf;
use super::problem::Problem;
use super::words::Words;

/// A delay that is longer, or varies by more of it, is a mistake of units.
pub(super) const BY_MAX: Duration = Duration::from_secs(60);
pub(super) const SPREAD_MAX: u32 = 90;
pub(super) const RATE_MAX: u64 = 1 << 30;
/// A node makes some hundred calls a second.
const NTH_MAX: u32 = 10_000;
/// Kills of one node in one crash loop: each leaves a start to be remembered, and a file of evidence.
pub const CRASHES_MAX: u32 = 1_000;
/// Of a clock.
const JUMP_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const DRIFT_MAX: u32 = 10_000;
const DESCRIPTORS_MAX: u32 = 100_000;
const MEMORY_MAX: u64 = 1 << 40;
/// So many as a hundred CPUs.
const CPU_MAX: u32 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Manner {
    /// There is only one way to do it.
    #[default]
    Plain,
    Cut {
        heal: Healing,
    },
    /// Each link by itself is cut and healed again and again, each time after half to one and a half of `flap`.
    Flaky {
        #[serde(rename = "flap_ns", with = "nanoseconds")]
        flap: Duration,
        heal: Healing,
    },
    /// Bytes come later by this in the middle, never overtaking each other.
    Delay {
        #[serde(rename = "by_ns", with = "nanoseconds")]
        by: Duration,
        /// Of `by`.
        spread_percent: u32,
        distribution: Distribution,
    },
    /// A second, each way of each link.
    Throttle {
        rate_bytes: u64,
    },
    /// That a connection has ended is told this much later.
    SlowClose {
        #[serde(rename = "by_ns", with = "nanoseconds")]
        by: Duration,
    },
    /// Stopped and running in turn.
    Slow {
        #[serde(rename = "stopped_ns", with = "nanoseconds")]
        stopped: Duration,
        #[serde(rename = "running_ns", with = "nanoseconds")]
        running: Duration,
    },
    /// From each start to the next kill, half to one and a half of it.
    CrashLoop {
        #[serde(rename = "up_ns", with = "nanoseconds")]
        up: Duration,
    },
    Withhold {
        ops: Ops,
    },
    /// Done to what a node that is down has on its disk.
    AtRest {
        file: Stored,
        place: Part,
    },
    /// The nth call of this kind from now on fails.
    Fail {
        call: DiskCall,
        nth: u32,
    },
    JumpClock {
        clock: Clocks,
        #[serde(rename = "by_ns", with = "nanoseconds")]
        by: Duration,
        direction: Direction,
    },
    DriftClock {
        clock: Clocks,
        /// Of the true rate.
        rate_percent: u32,
    },
    Descriptors {
        /// Beyond those that it has open.
        most: u32,
    },
    Memory {
        most_bytes: u64,
    },
    Cpu {
        /// Of one.
        most_percent: u32,
    },
}

/// Which clocks of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clocks {
    /// What time it is.
    Wall,
    /// How much time passes.
    Monotonic,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    Forward,
    Back,
}

/// What becomes of the bytes that a cut held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Healing {
    /// They come late.
    Deliver,
    /// They are lost, with the connections that they were on.
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// Evenly, up to `spread` more or less.
    Uniform,
    /// With `spread` as its standard deviation.
    Normal,
    /// At least `by` less `spread`, and seldom far more: a heavy tail.
    Pareto,
}

/// Operations of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ops {
    /// Those that change nothing.
    Reads,
    /// Those that may change something, though they may read first.
    Writes,
    All,
}

/// What a node keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stored {
    Log,
    /// Term, vote and commit index, as they were written last.
    HardState,
    /// The newest.
    Snapshot,
}

/// Of what a node keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    Header,
    Middle,
    Tail,
}

/// What a node asks of its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskCall {
    Read,
    Write,
    /// fsync(2) and fdatasync(2).
    Sync,
}

/// One key of a manner, with its value.
pub(super) enum Term<'m> {
    Time {
        key: &'static str,
        value: &'m mut Duration,
        most: Duration,
    },
    Percent {
        key: &'static str,
        value: &'m mut u32,
        most: u32,
    },
    Size {
        key: &'static str,
        value: &'m mut u64,
        most: u64,
    },
    Count {
        key: &'static str,
        value: &'m mut u32,
        range: RangeInclusive<u32>,
    },
    /// Percent, which must be given.
    Rate {
        key: &'static str,
        value: &'m mut u32,
        range: RangeInclusive<u32>,
    },
    Word {
        key: &'static str,
        value: &'m mut dyn Worded,
    },
}

/// A value that is one of several words, whichever type they are of.
pub(super) trait Worded {
    fn word(&self) -> &'static str;
    fn words(&self) -> Vec<&'static str>;
    fn read(&mut self, leaf: &Leaf<'_>) -> Result<(), Box<Problem>>;
    /// Panics when there is none of this number, which counts from 0.
    fn set(&mut self, number: usize);
}

impl<T: Words> Worded for T {
    fn word(&self) -> &'static str {
        self.to_word().unwrap_or_default()
    }

    fn words(&self) -> Vec<&'static str> {
        T::WORDS.iter().map(|(word, _)| *word).collect()
    }

    fn read(&mut self, leaf: &Leaf<'_>) -> Result<(), Box<Problem>> {
        *self = leaf.one_of(leaf.key, None)?;
        Ok(())
    }

    fn set(&mut self, number: usize) {
        *self = T::WORDS[number].1;
    }
}

impl Manner {
    /// In the order in which they are written. A time or a size of 0 has no default: it must be given.
    pub(super) fn terms(&mut self) -> Vec<Term<'_>> {
        match self {
            Manner::Plain => Vec::new(),
            Manner::Cut { heal } => vec![Term::Word { key: "heal", value: heal }],
            Manner::Flaky { flap, heal } => vec![
                Term::Time { key: "flap", value: flap, most: BY_MAX },
                Term::Word { key: "heal", value: heal },
            ],
            Manner::Delay { by, spread_percent, distribution } => vec![
                Term::Time { key: "by", value: by, most: BY_MAX },
                Term::Percent { key: "spread", value: spread_percent, most: SPREAD_MAX },
                Term::Word { key: "distribution", value: distribution },
            ],
            Manner::Throttle { rate_bytes } => {
                vec![Term::Size { key: "rate", value: rate_bytes, most: RATE_MAX }]
            }
            Manner::SlowClose { by } => vec![Term::Time { key: "by", value: by, most: BY_MAX }],
            Manner::Slow { stopped, running } => vec![
                Term::Time { key: "stopped", value: stopped, most: BY_MAX },
                Term::Time { key: "running", value: running, most: BY_MAX },
            ],
            Manner::CrashLoop { up } => vec![Term::Time { key: "up", value: up, most: BY_MAX }],
            Manner::Withhold { ops } => vec![Term::Word { key: "ops", value: ops }],
            Manner::AtRest { file, place } => {
                vec![Term::Word { key: "file", value: file }, Term::Word { key: "place", value: place }]
            }
            Manner::Fail { call, nth } => vec![
                Term::Word { key: "call", value: call },
                Term::Count { key: "nth", value: nth, range: 1..=NTH_MAX },
            ],
            Manner::JumpClock { clock, by, direction } => vec![
                Term::Word { key: "clock", value: clock },
                Term::Time { key: "by", value: by, most: JUMP_MAX },
                Term::Word { key: "direction", value: direction },
            ],
            Manner::DriftClock { clock, rate_percent } => vec![
                Term::Word { key: "clock", value: clock },
                Term::Rate { key: "rate", value: rate_percent, range: 1..=DRIFT_MAX },
            ],
            Manner::Descriptors { most } => {
                vec![Term::Count { key: "most", value: most, range: 0..=DESCRIPTORS_MAX }]
            }
            Manner::Memory { most_bytes } => {
                vec![Term::Size { key: "most", value: most_bytes, most: MEMORY_MAX }]
            }
            Manner::Cpu { most_percent } => {
                vec![Term::Rate { key: "most", value: most_percent, range: 1..=CPU_MAX }]
            }
        }
    }

    /// What is wrong with terms that are right each by itself: the key, what it is, and what would be right.
    pub(super) fn contradiction(&self) -> Option<(&'static str, String, &'static str)> {
        match *self {
            Manner::JumpClock {
                clock: clock @ (Clocks::Monotonic | Clocks::Both),
                direction: Direction::Back,
                ..
            } => {
                let clock = clock.to_word().unwrap_or_default();
                let title = format!("`direction: back` does not go with `clock: {clock}`");
                Some((
                    "direction",
                    title,
                    "a monotonic clock never goes back: expected `clock: wall`, or `drift-clock` with a `rate` below 100%",
                ))
            }
            Manner::DriftClock { rate_percent: 100, .. } => {
                let title = "`rate: 100%` is the rate of every clock".to_owned();
                Some(("rate", title, "expected less, or more"))
            }
            _ => None,
        }
    }

    pub fn is_plain(&self) -> bool {
        *self == Manner::Plain
    }
}

impl Term<'_> {
    pub fn key(&self) -> &'static str {
        match self {
            Term::Time { key, .. }
            | Term::Percent { key, .. }
            | Term::Size { key, .. }
            | Term::Count { key, .. }
            | Term::Rate { key, .. }
            | Term::Word { key, .. } => key,
        }
    }
}

/// The value, as YAML has it.
impl fmt::Display for Term<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Term::Time { value, .. } => write!(f, "{}", format_duration(**value)),
            Term::Percent { value, .. } => write!(f, "{value}%"),
            Term::Size { value, .. } => {
                let unit = SIZES.iter().rev().find(|(_, bytes)| value.is_multiple_of(*bytes));
                let (unit, bytes) = unit.copied().unwrap_or(SIZES[0]);
                write!(f, "{}{unit}", **value / bytes)
            }
            Term::Rate { value, .. } => write!(f, "{value}%"),
            Term::Count { value, .. } => write!(f, "{value}"),
            Term::Word { value, .. } => f.write_str(value.word()),
        }
    }
}

/// Units of a size, rising.
pub(super) const SIZES: [(&str, u64); 3] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20)];

impl Words for Healing {
    const WORDS: &'static [(&'static str, Self)] =
        &[("deliver", Healing::Deliver), ("reset", Healing::Reset)];
}

impl Words for Ops {
    const WORDS: &'static [(&'static str, Self)] =
        &[("reads", Ops::Reads), ("writes", Ops::Writes), ("all", Ops::All)];
}

impl Words for Stored {
    const WORDS: &'static [(&'static str, Self)] =
        &[("log", Stored::Log), ("hard-state", Stored::HardState), ("snapshot", Stored::Snapshot)];
}

impl Words for Part {
    const WORDS: &'static [(&'static str, Self)] =
        &[("header", Part::Header), ("middle", Part::Middle), ("tail", Part::Tail)];
}

impl Words for DiskCall {
    const WORDS: &'static [(&'static str, Self)] =
        &[("read", DiskCall::Read), ("write", DiskCall::Write), ("sync", DiskCall::Sync)];
}

impl Words for Clocks {
    const WORDS: &'static [(&'static str, Self)] =
        &[("wall", Clocks::Wall), ("monotonic", Clocks::Monotonic), ("both", Clocks::Both)];
}

impl Words for Direction {
    const WORDS: &'static [(&'static str, Self)] =
        &[("forward", Direction::Forward), ("back", Direction::Back)];
}

impl Words for Distribution {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("uniform", Distribution::Uniform),
        ("normal", Distribution::Normal),
        ("pareto", Distribution::Pareto),
    ];
}

mod nanoseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_nanos)
    }
}
