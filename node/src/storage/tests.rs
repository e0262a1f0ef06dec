//! What a crash, a flipped bit, a lost file or a failing disk makes of the log.
//!
//! In: small logs over several segments, whose every record's place is known. Out: assertions on what
//! [`read`] and [`Storage::open`] give back. Never: a sleep, or a damage that is not checked to be noticed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
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

#[test]
fn an_empty_folder_becomes_a_log_and_an_absent_one_is_created() {
    let folder = tempfile::tempdir().unwrap();
    for dir in [folder.path().to_owned(), folder.path().join("not/there/yet")] {
        let (storage, recovered) = Storage::open(&dir, NODE, SMALL).unwrap();
        assert_eq!(Model::from(recovered), Model::default());
        drop(storage);
        assert_recovers(&dir, &Model::default(), false, "fresh");
    }
}

#[test]
fn what_was_written_is_there_at_the_next_boot() {
    let log = Log::mixed();
    assert!(log.segments().len() >= 4, "{:?}", log.segments());
    assert_recovers(log.dir(), &log.state, false, "whole");
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_state_before_it_remains() {
    let log = Log::mixed();
    let last = log.last();
    let whole = fs::read(&last.path).unwrap();
    for at in last.start..last.end {
        let torn = whole[last.start..at].iter().any(|byte| *byte != 0);
        let mut zeroed = whole.clone();
        zeroed[at..].fill(0);
        for (how, bytes) in [("truncated", &whole[..at]), ("zeroed", &zeroed[..])] {
            let copy = copy(log.dir());
            let path = copy.path().join(last.path.file_name().unwrap());
            fs::write(&path, bytes).unwrap();
            let context = format!("{how} at byte {at}");
            if let Some(torn) = read(copy.path()).unwrap().1.torn {
                assert_eq!((torn.path, torn.offset), (path, last.start as u64), "{context}");
            }
            // The last byte of a record may be a zero, which a zeroed tail does not change.
            let lost = zeroed[..last.end] != whole[..last.end] || how == "truncated";
            assert!(lost, "{context}: choose a record that ends in another byte");
            assert_recovers(copy.path(), &last.before, torn, &context);
        }
    }
}

#[test]
fn a_torn_tail_can_be_the_first_record_of_the_log_or_of_a_segment() {
    let whole = Log::mixed();
    let firsts = whole.records.iter().enumerate().filter(|(_, record)| record.start == segment::HEADER_BYTES);
    let firsts: Vec<usize> = firsts.map(|(position, _)| position).collect();
    assert!(firsts.len() >= 4);
    for first in firsts {
        let record = &whole.records[first];
        let copy = copy(whole.dir());
        for (_, later) in segment::list(copy.path()).unwrap() {
            if later.file_name() > record.path.file_name() {
                fs::remove_file(later).unwrap();
            }
        }
        let path = copy.path().join(record.path.file_name().unwrap());
        let mut bytes = fs::read(&path).unwrap();
        bytes[record.start + frame::HEADER_BYTES..].fill(0);
        fs::write(&path, bytes).unwrap();
        assert_recovers(copy.path(), &record.before, true, &format!("record {first}"));
    }
}

#[test]
fn a_block_missing_anywhere_in_the_last_record_is_a_torn_tail() {
    let big = append([entry(2, 1, &[0xab; 3000])]);
    let options = Options { segment_bytes: 8192 };
    let log = Log::write(options, &[append([entry(1, 1, b"first")]), big]);
    let last = log.last();
    let whole = fs::read(&last.path).unwrap();
    for block in [512, 1024] {
        for from in (0..last.end).step_by(block) {
            let lost = from.max(last.start)..(from + block).min(last.end);
            if lost.is_empty() {
                continue;
            }
            let copy = copy(log.dir());
            let mut bytes = whole.clone();
            bytes[lost.clone()].fill(0);
            fs::write(copy.path().join(last.path.file_name().unwrap()), bytes).unwrap();
            assert_recovers(copy.path(), &last.before, true, &format!("lost {lost:?}"));
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_before_the_last_record_is_refused_by_file_and_offset() {
    let log = Log::mixed();
    let mut tried = 0;
    for path in log.segments() {
        let whole = fs::read(&path).unwrap();
        let end = if path == log.last().path { log.last().start } else { whole.len() };
        for bit in 0..end * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bytes).unwrap();
            let error = read(log.dir()).unwrap_err();
            let StorageError::Corrupt { path: named, offset, .. } = &error else {
                panic!("bit {bit} of {}: {error}", path.display());
            };
            assert_eq!(named, &path, "{error}");
            assert!((*offset as usize) < segment::HEADER_BYTES.max(bit / 8 + 1), "bit {bit}: {error}");
            tried += 1;
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(tried > 8 * 1000, "{tried} bits");
    // A refusal changes nothing either.
    assert_recovers(log.dir(), &log.state, false, "mended");
}

#[test]
fn a_node_refuses_damage_and_leaves_it_as_it_is() {
    let log = Log::mixed();
    let record = &log.records[1];
    let mut bytes = fs::read(&record.path).unwrap();
    bytes[record.start + frame::HEADER_BYTES] ^= 1;
    fs::write(&record.path, bytes).unwrap();
    let before = contents(log.dir());
    let error = Storage::open(log.dir(), NODE, SMALL).unwrap_err();
    let offset = record.start as u64;
    assert!(
        matches!(&error, StorageError::Corrupt { path, offset: o, .. } if *path == record.path && *o == offset)
    );
    assert_eq!(contents(log.dir()), before);
}

#[test]
fn a_flipped_bit_in_the_last_record_cannot_be_told_from_a_torn_one() {
    let log = Log::mixed();
    let last = log.last();
    let whole = fs::read(&last.path).unwrap();
    for byte in last.start..last.end {
        let mut bytes = whole.clone();
        bytes[byte] ^= 0x10;
        fs::write(&last.path, bytes).unwrap();
        let (_, recovered) = read(log.dir()).unwrap();
        let torn = recovered.torn.clone().unwrap();
        assert_eq!((torn.path, torn.offset), (last.path.clone(), last.start as u64));
        assert_eq!(Model::from(recovered), last.before, "byte {byte}");
    }
}

#[test]
fn damage_before_a_torn_record_is_not_cut_with_it() {
    let log = Log::mixed();
    let [.., damaged, last] = &log.records[..] else { panic!("two records") };
    assert_eq!(damaged.path, last.path, "both stand in the newest segment");
    let mut bytes = fs::read(&last.path).unwrap();
    bytes[damaged.start + frame::HEADER_BYTES + 3] ^= 1;
    bytes[last.end - 5..].fill(0);
    fs::write(&last.path, bytes).unwrap();
    let error = read(log.dir()).unwrap_err();
    let offset = damaged.start as u64;
    assert!(matches!(&error, StorageError::Corrupt { offset: o, .. } if *o == offset), "{error}");
    assert!(error.to_string().contains(&format!("byte {}", last.start)), "{error}");
}

#[test]
fn a_missing_segment_is_named_even_when_it_was_the_newest() {
    let log = Log::mixed();
    for path in log.segments() {
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        for error in [read(log.dir()).unwrap_err(), Storage::open(log.dir(), NODE, SMALL).unwrap_err()] {
            assert!(matches!(&error, StorageError::Missing { path: named, .. } if *named == path), "{error}");
        }
        fs::write(&path, bytes).unwrap();
    }
    assert_recovers(log.dir(), &log.state, false, "all there again");
}

#[test]
fn all_segments_missing_is_not_a_fresh_log() {
    let log = Log::mixed();
    log.segments().iter().for_each(|path| fs::remove_file(path).unwrap());
    let error = Storage::open(log.dir(), NODE, SMALL).unwrap_err();
    assert!(matches!(error, StorageError::Missing { sequence: FIRST_SEQUENCE, .. }), "{error}");
}

#[test]
fn a_log_without_its_identity_is_refused() {
    let log = Log::mixed();
    fs::remove_file(folder::identity_path(log.dir())).unwrap();
    for error in [read(log.dir()).unwrap_err(), Storage::open(log.dir(), NODE, SMALL).unwrap_err()] {
        assert!(matches!(error, StorageError::NotADataFolder { .. }), "{error}");
    }
}

#[test]
fn a_flipped_bit_in_the_identity_is_refused() {
    let log = Log::mixed();
    let path = folder::identity_path(log.dir());
    let whole = fs::read(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        let error = read(log.dir()).unwrap_err().to_string();
        assert!(error.contains(log.dir().to_str().unwrap()), "bit {bit}: {error}");
        Storage::open(log.dir(), NODE, SMALL).unwrap_err();
    }
}

#[test]
fn the_data_of_another_node_is_refused_with_both_names() {
    let log = Log::mixed();
    let error = Storage::open(log.dir(), NodeId(7), SMALL).unwrap_err().to_string();
    assert!(error.contains("belongs to n1, not to n7"), "{error}");

    // A segment that strayed in from another node's folder.
    let other = tempfile::tempdir().unwrap();
    drop(Storage::open(other.path(), NodeId(7), SMALL).unwrap());
    let name = segment::file_name(FIRST_SEQUENCE);
    fs::copy(other.path().join(&name), log.dir().join(&name)).unwrap();
    let error = read(log.dir()).unwrap_err();
    assert!(matches!(error, StorageError::WrongNode { found: NodeId(7), expected: NODE, .. }), "{error}");
}

#[test]
fn a_folder_in_use_is_refused_to_nodes_and_readers_alike() {
    let folder = tempfile::tempdir().unwrap();
    let running = Storage::open(folder.path(), NODE, SMALL).unwrap();
    for error in [Storage::open(folder.path(), NODE, SMALL).unwrap_err(), read(folder.path()).unwrap_err()] {
        assert!(matches!(&error, StorageError::InUse { path } if path == folder.path()), "{error}");
    }
    drop(running);

    let reader = folder::lock_shared(folder.path()).unwrap();
    read(folder.path()).unwrap();
    let error = Storage::open(folder.path(), NODE, SMALL).unwrap_err();
    assert!(matches!(error, StorageError::InUse { .. }), "{error}");
    drop(reader);
    Storage::open(folder.path(), NODE, SMALL).unwrap();
}

#[test]
fn a_reader_changes_not_one_byte() {
    let log = Log::mixed();
    let last = log.last();
    let mut bytes = fs::read(&last.path).unwrap();
    bytes[last.end - 1..].fill(0);
    fs::write(&last.path, bytes).unwrap();
    fs::write(log.dir().join("new.tmp"), b"left by a crash").unwrap();
    let before = contents(log.dir());
    assert!(read(log.dir()).unwrap().1.torn.is_some());
    assert_eq!(contents(log.dir()), before);
}

#[test]
fn what_is_no_data_folder_is_refused_by_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"text").unwrap();
    for dir in [folder.path().to_owned(), folder.path().join("absent")] {
        let error = read(&dir).unwrap_err();
        assert!(
            matches!(&error, StorageError::NotADataFolder { path, .. } if path.starts_with(&dir)),
            "{error}"
        );
    }
    assert!(matches!(read(&file).unwrap_err(), StorageError::Io { .. }));
    assert!(matches!(Storage::open(&file, NODE, SMALL).unwrap_err(), StorageError::Io { .. }));
}

#[test]
fn garbage_under_the_name_of_a_segment_is_refused() {
    let garbage: [(&str, &[u8]); 6] = [
        ("log-0000000000000fff.wal", b""),
        ("log-0000000000000fff.wal", &[0; 4096]),
        ("log-0000000000000000.wal", b"mkraftWL and no more"),
        ("log-fff.wal", b""),
        ("log-0000000000000FFF.wal", b""),
        ("log-.wal", &[0xff; 100]),
    ];
    for (name, bytes) in garbage {
        let log = Log::mixed();
        let path = log.dir().join(name);
        fs::write(&path, bytes).unwrap();
        let error = Storage::open(log.dir(), NODE, SMALL).unwrap_err();
        assert!(
            matches!(error, StorageError::Corrupt { .. } | StorageError::Missing { .. }),
            "{name}: {error}"
        );
        fs::remove_file(&path).unwrap();
        assert_recovers(log.dir(), &log.state, false, name);
    }

    let log = Log::mixed();
    fs::create_dir(log.dir().join("lost+found")).unwrap();
    fs::write(log.dir().join("notes.txt"), b"other files are left alone").unwrap();
    assert_recovers(log.dir(), &log.state, false, "foreign files");
}

#[test]
fn a_file_of_any_size_is_refused_before_it_is_read() {
    let log = Log::mixed();
    let path = log.segments().pop().unwrap();
    open_segment(&path).unwrap().set_len(1 << 42).unwrap();
    let error = read(log.dir()).unwrap_err();
    assert!(
        matches!(&error, StorageError::Corrupt { path: named, offset: 0, .. } if *named == path),
        "{error}"
    );
}

#[test]
fn a_whole_record_that_cannot_be_is_refused_with_the_reason() {
    let cases: [(&str, Vec<u8>); 4] = [
        ("holds entry 9 where 3 follows", encoded(&append([entry(9, 1, b"")]))),
        ("entry 3 is of term 0, the one before it of term 1", encoded(&append([entry(3, 0, b"")]))),
        (
            "cuts the log after entry 3, but the log ends at 2",
            encoded(&Write { truncate_after: Some(Index(3)), ..Write::default() }),
        ),
        ("its flags are not of this format", vec![0xff; 9]),
    ];
    for (reason, body) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
        storage.write(&append([entry(1, 1, b""), entry(2, 1, b"")])).unwrap();
        let offset = storage.active.offset;
        storage.append(|out| out.extend(body)).unwrap();
        drop(storage);
        let error = Storage::open(folder.path(), NODE, SMALL).unwrap_err();
        assert!(matches!(error, StorageError::Inconsistent { offset: o, .. } if o == offset), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

fn encoded(write: &Write) -> Vec<u8> {
    let mut bytes = Vec::new();
    record::encode(write, &mut bytes);
    bytes
}

#[test]
fn a_new_segment_begins_wherever_the_last_record_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let mut rooms = std::collections::BTreeSet::new();
    for length in 0..200 {
        let (mut storage, recovered) = Storage::open(folder.path(), NODE, SMALL).unwrap();
        assert_eq!(Model::from(recovered), model);
        for payload in [&vec![length as u8; length][..], b"x"] {
            let write = append([entry(model.entries.len() as u64 + 1, 1, payload)]);
            storage.write(&write).unwrap();
            model.apply(&write);
            assert!(storage.active.offset + frame::SEAL_BYTES as u64 <= storage.active.bytes);
            rooms.insert(storage.active.bytes - storage.active.offset);
        }
    }
    assert!(rooms.len() > 100, "too few ways to end: {rooms:?}");
    assert!(rooms.contains(&(frame::SEAL_BYTES as u64)), "no segment was filled to its last byte");
    assert_recovers(folder.path(), &model, false, "all of them");
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_size() {
    let big = append([entry(2, 1, &[7; 5000]), entry(3, 1, &[8; 5000])]);
    let small = |index| append([entry(index, 1, b"small")]);
    let log = Log::write(SMALL, &[small(1), big, small(4)]);
    assert_eq!(log.segments().len(), 3);
    assert_recovers(log.dir(), &log.state, false, "with a large record");
}

#[test]
fn a_crash_at_any_point_of_rolling_over_loses_nothing() {
    // (segment placed, bytes of the seal on the disk); the seal comes only after the segment.
    let placed = (0..=frame::SEAL_BYTES).map(|sealed| (true, sealed));
    for (placed, sealed) in [(false, 0)].into_iter().chain(placed) {
        let folder = tempfile::tempdir().unwrap();
        let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
        let write = append([entry(1, 1, b"kept")]);
        storage.write(&write).unwrap();
        let mut model = Model::default();
        model.apply(&write);

        fs::write(folder.path().join("new.tmp"), b"half a header").unwrap();
        if placed {
            segment::create(folder.path(), NODE, storage.sequence + 1, 320).unwrap();
        }
        let mut seal = Vec::new();
        frame::build(&mut seal, storage.active.salt, storage.sequence, |_| {});
        storage.active.file.write_all_at(&seal[..sealed], storage.active.offset).unwrap();
        drop(storage);

        // A seal begins with zeros, and by chance may end in one.
        let begun = seal[..sealed].iter().any(|byte| *byte != 0);
        let torn = begun && seal[sealed..].iter().any(|byte| *byte != 0);
        assert_recovers(folder.path(), &model, torn, &format!("placed {placed}, {sealed} bytes of the seal"));
        assert!(!folder.path().join("new.tmp").exists());
    }
}

#[test]
fn records_lost_before_a_blank_segment_are_not_taken_for_a_torn_seal() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    storage.write(&append([entry(1, 1, b"kept")])).unwrap();
    let lost = storage.active.offset;
    storage.write(&append([entry(2, 1, b"zeroed below")])).unwrap();
    segment::create(folder.path(), NODE, storage.sequence + 1, 320).unwrap();
    write_zeros(&storage.active.file, lost, storage.active.offset - lost).unwrap();
    drop(storage);
    let error = read(folder.path()).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt { offset, .. } if offset == lost), "{error}");
}

#[test]
fn a_crash_during_the_first_use_of_a_folder_leaves_it_usable() {
    let folder = tempfile::tempdir().unwrap();
    segment::create(folder.path(), NODE, FIRST_SEQUENCE, 320).unwrap();
    fs::write(folder.path().join("new.tmp"), b"mkraft da").unwrap();
    assert!(matches!(read(folder.path()).unwrap_err(), StorageError::NotADataFolder { .. }));
    drop(Storage::open(folder.path(), NODE, SMALL).unwrap());
    assert_recovers(folder.path(), &Model::default(), false, "second attempt");
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_ever_written_again() {
    // /dev/null takes every write and refuses every sync; /dev/full refuses writes; the third is not open for them.
    let disks: [(&str, bool); 3] = [("/dev/null", true), ("/dev/full", true), ("/dev/null", false)];
    let mut actions = Vec::new();
    for (path, writable) in disks {
        let folder = tempfile::tempdir().unwrap();
        let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
        storage.write(&vote(1, Some(1))).unwrap();
        let broken = OpenOptions::new().read(true).write(writable).open(path).unwrap();
        let file = std::mem::replace(&mut storage.active.file, broken);
        let error = storage.write(&vote(2, Some(2))).unwrap_err();
        let StorageError::Io { action, path, .. } = error else { panic!("{error}") };
        assert_eq!(path, storage.active.path);
        actions.push(action);
        // The disk is well again, but what it holds is not known.
        storage.active.file = file;
        let before = contents(folder.path());
        for _ in 0..2 {
            let error = storage.write(&vote(3, Some(3))).unwrap_err();
            assert!(matches!(error, StorageError::Poisoned { .. }), "{error}");
        }
        assert_eq!(contents(folder.path()), before);
        drop(storage);
        let (_, recovered) = Storage::open(folder.path(), NODE, SMALL).unwrap();
        assert_eq!(recovered.hard_state, vote(1, Some(1)).hard_state.unwrap());
    }
    assert_eq!(actions, ["sync", "write a record to", "write a record to"]);
}

#[test]
fn a_failed_roll_over_poisons_too() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    fs::create_dir(folder.path().join("new.tmp")).unwrap();
    let error = storage.write(&append([entry(1, 1, &[1; 500])])).unwrap_err();
    assert!(matches!(error, StorageError::Io { action: "create", .. }), "{error}");
    assert!(matches!(storage.write(&vote(1, None)).unwrap_err(), StorageError::Poisoned { .. }));
}

#[test]
fn a_write_that_no_log_could_take_is_a_bug_and_reaches_no_disk() {
    let cases = [
        ("nothing to make durable", Write::default()),
        ("holds entry 5 where 2 follows", append([entry(5, 1, b"")])),
        (
            "cuts the log after entry 2, but the log ends at 1",
            Write { truncate_after: Some(Index(2)), ..Write::default() },
        ),
    ];
    for (reason, write) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
        storage.write(&append([entry(1, 1, b"")])).unwrap();
        let before = contents(folder.path());
        let panic = catch_unwind(AssertUnwindSafe(|| storage.write(&write))).unwrap_err();
        let message = panic.downcast_ref::<String>().cloned();
        let message =
            message.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap();
        assert!(message.contains(reason), "{message}");
        assert_eq!(contents(folder.path()), before);
    }
}

