//! Reads a run folder into [`Evidence`], and notes what is missing where.
//!
//! In: a run folder. Out: [`Evidence`] with its gaps, or an error that names the file. Never: a line that is
//! passed over in silence, a cluster.
//!
//! A line that cannot be read, a step in `seq`, a boot or a node that is not there make a [`Gap`] and not an error:
//! what is left may still show a violation, and the checks that needed the line say unknown.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::evidence::{Applied, Boot, Entry, Evidence, Gap, Kinds, Node, NodeRef};
use super::pool::{Applications, Logs};
use super::replay::Replay;
use super::verdict::Witness;
use crate::history::folder::{BootRun, FolderError, RunFolder};
use crate::history::{History, HistoryError};
use crate::scenario::{Scenario, ScenarioError};

/// Why a folder cannot be judged at all.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("{}: run.json counts {counted} lines, and {found} are there", path.display())]
    HistoryLines { path: PathBuf, counted: u64, found: u64 },
    #[error("failed to read the scenario of the run: {0}")]
    Scenario(#[from] ScenarioError),
    #[error("failed to read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: expected each node once", path.display())]
    NodeTwice { path: PathBuf },
    #[error("{}: more than 4 294 967 295 entries or lines", path.display())]
    TooLarge { path: PathBuf },
}

impl Evidence {
    /// Reads everything once.
    pub fn read(folder: &RunFolder) -> Result<Evidence, EvidenceError> {
        let info = folder.read_info()?;
        let scenario = Scenario::load(folder.scenario())?;
        let plan = folder.read_plan()?;
        let history = History::read(&folder.history())?;
        let found = u64::from(history.lines);
        if let Some(counted) = info.history_lines.filter(|&counted| counted != found) {
            return Err(EvidenceError::HistoryLines { path: folder.history(), counted, found });
        }
        let epoch_ns = info.load_began_ns.or(history.operations.first().map(|first| first.invoked_at));
        let mut reader = Reader::new(folder);

        let mut ids: Vec<String> = info.nodes.iter().map(|node| node.id.clone()).collect();
        let known = ids.len();
        let once: HashSet<&String> = ids.iter().collect();
        if once.len() < known {
            return Err(EvidenceError::NodeTwice { path: folder.info() });
        }
        let strangers = list(&folder.nodes())?.into_iter().filter(|id| !ids.contains(id)).collect::<Vec<_>>();
        ids.extend(strangers);
        ids.iter().for_each(|id| _ = reader.names.of(id));
        let mut nodes = Vec::new();
        for (at, id) in ids.iter().enumerate() {
            let runs = info.nodes.get(at).map_or(&[][..], |node| &node.boots);
            if at >= known {
                let path = folder.node(id);
                reader.gap(
                    at,
                    Kinds::NONE,
                    &path,
                    0,
                    format!("run.json knows no node {id}, which has a folder"),
                );
            }
            nodes.push(reader.node(NodeRef(at as u32), id, runs)?);
        }
        let size = scenario.cluster.nodes + scenario.cluster.spares;
        if known != size as usize {
            let text = format!("the scenario has {size} nodes, run.json names {known}");
            reader.gap(0, Kinds::EVENTS | Kinds::DUMP, &folder.info(), 0, text);
        }
        let Reader { names, gaps, logs, applications, .. } = reader;
        let (held, applied, names) = (Arc::new(logs.held), Arc::new(applications.applied), names.list);
        for node in &mut nodes {
            (node.held, node.applied) = (held.clone(), applied.clone());
        }
        Ok(Evidence { info, scenario, plan, history, nodes, gaps, names, epoch_ns: epoch_ns.unwrap_or(0) })
    }
}

pub(super) struct Reader<'a> {
    pub(super) folder: &'a RunFolder,
    pub(super) names: Names,
    pub(super) gaps: Vec<Gap>,
    pub(super) logs: Logs,
    pub(super) applications: Applications,
    /// Those of one line, on their way into the pools.
    pub(super) entries: Vec<Entry>,
    pub(super) applied: Vec<Applied>,
}

#[derive(Default)]
pub(super) struct Names {
    list: Vec<String>,
    places: HashMap<String, u32>,
}

impl Names {
    pub(super) fn of(&mut self, name: &str) -> NodeRef {
        if let Some(&place) = self.places.get(name) {
            return NodeRef(place);
        }
        let place = self.list.len() as u32;
        self.list.push(name.to_owned());
        self.places.insert(name.to_owned(), place);
        NodeRef(place)
    }
}

