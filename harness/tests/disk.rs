//! A disk of the harness' own, mounted: what a program does on it, what a loss of power takes, what faults do to
//! calls, and that nothing of it is left.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mkraft_harness::disk::{self, Call, Counts, Disk, DiskError, Fail, Look, Place, Slow};
use mkraft_harness::scenario::Distribution;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const HARNESS: &str = env!("CARGO_BIN_EXE_mkraft-harness");
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);

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
            skip(&missing);
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

fn skip(missing: &str) {
    eprintln!("SKIPPED, nothing is proven: {missing}");
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

/// In a thread of its own: the call may wait.
fn write_and_sync(path: PathBuf, bytes: &'static [u8]) -> tokio::task::JoinHandle<std::io::Result<Duration>> {
    tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        Ok(began.elapsed())
    })
}

async fn look_until(disk: &Disk, fact: impl Fn(&Look) -> bool) -> Look {
    let deadline = Instant::now() + LIMIT;
    loop {
        let look = disk.look().await.unwrap();
        if fact(&look) {
            return look;
        }
        assert!(Instant::now() < deadline, "{look:?}");
        tokio::time::sleep(POLL).await;
    }
}

#[test]
fn a_sync_that_failed_is_not_made_good_by_the_next_and_the_bytes_are_gone_with_the_power() {
    run(async {
        let Some(mounted) = Mounted::new().await else { return };
        let mut file = File::create_new(mounted.path("file")).unwrap();
        mounted.sync_folder();
        file.write_all(b"first ").unwrap();
        file.sync_data().unwrap();
        mounted.disk.fail(Fail::nth(Call::Sync, 2)).await.unwrap();
        file.write_all(b"second ").unwrap();
        file.sync_all().unwrap();
        file.write_all(b"third ").unwrap();
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(Errno::EIO as i32));
        file.sync_data().unwrap();
        assert_eq!(fs::read_to_string(mounted.path("file")).unwrap(), "first second third ");
        assert_eq!(mounted.disk.look().await.unwrap().failed, Counts { syncs: 1, ..Counts::default() });
        drop(file);
        let lost = mounted.disk.lose_power(7).await.unwrap();
        assert_eq!((lost.bytes, lost.torn), (6, 0), "{lost:?}");
        assert_eq!(fs::read_to_string(mounted.path("file")).unwrap(), "first second ");
        mounted.unmount().await;
    });
}

#[test]
fn a_read_or_a_write_fails_when_it_is_to_and_no_other() {
    run(async {
        let Some(mounted) = Mounted::new().await else { return };
        fs::write(mounted.path("file"), "bytes").unwrap();
        mounted.disk.fail(Fail { call: Call::Read, nth: 1, times: 2 }).await.unwrap();
        mounted.disk.fail(Fail::nth(Call::Write, 2)).await.unwrap();
        let mut file = OpenOptions::new().read(true).append(true).open(mounted.path("file")).unwrap();
        let mut byte = [0];
        for _ in 0..2 {
            assert_eq!(file.read(&mut byte).unwrap_err().raw_os_error(), Some(Errno::EIO as i32));
        }
        assert_eq!((file.read(&mut byte).unwrap(), byte), (1, *b"b"));
        file.write_all(b"1").unwrap();
        assert_eq!(file.write(b"2").unwrap_err().raw_os_error(), Some(Errno::EIO as i32));
        file.write_all(b"3").unwrap();
        assert_eq!(fs::read_to_string(mounted.path("file")).unwrap(), "bytes13");
        let failed = mounted.disk.look().await.unwrap().failed;
        assert_eq!(failed, Counts { reads: 2, writes: 1, ..Counts::default() });
        drop(file);
        mounted.unmount().await;
    });
}

