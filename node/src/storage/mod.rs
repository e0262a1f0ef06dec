//! Remembering: hard state and entries in one ordered, segmented write-ahead log, and snapshots beside it.
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
//! and reported as [`Torn`]. (In a recycled segment old bytes stand behind the records, and a record whose very
//! header was torn leaves nothing that could be told from them: it is passed over in silence.) Everything else is damage, and the node refuses to start: a bad record with a later
//! one behind it, in a segment that is sealed or not the newest, a gap in the numbers, a bad header of a segment,
//! a missing one.
//!
//! Damage done later to the newest record (a flipped bit, a lost sector, an end that was cut off or zeroed) looks exactly
//! like a torn write; it is told from one by the [`mark`], which names the newest record known to be durable: when
//! that one is not there it is damage too.
//!
//! What cannot be told apart: the same damage when a power loss has taken the mark's last words back, and a folder that
//! was replaced by an older copy of itself. The record is cut then although it may have been acknowledged. Raft
//! survives one such node as long as a quorum of others holds the entry; a vote lost this way could be cast twice.
//!
//! A write that was complete but not yet synced when the process died counts as written: recovery makes it durable
//! before anybody acts on it. It also writes the newest record a second time, and the seal before it where a segment
//! has just begun: after a failed sync the kernel may show pages which the disk does not have, and a sync alone would
//! then do nothing.
//!
//! It is assumed that a write does not damage bytes beside it that it does not change, and that the disk
//! does what it says it did when a sync returns.

//! # How the log becomes shorter
//!
//! A record may say that the log begins later than before; a snapshot which covers what was there stands under its
//! name by then, read back and found whole. Only when that record is durable do the older snapshots go, and then,
//! one with each write, the segments all of whose entries are before the begin: oldest first, the folder synced
//! after each, so that what is left is always a run without gaps. A segment's first record, its *base*, repeats
//! what all records before it add up to. Segments that went become *spares*, whose blocks the next ones write over.
//!
//! What a boot may take for the state: the newest snapshot that is whole and whose position the log holds. As the
//! log then has every entry after it, an older one serves as well as a newer one that is damaged. A snapshot whose
//! position the log does not hold was received and never taken in; it counts for nothing and goes.

mod descriptors;
mod error;
mod folder;
mod frame;
pub(crate) mod fuzz;
mod known;
mod mark;
mod outline;
mod record;
mod recovery;
mod segment;
mod snapshot;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub use self::error::{StorageError, Torn};
pub use self::folder::Identity;
pub use self::known::Known;
pub use self::outline::Violation;
pub use self::recovery::Recovered;
pub use self::snapshot::{CHUNK_BYTES, Reader, Snapshots, Writer, chunks};
pub use self::verify::{Report, verify};

use self::descriptors::when_there_is_one;
use self::mark::Mark;
use self::outline::Outline;
use self::record::Base;
use self::recovery::{Held, Newest, Recovery, Tail};
use self::segment::write_zeros;
use crate::raft::{HardState, Index, NodeId, Position, Write};

/// A record's body is at most this long; all of it passes through memory.
pub const RECORD_BYTES_MAX: u64 = 256 << 20;

/// Number of the first record of a log.
const FIRST_SEQUENCE: u64 = 1;

/// What the buffer for records may keep between two writes.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// Segments that went and whose files are kept to be written over.
const SPARES_MAX: usize = 4;

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

impl Options {
    /// Of a new segment with room for a first record that takes `frame_bytes`.
    fn bytes_for(&self, base: &Base, frame_bytes: u64) -> u64 {
        const { assert!(RECORD_BYTES_MAX + (1 << 20) < segment::SEGMENT_BYTES_MAX) };
        let overhead =
            segment::HEADER_BYTES + frame::HEADER_BYTES + record::base_bytes(base) + frame::SEAL_BYTES;
        self.segment_bytes.min(segment::SEGMENT_BYTES_MAX).max(overhead as u64 + frame_bytes)
    }
}

/// An open data folder; it is this process' own as long as this lives.
#[derive(Debug)]
pub struct Storage {
    dir: PathBuf,
    identity: Identity,
    options: Options,
    active: Active,
    /// Segments before the active one, oldest first.
    sealed: VecDeque<Held>,
    spares: Vec<PathBuf>,
    /// Number of the next record.
    sequence: u64,
    outline: Outline,
    hard_state: HardState,
    buffer: Vec<u8>,
    mark: Mark,
    /// Set for the time of each write: what interrupts one, for whatever reason, leaves it set.
    poisoned: bool,
    _lock: folder::Lock,
}

/// The segment that takes the next record.
#[derive(Debug)]
struct Active {
    file: File,
    path: PathBuf,
    /// Number of its first record.
    first: u64,
    /// The highest entry in it.
    highest: Index,
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
    let node = recovery::owner(dir)?.node;
    let _lock = folder::lock_shared(dir)?;
    Ok((node, recovery::recover(dir, node)?.recovered))
}

