//! Snapshots: one file each, `snapshot-<index>-<term>.snap`, which stands in for the log up to there (§7).
//!
//! In: the bytes of a state, as they are made or received. Out: a file under its name that was read back and found
//! whole; and its bytes again, each chunk checked before it is handed on. Never: a file under its name that a
//! crash could leave half written, or bytes of a damaged one.
//!
//! ```text
//! 0   8 bytes  "mkraftSN"
//! 8   u32      format
//! 12  u32      length of the configuration
//! 16  u64      node
//! 24  u64      index of the last entry it stands for
//! 32  u64      term of that entry
//! 56  u32      CRC32C of the configuration
//! 60  u32      CRC32C of the 60 bytes above; what is not named is zero
//! 64  the configuration: voters, outgoing, learners, each  u32 how many;  u64 for each
//!     chunks of 256 KiB of the state, the last one shorter, at least one; each
//!     u32      CRC32C of index, term, number of the chunk and its bytes
//!              its bytes
//!     and at the end of the file
//!     8 bytes  "mkraftSE"
//!     u64      length of the state
//!     u64      xxh3-64 of the state
//!     u32      CRC32C of the state
//!     u32      CRC32C of the 28 bytes above
//! ```
//! All chunks but the last are of one length, so that any of them is found without those before it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crc32c::{crc32c, crc32c_append};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use xxhash_rust::xxh3::Xxh3;

use super::descriptors::when_there_is_one;
use super::error::StorageError;
use super::folder::{self, FORMAT};
use super::frame::{u32_at, u64_at};
use crate::raft::{Configuration, Index, NodeId, Position, Snapshot, Term};

/// Of the state, in one chunk: what is checked, kept in memory and sent as one.
pub const CHUNK_BYTES: usize = 256 << 10;

const MAGIC: &[u8; 8] = b"mkraftSN";
const END_MAGIC: &[u8; 8] = b"mkraftSE";
pub(super) const HEADER_BYTES: usize = 64;
const TRAILER_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 4;
/// A configuration of thousands of nodes is none.
const CONFIGURATION_BYTES_MAX: u32 = 1 << 20;

/// Kinds of snapshots under way, of each of which there is one at a time.
const TAKEN: &str = "taken";
const RECEIVED: &str = "received";

fn unfinished(dir: &Path, kind: &str) -> PathBuf {
    dir.join(format!("{kind}.snap.tmp"))
}

/// The way to a node's snapshots, for threads beside the one that owns its storage.
#[derive(Debug, Clone)]
pub struct Snapshots {
    dir: PathBuf,
    node: NodeId,
}

impl Snapshots {
    pub(super) fn new(dir: &Path, node: NodeId) -> Snapshots {
        Snapshots { dir: dir.to_owned(), node }
    }

    /// Takes one: `fill` writes the state. It stands under its name, proven, when this returns; and nothing of it is left
    /// when there is no room for it.
    pub fn take(
        &self,
        position: Position,
        configuration: Configuration,
        fill: impl FnOnce(&mut Writer) -> io::Result<()>,
    ) -> Result<Snapshot, StorageError> {
        let mut writer = Writer::create(&self.dir, TAKEN, self.node, position, configuration)?;
        let path = writer.path.clone();
        let filled = fill(&mut writer).map_err(StorageError::new_file("write", &path));
        filled.and_then(|()| writer.finish()).map_err(|error| folder::given_up(error, &path))
    }

    /// Begins one that comes from elsewhere; of these, there is one at a time.
    pub fn receive(&self, snapshot: &Snapshot) -> Result<Writer, StorageError> {
        let configuration = snapshot.configuration.clone();
        Writer::create(&self.dir, RECEIVED, self.node, snapshot.position, configuration)
    }

    /// What there is of one that was being received goes, and its room with it.
    pub fn give_up_receiving(&self) -> Result<(), StorageError> {
        let path = unfinished(&self.dir, RECEIVED);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    pub fn open(&self, position: Position) -> Result<Reader, StorageError> {
        Reader::open(&self.dir.join(file_name(position)), self.node, position)
    }
}

/// A snapshot under way. It counts for nothing until [`Writer::finish`] has placed it.
pub struct Writer {
    dir: PathBuf,
    node: NodeId,
    file: File,
    path: PathBuf,
    snapshot: Snapshot,
    /// Of the running chunk.
    buffer: Vec<u8>,
    number: u64,
    whole: u32,
    digest: Xxh3,
}

impl Writer {
    fn create(
        dir: &Path,
        kind: &str,
        node: NodeId,
        position: Position,
        configuration: Configuration,
    ) -> Result<Writer, StorageError> {
        let path = unfinished(dir, kind);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let opened = when_there_is_one(|| options.open(&path));
        let mut file = opened.map_err(StorageError::new_file("create", &path))?;
        let head = encode_head(node, position, &configuration);
        let written = file.write_all(&head);
        written.map_err(|error| folder::given_up(StorageError::new_file("write", &path)(error), &path))?;
        let snapshot = Snapshot { position, configuration, bytes: 0, digest: 0 };
        let dir = dir.to_owned();
        let digest = Xxh3::new();
        Ok(Writer { dir, node, file, path, snapshot, buffer: Vec::new(), number: 0, whole: 0, digest })
    }

