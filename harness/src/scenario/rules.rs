//! Reads the lines under `faults:`.
//!
//! In: one [`Node`] a line, and what the rest of the file has settled. Out: [`Rule`]s. Never: what a fault is; `faults`
//! reads that, `schedule` when it strikes, and `moves` what is done in an order.

use std::iter::Sum;
use std::time::Duration;

use super::faults::{self, Unsaid, fault_keys, keys_of, term_keys};
use super::fields::{Fields, Located, Section};
use super::problem::{Problem, one_of};
use super::schedule::{self, MILLISECOND, SCHEDULE_KEYS, STRIKES_MEAN_MAX, WAIT_KEYS};
use super::tree::{Node, Value};
use super::{
    Choice, Deed, Fault, Move, Name, Phase, Phases, Rule, Schedule, Script, Trigger, Weighted, moves,
};

/// Phases within phases, and no deeper.
pub(super) const DEPTH_MAX: usize = 2;
pub(super) const WEIGHT_MAX: u32 = 1_000_000;
/// Of all rules together, in the mean.
const STRIKES_ALL_MAX: u64 = 10_000;
/// The same of what is pinned: a plan has more of that than its rules in the mean, and it is still a plan.
const PINNED_ALL_MAX: u64 = 10 * STRIKES_ALL_MAX;
/// Of all rules together, each time that one comes, with strikes in it or without.
const PHASES_ALL_MAX: u64 = 10_000;

/// What a choice has beside its fault.
pub(super) const CHOICE: Section = Section { name: "`any`", keys: &["weight"] };
pub(super) const PHASE: Section = Section { name: "`phases`", keys: &["for", "parallel"] };

/// What a fault must fit; None where the file has that wrong, and nothing can be said about it.
pub(super) struct Bounds {
    /// Of the load, or of the phase.
    pub duration: Option<Located<Duration>>,
    /// What is there, as messages call it.
    pub end: &'static str,
    pub size: Option<Size>,
    /// How many phases it is in.
    pub depth: usize,
}

/// How many nodes there are.
#[derive(Clone)]
pub(super) struct Size {
    pub nodes: Located<u32>,
    pub spares: Located<u32>,
}

/// What a fault may speak of.
pub(super) struct Scope<'a> {
    pub bounds: &'a Bounds,
    /// A fact is waited for, and it is about somebody.
    pub it: bool,
    /// `by` says how much later, not who.
    pub by_is_taken: bool,
    /// Of the moves before.
    pub names: &'a [Name],
}

impl Size {
    /// Voters and spares together.
    pub fn all(&self) -> Located<u32> {
        let span = if self.spares.value > 0 { &self.spares.span } else { &self.nodes.span };
        Located { value: self.nodes.value + self.spares.value, span: span.clone() }
    }
}

impl<'a> Scope<'a> {
    /// Of the line or the move that `fields` are.
    pub fn of(fields: &Fields, bounds: &'a Bounds, names: &'a [Name]) -> Scope<'a> {
        let kinds = faults::written(fields);
        let by_is_taken = kinds.iter().any(|(_, form)| keys_of(form.manner).contains(&"by"));
        Scope { bounds, it: fields.node("on").is_some(), by_is_taken, names }
    }
}

/// What is wrong, and what was expected, when `rules` strike more often than a load so long should see, or have more
/// phases.
pub(super) fn too_many(rules: &[Rule], duration: Duration) -> Option<(String, String)> {
    let phases = rules.iter().map(Rule::phases).fold(0, u64::saturating_add);
    if phases > PHASES_ALL_MAX {
        let title = format!("{phases} phases of all lines together, each time that one comes");
        return Some((title, format!("expected {PHASES_ALL_MAX} at most")));
    }
    let Strikes { drawn, pinned } = rules.iter().map(|rule| rule.strikes_mean(duration)).sum();
    let (title, most) = match (drawn > STRIKES_ALL_MAX, pinned > PINNED_ALL_MAX) {
        (true, _) => (format!("about {drawn} strikes of all faults together"), STRIKES_ALL_MAX),
        (false, true) => {
            (format!("about {pinned} strikes of all faults with a `draw` together"), PINNED_ALL_MAX)
        }
        (false, false) => return None,
    };
    Some((title, format!("expected {most} at most")))
}

