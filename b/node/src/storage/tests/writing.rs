//! Records and segments of every size, and the end of a storage that failed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

#[test]
fn what_was_written_is_there_at_the_next_boot() {
    let log = Log::mixed();
    assert!(log.segments().len() >= 4, "{:?}", log.segments());
    assert_recovers(log.dir(), &log.state, false, "whole");
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
        let (action, path) = match error {
            StorageError::Io { action, path, .. } => (action, path),
            StorageError::Sync { path, .. } => ("sync", path),
            other => panic!("{other}"),
        };
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
fn a_write_that_finds_no_room_changes_nothing_and_goes_on_once_there_is_some() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    let mut model = Model::default();
    segment::room::set(SMALL.segment_bytes);
    let mut refused = None;
    while refused.is_none() {
        let write = append([entry(model.entries.len() as u64 + 1, 1, &[7; 60])]);
        let before = contents(folder.path());
        match storage.write(&write) {
            Ok(()) => model.apply(&write),
            Err(error) => {
                assert!(error.is_full(), "{error}");
                assert_eq!(contents(folder.path()), before, "nothing was begun");
                refused = Some(write);
            }
        }
        assert!(model.entries.len() < 100);
    }
    let before = contents(folder.path());
    assert_eq!(segment::list(folder.path()).unwrap().len(), 2, "there was room for one more");
    let refused = refused.unwrap();
    assert!(storage.write(&refused).unwrap_err().is_full());
    // What fits into the room that there is is taken still.
    let small = vote(3, Some(2));
    storage.write(&small).unwrap();
    model.apply(&small);
    assert_ne!(contents(folder.path()), before);
    assert!(storage.write(&refused).unwrap_err().is_full());
    segment::room::set(u64::MAX);
    storage.write(&refused).unwrap();
    model.apply(&refused);
    drop(storage);
    assert_recovers(folder.path(), &model, false, "with room again");
}

#[test]
fn a_segment_that_is_written_over_needs_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    let mut last = 0;
    let mut write = |storage: &mut Storage| {
        last += 1;
        storage.write(&append([entry(last, 1, &[7; 60])]))
    };
    (0..20).for_each(|_| write(&mut storage).unwrap());
    take(&storage, position(20, 1), 10);
    storage.write(&begin_after(position(20, 1), false)).unwrap();
    (0..4).for_each(|_| write(&mut storage).unwrap());
    let spares = storage.spares.len();
    assert!(spares >= 2, "{spares}");
    segment::room::set(0);
    let segments = |storage: &Storage| storage.sealed.len();
    let mut rolled = 0;
    loop {
        let before = segments(&storage);
        if let Err(error) = write(&mut storage) {
            assert!(error.is_full(), "{error}");
            break;
        }
        rolled += usize::from(segments(&storage) > before);
        assert!(rolled < 20);
    }
    assert!(rolled >= spares && storage.spares.is_empty(), "{rolled} of {spares}");
    segment::room::set(u64::MAX);
}

#[test]
fn a_snapshot_that_finds_no_room_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    let before = contents(folder.path());
    let fill = |_: &mut Writer| Err(io::Error::from(nix::errno::Errno::ENOSPC));
    let error = storage.snapshots().take(position(1, 1), voters(), fill).unwrap_err();
    assert!(error.is_full(), "{error}");
    assert_eq!(contents(folder.path()), before);
    let fill = |_: &mut Writer| Err(io::Error::from(nix::errno::Errno::EIO));
    let error = storage.snapshots().take(position(1, 1), voters(), fill).unwrap_err();
    assert!(!error.is_full(), "{error}");
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
