//! Who waits for what: requests that are with the core, and commands that stand in the log.
//!
//! In: requests of clients and operators, and what became of them. Out: the one answer of each. Never: more bytes of
//! commands than there is room for, unless one is alone.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use mkraft_proto::v1::Error;

use super::answers::{self, answer};
use super::{Members, Respond};
use crate::machine::{Answer, Query, Reading};
use crate::raft::{Entry, Index, Position, RequestId, Term};

/// Of commands that clients wait for; beyond it, a further one is refused, unless it is alone.
pub const UNCOMMITTED_BYTES_MAX: usize = 64 << 20;

/// A request whose proposal or read is with the core.
pub enum Pending {
    Write(Waiting),
    Read {
        query: Query,
        respond: Respond<Reading>,
    },
    Operation {
        respond: Respond<Members>,
    },
    /// This node's own, before it stops.
    HandOver,
}

/// Who waits for a command to be applied.
pub struct Waiting {
    respond: Respond<Answer>,
    bytes: usize,
    since: Instant,
}

#[derive(Default)]
pub struct Requests {
    newest: RequestId,
    pending: HashMap<RequestId, Pending>,
    /// Commands that stand in the log, until an entry is applied at their index.
    proposed: BTreeMap<Index, (Term, Waiting)>,
    /// Of all commands that somebody waits for.
    uncommitted_bytes: usize,
}

impl Requests {
    /// Under the name by which the core is asked.
    pub fn pend(&mut self, pending: Pending) -> RequestId {
        self.newest += 1;
        self.pending.insert(self.newest, pending);
        self.newest
    }

    /// The same for a command of so many bytes; None when there is no room, which is answered. `unwritten`: bytes
    /// that this node's own disk has yet to take.
    pub fn pend_write(
        &mut self,
        bytes: usize,
        unwritten: usize,
        respond: Respond<Answer>,
    ) -> Option<RequestId> {
        let before = self.uncommitted_bytes.max(unwritten);
        if before > 0 && before + bytes > UNCOMMITTED_BYTES_MAX {
            answer(respond, Err(self.busy()));
            return None;
        }
        self.uncommitted_bytes += bytes;
        Some(self.pend(Pending::Write(Waiting { respond, bytes, since: Instant::now() })))
    }

    pub fn take(&mut self, id: RequestId) -> Option<Pending> {
        self.pending.remove(&id)
    }

    pub fn is_pending(&self, id: RequestId) -> bool {
        self.pending.contains_key(&id)
    }

    pub fn proposed(&mut self, id: RequestId, position: Position) {
        let Some(Pending::Write(waiting)) = self.pending.remove(&id) else {
            panic!("request {id} was proposed, but is no pending write")
        };
        let before = self.proposed.insert(position.index, (position.term, waiting));
        if let Some((_, waiting)) = before {
            self.settle(waiting, Err(answers::leadership_lost()));
        }
    }

    /// What stands at this index now, whoever proposed it.
    pub fn applied(&mut self, entry: &Entry, result: Option<Answer>) {
        let Some((term, waiting)) = self.proposed.remove(&entry.index) else { return };
        let result = result.filter(|_| term == entry.term).ok_or_else(answers::leadership_lost);
        self.settle(waiting, result);
    }

    pub fn refused(&mut self, id: RequestId, error: Error) {
        match self.pending.remove(&id) {
            Some(Pending::Write(waiting)) => self.settle(waiting, Err(error)),
            Some(Pending::Read { respond, .. }) => answer(respond, Err(error)),
            Some(Pending::Operation { respond }) => answer(respond, Err(error)),
            Some(Pending::HandOver) => {}
            None => panic!("request {id} is refused, but is not pending"),
        }
    }

    /// Their entries may yet commit under another leader: a retry within the session finds out.
    pub fn leadership_lost(&mut self) {
        for (_, (_, waiting)) in std::mem::take(&mut self.proposed) {
            self.settle(waiting, Err(answers::leadership_lost()));
        }
    }

    pub fn busy(&self) -> Error {
        let oldest = self.proposed.first_key_value().map(|(_, (_, waiting))| waiting.since.elapsed());
        answers::busy(oldest.unwrap_or_default())
    }

    #[cfg(test)]
    pub fn uncommitted_bytes(&self) -> usize {
        self.uncommitted_bytes
    }

    /// The command counts no longer.
    fn settle(&mut self, waiting: Waiting, result: Result<Answer, Error>) {
        self.uncommitted_bytes -= waiting.bytes;
        answer(waiting.respond, result);
    }
}
