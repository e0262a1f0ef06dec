//! The threads that carry the bytes of snapshots, beside the driver: one for each way they go.
//!
//! In: a frozen machine to be written down, chunks to be sent, chunks to be kept. Out: what came of it, into the
//! driver's inbox, and chunks to peers. Never: a decision; the core says which chunk goes where and which one counts.
//! A node without its driver lets these threads end where they are: what they have not placed counts for nothing.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::causes::with_causes;
use crate::driver::{Event, Inbox};
use crate::machine::{Frozen, KeyValue, Machine};
use crate::raft::{Accept, Body, Configuration, Message, Position, Snapshot};
use crate::storage::{Reader, Snapshots, StorageError, Writer};
use crate::transport::Outbox;

/// Chunks that were received and not yet written.
const RECEIVED_MAX: usize = 16;
/// Chunks to be read and sent; what is beyond is asked for again.
const SENDING_MAX: usize = 64;
/// Snapshots that are being sent: the newest, and one that a transfer began with before.
const READERS_MAX: usize = 2;
/// Until a snapshot for which there was no room is tried again: as far as there is room, all of it is written each time.
const ROOM_POLL: Duration = Duration::from_secs(1);

pub struct Carriers {
    snapshots: Snapshots,
    inbox: Inbox,
    outbox: Outbox,
    sending: SyncSender<Message>,
    receiving: SyncSender<(Accept, Vec<u8>)>,
    /// In `receiving`, or in the hands of its thread.
    received: Arc<AtomicUsize>,
}

impl Carriers {
    pub fn new(snapshots: Snapshots, inbox: Inbox, outbox: Outbox) -> Carriers {
        let (sending, to_send) = sync_channel(SENDING_MAX);
        let (receiving, to_keep) = sync_channel(RECEIVED_MAX);
        let received = Arc::new(AtomicUsize::new(0));
        let sender = Sender { snapshots: snapshots.clone(), outbox: outbox.clone(), readers: Vec::new() };
        std::thread::spawn(move || sender.run(&to_send));
        let keeper = Keeper { snapshots: snapshots.clone(), inbox: inbox.clone(), running: None };
        let count = received.clone();
        std::thread::spawn(move || keeper.run(&to_keep, &count));
        Carriers { snapshots, inbox, outbox, sending, receiving, received }
    }

    /// Writes a snapshot of this state, once there is room for it; the inbox hears of it.
    pub fn take(&self, frozen: Frozen<KeyValue>, position: Position, configuration: Configuration) {
        let (snapshots, inbox) = (self.snapshots.clone(), self.inbox.clone());
        std::thread::spawn(move || {
            let take = || {
                snapshots.take(position, configuration.clone(), |writer| frozen.write_to(writer).map(drop))
            };
            let taken = loop {
                match take() {
                    Err(error) if error.is_full() => {
                        if !inbox.deliver(Event::NoRoomForSnapshot(error)) {
                            return;
                        }
                        std::thread::sleep(ROOM_POLL);
                    }
                    taken => break taken,
                }
            };
            if let Ok(snapshot) = &taken {
                tracing::info!(index = %position.index, bytes = snapshot.bytes, "took a snapshot");
            }
            inbox.deliver(Event::Taken(taken));
        });
    }

    /// Sends a chunk with its bytes, unless too many wait, or nobody would take it.
    pub fn send(&self, message: Message) {
        if self.outbox.reaches(message.to) && self.sending.try_send(message).is_err() {
            tracing::debug!("dropped a chunk: too many wait to be sent");
        }
    }

    pub fn have_room(&self) -> bool {
        self.received.load(Ordering::Relaxed) < RECEIVED_MAX
    }

    /// Only while there is room.
    pub fn keep(&self, accept: Accept, data: Vec<u8>) {
        self.received.fetch_add(1, Ordering::Relaxed);
        assert!(self.receiving.try_send((accept, data)).is_ok(), "the keeper of chunks has ended or is full");
    }
}

/// Reads chunks and hands them to their streams.
struct Sender {
    snapshots: Snapshots,
    outbox: Outbox,
    /// The one used last at the end. A file that is open lives on when a newer one takes its place.
    readers: Vec<(Position, Reader)>,
}

impl Sender {
    fn run(mut self, messages: &Receiver<Message>) {
        for message in messages {
            let Body::Chunk { ref snapshot, number, .. } = message.body else { continue };
            match self.read(snapshot, number) {
                Ok(data) => self.outbox.send_chunk(message, data),
                // The core begins again with the newest when this does not move on.
                Err(error) => {
                    tracing::warn!(to = %message.to, error = with_causes(&error), "failed to send a snapshot");
                }
            }
        }
    }

    fn read(&mut self, snapshot: &Snapshot, number: u64) -> Result<Vec<u8>, StorageError> {
        let position = snapshot.position;
        let open = match self.readers.iter().position(|(open, _)| *open == position) {
            Some(found) => self.readers.remove(found),
            None => (position, self.snapshots.open(position)?),
        };
        let data = open.1.chunk(number);
        self.readers.push(open);
        if self.readers.len() > READERS_MAX {
            self.readers.remove(0);
        }
        data
    }
}

type Failure = Box<dyn std::error::Error>;

/// The leader begins again with what could not be kept or was not what it sent; what cannot be known to be durable
/// ends the node.
fn failure(error: Failure, position: Position) -> Event {
    tracing::warn!(error = with_causes(&*error), "failed to receive a snapshot");
    match error.downcast::<StorageError>() {
        Ok(error) if matches!(*error, StorageError::Sync { .. }) => Event::Failed(*error),
        _ => Event::Unreceived(position),
    }
}

/// Writes chunks that count, and in the end reads the machine whose state they were.
struct Keeper {
    snapshots: Snapshots,
    inbox: Inbox,
    running: Option<(Snapshot, Writer)>,
}

impl Keeper {
    fn run(mut self, chunks: &Receiver<(Accept, Vec<u8>)>, count: &AtomicUsize) {
        for (accept, data) in chunks {
            let position = accept.snapshot.position;
            match self.keep(accept, &data) {
                Ok(None) => {}
                Ok(Some((snapshot, machine))) => {
                    self.inbox.deliver(Event::Received { snapshot, machine: Box::new(machine) });
                }
                Err(error) => {
                    self.running = None;
                    if let Err(error) = self.snapshots.give_up_receiving() {
                        tracing::warn!(error = with_causes(&error), "failed to let go of half a snapshot");
                    }
                    self.inbox.deliver(failure(error, position));
                }
            }
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn keep(
        &mut self,
        Accept { snapshot, number, last }: Accept,
        data: &[u8],
    ) -> Result<Option<(Snapshot, Machine<KeyValue>)>, Failure> {
        if number == 0 {
            self.running = Some((snapshot.clone(), self.snapshots.receive(&snapshot)?));
        }
        let Some((_, writer)) = self.running.as_mut().filter(|(running, _)| *running == snapshot) else {
            // It failed before; what was on its way then comes to nothing.
            return Ok(None);
        };
        writer.write_all(data)?;
        if !last {
            return Ok(None);
        }
        let Some((_, writer)) = self.running.take() else { return Ok(None) };
        writer.expect(&snapshot)?;
        let placed = writer.finish()?;
        let machine = Machine::restore(self.snapshots.open(placed.position)?)?;
        Ok(Some((placed, machine)))
    }
}
