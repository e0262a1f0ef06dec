//! Reads a ledger back.
//!
//! In: the folder beside a disk. Out: a [`Ledger`], checked line by line, or the line and what is wrong with it.
//! Never: a guess where something is missing.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Act, BYTES, CALLS, Entry};

#[derive(Debug, thiserror::Error)]
pub enum Damage {
    #[error("failed to read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}:{line}: {what}")]
    Line { path: PathBuf, line: usize, what: String },
    #[error("{path}: failed to read {length} bytes at byte {offset}")]
    Bytes { path: PathBuf, offset: u64, length: u64, source: io::Error },
}

/// Why a ledger does not tell everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It has reached its bound.
    Bound,
    /// Its last line is not there.
    NoEnd,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cut::Bound => "has reached its bound",
            Cut::NoEnd => "has no end: its disk was killed, or could not write it",
        })
    }
}

/// All that was done to a disk.
#[derive(Debug)]
pub struct Ledger {
    pub entries: Vec<Entry>,
    /// Why what was done after the last entry is not known; None when nothing was.
    pub cut: Option<Cut>,
    /// A line has said that it is the last.
    over: bool,
    path: PathBuf,
    bytes_path: PathBuf,
    bytes: File,
}

impl Ledger {
    /// Of a disk that is unmounted: the ledger of any other has no end yet.
    pub fn read(beside: &Path) -> Result<Ledger, Damage> {
        let (path, bytes_path) = (beside.join(CALLS), beside.join(BYTES));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Damage::Read { path, source }
        };
        let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
        let bytes = File::open(&bytes_path).map_err(failed(&bytes_path))?;
        let length = bytes.metadata().map_err(failed(&bytes_path))?.len();
        let (entries, cut) = (Vec::new(), Some(Cut::NoEnd));
        let mut ledger = Ledger { entries, cut, over: false, path, bytes_path, bytes };
        for (line, text) in text.split_inclusive('\n').enumerate() {
            ledger.take(text, length).map_err(|what| ledger.damage(line, what))?;
        }
        Ok(ledger)
    }

    /// How many entries had had their effect at this CLOCK_MONOTONIC ns: the place of a replay. The call after them may
    /// have been under way.
    pub fn place_at(&self, at: u64) -> usize {
        self.entries.partition_point(|entry| entry.end <= at)
    }

    /// What was written by a write of the ledger.
    pub fn bytes(&self, at: Option<u64>, length: u64) -> Result<Vec<u8>, Damage> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        if let Some(offset) = at {
            self.bytes.read_exact_at(&mut bytes, offset).map_err(|source| Damage::Bytes {
                path: self.bytes_path.clone(),
                offset,
                length,
                source,
            })?;
        }
        Ok(bytes)
    }

    /// Of the entry in this place, counted from 0.
    pub(in crate::disk) fn damage(&self, place: usize, what: impl Into<String>) -> Damage {
        Damage::Line { path: self.path.clone(), line: place + 1, what: what.into() }
    }

    fn take(&mut self, text: &str, bytes: u64) -> Result<(), String> {
        if !text.ends_with('\n') {
            return Err("the line has no end: its disk was killed".into());
        }
        let entry: Entry = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if self.over {
            return Err("a call after the end of the ledger".into());
        }
        let before = self.entries.last().map_or(0, |entry| entry.number);
        if entry.number <= before {
            return Err(format!("call {} after call {before}", entry.number));
        }
        if entry.end < entry.begin {
            return Err(format!("a call that ends at {} and begins at {}", entry.end, entry.begin));
        }
        match entry.act {
            Act::Cut => (self.cut, self.over) = (Some(Cut::Bound), true),
            Act::End => (self.cut, self.over) = (None, true),
            Act::Write { at: Some(at), length, .. }
                if at.checked_add(length).is_none_or(|end| end > bytes) =>
            {
                return Err(format!("{length} bytes at byte {at} of a file of {bytes}"));
            }
            Act::Sync { through, .. } if through >= entry.number => {
                return Err(format!("a sync of calls through {through}, which come later"));
            }
            _ => {}
        }
        if !self.over {
            self.entries.push(entry);
        }
        Ok(())
    }
}
