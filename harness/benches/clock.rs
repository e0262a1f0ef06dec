//! What a look at the clock costs a process whose clocks can be changed, against the same process without the library.
//!
//! In: nothing; it starts itself again for each measurement. Out: medians in nanoseconds and their ratio, on standard
//! output. Never: a verdict on them: they are the machine's as much as ours. The kinds take turns.
#![allow(clippy::unwrap_used)]

use std::env;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mkraft_harness::cluster::{Clock, Dial, clocks_can_be_changed, put_clock_library};

const TURNS: usize = 9;
const CALLS: u32 = 2_000_000;
/// Of a clock that drifts, by which the process then measures itself.
const PERCENT: u32 = 110;
/// Makes it the process that is measured.
const MEASURED: &str = "MKRAFT_BENCH_CLOCK";

fn main() {
    if env::var_os(MEASURED).is_some() {
        return println!("{}", nanoseconds_a_call());
    }
    if !clocks_can_be_changed() {
        return eprintln!("SKIPPED, nothing is measured: this harness was built without the library");
    }
    let run = tempfile::tempdir().unwrap();
    let node = run.path().join("nodes/n1");
    std::fs::create_dir_all(&node).unwrap();
    put_clock_library(run.path()).unwrap();
    let clock = Clock::create(&node).unwrap();
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        let plain = measure(&node, Vec::new());
        let read = clock.processes();
        let told_true = measure(&node, Clock::environment());
        clock.rate(Dial::Monotonic, PERCENT);
        let drifting = measure(&node, Clock::environment()) * 100.0 / f64::from(PERCENT);
        clock.be_true();
        assert_eq!(clock.processes(), read + 2, "a process that was measured did not have the library");
        turns.push([plain, told_true, drifting]);
    }
    let kinds = ["without the library", "with it, telling the truth", "with it, drifting"];
    let plain = median(&turns, |turn| turn[0]);
    for (kind, what) in kinds.iter().enumerate() {
        let (time, ratio) = (median(&turns, |turn| turn[kind]), median(&turns, |turn| turn[kind] / turn[0]));
        println!("{what:<28} {time:>6.1} ns a call, {:+.1} ns, {ratio:.2}", time - plain);
    }
}

fn measure(folder: &Path, environment: Vec<(String, String)>) -> f64 {
    let program = env::current_exe().unwrap();
    let child =
        Command::new(program).current_dir(folder).env(MEASURED, "").envs(environment).output().unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    String::from_utf8(child.stdout).unwrap().trim().parse().unwrap()
}

fn nanoseconds_a_call() -> f64 {
    let began = Instant::now();
    for _ in 0..CALLS {
        black_box(Instant::now());
    }
    let took: Duration = began.elapsed();
    took.as_secs_f64() * 1e9 / f64::from(CALLS)
}

fn median(turns: &[[f64; 3]], of: impl Fn(&[f64; 3]) -> f64) -> f64 {
    let mut values: Vec<f64> = turns.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
