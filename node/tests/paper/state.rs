//! Figure 2, state: what is kept on stable storage, and where everything else begins.

use mkraft_node::raft::{HardState, Index, Term};

use crate::bench::*;

#[test]
fn current_term_and_voted_for_and_the_log_are_updated_on_stable_storage_before_responding() {
    for (request, answer) in [
        ("n2@1 -> n1 RequestVote last=0@0", "n1@1 -> n2 Vote granted"),
        ("n2@1 -> n1 Append prev=0@0 entries=1@1 commit=0", "n1@1 -> n2 Matched 1"),
    ] {
        let mut lab = Lab::new(&Settings::default());
        lab.cut(&[(N1, N2)]);
        lab.hold_disk(N1);
        lab.forge(N1, message(request));
        assert!(!saw(&lab.take_trace(), answer), "{answer} leaves before its write");
        lab.release_disk(N1);
        assert!(saw(&lab.take_trace(), answer), "{answer} never leaves");
        assert_eq!(lab.servers[&N1].disk.durable.hard_state.term, Term(1));
    }
}

#[test]
fn terms_and_votes_survive_a_restart() {
    let mut lab = Lab::led_by(1, &Settings::default());
    for id in [N1, N2, N3] {
        lab.crash(id, 0);
        lab.restart(id);
        assert_eq!(lab.core(id.0).vote(), Some(N1));
        assert_eq!(lab.status(id.0).term, Term(1));
    }
}

#[test]
fn the_log_survives_a_restart_and_what_was_not_durable_was_never_acknowledged() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.hold_disk(N2);
    lab.propose(N1, &["x=1"]);
    assert!(!saw(&lab.take_trace(), "n2@1 -> n1 Matched 2"));
    for id in [N1, N2, N3] {
        lab.crash(id, 0);
        lab.restart(id);
    }
    assert_eq!((lab.terms(1), lab.terms(2), lab.terms(3)), (vec![1, 1], vec![1], vec![1, 1]));
}

#[test]
fn commit_index_increases_monotonically_and_begins_with_what_the_disk_was_told() {
    // In the paper it is volatile and begins at 0: here a lower bound goes with every record.
    let hard_state = HardState { commit: Index(2), ..in_term(1) };
    let mut raft = server(hard_state, &[1, 1, 1]);
    assert_eq!(raft.status().commit, Index(2));
    for (commit, want) in [(1, 2), (3, 3), (2, 3)] {
        hear(&mut raft, &format!("n2@1 -> n1 Append prev=3@1 commit={commit}"));
        assert_eq!(raft.status().commit, Index(want), "told {commit}");
    }
}

#[test]
fn last_applied_begins_at_zero_and_follows_the_commit_index_in_order() {
    let hard_state = HardState { commit: Index(2), ..in_term(1) };
    let mut lab = Lab::new(&Settings::default());
    lab.crash(N1, 0);
    lab.given(N1, 1, None, hard_state.commit.0, &[1, 1, 1]);
    lab.restart(N1);
    let applied =
        |lab: &Lab| -> Vec<u64> { lab.servers[&N1].applied.iter().map(|entry| entry.index.0).collect() };
    assert_eq!(applied(&lab), [1, 2], "the boot applies again what the disk knows to be committed");
    lab.crash(N1, 0);
    lab.restart(N1);
    assert_eq!(applied(&lab), [1, 2]);
}

#[test]
fn next_index_begins_at_the_leaders_last_log_index_plus_one() {
    let mut raft = server(in_term(2), &[1, 1, 2]);
    let effects = leader(&mut raft);
    let first = [
        "n1@3 -> n2 Append prev=3@2 entries=4@3 commit=0",
        "n1@3 -> n3 Append prev=3@2 entries=4@3 commit=0",
    ];
    assert_eq!(said(&effects), first);
}

#[test]
fn match_index_begins_at_zero_and_increases_monotonically() {
    let mut raft = server(in_term(1), &[]);
    let won = leader(&mut raft);
    write(&mut raft, &won);
    assert_eq!(raft.status().commit, Index(0), "nobody is known to hold what the leader holds");
    let proposed = propose(&mut raft, &["x"]);
    write(&mut raft, &proposed);
    hear(&mut raft, "n3@2 -> n1 Matched 2");
    assert_eq!(raft.status().commit, Index(2));
    // A late answer takes nothing back: what it acknowledges is less, and still true.
    hear(&mut raft, "n3@2 -> n1 Matched 1");
    let proposed = propose(&mut raft, &["y"]);
    assert!(said(&proposed).contains(&"n1@2 -> n3 Append prev=2@2 entries=3@2 commit=2".to_owned()));
}
