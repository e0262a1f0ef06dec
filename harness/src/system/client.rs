//! How a client speaks to one mkraft node: the Kv service over several connections.
//!
//! In: one request. Out: its reply, or a [`Failure`] that says whether the request certainly took no effect.
//! Never: a deadline, a retry or a choice of node; those are the user's, who also writes them down.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mkraft_proto::v1::kv_client::KvClient;
use mkraft_proto::v1::{
    self, AppendRequest, CompareAndSwapRequest, Error, ErrorCode, GetRequest, OpenSessionRequest, PutRequest,
    TxnRequest, command, compare, txn_op, txn_result,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{ConnectError, Status};

use super::call::{Act, Call, Compare, Found, Is, Reply, Swap, Txn, TxnDone};

/// A connection that is not made by then is given up; the request on it was never sent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A client's links to one node. They connect when first used, and again whenever they break.
///
/// HTTP/2 keepalive stays off: towards a stopped node a request must wait in flight, and not be torn down.
pub struct NodeClient {
    node: String,
    connections: Vec<KvClient<Channel>>,
    next: AtomicUsize,
}

/// Which attempt of which client a write is: a node carries out each at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ticket {
    /// From [`NodeClient::open_session`].
    pub session: u64,
    /// From 1, rising.
    pub sequence: u64,
}

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// True when the request certainly took no effect and never will.
    pub definite: bool,
    pub advice: Advice,
    pub message: String,
    /// Who leads, as far as the asked node knows.
    pub leader: Option<String>,
}

/// What one who still wants an answer had better do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The node has too much to do.
    AskAgain,
    /// The node does not lead, or cannot be reached.
    AskElsewhere,
    /// No node would answer otherwise.
    GiveUp,
    /// No node would answer otherwise, to anything in this session.
    ChangeSession,
}

impl NodeClient {
    /// Must be called within a tokio runtime, on which its connections then live.
    pub fn new(node: impl Into<String>, address: SocketAddr, connections: u32) -> NodeClient {
        let endpoint = Endpoint::from(uri(address)).connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        let connections = (0..connections.max(1)).map(|_| KvClient::new(endpoint.connect_lazy())).collect();
        NodeClient { node: node.into(), connections, next: AtomicUsize::new(0) }
    }

    pub fn node(&self) -> &str {
        &self.node
    }

    pub async fn open_session(&self) -> Result<u64, Failure> {
        let reply = self.connection().open_session(OpenSessionRequest {}).await?;
        Ok(reply.into_inner().session)
    }

    /// What changes nothing needs no ticket; without one, a change that is asked for twice may happen twice.
    pub async fn ask(&self, call: Call, ticket: Option<Ticket>) -> Result<Reply, Failure> {
        let mut connection = self.connection();
        let ticket = ticket.map(v1::Ticket::from);
        match call {
            Call::Get { key } => {
                let reply = connection.get(GetRequest { key, stale: false, here: false }).await?;
                Ok(Reply::Got(reply.into_inner().into()))
            }
            Call::Put { key, value } => {
                connection.put(PutRequest { ticket, key, value }).await?;
                Ok(Reply::Done)
            }
            Call::Append { key, suffix } => {
                connection.append(AppendRequest { ticket, key, suffix }).await?;
                Ok(Reply::Done)
            }
            Call::CompareAndSwap { key, expected, value } => {
                let request = CompareAndSwapRequest { ticket, key, expected, value };
                let reply = connection.compare_and_swap(request).await?.into_inner();
                Ok(Reply::Swapped(Swap { swapped: reply.swapped, seen: reply.seen }))
            }
            Call::Txn(txn) => {
                let request = TxnRequest { ticket, txn: Some(txn.clone().into()) };
                let reply = connection.txn(request).await?.into_inner();
                done(&txn, reply).map(Reply::Txn)
            }
        }
    }

    /// The connections in turn.
    fn connection(&self) -> KvClient<Channel> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.connections[next % self.connections.len()].clone()
    }
}

