//! Why a data folder was refused or a write failed, and what a crash had left behind.
//!
//! In: facts. Out: sentences that name file, offset and what was expected. Never: a decision to go on.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::outline::Violation;
use crate::raft::{Index, NodeId};

/// The end of the log which a crash had left half written; nothing of it was ever acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    pub path: PathBuf,
    /// Where the log now ends in this file.
    pub offset: u64,
    /// From there to the last byte that was not zero.
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("failed to {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    /// Of what was to be written nothing is there, and nothing else was touched: it may be tried again.
    #[error("no room to {action} {}", path.display())]
    NoRoom { action: &'static str, path: PathBuf, source: io::Error },

    /// What the disk holds of it is not known, and a second try that succeeds would say nothing about the first.
    #[error("failed to sync {}", path.display())]
    Sync { path: PathBuf, source: io::Error },

    #[error("data folder {} is in use: a node runs on it, or its dump is being taken", path.display())]
    InUse { path: PathBuf },

    #[error("{}: not the data folder of a node: expected {expected}", path.display())]
    NotADataFolder { path: PathBuf, expected: &'static str },

    #[error("{}: this data belongs to {found}, not to {expected}", path.display())]
    WrongNode { path: PathBuf, found: NodeId, expected: NodeId },

    #[error(
        "{}: the cluster began with {found}, and now {given} is given: leave --voter and --join away, or give them as \
         at the first start",
        path.display()
    )]
    OtherVoters { path: PathBuf, found: String, given: String },

    #[error("{}: written in format {found}, expected format {expected}", path.display())]
    UnknownFormat { path: PathBuf, found: String, expected: u32 },

    #[error("{}: damaged at byte {offset}: expected {expected}", path.display())]
    Corrupt { path: PathBuf, offset: u64, expected: String },

    /// The checksum is right, so a node wrote this; but no right node would have.
    #[error("{}: the record at byte {offset} is whole, but cannot be: {violation}", path.display())]
    Inconsistent { path: PathBuf, offset: u64, violation: Violation },

    #[error("{} is missing: record {sequence} should be its first", path.display())]
    Missing { path: PathBuf, sequence: u64 },

    #[error("{}: the log begins after entry {begin}, and no snapshot holds what was before it", path.display())]
    NoSnapshot { path: PathBuf, begin: Index },

    #[error("{}: the state has {found}, and the leader's {expected}", path.display())]
    OtherState { path: PathBuf, found: String, expected: String },

    #[error("a record of {bytes} bytes is over the limit of {limit}")]
    TooLarge { bytes: u64, limit: u64 },

    #[error("storage in {} failed before; what the disk holds is known again only after a restart", path.display())]
    Poisoned { path: PathBuf },
}

impl StorageError {
    /// True when the disk has lost, or changed, what it once held.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            StorageError::Corrupt { .. }
                | StorageError::Inconsistent { .. }
                | StorageError::Missing { .. }
                | StorageError::NoSnapshot { .. }
        )
    }

    /// True when nothing was done, for want of room.
    pub fn is_full(&self) -> bool {
        matches!(self, StorageError::NoRoom { .. })
    }

    /// For a file that counts for nothing yet, and that the caller takes away: there may be no room for it.
    pub(super) fn new_file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
        move |source| match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC | Errno::EDQUOT) => {
                StorageError::NoRoom { action, path: path.to_owned(), source }
            }
            _ => StorageError::Io { action, path: path.to_owned(), source },
        }
    }

    /// For `map_err`: the action and the file at hand, around what the system said.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
        move |source| StorageError::Io { action, path: path.to_owned(), source }
    }

    pub(super) fn sync(path: &Path) -> impl FnOnce(io::Error) -> StorageError {
        move |source| StorageError::Sync { path: path.to_owned(), source }
    }

    pub(super) fn corrupt(path: &Path, offset: u64, expected: impl Into<String>) -> StorageError {
        StorageError::Corrupt { path: path.to_owned(), offset, expected: expected.into() }
    }
}
