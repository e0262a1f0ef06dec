//! What a crash, a flipped bit, a lost file or a failing disk makes of the log.
//!
//! In: small logs over several segments, whose every record's place is known. Out: assertions on what
//! [`read`] and [`Storage::open`] give back. Never: a sleep, or a damage that is not checked to be noticed.

mod damage;
mod folders;
mod properties;
mod torn;
mod writing;

use tempfile::TempDir;

use super::*;
use crate::raft::{Entry, EntryKind, HardState, Index, Position, Term};

const NODE: NodeId = NodeId(1);
const SMALL: Options = Options { segment_bytes: 320 };

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

/// What a log should hold: the simplest thing that could be right.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    hard_state: HardState,
    entries: Vec<Entry>,
}

impl Model {
    fn apply(&mut self, write: &Write) {
        if let Some(after) = write.truncate_after {
            self.entries.retain(|entry| entry.index <= after);
        }
        self.entries.extend(write.entries.iter().cloned());
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
    }
}

impl From<Recovered> for Model {
    fn from(recovered: Recovered) -> Model {
        assert_eq!(recovered.snapshot, Position::default());
        Model { hard_state: recovered.hard_state, entries: recovered.entries }
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
        Log { folder, records, state }
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
        });
        writes.extend((8..12).map(|index| append([entry(index, 4, &[0xf0 | index as u8; 25])])));
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
    let next = expected.entries.len() as u64 + 1;
    let write = append([entry(next, 99, b"after the repair")]);
    storage.write(&write).unwrap();
    drop(storage);

    let mut after = expected.clone();
    after.apply(&write);
    let (_, recovered) = Storage::open(dir, NODE, SMALL).unwrap();
    assert_eq!(recovered.torn, None, "{context}");
    assert_eq!(Model::from(recovered), after, "{context}");
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
