//! The way to the driver: a queue bounded in events and in bytes.
//!
//! In: events of the transport. Out: the same, in their order. Never: a wait of who brings one, but of this node's own threads.
//!
//! Requests find it full at half of what messages of peers do: however much clients ask, a leader is heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::Duration;

use mkraft_proto::v1::{Error, ErrorCode};

use super::Event;

/// Events that wait for the driver, and their bytes.
const EVENTS_MAX: usize = 4096;
const BYTES_MAX: usize = 64 << 20;
/// Who finds it full may come back after this: some turns of the driver.
const RETRY_AFTER_MS: u32 = 20;

/// The way to a driver.
#[derive(Clone)]
pub struct Inbox {
    sender: SyncSender<Event>,
    /// Bytes of all events that wait.
    waiting: Arc<AtomicUsize>,
}

/// The driver's end of it.
pub struct Arrivals {
    receiver: Receiver<Event>,
    waiting: Arc<AtomicUsize>,
}

impl Inbox {
    pub fn new() -> (Inbox, Arrivals) {
        let (sender, receiver) = std::sync::mpsc::sync_channel(EVENTS_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        (Inbox { sender, waiting: waiting.clone() }, Arrivals { receiver, waiting })
    }

    /// For what will be sent again: dropped when the inbox is full.
    pub fn offer(&self, event: Event) {
        if self.put(event, BYTES_MAX).is_err() {
            tracing::debug!("dropped a message: the inbox is full or the driver has ended");
        }
    }

    /// For what somebody waits for.
    pub fn request(&self, event: Event) -> Result<(), Error> {
        self.put(event, BYTES_MAX / 2).map_err(|error| match error {
            TrySendError::Full(()) => {
                let busy = Error::new(ErrorCode::Busy, "the node's inbox is full");
                Error { retry_after_ms: RETRY_AFTER_MS, ..busy }
            }
            TrySendError::Disconnected(()) => Error::new(ErrorCode::Stopping, "the node is stopping"),
        })
    }

    /// For what a thread of this node has done: waits for room. False: without a driver there is nobody left to tell.
    pub fn deliver(&self, event: Event) -> bool {
        self.waiting.fetch_add(event.bytes(), Ordering::Relaxed);
        self.sender.send(event).is_ok()
    }

    /// Waits for room.
    pub fn stop(&self, reason: String) {
        // Without a driver there is nothing left to stop.
        let _ = self.sender.send(Event::Stop { reason });
    }

    /// Those who come at one moment may together exceed `bytes_max`, by one event each.
    fn put(&self, event: Event, bytes_max: usize) -> Result<(), TrySendError<()>> {
        let bytes = event.bytes();
        // Something larger than all there may be is taken when it is alone.
        let before = self.waiting.load(Ordering::Relaxed);
        if before > 0 && before + bytes > bytes_max {
            return Err(TrySendError::Full(()));
        }
        // Counted first, so that the driver never takes away what was not added.
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        self.sender.try_send(event).map_err(|error| {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => TrySendError::Full(()),
                TrySendError::Disconnected(_) => TrySendError::Disconnected(()),
            }
        })
    }
}

impl Arrivals {
    pub fn next(&self, within: Duration) -> Result<Event, RecvTimeoutError> {
        self.receiver.recv_timeout(within).inspect(|event| self.took(event))
    }

    /// What is there already.
    pub fn next_now(&self) -> Option<Event> {
        self.receiver.try_recv().ok().inspect(|event| self.took(event))
    }

    fn took(&self, event: &Event) {
        self.waiting.fetch_sub(event.bytes(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{Body, Entry, EntryKind, Index, Message, NodeId, Position, Term};

    fn write(bytes: usize) -> Event {
        let (respond, _) = tokio::sync::oneshot::channel();
        Event::Write { payload: vec![0; bytes].into(), respond }
    }

    fn message(bytes: usize) -> Event {
        let entry = Entry {
            index: Index(1),
            term: Term(1),
            kind: EntryKind::Command,
            payload: vec![0; bytes].into(),
        };
        let body =
            Body::Append { prev: Position::default(), entries: vec![entry], commit: Index(0), round: 0 };
        Event::Message(Message { from: NodeId(1), to: NodeId(2), term: Term(1), body })
    }

    fn waiting(arrivals: &Arrivals) -> usize {
        std::iter::from_fn(|| arrivals.next_now()).count()
    }

    #[test]
    fn requests_are_refused_with_a_hint_before_messages_are_dropped() {
        let (inbox, arrivals) = Inbox::new();
        let large = 1 << 20;
        let taken = (0..100).take_while(|_| inbox.request(write(large)).is_ok()).count();
        assert_eq!(taken, BYTES_MAX / 2 / large);
        let busy = inbox.request(write(large)).unwrap_err();
        assert_eq!((busy.code(), busy.retry_after_ms), (ErrorCode::Busy, RETRY_AFTER_MS));
        (0..100).for_each(|_| inbox.offer(message(large)));
        // A message is a little more than the entry it carries.
        assert_eq!(waiting(&arrivals), BYTES_MAX / large - 1);
        assert_eq!(inbox.waiting.load(Ordering::Relaxed), 0);
        assert!(inbox.request(write(large)).is_ok(), "there is room again");
    }

    #[test]
    fn small_requests_are_bounded_by_their_number_and_the_refused_count_for_nothing() {
        let (inbox, arrivals) = Inbox::new();
        let taken = (0..2 * EVENTS_MAX).filter(|_| inbox.request(write(8)).is_ok()).count();
        assert_eq!(taken, EVENTS_MAX);
        assert_eq!(waiting(&arrivals), EVENTS_MAX);
        assert_eq!(inbox.waiting.load(Ordering::Relaxed), 0);
        drop(arrivals);
        assert_eq!(inbox.request(write(8)).unwrap_err().code(), ErrorCode::Stopping);
        assert_eq!(inbox.waiting.load(Ordering::Relaxed), 0);
    }
}
