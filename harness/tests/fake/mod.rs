//! Nodes that are none: a Kv service over one shared map, each node misbehaving as it is told.

#![allow(clippy::unwrap_used, reason = "only tests use this")]
#![allow(dead_code, reason = "not every test uses all of it")]

pub mod load;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mkraft_proto::v1::kv_server::{Kv, KvServer};
use mkraft_proto::v1::*;
use prost::Message;
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
    /// Refuses what has a ticket, and answers reads.
    RefuseWrites(ErrorCode),
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
    /// Those of `asked`.
    tickets: Arc<Mutex<HashSet<(u64, u64)>>>,
    /// So many requests are under way.
    under_way: Arc<AtomicUsize>,
    store: Arc<Mutex<Store>>,
}

/// A request that is under way, and how it is to be treated.
struct Receipt {
    manner: Manner,
    _under_way: UnderWay,
}

/// Counts one more, as long as it lives.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(count: &Arc<AtomicUsize>) -> UnderWay {
        count.fetch_add(1, Ordering::SeqCst);
        UnderWay(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Store {
    sessions: u64,
    /// Each with its version.
    values: BTreeMap<Bytes, (Bytes, u64)>,
    /// By session: the last sequence that took effect, and its reply.
    last: HashMap<u64, (u64, Vec<u8>)>,
    applied: u64,
    /// Writes that came after a later one of their session.
    stale: u64,
}

impl Fakes {
    pub async fn start(manners: &[Manner]) -> Fakes {
        let store = Arc::new(Mutex::new(Store::default()));
        let mut fakes = Fakes { addresses: Vec::new(), nodes: Vec::new() };
        for (number, manner) in manners.iter().enumerate() {
            let fake = Fake {
                manner: watch::Sender::new(*manner),
                asked: Arc::default(),
                tickets: Arc::default(),
                under_way: Arc::default(),
                store: store.clone(),
            };
            let incoming =
                tonic::transport::server::TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let incoming = incoming.with_nodelay(Some(true));
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

    /// Waits until no request is under way on any node.
    pub async fn wait_until_idle(&self, within: Duration) {
        let deadline = Instant::now() + within;
        while self.nodes.iter().any(|node| node.under_way.load(Ordering::SeqCst) > 0) {
            assert!(Instant::now() < deadline, "requests are under way still");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
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

    /// Writes that came after a later one of their session.
    pub fn stale(&self) -> u64 {
        self.nodes[0].store.lock().unwrap().stale
    }

    pub fn put(&self, key: &str, value: &str) {
        let mut store = self.nodes[0].store.lock().unwrap();
        store.applied += 1;
        store.put(Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    }

    pub fn keys(&self) -> Vec<String> {
        let store = self.nodes[0].store.lock().unwrap();
        store.values.keys().map(|key| String::from_utf8(key.to_vec()).unwrap()).collect()
    }
}

impl Fake {
    async fn receive(&self, method: &'static str, ticket: Option<Ticket>) -> Result<Receipt, Status> {
        let _under_way = UnderWay::begin(&self.under_way);
        let ticket = ticket.map(|ticket| (ticket.session, ticket.sequence));
        self.asked.lock().unwrap().push(Asked { method, ticket });
        let again = ticket.is_some_and(|ticket| !self.tickets.lock().unwrap().insert(ticket));
        let manner = *self.manner.subscribe().wait_for(|manner| *manner != Manner::Hang).await.unwrap();
        match manner {
            Manner::Refuse(code) => Err(Error::new(code, "as told").into()),
            Manner::RefuseWrites(code) if ticket.is_some() => Err(Error::new(code, "as told").into()),
            Manner::NotLeader(leader) => {
                Err(Error { leader, ..Error::new(ErrorCode::NotLeader, "as told") }.into())
            }
            Manner::LoseFirstReply if again || ticket.is_none() => {
                Ok(Receipt { manner: Manner::Answer, _under_way })
            }
            manner => Ok(Receipt { manner, _under_way }),
        }
    }

    /// Once for each ticket, and never after a later one of its session. Without a ticket it is a read.
    fn apply<R: Message + Default>(
        &self,
        ticket: Option<Ticket>,
        change: impl FnOnce(&mut Store) -> R,
    ) -> Result<R, Status> {
        let mut store = self.store.lock().unwrap();
        let Some(Ticket { session, sequence }) = ticket else { return Ok(change(&mut store)) };
        match store.last.get(&session) {
            Some((last, reply)) if *last == sequence => return Ok(R::decode(&**reply).unwrap()),
            Some((last, _)) if *last > sequence => {
                store.stale += 1;
                return Err(Error::new(ErrorCode::SequenceStale, "too late").into());
            }
            _ => {}
        }
        store.applied += 1;
        let reply = change(&mut store);
        store.last.insert(session, (sequence, reply.encode_to_vec()));
        Ok(reply)
    }
}

impl Store {
    fn version(&self, key: &Bytes) -> u64 {
        self.values.get(key).map_or(0, |(_, version)| *version)
    }

    fn get(&self, key: &Bytes) -> GetReply {
        GetReply { value: self.values.get(key).map(|(value, _)| value.clone()), version: self.version(key) }
    }

    fn put(&mut self, key: Bytes, value: Bytes) -> PutReply {
        self.values.insert(key, (value, self.applied));
        PutReply { version: self.applied }
    }

    fn append(&mut self, key: Bytes, suffix: Bytes) -> AppendReply {
        let value = Bytes::from([self.get(&key).value.unwrap_or_default(), suffix].concat());
        let length = value.len() as u64;
        AppendReply { version: self.put(key, value).version, length }
    }

    fn txn(&mut self, txn: Txn) -> TxnReply {
        let succeeded = txn.compare.iter().all(|Compare { key, is }| match is.as_ref().unwrap() {
            compare::Is::Version(version) => self.version(key) == *version,
            compare::Is::Value(value) => self.get(key).value.as_ref() == Some(value),
        });
        let ops = if succeeded { txn.then } else { txn.otherwise };
        TxnReply { succeeded, results: ops.into_iter().map(|op| self.one(op.op.unwrap())).collect() }
    }

    fn one(&mut self, op: txn_op::Op) -> TxnResult {
        let result = match op {
            txn_op::Op::Get(get) => txn_result::Result::Get(self.get(&get.key)),
            txn_op::Op::Put(put) => txn_result::Result::Put(self.put(put.key, put.value)),
            txn_op::Op::Append(append) => txn_result::Result::Append(self.append(append.key, append.suffix)),
            txn_op::Op::Delete(delete) => {
                let seen = self.version(&delete.key);
                let deleted = self.values.remove(&delete.key).is_some();
                txn_result::Result::Delete(DeleteReply { deleted, seen })
            }
        };
        TxnResult { result: Some(result) }
    }
}

fn lost<T>(receipt: Receipt, reply: T) -> Result<Response<T>, Status> {
    match receipt.manner {
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
        let receipt = self.receive("put", ticket).await?;
        lost(receipt, self.apply(ticket, |store| store.put(key, value))?)
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        let _receipt = self.receive("get", None).await?;
        Ok(Response::new(self.store.lock().unwrap().get(&request.into_inner().key)))
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Result<Response<DeleteReply>, Status> {
        Err(Status::unimplemented("no workload deletes outside of transactions"))
    }

    async fn compare_and_swap(
        &self,
        request: Request<CompareAndSwapRequest>,
    ) -> Result<Response<CompareAndSwapReply>, Status> {
        let CompareAndSwapRequest { ticket, key, expected, value } = request.into_inner();
        let receipt = self.receive("cas", ticket).await?;
        let swap = |store: &mut Store| {
            let seen = store.get(&key).value;
            let swapped = seen == expected;
            if swapped {
                store.put(key.clone(), value);
            }
            CompareAndSwapReply { swapped, seen, version: store.version(&key) }
        };
        lost(receipt, self.apply(ticket, swap)?)
    }

    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendReply>, Status> {
        let AppendRequest { ticket, key, suffix } = request.into_inner();
        let receipt = self.receive("append", ticket).await?;
        lost(receipt, self.apply(ticket, |store| store.append(key, suffix))?)
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnReply>, Status> {
        let TxnRequest { ticket, txn } = request.into_inner();
        let receipt = self.receive("txn", ticket).await?;
        lost(receipt, self.apply(ticket, |store| store.txn(txn.unwrap()))?)
    }

    async fn range(&self, _: Request<RangeRequest>) -> Result<Response<RangeReply>, Status> {
        Err(Status::unimplemented("no workload reads ranges"))
    }
}
