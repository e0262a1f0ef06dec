//! Raft basics and leader election: §5.1, §5.2, figure 2's RequestVote, and the rules for all servers, followers and
//! candidates; pre-vote of the thesis' §9.6.

use std::collections::BTreeSet;

use mkraft_node::raft::{Input, RoleName, Term};

use crate::bench::*;

// §5.1, Raft basics.

#[test]
fn at_any_given_time_each_server_is_in_one_of_three_states_and_begins_as_a_follower() {
    let lab = Lab::new(&five());
    for id in 1..=5 {
        assert_eq!(lab.status(id).role, RoleName::Follower);
        assert_eq!(lab.status(id).leader, None);
    }
}

#[test]
fn followers_are_passive_they_issue_no_requests_on_their_own() {
    let mut lab = Lab::led_by(1, &Settings::default());
    for _ in 0..3 {
        lab.tick(N2, HEARTBEAT_TICKS);
        lab.tick(N1, HEARTBEAT_TICKS);
    }
    assert!(!lab.take_trace().iter().any(|line| line.starts_with("n2@") && !line.contains("Matched")));
}

#[test]
fn a_five_server_cluster_tolerates_two_failures() {
    let mut lab = Lab::led_by(1, &five());
    lab.crash(N4, 0);
    lab.crash(N5, 0);
    lab.propose(N1, &["x=1"]);
    assert_eq!(lab.status(1).commit.0, 2);
    lab.crash(N3, 0);
    lab.propose(N1, &["y=1"]);
    assert_eq!(lab.status(1).commit.0, 2, "two of five are no majority");
}

#[test]
fn if_a_server_receives_a_request_with_a_stale_term_number_it_rejects_the_request() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.crash(N2, 0);
    lab.given(N2, 5, None, 0, &[]);
    lab.cut(&[(N1, N2), (N2, N1)]);
    lab.restart(N2);
    lab.heal();
    lab.hold(&[(N2, N1)]);
    lab.tick(N1, HEARTBEAT_TICKS);
    assert_eq!(lab.status(2).last.0, 0);
    assert_eq!(lab.status(2).leader, None);
    assert!(saw(&lab.take_trace(), "n2@5 -> n1 Conflict"), "it answers with its own term");
}

#[test]
fn if_a_candidate_or_leader_discovers_that_its_term_is_out_of_date_it_immediately_reverts_to_follower() {
    for (role, hold_votes) in [(RoleName::Leader, false), (RoleName::Candidate, true)] {
        let mut lab = Lab::new(&Settings::default());
        if hold_votes {
            lab.hold(&[(N2, N1), (N3, N1)]);
        }
        lab.campaign(N1);
        if hold_votes {
            lab.deliver((N2, N1), 1).unwrap();
        }
        assert_eq!(lab.status(1).role, role);
        lab.forge(N1, message("n2@9 -> n1 Vote refused"));
        assert_eq!((lab.status(1).role, lab.status(1).term), (RoleName::Follower, Term(9)));
    }
}

// §5.2, Leader election.

#[test]
fn a_server_remains_a_follower_as_long_as_it_receives_valid_requests_from_a_leader() {
    let mut lab = Lab::led_by(1, &Settings::default());
    for _ in 0..20 {
        lab.tick(N2, ELECTION_TICKS - 1);
        assert_eq!(lab.status(2).role, RoleName::Follower);
        lab.tick(N1, HEARTBEAT_TICKS);
    }
    assert_eq!(lab.status(2).term, Term(1));
}

#[test]
fn leaders_send_periodic_heartbeats_to_all_followers() {
    let mut lab = Lab::led_by(1, &five());
    lab.tick(N1, HEARTBEAT_TICKS - 1);
    assert!(lab.take_trace().is_empty());
    lab.tick(N1, 1);
    let trace = lab.take_trace();
    for follower in 2..=5 {
        assert!(saw(&trace, &format!("n1@1 -> n{follower} Append prev=1@1 commit=1")), "{trace:#?}");
    }
}

