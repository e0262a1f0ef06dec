//! What a node asks of its disk, call by call.
//!
//! In: calls, each with its turn and when it began. Out: what the model answers, or the errno of a fault; a line in the
//! ledger of each that had an effect. Never: a wait, but for the machine's own disk to sync, with no lock held.

use nix::errno::Errno;

use super::{Drive, Seen, SeenKind, Turn, wall};
use crate::disk::ledger::Act;
use crate::disk::model::{Answer, Change, Inode, Kind, New};
use crate::disk::orders::now;

impl Drive {
    pub fn lookup(&self, folder: Inode, name: &str) -> Answer<Seen> {
        let state = self.lock();
        let inode = state.model.lookup(folder, name)?;
        state.model.thing(inode).map(|thing| Seen::of(inode, thing))
    }

    pub fn see(&self, inode: Inode) -> Answer<Seen> {
        self.lock().model.thing(inode).map(|thing| Seen::of(inode, thing))
    }

    pub fn read_link(&self, inode: Inode) -> Answer<String> {
        match &self.lock().model.thing(inode)?.kind {
            Kind::Link(target) => Ok(target.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    pub fn open(&self, inode: Inode) -> Answer<u64> {
        let mut state = self.lock();
        state.has_power()?;
        state.open(inode)
    }

    pub fn close(&self, handle: u64) {
        let mut state = self.lock();
        if let Some(handle) = state.handles.remove(&handle) {
            state.model.close(handle.inode);
        }
        self.changed.notify_all();
    }

    /// The entries of an open folder from a place on, each with its kind.
    pub fn list(&self, turn: Turn, handle: u64, from: u64) -> Answer<Vec<(Inode, SeenKind, String)>> {
        turn.go()?;
        let state = self.lock();
        let handle = state.handles.get(&handle).ok_or(Errno::EIO)?;
        let rest = handle.listing.iter().skip(usize::try_from(from).unwrap_or(usize::MAX));
        // A file that was removed meanwhile is still listed, as by any other file system.
        let kind =
            |inode: Inode| state.model.thing(inode).map_or(SeenKind::File, |thing| SeenKind::of(&thing.kind));
        Ok(rest.map(|(inode, name)| (*inode, kind(*inode), name.clone())).collect())
    }

    pub fn create(
        &self,
        turn: Turn,
        begin: u64,
        (folder, name): (Inode, &str),
        new: New,
        mode: u32,
        opened: bool,
    ) -> Answer<(Seen, u64)> {
        turn.go()?;
        let mut state = self.lock();
        state.has_power()?;
        if state.faults.full() {
            state.faults.done.refused += 1;
            return Err(Errno::ENOSPC);
        }
        let number = state.number + 1;
        let inode = state.model.create(number, (folder, name), new.clone(), mode & 0o7777, wall())?;
        let act = Act::Create { folder, name: name.to_owned(), inode, new };
        state.done(begin, act);
        let handle = if opened { state.open(inode)? } else { 0 };
        Ok((Seen::of(inode, state.model.thing(inode)?), handle))
    }

    pub fn link(&self, turn: Turn, begin: u64, inode: Inode, (folder, name): (Inode, &str)) -> Answer<Seen> {
        turn.go()?;
        let mut state = self.lock();
        state.has_power()?;
        let number = state.number + 1;
        state.model.link(number, inode, (folder, name), wall())?;
        state.done(begin, Act::Link { inode, folder, name: name.to_owned() });
        state.model.thing(inode).map(|thing| Seen::of(inode, thing))
    }

    pub fn unlink(&self, turn: Turn, begin: u64, (folder, name): (Inode, &str)) -> Answer<()> {
        turn.go()?;
        let mut state = self.lock();
        state.has_power()?;
        let number = state.number + 1;
        state.model.unlink(number, (folder, name), wall())?;
        state.done(begin, Act::Unlink { folder, name: name.to_owned() });
        Ok(())
    }

    pub fn remove_folder(&self, turn: Turn, begin: u64, (folder, name): (Inode, &str)) -> Answer<()> {
        turn.go()?;
        let mut state = self.lock();
        state.has_power()?;
        let number = state.number + 1;
        state.model.remove_folder(number, (folder, name), wall())?;
        state.done(begin, Act::RemoveFolder { folder, name: name.to_owned() });
        Ok(())
    }

    pub fn rename(
        &self,
        turn: Turn,
        begin: u64,
        (folder, name): (Inode, &str),
        (to_folder, to_name): (Inode, &str),
        replaces: bool,
    ) -> Answer<()> {
        turn.go()?;
        let mut state = self.lock();
        state.has_power()?;
        if !replaces && state.model.lookup(to_folder, to_name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let number = state.number + 1;
        state.model.rename(number, (folder, name), (to_folder, to_name), wall())?;
        let (name, to_name) = (name.to_owned(), to_name.to_owned());
        state.done(begin, Act::Rename { folder, name, to_folder, to_name });
        Ok(())
    }

    pub fn read(&self, turn: Turn, handle: u64, offset: u64, size: usize) -> Answer<Vec<u8>> {
        turn.go()?;
        let state = self.lock();
        let inode = state.handle(handle)?;
        state.model.read(inode, offset, size)
    }

    /// How many bytes were written: fewer than were asked on a full disk.
    pub fn write(&self, turn: Turn, begin: u64, handle: u64, offset: u64, mut bytes: Vec<u8>) -> Answer<u32> {
        turn.go()?;
        let mut state = self.lock();
        let inode = state.handle(handle)?;
        if state.faults.full() {
            let covered = state.model.covered(inode, offset, bytes.len() as u64)?;
            state.faults.done.refused += u64::from(covered < bytes.len() as u64);
            bytes.truncate(covered as usize);
            if bytes.is_empty() {
                return Err(Errno::ENOSPC);
            }
        }
        let number = state.next_number();
        let length = bytes.len() as u32;
        state.ledger.write((number, begin), inode, offset, &bytes, now());
        state.model.change(number, inode, Change::Write { offset, bytes }, wall())?;
        Ok(length)
    }

    pub fn allocate(
        &self,
        turn: Turn,
        begin: u64,
        handle: u64,
        (offset, length): (u64, u64),
        longer: bool,
    ) -> Answer<()> {
        turn.go()?;
        let mut state = self.lock();
        let inode = state.handle(handle)?;
        if state.faults.full() && state.model.covered(inode, offset, length)? < length {
            state.faults.done.refused += 1;
            return Err(Errno::ENOSPC);
        }
        let number = state.number + 1;
        state.model.change(number, inode, Change::Allocate { offset, length, longer }, wall())?;
        state.done(begin, Act::Allocate { inode, offset, length, longer });
        Ok(())
    }

    pub fn set(
        &self,
        turn: Turn,
        begin: u64,
        inode: Inode,
        length: Option<u64>,
        mode: Option<u32>,
        modified_ns: Option<u64>,
    ) -> Answer<Seen> {
        turn.go()?;
        let mut state = self.lock();
        state.has_power()?;
        if let Some(length) = length {
            let number = state.number + 1;
            state.model.change(number, inode, Change::Length(length), wall())?;
            state.done(begin, Act::Length { inode, length });
        }
        if let Some(mode) = mode {
            state.model.set_mode(inode, mode)?;
        }
        if let Some(modified_ns) = modified_ns {
            state.model.set_modified(inode, modified_ns)?;
        }
        state.model.thing(inode).map(|thing| Seen::of(inode, thing))
    }

    /// Of a file or a folder. The machine's disk syncs with no lock held.
    pub fn sync(&self, turn: Turn, begin: u64, handle: u64) -> Answer<()> {
        let mut state = self.lock();
        let inode = state.handle(handle)?;
        let through = state.number;
        let is_folder = matches!(state.model.thing(inode)?.kind, Kind::Folder(_));
        if turn == Turn::Fail {
            state.model.forsake(inode, through);
            state.done(begin, Act::Sync { inode, through, failed: true });
        }
        turn.go()?;
        let flushed = if is_folder { Vec::new() } else { state.model.flush(inode, through)? };
        let store = &mut state.model.store;
        let file = if is_folder { store.folder_synced(inode) } else { store.file(inode) };
        drop(state);

        let synced = file.and_then(|file| file.sync_data());

        let mut state = self.lock();
        if let Err(error) = synced {
            state.model.store.failed("sync", inode, &error);
            state.model.forsake(inode, through);
            state.done(begin, Act::Sync { inode, through, failed: true });
            return Err(Errno::EIO);
        }
        if is_folder {
            state.model.settle_folder(inode, through);
        } else {
            state.model.settle(inode, &flushed);
        }
        state.done(begin, Act::Sync { inode, through, failed: false });
        Ok(())
    }
}
