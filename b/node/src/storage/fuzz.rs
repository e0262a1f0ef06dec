//! The files of a data folder as a fuzzer sees them; see `crate::fuzz`.
//!
//! In: any bytes. Out: nothing, or a panic. Never: a file that stays.

use std::io::{Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crc32c::crc32c;
use nix::fcntl::OFlag;

use super::frame::u32_at;
use super::snapshot::{self, HEADER_BYTES, Reader};
use super::{Outline, StorageError, record};
use crate::raft::{Begin, Configuration, Entry, EntryKind, HardState, Index, NodeId, Position, Term, Write};

const NODE: NodeId = NodeId(1);
const POSITION: Position = Position { term: Term(3), index: Index(9) };

/// What is read is written as the same bytes.
pub fn record(bytes: &[u8]) {
    let mut again = Vec::new();
    if let Ok(write) = record::decode(bytes) {
        assert_eq!(record::encoded_bytes(&write), bytes.len() as u64, "a write's length was not foreseen");
        record::encode(&write, &mut again);
        assert_eq!(again, bytes, "a write changes when it is read and written");
        // Whether it continues a log is judged, and not taken for granted.
        let _ = Outline::default().apply(&write);
    }
    again.clear();
    if let Ok(base) = record::decode_base(bytes) {
        record::encode_base(&base, &mut again);
        assert_eq!(again, bytes, "a base changes when it is read and written");
    }
}

pub fn record_seeds() -> Vec<Vec<u8>> {
    let entry = |index, kind, payload: &[u8]| {
        let payload = payload.into();
        Entry { index: Index(index), term: Term(3), kind, payload }
    };
    let hard_state = HardState { term: Term(3), vote: Some(NodeId(2)), commit: Index(4) };
    let write = Write {
        truncate_after: Some(Index(6)),
        begin: Some(Begin { position: POSITION, clear: true }),
        entries: vec![entry(10, EntryKind::Noop, b""), entry(11, EntryKind::Command, b"payload")],
        hard_state: Some(hard_state),
    };
    let outline = Outline { begin: Position::default(), last: POSITION, runs: vec![POSITION] };
    let base = record::Base { previous: 1, hard_state, outline };
    let (mut one, mut other) = (Vec::new(), Vec::new());
    record::encode(&write, &mut one);
    record::encode_base(&base, &mut other);
    vec![one, other]
}

/// Read chunk by chunk and as one, both or neither; and what its head says is written as the same bytes.
pub fn snapshot(bytes: &[u8]) {
    let Ok(reader) = open(bytes) else { return };
    let head = snapshot::encode_head(NODE, POSITION, &reader.snapshot().configuration);
    assert!(bytes.starts_with(&head), "the head changes when it is read and written");
    let chunks: Result<Vec<_>, _> =
        (0..snapshot::chunks(reader.snapshot().bytes)).map(|number| reader.chunk(number)).collect();
    let mut whole = Vec::new();
    let mut reader = reader;
    if reader.read_to_end(&mut whole).is_ok() {
        assert_eq!(chunks.ok().map(|chunks| chunks.concat()), Some(whole), "its chunks are not its state");
    }
}

/// A file without a name, gone with its last user.
fn open(bytes: &[u8]) -> Result<Reader, StorageError> {
    let dir = std::env::temp_dir();
    let mut options = std::fs::OpenOptions::new();
    let opened = options.read(true).write(true).custom_flags(OFlag::O_TMPFILE.bits()).open(&dir);
    let written = opened.and_then(|mut file| file.write_all(bytes).map(|()| file));
    Reader::of(written.map_err(StorageError::io("write", &dir))?, Path::new("fuzz"), NODE, POSITION)
}

pub fn snapshot_seeds() -> Vec<Vec<u8>> {
    let voters = [NODE, NodeId(2), NodeId(3)].into();
    let configuration = Configuration { voters, ..Configuration::default() };
    [&b""[..], b"a small state"]
        .map(|state| snapshot::encode_whole(NODE, POSITION, &configuration, state))
        .into()
}

/// The checksums of the head, of the configuration, and of the end.
pub fn mend_snapshot(bytes: &mut [u8]) {
    let length = u32_at(bytes, 12).unwrap_or_default() as usize;
    if let Some(tail) = HEADER_BYTES.checked_add(length).and_then(|end| bytes.get(HEADER_BYTES..end)) {
        let checksum = crc32c(tail);
        bytes[56..60].copy_from_slice(&checksum.to_le_bytes());
    }
    for (covered, at) in [
        (0..60, 60),
        (bytes.len().saturating_sub(32)..bytes.len().saturating_sub(4), bytes.len().saturating_sub(4)),
    ] {
        if bytes.len() >= at + 4 {
            let checksum = crc32c(&bytes[covered]);
            bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
        }
    }
}
