//! A file system that can forget, as plain values: what is seen, what of it is durable, what a loss of power takes.
//!
//! In: calls, each with its number, in the order in which they have effect. Out: what POSIX says they return, and no
//! promise more than that: a sync of a file makes its bytes durable and not its name; a sync of a folder makes its
//! entries durable and not what they name. Never: a clock, a mount, a thread; durable bytes are in a [`Store`].
//!
//! Modes and times of files are kept as if each change of them were durable at once: nothing hangs on them.

mod file;
mod folder;
mod space;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use nix::errno::Errno;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use super::store::Store;
pub use file::{Change, Changed, Contents};
pub use folder::{Entries, Move, Moved, Names};

/// Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Inode(pub u64);

pub const ROOT: Inode = Inode(1);

/// Longer names are refused, as other file systems do.
pub const NAME_BYTES_MAX: usize = 255;
/// So many losses are told in words; the others are counted.
const TOLD_MAX: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A sync would make it durable.
    Unsynced,
    /// Its sync failed: no other makes it durable.
    Forsaken,
    Durable,
}

#[derive(Debug, Clone)]
pub enum Kind {
    File(Contents),
    Folder(Entries),
    Link(String),
}

/// What an inode number stands for.
#[derive(Debug, Clone)]
pub struct Thing {
    pub kind: Kind,
    pub mode: u32,
    pub modified_ns: u64,
    /// How many entries name it, as it is seen.
    pub names: u32,
    /// How often it is open: it lives on while it is, with a name or without.
    pub handles: u32,
}

/// What a loss of power took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Files that lost writes or lengths.
    pub files: u64,
    pub writes: u64,
    pub bytes: u64,
    /// New names, removals and renames.
    pub names: u64,
    /// Files of whose last write a part survived.
    pub torn: u64,
    /// The first of these in words.
    pub told: Vec<String>,
}

/// What a loss of power would take now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsynced {
    pub files: u64,
    pub bytes: u64,
    pub names: u64,
}

#[derive(Debug, Clone)]
pub struct Model<S> {
    things: BTreeMap<Inode, Thing>,
    next: u64,
    pub store: S,
}

/// The answer of a call: what errno says, or the store's own failure, of which the store knows.
pub type Answer<T> = Result<T, Errno>;

impl<S: Store> Model<S> {
    /// An empty root, which is durable.
    pub fn new(store: S, now_ns: u64) -> Model<S> {
        let kind = Kind::Folder(Entries::new(ROOT));
        let root = Thing { kind, mode: 0o755, modified_ns: now_ns, names: 1, handles: 0 };
        Model { things: BTreeMap::from([(ROOT, root)]), next: ROOT.0 + 1, store }
    }

    pub fn thing(&self, inode: Inode) -> Answer<&Thing> {
        self.things.get(&inode).ok_or(Errno::ESTALE)
    }

    pub fn things(&self) -> impl Iterator<Item = (Inode, &Thing)> {
        self.things.iter().map(|(inode, thing)| (*inode, thing))
    }

    pub fn lookup(&self, folder: Inode, name: &str) -> Answer<Inode> {
        self.entries(folder)?.now.get(name).copied().ok_or(Errno::ENOENT)
    }

