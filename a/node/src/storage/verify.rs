//! Reading all of a stopped node's folder, and naming every damage in it.
//!
//! In: a data folder. Out: what it holds, and each damage by file and offset, also behind the first one.
//! Never: a change to the folder, or a judgement that boot would not share: what boot refuses is damage here.

use std::path::{Path, PathBuf};

use super::error::StorageError;
use super::folder;
use super::frame::{self, HEADER_BYTES as FRAME_HEADER_BYTES};
use super::known::Known;
use super::recovery;
use super::segment::{self, HEADER_BYTES, Segment, used_bytes};
use super::snapshot::{self, Reader};
use crate::raft::{NodeId, Snapshot};

/// What was read, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Report {
    pub node: Option<NodeId>,
    pub segments: u64,
    pub records: u64,
    pub bytes: u64,
    pub snapshots: Vec<Snapshot>,
    pub damages: Vec<Damage>,
    /// What a crash explains and the next boot repairs.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    /// 0 where a whole file is missing.
    pub offset: u64,
    pub what: String,
}

impl Report {
    pub fn is_sound(&self) -> bool {
        self.damages.is_empty()
    }

    fn damage(&mut self, path: &Path, offset: u64, what: impl Into<String>) {
        let damage = Damage { path: path.to_owned(), offset, what: what.into() };
        let known = self.damages.iter().any(|known| (&known.path, known.offset) == (&damage.path, offset));
        if !known {
            self.damages.push(damage);
        }
    }

    /// What says no more than that something could not be read is an error of the caller's.
    fn error(&mut self, error: StorageError) -> Result<(), StorageError> {
        match error {
            StorageError::Corrupt { path, offset, expected } => {
                self.damage(&path, offset, format!("expected {expected}"));
            }
            StorageError::Inconsistent { path, offset, violation } => {
                self.damage(&path, offset, format!("the record is whole, but cannot be: {violation}"));
            }
            StorageError::Missing { ref path, .. }
            | StorageError::NoSnapshot { ref path, .. }
            | StorageError::WrongNode { ref path, .. }
            | StorageError::UnknownFormat { ref path, .. } => {
                let (path, what) = (path.clone(), error.to_string());
                self.damage(&path, 0, what);
            }
            other => return Err(other),
        }
        Ok(())
    }
}

/// Reads everything. An error is of the reading: no data folder, one in use, or a disk that gives nothing back.
pub fn verify(dir: &Path) -> Result<Report, StorageError> {
    let node = recovery::owner(dir)?.node;
    let _lock = folder::lock_shared(dir)?;
    let mut report = Report { node: Some(node), ..Report::default() };
    let mut expected = None;
    let segments = segment::list(dir)?;
    for (position, (first, path)) in segments.iter().enumerate() {
        report.segments += 1;
        if let Some(sequence) = expected.filter(|sequence| sequence != first) {
            let missing = dir.join(segment::file_name(sequence));
            report.damage(&missing, 0, format!("missing: {} begins with record {first}", path.display()));
        }
        let newest = position + 1 == segments.len();
        let unbegun = || match &segments[position + 1..] {
            [(first, path)] => Segment::load(path, node, *first).is_ok_and(|segment| segment.is_blank()),
            _ => false,
        };
        expected = match Segment::load(path, node, *first) {
            Ok(segment) => report.segment(&segment, newest || unbegun()),
            Err(error) => {
                report.error(error)?;
                None
            }
        };
    }
    if let Err(error) = Known::open(dir) {
        report.error(error)?;
    }
    for (position, path) in snapshot::list(dir)? {
        match Reader::open(&path, node, position) {
            Ok(reader) => report.snapshot(reader)?,
            Err(error) => report.error(error)?,
        }
    }
    match recovery::recover(dir, node) {
        Ok(recovery) => {
            let torn = recovery.recovered.torn;
            report.notes.extend(torn.map(|torn| {
                let (path, offset) = (torn.path.display(), torn.offset);
                format!("{path}: {} bytes after byte {offset} are a torn tail, which a boot cuts", torn.bytes)
            }));
        }
        Err(error) => report.error(error)?,
    }
    Ok(report)
}

impl Report {
    /// Walks over all records, past damage too. Returns the number of the next segment's first record, if known.
    fn segment(&mut self, segment: &Segment, may_be_open: bool) -> Option<u64> {
        let Segment { path, header, bytes } = segment;
        let (mut offset, mut sequence) = (HEADER_BYTES, header.first);
        self.bytes += bytes.len() as u64;
        loop {
            let behind = &bytes[offset..];
            if let Some(body) = frame::body(behind, header.salt, sequence) {
                (offset, sequence) = (offset + FRAME_HEADER_BYTES + body.len(), sequence + 1);
                self.records += 1;
                if !body.is_empty() {
                    continue;
                }
                if !header.recycled && used_bytes(&bytes[offset..]) > 0 {
                    self.damage(path, offset as u64, "expected zeros after the seal");
                }
                return Some(sequence);
            }
            let later = frame::find_header(behind.get(1..).unwrap_or_default(), header.salt, sequence);
            if let Some(later) = later {
                self.damage(path, offset as u64, format!("expected record {sequence}"));
                // The same one, when what is damaged came before its header.
                offset += 1 + later;
                sequence = frame::sequence(&bytes[offset..], header.salt).unwrap_or(sequence);
                if frame::body(&bytes[offset..], header.salt, sequence).is_none() {
                    // Known to be begun, and not whole either: look behind it.
                    self.damage(path, offset as u64, format!("expected record {sequence}"));
                    offset += 1;
                }
                continue;
            }
            if offset == HEADER_BYTES || !may_be_open {
                self.damage(path, offset as u64, format!("expected record {sequence}"));
            }
            return None;
        }
    }

    fn snapshot(&mut self, reader: Reader) -> Result<(), StorageError> {
        let damages = reader.damages();
        self.snapshots.push(reader.snapshot().clone());
        self.bytes += reader.snapshot().bytes;
        if damages.is_empty() {
            return reader.check().map(drop).or_else(|error| self.error(error));
        }
        damages.into_iter().try_for_each(|error| self.error(error))
    }
}
