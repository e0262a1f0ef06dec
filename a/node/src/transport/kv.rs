//! What a client may ask.
//!
//! Every failure leaves as an [`Error`] whose code says whether the outcome is definite.

use std::time::Duration;

use mkraft_proto::v1::command::{self, Op};
use mkraft_proto::v1::kv_server::Kv;
use mkraft_proto::v1::{
    AppendReply, AppendRequest, Command, CompareAndSwapReply, CompareAndSwapRequest, DeleteReply,
    DeleteRequest, Error, ErrorCode, GetReply, GetRequest, OpenSessionReply, OpenSessionRequest, PutReply,
    PutRequest, RangeReply, RangeRequest, Ticket, TxnReply, TxnRequest,
};
use prost::Message;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use super::MESSAGE_BYTES_MAX;
use crate::driver::{Event, Inbox, ReadFrom};
use crate::machine::{Answer, Query, Reading, limits};

/// After this the node gives up on a request; it may still take effect.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// What an append that carries one command alone adds to it.
const FRAMING_BYTES_MAX: usize = 256;

// A command that no append could carry would stop replication for good.
const _: () = assert!(limits::COMMAND_BYTES_MAX + FRAMING_BYTES_MAX <= MESSAGE_BYTES_MAX);

pub struct Service {
    inbox: Inbox,
}

impl Service {
    pub fn new(inbox: Inbox) -> Service {
        Service { inbox }
    }

    async fn write(&self, ticket: Option<Ticket>, op: Op) -> Result<Answer, Error> {
        if let Some(ticket) = &ticket
            && (ticket.session == 0 || ticket.sequence == 0)
        {
            return Err(Error::new(ErrorCode::Invalid, "sessions and sequences count from 1"));
        }
        limits::check(&op)?;
        let payload = Command { ticket, op: Some(op) }.encode_to_vec().into();
        match ask(&self.inbox, |respond| Event::Write { payload, respond }).await? {
            Answer::Refused(error) => Err(error),
            answer => Ok(answer),
        }
    }

    async fn read(&self, query: Query, from: ReadFrom) -> Result<Reading, Error> {
        ask(&self.inbox, |respond| Event::Read { query, from, respond }).await
    }
}

/// Waits for the driver's answer.
pub(super) async fn ask<T>(
    inbox: &Inbox,
    event: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Event,
) -> Result<T, Error> {
    let (respond, response) = oneshot::channel();
    inbox.request(event(respond))?;
    match tokio::time::timeout(REQUEST_TIMEOUT, response).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Error::new(ErrorCode::Unknown, "the node stopped before it could answer")),
        Err(_) => Err(Error::new(ErrorCode::Timeout, format!("no answer within {REQUEST_TIMEOUT:?}"))),
    }
}

fn read_from(stale: bool, here: bool) -> ReadFrom {
    match (stale, here) {
        (true, _) => ReadFrom::Stale,
        (false, true) => ReadFrom::Here,
        (false, false) => ReadFrom::Leader,
    }
}

/// An answer that does not fit its request; only a bug in `machine` can make one.
fn misfit(answer: impl std::fmt::Debug) -> Status {
    Error::new(ErrorCode::Unknown, format!("the state machine answered {answer:?}")).into()
}

