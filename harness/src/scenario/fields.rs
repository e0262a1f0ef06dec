//! Takes a mapping apart by its keys, and collects every mistake in it on the way.
//!
//! In: a [`Node`] and the keys it may have. Out: values with their places, and problems. Never: a stop at the
//! first problem, or a problem that only follows from another.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::kinds::WorkloadKind;
use super::manner::SIZES;
use super::problem::{Problem, did_you_mean, nearest, one_of, quoted};
use super::tree::{Node, Value};
use super::words::{Words, node_number};

/// The mappings of a scenario and their keys, in the order in which they are written. Those of a line under
/// `faults:` stand in [`super::words::FAULT_FORMS`] and [`super::rules`], those of one kind of load in
/// [`super::kinds`].
pub const SECTIONS: &[Section] = &[SCENARIO, CLUSTER, WORKLOAD, EXPECT];

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
        "leases",
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

/// A scenario runs for no longer than this, and no other duration in it is longer.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

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
            let help = belongs_elsewhere(word).or_else(|| did_you_mean(word, self.known.iter().copied()));
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
fn belongs_elsewhere(key: &str) -> Option<String> {
    let of_kinds = |section: &str, keys: fn(WorkloadKind) -> Vec<&'static str>| {
        let having = WorkloadKind::WORDS.iter().filter(|(_, kind)| keys(*kind).contains(&key));
        let kinds: Vec<_> = having.map(|(word, _)| *word).collect();
        (!kinds.is_empty()).then(|| format!("`{key}` belongs under {section} of kind {}", one_of(kinds)))
    };
    match SECTIONS.iter().find(|section| section.keys.contains(&key)) {
        Some(Section { name: "a scenario", .. }) => Some(format!("`{key}` belongs on the left margin")),
        Some(Section { name, .. }) => Some(format!("`{key}` belongs under {name}")),
        None => {
            of_kinds("`workload`", WorkloadKind::keys).or_else(|| of_kinds("`mix`", WorkloadKind::shares))
        }
    }
}

/// A value that has no keys of its own.
pub(super) struct Leaf<'a> {
    key: &'static str,
    node: &'a Node,
    text: &'a str,
}

impl<'a> Leaf<'a> {
    pub fn wrong(&self, title: impl Into<String>) -> Box<Problem> {
        Problem::at(self.node.first_line(self.text), title)
    }

