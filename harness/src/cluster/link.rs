//! A link: the proxy through which one party of a run speaks to a node, and where it can be broken.
//!
//! In: connections to an address of the run's ground. Out: the same bytes at the target, in both directions,
//! as far as the direction's [`Rule`] lets them pass. Never: a byte changed, reordered or made up.
//!
//! A link has a rule per direction, in a watch. A pump asks for it after each read and before the write that
//! follows, so a rule acts at once on connections that stand and on bytes that had already been asked for.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Connections that one link carries at once; the next one is reset.
pub const CONNECTIONS_MAX: usize = 256;

const BUFFER_BYTES: usize = 64 * 1024;
/// A connect on loopback succeeds or is refused at once, except to a stopped process with a full backlog.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// After a failed accept (no file descriptor left), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Who speaks over a link; the other end is always a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Clients,
    Node(String),
}

/// As seen from the source, who opens the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// What happens to bytes that go in one direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rule {
    #[default]
    Pass,
}

/// What went over a link so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Accepted, the refused among them.
    pub connections: u64,
    /// Reset, because the target did not accept or the link was full.
    pub refused: u64,
    pub forward_bytes: u64,
    pub backward_bytes: u64,
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

#[derive(Default)]
struct Ways {
    forward: Way,
    backward: Way,
    connections: AtomicU64,
    refused: AtomicU64,
}

#[derive(Default)]
struct Way {
    rule: watch::Sender<Rule>,
    bytes: AtomicU64,
}

impl Link {
    /// Listens on `listen` and carries each connection on to `target`.
    pub async fn open(source: Source, to: &str, listen: SocketAddr, target: SocketAddr) -> io::Result<Link> {
        let listener = TcpListener::bind(listen).await?;
        let ways = Arc::<Ways>::default();
        let task = tokio::spawn(carry_all(listener, target, Arc::clone(&ways)));
        Ok(Link { source, to: to.to_string(), listen, ways, task })
    }

    /// Sets the rule of one direction, for the connections that stand and those to come.
    pub fn set_rule(&self, direction: Direction, rule: Rule) {
        self.ways.way(direction).rule.send_replace(rule);
    }

    pub fn rule(&self, direction: Direction) -> Rule {
        *self.ways.way(direction).rule.borrow()
    }

    pub fn traffic(&self) -> Traffic {
        Traffic {
            connections: self.ways.connections.load(Ordering::Relaxed),
            refused: self.ways.refused.load(Ordering::Relaxed),
            forward_bytes: self.ways.forward.bytes.load(Ordering::Relaxed),
            backward_bytes: self.ways.backward.bytes.load(Ordering::Relaxed),
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

impl Ways {
    fn way(&self, direction: Direction) -> &Way {
        match direction {
            Direction::Forward => &self.forward,
            Direction::Backward => &self.backward,
        }
    }
}

/// Accepts for as long as the link lives. The connections are this task's own, and end with it.
async fn carry_all(listener: TcpListener, target: SocketAddr, ways: Arc<Ways>) {
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((source, _)) => {
                    ways.connections.fetch_add(1, Ordering::Relaxed);
                    if carried.len() < CONNECTIONS_MAX {
                        carried.spawn(carry(source, target, Arc::clone(&ways)));
                    } else {
                        ways.refused.fetch_add(1, Ordering::Relaxed);
                        reset(&source);
                    }
                }
                Err(error) => {
                    tracing::warn!("link to {target}: failed to accept: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = carried.join_next() => {}
        }
    }
}

/// One connection, until both directions have ended, or one has broken.
async fn carry(mut source: TcpStream, target: SocketAddr, ways: Arc<Ways>) {
    let Ok(Ok(mut target)) = timeout(CONNECT_LIMIT, TcpStream::connect(target)).await else {
        ways.refused.fetch_add(1, Ordering::Relaxed);
        return reset(&source);
    };
    // Without this option bytes only wait longer; that is no reason to refuse them.
    let _ = source.set_nodelay(true);
    let _ = target.set_nodelay(true);
    let carried = {
        let (source_reads, source_writes) = source.split();
        let (target_reads, target_writes) = target.split();
        tokio::try_join!(
            pump(source_reads, target_writes, &ways.forward),
            pump(target_reads, source_writes, &ways.backward),
        )
    };
    if carried.is_err() {
        // The end that is left learns that this was no orderly close.
        reset(&source);
        reset(&target);
    }
}

/// Moves the bytes of one direction until their end, which it passes on.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, way: &Way) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        match *way.rule.borrow() {
            Rule::Pass => {}
        }
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
        way.bytes.fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// Closing it sends RST instead of FIN.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests {
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
        let expected =
            Traffic { connections: 1, refused: 0, forward_bytes: bytes, backward_bytes: bytes + 26 };
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
