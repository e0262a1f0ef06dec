//! What a node takes from the world as bytes, as functions that a fuzzer can call: records and snapshots from its
//! disk, frames from peers, commands of clients.
//!
//! In: any bytes. Out: nothing, or a panic: of the code that reads them, or because what was read does not come back
//! the same when it is written and read again. Never: a file that stays, a socket, or a word to anybody.
//!
//! `tests/fuzz.rs` drives these with mutated seeds on a stable compiler; each has the form that libFuzzer asks for.

use mkraft_proto::v1::{self, Command, command};
use prost::Message as _;

use crate::driver::Event;
use crate::machine::{KeyValue, Machine, limits};
use crate::raft::{
    AppendOutcome, Body, Configuration, Entry, EntryKind, HardState, Index, Initial, Input, Message, NodeId,
    Options, Position, Raft, Snapshot, Term,
};
use crate::storage;
use crate::transport::wire;

/// Something to fuzz.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Whole ones, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Makes checksums right again, so that what they protect is read as well.
    pub mend: fn(&mut [u8]),
}

pub const TARGETS: &[Target] = &[
    Target {
        name: "wal-record",
        run: storage::fuzz::record,
        seeds: storage::fuzz::record_seeds,
        mend: |_| {},
    },
    Target {
        name: "snapshot-file",
        run: storage::fuzz::snapshot,
        seeds: storage::fuzz::snapshot_seeds,
        mend: storage::fuzz::mend_snapshot,
    },
    Target { name: "snapshot-state", run: state, seeds: state_seeds, mend: |_| {} },
    Target { name: "peer-frame", run: frame, seeds: frame_seeds, mend: |_| {} },
    Target { name: "client-command", run: client_command, seeds: command_seeds, mend: |_| {} },
];

/// A state that is read is written as itself: once written by this program, byte for byte.
fn state(bytes: &[u8]) {
    let Ok(machine) = Machine::<KeyValue>::restore(bytes) else { return };
    let written = written(&machine);
    let Ok(again) = Machine::<KeyValue>::restore(&*written) else {
        panic!("a state that was read cannot be read again")
    };
    assert_eq!(self::written(&again), written, "a state changes when it is written and read");
}

fn state_seeds() -> Vec<Vec<u8>> {
    let mut machine = Machine::new(KeyValue::default());
    let empty = written(&machine);
    for (index, payload) in (1..).zip(command_seeds()) {
        machine.apply(&entry(index, &payload));
    }
    vec![empty, written(&machine)]
}

fn written(machine: &Machine<KeyValue>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Err(error) = machine.freeze().write_to(&mut bytes) {
        panic!("failed to write a state into memory: {error}");
    }
    bytes
}

/// Through the envelope, and into a node that follows and one that leads.
fn frame(bytes: &[u8]) {
    let Ok(envelope) = v1::Envelope::decode(bytes) else { return };
    let (Some(Event::Message(message)) | Some(Event::Chunk { message, .. })) = wire::event(envelope) else {
        return;
    };
    assert_eq!(wire::decode(wire::encode(message.clone())).as_ref(), Some(&message), "it changes on its way");
    for leads in [false, true] {
        core(leads).step(Input::Message(message.clone()));
    }
}

/// n1 of three, in term 2, with three entries, of which the first is committed.
fn core(leads: bool) -> Raft {
    let options = Options {
        id: NodeId(1),
        election_ticks: 10,
        heartbeat_ticks: 1,
        append_bytes_max: 1 << 10,
        inflight_bytes_max: 1 << 12,
        uncommitted_entries_max: 100,
        compact_entries: 2,
        compact_bytes: 1 << 10,
        tail_entries: 1,
        tail_bytes: 1 << 10,
        chunk_bytes: 4,
        chunks_per_tick: 4,
        chunks_inflight_max: 4,
        promote_lag_entries_max: 1,
        patience: 0,
        lease: None,
        seed: 1,
    };
    let voters = [NodeId(1), NodeId(2), NodeId(3)].into();
    let configuration = Configuration { voters, ..Configuration::default() };
    let entries = (1..=3).map(|index| Entry { term: Term(2), ..entry(index, b"x") }).collect();
    let hard_state = HardState { term: Term(2), vote: None, commit: Index(1) };
    let initial = Initial { hard_state, entries, configuration, ..Initial::default() };
    let (mut raft, _) = Raft::new(options, initial);
    if leads {
        let answer = |pre, term| {
            let body = Body::VoteReply { pre, granted: true };
            Input::Message(Message { from: NodeId(2), to: NodeId(1), term: Term(term), body })
        };
        (0..20).for_each(|_| drop(raft.step(Input::Tick)));
        let effects = raft.step(answer(true, 2));
        let persist = effects.persist.map(|persist| Input::Persisted(persist.id));
        persist.into_iter().chain([answer(false, 3)]).for_each(|input| drop(raft.step(input)));
    }
    raft
}

