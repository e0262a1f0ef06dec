//! Mutated bytes for everything that a node reads from the world: never a panic, and what is read comes back the same.
//!
//! In: the targets of `mkraft_node::fuzz` with their seeds. Out: a panic that names the target and the case.
//! `FUZZ_CASES` of each target (20 000 where it is not given), from case `FUZZ_FIRST` on; a case depends on its number
//! alone. `FUZZ_TARGET` names one of them.

// What tests share may unwrap as tests do.
#![allow(clippy::unwrap_used)]

use mkraft_node::fuzz::{TARGETS, Target};

const CASES: u64 = 20_000;
const CHANGES_MAX: u64 = 6;

/// Steele, Lea & Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `count`.
    fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// What goes wrong with bytes, and what a fuzzer of lengths and counts would try.
fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(9) {
        _ if bytes.is_empty() => bytes.push(random.next() as u8),
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next() as u8,
        2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        3 => bytes.truncate(at),
        4 => bytes.insert(at, random.next() as u8),
        5 => drop(bytes.remove(at)),
        6 => {
            let number = [0, 1, u64::MAX, u64::MAX - 1, 1 << 32, random.next()][random.below(6)];
            let width = [2, 4, 8][random.below(3)].min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
        }
        7 => {
            let end = at + random.below(bytes.len() - at) + 1;
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        _ => {
            let other = &others[random.below(others.len())];
            let from = random.below(other.len());
            bytes.truncate(at);
            bytes.extend(&other[from.min(other.len())..]);
        }
    }
}

fn case(target: &Target, seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut random = Random(number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..random.next() % (CHANGES_MAX + 1) {
        mutate(&mut bytes, seeds, &mut random);
    }
    if random.below(2) == 0 {
        (target.mend)(&mut bytes);
    }
    bytes
}

fn drive(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    if std::env::var("FUZZ_TARGET").is_ok_and(|only| only != name) {
        return;
    }
    let seeds = (target.seeds)();
    seeds.iter().for_each(|seed| (target.run)(seed));
    let first = number("FUZZ_FIRST").unwrap_or(0);
    for number in first..first + number("FUZZ_CASES").unwrap_or(CASES) {
        let bytes = case(target, &seeds, number);
        let ran = std::panic::catch_unwind(|| (target.run)(&bytes));
        if ran.is_err() {
            panic!("repeat with FUZZ_TARGET={name} FUZZ_FIRST={number} FUZZ_CASES=1: {bytes:02x?}");
        }
    }
}

#[test]
fn records_of_the_log() {
    drive("wal-record");
}

#[test]
fn files_of_snapshots() {
    drive("snapshot-file");
}

#[test]
fn states_within_snapshots() {
    drive("snapshot-state");
}

#[test]
fn frames_of_peers() {
    drive("peer-frame");
}

#[test]
fn commands_of_clients() {
    drive("client-command");
}

#[test]
fn every_target_is_driven() {
    let source = include_str!("fuzz.rs");
    for target in TARGETS {
        assert!(source.contains(&format!("drive(\"{}\")", target.name)), "{} is not", target.name);
    }
}
