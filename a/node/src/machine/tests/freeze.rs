//! Frozen machines: what is written is what is read, and nothing that was read is trusted.

use std::io::{self, Read};

use mkraft_proto::v1::StateRecord;
use mkraft_proto::v1::command::Put;
use mkraft_proto::v1::state_record::{Begin, End, Noted, Pair, Session};
use proptest::prelude::*;

use super::super::session::Bounds;
use super::*;

const BOUNDS: Bounds = Bounds { sessions: 4, answer_bytes: 64 };

fn written<S: StateMachine>(machine: &Machine<S>) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert_eq!(machine.freeze().write_to(&mut bytes).unwrap(), bytes.len() as u64);
    bytes
}

fn machine<S: StateMachine>() -> Machine<S> {
    Machine { sessions: Sessions::with_bounds(BOUNDS), state: S::default() }
}

/// Freezes after the first `at` entries; the copy keeps that moment, and what is read from it goes on alike.
fn check<S: StateMachine>(entries: &[Entry], at: usize) -> Result<(), TestCaseError> {
    let mut original = machine::<S>();
    let (before, after) = entries.split_at(at);
    before.iter().for_each(|entry| drop(original.apply(entry)));
    let frozen = original.freeze();
    let bytes = written(&original);
    let answers: Vec<_> = after.iter().map(|entry| original.apply(entry)).collect();
    let mut later = Vec::new();
    frozen.write_to(&mut later).unwrap();
    prop_assert!(later == bytes, "what is frozen has changed");
    let mut restored = Machine::<S>::restore_within(BOUNDS, &*bytes).unwrap();
    prop_assert!(written(&restored) == bytes, "the same state is not the same bytes");
    let again: Vec<_> = after.iter().map(|entry| restored.apply(entry)).collect();
    prop_assert_eq!(again, answers);
    prop_assert!(written(&restored) == written(&original), "they end apart");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_restored_goes_on_like_what_was_frozen(
        steps in commands::steps(1..250),
        at in any::<prop::sample::Index>(),
    ) {
        let entries = commands::entries(&steps);
        let at = at.index(entries.len() + 1);
        check::<KeyValue>(&entries, at)?;
        check::<Recorder>(&entries, at)?;
    }

    #[test]
    fn any_bytes_are_restored_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Machine::<KeyValue>::restore(&*bytes);
        let begun = [encoded(&[begin("kv")]), bytes].concat();
        let _ = Machine::<KeyValue>::restore(&*begun);
    }
}

fn encoded(records: &[Record]) -> Vec<u8> {
    let encode =
        |record: &Record| StateRecord { record: Some(record.clone()) }.encode_length_delimited_to_vec();
    records.iter().flat_map(encode).collect()
}

fn begin(state: &str) -> Record {
    Record::Begin(Begin { format: 1, state: state.into() })
}

fn session(id: u64, used: u64) -> Record {
    Record::Session(Session { id, used, sequence: 0, answer: None })
}

fn pair(key: &str, version: u64) -> Record {
    Record::Pair(Pair { key: key.to_owned().into(), value: "v".into(), version })
}

fn end(sessions: u64, items: u64) -> Record {
    Record::End(End { sessions, items })
}

/// A machine with something of everything.
fn sample() -> Vec<u8> {
    let mut machine = machine::<KeyValue>();
    let put = |key: &str| Op::Put(Put { key: key.to_owned().into(), value: "value".into() });
    let ticket = |session| Some(Ticket { session, sequence: 1 });
    let commands = [
        open(),
        open(),
        Command { ticket: ticket(1), op: Some(put("a")) },
        Command { ticket: ticket(2), op: Some(put("b")) },
        Command { ticket: None, op: Some(put("c")) },
    ];
    (1..).zip(commands).for_each(|(index, command)| drop(machine.apply(&entry(index, command))));
    written(&machine)
}

#[test]
fn the_bytes_of_a_state_stay_what_they_are() {
    // Another checksum is another format: give it another number, and go on reading this one.
    assert_eq!(crc32c::crc32c(&sample()), 1308209190);
}

#[test]
fn no_part_of_a_state_is_taken_for_a_whole_one() {
    let bytes = sample();
    for length in 0..bytes.len() {
        let error = Machine::<KeyValue>::restore(&bytes[..length]).err();
        let Some(RestoreError::Truncated { offset }) = error else { panic!("{length} bytes: {error:?}") };
        assert_eq!(offset, length as u64);
    }
    assert!(Machine::<KeyValue>::restore(&*bytes).is_ok());
}

#[test]
fn a_changed_byte_is_another_state_or_an_error() {
    let bytes = sample();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            if let Ok(machine) = Machine::<KeyValue>::restore(&*changed) {
                assert_ne!(written(&machine), bytes, "byte {at}, bit {bit}");
            }
        }
    }
}

