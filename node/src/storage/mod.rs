//! Remembering: hard state and entries in one ordered, segmented write-ahead log.
//!
//! In: one [`Write`] at a time. Out: it is durable, or this storage is never used again; and after a restart,
//! exactly the writes that were. Never: a retry of a failed sync, a guess about damage, a change by a reader.
//!
//! A *record* is one [`Write`] and everything between two syncs: it is written with one call and made durable
//! with one fdatasync, and the next one is begun only after that. Records carry consecutive numbers and stand
//! in segments, which are placed whole (see `folder::place`) and preallocated with zeros. A segment that is
//! full ends in a *seal*, a record without a body, written once its successor exists: so a missing segment is
//! noticed, even the newest one.
//!
//! # What a torn tail is
//!
//! A crash during a write leaves any part of the record on the disk: none of it, a prefix, or all but a block in
//! the middle. As one record is one sync, only the newest can suffer this, and nobody was told of it.
//! So when the newest segment holds bytes that are no whole record, and no header of a record with an equal or
//! later number is whole behind them, these bytes are a *torn tail*. It is cut: overwritten with zeros, synced,
//! and reported as [`Torn`]. Everything else is damage, and the node refuses to start: a bad record with a later
//! one behind it, in a segment that is sealed or not the newest, a gap in the numbers, a bad header of a segment,
//! a missing one.
//!
//! What cannot be told apart: damage done later to the newest record (a flipped bit, a lost sector) looks exactly
//! like a torn write, and the record is cut although it may have been acknowledged. So does a newest segment
//! that was zeroed or truncated at the end of an earlier record; the rest of the log gives no hint that there
//! was more, nor can it when the whole folder is replaced by an older copy. Raft survives one such node as long
//! as a quorum of others holds the entry; a vote lost this way could be cast twice. A write that was complete
//! but not yet synced when the process died counts as written: recovery makes it durable before anybody acts
//! on it. It also writes the newest record a second time: after a failed sync the kernel may show pages which
//! the disk does not have, and a sync alone would then do nothing.
//!
//! It is assumed that a write does not damage bytes beside it that it does not change, and that the disk
//! does what it says it did when a sync returns.

mod error;
mod folder;
mod frame;
mod outline;
mod record;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub use self::error::{StorageError, Torn};
pub use self::outline::Violation;
pub use self::recovery::Recovered;

use self::outline::Outline;
use self::recovery::{Newest, Recovery, Tail};
use crate::raft::{NodeId, Write};

/// A record's body is at most this long; all of it passes through memory.
pub const RECORD_BYTES_MAX: u64 = 256 << 20;

/// Number of the first record of a log.
const FIRST_SEQUENCE: u64 = 1;

/// What the buffer for records may keep between two writes.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Size of a new segment, unless its first record needs more.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        // A boot reads the newest segment to its end, and a copy of the folder holds all of it.
        Options { segment_bytes: 8 << 20 }
    }
}

/// An open data folder; it is this process' own as long as this lives.
#[derive(Debug)]
pub struct Storage {
    dir: PathBuf,
    node: NodeId,
    options: Options,
    active: Active,
    /// Number of the next record.
    sequence: u64,
    outline: Outline,
    buffer: Vec<u8>,
    /// Set for the time of each write: what interrupts one, for whatever reason, leaves it set.
    poisoned: bool,
    _lock: folder::Lock,
}

/// The segment that takes the next record.
#[derive(Debug)]
struct Active {
    file: File,
    path: PathBuf,
    salt: u64,
    /// Where the next record goes.
    offset: u64,
    /// Size of the file.
    bytes: u64,
}

/// Reads the folder of a stopped node, and changes not one byte.
pub fn read(dir: &Path) -> Result<(NodeId, Recovered), StorageError> {
    // An identity never changes, so it is known before the lock is held; and what is no data folder is said
    // to be none, whoever locks a file in it.
    let node = recovery::owner(dir)?;
    let _lock = folder::lock_shared(dir)?;
    Ok((node, recovery::recover(dir, node)?.recovered))
}

impl Storage {
    /// Opens the data folder of `node`, creating it if it is absent, and makes durable what it gave back.
    pub fn open(dir: &Path, node: NodeId, options: Options) -> Result<(Storage, Recovered), StorageError> {
        folder::create(dir)?;
        let lock = folder::lock(dir)?;
        folder::remove_unplaced(dir)?;
        claim(dir, node, &options)?;
        let Recovery { recovered, outline, sequence, tail, newest, unbegun } = recovery::recover(dir, node)?;
        if let Some(path) = unbegun {
            fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
        }
        let active = settle(tail, recovered.torn.as_ref(), newest)?;
        // A rename may have been seen here that is not yet on the disk.
        folder::sync(dir)?;
        let storage = Storage {
            dir: dir.to_owned(),
            node,
            options,
            active,
            sequence,
            outline,
            buffer: Vec::new(),
            poisoned: false,
            _lock: lock,
        };
        Ok((storage, recovered))
    }

