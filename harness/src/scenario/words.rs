//! The words of the YAML and what they stand for, each in one table.
//!
//! In: a word. Out: a value, and back. Never: a place in a file.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::links::ENDS;
use super::{
    Clocks, Direction, DiskCall, Disks, Distribution, FaultKind, Healing, Keep, Links, Manner, Need, Ops,
    Pacing, Part, Placement, Stored, Target, UnknownLinks, Whom,
};

/// How one kind of fault is written: `{ at: 5s, WORD: TARGET, HOLD: DURATION }`. A new kind is a new line here.
#[derive(Debug)]
pub struct FaultForm {
    pub kind: FaultKind,
    pub word: &'static str,
    /// None when the fault ends by itself.
    pub hold: Option<HoldForm>,
    /// Those of [`Target::WORDS`] that it goes with; a node by its name always does.
    pub targets: &'static [Target],
    /// None when it is done to nodes.
    pub links: Option<LinksForm>,
    /// With its defaults.
    pub manner: Manner,
}

/// Which links a fault can be done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinksForm {
    Any,
    /// All of a node.
    Of,
    /// Those over which somebody connects: a node never connects to clients.
    Connecting,
    /// From one side to another.
    OneWay,
}

/// The key that says how long a fault lasts.
#[derive(Debug)]
pub struct HoldForm {
    pub key: &'static str,
    pub default: Duration,
    pub least: Duration,
}

/// A killed or stopped node may be started again at once.
const DOWN: HoldForm = HoldForm { key: "down", default: Duration::from_secs(1), least: Duration::ZERO };
const FOR: HoldForm =
    HoldForm { key: "for", default: Duration::from_secs(2), least: Duration::from_millis(1) };

/// Where it does not say how long, it is not undone before the end.
const FOR_GOOD: HoldForm = HoldForm { key: "for", default: Duration::ZERO, least: Duration::ZERO };

const KILLED: &[Target] = &[
    Target::Leader,
    Target::Follower,
    Target::Learner,
    Target::Spare,
    Target::Random,
    Target::Minority,
    Target::Majority,
    Target::All,
    Target::Snapshotting,
];
const PROCESSES: &[Target] = KILLED.split_at(KILLED.len() - 1).0;
const REMOVED: &[Target] = &[Target::Leader, Target::Follower, Target::Learner, Target::Random];

const CUT: Manner = Manner::Cut { heal: Healing::Deliver };
const FLAKY: Manner = Manner::Flaky { flap: Duration::from_millis(200), heal: Healing::Deliver };
const DELAY: Manner =
    Manner::Delay { by: Duration::ZERO, spread_percent: 0, distribution: Distribution::Uniform };
const THROTTLE: Manner = Manner::Throttle { rate_bytes: 0 };
const SLOW_CLOSE: Manner = Manner::SlowClose { by: Duration::ZERO };
const SLOW: Manner = Manner::Slow { stopped: Duration::from_millis(10), running: Duration::from_millis(10) };
const CRASH_LOOP: Manner = Manner::CrashLoop { up: Duration::from_millis(50) };
const FAIL: Manner = Manner::Fail { call: DiskCall::Sync, nth: 1 };
const JUMP_CLOCK: Manner =
    Manner::JumpClock { clock: Clocks::Wall, by: Duration::ZERO, direction: Direction::Forward };
const DRIFT_CLOCK: Manner = Manner::DriftClock { clock: Clocks::Monotonic, rate_percent: 0 };
const DESCRIPTORS: Manner = Manner::Descriptors { most: 0 };
const MEMORY: Manner = Manner::Memory { most_bytes: 0 };
const CPU: Manner = Manner::Cpu { most_percent: 0 };
const WITHHOLD: Manner = Manner::Withhold { ops: Ops::All };
const AT_REST: Manner = Manner::AtRest { file: Stored::Log, place: Part::Middle };

