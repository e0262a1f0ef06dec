//! Log replication: §5.3, figure 2's AppendEntries and its rules for leaders; the thesis' §10.2.1.

use mkraft_node::raft::{Entry, EntryKind, Index, Position, Term};

use crate::bench::*;

#[test]
fn the_leader_appends_the_command_and_answers_only_what_it_has_applied() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.cut(&lab.links_of(N1));
    lab.propose(N1, &["x=1"]);
    assert_eq!(lab.terms(1), [1, 1]);
    assert_eq!(lab.servers[&N1].applied.len(), 1, "only the no-op is applied");
    lab.heal();
    lab.tick(N1, HEARTBEAT_TICKS);
    assert_eq!(&*lab.servers[&N1].applied[1].payload, b"x=1");
}

#[test]
fn if_followers_crash_or_run_slowly_the_leader_retries_for_ever() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.crash(N3, 0);
    lab.propose(N1, &["x=1", "y=1"]);
    for _ in 0..50 {
        lab.tick(N1, HEARTBEAT_TICKS);
    }
    lab.restart(N3);
    lab.tick(N1, HEARTBEAT_TICKS);
    assert_eq!(lab.terms(3), lab.terms(1));
}

#[test]
fn once_a_follower_learns_that_an_entry_is_committed_it_applies_it_in_log_order() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.propose(N1, &["a=1", "b=1", "c=1"]);
    lab.tick(N1, HEARTBEAT_TICKS);
    for server in lab.servers.values() {
        let applied: Vec<u64> = server.applied.iter().map(|entry| entry.index.0).collect();
        assert_eq!(applied, [1, 2, 3, 4], "{}", server.id);
    }
}

#[test]
fn a_leader_creates_at_most_one_entry_with_a_given_index_in_a_given_term_and_never_changes_its_position() {
    let mut lab = Lab::led_by(1, &Settings::default());
    for step in 0..20 {
        let before = lab.terms(1).len();
        lab.propose(N1, &["x", "y"]);
        lab.tick(N1, 1);
        assert_eq!(lab.terms(1).len(), before + 2, "step {step}");
    }
    assert_eq!(lab.terms(2), lab.terms(1));
}

#[test]
fn if_desired_the_follower_tells_of_its_conflict_so_that_one_rejection_is_needed_for_each_term() {
    // Terms that alternate, so that the logs share only their first entry.
    let (mine, theirs) = ([1, 3, 3, 5, 5, 7, 7], [1, 2, 2, 4, 4, 6, 6]);
    let mut lab = Lab::new(&Settings::default());
    for (id, term, log) in [(N1, 7, mine), (N3, 7, mine), (N2, 6, theirs)] {
        lab.crash(id, 0);
        lab.given(id, term, None, 0, &log);
        lab.restart(id);
    }
    lab.cut(&[(N1, N2), (N2, N1)]);
    lab.campaign(N1);
    lab.heal();
    lab.take_trace();
    lab.tick(N1, HEARTBEAT_TICKS);
    let conflicts = lab.take_trace().iter().filter(|line| line.contains("n2@8 -> n1 Conflict")).count();
    assert!(conflicts <= 3, "{conflicts} rejections for three terms");
    assert_eq!(lab.terms(2), lab.terms(1));
}

#[test]
fn a_leader_never_overwrites_or_deletes_entries_in_its_own_log() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.cut(&lab.links_of(N1));
    lab.propose(N1, &["x=1"]);
    // Of its own term, from one who cannot lead it; the witness watches the leader's log as well.
    lab.forge(N1, message("n2@1 -> n1 Append prev=0@0 entries=1@1 commit=0"));
    assert_eq!(lab.terms(1), [1, 1]);
    assert_eq!(lab.core(1).refused(), 1);
}

#[test]
fn a_new_command_is_committed_in_a_single_round_and_a_single_slow_follower_does_not_impact_it() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.hold(&[(N1, N3)]);
    lab.propose(N1, &["x=1"]);
    assert_eq!(lab.status(1).commit.0, 2);
    let sent = lab.take_trace().iter().filter(|line| line.starts_with("n1@1 -> n2 Append")).count();
    assert_eq!(sent, 1);
}

