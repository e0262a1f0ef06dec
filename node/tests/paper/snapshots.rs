//! Log compaction: §7, and the receiver's rules of figure 13.

use mkraft_node::raft::{
    Accept, Begin, Configuration, HardState, Index, Initial, Input, Position, Raft, Reply, Snapshot, Term,
};

use crate::bench::*;

/// As the words spell one: with the voters 1 to 3.
fn snapshot(index: u64, term: u64, bytes: u64) -> Snapshot {
    Snapshot { position: position(index, term), configuration: voters(&[N1, N2, N3]), bytes, digest: 0 }
}

fn begins(effects: &mkraft_node::raft::Effects) -> Option<Begin> {
    effects.persist.as_ref().and_then(|persist| persist.write.begin)
}

/// n1 whose log begins after a snapshot.
fn compacted(at: Position, configuration: Configuration) -> Raft {
    let snapshot = Snapshot { position: at, configuration, bytes: 2, digest: 0 };
    let hard_state = HardState { commit: at.index, ..in_term(at.term.0) };
    let initial =
        Initial { hard_state, begin: at, snapshot, configuration: voters(&[N1]), ..Initial::default() };
    Raft::new(options(1), initial).0
}

// §7.

#[test]
fn a_snapshot_is_taken_when_the_log_reaches_a_size_by_each_server_independently() {
    let settings = Settings { compact_entries: 4, ..Settings::default() };
    let mut lab = Lab::led_by(1, &settings);
    lab.cut(&lab.links_of(N3));
    lab.propose(N1, &["a", "b", "c"]);
    assert_eq!(lab.core(1).snapshot().position, position(4, 1));
    // It covers just the committed entries, which a follower learns later.
    assert_eq!(lab.core(2).snapshot().position.index, Index(0));
    lab.tick(N1, HEARTBEAT_TICKS);
    assert_eq!(lab.core(2).snapshot().position, position(4, 1));
    assert_eq!(lab.core(3).snapshot().position.index, Index(0));
}

#[test]
fn once_a_server_completes_writing_a_snapshot_it_deletes_the_entries_up_to_the_last_included_index() {
    let mut lab = Lab::led_by(1, &Settings { compact_entries: 4, ..Settings::default() });
    lab.hold_snapshots(N1);
    lab.propose(N1, &["a", "b", "c"]);
    assert_eq!(lab.core(1).begin().index, Index(0), "it is being written");
    lab.release_snapshots(N1);
    assert_eq!(lab.core(1).begin(), position(4, 1));
    assert!(lab.terms(1).is_empty());
}

#[test]
fn the_last_included_index_and_term_support_the_consistency_check_for_the_entry_that_follows() {
    let mut raft = compacted(position(7, 3), voters(&[N1, N2, N3]));
    let accepted = answer(&mut raft, "n2@4 -> n1 Append prev=7@3 entries=8@4 commit=7");
    assert_eq!(accepted, "n1@4 -> n2 Matched 8");
    let mut raft = compacted(position(7, 3), voters(&[N1, N2, N3]));
    assert_eq!(answer(&mut raft, "n2@4 -> n1 RequestVote last=6@3"), "n1@4 -> n2 Vote refused");
    assert_eq!(answer(&mut raft, "n3@4 -> n1 RequestVote last=7@3"), "n1@4 -> n3 Vote granted");
}

#[test]
fn the_snapshot_includes_the_latest_configuration_as_of_the_last_included_index() {
    let raft = compacted(position(7, 3), voters(&[N1, N4, N5]));
    assert_eq!(*raft.configuration().1, voters(&[N1, N4, N5]), "and not the one it was first started with");
    // Of a log that holds several, the one in force there.
    let mut lab = Lab::led_by(1, &Settings { spares: 1, ..Settings::default() });
    let change = mkraft_node::raft::Change { add: [N4].into(), ..Default::default() };
    lab.change(N1, change);
    assert_eq!(lab.core(1).snapshot_at(Index(1)).1, voters(&[N1, N2, N3]));
    let later = Configuration { learners: [N4].into(), ..voters(&[N1, N2, N3]) };
    assert_eq!(lab.core(1).snapshot_at(Index(2)), (position(2, 1), later));
}

