//! Takes a mapping apart by its keys, and collects every mistake in it on the way.
//!
//! In: a [`Node`] and the keys it may have. Out: values with their places, and problems. Never: a stop at the
//! first problem, or a problem that only follows from another.

use std::ops::Range;

use super::kinds::WorkloadKind;
use super::leaf::Leaf;
use super::moves::MOVE;
use super::problem::{Problem, did_you_mean, nearest, one_of};
use super::rules::{CHOICE, PHASE};
use super::tree::{Node, Value};
use super::words::Words;

/// The mappings of a scenario and their keys, in the order in which they are written. Those of a line under
/// `faults:` stand in [`super::words::FAULT_FORMS`] and [`super::rules`], those of one kind of load in
/// [`super::kinds`].
pub const SECTIONS: &[Section] = &[SCENARIO, CLUSTER, WORKLOAD, EXPECT, CHOICE, PHASE, MOVE];

pub const SCENARIO: Section = Section {
    name: "a scenario",
    keys: &["name", "duration", "cluster", "workload", "keep", "faults", "expect"],
};
pub const CLUSTER: Section = Section {
    name: "`cluster`",
    keys: &[
        "nodes",
        "spares",
        "election-timeout",
        "heartbeat",
        "compact-entries",
        "compact-bytes",
        "snapshot-rate",
        "segment-bytes",
        "leases",
        "disks",
    ],
};
pub const WORKLOAD: Section = Section {
    name: "`workload`",
    keys: &["kind", "clients", "rate", "loop", "placement", "timeout", "connections"],
};
pub const EXPECT: Section = Section {
    name: "`expect`",
    keys: &[
        "ok-min",
        "leader-changes-min",
        "leader-changes-max",
        "snapshots-installed-min",
        "config-changes-min",
        "recovers-within",
        "serves-within",
        "heals-within",
        "service-min",
    ],
};

#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// As messages call it.
    pub name: &'static str,
    pub keys: &'static [&'static str],
}

/// A value, and its place unless it is a default.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Located<T> {
    pub value: T,
    pub span: Option<Range<usize>>,
}

/// What a mapping has under one key.
pub(super) enum Found<T> {
    Absent,
    /// Something wrong, already reported: nothing more can be said about it.
    Wrong,
    Here(Located<T>),
}

impl<T> Found<T> {
    /// None when it was wrong.
    pub fn or(self, default: T) -> Option<Located<T>> {
        match self {
            Found::Absent => Some(Located { value: default, span: None }),
            Found::Wrong => None,
            Found::Here(located) => Some(located),
        }
    }
}