impl<'a> Reader<'a> {
    fn new(folder: &'a RunFolder) -> Reader<'a> {
        let (logs, applications) = (Logs::default(), Applications::default());
        let (entries, applied) = (Vec::new(), Vec::new());
        Reader { folder, names: Names::default(), gaps: Vec::new(), logs, applications, entries, applied }
    }

    pub(super) fn gap(&mut self, node: usize, lost: Kinds, path: &Path, line: u32, text: String) {
        let witness = Witness { file: self.folder.relative(path), line, text: text.clone() };
        self.gaps.push(Gap { node: NodeRef(node as u32), lost, text, witness });
    }

    fn node(&mut self, node: NodeRef, id: &str, runs: &[BootRun]) -> Result<Node, EvidenceError> {
        let mut read = Node::default();
        let mut replay = Replay::default();
        let events = self.folder.events(id);
        let mut files = Vec::new();
        for name in list(&events)? {
            let number = name.strip_prefix("boot-").and_then(|name| name.strip_suffix(".jsonl"));
            match number.and_then(|number| number.parse::<u64>().ok()) {
                Some(number) if events.join(&name) == self.folder.boot(id, number) => files.push(number),
                _ => {
                    let text =
                        format!("{name} is not a file of one boot: expected boot-0001.jsonl or the like");
                    self.gap(node.0 as usize, Kinds::EVENTS, &events.join(&name), 0, text);
                }
            }
        }
        files.sort_unstable();
        let runs = self.match_boots(node, id, runs, &files);
        for (&number, run) in files.iter().zip(runs) {
            let boot = self.file((node, id), number, run, (&mut read, &mut replay))?;
            read.boots.push(boot);
        }
        read.dump = self.dump(node, id, &mut read, &mut replay)?;
        Ok(read)
    }

    /// Which process wrote which file. A process that was killed before it opened its file has none, so the two
    /// lists may differ in length; and a process that was seen to answer must have one. Runs may tell which number
    /// each process would take; older ones do not.
    fn match_boots(
        &mut self,
        node: NodeRef,
        id: &str,
        runs: &[BootRun],
        files: &[u64],
    ) -> Vec<Option<BootRun>> {
        let events = self.folder.events(id);
        let answered: Vec<_> = runs.iter().filter(|run| run.answered).collect();
        let holes = files.iter().zip(1..).find(|&(&found, expected)| found != expected);
        let missing = match holes {
            Some((_, expected)) => Some((expected, "is missing, while later ones are there".to_owned())),
            None if files.is_empty() || files.len() < answered.len() => {
                let next = files.len() as u64 + 1;
                let text = format!("is missing: {} processes of {id} answered", answered.len());
                Some((next, text))
            }
            None => not_written(runs, files)
                .map(|number| (number, "is missing: the process that was to write it answered".to_owned())),
        };
        if let Some((number, text)) = missing {
            let path = self.folder.boot(id, number);
            let file = self.folder.relative(&path);
            let text = if events.is_dir() {
                format!("the evidence of boot {number} of {id} {text}")
            } else {
                format!("the evidence of {id} is missing as a whole ({file})")
            };
            self.gap(node.0 as usize, Kinds::EVENTS, &path, 0, text);
        } else if files.len() > runs.len() {
            let text = format!("{id} has {} files of evidence from {} processes", files.len(), runs.len());
            self.gap(node.0 as usize, Kinds::EVENTS, &events, 0, text);
        } else if runs.iter().all(|run| run.evidence.is_some()) {
            return files.iter().map(|file| writer(runs, *file)).collect();
        } else if files.len() == runs.len() {
            return runs.iter().copied().map(Some).collect();
        } else if files.len() == answered.len() {
            return answered.iter().map(|&&run| Some(run)).collect();
        }
        vec![None; files.len()]
    }

    fn dump(
        &mut self,
        node: NodeRef,
        id: &str,
        read: &mut Node,
        replay: &mut Replay,
    ) -> Result<Option<Boot>, EvidenceError> {
        let path = self.folder.dump(id);
        if !path.is_file() {
            let text = format!("the dump of {id}'s disk is missing");
            self.gap(node.0 as usize, Kinds::DUMP, &path, 0, text);
            return Ok(None);
        }
        let gaps = self.gaps.len();
        let boot = self.file((node, id), 0, None, (read, replay))?;
        let whole = self.gaps.len() == gaps && boot.begin().is_some();
        if self.gaps.len() == gaps && !whole {
            self.gap(node.0 as usize, Kinds::DUMP, &path, 0, format!("the dump of {id}'s disk is empty"));
        }
        Ok(whole.then_some(boot))
    }
}

/// Of those that would have taken this number, the last did: it found that the others had not.
fn writer(runs: &[BootRun], file: u64) -> Option<BootRun> {
    runs.iter().rfind(|run| run.evidence == Some(file)).copied()
}

/// The number of a file that a process which answered must have written and did not.
fn not_written(runs: &[BootRun], files: &[u64]) -> Option<u64> {
    let lost = |(at, run): (usize, &BootRun)| {
        let number = run.evidence.filter(|_| run.answered)?;
        let taken = runs[at + 1..].iter().any(|later| later.evidence == Some(number));
        (taken || !files.contains(&number)).then_some(number)
    };
    runs.iter().enumerate().find_map(lost)
}

/// The names in a folder, in order; none when it is not there.
fn list(path: &Path) -> Result<Vec<String>, EvidenceError> {
    let failed = |source| EvidenceError::Read { path: path.into(), source };
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for item in fs::read_dir(path).map_err(failed)? {
        names.push(item.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::folder::{Asked, End};

    #[test]
    fn a_file_is_of_the_last_process_that_found_its_number_free() {
        let run = |evidence, answered| {
            let (end, asked) = (End::Signal(9), Asked::Yes);
            BootRun { answered, end, asked, next: false, damaged: false, evidence: Some(evidence) }
        };
        // The second and the third were killed before they opened a file.
        let runs = [run(1, true), run(2, false), run(2, false), run(2, true), run(3, false)];
        assert_eq!(writer(&runs, 2), Some(runs[3]));
        assert_eq!(writer(&runs, 4), None);
        for (files, lost) in [(&[1, 2][..], None), (&[1, 2, 3], None), (&[1], Some(2)), (&[], Some(1))] {
            assert_eq!(not_written(&runs, files), lost, "{files:?}");
        }
        let overwritten = [run(1, true), run(1, true)];
        assert_eq!(not_written(&overwritten, &[1]), Some(1));
    }
}
