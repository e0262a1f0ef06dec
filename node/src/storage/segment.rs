//! A segment: one preallocated file of the log, `log-<number of its first record>.wal`.
//!
//! In: a folder and a header, or a file. Out: the file ready for records, or its bytes with a header that was
//! checked. Never: a file that is read before its size is known to be possible.
//!
//! ```text
//! 0   8 bytes  "mkraftWL"
//! 8   u32      format
//! 12  u32      1 if the file was another segment before, whose bytes may stand behind the frames
//! 16  u64      node
//! 24  u64      number of the first record
//! 32  u64      salt
//! 60  u32      CRC32C of the 60 bytes above; what is not named is zero
//! 64  frames, the first of them the base; then zeros to the end of the file
//! ```
//! A segment comes under its name with header and base at once, so neither can be torn.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crc32c::crc32c;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::descriptors::when_there_is_one;
use super::error::StorageError;
use super::folder::{self, FORMAT};
use super::frame::{self, u32_at, u64_at};
use super::record::{self, Base};
use crate::raft::NodeId;

pub(super) const HEADER_BYTES: usize = 64;

/// No segment is larger, so that a file of any size can be refused before it is read.
pub(super) const SEGMENT_BYTES_MAX: u64 = 1 << 30;

const MAGIC: &[u8; 8] = b"mkraftWL";
const CHECKSUM_AT: usize = 60;
const ZEROS: [u8; 4096] = [0; 4096];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub node: NodeId,
    /// Number of the first record.
    pub first: u64,
    /// Drawn for each segment: what another one, or a client's value, holds is no record here.
    pub salt: u64,
    /// The file was another segment before.
    pub recycled: bool,
}

/// A segment as read: its header was right.
pub(super) struct Segment {
    pub path: PathBuf,
    pub header: Header,
    /// The whole file.
    pub bytes: Vec<u8>,
}

pub(super) fn file_name(first: u64) -> String {
    format!("log-{first:016x}.wal")
}

/// All segments of a folder in the order of their records, each with the first record its name states.
pub(super) fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, StorageError> {
    let failed = || StorageError::io("list", dir);
    let mut segments = Vec::new();
    for entry in when_there_is_one(|| fs::read_dir(dir)).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some(number) = name.strip_prefix("log-").and_then(|name| name.strip_suffix(".wal")) else {
            continue;
        };
        let first = u64::from_str_radix(number, 16).ok().filter(|first| file_name(*first) == name);
        let expected = "a name of `log-`, 16 hex digits and `.wal`";
        segments
            .push((first.ok_or_else(|| StorageError::corrupt(&entry.path(), 0, expected))?, entry.path()));
    }
    segments.sort();
    Ok(segments)
}

/// A segment that is ready for its second record.
pub(super) struct Created {
    pub file: File,
    pub path: PathBuf,
    pub salt: u64,
    /// Where the base ends.
    pub offset: u64,
}

/// A new segment of `bytes` bytes, on the disk under its name when this returns. A `spare` of that size is made
/// one: to write over blocks that were written before takes half the time of a first write.
pub(super) fn create(
    dir: &Path,
    node: NodeId,
    first: u64,
    bytes: u64,
    base: &Base,
    spare: Option<&Path>,
) -> Result<Created, StorageError> {
    let header = Header { node, first, salt: RandomState::new().hash_one(first), recycled: spare.is_some() };
    let mut begin = Vec::new();
    frame::build(&mut begin, header.salt, first, |body| record::encode_base(base, body));
    begin.splice(0..0, header.encode());
    let name = file_name(first);
    let (file, path) = match spare {
        Some(spare) => folder::rename(dir, spare, &name, |file| file.write_all_at(&begin, 0))?,
        None => folder::place(dir, &name, |file| {
            preallocate(file, bytes)?;
            file.write_all_at(&begin, 0)
        })?,
    };
    Ok(Created { file, path, salt: header.salt, offset: begin.len() as u64 })
}

/// All room that the segment will ever need: whether there is any must not show in the middle of a record.
fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    #[cfg(test)]
    room::take(bytes)?;
    match fallocate(file, FallocateFlags::empty(), 0, bytes as i64) {
        // Not every file system can; then blocks are found by writing them.
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => write_zeros(file, 0, bytes),
        result => result.map_err(io::Error::from),
    }
}

pub(super) fn write_zeros(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let end = offset + bytes;
    for at in (offset..end).step_by(ZEROS.len()) {
        let length = (end - at).min(ZEROS.len() as u64) as usize;
        file.write_all_at(&ZEROS[..length], at)?;
    }
    Ok(())
}