#[test]
fn the_leader_replicates_to_all_in_parallel_and_a_majority_commits_the_entry() {
    let mut lab = Lab::led_by(1, &five());
    lab.hold(&[(N2, N1), (N3, N1), (N4, N1), (N5, N1)]);
    lab.propose(N1, &["x=1"]);
    for id in 2..=5 {
        assert_eq!(lab.terms(id), [1, 1], "n{id}");
    }
    lab.deliver((N2, N1), 1).unwrap();
    assert_eq!(lab.status(1).commit, Index(1));
    lab.deliver((N5, N1), 1).unwrap();
    assert_eq!(lab.status(1).commit, Index(2));
}

#[test]
fn the_leader_includes_the_highest_committed_index_in_future_appends_including_heartbeats() {
    let mut raft = server(in_term(1), &[]);
    let won = leader(&mut raft);
    write(&mut raft, &won);
    hear(&mut raft, "n2@2 -> n1 Matched 1");
    let proposed = said(&propose(&mut raft, &["x"]));
    assert_eq!(proposed, ["n1@2 -> n2 Append prev=1@2 entries=2@2 commit=1"], "n3 has not answered");
    let beats: Vec<String> = ticks(&mut raft, HEARTBEAT_TICKS).iter().flat_map(said).collect();
    let beats: Vec<&str> = beats.iter().map(String::as_str).collect();
    assert_eq!(beats, ["n1@2 -> n2 Append prev=2@2 commit=1", "n1@2 -> n3 Append prev=0@0 commit=1"]);
}

#[test]
fn once_a_leaders_entry_is_committed_so_are_all_before_it_also_those_of_earlier_leaders() {
    let mut raft = server(in_term(3), &[1, 1, 2, 3]);
    let won = leader(&mut raft);
    write(&mut raft, &won);
    hear(&mut raft, "n2@4 -> n1 Matched 4");
    assert_eq!(raft.status().commit, Index(0));
    let committed = hear(&mut raft, "n2@4 -> n1 Matched 5").apply;
    let committed: Vec<u64> = committed.iter().map(|entry| entry.term.0).collect();
    assert_eq!(committed, [1, 1, 2, 3, 4]);
}

// Log Matching (figure 3).

/// A cluster in which leaders came and went with entries that nobody else got.
fn diverged() -> Lab {
    let mut lab = Lab::led_by(1, &five());
    lab.propose(N1, &["a"]);
    lab.cut(&lab.links_of(N1));
    lab.propose(N1, &["lost 1", "lost 2"]);
    for id in [N3, N4, N5] {
        lab.forget(id).unwrap();
    }
    lab.campaign(N2);
    lab.cut(&[(N2, N4), (N2, N5)]);
    lab.propose(N2, &["b"]);
    lab
}

#[test]
fn if_two_entries_in_different_logs_have_the_same_index_and_term_they_and_all_before_them_are_the_same() {
    let lab = diverged();
    let mut shared = 0;
    for (one, other) in [(1, 2), (1, 3), (2, 3), (3, 4), (1, 5)] {
        let logs = [one, other].map(|id| lab.core(id).entries().cloned().collect::<Vec<Entry>>());
        for (index, (mine, theirs)) in logs[0].iter().zip(&logs[1]).enumerate() {
            if mine.position() == theirs.position() {
                assert_eq!(logs[0][..=index], logs[1][..=index], "n{one} and n{other}");
                shared += 1;
            }
        }
    }
    assert!(shared >= 5, "they hardly share an entry");
    assert_ne!(lab.terms(1), lab.terms(2), "they have not diverged");
}

#[test]
fn logs_converge_automatically_in_response_to_failures_of_the_consistency_check() {
    let mut lab = diverged();
    lab.heal();
    for _ in 0..3 {
        lab.tick(N2, HEARTBEAT_TICKS);
    }
    let leaders: Vec<Entry> = lab.core(2).entries().cloned().collect();
    for id in 1..=5 {
        assert!(lab.core(id).entries().eq(&leaders), "n{id}");
    }
    assert!(lab.servers.values().all(|server| server.applied.iter().eq(&leaders)));
}

// Figure 2, AppendEntries.

#[test]
fn append_entries_1_reply_false_if_term_is_less_than_current_term() {
    let mut raft = server(in_term(5), &[1]);
    let effects = hear(&mut raft, "n2@4 -> n1 Append prev=1@1 entries=2@4 commit=2");
    assert_eq!(said(&effects), ["n1@5 -> n2 Conflict prev=0 hint=0@0"]);
    assert_eq!((terms(&raft), raft.status().commit, raft.status().leader), (vec![1], Index(0), None));
    assert!(effects.persist.is_none());
}

