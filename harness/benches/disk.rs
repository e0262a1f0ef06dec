//! What a disk of the harness' own costs: a write of 4 KiB and its sync on the mount, against the same on the plain
//! folder below it.
//!
//! In: nothing. Out: medians and their ratio, on standard output. Never: a verdict on them: they are the machine's as
//! much as ours. The two take turns, so that a busy machine is as busy for the one as for the other.
#![allow(clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use mkraft_harness::disk::{self, Disk, Place};

const TURNS: usize = 9;
const CALLS: u64 = 300;
const BYTES: usize = 4096;

fn main() {
    if let Some(missing) = disk::missing() {
        eprintln!("SKIPPED, nothing is measured: {missing}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // Not in /tmp, which is memory on many machines.
    let folder = tempfile::tempdir_in(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")).unwrap();
    let plain = folder.path().join("plain");
    let place = Place::new(folder.path().join("mount"), folder.path().join("beside"));
    fs::create_dir(&plain).unwrap();
    fs::create_dir(&place.mount).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_mkraft-harness"));
    let disk = runtime.block_on(Disk::mount(program, &place)).unwrap();
    for (what, overwrites) in
        [("to the end of a growing file", false), ("over what was written before", true)]
    {
        let mut turns = Vec::new();
        for _ in 0..TURNS {
            turns.push([turn(&plain, overwrites), turn(disk.path(), overwrites)]);
        }
        let ratio = median(turns.iter().map(|[plain, mount]| mount.as_secs_f64() / plain.as_secs_f64()));
        let [plain, mount] =
            [0, 1].map(|side| median(turns.iter().map(|turn| turn[side].as_secs_f64() * 1e6)));
        println!(
            "write(4 KiB) + fdatasync {what}: {plain:.0} us on the folder, {mount:.0} us on the mount: {ratio:.2}"
        );
    }
    runtime.block_on(disk.unmount()).unwrap();
}

/// The median of what a write and its sync take.
fn turn(folder: &Path, overwrites: bool) -> Duration {
    let path = folder.join("file");
    let file = OpenOptions::new().write(true).create(true).truncate(!overwrites).open(&path).unwrap();
    if overwrites {
        file.write_all_at(&vec![1; CALLS as usize * BYTES], 0).unwrap();
        file.sync_all().unwrap();
    }
    let mut took: Vec<Duration> = (0..CALLS)
        .map(|call| {
            let began = Instant::now();
            file.write_all_at(&[call as u8; BYTES], call * BYTES as u64).unwrap();
            file.sync_data().unwrap();
            began.elapsed()
        })
        .collect();
    took.sort();
    took[took.len() / 2]
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