    /// Makes one write durable: one record, one sync (and three more when a new segment begins).
    ///
    /// After an error nothing is known about this write but that it was not acknowledged, and every later
    /// call fails. A write that is empty or does not continue the log is a bug.
    pub fn write(&mut self, write: &Write) -> Result<(), StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned { path: self.dir.clone() });
        }
        assert!(!write.is_empty(), "an empty write has nothing to make durable");
        self.poisoned = true;
        if let Err(violation) = self.outline.apply(write) {
            panic!("the write does not continue the log: {violation}");
        }
        let bytes = record::encoded_bytes(write);
        if bytes > RECORD_BYTES_MAX {
            return Err(StorageError::TooLarge { bytes, limit: RECORD_BYTES_MAX });
        }
        let frame_bytes = frame::HEADER_BYTES as u64 + bytes;
        // The seal's place is kept free.
        if self.active.offset + frame_bytes + frame::SEAL_BYTES as u64 > self.active.bytes {
            self.roll_over(frame_bytes)?;
        }
        self.append(|body| record::encode(write, body))?;
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        self.poisoned = false;
        Ok(())
    }

    /// Begins a new segment with room for `frame_bytes` and seals the one before it.
    fn roll_over(&mut self, frame_bytes: u64) -> Result<(), StorageError> {
        let first = self.sequence + 1;
        let next = Active::create(&self.dir, self.node, first, &self.options, frame_bytes)?;
        self.append(|_| {})?;
        assert_eq!(self.sequence, first, "the seal takes one number");
        self.active = next;
        Ok(())
    }

    /// Writes and syncs the next record.
    fn append(&mut self, body: impl FnOnce(&mut Vec<u8>)) -> Result<(), StorageError> {
        let active = &mut self.active;
        frame::build(&mut self.buffer, active.salt, self.sequence, body);
        let written = active.file.write_all_at(&self.buffer, active.offset);
        written.map_err(StorageError::io("write a record to", &active.path))?;
        active.file.sync_data().map_err(StorageError::io("sync", &active.path))?;
        active.offset += self.buffer.len() as u64;
        self.sequence += 1;
        Ok(())
    }
}

impl Active {
    /// A new segment whose first record takes `frame_bytes`.
    fn create(
        dir: &Path,
        node: NodeId,
        first: u64,
        options: &Options,
        frame_bytes: u64,
    ) -> Result<Active, StorageError> {
        const { assert!(RECORD_BYTES_MAX + (1 << 20) < segment::SEGMENT_BYTES_MAX) };
        let least = (segment::HEADER_BYTES + frame::SEAL_BYTES) as u64 + frame_bytes;
        let bytes = options.segment_bytes.min(segment::SEGMENT_BYTES_MAX).max(least);
        let (file, path, header) = segment::create(dir, node, first, bytes)?;
        let offset = segment::HEADER_BYTES as u64;
        Ok(Active { file, path, salt: header.salt, offset, bytes })
    }
}

/// Makes sure that the folder is this node's: on first use, it becomes so.
fn claim(dir: &Path, node: NodeId, options: &Options) -> Result<(), StorageError> {
    match folder::identity(dir)? {
        Some(found) if found == node => Ok(()),
        Some(found) => {
            let path = folder::identity_path(dir);
            Err(StorageError::WrongNode { path, found, expected: node })
        }
        // The segment comes before the identity: a folder that has an owner has a log.
        None if recovery::is_fresh(dir, node)? => {
            folder::sync_parent(dir)?;
            Active::create(dir, node, FIRST_SEQUENCE, options, 0)?;
            folder::write_identity(dir, node)
        }
        None => recovery::owner(dir).map(drop),
    }
}

/// Brings the disk to the state that recovery has read: no torn tail, and the newest record durable.
fn settle(tail: Tail, torn: Option<&Torn>, newest: Option<Newest>) -> Result<Active, StorageError> {
    if let Some(newest) = newest {
        let rewritten = open_segment(&newest.path).and_then(|file| {
            file.write_all_at(&newest.frame, newest.offset)?;
            file.sync_data()
        });
        rewritten.map_err(StorageError::io("write the newest record again to", &newest.path))?;
    }
    let Tail { path, salt, offset, bytes } = tail;
    let file = open_segment(&path).map_err(StorageError::io("open", &path))?;
    if let Some(torn) = torn {
        let cut = write_zeros(&file, torn.offset, torn.bytes).and_then(|()| file.sync_data());
        cut.map_err(StorageError::io("cut the torn tail of", &path))?;
    }
    Ok(Active { file, path, salt, offset, bytes })
}

fn open_segment(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn write_zeros(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let end = offset + bytes;
    for at in (offset..end).step_by(ZEROS.len()) {
        let length = (end - at).min(ZEROS.len() as u64) as usize;
        file.write_all_at(&ZEROS[..length], at)?;
    }
    Ok(())
}