    /// The state so far, when it is complete: checked against what the sender says of it, if it has one.
    pub fn expect(&self, expected: &Snapshot) -> Result<(), StorageError> {
        let (bytes, digest) = (self.snapshot.bytes, self.digest.digest());
        if (bytes, digest) == (expected.bytes, expected.digest) {
            return Ok(());
        }
        let told = |bytes: u64, digest: u64| format!("{bytes} bytes and digest {digest:016x}");
        let expected = told(expected.bytes, expected.digest);
        Err(StorageError::OtherState { path: self.path.clone(), found: told(bytes, digest), expected })
    }

    /// Makes it durable, reads it back, and only then gives it its name.
    pub fn finish(mut self) -> Result<Snapshot, StorageError> {
        let failed = |action| StorageError::new_file(action, &self.path);
        self.snapshot.digest = self.digest.digest();
        let trailer = encode_trailer(&self.snapshot, self.whole);
        if !self.buffer.is_empty() || self.number == 0 {
            let chunk = std::mem::take(&mut self.buffer);
            write_chunk(&mut self.file, self.snapshot.position, self.number, &chunk)
                .map_err(failed("write"))?;
        }
        self.file.write_all(&trailer).map_err(failed("write"))?;
        self.file.sync_all().map_err(StorageError::sync(&self.path))?;
        // From the disk and not from memory, as far as the kernel can be asked.
        let _ = posix_fadvise(self.file.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        let position = self.snapshot.position;
        let proven = Reader::open(&self.path, self.node, position).and_then(Reader::check)?;
        assert_eq!(proven, self.snapshot, "{} reads back as another snapshot", self.path.display());
        let path = self.dir.join(file_name(position));
        fs::rename(&self.path, &path).map_err(StorageError::new_file("rename a snapshot to", &path))?;
        folder::sync(&self.dir)?;
        Ok(proven)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = &bytes[..bytes.len().min(CHUNK_BYTES - self.buffer.len())];
        self.buffer.extend_from_slice(taken);
        self.snapshot.bytes += taken.len() as u64;
        self.whole = crc32c_append(self.whole, taken);
        self.digest.update(taken);
        if self.buffer.len() == CHUNK_BYTES {
            write_chunk(&mut self.file, self.snapshot.position, self.number, &self.buffer)?;
            self.buffer.clear();
            self.number += 1;
        }
        Ok(taken.len())
    }

    /// What is durable is decided by [`Writer::finish`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_chunk(file: &mut File, position: Position, number: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all(&chunk_checksum(position, number, bytes).to_le_bytes())?;
    file.write_all(bytes)
}

/// A snapshot's file whose header and trailer were right.
pub struct Reader {
    file: File,
    path: PathBuf,
    snapshot: Snapshot,
    /// Where the chunks begin.
    begin: u64,
    expected_whole: u32,
    /// The running chunk, and how much of it was handed out.
    buffer: Vec<u8>,
    given: usize,
    number: u64,
    whole: u32,
    digest: Xxh3,
}

impl Reader {
    pub(super) fn open(path: &Path, node: NodeId, position: Position) -> Result<Reader, StorageError> {
        let file = when_there_is_one(|| File::open(path)).map_err(StorageError::io("open", path))?;
        Reader::of(file, path, node, position)
    }

