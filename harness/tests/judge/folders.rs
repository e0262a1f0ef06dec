//! Each folder of `tests/runs` has one fault (or none), and `expected` says which verdicts it must bring and which
//! lines must be named. `UPDATE_EXPECTED=1` writes those files anew, to be read before they are kept.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mkraft_harness::check::{Results, Status, judge};
use mkraft_harness::history::folder::RunFolder;
use mkraft_harness::report;

/// Every folder of `tests/runs`.
pub fn kept() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs");
    let mut folders: Vec<_> = fs::read_dir(root).unwrap().map(|item| item.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() > 15, "{folders:?}");
    folders
}

/// A copy of a folder, at a place of its own.
pub fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_into(from, to.path());
    to
}

fn copy_into(from: &Path, to: &Path) {
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_into(&item.path(), &target);
        } else {
            fs::copy(item.path(), target).unwrap();
        }
    }
}

/// One line a check that does not hold, and under it the lines its findings name.
fn summary(results: &Results) -> String {
    let mut text = String::new();
    for check in results.checks.iter().filter(|check| check.verdict.status != Status::Holds) {
        let status = if check.verdict.status == Status::Violated { "violated" } else { "unknown" };
        text += &format!("{} {status}: {}\n", check.name, check.verdict.summary);
        for witness in check.verdict.findings.iter().flat_map(|finding| &finding.witnesses) {
            text += &format!("  {}:{}\n", witness.file, witness.line);
        }
    }
    if text.is_empty() { "all hold\n".to_owned() } else { text }
}

#[test]
fn each_kept_run_is_judged_as_expected() {
    let mut wrong = Vec::new();
    for folder in kept() {
        let copy = copy(&folder);
        let judgement = judge(&RunFolder::new(copy.path())).unwrap();
        let found = summary(&judgement.results);
        let expected = folder.join("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if found != expected {
            wrong.push(format!("{}\nexpected\n{expected}\nfound\n{found}", folder.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_report_of_a_kept_run_reads_as_it_did() {
    let mut wrong = Vec::new();
    let mut told = 0;
    for folder in kept().into_iter().filter(|folder| folder.join("report").is_file()) {
        let copy = copy(&folder);
        let run = RunFolder::new(copy.path());
        let results = judge(&run).unwrap().results;
        let found = report::terminal(&results, &run, report::Detail::Roots, false);
        let found = found.replace(copy.path().to_str().unwrap(), "RUN");
        let golden = folder.join("report");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&golden, &found).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap();
        if found != expected {
            wrong.push(format!("{}\nexpected\n{expected}\nfound\n{found}", folder.display()));
        }
        told += 1;
    }
    assert!(told >= 8, "{told} reports are kept");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_check_has_a_run_in_which_it_fails_and_one_in_which_it_examines_something_and_holds() {
    let mut failed = BTreeSet::new();
    let mut innocent = None;
    for folder in kept() {
        let copy = copy(&folder);
        let results = judge(&RunFolder::new(copy.path())).unwrap().results;
        let bad = results.checks.iter().filter(|check| check.verdict.status != Status::Holds);
        failed.extend(bad.map(|check| check.name.clone()));
        if folder.ends_with("innocent") {
            innocent = Some(results);
        }
    }
    for check in innocent.unwrap().checks {
        assert_eq!(check.verdict.status, Status::Holds, "{}", check.name);
        assert!(failed.contains(&check.name), "{} fails nowhere", check.name);
    }
}

#[test]
fn a_copied_folder_gives_the_same_results() {
    for folder in kept() {
        let (one, other) = (copy(&folder), copy(&folder));
        let results = [&one, &other].map(|copy| {
            judge(&RunFolder::new(copy.path())).unwrap();
            fs::read_to_string(RunFolder::new(copy.path()).results()).unwrap()
        });
        assert_eq!(results[0], results[1]);
        assert!(!results[0].contains(one.path().to_str().unwrap()));
    }
}

#[test]
fn every_report_of_a_kept_run_tells_what_does_not_hold() {
    for folder in kept() {
        let copy = copy(&folder);
        let run = RunFolder::new(copy.path());
        let judgement = judge(&run).unwrap();
        report::write_all(&run, &judgement).unwrap();
        let results = &judgement.results;
        let page = fs::read_to_string(run.report()).unwrap();
        let junit = fs::read_to_string(run.junit()).unwrap();
        let text = report::terminal(results, &run, report::Detail::Roots, false);
        let bad = results.checks.iter().filter(|check| check.verdict.status != Status::Holds);
        for check in bad.clone() {
            for (name, told) in [("html", &page), ("terminal", &text)] {
                let finding = &check.verdict.findings[0];
                let first: String = finding.text.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
                assert!(told.contains(&first), "{name} lacks {first:?}\n{told}");
            }
        }
        let violated = bad.clone().filter(|check| check.verdict.status == Status::Violated).count();
        assert!(
            junit.contains(&format!("failures=\"{violated}\" errors=\"{}\"", bad.count() - violated)),
            "{junit}"
        );
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
        assert!(
            text.lines()
                .all(|line| line.chars().count() <= 110 || line.contains(copy.path().to_str().unwrap()))
        );
    }
}

#[test]
fn the_time_line_shows_gaps_of_service_and_when_no_quorum_was_whole() {
    for (name, drawn) in [
        ("objectives", "no service, +0.210 s to +0.408 s"),
        ("objectives-open", "no quorum was whole, +0.200 s to +0.645 s"),
    ] {
        let copy = copy(&kept().into_iter().find(|folder| folder.ends_with(name)).unwrap());
        let run = RunFolder::new(copy.path());
        report::write_all(&run, &judge(&run).unwrap()).unwrap();
        let page = fs::read_to_string(run.report()).unwrap();
        assert!(page.contains(drawn), "{name} does not show {drawn:?}");
        let line = report::line(&judge(&run).unwrap().results);
        assert!(line.contains(" leaders=2 service=") && line.contains(" serves=kill:"), "{line}");
    }
}
