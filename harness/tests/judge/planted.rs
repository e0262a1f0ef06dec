//! Runs of nodes that have a bug: what is told first is the bug, and everything else follows from it.

use std::collections::BTreeMap;

use mkraft_harness::check::{Results, Status, judge};
use mkraft_harness::history::folder::RunFolder;
use mkraft_harness::report::{self, Detail};

use super::lawful::{Bug, planted};

const BUGS: &[Bug] = &[
    Bug::VoteTwice,
    Bug::ForgetVote,
    Bug::VoteForStaleLog,
    Bug::CommitBeforeMajority,
    Bug::CommitOlderTerm,
    Bug::ApplyBeforeCommit,
    Bug::ReadWithoutQuorum,
];

#[test]
fn explore() {
    for &bug in BUGS {
        for seed in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            planted(seed, bug).write(folder.path());
            let run = RunFolder::new(folder.path());
            let results = judge(&run).unwrap().results;
            let mut roots: BTreeMap<&str, usize> = BTreeMap::new();
            let mut all: BTreeMap<&str, usize> = BTreeMap::new();
            for check in &results.checks {
                if check.roots().count() > 0 {
                    roots.insert(&check.name, check.roots().count());
                }
                if check.verdict.status == Status::Violated {
                    all.insert(&check.name, check.verdict.findings.len() + check.verdict.more);
                }
                if check.verdict.status == Status::Unknown {
                    all.insert("UNKNOWN", 1);
                }
            }
            println!("{bug:?} {seed}: roots {roots:?} of {all:?}");
            if std::env::var("SHOW").ok() == Some(format!("{bug:?}-{seed}")) {
                println!("{}", report::terminal(&results, &run, Detail::Roots, false));
            }
        }
    }
}
