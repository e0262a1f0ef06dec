//! Reads the lines under `faults:`.
//!
//! In: one [`Node`] a line, and what the rest of the file has settled. Out: [`FaultRule`]s. Never: knowledge of
//! a particular kind of fault: [`FAULT_FORMS`] has that. What it is done to is read in [`whom`].

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use super::fields::{Fields, Found, Located};
use super::manner::Term;
use super::problem::{Problem, one_of};
use super::tree::Node;
use super::words::{FAULT_FORMS, FaultForm, HoldForm};
use super::{FaultRule, Manner, Schedule, whom};

/// When a line strikes.
pub const SCHEDULE_KEYS: &[&str] = &["at", "every", "jitter"];

/// A rule that strikes more often than this on average is a mistake of units.
pub(super) const STRIKES_MEAN_MAX: u32 = 1_000;

const MILLISECOND: Duration = Duration::from_millis(1);

/// What a fault must fit; None where the file has that wrong, and nothing can be said about it.
pub(super) struct Bounds {
    pub duration: Option<Located<Duration>>,
    pub size: Option<Size>,
}

/// How many nodes there are.
pub(super) struct Size {
    pub nodes: Located<u32>,
    pub spares: Located<u32>,
}

impl Size {
    /// Voters and spares together.
    pub fn all(&self) -> Located<u32> {
        let span = if self.spares.value > 0 { &self.spares.span } else { &self.nodes.span };
        Located { value: self.nodes.value + self.spares.value, span: span.clone() }
    }
}

/// Every key that a line may have.
pub fn line_keys() -> Vec<&'static str> {
    let mut keys = SCHEDULE_KEYS.to_vec();
    keys.extend(FAULT_FORMS.iter().map(|form| form.word));
    keys.extend(hold_keys());
    keys.extend(term_keys());
    keys
}

fn hold_keys() -> Vec<&'static str> {
    once_each(FAULT_FORMS.iter().filter_map(|form| Some(form.hold.as_ref()?.key)))
}

/// What only some kinds of faults have.
pub(super) fn term_keys() -> Vec<&'static str> {
    once_each(FAULT_FORMS.iter().flat_map(|form| keys_of(form.manner)))
}

fn keys_of(mut manner: Manner) -> Vec<&'static str> {
    manner.terms().iter().map(Term::key).collect()
}

fn once_each(keys: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    keys.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The rule of one line, None with problems when anything in it is wrong.
pub(super) fn read(
    node: &Node,
    text: &str,
    bounds: &Bounds,
    problems: &mut Vec<Problem>,
) -> Option<FaultRule> {
    let mut fields = match Fields::of(node, text, "a fault", &line_keys()) {
        Ok(fields) => fields,
        Err(problem) => {
            problems.push(*problem);
            return None;
        }
    };
    let schedule = schedule(&mut fields, node, text, bounds);
    let form = form(&mut fields, node, text);
    let target = form.and_then(|form| whom::read(&mut fields, form, bounds));
    let manner = form.and_then(|form| manner(&mut fields, form));
    let hold = form.and_then(|form| hold(&mut fields, form));
    if let (Some(Schedule::At(at)), Some(hold)) = (schedule, hold) {
        check_ends_in_time(&mut fields, at, hold, bounds);
    }
    problems.append(&mut fields.problems);
    Some(FaultRule { schedule: schedule?, kind: form?.kind, target: target?, manner: manner?, hold: hold? })
}

fn schedule(fields: &mut Fields, node: &Node, text: &str, bounds: &Bounds) -> Option<Schedule> {
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
                fields.problem(
                    Problem::at(node.first_line(text), "a fault that never strikes")
                        .label("expected `at: 5s`, once, or `every: 3s`, again and again"),
                );
            }
            None
        }
        (Some(_), None) => {
            if let Some(jitter) = jitter {
                let problem = Problem::at(jitter, "`jitter` does not go with `at`");
                fields.problem(problem.label("expected `every`, whose interval it stretches or shrinks"));
            }
            once(fields, bounds)
        }
        (None, Some(_)) => again(fields, bounds),
    }
}

fn once(fields: &mut Fields, bounds: &Bounds) -> Option<Schedule> {
    let Found::Here(at) = fields.read("at", |leaf| leaf.duration(Duration::ZERO)) else { return None };
    check_strikes_in_time(fields, at.span, at.value, "the fault strikes", bounds);
    Some(Schedule::At(at.value))
}

fn again(fields: &mut Fields, bounds: &Bounds) -> Option<Schedule> {
    let interval = fields.read("every", |leaf| leaf.duration(MILLISECOND));
    let jitter = fields.read("jitter", |leaf| leaf.percent(100)).or(0);
    let (Found::Here(interval), Some(jitter)) = (interval, jitter) else { return None };
    let schedule = Schedule::Every { interval: interval.value, jitter_percent: jitter.value };
    // Later than this the first strike never comes: so every rule strikes at least once, whatever the seed.
    let first = interval.value + interval.value * jitter.value / 100;
    check_strikes_in_time(fields, interval.span.clone(), first, "the first strike may come", bounds);
    if let Some(Located { value: duration, .. }) = bounds.duration.as_ref()
        && interval.value * STRIKES_MEAN_MAX < *duration
    {
        let least_ms = duration.as_millis().div_ceil(u128::from(STRIKES_MEAN_MAX));
        let least = humantime::format_duration(Duration::from_millis(least_ms as u64));
        let title = format!("more than {STRIKES_MEAN_MAX} strikes of one fault");
        let problem = Problem::at(interval.span.unwrap_or_default(), title);
        fields.problem(problem.label(format!("expected {least} or more")));
    }
    Some(schedule)
}

