//! What an operator asks of one mkraft node: who the members are, that they change, hand over, compact.
//!
//! In: one wish. Out: the members as the node's answer has them, or a [`Failure`] that says whether the wish
//! certainly came to nothing. Never: a retry or a choice of node.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use mkraft_proto::v1::admin_client::AdminClient;
use mkraft_proto::v1::{ChangeRequest, CompactRequest, MembersReply, MembersRequest, TransferRequest};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use super::client::Failure;

/// A connection that is not made by then is given up.
const CONNECT_LIMIT: Duration = Duration::from_millis(300);

/// Who counts, and who only listens, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    pub voters: BTreeSet<String>,
    /// Those of before, while a change of the voters is under way: then a majority of each is needed.
    pub outgoing: BTreeSet<String>,
    pub learners: BTreeSet<String>,
    /// The entry that says so; 0 for the members that the cluster began with.
    pub index: u64,
}

/// What a node answers an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// In force on the node that answered; of a leader, in force.
    pub members: Members,
    /// As far as the node knows.
    pub leader: Option<String>,
    /// The last entry that its newest snapshot stands for; 0 when it has none.
    pub snapshot: u64,
}

/// Who is to become what; those not named stay what they are. What is so already is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// These become learners.
    pub add: Vec<String>,
    /// These learners become voters.
    pub promote: Vec<String>,
    pub remove: Vec<String>,
}

/// Asks one node, on a connection of its own that comes back when the node does.
#[derive(Debug, Clone)]
pub struct Operator {
    client: AdminClient<Channel>,
}

impl Operator {
    /// To be called within a tokio runtime; connects at the first question.
    pub fn new(address: SocketAddr) -> Operator {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .unwrap_or_else(|error| panic!("http://{address} is no address: {error}"));
        Operator { client: AdminClient::new(endpoint.connect_timeout(CONNECT_LIMIT).connect_lazy()) }
    }

    /// Linearizable: only the leader answers.
    pub async fn members(&mut self, limit: Duration) -> Result<Answer, Failure> {
        within(limit, self.client.members(MembersRequest {})).await
    }

    /// Answered once the change is committed, with the members after it.
    pub async fn change(&mut self, change: &Change, limit: Duration) -> Result<Answer, Failure> {
        let ids = |names: &[String]| names.iter().map(|name| id(name)).collect();
        let Change { add, promote, remove } = change;
        let request = ChangeRequest { add: ids(add), promote: ids(promote), remove: ids(remove) };
        within(limit, self.client.change(request)).await
    }

    /// Answered once `to` leads.
    pub async fn transfer(&mut self, to: &str, limit: Duration) -> Result<Answer, Failure> {
        within(limit, self.client.transfer(TransferRequest { to: id(to) })).await
    }

    /// Answered once a snapshot of all that is committed here stands.
    pub async fn compact(&mut self, limit: Duration) -> Result<Answer, Failure> {
        within(limit, self.client.compact(CompactRequest {})).await
    }
}

impl Members {
    /// `n1` to the `nodes`th, who vote from the beginning.
    pub fn first(nodes: u32) -> Members {
        Members { voters: (1..=nodes).map(|number| format!("n{number}")).collect(), ..Members::default() }
    }

    /// Votes, or did until a change that is under way.
    pub fn has_voter(&self, name: &str) -> bool {
        self.voters.contains(name) || self.outgoing.contains(name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.has_voter(name) || self.learners.contains(name)
    }
}

async fn within(
    limit: Duration,
    asked: impl Future<Output = Result<Response<MembersReply>, Status>>,
) -> Result<Answer, Failure> {
    match timeout(limit, asked).await {
        Ok(Ok(reply)) => Ok(reply.into_inner().into()),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(Failure::timed_out(limit)),
    }
}

/// 4 of `n4`. Panics on a name that no node has: names come from the cluster.
fn id(name: &str) -> u64 {
    let number = name.strip_prefix('n').and_then(|digits| digits.parse().ok());
    number.unwrap_or_else(|| panic!("{name} is no name of a node"))
}

fn names(ids: Vec<u64>) -> BTreeSet<String> {
    ids.into_iter().map(|id| format!("n{id}")).collect()
}

impl From<MembersReply> for Answer {
    fn from(reply: MembersReply) -> Answer {
        let MembersReply { configuration, index, leader, snapshot } = reply;
        let all = configuration.unwrap_or_default();
        let (voters, outgoing, learners) = (names(all.voters), names(all.outgoing), names(all.learners));
        let leader = (leader != 0).then(|| format!("n{leader}"));
        Answer { members: Members { voters, outgoing, learners, index }, leader, snapshot }
    }
}

#[cfg(test)]
mod tests {
    use mkraft_proto::v1::Configuration;

    use super::*;

    #[test]
    fn who_is_on_the_way_out_still_votes() {
        let configuration = Configuration { voters: vec![1, 4], outgoing: vec![1, 2], learners: vec![5] };
        let reply = MembersReply { configuration: Some(configuration), index: 9, leader: 2, snapshot: 7 };
        let Answer { members, leader, snapshot } = reply.into();
        assert_eq!((leader.as_deref(), snapshot, members.index), (Some("n2"), 7, 9));
        assert!(["n1", "n2", "n4"].into_iter().all(|name| members.has_voter(name)));
        assert!(members.has("n5") && !members.has_voter("n5") && !members.has("n3"));
    }

    #[tokio::test]
    async fn nobody_at_the_address_has_certainly_done_nothing() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = Operator::new(free).compact(Duration::from_secs(9)).await.unwrap_err();
        assert!(failure.definite, "{failure}");
    }
}
