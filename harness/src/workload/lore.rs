//! What users tell each other: the newest values, and which keys are in use.
//!
//! In: what a user saw or is about to write. Out: what the next one goes by. Never: a claim about the system; it only
//! makes operations meet.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub struct Lore {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// By key.
    newest: BTreeMap<u32, u64>,
    /// By slot.
    in_use: BTreeMap<u32, InUse>,
    /// The number of the next fresh key.
    fresh: u32,
}

#[derive(Debug)]
struct InUse {
    key: u32,
    writes: u32,
}

impl Lore {
    /// The newest value of `key` that any user knows of.
    pub fn newest(&self, key: u32) -> Option<u64> {
        self.told().newest.get(&key).copied()
    }

    pub fn saw(&self, key: u32, value: Option<u64>) {
        let mut told = self.told();
        match value {
            Some(value) => told.newest.insert(key, value),
            None => told.newest.remove(&key),
        };
    }

    /// The key to read in `slot`.
    pub fn key_in_use(&self, slot: u32) -> u32 {
        self.told().in_use(slot).key
    }

    /// The key to write in `slot`: a fresh one after each `writes_max` writes, so that no value grows without end.
    pub fn key_to_write(&self, slot: u32, writes_max: u32) -> u32 {
        let mut told = self.told();
        if told.in_use(slot).writes >= writes_max {
            told.in_use.remove(&slot);
        }
        let in_use = told.in_use(slot);
        in_use.writes += 1;
        in_use.key
    }

    /// How many keys were ever in use: from 0, and the newest are the last.
    pub fn keys_used(&self) -> u32 {
        self.told().fresh
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn in_use(&mut self, slot: u32) -> &mut InUse {
        let fresh = &mut self.fresh;
        self.in_use.entry(slot).or_insert_with(|| {
            *fresh += 1;
            InUse { key: *fresh - 1, writes: 0 }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_changes_its_key_after_so_many_writes() {
        let lore = Lore::default();
        let keys: Vec<u32> = (0..5).map(|_| lore.key_to_write(7, 2)).collect();
        assert_eq!(keys, [0, 0, 1, 1, 2]);
        assert_eq!((lore.key_in_use(7), lore.key_in_use(3), lore.key_in_use(7)), (2, 3, 2));
        assert_eq!(lore.keys_used(), 4);
    }

    #[test]
    fn what_was_seen_last_is_told() {
        let lore = Lore::default();
        lore.saw(1, Some(5));
        assert_eq!((lore.newest(1), lore.newest(2)), (Some(5), None));
        lore.saw(1, None);
        assert_eq!(lore.newest(1), None);
    }
}