    /// Of a file that is open; `path` is what errors call it.
    pub(super) fn of(
        file: File,
        path: &Path,
        node: NodeId,
        position: Position,
    ) -> Result<Reader, StorageError> {
        let length = file.metadata().map_err(StorageError::io("read", path))?.len();
        let (configuration, begin) = read_head(&file, path, length, node, position)?;
        let trailer_at = length - TRAILER_BYTES as u64;
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact_at(&mut trailer, trailer_at).map_err(StorageError::io("read", path))?;
        let fields = u64_at(&trailer, 8).zip(u64_at(&trailer, 16)).zip(u32_at(&trailer, 24));
        let right = trailer.starts_with(END_MAGIC) && u32_at(&trailer, 28) == Some(crc32c(&trailer[..28]));
        let Some(((bytes, digest), whole)) = fields.filter(|_| right) else {
            return Err(StorageError::corrupt(path, trailer_at, "the end of a snapshot, with its checksum"));
        };
        let snapshot = Snapshot { position, configuration, bytes, digest };
        let frames = chunks(bytes).saturating_mul(CHECKSUM_BYTES as u64);
        let expected = begin.saturating_add(bytes).saturating_add(frames);
        if expected != trailer_at {
            let expected = format!("the end at byte {expected}, after a state of {bytes} bytes");
            return Err(StorageError::corrupt(path, trailer_at, expected));
        }
        Ok(Reader {
            file,
            path: path.to_owned(),
            snapshot,
            begin,
            expected_whole: whole,
            buffer: Vec::new(),
            given: 0,
            number: 0,
            whole: 0,
            digest: Xxh3::new(),
        })
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// One of [`chunks`], whichever were read before.
    pub fn chunk(&self, number: u64) -> Result<Vec<u8>, StorageError> {
        let count = chunks(self.snapshot.bytes);
        assert!(number < count, "{} has {count} chunks and no chunk {number}", self.path.display());
        let before = number * CHUNK_BYTES as u64;
        let at = self.begin + before + number * CHECKSUM_BYTES as u64;
        let length = (self.snapshot.bytes - before).min(CHUNK_BYTES as u64) as usize;
        let mut bytes = vec![0; CHECKSUM_BYTES + length];
        self.file.read_exact_at(&mut bytes, at).map_err(StorageError::io("read", &self.path))?;
        let checksum = u32_at(&bytes, 0);
        bytes.drain(..CHECKSUM_BYTES);
        if checksum != Some(chunk_checksum(self.snapshot.position, number, &bytes)) {
            let expected = format!("chunk {number} of {count}, with its checksum");
            return Err(StorageError::corrupt(&self.path, at, expected));
        }
        Ok(bytes)
    }

    /// Reads all of it.
    pub fn check(mut self) -> Result<Snapshot, StorageError> {
        while self.next_chunk()? {}
        Ok(self.snapshot)
    }

    /// Every damage, and not only the first.
    pub(super) fn damages(&self) -> Vec<StorageError> {
        (0..chunks(self.snapshot.bytes)).filter_map(|number| self.chunk(number).err()).collect()
    }

    /// False at the end, where the whole is judged.
    fn next_chunk(&mut self) -> Result<bool, StorageError> {
        if self.number == chunks(self.snapshot.bytes) {
            if (self.whole, self.digest.digest()) != (self.expected_whole, self.snapshot.digest) {
                let expected = "chunks that add up to the checksum and the digest at its end";
                return Err(StorageError::corrupt(&self.path, self.begin, expected));
            }
            return Ok(false);
        }
        self.buffer = self.chunk(self.number)?;
        self.given = 0;
        self.number += 1;
        self.whole = crc32c_append(self.whole, &self.buffer);
        self.digest.update(&self.buffer);
        Ok(true)
    }
}

/// The state, in order; an error that is not the system's own is a [`StorageError`] within.
impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.buffer.len() {
            if !self.next_chunk().map_err(io::Error::other)? {
                return Ok(0);
            }
        }
        let rest = &self.buffer[self.given..];
        let length = rest.len().min(out.len());
        out[..length].copy_from_slice(&rest[..length]);
        self.given += length;
        Ok(length)
    }
}

/// Chunks of a state of this length.
pub fn chunks(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK_BYTES as u64).max(1)
}

pub(super) fn file_name(Position { term, index }: Position) -> String {
    format!("snapshot-{:016x}-{:016x}.snap", index.0, term.0)
}

/// All snapshots of a folder by their names, newest first.
pub(super) fn list(dir: &Path) -> Result<Vec<(Position, PathBuf)>, StorageError> {
    let failed = || StorageError::io("list", dir);
    let mut found = Vec::new();
    for entry in when_there_is_one(|| fs::read_dir(dir)).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix("snapshot-").and_then(|name| name.strip_suffix(".snap")) else {
            continue;
        };
        let number = |hex| u64::from_str_radix(hex, 16).ok();
        let position = rest.split_once('-').and_then(|(index, term)| {
            Some(Position { index: Index(number(index)?), term: Term(number(term)?) })
        });
        let expected = "a name of `snapshot-`, 16 hex digits, `-`, 16 hex digits and `.snap`";
        match position.filter(|position| file_name(*position) == name) {
            Some(position) => found.push((position, entry.path())),
            None => return Err(StorageError::corrupt(&entry.path(), 0, expected)),
        }
    }
    found.sort_by_key(|(position, _)| std::cmp::Reverse((position.index, position.term)));
    Ok(found)
}

/// Takes the name away at once, and the bytes in a thread of its own.
pub(super) fn remove_aside(path: PathBuf) -> Result<(), StorageError> {
    // What is open lives on without a name.
    let file = when_there_is_one(|| File::open(&path)).map_err(StorageError::io("open", &path))?;
    fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
    std::thread::spawn(move || drop(file));
    Ok(())
}

