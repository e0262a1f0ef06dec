//! Between the core's messages and the envelopes of `raft.proto`.
//!
//! In: what a peer sent. Out: a [`Message`] that has the right form, or nothing. Whether it makes sense is
//! for the core to say.

use std::collections::BTreeSet;

use crc32c::crc32c;
use mkraft_proto::v1::{self, append_entries_reply, envelope};

use crate::driver::Event;
use crate::raft::{
    AppendOutcome, Body, Configuration, Entry, EntryKind, Index, Message, NodeId, Position, Snapshot, Term,
};

pub fn encode(message: Message) -> v1::Envelope {
    let body = match message.body {
        Body::RequestVote { pre, asked, last } => envelope::Body::RequestVote(v1::RequestVote {
            pre,
            last_index: last.index.0,
            last_term: last.term.0,
            transfer: asked,
        }),
        Body::VoteReply { pre, granted } => envelope::Body::VoteReply(v1::VoteReply { pre, granted }),
        Body::Append { prev, entries, commit, round } => envelope::Body::AppendEntries(v1::AppendEntries {
            prev_index: prev.index.0,
            prev_term: prev.term.0,
            entries: entries.into_iter().map(encode_entry).collect(),
            commit: commit.0,
            round,
        }),
        Body::AppendReply { round, outcome } => {
            let outcome = match outcome {
                AppendOutcome::Matched(index) => append_entries_reply::Outcome::Matched(index.0),
                AppendOutcome::Conflict { prev, hint } => {
                    append_entries_reply::Outcome::Conflict(v1::Conflict {
                        prev_index: prev.0,
                        hint_index: hint.index.0,
                        hint_term: hint.term.0,
                    })
                }
            };
            envelope::Body::AppendEntriesReply(v1::AppendEntriesReply { round, outcome: Some(outcome) })
        }
        Body::Chunk { snapshot, stream, number } => {
            let snapshot = Some(encode_snapshot(snapshot));
            envelope::Body::Chunk(v1::Chunk { snapshot, stream, number, ..Default::default() })
        }
        Body::ChunkReply { stream, next } => envelope::Body::ChunkReply(v1::ChunkReply { stream, next }),
        Body::TimeoutNow => envelope::Body::TimeoutNow(v1::TimeoutNow {}),
        Body::ReadIndex { token } => envelope::Body::ReadIndex(v1::ReadIndex { token }),
        Body::ReadIndexReply { token, index } => {
            let index = index.map(|index| index.0);
            envelope::Body::ReadIndexReply(v1::ReadIndexReply { token, index })
        }
    };
    v1::Envelope { from: message.from.0, to: message.to.0, term: message.term.0, body: Some(body) }
}

/// None for what is not a message of the core: a greeting, or a body that this version does not know.
pub fn decode(envelope: v1::Envelope) -> Option<Message> {
    let body = match envelope.body? {
        envelope::Body::Hello(_) => return None,
        envelope::Body::RequestVote(v1::RequestVote { pre, last_index, last_term, transfer }) => {
            Body::RequestVote { pre, asked: transfer, last: position(last_index, last_term) }
        }
        envelope::Body::VoteReply(v1::VoteReply { pre, granted }) => Body::VoteReply { pre, granted },
        envelope::Body::AppendEntries(append) => Body::Append {
            prev: position(append.prev_index, append.prev_term),
            entries: decode_entries(append.prev_index, append.entries)?,
            commit: Index(append.commit),
            round: append.round,
        },
        envelope::Body::AppendEntriesReply(v1::AppendEntriesReply { round, outcome }) => {
            let outcome = match outcome? {
                append_entries_reply::Outcome::Matched(index) => AppendOutcome::Matched(Index(index)),
                append_entries_reply::Outcome::Conflict(v1::Conflict {
                    prev_index,
                    hint_index,
                    hint_term,
                }) => {
                    AppendOutcome::Conflict { prev: Index(prev_index), hint: position(hint_index, hint_term) }
                }
            };
            Body::AppendReply { round, outcome }
        }
        envelope::Body::Chunk(v1::Chunk { snapshot, stream, number, .. }) => {
            Body::Chunk { snapshot: decode_snapshot(snapshot?), stream, number }
        }
        envelope::Body::ChunkReply(v1::ChunkReply { stream, next }) => Body::ChunkReply { stream, next },
        envelope::Body::TimeoutNow(v1::TimeoutNow {}) => Body::TimeoutNow,
        envelope::Body::ReadIndex(v1::ReadIndex { token }) => Body::ReadIndex { token },
        envelope::Body::ReadIndexReply(v1::ReadIndexReply { token, index }) => {
            Body::ReadIndexReply { token, index: index.map(Index) }
        }
    };
    Some(Message { from: NodeId(envelope.from), to: NodeId(envelope.to), term: Term(envelope.term), body })
}