#[tonic::async_trait]
impl Kv for Service {
    async fn open_session(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionReply>, Status> {
        match self.write(None, Op::OpenSession(request.into_inner())).await? {
            Answer::Opened(reply) => Ok(Response::new(reply)),
            answer => Err(misfit(answer)),
        }
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutReply>, Status> {
        let PutRequest { ticket, key, value } = request.into_inner();
        match self.write(ticket, Op::Put(command::Put { key, value })).await? {
            Answer::Put(reply) => Ok(Response::new(reply)),
            answer => Err(misfit(answer)),
        }
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        let GetRequest { key, stale, here } = request.into_inner();
        limits::check_key(&key)?;
        match self.read(Query::Get { key }, read_from(stale, here)).await? {
            Reading::Got(reply) => Ok(Response::new(reply)),
            reading => Err(misfit(reading)),
        }
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteReply>, Status> {
        let DeleteRequest { ticket, key, version } = request.into_inner();
        match self.write(ticket, Op::Delete(command::Delete { key, version })).await? {
            Answer::Deleted(reply) => Ok(Response::new(reply)),
            answer => Err(misfit(answer)),
        }
    }

    async fn compare_and_swap(
        &self,
        request: Request<CompareAndSwapRequest>,
    ) -> Result<Response<CompareAndSwapReply>, Status> {
        let CompareAndSwapRequest { ticket, key, expected, value } = request.into_inner();
        let op = Op::CompareAndSwap(command::CompareAndSwap { key, expected, value });
        match self.write(ticket, op).await? {
            Answer::Swapped(reply) => Ok(Response::new(reply)),
            answer => Err(misfit(answer)),
        }
    }

    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendReply>, Status> {
        let AppendRequest { ticket, key, suffix } = request.into_inner();
        match self.write(ticket, Op::Append(command::Append { key, suffix })).await? {
            Answer::Appended(reply) => Ok(Response::new(reply)),
            answer => Err(misfit(answer)),
        }
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnReply>, Status> {
        let TxnRequest { ticket, txn } = request.into_inner();
        match self.write(ticket, Op::Txn(txn.unwrap_or_default())).await? {
            Answer::Txn(reply) => Ok(Response::new(reply)),
            answer => Err(misfit(answer)),
        }
    }

    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeReply>, Status> {
        let RangeRequest { prefix, limit, stale, after, here } = request.into_inner();
        limits::check_prefix(&prefix)?;
        limits::check_prefix(after.as_deref().unwrap_or_default())?;
        match self.read(Query::Range { prefix, after, limit }, read_from(stale, here)).await? {
            Reading::Ranged(reply) => Ok(Response::new(reply)),
            reading => Err(misfit(reading)),
        }
    }
}

#[cfg(test)]
mod tests {
    use mkraft_proto::v1::{Txn, TxnOp};

    use super::*;

    #[test]
    fn what_breaks_a_bound_is_refused_before_it_is_proposed() {
        let bytes = |count: usize| vec![b'x'; count].into();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Without a driver, what passes is told that the node is stopping.
        let service = Service::new(Inbox::new().0);
        let code = |status: Option<Status>| Error::from_status(&status.unwrap()).code();
        for (size, want) in [
            (limits::VALUE_BYTES_MAX, ErrorCode::Stopping),
            (limits::VALUE_BYTES_MAX + 1, ErrorCode::Invalid),
        ] {
            let swap = CompareAndSwapRequest {
                ticket: None,
                key: bytes(1),
                expected: Some(bytes(limits::VALUE_BYTES_MAX)),
                value: bytes(size),
            };
            assert_eq!(code(runtime.block_on(service.compare_and_swap(Request::new(swap))).err()), want);
            let append = AppendRequest { ticket: None, key: bytes(1), suffix: bytes(size) };
            assert_eq!(code(runtime.block_on(service.append(Request::new(append))).err()), want);
        }
        for (size, want) in
            [(limits::KEY_BYTES_MAX, ErrorCode::Stopping), (limits::KEY_BYTES_MAX + 1, ErrorCode::Invalid)]
        {
            let get = GetRequest { key: bytes(size), ..Default::default() };
            assert_eq!(code(runtime.block_on(service.get(Request::new(get))).err()), want);
            for (prefix, after) in [(size, None), (0, Some(size))] {
                let range = RangeRequest {
                    prefix: bytes(prefix),
                    after: after.map(bytes),
                    ..RangeRequest::default()
                };
                assert_eq!(code(runtime.block_on(service.range(Request::new(range))).err()), want);
            }
        }
        for (count, want) in
            [(limits::TXN_ITEMS_MAX, ErrorCode::Stopping), (limits::TXN_ITEMS_MAX + 1, ErrorCode::Invalid)]
        {
            let op = mkraft_proto::v1::txn_op::Op::Delete(command::Delete { key: bytes(1), version: None });
            let txn = Txn { then: vec![TxnOp { op: Some(op) }; count], ..Txn::default() };
            let request = TxnRequest { ticket: None, txn: Some(txn) };
            assert_eq!(code(runtime.block_on(service.txn(Request::new(request))).err()), want);
        }
        let ticket = Some(Ticket { session: 1, sequence: 0 });
        let put = PutRequest { ticket, key: bytes(1), value: bytes(1) };
        assert_eq!(code(runtime.block_on(service.put(Request::new(put))).err()), ErrorCode::Invalid);
    }
}