pub const FAULT_FORMS: &[FaultForm] = &[
    FaultForm::of_nodes(FaultKind::Kill, "kill", Some(DOWN), KILLED),
    FaultForm::of_nodes(FaultKind::Pause, "pause", Some(FOR), PROCESSES),
    FaultForm::of_nodes(FaultKind::Restart, "restart", None, PROCESSES),
    FaultForm::of_nodes(FaultKind::Stop, "stop", Some(DOWN), PROCESSES),
    FaultForm::of_nodes(FaultKind::Add, "add", Some(FOR), &[Target::Spare, Target::Learner]),
    FaultForm::of_nodes(FaultKind::Learn, "learn", Some(FOR), &[Target::Spare]),
    FaultForm::of_nodes(FaultKind::Remove, "remove", Some(FOR), REMOVED),
    FaultForm::of_nodes(FaultKind::Replace, "replace", None, &[Target::Leader, Target::Follower]),
    FaultForm::of_nodes(FaultKind::Transfer, "transfer", None, &[Target::Follower]),
    FaultForm::of_nodes(FaultKind::Compact, "compact", None, PROCESSES),
    FaultForm::of_links(FaultKind::Cut, "cut", Some(FOR), LinksForm::Any, CUT),
    FaultForm::of_links(FaultKind::Isolate, "isolate", Some(FOR), LinksForm::Of, CUT),
    FaultForm::of_links(FaultKind::Flaky, "flaky", Some(FOR), LinksForm::Any, FLAKY),
    FaultForm::of_links(FaultKind::Delay, "delay", Some(FOR), LinksForm::Any, DELAY),
    FaultForm::of_links(FaultKind::Throttle, "throttle", Some(FOR), LinksForm::Any, THROTTLE),
    FaultForm::of_links(FaultKind::SlowClose, "slow-close", Some(FOR), LinksForm::Any, SLOW_CLOSE),
    FaultForm::of_links(FaultKind::Reset, "reset", None, LinksForm::Connecting, Manner::Plain),
    FaultForm::of_links(FaultKind::Refuse, "refuse", Some(FOR), LinksForm::Connecting, Manner::Plain),
    FaultForm::of_links(FaultKind::HalfOpen, "half-open", Some(FOR), LinksForm::OneWay, Manner::Plain),
    FaultForm::of_nodes(FaultKind::Slow, "slow", Some(FOR), PROCESSES).done(SLOW),
    FaultForm::of_nodes(FaultKind::CrashLoop, "crash-loop", Some(FOR), PROCESSES).done(CRASH_LOOP),
    FaultForm::of_nodes(FaultKind::Roll, "roll", None, PROCESSES),
    FaultForm::of_nodes(FaultKind::Upgrade, "upgrade", None, PROCESSES),
    FaultForm::of_nodes(FaultKind::Withhold, "withhold", Some(FOR), PROCESSES).done(WITHHOLD),
    FaultForm::of_nodes(FaultKind::PowerLoss, "power-loss", Some(DOWN), KILLED),
    FaultForm::of_nodes(FaultKind::Eio, "eio", Some(DOWN), PROCESSES).done(FAIL),
    FaultForm::of_nodes(FaultKind::SlowDisk, "slow-disk", Some(FOR), PROCESSES).done(DELAY),
    FaultForm::of_nodes(FaultKind::HungDisk, "hung-disk", Some(FOR), PROCESSES),
    FaultForm::of_nodes(FaultKind::FullDisk, "full-disk", Some(FOR), PROCESSES),
    FaultForm::of_nodes(FaultKind::BitFlip, "bit-flip", Some(DOWN), PROCESSES).done(AT_REST),
    FaultForm::of_nodes(FaultKind::Truncate, "truncate", Some(DOWN), PROCESSES).done(AT_REST),
    FaultForm::of_nodes(FaultKind::SwapBlocks, "swap-blocks", Some(DOWN), PROCESSES).done(AT_REST),
    FaultForm::of_nodes(FaultKind::JumpClock, "jump-clock", Some(FOR_GOOD), PROCESSES).done(JUMP_CLOCK),
    FaultForm::of_nodes(FaultKind::DriftClock, "drift-clock", Some(FOR), PROCESSES).done(DRIFT_CLOCK),
    FaultForm::of_nodes(FaultKind::Descriptors, "descriptors", Some(FOR), PROCESSES).done(DESCRIPTORS),
    FaultForm::of_nodes(FaultKind::Memory, "memory", Some(FOR), PROCESSES).done(MEMORY),
    FaultForm::of_nodes(FaultKind::Cpu, "cpu", Some(FOR), PROCESSES).done(CPU),
];

