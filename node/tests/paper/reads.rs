//! Read-only operations: §8, and the thesis' §6.2 and §6.4: check-quorum, ReadIndex, leases.

use mkraft_node::raft::{Body, Index, Input, Message, Raft, Reply, RoleName, Term};

use crate::bench::*;

/// With leases: a tick is ten units of the clock.
fn leased() -> Settings {
    Settings { lease: Some(70), ..Settings::default() }
}

fn read(raft: &mut Raft, id: u64) -> Vec<Reply> {
    raft.step(Input::Read(vec![id])).reply
}

#[test]
fn a_leader_exchanges_heartbeats_with_a_majority_before_responding_to_a_read() {
    let mut lab = Lab::led_by(1, &five());
    lab.hold(&[(N2, N1), (N3, N1), (N4, N1), (N5, N1)]);
    lab.read(N1);
    lab.deliver((N2, N1), 1).unwrap();
    assert!(!saw(&lab.take_trace(), "n1 answers"), "two of five are no majority");
    lab.deliver((N3, N1), 1).unwrap();
    assert!(saw(&lab.take_trace(), "n1 answers read 1 at 1"));
}

#[test]
fn reads_beyond_the_bound_are_refused_and_those_within_it_answered() {
    let (mut answered, mut busy) = (0, 0);
    let mut raft = alone();
    // It may not answer before its first entry is committed, which waits for the disk.
    let asked: Vec<u64> = (0..70_000).collect();
    let (write, effects) = elect(&mut raft);
    assert!(effects.is_empty());
    for reply in raft.step(Input::Read(asked)).reply {
        assert!(matches!(reply, Reply::Busy { .. }));
        busy += 1;
    }
    for reply in raft.step(Input::Persisted(write)).reply {
        assert!(matches!(reply, Reply::Readable { .. }));
        answered += 1;
    }
    assert_eq!(answered + busy, 70_000);
    assert!(busy > 0 && answered > 60_000, "{answered} answered, {busy} refused");
}

// The thesis, §6.2.

#[test]
fn a_leader_steps_down_if_an_election_timeout_elapses_without_a_successful_round_of_heartbeats() {
    let mut raft = ready();
    ticks(&mut raft, ELECTION_TICKS);
    assert_eq!(raft.status().role, RoleName::Leader, "n2 was heard since");
    ticks(&mut raft, ELECTION_TICKS);
    let status = raft.status();
    assert_eq!((status.role, status.leader, status.term), (RoleName::Follower, None, Term(1)));
}

#[test]
fn a_leader_that_one_of_two_followers_answers_has_its_majority() {
    let mut raft = ready();
    for _ in 0..10 {
        ticks(&mut raft, ELECTION_TICKS - 1);
        hear(&mut raft, "n3@1 -> n1 Conflict prev=1 hint=0@0");
        ticks(&mut raft, 1);
    }
    assert_eq!(raft.status().role, RoleName::Leader, "a refusal is an answer");
}

#[test]
fn a_leader_whose_disk_hangs_steps_down() {
    let mut raft = ready();
    propose(&mut raft, &["x"]);
    for _ in 0..ELECTION_TICKS - 1 {
        ticks(&mut raft, 1);
        hear(&mut raft, "n2@1 -> n1 Matched 2");
    }
    assert_eq!(raft.status().role, RoleName::Leader);
    ticks(&mut raft, 1);
    assert_eq!(raft.status().role, RoleName::Follower);
}

#[test]
fn a_leader_that_steps_down_refuses_the_reads_that_wait() {
    let mut raft = ready();
    assert!(read(&mut raft, 7).is_empty());
    let refused = hear(&mut raft, "n3@2 -> n1 Vote refused").reply;
    assert_eq!(refused, [Reply::NotLeader { id: 7, leader: None }]);
}

// The thesis, §6.4: ReadIndex.

#[test]
fn read_index_1_if_the_leader_has_not_yet_committed_an_entry_of_its_term_it_waits_until_it_has() {
    let mut raft = server(in_term(1), &[1]);
    let won = leader(&mut raft);
    write(&mut raft, &won);
    assert!(raft.step(Input::Read(vec![7])).is_empty(), "no round begins");
    // Neither does what confirms its leadership let it answer.
    hear(&mut raft, "n2@2 -> n1 Matched 1");
    let begun = hear(&mut raft, "n2@2 -> n1 Matched 2");
    assert!(begun.reply.is_empty() && said(&begun).iter().any(|line| line.ends_with("round=1")));
    assert_eq!(hear(&mut raft, "n2@2 -> n1 Matched 2 round=1").reply, [Reply::Readable { id: 7 }]);
}

