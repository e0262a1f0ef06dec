//! Cluster membership changes: §6, and chapter 4 of the thesis.

use std::collections::BTreeSet;

use mkraft_node::raft::{Change, Configuration, Index, Initial, NodeId, Raft, RoleName, Term};

use crate::bench::*;

fn ids(ids: &[NodeId]) -> BTreeSet<NodeId> {
    ids.iter().copied().collect()
}

fn add(id: &[NodeId]) -> Change {
    Change { add: ids(id), ..Change::default() }
}

fn promote(id: &[NodeId]) -> Change {
    Change { promote: ids(id), ..Change::default() }
}

fn remove(id: &[NodeId]) -> Change {
    Change { remove: ids(id), ..Change::default() }
}

/// Voters 1, 2 and 3, led by 1; 4 and 5 have joined and are caught up.
fn with_learners() -> Lab {
    let mut lab = Lab::led_by(1, &Settings { spares: 2, ..Settings::default() });
    lab.change(N1, add(&[N4, N5]));
    lab.tick(N1, HEARTBEAT_TICKS);
    assert_eq!(lab.terms(5), lab.terms(1));
    lab.take_trace();
    lab
}

/// n1 in a joint configuration: of 1, 2 and 3 before, and of 1, 4 and 5 after.
fn joint() -> Raft {
    let configuration =
        Configuration { voters: ids(&[N1, N4, N5]), outgoing: ids(&[N1, N2, N3]), learners: ids(&[]) };
    Raft::new(options(1), Initial { configuration, ..Initial::default() }).0
}

fn in_force(lab: &Lab, id: u64) -> Configuration {
    lab.core(id).configuration().1.clone()
}

// §6, joint consensus.

#[test]
fn log_entries_are_replicated_to_all_servers_in_both_configurations() {
    let mut lab = with_learners();
    lab.hold(&[(N2, N1), (N3, N1), (N4, N1), (N5, N1)]);
    lab.change(N1, Change { promote: ids(&[N4, N5]), remove: ids(&[N2, N3]), ..Change::default() });
    assert!(in_force(&lab, 1).is_joint());
    lab.propose(N1, &["x"]);
    for id in 2..=5 {
        assert!(in_force(&lab, id).is_joint(), "n{id}");
    }
}

#[test]
fn any_server_from_either_configuration_may_serve_as_leader() {
    for candidate in [N2, N5] {
        let mut lab = with_learners();
        lab.hold(&[(N2, N1), (N3, N1), (N4, N1), (N5, N1)]);
        lab.change(N1, Change { promote: ids(&[N4, N5]), remove: ids(&[N2, N3]), ..Change::default() });
        lab.crash(N1, 0);
        for id in [N2, N3, N4, N5].into_iter().filter(|id| *id != candidate) {
            lab.forget(id).unwrap();
        }
        lab.campaign(candidate);
        let trace = lab.take_trace();
        assert!(saw(&trace, &format!("{candidate} is leader of term 2")), "{trace:#?}");
        // What its predecessor began it ends, without anybody's wish.
        lab.tick(candidate, HEARTBEAT_TICKS);
        assert_eq!(in_force(&lab, 4), voters(&[N1, N4, N5]));
    }
}

#[test]
fn agreement_for_elections_requires_separate_majorities_from_both_the_old_and_the_new_configuration() {
    for (votes, wins) in [
        (&[N2, N3][..], false),
        (&[N4, N5], false),
        (&[N2, N4], true),
        (&[N2, N5], true),
        (&[N3, N4], true),
        (&[], false),
    ] {
        let mut raft = joint();
        until_it_acts(&mut raft);
        hear(&mut raft, "n2@0 -> n1 PreVote granted");
        let vote = hear(&mut raft, "n4@0 -> n1 PreVote granted");
        write(&mut raft, &vote);
        for voter in votes {
            hear(&mut raft, &format!("{voter}@1 -> n1 Vote granted"));
        }
        assert_eq!(raft.status().role == RoleName::Leader, wins, "with the votes of {votes:?}");
    }
}

#[test]
fn agreement_for_entry_commitment_requires_separate_majorities_from_both_configurations() {
    for (holders, commits) in
        [(&[N2, N3][..], false), (&[N4, N5], false), (&[N2, N4], true), (&[N3, N5], true)]
    {
        let mut raft = joint();
        until_it_acts(&mut raft);
        hear(&mut raft, "n2@0 -> n1 PreVote granted");
        let vote = hear(&mut raft, "n4@0 -> n1 PreVote granted");
        write(&mut raft, &vote);
        hear(&mut raft, "n2@1 -> n1 Vote granted");
        let won = hear(&mut raft, "n4@1 -> n1 Vote granted");
        write(&mut raft, &won);
        for holder in holders {
            hear(&mut raft, &format!("{holder}@1 -> n1 Matched 1"));
        }
        assert_eq!(raft.status().commit == Index(1), commits, "on the disks of {holders:?}");
    }
}

