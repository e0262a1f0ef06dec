//! A node with a bug that is quick to show and never misses: it does not start on data that it has.
//!
//! It is a real one behind a script; what the judge says of it is the judge's own.
#![allow(dead_code, clippy::unwrap_used, reason = "each test program uses a part; a test may")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const HARNESS: &str = env!("CARGO_BIN_EXE_mkraft-harness");

/// Only the kill is needed.
const SCENARIO: &str = "\
# A node that is killed comes back.
name: broken
duration: 2s
cluster: { nodes: 3 }
workload: { kind: register, clients: 4, keys: 2, rate: 80, timeout: 300ms }
faults:
  - { at: 300ms, pause: n2, for: 200ms }
  - { at: 700ms, pause: n3, for: 200ms }
  - { at: 1100ms, kill: n1, down: 100ms }
expect: { recovers-within: 3s }
";

pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        let script = format!(
            "#!/bin/sh\n\
             [ \"$1\" = run ] || exec {node} \"$@\"\n\
             for word; do [ \"$before\" = --data-dir ] && began=$word.began; before=$word; done\n\
             [ -e \"$began\" ] && echo 'no idea what these files are' >&2 && exit 3\n\
             : > \"$began\"\n\
             exec {node} \"$@\"\n",
            node = sound().display()
        );
        fs::write(place.node(), script).unwrap();
        fs::set_permissions(place.node(), fs::Permissions::from_mode(0o755)).unwrap();
        place
    }

    pub fn node(&self) -> PathBuf {
        self.folder.path().join("mkraft-node")
    }

    pub fn out(&self) -> PathBuf {
        self.folder.path().join("runs")
    }

    pub fn harness(&self, arguments: &[&str]) -> Command {
        harness(arguments)
    }

    /// A run in which it was caught.
    pub fn violated_run(&self) -> PathBuf {
        let scenario = self.folder.path().join("scenario.yaml");
        fs::write(&scenario, SCENARIO).unwrap();
        let mut command = harness(&["run", "--seed", "5", "--node"]);
        let output = command.arg(self.node()).arg("--out").arg(self.out()).arg(scenario).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("no idea what these files are"), "{}", text(&output));
        self.out().join("broken-5")
    }

    /// Names of all that is kept, links and files aside.
    pub fn folders(&self) -> Vec<String> {
        let entries = fs::read_dir(self.out()).unwrap().map(|entry| entry.unwrap());
        let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        let mut names: Vec<_> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub fn harness(arguments: &[&str]) -> Command {
    let mut command = Command::new(HARNESS);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The node beside this harness, built if it is not there or out of date.
pub fn sound() -> PathBuf {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "mkraft-node"]).status();
    assert!(built.unwrap().success(), "the node does not build");
    Path::new(HARNESS).with_file_name("mkraft-node")
}

pub fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// One of those that the judge is tested on.
pub fn kept_run(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs").join(name)
}

pub fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
}
