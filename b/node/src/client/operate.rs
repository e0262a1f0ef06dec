//! What an operator asks of a cluster: who its members are, and that they change, hand over or compact.
//!
//! In: a command and the addresses of some nodes. Out: the configuration in force afterwards. Asking again after an
//! unclear failure is safe: what is so already is done.

use std::time::Duration;

use clap::{Args, Subcommand};
use mkraft_proto::v1::admin_client::AdminClient;
use mkraft_proto::v1::{
    ChangeRequest, CompactRequest, Configuration, MembersReply, MembersRequest, TransferRequest,
};

use super::{ClientError, Cluster, Nodes, Outcome, channel, parse_nodes, parse_timeout};
use crate::config::{ConfigError, parse_id};
use crate::raft::NodeId;

#[derive(Args, Debug)]
pub struct OperateArgs {
    #[command(flatten)]
    nodes: Nodes,
    /// How long to try
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_timeout)]
    timeout: Duration,
    #[command(subcommand)]
    command: OperateCommand,
}

#[derive(Subcommand, Debug)]
enum OperateCommand {
    /// Print who votes and who learns
    Show,
    /// Let a node receive the log without counting; every node must know its address
    AddLearner { id: String },
    /// Let a learner vote; tried until it is caught up
    Promote { id: String },
    /// Take a voter or a learner away
    Remove { id: String },
    /// Let a learner vote in the place of a voter, in one change
    Replace { old: String, new: String },
    /// Let another voter lead, the one that is furthest if none is named
    Transfer { to: Option<String> },
    /// Let each of the nodes named take a snapshot
    Compact,
}

/// Carries out one command against whichever node leads.
pub async fn operate(args: OperateArgs) -> Result<Outcome, ClientError> {
    if let OperateCommand::Compact = args.command {
        return compact(&args.nodes).await;
    }
    let mut cluster = Cluster::new(&args.nodes, args.timeout, AdminClient::new)?;
    let ids = |id: &str| parse_id("id", id).map(|id| vec![id.0]);
    let change = match &args.command {
        OperateCommand::Show => {
            let call = |mut client: AdminClient<_>, request| async move { client.members(request).await };
            return Ok(shown(&cluster.ask(MembersRequest {}, call).await?));
        }
        OperateCommand::Transfer { to } => {
            let to = to.as_deref().map(|to| parse_id("to", to)).transpose()?.map_or(0, |to| to.0);
            let call = |mut client: AdminClient<_>, request| async move { client.transfer(request).await };
            return Ok(shown(&cluster.ask(TransferRequest { to }, call).await?));
        }
        OperateCommand::AddLearner { id } => ChangeRequest { add: ids(id)?, ..Default::default() },
        OperateCommand::Promote { id } => ChangeRequest { promote: ids(id)?, ..Default::default() },
        OperateCommand::Remove { id } => ChangeRequest { remove: ids(id)?, ..Default::default() },
        OperateCommand::Replace { old, new } => {
            ChangeRequest { promote: ids(new)?, remove: ids(old)?, ..Default::default() }
        }
        OperateCommand::Compact => ChangeRequest::default(),
    };
    let call = |mut client: AdminClient<_>, request| async move { client.change(request).await };
    Ok(shown(&cluster.ask(change, call).await?))
}

/// A line for each node: what its newest snapshot stands for, or why it has taken none.
async fn compact(nodes: &Nodes) -> Result<Outcome, ClientError> {
    let (mut lines, mut success) = (Vec::new(), true);
    for (id, address) in parse_nodes(nodes)? {
        let invalid =
            |_| ConfigError::Invalid { name: "node", value: address.clone(), expected: "an address" };
        let mut client = AdminClient::new(channel(&address).map_err(invalid)?);
        match client.compact(CompactRequest {}).await {
            Ok(reply) => lines.push(format!("{id} has a snapshot at {}", reply.into_inner().snapshot)),
            Err(status) => {
                success = false;
                lines.push(format!("{id} has not: {}", status.message()));
            }
        }
    }
    Ok(Outcome::new(success, lines.join("\n")))
}

fn shown(reply: &MembersReply) -> Outcome {
    let names = |ids: &[u64]| {
        let names: Vec<String> = ids.iter().map(|&id| NodeId(id).to_string()).collect();
        if names.is_empty() { "-".into() } else { names.join(" ") }
    };
    let Configuration { voters, outgoing, learners } = reply.configuration.clone().unwrap_or_default();
    let leader = if reply.leader == 0 { vec![] } else { vec![reply.leader] };
    let mut text = format!("leader    {}\nvoters    {}\n", names(&leader), names(&voters));
    if !outgoing.is_empty() {
        text += &format!("outgoing  {}\n", names(&outgoing));
    }
    text += &format!("learners  {}\nindex     {}", names(&learners), reply.index);
    Outcome::new(true, text)
}
