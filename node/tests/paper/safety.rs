//! Safety: §5.4, with figure 8, and what makes retries harmless: §5.5.

use mkraft_node::raft::{Index, RoleName};

use crate::bench::*;

#[test]
fn a_candidate_cannot_win_unless_its_log_contains_all_committed_entries() {
    let mut lab = Lab::led_by(1, &five());
    lab.cut(&[(N1, N4), (N1, N5)]);
    lab.propose(N1, &["x=1"]);
    assert_eq!(lab.status(1).commit.0, 2);
    lab.crash(N1, 0);
    lab.heal();
    for id in 2..=4 {
        lab.forget(mkraft_node::raft::NodeId(id)).unwrap();
    }
    for _ in 0..5 {
        lab.campaign(N5);
        assert_ne!(lab.status(5).role, RoleName::Leader);
    }
    lab.campaign(N2);
    assert_eq!(lab.status(2).role, RoleName::Leader);
    lab.tick(N2, HEARTBEAT_TICKS);
    assert_eq!(lab.terms(5), lab.terms(2));
}

#[test]
fn entries_of_previous_terms_keep_their_original_term_numbers() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.cut(&[(N1, N3)]);
    lab.propose(N1, &["x=1"]);
    lab.crash(N1, 0);
    lab.forget(N3).unwrap();
    lab.campaign(N2);
    assert_eq!(lab.terms(2), [1, 1, 2]);
    assert_eq!(lab.terms(3), [1, 1, 2]);
}

/// Figure 8 (c): S1 leads term 4 with its entry of term 2 on the disks of a majority.
fn figure_8_c() -> (mkraft_node::raft::Raft, mkraft_node::raft::Effects) {
    let mut raft = server_of(&[N1, N2, N3, N4, N5], in_term(3), &[1, 2]);
    until_it_acts(&mut raft);
    hear(&mut raft, "n2@3 -> n1 PreVote granted");
    let vote = hear(&mut raft, "n3@3 -> n1 PreVote granted");
    write(&mut raft, &vote);
    hear(&mut raft, "n2@4 -> n1 Vote granted");
    let won = hear(&mut raft, "n3@4 -> n1 Vote granted");
    assert_eq!(raft.status().role, RoleName::Leader);
    hear(&mut raft, "n2@4 -> n1 Matched 2");
    hear(&mut raft, "n3@4 -> n1 Matched 2");
    (raft, won)
}

#[test]
fn raft_never_commits_log_entries_from_previous_terms_by_counting_replicas() {
    let (mut raft, _) = figure_8_c();
    hear(&mut raft, "n4@4 -> n1 Matched 2");
    hear(&mut raft, "n5@4 -> n1 Matched 2");
    assert_eq!(raft.status().commit, Index(0), "not even when all hold it");
}

#[test]
fn once_an_entry_of_the_current_term_is_committed_all_prior_entries_are_committed_indirectly() {
    let (mut raft, won) = figure_8_c();
    write(&mut raft, &won);
    hear(&mut raft, "n2@4 -> n1 Matched 3");
    assert_eq!(raft.status().commit, Index(0));
    hear(&mut raft, "n3@4 -> n1 Matched 3");
    assert_eq!(raft.status().commit, Index(3));
}

#[test]
fn an_entry_stored_on_a_majority_can_still_be_overwritten_by_a_future_leader() {
    // Figure 8 (d): S5 wins with its entry of term 3, and replaces that of term 2 on a majority.
    let mut lab = Lab::new(&five());
    for (id, term, log) in
        [(N1, 4, &[1, 2, 4][..]), (N2, 4, &[1, 2]), (N3, 4, &[1, 2]), (N4, 1, &[1]), (N5, 3, &[1, 3])]
    {
        lab.crash(id, 0);
        lab.given(id, term, None, 1, log);
        lab.restart(id);
    }
    lab.crash(N1, 0);
    lab.campaign(N5);
    // Its term was too old for who knew of term 4.
    while lab.status(5).role != RoleName::Leader {
        lab.campaign(N5);
    }
    lab.tick(N5, HEARTBEAT_TICKS);
    for id in 2..=5 {
        assert_eq!(lab.terms(id)[..2], [1, 3], "n{id}");
    }
}

#[test]
fn no_two_state_machines_apply_different_entries_at_the_same_index() {
    // The witness says so after each step of each test; here are logs that tempt to it.
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.cut(&lab.links_of(N1));
    lab.propose(N1, &["mine"]);
    lab.forget(N3).unwrap();
    lab.campaign(N2);
    lab.propose(N2, &["ours"]);
    lab.heal();
    lab.tick(N2, HEARTBEAT_TICKS);
    lab.tick(N2, HEARTBEAT_TICKS);
    let applied = |id| lab.servers[&id].applied.clone();
    assert_eq!((applied(N1), applied(N3)), (applied(N2), applied(N2)));
    assert!(applied(N1).iter().all(|entry| &*entry.payload != b"mine"));
    assert!(applied(N1).iter().any(|entry| &*entry.payload == b"ours"));
}

// §5.5, Follower and candidate crashes.

#[test]
fn if_a_follower_crashes_then_future_requests_fail_and_the_leader_handles_it_by_retrying() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.crash(N2, 0);
    lab.propose(N1, &["x"]);
    assert_eq!(lab.status(1).commit, Index(2), "the others are a majority");
    lab.restart(N2);
    lab.tick(N1, HEARTBEAT_TICKS);
    assert_eq!(lab.terms(2), [1, 1]);
}

#[test]
fn if_a_server_crashes_after_a_request_but_before_responding_it_receives_the_same_again_after_it_restarts() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.cut(&[(N2, N1)]);
    lab.propose(N1, &["x"]);
    assert_eq!(lab.terms(2), [1, 1]);
    lab.crash(N2, 0);
    lab.restart(N2);
    lab.heal();
    lab.tick(N1, HEARTBEAT_TICKS);
    let trace = lab.take_trace();
    assert!(saw(&trace, "n2@1 -> n1 Matched 2"), "{trace:#?}");
    assert_eq!(lab.terms(2), [1, 1]);
}

#[test]
fn raft_requests_are_idempotent_a_request_that_is_repeated_is_answered_alike_and_changes_nothing() {
    for line in [
        "n2@3 -> n1 Append prev=1@1 entries=2@2,3@3 commit=2",
        "n2@3 -> n1 Append prev=2@2 commit=0",
        "n2@3 -> n1 RequestVote last=9@2",
        "n2@3 -> n1 RequestPreVote last=9@2",
        "n2@3 -> n1 Chunk 1@1 number=0 bytes=2 stream=1",
        "n2@3 -> n1 Chunk 9@2 number=0 bytes=2 stream=1",
    ] {
        let mut raft = server(in_term(2), &[1, 1]);
        let first = answer(&mut raft, line);
        let (status, log, vote) = (raft.status(), terms(&raft), raft.vote());
        let again = hear(&mut raft, line);
        assert_eq!(said(&again), [first], "{line}");
        assert_eq!((raft.status(), terms(&raft), raft.vote()), (status, log, vote), "{line}");
        assert!(again.persist.is_none() && again.apply.is_empty() && again.accept.is_empty(), "{line}");
    }
}
