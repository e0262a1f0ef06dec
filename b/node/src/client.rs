//! A small client, so that a person can try a cluster by hand.
//!
//! In: a command and the addresses of some nodes. Out: the answer on standard output. A write has a session of
//! its own, so that trying again after an unclear failure cannot apply it twice.

mod operate;
mod txn;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use mkraft_proto::v1::admin_client::AdminClient;
use mkraft_proto::v1::kv_client::KvClient;
use mkraft_proto::v1::{
    AppendRequest, Compare, CompareAndSwapRequest, DeleteRequest, Error, ErrorCode, GetRequest,
    OpenSessionRequest, PutRequest, RangeReply, RangeRequest, Role, StatusRequest, Ticket, Txn, TxnOp,
    TxnRequest,
};
use tonic::transport::{Channel, Endpoint};

use crate::config::{ConfigError, check_address, parse_id, split_peer};
use crate::raft::NodeId;

pub use operate::{OperateArgs, operate};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// However long a busy node asks to be left alone.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Where the cluster is.
#[derive(Args, Debug)]
pub struct Nodes {
    /// A node's identity and address; once for each
    #[arg(long = "node", value_name = "ID=ADDR", required = true)]
    nodes: Vec<String>,
}

#[derive(Args, Debug)]
pub struct KvArgs {
    #[command(flatten)]
    nodes: Nodes,
    /// How long to try
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_timeout)]
    timeout: Duration,
    #[command(subcommand)]
    command: KvCommand,
}

#[derive(Subcommand, Debug)]
pub enum KvCommand {
    /// Set a key
    Put { key: String, value: String },
    /// Print a key's value; exit code 1 if there is none
    Get {
        key: String,
        /// Take the first node's own state, however old
        #[arg(long)]
        stale: bool,
        /// Let the first node answer, which asks its leader what it must have seen
        #[arg(long, conflicts_with = "stale")]
        here: bool,
        /// Print the value's version before it
        #[arg(long)]
        with_version: bool,
    },
    /// Remove a key; exit code 1 if there was none
    #[command(disable_version_flag = true)]
    Delete {
        key: String,
        /// Only if the key has this version; exit code 1, and the version it has, if not
        #[arg(long, value_name = "VERSION")]
        version: Option<u64>,
    },
    /// Add to the end of a value; a key that does not exist begins empty
    Append { key: String, suffix: String },
    /// Set a key if it holds what is expected; exit code 1, and what it holds, if not
    Cas {
        key: String,
        /// What the key must hold
        #[arg(long, conflicts_with = "absent", required_unless_present = "absent")]
        expect: Option<String>,
        /// The key must not exist
        #[arg(long)]
        absent: bool,
        value: String,
    },
    /// Print the keys that begin with a prefix, in order, with their values; exit code 1 if there are none
    Range {
        /// Without: all keys
        #[arg(default_value = "")]
        prefix: String,
        /// Only keys greater than this one
        #[arg(long, value_name = "KEY")]
        after: Option<String>,
        /// At most so many; without, as many as a node tells at once
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
        /// Take the first node's own state, however old
        #[arg(long)]
        stale: bool,
        /// Let the first node answer, which asks its leader what it must have seen
        #[arg(long, conflicts_with = "stale")]
        here: bool,
        /// Print each value's version before it
        #[arg(long)]
        with_version: bool,
    },
    /// Do several operations at one moment, all or none; exit code 1 if an --if was not true
    ///
    /// Prints one line for each operation that was done. All are of the --then if every --if is true, and of the
    /// --else if not; each sees what those before it did. What follows a KEY is taken as it stands, with its blanks.
    Txn {
        /// `value KEY VALUE`, `version KEY N` or `absent KEY`
        #[arg(long = "if", value_name = "COMPARISON", value_parser = txn::parse_compare)]
        compare: Vec<Compare>,
        /// `get KEY`, `put KEY VALUE`, `delete KEY [VERSION]` or `append KEY SUFFIX`
        #[arg(long, value_name = "OPERATION", value_parser = txn::parse_op)]
        then: Vec<TxnOp>,
        /// As in --then
        #[arg(long = "else", value_name = "OPERATION", value_parser = txn::parse_op)]
        otherwise: Vec<TxnOp>,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("no answer within {timeout:?}; the last node that was asked, {node}, said: {error}", error = error.message)]
    NoAnswer { timeout: Duration, node: NodeId, error: Error },
    #[error("{node} refused: {}", error.message)]
    Refused { node: NodeId, error: Error },
}

/// What the command found: to be printed, and whether it is the wished one.
pub struct Outcome {
    pub text: String,
    /// For a person, beside what was found.
    pub note: Option<String>,
    pub success: bool,
}