#[test]
fn a_slow_disk_takes_its_time_for_writes_and_syncs_until_it_is_healed() {
    run(async {
        let Some(mounted) = Mounted::new().await else { return };
        let by = Duration::from_millis(500);
        let slow = Slow { by, spread: 0.0, distribution: Distribution::Uniform, seed: 1 };
        mounted.disk.slow(slow).await.unwrap();
        let both = ["one", "two"].map(|name| write_and_sync(mounted.path(name), b"slowly"));
        // At the same time: one does not wait for the other.
        look_until(&mounted.disk, |look| look.waiting == 2).await;
        for one in both {
            assert!(one.await.unwrap().unwrap() >= 2 * by);
        }
        let look = mounted.disk.look().await.unwrap();
        assert_eq!((look.slowed, look.waiting), (Counts { writes: 2, syncs: 2, ..Counts::default() }, 0));
        assert_eq!(look.slowed_ns, 4 * by.as_nanos() as u64);

        mounted.disk.slow(Slow { by: 1000 * by, ..slow }).await.unwrap();
        let waiting = write_and_sync(mounted.path("one"), b"more");
        look_until(&mounted.disk, |look| look.waiting == 1).await;
        mounted.disk.heal().await.unwrap();
        waiting.await.unwrap().unwrap();
        mounted.unmount().await;
    });
}

#[test]
fn whoever_waits_for_a_disk_that_hangs_is_let_go_by_a_heal_and_by_a_power_loss_even_if_it_was_killed() {
    run(async {
        let Some(mounted) = Mounted::new().await else { return };
        fs::write(mounted.path("file"), "bytes").unwrap();
        mounted.disk.hang().await.unwrap();
        let waiting = write_and_sync(mounted.path("file"), b" and more");
        let look = look_until(&mounted.disk, |look| look.waiting == 1).await;
        assert_eq!(look.hung, Counts { writes: 1, ..Counts::default() });
        assert_eq!(fs::metadata(mounted.path("file")).unwrap().len(), 5, "who only looks is answered");
        mounted.disk.heal().await.unwrap();
        waiting.await.unwrap().unwrap();

        File::open(mounted.path("file")).unwrap().sync_all().unwrap();
        mounted.sync_folder();
        mounted.disk.hang().await.unwrap();
        let mut dd = Command::new("dd");
        dd.args(["if=/dev/zero", "bs=4096", "count=1", "conv=notrunc,fsync", "status=none"]);
        dd.arg(format!("of={}", mounted.path("file").display())).stderr(Stdio::null());
        let mut dd = dd.spawn().unwrap();
        look_until(&mounted.disk, |look| look.waiting == 1).await;
        dd.kill().unwrap();
        assert!(dd.try_wait().unwrap().is_none(), "the kernel waits for its disk");
        let lost = mounted.disk.lose_power(1).await.unwrap();
        assert!(!dd.wait().unwrap().success());
        assert_eq!((lost.files, lost.names), (0, 0), "the call was never made: {lost:?}");
        // The disk hangs still.
        assert_eq!(mounted.disk.look().await.unwrap().open, 0);
        let waiting = write_and_sync(mounted.path("file"), b"!");
        look_until(&mounted.disk, |look| look.waiting == 1).await;
        mounted.disk.heal().await.unwrap();
        waiting.await.unwrap().unwrap();
        assert_eq!(fs::read_to_string(mounted.path("file")).unwrap(), "bytes and more!");

        mounted.disk.hang().await.unwrap();
        let waiting = write_and_sync(mounted.path("file"), b"!");
        look_until(&mounted.disk, |look| look.waiting == 1).await;
        mounted.unmount().await;
        assert!(waiting.await.unwrap().is_err(), "the end lets go too");
    });
}

#[test]
fn a_full_disk_writes_over_what_it_has_and_takes_nothing_new() {
    run(async {
        let Some(mounted) = Mounted::new().await else { return };
        let file = File::create_new(mounted.path("file")).unwrap();
        fallocate(&file, FallocateFlags::empty(), 0, 8192).unwrap();
        mounted.disk.full().await.unwrap();
        let full = |error: std::io::Error| assert_eq!(error.raw_os_error(), Some(Errno::ENOSPC as i32));
        file.write_all_at(&[1; 8192], 0).unwrap();
        full(file.write_at(&[2; 10], 8192).unwrap_err());
        assert_eq!(file.write_at(&[3; 4096], 6000).unwrap(), 2192, "what there is space for");
        full(fallocate(&file, FallocateFlags::empty(), 4096, 8192).unwrap_err().into());
        full(File::create_new(mounted.path("other")).unwrap_err());
        full(fs::create_dir(mounted.path("other")).unwrap_err());
        fs::rename(mounted.path("file"), mounted.path("other")).unwrap();
        file.sync_all().unwrap();
        assert_eq!(mounted.disk.look().await.unwrap().refused, 5);
        mounted.disk.heal().await.unwrap();
        file.write_all_at(&[4; 4096], 8192).unwrap();
        assert_eq!(mounted.disk.look().await.unwrap().allocated_bytes, 3 * 4096);
        drop(file);
        mounted.unmount().await;
    });
}