#[test]
fn if_a_follower_receives_no_communication_over_the_election_timeout_it_begins_an_election() {
    let mut lab = Lab::new(&Settings::default());
    lab.cut(&lab.links());
    let mut ticks = 0;
    while lab.status(2).role == RoleName::Follower {
        lab.tick(N2, 1);
        ticks += 1;
        assert!(ticks < 2 * ELECTION_TICKS, "it waits for ever");
    }
    assert!(ticks >= ELECTION_TICKS, "it campaigns after {ticks} ticks");
}

#[test]
fn to_begin_an_election_a_follower_increments_its_term_votes_for_itself_and_asks_all_others() {
    let mut lab = Lab::new(&five());
    lab.hold(&[(N2, N1), (N3, N1), (N4, N1), (N5, N1)]);
    lab.campaign(N1);
    lab.deliver((N2, N1), 1).unwrap();
    lab.deliver((N3, N1), 1).unwrap();
    assert_eq!((lab.status(1).role, lab.status(1).term), (RoleName::Candidate, Term(1)));
    assert_eq!(lab.core(1).vote(), Some(N1));
    let trace = lab.take_trace();
    for voter in 2..=5 {
        assert!(saw(&trace, &format!("n1@1 -> n{voter} RequestVote last=0@0")), "{trace:#?}");
    }
}

#[test]
fn each_candidate_restarts_its_randomized_election_timeout_at_the_start_of_an_election() {
    let timeouts: BTreeSet<u32> = (0..200).map(|seed| until_it_acts(&mut lonely(seed)).0).collect();
    assert_eq!(
        timeouts,
        (ELECTION_TICKS..2 * ELECTION_TICKS).collect(),
        "all of them are drawn, and no other"
    );
    // And one node draws anew each time.
    let mut raft = lonely(7);
    let mut spans = BTreeSet::new();
    for _ in 0..50 {
        spans.insert((1..=2 * ELECTION_TICKS).find(|_| !raft.step(Input::Tick).is_empty()));
    }
    assert!(spans.len() > 5, "it only ever draws {spans:?}");
}

#[test]
fn the_winner_of_an_election_tells_all_others_at_once() {
    let mut lab = Lab::new(&five());
    lab.campaign(N1);
    let trace = lab.take_trace();
    let won = trace.iter().position(|line| line == "n1 is leader of term 1").unwrap();
    for follower in 2..=5 {
        assert!(saw(&trace[won..], &format!("n1@1 -> n{follower} Append")), "{trace:#?}");
        assert_eq!(lab.status(follower).leader, Some(N1));
    }
}

#[test]
fn a_candidate_rejects_a_leader_of_an_earlier_term_and_continues_in_candidate_state() {
    let mut lab = Lab::new(&Settings::default());
    lab.crash(N1, 0);
    lab.given(N1, 4, None, 0, &[]);
    lab.restart(N1);
    lab.hold(&[(N2, N1), (N3, N1)]);
    lab.campaign(N1);
    lab.deliver((N2, N1), 1).unwrap();
    lab.cut(&[(N1, N3)]);
    lab.forge(N1, message("n3@3 -> n1 Append prev=0@0 entries=1@3 commit=0"));
    assert_eq!((lab.status(1).role, lab.status(1).term), (RoleName::Candidate, Term(5)));
    assert_eq!(lab.status(1).last.0, 0);
}

#[test]
fn each_server_votes_for_at_most_one_candidate_in_a_given_term_first_come_first_served() {
    let mut raft = server(in_term(0), &[]);
    assert_eq!(answer(&mut raft, "n2@1 -> n1 RequestVote last=0@0"), "n1@1 -> n2 Vote granted");
    assert_eq!(answer(&mut raft, "n3@1 -> n1 RequestVote last=9@0"), "n1@1 -> n3 Vote refused");
    assert_eq!(raft.vote(), Some(N2));
    assert_eq!(answer(&mut raft, "n3@2 -> n1 RequestVote last=0@0"), "n1@2 -> n3 Vote granted");
    assert_eq!(raft.vote(), Some(N3), "a new term, a new vote");
}

