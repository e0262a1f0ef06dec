//! Sessions that come and go: what is refused, what is forgotten, and that nothing takes effect twice.

use std::collections::BTreeSet;

use mkraft_proto::v1;
use mkraft_proto::v1::PutReply;
use mkraft_proto::v1::command::Put;
use proptest::prelude::*;

use super::super::session::Bounds;
use super::*;

/// Answers of a few bytes each.
const SMALL: Bounds = Bounds { sessions: 2, answer_bytes: 10 };

fn put(session: u64, sequence: u64) -> Command {
    let op = Put { key: "k".into(), value: "v".into() };
    Command { ticket: Some(Ticket { session, sequence }), op: Some(Op::Put(op)) }
}

fn machine(bounds: Bounds) -> Machine<KeyValue> {
    Machine { sessions: Sessions::with_bounds(bounds), state: KeyValue::default() }
}

fn restored(machine: &Machine<KeyValue>, bounds: Bounds) -> Machine<KeyValue> {
    let mut bytes = Vec::new();
    machine.freeze().write_to(&mut bytes).unwrap();
    Machine::restore_within(bounds, &*bytes).unwrap()
}

#[test]
fn the_session_that_was_not_used_for_longest_ends_and_its_retry_is_refused() {
    let unknown = Err(ErrorCode::SessionUnknown);
    let opened = |session| Ok(Answer::Opened(OpenSessionReply { session }));
    let done = |version| Ok(Answer::Put(PutReply { version }));
    let steps = [
        (open(), opened(1)),
        (open(), opened(2)),
        (put(1, 1), done(3)),
        // Ends 2, which was used last at entry 2.
        (open(), opened(4)),
        (put(2, 1), unknown.clone()),
        (put(1, 1), done(3)),
        // Ends 4: the retry was a use.
        (open(), opened(7)),
        (put(4, 1), unknown.clone()),
        (put(1, 2), done(9)),
        (open(), opened(10)),
        (put(7, 1), unknown.clone()),
        (open(), opened(12)),
        // It had taken effect.
        (put(1, 2), unknown),
    ];
    // With and without a snapshot after each entry.
    for through_bytes in [false, true] {
        let mut machine = machine(Bounds { answer_bytes: 1000, ..SMALL });
        for (index, (command, want)) in (1..).zip(steps.clone()) {
            let applied = machine.apply(&entry(index, command));
            let got = match applied.answer.unwrap() {
                Answer::Refused(error) => Err(error.code()),
                answer => Ok(answer),
            };
            assert_eq!(got, want, "entry {index}");
            if through_bytes {
                machine = restored(&machine, Bounds { answer_bytes: 1000, ..SMALL });
            }
        }
    }
}

#[test]
fn an_answer_for_which_there_is_no_room_is_forgotten_but_not_that_it_was_given() {
    let bounds = Bounds { sessions: 10, ..SMALL };
    let mut machine = machine(bounds);
    let mut index = 0;
    let mut apply = |machine: &mut Machine<KeyValue>, command| {
        index += 1;
        machine.apply(&entry(index, command))
    };
    for _ in 1..=3 {
        apply(&mut machine, open());
    }
    // Four bytes each, and room for ten.
    for session in 1..=3 {
        assert_eq!(apply(&mut machine, put(session, 1)).outcome, Outcome::Applied);
    }
    let again = apply(&mut machine, put(1, 1));
    let Some(Answer::Refused(error)) = &again.answer else { panic!("{again:?}") };
    assert_eq!((again.outcome, error.code()), (Outcome::Refused, ErrorCode::SequenceStale));
    assert!(!error.code().definite());
    for session in 2..=3 {
        assert_eq!(apply(&mut machine, put(session, 1)).outcome, Outcome::Duplicate, "session {session}");
    }
    // The session itself goes on.
    assert_eq!(apply(&mut machine, put(1, 2)).outcome, Outcome::Applied);
    assert_eq!(apply(&mut machine, put(1, 2)).outcome, Outcome::Duplicate);
}

/// Sessions as a plain list.
struct Model {
    bounds: Bounds,
    sessions: Vec<Known>,
}

