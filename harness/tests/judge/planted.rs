//! Runs of nodes that have a bug: the bug is told as the root, and everything else follows from it; and what has
//! nothing to do with it stays a root of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use mkraft_harness::check::{Results, Status, judge};
use mkraft_harness::history::folder::RunFolder;
use serde_json::{Value, json};

use super::lawful::{Bug, Run, planted, run};

/// A bug, the one check whose findings may be roots, a seed whose run is kept, and its name there.
const BUGS: &[(Bug, &str, u64, &str)] = &[
    (Bug::VoteTwice, "vote-once", 16, "planted-vote-twice"),
    (Bug::ForgetVote, "durability", 0, "planted-forget-vote"),
    (Bug::VoteForStaleLog, "leader-completeness", 8, "planted-vote-for-stale-log"),
    (Bug::CommitBeforeMajority, "commit-quorum", 7, "planted-commit-before-majority"),
    (Bug::CommitOlderTerm, "commit-quorum", 0, "planted-commit-older-term"),
    (Bug::ApplyBeforeCommit, "state-machine-safety", 7, "planted-apply-before-commit"),
    (Bug::ReadWithoutQuorum, "linearizability", 16, "planted-read-without-quorum"),
    (Bug::CommitByOneMajority, "commit-quorum", 0, "planted-commit-by-one-majority"),
];

const SEEDS: u64 = 40;

fn judged(run: &Run) -> Results {
    let folder = tempfile::tempdir().unwrap();
    run.write(folder.path());
    judge(&RunFolder::new(folder.path())).unwrap().results
}

/// Check and text of each root.
fn roots(results: &Results) -> BTreeSet<(String, String)> {
    let roots = results.checks.iter().flat_map(|check| check.roots().map(move |root| (check, root)));
    roots.map(|(check, root)| (check.name.clone(), root.text.clone())).collect()
}

#[test]
fn what_a_planted_bug_brings_about_is_folded_under_it() {
    for &(bug, root, ..) in BUGS {
        let mut consequences: BTreeMap<String, u32> = BTreeMap::new();
        let mut found = 0;
        for seed in 0..SEEDS {
            let results = judged(&planted(seed, bug));
            let violated = results.checks.iter().filter(|check| check.verdict.status == Status::Violated);
            for check in violated {
                found += u32::from(check.name == root);
                if check.name != root {
                    let alone: Vec<_> = check.roots().collect();
                    assert!(
                        alone.is_empty(),
                        "{bug:?}, seed {seed}: {} is told by itself: {alone:#?}",
                        check.name
                    );
                    assert_eq!(results.explained_by(check), [root], "{bug:?}, seed {seed}");
                    *consequences.entry(check.name.clone()).or_default() += 1;
                }
            }
        }
        assert!(found > 0, "{bug:?} is never found");
        // Some bugs do their harm at once, others through many steps.
        let alone = matches!(bug, Bug::CommitOlderTerm | Bug::ReadWithoutQuorum);
        assert!(alone || consequences.len() >= 2, "{bug:?}: {consequences:?}");
    }
}

/// Something else that is wrong in a run, and words that its finding must have.
type Wrong = (&'static str, &'static str, fn(&mut Run) -> Option<()>);

const WRONGS: &[Wrong] = &[
    ("linearizability", "key elsewhere", |run| {
        let history = run.lines.get_mut("history.jsonl")?;
        let mut t = history.last()?["time"].as_u64()?;
        for (kind, f, value) in [
            ("invoke", "write", json!(1)),
            ("ok", "write", json!(1)),
            ("invoke", "write", json!(2)),
            ("ok", "write", json!(2)),
            ("invoke", "read", Value::Null),
            ("ok", "read", json!(1)),
        ] {
            t += 1_000_000;
            history.push(json!({"index": history.len(), "time": t, "process": 900_000, "type": kind, "f": f,
                "key": "elsewhere", "value": value, "node": "n1"}));
        }
        run.info["history_lines"] = json!(history.len());
        Some(())
    }),
    ("no-crash", "exit code 101", |run| {
        let boots = run.info["nodes"][1]["boots"].as_array_mut()?;
        *boots.last_mut()? = json!({"answered": true, "end": {"exit": 101}});
        Some(())
    }),
    ("durability", "the dump of n3 gives back no vote", |run| {
        let begin = run.lines.get_mut("nodes/n3/dump.jsonl")?.first_mut()?;
        begin["vote"].as_str()?;
        begin["vote"] = Value::Null;
        Some(())
    }),
    ("leader-append-only", "cut its own log after entry 1000000", |run| {
        insert(run, |line| line["role"] == "leader", json!({"event": "truncate", "after": 1_000_000}))
    }),
    ("vote-once", "and for n9", |run| {
        let is_vote = |line: &Value| line["event"] == "vote" && line["for"] == "n1" && line["node"] != "n1";
        let vote = run.lines.values().flatten().find(|line| is_vote(line))?.clone();
        insert(run, is_vote, json!({"event": "vote", "term": vote["term"], "for": "n9"}))
    }),
];

