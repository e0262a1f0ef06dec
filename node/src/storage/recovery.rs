//! Reading the log back: every record of every segment in order, up to the end or to the damage.
//!
//! In: a data folder. Out: the state that its records add up to, and where the next one goes. What a torn tail
//! is, and what it is not, stands in the documentation of [`super`].
//! Never: a change to the folder; what must be repaired is handed back.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::{StorageError, Torn};
use super::folder;
use super::frame::{self, HEADER_BYTES as FRAME_HEADER_BYTES};
use super::outline::{Outline, Violation};
use super::record;
use super::segment::{self, HEADER_BYTES, Segment, used_bytes};
use crate::raft::{Entry, HardState, NodeId, Position, Write};

/// What the disk gave back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    pub hard_state: HardState,
    /// The log begins after this.
    pub snapshot: Position,
    /// Consecutive, from the one after `snapshot`.
    pub entries: Vec<Entry>,
    /// What a crash left half written; [`super::Storage::open`] has cut it, [`super::read`] has only seen it.
    pub torn: Option<Torn>,
}

pub(super) struct Recovery {
    pub recovered: Recovered,
    pub outline: Outline,
    /// Number of the next record.
    pub sequence: u64,
    pub tail: Tail,
    /// The newest whole record; none in a fresh log.
    pub newest: Option<Newest>,
    /// A segment which a crash in rolling over left behind the tail.
    pub unbegun: Option<PathBuf>,
}

/// Where the next record goes.
pub(super) struct Tail {
    pub path: PathBuf,
    pub salt: u64,
    pub offset: u64,
    /// Size of the file.
    pub bytes: u64,
}

/// Where the newest record stands, and its bytes.
pub(super) struct Newest {
    pub path: PathBuf,
    pub offset: u64,
    pub frame: Vec<u8>,
}

/// How a segment ends.
enum End {
    Sealed,
    /// More may follow at `offset`, behind which `torn` bytes are not zero.
    Open {
        offset: u64,
        torn: u64,
    },
}

pub(super) fn recover(dir: &Path, node: NodeId) -> Result<Recovery, StorageError> {
    let segments = segment::list(dir)?;
    let mut replay = Replay::default();
    for (position, (first, path)) in segments.iter().enumerate() {
        replay.expect_first(dir, *first, path)?;
        let segment = Segment::load(path, node, *first)?;
        let End::Open { offset, torn } = replay.segment(&segment)? else {
            continue;
        };
        let unbegun = match &segments[position + 1..] {
            [] => None,
            [(first, path)] if replay.is_unbegun(path, node, *first)? => Some(path.clone()),
            [(_, next), ..] => {
                let expected = format!("record {}, before those in {}", replay.sequence, next.display());
                return Err(StorageError::corrupt(path, offset, expected));
            }
        };
        let torn = (torn > 0).then(|| Torn { path: path.clone(), offset, bytes: torn });
        let bytes = segment.bytes.len() as u64;
        let tail = Tail { path: path.clone(), salt: segment.header.salt, offset, bytes };
        return Ok(replay.finish(tail, torn, unbegun));
    }
    // Every segment is sealed, so there was another.
    Err(replay.missing(dir))
}

/// The state after the records read so far.
struct Replay {
    outline: Outline,
    hard_state: HardState,
    entries: Vec<Entry>,
    /// Number of the next record.
    sequence: u64,
    newest: Option<Newest>,
}

impl Default for Replay {
    fn default() -> Replay {
        Replay {
            outline: Outline::default(),
            hard_state: HardState::default(),
            entries: Vec::new(),
            sequence: super::FIRST_SEQUENCE,
            newest: None,
        }
    }
}

impl Replay {
    fn expect_first(&self, dir: &Path, first: u64, path: &Path) -> Result<(), StorageError> {
        match first {
            first if first > self.sequence => Err(self.missing(dir)),
            first if first < self.sequence => {
                let expected = format!("record {} to be the first of the next segment", self.sequence);
                Err(StorageError::corrupt(path, 0, expected))
            }
            _ => Ok(()),
        }
    }

