//! The stream that this node keeps open to one peer.
//!
//! In: the peer's address. Out: requests from the outbox on it, the peer's replies into the inbox. Never: a
//! message that waits for a stream: while none stands, messages are dropped.

use std::time::Duration;

use mkraft_proto::v1::raft_client::RaftClient;
use mkraft_proto::v1::{Envelope, Hello, envelope};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Endpoint;

use super::{
    Direction, Folders, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MESSAGE_BYTES_MAX, Outbox, Registration,
    queue, wire,
};
use crate::causes::with_causes;
use crate::driver::{Event, Inbox};
use crate::raft::NodeId;

/// To connect, and to have the stream accepted.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two tries; a peer that starts is found this soon.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Opens the stream again and again, as long as the node lives. Of a peer that stays away, one line tells.
pub async fn keep_stream(
    id: NodeId,
    peer: NodeId,
    address: String,
    inbox: Inbox,
    outbox: Outbox,
    folders: Folders,
) {
    let mut last_error = None;
    for epoch in 1.. {
        let opened = || {
            tracing::info!(%peer, address, "a stream is open");
            last_error = None;
        };
        let result = exchange((id, peer), &address, epoch, &inbox, &outbox, &folders, opened).await;
        match result.map_err(|error| error.message().to_owned()) {
            Ok(()) => tracing::debug!(%peer, address, "the stream has ended"),
            Err(error) if last_error.as_ref() != Some(&error) => {
                tracing::warn!(%peer, address, error, "failed to keep a stream; trying on");
                last_error = Some(error);
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

async fn exchange(
    (id, peer): (NodeId, NodeId),
    address: &str,
    epoch: u64,
    inbox: &Inbox,
    outbox: &Outbox,
    folders: &Folders,
    on_open: impl FnOnce(),
) -> Result<(), Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Status::invalid_argument(with_causes(&error)))?
        .connect_timeout(OPEN_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let channel = endpoint.connect().await.map_err(|error| Status::unavailable(with_causes(&error)))?;
    let mut client = RaftClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);

    let (sender, receiver) = queue();
    let hello = envelope::Body::Hello(Hello { folder: folders.own_bytes().into() });
    let hello = Envelope { from: id.0, to: peer.0, term: 0, body: Some(hello) };
    let requests = tokio_stream::once(hello).chain(ReceiverStream::new(receiver));
    let opened = tokio::time::timeout(OPEN_TIMEOUT, client.exchange(requests)).await;
    let opened = opened.map_err(|_| Status::deadline_exceeded("not accepted in time"))??;
    folders.check_signed(peer, opened.metadata()).await?;
    // Who is not who it was is not spoken to.
    let _registration = Registration::new(outbox, Direction::Requests, peer, epoch, sender);
    let mut replies = opened.into_inner();
    on_open();
    while let Some(envelope) = replies.message().await? {
        // On a stream to one peer, only that peer speaks, and only in replies.
        let reply = wire::decode(envelope).filter(|message| message.from == peer && message.body.is_reply());
        let Some(reply) = reply else { return Err(Status::invalid_argument("not a reply of this peer")) };
        inbox.offer(Event::Message(reply));
    }
    Ok(())
}