#[test]
fn the_leader_sends_its_snapshot_only_when_it_has_discarded_the_next_entry_that_it_needs_to_send() {
    for (tail_entries, chunks) in [(0, true), (6, false)] {
        let mut lab = Lab::led_by(1, &Settings { compact_entries: 4, tail_entries, ..Settings::default() });
        lab.cut(&lab.links_of(N3));
        lab.tick(N1, 2 * ELECTION_TICKS);
        lab.propose(N1, &["a", "b", "c"]);
        lab.take_trace();
        lab.heal();
        for _ in 0..4 {
            lab.tick(N1, HEARTBEAT_TICKS);
        }
        let sent = lab.take_trace().iter().any(|line| line.contains(" Chunk "));
        assert_eq!(sent, chunks, "with {tail_entries} entries kept");
        assert_eq!(lab.servers[&N3].applied.len(), 4);
    }
}

#[test]
fn a_follower_that_denies_what_it_acknowledged_is_not_filled_up_again() {
    // It was wiped, which no crash does. What it voted is gone as well; it must come back as another.
    let mut raft = server(in_term(0), &[]);
    leader(&mut raft);
    propose(&mut raft, &["a", "b"]);
    hear(&mut raft, "n3@1 -> n1 Matched 1");
    hear(&mut raft, "n3@1 -> n1 Matched 3");
    for _ in 0..3 {
        let beats: Vec<String> = ticks(&mut raft, HEARTBEAT_TICKS).iter().flat_map(said).collect();
        assert!(saw(&beats, "n1@1 -> n3 Append prev=3@1 commit=0"), "{beats:?}");
        assert!(said(&hear(&mut raft, "n3@1 -> n1 Conflict prev=3 hint=0@0")).is_empty());
    }
}

// Figure 13, InstallSnapshot.

#[test]
fn install_snapshot_1_reply_immediately_if_term_is_less_than_current_term() {
    let mut raft = server(in_term(5), &[]);
    let effects = hear(&mut raft, "n2@4 -> n1 Chunk 9@3 number=0 bytes=1 stream=1");
    assert_eq!(said(&effects), ["n1@5 -> n2 Conflict prev=0 hint=0@0"]);
    assert!(effects.accept.is_empty() && raft.status().leader.is_none());
}

#[test]
fn install_snapshot_2_to_4_chunks_are_kept_from_the_first_on_in_order_and_each_once() {
    let mut raft = server(in_term(1), &[]);
    for (number, kept, next) in
        [(1, false, 0), (0, true, 1), (0, false, 1), (2, false, 1), (1, true, 2), (2, true, 3)]
    {
        let effects = hear(&mut raft, &format!("n2@1 -> n1 Chunk 9@1 number={number} bytes=3 stream=4"));
        assert_eq!(said(&effects), [format!("n1@1 -> n2 ChunkReply next={next} stream=4")]);
        let accept = Accept { snapshot: snapshot(9, 1, 3), number, last: number == 2 };
        assert_eq!(effects.accept, if kept { vec![accept] } else { vec![] }, "chunk {number}");
        assert!(effects.install.is_none() && effects.persist.is_none());
    }
    assert_eq!(raft.status().commit, Index(0), "all chunks are there, and the file is not yet proven");
}

#[test]
fn install_snapshot_5_a_newer_snapshot_takes_the_place_of_a_partial_or_existing_one() {
    let mut raft = server(in_term(1), &[]);
    hear(&mut raft, "n2@1 -> n1 Chunk 5@1 number=0 bytes=2 stream=1");
    let effects = hear(&mut raft, "n2@1 -> n1 Chunk 9@1 number=0 bytes=2 stream=2");
    assert_eq!(effects.accept.len(), 1);
    let late = hear(&mut raft, "n2@1 -> n1 Chunk 5@1 number=1 bytes=2 stream=1");
    assert!(late.accept.is_empty(), "the partial one is gone");
    raft.step(Input::Received(snapshot(9, 1, 2)));
    assert_eq!(raft.snapshot().position, position(9, 1));
    let older = raft.step(Input::Received(snapshot(5, 1, 2)));
    assert!(older.install.is_none() && raft.snapshot().position == position(9, 1));
}

#[test]
fn install_snapshot_6_if_an_existing_entry_has_the_last_included_index_and_term_retain_what_follows_it() {
    let mut raft = server(in_term(1), &[1, 1, 1, 1]);
    let effects = hear(&mut raft, "n2@1 -> n1 Chunk 2@1 number=0 bytes=9 stream=1");
    assert_eq!(said(&effects), ["n1@1 -> n2 Matched 2"], "without a byte of it");
    assert_eq!(terms(&raft), [1, 1, 1, 1]);
    // What a snapshot covers is committed.
    assert_eq!((raft.status().commit, effects.apply.len()), (Index(2), 2));
}

