//! Each file of `tests/histories` is judged by the program, by the model that its name begins with, and `NAME.expected`
//! says what it answers and with which exit code. `UPDATE_EXPECTED=1` writes those files anew, to be read before they
//! are kept.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories")
}

/// Names, in order.
fn kept() -> Vec<String> {
    let items = fs::read_dir(folder()).unwrap();
    let names = items.map(|item| item.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.ends_with(".expected")).collect();
    names.sort();
    names
}

/// What the program says, and its exit code.
fn judged(name: &str) -> String {
    let model = name.split('-').next().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkraft-harness"));
    command.args(["check", "--history", name, "--model", model]).current_dir(folder());
    let output = command.output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    format!("exit {}\n{}", output.status.code().unwrap(), String::from_utf8(told).unwrap())
}

#[test]
fn each_kept_history_is_judged_as_expected() {
    let mut wrong = Vec::new();
    for name in kept() {
        let found = judged(&name);
        let expected = folder().join(format!("{name}.expected"));
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if found != expected {
            wrong.push(format!("{name}\nexpected\n{expected}\nfound\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_guilty_history_is_called_by_its_name_and_an_innocent_one_holds() {
    let (mut guilty, mut innocent) = (0, 0);
    for name in kept().iter().filter(|name| name.starts_with("append-")) {
        let told = judged(name);
        let (_, fault) = name.split_once('-').unwrap();
        if fault.starts_with("innocent") {
            assert!(told.starts_with("exit 0\n"), "{name}: {told}");
            innocent += 1;
        } else if told.starts_with("exit 1\n") {
            // The name of a file goes on where its kind ends.
            let kinds = told.split_whitespace().filter_map(|word| word.strip_suffix(':'));
            let kinds: Vec<_> =
                kinds.map(str::to_lowercase).filter(|kind| fault.starts_with(kind.as_str())).collect();
            assert!(!kinds.is_empty(), "{name}: {told}");
            guilty += 1;
        }
    }
    assert!(guilty >= 14 && innocent >= 2, "{guilty} guilty ones, {innocent} innocent");
}
