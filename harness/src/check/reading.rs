//! Reads a run folder into [`Evidence`], and notes what is missing where.
//!
//! In: a run folder. Out: [`Evidence`] with its gaps, or an error that names the file. Never: a line that is
//! passed over in silence, a cluster.
//!
//! A line that cannot be read, a step in `seq`, a boot or a node that is not there make a [`Gap`] and not an error:
//! what is left may still show a violation, and the checks that needed the line say unknown.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use mkraft_proto::evidence::{self, Event, Line};

use super::evidence::{
    Act, Applied, Boot, BootAct, ConfigAct, Entry, Evidence, Fact, Gap, Kinds, Node, NodeRef, Span,
};
use super::verdict::Witness;
use crate::history::folder::{BootRun, End, FolderError, RunFolder};
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
        let mut reader = Reader { folder, names: Names::default(), gaps: Vec::new() };

        let mut ids: Vec<String> = info.nodes.iter().map(|node| node.id.clone()).collect();
        let known = ids.len();
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
        if known != scenario.cluster.nodes as usize {
            let text = format!("the scenario has {} nodes, run.json names {known}", scenario.cluster.nodes);
            reader.gap(0, Kinds::EVENTS | Kinds::DUMP, &folder.info(), 0, text);
        }
        let Reader { names, gaps, .. } = reader;
        let names = names.list;
        Ok(Evidence { info, scenario, plan, history, nodes, gaps, names, epoch_ns: epoch_ns.unwrap_or(0) })
    }
}

struct Reader<'a> {
    folder: &'a RunFolder,
    names: Names,
    gaps: Vec<Gap>,
}

#[derive(Default)]
struct Names {
    list: Vec<String>,
    places: HashMap<String, u32>,
}

impl Names {
    fn of(&mut self, name: &str) -> NodeRef {
        if let Some(&place) = self.places.get(name) {
            return NodeRef(place);
        }
        let place = self.list.len() as u32;
        self.list.push(name.to_owned());
        self.places.insert(name.to_owned(), place);
        NodeRef(place)
    }
}

/// One file as it is read.
struct Open<'a> {
    node: NodeRef,
    id: &'a str,
    /// What `boot` must say.
    number: u64,
    path: PathBuf,
    /// What a gap in this file takes away.
    all: Kinds,
    boot: Boot,
    seq: u64,
    t: u64,
    /// What the boot line announced and `recovered` lines have not yet given.
    owed: Option<(u64, u64)>,
    stopped: bool,
}

