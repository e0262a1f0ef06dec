//! One folder: which entries of it are durable, and what was done to them since, in order.
//!
//! In: entries that come, go and change their names, syncs, a loss of power. Out: the entries as they are seen, and
//! what is lost. Never: what stands behind an entry.

use std::collections::BTreeMap;
use std::fmt;

use super::{Fate, Inode};

pub type Names = BTreeMap<String, Inode>;

/// What a call does to the entries of one folder. A rename between two folders is two of these, one in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Whatever had the name has it no more.
    Link {
        name: String,
        inode: Inode,
    },
    Unlink {
        name: String,
    },
    Rename {
        from: String,
        to: String,
        inode: Inode,
    },
}

#[derive(Debug, Clone)]
pub struct Moved {
    pub number: u64,
    pub fate: Fate,
    pub step: Move,
}

#[derive(Debug, Clone)]
pub struct Entries {
    pub parent: Inode,
    pub(super) now: Names,
    pub(super) durable: Names,
    /// Not one of them is durable.
    pub(super) moves: Vec<Moved>,
}

impl Move {
    pub fn apply(&self, names: &mut Names) {
        match self {
            Move::Link { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            Move::Unlink { name } => {
                names.remove(name);
            }
            Move::Rename { from, to, inode } => {
                // What stands under the old name may be another by now, where moves before this one were lost.
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
        }
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Move::Link { name, .. } => write!(f, "new name {name}"),
            Move::Unlink { name } => write!(f, "removal of {name}"),
            Move::Rename { from, to, .. } => write!(f, "rename of {from} to {to}"),
        }
    }
}

impl Entries {
    pub(super) fn new(parent: Inode) -> Entries {
        Entries { parent, now: Names::new(), durable: Names::new(), moves: Vec::new() }
    }

    pub fn now(&self) -> &Names {
        &self.now
    }

    pub fn durable(&self) -> &Names {
        &self.durable
    }

    pub fn moves(&self) -> &[Moved] {
        &self.moves
    }

    pub(super) fn make(&mut self, number: u64, step: Move) {
        step.apply(&mut self.now);
        self.moves.push(Moved { number, fate: Fate::Unsynced, step });
    }

    pub(super) fn settle(&mut self, through: u64) {
        let durable = &mut self.durable;
        self.moves.retain(|moved| {
            let settled = moved.fate == Fate::Unsynced && moved.number <= through;
            if settled {
                moved.step.apply(durable);
            }
            !settled
        });
    }

    pub(super) fn forsake(&mut self, through: u64) {
        for moved in self.moves.iter_mut().filter(|moved| moved.number <= through) {
            moved.fate = Fate::Forsaken;
        }
    }

    /// What was lost.
    pub(super) fn lose_power(&mut self) -> Vec<Move> {
        self.now = self.durable.clone();
        std::mem::take(&mut self.moves).into_iter().map(|moved| moved.step).collect()
    }

    /// Whoever has a name here, or may have one after a loss of power.
    pub(super) fn mentioned(&self) -> impl Iterator<Item = Inode> {
        let pending = self.moves.iter().filter_map(|moved| match &moved.step {
            Move::Link { inode, .. } | Move::Rename { inode, .. } => Some(*inode),
            Move::Unlink { .. } => None,
        });
        self.now.values().chain(self.durable.values()).copied().chain(pending)
    }
}
