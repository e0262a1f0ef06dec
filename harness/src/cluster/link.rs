//! A link: the proxy through which one party of a run speaks to a node, and where it can be broken.
//!
//! In: connections to an address of the run's ground. Out: the same bytes at the target, in both directions,
//! as far as the rules of each direction let them pass. Never: a byte changed, reordered or made up.
//!
//! Each fault lays its own rule on a direction, and lifts it ([`rules`]). A pump asks what they come to after each
//! read and before the write that follows ([`pump`]), so a rule acts at once on connections that stand and on bytes
//! that had already been asked for. What is done to whole connections, [`carry`] does: to reset them, to tell only one
//! end that there is none any more, to let nobody connect.

mod carry;
mod pump;
mod rules;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use carry::{CONNECT_LIMIT, Ways, carry_all};

pub use pump::HELD_BYTES_MAX;
pub use rules::{DELAY_TIMES_MAX, Delay, Distribution, Rule};

/// Connections that one link carries at once; the next one is reset.
pub const CONNECTIONS_MAX: usize = 256;

/// Who speaks over a link; the other end is always a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Clients,
    Node(String),
}

/// As seen from the source, who opens the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    Forward,
    Backward,
}

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    #[default]
    Source,
    Target,
}

/// What went over a link so far, and what waits in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Accepted, the refused among them.
    pub connections: u64,
    /// Reset, because the target did not accept or the link was full.
    pub refused: u64,
    pub forward_bytes: u64,
    pub backward_bytes: u64,
    /// Read and not yet given on.
    pub forward_held: u64,
    pub backward_held: u64,
}

impl Traffic {
    pub fn passed(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Forward => self.forward_bytes,
            Direction::Backward => self.backward_bytes,
        }
    }

    pub fn held(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Forward => self.forward_held,
            Direction::Backward => self.backward_held,
        }
    }
}

/// When it is dropped, its connections are closed and its address is free.
pub struct Link {
    pub source: Source,
    /// Name of the node it leads to.
    pub to: String,
    /// Where the source connects to.
    pub listen: SocketAddr,
    ways: Arc<Ways>,
    task: JoinHandle<()>,
}

impl Link {
    /// Listens on `listen` and carries each connection on to `target`.
    pub async fn open(source: Source, to: &str, listen: SocketAddr, target: SocketAddr) -> io::Result<Link> {
        let listener = TcpListener::bind(listen).await?;
        let ways = Arc::<Ways>::default();
        ways.listens.store(true, Ordering::Relaxed);
        let task = tokio::spawn(carry_all(listener, listen, target, Arc::clone(&ways)));
        Ok(Link { source, to: to.to_string(), listen, ways, task })
    }

    /// Lays a fault's rule on one direction, for the connections that stand and those to come. When it returns, no
    /// byte passes that the rule holds up.
    pub fn set(&self, direction: Direction, fault: u64, rule: Rule) {
        self.ways.way(direction).set(fault, rule);
    }

    /// What was held goes on, in its order.
    pub fn lift(&self, direction: Direction, fault: u64) {
        self.ways.way(direction).lift(fault);
    }

    /// Whether some fault's rule lies on the direction.
    pub fn is_ruled(&self, direction: Direction) -> bool {
        self.ways.way(direction).is_ruled()
    }

    /// From soon on, nobody can connect until [`Link::admit`] takes it back for every fault.
    pub fn refuse(&self, fault: u64) {
        self.ways.refusing.send_modify(|faults| _ = faults.insert(fault));
    }

    pub fn admit(&self, fault: u64) {
        self.ways.refusing.send_modify(|faults| _ = faults.remove(&fault));
    }

    /// Whether a fault wants nobody to connect.
    pub fn is_refusing(&self) -> bool {
        !self.ways.refusing.borrow().is_empty()
    }