/// Every key that a line may have.
pub(super) fn line_keys() -> Vec<&'static str> {
    let mut keys = SCHEDULE_KEYS.to_vec();
    keys.extend(WAIT_KEYS.iter().filter(|key| !term_keys().contains(key)));
    keys.extend(["times", "any", "phases", "steps", "rounds"]);
    keys.extend(fault_keys());
    keys.push("draw");
    keys
}

/// The rule of one line, None with problems when anything in it is wrong.
pub(super) fn read(node: &Node, text: &str, bounds: &Bounds, problems: &mut Vec<Problem>) -> Option<Rule> {
    let mut fields = match Fields::of(node, text, "a fault", &line_keys()) {
        Ok(fields) => fields,
        Err(problem) => {
            problems.push(*problem);
            return None;
        }
    };
    let has = |key| fields.node(key).is_some();
    let rule = if has("phases") {
        phases(&mut fields, text, bounds).map(Rule::Phases)
    } else if has("steps") || has("rounds") {
        moves::script(&mut fields, node, text, bounds).map(Rule::Script)
    } else if has("on") {
        trigger(&mut fields, node, text, bounds).map(Rule::Trigger)
    } else {
        strike(&mut fields, node, text, bounds)
    };
    problems.append(&mut fields.problems);
    rule
}

/// Reports the keys that are none of `fitting`; whether there are none.
pub(super) fn only(fields: &mut Fields, fitting: &[&str], with: &str) -> bool {
    let others = fields.beside(fitting);
    for (word, span) in &others {
        let problem = Problem::at(span.clone(), format!("`{word}` does not go with `{with}`"));
        let rest = one_of(fitting.iter().copied().filter(|key| *key != with));
        fields.problem(problem.label(format!("beside `{with}` there may be {rest}")));
    }
    others.is_empty()
}

fn strike(fields: &mut Fields, node: &Node, text: &str, bounds: &Bounds) -> Option<Rule> {
    let schedule = schedule::read(fields, node, text, bounds);
    let scope = Scope::of(fields, bounds, &[]);
    let mut right = true;
    for key in ["within", "after", "times"] {
        let Some((written, _)) = fields.node(key) else { continue };
        let problem = Problem::at(written.span.clone(), format!("`{key}` goes with `on`"));
        fields.problem(problem.label("expected `on: elected`, or another fact that is waited for"));
        right = false;
    }
    let choice = choice(fields, node, text, &scope)?;
    if let Some(Schedule::At(at)) = schedule {
        check_holds(fields, "at", at, &choice, bounds);
    }
    right.then_some(Rule::Strike { schedule: schedule?, choice })
}

fn trigger(fields: &mut Fields, node: &Node, text: &str, bounds: &Bounds) -> Option<Trigger> {
    let mut right = true;
    for key in ["every", "jitter"] {
        let Some((written, _)) = fields.node(key) else { continue };
        let problem = Problem::at(written.span.clone(), format!("`{key}` does not go with `on`"));
        fields.problem(problem.label("expected `times`, for so many facts one after the other"));
        right = false;
    }
    let scope = Scope::of(fields, bounds, &[]);
    let at = at(fields, bounds, "the fact is watched for from");
    let on = schedule::on(fields, None, &scope);
    let after = schedule::after(fields);
    let times = times(fields);
    let choice = choice(fields, node, text, &scope)?;
    let (at, after) = (at?, after?);
    check_holds(fields, "on", at + after.least, &choice, bounds);
    right.then_some(Trigger { at, on: on.ok()??, after, times: times?, choice })
}

/// When it begins, which is with the load or the phase where nothing is said.
pub(super) fn at(fields: &mut Fields, bounds: &Bounds, what: &str) -> Option<Duration> {
    let at = fields.read("at", |leaf| leaf.duration(Duration::ZERO)).or(Duration::ZERO)?;
    bounds.check_strikes_in_time(fields, at.span, at.value, what);
    Some(at.value)
}

pub(super) fn times(fields: &mut Fields) -> Option<u32> {
    fields.read("times", |leaf| leaf.whole_u32(1..=STRIKES_MEAN_MAX)).or(1).map(|times| times.value)
}

/// What is taken from a plan, and has its draw, is let be.
fn check_holds(fields: &mut Fields, key: &'static str, at: Duration, choice: &Choice, bounds: &Bounds) {
    let unpinned = choice.faults().filter(|fault| fault.draw.is_none());
    if let Some(hold) = unpinned.filter_map(|fault| fault.hold).max() {
        bounds.check_ends_in_time(fields, key, at, hold);
    }
}

