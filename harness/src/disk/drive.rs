//! The drive behind a mount: the model, the faults and the ledger, and the calls that have to wait; what each of them
//! does is in [`calls`].
//!
//! In: calls of nodes, from the threads that serve the mount; orders of the harness. Out: answers, some of them late.
//! Never: a call that waits in the thread which serves the mount, or an answer that nothing releases: a heal, a loss
//! of power and the end each let go of whatever waits.

mod calls;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;

use super::faults::{Faults, Way};
use super::ledger::{Act, Writer};
use super::model::{Answer, Inode, Kind, Lost, Model, ROOT, Thing};
use super::orders::{Call, Fail, Look, Slow, now};
use super::sparse::BLOCK_BYTES;
use super::store::FolderStore;

/// How long a loss of power waits for the dead to let go of their files.
const DEAD_LIMIT: Duration = Duration::from_secs(5);
/// How long the end waits for calls that are being made; the harness waits for the end a little longer.
const END_LIMIT: Duration = Duration::from_secs(1);

/// A call, to be made or refused.
type Deed = Box<dyn FnOnce(&Drive, Turn) + Send>;

/// How a call may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Go,
    /// The disk fails it.
    Fail,
    /// There is no power any more.
    Abort,
}

impl Turn {
    fn go(self) -> Answer<()> {
        if self == Turn::Go { Ok(()) } else { Err(Errno::EIO) }
    }
}

pub(super) struct Drive {
    state: Mutex<State>,
    /// Something that somebody may wait for has changed.
    changed: Condvar,
}

