//! The mark: up to which record the log is known to be durable, in a file beside it.
//!
//! In: the number of a record whose sync has returned. Out: the same at the next boot, or nothing. Never: a number whose
//! record the disk does not have, or a sync of its own.
//!
//! ```text
//! 0   8 bytes  "mkraftMK"
//! 8   u64      number of the newest record known to be durable
//! 16  u32      CRC32C of the 16 bytes above
//! ```
//! A torn record at the end of the log was promised to nobody; one that was whole once may have been. Both look alike, but
//! for this file: it is written after the sync, so whatever it names was durable, and if that is not there, it was lost.
//! Whoever kills a node cannot take it back. A power loss can, for it is never synced: then it names an earlier record, or
//! is no mark any more, and says less, or nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crc32c::crc32c;

use super::error::StorageError;
use super::frame::{u32_at, u64_at};

pub(super) const NAME: &str = "durable";
const MAGIC: &[u8; 8] = b"mkraftMK";
const BYTES: usize = 20;

/// Of an open data folder.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    path: PathBuf,
}

impl Mark {
    pub fn open(dir: &Path) -> Result<Mark, StorageError> {
        let path = dir.join(NAME);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        Ok(Mark { file: opened.map_err(StorageError::io("create", &path))?, path })
    }

    /// Record `sequence` and all before it are durable.
    pub fn set(&self, sequence: u64) -> Result<(), StorageError> {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
        let checksum = crc32c(&bytes[..16]);
        bytes[16..].copy_from_slice(&checksum.to_le_bytes());
        self.file.write_all_at(&bytes, 0).map_err(StorageError::io("write", &self.path))
    }
}

/// None where there is none, or where a power loss has left something else.
pub(super) fn read(dir: &Path) -> Result<Option<u64>, StorageError> {
    let path = dir.join(NAME);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(StorageError::io("open", &path))?,
    };
    let mut bytes = Vec::new();
    file.take(BYTES as u64 + 1).read_to_end(&mut bytes).map_err(StorageError::io("read", &path))?;
    let right =
        bytes.len() == BYTES && bytes.starts_with(MAGIC) && u32_at(&bytes, 16) == Some(crc32c(&bytes[..16]));
    Ok(u64_at(&bytes, 8).filter(|_| right))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_last_mark_is_read_back_and_what_is_left_of_a_torn_one_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        let mark = Mark::open(folder.path()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        for sequence in [1, 2, u64::MAX, 7] {
            mark.set(sequence).unwrap();
            assert_eq!(read(folder.path()).unwrap(), Some(sequence));
        }
        let whole = fs::read(&mark.path).unwrap();
        for at in 0..BYTES {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            fs::write(&mark.path, bytes).unwrap();
            assert_eq!(read(folder.path()).unwrap(), None, "byte {at}");
            fs::write(&mark.path, &whole[..at]).unwrap();
            assert_eq!(read(folder.path()).unwrap(), None, "{at} bytes");
        }
        fs::write(&mark.path, [&whole[..], b"more"].concat()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
    }
}