#[test]
fn once_a_server_adds_the_new_configuration_entry_to_its_log_it_uses_it_committed_or_not() {
    let mut lab = with_learners();
    lab.cut(&[(N1, N3), (N4, N1), (N2, N1), (N5, N1)]);
    lab.change(N1, promote(&[N4]));
    let entry = lab.status(1).last;
    assert!(lab.status(1).commit < entry);
    for id in [1, 2, 4, 5] {
        assert_eq!((lab.core(id).configuration().0, in_force(&lab, id).is_joint()), (entry, true), "n{id}");
    }
    assert!(!in_force(&lab, 3).is_joint(), "n3 has not heard of it");
}

#[test]
fn a_configuration_whose_entry_is_cut_from_the_log_is_in_force_no_longer() {
    let mut lab = with_learners();
    lab.cut(&lab.links_of(N1));
    lab.change(N1, promote(&[N4]));
    assert!(in_force(&lab, 1).is_joint());
    lab.forget(N3).unwrap();
    lab.campaign(N2);
    lab.heal();
    lab.tick(N2, HEARTBEAT_TICKS);
    assert_eq!(in_force(&lab, 1), Configuration { learners: ids(&[N4, N5]), ..voters(&[N1, N2, N3]) });
    assert_eq!(lab.terms(1), lab.terms(2));
}

#[test]
fn the_new_configuration_is_committed_by_its_own_majority_alone_and_the_old_one_is_irrelevant_then() {
    let mut lab = with_learners();
    lab.hold(&[(N1, N2), (N1, N3)]);
    lab.change(N1, Change { promote: ids(&[N4, N5]), remove: ids(&[N2, N3]), ..Change::default() });
    assert!(in_force(&lab, 1).is_joint(), "the old majority has not heard of it");
    lab.deliver((N1, N2), 1).unwrap();
    assert_eq!(in_force(&lab, 1), voters(&[N1, N4, N5]), "the leader creates the next entry by itself");
    assert_eq!(lab.status(1).commit, lab.status(1).last, "n2 and n3 need not have heard of that");
    let trace = lab.take_trace();
    assert!(saw(&trace, "n1 has changed as request 2 asked"), "{trace:#?}");
}

#[test]
fn a_leader_that_is_not_in_the_new_configuration_does_not_count_itself_and_steps_down_once_it_is_committed() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.hold(&[(N2, N1), (N3, N1)]);
    lab.change(N1, remove(&[N1]));
    lab.deliver((N2, N1), 1).unwrap();
    lab.deliver((N3, N1), 1).unwrap();
    assert_eq!(in_force(&lab, 1), voters(&[N2, N3]));
    // It manages a cluster that does not include itself: its own disk and one other are no majority of two.
    lab.deliver((N2, N1), 1).unwrap();
    assert_eq!((lab.status(1).role, lab.status(1).commit < lab.status(1).last), (RoleName::Leader, true));
    lab.deliver((N3, N1), 1).unwrap();
    assert_eq!(lab.status(1).role, RoleName::Learner);
    lab.release(&[(N2, N1), (N3, N1)]);
    assert!([2, 3].into_iter().any(|id| lab.status(id).role == RoleName::Leader), "it has named a successor");
}

// §6, new servers.

#[test]
fn new_servers_join_as_non_voting_members_the_leader_replicates_to_them_and_they_count_for_no_majority() {
    let mut lab = with_learners();
    lab.cut(&[(N1, N2), (N1, N3)]);
    lab.propose(N1, &["x"]);
    assert_eq!(lab.terms(4), lab.terms(1), "it receives");
    assert!(lab.status(1).commit < lab.status(1).last, "and does not count");
    assert_eq!(lab.status(4).role, RoleName::Learner);
}

#[test]
fn a_non_voting_member_never_campaigns_but_answers_who_does() {
    let mut lab = with_learners();
    lab.cut(&lab.links_of(N1));
    lab.tick(N4, 10 * ELECTION_TICKS);
    assert_eq!((lab.status(4).role, lab.status(4).term), (RoleName::Learner, Term(1)));
    lab.forget(N3).unwrap();
    lab.campaign(N2);
    assert_eq!(lab.status(2).role, RoleName::Leader);
    assert_eq!((lab.status(4).term, lab.status(4).leader), (Term(2), Some(N2)));
}

#[test]
fn once_the_new_servers_have_caught_up_the_change_can_proceed_and_not_before() {
    let mut lab = with_learners();
    lab.cut(&[(N1, N4)]);
    let payloads = ["x"; 9];
    lab.propose(N1, &payloads);
    lab.take_trace();
    lab.change(N1, promote(&[N4]));
    let trace = lab.take_trace();
    let refused = trace.iter().any(|line| line.contains("n4 is not caught up: it lacks 9 entries"));
    assert!(refused, "{trace:#?}");
    lab.heal();
    lab.tick(N1, HEARTBEAT_TICKS);
    lab.change(N1, promote(&[N4]));
    assert_eq!(in_force(&lab, 1).voters, ids(&[N1, N2, N3, N4]));
}

