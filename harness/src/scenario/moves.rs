//! Reads scripts: moves that are done in an order.
//!
//! In: the line that has `steps` or `rounds`. Out: [`Script`]. Never: a move that speaks of one after it.

use std::ops::Range;
use std::time::Duration;

use super::faults::{self, Unsaid, fault_keys};
use super::fields::{Fields, Found, Located, Section};
use super::leaf::Leaf;
use super::problem::{Problem, did_you_mean};
use super::rules::{self, Bounds, Scope, list_of, nested};
use super::schedule::{self, STRIKES_MEAN_MAX};
use super::tree::Node;
use super::{After, Deed, Heal, Move, Name, Script};

/// What a move has beside its fault; `by` and `heal` are a fault's too.
pub(super) const MOVE: Section =
    Section { name: "`steps`", keys: &["name", "on", "by", "after", "within", "heal", "draw"] };

/// How long a move waits for its fact.
pub(super) const WITHIN: Duration = Duration::from_secs(10);

const EXAMPLE: &str = "{ isolate: leader }";

/// Every key that a move may have.
pub(super) fn move_keys() -> Vec<&'static str> {
    let mut keys = MOVE.keys.to_vec();
    keys.extend(fault_keys().into_iter().filter(|key| !MOVE.keys.contains(key)));
    keys
}

pub(super) fn script(fields: &mut Fields, node: &Node, text: &str, bounds: &Bounds) -> Option<Script> {
    let (steps, rounds) = (fields.node("steps"), fields.node("rounds"));
    let key = if steps.is_some() { "steps" } else { "rounds" };
    let right = rules::only(fields, &[key, "at", "times"], key);
    let at = rules::at(fields, bounds, "the script begins");
    let times = rules::times(fields);
    let lists = match (steps, rounds) {
        (Some((_, list)), _) => vec![list],
        (None, Some((_, list))) => {
            list_of(fields, list, text, "rounds", "[{ isolate: leader }]")?.iter().collect()
        }
        (None, None) => unreachable!("a line is a script by one of its keys"),
    };
    let rounds: Vec<_> = lists.into_iter().map(|list| round(fields, list, text, key, bounds)).collect();
    let rounds = rounds.into_iter().collect::<Option<Vec<_>>>()?;
    let script = Script { at: at?, times: times?, rounds };
    let fits = check(fields, &script, node.first_line(text), bounds);
    (right && fits).then_some(script)
}

/// The moves of one round, in which names hold.
fn round(
    fields: &mut Fields,
    list: &Node,
    text: &str,
    key: &'static str,
    bounds: &Bounds,
) -> Option<Vec<Move>> {
    let items = list_of(fields, list, text, key, EXAMPLE)?;
    let mut said = Said::default();
    let moves: Vec<_> = items.iter().map(|item| read(fields, item, text, bounds, &mut said)).collect();
    moves.into_iter().collect()
}

/// What earlier moves of the round have said.
#[derive(Default)]
struct Said {
    names: Vec<Name>,
    /// Those of faults that can be healed.
    held: Vec<Name>,
    holds: bool,
}

fn read(outer: &mut Fields, node: &Node, text: &str, bounds: &Bounds, said: &mut Said) -> Option<Move> {
    let mut fields = nested(outer, node, text, "a move", &move_keys())?;
    let step = one(&mut fields, node.first_line(text), bounds, said);
    outer.problems.append(&mut fields.problems);
    step
}

fn one(fields: &mut Fields, here: Range<usize>, bounds: &Bounds, said: &mut Said) -> Option<Move> {
    let strikes = !faults::written(fields).is_empty();
    let (on, after, deed) = {
        let scope = Scope::of(fields, bounds, &said.names);
        let on = schedule::on(fields, Some(WITHIN), &scope);
        let after = schedule::after(fields);
        let deed = match strikes {
            true => faults::read(fields, here.clone(), Unsaid::Healed, &scope).map(Deed::Strike),
            false => quiet(fields, said),
        };
        (on, after, deed)
    };
    let name = name(fields, strikes, said);
    // Whoever comes later may speak of it even if the rest of this move is wrong.
    if let Some(Some(name)) = name {
        said.names.push(name);
    }
    let can_be_healed = match &deed {
        Some(Deed::Strike(fault)) => fault.kind.form().hold.is_some(),
        Some(Deed::Heal(_) | Deed::Wait) => false,
        None => strikes,
    };
    if can_be_healed {
        said.holds = true;
        said.held.extend(name.flatten());
    }
    let (on, after, deed) = (on.ok()?, after?, deed?);
    if deed == Deed::Wait && on.is_none() && after == After::NOTHING {
        if !fields.has_unknown {
            let problem = Problem::at(here, "a move that does nothing");
            fields.problem(problem.label("expected a fault such as `kill: leader`, `heal`, `on` or `after`"));
        }
        return None;
    }
    Some(Move { name: name?, on, after, deed })
}

