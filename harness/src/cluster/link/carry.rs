//! Carries the connections of a link, and obeys what is ordered for whole connections.
//!
//! In: a listener, the target's address, and the [`Ways`] between them. Out: a pump for each direction of each
//! connection. Never: a connection that outlives the link, or one more than [`CONNECTIONS_MAX`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::pump::{BUFFER_BYTES, HELD_BYTES_MAX, Side, pump};
use super::rules::Way;
use super::{CONNECTIONS_MAX, Direction, End};

/// A connect on loopback succeeds or is refused at once, except to a stopped process with a full backlog.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// After a failed accept (no file descriptor left) or a failed bind, so as not to spin.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(super) struct Ways {
    pub forward: Way,
    pub backward: Way,
    pub connections: AtomicU64,
    pub refused: AtomicU64,
    /// Those that stand, by number, and whether one end of it has been told that it does not.
    pub standing: Mutex<BTreeMap<u64, bool>>,
    pub orders: watch::Sender<Orders>,
    /// Faults by which nobody can connect.
    pub refusing: watch::Sender<BTreeSet<u64>>,
    pub listens: AtomicBool,
}

/// Counts what was ordered; who finds a count risen has to obey.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Orders {
    pub reset: u64,
    /// To reset what only one end believes in.
    pub reset_half_open: u64,
    pub half_open: u64,
    /// The end that the newest of these is to be told to.
    pub told: End,
}

impl Ways {
    pub fn way(&self, direction: Direction) -> &Way {
        match direction {
            Direction::Forward => &self.forward,
            Direction::Backward => &self.backward,
        }
    }

    pub fn standing(&self) -> MutexGuard<'_, BTreeMap<u64, bool>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts for as long as the link lives. The connections are this task's own, and end with it.
pub(super) async fn carry_all(
    listener: TcpListener,
    listen: SocketAddr,
    target: SocketAddr,
    ways: Arc<Ways>,
) {
    let mut carried = JoinSet::new();
    let mut refusing = ways.refusing.subscribe();
    let mut listener = Some(listener);
    loop {
        let refuses = !refusing.borrow_and_update().is_empty();
        if refuses {
            // Whoever connects now learns from the kernel that nobody listens.
            listener = None;
        } else if listener.is_none() {
            match TcpListener::bind(listen).await {
                Ok(bound) => listener = Some(bound),
                Err(error) => {
                    tracing::warn!("link to {target}: failed to listen again on {listen}: {error}");
                    sleep(PAUSE).await;
                    continue;
                }
            }
        }
        ways.listens.store(listener.is_some(), Ordering::Relaxed);
        tokio::select! {
            accepted = accept(listener.as_ref()) => match accepted {
                Ok(source) => {
                    let number = ways.connections.fetch_add(1, Ordering::Relaxed);
                    if carried.len() < CONNECTIONS_MAX {
                        // Before it stands: whoever sees it stand is heard by it.
                        let mut orders = ways.orders.subscribe();
                        let before = *orders.borrow_and_update();
                        let standing = Standing::new(number, &ways);
                        carried.spawn(carry(source, target, standing, (before, orders)));
                    } else {
                        ways.refused.fetch_add(1, Ordering::Relaxed);
                        reset(&source);
                    }
                }
                Err(error) => {
                    tracing::warn!("link to {target}: failed to accept: {error}");
                    sleep(PAUSE).await;
                }
            },
            // The sender outlives this.
            _ = refusing.changed() => {}
            Some(_) = carried.join_next() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(source, _)| source),
        None => std::future::pending().await,
    }
}

/// A connection's place among those that stand, until it is dropped.
struct Standing {
    number: u64,
    ways: Arc<Ways>,
}

impl Standing {
    fn new(number: u64, ways: &Arc<Ways>) -> Standing {
        ways.standing().insert(number, false);
        Standing { number, ways: Arc::clone(ways) }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.ways.standing().remove(&self.number);
    }
}

/// One connection, until both directions have ended, or one has broken, or an order ends it.
async fn carry(
    mut source: TcpStream,
    target: SocketAddr,
    standing: Standing,
    (before, mut orders): (Orders, watch::Receiver<Orders>),
) {
    let Ok(Ok(mut target)) = timeout(CONNECT_LIMIT, TcpStream::connect(target)).await else {
        standing.ways.refused.fetch_add(1, Ordering::Relaxed);
        return reset(&source);
    };
    // Without this option bytes only wait longer; that is no reason to refuse them.
    let _ = source.set_nodelay(true);
    let _ = target.set_nodelay(true);
    let ended = {
        let (source_reads, source_writes) = source.split();
        let (target_reads, target_writes) = target.split();
        let (source_side, target_side) = (Side::default(), Side::default());
        let (ways, number) = (&standing.ways, standing.number);
        let forward = pump(source_reads, target_writes, &ways.forward, (&source_side, &target_side), number);
        let backward =
            pump(target_reads, source_writes, &ways.backward, (&target_side, &source_side), number);
        tokio::select! {
            carried = async { tokio::try_join!(forward, backward) } => Ended::ByItself(carried.is_err()),
            ordered = orders.wait_for(|now| now.reset > before.reset || now.half_open > before.half_open) => {
                match ordered {
                    Ok(now) if now.reset == before.reset => Ended::Half(*now),
                    _ => Ended::ByItself(true),
                }
            }
        }
    };
    match ended {
        Ended::ByItself(false) => {}
        Ended::Half(now) => {
            let (told, other) = match now.told {
                End::Source => (source, target),
                End::Target => (target, source),
            };
            reset(&told);
            drop(told);
            standing.ways.standing().insert(standing.number, true);
            believe(other, now, orders).await;
        }
        // The end that is left learns that this was no orderly close.
        Ended::ByItself(true) => {
            reset(&source);
            reset(&target);
        }
    }
}

enum Ended {
    /// Whether it broke.
    ByItself(bool),
    Half(Orders),
}

/// Lets one end believe that its connection stands, until it closes it, or is told.
async fn believe(mut end: TcpStream, before: Orders, mut orders: watch::Receiver<Orders>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut taken = 0;
    let mut takes = async || {
        // As with a peer that is gone: what is sent is never acknowledged, and at last there is no room for more.
        while taken < HELD_BYTES_MAX {
            match end.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => taken += length as u64,
            }
        }
        std::future::pending().await
    };
    let told = |now: &Orders| now.reset > before.reset || now.reset_half_open > before.reset_half_open;
    tokio::select! {
        () = takes() => {}
        _ = orders.wait_for(told) => {}
    }
    reset(&end);
}

/// Closing it sends RST instead of FIN.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
