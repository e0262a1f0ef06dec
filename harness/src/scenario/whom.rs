//! Reads what a fault is done to: the value of its key.
//!
//! In: a leaf such as `minority` or `leader -> others`, and the size of the cluster. Out: [`Whom`]. Never: a name that
//! no node of the cluster has, or links that no cluster of its size has.

use super::fields::{Fields, Found, Located};
use super::leaf::Leaf;
use super::links::ENDS;
use super::problem::{Problem, did_you_mean, quoted};
use super::read::NODES_MAX;
use super::rules::{Scope, Size};
use super::words::{FaultForm, LinksForm, Words};
use super::{Links, Name, Shape, Side, Target, Whom};

pub(super) fn read(fields: &mut Fields, form: &FaultForm, scope: &Scope) -> Option<Whom> {
    let size = &scope.bounds.size;
    let all = size.as_ref().map(Size::all);
    let Found::Here(whom) = fields.read(form.word, |leaf| match form.links {
        None => target(leaf, form, all.as_ref(), scope).map(Whom::Nodes),
        Some(takes) => links(leaf, form, takes, all.as_ref(), scope).map(Whom::Links),
    }) else {
        return None;
    };
    let Some(Size { nodes, spares }) = size else { return Some(whom.value) };
    let title = if !is_there(whom.value, nodes.value, spares.value) {
        let what = if matches!(whom.value, Whom::Nodes(_)) { "is no node" } else { "are no links" };
        format!("`{}` of a cluster of {} {what}", whom.value, nodes.value)
    } else if form.needs_spare() && spares.value == 0 {
        format!("`{}` in a cluster without spares", form.word)
    } else {
        return Some(whom.value);
    };
    let problem = Problem::at(whom.span.unwrap_or_default(), title);
    let enough = |nodes: &u32| is_there(whom.value, *nodes, spares.value) && !form.needs_spare();
    fields.problem(match (nodes.value..=NODES_MAX).find(enough) {
        Some(least) => {
            problem.label(format!("needs {least} nodes or more")).also(nodes.span.clone(), "the cluster")
        }
        None => problem.label("needs `spares: 1` or more under `cluster`"),
    });
    None
}

impl LinksForm {
    fn fits(self, links: Links) -> bool {
        match self {
            LinksForm::Any | LinksForm::Connecting => true,
            LinksForm::Of => matches!(links, Links::Of(_)),
            LinksForm::OneWay => links.is_one_way(),
        }
    }

    /// Whether a scenario with so many voters and spares may say so.
    pub(super) fn allows(self, links: Links, voters: u32, spares: u32) -> bool {
        let fits = self.fits(links) && contradiction(links, self).is_none();
        fits && is_there(Whom::Links(links), voters, spares)
    }
}

/// Whether a cluster of so many voters and spares has such.
pub(super) fn is_there(whom: Whom, voters: u32, spares: u32) -> bool {
    let links = match whom {
        Whom::Nodes(target) => return target.size(voters, spares) > 0,
        Whom::Links(links) => links,
    };
    let least = match links {
        Links::Shape(shape) => shape.voters_min(),
        _ if links.has_clients() => 1,
        Links::Of(_) | Links::Between { .. } => 2_u32.saturating_sub(spares),
    };
    voters >= least && links.targets().all(|target| target.size(voters, spares) > 0)
}

fn target(
    leaf: &Leaf,
    form: &FaultForm,
    all: Option<&Located<u32>>,
    scope: &Scope,
) -> Result<Target, Box<Problem>> {
    if leaf.is_several() {
        return Err(several(leaf, form));
    }
    // What is no word at all is told with all that it may be.
    let word = leaf.word(&nodes(form.targets)).unwrap_or_default();
    let target = match told_before(leaf, word, scope)? {
        Some(target) => target,
        None => leaf.one_of::<Target>("target", all).map_err(|problem| also_names(problem, word, scope))?,
    };
    if !target.is_listed() || form.targets.contains(&target) {
        return Ok(target);
    }
    let problem = leaf.wrong(format!("`{}` does not go with `{target}`", form.word));
    Err(problem.label(format!("expected {}", nodes(form.targets))))
}

/// `it`, or a name that an earlier move gave.
fn told_before(leaf: &Leaf, word: &str, scope: &Scope) -> Result<Option<Target>, Box<Problem>> {
    if word == "it" && !scope.it {
        let problem = leaf.wrong("`it` is nobody where no fact is waited for");
        return Err(problem.label("expected `on: elected` beside it, or another fact, whose node it is"));
    }
    let named = || scope.names.iter().find(|name| name.as_str() == word).copied().map(Target::Named);
    Ok(if word == "it" { Some(Target::It) } else { named() })
}

/// A word may be a misspelt name too.
fn also_names(problem: Box<Problem>, word: &str, scope: &Scope) -> Box<Problem> {
    match did_you_mean(word, scope.names.iter().map(Name::as_str)) {
        None => problem,
        help => problem.help(help),
    }
}