#[test]
fn what_no_machine_wrote_is_refused_and_named() {
    let noted = Record::Noted(Noted { index: 1, term: 1, digest: 1 });
    let asked_nothing = Record::Session(Session {
        id: 1,
        used: 1,
        sequence: 0,
        answer: Some(mkraft_proto::v1::Answer { answer: Some(Answer::Put(Default::default())) }),
    });
    let strange = Record::Session(Session { id: 1, used: 1, sequence: 1, answer: Some(Default::default()) });
    let kv = || begin("kv");
    let many = (1..=5).map(|id| session(id, id));
    let cases = [
        (vec![end(0, 0)], "the record at byte 0 of the state is not the beginning of one"),
        (vec![begin("recorder"), end(0, 0)], "that of a \"recorder\", and this machine is a \"kv\""),
        (
            vec![Record::Begin(Begin { format: 2, state: "kv".into() })],
            "the state is of format 2, and this program reads format 1",
        ),
        (vec![kv(), kv()], "at byte 9 of the state is a second beginning"),
        (vec![kv(), pair("a", 1), session(1, 1)], "is a session after what must follow all sessions"),
        (vec![kv(), session(2, 2), session(1, 1)], "has session 1 out of order"),
        (vec![kv(), session(0, 1)], "has session 0 out of order"),
        (vec![kv(), session(2, 1)], "has session 2 used last at entry 1, which cannot be"),
        (vec![kv(), session(1, 2), session(2, 2)], "has session 2 used last at entry 2, which cannot be"),
        (vec![kv(), asked_nothing], "has an answer of session 1, which has asked nothing"),
        (vec![kv(), strange], "keeps an answer that this program does not know"),
        (std::iter::once(kv()).chain(many).collect(), "is one session more than the 4 there may be"),
        (vec![kv(), pair("b", 1), pair("a", 2)], "has a key out of order"),
        (vec![kv(), pair("b", 1), pair("b", 2)], "has a key out of order"),
        (vec![kv(), pair("", 1)], "breaks a bound: a key has 1 to 4096 bytes"),
        (vec![kv(), pair("a", 0)], "has a value without a version"),
        (vec![kv(), noted], "is not of a key-value store"),
        (vec![kv(), pair("a", 1), end(0, 2)], "ends 0 sessions and 2 items, after 0 and 1"),
        (vec![kv(), end(0, 0), end(0, 0)], "follows the end record"),
    ];
    for (records, want) in cases {
        let error = Machine::<KeyValue>::restore_within(BOUNDS, &*encoded(&records)).err().unwrap();
        assert!(error.to_string().contains(want), "{records:?}: {error}, not {want}");
    }
    let lengths: [(&[u8], &str); 3] = [
        (b"\xff\xff\xff\xff\x01", "has more bytes than 4194304"),
        (b"\xff\xff\xff\x7f", "has 268435455 bytes, more than 4194304"),
        (b"\x02\x0f\x01", "cannot be read"),
    ];
    for (bytes, want) in lengths {
        let error = Machine::<KeyValue>::restore(bytes).err().unwrap().to_string();
        assert!(error.contains(want), "{error}, not {want}");
    }
}

#[test]
fn a_source_that_fails_is_told_with_its_reason() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let bytes = sample();
    for length in [0, 5, bytes.len() - 1, bytes.len()] {
        let error = Machine::<KeyValue>::restore(bytes[..length].chain(Broken)).err();
        let Some(RestoreError::Read { offset, source }) = error else { panic!("{error:?}") };
        assert_eq!((offset, source.to_string()), (length as u64, "the disk is gone".into()));
    }
}

#[test]
fn a_sink_that_fails_is_told() {
    let full: &mut [u8] = &mut [0; 8];
    let error = machine::<KeyValue>().freeze().write_to(&mut &mut *full).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
}

#[test]
fn recorders_that_were_given_the_same_say_the_same() {
    let mut one = Recorder::default();
    let mut other = Recorder::default();
    let entries = [entry(1, open()), Entry { kind: EntryKind::Noop, ..entry(2, open()) }, entry(4, open())];
    for entry in &entries {
        one.record(entry);
        other.record(entry);
    }
    assert_eq!(one, other);
    let indexes: Vec<_> = one.recorded().map(|(index, ..)| index.0).collect();
    assert_eq!(indexes, [1, 2, 4]);
    let digests: Vec<_> = one.recorded().map(|(.., digest)| digest).collect();
    assert_ne!(digests[0], digests[1], "the kind is part of the digest");
    assert_eq!(digests[0], digests[2]);
    other.record(&Entry { term: Term(2), ..entry(4, open()) });
    assert_ne!(one, other);
}