/// What the gets of `txn` found. A reply with other results than were asked for is no answer.
fn done(txn: &Txn, reply: v1::TxnReply) -> Result<TxnDone, Failure> {
    let acts = if reply.succeeded { &txn.then } else { &txn.otherwise };
    let misfit = |what: String| Failure {
        definite: false,
        advice: Advice::GiveUp,
        message: format!("the answer does not fit the transaction: {what}"),
        leader: None,
    };
    if reply.results.len() != acts.len() {
        return Err(misfit(format!("{} results of {} operations", reply.results.len(), acts.len())));
    }
    let mut found = Vec::new();
    for (number, (act, result)) in acts.iter().zip(reply.results).enumerate() {
        match (act, result.result) {
            (Act::Get { .. }, Some(txn_result::Result::Get(got))) => found.push(got.into()),
            (Act::Put { .. }, Some(txn_result::Result::Put(_)))
            | (Act::Delete { .. }, Some(txn_result::Result::Delete(_)))
            | (Act::Append { .. }, Some(txn_result::Result::Append(_))) => {}
            (act, other) => return Err(misfit(format!("result {number} is {other:?}, to {act:?}"))),
        }
    }
    Ok(TxnDone { succeeded: reply.succeeded, found })
}

impl Failure {
    /// The user's own deadline passed: the request may be on its way for a long time yet.
    pub fn timed_out(after: Duration) -> Failure {
        Failure {
            definite: false,
            advice: Advice::AskElsewhere,
            message: format!("timeout: no answer within {after:?}"),
            leader: None,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        let error = Error::from_status(&status);
        let message = match (error.code(), innermost(&status)) {
            (ErrorCode::Unknown, Some(cause)) if !error.message.contains(&cause) => {
                format!("{}: {cause}", error.message)
            }
            (ErrorCode::Unknown, _) => error.message.clone(),
            (code, _) => format!("{}: {}", code.as_str_name(), error.message),
        };
        Failure {
            definite: error.code().definite() || never_sent(&status),
            advice: advice(error.code()),
            leader: (error.leader != 0).then(|| format!("n{}", error.leader)),
            message,
        }
    }
}

impl From<Ticket> for v1::Ticket {
    fn from(Ticket { session, sequence }: Ticket) -> v1::Ticket {
        v1::Ticket { session, sequence }
    }
}

impl From<v1::GetReply> for Found {
    fn from(v1::GetReply { value, version }: v1::GetReply) -> Found {
        Found { value, version }
    }
}

impl From<Txn> for v1::Txn {
    fn from(Txn { compare, then, otherwise }: Txn) -> v1::Txn {
        let acts = |acts: Vec<Act>| acts.into_iter().map(v1::TxnOp::from).collect();
        v1::Txn {
            compare: compare.into_iter().map(v1::Compare::from).collect(),
            then: acts(then),
            otherwise: acts(otherwise),
        }
    }
}

impl From<Compare> for v1::Compare {
    fn from(Compare { key, is }: Compare) -> v1::Compare {
        let is = match is {
            Is::Version(version) => compare::Is::Version(version),
            Is::Value(value) => compare::Is::Value(value),
        };
        v1::Compare { key, is: Some(is) }
    }
}

impl From<Act> for v1::TxnOp {
    fn from(act: Act) -> v1::TxnOp {
        let op = match act {
            Act::Get { key } => txn_op::Op::Get(txn_op::Get { key }),
            Act::Put { key, value } => txn_op::Op::Put(command::Put { key, value }),
            Act::Delete { key } => txn_op::Op::Delete(command::Delete { key, version: None }),
            Act::Append { key, suffix } => txn_op::Op::Append(command::Append { key, suffix }),
        };
        v1::TxnOp { op: Some(op) }
    }
}

fn advice(code: ErrorCode) -> Advice {
    match code {
        ErrorCode::Busy => Advice::AskAgain,
        ErrorCode::SessionUnknown => Advice::ChangeSession,
        ErrorCode::Invalid | ErrorCode::SequenceStale => Advice::GiveUp,
        ErrorCode::Unknown
        | ErrorCode::NotLeader
        | ErrorCode::LeadershipLost
        | ErrorCode::Timeout
        | ErrorCode::Stopping => Advice::AskElsewhere,
    }
}

/// "transport error" is what tonic says of everything that befalls a connection.
fn innermost(status: &Status) -> Option<String> {
    let mut cause = status.source()?;
    while let Some(error) = cause.source() {
        cause = error;
    }
    Some(cause.to_string())
}

/// Only when no connection could be made is it certain that the request did not leave. A broken connection,
/// a reset or a strange gRPC code may all come after the node has acted.
fn never_sent(status: &Status) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn uri(address: SocketAddr) -> tonic::codegen::http::Uri {
    tonic::codegen::http::Uri::builder()
        .scheme("http")
        .authority(address.to_string())
        .path_and_query("/")
        .build()
        .expect("a socket address is a valid authority")
}

#[cfg(test)]
mod tests {
    use prost::bytes::Bytes;

