//! Reading the folder back: every record of every segment in order, up to the end or to the damage, and then
//! the newest snapshot that can stand for what is no longer in the log.
//!
//! In: a data folder. Out: the state that its records add up to, and where the next one goes. What a torn tail
//! is, and what it is not, stands in the documentation of [`super`].
//! Never: a change to the folder; what must be repaired is handed back.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::{StorageError, Torn};
use super::folder::{self, Identity};
use super::frame::{self, HEADER_BYTES as FRAME_HEADER_BYTES};
use super::mark;
use super::outline::{Outline, Violation};
use super::record::{self, Base};
use super::segment::{self, HEADER_BYTES, Segment, used_bytes};
use super::snapshot;
use crate::raft::{Entry, HardState, Index, NodeId, Position, Snapshot, Write};

/// What the disk gave back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    pub hard_state: HardState,
    /// The log begins after this.
    pub begin: Position,
    /// Consecutive, from the one after `begin`.
    pub entries: Vec<Entry>,
    /// The newest that is whole, at or after `begin`; none only where the log begins with the first entry.
    pub snapshot: Option<Snapshot>,
    /// Newer snapshots that are damaged: `snapshot` and the log make up for them. What is wrong with each.
    pub passed_over: Vec<String>,
    /// What a crash left half written; [`super::Storage::open`] has cut it, [`super::read`] has only seen it.
    pub torn: Option<Torn>,
}

pub(super) struct Recovery {
    pub recovered: Recovered,
    pub outline: Outline,
    /// Number of the next record.
    pub sequence: u64,
    pub tail: Tail,
    /// The newest whole records of which nobody knows whether they are durable: the last, and where it is the first of its
    /// segment, which was durable before the seal was, the seal.
    pub newest: Vec<Newest>,
    /// A segment which a crash in rolling over left behind the tail.
    pub unbegun: Option<PathBuf>,
    /// All segments but that one, in order; the last is the tail's.
    pub segments: Vec<Held>,
}

/// A segment, and up to which entry it is needed.
#[derive(Debug)]
pub(super) struct Held {
    pub first: u64,
    pub path: PathBuf,
    /// The highest entry in it; 0 for none.
    pub highest: Index,
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
    let mut recovery = replay(dir, node)?;
    // Records after the last whole one are torn, and were promised to nobody: but not those that are known to have been
    // durable once.
    if let Some(durable) = mark::read(dir)?.filter(|durable| *durable >= recovery.sequence) {
        let Tail { path, offset, .. } = &recovery.tail;
        let (sequence, mark) = (recovery.sequence, dir.join(mark::NAME));
        let expected = format!("record {sequence}, because {} names record {durable}", mark.display());
        return Err(StorageError::corrupt(path, *offset, expected));
    }
    let (snapshot, passed_over) = newest_snapshot(dir, node, &recovery.outline)?;
    let hard_state = std::fs::read_to_string(dir.join("hard-state")).unwrap_or_default();
    let mut numbers = hard_state.split(' ').filter_map(|word| word.parse().ok());
    if let (Some(term), Some(vote), Some(commit)) = (numbers.next(), numbers.next(), numbers.next()) {
        let vote = Some(NodeId(vote)).filter(|vote| vote.0 > 0);
        recovery.recovered.hard_state = HardState { term: crate::raft::Term(term), vote, commit: Index(commit) };
    }
    recovery.recovered.snapshot = snapshot;
    recovery.recovered.passed_over = passed_over;
    Ok(recovery)
}

/// A snapshot can stand for the log up to its position when the log holds that very position and all after it:
/// then nothing that was dropped is missed, whichever of several it is. One that the log does not hold was
/// received and never taken in, or is older than the log's begin.
fn newest_snapshot(
    dir: &Path,
    node: NodeId,
    outline: &Outline,
) -> Result<(Option<Snapshot>, Vec<String>), StorageError> {
    let mut damaged = Vec::new();
    for (position, path) in snapshot::list(dir)?.into_iter().filter(|(position, _)| outline.holds(*position))
    {
        match snapshot::Reader::open(&path, node, position).and_then(snapshot::Reader::check) {
            Ok(snapshot) => {
                return Ok((Some(snapshot), damaged.iter().map(StorageError::to_string).collect()));
            }
            Err(error) if error.is_damage() => damaged.push(error),
            Err(error) => return Err(error),
        }
    }
    let begin = outline.begin.index;
    match damaged.into_iter().next() {
        // All entries are there.
        first if begin == Index(0) => Ok((None, first.iter().map(StorageError::to_string).collect())),
        Some(newest) => Err(newest),
        None => Err(StorageError::NoSnapshot { path: dir.to_owned(), begin }),
    }
}

