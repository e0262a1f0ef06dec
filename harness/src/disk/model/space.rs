//! Which blocks of a file have space on the disk.
//!
//! In: stretches of bytes that were written or allocated. Out: how much of another stretch needs no new block.
//! Never: what stands in a block.

use std::collections::BTreeMap;

use crate::disk::sparse::BLOCK_BYTES;

/// Ranges of block numbers, from and before, that neither touch nor overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Space {
    ranges: BTreeMap<u64, u64>,
}

impl Space {
    pub fn add(&mut self, offset: u64, length: u64) {
        if length == 0 {
            return;
        }
        let (mut from, mut before) = (offset / BLOCK_BYTES, (offset + length).div_ceil(BLOCK_BYTES));
        let touching = self.ranges.range(..=before).rev().take_while(|(_, end)| **end >= from);
        let touching: Vec<u64> = touching.map(|(start, _)| *start).collect();
        for start in touching {
            from = from.min(start);
            before = before.max(self.ranges.remove(&start).unwrap_or(before));
        }
        self.ranges.insert(from, before);
    }

    /// Gives up what is beyond a file's new length.
    pub fn cut(&mut self, length: u64) {
        let end = length.div_ceil(BLOCK_BYTES);
        self.ranges.retain(|from, _| *from < end);
        if let Some(mut last) = self.ranges.last_entry() {
            let before = (*last.get()).min(end);
            *last.get_mut() = before;
        }
    }

    /// How many bytes from `offset` on, at most `length`, fall into blocks that are there.
    pub fn covers(&self, offset: u64, length: u64) -> u64 {
        let block = offset / BLOCK_BYTES;
        match self.ranges.range(..=block).next_back() {
            Some((_, before)) if *before > block => (before * BLOCK_BYTES - offset).min(length),
            _ => 0,
        }
    }

    pub fn blocks(&self) -> u64 {
        self.ranges.iter().map(|(from, before)| before - from).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn space_is_a_set_of_blocks(steps in prop::collection::vec((0_u64..200, 0_u64..60, any::<bool>()), 0..30)) {
            let (mut space, mut set) = (Space::default(), BTreeSet::new());
            for (at, length, cut) in steps {
                let (offset, bytes) = (at * 1000, length * 1000);
                if cut {
                    space.cut(offset);
                    set.retain(|block| block * BLOCK_BYTES < offset);
                } else {
                    space.add(offset, bytes);
                    set.extend((offset..offset + bytes).step_by(1000).map(|byte| byte / BLOCK_BYTES));
                    set.extend((bytes > 0).then(|| (offset + bytes - 1) / BLOCK_BYTES));
                }
                prop_assert_eq!(space.blocks(), set.len() as u64);
                for block in 0..64 {
                    let there = (block..block + 5).take_while(|block| set.contains(block)).count() as u64;
                    let bytes = (there * BLOCK_BYTES).saturating_sub(100);
                    prop_assert_eq!(space.covers(block * BLOCK_BYTES + 100, 5 * BLOCK_BYTES - 100), bytes);
                }
            }
        }
    }
}