fn choice(fields: &mut Fields, node: &Node, text: &str, scope: &Scope) -> Option<Choice> {
    let Some((key, list)) = fields.node("any") else {
        let here = node.first_line(text);
        return faults::read(fields, here, Unsaid::Default, scope).map(Choice::One);
    };
    let mut right = true;
    let of_fact = |word: &str| word == "by" && scope.it;
    let its_own: Vec<_> = fault_keys().into_iter().chain(["draw"]).collect();
    for (word, span) in fields.beside(&[]) {
        if its_own.contains(&word) && !of_fact(word) {
            let problem = Problem::at(span, format!("`{word}` beside `any`"));
            fields.problem(
                problem.label("expected it in one of the list").also(Some(key.span.clone()), "here"),
            );
            right = false;
        }
    }
    let items = list_of(fields, list, text, "any", "{ weight: 3, kill: leader }")?;
    let any: Vec<_> = items.iter().map(|item| weighted(fields, item, text, scope)).collect();
    any.into_iter().collect::<Option<Vec<_>>>().filter(|_| right).map(Choice::Any)
}

fn weighted(outer: &mut Fields, node: &Node, text: &str, scope: &Scope) -> Option<Weighted> {
    let mut keys = CHOICE.keys.to_vec();
    keys.extend(fault_keys());
    let mut fields = nested(outer, node, text, "a choice", &keys)?;
    let weight = fields.read("weight", |leaf| leaf.whole_u32(1..=WEIGHT_MAX)).or(1);
    // Its `by` is never about the fact.
    let own = Scope { it: scope.it, by_is_taken: true, ..*scope };
    let fault = faults::read(&mut fields, node.first_line(text), Unsaid::Default, &own);
    outer.problems.append(&mut fields.problems);
    Some(Weighted { weight: weight?.value, fault: fault? })
}

fn phases(fields: &mut Fields, text: &str, bounds: &Bounds) -> Option<Phases> {
    let right = only(fields, &["phases", "at", "times"], "phases");
    let (key, list) = fields.node("phases")?;
    if bounds.depth == DEPTH_MAX {
        let problem = Problem::at(key.span.clone(), "phases are nested too deeply");
        fields.problem(problem.label(format!("expected phases within phases at most, {DEPTH_MAX} levels")));
        return None;
    }
    let at = at(fields, bounds, "the first phase begins");
    let times = times(fields);
    let items = list_of(fields, list, text, "phases", "{ for: 5s, parallel: [] }")?;
    let phases: Vec<_> = items.iter().map(|item| phase(fields, item, text, bounds)).collect();
    let phases = phases.into_iter().collect::<Option<Vec<_>>>()?;
    let all = Phases { at: at?, times: times?, phases };
    let end = all.at + all.length();
    if let Some(Located { value: duration, span }) = &bounds.duration
        && end > *duration
    {
        let show = humantime::format_duration;
        let title = format!("the last phase ends at {}, after the end", show(end));
        let problem = Problem::at(key.span.clone(), title);
        let label = format!("expected {} or less for all of them, all times", show(*duration - all.at));
        fields.problem(problem.label(label).also(span.clone(), bounds.end));
        return None;
    }
    right.then_some(all)
}

fn phase(outer: &mut Fields, node: &Node, text: &str, bounds: &Bounds) -> Option<Phase> {
    let mut fields = nested(outer, node, text, "a phase", PHASE.keys)?;
    let length = fields.required("for", "5s", |leaf| leaf.duration(MILLISECOND));
    let list = fields.node("parallel").map(|(_, list)| list);
    let lines = match list {
        None => Some(&[][..]),
        Some(Node { value: Value::Sequence(lines), .. }) => Some(&lines[..]),
        Some(other) => {
            let title = format!("`parallel` is {}", other.description());
            let problem = Problem::at(other.first_line(text), title);
            fields.problem(problem.label("expected a list of lines such as `{ at: 1s, kill: leader }`"));
            None
        }
    };
    let inner = Bounds {
        duration: length.clone(),
        end: "the end of the phase",
        size: bounds.size.clone(),
        depth: bounds.depth + 1,
    };
    outer.problems.append(&mut fields.problems);
    let rules: Vec<_> = lines?.iter().map(|line| read(line, text, &inner, &mut outer.problems)).collect();
    Some(Phase { length: length?.value, parallel: rules.into_iter().collect::<Option<_>>()? })
}