impl Reader<'_> {
    fn gap(&mut self, node: usize, lost: Kinds, path: &Path, line: u32, text: String) {
        let witness = Witness { file: self.folder.relative(path), line, text: text.clone() };
        self.gaps.push(Gap { node: NodeRef(node as u32), lost, text, witness });
    }

    fn node(&mut self, node: NodeRef, id: &str, runs: &[BootRun]) -> Result<Node, EvidenceError> {
        let mut read = Node::default();
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
        let ends = self.match_boots(node, id, runs, &files);
        for (&number, end) in files.iter().zip(ends) {
            let path = self.folder.boot(id, number);
            let boot = self.file(node, id, number, path, end, Kinds::EVENTS, &mut read)?;
            read.boots.push(boot);
        }
        read.dump = self.dump(node, id, &mut read)?;
        Ok(read)
    }

    /// Which process wrote which file. A process that was killed before it opened its file has none, so the two
    /// lists may differ in length; and a process that was seen to answer must have one.
    fn match_boots(&mut self, node: NodeRef, id: &str, runs: &[BootRun], files: &[u64]) -> Vec<Option<End>> {
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
            None => None,
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
        } else if files.len() == runs.len() {
            return runs.iter().map(|run| Some(run.end)).collect();
        } else if files.len() == answered.len() {
            return answered.iter().map(|run| Some(run.end)).collect();
        }
        vec![None; files.len()]
    }

    fn dump(&mut self, node: NodeRef, id: &str, read: &mut Node) -> Result<Option<Boot>, EvidenceError> {
        let path = self.folder.dump(id);
        if !path.is_file() {
            let text = format!("the dump of {id}'s disk is missing");
            self.gap(node.0 as usize, Kinds::DUMP, &path, 0, text);
            return Ok(None);
        }
        let gaps = self.gaps.len();
        let boot = self.file(node, id, 0, path.clone(), None, Kinds::DUMP, read)?;
        let whole = self.gaps.len() == gaps && boot.begin().is_some();
        if self.gaps.len() == gaps && !whole {
            self.gap(node.0 as usize, Kinds::DUMP, &path, 0, format!("the dump of {id}'s disk is empty"));
        }
        Ok(whole.then_some(boot))
    }

    #[allow(clippy::too_many_arguments)]
    fn file(
        &mut self,
        node: NodeRef,
        id: &str,
        number: u64,
        path: PathBuf,
        end: Option<End>,
        all: Kinds,
        read: &mut Node,
    ) -> Result<Boot, EvidenceError> {
        let failed = |source| EvidenceError::Read { path: path.clone(), source };
        let mut file = BufReader::with_capacity(1 << 18, File::open(&path).map_err(failed)?);
        let boot = Boot { file: self.folder.relative(&path), facts: Vec::new(), number, end };
        let mut open = Open {
            node,
            id,
            number,
            path: path.clone(),
            all,
            boot,
            seq: 0,
            t: 0,
            owed: None,
            stopped: false,
        };
        let (mut text, mut line) = (Vec::new(), 0_u32);
        while file.read_until(b'\n', &mut text).map_err(failed)? > 0 {
            line = line.checked_add(1).ok_or_else(|| EvidenceError::TooLarge { path: path.clone() })?;
            if text.last() == Some(&b'\n') {
                self.line(&mut open, line, &text, read)?;
            } else {
                self.cut(&mut open, line, &text);
            }
            text.clear();
        }
        self.close(&mut open, line);
        Ok(open.boot)
    }

    /// Notes that lines are missing before or at `line`.
    fn hole(&mut self, open: &mut Open, line: u32, text: String) {
        self.gap(open.node.0 as usize, open.all, &open.path.clone(), line, text);
        open.boot.facts.push(Fact { t: open.t, line, act: Act::Hole });
        open.owed = None;
    }

    fn line(
        &mut self,
        open: &mut Open,
        number: u32,
        text: &[u8],
        read: &mut Node,
    ) -> Result<(), EvidenceError> {
        open.seq += 1;
        let line: Line = match serde_json::from_slice(text) {
            Ok(line) => line,
            Err(error) => {
                self.hole(open, number, format!("this line is not evidence: {error}"));
                return Ok(());
            }
        };
        if (line.node.as_str(), line.boot) != (open.id, open.number) {
            let text = format!(
                "this line is of {} in boot {}; expected {} in boot {}",
                line.node, line.boot, open.id, open.number
            );
            self.hole(open, number, text);
            return Ok(());
        }
        if line.seq != open.seq {
            self.hole(open, number, format!("expected seq {}, found {}", open.seq, line.seq));
            open.seq = line.seq;
        }
        if line.t < open.t {
            self.hole(open, number, format!("time falls from {} ns to {} ns", open.t, line.t));
        }
        open.t = line.t;
        self.order(open, number, &line.event);
        match self.act(line.event, read) {
            Ok(act) => open.boot.facts.push(Fact { t: line.t, line: number, act }),
            Err(Unfit::Value(text)) => self.hole(open, number, text),
            Err(Unfit::Room) => return Err(EvidenceError::TooLarge { path: open.path.clone() }),
        }
        Ok(())
    }

    /// A boot line comes first, then what the disk gave back, all of it; nothing comes after a stop.
    fn order(&mut self, open: &mut Open, number: u32, event: &Event) {
        let begun = !open.boot.facts.is_empty();
        let complaint = match event {
            _ if open.stopped => Some("this line comes after the node's `stop`".to_owned()),
            Event::Boot { .. } if begun => Some("a second `boot` line in one file".to_owned()),
            Event::Boot { first, last, .. } => {
                open.owed = (first <= last).then_some((*first, *last));
                None
            }
            _ if !begun => Some("expected the file to begin with a `boot` line".to_owned()),
            Event::Append { first, entries, recovered: true } => match open.owed {
                Some((owed, last)) if *first == owed && !entries.is_empty() => {
                    let next = owed.saturating_add(entries.len() as u64);
                    open.owed = (next <= last).then_some((next, last));
                    None
                }
                Some((owed, _)) => Some(format!("expected recovered entries from {owed}, found {first}")),
                None => Some("recovered entries beyond those of the `boot` line".to_owned()),
            },
            _ => {
                open.owed.map(|(first, last)| format!("the recovered entries {first} to {last} are missing"))
            }
        };
        open.stopped = matches!(event, Event::Stop { .. });
        if let Some(text) = complaint {
            self.hole(open, number, text);
        }
    }

    /// The line was being written when the node was killed; so nobody has learnt of the act it tells.
    fn cut(&mut self, open: &mut Open, line: u32, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let word = text.split_once("\"event\":\"").and_then(|(_, rest)| rest.split_once('"'));
        let lost = match word.and_then(|(word, _)| Kinds::of_word(word)) {
            Some(kind) if open.all == Kinds::EVENTS && open.boot.may_have_been_killed() => kind,
            _ => open.all,
        };
        self.gap(open.node.0 as usize, lost, &open.path.clone(), line, "the last line is cut".to_owned());
        open.boot.facts.push(Fact { t: open.t, line, act: Act::Hole });
        open.owed = None;
        open.stopped = true;
    }

    fn close(&mut self, open: &mut Open, lines: u32) {
        let must_stop = open.number > 0 && matches!(open.boot.end, Some(End::Stopped)) && !open.stopped;
        if must_stop {
            let text = format!("{} stopped cleanly, and its last line is not `stop`", open.id);
            self.hole(open, lines, text);
        } else if let (Some((first, last)), true) = (open.owed, open.number == 0) {
            self.hole(open, lines, format!("the recovered entries {first} to {last} are missing"));
        }
    }

    fn act(&mut self, event: Event, read: &mut Node) -> Result<Act, Unfit> {
        let names = &mut self.names;
        Ok(match event {
            Event::Boot { term, vote, commit, snapshot, first, last, .. } => {
                if first == 0 || last > u64::MAX / 2 || first > last + 1 || snapshot >= first {
                    let text = format!("a log of {first} to {last} after a snapshot at {snapshot} cannot be");
                    return Err(Unfit::Value(text));
                }
                let vote = vote.map(|name| names.of(&name));
                Act::Boot(Box::new(BootAct { term, vote, commit, snapshot, first, last }))
            }
            Event::Role { term, role, .. } => Act::Role { term, role },
            Event::Vote { term, candidate } => Act::Vote { term, candidate: names.of(&candidate) },
            Event::Append { first, entries, recovered } => {
                let start = room(read.appended.len(), entries.len(), first)?;
                for &evidence::Appended(term, kind, digest) in &entries {
                    read.appended.push(Entry { digest, term: small(term)?, kind });
                }
                Act::Append { first, entries: Span { start, len: entries.len() as u32 }, recovered }
            }
            Event::Truncate { after } => Act::Truncate { after },
            Event::Commit { index, term } => Act::Commit { index, term },
            Event::Apply { first, entries } => {
                let start = room(read.applied.len(), entries.len(), first)?;
                for &evidence::Applied(term, digest, session, sequence, outcome) in &entries {
                    read.applied.push(Applied { digest, session, sequence, term: small(term)?, outcome });
                }
                Act::Apply { first, entries: Span { start, len: entries.len() as u32 } }
            }
            Event::Snapshot { index, term, installed, .. } => Act::Snapshot { index, term, installed },
            Event::Config { voters, outgoing, .. } => {
                let mut refer = |list: Vec<String>| list.iter().map(|name| names.of(name)).collect();
                let (voters, outgoing) = (refer(voters), refer(outgoing));
                Act::Config(Box::new(ConfigAct { voters, outgoing }))
            }
            Event::Stop { .. } => Act::Stop,
        })
    }
}

enum Unfit {
    Value(String),
    /// More than the compact form can count.
    Room,
}

fn room(held: usize, more: usize, first: u64) -> Result<u32, Unfit> {
    if first == 0 || first > u64::MAX / 2 {
        return Err(Unfit::Value(format!("entries count from 1; these begin at {first}")));
    }
    u32::try_from(held + more).map_err(|_| Unfit::Room)?;
    u32::try_from(held).map_err(|_| Unfit::Room)
}

fn small(term: u64) -> Result<u32, Unfit> {
    u32::try_from(term).map_err(|_| Unfit::Value(format!("term {term} is beyond all reason")))
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
