//! What the core's replies are called when they go to a client or an operator.
//!
//! In: why something was not done. Out: an error of the wire, with a hint when to come back where that helps.
//! Never: a definite answer to what may yet happen.

use std::time::Duration;

use mkraft_proto::v1::{Error, ErrorCode};

use super::Respond;
use crate::raft::{NodeId, Refusal};

/// Who is refused may come back after what the oldest command has waited so far, within these bounds.
pub const RETRY_AFTER_MIN: Duration = Duration::from_millis(10);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);
const RETRY_OPERATION_AFTER: Duration = Duration::from_millis(100);

/// Who asked may have gone.
pub fn answer<T>(respond: Respond<T>, result: Result<T, Error>) {
    let _ = respond.send(result);
}

/// `waited`: by the oldest command that is not decided yet.
pub fn busy(waited: Duration) -> Error {
    let after = waited.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
    let busy = Error::new(ErrorCode::Busy, "too much waits to be committed, or to be read");
    Error { retry_after_ms: after.as_millis() as u32, ..busy }
}

/// What is there to be written waits, and is not lost; more is not taken.
pub fn no_room() -> Error {
    busy_for("the disk of this node is full")
}

pub fn not_leader(leader: Option<NodeId>) -> Error {
    let message = match leader {
        Some(leader) => format!("{leader} leads"),
        None => "no leader is known".into(),
    };
    Error { leader: leader.map_or(0, |leader| leader.0), ..Error::new(ErrorCode::NotLeader, message) }
}

pub fn not_transferred(asked: bool) -> Error {
    match asked {
        true => {
            Error::new(ErrorCode::Timeout, "the target was asked to lead, and did not in time; it yet may")
        }
        false => busy_for("the target did not come up to date in time; nothing was transferred"),
    }
}

/// What may be otherwise soon is told as busy.
pub fn refused(why: Refusal) -> Error {
    match why {
        Refusal::NotReady | Refusal::ChangeUnderWay | Refusal::HandingOver | Refusal::Lagging { .. } => {
            busy_for(why.to_string())
        }
        Refusal::NoSuccessor | Refusal::Unfit(_) => Error::new(ErrorCode::Invalid, why.to_string()),
    }
}

pub fn leadership_lost() -> Error {
    Error::new(ErrorCode::LeadershipLost, "leadership was lost before the entry was known to be committed")
}

fn busy_for(message: impl Into<String>) -> Error {
    let retry_after_ms = RETRY_OPERATION_AFTER.as_millis() as u32;
    Error { retry_after_ms, ..Error::new(ErrorCode::Busy, message) }
}
