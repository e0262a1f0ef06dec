//! What a client may ask.
//!
//! Every failure leaves as an [`Error`] whose code says whether the outcome is definite.

use std::time::Duration;

use mkraft_proto::v1::command::{self, Op};
use mkraft_proto::v1::kv_server::Kv;
use mkraft_proto::v1::{
    Command, CompareAndSwapReply, CompareAndSwapRequest, DeleteReply, DeleteRequest, Error, ErrorCode,
    GetReply, GetRequest, OpenSessionReply, OpenSessionRequest, PutReply, PutRequest, Ticket,
};
use prost::Message;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use super::MESSAGE_BYTES_MAX;
use crate::driver::{Event, Inbox};
use crate::machine::Answer;

/// After this the node gives up on a request; it may still take effect.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const KEY_BYTES_MAX: usize = 4 << 10;
const VALUE_BYTES_MAX: usize = 1 << 20;
/// What a command and the append that carries it alone add to its key and values.
const FRAMING_BYTES_MAX: usize = 256;

// The largest command: a compare-and-swap. One that no append could carry would stop replication for good.
const _: () = assert!(KEY_BYTES_MAX + 2 * VALUE_BYTES_MAX + FRAMING_BYTES_MAX <= MESSAGE_BYTES_MAX);

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
        let payload = Command { ticket, op: Some(op) }.encode_to_vec().into();
        match self.ask(|respond| Event::Write { payload, respond }).await? {
            Answer::Refused { code, why } => Err(Error::new(code, why)),
            answer => Ok(answer),
        }
    }

    async fn ask<T>(
        &self,
        event: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Event,
    ) -> Result<T, Error> {
        let (respond, response) = oneshot::channel();
        self.inbox.request(event(respond))?;
        match tokio::time::timeout(REQUEST_TIMEOUT, response).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::new(ErrorCode::Unknown, "the node stopped before it could answer")),
            Err(_) => Err(Error::new(ErrorCode::Timeout, format!("no answer within {REQUEST_TIMEOUT:?}"))),
        }
    }
}

fn check_key(key: &[u8]) -> Result<(), Error> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let message = format!("a key has 1 to {KEY_BYTES_MAX} bytes, this one has {}", key.len());
        return Err(Error::new(ErrorCode::Invalid, message));
    }
    Ok(())
}

fn check_value(value: &[u8]) -> Result<(), Error> {
    if value.len() > VALUE_BYTES_MAX {
        let message = format!("a value has at most {VALUE_BYTES_MAX} bytes, this one has {}", value.len());
        return Err(Error::new(ErrorCode::Invalid, message));
    }
    Ok(())
}

/// An answer that does not fit its command; only a bug in `machine` can make one.
fn misfit(answer: Answer) -> Status {
    Error::new(ErrorCode::Unknown, format!("the state machine answered {answer:?}")).into()
}

#[tonic::async_trait]
impl Kv for Service {
    async fn open_session(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionReply>, Status> {
        match self.write(None, Op::OpenSession(request.into_inner())).await? {
            Answer::Opened { session } => Ok(Response::new(OpenSessionReply { session })),
            answer => Err(misfit(answer)),
        }
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutReply>, Status> {
        let PutRequest { ticket, key, value } = request.into_inner();
        check_key(&key)?;
        check_value(&value)?;
        match self.write(ticket, Op::Put(command::Put { key, value })).await? {
            Answer::Put => Ok(Response::new(PutReply {})),
            answer => Err(misfit(answer)),
        }
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        let GetRequest { key, stale } = request.into_inner();
        check_key(&key)?;
        let key = key.to_vec();
        let value = self.ask(|respond| Event::Read { key, stale, respond }).await?;
        Ok(Response::new(GetReply { value: value.map(Into::into) }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteReply>, Status> {
        let DeleteRequest { ticket, key } = request.into_inner();
        check_key(&key)?;
        match self.write(ticket, Op::Delete(command::Delete { key })).await? {
            Answer::Deleted { existed } => Ok(Response::new(DeleteReply { existed })),
            answer => Err(misfit(answer)),
        }
    }

    async fn compare_and_swap(
        &self,
        request: Request<CompareAndSwapRequest>,
    ) -> Result<Response<CompareAndSwapReply>, Status> {
        let CompareAndSwapRequest { ticket, key, expected, value } = request.into_inner();
        check_key(&key)?;
        check_value(expected.as_deref().unwrap_or_default())?;
        check_value(&value)?;
        let op = Op::CompareAndSwap(command::CompareAndSwap { key, expected, value });
        match self.write(ticket, op).await? {
            Answer::Swapped { swapped, seen } => {
                Ok(Response::new(CompareAndSwapReply { swapped, seen: seen.map(Into::into) }))
            }
            answer => Err(misfit(answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_swap_is_bounded() {
        let bytes = |count: usize| vec![b'x'; count].into();
        let cases = [
            (1, Some(VALUE_BYTES_MAX), VALUE_BYTES_MAX, ErrorCode::Stopping),
            (KEY_BYTES_MAX, None, 0, ErrorCode::Stopping),
            (0, None, 1, ErrorCode::Invalid),
            (KEY_BYTES_MAX + 1, None, 1, ErrorCode::Invalid),
            (1, Some(2 << 20), 1, ErrorCode::Invalid),
            (1, Some(VALUE_BYTES_MAX + 1), 1, ErrorCode::Invalid),
            (1, None, VALUE_BYTES_MAX + 1, ErrorCode::Invalid),
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (key, expected, value, want) in cases {
            // Without a driver, what passes is told that the node is stopping.
            let service = Service::new(Inbox::new().0);
            let request = CompareAndSwapRequest {
                ticket: None,
                key: bytes(key),
                expected: expected.map(bytes),
                value: bytes(value),
            };
            let status = runtime.block_on(service.compare_and_swap(Request::new(request))).unwrap_err();
            assert_eq!(Error::from_status(&status).code(), want, "{key} {expected:?} {value}");
        }
    }
}