/// What a move does that has no fault.
fn quiet(fields: &mut Fields, said: &Said) -> Option<Deed> {
    let fitting = ["name", "on", "by", "after", "within", "heal"];
    let others = fields.beside(&fitting);
    for (word, span) in &others {
        let problem = Problem::at(span.clone(), format!("`{word}` in a move without a fault"));
        fields.problem(problem.label("expected a fault such as `kill: leader` beside it"));
    }
    if let Some((key, _)) = fields.node("by").filter(|_| fields.node("on").is_none()) {
        let problem = Problem::at(key.span.clone(), "`by` goes with `on`");
        fields.problem(problem.label("expected `on: elected`, or another fact that is waited for"));
        return None;
    }
    match fields.read("heal", |leaf| heal(leaf, said)) {
        Found::Here(heal) => others.is_empty().then_some(Deed::Heal(heal.value)),
        Found::Absent => others.is_empty().then_some(Deed::Wait),
        Found::Wrong => None,
    }
}

fn heal(leaf: &Leaf, said: &Said) -> Result<Heal, Box<Problem>> {
    const EXPECTED: &str = "the name of an earlier move, or `all`";
    let word = leaf.word(EXPECTED)?;
    if word == "all" {
        return match said.holds {
            true => Ok(Heal::All),
            false => {
                let problem = leaf.wrong("there is nothing to heal");
                Err(problem.label("expected an earlier move with a fault that can be undone"))
            }
        };
    }
    if let Some(name) = said.held.iter().find(|name| name.as_str() == word) {
        return Ok(Heal::Named(*name));
    }
    if said.names.iter().any(|name| name.as_str() == word) {
        let problem = leaf.wrong(format!("there is nothing to heal of `{word}`"));
        return Err(problem.label("expected the name of a move with a fault that can be undone"));
    }
    let problem = leaf.wrong(format!("nothing is called `{word}`")).label(format!("expected {EXPECTED}"));
    Err(problem.help(did_you_mean(word, said.held.iter().map(Name::as_str).chain(["all"]))))
}

/// None when it is wrong.
fn name(fields: &mut Fields, strikes: bool, said: &Said) -> Option<Option<Name>> {
    let read = fields.read("name", |leaf| {
        let word = leaf.word("a name of a-z, 0-9 and `-`")?;
        let name = word.parse::<Name>().map_err(|_| {
            leaf.wrong(format!("`{word}` is no name, or means nodes already"))
                .label("expected at most 16 of a-z, 0-9 and `-`, beginning with a letter, such as `old`")
        })?;
        match said.names.contains(&name) {
            true => Err(leaf.wrong(format!("a second `{word}`")).label("expected each name once")),
            false => Ok(Some(name)),
        }
    });
    let read = read.or(None)?;
    if read.value.is_some() && !strikes && (fields.node("on").is_none() || fields.node("heal").is_some()) {
        let problem = Problem::at(read.span.unwrap_or_default(), "a name for nobody");
        fields.problem(problem.label("expected a fault, whose nodes it names, or a fact that is waited for"));
        return None;
    }
    Some(read.value)
}

/// That the script has a fault, is not too long, and can be over before the end.
fn check(fields: &mut Fields, script: &Script, here: Range<usize>, bounds: &Bounds) -> bool {
    let moves = || script.rounds.iter().flatten();
    let faults = || {
        moves().filter_map(|step| match &step.deed {
            Deed::Strike(fault) => Some(fault),
            Deed::Heal(_) | Deed::Wait => None,
        })
    };
    if faults().next().is_none() {
        let problem = Problem::at(here, "a script that breaks nothing");
        fields.problem(problem.label("expected a fault in one of its moves"));
        return false;
    }
    if moves().count() as u64 * u64::from(script.times) > u64::from(STRIKES_MEAN_MAX) {
        let title = format!("more than {STRIKES_MEAN_MAX} moves of one script");
        fields.problem(Problem::at(here, title).label("expected fewer `times`"));
        return false;
    }
    let Some(Located { value: duration, span: end }) = &bounds.duration else { return true };
    // What is taken from a plan, and has its draws, is let be.
    if faults().any(|fault| fault.draw.is_some()) {
        return true;
    }
    let waits = moves().map(|step| step.after.least).sum::<Duration>() * script.times;
    let last = script.at + waits;
    if last >= *duration {
        let show = humantime::format_duration;
        let title = format!("the last move comes at {} or later, not before the end", show(last));
        let problem = Problem::at(here, title).label(format!("expected a time before {}", show(*duration)));
        fields.problem(problem.also(end.clone(), bounds.end));
        return false;
    }
    true
}

impl Script {
    /// Whether so written it needs a list of rounds.
    pub(super) fn has_rounds(&self) -> bool {
        self.rounds.len() != 1
    }
}