/// One mapping being read.
pub(super) struct Fields<'a> {
    text: &'a str,
    node: &'a Node,
    section: String,
    known: Vec<&'static str>,
    entries: Vec<(&'a str, &'a Node, &'a Node)>,
    pub problems: Vec<Problem>,
    /// Whether a key was not known: what is missing may then only be misspelt.
    pub has_unknown: bool,
    /// What the unknown keys were probably meant to be.
    meant: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// None, and a problem, when `node` is no mapping.
    pub fn of(
        node: &'a Node,
        text: &'a str,
        section: impl Into<String>,
        known: &[&'static str],
    ) -> Result<Fields<'a>, Box<Problem>> {
        let section = section.into();
        let Value::Mapping(entries) = &node.value else {
            let title = format!("{section} is {}", node.description());
            let keys = one_of(known.iter().copied());
            return Err(Problem::at(node.first_line(text), title)
                .label(format!("expected a mapping such as `{{ key: value }}`, with the keys {keys}")));
        };
        let mut fields = Fields {
            text,
            node,
            section,
            known: known.to_vec(),
            entries: Vec::new(),
            problems: Vec::new(),
            has_unknown: false,
            meant: Vec::new(),
        };
        for (key, value) in entries {
            fields.entry(key, value);
        }
        Ok(fields)
    }

    fn entry(&mut self, key: &'a Node, value: &'a Node) {
        let Value::Scalar { text: word, .. } = &key.value else {
            let problem = Problem::at(key.first_line(self.text), format!("a key is {}", key.description()));
            self.has_unknown = true;
            return self.problem(problem.label(format!("expected {}", one_of(self.known.iter().copied()))));
        };
        if !self.known.contains(&word.as_str()) {
            let problem = Problem::at(key.span.clone(), format!("unknown key `{word}`")).label(format!(
                "{} has {}",
                self.section,
                one_of(self.known.iter().copied())
            ));
            let help = belongs_elsewhere(&self.section, word)
                .or_else(|| did_you_mean(word, self.known.iter().copied()));
            self.has_unknown = true;
            self.meant.extend(nearest(word, self.known.iter().copied()));
            return self.problem(problem.help(help));
        }
        if let Some((_, first, _)) = self.entries.iter().find(|(known, ..)| known == word) {
            let problem = Problem::at(key.span.clone(), format!("duplicate key `{word}`"))
                .label("expected each key once")
                .also(Some(first.span.clone()), "first here");
            return self.problem(problem);
        }
        self.entries.push((word, key, value));
    }

    #[expect(clippy::boxed_local, reason = "taken as the leaves return it")]
    pub fn problem(&mut self, problem: Box<Problem>) {
        self.problems.push(*problem);
    }

    /// Whether it may have such a key.
    pub fn knows(&self, key: &'static str) -> bool {
        self.known.contains(&key)
    }

    /// The keys that it has and are none of `fitting`, each with its place.
    pub fn beside(&self, fitting: &[&str]) -> Vec<(&'a str, Range<usize>)> {
        let others = self.entries.iter().filter(|(word, ..)| !fitting.contains(word));
        others.map(|(word, key, _)| (*word, key.span.clone())).collect()
    }

    /// The key itself and its value.
    pub fn node(&self, key: &'static str) -> Option<(&'a Node, &'a Node)> {
        assert!(
            self.known.contains(&key),
            "{key} is asked of {} but is none of {:?}",
            self.section,
            self.known
        );
        self.entries.iter().find(|(known, ..)| *known == key).map(|(_, key, value)| (*key, *value))
    }

    pub fn read<T>(
        &mut self,
        key: &'static str,
        leaf: impl FnOnce(&Leaf<'a>) -> Result<T, Box<Problem>>,
    ) -> Found<T> {
        let Some((_, node)) = self.node(key) else { return Found::Absent };
        match leaf(&Leaf { key, node, text: self.text }) {
            Ok(value) => Found::Here(Located { value, span: Some(node.first_line(self.text)) }),
            Err(problem) => {
                self.problem(problem);
                Found::Wrong
            }
        }
    }

    /// None, and a problem, when it is absent or wrong.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        leaf: impl FnOnce(&Leaf<'a>) -> Result<T, Box<Problem>>,
    ) -> Option<Located<T>> {
        match self.read(key, leaf) {
            Found::Here(located) => Some(located),
            Found::Wrong => None,
            Found::Absent if self.meant.contains(&key) => None,
            Found::Absent => {
                let title = format!("{} has no `{key}`", self.section);
                let problem = Problem::at(self.node.first_line(self.text), title);
                self.problem(problem.label(format!("expected `{key}: {expected}` beside this")));
                None
            }
        }
    }
}

