//! The kernel's calls, made to the drive.
//!
//! In: FUSE requests. Out: their answers. Never: a cache: times to live are zero and files are opened for direct I/O,
//! so that each write(2) is known at once, and after a loss of power nobody reads what is gone.
//!
//! Looking up a name and reading attributes never wait, whatever hangs: a real disk would have them cached, and
//! whoever only looks at the mount must not be caught in it.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::fcntl::{FallocateFlags, OFlag};
use nix::unistd::{getgid, getuid};

use super::drive::{Drive, Seen, SeenKind};
use super::model::{Answer, Inode, NAME_BYTES_MAX, New};
use super::orders::{Call, now};
use super::sparse::BLOCK_BYTES;

const NO_CACHE: Duration = Duration::ZERO;
/// What df(1) says of it; a full disk has no fewer, as programs are not to find out but by failing.
const BLOCKS: u64 = 1 << 28;

pub(super) struct Served(pub Arc<Drive>);

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entered(named(name).and_then(|name| self.0.lookup(Inode(parent.0), &name)), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        told(self.0.see(Inode(ino.0)), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed_too: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let begin = now();
        let modified = modified.map(|time| match time {
            TimeOrNow::SpecificTime(time) => nanoseconds(time),
            TimeOrNow::Now => nanoseconds(SystemTime::now()),
        });
        self.0.pass(Call::Other, move |drive, turn| {
            told(drive.set(turn, begin, Inode(ino.0), size, mode, modified), reply);
        });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.0.read_link(Inode(ino.0)) {
            Ok(target) => reply.data(target.as_bytes()),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.make(parent, name, New::Folder, mode & !umask, reply);
    }

    fn symlink(&self, _: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        match named(target.as_os_str()) {
            Ok(target) => self.make(parent, name, New::Link(target), 0o777, reply),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (begin, name) = (now(), named(name));
        self.0.pass(Call::Other, move |drive, turn| {
            done(name.and_then(|name| drive.unlink(turn, begin, (Inode(parent.0), &name))), reply);
        });
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (begin, name) = (now(), named(name));
        self.0.pass(Call::Other, move |drive, turn| {
            done(name.and_then(|name| drive.remove_folder(turn, begin, (Inode(parent.0), &name))), reply);
        });
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let begin = now();
        let names = named(name).and_then(|name| Ok((name, named(newname)?)));
        let replaces = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        self.0.pass(Call::Other, move |drive, turn| {
            let renamed = names.and_then(|(from, to)| {
                let (from, to) = ((Inode(parent.0), &*from), (Inode(newparent.0), &*to));
                drive.rename(turn, begin, from, to, replaces)
            });
            done(renamed, reply);
        });
    }

    fn link(&self, _: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let (begin, name) = (now(), named(newname));
        self.0.pass(Call::Other, move |drive, turn| {
            let linked =
                name.and_then(|name| drive.link(turn, begin, Inode(ino.0), (Inode(newparent.0), &name)));
            entered(linked, reply);
        });
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let (begin, name) = (now(), named(name));
        self.0.pass(Call::Other, move |drive, turn| {
            let created = name.and_then(|name| {
                drive.create(turn, begin, (Inode(parent.0), &name), New::File, mode & !umask, true)
            });
            match created {
                Ok((seen, handle)) => {
                    let (attributes, handle) = (attributes(&seen), FileHandle(handle));
                    reply.created(&NO_CACHE, &attributes, Generation(0), handle, FopenFlags::FOPEN_DIRECT_IO);
                }
                Err(errno) => reply.error(code(errno)),
            }
        });
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.0.open(Inode(ino.0)) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn read(
        &self,
        _: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.0.pass(Call::Read, move |drive, turn| match drive.read(turn, fh.0, offset, size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(code(errno)),
        });
    }

    fn write(
        &self,
        _: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (begin, bytes) = (now(), data.to_vec());
        let synced = OFlag::from_bits_truncate(flags.0).intersects(OFlag::O_DSYNC | OFlag::O_SYNC);
        self.0.pass(Call::Write, move |drive, turn| {
            let written = drive.write(turn, begin, fh.0, offset, bytes);
            let written = written.and_then(|length| {
                if synced { drive.sync(turn, begin, fh.0).map(|()| length) } else { Ok(length) }
            });
            match written {
                Ok(length) => reply.written(length),
                Err(errno) => reply.error(code(errno)),
            }
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Nothing is to be done when a file is closed, and the kernel need not ask again.
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.0.close(fh.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let begin = now();
        self.0.pass(Call::Sync, move |drive, turn| done(drive.sync(turn, begin, fh.0), reply));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.0.open(Inode(ino.0)) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.0.pass(Call::Other, move |drive, turn| match drive.list(turn, fh.0, offset) {
            Ok(entries) => {
                for (place, (inode, kind, name)) in entries.into_iter().enumerate() {
                    if reply.add(INodeNo(inode.0), offset + place as u64 + 1, file_type(kind), name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(errno) => reply.error(code(errno)),
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.0.close(fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let begin = now();
        self.0.pass(Call::Sync, move |drive, turn| done(drive.sync(turn, begin, fh.0), reply));
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let block = BLOCK_BYTES as u32;
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, block, NAME_BYTES_MAX as u32, block);
    }

    fn fallocate(
        &self,
        _: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let keeps = FallocateFlags::FALLOC_FL_KEEP_SIZE.bits();
        if mode & !keeps != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let begin = now();
        self.0.pass(Call::Other, move |drive, turn| {
            done(drive.allocate(turn, begin, fh.0, (offset, length), mode & keeps == 0), reply);
        });
    }
}

impl Served {
    fn make(&self, parent: INodeNo, name: &OsStr, new: New, mode: u32, reply: ReplyEntry) {
        let (begin, name) = (now(), named(name));
        self.0.pass(Call::Other, move |drive, turn| {
            let made =
                name.and_then(|name| drive.create(turn, begin, (Inode(parent.0), &name), new, mode, false));
            entered(made.map(|(seen, _)| seen), reply);
        });
    }
}

/// A ledger in JSON has no place for other names.
fn named(name: &OsStr) -> Answer<String> {
    name.to_str().map(str::to_owned).ok_or(nix::errno::Errno::EILSEQ)
}

fn code(errno: nix::errno::Errno) -> Errno {
    Errno::from_i32(errno as i32)
}

fn done(answer: Answer<()>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(code(errno)),
    }
}

fn told(answer: Answer<Seen>, reply: ReplyAttr) {
    match answer {
        Ok(seen) => reply.attr(&NO_CACHE, &attributes(&seen)),
        Err(errno) => reply.error(code(errno)),
    }
}

fn entered(answer: Answer<Seen>, reply: ReplyEntry) {
    match answer {
        Ok(seen) => reply.entry(&NO_CACHE, &attributes(&seen), Generation(0)),
        Err(errno) => reply.error(code(errno)),
    }
}

fn attributes(seen: &Seen) -> FileAttr {
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(seen.modified_ns);
    FileAttr {
        ino: INodeNo(seen.inode.0),
        size: seen.length,
        blocks: seen.length.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(seen.kind),
        perm: (seen.mode & 0o7777) as u16,
        nlink: seen.names,
        uid: getuid().as_raw(),
        gid: getgid().as_raw(),
        rdev: 0,
        blksize: BLOCK_BYTES as u32,
        flags: 0,
    }
}

fn file_type(kind: SeenKind) -> FileType {
    match kind {
        SeenKind::File => FileType::RegularFile,
        SeenKind::Folder => FileType::Directory,
        SeenKind::Link => FileType::Symlink,
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}
