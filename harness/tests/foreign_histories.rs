//! Histories of other systems are judged by the program, and ours leave in a form that it takes back.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
        &["check", "--history", "tests/histories/append-innocent.edn", "--model", "append", "--keyed"],
        &["export", "no-such-run", "--format", "edn"],
        &["export", "no-such-run", "--format", "xml"],
    ] {
        assert_eq!(harness(arguments).status.code(), Some(64), "{arguments:?}");
    }
}