    /// Whether the kernel refuses a connection, tried on the spot.
    pub async fn refuses(&self) -> bool {
        let tried = timeout(CONNECT_LIMIT, TcpStream::connect(self.listen)).await;
        tried.is_ok_and(|tried| tried.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
    }

    pub fn listens(&self) -> bool {
        self.ways.listens.load(Ordering::Relaxed)
    }

    /// Resets every connection that stands, both ends, and what it held is lost. Returns their numbers: they are
    /// soon not [`standing`](Link::standing) any more; lift no rule before, or what it held may slip out.
    pub fn reset(&self) -> BTreeSet<u64> {
        let standing = self.standing();
        self.ways.orders.send_modify(|orders| orders.reset += 1);
        standing
    }

    /// Resets one end of each connection that stands, and tells the other nothing: what that one sends, goes nowhere.
    /// Returns their numbers: they are soon [`half_open`](Link::half_open).
    pub fn open_by_half(&self, told: End) -> BTreeSet<u64> {
        let whole =
            self.ways.standing().iter().filter(|(_, half)| !**half).map(|(number, _)| *number).collect();
        self.ways.orders.send_modify(|orders| {
            orders.half_open += 1;
            orders.told = told;
        });
        whole
    }

    /// Tells the other end as well.
    pub fn reset_half_open(&self) {
        self.ways.orders.send_modify(|orders| orders.reset_half_open += 1);
    }

    pub fn standing(&self) -> BTreeSet<u64> {
        self.ways.standing().keys().copied().collect()
    }

    pub fn half_open(&self) -> BTreeSet<u64> {
        self.ways.standing().iter().filter(|(_, half)| **half).map(|(number, _)| *number).collect()
    }

    /// Takes back all that any fault has done to it. Returns whether there was anything.
    pub fn heal(&self) -> bool {
        let ruled = self.ways.forward.lift_all() | self.ways.backward.lift_all();
        let refused = !self.ways.refusing.send_replace(BTreeSet::new()).is_empty();
        let half_open = !self.half_open().is_empty();
        self.reset_half_open();
        ruled || refused || half_open
    }

    pub fn traffic(&self) -> Traffic {
        Traffic {
            connections: self.ways.connections.load(Ordering::Relaxed),
            refused: self.ways.refused.load(Ordering::Relaxed),
            forward_bytes: self.ways.forward.passed(),
            backward_bytes: self.ways.backward.passed(),
            forward_held: self.ways.forward.held(),
            backward_held: self.ways.backward.held(),
        }
    }
}

/// Lets this process, and all that it starts, open as many files as an ordinary user may ask for.
///
/// The usual limit of 1024 is a few hundred connections through links, and a server out of files does not
/// fail but hangs.
pub(super) fn raise_open_files_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!("failed to raise the limit of open files from {soft} to {hard}: {error}");
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Clients => write!(f, "clients -> {}", self.to),
            Source::Node(from) => write!(f, "{from} -> {}", self.to),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// A link from a free port to a target that the test plays.
    async fn link() -> (Link, TcpListener) {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = target.local_addr().unwrap();
        (open(address).await, target)
    }

    async fn open(target: SocketAddr) -> Link {
        let listen = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        Link::open(Source::Node("n1".into()), "n2", listen, target).await.unwrap()
    }

    async fn until(what: &str, mut fact: impl FnMut() -> bool) {
        let fact = async {
            while !fact() {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, fact).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"));
    }

    fn open_files() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_each_direction_ends_by_itself() {
        let (link, target) = link().await;
        let mut source = TcpStream::connect(link.listen).await.unwrap();
        let (mut peer, _) = target.accept().await.unwrap();
        // More than all the buffers on the way hold, so that both pumps must run at once.
        let sent: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
        let mut echoed = Vec::new();
        let echo = async {
            let (mut reads, mut writes) = peer.split();
            tokio::io::copy(&mut reads, &mut writes).await.unwrap();
            writes.write_all(b"after the other side's end").await.unwrap();
            writes.shutdown().await.unwrap();
        };
        let (mut reads, mut writes) = source.split();
        let speak = async {
            writes.write_all(&sent).await.unwrap();
            writes.shutdown().await.unwrap();
        };
        let all = async { tokio::join!(echo, speak, reads.read_to_end(&mut echoed)).2 };
        timeout(DEADLINE, all).await.unwrap().unwrap();
        assert_eq!(echoed.len(), sent.len() + 26);
        assert!(echoed.starts_with(&sent) && echoed.ends_with(b"after the other side's end"));
        let bytes = sent.len() as u64;
        let expected = Traffic {
            connections: 1,
            forward_bytes: bytes,
            backward_bytes: bytes + 26,
            ..Traffic::default()
        };
        assert_eq!(link.traffic(), expected);
    }

    #[tokio::test]
    async fn a_refused_target_resets_the_source() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let link = open(nobody).await;
        let mut source = TcpStream::connect(link.listen).await.unwrap();
        let error = timeout(DEADLINE, source.read(&mut [0; 8])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!((link.traffic().connections, link.traffic().refused), (1, 1));
    }

    #[tokio::test]
    async fn a_reset_target_resets_the_source() {
        let (link, target) = link().await;
        let mut source = TcpStream::connect(link.listen).await.unwrap();
        let (peer, _) = target.accept().await.unwrap();
        peer.set_zero_linger().unwrap();
        drop(peer);
        let error = timeout(DEADLINE, source.read(&mut [0; 8])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn many_connections_leave_no_open_file_and_beyond_the_limit_they_are_reset() {
        raise_open_files_limit();
        let (link, target) = link().await;
        let mut pairs = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let source = TcpStream::connect(link.listen).await.unwrap();
            pairs.push((source, target.accept().await.unwrap().0));
        }
        let mut late = TcpStream::connect(link.listen).await.unwrap();
        let error = timeout(DEADLINE, late.read(&mut [0; 8])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        // Those that stand are not harmed.
        for (source, peer) in &mut pairs {
            source.write_all(b"?").await.unwrap();
            peer.read_exact(&mut [0; 1]).await.unwrap();
        }
        let open = open_files();
        drop(pairs);
        // Two ends each here, two each in the link. Other tests of this process open files too, but not so many.
        until("files closed", || open_files() <= open - 3 * CONNECTIONS_MAX).await;
    }

    #[tokio::test]
    async fn a_dropped_link_closes_what_stands_and_frees_its_address() {
        let (link, target) = link().await;
        let mut source = TcpStream::connect(link.listen).await.unwrap();
        let _peer = target.accept().await.unwrap();
        let address = link.listen;
        drop(link);
        let ended = timeout(DEADLINE, source.read(&mut [0; 8])).await.unwrap();
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        until("address free", || std::net::TcpListener::bind(address).is_ok()).await;
    }
}
