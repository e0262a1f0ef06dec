//! What reaches the driver, and what it is asked.
//!
//! In: nothing. Out: [`Event`] and what an event holds. Never: what is made of it; the driver has that.

use std::sync::Arc;

use mkraft_proto::v1::Error;
use tokio::sync::oneshot;

use crate::machine::{Answer, KeyValue, Machine, Query, Reading};
use crate::raft::{Change, Configuration, Index, Message, NodeId, Position, Snapshot};
use crate::storage::StorageError;

/// What reaches the driver from outside.
pub enum Event {
    Message(Message),
    /// A chunk of a snapshot, and its bytes.
    Chunk {
        message: Message,
        data: Vec<u8>,
    },
    /// The running write is durable, or it failed; None: the thread that writes has panicked.
    Written(Option<Result<(), StorageError>>),
    /// There is no room for the running write, which is tried again until there is.
    NoRoom(StorageError),
    /// There is none for the snapshot that was asked for, which is taken later.
    NoRoomForSnapshot(StorageError),
    /// The snapshot that was asked for is on the disk, or it failed.
    Taken(Result<Snapshot, StorageError>),
    /// A snapshot of the leader's is on the disk, and this is the machine whose state it holds.
    Received {
        snapshot: Snapshot,
        machine: Box<Machine<KeyValue>>,
    },
    /// It could not be kept, or was not what was sent.
    Unreceived(Position),
    /// Of a file beside the log it is not known whether it is durable: the node ends.
    Failed(StorageError),
    /// A command for the state machine.
    Write {
        payload: Arc<[u8]>,
        respond: Respond<Answer>,
    },
    Read {
        query: Query,
        from: ReadFrom,
        respond: Respond<Reading>,
    },
    /// What an operator asks; answered with the configuration in force afterwards.
    Operate {
        operation: Operation,
        respond: Respond<Members>,
    },
    /// End cleanly.
    Stop {
        reason: String,
    },
}

/// Whose state answers a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadFrom {
    /// The leader's; linearizable.
    Leader,
    /// This node's, once it holds all that the leader says it must; linearizable.
    Here,
    /// This node's, as it is.
    Stale,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Only tells.
    Members,
    Change(Change),
    /// Without a target, to the voter that is furthest.
    Transfer(Option<NodeId>),
    /// Of this node, whether it leads or not: takes a snapshot now.
    Compact,
}

/// What an operator is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members {
    /// Of the entry that holds the configuration; 0 for the one the cluster began with.
    pub index: Index,
    pub configuration: Configuration,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// What this node's newest snapshot stands for.
    pub snapshot: Index,
}

pub type Respond<T> = oneshot::Sender<Result<T, Error>>;

impl Event {
    /// What a peer said.
    pub fn message(&self) -> Option<&Message> {
        match self {
            Event::Message(message) | Event::Chunk { message, .. } => Some(message),
            _ => None,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Event::Message(message) => message.size(),
            Event::Chunk { data, .. } => data.len(),
            Event::Write { payload, .. } => payload.len(),
            _ => 0,
        }
    }
}
