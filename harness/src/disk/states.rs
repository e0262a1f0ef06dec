//! The states that a power loss could have left behind at one moment.
//!
//! In: a disk with what is durable on it and what is not, a bound and a seed. Out: [`DiskState`]s, no two alike: all of
//! them when they are few, else drawn by the seed after the telling ones. Never: a state without what was synced.
//!
//! What POSIX allows, and so what is looked at:
//! - of each block of a file, as it was after any number of the writes that touched it, whatever became of other blocks
//!   and of other files; the last write of a file may also leave a block torn between sectors;
//! - of each file, any length it had since its last sync;
//! - of each folder, any first part of what was done to it, all but one, or one alone. A rename is whole or lost.
//!
//! A call that was under way at the moment adds nothing: a write may be lost whole or in part anyway, and a sync that
//! has not ended has made nothing durable.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::Arc;

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use xxhash_rust::xxh3::Xxh3;

use super::model::{Change, Changed, Contents, Fate, Inode, Kind, Model, Names, ROOT};
use super::sparse::{BLOCK_BYTES, Block, Sparse, pieces};
use super::store::MemoryStore;

type Bytes = [u8; BLOCK_BYTES as usize];
/// None is zeros.
type Shared = Option<Arc<Block>>;

const SECTOR: usize = 512;
/// Of a block that was written to more often, so many of its versions are looked at.
const VERSIONS_MAX: usize = 16;
/// Of so many draws for each state that is wanted, the others were alike.
const DRAWS_EACH: usize = 4;
/// Renames between folders that are lost in part could make a folder hold itself.
const DEPTH_MAX: usize = 32;

/// What a disk may hold when the power is back.
#[derive(Debug, Clone)]
pub struct DiskState {
    /// By path from the root; a folder stands before what is in it.
    pub tree: BTreeMap<String, Item>,
    /// What survived of what was not synced, in words.
    pub told: Vec<String>,
}

#[derive(Debug, Clone)]
pub enum Item {
    Folder,
    File(Sparse),
    Link(String),
}

/// Something of which one of several outcomes is left.
#[derive(Debug)]
struct Part {
    inode: Inode,
    what: What,
}

/// The first outcome is what is durable; with the `whole` one nothing is lost.
#[derive(Debug)]
enum What {
    Block { number: u64, versions: Vec<Shared>, whole: usize },
    Length { lengths: Vec<u64>, whole: usize },
    Names { outcomes: Vec<(Names, String)>, whole: usize },
}

impl Part {
    fn outcomes(&self) -> usize {
        match &self.what {
            What::Block { versions, .. } => versions.len(),
            What::Length { lengths, .. } => lengths.len(),
            What::Names { outcomes, .. } => outcomes.len(),
        }
    }

    /// The outcome in which nothing of it is lost.
    fn whole(&self) -> usize {
        match &self.what {
            What::Block { whole, .. } | What::Length { whole, .. } | What::Names { whole, .. } => *whole,
        }
    }
}

/// An iterator over states, no two alike.
#[derive(Debug)]
pub struct States<'m> {
    model: &'m Model<MemoryStore>,
    paths: BTreeMap<Inode, String>,
    parts: Vec<Part>,
    /// How many there are at most, before it is known which are alike.
    possible: u128,
    bound: usize,
    tried: usize,
    seen: BTreeSet<u128>,
    draws: ChaCha8Rng,
}

