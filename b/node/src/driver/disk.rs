//! The thread that makes writes durable, beside the driver: when the log hangs, it is this thread that waits.
//!
//! In: one write at a time, the next one only when the one before is done. Out: that it is durable, or why not, into
//! the driver's inbox; and as long as there is no room for it, that too. Never: a write that overtakes another, or a second
//! try of what was begun.
//!
//! A disk that is full is one that hangs until there is room: a write that found none has changed nothing, so that it can be
//! tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use super::{Event, Inbox};
use crate::raft::Write;
use crate::storage::StorageError;

/// Between two looks for room.
const ROOM_POLL: Duration = Duration::from_millis(100);

/// What makes one write durable.
pub type WriteFn = Box<dyn FnMut(&Write) -> Result<(), StorageError> + Send>;

pub struct Disk {
    writes: SyncSender<Arc<Write>>,
    /// Nobody waits for room any more.
    given_up: Arc<AtomicBool>,
}

impl Disk {
    pub fn new(write: WriteFn, inbox: Inbox) -> Disk {
        // A place for the only one: to hand it over is never a wait.
        let (writes, begun) = sync_channel(1);
        let given_up = Arc::new(AtomicBool::new(false));
        let seen = given_up.clone();
        std::thread::spawn(move || run(write, &begun, inbox, &seen));
        Disk { writes, given_up }
    }

    /// Nothing may be under way.
    pub fn begin(&self, write: Arc<Write>) {
        if self.writes.try_send(write).is_err() {
            panic!("a write was begun while another is under way, or the thread that writes has ended");
        }
    }

    /// A write for which there is no room fails from now on.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

fn run(mut write: WriteFn, begun: &Receiver<Arc<Write>>, inbox: Inbox, given_up: &AtomicBool) {
    let guard = TellsOfPanic(inbox);
    for next in begun {
        let result = loop {
            match write(&next) {
                Err(error) if error.is_full() && !given_up.load(Ordering::Relaxed) => {
                    if !guard.0.deliver(Event::NoRoom(error)) {
                        return;
                    }
                    std::thread::sleep(ROOM_POLL);
                }
                result => break result,
            }
        };
        guard.0.deliver(Event::Written(Some(result)));
    }
}

/// A driver that waits for a thread that is no more would wait for ever.
struct TellsOfPanic(Inbox);

impl Drop for TellsOfPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.deliver(Event::Written(None));
        }
    }
}
