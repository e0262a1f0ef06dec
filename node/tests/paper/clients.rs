//! Client interaction: §8, and the sessions of the thesis' §6.3. Reads are in `reads`.

use mkraft_node::machine::{Answer, Applied, KeyValue, Machine, SESSIONS_MAX};
use mkraft_node::raft::{Entry, EntryKind, Index, Reply, Term};
use mkraft_proto::evidence::Outcome;
use mkraft_proto::v1::command::{Append, Op};
use mkraft_proto::v1::{Command, ErrorCode, OpenSessionRequest, Ticket};
use prost::Message;

use crate::bench::*;

#[test]
fn if_the_clients_first_choice_is_not_the_leader_it_is_told_of_the_most_recent_one() {
    let mut raft = lonely(1);
    let refused = propose(&mut raft, &["x"]).reply;
    assert_eq!(refused, [Reply::NotLeader { id: 0, leader: None }]);
    let mut lab = Lab::led_by(2, &Settings::default());
    lab.propose(N3, &["x=1"]);
    lab.read(N1);
    let trace = lab.take_trace();
    assert!(saw(&trace, "n3 refuses request 1, n2 leads"), "{trace:#?}");
    assert!(saw(&trace, "n1 refuses request 2, n2 leads"), "{trace:#?}");
}

#[test]
fn each_leader_commits_a_blank_no_op_entry_at_the_start_of_its_term() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.crash(N1, 0);
    lab.forget(N3).unwrap();
    lab.campaign(N2);
    assert_eq!(lab.terms(2), [1, 2]);
    assert_eq!(lab.status(2).commit.0, 2);
    assert!(lab.servers[&N2].applied.iter().all(|entry| entry.payload.is_empty()));
}

#[test]
fn a_new_leader_finds_out_which_entries_are_committed_with_the_no_op_of_its_term() {
    let mut raft = server(in_term(1), &[1, 1]);
    let won = leader(&mut raft);
    assert_eq!(terms(&raft), [1, 1, 2], "at the start of its term");
    let noop = raft.entries().last().unwrap();
    assert_eq!((noop.kind, noop.payload.len()), (EntryKind::Noop, 0));
    write(&mut raft, &won);
    let committed = hear(&mut raft, "n2@2 -> n1 Matched 3").apply;
    assert_eq!(committed.len(), 3);
}

#[test]
fn a_leader_with_too_much_uncommitted_refuses_instead_of_making_its_clients_wait() {
    let mut options = options(1);
    options.uncommitted_entries_max = 3;
    let mut raft = of_options(options, &[N1, N2, N3]);
    leader(&mut raft);
    let replies = propose(&mut raft, &["a", "b", "c"]).reply;
    let busy: Vec<bool> = replies.iter().map(|reply| matches!(reply, Reply::Busy { .. })).collect();
    assert_eq!(busy, [false, false, true]);
}

// The thesis, §6.3: sessions.

fn entry(index: u64, command: Command) -> Entry {
    let payload = command.encode_to_vec().into();
    Entry { index: Index(index), term: Term(1), kind: EntryKind::Command, payload }
}

fn open() -> Command {
    Command { ticket: None, op: Some(Op::OpenSession(OpenSessionRequest {})) }
}

/// Not idempotent: twice is not once.
fn append(session: u64, sequence: u64) -> Command {
    let op = Append { key: "k".into(), suffix: "x".into() };
    Command { ticket: Some(Ticket { session, sequence }), op: Some(Op::Append(op)) }
}

fn run(commands: impl IntoIterator<Item = Command>) -> (Machine<KeyValue>, Vec<Applied>) {
    let mut machine = Machine::new(KeyValue::default());
    let applied = (1..).zip(commands).map(|(index, command)| machine.apply(&entry(index, command))).collect();
    (machine, applied)
}

fn length(machine: &Machine<KeyValue>) -> usize {
    machine.state().get(b"k").value.map_or(0, |value| value.len())
}

fn refusal(applied: &Applied) -> Option<ErrorCode> {
    match &applied.answer {
        Some(Answer::Refused(error)) => Some(error.code()),
        _ => None,
    }
}

#[test]
fn a_command_whose_serial_number_has_been_executed_is_answered_at_once_without_executing_it_again() {
    let (machine, applied) = run([open(), append(1, 1), append(1, 1), append(1, 2), append(1, 2)]);
    let outcomes: Vec<Outcome> = applied.iter().map(|applied| applied.outcome).collect();
    use Outcome::{Applied, Duplicate};
    assert_eq!(outcomes, [Applied, Applied, Duplicate, Applied, Duplicate]);
    assert_eq!((length(&machine), &applied[1].answer), (2, &applied[2].answer), "the same answer");
}

#[test]
fn without_a_session_a_command_that_is_retried_may_be_executed_twice() {
    let once = Command { ticket: None, ..append(1, 1) };
    assert_eq!(length(&run([once.clone(), once]).0), 2);
}

#[test]
fn serial_numbers_are_of_their_session_and_never_go_back() {
    let (machine, applied) = run([open(), open(), append(1, 5), append(2, 5), append(1, 4)]);
    assert_eq!(length(&machine), 2);
    assert_eq!(
        refusal(&applied[4]),
        Some(ErrorCode::SequenceStale),
        "numbers may be left out, not made up for"
    );
}

#[test]
fn a_session_is_registered_through_the_log_and_gets_an_identifier_that_no_other_ever_has() {
    let (_, applied) = run([open(), append(1, 1), open(), open()]);
    let opened = [0, 2, 3].map(|index: usize| applied[index].session);
    assert_eq!(opened, [1, 3, 4], "the index of its entry");
}

#[test]
fn servers_agree_on_when_to_expire_a_session_and_its_commands_are_refused_instead_of_executed_again() {
    // As many as there is room for, then one more: the one used least lately goes, by the order of the log alone.
    let commands = || {
        let opened = (0..SESSIONS_MAX).map(|_| open());
        opened.chain([
            append(1, 1),
            append(2, 1),
            append(1, 2),
            open(),
            open(),
            append(2, 1),
            append(3, 1),
            append(1, 2),
        ])
    };
    let ((one, first), (other, second)) = (run(commands()), run(commands()));
    assert_eq!(first, second, "whoever runs it");
    let last: Vec<_> = first[SESSIONS_MAX + 5..].iter().map(refusal).collect();
    let unknown = Some(ErrorCode::SessionUnknown);
    assert_eq!(last, [None, unknown, None], "3 was never used and is ended, 2 and 1 live on");
    assert_eq!(first[SESSIONS_MAX + 5].outcome, Outcome::Duplicate);
    assert_eq!((length(&one), length(&other)), (3, 3));
}

#[test]
fn sessions_are_part_of_every_snapshot() {
    let (machine, _) = run([open(), append(1, 1)]);
    let mut bytes = Vec::new();
    machine.freeze().write_to(&mut bytes).unwrap();
    let mut restored = Machine::<KeyValue>::restore(&*bytes).unwrap();
    assert_eq!(restored.apply(&entry(3, append(1, 1))).outcome, Outcome::Duplicate);
    assert_eq!(length(&restored), 1);
}
