//! Leadership transfer: the thesis' §3.10.

use mkraft_node::raft::{Index, Input, Reply, RoleName, Term};

use crate::bench::*;

#[test]
fn the_prior_leader_stops_accepting_new_client_requests() {
    let mut raft = ready();
    raft.step(Input::Transfer(7, Some(N3)));
    let refused = propose(&mut raft, &["x"]);
    assert_eq!(refused.reply, [Reply::Busy { id: 0 }]);
    assert_eq!(terms(&raft), [1]);
}

#[test]
fn the_prior_leader_fully_updates_the_targets_log_and_only_then_asks_it() {
    let mut raft = ready();
    assert!(raft.step(Input::Transfer(7, Some(N3))).is_empty(), "n3 is not known to hold anything");
    let asked = said(&hear(&mut raft, "n3@1 -> n1 Matched 1"));
    assert!(asked.contains(&"n1@1 -> n3 TimeoutNow".to_owned()), "{asked:?}");
    let mut raft = ready();
    assert_eq!(said(&raft.step(Input::Transfer(7, Some(N2)))), ["n1@1 -> n2 TimeoutNow"], "n2 holds all");
}

#[test]
fn the_target_starts_a_new_election_at_once_without_waiting_for_a_timeout_or_asking_for_pre_votes() {
    let mut raft = server(in_term(1), &[1]);
    hear(&mut raft, "n2@1 -> n1 Append prev=1@1 commit=1");
    let effects = hear(&mut raft, "n2@1 -> n1 TimeoutNow");
    assert_eq!((raft.status().role, raft.status().term), (RoleName::Candidate, Term(2)));
    let asked = ["n1@2 -> n2 RequestVote last=1@1 asked", "n1@2 -> n3 RequestVote last=1@1 asked"];
    assert_eq!(said(&effects), asked);
}

#[test]
fn a_timeout_now_of_an_earlier_term_or_from_who_does_not_lead_starts_nothing() {
    let mut raft = server(in_term(2), &[1]);
    hear(&mut raft, "n2@2 -> n1 Append prev=1@1 commit=1");
    for line in ["n2@1 -> n1 TimeoutNow", "n3@2 -> n1 TimeoutNow"] {
        hear(&mut raft, line);
        assert_eq!((raft.status().role, raft.status().term), (RoleName::Follower, Term(2)), "{line}");
    }
}

#[test]
fn servers_that_hear_the_leader_vote_all_the_same_for_whom_it_has_asked() {
    let mut raft = server(in_term(1), &[1]);
    hear(&mut raft, "n2@1 -> n1 Append prev=1@1 commit=1");
    assert!(hear(&mut raft, "n3@2 -> n1 RequestVote last=1@1").is_empty());
    assert_eq!(answer(&mut raft, "n3@2 -> n1 RequestVote last=1@1 asked"), "n1@2 -> n3 Vote granted");
}

#[test]
fn the_prior_leader_steps_down_when_it_receives_a_message_from_the_new_one_and_the_transfer_is_complete() {
    let mut lab = Lab::led_by(1, &Settings::default());
    let asked = lab.transfer(N1, Some(N3));
    assert_eq!((lab.status(3).role, lab.status(1).role), (RoleName::Leader, RoleName::Follower));
    assert_eq!((lab.status(3).term, lab.status(1).leader), (Term(2), Some(N3)));
    assert!(saw(&lab.take_trace(), &format!("n1 has handed over as request {asked} asked")));
}

#[test]
fn if_it_does_not_complete_after_about_an_election_timeout_the_prior_leader_aborts_and_resumes() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.cut(&[(N1, N3)]);
    let asked = lab.transfer(N1, Some(N3));
    for _ in 1..ELECTION_TICKS {
        lab.tick(N1, 1);
    }
    assert!(!saw(&lab.take_trace(), "n1 gives up"), "it has tried for less than the least timeout");
    lab.tick(N1, 1);
    let trace = lab.take_trace();
    assert!(saw(&trace, &format!("n1 gives up transfer {asked}, which it asked for")), "{trace:#?}");
    lab.propose(N1, &["x"]);
    assert_eq!(lab.status(1).commit, Index(2));
}

#[test]
fn only_a_voter_can_be_the_target() {
    let mut raft = ready();
    let refused = raft.step(Input::Transfer(7, Some(N4)));
    assert!(matches!(refused.reply[..], [Reply::Refused { id: 7, .. }]), "{refused:?}");
    assert!(said(&refused).is_empty());
}
