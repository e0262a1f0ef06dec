//! The run folder: where each file of a run stands, and the small ones read and written whole.
//!
//! In: a root. Out: paths, [`RunInfo`], the plan. Never: the meaning of what a file says, or a path that leaves
//! the folder: a folder copied elsewhere is the same folder.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::scenario::{Plan, PlanError};

/// `runs/<scenario>-<seed>[-k]/`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    root: PathBuf,
}

/// `run.json`: what else one must know about a run to judge and to repeat it. Times are CLOCK_MONOTONIC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInfo {
    pub scenario: String,
    pub seed: u64,
    pub harness_version: String,
    /// What the node's binary says of itself.
    pub node_version: String,
    pub node_binary: Binary,
    /// The rules that a swarm drew from the seed, as lines under `faults:`; none where the scenario has its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drawn: Vec<String>,
    /// What `upgrade` starts; null where none was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_binary: Option<Binary>,
    /// Wall clock, RFC 3339.
    pub started: String,
    /// Null when the run never came so far.
    pub load_began_ns: Option<u64>,
    pub load_ended_ns: Option<u64>,
    /// When the conductor's last heal of everything was done.
    pub last_heal_ns: Option<u64>,
    /// How many lines the history has: a lost tail would not show otherwise. Null when nobody counted.
    pub history_lines: Option<u64>,
    pub nodes: Vec<NodeRun>,
    /// Why the harness itself could not do its work.
    pub harness_failure: Option<String>,
    /// How a disk of the harness failed, on which nodes stand, by no fault that was asked for: nothing that they did then is
    /// held against them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_failure: Option<String>,
    /// Nodes that did not answer when the time to recover was over.
    #[serde(default)]
    pub silent: Vec<String>,
    /// A person ended the run before its time.
    pub interrupted: bool,
    /// The run whose plan it was to repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<Origin>,
    #[serde(default, skip_serializing_if = "NotStarted::is_nothing")]
    pub not_started: NotStarted,
}

/// Operations whose time came in vain: of these the history has nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotStarted {
    /// As many of their client as there may be were under way.
    pub too_many: u64,
    /// A fault kept them from every node that their client might have asked.
    pub withheld: u64,
}

impl NotStarted {
    pub fn is_nothing(&self) -> bool {
        *self == NotStarted::default()
    }
}

/// `12 since too many were under way, 3 withheld from all whom their client might ask`
impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotStarted { too_many, withheld } = self;
        let told = [
            (*too_many > 0).then(|| format!("{too_many} since too many were under way")),
            (*withheld > 0).then(|| format!("{withheld} withheld from all whom their client might ask")),
        ];
        let told: Vec<String> = told.into_iter().flatten().collect();
        f.write_str(if told.is_empty() { "none" } else { "" })?;
        f.write_str(&told.join(", "))
    }
}

impl RunInfo {
    /// All that the harness failed to do.
    pub fn failure(&self) -> Option<String> {
        let failures: Vec<&str> =
            [&self.harness_failure, &self.disk_failure].into_iter().flatten().map(String::as_str).collect();
        (!failures.is_empty()).then(|| failures.join("; "))
    }
}

/// Another run, wherever its folder may be now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The name of its folder.
    pub folder: String,
    /// As in its [`RunInfo`].
    pub started: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binary {
    pub path: String,
    /// xxh3-64 of the file, 16 hex digits.
    pub xxh3: String,
}