// Figure 2, RequestVote.

#[test]
fn request_vote_1_reply_false_if_term_is_less_than_current_term() {
    let mut raft = server(in_term(5), &[]);
    assert_eq!(answer(&mut raft, "n2@4 -> n1 RequestVote last=9@3"), "n1@5 -> n2 Vote refused");
    assert_eq!((raft.vote(), raft.status().term), (None, Term(5)));
}

#[test]
fn request_vote_2_grant_if_voted_for_is_null_or_the_candidate_and_its_log_is_at_least_as_up_to_date() {
    for (vote, last, granted) in [
        (None, "3@2", true),
        (Some(N2), "3@2", true),
        (Some(N3), "3@2", false),
        // If the logs end with the same term, the longer one is more up to date (§5.4.1).
        (None, "4@2", true),
        (None, "2@2", false),
        // If they end with different terms, the later term is, however long the other.
        (None, "9@1", false),
        (None, "1@3", true),
    ] {
        let mut hard_state = in_term(4);
        hard_state.vote = vote;
        let mut raft = server(hard_state, &[1, 1, 2]);
        let effects = hear(&mut raft, &format!("n2@4 -> n1 RequestVote last={last}"));
        let want = if granted { "n1@4 -> n2 Vote granted" } else { "n1@4 -> n2 Vote refused" };
        assert_eq!(said(&effects), [want], "voted for {vote:?}, asked by one at {last}");
        assert!(effects.send.is_empty(), "a vote waits for the disk");
        assert_eq!(raft.vote(), if granted { Some(N2) } else { vote });
        assert_eq!(effects.persist.is_some(), granted && vote.is_none(), "what is new is written");
    }
}

// Figure 2, all servers.

/// n1 in term 1 in this role, of a cluster of three.
fn in_role(role: RoleName) -> mkraft_node::raft::Raft {
    let mut raft = server(in_term(0), &[]);
    match role {
        RoleName::Leader => drop(leader(&mut raft)),
        RoleName::Candidate => drop(candidate(&mut raft)),
        RoleName::PreCandidate => drop(until_it_acts(&mut raft)),
        _ => drop(hear(&mut raft, "n3@1 -> n1 Append prev=0@0 commit=0")),
    }
    assert_eq!(raft.status().role, role);
    raft
}

const ROLES: [RoleName; 4] =
    [RoleName::Follower, RoleName::PreCandidate, RoleName::Candidate, RoleName::Leader];

#[test]
fn if_a_request_or_response_contains_a_term_greater_than_current_term_set_it_and_convert_to_follower() {
    for role in ROLES {
        for line in [
            "n2@9 -> n1 Append prev=0@0 commit=0",
            "n2@9 -> n1 RequestVote last=9@8 asked",
            "n2@9 -> n1 Vote refused",
            "n2@9 -> n1 PreVote refused",
            "n2@9 -> n1 Conflict prev=0 hint=0@0",
            "n2@9 -> n1 Chunk 9@8 number=0 bytes=2 stream=1",
        ] {
            let mut raft = in_role(role);
            let effects = hear(&mut raft, line);
            let status = raft.status();
            assert_eq!((status.role, status.term), (RoleName::Follower, Term(9)), "{role:?} hears {line}");
            let written = effects.persist.and_then(|persist| persist.write.hard_state);
            assert_eq!(written.map(|written| written.term), Some(Term(9)), "{role:?} hears {line}");
        }
    }
}