fn replay(dir: &Path, node: NodeId) -> Result<Recovery, StorageError> {
    let segments = segment::list(dir)?;
    let mut replay = Replay::beginning_at(segments.first().map_or(super::FIRST_SEQUENCE, |first| first.0));
    for (position, (first, path)) in segments.iter().enumerate() {
        replay.expect_first(dir, *first, path)?;
        let segment = Segment::load(path, node, *first)?;
        replay.highest = Index(0);
        let end = replay.segment(&segment)?;
        replay.held.push(Held { first: *first, path: path.clone(), highest: replay.highest });
        let End::Open { offset, torn } = end else {
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
        return replay.finish(dir, tail, torn, unbegun);
    }
    // Every segment is sealed, so there was another.
    Err(replay.missing(dir))
}

/// The state after the records read so far.
struct Replay {
    outline: Outline,
    hard_state: HardState,
    /// Those after `absent`.
    entries: Vec<Entry>,
    /// Entries up to here stood in segments that are gone.
    absent: Index,
    /// Number of the next record.
    sequence: u64,
    newest: Vec<Newest>,
    held: Vec<Held>,
    /// Of the running segment.
    highest: Index,
    /// The first record of the segment before the first that is there; 0 if there was none.
    previous: u64,
}

impl Replay {
    fn beginning_at(sequence: u64) -> Replay {
        Replay {
            outline: Outline::default(),
            hard_state: HardState::default(),
            entries: Vec::new(),
            absent: Index(0),
            sequence,
            newest: Vec::new(),
            held: Vec::new(),
            highest: Index(0),
            previous: 0,
        }
    }

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
            let applied = match body {
                _ if newest.is_none() => self.base(body),
                [] => {
                    sealed = true;
                    Ok(())
                }
                body => self.apply(body),
            };
            applied.map_err(|violation| StorageError::Inconsistent {
                path: segment.path.clone(),
                offset: offset as u64,
                violation,
            })?;
            let end = offset + FRAME_HEADER_BYTES + body.len();
            newest = Some(offset..end);
            offset = end;
            self.sequence += 1;
        }
        let Some(newest) = newest else {
            let expected = format!("record {}, which came with the segment", self.sequence);
            return Err(StorageError::corrupt(&segment.path, offset as u64, expected));
        };
        if newest.start > HEADER_BYTES {
            self.newest.clear();
        }
        self.remember(segment, newest);
        self.end(segment, offset, sealed)
    }

    /// The first segment's says what went before; every other's must agree with what was read.
    fn base(&mut self, body: &[u8]) -> Result<(), Violation> {
        let base = record::decode_base(body)?;
        match self.held.last() {
            Some(previous) => {
                let read = Base {
                    previous: previous.first,
                    hard_state: self.hard_state,
                    outline: self.outline.clone(),
                };
                if base == read { Ok(()) } else { Err(Violation::OtherBase) }
            }
            None => {
                self.absent = base.outline.last.index;
                (self.previous, self.hard_state, self.outline) =
                    (base.previous, base.hard_state, base.outline);
                Ok(())
            }
        }
    }

    fn apply(&mut self, body: &[u8]) -> Result<(), Violation> {
        let Write { truncate_after, begin, entries, hard_state } =
            record::decode(body).and_then(|write| {
                self.outline.apply(&write)?;
                Ok(write)
            })?;
        if let Some(after) = truncate_after {
            self.entries.truncate(after.0.saturating_sub(self.absent.0) as usize);
            self.absent = self.absent.min(after);
        }
        if let Some(begin) = begin {
            let after = begin.position.index;
            let gone = if begin.clear { usize::MAX } else { after.0.saturating_sub(self.absent.0) as usize };
            self.entries.drain(..gone.min(self.entries.len()));
            self.absent = if begin.clear { after } else { self.absent.max(after) };
        }
        self.highest = self.highest.max(entries.last().map_or(Index(0), |entry| entry.index));
        self.entries.extend(entries);
        self.hard_state = hard_state.unwrap_or(self.hard_state);
        Ok(())
    }

    fn remember(&mut self, segment: &Segment, range: Range<usize>) {
        let (path, offset) = (segment.path.clone(), range.start as u64);
        self.newest.push(Newest { path, offset, frame: segment.bytes[range].to_vec() });
    }

    /// Judges what stands behind the last whole record.
    fn end(&self, segment: &Segment, offset: usize, sealed: bool) -> Result<End, StorageError> {
        let Segment { path, header, bytes } = segment;
        let behind = &bytes[offset..];
        let corrupt = |expected| Err(StorageError::corrupt(path, offset as u64, expected));
        // In a recycled file stands what another segment left, and a torn record is known only by its header.
        let begun = || frame::begun(behind, header.salt, self.sequence).unwrap_or(0).min(behind.len() as u64);
        let torn = if header.recycled { begun() as usize } else { used_bytes(behind) };
        if sealed {
            return if torn == 0 { Ok(End::Sealed) } else { corrupt("zeros after the seal".to_owned()) };
        }
        // A record is begun only when the one before it is durable, so the first header that is whole after
        // a damaged record proves that the disk has lost what it once held.
        let end = if header.recycled { behind.len() } else { behind.len().min(torn + FRAME_HEADER_BYTES) };
        let behind = behind[..end].get(1..).unwrap_or_default();
        if let Some(later) = frame::find_header(behind, header.salt, self.sequence) {
            let later = offset + 1 + later;
            return corrupt(format!("record {}, because a later one begins at byte {later}", self.sequence));
        }
        Ok(End::Open { offset: offset as u64, torn: torn as u64 })
    }

    fn finish(
        self,
        dir: &Path,
        tail: Tail,
        torn: Option<Torn>,
        unbegun: Option<PathBuf>,
    ) -> Result<Recovery, StorageError> {
        let begin = self.outline.begin;
        if self.absent > begin.index {
            // Its entries were still needed.
            let path = dir.join(segment::file_name(self.previous));
            return Err(StorageError::Missing { path, sequence: self.previous });
        }
        let Replay { outline, hard_state, entries, sequence, newest, held, .. } = self;
        let recovered = Recovered { hard_state, begin, entries, torn, ..Recovered::default() };
        Ok(Recovery { recovered, outline, sequence, tail, newest, unbegun, segments: held })
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
pub(super) fn owner(dir: &Path) -> Result<Identity, StorageError> {
    folder::identity(dir)?.ok_or_else(|| StorageError::NotADataFolder {
        path: folder::identity_path(dir),
        expected: "this file, which names the node",
    })
}
