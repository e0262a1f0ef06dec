use std::fs;

use super::*;
use crate::disk::model::{Change, Model, ROOT};
use crate::disk::store::MemoryStore;

const CALL: u64 = 10;

fn entry(number: u64, act: Act) -> Entry {
    Entry { number, begin: number * CALL, end: number * CALL + 1, act }
}

/// A few calls, done to a model and written down.
fn kept(folder: &Path, bytes_max: u64) -> Model<MemoryStore> {
    let mut ledger = Writer::create(folder, bytes_max).unwrap();
    let mut model = Model::new(MemoryStore::default(), 0);
    let name = |name: &str| name.to_owned();
    let file = model.create(1, (ROOT, "a"), New::File, 0, 0).unwrap();
    let created = Act::Create { folder: ROOT, name: name("a"), inode: file, new: New::File };
    ledger.note((1, CALL), created, CALL + 1);
    for (number, bytes) in [(2, &b"bytes"[..]), (3, &[0; 10]), (4, b" and more")] {
        let offset = (number - 2) * 5;
        ledger.write((number, number * CALL), file, offset, bytes, number * CALL + 1);
        model.change(number, file, Change::Write { offset, bytes: bytes.to_vec() }, 0).unwrap();
    }
    let mut number = 4;
    let mut note = |ledger: &mut Writer, act: Act| {
        number += 1;
        let Entry { begin, end, act, .. } = entry(number, act);
        ledger.note((number, begin), act, end);
        number
    };
    note(&mut ledger, Act::Sync { inode: file, through: 3, failed: false });
    let flushed = model.flush(file, 3).unwrap();
    model.settle(file, &flushed);
    let number =
        note(&mut ledger, Act::Rename { folder: ROOT, name: name("a"), to_folder: ROOT, to_name: name("b") });
    model.rename(number, (ROOT, "a"), (ROOT, "b"), 0).unwrap();
    note(&mut ledger, Act::Sync { inode: ROOT, through: number, failed: false });
    model.settle_folder(ROOT, number);
    note(&mut ledger, Act::PowerLoss { draw: 3 });
    model.lose_power(3).unwrap();
    ledger.end(number + 3, 100 * CALL);
    model
}

#[test]
fn a_replay_ends_where_the_disk_did() {
    let folder = tempfile::tempdir().unwrap();
    let model = kept(folder.path(), 1000);
    let ledger = Ledger::read(folder.path()).unwrap();
    assert_eq!(ledger.cut, None);
    assert_eq!(ledger.entries.len(), 8);
    let mut replay = Replay::new(&ledger);
    assert_eq!((ledger.place_at(0), ledger.place_at(5 * CALL), ledger.place_at(5 * CALL + 1)), (0, 4, 5));
    replay.go_to(5).unwrap();
    let unsynced = replay.model().unsynced();
    assert_eq!((unsynced.bytes, unsynced.names), (9, 1), "{unsynced:?}");
    replay.go_to(usize::MAX).unwrap();
    let file = |model: &Model<MemoryStore>| {
        model.lookup(ROOT, "b").and_then(|file| model.read(file, 0, 100)).unwrap()
    };
    assert_eq!((replay.place(), file(replay.model())), (8, file(&model)));
}

#[test]
fn a_ledger_that_has_reached_its_bound_says_so_and_its_reader_too() {
    let folder = tempfile::tempdir().unwrap();
    kept(folder.path(), 13);
    let ledger = Ledger::read(folder.path()).unwrap();
    assert_eq!(ledger.cut, Some(Cut::Bound));
    assert_eq!(ledger.entries.len(), 3, "zeros take no bytes, the third write does");
    let none = tempfile::tempdir().unwrap();
    kept(none.path(), 0);
    let none = Ledger::read(none.path()).unwrap();
    assert!(none.cut == Some(Cut::Bound) && none.entries.is_empty());
}

#[test]
fn a_ledger_that_could_not_be_written_has_no_end_and_its_reader_says_so() {
    let whole = tempfile::tempdir().unwrap();
    kept(whole.path(), 1000);
    let text = fs::read_to_string(whole.path().join(CALLS)).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for left in 0..lines.len() {
        fs::write(whole.path().join(CALLS), lines[..left].concat()).unwrap();
        let ledger = Ledger::read(whole.path()).unwrap();
        assert_eq!((ledger.cut, ledger.entries.len()), (Some(Cut::NoEnd), left));
    }
    // A device that is always full: lines stay in memory until they are many or the end comes.
    for full in [CALLS, BYTES] {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Writer::create(folder.path(), 1000).unwrap();
        let broken = File::options().write(true).open("/dev/full").unwrap();
        let broken = BufWriter::with_capacity(BUFFER_BYTES, broken);
        *(if full == CALLS { &mut ledger.calls } else { &mut ledger.bytes }) = broken;
        let created = Act::Create { folder: ROOT, name: "a".into(), inode: Inode(2), new: New::File };
        ledger.note((1, CALL), created, CALL + 1);
        ledger.flush();
        ledger.write((2, 2 * CALL), Inode(2), 0, b"bytes", 2 * CALL + 1);
        assert_eq!(ledger.kept().cut, full == CALLS);
        ledger.end(3, 3 * CALL);
        assert!(ledger.kept().cut);
        drop(ledger);
        let read = Ledger::read(folder.path());
        match full {
            CALLS => assert_eq!(read.unwrap().cut, Some(Cut::NoEnd)),
            _ => assert!(read.unwrap_err().to_string().contains("5 bytes at byte 0 of a file of 0")),
        }
    }
}

#[test]
fn damage_is_told_by_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    kept(folder.path(), 1000);
    let calls = folder.path().join(CALLS);
    let whole = fs::read_to_string(&calls).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let told = |text: String| {
        fs::write(&calls, text).unwrap();
        let read = Ledger::read(folder.path());
        let error = match &read {
            Ok(ledger) => Replay::new(ledger).go_to(usize::MAX).unwrap_err(),
            Err(_) => read.unwrap_err(),
        };
        error.to_string().replace(&calls.display().to_string(), "ledger.jsonl")
    };
    let cut = told(whole[..whole.len() - 1].to_owned());
    assert_eq!(cut, "ledger.jsonl:9: the line has no end: its disk was killed");
    let twice = told(whole.replacen(lines[1], &format!("{0}\n{0}", lines[1]), 1));
    assert_eq!(twice, "ledger.jsonl:3: call 2 after call 2");
    assert!(told(whole.replace("rename", "remane")).starts_with("ledger.jsonl:6: unknown variant `remane`"));
    let more = told(format!("{whole}{}\n", lines[7].replace("\"number\":8", "\"number\":10")));
    assert_eq!(more, "ledger.jsonl:10: a call after the end of the ledger");
    let missing = told(whole.replacen(&format!("{}\n", lines[0]), "", 1));
    assert_eq!(
        missing,
        "ledger.jsonl:5: it could be done, and now it cannot: ENOENT: No such file or directory"
    );
    fs::write(&calls, &whole).unwrap();
    fs::write(folder.path().join(BYTES), "b").unwrap();
    let short = Ledger::read(folder.path()).unwrap_err().to_string();
    assert!(short.ends_with("ledger.jsonl:2: 5 bytes at byte 0 of a file of 1"), "{short}");
}