fn chunk_checksum(position: Position, number: u64, bytes: &[u8]) -> u32 {
    let mut place = [0; 24];
    place[..8].copy_from_slice(&position.index.0.to_le_bytes());
    place[8..16].copy_from_slice(&position.term.0.to_le_bytes());
    place[16..].copy_from_slice(&number.to_le_bytes());
    crc32c_append(crc32c(&place), bytes)
}

pub(super) fn encode_head(node: NodeId, position: Position, configuration: &Configuration) -> Vec<u8> {
    let tail = configuration.encode();
    let mut head = vec![0; HEADER_BYTES];
    head[0..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    head[12..16].copy_from_slice(&(tail.len() as u32).to_le_bytes());
    head[16..24].copy_from_slice(&node.0.to_le_bytes());
    head[24..32].copy_from_slice(&position.index.0.to_le_bytes());
    head[32..40].copy_from_slice(&position.term.0.to_le_bytes());
    head[56..60].copy_from_slice(&crc32c(&tail).to_le_bytes());
    let checksum = crc32c(&head[..60]);
    head[60..64].copy_from_slice(&checksum.to_le_bytes());
    head.extend_from_slice(&tail);
    head
}

fn encode_trailer(snapshot: &Snapshot, whole: u32) -> Vec<u8> {
    let mut trailer = Vec::with_capacity(TRAILER_BYTES);
    trailer.extend(END_MAGIC);
    trailer.extend(snapshot.bytes.to_le_bytes());
    trailer.extend(snapshot.digest.to_le_bytes());
    trailer.extend(whole.to_le_bytes());
    trailer.extend(crc32c(&trailer).to_le_bytes());
    trailer
}

/// A file of one chunk, in memory.
pub(super) fn encode_whole(
    node: NodeId,
    position: Position,
    configuration: &Configuration,
    state: &[u8],
) -> Vec<u8> {
    assert!(state.len() <= CHUNK_BYTES, "{} bytes are more than a chunk", state.len());
    let mut bytes = encode_head(node, position, configuration);
    bytes.extend(chunk_checksum(position, 0, state).to_le_bytes());
    bytes.extend(state);
    let mut digest = Xxh3::new();
    digest.update(state);
    let configuration = configuration.clone();
    let snapshot = Snapshot { position, configuration, bytes: state.len() as u64, digest: digest.digest() };
    bytes.extend(encode_trailer(&snapshot, crc32c(state)));
    bytes
}

/// The configuration, and where the chunks begin.
fn read_head(
    file: &File,
    path: &Path,
    length: u64,
    node: NodeId,
    position: Position,
) -> Result<(Configuration, u64), StorageError> {
    let corrupt = |offset: u64, expected: String| Err(StorageError::corrupt(path, offset, expected));
    let least = (HEADER_BYTES + TRAILER_BYTES) as u64;
    if length < least {
        return corrupt(length, format!("a snapshot, which has at least {least} bytes"));
    }
    let mut head = [0; HEADER_BYTES];
    file.read_exact_at(&mut head, 0).map_err(StorageError::io("read", path))?;
    let number = |offset| u64_at(&head, offset).unwrap_or_default();
    let small = |offset| u32_at(&head, offset).unwrap_or_default();
    if !head.starts_with(MAGIC) {
        return corrupt(0, "the header of a snapshot, which begins with `mkraftSN`".into());
    }
    if small(60) != crc32c(&head[..60]) {
        return corrupt(60, "the checksum of the header".into());
    }
    if small(8) != FORMAT {
        let (path, found) = (path.to_owned(), small(8).to_string());
        return Err(StorageError::UnknownFormat { path, found, expected: FORMAT });
    }
    if head[40..56] != [0; 16] {
        return corrupt(40, "zeros, where nothing is named".into());
    }
    if number(16) != node.0 {
        let (path, found) = (path.to_owned(), NodeId(number(16)));
        return Err(StorageError::WrongNode { path, found, expected: node });
    }
    if (number(24), number(32)) != (position.index.0, position.term.0) {
        return corrupt(24, format!("a snapshot of {position:?}, as the name says"));
    }
    let tail = small(12);
    if tail > CONFIGURATION_BYTES_MAX || length < least + u64::from(tail) {
        return corrupt(12, "a length of the configuration that the file has room for".into());
    }
    let mut bytes = vec![0; tail as usize];
    file.read_exact_at(&mut bytes, HEADER_BYTES as u64).map_err(StorageError::io("read", path))?;
    match Configuration::decode(&bytes).filter(|_| crc32c(&bytes) == small(56)) {
        Some(configuration) => Ok((configuration, (HEADER_BYTES + bytes.len()) as u64)),
        None => corrupt(HEADER_BYTES as u64, "a configuration, with its checksum".into()),
    }
}