#[test]
fn a_later_term_counts_for_nothing_in_a_pre_vote_or_while_a_leader_is_heard_or_where_it_cannot_be() {
    for (role, line) in [
        // Who asks for pre-votes has not entered that term (thesis §9.6).
        (RoleName::Follower, "n2@9 -> n1 RequestPreVote last=9@8"),
        (RoleName::Leader, "n2@9 -> n1 RequestPreVote last=9@8"),
        // Who hears a leader disregards who would replace it (§6); a leader hears itself.
        (RoleName::Follower, "n2@9 -> n1 RequestVote last=9@8"),
        (RoleName::Leader, "n2@9 -> n1 RequestVote last=9@8"),
        // No server agrees to what nobody has asked.
        (RoleName::Candidate, "n2@9 -> n1 Vote granted"),
        (RoleName::Leader, "n2@9 -> n1 Matched 1"),
    ] {
        let mut raft = in_role(role);
        let before = raft.status();
        let effects = hear(&mut raft, line);
        assert_eq!(raft.status(), before, "{role:?} hears {line}");
        assert!(effects.persist.is_none(), "{role:?} hears {line}");
    }
}

// Figure 2, followers.

#[test]
fn followers_respond_to_requests_from_candidates_and_leaders() {
    let mut raft = server(in_term(1), &[1]);
    for (request, response) in [
        ("n2@2 -> n1 RequestPreVote last=1@1", "n1@2 -> n2 PreVote granted"),
        ("n2@2 -> n1 RequestVote last=1@1", "n1@2 -> n2 Vote granted"),
        ("n2@2 -> n1 Append prev=1@1 commit=0", "n1@2 -> n2 Matched 1"),
        ("n2@2 -> n1 Append prev=7@2 commit=0", "n1@2 -> n2 Conflict prev=7 hint=1@1"),
        ("n2@2 -> n1 Chunk 9@2 number=0 bytes=2 stream=1", "n1@2 -> n2 ChunkReply next=1 stream=1"),
        ("n3@2 -> n1 RequestPreVote last=1@1", "n1@2 -> n3 PreVote refused"),
    ] {
        assert_eq!(answer(&mut raft, request), response);
    }
}

#[test]
fn hearing_the_leader_or_granting_a_vote_restarts_the_election_timeout_and_refusing_one_does_not() {
    let timeout = until_it_acts(&mut server(in_term(1), &[1])).0;
    for (line, restarts) in [
        ("n2@1 -> n1 Append prev=0@0 commit=0", true),
        ("n2@1 -> n1 Append prev=9@1 commit=0", true),
        ("n2@2 -> n1 RequestVote last=1@1", true),
        ("n2@2 -> n1 RequestVote last=0@0", false),
        ("n2@2 -> n1 RequestPreVote last=1@1", false),
    ] {
        let mut raft = server(in_term(1), &[1]);
        let quiet = ELECTION_TICKS - 1;
        ticks(&mut raft, quiet);
        let effects = hear(&mut raft, line);
        if effects.persist.is_some() {
            write(&mut raft, &effects);
        }
        let left = if restarts { timeout } else { timeout - quiet };
        assert_eq!(until_it_acts(&mut raft).0, left, "after {line}");
    }
}

// Figure 2, candidates.

#[test]
fn a_candidate_wins_if_it_receives_votes_from_a_majority_of_the_full_cluster_for_the_same_term() {
    let mut raft = server_of(&[N1, N2, N3, N4, N5], in_term(0), &[]);
    until_it_acts(&mut raft);
    hear(&mut raft, "n2@0 -> n1 PreVote granted");
    let vote = hear(&mut raft, "n3@0 -> n1 PreVote granted");
    write(&mut raft, &vote);
    for line in [
        "n2@1 -> n1 Vote granted",
        "n2@1 -> n1 Vote granted", // Twice from one is one vote.
        "n3@0 -> n1 Vote granted", // Of another term.
        "n3@1 -> n1 PreVote granted",
        "n4@1 -> n1 Vote refused",
    ] {
        hear(&mut raft, line);
        assert_eq!(raft.status().role, RoleName::Candidate, "after {line}");
    }
    hear(&mut raft, "n5@1 -> n1 Vote granted");
    assert_eq!(raft.status().role, RoleName::Leader);
}

