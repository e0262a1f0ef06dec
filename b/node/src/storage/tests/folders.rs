//! Whose folder it is, who may use it, and what is no data folder at all.

use super::*;

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
fn a_crash_during_the_first_use_of_a_folder_leaves_it_usable() {
    let folder = tempfile::tempdir().unwrap();
    segment::create(folder.path(), NODE, FIRST_SEQUENCE, 450, &Base::default(), None).unwrap();
    fs::write(folder.path().join("new.tmp"), b"mkraft da").unwrap();
    assert!(matches!(read(folder.path()).unwrap_err(), StorageError::NotADataFolder { .. }));
    drop(Storage::open(folder.path(), NODE, SMALL).unwrap());
    assert_recovers(folder.path(), &Model::default(), false, "second attempt");
}
