//! The data folder: who owns it, and how files come into it so that a crash leaves all of them or none.
//!
//! In: a folder and a node's identity. Out: the lock on it, and files in it that are whole and durable.
//! Never: a file under its final name before its contents are on the disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crc32c::crc32c;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::descriptors::when_there_is_one;
use super::error::StorageError;
use crate::raft::NodeId;

/// Of the folder, its identity and its segments together.
pub(super) const FORMAT: u32 = 2;

const IDENTITY: &str = "identity";
const LOCK: &str = "lock";
/// A file on its way to its final name.
const TEMPORARY: &str = "new.tmp";
/// A whole identity is far shorter.
const IDENTITY_BYTES_MAX: u64 = 256;
const MAGIC: &str = "mkraft data";

/// The folder belongs to this process as long as this lives. The kernel lets go of it when the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Flock<File>,
}

/// Creates the folder and what is missing above it, each durable in the folder that holds it.
pub(super) fn create(dir: &Path) -> Result<(), StorageError> {
    let missing = dir.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
    for path in missing.collect::<Vec<_>>().into_iter().rev() {
        match DirBuilder::new().mode(0o750).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StorageError::io("create data folder", path)(error));
            }
            _ => sync_parent(path)?,
        }
    }
    Ok(())
}

/// For a node: nobody else may even read.
pub(super) fn lock(dir: &Path) -> Result<Lock, StorageError> {
    let path = dir.join(LOCK);
    let options = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = options.map_err(StorageError::io("open lock file", &path))?;
    flock(dir, file, FlockArg::LockExclusiveNonblock)
}

/// For a reader: no node may run. Where there is no lock file, no node ever ran.
pub(super) fn lock_shared(dir: &Path) -> Result<Option<Lock>, StorageError> {
    let path = dir.join(LOCK);
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io("open lock file", &path)(error)),
        Ok(file) => flock(dir, file, FlockArg::LockSharedNonblock).map(Some),
    }
}

fn flock(dir: &Path, file: File, how: FlockArg) -> Result<Lock, StorageError> {
    match Flock::lock(file, how) {
        Ok(file) => Ok(Lock { _file: file }),
        Err((_, Errno::EWOULDBLOCK)) => Err(StorageError::InUse { path: dir.to_owned() }),
        Err((_, errno)) => Err(StorageError::io("lock", &dir.join(LOCK))(errno.into())),
    }
}

pub(super) fn identity_path(dir: &Path) -> PathBuf {
    dir.join(IDENTITY)
}

/// Whose data a folder holds, and which folder it is: a node that lost its own and begins anew has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub node: NodeId,
    /// Drawn when the folder was first used.
    pub folder: u128,
}

impl Identity {
    fn draw(node: NodeId) -> Identity {
        // A hasher's keys come from the system's randomness, and only the first draw of a thread.
        let half = || u128::from(RandomState::new().hash_one(node));
        let other = std::thread::spawn(move || u128::from(RandomState::new().hash_one(node)));
        let other = other.join().unwrap_or_default();
        Identity { node, folder: half() << 64 | other }
    }
}

/// Whose data this is; `None` when the folder holds nobody's yet.
pub(super) fn identity(dir: &Path) -> Result<Option<Identity>, StorageError> {
    let path = identity_path(dir);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(StorageError::io("open", &path))?,
    };
    let mut bytes = Vec::new();
    file.take(IDENTITY_BYTES_MAX).read_to_end(&mut bytes).map_err(StorageError::io("read", &path))?;
    parse_identity(&bytes, path).map(Some)
}

/// The folder's first use is complete once this is durable, so it comes last.
pub(super) fn write_identity(dir: &Path, node: NodeId) -> Result<Identity, StorageError> {
    let identity = Identity::draw(node);
    place(dir, IDENTITY, |file| file.write_all(render_identity(&identity).as_bytes()))?;
    Ok(identity)
}

fn render_identity(identity: &Identity) -> String {
    let Identity { node, folder } = identity;
    let text = format!("{MAGIC}\nformat {FORMAT}\nnode {}\nfolder {folder:032x}\n", node.0);
    format!("{text}crc32c {:08x}\n", crc32c(text.as_bytes()))
}