impl<'m> States<'m> {
    /// At most `bound` states of the disk.
    pub fn of(model: &'m Model<MemoryStore>, bound: usize, seed: u64) -> States<'m> {
        let parts: Vec<Part> = model
            .things()
            .flat_map(|(inode, thing)| match &thing.kind {
                Kind::File(contents) => file_parts(model, inode, contents),
                Kind::Folder(entries) => names_part(inode, entries.durable(), entries.moves()),
                Kind::Link(_) => Vec::new(),
            })
            .filter(|part| part.outcomes() > 1)
            .collect();
        let possible =
            parts.iter().fold(1_u128, |product, part| product.saturating_mul(part.outcomes() as u128));
        let draws = ChaCha8Rng::seed_from_u64(seed);
        let paths = model.paths();
        States { model, paths, parts, possible, bound, tried: 0, seen: BTreeSet::new(), draws }
    }

    /// How many there will be at most: some may be alike.
    pub fn at_most(&self) -> usize {
        usize::try_from(self.possible).map_or(self.bound, |possible| possible.min(self.bound))
    }

    /// Whether every state is among them.
    pub fn is_exhaustive(&self) -> bool {
        self.possible <= self.bound as u128
    }

    /// What to try as the next, by its number.
    fn choice(&mut self) -> Option<Vec<usize>> {
        let tried = self.tried;
        self.tried += 1;
        if self.is_exhaustive() {
            let mut rest = tried as u128;
            (rest < self.possible).then_some(())?;
            let digit = |part: &Part| {
                let outcomes = part.outcomes() as u128;
                let digit = (rest % outcomes) as usize;
                rest /= outcomes;
                digit
            };
            return Some(self.parts.iter().map(digit).collect());
        }
        if self.seen.len() >= self.bound || tried >= DRAWS_EACH.saturating_mul(self.bound) {
            return None;
        }
        let parts = self.parts.len();
        // First those that show the most: nothing survives, all does, all but one part, one part alone. Of many parts
        // the seed says which, and half of the states are left to it.
        let telling = (2 * parts).min(self.bound / 2);
        Some(match tried {
            0 => vec![0; parts],
            1 => self.parts.iter().map(Part::whole).collect(),
            _ if tried < 2 + telling => {
                let one = match telling == 2 * parts {
                    true => (tried - 2) / 2,
                    false => self.draws.random_range(0..parts),
                };
                let alone = tried.is_multiple_of(2);
                let kept =
                    |(place, part): (usize, &Part)| if (place == one) == alone { part.whole() } else { 0 };
                self.parts.iter().enumerate().map(kept).collect()
            }
            _ => drawn(&self.parts, &mut self.draws),
        })
    }

    fn state(&self, choice: &[usize]) -> DiskState {
        let mut names: BTreeMap<Inode, &Names> = BTreeMap::new();
        let mut blocks: BTreeMap<Inode, Vec<(u64, &Shared)>> = BTreeMap::new();
        let mut lengths: BTreeMap<Inode, u64> = BTreeMap::new();
        let mut told = Vec::new();
        let path = |inode| self.paths.get(&inode).cloned().unwrap_or_else(|| format!("inode {inode}"));
        for (part, chosen) in self.parts.iter().zip(choice) {
            let inode = part.inode;
            match &part.what {
                What::Block { number, versions, whole } => {
                    blocks.entry(inode).or_default().push((*number, &versions[*chosen]));
                    let torn = if chosen > whole { ", torn" } else { "" };
                    let version = chosen.min(whole);
                    told.push(format!("{}: block {number} as of {version} of {whole}{torn}", path(inode)));
                }
                What::Length { lengths: all, .. } => {
                    lengths.insert(inode, all[*chosen]);
                    told.push(format!("{}: {} bytes long", path(inode), all[*chosen]));
                }
                What::Names { outcomes, .. } => {
                    names.insert(inode, &outcomes[*chosen].0);
                    told.push(format!("{}: {}", path(inode), outcomes[*chosen].1));
                }
            }
        }
        let mut tree = BTreeMap::new();
        let mut open = vec![(ROOT, String::new(), 0)];
        while let Some((folder, prefix, depth)) = open.pop() {
            let Ok(entries) = self.model.entries(folder) else { continue };
            for (name, inode) in names.get(&folder).copied().unwrap_or(entries.durable()) {
                let path = format!("{prefix}{name}");
                let item = match self.model.thing(*inode).map(|thing| &thing.kind) {
                    Ok(Kind::File(contents)) => {
                        let length = lengths.get(inode).copied().unwrap_or(contents.durable_length());
                        let blocks = blocks.get(inode).map_or(&[][..], |blocks| blocks);
                        Item::File(file(self.model.store.files.get(inode), blocks, length))
                    }
                    Ok(Kind::Folder(_)) if depth < DEPTH_MAX => {
                        open.push((*inode, format!("{path}/"), depth + 1));
                        Item::Folder
                    }
                    Ok(Kind::Link(target)) => Item::Link(target.clone()),
                    _ => continue,
                };
                tree.insert(path, item);
            }
        }
        DiskState { tree, told }
    }
}

impl Iterator for States<'_> {
    type Item = DiskState;

