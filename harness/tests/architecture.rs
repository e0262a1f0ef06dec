//! The directions of ARCHITECTURE.md, kept: which room may know which, and what must be absent where.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// A room, the rooms of its own crate that it may name, and words that must not stand in its code.
struct Room {
    path: &'static str,
    may_use: &'static [&'static str],
    never: &'static [&'static str],
}

const OUTSIDE: &[&str] =
    &["tokio", "tonic", "async", "std::net", "std::process", "Instant", "SystemTime", "rand"];
/// Values, and the draws of a generator that is given.
const PLAIN: &[&str] =
    &["tokio", "async", "std::fs", "std::net", "std::process", "std::thread", "Instant", "SystemTime"];
const ASYNC: &[&str] = &["tokio", "tonic", "async", ".await"];

const ROOMS: &[Room] = &[
    // The core has no clock, disk, socket, thread, async, Result or unseeded randomness, and nothing from elsewhere.
    Room {
        path: "node/src/raft",
        may_use: &["raft"],
        never: &[
            "tokio",
            "tonic",
            "prost",
            "serde",
            "mkraft_proto",
            "async",
            "std::net",
            "std::process",
            "std::fs",
            "std::io",
            "std::thread",
            "std::time",
            "Instant",
            "SystemTime",
            "Result<",
            "RandomState",
            "HashMap",
            "HashSet",
            "unsafe",
        ],
    },
    Room { path: "node/src/storage", may_use: &["raft", "storage"], never: ASYNC },
    Room { path: "node/src/machine", may_use: &["raft", "machine"], never: OUTSIDE },
    Room {
        path: "node/src/transport",
        may_use: &["raft", "machine", "driver", "causes", "transport"],
        never: &["std::fs"],
    },
    Room { path: "node/src/acts.rs", may_use: &["raft", "events"], never: OUTSIDE },
    Room { path: "node/src/events.rs", may_use: &["raft", "machine", "storage"], never: ASYNC },
    Room { path: "node/src/dump.rs", may_use: &["raft", "storage", "machine", "events"], never: ASYNC },
    // Intent decides nothing by the clock.
    Room {
        path: "harness/src/scenario",
        may_use: &["scenario"],
        never: &["tokio", "tonic", "async", "std::net", "std::process", "Instant", "SystemTime"],
    },
    Room { path: "harness/src/history", may_use: &["history", "scenario"], never: ASYNC },
    // The judge has no access to the scene.
    Room { path: "harness/src/check", may_use: &["check", "history", "scenario"], never: OUTSIDE },
    Room { path: "harness/src/report", may_use: &["check", "history", "scenario", "report"], never: OUTSIDE },
    // What to try next is decided without trying.
    Room { path: "harness/src/reproduce/search.rs", may_use: &["scenario"], never: OUTSIDE },
    Room { path: "harness/src/reproduce/smaller", may_use: &["scenario"], never: OUTSIDE },
    Room { path: "harness/src/reproduce/rate.rs", may_use: &[], never: OUTSIDE },
    // What a disk holds and forgets is decided without one.
    Room { path: "harness/src/disk/model", may_use: &["disk"], never: PLAIN },
    Room { path: "harness/src/disk/model.rs", may_use: &[], never: PLAIN },
    Room { path: "harness/src/disk/faults.rs", may_use: &["scenario"], never: PLAIN },
    Room { path: "harness/src/disk", may_use: &["disk", "scenario"], never: &["mkraft_proto", "tonic"] },
    Room {
        path: "harness/src/cluster",
        may_use: &["cluster", "disk", "system"],
        never: &["mkraft_proto::v1"],
    },
    Room {
        path: "harness/src/nemesis",
        may_use: &["nemesis", "cluster", "disk", "system", "history", "scenario"],
        never: &["mkraft_proto"],
    },
    Room {
        path: "harness/src/workload",
        may_use: &["workload", "system", "history", "scenario"],
        never: &["mkraft_proto"],
    },
];

