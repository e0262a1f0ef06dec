//! The streams that peers open to this node.

use std::collections::BTreeSet;

use mkraft_proto::v1::raft_server::Raft;
use mkraft_proto::v1::{Envelope, envelope};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Direction, Folders, Outbox, Registration, queue, wire};
use crate::driver::Inbox;
use crate::raft::NodeId;

pub struct Service {
    id: NodeId,
    peers: BTreeSet<NodeId>,
    inbox: Inbox,
    outbox: Outbox,
    folders: Folders,
    /// Counts inbound streams: each has an epoch of its own.
    streams: std::sync::atomic::AtomicU64,
}

impl Service {
    pub fn new(
        id: NodeId,
        peers: BTreeSet<NodeId>,
        inbox: Inbox,
        outbox: Outbox,
        folders: Folders,
    ) -> Service {
        Service { id, peers, inbox, outbox, folders, streams: Default::default() }
    }

    /// The peer that the first envelope of a stream names.
    async fn greeted_by(&self, first: Option<Envelope>) -> Result<NodeId, Status> {
        let Some(Envelope { from, to, body: Some(envelope::Body::Hello(hello)), .. }) = first else {
            return Err(Status::invalid_argument("a stream begins with a greeting"));
        };
        let peer = NodeId(from);
        if NodeId(to) != self.id {
            return Err(Status::invalid_argument(format!("this is {}, not {}", self.id, NodeId(to))));
        }
        if !self.peers.contains(&peer) {
            return Err(Status::permission_denied(format!("{peer} is no peer of {}", self.id)));
        }
        self.folders.check_bytes(peer, &hello.folder).await?;
        Ok(peer)
    }
}

#[tonic::async_trait]
impl Raft for Service {
    type ExchangeStream =
        std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<Envelope, Status>> + Send>>;

    async fn exchange(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let mut requests = request.into_inner();
        let peer = self.greeted_by(requests.message().await?).await?;
        let stream = 1 + self.streams.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (sender, replies) = queue();
        let registration = Registration::new(&self.outbox, Direction::Replies, peer, stream, sender);
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            // Dropping the registration ends the queue, and with it the half of the stream that replies.
            loop {
                match requests.message().await {
                    Ok(Some(envelope)) => {
                        let request = wire::event(envelope).filter(|event| {
                            event
                                .message()
                                .is_some_and(|message| message.from == peer && !message.body.is_reply())
                        });
                        let Some(request) = request else {
                            tracing::warn!(%peer, "ended a stream with a message that is no request of this peer");
                            break;
                        };
                        if !registration.stands() {
                            tracing::debug!(%peer, "ended a stream that a newer one has replaced");
                            break;
                        }
                        inbox.offer(request);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(%peer, %error, "a peer's stream has broken");
                        break;
                    }
                }
            }
        });
        let mut response: Response<Self::ExchangeStream> =
            Response::new(Box::pin(ReceiverStream::new(replies).map(Ok)));
        self.folders.sign(response.metadata_mut());
        Ok(response)
    }
}
