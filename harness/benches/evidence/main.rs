//! How fast, and in how much memory, a whole run folder is judged: `mkraft-harness check` as a process of its own.
//!
//! In: `[ENTRIES ...]`, the sizes to try; `EVIDENCE_DIR`, where folders go and stay. Out: a row for each size: wall
//! clock, processor time, the most memory that was resident. Never: a figure of a folder that was judged wrongly.

mod generator;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use generator::{Shape, write_run};

/// A run of 30 s in which 5 000 operations are done each second, half of them reads.
const BUSY: Shape = Shape { entries: 75_000, nodes: 5, recorded: 1, elections: 3, pace_ns: 400_000 };

/// A long log, of which one entry in a thousand has its operation in the history.
const LONG: Shape = Shape { entries: 0, nodes: 5, recorded: 1_000, elections: 9, pace_ns: 20_000 };

fn main() -> Result<(), Box<dyn Error>> {
    let sizes: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![100_000, 1_000_000, 10_000_000] } else { sizes };
    let mut shapes = vec![BUSY];
    shapes.extend(sizes.into_iter().map(|entries| Shape { entries, ..LONG }));
    println!("distinct entries  operations  evidence      wall clock  processor  resident");
    for shape in shapes {
        let kept = std::env::var_os("EVIDENCE_DIR").map(PathBuf::from);
        let temporary = tempfile::tempdir()?;
        let root = kept.as_deref().unwrap_or(temporary.path()).join(format!("run-{}", shape.entries));
        let bytes = match root.join("run.json").exists() {
            true => evidence_bytes(&root)?,
            false => write_run(&root, shape, 1)?,
        };
        let operations = 2 * shape.entries / shape.recorded;
        measure(&root, shape.entries, operations, bytes)?;
    }
    Ok(())
}

fn measure(root: &Path, entries: u64, operations: u64, bytes: u64) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mkraft-harness"))
        .arg("check")
        .arg(root)
        .stdout(Stdio::null())
        .spawn()?;
    // Of this child alone, which the usage of all children would not be.
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let (mut resident_kb, mut processor_s) = (0, 0.0);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        resident_kb = peak_kb(&proc).unwrap_or(0).max(resident_kb);
        processor_s = processor_seconds(&proc).unwrap_or(0.0).max(processor_s);
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    let wall = began.elapsed().as_secs_f64();
    if status.code() != Some(0) {
        return Err(format!("{}: expected that it holds, found {status}", root.display()).into());
    }
    let (mb, resident) = (bytes / 1_000_000, resident_kb / 1_000);
    println!(
        "{entries:>16}  {operations:>10}  {mb:>5} MB  {wall:>12.2} s  {processor_s:>7.2} s  {resident:>5} MB"
    );
    Ok(())
}

fn peak_kb(proc: &Path) -> Option<u64> {
    let status = std::fs::read_to_string(proc.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn processor_seconds(proc: &Path) -> Option<f64> {
    let stat = std::fs::read_to_string(proc.join("stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // USER_HZ is 100 wherever Linux runs today.
    Some(ticks as f64 / 100.0)
}

fn evidence_bytes(root: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for item in std::fs::read_dir(root)? {
        let item = item?;
        bytes +=
            if item.file_type()?.is_dir() { evidence_bytes(&item.path())? } else { item.metadata()?.len() };
    }
    Ok(bytes)
}