/// "`nodes` belongs under `cluster`", for a key that is right in another place.
fn belongs_elsewhere(section: &str, key: &str) -> Option<String> {
    let of_kinds = |section: &str, keys: fn(WorkloadKind) -> Vec<&'static str>| {
        let having = WorkloadKind::WORDS.iter().filter(|(_, kind)| keys(*kind).contains(&key));
        let kinds: Vec<_> = having.map(|(word, _)| *word).collect();
        (!kinds.is_empty()).then(|| format!("`{key}` belongs under {section} of kind {}", one_of(kinds)))
    };
    // A move of a script has a name, as the whole has.
    let inner = section == "a fault" && MOVE.keys.contains(&key);
    let found = SECTIONS.iter().find(|section| section.keys.contains(&key));
    match found.filter(|_| !inner).or(inner.then_some(&MOVE)) {
        Some(Section { name: "a scenario", .. }) => Some(format!("`{key}` belongs on the left margin")),
        Some(Section { name, .. }) => Some(format!("`{key}` belongs under {name}")),
        None => {
            of_kinds("`workload`", WorkloadKind::keys).or_else(|| of_kinds("`mix`", WorkloadKind::shares))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::manner::Term;
    use super::super::rules::line_keys;
    use super::super::words::{FAULT_FORMS, Words};
    use super::super::{Fact, Scenario, Shape, Target};
    use super::*;

    /// Links that are no single word.
    const ARROWS: [&str; 3] = ["leader", "A -> B", "A <-> B"];
    /// Facts that are no single word.
    const COMMITS: [&str; 2] = ["commit 500", "commit +100"];
    const DOCUMENTATION: &str = include_str!("../../../docs/scenarios.md");

    /// The rows of the documentation's tables under one heading: key and default.
    fn rows(heading: &str) -> Vec<(&'static str, &'static str)> {
        let (_, section) = DOCUMENTATION.split_once(&format!("# {heading}\n")).unwrap();
        let section = section.split("\n#").next().unwrap();
        let cells = |line: &'static str| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            Some((cells.next()?.strip_prefix('`')?.strip_suffix('`')?, cells.next()?))
        };
        section.lines().filter_map(cells).collect()
    }

    /// Of the table of a kind of load.
    fn heading(word: &str) -> String {
        format!("`kind: {word}`")
    }

    #[test]
    fn every_key_is_documented_and_no_other() {
        let sections = SECTIONS.iter().map(|section| {
            let heading = if section.name == "a scenario" { "Keys" } else { section.name };
            (heading.to_owned(), section.keys.to_vec())
        });
        let kinds = WorkloadKind::WORDS.iter().map(|(word, kind)| (heading(word), kind.keys()));
        let mut line = line_keys();
        line.extend(Target::WORDS.iter().map(|(word, _)| *word).chain(["n2"]));
        let shapes = Shape::WORDS.iter().map(|(word, _)| *word).chain(ARROWS).collect();
        let facts = Fact::WORDS.iter().map(|(word, _)| *word).chain(COMMITS).collect();
        let faults =
            [("`faults`".to_owned(), line), ("Links".to_owned(), shapes), ("Facts".to_owned(), facts)];
        for (heading, mut expected) in sections.chain(kinds).chain(faults) {
            let mut documented: Vec<&str> = rows(&heading).iter().map(|(key, _)| *key).collect();
            documented.sort_unstable();
            expected.sort_unstable();
            assert_eq!(documented, expected, "under {heading}");
        }
    }

    #[test]
    fn every_default_is_documented_as_it_is() {
        for (word, _) in WorkloadKind::WORDS {
            let least = format!("# A claim.\nname: least\nduration: 9s\nworkload: {{ kind: {word} }}");
            let yaml = Scenario::parse("least.yaml", &least).unwrap().to_yaml();
            let spelled_out: Vec<(&str, &str)> =
                yaml.lines().filter_map(|line| line.trim().split_once(": ")).collect();
            for section in ["`cluster`", "`workload`", "`expect`", &heading(word)] {
                for (key, default) in rows(section) {
                    if default != "required" {
                        let default = default.trim_matches('`');
                        assert!(spelled_out.contains(&(key, default)), "{key}: {default} is not in\n{yaml}");
                    }
                }
            }
        }
        for hold in FAULT_FORMS.iter().filter_map(|form| form.hold.as_ref()) {
            let default = format!("`{}`", humantime::format_duration(hold.default));
            assert!(says(hold.key, &default), "{}: {default}", hold.key);
        }
        for form in FAULT_FORMS {
            for term in { form.manner }.terms() {
                let none = match &term {
                    Term::Rate { .. } => true,
                    term => matches!(term.to_string().as_str(), "0s" | "0MiB"),
                };
                let default = if none { "required".to_owned() } else { format!("`{term}`") };
                assert!(says(term.key(), &default), "{}: {default}", term.key());
            }
        }
    }

    /// Whether the row of a key of `faults` says so: where kinds differ, what is another's stands in its meaning.
    fn says(key: &str, default: &str) -> bool {
        let row = format!("| `{key}` | ");
        DOCUMENTATION.lines().any(|line| line.strip_prefix(&row).is_some_and(|rest| rest.contains(default)))
    }

    #[test]
    fn every_example_of_the_documentation_is_a_scenario() {
        let examples: Vec<&str> =
            DOCUMENTATION.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert!(!examples.is_empty());
        for example in examples {
            Scenario::parse("docs/scenarios.md", example).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}
