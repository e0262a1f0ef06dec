//! Nodes that are none: a Kv service over one shared map, each node misbehaving as it is told.

#![allow(clippy::unwrap_used, reason = "only tests use this")]

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mkraft_proto::v1::kv_server::{Kv, KvServer};
use mkraft_proto::v1::*;
use prost::bytes::Bytes;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

/// How a node treats everything but the opening of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Answer,
    /// Takes the request, and does nothing with it until its manner changes.
    Hang,
    Refuse(ErrorCode),
    /// Names this leader.
    NotLeader(u64),
    /// Carries writes out, and says that leadership was lost, until a write comes again.
    LoseFirstReply,
}

/// What a node was asked: the method, and the ticket of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub method: &'static str,
    pub ticket: Option<(u64, u64)>,
}

/// Fake nodes `n1`, `n2`, ... over one map.
pub struct Fakes {
    pub addresses: Vec<(String, SocketAddr)>,
    nodes: Vec<Fake>,
}

#[derive(Clone)]
struct Fake {
    manner: watch::Sender<Manner>,
    asked: Arc<Mutex<Vec<Asked>>>,
    store: Arc<Mutex<Store>>,
}

#[derive(Default)]
struct Store {
    sessions: u64,
    values: BTreeMap<Bytes, Bytes>,
    /// Tickets that took effect, and for a compare-and-swap, its reply.
    done: HashMap<(u64, u64), CompareAndSwapReply>,
    applied: u64,
}

impl Fakes {
    pub async fn start(manners: &[Manner]) -> Fakes {
        let store = Arc::new(Mutex::new(Store::default()));
        let mut fakes = Fakes { addresses: Vec::new(), nodes: Vec::new() };
        for (number, manner) in manners.iter().enumerate() {
            let fake =
                Fake { manner: watch::Sender::new(*manner), asked: Arc::default(), store: store.clone() };
            let incoming =
                tonic::transport::server::TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            fakes.addresses.push((format!("n{}", number + 1), incoming.local_addr().unwrap()));
            fakes.nodes.push(fake.clone());
            let server = tonic::transport::Server::builder().add_service(KvServer::new(fake));
            tokio::spawn(server.serve_with_incoming(incoming));
        }
        fakes
    }

    pub fn set_manner(&self, node: usize, manner: Manner) {
        self.nodes[node].manner.send_replace(manner);
    }

    /// All that this node (from 0) was asked, sessions apart.
    pub fn asked(&self, node: usize) -> Vec<Asked> {
        self.nodes[node].asked.lock().unwrap().clone()
    }

    pub async fn wait_for_a_write(&self, within: Duration) {
        let deadline = Instant::now() + within;
        while self.applied() == 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Writes that took effect.
    pub fn applied(&self) -> u64 {
        self.nodes[0].store.lock().unwrap().applied
    }
}

impl Fake {
    async fn receive(&self, method: &'static str, ticket: Option<Ticket>) -> Result<Manner, Status> {
        let ticket = ticket.map(|ticket| (ticket.session, ticket.sequence));
        let again = {
            let mut asked = self.asked.lock().unwrap();
            let again = ticket.is_some() && asked.iter().any(|before| before.ticket == ticket);
            asked.push(Asked { method, ticket });
            again
        };
        let manner = *self.manner.subscribe().wait_for(|manner| *manner != Manner::Hang).await.unwrap();
        match manner {
            Manner::Refuse(code) => Err(Error::new(code, "as told").into()),
            Manner::NotLeader(leader) => {
                Err(Error { leader, ..Error::new(ErrorCode::NotLeader, "as told") }.into())
            }
            Manner::LoseFirstReply if again || ticket.is_none() => Ok(Manner::Answer),
            manner => Ok(manner),
        }
    }

    fn apply(&self, ticket: Option<Ticket>, change: impl FnOnce(&mut Store) -> bool) -> CompareAndSwapReply {
        let ticket = ticket.map(|ticket| (ticket.session, ticket.sequence)).unwrap();
        let mut store = self.store.lock().unwrap();
        if let Some(reply) = store.done.get(&ticket) {
            return reply.clone();
        }
        store.applied += 1;
        let reply = CompareAndSwapReply { swapped: change(&mut store), seen: None, version: 0 };
        store.done.insert(ticket, reply.clone());
        reply
    }
}

fn lost<T>(manner: Manner, reply: T) -> Result<Response<T>, Status> {
    match manner {
        Manner::LoseFirstReply => Err(Error::new(ErrorCode::LeadershipLost, "as told").into()),
        _ => Ok(Response::new(reply)),
    }
}

#[tonic::async_trait]
impl Kv for Fake {
    async fn open_session(
        &self,
        _: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionReply>, Status> {
        let mut store = self.store.lock().unwrap();
        store.sessions += 1;
        Ok(Response::new(OpenSessionReply { session: store.sessions }))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutReply>, Status> {
        let PutRequest { ticket, key, value } = request.into_inner();
        let manner = self.receive("put", ticket).await?;
        self.apply(ticket, |store| {
            store.values.insert(key, value);
            true
        });
        lost(manner, PutReply { version: 0 })
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        self.receive("get", None).await?;
        let value = self.store.lock().unwrap().values.get(&request.into_inner().key).cloned();
        Ok(Response::new(GetReply { value, version: 0 }))
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Result<Response<DeleteReply>, Status> {
        Err(Status::unimplemented("no workload deletes"))
    }

    async fn compare_and_swap(
        &self,
        request: Request<CompareAndSwapRequest>,
    ) -> Result<Response<CompareAndSwapReply>, Status> {
        let CompareAndSwapRequest { ticket, key, expected, value } = request.into_inner();
        let manner = self.receive("cas", ticket).await?;
        let mut seen = None;
        let reply = self.apply(ticket, |store| {
            seen = store.values.get(&key).cloned();
            let swap = seen == expected;
            if swap {
                store.values.insert(key, value);
            }
            swap
        });
        lost(manner, CompareAndSwapReply { seen, ..reply })
    }

    async fn append(&self, _: Request<AppendRequest>) -> Result<Response<AppendReply>, Status> {
        Err(Status::unimplemented("no workload appends"))
    }

    async fn txn(&self, _: Request<TxnRequest>) -> Result<Response<TxnReply>, Status> {
        Err(Status::unimplemented("no workload has transactions"))
    }

    async fn range(&self, _: Request<RangeRequest>) -> Result<Response<RangeReply>, Status> {
        Err(Status::unimplemented("no workload reads ranges"))
    }
}