    use super::*;

    fn put() -> Call {
        Call::Put { key: Bytes::from("k"), value: Bytes::from("v") }
    }

    #[test]
    fn an_answer_to_something_else_leaves_the_outcome_open() {
        use txn_result::Result as One;
        let key = Bytes::from("k");
        let txn = Txn {
            then: vec![Act::Get { key: key.clone() }, Act::Append { key, suffix: Bytes::from("v") }],
            ..Txn::default()
        };
        let got = || One::Get(v1::GetReply { value: Some(Bytes::from("old")), version: 7 });
        let appended = || One::Append(v1::AppendReply { version: 8, length: 4 });
        let reply = |succeeded, results: Vec<One>| v1::TxnReply {
            succeeded,
            results: results.into_iter().map(|result| v1::TxnResult { result: Some(result) }).collect(),
        };
        let answer = done(&txn, reply(true, vec![got(), appended()])).unwrap();
        let found = Found { value: Some(Bytes::from("old")), version: 7 };
        assert_eq!(answer, TxnDone { succeeded: true, found: vec![found] });
        assert_eq!(done(&txn, reply(false, vec![])).unwrap(), TxnDone { succeeded: false, found: vec![] });
        for (succeeded, results) in [
            (true, vec![]),
            (true, vec![got()]),
            (true, vec![appended(), got()]),
            (false, vec![got(), appended()]),
        ] {
            assert!(!done(&txn, reply(succeeded, results)).unwrap_err().definite);
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_refused_connection_is_a_definite_failure() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        runtime().block_on(async {
            let client = NodeClient::new("n1", address, 2);
            let ticket = Ticket { session: 1, sequence: 1 };
            for _ in 0..4 {
                let failure = client.ask(put(), Some(ticket)).await.unwrap_err();
                assert!(failure.definite, "{failure:?}");
            }
        });
    }

    #[test]
    fn a_connection_that_breaks_leaves_the_outcome_open() {
        runtime().block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = NodeClient::new("n1", listener.local_addr().unwrap(), 1);
            let closing = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                // The HTTP/2 preface has arrived, and with it perhaps the request.
                let mut preface = [0; 24];
                tokio::io::AsyncReadExt::read_exact(&mut stream, &mut preface).await.unwrap();
            });
            let ticket = Ticket { session: 1, sequence: 1 };
            let failure = client.ask(put(), Some(ticket)).await.unwrap_err();
            assert!(!failure.definite, "{failure:?}");
            assert!(failure.message.contains("connection"), "{failure}");
            closing.await.unwrap();
        });
    }

    #[test]
    fn the_nodes_own_word_decides_and_names_the_leader() {
        let said = Error { leader: 3, ..Error::new(ErrorCode::NotLeader, "n3 leads") };
        let failure = Failure::from(Status::from(said));
        assert_eq!((failure.definite, failure.leader.as_deref()), (true, Some("n3")));
        let said = Error::new(ErrorCode::LeadershipLost, "deposed");
        let failure = Failure::from(Status::from(said));
        assert!(!failure.definite);
        assert_eq!(failure.message, "LEADERSHIP_LOST: deposed");
    }
}