#[test]
fn read_index_2_the_state_that_answers_holds_all_that_was_committed_when_the_read_arrived() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.hold(&[(N2, N1), (N3, N1)]);
    lab.propose(N1, &["x"]);
    lab.read(N1);
    // The answer to the append comes before that to the round: what was not committed then is by now.
    lab.release(&[(N2, N1)]);
    assert!(saw(&lab.take_trace(), "n1 answers read 2 at 2"));
}

#[test]
fn read_index_3_a_majority_acknowledges_a_round_that_began_after_the_read_arrived() {
    let mut raft = ready();
    let sent = said(&raft.step(Input::Read(vec![7])));
    assert_eq!(sent.len(), 2, "one round of heartbeats: {sent:?}");
    assert!(hear(&mut raft, "n2@1 -> n1 Matched 1").reply.is_empty(), "of an earlier heartbeat");
    assert!(read(&mut raft, 8).is_empty(), "it came after the round began");
    let answered = hear(&mut raft, "n2@1 -> n1 Matched 1 round=1");
    assert_eq!(answered.reply, [Reply::Readable { id: 7 }]);
    let second = said(&answered);
    assert!(second.iter().all(|line| line.ends_with("round=2")) && second.len() == 2, "{second:?}");
    assert_eq!(hear(&mut raft, "n3@1 -> n1 Matched 1 round=2").reply, [Reply::Readable { id: 8 }]);
}

#[test]
fn one_round_of_heartbeats_serves_any_number_of_reads_that_have_accumulated() {
    let mut raft = ready();
    read(&mut raft, 1);
    let mut sent = 0;
    for id in 2..=100 {
        sent += said(&raft.step(Input::Read(vec![id]))).len();
    }
    assert_eq!(sent, 0);
    hear(&mut raft, "n2@1 -> n1 Matched 1 round=1");
    let answered = hear(&mut raft, "n2@1 -> n1 Matched 1 round=2").reply;
    assert_eq!(answered.len(), 99);
}

#[test]
fn a_refused_append_confirms_its_round_too_but_one_of_another_term_never_does() {
    let mut raft = ready();
    read(&mut raft, 7);
    assert!(hear(&mut raft, "n3@0 -> n1 Conflict prev=0 hint=0@0 round=1").reply.is_empty());
    let answered = hear(&mut raft, "n3@1 -> n1 Conflict prev=1 hint=0@0 round=1").reply;
    assert_eq!(answered, [Reply::Readable { id: 7 }]);
}

#[test]
fn read_index_4_and_5_a_follower_asks_its_leader_and_answers_once_it_has_applied_that_far() {
    let mut raft = server(in_term(1), &[1, 1]);
    hear(&mut raft, "n2@1 -> n1 Append prev=2@1 commit=1");
    let asked = raft.step(Input::ReadHere(vec![7])).send_durable;
    let Body::ReadIndex { token } = asked[0].body else { panic!("{asked:?}") };
    assert_eq!(asked[0].to, N2);
    let reply = |token, index| {
        let body = Body::ReadIndexReply { token, index };
        Input::Message(Message { from: N2, to: N1, term: Term(1), body })
    };
    assert!(raft.step(reply(token ^ 1, Some(Index(1)))).reply.is_empty(), "the answer to another question");
    assert!(raft.step(reply(token, Some(Index(2)))).reply.is_empty(), "it has applied 1 only");
    let effects = hear(&mut raft, "n2@1 -> n1 Append prev=2@1 commit=2");
    assert_eq!((effects.apply.len(), &effects.reply[..]), (1, &[Reply::Readable { id: 7 }][..]));
}

#[test]
fn a_leader_answers_a_followers_question_with_its_commit_index_only_after_a_round() {
    let mut raft = ready();
    let body = Body::ReadIndex { token: 5 };
    let asked = raft.step(Input::Message(Message { from: N3, to: N1, term: Term(1), body }));
    assert!(said(&asked).iter().all(|line| line.ends_with("round=1")), "{asked:?}");
    let answered = said(&hear(&mut raft, "n2@1 -> n1 Matched 1 round=1"));
    assert!(answered.contains(&"n1@1 -> n3 ReadIndexReply 1".to_owned()), "{answered:?}");
}