fn frame_seeds() -> Vec<Vec<u8>> {
    let position = |index, term| Position { index: Index(index), term: Term(term) };
    let configuration = Configuration { voters: [NodeId(1), NodeId(2)].into(), ..Configuration::default() };
    let payload: std::sync::Arc<[u8]> = configuration.encode();
    let entries = vec![
        Entry { index: Index(4), term: Term(3), kind: EntryKind::Noop, payload: (*b"").into() },
        Entry { index: Index(5), term: Term(3), kind: EntryKind::Config, payload },
        Entry { index: Index(6), term: Term(3), kind: EntryKind::Command, payload: (*b"x").into() },
    ];
    let snapshot = Snapshot { position: position(9, 3), configuration, bytes: 9, digest: 7 };
    let conflict = AppendOutcome::Conflict { prev: Index(3), hint: position(1, 1) };
    let bodies = [
        Body::RequestVote { pre: true, asked: false, last: position(3, 2) },
        Body::RequestVote { pre: false, asked: true, last: position(3, 2) },
        Body::VoteReply { pre: false, granted: true },
        Body::Append { prev: position(3, 2), entries, commit: Index(6), round: 1 },
        Body::AppendReply { round: 0, outcome: AppendOutcome::Matched(Index(4)) },
        Body::AppendReply { round: 0, outcome: conflict },
        Body::ChunkReply { stream: 1, next: 1 },
        Body::TimeoutNow,
        Body::ReadIndex { token: 5 },
        Body::ReadIndexReply { token: 5, index: Some(Index(3)) },
    ];
    let message = |body| Message { from: NodeId(2), to: NodeId(1), term: Term(3), body };
    let mut seeds: Vec<_> =
        bodies.into_iter().map(|body| wire::encode(message(body)).encode_to_vec()).collect();
    let chunk = message(Body::Chunk { snapshot, stream: 1, number: 0 });
    seeds.push(wire::encode_chunk(chunk, b"byte".to_vec()).encode_to_vec());
    seeds
}

/// What passes the bounds is applied, twice alike, and leaves a state that a snapshot can hold.
fn client_command(bytes: &[u8]) {
    if let Ok(command) = Command::decode(bytes) {
        assert_eq!(Command::decode(&*command.encode_to_vec()), Ok(command.clone()), "it changes on its way");
        if command.op.is_none_or(|op| limits::check(&op).is_err()) {
            return;
        }
    }
    let mut machines = [(); 2].map(|()| Machine::new(KeyValue::default()));
    for (index, payload) in (1..).zip(command_seeds().into_iter().chain([bytes.to_vec()])) {
        let [one, other] = &mut machines;
        let entry = entry(index, &payload);
        assert_eq!(one.apply(&entry), other.apply(&entry), "two machines disagree");
    }
    state(&written(&machines[0]));
    assert_eq!(written(&machines[0]), written(&machines[1]), "two machines came to different states");
}

fn command_seeds() -> Vec<Vec<u8>> {
    use v1::{Compare, Txn, TxnOp, compare, txn_op};
    let ticket = |sequence| Some(v1::Ticket { session: 1, sequence });
    let key = || b"k".to_vec();
    let put = || command::Put { key: key().into(), value: key().into() };
    let expected = Some(key().into());
    let swap = command::CompareAndSwap { key: key().into(), expected, value: key().into() };
    let txn = Txn {
        compare: vec![Compare { key: key().into(), is: Some(compare::Is::Version(2)) }],
        then: vec![TxnOp { op: Some(txn_op::Op::Put(put())) }],
        otherwise: vec![TxnOp { op: Some(txn_op::Op::Get(txn_op::Get { key: key().into() })) }],
    };
    let append = command::Append { key: key().into(), suffix: key().into() };
    let ops = [
        (None, command::Op::OpenSession(Default::default())),
        (ticket(1), command::Op::Put(put())),
        (ticket(2), command::Op::CompareAndSwap(swap)),
        (ticket(3), command::Op::Append(append)),
        (ticket(4), command::Op::Txn(txn)),
        (None, command::Op::Delete(command::Delete { key: key().into(), version: Some(3) })),
        (ticket(4), command::Op::Put(put())),
    ];
    ops.into_iter().map(|(ticket, op)| Command { ticket, op: Some(op) }.encode_to_vec()).collect()
}

fn entry(index: u64, payload: &[u8]) -> Entry {
    Entry { index: Index(index), term: Term(1), kind: EntryKind::Command, payload: payload.into() }
}
