//! The files of snapshots: their bytes there and back, and what damage in them is seen.

use std::io::{Read as _, Write as _};

use super::*;

#[test]
fn a_state_of_any_length_comes_back_whole_and_by_its_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let (storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    let lengths = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 7];
    for (index, length) in (1..).zip(lengths) {
        let snapshot = take(&storage, position(index, 3), length);
        assert_eq!((snapshot.bytes, &snapshot.configuration), (length as u64, &voters()));
        let mut reader = storage.snapshots().open(snapshot.position).unwrap();
        assert_eq!(reader.snapshot(), &snapshot);
        let by_chunks: Vec<u8> = (0..chunks(length as u64))
            .rev()
            .map(|number| reader.chunk(number).unwrap())
            .rev()
            .flatten()
            .collect();
        assert_eq!(by_chunks.len(), length);
        let mut whole = Vec::new();
        reader.read_to_end(&mut whole).unwrap();
        let backwards: Vec<Vec<u8>> =
            (0..chunks(length as u64)).map(|number| reader.chunk(number).unwrap()).collect();
        assert_eq!(whole, backwards.concat());
        assert_eq!(reader.check().unwrap(), snapshot);
    }
}

#[test]
fn the_same_state_has_the_same_digest_however_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    let taken = take(&storage, position(1, 3), 600_000);
    let mut state = Vec::new();
    storage.snapshots().open(taken.position).unwrap().read_to_end(&mut state).unwrap();
    let mut received = storage.snapshots().receive(&taken).unwrap();
    state.chunks(997).for_each(|part| received.write_all(part).unwrap());
    received.expect(&taken).unwrap();
    assert_eq!(received.finish().unwrap(), taken);
    let mut other = storage.snapshots().receive(&taken).unwrap();
    other.write_all(&state[1..]).unwrap();
    let error = other.expect(&taken).unwrap_err();
    assert!(matches!(error, StorageError::OtherState { .. }), "{error}");
}

#[test]
fn every_flipped_bit_and_every_lost_byte_is_seen_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let (storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    let snapshot = take(&storage, position(7, 3), 900);
    drop(storage);
    let path = folder.path().join(snapshot::file_name(snapshot.position));
    let whole = fs::read(&path).unwrap();
    let check = || Reader::open(&path, NODE, snapshot.position).and_then(Reader::check);
    let mut offsets = std::collections::BTreeSet::new();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        let error = check().unwrap_err();
        let StorageError::Corrupt { path: named, offset, .. } = &error else { panic!("bit {bit}: {error}") };
        assert_eq!(named, &path);
        // The place of what was checked: not after the damage, but for sums that stand at its end.
        assert!(*offset <= bit as u64 / 8 || *offset == 60, "bit {bit}: {error}");
        offsets.insert(*offset);
    }
    assert!(offsets.len() >= 5, "{offsets:?}");
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(check().unwrap_err(), StorageError::Corrupt { .. }), "{length} bytes");
    }
    let mut longer = whole.clone();
    longer.push(0);
    fs::write(&path, longer).unwrap();
    assert!(check().is_err());
}

#[test]
fn a_snapshot_under_the_name_of_another_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    let snapshot = take(&storage, position(7, 3), 900);
    let path = |position| folder.path().join(snapshot::file_name(position));
    fs::copy(path(snapshot.position), path(position(8, 3))).unwrap();
    let error = storage.snapshots().open(position(8, 3)).map(drop).unwrap_err();
    assert!(error.to_string().contains("as the name says"), "{error}");
    let error = Reader::open(&path(snapshot.position), NodeId(9), snapshot.position).map(drop).unwrap_err();
    assert!(matches!(error, StorageError::WrongNode { .. }), "{error}");
}

#[test]
fn all_damages_of_a_folder_are_reported_and_not_only_the_first() {
    let log = Log::mixed();
    assert!(verify(log.dir()).unwrap().is_sound());
    let flip = |record: &Record| {
        let mut bytes = fs::read(&record.path).unwrap();
        bytes[record.start + frame::HEADER_BYTES] ^= 1;
        fs::write(&record.path, bytes).unwrap();
        (record.path.clone(), record.start as u64)
    };
    let mut expected = vec![flip(&log.records[1]), flip(&log.records[4]), flip(&log.records[7])];
    expected.dedup_by_key(|damage| damage.0.clone());
    let report = verify(log.dir()).unwrap();
    let found: Vec<_> = report.damages.iter().map(|damage| (damage.path.clone(), damage.offset)).collect();
    for damage in &expected {
        assert!(found.contains(damage), "{damage:?} is not in {found:?}");
    }
    assert!(report.damages.len() >= 3 && report.records > 10, "{report:?}");
    assert!(report.damages.iter().all(|damage| !damage.what.is_empty()));
}

#[test]
fn a_torn_tail_is_no_damage_but_is_mentioned() {
    let log = Log::mixed();
    let last = log.last();
    let mut bytes = fs::read(&last.path).unwrap();
    bytes[last.end - 1..].fill(0);
    fs::write(&last.path, bytes).unwrap();
    let report = verify(log.dir()).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert!(report.notes[0].contains("torn tail"), "{report:?}");
}