#[test]
fn who_was_not_killed_before_a_power_loss_finds_its_files_dead() {
    run(async {
        let Some(mounted) = Mounted::new().await else { return };
        let mut file = File::create_new(mounted.path("file")).unwrap();
        file.sync_all().unwrap();
        mounted.sync_folder();
        mounted.disk.lose_power(1).await.unwrap();
        assert_eq!(file.write(b"late").unwrap_err().raw_os_error(), Some(Errno::EIO as i32));
        assert!(file.sync_all().is_err());
        drop(file);
        assert_eq!(fs::read(mounted.path("file")).unwrap(), b"");
        mounted.unmount().await;
    });
}

#[test]
fn a_disk_whose_process_was_killed_leaves_no_mount() {
    run(async {
        for dropped in [false, true] {
            let Some(mounted) = Mounted::new().await else { return };
            let (mount, pid) = (mounted.disk.path().to_owned(), mounted.disk.pid());
            let busy = File::create_new(mounted.path("busy")).unwrap();
            kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
            assert!(matches!(look_of_the_dead(&mounted.disk).await, DiskError::Gone { .. }));
            assert!(disk::is_mounted(&mount).unwrap(), "so far nobody has undone it");
            if dropped {
                drop(mounted);
            } else {
                mounted.disk.unmount().await.unwrap();
            }
            assert!(!disk::is_mounted(&mount).unwrap());
            assert!(!is_alive(pid));
            drop(busy);
        }
    });
}

async fn look_of_the_dead(disk: &Disk) -> DiskError {
    disk.look().await.expect_err("it was killed")
}

/// Tells the same test, in another process, where it is to mount a disk.
const PLACE: &str = "MKRAFT_TEST_DISK";

#[test]
fn a_harness_that_was_killed_leaves_no_mount_and_no_process_even_while_files_are_open() {
    let name = "a_harness_that_was_killed_leaves_no_mount_and_no_process_even_while_files_are_open";
    if let Some(folder) = std::env::var_os(PLACE) {
        let folder = PathBuf::from(folder);
        return run(async {
            let place = Place::new(folder.join("data"), folder.join("beside"));
            let disk = Disk::mount(Path::new(HARNESS), &place).await.unwrap();
            disk.hang().await.unwrap();
            fs::write(folder.join("pid.new"), disk.pid().to_string()).unwrap();
            fs::rename(folder.join("pid.new"), folder.join("pid")).unwrap();
            std::future::pending().await
        });
    }
    if let Some(missing) = disk::missing() {
        return skip(&missing);
    }
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    let mount = folder.path().canonicalize().unwrap().join("data");
    let mut harness = Command::new(std::env::current_exe().unwrap());
    harness.args(["--exact", name]).env(PLACE, folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut harness = harness.spawn().unwrap();
    let deadline = Instant::now() + LIMIT;
    let pid = loop {
        if let Ok(pid) = fs::read_to_string(folder.path().join("pid")) {
            break pid.parse().unwrap();
        }
        assert!(Instant::now() < deadline && harness.try_wait().unwrap().is_none());
        std::thread::sleep(POLL);
    };
    let mut touch = Command::new("touch").arg(mount.join("file")).stderr(Stdio::null()).spawn().unwrap();
    assert!(disk::is_mounted(&mount).unwrap() && is_alive(pid));
    harness.kill().unwrap();
    harness.wait().unwrap();
    while disk::is_mounted(&mount).unwrap() || is_alive(pid) {
        assert!(Instant::now() < deadline, "something is left");
        std::thread::sleep(POLL);
    }
    touch.wait().unwrap();
}
