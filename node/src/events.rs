//! Evidence: what this node did, one JSON line for each fact, in one file a boot.
//!
//! In: facts, once they are durable here and before any other process can learn of them. Out: whole lines,
//! each given to the kernel before the call returns, so that a kill cannot hide an act. Never: a line held
//! back in a buffer, and never a line lost in silence: a node that cannot write its evidence ends.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use mkraft_proto::evidence::{self, Appended, Digest, Event, Line};
use rustix::time::{ClockId, clock_gettime};

use crate::machine::Applied;
use crate::raft::{
    Configuration, Entry, EntryKind, HardState, Index, NodeId, Position, RoleName, Snapshot, Status, Term,
    Write,
};
use crate::storage::Recovered;

/// Entries in one line, at most: some 40 KB of text.
pub const ENTRIES_PER_LINE_MAX: usize = 1024;

/// Whole lines go to the kernel once this many bytes of them are waiting, within one call.
const WRITE_BYTES: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    #[error("failed to {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} appeared meanwhile: another node writes its evidence to this folder", path.display())]
    Taken { path: PathBuf },
}

/// The evidence of one boot.
#[derive(Debug)]
pub struct EventLog {
    file: File,
    path: PathBuf,
    /// The last line; only `seq`, `t` and `event` change from one to the next.
    line: Line,
    buffer: Vec<u8>,
}

