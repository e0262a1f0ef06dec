//! Keeps `docs/paper.md` true: every name in it is there, and every test of `paper/` is in it.
//!
//! In: the page's code spans, read by the convention that the page states. Out: each name that nothing has, by line.
//! Never: a judgement whether the code obeys; the tests that are named do that.

// What tests share may unwrap as tests do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/paper.md";

/// Where the names are looked up.
struct Project {
    root: PathBuf,
    /// Of the node, wherever they stand.
    tests: BTreeSet<String>,
    flags: BTreeSet<String>,
    codes: BTreeSet<String>,
}

impl Project {
    fn read() -> Project {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut tests = BTreeSet::new();
        for folder in ["node/src", "node/tests"] {
            sources(&root.join(folder)).iter().for_each(|path| tests.extend(tests_of(&text(path))));
        }
        let flags = flags_of(&text(&root.join("node/src/config.rs")));
        let proto = text(&root.join("proto/mkraft/v1/kv.proto"));
        let codes =
            proto.lines().filter_map(|line| line.trim().split_once(" = ")).map(|(name, _)| name.into());
        Project { root, tests, flags, codes: codes.collect() }
    }

    /// Files are told as seen from the node's sources, its tests, or the root.
    fn find(&self, path: &str) -> Option<PathBuf> {
        let below = ["node/src", "node/tests", ""].map(|folder| self.root.join(folder).join(path));
        below.into_iter().find(|path| path.exists())
    }

    /// What is wrong with a name, if anything is.
    fn problem(&self, name: &str) -> Option<String> {
        let all = |of: fn(char) -> bool| name.chars().all(of);
        if let Some((path, item)) = name.split_once("::") {
            let Some(file) = self.find(path).filter(|file| file.is_file()) else {
                return Some(format!("there is no file {path}"));
            };
            let path_of_item: Vec<&str> = item.split("::").collect();
            let held = holds(&text(&file), &path_of_item);
            (!held).then(|| format!("{path} has no {item}"))
        } else if name.contains('/') || name.ends_with(".rs") || name.ends_with(".md") {
            self.find(name).is_none().then(|| format!("there is no file {name}"))
        } else if let Some(flag) = name.strip_prefix("--") {
            (!self.flags.contains(flag)).then(|| format!("the node has no flag --{flag}"))
        } else if all(|c| c.is_ascii_uppercase() || c == '_') {
            (!self.codes.contains(name)).then(|| format!("the protocol has no code {name}"))
        } else if name.contains('_') && all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            (!self.tests.contains(name)).then(|| format!("no test is called {name}"))
        } else if all(|c| c.is_ascii_lowercase() || c == '-') {
            let check = self.root.join("harness/src/check").join(name.replace('-', "_"));
            let found = check.is_dir() || check.with_extension("rs").is_file();
            (!found).then(|| format!("the harness has no check {name}"))
        } else {
            Some("is no name of a kind that this page uses".into())
        }
    }

    fn problems(&self, page: &str) -> Vec<String> {
        let of = |(line, name): &(usize, String)| {
            self.problem(name).map(|problem| format!("{PAGE}:{line}: `{name}`: {problem}"))
        };
        names(page).iter().filter_map(of).collect()
    }
}

#[test]
fn every_name_on_the_page_is_there() {
    let project = Project::read();
    let page = text(&project.root.join(PAGE));
    let problems = project.problems(&page);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let count = names(&page).len();
    assert!(count > 300, "the page has {count} names: they are not read any more");
}

#[test]
fn every_paper_test_is_on_the_page() {
    let project = Project::read();
    let page = text(&project.root.join(PAGE));
    let named: BTreeSet<String> = names(&page).into_iter().map(|(_, name)| name).collect();
    let mut count = 0;
    for path in sources(&project.root.join("node/tests/paper")) {
        for test in tests_of(&text(&path)) {
            assert!(named.contains(&test), "{PAGE} does not name {test} of {}", path.display());
            count += 1;
        }
    }
    assert!(count > 100, "only {count} tests were found");
}

#[test]
fn a_name_that_nothing_has_is_told_by_its_line() {
    let page = "\
`raft/election.rs::request_vote` and `raft/message.rs::Body::Append::round` are there.
`raft/election.rs::request_note` is not, and `raft/message.rs::Body::Amend` neither.
`raft/message.rs::Body::Append::token` is of `raft/erection.rs`, `scripts/election/no_election`
and `raft/mod.rs::Wraft::step`.
A test `terms_and_votes_survive_a_restart`, no test `terms_and_votes_survive_nothing`.
A check `log-matching`, and `log-mismatching`; `--leases`, `--leashes`; `BUSY`, `LAZY`; `currentTerm`.
```
`not read`
```
";
    let wrong: Vec<String> = Project::read().problems(page);
    let wrong: Vec<&str> = wrong.iter().map(|line| line.split(": ").nth(1).unwrap()).collect();
    assert_eq!(
        wrong,
        [
            "`raft/election.rs::request_note`",
            "`raft/message.rs::Body::Amend`",
            "`raft/message.rs::Body::Append::token`",
            "`raft/erection.rs`",
            "`scripts/election/no_election`",
            "`raft/mod.rs::Wraft::step`",
            "`terms_and_votes_survive_nothing`",
            "`log-mismatching`",
            "`--leashes`",
            "`LAZY`",
            "`currentTerm`",
        ]
    );
}