fn check_strikes_in_time(
    fields: &mut Fields,
    span: Option<Range<usize>>,
    latest: Duration,
    what: &str,
    bounds: &Bounds,
) {
    let (Some(Located { value: duration, span: end }), Some(span)) = (&bounds.duration, span) else { return };
    if latest >= *duration {
        let show = humantime::format_duration;
        fields.problem(
            Problem::at(span, format!("{what} at {}, not before the end", show(latest)))
                .label(format!("expected a time before {}", show(*duration)))
                .also(end.clone(), "the end"),
        );
    }
}

/// A fault that the last heal cuts short is not the one that was asked for.
fn check_ends_in_time(fields: &mut Fields, at: Duration, hold: Duration, bounds: &Bounds) {
    let Some(Located { value: duration, span: end }) = &bounds.duration else { return };
    let Some(span) = fields.node("at").map(|(key, _)| key.span.clone()) else { return };
    if at < *duration && at + hold > *duration {
        let show = humantime::format_duration;
        let title = format!("the fault lasts until {}, and is undone at the end", show(at + hold));
        let problem =
            Problem::at(span, title).label(format!("expected it to be over by {}", show(*duration)));
        fields.problem(problem.also(end.clone(), "the end"));
    }
}

fn form(fields: &mut Fields, node: &Node, text: &str) -> Option<&'static FaultForm> {
    let written: Vec<_> = FAULT_FORMS
        .iter()
        .filter_map(|form| fields.node(form.word).map(|(key, _)| (key.span.clone(), form)))
        .collect();
    match written.as_slice() {
        [(_, form)] => Some(form),
        [] => {
            if !fields.has_unknown {
                let kinds = one_of(FAULT_FORMS.iter().map(|form| form.word));
                let problem = Problem::at(node.first_line(text), "a fault that does nothing");
                fields.problem(problem.label(format!("expected {kinds}, with a target")));
            }
            None
        }
        [(first, _), (second, _), ..] => {
            fields.problem(
                Problem::at(second.clone(), "two kinds of fault in one line")
                    .label("expected one: write a second line for the other")
                    .also(Some(first.clone()), "the other"),
            );
            None
        }
    }
}

fn hold(fields: &mut Fields, form: &FaultForm) -> Option<Duration> {
    let own = form.hold.as_ref();
    let mut fits = true;
    for key in hold_keys().into_iter().filter(|key| own.is_none_or(|own| own.key != *key)) {
        let Some((written, _)) = fields.node(key) else { continue };
        let label = match own {
            Some(HoldForm { key, .. }) => format!("expected `{key}`"),
            None => format!("`{}` ends by itself", form.word),
        };
        let problem = Problem::at(written.span.clone(), format!("`{key}` does not go with `{}`", form.word));
        fields.problem(problem.label(label));
        fits = false;
    }
    let Some(HoldForm { key, default, least }) = own else { return fits.then_some(Duration::ZERO) };
    let hold = fields.read(key, |leaf| leaf.duration(*least)).or(*default)?;
    fits.then_some(hold.value)
}

/// What only this kind of fault has.
fn manner(fields: &mut Fields, form: &FaultForm) -> Option<Manner> {
    let own = keys_of(form.manner);
    let mut right = true;
    for key in term_keys().into_iter().filter(|key| !own.contains(key)) {
        let Some((written, _)) = fields.node(key) else { continue };
        let problem = Problem::at(written.span.clone(), format!("`{key}` does not go with `{}`", form.word));
        let whose = FAULT_FORMS.iter().filter(|form| keys_of(form.manner).contains(&key));
        fields.problem(problem.label(format!("goes with {}", one_of(whose.map(|form| form.word)))));
        right = false;
    }
    let mut manner = form.manner;
    for term in manner.terms() {
        right &= match term {
            Term::Time { key, value, most } if value.is_zero() => {
                let read = fields.required(key, "50ms", |leaf| leaf.duration_within(MILLISECOND..=most));
                read.map(|read| *value = read.value).is_some()
            }
            Term::Time { key, value, most } => {
                let read = fields.read(key, |leaf| leaf.duration_within(MILLISECOND..=most)).or(*value);
                read.map(|read| *value = read.value).is_some()
            }
            Term::Percent { key, value, most } => {
                let read = fields.read(key, |leaf| leaf.percent(most)).or(*value);
                read.map(|read| *value = read.value).is_some()
            }
            Term::Size { key, value, most } => {
                let read = fields.required(key, "64KiB", |leaf| leaf.size(most));
                read.map(|read| *value = read.value).is_some()
            }
            Term::Heal { key, value } => {
                let read = fields.read(key, |leaf| leaf.one_of(key, None)).or(*value);
                read.map(|read| *value = read.value).is_some()
            }
            Term::Shape { key, value } => {
                let read = fields.read(key, |leaf| leaf.one_of(key, None)).or(*value);
                read.map(|read| *value = read.value).is_some()
            }
            Term::Ops { key, value } => {
                let read = fields.read(key, |leaf| leaf.one_of(key, None)).or(*value);
                read.map(|read| *value = read.value).is_some()
            }
        };
    }
    right.then_some(manner)
}
