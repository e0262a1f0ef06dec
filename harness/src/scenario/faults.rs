//! Reads one fault: what is done, to whom, how, and for how long.
//!
//! In: the [`Fields`] of a line, of one of `any`, or of a move. Out: [`Fault`]. Never: knowledge of a particular kind of
//! fault: [`FAULT_FORMS`] has that. What it is done to is read in [`whom`].

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use super::fields::Fields;
use super::manner::{CRASHES_MAX, Term};
use super::problem::{Problem, one_of};
use super::rules::Scope;
use super::schedule::MILLISECOND;
use super::words::{FAULT_FORMS, FaultForm, HoldForm};
use super::{Fault, Manner, whom};

/// How long a fault lasts that does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsaid {
    /// As long as its kind does.
    Default,
    /// Until a later move heals it.
    Healed,
}

/// Every key that a fault may have.
pub(super) fn fault_keys() -> Vec<&'static str> {
    let mut keys: Vec<_> = FAULT_FORMS.iter().map(|form| form.word).collect();
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

pub(super) fn keys_of(mut manner: Manner) -> Vec<&'static str> {
    manner.terms().iter().map(Term::key).collect()
}

fn once_each(keys: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    keys.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The kinds that are written, each with the place of its word.
pub(super) fn written(fields: &Fields) -> Vec<(Range<usize>, &'static FaultForm)> {
    let forms = FAULT_FORMS.iter();
    forms.filter_map(|form| fields.node(form.word).map(|(key, _)| (key.span.clone(), form))).collect()
}

/// Of the kinds that are `written` there must be one; `here` is where to say that there is none.
pub(super) fn read(fields: &mut Fields, here: Range<usize>, unsaid: Unsaid, scope: &Scope) -> Option<Fault> {
    let form = form(fields, here)?;
    let target = whom::read(fields, form, scope);
    let manner = manner(fields, form, scope);
    let hold = hold(fields, form, unsaid);
    let draw = match fields.knows("draw") {
        true => fields.read("draw", |leaf| leaf.whole(0..=u64::MAX).map(Some)).or(None)?.value,
        false => None,
    };
    let fault = Fault { kind: form.kind, target: target?, manner: manner?, hold: hold?, draw };
    crashes_seldom(fields, &fault).then_some(fault)
}

/// What is taken from a plan, and has its draw, is let be: no loop goes on for longer.
fn crashes_seldom(fields: &mut Fields, fault: &Fault) -> bool {
    let (Manner::CrashLoop { up }, Some(hold), None) = (fault.manner, fault.hold, fault.draw) else {
        return true;
    };
    if hold <= up * CRASHES_MAX {
        return true;
    }
    let least = Duration::from_millis(hold.as_millis().div_ceil(u128::from(CRASHES_MAX)) as u64);
    let place = ["up", "for", "crash-loop"].into_iter().find_map(|key| fields.node(key));
    let place = place.map(|(key, _)| key.span.clone()).unwrap_or_default();
    let problem = Problem::at(place, format!("more than {CRASHES_MAX} kills in one crash loop"));
    let least = humantime::format_duration(least);
    fields.problem(problem.label(format!("expected `up: {least}` or more, or a shorter `for`")));
    false
}

fn form(fields: &mut Fields, here: Range<usize>) -> Option<&'static FaultForm> {
    match written(fields).as_slice() {
        [(_, form)] => Some(form),
        [] => {
            if !fields.has_unknown {
                let kinds = one_of(FAULT_FORMS.iter().map(|form| form.word));
                let problem = Problem::at(here, "a fault that does nothing");
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

/// In it, None is until healed.
fn hold(fields: &mut Fields, form: &FaultForm, unsaid: Unsaid) -> Option<Option<Duration>> {
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
    let Some(HoldForm { key, default, least }) = own else { return fits.then_some(Some(Duration::ZERO)) };
    let default = match unsaid {
        Unsaid::Default => Some(*default),
        Unsaid::Healed => None,
    };
    let hold = fields.read(key, |leaf| leaf.duration(*least).map(Some)).or(default)?;
    fits.then_some(hold.value)
}

/// What only this kind of fault has.
fn manner(fields: &mut Fields, form: &FaultForm, scope: &Scope) -> Option<Manner> {
    let own = keys_of(form.manner);
    let mut right = true;
    for key in term_keys().into_iter().filter(|key| !own.contains(key)) {
        let Some((written, _)) = fields.node(key) else { continue };
        // Of a fact it says who must bring it about.
        if key == "by" && scope.it {
            continue;
        }
        let problem = Problem::at(written.span.clone(), format!("`{key}` does not go with `{}`", form.word));
        let whose = FAULT_FORMS.iter().filter(|form| keys_of(form.manner).contains(&key));
        let goes = one_of(whose.map(|form| form.word).chain((key == "by").then_some("on")));
        fields.problem(problem.label(format!("goes with {goes}")));
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
            Term::Count { key, value, range } => {
                let read = fields.read(key, |leaf| leaf.whole_u32(range)).or(*value);
                read.map(|read| *value = read.value).is_some()
            }
            Term::Word { key, value } => fields.read(key, |leaf| value.read(leaf)).or(()).is_some(),
            Term::Rate { key, value, range } => {
                let read = fields.required(key, "50%", |leaf| leaf.rate(range.clone()));
                read.map(|read| *value = read.value).is_some()
            }
        };
    }
    if !right {
        return None;
    }
    let Some((key, title, label)) = manner.contradiction() else { return Some(manner) };
    let place = fields.node(key).map(|(key, _)| key.span.clone()).unwrap_or_default();
    fields.problem(Problem::at(place, title).label(label));
    None
}