// §6, removed servers.

#[test]
fn servers_disregard_vote_requests_when_they_believe_a_current_leader_exists() {
    let mut raft = server(in_term(1), &[]);
    hear(&mut raft, "n2@1 -> n1 Append prev=0@0 entries=1@1 commit=0");
    ticks(&mut raft, ELECTION_TICKS - 1);
    let before = raft.status();
    assert!(hear(&mut raft, "n3@9 -> n1 RequestVote last=9@8").is_empty(), "it does not even answer");
    assert_eq!((raft.status(), raft.vote()), (before, None), "nor does it update its term");
    // The least election timeout after it last heard the leader, it does.
    raft.step(mkraft_node::raft::Input::Tick);
    assert_eq!(answer(&mut raft, "n3@9 -> n1 RequestVote last=9@8"), "n1@9 -> n3 Vote granted");
}

#[test]
fn removed_servers_do_not_disrupt_the_cluster() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.cut(&[(N1, N3)]);
    lab.change(N1, remove(&[N3]));
    lab.tick(N1, HEARTBEAT_TICKS);
    lab.heal();
    for _ in 0..10 * ELECTION_TICKS {
        for id in lab.ids() {
            lab.tick(id, 1);
        }
    }
    assert_eq!((lab.status(1).role, lab.status(1).term), (RoleName::Leader, Term(1)));
    assert_eq!(lab.status(3).term, Term(1), "it asks and asks, and nobody's term rises");
    assert!(in_force(&lab, 3).voters.contains(&N3), "it was never told that it is removed");
}

// The thesis, chapter 4.

#[test]
fn a_server_accepts_appends_from_a_leader_that_is_not_part_of_its_latest_configuration() {
    let mut raft = server(in_term(1), &[]);
    assert_eq!(answer(&mut raft, "n9@1 -> n1 Append prev=0@0 entries=1@1 commit=0"), "n1@1 -> n9 Matched 1");
    assert_eq!(raft.status().leader, Some(NodeId(9)));
}

#[test]
fn a_server_grants_its_vote_to_a_candidate_that_is_not_part_of_its_latest_configuration() {
    let mut raft = server(in_term(1), &[]);
    assert_eq!(answer(&mut raft, "n9@2 -> n1 RequestVote last=0@0"), "n1@2 -> n9 Vote granted");
}

#[test]
fn a_leader_begins_no_change_before_it_has_committed_an_entry_of_its_term() {
    let mut raft = server(in_term(1), &[]);
    let won = leader(&mut raft);
    write(&mut raft, &won);
    let ask = |raft: &mut Raft| raft.step(mkraft_node::raft::Input::Change(7, add(&[N4])));
    let refused = ask(&mut raft);
    assert!(matches!(refused.reply[..], [mkraft_node::raft::Reply::Refused { id: 7, .. }]), "{refused:?}");
    assert!(refused.persist.is_none() && raft.configuration().0 == Index(0));
    hear(&mut raft, "n2@2 -> n1 Matched 1");
    ask(&mut raft);
    assert_eq!(raft.configuration().0, Index(2));
}

#[test]
fn a_leader_begins_no_change_before_the_previous_one_is_committed() {
    let mut lab = with_learners();
    lab.cut(&[(N1, N2), (N1, N3)]);
    lab.change(N1, add(&[NodeId(6)]));
    let pending = lab.core(1).configuration().0;
    lab.take_trace();
    lab.change(N1, promote(&[N4]));
    let trace = lab.take_trace();
    assert!(saw(&trace, "n1 refuses request 3: another change is under way"), "{trace:#?}");
    assert_eq!(lab.core(1).configuration().0, pending);
}

#[test]
fn a_change_that_is_asked_for_again_is_answered_and_not_done_twice() {
    let mut lab = with_learners();
    let entry = lab.core(1).configuration().0;
    lab.change(N1, add(&[N4, N5]));
    let trace = lab.take_trace();
    assert!(saw(&trace, "n1 answers read"), "a quorum confirms that it still holds: {trace:#?}");
    assert_eq!(lab.core(1).configuration().0, entry);
}

#[test]
fn a_server_without_a_configuration_waits_to_be_told_and_starts_no_election() {
    let mut lab = Lab::new(&Settings { spares: 1, ..Settings::default() });
    lab.tick(N4, 10 * ELECTION_TICKS);
    assert_eq!((lab.status(4).role, lab.status(4).term), (RoleName::Learner, Term(0)));
}