impl Outcome {
    fn new(success: bool, text: impl Into<String>) -> Outcome {
        Outcome { text: text.into(), note: None, success }
    }
}

/// Carries out one command against whichever node leads.
pub async fn kv(args: KvArgs) -> Result<Outcome, ClientError> {
    let mut cluster = Cluster::new(&args.nodes, args.timeout, KvClient::new)?;
    let ticket = match args.command {
        KvCommand::Get { .. } | KvCommand::Range { .. } => None,
        _ => {
            let session = cluster.ask(OpenSessionRequest {}, |mut client, request| async move {
                client.open_session(request).await
            });
            Some(Ticket { session: session.await?.session, sequence: 1 })
        }
    };
    let bytes = |text: String| bytes_of(text);
    match args.command {
        KvCommand::Put { key, value } => {
            let request = PutRequest { ticket, key: bytes(key), value: bytes(value) };
            cluster.ask(request, |mut client, request| async move { client.put(request).await }).await?;
            Ok(Outcome::new(true, "ok"))
        }
        KvCommand::Get { key, stale, here, with_version } => {
            let request = GetRequest { key: bytes(key), stale, here };
            let reply =
                cluster.ask(request, |mut client, request| async move { client.get(request).await }).await?;
            let success = reply.value.is_some();
            Ok(Outcome::new(
                success,
                versioned(with_version && success, reply.version, reply.value.as_deref()),
            ))
        }
        KvCommand::Delete { key, version } => {
            let request = DeleteRequest { ticket, key: bytes(key), version };
            let reply = cluster
                .ask(request, |mut client, request| async move { client.delete(request).await })
                .await?;
            Ok(match (reply.deleted, reply.seen) {
                (true, _) => Outcome::new(true, "ok"),
                (false, 0) => Outcome::new(false, "(none)"),
                (false, seen) => Outcome::new(false, seen.to_string()),
            })
        }
        KvCommand::Append { key, suffix } => {
            let request = AppendRequest { ticket, key: bytes(key), suffix: bytes(suffix) };
            cluster.ask(request, |mut client, request| async move { client.append(request).await }).await?;
            Ok(Outcome::new(true, "ok"))
        }
        KvCommand::Cas { key, expect, absent: _, value } => {
            let request = CompareAndSwapRequest {
                ticket,
                key: bytes(key),
                expected: expect.map(bytes),
                value: bytes(value),
            };
            let reply = cluster
                .ask(request, |mut client, request| async move { client.compare_and_swap(request).await })
                .await?;
            let text = if reply.swapped { "ok".into() } else { shown(reply.seen.as_deref()) };
            Ok(Outcome::new(reply.swapped, text))
        }
        KvCommand::Range { prefix, after, limit, stale, here, with_version } => {
            let request = RangeRequest {
                prefix: bytes(prefix),
                limit: limit.unwrap_or(0),
                stale,
                here,
                after: after.map(bytes),
            };
            let reply = cluster
                .ask(request, |mut client, request| async move { client.range(request).await })
                .await?;
            Ok(pairs(&reply, with_version))
        }
        KvCommand::Txn { compare, then, otherwise } => {
            let request = TxnRequest { ticket, txn: Some(Txn { compare, then, otherwise }) };
            let reply =
                cluster.ask(request, |mut client, request| async move { client.txn(request).await }).await?;
            let lines: Vec<_> = reply.results.iter().map(txn::result).collect();
            let text = if lines.is_empty() { "(none)".into() } else { lines.join("\n") };
            Ok(Outcome::new(reply.succeeded, text))
        }
    }
}

/// A line for each node: what it says of itself, or why it does not.
pub async fn status(nodes: &Nodes) -> Result<Outcome, ClientError> {
    let mut text = String::from("id    role           term  leader      last    commit   applied\n");
    let mut success = true;
    for (id, address) in parse_nodes(nodes)? {
        match ask_status(&address).await {
            Ok(status) => {
                let role = match status.role() {
                    Role::Follower => "follower",
                    Role::PreCandidate => "pre-candidate",
                    Role::Candidate => "candidate",
                    Role::Leader => "leader",
                    Role::Learner => "learner",
                };
                let leader = if status.leader == 0 { "-".into() } else { NodeId(status.leader).to_string() };
                text += &format!(
                    "{:<4}  {role:<13}  {:>4}  {leader:<6}  {:>8}  {:>8}  {:>8}\n",
                    NodeId(status.id).to_string(),
                    status.term,
                    status.last,
                    status.commit,
                    status.applied,
                );
            }
            Err(error) => {
                success = false;
                text += &format!("{:<4}  no answer from {address}: {}\n", id.to_string(), error.message());
            }
        }
    }
    text.truncate(text.trim_end().len());
    Ok(Outcome::new(success, text))
}

