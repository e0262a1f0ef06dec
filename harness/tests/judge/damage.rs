//! A folder that is damaged is never judged to hold.

use std::fs;
use std::path::{Path, PathBuf};

use mkraft_harness::check::{Status, judge};
use mkraft_harness::history::folder::RunFolder;

use super::folders::{copy, kept};

fn innocent() -> tempfile::TempDir {
    copy(&kept().into_iter().find(|folder| folder.ends_with("innocent")).unwrap())
}

/// Judges; an error, or a verdict that is not "holds", must name `file`.
fn must_not_pass(root: &Path, file: &str, case: &str) {
    match judge(&RunFolder::new(root)) {
        Err(error) => assert!(error.to_string().contains(file), "{case}: {error}"),
        Ok(judgement) => {
            assert_ne!(judgement.results.exit_code, 0, "{case} passes");
            let findings = judgement.results.checks.iter().flat_map(|check| &check.verdict.findings);
            let mut witnesses = findings.flat_map(|finding| &finding.witnesses);
            assert!(witnesses.any(|witness| witness.file.contains(file)), "{case}: nobody names {file}");
        }
    }
}

fn files(root: &Path) -> Vec<PathBuf> {
    let run = RunFolder::new(root);
    let mut files = vec![run.scenario(), run.info(), run.plan(), run.history()];
    for id in ["n1", "n2", "n3"] {
        let boots = fs::read_dir(run.events(id)).unwrap().map(|item| item.unwrap().path());
        files.extend(boots.chain([run.dump(id)]));
    }
    files
}

#[test]
fn a_missing_file_or_folder() {
    let run = innocent();
    let names: Vec<_> =
        files(run.path()).into_iter().map(|file| RunFolder::new(run.path()).relative(&file)).collect();
    for name in names {
        let run = innocent();
        fs::remove_file(run.path().join(&name)).unwrap();
        must_not_pass(run.path(), &name, &format!("without {name}"));
    }
    for id in ["n1", "n2"] {
        let run = innocent();
        fs::write(RunFolder::new(run.path()).boot(id, 1), "").unwrap();
        must_not_pass(run.path(), "boot-0001.jsonl", "an empty file");
    }
    for name in ["nodes", "nodes/n2", "nodes/n3/events"] {
        let run = innocent();
        fs::remove_dir_all(run.path().join(name)).unwrap();
        must_not_pass(run.path(), name, &format!("without {name}"));
    }
}

#[test]
fn a_line_dropped_doubled_cut_or_replaced_by_garbage() {
    let run = innocent();
    let lines =
        files(run.path()).into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "jsonl"));
    let mut tried = 0;
    for file in lines {
        let name = RunFolder::new(run.path()).relative(&file);
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for at in 0..lines.len() {
            let with = |line: Option<String>| {
                let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
                match line {
                    Some(line) => changed[at] = line,
                    None => _ = changed.remove(at),
                }
                changed.join("\n") + "\n"
            };
            let half = lines[at][..lines[at].len() / 2].to_owned();
            let cut_here = lines[..at].iter().map(|line| format!("{line}\n")).collect::<String>() + &half;
            let cases = [
                ("dropped", with(None)),
                ("doubled", with(Some(format!("{0}\n{0}", lines[at])))),
                ("replaced by garbage", with(Some("{\"garbage\":1}".into()))),
                ("replaced by noise", with(Some("\u{fffd}\u{0}".into()))),
                ("cut in the middle", with(Some(half))),
                ("the last, and cut", cut_here),
            ];
            for (case, text) in cases {
                // A node killed before it could write a line looks the same as one that wrote none.
                let last_of_killed = name == "nodes/n1/events/boot-0001.jsonl" && at + 1 == lines.len();
                if case == "dropped" && last_of_killed {
                    continue;
                }
                fs::write(&file, text).unwrap();
                must_not_pass(run.path(), &name, &format!("{name}:{} {case}", at + 1));
                tried += 1;
            }
        }
        fs::write(&file, text).unwrap();
    }
    assert!(tried > 400, "{tried}");
    assert_eq!(judge(&RunFolder::new(run.path())).unwrap().results.exit_code, 0);
}

#[test]
fn a_line_cut_by_a_kill_weakens_only_the_checks_that_read_its_kind() {
    let run = innocent();
    let file = RunFolder::new(run.path()).boot("n1", 1);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.lines().last().unwrap().contains("\"apply\""));
    fs::write(&file, &text[..text.len() - 30]).unwrap();
    let results = judge(&RunFolder::new(run.path())).unwrap().results;
    let of = |status| {
        let checks = results.checks.iter().filter(move |check| check.verdict.status == status);
        checks.map(|check| check.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(of(Status::Unknown), ["durability", "state-machine-safety", "exactly-once"]);
    assert_eq!(of(Status::Violated), [""; 0]);
}

#[test]
fn a_run_that_was_interrupted_or_that_the_harness_spoilt() {
    for (change, code) in [
        (r#""interrupted": true"#, 2),
        (r#""harness_failure": "no address was free", "interrupted": false"#, 70),
    ] {
        let run = innocent();
        let info = RunFolder::new(run.path()).info();
        let text = fs::read_to_string(&info).unwrap();
        let text = text.replace("\"harness_failure\": null,\n", "");
        let text = text.replace(r#""interrupted": false"#, change);
        let text = match change.contains("harness_failure") {
            true => text,
            false => text.replace(change, &format!("\"harness_failure\": null, {change}")),
        };
        fs::write(&info, text).unwrap();
        assert_eq!(judge(&RunFolder::new(run.path())).unwrap().results.exit_code, code, "{change}");
    }
}
