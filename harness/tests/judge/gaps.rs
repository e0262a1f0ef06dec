//! What is missing weakens the checks that needed it, and no other: lawful runs, damaged in each way, and the table of
//! `docs/checks.md`, which says what each damage does to each check. `UPDATE_EXPECTED=1` writes the table anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use mkraft_harness::check::{CHECKS, Status, judge};
use mkraft_harness::history::folder::RunFolder;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::lawful::sudden;

/// The columns of the table: what is missing.
const EVENTS: &[&str] = &["a node", "a boot", "a line", "a `stop`"];
const DUMPS: &[&str] = &["a dump", "a dump's line"];
const KINDS: &[&str] = &["role", "vote", "append", "commit", "apply", "truncate"];

/// Takes something away from a written run; returns the column and the file that must be named.
fn damage(root: &Path, rng: &mut ChaCha8Rng) -> Option<(String, String)> {
    let node = format!("nodes/n{}", rng.random_range(1..=3));
    let dump = format!("{node}/dump.jsonl");
    let mut boots: Vec<String> = fs::read_dir(root.join(&node).join("events"))
        .unwrap()
        .map(|item| format!("{node}/events/{}", item.unwrap().file_name().to_str().unwrap()))
        .collect();
    boots.sort();
    let boot = boots.choose(rng)?.clone();
    let lines = |file: &str| -> Vec<String> {
        fs::read_to_string(root.join(file)).unwrap().lines().map(str::to_owned).collect()
    };
    let write = |file: &str, lines: &[String]| fs::write(root.join(file), lines.join("\n") + "\n").unwrap();
    let drop_one = |file: &str, rng: &mut ChaCha8Rng, keep_last: bool| {
        let mut lines = lines(file);
        let most = lines.len() - usize::from(keep_last);
        if most == 0 {
            return None;
        }
        lines.remove(rng.random_range(0..most));
        write(file, &lines);
        Some(())
    };
    let column = match rng.random_range(0..12) {
        0 => {
            fs::remove_dir_all(root.join(&node)).unwrap();
            return Some(("a node".into(), node));
        }
        1 => {
            fs::remove_file(root.join(&boot)).unwrap();
            // When the last one is missing, the files are told from processes by their number.
            return Some(("a boot".into(), format!("{node}/events")));
        }
        2 => {
            drop_one(&boot, rng, true)?;
            return Some(("a line".into(), boot));
        }
        3 => {
            let last = boots.last()?;
            let mut stopped = lines(last);
            stopped.pop();
            write(last, &stopped);
            return Some(("a `stop`".into(), last.clone()));
        }
        4 => {
            fs::remove_file(root.join(&dump)).unwrap();
            "a dump"
        }
        5 => {
            drop_one(&dump, rng, false)?;
            "a dump's line"
        }
        _ => {
            // A process killed while it wrote its last line.
            let killed = &boots[..boots.len() - 1];
            let boot = killed.choose(rng)?;
            let text = fs::read_to_string(root.join(boot)).unwrap();
            let kind = KINDS.iter().find(|kind| {
                text.lines().last().is_some_and(|last| last.contains(&format!("\"event\":\"{kind}\"")))
            })?;
            fs::write(root.join(boot), &text[..text.len() - 10]).unwrap();
            return Some((format!("`{kind}` cut"), boot.clone()));
        }
    };
    Some((column.into(), dump))
}

/// Check and column to the verdicts that were seen.
type Table = BTreeMap<(String, String), BTreeSet<&'static str>>;

fn damaged_runs() -> (Table, u32) {
    let (mut table, mut tried) = (Table::new(), 0);
    for seed in 0..45 {
        let lawful = sudden(seed);
        for draw in 0..12 {
            let folder = tempfile::tempdir().unwrap();
            lawful.write(folder.path());
            let mut rng = ChaCha8Rng::seed_from_u64(seed * 100 + draw);
            let Some((column, file)) = damage(folder.path(), &mut rng) else { continue };
            tried += 1;
            for check in judge(&RunFolder::new(folder.path())).unwrap().results.checks {
                let case = format!("seed {seed}, draw {draw}: without {column} of {file}, {}", check.name);
                let found = &check.verdict.findings;
                assert_ne!(check.verdict.status, Status::Violated, "{case}: {found:#?}");
                let word = match check.verdict.status {
                    Status::Unknown => {
                        let named = |witness: &str| witness.starts_with(&file);
                        let mut witnesses = found.iter().flat_map(|finding| &finding.witnesses);
                        assert!(witnesses.any(|witness| named(&witness.file)), "{case}: {found:#?}");
                        "unknown"
                    }
                    _ => "holds",
                };
                table.entry((check.name, column.clone())).or_default().insert(word);
            }
        }
    }
    (table, tried)
}

/// In markdown, one row a check; columns with the same cells everywhere are one.
fn markdown(table: &Table) -> String {
    let cut = KINDS.iter().map(|kind| format!("`{kind}` cut"));
    let columns: Vec<String> = EVENTS.iter().chain(DUMPS).map(|&name| name.to_owned()).chain(cut).collect();
    let cell = |check: &str, column: &String| match table.get(&(check.to_owned(), column.clone())) {
        None => "?",
        Some(seen) if seen.len() == 2 => "if needed",
        Some(seen) if seen.contains("unknown") => "unknown",
        Some(_) => "",
    };
    let mut alike: Vec<(Vec<&String>, Vec<&str>)> = Vec::new();
    for column in &columns {
        let cells: Vec<&str> = CHECKS.iter().map(|check| cell(check.name, column)).collect();
        match alike.iter_mut().find(|(_, known)| *known == cells) {
            Some((names, _)) => names.push(column),
            None => alike.push((vec![column], cells)),
        }
    }
    let mut text = String::from("| check");
    for (names, _) in &alike {
        text += &format!(" | {}", names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "));
    }
    text += &format!(" |\n|{}\n", "---|".repeat(alike.len() + 1));
    for (row, check) in CHECKS.iter().enumerate() {
        text += &format!("| {}", check.name);
        alike.iter().for_each(|(_, cells)| text += &format!(" | {}", cells[row]));
        text += " |\n";
    }
    text
}

#[test]
fn what_is_missing_weakens_the_checks_that_needed_it_and_no_other() {
    let (table, tried) = damaged_runs();
    assert!(tried > 250, "{tried}");
    let found = markdown(&table);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/checks.md");
    let text = fs::read_to_string(&docs).unwrap();
    let (begin, end) = ("<!-- gaps: begin -->\n", "<!-- gaps: end -->\n");
    let (before, rest) = text.split_once(begin).unwrap();
    let (expected, after) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&docs, format!("{before}{begin}{found}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(found, expected, "the table of docs/checks.md is not what was seen:\n{found}");
}
