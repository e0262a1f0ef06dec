//! A file's bytes in memory, of which blocks of zeros take no space and copies share what is equal.
//!
//! In: writes and lengths. Out: bytes, and a digest of them that costs a few bytes a block. Never: an I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What a disk or a page cache keeps or loses as one.
pub const BLOCK_BYTES: u64 = 4096;
const BLOCK: usize = BLOCK_BYTES as usize;

#[derive(Debug, Clone, Default)]
pub struct Sparse {
    length: u64,
    /// By their number; what is not here is zeros, and so is what is beyond the length.
    blocks: BTreeMap<u64, Arc<Block>>,
}

/// With a digest, so that whoever has many files of the same blocks reads each block once.
#[derive(Debug)]
pub struct Block {
    bytes: [u8; BLOCK],
    digest: u64,
}

impl Block {
    /// None: all of it is zeros.
    pub fn new(bytes: [u8; BLOCK]) -> Option<Arc<Block>> {
        let digest = || xxh3_64(&bytes);
        bytes.iter().any(|byte| *byte != 0).then(|| Arc::new(Block { bytes, digest: digest() }))
    }
}

impl Sparse {
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Fills all of `into`, with zeros beyond the end.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        into.fill(0);
        for (number, from, to) in pieces(offset, into.len()) {
            if let Some(block) = self.blocks.get(&number) {
                let at = (offset + from as u64 - number * BLOCK_BYTES) as usize;
                into[from..to].copy_from_slice(&block.bytes[at..at + to - from]);
            }
        }
    }

    /// The file is longer after it, if it must.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (number, from, to) in pieces(offset, bytes.len()) {
            let at = (offset + from as u64 - number * BLOCK_BYTES) as usize;
            let mut block = self.block(number);
            block[at..at + to - from].copy_from_slice(&bytes[from..to]);
            self.put(number, Block::new(block));
        }
        if !bytes.is_empty() {
            self.length = self.length.max(offset + bytes.len() as u64);
        }
    }

    pub fn set_length(&mut self, length: u64) {
        if length < self.length {
            self.blocks.retain(|number, _| number * BLOCK_BYTES < length);
            let (last, kept) = (length / BLOCK_BYTES, (length % BLOCK_BYTES) as usize);
            if self.blocks.contains_key(&last) {
                let mut block = self.block(last);
                block[kept..].fill(0);
                self.put(last, Block::new(block));
            }
        }
        self.length = length;
    }

    pub fn block(&self, number: u64) -> [u8; BLOCK] {
        self.blocks.get(&number).map_or([0; BLOCK], |block| block.bytes)
    }

    /// What is beyond the length must be zeros.
    pub fn put(&mut self, number: u64, block: Option<Arc<Block>>) {
        match block {
            Some(block) => self.blocks.insert(number, block),
            None => self.blocks.remove(&number),
        };
    }

    /// Those that are not all zeros, in order.
    pub fn blocks(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.blocks.iter().map(|(number, block)| (*number, &block.bytes[..]))
    }

    /// Of length and bytes.
    pub fn digest_into(&self, digest: &mut Xxh3) {
        digest.update(&self.length.to_le_bytes());
        for (number, block) in &self.blocks {
            digest.update(&number.to_le_bytes());
            digest.update(&block.digest.to_le_bytes());
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.length).unwrap_or(usize::MAX)];
        self.read(0, &mut bytes);
        bytes
    }
}

/// A stretch of bytes by the blocks it touches: each with its number, and from and to where of the stretch.
pub(super) fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + length as u64;
    let numbers = if length == 0 { 0..0 } else { offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES) };
    numbers.map(move |number| {
        let from = (number * BLOCK_BYTES).max(offset) - offset;
        let to = ((number + 1) * BLOCK_BYTES).min(end) - offset;
        (number, from as usize, to as usize)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sparse_file_reads_as_a_plain_one(
            steps in prop::collection::vec((0_u64..20_000, 0_usize..9_000, any::<u8>(), any::<bool>()), 0..20),
        ) {
            let (mut sparse, mut plain) = (Sparse::default(), Vec::new());
            for (offset, length, byte, cut) in steps {
                if cut {
                    sparse.set_length(offset);
                    plain.resize(offset as usize, 0);
                } else {
                    sparse.write(offset, &vec![byte; length]);
                    if length > 0 && plain.len() < offset as usize + length {
                        plain.resize(offset as usize + length, 0);
                    }
                    if length > 0 { plain[offset as usize..][..length].fill(byte) }
                }
                prop_assert_eq!(sparse.to_bytes(), &plain[..]);
            }
            let mut same = Sparse::default();
            same.write(0, &plain);
            same.set_length(plain.len() as u64);
            let digest = |file: &Sparse| {
                let mut digest = Xxh3::new();
                file.digest_into(&mut digest);
                digest.digest()
            };
            prop_assert_eq!(digest(&same), digest(&sparse));
        }
    }
}