    /// Any scalar, as it is written.
    pub fn word(&self, expected: &str) -> Result<&'a str, Box<Problem>> {
        match &self.node.value {
            Value::Scalar { text, .. } if !text.is_empty() => Ok(text),
            Value::Scalar { .. } => {
                Err(self.wrong(format!("`{}` has no value", self.key)).label(format!("expected {expected}")))
            }
            _ => {
                let title = format!("`{}` is {}", self.key, self.node.description());
                Err(self.wrong(title).label(format!("expected {expected}")))
            }
        }
    }

    pub fn whole(&self, range: RangeInclusive<u64>) -> Result<u64, Box<Problem>> {
        let expected = match range.clone().into_inner() {
            (least, u64::MAX) => format!("a whole number, {least} or more"),
            (least, most) => format!("a whole number from {least} to {most}"),
        };
        let word = self.word(&expected)?;
        let plain = matches!(self.node.value, Value::Scalar { plain: true, .. });
        let digits = plain && word.bytes().all(|byte| byte.is_ascii_digit());
        match word.parse() {
            Ok(number) if digits && range.contains(&number) => Ok(number),
            _ if digits => Err(self
                .wrong(format!("`{}: {word}` is out of range", self.key))
                .label(format!("expected {expected}"))),
            _ => Err(self
                .wrong(format!("`{}: {word}` is not a whole number", self.key))
                .label(format!("expected {expected}"))),
        }
    }

    pub fn whole_u32(&self, range: RangeInclusive<u32>) -> Result<u32, Box<Problem>> {
        let number = self.whole(u64::from(*range.start())..=u64::from(*range.end()))?;
        Ok(u32::try_from(number).expect("the range ends within u32"))
    }

    /// `true` or `false`, as YAML 1.2 has them.
    pub fn switch(&self) -> Result<bool, Box<Problem>> {
        const EXPECTED: &str = "true or false";
        let plain = matches!(self.node.value, Value::Scalar { plain: true, .. });
        match self.word(EXPECTED)? {
            "true" if plain => Ok(true),
            "false" if plain => Ok(false),
            word => {
                let title = format!("`{}: {word}` is neither yes nor no", self.key);
                Err(self.wrong(title).label(format!("expected {EXPECTED}")))
            }
        }
    }

    /// 50 of `50%`, up to `most`.
    pub fn percent(&self, most: u32) -> Result<u32, Box<Problem>> {
        let expected = format!("expected a share from 0% to {most}%, in whole percent");
        let word = self.word("a share such as 50%")?;
        let digits = word.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        match digits.map(str::parse) {
            Some(Ok(percent)) if percent <= most => Ok(percent),
            Some(_) => Err(self.wrong(format!("`{}: {word}` is out of range", self.key)).label(expected)),
            None => Err(self.wrong(format!("`{}: {word}` is not a share", self.key)).label(expected)),
        }
    }

    /// 65536 of `64KiB`; from 1 to `most`.
    pub fn size(&self, most: u64) -> Result<u64, Box<Problem>> {
        const EXPECTED: &str = "a size such as 512B, 64KiB, 1MiB";
        let word = self.word(EXPECTED)?;
        let (digits, unit) = word.split_at(word.bytes().take_while(u8::is_ascii_digit).count());
        if unit.is_empty() {
            return Err(self
                .wrong(format!("`{}: {word}` has no unit", self.key))
                .label(format!("expected {EXPECTED}")));
        }
        let bytes = SIZES.iter().find(|(known, _)| *known == unit).map(|(_, bytes)| *bytes);
        let Some((number, bytes)) = digits.parse::<u64>().ok().zip(bytes) else {
            return Err(self
                .wrong(format!("`{}: {word}` is not a size", self.key))
                .label(format!("expected {EXPECTED}")));
        };
        number.checked_mul(bytes).filter(|size| (1..=most).contains(size)).ok_or_else(|| {
            self.wrong(format!("`{}: {word}` is out of range", self.key))
                .label(format!("expected {}MiB or less, and more than nothing", most >> 20))
        })
    }

    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::Sequence(_))
    }

    /// A list, or what someone who meant a list may write.
    pub fn is_several(&self) -> bool {
        match &self.node.value {
            Value::Scalar { text, .. } => text.contains([',', ' ']),
            Value::Sequence(_) => true,
            Value::Mapping(_) => false,
        }
    }

    /// One of the words of `T`, or one of `nodes` where `T` has numbered ones; None when their number is unknown.
    pub fn one_of<T: Words>(&self, what: &str, nodes: Option<&Located<u32>>) -> Result<T, Box<Problem>> {
        let word = self.word(&expected::<T>(nodes))?;
        self.one_of_word(what, word, nodes)
    }

    /// The same of a `word` that is a part of the value.
    pub fn one_of_word<T: Words>(
        &self,
        what: &str,
        word: &str,
        nodes: Option<&Located<u32>>,
    ) -> Result<T, Box<Problem>> {
        if let Some(number) = node_number(word)
            && let Some(value) = T::numbered(number)
        {
            return match nodes {
                Some(nodes) if number > nodes.value => Err(self
                    .wrong(format!("there is no `{word}` in a cluster of {}", nodes.value))
                    .label(format!("expected {}", node(Some(nodes))))
                    .also(nodes.span.clone(), "the cluster")),
                _ => Ok(value),
            };
        }
        T::from_word(word).ok_or_else(|| {
            self.wrong(format!("unknown {what} `{word}`"))
                .label(format!("expected {}", expected::<T>(nodes)))
                .help(did_you_mean(word, listed::<T>()))
        })
    }

    /// Whole milliseconds, the finest that a node can be told; at least `least`.
    pub fn duration(&self, least: Duration) -> Result<Duration, Box<Problem>> {
        self.duration_within(least..=DURATION_MAX)
    }

    pub fn duration_within(&self, range: RangeInclusive<Duration>) -> Result<Duration, Box<Problem>> {
        const EXPECTED: &str = "a duration such as 500ms, 5s, 2m";
        let word = self.word(EXPECTED)?;
        if word.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self
                .wrong(format!("`{}: {word}` has no unit", self.key))
                .label(format!("expected {EXPECTED}"))
                .help(Some(format!("`{word}s` are seconds, `{word}ms` milliseconds"))));
        }
        let Ok(duration) = humantime::parse_duration(word) else {
            return Err(self
                .wrong(format!("`{}: {word}` is not a duration", self.key))
                .label(format!("expected {EXPECTED}")));
        };
        let (title, expected) = if !duration.subsec_nanos().is_multiple_of(1_000_000) {
            ("is too fine", "whole milliseconds".into())
        } else if duration < *range.start() {
            ("is too short", format!("{} or more", humantime::format_duration(*range.start())))
        } else if duration > *range.end() {
            ("is too long", format!("{} or less", humantime::format_duration(*range.end())))
        } else {
            return Ok(duration);
        };
        Err(self.wrong(format!("`{}: {word}` {title}", self.key)).label(format!("expected {expected}")))
    }
}

fn listed<T: Words>() -> impl Iterator<Item = &'static str> {
    T::WORDS.iter().map(|(word, _)| *word)
}

fn expected<T: Words>(nodes: Option<&Located<u32>>) -> String {
    match T::numbered(1) {
        None => one_of(listed::<T>()),
        Some(_) => format!("{}, or {}", quoted(listed::<T>()).join(", "), node(nodes)),
    }
}

fn node(nodes: Option<&Located<u32>>) -> String {
    nodes.map_or("a node such as `n1`".into(), |nodes| format!("a node, `n1` to `n{}`", nodes.value))
}

#[cfg(test)]
mod tests {
    use super::super::rules::line_keys;
    use super::super::words::{FAULT_FORMS, Words};
    use super::super::{Scenario, Shape, Target};
    use super::*;

    /// Links that are no single word.
    const ARROWS: [&str; 3] = ["leader", "A -> B", "A <-> B"];
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
        let faults = [("`faults`".to_owned(), line), ("Links".to_owned(), shapes)];
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
            assert!(rows("`faults`").contains(&(hold.key, default.as_str())), "{}: {default}", hold.key);
        }
        for form in FAULT_FORMS {
            for term in { form.manner }.terms() {
                let none = matches!(term.to_string().as_str(), "0s" | "0MiB");
                let default = if none { "required".to_owned() } else { format!("`{term}`") };
                assert!(
                    rows("`faults`").contains(&(term.key(), default.as_str())),
                    "{}: {default}",
                    term.key()
                );
            }
        }
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
