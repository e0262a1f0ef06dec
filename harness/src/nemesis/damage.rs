//! Damage at rest: a node is killed, a file that it keeps is changed, and it is started again.
//!
//! In: nodes, by their target, which file and which part of it. Out: what was there and what is there now, read back;
//! and, when the node is started, what it made of it. Never: a change under a node that runs, or damage that is left: what a
//! node refuses is put back as it was, for it has not run in between, and then it must come back.
//!
//! A node that finds damage must end and name it, or make up for it and serve: then nothing is put back. Whether it has lost
//! what it had made durable is for the judge.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::account::Breakage;
use super::target::{candidates, resolve};
use super::{Aim, Doing, Struck, Told, Undo};
use crate::cluster::{Cluster, Node, NodeState, Status, at_once};
use crate::history::StrikeOutcome;
use crate::scenario::{self, Manner};
use crate::system::Mkraft;
use crate::system::stored::{Part, Spot, Stored};

/// From a start until the node answers, or has refused what it found.
const START_LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(10);
/// A node's files are read in milliseconds, unless its disk begins to hang meanwhile.
const READ_LIMIT: Duration = Duration::from_secs(5);
/// Of what a node says before it ends.
const WORDS_BYTES_MAX: u64 = 64 << 10;
/// Blocks that change places: as disks and file systems have them, or smaller where there is no room.
const BLOCKS_BYTES: [usize; 6] = [4096, 512, 64, 16, 4, 1];
/// Exit code of a panic.
const PANIC: i32 = 101;

/// What is done to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    FlipBit,
    Truncate,
    SwapBlocks,
}

pub(super) fn bit_flip(aim: Aim) -> Doing<Struck> {
    Box::pin(strike(aim, How::FlipBit))
}

pub(super) fn truncate(aim: Aim) -> Doing<Struck> {
    Box::pin(strike(aim, How::Truncate))
}

pub(super) fn swap_blocks(aim: Aim) -> Doing<Struck> {
    Box::pin(strike(aim, How::SwapBlocks))
}

/// What one strike does to each of its nodes.
#[derive(Debug, Clone, Copy)]
struct Blow {
    how: How,
    stored: Stored,
    part: Part,
    draw: u64,
}

