//! Whatever a folder or a history has become, the judge neither panics nor hangs.
//!
//! Cases are decided by their number. `FUZZ_CASES` asks for more of them, `FUZZ_FIRST` says where to begin, and
//! `FUZZ_RUNS` names folders with runs to damage beside those that are kept here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod mutate;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mkraft_harness::check::linearizability::Book;
use mkraft_harness::check::models::Model;
use mkraft_harness::check::{Results, judge};
use mkraft_harness::history::export::{Format, export};
use mkraft_harness::history::folder::{RunFolder, read_json};
use mkraft_harness::history::import::{Dialect, import};
use mkraft_harness::report::{self, Detail};
use mutate::{Mutator, mutated};

/// A case on a busy machine takes some milliseconds.
const CASE_MAX: Duration = Duration::from_secs(20);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs each case and names those that panic or take too long.
fn each_case(usual: u64, case: impl Fn(u64)) {
    let first = number("FUZZ_FIRST").unwrap_or(0);
    let cases = number("FUZZ_CASES").unwrap_or(usual);
    let mut bad = Vec::new();
    for seed in first..first + cases {
        let began = Instant::now();
        let panicked = catch_unwind(AssertUnwindSafe(|| case(seed))).is_err();
        if panicked || began.elapsed() > CASE_MAX {
            bad.push(format!("case {seed}: {}", if panicked { "panicked" } else { "took too long" }));
        }
    }
    assert!(bad.is_empty(), "{} of {cases} cases:\n{}", bad.len(), bad.join("\n"));
}

fn kept() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs");
    let others = std::env::var_os("FUZZ_RUNS").map(PathBuf::from);
    let mut folders: Vec<_> = [Some(own), others]
        .into_iter()
        .flatten()
        .flat_map(|root| fs::read_dir(root).unwrap().map(|item| item.unwrap().path()))
        .filter(|path| path.join("run.json").is_file() && !path.is_symlink())
        .collect();
    folders.sort();
    assert!(folders.len() > 15, "{folders:?}");
    folders
}

