//! A log that becomes shorter: what goes, in which order, and what a crash between leaves.

use super::*;

/// Entries 1 to `last`, one in each write, of a new term at each tenth.
fn long(storage: &mut Storage, from: u64, last: u64) {
    for index in from..=last {
        storage.write(&append([entry(index, 1 + index / 10, &[index as u8; 40])])).unwrap();
    }
}

fn at(index: u64) -> Position {
    position(index, 1 + index / 10)
}

fn files(dir: &Path, prefix: &str) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

#[test]
fn segments_before_the_begin_go_oldest_first_and_are_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    storage.write(&vote(1, Some(2))).unwrap();
    long(&mut storage, 1, 60);
    let before = files(folder.path(), "log-");
    assert!(before.len() > 8, "{before:?}");
    take(&storage, at(50), 100);
    storage.write(&begin_after(at(45), false)).unwrap();
    let mut left = files(folder.path(), "log-");
    assert_eq!(left, before[1..], "one goes with each write, the oldest first");
    long(&mut storage, 61, 90);
    left = files(folder.path(), "log-");
    assert!(!left.contains(&before[7]), "{left:?}");
    let (_, recovered) = {
        drop(storage);
        Storage::open(folder.path(), NODE, SMALL).unwrap()
    };
    let model = Model::from(recovered.clone());
    assert_eq!((model.begin, model.last()), (at(45), at(90)));
    assert_eq!(model.entries[0], entry(46, 5, &[46; 40]));
    assert_eq!(recovered.hard_state.vote, Some(NodeId(2)), "it was written in a segment that is gone");
    let recycled = segment::list(folder.path()).unwrap();
    let recycled = recycled
        .iter()
        .filter(|(first, path)| segment::Segment::load(path, NODE, *first).unwrap().header.recycled);
    assert!(recycled.count() >= 3);
    assert!(files(folder.path(), "spare-").len() <= SPARES_MAX);
    assert_recovers(folder.path(), &model, false, "written over");
}

#[test]
fn a_crash_between_the_removals_leaves_a_log_without_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    long(&mut storage, 1, 60);
    take(&storage, at(58), 100);
    storage.write(&begin_after(at(50), false)).unwrap();
    drop(storage);
    let mut model = Model::from(read(folder.path()).unwrap().1);
    assert_eq!(model.begin, at(50));
    // Each boot writes once, and so goes one step further.
    for step in 0..40 {
        let (mut storage, recovered) = Storage::open(folder.path(), NODE, SMALL).unwrap();
        assert_eq!(Model::from(recovered), model, "step {step}");
        let write = vote(99, Some(step));
        storage.write(&write).unwrap();
        model.apply(&write);
    }
    let (first, path) = segment::list(folder.path()).unwrap().remove(0);
    assert!(first > FIRST_SEQUENCE);
    let needed = path.clone();
    assert!(fs::read(&path).unwrap().windows(40).any(|bytes| bytes == [51; 40]), "it is not needed");
    fs::remove_file(path).unwrap();
    let error = read(folder.path()).unwrap_err();
    assert!(matches!(&error, StorageError::Missing { path, .. } if *path == needed), "{error}");
}

#[test]
fn a_torn_record_in_a_segment_that_is_written_over_is_no_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    long(&mut storage, 1, 40);
    take(&storage, at(40), 10);
    storage.write(&begin_after(at(40), false)).unwrap();
    long(&mut storage, 41, 60);
    let mut model = None;
    while model.is_none() {
        let next = storage.outline.last.index.0 + 1;
        let start = storage.active.offset as usize;
        let (path, before) = (storage.active.path.clone(), Model::from(read_unlocked(&storage)));
        long(&mut storage, next, next);
        // The last record of the segment, or the segment would go on behind it.
        if storage.active.path == path {
            let end = storage.active.offset as usize;
            model = Some((path, start, end, before));
        }
    }
    let (path, start, end, before) = model.unwrap();
    let after = Model::from(read_unlocked(&storage));
    drop(storage);
    let whole = fs::read(&path).unwrap();
    assert!(used_bytes(&whole[end..]) > 0, "nothing older stands behind it");
    for torn_at in start..end {
        let copy = copy(folder.path());
        forget_mark(copy.path());
        let mut bytes = whole.clone();
        // What was there before the record was written over it, for all that it matters.
        bytes[torn_at..end].fill(0x5a);
        fs::write(copy.path().join(path.file_name().unwrap()), bytes).unwrap();
        let headed = torn_at >= start + frame::HEADER_BYTES;
        assert_recovers(copy.path(), &before, headed, &format!("torn at {torn_at} of {start}..{end}"));
    }
    assert_recovers(folder.path(), &after, false, "whole");
}

