//! Where durable bytes are: a plain file an inode in a folder of the real disk, or memory.
//!
//! In: what is to be durable. Out: the bytes. Never: a byte that nobody asked to be durable, a name, an order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::model::Inode;
use super::orders::StoreFailures;
use super::sparse::Sparse;

/// Holds the durable bytes of files. What was never written, and what is beyond the end, is zeros.
pub trait Store {
    fn read(&self, inode: Inode, offset: u64, into: &mut [u8]) -> io::Result<()>;
    fn write(&mut self, inode: Inode, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn set_length(&mut self, inode: Inode, length: u64) -> io::Result<()>;
    /// Finds space, as fallocate(2) does.
    fn allocate(&mut self, inode: Inode, offset: u64, length: u64) -> io::Result<()>;
    fn remove(&mut self, inode: Inode) -> io::Result<()>;
}

/// In memory: for replays, and for tests.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    pub files: BTreeMap<Inode, Sparse>,
}

impl Store for MemoryStore {
    fn read(&self, inode: Inode, offset: u64, into: &mut [u8]) -> io::Result<()> {
        match self.files.get(&inode) {
            Some(file) => file.read(offset, into),
            None => into.fill(0),
        }
        Ok(())
    }

    fn write(&mut self, inode: Inode, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.files.entry(inode).or_default().write(offset, bytes);
        Ok(())
    }

    fn set_length(&mut self, inode: Inode, length: u64) -> io::Result<()> {
        self.files.entry(inode).or_default().set_length(length);
        Ok(())
    }

    fn allocate(&mut self, inode: Inode, offset: u64, length: u64) -> io::Result<()> {
        let file = self.files.entry(inode).or_default();
        file.set_length(file.length().max(offset + length));
        Ok(())
    }

    fn remove(&mut self, inode: Inode) -> io::Result<()> {
        self.files.remove(&inode);
        Ok(())
    }
}

/// More are not kept open; they are opened again.
const OPEN_MAX: usize = 256;
/// What stands for the folders' entries, which are kept in memory: a sync of one appends to it.
const FOLDERS: &str = "folders";

/// On the real disk, which may fail: that is told on standard error, and counted.
#[derive(Debug)]
pub(super) struct FolderStore {
    folder: PathBuf,
    files: BTreeMap<Inode, Arc<File>>,
    folders: Arc<File>,
    failures: RefCell<StoreFailures>,
}

impl FolderStore {
    /// The folder is made; one that is there already may belong to another.
    pub fn create(folder: &Path) -> io::Result<FolderStore> {
        fs::create_dir(folder)?;
        let folders = OpenOptions::new().append(true).create_new(true).open(folder.join(FOLDERS))?;
        let (files, failures) = (BTreeMap::new(), RefCell::default());
        Ok(FolderStore { folder: folder.to_owned(), files, folders: Arc::new(folders), failures })
    }

    pub fn failures(&self) -> StoreFailures {
        self.failures.borrow().clone()
    }

    /// What was done to it has failed.
    pub fn failed(&self, action: &str, inode: Inode, error: &io::Error) {
        let what = format!("failed to {action} inode {inode}: {error}");
        eprintln!("mkraft-harness disk: the machine's own disk: {what}");
        self.failures.borrow_mut().note(&what);
    }

    /// The file behind an inode, to be synced.
    pub fn file(&mut self, inode: Inode) -> io::Result<Arc<File>> {
        if let Some(file) = self.files.get(&inode) {
            return Ok(Arc::clone(file));
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(self.path(inode))?;
        if self.files.len() >= OPEN_MAX {
            self.files.clear();
        }
        let file = Arc::new(file);
        self.files.insert(inode, Arc::clone(&file));
        Ok(file)
    }

    /// What a sync of a folder writes and syncs, so that it takes the time of one.
    pub fn folder_synced(&mut self, inode: Inode) -> io::Result<Arc<File>> {
        writeln!(&*self.folders, "{inode}")?;
        Ok(Arc::clone(&self.folders))
    }

    fn path(&self, inode: Inode) -> PathBuf {
        self.folder.join(inode.to_string())
    }

    fn noted<T>(&self, action: &str, inode: Inode, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| self.failed(action, inode, error))
    }

    fn read_at(&self, inode: Inode, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let opened;
        let file = match self.files.get(&inode) {
            Some(file) => file,
            None => match File::open(self.path(inode)) {
                Ok(file) => {
                    opened = Arc::new(file);
                    &opened
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    into.fill(0);
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
        };
        let mut done = 0;
        while done < into.len() {
            match file.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(bytes) => done += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        into[done..].fill(0);
        Ok(())
    }

    fn find_space(&mut self, inode: Inode, offset: u64, length: u64) -> io::Result<()> {
        let file = self.file(inode)?;
        match fallocate(&*file, FallocateFlags::empty(), offset as i64, length as i64) {
            Err(Errno::EOPNOTSUPP) => file.set_len(file.metadata()?.len().max(offset + length)),
            result => result.map_err(io::Error::from),
        }
    }
}

impl Store for FolderStore {
    fn read(&self, inode: Inode, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.noted("read", inode, self.read_at(inode, offset, into))
    }

    fn write(&mut self, inode: Inode, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let written = self.file(inode).and_then(|file| file.write_all_at(bytes, offset));
        self.noted("write to", inode, written)
    }

    fn set_length(&mut self, inode: Inode, length: u64) -> io::Result<()> {
        let set = self.file(inode).and_then(|file| file.set_len(length));
        self.noted("set the length of", inode, set)
    }

    fn allocate(&mut self, inode: Inode, offset: u64, length: u64) -> io::Result<()> {
        let found = self.find_space(inode, offset, length);
        self.noted("find space for", inode, found)
    }

    fn remove(&mut self, inode: Inode) -> io::Result<()> {
        self.files.remove(&inode);
        match fs::remove_file(self.path(inode)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => self.noted("remove", inode, result),
        }
    }
}