/// Every file of a folder with what it holds.
struct Whole {
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Whole {
    fn read(root: &Path) -> Whole {
        let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
        while let Some(folder) = folders.pop() {
            for item in fs::read_dir(folder).unwrap() {
                let path = item.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !matches!(
                    path.extension().and_then(|kind| kind.to_str()),
                    Some("html" | "xml" | "log")
                ) {
                    files.push((path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap()));
                }
            }
        }
        files.retain(|(name, _)| {
            name.file_name().unwrap() != "README" && name.file_name().unwrap() != "expected"
        });
        files.sort();
        Whole { files }
    }

    fn write(&self, root: &Path) {
        for (name, bytes) in &self.files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

/// All that a person can ask of a folder.
fn ask_all(folder: &RunFolder) {
    if let Ok(judgement) = judge(folder) {
        report::write_all(folder, &judgement).unwrap();
        let told = report::terminal(&judgement.results, folder, Detail::All, true);
        assert!(!told.is_empty() && !report::line(&judgement.results).is_empty());
    }
    for format in [Format::Edn, Format::Json] {
        _ = export(&folder.history(), format, &mut Vec::new());
    }
}

#[test]
fn a_damaged_run_folder_is_judged_or_refused() {
    let wholes: Vec<Whole> = kept().iter().map(|folder| Whole::read(folder)).collect();
    each_case(300, |seed| {
        let mut mutator = Mutator::new(seed);
        let whole = &wholes[mutator.below(wholes.len())];
        let folder = tempfile::tempdir().unwrap();
        whole.write(folder.path());
        for _ in 0..1 + mutator.below(3) {
            let (name, bytes) = &whole.files[mutator.below(whole.files.len())];
            let path = folder.path().join(name);
            match mutator.below(40) {
                // A folder in place of a file, a file in place of a folder, nothing at all.
                0 => _ = fs::remove_file(&path).and_then(|()| fs::create_dir(&path)),
                1 => {
                    let parent = path.parent().unwrap();
                    if parent != folder.path() {
                        _ = fs::remove_dir_all(parent);
                        _ = fs::write(parent, bytes);
                    }
                }
                2 => _ = fs::remove_file(&path),
                _ => {
                    let other = &whole.files[mutator.below(whole.files.len())].1;
                    _ = fs::write(&path, mutated(&mut mutator, bytes, other));
                }
            }
        }
        ask_all(&RunFolder::new(folder.path()));
    });
}

#[test]
fn damaged_results_are_told_or_refused() {
    let innocent = kept().into_iter().find(|folder| folder.ends_with("log-matching")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    Whole::read(&innocent).write(folder.path());
    let run = RunFolder::new(folder.path());
    judge(&run).unwrap();
    let bytes = fs::read(run.results()).unwrap();
    each_case(1_000, |seed| {
        let mut mutator = Mutator::new(seed);
        fs::write(run.results(), mutated(&mut mutator, &bytes, &bytes)).unwrap();
        if let Ok(results) = read_json::<Results>(&run.results(), "a results.json") {
            assert!(
                !report::terminal(&results, &run, Detail::All, true).is_empty()
                    && !report::line(&results).is_empty()
            );
        }
    });
}

const EDN: &str = r#"{:index 0, :time 1, :process 0, :type :invoke, :f :write, :value [1 10]}
{:index 1, :time 2, :process 1, :type :invoke, :f :read, :value [1 nil]}
{:index 2, :time 3, :process :nemesis, :type :info, :f :start, :value {:a #{1 "x\u00e9"} :b (1 2.5M)}}
{:index 3, :time 4, :process 0, :type :ok, :f :write, :value [1 10]}
{:index 4, :time 5, :process 1, :type :ok, :f :read, :value [1 10]}
{:index 5, :time 6, :process 2, :type :invoke, :f :cas, :value [1 [10 -3]]}
{:index 6, :time 7, :process 2, :type :info, :f :cas, :value [1 [10 -3]], :error [:timed-out "x"]}
{:index 7, :time 8, :process 3, :type :invoke, :f :read, :value [1 nil]}
#_ {:ignored 1} ; a comment
{:index 8, :time 9, :process 3, :type :ok, :f :read, :value [1 -3]}
"#;

const LOG: &str = "INFO  jepsen.util - 0\t:invoke\t:write\t3
INFO  jepsen.util - 1\t:invoke\t:read\tnil
INFO  jepsen.util - 0\t:ok\t:write\t3
INFO  jepsen.util - 1\t:ok\t:read\t3
INFO  jepsen.util - :nemesis\t:info\t:start\t\"Cut off\"
INFO  jepsen.util - 2\t:invoke\t:cas\t[3 4]
INFO  jepsen.util - 2\t:info\t:cas\t:timed-out
";

#[test]
fn a_damaged_history_of_others_is_judged_or_refused() {
    let run = kept().into_iter().find(|folder| folder.ends_with("innocent")).unwrap();
    let own = fs::read(run.join("history.jsonl")).unwrap();
    let vector = format!("[{EDN}]").into_bytes();
    let bases = [EDN.as_bytes(), &vector, LOG.as_bytes(), &own];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history");
    each_case(3_000, |seed| {
        let mut mutator = Mutator::new(seed);
        let (base, other) = (bases[mutator.below(bases.len())], bases[mutator.below(bases.len())]);
        fs::write(&path, mutated(&mut mutator, base, other)).unwrap();
        let model = Model::of_word(Model::WORDS[mutator.below(Model::WORDS.len())]).unwrap();
        let dialect = Dialect { functions: model.functions(), keyed: mutator.below(2) == 0 };
        if let Ok(imported) = import(&path, dialect) {
            let book =
                Book { history: &imported.history, file: "h", lines: Some(&imported.lines), epoch_ns: 0 };
            assert!(!report::one_check(&model.judge(&book), Detail::All, true).is_empty());
        }
    });
}

/// Inputs that made it panic once.
#[test]
fn a_node_named_twice_is_refused() {
    let innocent = kept().into_iter().find(|folder| folder.ends_with("innocent")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    Whole::read(&innocent).write(folder.path());
    let run = RunFolder::new(folder.path());
    let text = fs::read_to_string(run.info()).unwrap();
    fs::write(run.info(), text.replacen("\"n2\"", "\"n1\"", 1)).unwrap();
    let error = judge(&run).unwrap_err().to_string();
    assert!(error.contains("run.json: expected each node once"), "{error}");
}

#[test]
fn results_with_names_and_counts_beyond_reason_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let guilty = kept().into_iter().find(|folder| folder.ends_with("log-matching")).unwrap();
    Whole::read(&guilty).write(folder.path());
    let run = RunFolder::new(folder.path());
    let mut results = judge(&run).unwrap().results;
    let findings = results.checks.iter_mut().flat_map(|check| &mut check.verdict.findings);
    findings.flat_map(|finding| &mut finding.witnesses).for_each(|witness| witness.file = "x".repeat(70_000));
    for counts in results.numbers.functions.values_mut() {
        (counts.ok, counts.fail) = (u64::MAX, u64::MAX);
    }
    assert!(report::terminal(&results, &run, Detail::All, true).contains("xxx"));
    assert!(!report::line(&results).is_empty());
}