    pub fn entries(&self, folder: Inode) -> Answer<&Entries> {
        match &self.thing(folder)?.kind {
            Kind::Folder(entries) => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub fn contents(&self, file: Inode) -> Answer<&Contents> {
        match &self.thing(file)?.kind {
            Kind::File(contents) => Ok(contents),
            Kind::Folder(_) => Err(Errno::EISDIR),
            Kind::Link(_) => Err(Errno::EINVAL),
        }
    }

    /// Bytes that files have space for.
    pub fn allocated_blocks(&self) -> u64 {
        self.things
            .values()
            .map(|thing| if let Kind::File(file) = &thing.kind { file.blocks() } else { 0 })
            .sum()
    }

    /// How many bytes from `offset` on, of `length`, need no new block.
    pub fn covered(&self, file: Inode, offset: u64, length: u64) -> Answer<u64> {
        Ok(self.contents(file)?.covered(offset, length))
    }

    pub fn unsynced(&self) -> Unsynced {
        let mut unsynced = Unsynced::default();
        for thing in self.things.values() {
            match &thing.kind {
                Kind::File(file) if file.open_changes().next().is_some() => {
                    unsynced.files += 1;
                    unsynced.bytes += file.unsynced_bytes();
                }
                Kind::Folder(entries) => unsynced.names += entries.moves.len() as u64,
                _ => {}
            }
        }
        unsynced
    }

    /// A new file, folder or symbolic link, with its name; nothing of it is durable.
    pub fn create(
        &mut self,
        number: u64,
        (folder, name): (Inode, &str),
        kind: New,
        mode: u32,
        now_ns: u64,
    ) -> Answer<Inode> {
        is_name(name)?;
        if self.entries(folder)?.now.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let inode = Inode(self.next);
        self.next += 1;
        let kind = match kind {
            New::File => Kind::File(Contents::default()),
            New::Folder => Kind::Folder(Entries::new(folder)),
            New::Link(target) => Kind::Link(target),
        };
        self.things.insert(inode, Thing { kind, mode, modified_ns: now_ns, names: 0, handles: 0 });
        self.make(number, folder, Move::Link { name: name.to_owned(), inode }, now_ns)?;
        Ok(inode)
    }

    /// Another name for a file.
    pub fn link(
        &mut self,
        number: u64,
        file: Inode,
        (folder, name): (Inode, &str),
        now_ns: u64,
    ) -> Answer<()> {
        is_name(name)?;
        if matches!(self.thing(file)?.kind, Kind::Folder(_)) {
            return Err(Errno::EPERM);
        }
        if self.entries(folder)?.now.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.make(number, folder, Move::Link { name: name.to_owned(), inode: file }, now_ns)
    }

    /// Takes the name of a file.
    pub fn unlink(&mut self, number: u64, (folder, name): (Inode, &str), now_ns: u64) -> Answer<()> {
        let inode = self.lookup(folder, name)?;
        if matches!(self.thing(inode)?.kind, Kind::Folder(_)) {
            return Err(Errno::EISDIR);
        }
        self.make(number, folder, Move::Unlink { name: name.to_owned() }, now_ns)
    }

    pub fn remove_folder(&mut self, number: u64, (folder, name): (Inode, &str), now_ns: u64) -> Answer<()> {
        let inode = self.lookup(folder, name)?;
        if !self.entries(inode)?.now.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.make(number, folder, Move::Unlink { name: name.to_owned() }, now_ns)
    }

    /// Whatever had the new name has it no more. Within one folder it is one change, which is lost or kept as one.
    pub fn rename(
        &mut self,
        number: u64,
        (folder, name): (Inode, &str),
        (to_folder, to_name): (Inode, &str),
        now_ns: u64,
    ) -> Answer<()> {
        is_name(to_name)?;
        let inode = self.lookup(folder, name)?;
        if let Some(other) = self.entries(to_folder)?.now.get(to_name).copied() {
            if other == inode {
                return Ok(());
            }
            match (&self.thing(inode)?.kind, &self.thing(other)?.kind) {
                (Kind::Folder(_), Kind::Folder(there)) if !there.now.is_empty() => {
                    return Err(Errno::ENOTEMPTY);
                }
                (Kind::Folder(_), Kind::Folder(_)) => {}
                (Kind::Folder(_), _) => return Err(Errno::ENOTDIR),
                (_, Kind::Folder(_)) => return Err(Errno::EISDIR),
                _ => {}
            }
        }
        let (from, to) = (name.to_owned(), to_name.to_owned());
        if folder == to_folder {
            return self.make(number, folder, Move::Rename { from, to, inode }, now_ns);
        }
        self.make(number, to_folder, Move::Link { name: to, inode }, now_ns)?;
        self.make(number, folder, Move::Unlink { name: from }, now_ns)?;
        if let Kind::Folder(entries) = &mut self.thing_mut(inode)?.kind {
            entries.parent = to_folder;
        }
        Ok(())
    }

    pub fn change(&mut self, number: u64, file: Inode, change: Change, now_ns: u64) -> Answer<()> {
        let thing = self.thing_mut(file)?;
        thing.modified_ns = now_ns;
        match &mut thing.kind {
            Kind::File(contents) => contents.change(number, change),
            Kind::Folder(_) => return Err(Errno::EISDIR),
            Kind::Link(_) => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    pub fn set_mode(&mut self, inode: Inode, mode: u32) -> Answer<()> {
        self.thing_mut(inode)?.mode = mode & 0o7777;
        Ok(())
    }

    pub fn set_modified(&mut self, inode: Inode, now_ns: u64) -> Answer<()> {
        self.thing_mut(inode)?.modified_ns = now_ns;
        Ok(())
    }

    pub fn read(&self, file: Inode, offset: u64, size: usize) -> Answer<Vec<u8>> {
        self.contents(file)?.read(&self.store, file, offset, size).map_err(|error| errno(&error))
    }

    /// The first half of a sync of a file: its bytes are in the store, and durable when that is synced, and
    /// [`Model::settle`] told with what this returns.
    pub fn flush(&mut self, file: Inode, through: u64) -> Answer<Vec<u64>> {
        let Some(Thing { kind: Kind::File(contents), .. }) = self.things.get(&file) else {
            return Err(Errno::EINVAL);
        };
        contents.flush(&mut self.store, file, through).map_err(|error| errno(&error))
    }

    /// The second half; the file may be gone by now.
    pub fn settle(&mut self, file: Inode, flushed: &[u64]) {
        if let Some(Thing { kind: Kind::File(contents), .. }) = self.things.get_mut(&file) {
            contents.settle(flushed);
        }
    }

    /// A sync of a folder.
    pub fn settle_folder(&mut self, folder: Inode, through: u64) {
        if let Some(Thing { kind: Kind::Folder(entries), .. }) = self.things.get_mut(&folder) {
            entries.settle(through);
            self.collect();
        }
    }

    /// A sync that failed, of a file or a folder: what it should have made durable will not be, whatever comes.
    pub fn forsake(&mut self, inode: Inode, through: u64) {
        match self.things.get_mut(&inode).map(|thing| &mut thing.kind) {
            Some(Kind::File(contents)) => contents.forsake(through),
            Some(Kind::Folder(entries)) => entries.forsake(through),
            _ => {}
        }
    }

    pub fn open(&mut self, inode: Inode) -> Answer<()> {
        self.thing_mut(inode)?.handles += 1;
        Ok(())
    }

    pub fn close(&mut self, inode: Inode) {
        if let Some(thing) = self.things.get_mut(&inode) {
            thing.handles = thing.handles.saturating_sub(1);
            if thing.handles == 0 && thing.names == 0 {
                self.collect();
            }
        }
    }

    /// Everything that is not durable is gone, and every handle with it. The draw says what survives of the last
    /// writes; the same draw after the same calls says the same.
    pub fn lose_power(&mut self, draw: u64) -> Answer<Lost> {
        let paths = self.paths();
        let mut lost = Lost::default();
        for (inode, thing) in &mut self.things {
            thing.handles = 0;
            let path = || paths.get(inode).cloned().unwrap_or_else(|| format!("inode {inode}"));
            match &mut thing.kind {
                Kind::File(contents) => {
                    let mut draw =
                        ChaCha8Rng::seed_from_u64(draw.wrapping_add(inode.0.wrapping_mul(0x9e37_79b9)));
                    let gone = contents
                        .lose_power(&mut self.store, *inode, &mut draw)
                        .map_err(|error| errno(&error))?;
                    lost.count(&path(), gone);
                }
                Kind::Folder(entries) => {
                    for step in entries.lose_power() {
                        lost.names += 1;
                        lost.tell(|| format!("{}: {step}", path()));
                    }
                }
                Kind::Link(_) => {}
            }
        }
        self.count_names();
        self.collect();
        Ok(lost)
    }

    /// Where each thing stands, as it is seen.
    pub fn paths(&self) -> BTreeMap<Inode, String> {
        let mut paths = BTreeMap::from([(ROOT, ".".to_owned())]);
        let mut open = vec![(ROOT, String::new())];
        while let Some((folder, prefix)) = open.pop() {
            let Ok(entries) = self.entries(folder) else { continue };
            for (name, inode) in &entries.now {
                let path = format!("{prefix}{name}");
                open.push((*inode, format!("{path}/")));
                paths.insert(*inode, path);
            }
        }
        paths
    }

    fn thing_mut(&mut self, inode: Inode) -> Answer<&mut Thing> {
        self.things.get_mut(&inode).ok_or(Errno::ESTALE)
    }

    fn make(&mut self, number: u64, folder: Inode, step: Move, now_ns: u64) -> Answer<()> {
        let thing = self.thing_mut(folder)?;
        let Kind::Folder(entries) = &mut thing.kind else { return Err(Errno::ENOTDIR) };
        thing.modified_ns = now_ns;
        let (loses, gains) = match &step {
            Move::Link { name, inode } => (entries.now.get(name).copied(), Some(*inode)),
            Move::Unlink { name } => (entries.now.get(name).copied(), None),
            Move::Rename { to, .. } => (entries.now.get(to).copied(), None),
        };
        entries.make(number, step);
        if let Some(thing) = gains.and_then(|inode| self.things.get_mut(&inode)) {
            thing.names += 1;
        }
        if let Some(thing) = loses.and_then(|inode| self.things.get_mut(&inode)) {
            thing.names -= 1;
        }
        Ok(())
    }

    fn count_names(&mut self) {
        let mut names: BTreeMap<Inode, u32> = BTreeMap::from([(ROOT, 1)]);
        for thing in self.things.values() {
            if let Kind::Folder(entries) = &thing.kind {
                entries.now.values().for_each(|inode| *names.entry(*inode).or_default() += 1);
            }
        }
        for (inode, thing) in &mut self.things {
            thing.names = names.get(inode).copied().unwrap_or_default();
        }
    }

    /// Frees what has no name, will have none after a loss of power, and is not open.
    fn collect(&mut self) {
        let mut alive = BTreeSet::new();
        let held = self.things.iter().filter(|(_, thing)| thing.handles > 0).map(|(inode, _)| *inode);
        let mut open: Vec<Inode> = held.chain([ROOT]).collect();
        while let Some(inode) = open.pop() {
            if alive.insert(inode)
                && let Ok(entries) = self.entries(inode)
            {
                open.extend(entries.mentioned());
            }
        }
        let dead: Vec<Inode> = self.things.keys().filter(|inode| !alive.contains(inode)).copied().collect();
        for inode in dead {
            self.things.remove(&inode);
            // What cannot be removed takes space, and is never seen again.
            let _ = self.store.remove(inode);
        }
    }
}

/// What [`Model::create`] makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum New {
    File,
    Folder,
    /// A symbolic link to this.
    Link(String),
}

impl Lost {
    fn count(&mut self, path: &str, gone: file::Gone) {
        if gone.writes == 0 {
            return;
        }
        self.files += 1;
        self.writes += gone.writes;
        self.bytes += gone.bytes;
        self.torn += u64::from(gone.survived.is_some());
        self.tell(|| {
            let survived = gone.survived.map(|bytes| format!("; {bytes} bytes of the last write survived"));
            let (writes, bytes) = (gone.writes, gone.bytes);
            format!("{path}: {writes} changes with {bytes} bytes{}", survived.unwrap_or_default())
        });
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(what());
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lost { files, writes, bytes, names, torn, .. } = self;
        write!(
            f,
            "lost {writes} changes with {bytes} bytes of {files} files ({torn} torn), and {names} of names"
        )
    }
}

impl fmt::Display for Inode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

fn is_name(name: &str) -> Answer<()> {
    if name.len() > NAME_BYTES_MAX { Err(Errno::ENAMETOOLONG) } else { Ok(()) }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests;