/// How much room a test's disk has for new segments.
#[cfg(test)]
pub(super) mod room {
    use std::cell::Cell;
    use std::io;

    use nix::errno::Errno;

    thread_local! { static LEFT: Cell<u64> = const { Cell::new(u64::MAX) }; }

    pub fn set(bytes: u64) {
        LEFT.set(bytes);
    }

    pub fn take(bytes: u64) -> io::Result<()> {
        let left = LEFT.get().checked_sub(bytes).ok_or(Errno::ENOSPC)?;
        LEFT.set(left);
        Ok(())
    }
}

impl Segment {
    /// Reads the segment that should begin with record `first` of `node`.
    pub fn load(path: &Path, node: NodeId, first: u64) -> Result<Segment, StorageError> {
        let metadata = fs::metadata(path).map_err(StorageError::io("read", path))?;
        if !metadata.is_file() || metadata.len() > SEGMENT_BYTES_MAX {
            let expected = format!("a file of at most {SEGMENT_BYTES_MAX} bytes");
            return Err(StorageError::corrupt(path, 0, expected));
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        let file = when_there_is_one(|| File::open(path)).map_err(StorageError::io("open", path))?;
        file.take(metadata.len()).read_to_end(&mut bytes).map_err(StorageError::io("read", path))?;
        let header = Header::decode(&bytes, path)?;
        if header.node != node {
            return Err(StorageError::WrongNode {
                path: path.to_owned(),
                found: header.node,
                expected: node,
            });
        }
        if header.first != first {
            let expected = format!("first record {first}, as the name says, and not {}", header.first);
            return Err(StorageError::corrupt(path, 24, expected));
        }
        Ok(Segment { path: path.to_owned(), header, bytes })
    }

    /// True when no record was ever begun here but the base.
    pub fn is_blank(&self) -> bool {
        let Header { first, salt, .. } = self.header;
        let frames = &self.bytes[HEADER_BYTES..];
        let Some(base) = frame::body(frames, salt, first).filter(|body| record::is_base(body)) else {
            return false;
        };
        let behind = &frames[frame::HEADER_BYTES + base.len()..];
        if self.header.recycled {
            frame::find_header(behind, salt, first + 1).is_none()
        } else {
            used_bytes(behind) == 0
        }
    }
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..16].copy_from_slice(&u32::from(self.recycled).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.node.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.salt.to_le_bytes());
        let checksum = crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Header, StorageError> {
        if !bytes.starts_with(MAGIC) {
            return Err(StorageError::corrupt(path, 0, "a segment's header, which begins with `mkraftWL`"));
        }
        let field = |offset| {
            u64_at(bytes, offset)
                .ok_or_else(|| StorageError::corrupt(path, offset as u64, "a segment's header of 64 bytes"))
        };
        let recycled = u32_at(bytes, 12) == Some(1);
        let header = Header { node: NodeId(field(16)?), first: field(24)?, salt: field(32)?, recycled };
        if u32_at(bytes, CHECKSUM_AT) != Some(crc32c(&bytes[..CHECKSUM_AT.min(bytes.len())])) {
            return Err(StorageError::corrupt(
                path,
                CHECKSUM_AT as u64,
                "the checksum of the segment's header",
            ));
        }
        match u32_at(bytes, 8) {
            Some(FORMAT) => Ok(header),
            found => Err(StorageError::UnknownFormat {
                path: path.to_owned(),
                found: found.unwrap_or_default().to_string(),
                expected: FORMAT,
            }),
        }
    }
}

/// Bytes up to the last that is not zero.
pub(super) fn used_bytes(bytes: &[u8]) -> usize {
    // By chunks, because most of a preallocated segment is zeros.
    let mut end = bytes.len();
    while end > 0 {
        let chunk = &bytes[end - end.min(ZEROS.len())..end];
        if chunk != &ZEROS[..chunk.len()] {
            break;
        }
        end -= chunk.len();
    }
    bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_bytes_end_with_the_last_that_is_not_zero() {
        for length in [0, 1, 4095, 4096, 4097, 9000] {
            assert_eq!(used_bytes(&vec![0; length]), 0);
            for last in [0, 1, 4095, 4096, 8999].into_iter().filter(|last| *last < length) {
                let mut bytes = vec![0; length];
                bytes[last] = 1;
                assert_eq!(used_bytes(&bytes), last + 1, "of {length}");
            }
        }
    }
}
