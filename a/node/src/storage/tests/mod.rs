//! What a crash, a flipped bit, a lost file or a failing disk makes of the log.
//!
//! In: small logs over several segments, whose every record's place is known. Out: assertions on what
//! [`read`] and [`Storage::open`] give back. Never: a sleep, or a damage that is not checked to be noticed.

mod compaction;
mod damage;
mod folders;
mod properties;
mod snapshots;
mod torn;
mod writing;

use tempfile::TempDir;

use super::*;
use crate::raft::{Begin, Configuration, Entry, EntryKind, Position, Snapshot, Term};

const NODE: NodeId = NodeId(1);
const SMALL: Options = Options { segment_bytes: 450 };

fn entry(index: u64, term: u64, payload: &[u8]) -> Entry {
    let kind = [EntryKind::Command, EntryKind::Noop, EntryKind::Config][index as usize % 3];
    Entry { index: Index(index), term: Term(term), kind, payload: payload.into() }
}

fn append(entries: impl IntoIterator<Item = Entry>) -> Write {
    Write { entries: entries.into_iter().collect(), ..Write::default() }
}

fn vote(term: u64, vote: Option<u64>) -> Write {
    let hard_state = HardState { term: Term(term), vote: vote.map(NodeId), commit: Index(0) };
    Write { hard_state: Some(hard_state), ..Write::default() }
}

fn position(index: u64, term: u64) -> Position {
    Position { index: Index(index), term: Term(term) }
}

fn begin_after(position: Position, clear: bool) -> Write {
    Write { begin: Some(Begin { position, clear }), ..Write::default() }
}

fn voters() -> Configuration {
    Configuration { voters: [NODE, NodeId(2), NodeId(3)].into(), ..Configuration::default() }
}

/// A state of this length, the same for the same position.
fn take(storage: &Storage, position: Position, length: usize) -> Snapshot {
    let state: Vec<u8> = (0..length).map(|at| (at as u64 * 31 + position.index.0) as u8).collect();
    storage.snapshots().take(position, voters(), |out| io::Write::write_all(out, &state)).unwrap()
}

/// What a log should hold: the simplest thing that could be right.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    hard_state: HardState,
    begin: Position,
    entries: Vec<Entry>,
}

impl Model {
    fn apply(&mut self, write: &Write) {
        if let Some(after) = write.truncate_after {
            self.entries.retain(|entry| entry.index <= after);
        }
        if let Some(Begin { position, clear }) = write.begin {
            self.begin = position;
            self.entries.retain(|entry| !clear && entry.index > position.index);
        }
        self.entries.extend(write.entries.iter().cloned());
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
    }
}

impl Model {
    fn last(&self) -> Position {
        self.entries.last().map_or(self.begin, Entry::position)
    }
}

impl From<Recovered> for Model {
    fn from(recovered: Recovered) -> Model {
        let Recovered { hard_state, begin, entries, snapshot, .. } = recovered;
        let covered = snapshot.map_or(Index(0), |snapshot| snapshot.position.index);
        assert!(covered >= begin.index, "a boot has the state up to {covered} and the log after {begin:?}");
        Model { hard_state, begin, entries }
    }
}

/// Where a record stands, and the state before it.
struct Record {
    path: PathBuf,
    start: usize,
    end: usize,
    before: Model,
}

/// A closed data folder with some history.
struct Log {
    folder: TempDir,
    records: Vec<Record>,
    state: Model,
    /// Number of the last record.
    last: u64,
}

impl Log {
    fn write(options: Options, writes: &[Write]) -> Log {
        let folder = tempfile::tempdir().unwrap();
        let (mut storage, recovered) = Storage::open(folder.path(), NODE, options).unwrap();
        let mut state = Model::from(recovered);
        let mut records = Vec::new();
        for write in writes {
            let before = state.clone();
            storage.write(write).unwrap();
            state.apply(write);
            let end = storage.active.offset as usize;
            let start = end - frame::HEADER_BYTES - record::encoded_bytes(write) as usize;
            records.push(Record { path: storage.active.path.clone(), start, end, before });
        }
        // As a crash in the middle of the last write leaves it: what is torn was not known to be durable.
        let last = storage.sequence - 1;
        storage.mark.set(last - 1).unwrap();
        Log { folder, records, state, last }
    }

    /// The last record is known to have been durable.
    fn mark_last(&self) {
        Mark::open(self.dir()).unwrap().set(self.last).unwrap();
    }

    /// Votes, appends, a cut and a re-append, over several small segments.
    fn mixed() -> Log {
        let mut writes = vec![vote(1, Some(1)), append([entry(1, 1, b""), entry(2, 1, b"first value")])];
        writes.extend((3..9).map(|index| append([entry(index, 2, &[index as u8; 30])])));
        writes.push(vote(3, None));
        writes.push(Write {
            truncate_after: Some(Index(5)),
            entries: vec![entry(6, 3, b"instead"), entry(7, 3, &[7; 40])],
            hard_state: Some(HardState { term: Term(3), vote: Some(NodeId(2)), commit: Index(4) }),
            ..Write::default()
        });
        writes.extend((8..13).map(|index| append([entry(index, 4, &[0xf0 | index as u8; 25])])));
        Log::write(SMALL, &writes)
    }

    fn dir(&self) -> &Path {
        self.folder.path()
    }

    fn last(&self) -> &Record {
        self.records.last().unwrap()
    }

    fn segments(&self) -> Vec<PathBuf> {
        segment::list(self.dir()).unwrap().into_iter().map(|(_, path)| path).collect()
    }
}

/// The folder gives this state: to a reader, to a node, and after a further write to the next boot.
fn assert_recovers(dir: &Path, expected: &Model, torn: bool, context: &str) {
    let (node, seen) = read(dir).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!((node, seen.torn.is_some()), (NODE, torn), "{context}");
    assert_eq!(&Model::from(seen.clone()), expected, "{context}");

    let (mut storage, recovered) = Storage::open(dir, NODE, SMALL).unwrap();
    assert_eq!(recovered, seen, "{context}");
    let next = expected.last().index.0 + 1;
    let write = append([entry(next, 99, b"after the repair")]);
    storage.write(&write).unwrap();
    drop(storage);

    let mut after = expected.clone();
    after.apply(&write);
    let (_, recovered) = Storage::open(dir, NODE, SMALL).unwrap();
    assert_eq!(recovered.torn, None, "{context}");
    assert_eq!(Model::from(recovered), after, "{context}");
}

/// The segment that follows the active one, as a roll-over places it.
fn create_next(storage: &Storage) {
    let outline = storage.outline.clone();
    let base = Base { previous: storage.active.first, hard_state: storage.hard_state, outline };
    segment::create(&storage.dir, NODE, storage.sequence + 1, 450, &base, None).unwrap();
}

/// As a power loss does, which takes back what was never synced.
fn forget_mark(dir: &Path) {
    fs::remove_file(dir.join(mark::NAME)).unwrap();
}

fn copy(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut contents: Vec<_> = files.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    contents.sort();
    contents
}
