//! The thread that makes writes durable, beside the driver: when the log hangs, it is this thread that waits.
//!
//! In: one write at a time, the next one only when the one before is done. Out: that it is durable, or why not, into
//! the driver's inbox. Never: a write that overtakes another, or a second try.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::{Event, Inbox};
use crate::raft::Write;
use crate::storage::StorageError;

/// What makes one write durable.
pub type WriteFn = Box<dyn FnMut(&Write) -> Result<(), StorageError> + Send>;

pub struct Disk {
    writes: SyncSender<Arc<Write>>,
}

impl Disk {
    pub fn new(write: WriteFn, inbox: Inbox) -> Disk {
        // A place for the only one: to hand it over is never a wait.
        let (writes, begun) = sync_channel(1);
        std::thread::spawn(move || run(write, &begun, inbox));
        Disk { writes }
    }

    /// Nothing may be under way.
    pub fn begin(&self, write: Arc<Write>) {
        if self.writes.try_send(write).is_err() {
            panic!("a write was begun while another is under way, or the thread that writes has ended");
        }
    }
}

fn run(mut write: WriteFn, begun: &Receiver<Arc<Write>>, inbox: Inbox) {
    let guard = TellsOfPanic(inbox);
    for next in begun {
        guard.0.deliver(Event::Written(Some(write(&next))));
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