#[test]
fn append_entries_2_reply_false_if_there_is_no_entry_at_prev_log_index_whose_term_is_prev_log_term() {
    for (prev, hint) in [("5@3", "3@2"), ("3@3", "3@2"), ("3@1", "2@1"), ("2@2", "2@1")] {
        let mut raft = server(in_term(3), &[1, 1, 2]);
        let effects = hear(&mut raft, &format!("n2@3 -> n1 Append prev={prev} commit=1"));
        let index = prev.split('@').next().unwrap();
        assert_eq!(said(&effects), [format!("n1@3 -> n2 Conflict prev={index} hint={hint}")]);
        assert_eq!((terms(&raft), raft.status().commit), (vec![1, 1, 2], Index(0)), "nothing is cut yet");
        assert_eq!(raft.status().leader, Some(N2), "it is the leader all the same");
    }
}

#[test]
fn append_entries_3_if_an_existing_entry_conflicts_with_a_new_one_delete_it_and_all_that_follow_it() {
    let mut raft = server(in_term(4), &[1, 1, 2, 2, 2]);
    let effects = hear(&mut raft, "n2@4 -> n1 Append prev=2@1 entries=3@3,4@4 commit=0");
    assert_eq!(terms(&raft), [1, 1, 3, 4]);
    let write = effects.persist.unwrap().write;
    assert_eq!(write.truncate_after, Some(Index(2)));
    // And only then: a delayed append that conflicts with nothing deletes nothing.
    let effects = hear(&mut raft, "n2@4 -> n1 Append prev=1@1 entries=2@1 commit=0");
    assert_eq!(terms(&raft), [1, 1, 3, 4]);
    assert!(effects.persist.is_none());
}

#[test]
fn append_entries_4_append_any_new_entries_not_already_in_the_log() {
    let mut raft = server(in_term(2), &[1, 1]);
    let effects = hear(&mut raft, "n2@2 -> n1 Append prev=1@1 entries=2@1,3@1,4@2 commit=0");
    assert_eq!(said(&effects), ["n1@2 -> n2 Matched 4"]);
    let write = effects.persist.unwrap().write;
    let written: Vec<Position> = write.entries.iter().map(Entry::position).collect();
    assert_eq!((written, write.truncate_after), (vec![position(3, 1), position(4, 2)], None));
    assert_eq!(terms(&raft), [1, 1, 1, 2]);
}

#[test]
fn append_entries_5_commit_index_becomes_the_lesser_of_leader_commit_and_the_last_new_entry() {
    for (append, want) in [
        ("prev=1@1 entries=2@1 commit=9", 2),
        ("prev=1@1 entries=2@1 commit=1", 1),
        // A heartbeat has compared the log up to its prev, and no further.
        ("prev=3@1 commit=9", 3),
        ("prev=0@0 commit=9", 0),
    ] {
        let mut raft = server(in_term(1), &[1, 1, 1, 1]);
        hear(&mut raft, &format!("n2@1 -> n1 Append {append}"));
        assert_eq!(raft.status().commit, Index(want), "{append}");
    }
}

#[test]
fn a_follower_acknowledges_an_append_only_once_its_disk_has_it() {
    let mut raft = server(in_term(1), &[]);
    let effects = hear(&mut raft, "n2@1 -> n1 Append prev=0@0 entries=1@1 commit=0");
    assert!(effects.send.is_empty() && effects.persist.is_some());
    assert_eq!(effects.send_durable.len(), 1);
}

// Figure 2, leaders.

#[test]
fn if_last_log_index_is_at_least_next_index_send_the_entries_from_next_index_on() {
    let mut raft = server(in_term(2), &[1, 1, 2]);
    leader(&mut raft);
    let again = answer(&mut raft, "n3@3 -> n1 Conflict prev=3 hint=1@1");
    assert_eq!(again, "n1@3 -> n3 Append prev=1@1 entries=2@1,3@2,4@3 commit=0");
}

#[test]
fn if_successful_update_next_index_and_match_index_for_the_follower() {
    let mut raft = server(in_term(1), &[]);
    let won = leader(&mut raft);
    write(&mut raft, &won);
    hear(&mut raft, "n2@2 -> n1 Matched 1");
    assert_eq!(raft.status().commit, Index(1), "by its match_index");
    let next = said(&propose(&mut raft, &["x"]));
    assert_eq!(next, ["n1@2 -> n2 Append prev=1@2 entries=2@2 commit=1"], "from its next_index");
}

