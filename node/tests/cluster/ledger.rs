//! The state machine of the simulated servers: the real store, and the recorder of all that took effect in it, both
//! behind the real client sessions.
//!
//! In: entries. Out: answers; in a snapshot, the bytes that a node would write. Never: an entry of another kind than
//! commands, nor a retry: the sessions keep both away, and the recorder shows it.

use mkraft_node::machine::{Answer, KeyValue, Recorder, StateMachine, Unfit};
use mkraft_node::raft::Entry;
use mkraft_proto::v1::command::Op;
use mkraft_proto::v1::state_record::Record;

#[derive(Clone, Default)]
pub struct Ledger {
    pub store: KeyValue,
    pub effects: Recorder,
}

impl StateMachine for Ledger {
    const NAME: &'static str = "ledger";

    fn apply(&mut self, entry: &Entry, op: Op) -> Answer {
        self.effects.record(entry);
        self.store.apply(entry, op)
    }

    fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.store.records().chain(self.effects.records())
    }

    fn restore(&mut self, record: Record) -> Result<(), Unfit> {
        match record {
            Record::Noted(_) => self.effects.restore(record),
            _ => self.store.restore(record),
        }
    }
}
