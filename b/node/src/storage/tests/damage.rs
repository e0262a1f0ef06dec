//! What no crash explains is refused, by file and offset.

use super::*;

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
fn a_last_record_that_was_durable_once_is_not_taken_for_a_torn_one() {
    let log = Log::mixed();
    log.mark_last();
    let last = log.last();
    let whole = fs::read(&last.path).unwrap();
    let flipped = (last.start..last.end).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    });
    let cut = (last.start..last.end).map(|at| whole[..at].to_vec());
    let zeroed = (last.start..last.end).map(|at| {
        let mut bytes = whole.clone();
        bytes[at..].fill(0);
        bytes
    });
    for bytes in flipped.chain(cut).chain(zeroed) {
        fs::write(&last.path, &bytes).unwrap();
        let before = contents(log.dir());
        for error in [read(log.dir()).unwrap_err(), Storage::open(log.dir(), NODE, SMALL).unwrap_err()] {
            let StorageError::Corrupt { path, offset, .. } = &error else { panic!("{error}") };
            assert_eq!((path, *offset), (&last.path, last.start as u64), "{error}");
        }
        assert_eq!(contents(log.dir()), before);
        let report = verify(log.dir()).unwrap();
        assert_eq!(
            (report.damages[0].path.as_path(), report.damages[0].offset),
            (&*last.path, last.start as u64)
        );
    }
    fs::write(&last.path, whole).unwrap();
    assert_recovers(log.dir(), &log.state, false, "mended");
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
fn records_lost_before_a_blank_segment_are_not_taken_for_a_torn_seal() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    storage.write(&append([entry(1, 1, b"kept")])).unwrap();
    let lost = storage.active.offset;
    storage.write(&append([entry(2, 1, b"zeroed below")])).unwrap();
    create_next(&storage);
    write_zeros(&storage.active.file, lost, storage.active.offset - lost).unwrap();
    drop(storage);
    let error = read(folder.path()).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt { offset, .. } if offset == lost), "{error}");
}