#[test]
fn if_append_entries_fails_because_of_log_inconsistency_decrement_next_index_and_retry() {
    // With the follower's hint it falls by whole terms, and never below what is known to match.
    let mut raft = server(in_term(7), &[1, 1, 4, 4, 6, 6]);
    leader(&mut raft);
    for (conflict, retried) in [
        ("prev=6 hint=6@5", "prev=4@4 entries=5@6,6@6,7@8"),
        ("prev=4 hint=4@3", "prev=2@1 entries=3@4,4@4,5@6,6@6,7@8"),
        ("prev=2 hint=0@0", "prev=0@0 entries=1@1,2@1,3@4,4@4,5@6,6@6,7@8"),
    ] {
        let again = answer(&mut raft, &format!("n3@8 -> n1 Conflict {conflict}"));
        assert_eq!(again, format!("n1@8 -> n3 Append {retried} commit=0"));
    }
    hear(&mut raft, "n3@8 -> n1 Matched 7");
    assert!(hear(&mut raft, "n3@8 -> n1 Conflict prev=4 hint=0@0").is_empty(), "what matched stays matched");
}

#[test]
fn if_a_majority_of_match_indexes_reaches_n_and_its_entry_is_of_the_current_term_commit_n() {
    let mut raft = server_of(&[N1, N2, N3, N4, N5], in_term(1), &[1]);
    until_it_acts(&mut raft);
    hear(&mut raft, "n2@1 -> n1 PreVote granted");
    let vote = hear(&mut raft, "n3@1 -> n1 PreVote granted");
    write(&mut raft, &vote);
    hear(&mut raft, "n2@2 -> n1 Vote granted");
    let won = hear(&mut raft, "n3@2 -> n1 Vote granted");
    let proposed = propose(&mut raft, &["x", "y"]);
    write(&mut raft, &won);
    write(&mut raft, &proposed);
    for (line, want) in [
        ("n2@2 -> n1 Matched 4", 0),
        ("n2@2 -> n1 Matched 4", 0),
        ("n3@2 -> n1 Matched 1", 0),
        ("n3@2 -> n1 Matched 2", 2),
        ("n4@2 -> n1 Matched 3", 3),
        ("n3@2 -> n1 Matched 4", 4),
    ] {
        hear(&mut raft, line);
        assert_eq!(raft.status().commit, Index(want), "after {line}");
    }
}

#[test]
fn the_leader_never_commits_by_what_only_its_own_memory_holds() {
    let mut raft = server(in_term(1), &[]);
    let won = leader(&mut raft);
    assert_eq!(won.send.len(), 2, "its entries leave before its own disk has them (thesis §10.2.1)");
    hear(&mut raft, "n2@2 -> n1 Matched 1");
    assert_eq!(raft.status().commit, Index(0), "one disk of three");
    write(&mut raft, &won);
    assert_eq!(raft.status().commit, Index(1));
}

#[test]
fn a_majority_of_followers_commits_without_the_leaders_own_disk() {
    let mut raft = server(in_term(1), &[]);
    leader(&mut raft);
    hear(&mut raft, "n2@2 -> n1 Matched 1");
    hear(&mut raft, "n3@2 -> n1 Matched 1");
    assert_eq!(raft.status().commit, Index(1));
}

#[test]
fn a_leader_sends_the_next_entries_before_it_has_heard_of_those_before_within_a_window_of_bytes() {
    let mut options = options(1);
    let size =
        Entry { index: Index(1), term: Term(1), kind: EntryKind::Command, payload: (*b"x").into() }.size();
    options.inflight_bytes_max = 3 * size;
    options.append_bytes_max = 1;
    let mut raft = of_options(options, &[N1, N2, N3]);
    leader(&mut raft);
    hear(&mut raft, "n2@1 -> n1 Matched 1");
    let sent = said(&propose(&mut raft, &["a", "b", "c", "d", "e"]));
    assert_eq!(sent.len(), 3, "three at once, and then the window is full: {sent:?}");
    let sent = said(&hear(&mut raft, "n2@1 -> n1 Matched 3"));
    assert_eq!(sent.len(), 2, "two were acknowledged: {sent:?}");
}