/// As the next boot would, but while the folder is in use.
fn read_unlocked(storage: &Storage) -> Recovered {
    recovery::recover(&storage.dir, NODE).unwrap().recovered
}

use super::segment::used_bytes;

#[test]
fn the_state_of_another_replaces_the_whole_log() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    long(&mut storage, 1, 30);
    let snapshot = take(&storage, position(20, 9), 700_000);
    storage.write(&begin_after(snapshot.position, true)).unwrap();
    storage.write(&append([entry(21, 9, b"after it")])).unwrap();
    drop(storage);
    let (_, recovered) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    assert_eq!(recovered.snapshot.as_ref(), Some(&snapshot));
    assert_eq!((recovered.begin, recovered.entries), (snapshot.position, vec![entry(21, 9, b"after it")]));
}

#[test]
fn a_snapshot_that_was_received_and_not_taken_in_counts_for_nothing_and_goes() {
    for received in [position(99, 9), position(20, 9)] {
        let folder = tempfile::tempdir().unwrap();
        let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
        long(&mut storage, 1, 30);
        take(&storage, received, 100);
        drop(storage);
        assert_eq!(files(folder.path(), "snapshot-").len(), 1);
        let (_, recovered) = Storage::open(folder.path(), NODE, SMALL).unwrap();
        assert_eq!((recovered.snapshot, recovered.entries.len()), (None, 30));
        assert_eq!(files(folder.path(), "snapshot-"), [""; 0]);
    }
}

#[test]
#[should_panic(expected = "which no snapshot covers")]
fn a_log_never_begins_where_no_snapshot_covers_what_was_before() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    long(&mut storage, 1, 30);
    take(&storage, at(10), 100);
    storage.write(&begin_after(at(20), false)).unwrap();
}

#[test]
fn a_damaged_snapshot_is_passed_over_only_when_an_older_one_and_the_log_make_up_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    long(&mut storage, 1, 30);
    take(&storage, at(10), 300_000);
    storage.write(&begin_after(at(5), false)).unwrap();
    let newer = take(&storage, at(25), 300_000);
    drop(storage);
    let names = files(folder.path(), "snapshot-");
    assert_eq!(names.len(), 2, "the older one stays until the log begins after it");
    let damage = |name: &str| {
        let path = folder.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[270_000] ^= 1;
        fs::write(&path, bytes).unwrap();
        path
    };
    assert_eq!(read(folder.path()).unwrap().1.snapshot, Some(newer));
    let newest = damage(&names[1]);
    let (_, recovered) = read(folder.path()).unwrap();
    assert_eq!(recovered.snapshot.unwrap().position, at(10));
    assert!(recovered.passed_over[0].contains(newest.to_str().unwrap()), "{:?}", recovered.passed_over);
    damage(&names[0]);
    let error = read(folder.path()).unwrap_err();
    assert!(matches!(&error, StorageError::Corrupt { path, .. } if *path == newest), "{error}");
    let report = verify(folder.path()).unwrap();
    let offset = report.damages[0].offset;
    assert!((262_144..=270_000).contains(&offset), "{:?}", report.damages);
    assert_eq!(report.damages.len(), 2);
    names.iter().for_each(|name| fs::remove_file(folder.path().join(name)).unwrap());
    let error = read(folder.path()).unwrap_err();
    assert!(matches!(error, StorageError::NoSnapshot { begin: Index(5), .. }), "{error}");
    assert!(!verify(folder.path()).unwrap().is_sound());
}

#[test]
fn once_the_log_begins_after_an_older_snapshot_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    long(&mut storage, 1, 30);
    take(&storage, at(10), 10);
    take(&storage, at(25), 10);
    storage.write(&begin_after(at(12), false)).unwrap();
    assert_eq!(files(folder.path(), "snapshot-"), [snapshot::file_name(at(25))]);
}