async fn ask_status(address: &str) -> Result<mkraft_proto::v1::StatusReply, tonic::Status> {
    let channel = channel(address).map_err(|error| tonic::Status::invalid_argument(error.to_string()))?;
    Ok(AdminClient::new(channel).status(StatusRequest {}).await?.into_inner())
}

/// Nodes in turn, the one last named as leader first.
struct Cluster<C> {
    nodes: BTreeMap<NodeId, C>,
    next: NodeId,
    timeout: Duration,
    deadline: Instant,
}

impl<C: Clone> Cluster<C> {
    fn new(
        nodes: &Nodes,
        timeout: Duration,
        client: impl Fn(Channel) -> C,
    ) -> Result<Cluster<C>, ClientError> {
        let mut clients = BTreeMap::new();
        let mut first = None;
        for (id, address) in parse_nodes(nodes)? {
            let invalid =
                |_| ConfigError::Invalid { name: "node", value: address.clone(), expected: "an address" };
            clients.insert(id, client(channel(&address).map_err(invalid)?));
            first.get_or_insert(id);
        }
        let next = first.ok_or(ConfigError::Missing { name: "node" })?;
        Ok(Cluster { nodes: clients, next, timeout, deadline: Instant::now() + timeout })
    }

    /// Asks until a node answers, the time is up, or the request can never succeed.
    async fn ask<Q: Clone, R, F>(&mut self, request: Q, call: impl Fn(C, Q) -> F) -> Result<R, ClientError>
    where
        F: Future<Output = Result<tonic::Response<R>, tonic::Status>>,
    {
        loop {
            let node = self.next;
            let remaining = self.deadline.saturating_duration_since(Instant::now());
            let attempt = call(self.nodes[&node].clone(), request.clone());
            let error = match tokio::time::timeout(remaining, attempt).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) => Error::from_status(&status),
                Err(_) => Error::new(ErrorCode::Timeout, "nothing, for as long as there was time"),
            };
            match error.code() {
                ErrorCode::Invalid | ErrorCode::SessionUnknown | ErrorCode::SequenceStale => {
                    return Err(ClientError::Refused { node, error });
                }
                _ if Instant::now() + RETRY_INTERVAL >= self.deadline => {
                    return Err(ClientError::NoAnswer { timeout: self.timeout, node, error });
                }
                _ => {}
            }
            let hint = NodeId(error.leader);
            self.next = match error.code() {
                ErrorCode::Busy => node,
                _ if self.nodes.contains_key(&hint) && hint != node => hint,
                _ => self.after(node),
            };
            let hint = Duration::from_millis(error.retry_after_ms.into());
            tokio::time::sleep(hint.clamp(RETRY_INTERVAL, RETRY_INTERVAL_MAX)).await;
        }
    }

    fn after(&self, node: NodeId) -> NodeId {
        let following =
            self.nodes.range((std::ops::Bound::Excluded(node), std::ops::Bound::Unbounded)).next();
        following.or_else(|| self.nodes.first_key_value()).map_or(node, |(&id, _)| id)
    }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if timeout > TIMEOUT_MAX {
        return Err("a timeout is at most 1h".into());
    }
    Ok(timeout)
}

fn parse_nodes(nodes: &Nodes) -> Result<Vec<(NodeId, String)>, ConfigError> {
    let parse = |text: &String| {
        let (id, address) = split_peer(text)?;
        check_address("node", &address)?;
        Ok((parse_id("node", &id)?, address))
    };
    nodes.nodes.iter().map(parse).collect()
}

fn channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(ATTEMPT_TIMEOUT).connect_lazy())
}

fn bytes_of(text: String) -> prost::bytes::Bytes {
    text.into_bytes().into()
}

fn shown(value: Option<&[u8]>) -> String {
    value.map_or("(none)".into(), |value| String::from_utf8_lossy(value).into_owned())
}

fn versioned(with_version: bool, version: u64, value: Option<&[u8]>) -> String {
    if with_version { format!("{version}\t{}", shown(value)) } else { shown(value) }
}

/// One line for each key.
fn pairs(reply: &RangeReply, with_version: bool) -> Outcome {
    let line = |pair: &mkraft_proto::v1::range_reply::Pair| {
        let value = versioned(with_version, pair.version, Some(&pair.value));
        format!("{}\t{value}", String::from_utf8_lossy(&pair.key))
    };
    let Some(last) = reply.pairs.last() else { return Outcome::new(false, "(none)") };
    let lines: Vec<_> = reply.pairs.iter().map(line).collect();
    let more = format!("there are more keys: --after {}", String::from_utf8_lossy(&last.key));
    Outcome { note: reply.more.then_some(more), ..Outcome::new(true, lines.join("\n")) }
}
