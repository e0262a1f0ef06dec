//! Talking: gRPC to peers, clients and operators.
//!
//! In: streams and requests. Out: [`Event`](crate::driver::Event)s in the driver's inbox, and replies. Never: a
//! decision. Every queue is bounded and full is an answer: a message is dropped (Raft sends it again), a
//! request is told "busy".

mod admin;
mod folders;
mod kv;
mod outbound;
mod raft;
pub(crate) mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mkraft_proto::v1;
use mkraft_proto::v1::admin_server::AdminServer;
use mkraft_proto::v1::kv_server::KvServer;
use mkraft_proto::v1::raft_server::RaftServer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tonic::transport::server::TcpIncoming;

use folders::{Folders, Meet};

use crate::driver::Inbox;
use crate::raft::{Message, NodeId, Status};

/// Envelopes to one peer that its stream has not taken yet.
const QUEUE: usize = 1024;

/// The largest message that a node takes: an append's entries may exceed its bound by one of the largest.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// A stream to a peer that carries nothing back for the sum of these is given up.
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(500);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// After a connection that could not be accepted. Others wait in the kernel's queue meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Of connections that others opened: long enough that a node which was stopped for a while still reads, when it wakes,
/// what was sent to it meanwhile; short enough that a host which vanished does not keep its socket.
const IDLE_INTERVAL: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// What one node says to the others: a bounded queue to each, which exists only while its stream stands.
#[derive(Clone, Default)]
pub struct Outbox(Arc<Mutex<Queues>>);

#[derive(Default)]
struct Queues {
    /// To the peers' side of the streams that this node opened.
    requests: BTreeMap<NodeId, Queue>,
    /// Back on the streams that peers opened.
    replies: BTreeMap<NodeId, Queue>,
}

struct Queue {
    epoch: u64,
    sender: mpsc::Sender<v1::Envelope>,
}

impl Outbox {
    /// Hands the message to its stream, or drops it where there is none or its queue is full.
    pub fn send(&self, message: Message) {
        let (to, reply) = (message.to, message.body.is_reply());
        self.offer(to, reply, || wire::encode(message));
    }

    /// The same for a chunk of a snapshot, with its bytes.
    pub fn send_chunk(&self, message: Message, data: Vec<u8>) {
        self.offer(message.to, false, || wire::encode_chunk(message, data));
    }

    /// True while a stream to this peer stands.
    pub fn reaches(&self, peer: NodeId) -> bool {
        self.lock().requests.contains_key(&peer)
    }

    fn offer(&self, to: NodeId, reply: bool, encode: impl FnOnce() -> v1::Envelope) {
        let queues = self.lock();
        let queue = if reply { queues.replies.get(&to) } else { queues.requests.get(&to) };
        let Some(queue) = queue else { return };
        if queue.sender.try_send(encode()).is_err() {
            tracing::debug!(%to, "dropped a message: the queue is full or its stream has ended");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    fn of(&mut self, direction: Direction) -> &mut BTreeMap<NodeId, Queue> {
        match direction {
            Direction::Requests => &mut self.requests,
            Direction::Replies => &mut self.replies,
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Requests,
    Replies,
}

/// Holds a queue in the outbox for as long as its stream stands.
struct Registration {
    outbox: Outbox,
    direction: Direction,
    peer: NodeId,
    epoch: u64,
}

/// What a stream takes its messages from; none come before its [`Registration`].
fn queue() -> (mpsc::Sender<v1::Envelope>, mpsc::Receiver<v1::Envelope>) {
    mpsc::channel(QUEUE)
}

impl Registration {
    /// Replaces the queue of an older stream, which has then ended for this node.
    fn new(
        outbox: &Outbox,
        direction: Direction,
        peer: NodeId,
        epoch: u64,
        sender: mpsc::Sender<v1::Envelope>,
    ) -> Registration {
        outbox.lock().of(direction).insert(peer, Queue { epoch, sender });
        Registration { outbox: outbox.clone(), direction, peer, epoch }
    }

    /// False once a newer stream of this peer has replaced this one.
    fn stands(&self) -> bool {
        let mut queues = self.outbox.lock();
        queues.of(self.direction).get(&self.peer).is_some_and(|queue| queue.epoch == self.epoch)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut queues = self.outbox.lock();
        // Not `stands`, which locks as well.
        let queue = queues.of(self.direction);
        if queue.get(&self.peer).is_some_and(|queue| queue.epoch == self.epoch) {
            queue.remove(&self.peer);
        }
    }
}

/// Everything that a node's transport needs to know.
pub struct Transport {
    pub id: NodeId,
    pub peers: BTreeMap<NodeId, String>,
    /// Which data folder this node keeps.
    pub folder: u128,
    /// Which its peers keep, as far as is known, and what remembers those of the others.
    pub met: BTreeMap<NodeId, u128>,
    pub meet: Meet,
    pub inbox: Inbox,
    pub outbox: Outbox,
    pub status: watch::Receiver<NodeStatus>,
}

/// What `Status` answers.
#[derive(Clone, Copy, Debug)]
pub struct NodeStatus {
    pub raft: Status,
    pub applied: u64,
}

impl Transport {
    /// Binds the address; the error names it.
    pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        let failed = |error: io::Error| {
            io::Error::new(error.kind(), format!("failed to listen on {address}: {error}"))
        };
        TcpListener::bind(address).await.map_err(failed)
    }

    /// Serves until `stop` completes; streams that stand then are cut.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), tonic::transport::Error> {
        let Transport { id, peers, folder, met, meet, inbox, outbox, status } = self;
        let folders = Folders::new(folder, met, meet);
        for (&peer, address) in &peers {
            let (inbox, outbox, folders) = (inbox.clone(), outbox.clone(), folders.clone());
            tokio::spawn(outbound::keep_stream(id, peer, address.clone(), inbox, outbox, folders));
        }
        let ids: BTreeSet<NodeId> = peers.keys().copied().collect();
        let raft = raft::Service::new(id, ids.clone(), inbox.clone(), outbox, folders);
        let raft = RaftServer::new(raft).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let admin = AdminServer::new(admin::Service::new(id, ids, inbox.clone(), status));
        let kv = KvServer::new(kv::Service::new(inbox)).max_decoding_message_size(MESSAGE_BYTES_MAX);
        // A connection that cannot be taken, for want of a descriptor, is there again at once.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).then(|accepted| async {
            if accepted.is_err() {
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            accepted
        });
        let server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(IDLE_INTERVAL))
            .http2_keepalive_timeout(Some(IDLE_TIMEOUT))
            .add_service(raft)
            .add_service(kv)
            .add_service(admin);
        tokio::select! {
            result = server.serve_with_incoming(incoming) => result,
            () = stop => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_stream_no_longer_stands_and_takes_nothing_with_it() {
        let outbox = Outbox::default();
        let (sender, mut replies) = queue();
        let older = Registration::new(&outbox, Direction::Replies, NodeId(2), 1, sender);
        let other = Registration::new(&outbox, Direction::Requests, NodeId(2), 9, queue().0);
        assert!(older.stands());
        let newer = Registration::new(&outbox, Direction::Replies, NodeId(2), 2, queue().0);
        assert!(!older.stands() && newer.stands() && other.stands());
        assert!(replies.blocking_recv().is_none(), "the replaced queue has not ended");
        drop(older);
        assert!(newer.stands());
    }
}