fn nodes(targets: &[Target]) -> String {
    let words = quoted(targets.iter().filter_map(|target| target.to_word())).join(", ");
    format!("{words}, or a node such as `n1`")
}

fn several(leaf: &Leaf, form: &FaultForm) -> Box<Problem> {
    let problem = leaf.wrong(format!("`{}` of more than one target", form.word));
    problem.label("expected one").help(Some("write one line for each".into()))
}

fn links(
    leaf: &Leaf,
    form: &FaultForm,
    takes: LinksForm,
    all: Option<&Located<u32>>,
    scope: &Scope,
) -> Result<Links, Box<Problem>> {
    let takes_shapes = takes != LinksForm::Of;
    let expected = match takes {
        LinksForm::Of => nodes(ENDS),
        LinksForm::OneWay => "one side to the other, such as `n1 -> n2` or `leader -> others`".to_owned(),
        LinksForm::Any | LinksForm::Connecting => {
            let shapes = quoted(Shape::WORDS.iter().map(|(word, _)| *word)).join(", ");
            format!("{shapes}, {}, or two sides such as `leader -> others` or `clients <-> n1`", nodes(ENDS))
        }
    };
    let word = if leaf.is_list() { return Err(several(leaf, form)) } else { leaf.word(&expected)? };
    let links = match Links::arrow(word) {
        Some((from, to, both_ways)) => {
            Links::Between { from: side(leaf, from, all, scope)?, to: side(leaf, to, all, scope)?, both_ways }
        }
        None if leaf.is_several() => return Err(several(leaf, form)),
        None => match Shape::from_word(word) {
            Some(shape) => Links::Shape(shape),
            None => match told_before(leaf, word, scope)?
                .map_or_else(|| leaf.one_of_word::<Target>("target", word, all), Ok)
            {
                Ok(target) if ENDS.contains(&target) || !target.is_listed() => Links::Of(target),
                // Too high a number: the cluster is told beside it.
                Err(problem) if super::words::node_number(word).is_some() => return Err(problem),
                _ => {
                    let shapes = Shape::WORDS.iter().map(|(word, _)| *word).filter(|_| takes_shapes);
                    let words = ENDS.iter().filter_map(|target| target.to_word()).chain(shapes);
                    let words = words.chain(scope.names.iter().map(Name::as_str));
                    let problem = leaf.wrong(format!("`{}: {word}` are no links", form.word));
                    let help = did_you_mean(word, words);
                    return Err(problem.label(format!("expected {expected}")).help(help));
                }
            },
        },
    };
    if !takes.fits(links) {
        let problem = leaf.wrong(format!("`{}` does not go with `{word}`", form.word));
        return Err(problem.label(format!("expected {expected}")));
    }
    match contradiction(links, takes) {
        None => Ok(links),
        Some((title, expected)) => Err(leaf.wrong(title).label(format!("expected {expected}"))),
    }
}

fn side(leaf: &Leaf, word: &str, all: Option<&Located<u32>>, scope: &Scope) -> Result<Side, Box<Problem>> {
    match told_before(leaf, word, scope)? {
        Some(target) => Ok(Side::Nodes(target)),
        None => leaf.one_of_word("side", word, all).map_err(|problem| also_names(problem, word, scope)),
    }
}

/// What is wrong with two sides that are right each by itself, and what would be right.
fn contradiction(links: Links, takes: LinksForm) -> Option<(String, String)> {
    let Links::Between { from, to, both_ways } = links else { return None };
    let is_one = |target: Target| {
        (target == Target::Leader || !target.is_listed()) && from == to && from == Side::Nodes(target)
    };
    match (from, to) {
        (Side::Clients, Side::Clients) => {
            Some(("no link leads from clients to clients".into(), "`clients <-> all`".into()))
        }
        (Side::Clients, Side::Others) | (Side::Others, Side::Clients) | (Side::Others, Side::Others) => {
            let title = "`others` are those that are not on the other side, and nobody is".to_owned();
            Some((title, "`all`, or nodes on the other side".into()))
        }
        (Side::Nodes(_), Side::Clients) if takes == LinksForm::Connecting && !both_ways => {
            let title = "a node never connects to clients".to_owned();
            Some((title, format!("`clients -> {from}`")))
        }
        (Side::Nodes(one), Side::Nodes(other)) if one == Target::All || other == Target::All => {
            Some(("`all` goes with `clients` only".into(), "`others`, or two sides of nodes".into()))
        }
        (Side::Nodes(Target::All), Side::Others) | (Side::Others, Side::Nodes(Target::All)) => Some((
            "beside `all` there are no others".into(),
            "`all` by itself: all links between nodes".into(),
        )),
        (Side::Nodes(target), _) if is_one(target) => {
            Some((format!("`{target}` has no link to itself"), format!("`{target} -> others`")))
        }
        _ => None,
    }
}