struct Known {
    id: u64,
    used: u64,
    sequence: u64,
    answer: Option<Answer>,
}

/// What a command must come to.
#[derive(PartialEq, Debug)]
enum Fate {
    /// It is carried out now, whatever comes of that.
    Run,
    Kept(Answer),
    Refused(ErrorCode),
}

impl Model {
    fn open(&mut self, index: u64) {
        self.sessions.push(Known { id: index, used: index, sequence: 0, answer: None });
        self.sessions.sort_by_key(|session| session.used);
        if self.sessions.len() > self.bounds.sessions {
            self.sessions.remove(0);
        }
    }

    fn fate(&mut self, index: u64, ticket: &Ticket) -> Fate {
        let Some(session) = self.sessions.iter_mut().find(|session| session.id == ticket.session) else {
            return Fate::Refused(ErrorCode::SessionUnknown);
        };
        session.used = index;
        match &session.answer {
            _ if ticket.sequence > session.sequence => Fate::Run,
            Some(answer) if ticket.sequence == session.sequence => Fate::Kept(answer.clone()),
            _ => Fate::Refused(ErrorCode::SequenceStale),
        }
    }

    fn ran(&mut self, ticket: &Ticket, answer: &Answer) {
        let session = self.sessions.iter_mut().find(|session| session.id == ticket.session).unwrap();
        (session.sequence, session.answer) = (ticket.sequence, Some(answer.clone()));
        self.sessions.sort_by_key(|session| session.used);
        let bytes = |answer: &Answer| v1::Answer { answer: Some(answer.clone()) }.encoded_len();
        let kept = |sessions: &[Known]| -> usize {
            sessions.iter().filter_map(|session| session.answer.as_ref()).map(bytes).sum()
        };
        while kept(&self.sessions) > self.bounds.answer_bytes {
            self.sessions.iter_mut().find(|session| session.answer.is_some()).unwrap().answer = None;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_write_of_a_session_takes_effect_twice_whatever_is_forgotten(
        steps in commands::steps(1..200),
        sessions in 1..5_usize,
        answer_bytes in prop_oneof![0..40_usize, Just(1 << 20)],
        restore_every in 1..60_usize,
    ) {
        let bounds = Bounds { sessions, answer_bytes };
        let mut machine = machine(bounds);
        let mut model = Model { bounds, sessions: Vec::new() };
        let mut effects = BTreeSet::new();
        for (count, entry) in commands::entries(&steps).iter().enumerate() {
            if count % restore_every == 0 {
                machine = restored(&machine, bounds);
            }
            let before: Vec<_> = machine.state().records().collect();
            let applied = machine.apply(entry);
            let command = Command::decode(&*entry.payload).unwrap();
            if applied.outcome != Outcome::Applied {
                prop_assert!(machine.state().records().eq(before), "{:?} had an effect", applied);
            } else if applied.sequence > 0 {
                prop_assert!(effects.insert((applied.session, applied.sequence)), "{:?} twice", applied);
            }
            match (entry.kind, command) {
                (EntryKind::Command, Command { op: Some(Op::OpenSession(_)), .. }) => {
                    model.open(entry.index.0);
                }
                (EntryKind::Command, Command { ticket: Some(ticket), .. }) => {
                    let answer = applied.answer.clone().unwrap();
                    match model.fate(entry.index.0, &ticket) {
                        Fate::Run => {
                            prop_assert_ne!(applied.outcome, Outcome::Duplicate);
                            if let Answer::Refused(error) = &answer {
                                prop_assert_eq!(error.code(), ErrorCode::Invalid);
                            }
                            model.ran(&ticket, &answer);
                        }
                        Fate::Kept(kept) => {
                            prop_assert_eq!((applied.outcome, answer), (Outcome::Duplicate, kept));
                        }
                        Fate::Refused(code) => {
                            let Answer::Refused(error) = answer else { panic!("{answer:?}, not {code:?}") };
                            prop_assert_eq!((applied.outcome, error.code()), (Outcome::Refused, code));
                        }
                    }
                }
                _ => {}
            }
        }
    }
}