/// What the harness saw of one node from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRun {
    pub id: String,
    /// One for each process started, in order.
    pub boots: Vec<BootRun>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootRun {
    /// The process was seen to answer: from then on it must have left a file of evidence.
    pub answered: bool,
    pub end: End,
    #[serde(default)]
    pub asked: Asked,
    /// It ran the next binary.
    #[serde(default, skip_serializing_if = "is_false")]
    pub next: bool,
    /// What it found on its disk had been changed while it was down.
    #[serde(default, skip_serializing_if = "is_false")]
    pub damaged: bool,
    /// The number that its file of evidence has, if it lived long enough to open one: else the next process has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<u64>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Whether a process ended as the harness had asked it to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    #[default]
    Yes,
    /// It was asked by SIGTERM, did not obey within its grace, and was killed.
    Forced,
    /// What it had on its disk was changed, and it ended when it was started, telling file and place of the damage.
    Refused,
    /// What it stands on, such as its disk, was made to fail; then it may end with an error that it tells.
    Failing,
    /// The kernel ended it for want of memory, of which a fault had left it little.
    OutOfMemory,
    /// It ended unasked, or in another way.
    No,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Exit code 0: its last line of evidence is `stop`.
    Stopped,
    /// By this signal; its last line may be cut.
    Signal(i32),
    /// With this code, which is not 0.
    Exit(i32),
    /// Nobody saw.
    Unseen,
}

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("failed to read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("failed to write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{}:{line}: expected {expected}: {source}", path.display())]
    Parse { path: PathBuf, line: usize, expected: &'static str, source: serde_json::Error },
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl RunFolder {
    pub fn new(root: impl Into<PathBuf>) -> RunFolder {
        RunFolder { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The scenario as resolved.
    pub fn scenario(&self) -> PathBuf {
        self.root.join("scenario.yaml")
    }

    pub fn info(&self) -> PathBuf {
        self.root.join("run.json")
    }

    pub fn plan(&self) -> PathBuf {
        self.root.join("plan.jsonl")
    }

    pub fn history(&self) -> PathBuf {
        self.root.join("history.jsonl")
    }

    pub fn nodes(&self) -> PathBuf {
        self.root.join("nodes")
    }

    pub fn node(&self, id: &str) -> PathBuf {
        self.nodes().join(id)
    }

    pub fn events(&self, id: &str) -> PathBuf {
        self.node(id).join("events")
    }

    pub fn boot(&self, id: &str, boot: u64) -> PathBuf {
        self.events(id).join(format!("boot-{boot:04}.jsonl"))
    }

    pub fn dump(&self, id: &str) -> PathBuf {
        self.node(id).join("dump.jsonl")
    }

    pub fn stderr(&self, id: &str) -> PathBuf {
        self.node(id).join("stderr.log")
    }

    /// Kept when something was violated.
    pub fn data(&self, id: &str) -> PathBuf {
        self.node(id).join("data")
    }

    pub fn results(&self) -> PathBuf {
        self.root.join("results.json")
    }

    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }

    pub fn junit(&self) -> PathBuf {
        self.root.join("junit.xml")
    }

    /// As witnesses name files: from the root, with `/`.
    pub fn relative(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        parts.join("/")
    }

    pub fn read_info(&self) -> Result<RunInfo, FolderError> {
        read_json(&self.info(), "a run.json")
    }

    pub fn write_info(&self, info: &RunInfo) -> Result<(), FolderError> {
        write_json(&self.info(), info)
    }

    pub fn read_plan(&self) -> Result<Plan, FolderError> {
        let path = self.plan();
        let text =
            fs::read_to_string(&path).map_err(|source| FolderError::Read { path: path.clone(), source })?;
        Ok(Plan::from_jsonl(&path.display().to_string(), &text)?)
    }

    pub fn write_plan(&self, plan: &Plan) -> Result<(), FolderError> {
        write(&self.plan(), plan.to_jsonl().as_bytes())
    }
}

/// Reads a JSON file whole; `expected` says in an error what it should have been.
pub fn read_json<T: DeserializeOwned>(path: &Path, expected: &'static str) -> Result<T, FolderError> {
    let text = fs::read(path).map_err(|source| FolderError::Read { path: path.into(), source })?;
    serde_json::from_slice(&text).map_err(|source| FolderError::Parse {
        path: path.into(),
        line: source.line(),
        expected,
        source,
    })
}

/// Writes a JSON file whole, indented, so that a person can read it.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), FolderError> {
    let mut text = encode(path, serde_json::to_string_pretty(value))?;
    text.push('\n');
    write(path, text.as_bytes())
}

/// Writes beside the place and renames, so that nobody ever reads half a file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let failed = |source| FolderError::Write { path: path.into(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn encode(path: &Path, text: serde_json::Result<String>) -> Result<String, FolderError> {
    text.map_err(|source| FolderError::Write { path: path.into(), source: source.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{FaultKind, Manner, Step};

    fn info() -> RunInfo {
        RunInfo {
            scenario: "quickstart".into(),
            seed: 7,
            harness_version: "0.1.0".into(),
            node_version: "mkraft-node 0.1.0".into(),
            node_binary: Binary { path: "/opt/mkraft-node".into(), xxh3: "00000000000000ab".into() },
            drawn: vec!["{ at: 1s, kill: leader, down: 1s }".into()],
            next_version: Some("mkraft-node 0.2.0".into()),
            next_binary: Some(Binary { path: "/opt/next".into(), xxh3: "00000000000000ac".into() }),
            started: "2024-05-06T07:08:09Z".into(),
            load_began_ns: Some(1),
            load_ended_ns: None,
            last_heal_ns: Some(3),
            history_lines: Some(4),
            nodes: vec![NodeRun {
                id: "n1".into(),
                boots: vec![
                    BootRun {
                        answered: true,
                        end: End::Signal(9),
                        asked: Asked::Forced,
                        next: false,
                        damaged: true,
                        evidence: Some(1),
                    },
                    BootRun {
                        answered: false,
                        end: End::Stopped,
                        asked: Asked::Yes,
                        next: true,
                        damaged: false,
                        evidence: None,
                    },
                ],
            }],
            harness_failure: None,
            disk_failure: Some("the disk of n2".into()),
            silent: vec!["n2".into()],
            interrupted: false,
            replay_of: Some(Origin { folder: "quickstart-7".into(), started: "2024-05-06T07:00:00Z".into() }),
            not_started: NotStarted { too_many: 5, withheld: 6 },
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::new(folder.path());
        run.write_info(&info()).unwrap();
        assert_eq!(run.read_info().unwrap(), info());
        let step = |at| Step::strike(at, FaultKind::Kill, "leader", Manner::Plain, 2, 3);
        let plan = Plan { steps: vec![step(1), step(2)] };
        run.write_plan(&plan).unwrap();
        assert_eq!(run.read_plan().unwrap(), plan);
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::new(folder.path());
        let missing = run.read_info().unwrap_err().to_string();
        assert!(missing.contains("run.json"), "{missing}");
        fs::write(run.plan(), "{\"at\":1,\"fault\":\"kill\",\"target\":\"all\",\"hold\":0,\"draw\":0}\n{}\n")
            .unwrap();
        let garbage = run.read_plan().unwrap_err().to_string();
        assert!(garbage.contains("plan.jsonl:2: expected a step of a plan"), "{garbage}");
    }

    #[test]
    fn a_relative_path_says_nothing_of_where_the_folder_stands() {
        let run = RunFolder::new("/somewhere/runs/x-1");
        assert_eq!(run.relative(&run.boot("n2", 3)), "nodes/n2/events/boot-0003.jsonl");
    }
}
