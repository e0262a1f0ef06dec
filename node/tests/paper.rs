//! One test per sentence of the extended Raft paper, §5.1 to §5.4, §8 and figure 2, that no script shows.
//!
//! In: the sentence, as the name of a test. Out: whether the core does what it says. `scripts/` has the others,
//! with their sections in their first lines.

mod cluster;

use cluster::lab::{ELECTION_TICKS, HEARTBEAT_TICKS, Lab, Settings};
use mkraft_node::raft::{
    Configuration, HardState, Initial, Input, NodeId, Options, Proposal, Raft, Reply, RoleName, Term,
};

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

fn five() -> Settings {
    Settings { nodes: 5, ..Settings::default() }
}

/// Whether a line of the trace is there.
fn saw(trace: &[String], line: &str) -> bool {
    trace.iter().any(|found| found.starts_with(line))
}

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
    lab.crash(NodeId(4), 0);
    lab.crash(NodeId(5), 0);
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
        let refusal = cluster::words::parse_message(&["n2@9", "->", "n1", "Vote", "refused"]).unwrap();
        lab.forge(N1, refusal);
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
    lab.hold(&[(N2, N1), (N3, N1), (NodeId(4), N1), (NodeId(5), N1)]);
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
    let timeouts: std::collections::BTreeSet<u32> = (0..200).map(first_timeout).collect();
    assert_eq!(
        timeouts,
        (ELECTION_TICKS..2 * ELECTION_TICKS).collect(),
        "all of them are drawn, and no other"
    );
    // And one node draws anew each time.
    let mut raft = lonely(7);
    let mut spans = std::collections::BTreeSet::new();
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
    let words = ["n3@3", "->", "n1", "Append", "prev=0@0", "entries=1@3", "commit=0"];
    lab.forge(N1, cluster::words::parse_message(&words).unwrap());
    assert_eq!((lab.status(1).role, lab.status(1).term), (RoleName::Candidate, Term(5)));
    assert_eq!(lab.status(1).last.0, 0);
}

// §5.3, Log replication.

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
    let words = ["n2@1", "->", "n1", "Append", "prev=0@0", "entries=1@1", "commit=0"];
    lab.forge(N1, cluster::words::parse_message(&words).unwrap());
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

// §5.4, Safety.

#[test]
fn a_candidate_cannot_win_unless_its_log_contains_all_committed_entries() {
    let mut lab = Lab::led_by(1, &five());
    lab.cut(&[(N1, NodeId(4)), (N1, NodeId(5))]);
    lab.propose(N1, &["x=1"]);
    assert_eq!(lab.status(1).commit.0, 2);
    lab.crash(N1, 0);
    lab.heal();
    for id in 2..=4 {
        lab.forget(NodeId(id)).unwrap();
    }
    for _ in 0..5 {
        lab.campaign(NodeId(5));
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

// §8, Client interaction.

#[test]
fn if_the_clients_first_choice_is_not_the_leader_it_is_told_of_the_most_recent_one() {
    let mut raft = lonely(1);
    let refused = raft.step(Input::Propose(vec![Proposal { id: 3, payload: [].into() }])).reply;
    assert_eq!(refused, [Reply::NotLeader { id: 3, leader: None }]);
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
fn a_leader_exchanges_heartbeats_with_a_majority_before_responding_to_a_read() {
    let mut lab = Lab::led_by(1, &five());
    lab.hold(&[(N2, N1), (N3, N1), (NodeId(4), N1), (NodeId(5), N1)]);
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

// Figure 2, persistent state.

#[test]
fn current_term_and_voted_for_and_the_log_are_updated_on_stable_storage_before_responding() {
    for (request, answer) in [
        ("n2@1 -> n1 RequestVote last=0@0", "n1@1 -> n2 Vote granted"),
        ("n2@1 -> n1 Append prev=0@0 entries=1@1 commit=0", "n1@1 -> n2 Matched 1"),
    ] {
        let mut lab = Lab::new(&Settings::default());
        lab.cut(&[(N1, N2)]);
        lab.hold_disk(N1);
        let words: Vec<&str> = request.split(' ').collect();
        lab.forge(N1, cluster::words::parse_message(&words).unwrap());
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

fn options(seed: u64) -> Options {
    Options {
        id: N1,
        election_ticks: ELECTION_TICKS,
        heartbeat_ticks: HEARTBEAT_TICKS,
        append_bytes_max: 1 << 20,
        inflight_bytes_max: 1 << 20,
        uncommitted_entries_max: 1000,
        compact_entries: u64::MAX,
        compact_bytes: usize::MAX / 8,
        tail_entries: 0,
        tail_bytes: 0,
        chunk_bytes: 1,
        chunks_per_tick: 1,
        chunks_inflight_max: 1,
        promote_lag_entries_max: 5,
        patience: 0,
        lease: None,
        seed,
    }
}

fn of_voters(seed: u64, voters: &[NodeId]) -> Raft {
    let configuration = Configuration { voters: voters.iter().copied().collect(), ..Default::default() };
    Raft::new(options(seed), Initial { configuration, ..Default::default() }).0
}

/// One of three that hears nobody.
fn lonely(seed: u64) -> Raft {
    of_voters(seed, &[N1, N2, N3])
}

fn alone() -> Raft {
    of_voters(1, &[N1])
}

/// Lets a single node win; gives back the write of its no-op, which is not durable yet.
fn elect(raft: &mut Raft) -> (mkraft_node::raft::WriteId, mkraft_node::raft::Effects) {
    let voted = (0..2 * ELECTION_TICKS).find_map(|_| raft.step(Input::Tick).persist);
    let voted = voted.unwrap_or_else(|| panic!("it does not campaign"));
    assert_eq!(
        voted.write.hard_state,
        Some(HardState { term: Term(1), vote: Some(N1), ..Default::default() })
    );
    let mut won = raft.step(Input::Persisted(voted.id));
    let noop = won.persist.take().unwrap_or_else(|| panic!("it appends no no-op"));
    (noop.id, won)
}

fn first_timeout(seed: u64) -> u32 {
    let mut raft = lonely(seed);
    let campaigns = |_: &u32| !raft.step(Input::Tick).is_empty();
    (1..=2 * ELECTION_TICKS).find(campaigns).unwrap_or_else(|| panic!("it does not campaign"))
}
