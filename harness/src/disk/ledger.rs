//! What was done to a disk, call by call, with the bytes: enough to rebuild every state it was in.
//!
//! In: each call that had an effect, with its times. Out: `ledger.jsonl`, a line a call in the order of their effects,
//! and `ledger.bytes`, what was written; [`read`] has them back. Never: more bytes than its bound, silently less: only
//! a ledger in which everything stands has an end.

mod read;
mod replay;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::model::{Inode, New};
use super::orders::Kept;
pub use read::{Cut, Damage, Ledger};
pub use replay::Replay;

const CALLS: &str = "ledger.jsonl";
const BYTES: &str = "ledger.bytes";
const BUFFER_BYTES: usize = 256 << 10;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Larger from line to line.
    pub number: u64,
    /// CLOCK_MONOTONIC ns: the kernel had asked.
    pub begin: u64,
    /// And was answered just after.
    pub end: u64,
    #[serde(flatten)]
    pub act: Act,
}

/// What a call did. One that failed and did nothing is not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    Create {
        folder: Inode,
        name: String,
        inode: Inode,
        new: New,
    },
    Link {
        inode: Inode,
        folder: Inode,
        name: String,
    },
    Unlink {
        folder: Inode,
        name: String,
    },
    RemoveFolder {
        folder: Inode,
        name: String,
    },
    Rename {
        folder: Inode,
        name: String,
        to_folder: Inode,
        to_name: String,
    },
    Write {
        inode: Inode,
        offset: u64,
        length: u64,
        /// Where the bytes stand in `ledger.bytes`; they are zeros if they stand nowhere.
        at: Option<u64>,
    },
    Length {
        inode: Inode,
        length: u64,
    },
    Allocate {
        inode: Inode,
        offset: u64,
        length: u64,
        longer: bool,
    },
    /// Of a file or a folder: of what was done to it up to call `through`.
    Sync {
        inode: Inode,
        through: u64,
        /// It said so, and what it should have made durable never will be.
        failed: bool,
    },
    PowerLoss {
        draw: u64,
    },
    /// The last line of a ledger that has reached its bound: what was done later is not in it.
    Cut,
    /// The last line of any other: nothing was done to the disk later, and nothing before is missing.
    End,
}

/// Writes a ledger.
#[derive(Debug)]
pub(super) struct Writer {
    calls: BufWriter<File>,
    bytes: BufWriter<File>,
    kept: Kept,
    bytes_max: u64,
    path: PathBuf,
}

impl Writer {
    pub fn create(folder: &Path, bytes_max: u64) -> io::Result<Writer> {
        let create = |name: &str| {
            let file = File::create_new(folder.join(name))?;
            Ok::<_, io::Error>(BufWriter::with_capacity(BUFFER_BYTES, file))
        };
        let (calls, bytes) = (create(CALLS)?, create(BYTES)?);
        let mut writer = Writer { calls, bytes, kept: Kept::default(), bytes_max, path: folder.join(CALLS) };
        if bytes_max == 0 {
            // Nobody is to take it for the ledger of a disk to which nothing was done.
            writer.line(&Entry { number: 1, begin: 0, end: 0, act: Act::Cut })?;
            writer.kept.cut = true;
        }
        Ok(writer)
    }

    pub fn kept(&self) -> Kept {
        self.kept
    }

    /// Keeps a write.
    pub fn write(
        &mut self,
        (number, begin): (u64, u64),
        inode: Inode,
        offset: u64,
        written: &[u8],
        end: u64,
    ) {
        let zeros = written.iter().all(|byte| *byte == 0);
        let at = (!zeros).then_some(self.kept.bytes);
        let length = written.len() as u64;
        let written = if zeros { &[] } else { written };
        self.keep(&Entry { number, begin, end, act: Act::Write { inode, offset, length, at } }, written);
    }

    pub fn note(&mut self, (number, begin): (u64, u64), act: Act, end: u64) {
        self.keep(&Entry { number, begin, end, act }, &[]);
    }

    /// So that a reader finds all of it.
    pub fn flush(&mut self) {
        let flushed = self.bytes.flush().and_then(|()| self.calls.flush());
        self.is_kept(flushed);
    }

    /// Nothing is done to the disk any more. One that is cut has no end.
    pub fn end(&mut self, number: u64, at: u64) {
        self.flush();
        if self.kept.cut {
            return;
        }
        let end = Entry { number, begin: at, end: at, act: Act::End };
        let ended = self.line(&end).and_then(|()| self.calls.flush());
        self.is_kept(ended);
        self.kept.cut = true;
    }

    /// What is done from now on cannot be told.
    pub fn give_up(&mut self, why: &str) {
        self.flush();
        self.kept.cut = true;
        eprintln!("mkraft-harness disk: {} ends here: {why}", self.path.display());
    }

    fn keep(&mut self, entry: &Entry, written: &[u8]) {
        if self.kept.cut {
            return;
        }
        if self.kept.bytes + written.len() as u64 > self.bytes_max {
            let cut = Entry { act: Act::Cut, ..entry.clone() };
            self.kept.cut = true;
            let (path, most) = (self.path.display(), self.bytes_max);
            eprintln!("mkraft-harness disk: {path} has reached its bound of {most} bytes and ends there");
            let said = self.line(&cut);
            self.is_kept(said);
            return;
        }
        let kept = self.bytes.write_all(written).and_then(|()| self.line(entry));
        self.kept.bytes += written.len() as u64;
        self.is_kept(kept);
    }

    fn line(&mut self, entry: &Entry) -> io::Result<()> {
        serde_json::to_writer(&mut self.calls, entry)?;
        self.calls.write_all(b"\n")?;
        self.kept.calls += 1;
        Ok(())
    }

    /// A ledger that cannot be written is cut: the disk goes on.
    fn is_kept(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.kept.cut = true;
            eprintln!("mkraft-harness disk: failed to write to {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests;
