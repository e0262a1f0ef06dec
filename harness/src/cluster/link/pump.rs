//! Moves the bytes of one direction of a connection, as far and as fast as its way lets them.
//!
//! In: one half of each of two sockets, and the [`Way`] between them. Out: the same bytes in the same order, and the
//! end of the one side told to the other. Never: a byte dropped while both sides stand, or memory beyond
//! [`HELD_BYTES_MAX`] for a way and one buffer for each of its connections: from there on the sender is held up.
//!
//! That a side has closed or broken is news that travels with its bytes: what holds the bytes holds it as well.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until};

use super::rules::{Effect, Way};

/// Bytes that wait in one direction of a link, all its connections together.
pub const HELD_BYTES_MAX: u64 = 1024 * 1024;

pub(super) const BUFFER_BYTES: usize = 64 * 1024;
/// Bytes that a rate lets on come in pieces of so much time, and no smaller ones than this.
const PIECE: Duration = Duration::from_millis(10);
const PIECE_BYTES_MIN: usize = 64;

/// What the pumps of one connection tell each other of one side.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// Nothing can be written to it any more.
    broken: AtomicBool,
    /// That it has closed has been passed on.
    closed: AtomicBool,
}

/// Returns when the end of `from` has been passed on; fails when that it has broken is to be passed on.
///
/// `sides` are those that it reads from and writes to. `number` is the connection's, by which its draws are its own.
pub(super) async fn pump(
    mut from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    way: &Way,
    sides: (&Side, &Side),
    number: u64,
) -> io::Result<()> {
    let mut effects = way.effects();
    let mut queue = Queue::new(way, number);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        if queue.is_empty() {
            let read = from.read(&mut buffer).await;
            let length = *read.as_ref().unwrap_or(&0);
            match pass(&to, &buffer[..length], way) {
                Ok(passed) if passed == length && length > 0 => {}
                Ok(passed) => queue.take(read, &buffer, passed),
                Err(_) => break,
            }
            continue;
        }
        let effect = *effects.borrow_and_update();
        let due = queue.due(&effect);
        let reads_ahead = effect.reads_ahead() && queue.end.is_none() && way.held() < HELD_BYTES_MAX;
        tokio::select! {
            // The sender is the way's own, and outlives this.
            _ = effects.changed() => {}
            writable = writable_at(&to, due) => match writable.and_then(|()| queue.deliver(&to)) {
                Ok(None) => {}
                Ok(Some(end)) => return pass_on(end, sides.0, to).await,
                Err(_) => break,
            },
            read = from.read(&mut buffer), if reads_ahead => queue.take(read, &buffer, 0),
        }
    }
    // The side that is written to has broken. That is news for the other side, and the other pump's to bring.
    drop(queue);
    let (_, to_side) = sides;
    to_side.broken.store(true, Ordering::Relaxed);
    if to_side.closed.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    pending().await
}

async fn pass_on(end: Close, side: &Side, mut to: WriteHalf<'_>) -> io::Result<()> {
    match end {
        Close::Orderly if side.broken.load(Ordering::Relaxed) => Err(io::ErrorKind::ConnectionReset.into()),
        Close::Orderly => {
            side.closed.store(true, Ordering::Relaxed);
            to.shutdown().await
        }
        Close::Broken(error) => Err(error),
    }
}

/// Writes what can be written at once, if nothing holds it up.
fn pass(to: &WriteHalf<'_>, bytes: &[u8], way: &Way) -> io::Result<usize> {
    // Borrowed until the bytes are gone and counted.
    let effect = way.effect();
    if bytes.is_empty() || !effect.passes() {
        return Ok(0);
    }
    write_now(to, bytes, way)
}

