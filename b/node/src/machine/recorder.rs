//! The recorder: a state machine that only writes down which entries it was given.
//!
//! In: entries. Out: their indexes, terms and digests. Never: a look at what they mean; it shows what a state
//! machine needs of Raft, and two that were given the same say the same.

use imbl::OrdMap;
use mkraft_proto::evidence::Digest;
use mkraft_proto::v1::PutReply;
use mkraft_proto::v1::command::Op;
use mkraft_proto::v1::state_record::{self, Record};

use super::{Answer, StateMachine, Unfit};
use crate::raft::{Entry, Index, Term};

#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Recorder(OrdMap<Index, (Term, Digest)>);

impl Recorder {
    /// Any entry, of whatever kind.
    pub fn record(&mut self, entry: &Entry) {
        let digest = Digest::of_entry(entry.kind.into(), &entry.payload);
        self.0.insert(entry.index, (entry.term, digest));
    }

    /// In the order of the log.
    pub fn recorded(&self) -> impl Iterator<Item = (Index, Term, Digest)> + '_ {
        self.0.iter().map(|(&index, &(term, digest))| (index, term, digest))
    }
}

impl StateMachine for Recorder {
    const NAME: &'static str = "recorder";

    /// Whatever the command is, its client is told at which index it was written down.
    fn apply(&mut self, entry: &Entry, _: Op) -> Answer {
        self.record(entry);
        Answer::Put(PutReply { version: entry.index.0 })
    }

    fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.recorded().map(|(index, term, digest)| {
            Record::Noted(state_record::Noted { index: index.0, term: term.0, digest: digest.0 })
        })
    }

    fn restore(&mut self, record: Record) -> Result<(), Unfit> {
        let Record::Noted(state_record::Noted { index, term, digest }) = record else {
            return Err(Unfit("is not of a recorder".into()));
        };
        if index == 0 || self.0.get_max().is_some_and(|(last, _)| index <= last.0) {
            return Err(Unfit(format!("has entry {index} out of order")));
        }
        self.0.insert(Index(index), (Term(term), Digest(digest)));
        Ok(())
    }
}