    fn next(&mut self) -> Option<DiskState> {
        loop {
            let choice = self.choice()?;
            let state = self.state(&choice);
            if self.seen.insert(state.digest()) {
                return Some(state);
            }
        }
    }
}

impl DiskState {
    /// The same for states in which a program finds the same.
    pub fn digest(&self) -> u128 {
        let mut digest = Xxh3::new();
        for (path, item) in &self.tree {
            digest.update(&(path.len() as u64).to_le_bytes());
            digest.update(path.as_bytes());
            match item {
                Item::Folder => digest.update(&[0]),
                Item::File(file) => {
                    digest.update(&[1]);
                    file.digest_into(&mut digest);
                }
                Item::Link(target) => {
                    digest.update(&[2]);
                    digest.update(target.as_bytes());
                }
            }
        }
        digest.digest128()
    }

    /// Makes it so in a plain folder, which must be empty.
    pub fn materialise(&self, folder: &Path) -> io::Result<()> {
        for (path, item) in &self.tree {
            let path = folder.join(path);
            match item {
                Item::Folder => fs::create_dir(path)?,
                Item::Link(target) => symlink(target, path)?,
                Item::File(sparse) => {
                    let file = File::create_new(path)?;
                    for (number, bytes) in sparse.blocks() {
                        file.write_all_at(bytes, number * BLOCK_BYTES)?;
                    }
                    file.set_len(sparse.length())?;
                }
            }
        }
        Ok(())
    }
}

fn file(durable: Option<&Sparse>, blocks: &[(u64, &Shared)], length: u64) -> Sparse {
    let mut file = durable.cloned().unwrap_or_default();
    let end = blocks.iter().map(|(number, _)| (number + 1) * BLOCK_BYTES).max().unwrap_or_default();
    file.set_length(file.length().max(end).max(length));
    for (number, bytes) in blocks {
        file.put(*number, (*bytes).clone());
    }
    file.set_length(length);
    file
}

/// Each state is drawn from one of several kinds, so that much and little survive equally often.
fn drawn(parts: &[Part], draws: &mut ChaCha8Rng) -> Vec<usize> {
    let survive_percent = [3, 20, 50, 80, 97][draws.random_range(0..5)];
    let chosen = |part: &Part| match (&part.what, draws.random_range(0..100)) {
        // Of a short file little is seen.
        (What::Length { .. }, percent) if percent < 75 => part.whole(),
        (_, percent) if percent >= survive_percent => 0,
        _ if draws.next_u32().is_multiple_of(2) => part.whole(),
        _ => draws.random_range(0..part.outcomes()),
    };
    parts.iter().map(chosen).collect()
}

fn names_part(inode: Inode, durable: &Names, moves: &[super::model::Moved]) -> Vec<Part> {
    let all = moves.len();
    let after = |kept: &dyn Fn(usize) -> bool| {
        let mut names = durable.clone();
        let kept = moves.iter().enumerate().filter(|(place, _)| kept(*place));
        kept.for_each(|(_, moved)| moved.step.apply(&mut names));
        names
    };
    let mut outcomes: Vec<(Names, String)> = Vec::new();
    let mut add = |names: Names, told: String| {
        if outcomes.iter().all(|(other, _)| *other != names) {
            outcomes.push((names, told));
        }
    };
    add(after(&|_| false), "nothing of what was done to it".into());
    add(after(&|_| true), format!("all {all} that were done to it"));
    for count in 1..all {
        add(after(&|place| place < count), format!("the first {count} of {all}"));
    }
    for (one, moved) in moves.iter().enumerate().filter(|_| all > 1) {
        add(after(&|place| place != one), format!("all but the {}", moved.step));
        add(after(&|place| place == one), format!("the {} alone", moved.step));
    }
    let whole = outcomes.len().min(2) - 1;
    vec![Part { inode, what: What::Names { outcomes, whole } }]
}

