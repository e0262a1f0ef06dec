//! What an operator may ask.

use mkraft_proto::v1::admin_server::Admin;
use mkraft_proto::v1::{Role, StatusReply, StatusRequest};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::NodeStatus;
use crate::raft::{NodeId, RoleName};

pub struct Service {
    id: NodeId,
    status: watch::Receiver<NodeStatus>,
}

impl Service {
    pub fn new(id: NodeId, status: watch::Receiver<NodeStatus>) -> Service {
        Service { id, status }
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
}