#[test]
fn a_candidates_own_vote_counts_only_once_its_disk_has_it() {
    let mut raft = server(in_term(0), &[]);
    let (_, write) = candidate(&mut raft);
    // n2 cannot have been asked yet; even so its answer does not make two.
    hear(&mut raft, "n2@1 -> n1 Vote granted");
    assert_eq!(raft.status().role, RoleName::Candidate);
    raft.step(Input::Persisted(write));
    assert_eq!(raft.status().role, RoleName::Leader);
}

#[test]
fn if_a_candidate_hears_from_a_leader_whose_term_is_at_least_its_own_it_returns_to_follower_state() {
    for role in [RoleName::PreCandidate, RoleName::Candidate] {
        for term in [1, 2] {
            let mut raft = in_role(role);
            hear(&mut raft, &format!("n3@{term} -> n1 Append prev=0@0 commit=0"));
            let status = raft.status();
            assert_eq!((status.role, status.leader, status.term), (RoleName::Follower, Some(N3), Term(term)));
        }
    }
}

#[test]
fn a_candidate_that_times_out_starts_a_new_election_beginning_with_pre_votes() {
    let mut raft = server(in_term(0), &[]);
    let (_, own_vote) = candidate(&mut raft);
    raft.step(Input::Persisted(own_vote));
    let (_, effects) = until_it_acts(&mut raft);
    let asked = ["n1@1 -> n2 RequestPreVote last=0@0", "n1@1 -> n3 RequestPreVote last=0@0"];
    assert_eq!(said(&effects), asked, "the paper would increment its term at once");
    let effects = hear(&mut raft, "n2@1 -> n1 PreVote granted");
    let asked = ["n1@2 -> n2 RequestVote last=0@0", "n1@2 -> n3 RequestVote last=0@0"];
    assert_eq!(said(&effects), asked);
    assert_eq!(raft.vote(), Some(N1));
}

// Pre-vote (thesis §9.6).

#[test]
fn a_candidate_only_increments_its_term_if_it_learns_that_a_majority_would_grant_it_votes() {
    let mut raft = server_of(&[N1, N2, N3, N4, N5], in_term(7), &[]);
    for round in 0..20 {
        until_it_acts(&mut raft);
        hear(&mut raft, "n2@7 -> n1 PreVote granted");
        assert_eq!((raft.status().term, raft.vote()), (Term(7), None), "round {round}: two of five");
    }
    hear(&mut raft, "n3@7 -> n1 PreVote granted");
    assert_eq!((raft.status().term, raft.vote()), (Term(8), Some(N1)));
}

#[test]
fn a_pre_vote_is_granted_if_the_log_is_up_to_date_and_no_leader_was_heard_for_an_election_timeout() {
    let mut raft = server(in_term(3), &[1, 2]);
    assert_eq!(answer(&mut raft, "n2@3 -> n1 RequestPreVote last=2@2"), "n1@3 -> n2 PreVote granted");
    assert_eq!(answer(&mut raft, "n3@3 -> n1 RequestPreVote last=2@2"), "n1@3 -> n3 PreVote granted");
    assert_eq!(answer(&mut raft, "n2@3 -> n1 RequestPreVote last=1@2"), "n1@3 -> n2 PreVote refused");
    assert_eq!(answer(&mut raft, "n2@2 -> n1 RequestPreVote last=2@2"), "n1@3 -> n2 PreVote refused");
    assert_eq!((raft.vote(), raft.status().term), (None, Term(3)), "nothing is promised");
    hear(&mut raft, "n3@3 -> n1 Append prev=2@2 commit=0");
    assert_eq!(answer(&mut raft, "n2@3 -> n1 RequestPreVote last=2@2"), "n1@3 -> n2 PreVote refused");
    ticks(&mut raft, ELECTION_TICKS);
    assert_eq!(raft.status().role, RoleName::Follower, "its own timeout is longer");
    assert_eq!(answer(&mut raft, "n2@3 -> n1 RequestPreVote last=2@2"), "n1@3 -> n2 PreVote granted");
}