/// The snapshots of a stopped node's folder, for a reader.
pub fn snapshots_of(dir: &Path, node: NodeId) -> Snapshots {
    Snapshots::new(dir, node)
}

impl Storage {
    /// Opens the data folder of `node`, creating it if it is absent, and makes durable what it gave back.
    pub fn open(dir: &Path, node: NodeId, options: Options) -> Result<(Storage, Recovered), StorageError> {
        folder::create(dir)?;
        let lock = folder::lock(dir)?;
        folder::remove_unplaced(dir)?;
        let identity = claim(dir, node, &options)?;
        let Recovery { recovered, outline, sequence, tail, newest, unbegun, mut segments } =
            recovery::recover(dir, node)?;
        if let Some(path) = unbegun {
            fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
        }
        let Some(last) = segments.pop() else { panic!("a log without a segment was recovered") };
        let active = settle(tail, last, recovered.torn.as_ref(), newest)?;
        let mark = Mark::open(dir)?;
        // A rename may have been seen here that is not yet on the disk.
        folder::sync(dir)?;
        mark.set(sequence - 1)?;
        let storage = Storage {
            dir: dir.to_owned(),
            identity,
            options,
            active,
            sealed: segments.into(),
            spares: spares(dir, &options)?,
            sequence,
            outline,
            hard_state: recovered.hard_state,
            buffer: Vec::new(),
            mark,
            poisoned: false,
            _lock: lock,
        };
        storage.remove_snapshots(|position| storage.outline.holds(position))?;
        Ok((storage, recovered))
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// What this node knows of its cluster beside the log.
    pub fn known(&self) -> Result<Known, StorageError> {
        Known::open(&self.dir)
    }

    /// The way to this node's snapshots.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots::new(&self.dir, self.identity.node)
    }