#[test]
fn install_snapshot_7_otherwise_discard_the_entire_log() {
    let mut raft = server(in_term(3), &[1, 1, 1, 1]);
    hear(&mut raft, "n2@3 -> n1 Chunk 3@2 number=0 bytes=1 stream=1");
    let effects = raft.step(Input::Received(snapshot(3, 2, 1)));
    assert_eq!(begins(&effects), Some(Begin { position: position(3, 2), clear: true }));
    assert_eq!((terms(&raft), raft.begin()), (vec![], position(3, 2)), "also what was beyond it");
    assert!(effects.send.is_empty());
    assert_eq!(said(&effects), ["n1@3 -> n2 Matched 3"], "once that is durable");
}

#[test]
fn install_snapshot_8_reset_the_state_machine_and_load_the_snapshots_configuration() {
    let mut raft = server(in_term(1), &[1]);
    hear(&mut raft, "n2@1 -> n1 Chunk 9@1 number=0 bytes=1 stream=1");
    let taken = Snapshot { configuration: voters(&[N1, N4, N5]), ..snapshot(9, 1, 1) };
    let effects = raft.step(Input::Received(taken.clone()));
    assert_eq!(effects.install, Some(taken));
    assert!(effects.apply.is_empty(), "what it covers is not applied beside it");
    assert_eq!((raft.status().commit, raft.status().last), (Index(9), Index(9)));
    assert_eq!(*raft.configuration().1, voters(&[N1, N4, N5]));
}

#[test]
fn what_was_received_and_is_not_what_was_sent_changes_nothing_and_is_asked_for_again() {
    let mut raft = server(in_term(1), &[1]);
    hear(&mut raft, "n2@1 -> n1 Chunk 9@1 number=0 bytes=1 stream=1");
    assert!(raft.step(Input::Unreceived(position(9, 1))).is_empty());
    assert_eq!((terms(&raft), raft.status().commit), (vec![1], Index(0)));
    let again = hear(&mut raft, "n2@1 -> n1 Chunk 9@1 number=0 bytes=1 stream=1");
    assert_eq!(again.accept.len(), 1);
}

#[test]
fn a_leader_counts_a_follower_by_its_snapshot_only_when_that_is_installed() {
    let mut lab = Lab::led_by(1, &Settings { compact_entries: 4, chunk_entries: 9, ..Settings::default() });
    lab.cut(&lab.links_of(N3));
    lab.tick(N1, 2 * ELECTION_TICKS);
    lab.propose(N1, &["a", "b", "c"]);
    lab.heal();
    lab.hold_snapshots(N3);
    lab.tick(N1, HEARTBEAT_TICKS);
    lab.cut(&lab.links_of(N2));
    let read = lab.propose(N1, &["d"]);
    assert_eq!(
        (read.len(), lab.status(1).commit),
        (1, Index(4)),
        "all chunks have come, and it is not installed"
    );
    lab.release_snapshots(N3);
    lab.tick(N1, HEARTBEAT_TICKS);
    assert_eq!(lab.status(1).commit, Index(5));
    assert_eq!(lab.status(3).term, Term(1));
}

#[test]
fn a_read_that_waits_for_an_index_is_answered_when_a_snapshot_brings_it() {
    let mut raft = server(in_term(1), &[1]);
    hear(&mut raft, "n2@1 -> n1 Append prev=1@1 commit=1");
    let asked = raft.step(Input::ReadHere(vec![7])).send_durable;
    let mkraft_node::raft::Body::ReadIndex { token } = asked[0].body else { panic!("{asked:?}") };
    let reply = mkraft_node::raft::Message {
        from: N2,
        to: N1,
        term: Term(1),
        body: mkraft_node::raft::Body::ReadIndexReply { token, index: Some(Index(9)) },
    };
    assert!(raft.step(Input::Message(reply)).reply.is_empty());
    hear(&mut raft, "n2@1 -> n1 Chunk 9@1 number=0 bytes=1 stream=1");
    let effects = raft.step(Input::Received(snapshot(9, 1, 1)));
    assert_eq!(effects.reply, [Reply::Readable { id: 7 }]);
}