// The thesis, §6.4.1: leases.

#[test]
fn with_a_lease_the_leader_answers_without_communication_until_it_runs_out() {
    let mut lab = Lab::led_by(1, &leased());
    lab.tick(N1, HEARTBEAT_TICKS);
    lab.cut(&lab.links_of(N1));
    lab.take_trace();
    lab.read(N1);
    assert_eq!(lab.take_trace(), ["n1 answers read 1 at 1"]);
    lab.tick(N1, 7);
    lab.read(N1);
    assert!(!saw(&lab.take_trace(), "n1 answers"));
}

#[test]
fn a_lease_begins_when_the_round_was_sent_and_not_when_it_was_answered() {
    let mut lab = Lab::led_by(1, &leased());
    lab.tick(N1, ELECTION_TICKS - HEARTBEAT_TICKS - 1);
    lab.hold(&[(N2, N1), (N3, N1)]);
    let mut waited = 0;
    while lab.held_messages().count() == 0 {
        lab.tick(N1, 1);
        waited += 1;
        assert!(waited <= HEARTBEAT_TICKS, "it sends no heartbeat");
    }
    // Six ticks after it was sent the answer arrives; one more, and the seven of the lease are over.
    lab.tick(N1, 6);
    lab.deliver((N2, N1), 1).unwrap();
    lab.cut(&lab.links_of(N1));
    lab.take_trace();
    lab.read(N1);
    assert!(saw(&lab.take_trace(), "n1 answers"), "it holds for one more tick");
    lab.tick(N1, 1);
    lab.read(N1);
    assert!(!saw(&lab.take_trace(), "n1 answers"), "counted from the answer it would hold for six more");
}

#[test]
fn a_follower_that_hears_a_leader_gives_no_vote_for_an_election_timeout_whatever_terms_it_learns_of() {
    let mut options = options(1);
    options.lease = Some(70);
    let mut raft = of_options(options, &[N1, N2, N3]);
    hear(&mut raft, "n2@1 -> n1 Append prev=0@0 entries=1@1 commit=0");
    hear(&mut raft, "n3@5 -> n1 Vote refused");
    assert_eq!((raft.status().term, raft.status().leader), (Term(5), None), "it knows of no leader now");
    assert!(hear(&mut raft, "n3@6 -> n1 RequestVote last=1@1").is_empty());
    assert_eq!(answer(&mut raft, "n3@5 -> n1 RequestVote last=1@1"), "n1@5 -> n3 Vote refused");
    ticks(&mut raft, ELECTION_TICKS);
    assert_eq!(answer(&mut raft, "n3@6 -> n1 RequestVote last=1@1"), "n1@6 -> n3 Vote granted");
}

#[test]
fn the_promise_holds_over_a_restart() {
    let mut options = options(1);
    options.lease = Some(70);
    let initial = mkraft_node::raft::Initial {
        hard_state: in_term(1),
        configuration: voters(&[N1, N2, N3]),
        ..Default::default()
    };
    let (mut raft, _) = Raft::new(options, initial);
    assert!(
        hear(&mut raft, "n3@2 -> n1 RequestVote last=1@1").is_empty(),
        "it may have heard one just before"
    );
    ticks(&mut raft, ELECTION_TICKS);
    assert_eq!(answer(&mut raft, "n3@2 -> n1 RequestVote last=1@1"), "n1@2 -> n3 Vote granted");
}

#[test]
fn a_leader_that_asked_another_to_campaign_has_no_lease_for_the_rest_of_its_term() {
    let mut lab = Lab::led_by(1, &leased());
    lab.tick(N1, HEARTBEAT_TICKS);
    lab.cut(&[(N1, N2)]);
    lab.transfer(N1, Some(N2));
    lab.tick(N1, 2 * ELECTION_TICKS);
    assert!(saw(&lab.take_trace(), "n1 gives up transfer"));
    lab.hold(&[(N3, N1)]);
    lab.read(N1);
    assert!(!saw(&lab.take_trace(), "n1 answers"), "the request may still arrive");
    lab.release(&[(N3, N1)]);
    assert!(saw(&lab.take_trace(), "n1 answers"), "it asks, and goes on");
}
