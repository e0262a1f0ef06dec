//! One file: what of it is durable, and what was done to it since, in order.
//!
//! In: changes, syncs that succeed or fail, a loss of power. Out: the bytes a reader sees, and what is lost. Never: a
//! name; a change that is durable before its sync.

use std::io;

use rand::{Rng, RngExt};

use super::space::Space;
use super::{Fate, Inode};
use crate::disk::sparse::BLOCK_BYTES;
use crate::disk::store::Store;

/// What a disk writes as one.
const SECTOR_BYTES: u64 = 512;

/// What a call does to a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    Length(u64),
    /// Finds space; `longer` if the file may grow by it.
    Allocate {
        offset: u64,
        length: u64,
        longer: bool,
    },
}

/// A change that is not known to be durable, or that comes after one which is not.
#[derive(Debug, Clone)]
pub struct Changed {
    /// Of its call.
    pub number: u64,
    pub fate: Fate,
    pub change: Change,
}

#[derive(Debug, Clone, Default)]
pub struct Contents {
    length: u64,
    durable_length: u64,
    /// In the order of their calls. Those that are durable stay as long as one before them is not.
    changes: Vec<Changed>,
    space: Space,
    durable_space: Space,
}

/// What of a file a loss of power took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gone {
    pub writes: u64,
    pub bytes: u64,
    /// Of the last write, these survived.
    pub survived: Option<u64>,
}

impl Change {
    pub(super) fn bytes(&self) -> u64 {
        if let Change::Write { bytes, .. } = self { bytes.len() as u64 } else { 0 }
    }

    /// What a file of this length has after it.
    pub fn length_after(&self, length: u64) -> u64 {
        match self {
            Change::Write { bytes, .. } if bytes.is_empty() => length,
            Change::Write { offset, bytes } => length.max(offset + bytes.len() as u64),
            Change::Length(length) => *length,
            Change::Allocate { offset, length: more, longer: true } => length.max(offset + more),
            Change::Allocate { .. } => length,
        }
    }

    fn find_space(&self, space: &mut Space) {
        match self {
            Change::Write { offset, bytes } => space.add(*offset, bytes.len() as u64),
            Change::Length(length) => space.cut(*length),
            Change::Allocate { offset, length, .. } => space.add(*offset, *length),
        }
    }

    fn store(&self, store: &mut impl Store, inode: Inode) -> io::Result<()> {
        match self {
            Change::Write { offset, bytes } => store.write(inode, *offset, bytes),
            Change::Length(length) => store.set_length(inode, *length),
            Change::Allocate { offset, length, longer: true } => store.allocate(inode, *offset, *length),
            Change::Allocate { .. } => Ok(()),
        }
    }
}

impl Contents {
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn durable_length(&self) -> u64 {
        self.durable_length
    }

    /// What a loss of power may take, in order, and what became durable after it.
    pub fn changes(&self) -> &[Changed] {
        &self.changes
    }

    /// What a loss of power may take, or may not.
    pub fn open_changes(&self) -> impl Iterator<Item = &Changed> {
        self.changes.iter().filter(|changed| changed.fate != Fate::Durable)
    }

    pub(super) fn unsynced_bytes(&self) -> u64 {
        self.open_changes().map(|changed| changed.change.bytes()).sum()
    }

    pub(super) fn blocks(&self) -> u64 {
        self.space.blocks()
    }

    /// How many bytes from `offset` on need no new block.
    pub(super) fn covered(&self, offset: u64, length: u64) -> u64 {
        self.space.covers(offset, length)
    }

    pub(super) fn change(&mut self, number: u64, change: Change) {
        self.length = change.length_after(self.length);
        change.find_space(&mut self.space);
        self.changes.push(Changed { number, fate: Fate::Unsynced, change });
    }

    /// At most `size` bytes: fewer only at the end.
    pub(super) fn read(
        &self,
        store: &impl Store,
        inode: Inode,
        offset: u64,
        size: usize,
    ) -> io::Result<Vec<u8>> {
        let size = self.length.saturating_sub(offset).min(size as u64) as usize;
        let mut seen = vec![0; size];
        store.read(inode, offset, &mut seen)?;
        for changed in &self.changes {
            match &changed.change {
                Change::Write { offset: at, bytes } => overlay(&mut seen, offset, *at, bytes),
                Change::Length(length) => {
                    let kept = length.saturating_sub(offset).min(size as u64) as usize;
                    seen[kept..].fill(0);
                }
                Change::Allocate { .. } => {}
            }
        }
        Ok(seen)
    }