#[test]
fn every_room_knows_only_the_rooms_it_may() {
    let mut broken = Vec::new();
    for room in ROOMS {
        let files = rust_files(&root().join(room.path));
        assert!(!files.is_empty(), "{} has no files: the room has moved", room.path);
        for (file, number, code) in files.iter().flat_map(|file| code_lines(file)) {
            for name in rooms_named(&code) {
                if !room.may_use.contains(&name.as_str()) {
                    broken.push(format!("{file}:{number}: {} must not use {name}: {code}", room.path));
                }
            }
            for word in room.never.iter().filter(|word| contains_word(&code, word)) {
                broken.push(format!("{file}:{number}: {} is without {word}: {code}", room.path));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn only_the_system_room_speaks_the_protocol_of_a_node() {
    let mut broken = Vec::new();
    for file in rust_files(&root().join("harness/src")) {
        let speaks = file.strip_prefix(root().join("harness/src")).unwrap().starts_with("system");
        for (file, number, code) in code_lines(&file) {
            if !speaks && (code.contains("mkraft_proto::v1") || code.contains("mkraft_proto::errors")) {
                broken.push(format!("{file}:{number}: {code}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_crates_depend_on_proto_and_never_on_each_other() {
    let manifest = |name: &str| fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
    for (name, never) in [("node", "mkraft-harness"), ("harness", "mkraft-node"), ("proto", "path =")] {
        assert!(!manifest(name).contains(never), "{name}/Cargo.toml names {never}");
    }
    assert!(manifest("node").contains("mkraft-proto") && manifest("harness").contains("mkraft-proto"));
}

#[test]
fn no_room_is_a_drawer_for_everything() {
    for file in ["proto", "node", "harness"].iter().flat_map(|name| rust_files(&root().join(name))) {
        for part in file.strip_prefix(root()).unwrap().with_extension("").iter() {
            let part = part.to_str().unwrap();
            assert!(!["util", "utils", "common", "misc", "helpers"].contains(&part), "{}", file.display());
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

fn rust_files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.into()];
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Lines without comments, up to the file's unit tests; a `use` of several lines is one.
fn code_lines(file: &Path) -> Vec<(String, usize, String)> {
    if is_for_tests_only(file) {
        return Vec::new();
    }
    let text = fs::read_to_string(file).unwrap();
    let name = file.strip_prefix(root()).unwrap().display().to_string();
    let mut lines: Vec<(String, usize, String)> = Vec::new();
    for (number, line) in text.lines().take_while(|line| line.trim() != "#[cfg(test)]").enumerate() {
        let code = line.split("//").next().unwrap_or_default().trim();
        match lines.last_mut() {
            Some((_, _, before)) if is_use(before) && !before.ends_with(';') => before.push_str(code),
            _ if code.is_empty() => {}
            _ => lines.push((name.clone(), number + 1, code.to_owned())),
        }
    }
    lines
}

/// Its parent declares it behind `#[cfg(test)]`, or it stands below such a module.
fn is_for_tests_only(file: &Path) -> bool {
    let declared = |path: &Path| {
        let (Some(folder), Some(name)) = (path.parent(), path.file_stem()) else { return false };
        let parent = fs::read_to_string(folder.join("mod.rs")).unwrap_or_default();
        parent.contains(&format!("#[cfg(test)]\nmod {};", name.display()))
    };
    file.ancestors().any(declared)
}

fn is_use(code: &str) -> bool {
    code.starts_with("use ") || code.starts_with("pub use ")
}

/// `a` and `b` of `crate::a::x` and `crate::{b, ...}`.
fn rooms_named(code: &str) -> Vec<String> {
    let identifier =
        |text: &str| text.chars().take_while(|&c| c.is_alphanumeric() || c == '_').collect::<String>();
    let mut names = Vec::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(list) => names.extend(list.split(',').map(|item| identifier(item.trim()))),
            None => names.push(identifier(after)),
        }
    }
    names.retain(|name| !name.is_empty() && name.starts_with(char::is_lowercase));
    names
}

fn contains_word(code: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        let alone = !is_part(code[..at].chars().next_back());
        let ends = !word.ends_with(char::is_alphanumeric) || !is_part(code[at + word.len()..].chars().next());
        alone && ends
    })
}
