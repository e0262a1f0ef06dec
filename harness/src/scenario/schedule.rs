//! Reads when something is done: at a time, again and again, or when a fact comes.
//!
//! In: the [`Fields`] of a line or a move. Out: [`Schedule`], [`On`] and [`After`]. Never: a strike that cannot come
//! before the end, or one that comes too often.

use std::ops::Range;
use std::time::Duration;

use super::fields::{Fields, Found, Located};
use super::leaf::{Grain, Leaf};
use super::problem::{Problem, did_you_mean};
use super::rules::{Bounds, Scope, Size};
use super::tree::Node;
use super::words::{Words, node_number};
use super::{After, By, Fact, On, Schedule};

/// When a line strikes.
pub(super) const SCHEDULE_KEYS: &[&str] = &["at", "every", "jitter"];
/// What it waits for.
pub(super) const WAIT_KEYS: &[&str] = &["on", "by", "within", "after"];

/// A rule that strikes more often than this on average is a mistake of units.
pub(super) const STRIKES_MEAN_MAX: u32 = 1_000;

/// Whom a fact can be about.
const BY_EXPECTED: &str =
    "a node such as `n1`; in a script the name of an earlier move, or `other` than those";

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);

pub(super) fn read(fields: &mut Fields, node: &Node, text: &str, bounds: &Bounds) -> Option<Schedule> {
    let at = fields.node("at").map(|(key, _)| key.span.clone());
    let every = fields.node("every").map(|(key, _)| key.span.clone());
    let jitter = fields.node("jitter").map(|(key, _)| key.span.clone());
    match (at, every) {
        (Some(at), Some(every)) => {
            fields.problem(
                Problem::at(every, "a fault with both `at` and `every`")
                    .label("expected one of them: write a second line for the other")
                    .also(Some(at), "the other"),
            );
            None
        }
        (None, None) => {
            if !fields.has_unknown {
                fields.problem(Problem::at(node.first_line(text), "a fault that never strikes").label(
                    "expected `at: 5s`, once, `every: 3s`, again and again, or `on: elected`, when that comes",
                ));
            }
            None
        }
        (Some(_), None) => {
            if let Some(jitter) = jitter {
                let problem = Problem::at(jitter, "`jitter` does not go with `at`");
                fields.problem(problem.label("expected `every`, whose interval it stretches or shrinks"));
            }
            let Found::Here(at) = fields.read("at", |leaf| leaf.duration(Duration::ZERO)) else {
                return None;
            };
            bounds.check_strikes_in_time(fields, at.span, at.value, "the fault strikes");
            Some(Schedule::At(at.value))
        }
        (None, Some(_)) => again(fields, jitter, bounds),
    }
}

fn again(fields: &mut Fields, jitter: Option<Range<usize>>, bounds: &Bounds) -> Option<Schedule> {
    let every = fields.read("every", |leaf| leaf.span(MILLISECOND, Grain::Millisecond));
    let percent = fields.read("jitter", |leaf| leaf.percent(100)).or(0);
    let (Found::Here(every), Some(percent)) = (every, percent) else { return None };
    let schedule = match every.value {
        (interval, _, true) => Schedule::Every { interval, jitter_percent: percent.value },
        (least, most, false) => {
            if let Some(jitter) = jitter {
                let problem = Problem::at(jitter, "`jitter` does not go with an interval that is drawn");
                fields.problem(problem.label("expected one interval, such as `every: 3s`"));
            }
            Schedule::Between { least, most }
        }
    };
    // Later than this the first strike never comes: so every rule strikes at least once, whatever the seed.
    let first = match schedule {
        Schedule::At(at) => at,
        Schedule::Every { interval, jitter_percent } => interval + interval * jitter_percent / 100,
        Schedule::Between { most, .. } => most,
    };
    bounds.check_strikes_in_time(fields, every.span.clone(), first, "the first strike may come");
    if let Some(Located { value: duration, .. }) = bounds.duration.as_ref()
        && schedule.mean_gap() * STRIKES_MEAN_MAX < *duration
    {
        let least_ms = duration.as_millis().div_ceil(u128::from(STRIKES_MEAN_MAX));
        let least = humantime::format_duration(Duration::from_millis(least_ms as u64));
        let title = format!("more than {STRIKES_MEAN_MAX} strikes of one fault");
        let problem = Problem::at(every.span.unwrap_or_default(), title);
        fields.problem(problem.label(format!("expected {least} or more")));
    }
    Some(schedule)
}

