//! Client sessions: each (session, sequence) takes effect at most once (thesis §6.3).

use std::collections::BTreeMap;

use mkraft_proto::evidence::Outcome;
use mkraft_proto::v1::{Error, ErrorCode, Ticket};

use super::Answer;
use crate::raft::Index;

/// Every session that was opened, with the last thing it did.
#[derive(Default)]
pub struct Sessions(BTreeMap<u64, Last>);

struct Last {
    sequence: u64,
    answer: Option<Answer>,
}

impl Sessions {
    /// A session is named after the index of the entry that opened it.
    pub fn open(&mut self, index: Index) -> u64 {
        self.0.insert(index.0, Last { sequence: 0, answer: None });
        index.0
    }

    /// Runs `effect` if this ticket's sequence is the session's next; gives the kept answer if it is the last.
    ///
    /// A client may leave numbers out (it gave up before it sent), but never goes back.
    pub fn once(&mut self, ticket: &Ticket, effect: impl FnOnce() -> Answer) -> (Outcome, Answer) {
        let refused = |code, why| (Outcome::Refused, Answer::Refused(Error::new(code, why)));
        let Some(last) = self.0.get_mut(&ticket.session) else {
            return refused(ErrorCode::SessionUnknown, "no such session");
        };
        match &last.answer {
            Some(answer) if ticket.sequence == last.sequence => return (Outcome::Duplicate, answer.clone()),
            _ if ticket.sequence <= last.sequence => {
                return refused(ErrorCode::SequenceStale, "the session has gone on to a higher sequence");
            }
            _ => {}
        }
        let answer = effect();
        *last = Last { sequence: ticket.sequence, answer: Some(answer.clone()) };
        (outcome(&answer), answer)
    }
}

/// What is refused has no effect.
pub fn outcome(answer: &Answer) -> Outcome {
    match answer {
        Answer::Refused(_) => Outcome::Refused,
        _ => Outcome::Applied,
    }
}
