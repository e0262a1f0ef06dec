//! Meaning: what a committed command does, and what its client is told.
//!
//! In: entries in log order. Out: replies. Never: a clock, randomness, or anything else that two nodes could
//! disagree about; nor an error: a command that makes no sense is refused alike on every node.

mod kv;
mod session;

pub use kv::KeyValue;
pub use session::Sessions;

use mkraft_proto::evidence::Outcome;
use mkraft_proto::v1::{Command, ErrorCode, command};
use prost::Message;

use crate::raft::{Entry, EntryKind};

/// What a client is told of its command; kept in its session, so that a retry is told the same.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    Opened {
        session: u64,
    },
    Put,
    Deleted {
        existed: bool,
    },
    Swapped {
        swapped: bool,
        seen: Option<Vec<u8>>,
    },
    /// No effect, and why.
    Refused {
        code: ErrorCode,
        why: &'static str,
    },
}

/// The state that commands act on, without sessions.
pub trait StateMachine: Send {
    fn apply(&mut self, op: command::Op) -> Answer;
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;
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

    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state.get(key)
    }

    /// Applies the next committed entry.
    pub fn apply(&mut self, entry: &Entry) -> Applied {
        if entry.kind != EntryKind::Command {
            return Applied { session: 0, sequence: 0, outcome: Outcome::Applied, answer: None };
        }
        let (session, sequence, outcome, answer) = match Command::decode(&*entry.payload) {
            Ok(Command { op: Some(command::Op::OpenSession(_)), .. }) => {
                let session = self.sessions.open(entry.index);
                (session, 0, Outcome::Applied, Answer::Opened { session })
            }
            Ok(Command { op: Some(op), ticket: Some(ticket) }) => {
                let state = &mut self.state;
                let (outcome, answer) = self.sessions.once(&ticket, || state.apply(op));
                (ticket.session, ticket.sequence, outcome, answer)
            }
            Ok(Command { op: Some(op), ticket: None }) => (0, 0, Outcome::Applied, self.state.apply(op)),
            Ok(Command { op: None, .. }) | Err(_) => {
                let answer =
                    Answer::Refused { code: ErrorCode::Invalid, why: "not a command that this node knows" };
                (0, 0, Outcome::Refused, answer)
            }
        };
        Applied { session, sequence, outcome, answer: Some(answer) }
    }
}

#[cfg(test)]
mod tests {
    use mkraft_proto::v1::{OpenSessionRequest, Ticket};

    use super::*;
    use crate::raft::{Index, Term};

    fn entry(index: u64, command: Command) -> Entry {
        let payload = command.encode_to_vec().into();
        Entry { index: Index(index), term: Term(1), kind: EntryKind::Command, payload }
    }

    fn open() -> Command {
        Command { ticket: None, op: Some(command::Op::OpenSession(OpenSessionRequest {})) }
    }

    fn swap(session: u64, sequence: u64, expected: Option<&str>, value: &str) -> Command {
        let op = command::CompareAndSwap {
            key: "k".into(),
            expected: expected.map(|text| text.to_owned().into()),
            value: value.to_owned().into(),
        };
        Command { ticket: Some(Ticket { session, sequence }), op: Some(command::Op::CompareAndSwap(op)) }
    }

    #[test]
    fn a_retry_is_told_what_the_first_attempt_was_told_and_changes_nothing() {
        let mut machine = Machine::new(KeyValue::default());
        let session = 1;
        let steps = [
            (open(), Outcome::Applied, Answer::Opened { session }),
            (swap(session, 1, None, "a"), Outcome::Applied, swapped(true, None)),
            // Without the session, this retry would find "a" and fail.
            (swap(session, 1, None, "a"), Outcome::Duplicate, swapped(true, None)),
            (swap(session, 5, Some("a"), "b"), Outcome::Applied, swapped(true, Some("a"))),
            (swap(session, 1, None, "a"), Outcome::Refused, stale()),
            (swap(session, 6, Some("a"), "c"), Outcome::Applied, swapped(false, Some("b"))),
        ];
        for (index, (command, outcome, answer)) in (1..).zip(steps) {
            let applied = machine.apply(&entry(index, command));
            assert_eq!((applied.outcome, applied.answer), (outcome, Some(answer)), "entry {index}");
        }
        assert_eq!(machine.get(b"k"), Some(b"b".to_vec()));
    }

    #[test]
    fn a_session_that_was_never_opened_and_bytes_that_are_no_command_are_refused() {
        let mut machine = Machine::new(KeyValue::default());
        let unknown = machine.apply(&entry(1, swap(7, 1, None, "a")));
        assert_eq!((unknown.outcome, unknown.session, unknown.sequence), (Outcome::Refused, 7, 1));
        let garbage = Entry { payload: (*b"\xff\xff\xff").into(), ..entry(2, open()) };
        assert_eq!(machine.apply(&garbage).outcome, Outcome::Refused);
        assert_eq!(machine.get(b"k"), None);
    }

    fn swapped(swapped: bool, seen: Option<&str>) -> Answer {
        Answer::Swapped { swapped, seen: seen.map(|text| text.as_bytes().to_vec()) }
    }

    fn stale() -> Answer {
        Answer::Refused {
            code: ErrorCode::SequenceStale,
            why: "the session has gone on to a higher sequence",
        }
    }
}
