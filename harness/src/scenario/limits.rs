//! Bounds on times by kind of fault, as `expect` has them: `{ kill: 3s, any: 10s }`, or `none`.
//!
//! In: a [`Node`]. Out: [`Limits`], and back. Never: whether a fault of the kind ever strikes.

use std::fmt;
use std::time::Duration;

use super::fields::{Fields, Found};
use super::leaf::Leaf;
use super::problem::Problem;
use super::tree::{Node, Value};
use super::words::FAULT_FORMS;

/// Stands for every kind that has no bound of its own.
pub const ANY: &str = "any";
/// Nothing is demanded.
pub(super) const NONE: &str = "none";

/// How long something may take after a fault, by its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Kinds by their words in the order of [`FAULT_FORMS`], then [`ANY`].
    pub(super) bounds: Vec<(&'static str, Duration)>,
}

impl Limits {
    /// Each word with its bound, [`ANY`] last.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        self.bounds.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.bounds.is_empty()
    }

    /// What binds a fault of the kind with this word, and under which word.
    pub fn of(&self, kind: &str) -> Option<(&'static str, Duration)> {
        let under = |wanted: &str| self.iter().find(|(word, _)| *word == wanted);
        under(kind).or_else(|| under(ANY))
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str(NONE);
        }
        let told =
            |(word, bound): &(&str, Duration)| format!("{word}: {}", humantime::format_duration(*bound));
        write!(f, "{{ {} }}", self.bounds.iter().map(told).collect::<Vec<_>>().join(", "))
    }
}

/// The words that may have a bound.
pub(super) fn words() -> Vec<&'static str> {
    FAULT_FORMS.iter().map(|form| form.word).chain([ANY]).collect()
}

/// What `key` of `parent` says; its mistakes are the parent's. None when it has any.
pub(super) fn read(key: &'static str, text: &str, parent: &mut Fields) -> Option<Limits> {
    let Some((_, node)) = parent.node(key) else { return Some(Limits::default()) };
    match &node.value {
        Value::Mapping(_) => bounds(key, text, node, parent),
        _ => parent.read(key, |leaf| none(key, leaf)).or(Limits::default()).map(|limits| limits.value),
    }
}

fn none(key: &str, leaf: &Leaf) -> Result<Limits, Box<Problem>> {
    let expected = "a mapping such as `{ kill: 3s, any: 10s }`, or `none`";
    match leaf.word(expected)? {
        NONE => Ok(Limits::default()),
        word => {
            let title = format!("`{key}: {word}` does not say after which kind of fault");
            Err(leaf.wrong(title).label(format!("expected {expected}")))
        }
    }
}

fn bounds(key: &str, text: &str, node: &Node, parent: &mut Fields) -> Option<Limits> {
    let words = words();
    let fields = Fields::of(node, text, format!("`{key}`"), &words);
    let mut fields = fields.map_err(|problem| parent.problem(problem)).ok()?;
    let mut bounds = Vec::new();
    for word in words {
        let bound = fields.read(word, |leaf| leaf.duration(Duration::from_millis(1)));
        if let Found::Here(bound) = bound {
            bounds.push((word, bound.value));
        }
    }
    if bounds.is_empty() && fields.problems.is_empty() {
        let problem = Problem::at(node.first_line(text), format!("`{key}` bounds nothing"));
        fields
            .problem(problem.label("expected a kind of fault with its bound, such as `kill: 3s`, or `none`"));
    }
    let right = fields.problems.is_empty();
    parent.problems.append(&mut fields.problems);
    right.then_some(Limits { bounds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_without_a_bound_of_its_own_has_that_of_any() {
        let second = Duration::from_secs(1);
        let limits = Limits { bounds: vec![("kill", second), (ANY, 2 * second)] };
        assert_eq!(limits.of("kill"), Some(("kill", second)));
        assert_eq!(limits.of("pause"), Some((ANY, 2 * second)));
        assert_eq!(Limits { bounds: vec![("kill", second)] }.of("pause"), None);
        assert_eq!(limits.to_string(), "{ kill: 1s, any: 2s }");
        assert_eq!(Limits::default().to_string(), "none");
    }
}