/// Code spans outside fences, with their lines, from 1.
fn names(page: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut names = Vec::new();
    for (number, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let pieces: Vec<&str> = line.split('`').collect();
            assert!(pieces.len() % 2 == 1, "{PAGE}:{}: a code span is not closed", number + 1);
            names.extend(pieces.into_iter().skip(1).step_by(2).map(|name| (number + 1, name.to_owned())));
        }
    }
    names
}

/// True if a source, as rustfmt leaves it, defines this item, or the member of an item.
fn holds(source: &str, path: &[&str]) -> bool {
    let lines: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    match path {
        [name] => lines.iter().any(|line| defines(line, name)),
        [owner, members @ ..] => {
            blocks(&lines, |line| is_of(line, owner)).iter().any(|block| has(block, members))
        }
        [] => false,
    }
}

/// Of a definition or `impl`: whether there is such a field, variant or function; or what a variant holds.
fn has(block: &[&str], members: &[&str]) -> bool {
    match members {
        [name] => block.iter().any(|line| defines(line, name) || is_member(line, name)),
        [name, rest @ ..] => blocks(block, |line| is_member(line, name)).iter().any(|block| has(block, rest)),
        [] => false,
    }
}

fn defines(line: &str, name: &str) -> bool {
    let line = unqualified(line);
    let kinds = ["fn ", "const fn ", "struct ", "enum ", "trait ", "const ", "static ", "type "];
    kinds.iter().filter_map(|kind| line.strip_prefix(kind)).any(|rest| starts_with_word(rest, name))
}

fn is_of(line: &str, owner: &str) -> bool {
    let is_impl = line.trim_start().starts_with("impl");
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    defines(line, owner) || is_impl && words.any(|word| word == owner)
}

fn is_member(line: &str, name: &str) -> bool {
    let line = unqualified(line);
    let rest = line.strip_prefix(name).unwrap_or("no");
    [":", ",", "(", " {"].iter().any(|next| rest.starts_with(next) && !rest.starts_with("::"))
}

/// The lines after each that fits, up to the one that closes it.
fn blocks<'a>(lines: &'a [&'a str], fits: impl Fn(&str) -> bool) -> Vec<&'a [&'a str]> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let block = |(start, line): (usize, &&'a str)| {
        let rest = &lines[start + 1..];
        let closes = |other: &&str| indent(other) == indent(line) && other.trim_start().starts_with('}');
        rest.iter().position(closes).map(|end| &rest[..end])
    };
    lines.iter().enumerate().filter(|(_, line)| fits(line) && line.ends_with('{')).filter_map(block).collect()
}

fn unqualified(line: &str) -> &str {
    let line = line.trim_start();
    let words = ["pub ", "pub(super) ", "pub(crate) ", "async "];
    words.iter().find_map(|word| line.strip_prefix(word)).map_or(line, unqualified)
}

fn starts_with_word(text: &str, word: &str) -> bool {
    let next = text.strip_prefix(word).map(|rest| rest.chars().next());
    next.is_some_and(|next| !next.is_some_and(|c| c.is_alphanumeric() || c == '_'))
}

fn tests_of(source: &str) -> Vec<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let marked =
        lines.iter().enumerate().filter(|(_, line)| line.starts_with("#[") && line.ends_with("test]"));
    let function = |(at, _): (usize, &&str)| {
        let first = lines[at + 1..].iter().find(|line| !line.starts_with("#[") && !line.starts_with("//"))?;
        let name = unqualified(first).strip_prefix("fn ")?;
        Some(name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
    };
    marked.filter_map(function).collect()
}

/// Of `struct Flags`, as clap makes them: by the field's name, unless another is given.
fn flags_of(source: &str) -> BTreeSet<String> {
    let lines: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let block = blocks(&lines, |line| defines(line, "Flags"));
    let mut flags = BTreeSet::new();
    for line in block.into_iter().flatten() {
        if let Some((_, rest)) = line.split_once("long = \"") {
            flags.extend(rest.split_once('"').map(|(name, _)| name.to_owned()));
        } else if let Some((field, _)) = line.trim().split_once(": ").filter(|_| !line.contains("#[")) {
            flags.insert(field.replace('_', "-"));
        }
    }
    flags
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
