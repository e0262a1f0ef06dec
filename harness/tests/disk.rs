//! A disk of the harness' own, mounted: what a program does on it, what a loss of power takes, what faults do to
//! calls, and that nothing of it is left.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mkraft_harness::disk::{self, Disk, Place};
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};

const HARNESS: &str = env!("CARGO_BIN_EXE_mkraft-harness");
const LIMIT: Duration = Duration::from_secs(60);

/// A mounted disk, or None where the machine has none: then the test says so and proves nothing.
struct Mounted {
    disk: Disk,
    _folder: tempfile::TempDir,
}

impl Mounted {
    async fn new() -> Option<Mounted> {
        Mounted::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Place)) -> Option<Mounted> {
        if let Some(missing) = disk::missing() {
            eprintln!("SKIPPED, nothing is proven: {missing}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        let mut place = Place::new(folder.path().join("data"), folder.path().join("beside"));
        change(&mut place);
        let disk = Disk::mount(Path::new(HARNESS), &place).await.unwrap();
        assert!(disk::is_mounted(disk.path()).unwrap());
        Some(Mounted { disk, _folder: folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.disk.path().join(name)
    }

    fn sync_folder(&self) {
        File::open(self.disk.path()).unwrap().sync_all().unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.disk.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Nothing is left.
    async fn unmount(self) {
        let (mount, pid) = (self.disk.path().to_owned(), self.disk.pid());
        self.disk.unmount().await.unwrap();
        self.disk.unmount().await.unwrap();
        assert!(!disk::is_mounted(&mount).unwrap());
        assert!(!is_alive(pid));
    }
}

fn is_alive(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// With threads to spare: calls on the mount block.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, test).await.expect("the test ends in time") });
}

#[test]
fn a_program_finds_on_it_what_it_finds_on_any_disk() {
    run(async {
        let Some(mounted) = Mounted::new().await else { return };
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).open(mounted.path("file")).unwrap();
        let big: Vec<u8> = (0..3_000_001_u32).map(|at| (at * 7) as u8).collect();
        file.write_all_at(&big, 0).unwrap();
        assert_eq!(fs::read(mounted.path("file")).unwrap(), big);
        file.write_all_at(b"over", 4094).unwrap();
        file.sync_data().unwrap();
        let mut four = [0; 4];
        file.read_exact_at(&mut four, 4094).unwrap();
        assert_eq!(&four, b"over");
        file.set_len(5000).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 5000);
        fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
        assert_eq!(fs::metadata(mounted.path("file")).unwrap().len(), 1 << 20);
        let mut tail = vec![1; 100];
        file.read_exact_at(&mut tail, (1 << 20) - 100).unwrap();
        assert_eq!(tail, vec![0; 100]);

        let log = OpenOptions::new().append(true).create(true).open(mounted.path("log")).unwrap();
        let other = OpenOptions::new().append(true).open(mounted.path("log")).unwrap();
        for (at, mut log) in [&log, &other].into_iter().cycle().take(6).enumerate() {
            log.write_all(at.to_string().as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(mounted.path("log")).unwrap(), "012345");
        File::create(mounted.path("log")).unwrap();
        assert_eq!(fs::read_to_string(mounted.path("log")).unwrap(), "");

        fs::create_dir(mounted.path("folder")).unwrap();
        fs::rename(mounted.path("log"), mounted.path("folder/log")).unwrap();
        fs::hard_link(mounted.path("folder/log"), mounted.path("again")).unwrap();
        std::os::unix::fs::symlink("file", mounted.path("link")).unwrap();
        assert_eq!(fs::read_link(mounted.path("link")).unwrap(), Path::new("file"));
        assert_eq!(fs::read(mounted.path("link")).unwrap().len(), 1 << 20);
        assert_eq!(mounted.names(), ["again", "file", "folder", "link"]);
        assert_eq!(fs::copy(mounted.path("file"), mounted.path("copy")).unwrap(), 1 << 20);
        assert!(fs::remove_dir(mounted.path("folder")).is_err(), "it is not empty");
        fs::remove_dir_all(mounted.path("folder")).unwrap();
        let mut open = File::open(mounted.path("again")).unwrap();
        for name in ["again", "copy", "file", "link"] {
            fs::remove_file(mounted.path(name)).unwrap();
        }
        assert_eq!((mounted.names().len(), open.read(&mut four).unwrap()), (0, 0));
        for at in 0..500 {
            File::create(mounted.path(&format!("a file with a long name and the number {at}"))).unwrap();
        }
        assert_eq!(mounted.names().len(), 500);

        let lock = |how| Flock::lock(File::create(mounted.path("lock")).unwrap(), how);
        let held = lock(FlockArg::LockExclusiveNonblock).unwrap();
        assert!(lock(FlockArg::LockSharedNonblock).is_err());
        drop(held);
        assert!(lock(FlockArg::LockSharedNonblock).is_ok());
        drop((open, log, other, file));
        mounted.unmount().await;
    });
}

#[test]
fn a_power_loss_takes_bytes_names_renames_and_removals_that_were_not_synced_and_nothing_else() {
    run(async {
        let Some(mounted) = Mounted::new().await else { return };
        for name in ["kept", "bytes", "renamed", "removed"] {
            fs::write(mounted.path(name), name).unwrap();
            File::open(mounted.path(name)).unwrap().sync_all().unwrap();
        }
        mounted.sync_folder();
        let lost = mounted.disk.lose_power(1).await.unwrap();
        assert_eq!((lost.files, lost.bytes, lost.names), (0, 0, 0), "all was synced: {lost:?}");
        assert_eq!(mounted.names(), ["bytes", "kept", "removed", "renamed"]);

        // Bytes, without their sync. What was written last may survive in part, and the first does not.
        let file = OpenOptions::new().append(true).open(mounted.path("bytes")).unwrap();
        (&file).write_all(b" that are lost").unwrap();
        (&file).write_all(b"!").unwrap();
        assert_eq!(fs::read_to_string(mounted.path("bytes")).unwrap(), "bytes that are lost!");
        drop(file);
        let lost = mounted.disk.lose_power(2).await.unwrap();
        assert_eq!((lost.files, lost.writes, lost.names), (1, 2, 0), "{lost:?}");
        assert!(lost.bytes >= 14 && lost.told[0].starts_with("bytes: 2 changes"), "{lost:?}");
        let bytes = fs::read(mounted.path("bytes")).unwrap();
        assert_eq!(&bytes[..5], b"bytes");
        assert!(bytes[5..].iter().take(14).all(|byte| *byte == 0), "{bytes:?}");

        // A new name: the bytes were synced, the folder was not.
        fs::write(mounted.path("new"), "new").unwrap();
        File::open(mounted.path("new")).unwrap().sync_all().unwrap();
        let lost = mounted.disk.lose_power(3).await.unwrap();
        assert_eq!((lost.files, lost.names, &*lost.told[0]), (0, 1, ".: new name new"), "{lost:?}");
        assert!(!mounted.path("new").exists());

        fs::rename(mounted.path("renamed"), mounted.path("other")).unwrap();
        let lost = mounted.disk.lose_power(4).await.unwrap();
        assert_eq!((lost.names, &*lost.told[0]), (1, ".: rename of renamed to other"), "{lost:?}");
        assert_eq!(fs::read_to_string(mounted.path("renamed")).unwrap(), "renamed");
        assert!(!mounted.path("other").exists());

        fs::remove_file(mounted.path("removed")).unwrap();
        let lost = mounted.disk.lose_power(5).await.unwrap();
        assert_eq!((lost.names, &*lost.told[0]), (1, ".: removal of removed"), "{lost:?}");
        assert_eq!(fs::read_to_string(mounted.path("removed")).unwrap(), "removed");

        // And the same with a sync of the folder.
        fs::rename(mounted.path("renamed"), mounted.path("other")).unwrap();
        fs::remove_file(mounted.path("removed")).unwrap();
        mounted.sync_folder();
        assert_eq!(mounted.disk.lose_power(6).await.unwrap().names, 0);
        assert_eq!(mounted.names(), ["bytes", "kept", "other"]);
        assert_eq!(mounted.disk.look().await.unwrap().power_losses, 6);
        mounted.unmount().await;
    });
}