/// A write as a node could make it, drawn from numbers, for a log of this state.
fn drawn(model: &Model, (cut, count, length, hard_state): (u64, u64, usize, u64)) -> Write {
    let last = model.entries.len() as u64;
    let truncate_after = (cut < 4).then(|| Index(last.saturating_sub(cut)));
    let after = truncate_after.map_or(last, |after| after.0);
    let term = model.entries[..after as usize].last().map_or(1, |entry| entry.term.0) + hard_state % 2;
    let entries = (after + 1..after + 1 + count).map(|index| entry(index, term, &vec![index as u8; length]));
    let entries = entries.collect::<Vec<_>>();
    let hard_state =
        (hard_state < 4 || (entries.is_empty() && truncate_after.is_none())).then(|| HardState {
            term: Term(term),
            vote: (hard_state % 3 > 0).then_some(NodeId(hard_state % 3)),
            commit: Index(after),
        });
    Write { truncate_after, entries, hard_state }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_writes_with_any_boots_between_give_what_a_vector_gives(
        segment_bytes in 0u64..700,
        steps in prop::collection::vec((0u64..12, 0u64..4, 0usize..120, 0u64..8, 0u8..6), 1..40),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes };
        let mut model = Model::default();
        let (mut storage, _) = Storage::open(folder.path(), NODE, options).unwrap();
        for (cut, count, length, hard_state, boot) in steps {
            let write = drawn(&model, (cut, count, length, hard_state));
            storage.write(&write).unwrap();
            model.apply(&write);
            if boot == 0 {
                drop(storage);
                let recovered;
                (storage, recovered) = Storage::open(folder.path(), NODE, options).unwrap();
                prop_assert_eq!(&recovered.torn, &None);
                prop_assert_eq!(&Model::from(recovered), &model);
            }
        }
        drop(storage);
        prop_assert_eq!(Model::from(read(folder.path()).unwrap().1), model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_damage_gives_an_error_or_a_state_that_once_was(
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..200, any::<u8>()), 1..4),
    ) {
        let log = Log::mixed();
        let segments = log.segments();
        let mut untouched = true;
        for (file, at, length, fill) in damages {
            let path = file.get(&segments);
            let mut bytes = fs::read(path).unwrap();
            if bytes.is_empty() {
                continue;
            }
            let from = at.index(bytes.len());
            let to = (from + length).min(bytes.len());
            untouched &= *path == log.last().path && from >= log.last().start;
            if length < 20 {
                bytes.truncate(from);
            } else {
                bytes[from..to].fill(fill);
            }
            fs::write(path, bytes).unwrap();
        }
        match read(log.dir()) {
            Ok((_, recovered)) => {
                let state = Model::from(recovered);
                let before = log.records.iter().any(|record| record.before == state);
                prop_assert!(before || state == log.state, "{:?}", state);
                if untouched {
                    prop_assert!(state == log.last().before || state == log.state, "{:?}", state);
                }
            }
            Err(error) => prop_assert!(!untouched, "{}", error),
        }
    }
}