impl EventLog {
    /// Begins the file of the next boot in `dir`, which is created if it is absent.
    pub fn create(dir: &Path, node: NodeId) -> Result<EventLog, EventsError> {
        fs::create_dir_all(dir).map_err(failed("create folder", dir))?;
        let boot = last_boot(dir)?.saturating_add(1);
        let path = dir.join(format!("boot-{boot:04}.jsonl"));
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(EventsError::Taken { path }),
            Err(error) => Err(failed("create", &path)(error)),
            Ok(file) => {
                let event = Event::Stop { reason: String::new() };
                let line = Line { seq: 0, t: 0, node: node.to_string(), boot, event };
                Ok(EventLog { file, path, line, buffer: Vec::new() })
            }
        }
    }

    /// Counts the boots of this node, from 1.
    pub fn boot(&self) -> u64 {
        self.line.boot
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one line.
    pub fn write(&mut self, event: Event) -> Result<(), EventsError> {
        self.write_all([event])
    }

    /// Writes several lines with as few calls to the kernel as their size allows; with none, does nothing.
    ///
    /// After an error the file may end within a line, and nothing more must be written.
    pub fn write_all(&mut self, events: impl IntoIterator<Item = Event>) -> Result<(), EventsError> {
        for event in events {
            self.line.seq += 1;
            self.line.t = self.now();
            self.line.event = event;
            let rendered = serde_json::to_writer(&mut self.buffer, &self.line).map_err(io::Error::from);
            rendered.map_err(failed("render a line for", &self.path))?;
            self.buffer.push(b'\n');
            if self.buffer.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), EventsError> {
        if !self.buffer.is_empty() {
            self.file.write_all(&self.buffer).map_err(failed("write to", &self.path))?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// CLOCK_MONOTONIC in nanoseconds, from the kernel and not by libc: a library that is preloaded to change this
    /// node's clock must not change what it bears witness of.
    fn now(&self) -> u64 {
        let time = clock_gettime(ClockId::Monotonic);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
}

/// What a node says first at a boot: the state which the disk gave back.
pub fn recovery(recovered: &Recovered, version: &str) -> impl Iterator<Item = Event> {
    let HardState { term, vote, commit } = recovered.hard_state;
    let begin = recovered.begin.index;
    let snapshot = recovered.snapshot.as_ref();
    let boot = Event::Boot {
        version: version.to_owned(),
        term: term.0,
        vote: vote.map(|node| node.to_string()),
        commit: commit.0,
        snapshot: snapshot.map_or(0, |snapshot| snapshot.position.index.0),
        first: begin.next().0,
        last: recovered.entries.last().map_or(begin, |entry| entry.index).0,
    };
    let snapshot = snapshot.map(|found| self::snapshot(found, false));
    std::iter::once(boot).chain(append_lines(&recovered.entries, true)).chain(snapshot)
}

/// What one write has made durable of the log, in the order in which it happened; `installed` tells of the
/// snapshot that it puts in the place of the log.
pub fn durable(write: &Write, installed: Option<Event>) -> impl Iterator<Item = Event> {
    let replaced = write.begin.filter(|_| installed.is_some());
    // What the log holds where the new one begins, and beyond, is gone.
    let cut = write.truncate_after.or(replaced.map(|begin| begin.position.index.prev()));
    cut.map(truncate).into_iter().chain(installed).chain(append(&write.entries))
}

/// Of consecutive entries.
pub fn append(entries: &[Entry]) -> impl Iterator<Item = Event> {
    append_lines(entries, false)
}

/// Taken here, or `installed`: received from the leader and put in the place of the log.
pub fn snapshot(snapshot: &Snapshot, installed: bool) -> Event {
    let Position { term, index } = snapshot.position;
    Event::Snapshot { index: index.0, term: term.0, digest: Digest(snapshot.digest), installed }
}

pub fn truncate(after: Index) -> Event {
    Event::Truncate { after: after.0 }
}

pub fn vote(term: Term, candidate: NodeId) -> Event {
    Event::Vote { term: term.0, candidate: candidate.to_string() }
}

pub fn role(status: &Status) -> Event {
    let role = match status.role {
        RoleName::Follower => evidence::Role::Follower,
        RoleName::PreCandidate => evidence::Role::PreCandidate,
        RoleName::Candidate => evidence::Role::Candidate,
        RoleName::Leader => evidence::Role::Leader,
        RoleName::Learner => evidence::Role::Learner,
    };
    let leader = status.leader.map(|leader| leader.to_string());
    Event::Role { term: status.term.0, role, leader }
}

pub fn commit(status: &Status) -> Event {
    Event::Commit { index: status.commit.0, term: status.term.0 }
}

/// `index` is that of the entry that holds it; 0 for the one a node was started with.
pub fn config(index: Index, configuration: &Configuration) -> Event {
    let names = |ids: &BTreeSet<NodeId>| ids.iter().map(NodeId::to_string).collect();
    Event::Config {
        index: index.0,
        voters: names(&configuration.voters),
        outgoing: names(&configuration.outgoing),
        learners: names(&configuration.learners),
    }
}

/// Of consecutive entries, with what each did.
pub fn apply(entries: &[(Entry, Applied)]) -> impl Iterator<Item = Event> {
    entries.chunks(ENTRIES_PER_LINE_MAX).map(|chunk| {
        let applied = |(entry, applied): &(Entry, Applied)| {
            let Applied { session, sequence, outcome, .. } = *applied;
            evidence::Applied(entry.term.0, digest(entry), session, sequence, outcome)
        };
        Event::Apply { first: chunk[0].0.index.0, entries: chunk.iter().map(applied).collect() }
    })
}

/// The digest by which all evidence names an entry's contents.
pub fn digest(entry: &Entry) -> Digest {
    Digest::of_entry(entry.kind.into(), &entry.payload)
}

impl From<EntryKind> for evidence::EntryKind {
    fn from(kind: EntryKind) -> evidence::EntryKind {
        match kind {
            EntryKind::Noop => evidence::EntryKind::Noop,
            EntryKind::Command => evidence::EntryKind::Command,
            EntryKind::Config => evidence::EntryKind::Config,
        }
    }
}

fn append_lines(entries: &[Entry], recovered: bool) -> impl Iterator<Item = Event> {
    entries.chunks(ENTRIES_PER_LINE_MAX).map(move |chunk| {
        let appended = |entry: &Entry| Appended(entry.term.0, entry.kind.into(), digest(entry));
        Event::Append { first: chunk[0].index.0, entries: chunk.iter().map(appended).collect(), recovered }
    })
}

/// The newest boot that has a file in `dir`; 0 if none has.
fn last_boot(dir: &Path) -> Result<u64, EventsError> {
    let mut last = 0;
    for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
        let name = entry.map_err(failed("list", dir))?.file_name();
        let name = name.to_string_lossy();
        let boot = name.strip_prefix("boot-").and_then(|name| name.strip_suffix(".jsonl"));
        last = last.max(boot.and_then(|boot| boot.parse().ok()).unwrap_or(0));
    }
    Ok(last)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EventsError {
    move |source| EventsError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64) -> Entry {
        let payload = index.to_le_bytes().as_slice().into();
        Entry { index: Index(index), term: Term(3), kind: EntryKind::Command, payload }
    }

    fn lines(path: &Path) -> Vec<Line> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn each_boot_has_the_next_free_number() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("events/n2");
        let boots = || EventLog::create(&dir, NodeId(2)).unwrap();
        assert_eq!(boots().boot(), 1);
        let second = boots();
        assert_eq!((second.boot(), second.path()), (2, &*dir.join("boot-0002.jsonl")));
        for name in ["boot-12345.jsonl", "boot-x.jsonl", "boot-99999.json", "notes"] {
            fs::write(dir.join(name), "").unwrap();
        }
        assert_eq!(boots().path(), dir.join("boot-12346.jsonl"));
        fs::write(dir.join(format!("boot-{}.jsonl", u64::MAX)), "").unwrap();
        assert!(matches!(EventLog::create(&dir, NodeId(2)), Err(EventsError::Taken { .. })));
    }

    #[test]
    fn a_line_is_in_the_file_when_the_call_returns() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = EventLog::create(folder.path(), NodeId(2)).unwrap();
        let events = [truncate(Index(4)), vote(Term(5), NodeId(3)), Event::Stop { reason: "done".into() }];
        log.write(events[0].clone()).unwrap();
        assert_eq!(lines(log.path()).len(), 1);
        log.write_all(events[1..].to_vec()).unwrap();
        log.write_all([]).unwrap();

        let lines = lines(log.path());
        assert!(lines.is_sorted_by_key(|line| line.t) && lines[0].t > 0);
        for (position, line) in lines.iter().enumerate() {
            assert_eq!((line.seq, &*line.node, line.boot), (position as u64 + 1, "n2", 1));
            assert_eq!(line.event, events[position]);
        }
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn more_lines_than_one_call_to_the_kernel_takes_are_all_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = EventLog::create(folder.path(), NodeId(2)).unwrap();
        let entries: Vec<Entry> = (1..20_000).map(entry).collect();
        log.write_all(append(&entries)).unwrap();
        let mut next = 1;
        for line in lines(log.path()) {
            let Event::Append { first, entries, recovered: false } = line.event else { panic!("{line:?}") };
            assert_eq!(first, next);
            assert!(entries.len() <= ENTRIES_PER_LINE_MAX);
            next += entries.len() as u64;
        }
        assert_eq!(next, 20_000);
    }

    #[test]
    fn evidence_that_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = EventLog::create(folder.path(), NodeId(2)).unwrap();
        log.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = log.write(truncate(Index(1))).unwrap_err();
        assert!(error.to_string().contains("boot-0001.jsonl"), "{error}");
        let file = folder.path().join("boot-0001.jsonl");
        assert!(matches!(EventLog::create(&file, NodeId(2)), Err(EventsError::Io { .. })));
    }

    #[test]
    fn a_write_is_told_as_a_cut_then_entries() {
        let write = Write { truncate_after: Some(Index(6)), entries: vec![entry(7)], ..Write::default() };
        let append_7 = Event::Append {
            first: 7,
            entries: vec![Appended(3, evidence::EntryKind::Command, digest(&entry(7)))],
            recovered: false,
        };
        assert_eq!(durable(&write, None).collect::<Vec<_>>(), [truncate(Index(6)), append_7]);
        let vote_only = Write { hard_state: Some(HardState::default()), ..Write::default() };
        assert_eq!(durable(&vote_only, None).count(), 0);
        let position = Position { index: Index(6), term: Term(2) };
        let begin = Some(crate::raft::Begin { position, clear: true });
        let install = Write { begin, entries: vec![entry(7)], ..Write::default() };
        let told = snapshot(&Snapshot { position, ..Snapshot::default() }, true);
        let append_7 = append(&install.entries).next().unwrap();
        assert_eq!(
            durable(&install, Some(told.clone())).collect::<Vec<_>>(),
            [truncate(Index(5)), told, append_7]
        );
    }

    #[test]
    fn a_boot_says_what_the_disk_gave_back() {
        let hard_state = HardState { term: Term(9), vote: Some(NodeId(3)), commit: Index(1) };
        let mut recovered = Recovered { hard_state, ..Recovered::default() };
        let boot = |recovered: &Recovered| recovery(recovered, "0.1").next().unwrap();
        let expected = |first, last, snapshot| Event::Boot {
            version: "0.1".into(),
            term: 9,
            vote: Some("n3".into()),
            commit: 1,
            snapshot,
            first,
            last,
        };
        assert_eq!(boot(&recovered), expected(1, 0, 0));
        let position = Position { term: Term(2), index: Index(6) };
        recovered.begin = position;
        recovered.snapshot = Some(Snapshot { position, digest: 0xab, ..Snapshot::default() });
        assert_eq!(boot(&recovered), expected(7, 6, 6));
        let told = Event::Snapshot { index: 6, term: 2, digest: Digest(0xab), installed: false };
        assert_eq!(recovery(&recovered, "0.1").nth(1), Some(told));
        recovered.entries = (7..2000).map(entry).collect();
        assert_eq!(boot(&recovered), expected(7, 1999, 6));
        let appended = recovery(&recovered, "0.1").skip(1).take(2);
        let chunks: Vec<_> = appended
            .map(|event| match event {
                Event::Append { first, entries, recovered: true } => (first, entries.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(chunks, [(7, 1024), (1031, 969)]);
    }
}