/// A file that was changed, and all it takes to put it back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wound {
    path: PathBuf,
    length_before: u64,
    length_after: u64,
    patches: Vec<Patch>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Patch {
    at: u64,
    before: Vec<u8>,
    after: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
enum DamageError {
    #[error(transparent)]
    NoSpot(#[from] crate::system::stored::NoSpot),
    #[error("{}: no two blocks of it differ there", .0.display())]
    AllAlike(PathBuf),
    #[error("failed to change {}: {source}", path.display())]
    Change { path: PathBuf, source: io::Error },
    #[error("{}: not as it was written when read back", .0.display())]
    NotSo(PathBuf),
    #[error("its disk hangs, and whoever reads its files with it")]
    Hangs,
    #[error("its files were not read within {READ_LIMIT:?}")]
    Unread,
}

async fn strike(aim: Aim, how: How) -> Struck {
    let Manner::AtRest { file, place } = aim.manner else { unreachable!("{:?}", aim.manner) };
    let blow = Blow { how, stored: stored(file), part: part(place), draw: aim.draw };
    let nodes = candidates(&aim.cluster);
    let is_alive = |state| !matches!(state, NodeState::Down | NodeState::CrashLoop | NodeState::Damaged);
    let mut names = match resolve(aim.target, &aim.view(&nodes), |node| is_alive(node.state), aim.draw) {
        Ok(names) => names,
        Err(reason) => return Struck::skipped(reason),
    };
    // Nobody is killed for a file that is not there.
    let looked =
        names.iter().map(|name| {
            let (cluster, name) = (Arc::clone(&aim.cluster), name.clone());
            async move {
                blow.plan(&cluster, &name).await.map(|_| ()).map_err(|reason| format!("{name}: {reason}"))
            }
        });
    let looked = at_once(looked).await;
    let mut found = looked.iter().map(Result::is_ok);
    names.retain(|_| found.next().unwrap_or_default());
    let lacking: Vec<String> = looked.into_iter().filter_map(Result::err).collect();
    if names.is_empty() {
        return Struck::skipped(lacking.join("; "));
    }
    let broken = names.iter().fold(Breakage::default(), |broken, name| broken.node(name));
    if let Err(reason) = aim.claim.breaks(broken) {
        return Struck::skipped(reason);
    }
    let deeds = names.iter().map(|name| {
        let (cluster, name) = (Arc::clone(&aim.cluster), name.clone());
        async move { blow.wound(&cluster, &name).await }
    });
    let mut wounded = Vec::new();
    let mut details = lacking;
    let (mut spared, mut unclear) = (0, 0);
    for (name, outcome) in names.iter().zip(at_once(deeds).await) {
        match outcome {
            Ok((wound, detail)) => {
                wounded.push((name.clone(), wound));
                details.push(detail);
            }
            Err(Unhurt::Spared(reason)) => {
                spared += 1;
                details.push(reason);
            }
            Err(Unhurt::Unclear(reason)) => {
                unclear += 1;
                details.push(reason);
            }
        }
    }
    let outcome = match (wounded.len(), spared, unclear) {
        (0, _, 0) => StrikeOutcome::Skipped,
        (_, 0, 0) => StrikeOutcome::Installed,
        _ => StrikeOutcome::Indeterminate,
    };
    let told = Told { nodes: names, outcome, detail: details.join("; ") };
    if wounded.is_empty() {
        return Struck { told, undo: None };
    }
    let cluster = Arc::clone(&aim.cluster);
    Struck { told, undo: Some(Undo::new(move || undo(cluster, wounded))) }
}

/// Why a node was not hurt.
enum Unhurt {
    /// Nothing was done to it.
    Spared(String),
    Unclear(String),
}

impl Blow {
    fn numbers(&self, node: &str) -> ChaCha8Rng {
        let mut numbers = ChaCha8Rng::seed_from_u64(self.draw);
        numbers.set_stream(node.trim_start_matches('n').parse().unwrap_or_default());
        numbers
    }

    /// What it would change now.
    async fn plan(self, cluster: &Arc<Cluster>, node: &str) -> Result<Wound, DamageError> {
        if cluster.node(node).has_hanging_disk().await {
            return Err(DamageError::Hangs);
        }
        let (of, owned) = (Arc::clone(cluster), node.to_owned());
        match timeout(READ_LIMIT, spawn_blocking(move || self.read(&of, &owned))).await {
            Ok(Ok(plan)) => plan,
            Ok(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(DamageError::Unread),
        }
    }

    fn read(&self, cluster: &Cluster, node: &str) -> Result<Wound, DamageError> {
        let (data, mut numbers) = (cluster.node_folder(node).data(), self.numbers(node));
        let pick = |numbers: &mut ChaCha8Rng, count: usize| numbers.random_range(0..count);
        let spot = Mkraft::spot(&data, self.stored, self.part, |count| pick(&mut numbers, count))?;
        let read = std::fs::read(&spot.path);
        let bytes = read.map_err(|source| DamageError::Change { path: spot.path.clone(), source })?;
        Wound::of(self.how, &spot, &bytes, |count| pick(&mut numbers, count))
    }

    async fn change(self, cluster: &Arc<Cluster>, name: &str) -> Result<Wound, DamageError> {
        let wound = self.plan(cluster, name).await?;
        let changed = spawn_blocking(move || wound.inflict().map(|()| wound));
        changed.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Kills the node and changes its file.
    async fn wound(self, cluster: &Arc<Cluster>, name: &str) -> Result<(Wound, String), Unhurt> {
        let node = cluster.node(name);
        let killed = node.kill_for_damage().await.map_err(|error| match error.definite() {
            true => Unhurt::Spared(error.to_string()),
            false => Unhurt::Unclear(error.to_string()),
        })?;
        // It may have written more since it was looked at.
        match self.change(cluster, name).await {
            Ok(wound) => {
                let detail = format!("{killed}; {name}: {}, read back", wound.told());
                Ok((wound, detail))
            }
            Err(error) => {
                node.mend();
                let started = match node.start().await {
                    Ok(deed) => deed.to_string(),
                    Err(error) => error.to_string(),
                };
                Err(Unhurt::Unclear(format!("{killed}; {name}: {error}; {started}")))
            }
        }
    }
}

impl Wound {
    /// Of a file with these bytes, within its spot; `pick` chooses one of so many.
    fn of(
        how: How,
        spot: &Spot,
        bytes: &[u8],
        mut pick: impl FnMut(usize) -> usize,
    ) -> Result<Wound, DamageError> {
        let Spot { path, range } = spot;
        let length = bytes.len() as u64;
        let patch = |at: usize, before: &[u8], after: &[u8]| Patch {
            at: at as u64,
            before: before.to_vec(),
            after: after.to_vec(),
        };
        let at = range.start + pick(range.len());
        let (length_after, patches) = match how {
            How::FlipBit => {
                let flipped = bytes[at] ^ (1 << pick(8));
                (length, vec![patch(at, &bytes[at..=at], &[flipped])])
            }
            How::Truncate => (at as u64, vec![patch(at, &bytes[at..], &[])]),
            How::SwapBlocks => {
                let Some((one, other, size)) = two_blocks(range, bytes, pick) else {
                    return Err(DamageError::AllAlike(path.clone()));
                };
                let block = |at: usize| &bytes[at..at + size];
                let (first, second) = (block(one), block(other));
                (length, vec![patch(one, first, second), patch(other, second, first)])
            }
        };
        Ok(Wound { path: path.clone(), length_before: length, length_after, patches })
    }

    fn inflict(&self) -> Result<(), DamageError> {
        self.write(self.length_after, |patch| &patch.after)
    }

    fn heal(&self) -> Result<(), DamageError> {
        self.write(self.length_before, |patch| &patch.before)
    }

    /// On the disk too: what is lost with the power later is not the damage.
    fn write<'w>(&'w self, length: u64, side: impl Fn(&'w Patch) -> &'w Vec<u8>) -> Result<(), DamageError> {
        let path = self.path.clone();
        let changed = || -> io::Result<bool> {
            let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
            for patch in &self.patches {
                file.write_all_at(side(patch), patch.at)?;
            }
            file.set_len(length)?;
            file.sync_all()?;
            let read = std::fs::read(&self.path)?;
            let there = |patch: &'w Patch| {
                read.get(patch.at as usize..).is_some_and(|at| at.starts_with(side(patch)))
            };
            Ok(read.len() as u64 == length && self.patches.iter().all(there))
        };
        match changed() {
            Ok(true) => Ok(()),
            Ok(false) => Err(DamageError::NotSo(path)),
            Err(source) => Err(DamageError::Change { path, source }),
        }
    }

    fn file(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// `log-0000000000000001.wal: byte 71 was 5a and is 52`
    fn told(&self) -> String {
        let file = self.file();
        match &self.patches[..] {
            [Patch { before, .. }] if self.length_after < self.length_before => {
                let (before_bytes, after) = (self.length_before, self.length_after);
                let lost = before.iter().filter(|byte| **byte != 0).count();
                format!(
                    "{file} was {before_bytes} bytes long and is {after}, without {lost} that were not zero"
                )
            }
            [Patch { at, before, after }] => {
                format!("{file}: byte {at} was {} and is {}", hex(before), hex(after))
            }
            patches => {
                let places: Vec<_> = patches.iter().map(|patch| patch.at.to_string()).collect();
                let size = patches.first().map_or(0, |patch| patch.before.len());
                format!("{file}: the {size} bytes at {} are in each other's place", places.join(" and "))
            }
        }
    }
}

/// Two that differ, of the largest size of which there are two; by their places.
fn two_blocks(
    range: &std::ops::Range<usize>,
    bytes: &[u8],
    mut pick: impl FnMut(usize) -> usize,
) -> Option<(usize, usize, usize)> {
    BLOCKS_BYTES.into_iter().find_map(|size| {
        // Large ones as the disk has them.
        let start = if size >= 512 { range.start.next_multiple_of(size) } else { range.start };
        let count = range.end.saturating_sub(start) / size;
        let at = |number: usize| start + number * size;
        let block = |number: usize| &bytes[at(number)..at(number) + size];
        let first = if count < 2 { return None } else { pick(count) };
        let others = (1..count).map(|step| (first + step) % count);
        let other = others.into_iter().find(|other| block(*other) != block(first))?;
        Some((at(first.min(other)), at(first.max(other)), size))
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Starts the nodes on what they have, hears what they make of it, and mends what they refuse.
async fn undo(cluster: Arc<Cluster>, wounded: Vec<(String, Wound)>) -> Told {
    let nodes = wounded.iter().map(|(name, _)| name.clone()).collect();
    let comings = wounded.into_iter().map(|(name, wound)| {
        let cluster = Arc::clone(&cluster);
        async move {
            let node = cluster.node(&name);
            let came = come_back(&cluster, node, wound).await;
            // Whatever came of it: the last heal starts it else.
            node.mend();
            came.map_err(|reason| format!("{name}: {reason}"))
        }
    });
    let came = at_once(comings).await;
    let outcome = match came.iter().all(Result::is_ok) {
        true => StrikeOutcome::Installed,
        false => StrikeOutcome::Indeterminate,
    };
    let details: Vec<_> = came.into_iter().map(|came| came.unwrap_or_else(|reason| reason)).collect();
    Told { nodes, outcome, detail: details.join("; ") }
}

async fn come_back(cluster: &Cluster, node: &Node, wound: Wound) -> Result<String, String> {
    let log = cluster.node_folder(node.name()).log();
    let said_before = std::fs::metadata(&log).map(|log| log.len()).unwrap_or_default();
    let started = node.start_damaged().await.map_err(|error| error.to_string())?;
    let status = match outcome(cluster, node).await? {
        None => return Ok(format!("{started}, and it serves with {}", wound.told())),
        Some(status) => status,
    };
    let words = words_since(&log, said_before);
    let file = wound.file();
    let told = match (Mkraft::told_damage(&words, &file), status) {
        (Some(told), Status::Code(code)) if code != 0 && code != PANIC => {
            node.note_refusal();
            format!("{started}, and refused with {status}: {told}")
        }
        _ => format!("{started}, and ended with {status}, without naming {file}"),
    };
    let healed = spawn_blocking(move || wound.heal());
    let healed = healed.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    healed.map_err(|error| format!("{told}; {error}"))?;
    node.mend();
    let again = node.start().await.map_err(|error| format!("{told}; {error}"))?;
    match outcome(cluster, node).await.map_err(|reason| format!("{told}; {reason}"))? {
        None => Ok(format!("{told}; {file} put back as it was; {again}, and it answers")),
        Some(status) => Err(format!("{told}; {file} put back as it was; {again}, and ended with {status}")),
    }
}

/// How the last start ended, or that it answers.
async fn outcome(cluster: &Cluster, node: &Node) -> Result<Option<Status>, String> {
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        _ = cluster.status().await;
        match node.last_start() {
            Some(start) if start.ending.is_some() => return Ok(start.ending.map(|end| end.status)),
            Some(start) if start.answered => return Ok(None),
            _ => sleep(POLL).await,
        }
    }
    Err(format!("neither answers nor ends within {START_LIMIT:?}"))
}

/// What stands in a log behind its first `before` bytes.
fn words_since(log: &Path, before: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::Start(before))?;
        let mut bytes = Vec::new();
        file.take(WORDS_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

fn stored(file: scenario::Stored) -> Stored {
    match file {
        scenario::Stored::Log => Stored::Log,
        scenario::Stored::HardState => Stored::HardState,
        scenario::Stored::Snapshot => Stored::Snapshot,
    }
}

fn part(place: scenario::Part) -> Part {
    match place {
        scenario::Part::Header => Part::Header,
        scenario::Part::Middle => Part::Middle,
        scenario::Part::Tail => Part::Tail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOWS: [How; 3] = [How::FlipBit, How::Truncate, How::SwapBlocks];

    #[test]
    fn whatever_is_drawn_lies_in_its_spot_and_is_put_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let whole: Vec<u8> = (0..20_000_u32).map(|at| ((at * at) >> 7) as u8).collect();
        for how in HOWS {
            for (range, draw) in [0..64, 64..20_000, 4_000..4_007, 19_900..20_000, 100..5_000]
                .into_iter()
                .flat_map(|range| (0..20).map(move |draw| (range.clone(), draw)))
            {
                std::fs::write(&path, &whole).unwrap();
                let spot = Spot { path: path.clone(), range: range.clone() };
                let mut numbers = ChaCha8Rng::seed_from_u64(draw);
                let wound = Wound::of(how, &spot, &whole, |count| numbers.random_range(0..count)).unwrap();
                wound.inflict().unwrap();
                let now = std::fs::read(&path).unwrap();
                let first = whole.iter().zip(&now).position(|(one, other)| one != other);
                let first = first.unwrap_or(now.len().min(whole.len()));
                assert!(range.contains(&first), "{how:?} of {range:?}: {}", wound.told());
                let bits: u32 = whole.iter().zip(&now).map(|(one, other)| (one ^ other).count_ones()).sum();
                match how {
                    How::FlipBit => assert_eq!((now.len(), bits), (whole.len(), 1)),
                    How::Truncate => assert_eq!((now.len(), bits), (first, 0)),
                    How::SwapBlocks => {
                        assert_eq!(now.len(), whole.len());
                        assert_eq!(now[range.end..], whole[range.end..]);
                        let sorted = |bytes: &[u8]| {
                            let mut bytes = bytes.to_vec();
                            bytes.sort_unstable();
                            bytes
                        };
                        assert_eq!(sorted(&now), sorted(&whole));
                    }
                }
                wound.heal().unwrap();
                assert_eq!(std::fs::read(&path).unwrap(), whole);
            }
        }
    }

    #[test]
    fn blocks_are_as_large_as_there_is_room_for_two_that_differ() {
        let mut bytes = vec![0; 20_000];
        let size = |bytes: &[u8], range| two_blocks(&range, bytes, |_| 0).map(|(.., size)| size);
        assert_eq!(size(&bytes, 0..20_000), None);
        bytes[9_000] = 1;
        assert_eq!(size(&bytes, 0..20_000), Some(4096));
        assert_eq!(size(&bytes, 8_800..9_700), Some(64));
        assert_eq!(size(&bytes, 8_996..9_003), Some(1));
    }

    #[test]
    fn a_file_that_is_not_as_it_was_written_is_no_proof() {
        let wound =
            Wound { path: "/dev/null".into(), length_before: 1, length_after: 1, patches: Vec::new() };
        assert!(wound.inflict().is_err());
    }
}