    fn missing(&self, dir: &Path) -> StorageError {
        let path = dir.join(segment::file_name(self.sequence));
        StorageError::Missing { path, sequence: self.sequence }
    }

    /// True for a new segment whose predecessor, the one just read, waits for its seal and for nothing else.
    fn is_unbegun(&self, path: &Path, node: NodeId, first: u64) -> Result<bool, StorageError> {
        Ok(first == self.sequence + 1 && Segment::load(path, node, first)?.is_blank())
    }

    fn segment(&mut self, segment: &Segment) -> Result<End, StorageError> {
        let mut offset = HEADER_BYTES;
        let mut newest = None;
        let mut sealed = false;
        while !sealed
            && let Some(body) = frame::body(&segment.bytes[offset..], segment.header.salt, self.sequence)
        {
            if body.is_empty() {
                sealed = true;
            } else {
                self.apply(body).map_err(|violation| StorageError::Inconsistent {
                    path: segment.path.clone(),
                    offset: offset as u64,
                    violation,
                })?;
            }
            let end = offset + FRAME_HEADER_BYTES + body.len();
            newest = Some(offset..end);
            offset = end;
            self.sequence += 1;
        }
        if let Some(newest) = newest {
            self.remember(segment, newest);
        }
        self.end(segment, offset, sealed)
    }

    fn apply(&mut self, body: &[u8]) -> Result<(), Violation> {
        let Write { truncate_after, entries, hard_state } = record::decode(body).and_then(|write| {
            self.outline.apply(&write)?;
            Ok(write)
        })?;
        if let Some(after) = truncate_after {
            self.entries.truncate((after.0 - self.outline.snapshot().index.0) as usize);
        }
        self.entries.extend(entries);
        self.hard_state = hard_state.unwrap_or(self.hard_state);
        Ok(())
    }

    fn remember(&mut self, segment: &Segment, range: Range<usize>) {
        let (path, offset) = (segment.path.clone(), range.start as u64);
        self.newest = Some(Newest { path, offset, frame: segment.bytes[range].to_vec() });
    }

    /// Judges what stands behind the last whole record.
    fn end(&self, segment: &Segment, offset: usize, sealed: bool) -> Result<End, StorageError> {
        let torn = used_bytes(&segment.bytes[offset..]);
        let corrupt = |expected| Err(StorageError::corrupt(&segment.path, offset as u64, expected));
        if sealed {
            return if torn == 0 { Ok(End::Sealed) } else { corrupt("zeros after the seal".to_owned()) };
        }
        // A record is begun only when the one before it is durable, so the first header that is whole after
        // a damaged record proves that the disk has lost what it once held.
        let end = segment.bytes.len().min(offset + torn + FRAME_HEADER_BYTES);
        let behind = segment.bytes[offset..end].get(1..).unwrap_or_default();
        if let Some(later) = frame::find_header(behind, segment.header.salt, self.sequence) {
            let later = offset + 1 + later;
            return corrupt(format!("record {}, because a later one begins at byte {later}", self.sequence));
        }
        Ok(End::Open { offset: offset as u64, torn: torn as u64 })
    }

    fn finish(self, tail: Tail, torn: Option<Torn>, unbegun: Option<PathBuf>) -> Recovery {
        let Replay { outline, hard_state, entries, sequence, newest } = self;
        let recovered = Recovered { hard_state, snapshot: outline.snapshot(), entries, torn };
        Recovery { recovered, outline, sequence, tail, newest, unbegun }
    }
}

/// True when the folder's segments hold no record: its first use was cut short, or never began.
pub(super) fn is_fresh(dir: &Path, node: NodeId) -> Result<bool, StorageError> {
    match segment::list(dir)?.as_slice() {
        [] => Ok(true),
        [(first, path)] if *first == super::FIRST_SEQUENCE => {
            Ok(Segment::load(path, node, *first)?.is_blank())
        }
        _ => Ok(false),
    }
}

/// Whose folder it is, or that it is nobody's.
pub(super) fn owner(dir: &Path) -> Result<NodeId, StorageError> {
    folder::identity(dir)?.ok_or_else(|| StorageError::NotADataFolder {
        path: folder::identity_path(dir),
        expected: "this file, which names the node",
    })
}