/// A chunk's message with its bytes.
pub fn encode_chunk(message: Message, data: Vec<u8>) -> v1::Envelope {
    let mut envelope = encode(message);
    if let Some(envelope::Body::Chunk(chunk)) = &mut envelope.body {
        chunk.checksum = crc32c(&data);
        chunk.data = data.into();
    }
    envelope
}

/// What the driver is to hear of a peer's envelope; None where it is no message, or bytes of it have changed.
pub fn event(mut envelope: v1::Envelope) -> Option<Event> {
    let data = match &mut envelope.body {
        Some(envelope::Body::Chunk(chunk)) => {
            let data = std::mem::take(&mut chunk.data);
            if crc32c(&data) != chunk.checksum {
                return None;
            }
            Some(data)
        }
        _ => None,
    };
    let message = decode(envelope)?;
    Some(match data {
        Some(data) => Event::Chunk { message, data: data.into() },
        None => Event::Message(message),
    })
}

fn encode_snapshot(snapshot: Snapshot) -> v1::Snapshot {
    let Snapshot { position, configuration, bytes, digest } = snapshot;
    let configuration = encode_configuration(configuration);
    let (index, term) = (position.index.0, position.term.0);
    v1::Snapshot { index, term, configuration: Some(configuration), bytes, digest }
}

pub fn encode_configuration(configuration: Configuration) -> v1::Configuration {
    let ids = |ids: BTreeSet<NodeId>| ids.into_iter().map(|id| id.0).collect();
    v1::Configuration {
        voters: ids(configuration.voters),
        outgoing: ids(configuration.outgoing),
        learners: ids(configuration.learners),
    }
}

fn decode_snapshot(snapshot: v1::Snapshot) -> Snapshot {
    let v1::Snapshot { index, term, configuration, bytes, digest } = snapshot;
    let ids = |ids: Vec<u64>| ids.into_iter().map(NodeId).collect();
    let v1::Configuration { voters, outgoing, learners } = configuration.unwrap_or_default();
    let configuration =
        Configuration { voters: ids(voters), outgoing: ids(outgoing), learners: ids(learners) };
    Snapshot { position: position(index, term), configuration, bytes, digest }
}

fn position(index: u64, term: u64) -> Position {
    Position { index: Index(index), term: Term(term) }
}

fn encode_entry(entry: Entry) -> v1::Entry {
    let kind = match entry.kind {
        EntryKind::Noop => v1::EntryKind::Noop,
        EntryKind::Command => v1::EntryKind::Command,
        EntryKind::Config => v1::EntryKind::Config,
    };
    v1::Entry { term: entry.term.0, kind: kind.into(), payload: entry.payload.to_vec().into() }
}