fn file_parts(model: &Model<MemoryStore>, inode: Inode, contents: &Contents) -> Vec<Part> {
    if contents.open_changes().next().is_none() {
        return Vec::new();
    }
    let none = Sparse::default();
    let durable = model.store.files.get(&inode).unwrap_or(&none);
    let mut lengths = vec![contents.durable_length()];
    let mut last = contents.durable_length();
    for changed in contents.open_changes() {
        last = changed.change.length_after(last);
        if !lengths.contains(&last) {
            lengths.push(last);
        }
    }
    // It may be as long as it was.
    let whole = lengths.iter().position(|length| *length == last).unwrap_or_default();
    let mut parts = vec![Part { inode, what: What::Length { lengths, whole } }];
    let torn =
        contents.open_changes().filter(|changed| matches!(changed.change, Change::Write { .. })).last();
    let torn = torn.map(|changed| changed.number);
    for (number, touching) in by_block(durable, contents.changes()) {
        parts.push(Part { inode, what: versions(durable.block(number), number, &touching, torn) });
    }
    parts
}

/// The changes that touch each block.
fn by_block<'c>(durable: &Sparse, changes: &'c [Changed]) -> BTreeMap<u64, Vec<&'c Changed>> {
    let mut touching: BTreeMap<u64, Vec<&Changed>> = BTreeMap::new();
    for changed in changes {
        match &changed.change {
            Change::Write { offset, bytes } => {
                for (number, ..) in pieces(*offset, bytes.len()) {
                    touching.entry(number).or_default().push(changed);
                }
            }
            Change::Length(length) => {
                let cut = |number: u64| (number + 1) * BLOCK_BYTES > *length;
                let written: Vec<u64> = touching.keys().copied().filter(|number| cut(*number)).collect();
                let there = durable.blocks().map(|(number, _)| number).filter(|number| cut(*number));
                for number in there.chain(written).collect::<BTreeSet<u64>>() {
                    touching.entry(number).or_default().push(changed);
                }
            }
            Change::Allocate { .. } => {}
        }
    }
    touching
}

/// Of one block: after none, one, ... of its open changes, each with what became durable since; then the torn ones.
fn versions(durable: Bytes, number: u64, touching: &[&Changed], torn: Option<u64>) -> What {
    let open = touching.iter().filter(|changed| changed.fate != Fate::Durable).count();
    let after = |count: usize| {
        let (mut block, mut passed) = (durable, 0);
        for changed in touching {
            let survives = changed.fate == Fate::Durable || {
                passed += 1;
                passed <= count
            };
            if survives {
                apply(&changed.change, number, &mut block);
            }
        }
        block
    };
    let mut versions: Vec<Bytes> = Vec::new();
    let looked_at = open.min(VERSIONS_MAX - 1);
    for step in 0..=looked_at {
        let block = after((open * step).checked_div(looked_at).unwrap_or_default());
        if versions.last() != Some(&block) {
            versions.push(block);
        }
    }
    let whole = versions.len() - 1;
    if open > 0 && touching.last().is_some_and(|changed| Some(changed.number) == torn) {
        let (before, now) = (after(open - 1), after(open));
        let half = before.len() / 2;
        let mut first = now;
        first[half..].copy_from_slice(&before[half..]);
        let mut holed = now;
        holed[half..half + SECTOR].copy_from_slice(&before[half..half + SECTOR]);
        for block in [first, holed] {
            if !versions.contains(&block) {
                versions.push(block);
            }
        }
    }
    What::Block { number, versions: versions.into_iter().map(Block::new).collect(), whole }
}

fn apply(change: &Change, number: u64, block: &mut Bytes) {
    let begin = number * BLOCK_BYTES;
    match change {
        Change::Write { offset, bytes } => {
            for (_, from, to) in pieces(*offset, bytes.len()).filter(|(piece, ..)| *piece == number) {
                let at = (offset + from as u64 - begin) as usize;
                block[at..at + to - from].copy_from_slice(&bytes[from..to]);
            }
        }
        Change::Length(length) => {
            let kept = length.saturating_sub(begin).min(BLOCK_BYTES) as usize;
            block[kept..].fill(0);
        }
        Change::Allocate { .. } => {}
    }
}

#[cfg(test)]
mod tests;
