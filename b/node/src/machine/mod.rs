//! Meaning: what a committed command does, and what its client is told.
//!
//! In: entries in log order. Out: replies. Never: a clock, randomness, or anything else that two nodes could
//! disagree about; nor an error: a command that makes no sense is refused alike on every node.

mod freeze;
mod kv;
pub mod limits;
mod recorder;
mod session;
#[cfg(test)]
mod tests;

pub use freeze::{Frozen, RestoreError, Unfit, sessions};
pub use kv::{KeyValue, Query, Reading};
/// What a client is told of its command; kept in its session, so that a retry is told the same.
pub use mkraft_proto::v1::answer::Answer;
pub use recorder::Recorder;
pub use session::{ANSWER_BYTES_MAX, SESSIONS_MAX, Sessions};

use mkraft_proto::evidence::Outcome;
use mkraft_proto::v1::state_record::Record;
use mkraft_proto::v1::{Command, Error, ErrorCode, OpenSessionReply, command};
use prost::Message;

use crate::raft::{Entry, EntryKind};

/// The state that commands act on, without sessions.
///
/// A clone must cost next to nothing, and share what neither changes: snapshots are written from one, on another
/// thread, while the original goes on.
pub trait StateMachine: Clone + Default + Send + 'static {
    /// What its snapshots say that they are of.
    const NAME: &'static str;

    /// `op` is what `entry` holds. An answer that refuses has had no effect.
    fn apply(&mut self, entry: &Entry, op: command::Op) -> Answer;

    /// All of the state, in an order that depends on nothing else.
    fn records(&self) -> impl Iterator<Item = Record> + '_;

    /// Adds the next that [`StateMachine::records`] gave; begins with [`Default`].
    fn restore(&mut self, record: Record) -> Result<(), Unfit>;
}

/// What an entry did.
#[derive(Clone, PartialEq, Debug)]
pub struct Applied {
    /// 0 where the entry has no session.
    pub session: u64,
    pub sequence: u64,
    pub outcome: Outcome,
    pub answer: Option<Answer>,
}

/// A state machine behind its client sessions (thesis §6.3).
pub struct Machine<S> {
    sessions: Sessions,
    state: S,
}

impl<S: StateMachine> Machine<S> {
    pub fn new(state: S) -> Machine<S> {
        Machine { sessions: Sessions::default(), state }
    }

    pub fn state(&self) -> &S {
        &self.state
    }

    /// Applies the next committed entry.
    pub fn apply(&mut self, entry: &Entry) -> Applied {
        if entry.kind != EntryKind::Command {
            return Applied { session: 0, sequence: 0, outcome: Outcome::Applied, answer: None };
        }
        let (session, sequence, outcome, answer) = match Command::decode(&*entry.payload) {
            Ok(Command { op: Some(command::Op::OpenSession(_)), .. }) => {
                let session = self.sessions.open(entry.index);
                (session, 0, Outcome::Applied, Answer::Opened(OpenSessionReply { session }))
            }
            Ok(Command { op: Some(op), ticket: Some(ticket) }) => {
                let state = &mut self.state;
                let (outcome, answer) = self.sessions.once(entry.index, &ticket, || state.apply(entry, op));
                (ticket.session, ticket.sequence, outcome, answer)
            }
            Ok(Command { op: Some(op), ticket: None }) => {
                let answer = self.state.apply(entry, op);
                (0, 0, session::outcome(&answer), answer)
            }
            Ok(Command { op: None, .. }) | Err(_) => {
                let error = Error::new(ErrorCode::Invalid, "not a command that this node knows");
                (0, 0, Outcome::Refused, Answer::Refused(error))
            }
        };
        Applied { session, sequence, outcome, answer: Some(answer) }
    }
}