impl FaultForm {
    const fn of_nodes(
        kind: FaultKind,
        word: &'static str,
        hold: Option<HoldForm>,
        targets: &'static [Target],
    ) -> FaultForm {
        FaultForm { kind, word, hold, targets, links: None, manner: Manner::Plain }
    }

    const fn of_links(
        kind: FaultKind,
        word: &'static str,
        hold: Option<HoldForm>,
        links: LinksForm,
        manner: Manner,
    ) -> FaultForm {
        FaultForm { kind, word, hold, targets: ENDS, links: Some(links), manner }
    }

    /// Whether a fault of this kind that is to last no time lasts to the end.
    pub fn lasts_for_good(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.default.is_zero())
    }

    const fn done(self, manner: Manner) -> FaultForm {
        FaultForm { manner, ..self }
    }

    /// Whether it breaks nothing and nobody undoes it: an operator asks for it, and the answer may stay out.
    pub fn is_request(&self) -> bool {
        matches!(self.kind, FaultKind::Transfer | FaultKind::Compact)
    }

    /// Whether there must be nodes that are no members.
    pub fn needs_spare(&self) -> bool {
        matches!(self.kind, FaultKind::Add | FaultKind::Learn | FaultKind::Replace)
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whom::Nodes(target) => target.fmt(f),
            Whom::Links(links) => links.fmt(f),
        }
    }
}

impl Whom {
    /// The nodes that it names.
    pub fn targets(self) -> impl Iterator<Item = Target> {
        let (nodes, links) = match self {
            Whom::Nodes(target) => (Some(target), None),
            Whom::Links(links) => (None, Some(links)),
        };
        nodes.into_iter().chain(links.into_iter().flat_map(Links::targets))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownWhom {
    #[error(transparent)]
    Nodes(#[from] UnknownTarget),
    #[error(transparent)]
    Links(#[from] UnknownLinks),
}

impl FaultKind {
    /// What a fault of this kind is done to, by its word.
    pub fn whom(self, word: &str) -> Result<Whom, UnknownWhom> {
        Ok(match self.form().links {
            None => Whom::Nodes(word.parse()?),
            Some(_) => Whom::Links(word.parse::<Links>()?),
        })
    }

    /// That `word` says nothing that a fault of this kind could be done to.
    pub(super) fn unknown(self, word: &str) -> UnknownWhom {
        match self.form().links {
            None => UnknownTarget(word.to_owned()).into(),
            Some(_) => UnknownLinks(word.to_owned()).into(),
        }
    }

    /// Whether it is done to disks, which must be [`Disks::Simulated`] then.
    pub fn is_of_disks(self) -> bool {
        self.needs() == Some(Need::Fuse)
    }

    pub fn form(self) -> &'static FaultForm {
        FAULT_FORMS.iter().find(|form| form.kind == self).expect("FAULT_FORMS has a line for every kind")
    }
}

/// A type whose values are one word each in YAML.
pub(super) trait Words: Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];

    /// The value that `n1`, `n2`, ... stands for, in a type that has such.
    fn numbered(_number: u32) -> Option<Self> {
        None
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
    }

    /// None for the values that `WORDS` does not list: numbered nodes.
    fn to_word(self) -> Option<&'static str> {
        Self::WORDS.iter().find(|(_, value)| *value == self).map(|(word, _)| *word)
    }
}

impl Words for Keep {
    const WORDS: &'static [(&'static str, Self)] = &[("nothing", Keep::Nothing), ("quorum", Keep::Quorum)];
}

impl Words for Disks {
    const WORDS: &'static [(&'static str, Self)] =
        &[("plain", Disks::Plain), ("simulated", Disks::Simulated)];
}

impl Words for Pacing {
    const WORDS: &'static [(&'static str, Self)] = &[("open", Pacing::Open), ("closed", Pacing::Closed)];
}

/// Beside these: `n1`, `n2`, ...
impl Words for Placement {
    const WORDS: &'static [(&'static str, Self)] =
        &[("roam", Placement::Roam), ("leader", Placement::Leader), ("pinned", Placement::Pinned)];

    fn numbered(number: u32) -> Option<Placement> {
        Some(Placement::Node(number))
    }
}

