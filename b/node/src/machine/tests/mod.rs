//! What commands do, and what their clients are told.

mod commands;
mod freeze;
mod kv;
mod model;
mod sessions;

use mkraft_proto::evidence::Outcome;
use mkraft_proto::v1::command::{self, Op};
use mkraft_proto::v1::{Command, CompareAndSwapReply, OpenSessionReply, OpenSessionRequest, Ticket};

use super::*;
use crate::raft::{Index, Term};

pub fn entry(index: u64, command: Command) -> Entry {
    let payload = command.encode_to_vec().into();
    Entry { index: Index(index), term: Term(1), kind: EntryKind::Command, payload }
}

pub fn open() -> Command {
    Command { ticket: None, op: Some(Op::OpenSession(OpenSessionRequest {})) }
}

fn swap(session: u64, sequence: u64, expected: Option<&str>, value: &str) -> Command {
    let op = command::CompareAndSwap {
        key: "k".into(),
        expected: expected.map(|text| text.to_owned().into()),
        value: value.to_owned().into(),
    };
    Command { ticket: Some(Ticket { session, sequence }), op: Some(Op::CompareAndSwap(op)) }
}

#[test]
fn a_retry_is_told_what_the_first_attempt_was_told_and_changes_nothing() {
    let mut machine = Machine::new(KeyValue::default());
    let session = 1;
    let steps = [
        (open(), Outcome::Applied, Answer::Opened(OpenSessionReply { session })),
        (swap(session, 1, None, "a"), Outcome::Applied, swapped(true, None, 2)),
        // Without the session, this retry would find "a" and fail.
        (swap(session, 1, None, "a"), Outcome::Duplicate, swapped(true, None, 2)),
        (swap(session, 5, Some("a"), "b"), Outcome::Applied, swapped(true, Some("a"), 4)),
        (swap(session, 1, None, "a"), Outcome::Refused, stale()),
        (swap(session, 6, Some("a"), "c"), Outcome::Applied, swapped(false, Some("b"), 4)),
    ];
    for (index, (command, outcome, answer)) in (1..).zip(steps) {
        let applied = machine.apply(&entry(index, command));
        assert_eq!((applied.outcome, applied.answer), (outcome, Some(answer)), "entry {index}");
    }
    assert_eq!(machine.state().get(b"k").value, Some("b".into()));
}

#[test]
fn a_session_that_was_never_opened_and_bytes_that_are_no_command_are_refused() {
    let mut machine = Machine::new(KeyValue::default());
    let unknown = machine.apply(&entry(1, swap(7, 1, None, "a")));
    assert_eq!((unknown.outcome, unknown.session, unknown.sequence), (Outcome::Refused, 7, 1));
    let garbage = Entry { payload: (*b"\xff\xff\xff").into(), ..entry(2, open()) };
    assert_eq!(machine.apply(&garbage).outcome, Outcome::Refused);
    assert_eq!(machine.state().get(b"k").value, None);
}

#[test]
fn a_refusal_is_kept_as_any_answer_is() {
    let mut machine = Machine::new(KeyValue::default());
    let append = |sequence, bytes: usize| {
        let op = command::Append { key: "k".into(), suffix: vec![b'x'; bytes].into() };
        Command { ticket: Some(Ticket { session: 1, sequence }), op: Some(Op::Append(op)) }
    };
    let delete = command::Delete { key: "k".into(), version: None };
    let delete = Command { ticket: None, op: Some(Op::Delete(delete)) };
    machine.apply(&entry(1, open()));
    let full = limits::VALUE_BYTES_MAX;
    assert_eq!(machine.apply(&entry(2, append(1, full))).outcome, Outcome::Applied);
    let refused = machine.apply(&entry(3, append(2, 1)));
    assert_eq!(refused.outcome, Outcome::Refused);
    let Some(Answer::Refused(error)) = &refused.answer else { panic!("{refused:?}") };
    assert!(error.code().definite(), "{error:?}");
    // It would fit now, but its client has been told that it did not happen.
    assert_eq!(machine.apply(&entry(4, delete)).outcome, Outcome::Applied);
    let again = machine.apply(&entry(5, append(2, 1)));
    assert_eq!((again.outcome, again.answer), (Outcome::Duplicate, refused.answer));
    assert_eq!(machine.state().get(b"k").value, None);
}

fn swapped(swapped: bool, seen: Option<&str>, version: u64) -> Answer {
    let seen = seen.map(|text| text.to_owned().into());
    Answer::Swapped(CompareAndSwapReply { swapped, seen, version })
}

fn stale() -> Answer {
    Answer::Refused(Error::new(ErrorCode::SequenceStale, "the session has gone on to a higher sequence"))
}
