//! What an operator may ask.

use std::collections::BTreeSet;

use mkraft_proto::v1::admin_server::Admin;
use mkraft_proto::v1::{
    ChangeRequest, CompactRequest, Error, ErrorCode, MembersReply, MembersRequest, Role, StatusReply,
    StatusRequest, TransferRequest,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{NodeStatus, kv, wire};
use crate::driver::{Event, Inbox, Members, Operation};
use crate::raft::{Change, NodeId, RoleName};

pub struct Service {
    id: NodeId,
    /// Whose address this node knows.
    peers: BTreeSet<NodeId>,
    inbox: Inbox,
    status: watch::Receiver<NodeStatus>,
}

impl Service {
    pub fn new(
        id: NodeId,
        peers: BTreeSet<NodeId>,
        inbox: Inbox,
        status: watch::Receiver<NodeStatus>,
    ) -> Service {
        Service { id, peers, inbox, status }
    }

    async fn operate(&self, operation: Operation) -> Result<Response<MembersReply>, Status> {
        let members = kv::ask(&self.inbox, |respond| Event::Operate { operation, respond }).await?;
        let Members { index, configuration, leader, snapshot } = members;
        Ok(Response::new(MembersReply {
            configuration: Some(wire::encode_configuration(configuration)),
            index: index.0,
            leader: leader.map_or(0, |leader| leader.0),
            snapshot: snapshot.0,
        }))
    }
}

#[tonic::async_trait]
impl Admin for Service {
    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let NodeStatus { raft, applied } = *self.status.borrow();
        let role = match raft.role {
            RoleName::Follower => Role::Follower,
            RoleName::PreCandidate => Role::PreCandidate,
            RoleName::Candidate => Role::Candidate,
            RoleName::Leader => Role::Leader,
            RoleName::Learner => Role::Learner,
        };
        Ok(Response::new(StatusReply {
            id: self.id.0,
            term: raft.term.0,
            role: role.into(),
            leader: raft.leader.map_or(0, |leader| leader.0),
            last: raft.last.0,
            commit: raft.commit.0,
            applied,
        }))
    }

    async fn members(&self, _request: Request<MembersRequest>) -> Result<Response<MembersReply>, Status> {
        self.operate(Operation::Members).await
    }

    async fn change(&self, request: Request<ChangeRequest>) -> Result<Response<MembersReply>, Status> {
        let ChangeRequest { add, promote, remove } = request.into_inner();
        let ids = |ids: Vec<u64>| ids.into_iter().map(NodeId).collect::<BTreeSet<_>>();
        let change = Change { add: ids(add), promote: ids(promote), remove: ids(remove) };
        if let Some(stranger) = change.add.iter().find(|id| **id != self.id && !self.peers.contains(id)) {
            let message = format!("{} knows no address of {stranger}", self.id);
            return Err(Error::new(ErrorCode::Invalid, message).into());
        }
        self.operate(Operation::Change(change)).await
    }

    async fn transfer(&self, request: Request<TransferRequest>) -> Result<Response<MembersReply>, Status> {
        let to = request.into_inner().to;
        self.operate(Operation::Transfer((to != 0).then_some(NodeId(to)))).await
    }

    async fn compact(&self, _request: Request<CompactRequest>) -> Result<Response<MembersReply>, Status> {
        self.operate(Operation::Compact).await
    }
}