/// None when an entry is of no known kind, or an index after it would be beyond counting.
fn decode_entries(prev_index: u64, entries: Vec<v1::Entry>) -> Option<Vec<Entry>> {
    prev_index.checked_add(entries.len() as u64 + 1)?;
    let decode = |(index, entry): (u64, v1::Entry)| {
        let kind = match v1::EntryKind::try_from(entry.kind).ok()? {
            v1::EntryKind::Noop => EntryKind::Noop,
            v1::EntryKind::Command => EntryKind::Command,
            v1::EntryKind::Config => EntryKind::Config,
        };
        Some(Entry { index: Index(index), term: Term(entry.term), kind, payload: (*entry.payload).into() })
    };
    (prev_index + 1..).zip(entries).map(decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_the_way_through_its_envelope() {
        let entry = |index, kind| Entry { index: Index(index), term: Term(3), kind, payload: (*b"x").into() };
        let entries =
            vec![entry(8, EntryKind::Noop), entry(9, EntryKind::Command), entry(10, EntryKind::Config)];
        let configuration = Configuration {
            voters: [NodeId(1), NodeId(2)].into(),
            outgoing: [NodeId(3)].into(),
            learners: [NodeId(4)].into(),
        };
        let snapshot = Snapshot { position: position(7, 2), configuration, bytes: 9, digest: u64::MAX };
        let bodies = [
            Body::Chunk { snapshot, stream: 3, number: 4 },
            Body::ChunkReply { stream: 3, next: 5 },
            Body::RequestVote { pre: true, asked: false, last: position(7, 2) },
            Body::RequestVote { pre: false, asked: true, last: position(7, 2) },
            Body::TimeoutNow,
            Body::ReadIndex { token: u64::MAX },
            Body::ReadIndexReply { token: 1, index: None },
            Body::ReadIndexReply { token: 1, index: Some(Index(0)) },
            Body::VoteReply { pre: false, granted: true },
            Body::Append { prev: position(7, 2), entries, commit: Index(6), round: 5 },
            Body::AppendReply { round: 5, outcome: AppendOutcome::Matched(Index(0)) },
            Body::AppendReply {
                round: 0,
                outcome: AppendOutcome::Conflict { prev: Index(7), hint: position(4, 1) },
            },
        ];
        for body in bodies {
            let message = Message { from: NodeId(1), to: NodeId(2), term: Term(3), body };
            assert_eq!(decode(encode(message.clone())), Some(message));
        }
    }

    #[test]
    fn the_bytes_of_a_chunk_go_beside_its_message_and_are_refused_when_they_have_changed() {
        let body = Body::Chunk { snapshot: Snapshot::default(), stream: 3, number: 4 };
        let message = Message { from: NodeId(1), to: NodeId(2), term: Term(3), body };
        let mut envelope = encode_chunk(message.clone(), b"bytes".to_vec());
        let Some(Event::Chunk { message: found, data }) = event(envelope.clone()) else { panic!("no chunk") };
        assert_eq!((found, &*data), (message, &b"bytes"[..]));
        let Some(envelope::Body::Chunk(chunk)) = &mut envelope.body else { panic!("no chunk") };
        chunk.data = b"bites".to_vec().into();
        assert!(event(envelope).is_none());
    }

    #[test]
    fn what_has_not_the_form_of_a_message_is_none() {
        let entry = v1::Entry { term: 1, kind: 99, payload: Default::default() };
        let append = |prev_index, entries| v1::AppendEntries { prev_index, entries, ..Default::default() };
        let bodies = [
            None,
            Some(envelope::Body::Hello(v1::Hello::default())),
            Some(envelope::Body::AppendEntriesReply(v1::AppendEntriesReply { round: 1, outcome: None })),
            Some(envelope::Body::AppendEntries(append(1, vec![entry]))),
            Some(envelope::Body::AppendEntries(append(u64::MAX, vec![v1::Entry::default()]))),
            Some(envelope::Body::AppendEntries(append(u64::MAX, Vec::new()))),
        ];
        for body in bodies {
            assert_eq!(decode(v1::Envelope { from: 1, to: 2, term: 1, body }), None);
        }
    }
}
