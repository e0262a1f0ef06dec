use super::*;
use crate::disk::ledger::{Cut, Ledger};
use crate::disk::model::New;
use crate::disk::orders::StoreFailures;

/// A drive without a mount, and its store.
fn drive(folder: &Path) -> (Drive, std::path::PathBuf) {
    let beside = folder.join("disk");
    (Drive::beside(&beside, 1 << 20).unwrap(), beside.join("store"))
}

/// A new file, open and with some bytes that are not synced. In its place in the store is a folder, so that nothing can be
/// written there.
fn broken_file(drive: &Drive, store: &Path, name: &str) -> (Inode, u64) {
    let (seen, handle) = drive.create(Turn::Go, now(), (ROOT, name), New::File, 0o644, true).unwrap();
    std::fs::create_dir(store.join(seen.inode.to_string())).unwrap();
    drive.write(Turn::Go, now(), handle, 0, vec![1; 8192]).unwrap();
    (seen.inode, handle)
}

#[test]
fn what_the_store_fails_to_do_is_counted_with_the_words_of_the_first_time() {
    let folder = tempfile::tempdir().unwrap();
    let (drive, store) = drive(folder.path());
    let (_, handle) = drive.create(Turn::Go, now(), (ROOT, "a"), New::File, 0o644, true).unwrap();
    drive.write(Turn::Go, now(), handle, 0, vec![1; 8192]).unwrap();
    drive.sync(Turn::Go, now(), handle).unwrap();
    // What the harness has it fail is no failure of the store.
    drive.sync(Turn::Fail, now(), handle).unwrap_err();
    assert_eq!(drive.look().store, StoreFailures::default());

    let (inode, handle) = broken_file(&drive, &store, "b");
    for times in 1..=2 {
        drive.sync(Turn::Go, now(), handle).unwrap_err();
        let store = drive.look().store;
        assert_eq!(store.count, times);
        let first = store.first.unwrap();
        assert!(first.starts_with(&format!("failed to write to inode {inode}: Is a directory")), "{first}");
    }
}

#[test]
fn a_disk_has_its_power_back_though_losing_it_failed_and_its_ledger_is_no_longer_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (drive, store) = drive(folder.path());
    let mut failed = 0;
    // Whether anything survives of the last write, and so is written, the draw says.
    for draw in 0..20 {
        let name = draw.to_string();
        let (_, handle) = broken_file(&drive, &store, &name);
        drive.sync(Turn::Fail, now(), handle).unwrap_err();
        drive.write(Turn::Go, now(), handle, 8192, vec![2; 8192]).unwrap();
        let root = drive.open(ROOT).unwrap();
        drive.sync(Turn::Go, now(), root).unwrap();
        [handle, root].into_iter().for_each(|handle| drive.close(handle));
        let lost = drive.lose_power(draw);
        failed += u64::from(lost.is_err());
        let seen = drive.lookup(ROOT, &name).unwrap();
        let handle = drive.open(seen.inode).unwrap();
        drive.close(handle);
        drive.unlink(Turn::Go, now(), (ROOT, &name)).unwrap();
    }
    assert!((1..20).contains(&failed), "{failed} of 20");
    assert_eq!(drive.look().power_losses, 20 - failed);
    assert!(drive.look().store.count >= failed);
    drive.end();
    assert_eq!(Ledger::read(&folder.path().join("disk")).unwrap().cut, Some(Cut::NoEnd));
}

#[test]
fn a_ledger_ends_when_the_disk_does_and_not_while_a_call_is_being_made() {
    for busy in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (drive, _) = drive(folder.path());
        drive.create(Turn::Go, now(), (ROOT, "a"), New::File, 0o644, false).unwrap();
        drive.lock().under_way += u64::from(busy);
        drive.end();
        let ledger = Ledger::read(&folder.path().join("disk")).unwrap();
        assert_eq!((ledger.entries.len(), ledger.cut), (1, busy.then_some(Cut::NoEnd)));
    }
}