    /// Brings what was done up to call `through` into the store. It is durable when the store is synced and
    /// [`Contents::settle`] was told.
    pub(super) fn flush(&self, store: &mut impl Store, inode: Inode, through: u64) -> io::Result<Vec<u64>> {
        let due = self.changes.iter().filter(|changed| changed.fate == Fate::Unsynced);
        let due = due.take_while(|changed| changed.number <= through);
        due.map(|changed| changed.change.store(store, inode).map(|()| changed.number)).collect()
    }

    /// The store has synced these.
    pub(super) fn settle(&mut self, flushed: &[u64]) {
        for changed in &mut self.changes {
            if changed.fate != Fate::Durable && flushed.binary_search(&changed.number).is_ok() {
                changed.fate = Fate::Durable;
                self.durable_length = changed.change.length_after(self.durable_length);
                changed.change.find_space(&mut self.durable_space);
            }
        }
        let settled = self.changes.iter().take_while(|changed| changed.fate == Fate::Durable).count();
        self.changes.drain(..settled);
    }

    /// A sync has failed: what it should have made durable still reads as written, and no later sync writes it.
    pub(super) fn forsake(&mut self, through: u64) {
        for changed in self.changes.iter_mut().filter(|changed| changed.number <= through) {
            if changed.fate == Fate::Unsynced {
                changed.fate = Fate::Forsaken;
            }
        }
    }

    /// Only what is durable is left, and what the draw says of the last write.
    pub(super) fn lose_power(
        &mut self,
        store: &mut impl Store,
        inode: Inode,
        draw: &mut impl Rng,
    ) -> io::Result<Gone> {
        let open: Vec<Changed> = std::mem::take(&mut self.changes)
            .into_iter()
            .filter(|changed| changed.fate != Fate::Durable)
            .collect();
        let bytes = open.iter().map(|changed| changed.change.bytes()).sum();
        let mut gone = Gone { writes: open.len() as u64, bytes, survived: None };
        let last = open.iter().rev().find_map(|changed| match &changed.change {
            Change::Write { offset, bytes } if changed.fate == Fate::Unsynced && !bytes.is_empty() => {
                Some((*offset, bytes))
            }
            _ => None,
        });
        if let Some((offset, bytes)) = last {
            let mut survived = 0;
            for (from, to) in survivors(offset, bytes.len() as u64, draw) {
                let part = &bytes[from as usize..to as usize];
                store.write(inode, offset + from, part)?;
                self.durable_length = self.durable_length.max(offset + to);
                self.durable_space.add(offset + from, to - from);
                survived += to - from;
            }
            gone.bytes -= survived;
            gone.survived = (survived > 0).then_some(survived);
        }
        self.length = self.durable_length;
        self.space = self.durable_space.clone();
        Ok(gone)
    }
}

/// Copies what of `bytes`, which stand at `at`, falls into `seen`, which begins at `offset`.
fn overlay(seen: &mut [u8], offset: u64, at: u64, bytes: &[u8]) {
    let from = at.max(offset);
    let to = (at + bytes.len() as u64).min(offset + seen.len() as u64);
    if from < to {
        let part = &bytes[(from - at) as usize..(to - at) as usize];
        seen[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
    }
}

/// The parts of a write that survive: none, its beginning, or all but a sector or a block in the middle. Never all
/// of it.
fn survivors(offset: u64, length: u64, draw: &mut impl Rng) -> Vec<(u64, u64)> {
    let hole = |unit: u64, draw: &mut dyn FnMut(u64) -> u64| {
        // Whole units, neither the first nor the last: there is something before and behind the hole.
        let first = offset / unit + 1;
        let last = (offset + length - 1) / unit;
        (last > first).then(|| {
            let at = (first + draw(last - first)) * unit - offset;
            vec![(0, at), (at + unit, length)]
        })
    };
    let kind = draw.random_range(0..4_u8);
    let mut below = |most: u64| draw.random_range(0..most);
    let holed = match kind {
        0 => return Vec::new(),
        1 => None,
        2 => hole(SECTOR_BYTES, &mut below),
        _ => hole(BLOCK_BYTES, &mut below),
    };
    holed.unwrap_or_else(|| {
        // Cut between two sectors, where there are two.
        let (first, last) = (offset / SECTOR_BYTES + 1, (offset + length - 1) / SECTOR_BYTES);
        let cut = match last.checked_sub(first) {
            Some(more) => (first + below(more + 1)) * SECTOR_BYTES - offset,
            None => below(length),
        };
        if cut == 0 { Vec::new() } else { vec![(0, cut)] }
    })
}