fn parse_identity(bytes: &[u8], path: PathBuf) -> Result<Identity, StorageError> {
    let expected = "the lines `mkraft data`, `format N`, `node N`, `folder X` and their `crc32c`";
    let text = str::from_utf8(bytes).unwrap_or_default();
    let mut lines = text.lines();
    let magic = lines.next();
    let mut field = |name: &str| lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let format = field("format");
    let node = field("node").and_then(|id| id.parse().ok()).map(NodeId);
    let folder = field("folder").and_then(|folder| u128::from_str_radix(folder, 16).ok());
    match (magic, format, node.zip(folder)) {
        (Some(MAGIC), Some(format), _) if format != FORMAT.to_string() => {
            Err(StorageError::UnknownFormat { path, found: format.to_owned(), expected: FORMAT })
        }
        // Byte for byte: an identity with anything more or less in it was not written by a node.
        (_, _, Some((node, folder))) if text == render_identity(&Identity { node, folder }) => {
            Ok(Identity { node, folder })
        }
        _ => Err(StorageError::NotADataFolder { path, expected }),
    }
}

/// Puts a new file into the folder: filled and synced under another name, renamed, the folder synced.
///
/// So there is no half-made file under `name` after any crash, and a damaged one is damage. Where there is no room for it,
/// nothing of it is left.
pub(super) fn place(
    dir: &Path,
    name: &str,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(File, PathBuf), StorageError> {
    place_by(dir, TEMPORARY, name, fill)
}

/// The same by way of another name, which ends in `.tmp`: for who is not the one that writes the log.
pub(super) fn place_by(
    dir: &Path,
    temporary: &str,
    name: &str,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(File, PathBuf), StorageError> {
    let (temporary, path) = (dir.join(temporary), dir.join(name));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let opened = when_there_is_one(|| options.open(&temporary));
    let mut file = opened.map_err(StorageError::new_file("create", &temporary))?;
    fill(&mut file)
        .map_err(|error| given_up(StorageError::new_file("write", &temporary)(error), &temporary))?;
    file.sync_all().map_err(StorageError::sync(&temporary))?;
    fs::rename(&temporary, &path).map_err(|error| {
        given_up(StorageError::new_file("rename a new file to", &path)(error), &temporary)
    })?;
    sync(dir)?;
    Ok((file, path))
}

/// Why a new file did not come about; where there was no room for it, what there is of it goes.
pub(super) fn given_up(error: StorageError, temporary: &Path) -> StorageError {
    if !error.is_full() {
        return error;
    }
    match fs::remove_file(temporary) {
        Err(failed) if failed.kind() != io::ErrorKind::NotFound => {
            StorageError::io("remove", temporary)(failed)
        }
        _ => error,
    }
}

/// Makes a file of this folder, which counts for nothing under its present name, one under `name`: filled and
/// synced before it is renamed.
pub(super) fn rename(
    dir: &Path,
    from: &Path,
    name: &str,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(File, PathBuf), StorageError> {
    let path = dir.join(name);
    let opened = when_there_is_one(|| OpenOptions::new().read(true).write(true).open(from));
    let mut file = opened.map_err(StorageError::io("open", from))?;
    fill(&mut file).map_err(StorageError::io("write", from))?;
    file.sync_all().map_err(StorageError::sync(from))?;
    fs::rename(from, &path).map_err(StorageError::new_file("rename a spare segment to", &path))?;
    sync(dir)?;
    Ok((file, path))
}

/// What a crash left of files on their way to their names.
pub(super) fn remove_unplaced(dir: &Path) -> Result<(), StorageError> {
    for entry in when_there_is_one(|| fs::read_dir(dir)).map_err(StorageError::io("list", dir))? {
        let path = entry.map_err(StorageError::io("list", dir))?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Makes durable which files the folder holds.
pub(super) fn sync(dir: &Path) -> Result<(), StorageError> {
    let opened = when_there_is_one(|| File::open(dir)).map_err(StorageError::io("open folder", dir))?;
    opened.sync_all().map_err(StorageError::sync(dir))
}

/// Makes durable that this folder is in the one that holds it.
pub(super) fn sync_parent(path: &Path) -> Result<(), StorageError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
        _ => sync(Path::new(".")),
    }
}