/// Puts a line after the first that fits.
fn insert(run: &mut Run, fits: impl Fn(&Value) -> bool, event: Value) -> Option<()> {
    for lines in run.lines.values_mut() {
        let Some(at) = lines.iter().position(&fits) else { continue };
        let head = ["seq", "t", "node", "boot"].map(|field| (field.to_owned(), lines[at][field].clone()));
        let mut line = Value::Object(head.into_iter().collect());
        line.as_object_mut()?.extend(event.as_object()?.clone());
        lines.insert(at + 1, line);
        lines.iter_mut().enumerate().for_each(|(at, line)| line["seq"] = json!(at + 1));
        return Some(());
    }
    None
}

#[test]
fn two_causes_that_have_nothing_to_do_with_one_another_are_both_roots() {
    let mut tried: BTreeMap<&str, u32> = BTreeMap::new();
    let is_root = |results: &Results, (check, words, _): &Wrong| {
        roots(results).iter().any(|(name, text)| name == check && text.contains(words))
    };
    for seed in 0..3 {
        let runs = BUGS.iter().map(|&(bug, ..)| planted(seed, bug)).chain([run(seed)]);
        for (number, bad) in runs.enumerate() {
            let before = roots(&judged(&bad));
            for (at, one) in WRONGS.iter().enumerate() {
                // With each bug one at a time, and all pairs in a run that has no bug.
                let others = if number == BUGS.len() { &WRONGS[at + 1..] } else { &[] };
                for other in others.iter().map(Some).chain([None]) {
                    let mut worse = bad.clone();
                    if (one.2)(&mut worse).is_none()
                        || other.is_some_and(|other| (other.2)(&mut worse).is_none())
                    {
                        continue;
                    }
                    let results = judged(&worse);
                    let case =
                        format!("seed {seed}, bug {number}, {} and {:?}", one.1, other.map(|other| other.1));
                    for wrong in [Some(one), other].into_iter().flatten() {
                        assert!(is_root(&results, wrong), "{case}: {:#?}", roots(&results));
                        *tried.entry(wrong.1).or_default() += 1;
                    }
                    // A vote that is lost may now be the second one.
                    let same_vote =
                        |(check, text): (String, String)| (check, text.replace("for n9", "for n1"));
                    let after: BTreeSet<_> = roots(&results).into_iter().map(same_vote).collect();
                    let hidden: Vec<_> = before.difference(&after).collect();
                    assert!(hidden.is_empty(), "{case} hides {hidden:#?}");
                }
            }
        }
    }
    assert_eq!(tried.len(), WRONGS.len(), "{tried:?}");
    assert!(tried.values().all(|&times| times >= 10), "{tried:?}");
}

/// The kept runs are what the generator makes; `UPDATE_PLANTED=1` writes them anew, before `UPDATE_EXPECTED=1`.
#[test]
fn a_run_of_each_planted_bug_is_kept() {
    for &(bug, root, seed, name) in BUGS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs").join(name);
        if std::env::var_os("UPDATE_PLANTED").is_some() {
            _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            planted(seed, bug).write(&folder);
            let readme =
                format!("All nodes have one bug, {bug:?}: {root} says so, and the rest follows from it.\n");
            fs::write(folder.join("README"), readme).unwrap();
            fs::write(folder.join("report"), "").unwrap();
        }
        assert!(folder.join("run.json").is_file(), "{name} is missing: UPDATE_PLANTED=1 writes it");
    }
}