fn write_now(to: &WriteHalf<'_>, bytes: &[u8], way: &Way) -> io::Result<usize> {
    match to.try_write(bytes) {
        Ok(written) => {
            way.count_passed(written);
            Ok(written)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

async fn writable_at(to: &WriteHalf<'_>, due: Option<Instant>) -> io::Result<()> {
    match due {
        None => pending().await,
        Some(due) => {
            if due > Instant::now() {
                sleep_until(due).await;
            }
            to.writable().await
        }
    }
}

/// What has been read and may not go yet.
struct Queue<'w> {
    way: &'w Way,
    pieces: VecDeque<Piece>,
    end: Option<(Instant, Close)>,
    /// When the newest of them may go: none overtakes another.
    last_due: Option<Instant>,
    draws: Option<(u64, ChaCha8Rng)>,
    number: u64,
}

struct Piece {
    due: Instant,
    bytes: Vec<u8>,
    sent: usize,
}

/// How a side has ended.
#[derive(Debug)]
enum Close {
    Orderly,
    Broken(io::Error),
}

impl<'w> Queue<'w> {
    fn new(way: &'w Way, number: u64) -> Queue<'w> {
        Queue { way, pieces: VecDeque::new(), end: None, last_due: None, draws: None, number }
    }

    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.end.is_none()
    }

    /// Takes in what a read gave, of which the first `passed` bytes have gone already.
    fn take(&mut self, read: io::Result<usize>, buffer: &[u8], passed: usize) {
        let effect = *self.way.effect();
        match read {
            Ok(0) => self.finish(Close::Orderly, &effect),
            Ok(length) => self.put(&buffer[passed..length], &effect),
            Err(error) => self.finish(Close::Broken(error), &effect),
        }
    }

    fn put(&mut self, bytes: &[u8], effect: &Effect) {
        let size = effect.bytes_per_s.map_or(BUFFER_BYTES, |rate| {
            ((rate as f64 * PIECE.as_secs_f64()) as usize).clamp(PIECE_BYTES_MIN, BUFFER_BYTES)
        });
        let from = self.when(effect);
        for bytes in bytes.chunks(size) {
            let due = match effect.bytes_per_s {
                Some(rate) => self.way.reserve(from, bytes.len(), rate),
                None => from,
            };
            self.way.count_held(bytes.len());
            self.last_due = Some(due);
            self.pieces.push_back(Piece { due, bytes: bytes.to_vec(), sent: 0 });
        }
    }

    fn finish(&mut self, end: Close, effect: &Effect) {
        self.end = Some((self.when(effect) + effect.slow_close, end));
    }

    /// When that which comes now may go, if nothing but a delay keeps it.
    fn when(&mut self, effect: &Effect) -> Instant {
        let own = Instant::now()
            + effect.delay.map_or(Duration::ZERO, |delay| {
                let (seed, numbers) = self
                    .draws
                    .take()
                    .filter(|(seed, _)| *seed == delay.seed)
                    .unwrap_or_else(|| (delay.seed, ChaCha8Rng::seed_from_u64(delay.seed ^ self.number)));
                let (_, numbers) = self.draws.insert((seed, numbers));
                delay.draw(numbers)
            });
        // The one before may have gone when it was not due yet.
        self.last_due.filter(|_| !self.pieces.is_empty()).map_or(own, |last| last.max(own))
    }

    /// When the first of them may go; none while they are held. What waits for a rule that is no more, goes at once.
    fn due(&self, effect: &Effect) -> Option<Instant> {
        let now = Instant::now();
        match (self.pieces.front(), &self.end) {
            _ if effect.hold => None,
            (Some(_), _) if effect.passes() => Some(now),
            (Some(piece), _) => Some(piece.due),
            (None, Some(_)) if effect.passes() && effect.slow_close.is_zero() => Some(now),
            (None, Some((due, _))) => Some(*due),
            (None, None) => None,
        }
    }

    /// Writes as much of the first piece as there is room for. The end, when nothing comes before it any more.
    fn deliver(&mut self, to: &WriteHalf<'_>) -> io::Result<Option<Close>> {
        // Borrowed until the bytes are gone and counted.
        let effect = self.way.effect();
        if effect.hold {
            return Ok(None);
        }
        let Some(piece) = self.pieces.front_mut() else { return Ok(self.end.take().map(|(_, end)| end)) };
        let written = write_now(to, &piece.bytes[piece.sent..], self.way)?;
        self.way.count_let_go(written);
        piece.sent += written;
        if piece.sent == piece.bytes.len() {
            self.pieces.pop_front();
        }
        Ok(None)
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        self.way.count_let_go(self.pieces.iter().map(|piece| piece.bytes.len() - piece.sent).sum());
    }
}
