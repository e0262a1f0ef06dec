//! Histories of other systems are judged by the program, and ours leave in a form that it takes back.
//!
//! In: `histories/MODEL.CASE[.keyed].FORM`, and beside each all that is told of it, with the exit code
//! (`UPDATE_EXPECTED=1` writes those anew, to be read before they are kept). Never: a golden text compared in part.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mkraft_harness::check::models::Model;

const WRITE_READ: &str = "{:process 0, :type :invoke, :f :write, :value 1}
{:process 0, :type :ok, :f :write, :value 1}
{:process 1, :type :invoke, :f :read, :value nil}
";

fn harness(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mkraft-harness")).args(arguments).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn run(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs").join(name)
}

/// One file of `histories`.
struct Kept {
    name: String,
    model: String,
    case: String,
    form: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories")
}

/// In the order of their names.
fn kept() -> Vec<Kept> {
    let files = std::fs::read_dir(folder()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.ends_with(".told")).collect();
    names.sort();
    let kept = |name: String| {
        let parts: Vec<String> = name.split('.').map(str::to_owned).collect();
        let (model, case, form) = (parts[0].clone(), parts[1].clone(), parts[parts.len() - 1].clone());
        Kept { name, model, case, form }
    };
    names.into_iter().map(kept).collect()
}

/// The exit code, and all that the program says.
fn judged(Kept { name, model, .. }: &Kept) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkraft-harness"));
    command.current_dir(folder()).args(["check", "--history", name, "--model", model]);
    if name.contains(".keyed.") {
        command.arg("--keyed");
    }
    let output = command.output().unwrap();
    format!("exit {}\n{}", output.status.code().unwrap(), told(&output))
}

#[test]
fn each_kept_history_is_told_as_expected() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let (mut differing, mut models, mut forms) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let kept = kept();
    for history in &kept {
        let told = judged(history);
        let expected = folder().join(format!("{}.told", history.name));
        if update {
            std::fs::write(&expected, &told).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != told {
            differing.push(format!("{}, but got:\n{told}", expected.display()));
        }
        models.insert(&*history.model);
        forms.insert(&*history.form);
    }
    assert!(differing.is_empty(), "expected what stands in {}", differing.join("\nand in "));
    let files = std::fs::read_dir(folder()).unwrap().count();
    assert_eq!(files, 2 * kept.len(), "a text is left without its history");
    assert_eq!(models, BTreeSet::from(Model::WORDS));
    assert_eq!(forms.len(), 4, "{forms:?}");
}

#[test]
fn a_guilty_history_of_transactions_is_called_by_its_name_and_an_innocent_one_holds() {
    let (mut guilty, mut innocent) = (0, 0);
    for history in kept().iter().filter(|history| history.model == "append") {
        let (told, case) = (judged(history), &history.case);
        if case == "innocent" {
            assert!(told.starts_with("exit 0\n"), "{case}: {told}");
            innocent += 1;
        } else if told.starts_with("exit 1\n") {
            // The name of a file goes on where its kind ends.
            let kinds = told.split_whitespace().filter_map(|word| word.strip_suffix(':'));
            let is_named = kinds.map(str::to_lowercase).any(|kind| case.starts_with(&kind));
            assert!(is_named, "{case}: {told}");
            guilty += 1;
        }
    }
    assert!(guilty >= 14 && innocent >= 2, "{guilty} guilty ones, {innocent} innocent");
}

#[test]
fn a_history_is_judged_and_the_exit_code_says_how() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.edn");
    let lawful = format!("{WRITE_READ}{{:process 1, :type :ok, :f :read, :value 1}}");
    let stale = format!("{WRITE_READ}{{:process 1, :type :ok, :f :read, :value nil}}");
    let unwritten = format!("[{} ]", stale.replace(":value nil}", ":value 7}").replace('\n', " "));
    let cases: [(&str, &str, i32, &[&str]); 7] = [
        (&lawful, "register", 0, &["holds", "2 operations on 1 key have an order"]),
        (
            &stale,
            "register",
            1,
            &["these 2 operations have no order", "before line 4", "edn:2", "edn:4", "p1 read null"],
        ),
        (&unwritten, "cas-register", 1, &["process 1's read 7 saw what nobody had written", "edn:1 "]),
        ("0 :invoke :write 1\n0 :info :write 1\n", "register", 2, &["UNKNOWN", "no operation"]),
        ("", "register", 2, &["UNKNOWN", "no operation"]),
        ("0 :invoke :cas [1 2]\n", "register", 64, &["edn:1: expected :f to be", "found :cas"]),
        ("\n0 :invoke\n", "register", 64, &["edn:2: expected an operation, such as"]),
    ];
    for (text, model, code, expected) in cases {
        std::fs::write(&path, text).unwrap();
        let output = harness(&["check", "--history", path.to_str().unwrap(), "--model", model]);
        let told = told(&output);
        assert_eq!(output.status.code(), Some(code), "{text}\n{told}");
        for expected in expected {
            // Long words stand alone on their line.
            let told = told.split_whitespace().collect::<Vec<_>>().join(" ") + " ";
            assert!(told.contains(expected), "{told}\nshould contain\n{expected}");
        }
    }
}

#[test]
fn an_exported_run_is_judged_as_the_run_was() {
    let folder = tempfile::tempdir().unwrap();
    for (name, code) in [("innocent", 0), ("linearizability", 1)] {
        let run = run(name);
        let exported = harness(&["export", run.to_str().unwrap(), "--format", "edn"]);
        assert_eq!(exported.status.code(), Some(0), "{}", told(&exported));
        let path = folder.path().join("history.edn");
        std::fs::write(&path, &exported.stdout).unwrap();
        let own = run.join("history.jsonl");
        for path in [path.to_str().unwrap(), own.to_str().unwrap()] {
            let output = harness(&["check", "--history", path, "--model", "cas-register", "--keyed"]);
            assert_eq!(output.status.code(), Some(code), "{path}: {}", told(&output));
        }
    }
}

#[test]
fn a_command_line_that_says_too_little_is_refused() {
    for arguments in [
        &["check"][..],
        &["check", "--history", "x.edn"],
        &["check", "--history", "x.edn", "--model", "tree"],
        &["check", "run", "--model", "register"],
        &["check", "--history", "no-such-file.edn", "--model", "register"],
        &["check", "--history", "tests/histories/append.innocent.edn", "--model", "append", "--keyed"],
        &["export", "no-such-run", "--format", "edn"],
        &["export", "no-such-run", "--format", "xml"],
    ] {
        assert_eq!(harness(arguments).status.code(), Some(64), "{arguments:?}");
    }
}
