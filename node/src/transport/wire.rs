//! Between the core's messages and the envelopes of `raft.proto`.
//!
//! In: what a peer sent. Out: a [`Message`] that has the right form, or nothing. Whether it makes sense is
//! for the core to say.

use mkraft_proto::v1::{self, append_entries_reply, envelope};

use crate::raft::{AppendOutcome, Body, Entry, EntryKind, Index, Message, NodeId, Position, Term};

pub fn encode(message: Message) -> v1::Envelope {
    let body = match message.body {
        Body::RequestVote { pre, last } => envelope::Body::RequestVote(v1::RequestVote {
            pre,
            last_index: last.index.0,
            last_term: last.term.0,
            transfer: false,
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
    };
    v1::Envelope { from: message.from.0, to: message.to.0, term: message.term.0, body: Some(body) }
}

/// None for what is not a message of the core: a greeting, or a body that this version does not know.
pub fn decode(envelope: v1::Envelope) -> Option<Message> {
    let body = match envelope.body? {
        envelope::Body::Hello(_) => return None,
        envelope::Body::RequestVote(v1::RequestVote { pre, last_index, last_term, .. }) => {
            Body::RequestVote { pre, last: position(last_index, last_term) }
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
    };
    Some(Message { from: NodeId(envelope.from), to: NodeId(envelope.to), term: Term(envelope.term), body })
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

/// None when an entry is of no known kind, or its index would be beyond counting.
fn decode_entries(prev_index: u64, entries: Vec<v1::Entry>) -> Option<Vec<Entry>> {
    prev_index.checked_add(entries.len() as u64)?;
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
        let bodies = [
            Body::RequestVote { pre: true, last: position(7, 2) },
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
    fn what_has_not_the_form_of_a_message_is_none() {
        let entry = v1::Entry { term: 1, kind: 99, payload: Default::default() };
        let append = |prev_index, entries| v1::AppendEntries { prev_index, entries, ..Default::default() };
        let bodies = [
            None,
            Some(envelope::Body::Hello(v1::Hello {})),
            Some(envelope::Body::AppendEntriesReply(v1::AppendEntriesReply { round: 1, outcome: None })),
            Some(envelope::Body::AppendEntries(append(1, vec![entry]))),
            Some(envelope::Body::AppendEntries(append(u64::MAX, vec![v1::Entry::default()]))),
        ];
        for body in bodies {
            assert_eq!(decode(v1::Envelope { from: 1, to: 2, term: 1, body }), None);
        }
    }
}