    /// Makes one write durable: one record, one sync (and three more when a new segment begins, or when one that
    /// is no longer needed goes).
    ///
    /// Where there is no room for a segment that it needs, nothing was done, and it may be tried again. After any
    /// other error nothing is known about this write but that it was not acknowledged, and every later
    /// call fails. A write that is empty or does not continue the log is a bug, and so is one that begins the log
    /// where no snapshot stands.
    pub fn write(&mut self, write: &Write) -> Result<(), StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned { path: self.dir.clone() });
        }
        assert!(!write.is_empty(), "an empty write has nothing to make durable");
        self.poisoned = true;
        let bytes = record::encoded_bytes(write);
        let frame_bytes = frame::HEADER_BYTES as u64 + bytes;
        // The seal's place is kept free.
        let full = self.active.offset + frame_bytes + frame::SEAL_BYTES as u64 > self.active.bytes;
        let before = full.then(|| self.outline.clone());
        if let Err(violation) = self.outline.apply(write) {
            panic!("the write does not continue the log: {violation}");
        }
        if write.begin.is_some() {
            self.assert_covered()?;
        }
        if bytes > RECORD_BYTES_MAX {
            return Err(StorageError::TooLarge { bytes, limit: RECORD_BYTES_MAX });
        }
        if let Some(before) = before
            && let Err(error) = self.roll_over(frame_bytes, before.clone())
        {
            if error.is_full() {
                (self.outline, self.poisoned) = (before, false);
            }
            return Err(error);
        }
        self.append(|body| record::encode(write, body))?;
        self.mark.set(self.sequence - 1)?;
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
        let last = write.entries.last().map_or(Index(0), |entry| entry.index);
        self.active.highest = self.active.highest.max(last);
        if write.begin.is_some() {
            let begin = self.outline.begin.index;
            // To let go of a gigabyte takes long.
            let snapshots = snapshot::list(&self.dir)?.into_iter();
            for (_, path) in snapshots.filter(|(position, _)| position.index < begin) {
                snapshot::remove_aside(path)?;
            }
        }
        self.retire_segment()?;
        self.poisoned = false;
        Ok(())
    }

    /// Begins a new segment with room for `frame_bytes`, for a log of this shape, and seals the one before it.
    fn roll_over(&mut self, frame_bytes: u64, outline: Outline) -> Result<(), StorageError> {
        let first = self.sequence + 1;
        let base = Base { previous: self.active.first, hard_state: self.hard_state, outline };
        // It stays one until it has another name.
        let bytes = self.options.bytes_for(&base, frame_bytes);
        let spare = self.spares.last().filter(|_| bytes == self.options.segment_bytes).cloned();
        let next = Active::create(&self.dir, self.identity.node, first, bytes, &base, spare.as_deref())?;
        if spare.is_some() {
            self.spares.pop();
        }
        self.append(|_| {})?;
        assert_eq!(self.sequence, first, "the seal takes one number");
        // The base came with its segment.
        self.sequence += 1;
        let Active { first, path, highest, .. } = std::mem::replace(&mut self.active, next);
        self.sealed.push_back(Held { first, path, highest });
        Ok(())
    }

    /// Writes and syncs the next record.
    fn append(&mut self, body: impl FnOnce(&mut Vec<u8>)) -> Result<(), StorageError> {
        let active = &mut self.active;
        frame::build(&mut self.buffer, active.salt, self.sequence, body);
        let written = active.file.write_all_at(&self.buffer, active.offset);
        written.map_err(StorageError::io("write a record to", &active.path))?;
        active.file.sync_data().map_err(StorageError::sync(&active.path))?;
        active.offset += self.buffer.len() as u64;
        self.sequence += 1;
        Ok(())
    }

    /// A log that begins where nothing stands for what was before would be refused at the next boot.
    fn assert_covered(&self) -> Result<(), StorageError> {
        let mut snapshots = snapshot::list(&self.dir)?.into_iter();
        let covered = snapshots.any(|(position, _)| self.outline.holds(position));
        assert!(covered, "the log would begin after {:?}, which no snapshot covers", self.outline.begin);
        Ok(())
    }

    /// Those that `keep` denies.
    fn remove_snapshots(&self, keep: impl Fn(Position) -> bool) -> Result<(), StorageError> {
        for (position, path) in snapshot::list(&self.dir)? {
            if !keep(position) {
                tracing::debug!(path = %path.display(), "removed a snapshot");
                fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// The oldest segment, if all its entries are before the log's begin.
    fn retire_segment(&mut self) -> Result<(), StorageError> {
        let begin = self.outline.begin.index;
        if self.sealed.front().is_none_or(|segment| segment.highest > begin) {
            return Ok(());
        }
        let Some(oldest) = self.sealed.pop_front() else { return Ok(()) };
        let path = &oldest.path;
        let bytes = fs::metadata(path).map_err(StorageError::io("read", path))?.len();
        if self.spares.len() < SPARES_MAX && bytes == self.options.segment_bytes {
            let spare = self.dir.join(format!("{SPARE}{:016x}", oldest.first));
            fs::rename(path, &spare).map_err(StorageError::io("set aside", path))?;
            self.spares.push(spare);
        } else {
            fs::remove_file(path).map_err(StorageError::io("remove", path))?;
        }
        folder::sync(&self.dir)
    }
}

impl Active {
    /// A new segment of `bytes` bytes, as many as `spare` has.
    fn create(
        dir: &Path,
        node: NodeId,
        first: u64,
        bytes: u64,
        base: &Base,
        spare: Option<&Path>,
    ) -> Result<Active, StorageError> {
        let segment::Created { file, path, salt, offset } =
            segment::create(dir, node, first, bytes, base, spare)?;
        Ok(Active { file, path, first, highest: Index(0), salt, offset, bytes })
    }
}

/// What spares are called: nothing that the log is read from.
const SPARE: &str = "spare-";

fn spares(dir: &Path, options: &Options) -> Result<Vec<PathBuf>, StorageError> {
    let failed = || StorageError::io("list", dir);
    let mut spares = Vec::new();
    for entry in when_there_is_one(|| fs::read_dir(dir)).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        if !entry.file_name().to_string_lossy().starts_with(SPARE) {
            continue;
        }
        let path = entry.path();
        let bytes = entry.metadata().map_err(StorageError::io("read", &path))?.len();
        if spares.len() < SPARES_MAX && bytes == options.segment_bytes {
            spares.push(path);
        } else {
            fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
        }
    }
    Ok(spares)
}

/// Makes sure that the folder is this node's: on first use, it becomes so.
fn claim(dir: &Path, node: NodeId, options: &Options) -> Result<Identity, StorageError> {
    match folder::identity(dir)? {
        Some(found) if found.node == node => Ok(found),
        Some(found) => {
            let path = folder::identity_path(dir);
            Err(StorageError::WrongNode { path, found: found.node, expected: node })
        }
        // The segment comes before the identity: a folder that has an owner has a log.
        None if recovery::is_fresh(dir, node)? => {
            folder::sync_parent(dir)?;
            let base = Base::default();
            Active::create(dir, node, FIRST_SEQUENCE, options.bytes_for(&base, 0), &base, None)?;
            folder::write_identity(dir, node)
        }
        None => recovery::owner(dir),
    }
}

/// Brings the disk to the state that recovery has read: no torn tail, and the newest records durable.
fn settle(tail: Tail, last: Held, torn: Option<&Torn>, newest: Vec<Newest>) -> Result<Active, StorageError> {
    for newest in newest {
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
    let Held { first, highest, .. } = last;
    Ok(Active { file, path, first, highest, salt, offset, bytes })
}

fn open_segment(path: &Path) -> io::Result<File> {
    when_there_is_one(|| OpenOptions::new().read(true).write(true).open(path))
}