/// The items of a list that must have some.
pub(super) fn list_of<'n>(
    fields: &mut Fields,
    node: &'n Node,
    text: &str,
    key: &str,
    example: &str,
) -> Option<&'n [Node]> {
    match &node.value {
        Value::Sequence(items) if !items.is_empty() => return Some(items),
        Value::Sequence(_) => {
            let problem = Problem::at(node.first_line(text), format!("`{key}` is empty"));
            fields.problem(problem.label(format!("expected one or more, such as `{example}`")));
        }
        _ => {
            let problem = Problem::at(node.first_line(text), format!("`{key}` is {}", node.description()));
            fields.problem(problem.label(format!("expected a list such as `[{example}]`")));
        }
    }
    None
}

/// The fields of an item of a list; what is wrong with it is told by `outer`.
pub(super) fn nested<'n>(
    outer: &mut Fields,
    node: &'n Node,
    text: &'n str,
    section: &str,
    keys: &[&'static str],
) -> Option<Fields<'n>> {
    match Fields::of(node, text, section, keys) {
        Ok(fields) => Some(fields),
        Err(problem) => {
            outer.problem(problem);
            None
        }
    }
}

/// Strikes in the mean, with the heals and the waits of scripts; they stop at what a number holds.
#[derive(Debug, Clone, Copy, Default)]
struct Strikes {
    drawn: u64,
    /// Taken from a plan, with its draw.
    pinned: u64,
}

impl Strikes {
    fn of(count: u64, pinned: bool) -> Strikes {
        match pinned {
            true => Strikes { pinned: count, ..Strikes::default() },
            false => Strikes { drawn: count, ..Strikes::default() },
        }
    }

    fn times(self, times: u32) -> Strikes {
        let times = u64::from(times);
        Strikes { drawn: self.drawn.saturating_mul(times), pinned: self.pinned.saturating_mul(times) }
    }
}

impl Sum for Strikes {
    fn sum<I: Iterator<Item = Strikes>>(all: I) -> Strikes {
        all.fold(Strikes::default(), |sum, one| Strikes {
            drawn: sum.drawn.saturating_add(one.drawn),
            pinned: sum.pinned.saturating_add(one.pinned),
        })
    }
}

impl Fault {
    fn is_pinned(&self) -> bool {
        self.draw.is_some()
    }
}

impl Choice {
    fn is_pinned(&self) -> bool {
        self.faults().any(Fault::is_pinned)
    }
}

impl Rule {
    /// How many phases it comes to, those within phases too.
    fn phases(&self) -> u64 {
        let Rule::Phases(Phases { phases, times, .. }) = self else { return 0 };
        let of = |phase: &Phase| phase.parallel.iter().map(Rule::phases).fold(1, u64::saturating_add);
        phases.iter().map(of).fold(0, u64::saturating_add).saturating_mul(u64::from(*times))
    }

    /// How many strikes it comes to in a load or a phase so long.
    fn strikes_mean(&self, duration: Duration) -> Strikes {
        match self {
            Rule::Strike { schedule, choice } => {
                Strikes::of(schedule.strikes_mean(duration), choice.is_pinned())
            }
            Rule::Trigger(Trigger { times, choice, .. }) => {
                Strikes::of(u64::from(*times), choice.is_pinned())
            }
            Rule::Phases(Phases { phases, times, .. }) => {
                let of = |phase: &Phase| -> Strikes {
                    phase.parallel.iter().map(|rule| rule.strikes_mean(phase.length)).sum()
                };
                phases.iter().map(of).sum::<Strikes>().times(*times)
            }
            Rule::Script(Script { times, rounds, .. }) => {
                // A heal or a wait is from a plan when a fault beside it is.
                let beside = self.faults().iter().any(|fault| fault.is_pinned());
                let of = |step: &Move| match &step.deed {
                    Deed::Strike(fault) => Strikes::of(1, fault.is_pinned()),
                    Deed::Heal(_) | Deed::Wait => Strikes::of(1, beside),
                };
                rounds.iter().flatten().map(of).sum::<Strikes>().times(*times)
            }
        }
    }
}