struct State {
    model: Model<FolderStore>,
    faults: Faults,
    ledger: Writer,
    /// Of the newest call that had an effect.
    number: u64,
    power: bool,
    /// No call is made any more, and nobody waits.
    over: bool,
    power_losses: u64,
    /// Calls that are being made.
    under_way: u64,
    handles: BTreeMap<u64, Handle>,
    next_handle: u64,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Handle {
    inode: Inode,
    /// Of a folder: its entries when it was opened.
    listing: Vec<(Inode, String)>,
}

struct Waiting {
    /// None: until it is let go.
    due: Option<Instant>,
    deed: Deed,
}

/// What the kernel is told of a thing.
pub(super) struct Seen {
    pub inode: Inode,
    pub kind: SeenKind,
    pub length: u64,
    pub mode: u32,
    pub modified_ns: u64,
    pub names: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeenKind {
    File,
    Folder,
    Link,
}

impl Drive {
    /// Empty, with its store and its ledger in a folder that is made.
    pub fn beside(beside: &Path, ledger_bytes_max: u64) -> io::Result<Drive> {
        std::fs::create_dir_all(beside)?;
        let store = FolderStore::create(&beside.join("store"))?;
        let ledger = Writer::create(beside, ledger_bytes_max)?;
        let state = State {
            model: Model::new(store, wall()),
            faults: Faults::default(),
            ledger,
            number: 0,
            power: true,
            over: false,
            power_losses: 0,
            under_way: 0,
            handles: BTreeMap::new(),
            next_handle: 1,
            waiting: Vec::new(),
        };
        Ok(Drive { state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Makes a call now, later, or never, as the faults say.
    pub fn pass(&self, call: Call, deed: impl FnOnce(&Drive, Turn) + Send + 'static) {
        let turn = {
            let mut state = self.lock();
            if !state.power {
                Turn::Abort
            } else {
                let due = match state.faults.judge(call) {
                    Way::Go => None,
                    Way::Fail => Some(Err(Turn::Fail)),
                    Way::Wait(longer) => Some(Ok(Some(Instant::now() + longer))),
                    Way::Hang => Some(Ok(None)),
                };
                match due {
                    Some(Ok(due)) => {
                        state.waiting.push(Waiting { due, deed: Box::new(deed) });
                        self.changed.notify_all();
                        return;
                    }
                    Some(Err(turn)) => {
                        state.under_way += 1;
                        turn
                    }
                    None => {
                        state.under_way += 1;
                        Turn::Go
                    }
                }
            }
        };
        deed(self, turn);
        if turn != Turn::Abort {
            self.finished();
        }
    }

    /// Makes the calls that have waited long enough, until the end.
    pub fn attend(&self) {
        let mut state = self.lock();
        while !state.over {
            let now = Instant::now();
            let next =
                state.waiting.iter().enumerate().filter_map(|(place, waiting)| Some((waiting.due?, place)));
            match next.min() {
                Some((due, place)) if due <= now => {
                    let waiting = state.waiting.remove(place);
                    state.under_way += 1;
                    drop(state);
                    (waiting.deed)(self, Turn::Go);
                    self.finished();
                    state = self.lock();
                }
                Some((due, _)) => {
                    let wait = self.changed.wait_timeout(state, due - now);
                    state = wait.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    pub fn fail(&self, fail: Fail) {
        self.lock().faults.fail(fail);
    }

    pub fn slow(&self, slow: Slow) {
        self.lock().faults.slow(slow);
    }

    pub fn hang(&self) {
        self.lock().faults.hang();
    }

    pub fn fill(&self) {
        self.lock().faults.fill();
    }

    /// Ends every fault; who waits goes on.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.faults.heal();
        let now = Instant::now();
        state.waiting.iter_mut().for_each(|waiting| waiting.due = Some(now));
        self.changed.notify_all();
    }

    /// Whoever used the disk is dead, or will find every file that it has open gone: those that wait are let go,
    /// and when nobody has a file open any more, what was not synced is forgotten.
    pub fn lose_power(&self, draw: u64) -> Answer<Lost> {
        let begin = now();
        self.cut_off();
        let mut state = self.lock();
        let deadline = Instant::now() + DEAD_LIMIT;
        // Calls that were under way end by themselves; a handle may be that of a process which nobody has killed.
        while state.under_way > 0 || !state.handles.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && state.under_way == 0 {
                break;
            }
            let wait = self.changed.wait_timeout(state, left.max(Duration::from_millis(1)));
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        let lost = state.model.lose_power(draw);
        // Whatever came of it: a disk without power would fail all that is done to it for ever.
        state.handles.clear();
        state.power = true;
        if lost.is_err() {
            // What is left of a part of its files is not what they held.
            state.ledger.give_up("a loss of power failed");
        }
        let lost = lost?;
        state.power_losses += 1;
        let call = (state.next_number(), begin);
        state.ledger.note(call, Act::PowerLoss { draw }, now());
        state.ledger.flush();
        Ok(lost)
    }

    /// Every call is refused from now on, and nobody waits any more.
    pub fn end(&self) {
        self.cut_off();
        let mut state = self.lock();
        state.over = true;
        self.changed.notify_all();
        let deadline = Instant::now() + END_LIMIT;
        while state.under_way > 0 && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = self.changed.wait_timeout(state, left);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        match state.under_way {
            0 => {
                let number = state.next_number();
                state.ledger.end(number, now());
            }
            calls => state.ledger.give_up(&format!("{calls} calls are still being made")),
        }
    }

    pub fn look(&self) -> Look {
        let mut state = self.lock();
        state.ledger.flush();
        let done = state.faults.done.clone();
        Look {
            at: now(),
            calls: done.calls,
            failed: done.failed,
            slowed: done.slowed,
            slowed_ns: done.slowed_ns,
            hung: done.hung,
            waiting: state.waiting.len() as u64,
            refused: done.refused,
            power_losses: state.power_losses,
            open: state.handles.len() as u64,
            unsynced: state.model.unsynced(),
            allocated_bytes: state.model.allocated_blocks() * BLOCK_BYTES,
            store: state.model.store.failures(),
            ledger: state.ledger.kept(),
        }
    }

    fn cut_off(&self) {
        let waiting = {
            let mut state = self.lock();
            state.power = false;
            std::mem::take(&mut state.waiting)
        };
        for waiting in waiting {
            (waiting.deed)(self, Turn::Abort);
        }
    }

    fn finished(&self) {
        self.lock().under_way -= 1;
        self.changed.notify_all();
    }

    /// The state is whole after each call, whatever became of the thread that made it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_power(&self) -> Answer<()> {
        if self.power { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Handles from before a loss of power are dead.
    fn handle(&self, handle: u64) -> Answer<Inode> {
        self.handles.get(&handle).map(|handle| handle.inode).ok_or(Errno::EIO)
    }

    fn open(&mut self, inode: Inode) -> Answer<u64> {
        self.model.open(inode)?;
        let mut listing = Vec::new();
        if let Ok(entries) = self.model.entries(inode) {
            listing.extend([(inode, ".".to_owned()), (entries.parent, "..".to_owned())]);
            listing.extend(entries.now().iter().map(|(name, inode)| (*inode, name.clone())));
        }
        let number = self.next_handle;
        self.next_handle += 1;
        self.handles.insert(number, Handle { inode, listing });
        Ok(number)
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn done(&mut self, begin: u64, act: Act) {
        let number = self.next_number();
        self.ledger.note((number, begin), act, now());
    }
}

impl Seen {
    fn of(inode: Inode, thing: &Thing) -> Seen {
        let length = match &thing.kind {
            Kind::File(contents) => contents.length(),
            Kind::Link(target) => target.len() as u64,
            Kind::Folder(_) => 0,
        };
        let (mode, modified_ns, names) = (thing.mode, thing.modified_ns, thing.names);
        Seen { inode, kind: SeenKind::of(&thing.kind), length, mode, modified_ns, names }
    }
}

impl SeenKind {
    fn of(kind: &Kind) -> SeenKind {
        match kind {
            Kind::File(_) => SeenKind::File,
            Kind::Folder(_) => SeenKind::Folder,
            Kind::Link(_) => SeenKind::Link,
        }
    }
}

/// For the times of files, on which nothing hangs.
fn wall() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

const _: () = assert!(ROOT.0 == 1, "the kernel calls the root 1");

#[cfg(test)]
mod tests;