/// The fact, if one is waited for, with what it needs; `within` is what it has by default.
pub(super) fn on(fields: &mut Fields, within: Option<Duration>, scope: &Scope) -> Result<Option<On>, ()> {
    let Some((key, _)) = fields.node("on") else {
        let Some((key, _)) = fields.node("within") else { return Ok(None) };
        let problem = Problem::at(key.span.clone(), "`within` goes with `on`");
        fields.problem(problem.label("expected `on: elected`, or another fact that is waited for"));
        return Err(());
    };
    let fact = fields.read("on", |leaf| fact(leaf, scope));
    // Of some faults `by` is how much later they make bytes.
    let by = match scope.by_is_taken {
        true => Found::Absent,
        false => fields.read("by", |leaf| by(leaf, leaf.word(BY_EXPECTED)?, scope)),
    };
    let within = fields.read("within", |leaf| leaf.duration_or_end()).or(within);
    let (Found::Here(fact), Some(within)) = (fact, within) else { return Err(()) };
    let by = match (fact.value.1, by) {
        (_, Found::Wrong) => return Err(()),
        (inline, Found::Absent) => inline,
        (None, Found::Here(by)) => Some(by.value),
        (Some(_), Found::Here(by)) => {
            let problem = Problem::at(by.span.unwrap_or_default(), "a second `by` of one fact");
            let problem = problem.label("expected one of them");
            fields.problem(problem.also(Some(key.span.clone()), "the other is here"));
            return Err(());
        }
    };
    Ok(Some(On { fact: fact.value.0, by, within: within.value }))
}

/// None when it is wrong.
pub(super) fn after(fields: &mut Fields) -> Option<After> {
    let read = fields.read("after", |leaf| {
        leaf.span(Duration::ZERO, Grain::Microsecond).map(|(least, most, _)| After { least, most })
    });
    read.or(After::NOTHING).map(|after| after.value)
}

/// `elected`, or `elected by n2`.
fn fact(leaf: &Leaf, scope: &Scope) -> Result<(Fact, Option<By>), Box<Problem>> {
    let words = || Fact::WORDS.iter().map(|(word, _)| *word).chain(["commit 500", "commit +100"]);
    let expected = super::problem::one_of(words());
    let (word, who) = match leaf.word(&expected)?.split_once(" by ") {
        Some((word, who)) => (word, Some(who)),
        None => (leaf.word(&expected)?, None),
    };
    let fact = word.parse().map_err(|_| {
        if word.starts_with("commit") {
            let problem = leaf.wrong(format!("`{word}` is no index"));
            return problem.label("expected `commit 500`, or `commit +100` for so many more");
        }
        let problem = leaf.wrong(format!("unknown fact `{word}`")).label(format!("expected {expected}"));
        problem.help(did_you_mean(word, words()))
    })?;
    Ok((fact, who.map(|who| by(leaf, who, scope)).transpose()?))
}

fn by(leaf: &Leaf, word: &str, scope: &Scope) -> Result<By, Box<Problem>> {
    if word == "other" && scope.names.is_empty() {
        let problem = leaf.wrong("`other` are those in no name, and there is none so far");
        return Err(problem.label("expected a `name` in an earlier move of the script"));
    }
    if let Some(number) = node_number(word) {
        let all = scope.bounds.size.as_ref().map(Size::all);
        return leaf.in_cluster(number, all.as_ref()).map(By::Node);
    }
    if word == "other" {
        return Ok(By::Other);
    }
    match scope.names.iter().find(|name| name.as_str() == word) {
        Some(name) => Ok(By::Named(*name)),
        None => {
            let problem = leaf.wrong(format!("nobody is `{word}`")).label(format!("expected {BY_EXPECTED}"));
            Err(problem.help(did_you_mean(word, scope.names.iter().map(|name| name.as_str()))))
        }
    }
}

impl Schedule {
    /// Between two strikes, in the mean; of one strike nothing.
    fn mean_gap(self) -> Duration {
        match self {
            Schedule::At(_) => Duration::ZERO,
            Schedule::Every { interval, .. } => interval,
            Schedule::Between { least, most } => (least + most) / 2,
        }
    }

    /// Strikes in so long a time, in the mean.
    pub(super) fn strikes_mean(self, duration: Duration) -> u64 {
        match self {
            Schedule::At(_) => 1,
            _ => (duration.as_nanos() / self.mean_gap().as_nanos().max(1)) as u64,
        }
    }
}

impl Bounds {
    pub(super) fn check_strikes_in_time(
        &self,
        fields: &mut Fields,
        span: Option<Range<usize>>,
        latest: Duration,
        what: &str,
    ) {
        let (Some(Located { value: duration, span: end }), Some(span)) = (&self.duration, span) else {
            return;
        };
        if latest >= *duration {
            let show = humantime::format_duration;
            fields.problem(
                Problem::at(span, format!("{what} at {}, not before the end", show(latest)))
                    .label(format!("expected a time before {}", show(*duration)))
                    .also(end.clone(), self.end),
            );
        }
    }

    /// A fault that the last heal cuts short is not the one that was asked for.
    pub(super) fn check_ends_in_time(
        &self,
        fields: &mut Fields,
        key: &'static str,
        at: Duration,
        hold: Duration,
    ) {
        let Some(Located { value: duration, span: end }) = &self.duration else { return };
        let Some(span) = fields.node(key).map(|(key, _)| key.span.clone()) else { return };
        if at < *duration && at + hold > *duration {
            let show = humantime::format_duration;
            let title = match self.depth {
                0 => format!("the fault lasts until {}, and is undone at the end", show(at + hold)),
                _ => format!("the fault lasts until {}, beyond the phase", show(at + hold)),
            };
            let problem =
                Problem::at(span, title).label(format!("expected it to be over by {}", show(*duration)));
            fields.problem(problem.also(end.clone(), self.end));
        }
    }
}