/// Beside these: `n1`, `n2`, ...; in a rule that waits for a fact `it`; in a script the names of its moves.
impl Words for Target {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("leader", Target::Leader),
        ("follower", Target::Follower),
        ("learner", Target::Learner),
        ("spare", Target::Spare),
        ("random", Target::Random),
        ("minority", Target::Minority),
        ("majority", Target::Majority),
        ("snapshotting", Target::Snapshotting),
        ("all", Target::All),
    ];

    fn numbered(number: u32) -> Option<Target> {
        Some(Target::Node(number))
    }
}

fn listed_word<T: Words + fmt::Debug>(value: T) -> &'static str {
    value.to_word().unwrap_or_else(|| panic!("WORDS has no line for {value:?}"))
}

/// 2 of `n2`.
pub(super) fn node_number(word: &str) -> Option<u32> {
    let digits = word.strip_prefix('n')?;
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| canonical)
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.form().word)
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(listed_word(*self))
    }
}

impl fmt::Display for Disks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(listed_word(*self))
    }
}

impl fmt::Display for Pacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(listed_word(*self))
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Placement::Node(number) => f.pad(&format!("n{number}")),
            other => f.pad(listed_word(*other)),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Node(number) => f.pad(&format!("n{number}")),
            Target::It => f.pad("it"),
            Target::Named(name) => name.fmt(f),
            other => f.pad(listed_word(*other)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a target: expected leader, follower, learner, spare, random, minority, majority, snapshotting, \
     all, or a node such as n2"
)]
pub struct UnknownTarget(pub String);

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(word: &str) -> Result<Target, UnknownTarget> {
        let it = || (word == "it").then_some(Target::It);
        Target::from_word(word)
            .or_else(|| node_number(word).map(Target::Node))
            .or_else(it)
            .or_else(|| word.parse().ok().map(Target::Named))
            .ok_or_else(|| UnknownTarget(word.to_owned()))
    }
}

impl Target {
    /// Whether it is one of the words: the others say themselves which nodes they are.
    pub(super) fn is_listed(self) -> bool {
        self.to_word().is_some()
    }

    /// How many nodes of a cluster of `voters` and `spares` it can take at the most, as long as nobody changes the
    /// members; 0 when there are none such, and 1 of those of which nothing can be said beforehand.
    pub fn size(self, voters: u32, spares: u32) -> u32 {
        match self {
            Target::Leader | Target::Random | Target::Snapshotting => voters.min(1),
            Target::Follower => voters.saturating_sub(1).min(1),
            Target::Learner | Target::Spare => spares.min(1),
            Target::Minority => voters.saturating_sub(1) / 2,
            Target::Majority => voters.div_ceil(2),
            Target::All => voters + spares,
            Target::It | Target::Named(_) => 1,
            Target::Node(number) => u32::from((1..=voters + spares).contains(&number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_called_the_same_in_scenarios_and_plans() {
        for form in FAULT_FORMS {
            assert_eq!(serde_json::to_value(form.kind).unwrap(), form.word);
            assert_eq!(form.kind.to_string(), form.word);
        }
    }

    #[test]
    fn every_word_is_read_as_what_it_was_written_from() {
        for (word, target) in Target::WORDS {
            assert_eq!(word.parse(), Ok(*target));
            assert_eq!(target.to_string(), *word);
        }
        assert_eq!("n12".parse(), Ok(Target::Node(12)));
        assert_eq!(Target::Node(12).to_string(), "n12");
        assert_eq!(Placement::Node(2).to_string(), "n2");
        let named = Target::Named("old".parse().unwrap());
        for (word, target) in [("it", Target::It), ("old", named)] {
            assert_eq!(word.parse(), Ok(target));
            assert_eq!(target.to_string(), word);
        }
        for wrong in ["", "n", "n0", "n01", "n+1", "N1", "n99999999999", "leader "] {
            assert_eq!(wrong.parse::<Target>(), Err(UnknownTarget(wrong.into())));
        }
    }

    #[test]
    fn a_minority_leaves_a_quorum_and_a_majority_leaves_none() {
        for nodes in 1..=15 {
            let quorum = nodes / 2 + 1;
            assert!(nodes - Target::Minority.size(nodes, 0) >= quorum);
            assert!(nodes - Target::Majority.size(nodes, 0) < quorum);
            assert!(
                nodes - (Target::Majority.size(nodes, 0) - 1) >= quorum,
                "one fewer would leave a quorum"
            );
        }
    }
}
