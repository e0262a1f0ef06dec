//! Client sessions: each (session, sequence) takes effect at most once (thesis §6.3).
//!
//! In: tickets, in log order. Out: whether an effect may happen, or what it came to before. Never: a clock. There
//! is room for so many sessions and for so many bytes of kept answers; what was not used for longest goes first,
//! counted in entries of the log, so that every node forgets the same at the same entry.

use imbl::OrdMap;
use mkraft_proto::evidence::Outcome;
use mkraft_proto::v1::{self, Error, ErrorCode, Ticket, state_record};

use super::{Answer, Unfit};
use crate::raft::Index;

/// Beyond it, opening a session ends the one that was not used for longest.
pub const SESSIONS_MAX: usize = 1 << 16;
/// Of all answers that are kept for retries; beyond it, the one whose session was not used for longest is forgotten.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bounds {
    pub sessions: usize,
    pub answer_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { sessions: SESSIONS_MAX, answer_bytes: ANSWER_BYTES_MAX }
    }
}

/// Every session that there is, with the last thing it did. A clone costs nothing and shares what neither changes.
#[derive(Clone, Default)]
pub struct Sessions {
    bounds: Bounds,
    by_id: OrdMap<u64, Session>,
    /// Ids, by the index of the last entry that named them.
    by_use: OrdMap<u64, u64>,
    answer_bytes: usize,
    /// No session used up to here has an answer.
    forgotten_to: u64,
}

#[derive(Clone)]
struct Session {
    used: u64,
    sequence: u64,
    answer: Option<Answer>,
}

impl Sessions {
    pub(super) fn with_bounds(bounds: Bounds) -> Sessions {
        Sessions { bounds, ..Sessions::default() }
    }

    /// A session is named after the index of the entry that opened it, and so never after another.
    pub fn open(&mut self, index: Index) -> u64 {
        while self.by_id.len() >= self.bounds.sessions
            && let Some(&(_, id)) = self.by_use.get_min()
        {
            self.end(id);
        }
        self.by_id.insert(index.0, Session { used: index.0, sequence: 0, answer: None });
        self.by_use.insert(index.0, index.0);
        index.0
    }

    /// Runs `effect` if this ticket's sequence is the session's next; gives the kept answer if it is the last.
    ///
    /// A client may leave numbers out (it gave up before it sent), but never goes back.
    pub fn once(
        &mut self,
        index: Index,
        ticket: &Ticket,
        effect: impl FnOnce() -> Answer,
    ) -> (Outcome, Answer) {
        let refused = |code, why| (Outcome::Refused, Answer::Refused(Error::new(code, why)));
        let Some(session) = self.by_id.get_mut(&ticket.session) else {
            return refused(ErrorCode::SessionUnknown, "no such session, or none any more");
        };
        self.by_use.remove(&session.used);
        self.by_use.insert(index.0, ticket.session);
        session.used = index.0;
        if ticket.sequence <= session.sequence {
            return match &session.answer {
                _ if ticket.sequence < session.sequence => {
                    refused(ErrorCode::SequenceStale, "the session has gone on to a higher sequence")
                }
                Some(answer) => (Outcome::Duplicate, answer.clone()),
                None => refused(ErrorCode::SequenceStale, "what it came to is no longer kept"),
            };
        }
        let answer = effect();
        session.sequence = ticket.sequence;
        let before = session.answer.replace(answer.clone());
        self.answer_bytes += answer.encoded_len();
        self.answer_bytes -= before.map_or(0, |before| before.encoded_len());
        self.forget_answers();
        (outcome(&answer), answer)
    }

    /// By rising id.
    pub(super) fn records(&self) -> impl Iterator<Item = state_record::Session> + '_ {
        self.by_id.iter().map(|(&id, Session { used, sequence, answer })| {
            let answer = answer.clone().map(|answer| v1::Answer { answer: Some(answer) });
            state_record::Session { id, used: *used, sequence: *sequence, answer }
        })
    }

    /// Adds the next that [`Sessions::records`] gave.
    pub(super) fn restore(&mut self, record: state_record::Session) -> Result<(), Unfit> {
        let state_record::Session { id, used, sequence, answer } = record;
        let answer = match answer {
            None => None,
            Some(v1::Answer { answer: None }) => {
                return Err(Unfit("keeps an answer that this program does not know".into()));
            }
            Some(v1::Answer { answer }) => answer,
        };
        if id == 0 || self.by_id.get_max().is_some_and(|(last, _)| id <= *last) {
            return Err(Unfit(format!("has session {id} out of order")));
        }
        if used < id || self.by_use.contains_key(&used) {
            return Err(Unfit(format!("has session {id} used last at entry {used}, which cannot be")));
        }
        if answer.is_some() && sequence == 0 {
            return Err(Unfit(format!("has an answer of session {id}, which has asked nothing")));
        }
        if self.by_id.len() == self.bounds.sessions {
            return Err(Unfit(format!("is one session more than the {} there may be", self.bounds.sessions)));
        }
        self.answer_bytes += answer.as_ref().map_or(0, Answer::encoded_len);
        if self.answer_bytes > self.bounds.answer_bytes {
            let bytes = self.bounds.answer_bytes;
            return Err(Unfit(format!("keeps answers of more than the {bytes} bytes there may be")));
        }
        self.by_id.insert(id, Session { used, sequence, answer });
        self.by_use.insert(used, id);
        Ok(())
    }

    fn end(&mut self, id: u64) {
        if let Some(Session { used, answer, .. }) = self.by_id.remove(&id) {
            self.by_use.remove(&used);
            self.answer_bytes -= answer.map_or(0, |answer| answer.encoded_len());
        }
    }

    /// The sessions go on, and so does the promise that nothing happens twice: only a retry of what is forgotten
    /// is told no more than that.
    fn forget_answers(&mut self) {
        while self.answer_bytes > self.bounds.answer_bytes {
            let Some((&used, &id)) = self.by_use.range(self.forgotten_to + 1..).next() else { return };
            self.forgotten_to = used;
            if let Some(Session { answer, .. }) = self.by_id.get_mut(&id) {
                self.answer_bytes -= answer.take().map_or(0, |answer| answer.encoded_len());
            }
        }
    }
}

/// What is refused has no effect.
pub(super) fn outcome(answer: &Answer) -> Outcome {
    match answer {
        Answer::Refused(_) => Outcome::Refused,
        _ => Outcome::Applied,
    }
}
