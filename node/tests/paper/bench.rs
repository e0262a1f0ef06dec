//! What the tests of one rule need: a bare core with a past, and its words.
//!
//! In: a past, messages as the scripts spell them. Out: what the core asks for, in the same words.

use mkraft_node::raft::{
    Configuration, Effects, Entry, EntryKind, HardState, Index, Initial, Input, Message, NodeId, Options,
    Position, Proposal, Raft, RoleName, Term, WriteId,
};

pub use crate::cluster::lab::{ELECTION_TICKS, HEARTBEAT_TICKS, Lab, Settings};
pub use crate::cluster::words;

pub const N1: NodeId = NodeId(1);
pub const N2: NodeId = NodeId(2);
pub const N3: NodeId = NodeId(3);
pub const N4: NodeId = NodeId(4);
pub const N5: NodeId = NodeId(5);

pub fn five() -> Settings {
    Settings { nodes: 5, ..Settings::default() }
}

/// Whether a line of the trace is there.
pub fn saw(trace: &[String], line: &str) -> bool {
    trace.iter().any(|found| found.starts_with(line))
}

/// `n2@3 -> n1 Append prev=1@1 commit=0`
pub fn message(line: &str) -> Message {
    let words: Vec<&str> = line.split_whitespace().collect();
    words::parse_message(&words).unwrap_or_else(|error| panic!("{line}: {error}"))
}

pub fn hear(raft: &mut Raft, line: &str) -> Effects {
    raft.step(Input::Message(message(line)))
}

/// What is sent, whenever it may leave.
pub fn said(effects: &Effects) -> Vec<String> {
    effects.send.iter().chain(&effects.send_durable).map(words::message).collect()
}

/// The one message that a core answers with.
pub fn answer(raft: &mut Raft, line: &str) -> String {
    let said = said(&hear(raft, line));
    let [only] = &said[..] else { panic!("{line}: answered with {said:?}") };
    only.clone()
}

pub fn terms(raft: &Raft) -> Vec<u64> {
    raft.entries().map(|entry| entry.term.0).collect()
}

pub fn position(index: u64, term: u64) -> Position {
    Position { index: Index(index), term: Term(term) }
}

pub fn options(seed: u64) -> Options {
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

pub fn voters(ids: &[NodeId]) -> Configuration {
    Configuration { voters: ids.iter().copied().collect(), ..Default::default() }
}

pub fn of_voters(seed: u64, ids: &[NodeId]) -> Raft {
    of_options(options(seed), ids)
}

pub fn of_options(options: Options, ids: &[NodeId]) -> Raft {
    Raft::new(options, Initial { configuration: voters(ids), ..Default::default() }).0
}

/// One of three that hears nobody.
pub fn lonely(seed: u64) -> Raft {
    of_voters(seed, &[N1, N2, N3])
}

pub fn alone() -> Raft {
    of_voters(1, &[N1])
}

/// n1 of three, as it boots with this past.
pub fn server(hard_state: HardState, log: &[u64]) -> Raft {
    server_of(&[N1, N2, N3], hard_state, log)
}

pub fn server_of(ids: &[NodeId], hard_state: HardState, log: &[u64]) -> Raft {
    let entry = |(offset, &term): (usize, &u64)| Entry {
        index: Index(offset as u64 + 1),
        term: Term(term),
        kind: EntryKind::Command,
        payload: [].into(),
    };
    let entries = log.iter().enumerate().map(entry).collect();
    let initial = Initial { hard_state, entries, configuration: voters(ids), ..Default::default() };
    Raft::new(options(1), initial).0
}

/// In this term, without a vote, and with nothing known to be committed.
pub fn in_term(term: u64) -> HardState {
    HardState { term: Term(term), ..HardState::default() }
}

pub fn ticks(raft: &mut Raft, count: u32) -> Vec<Effects> {
    (0..count).map(|_| raft.step(Input::Tick)).collect()
}

/// Ticks until something is asked for: a campaign, of who does not lead.
pub fn until_it_acts(raft: &mut Raft) -> (u32, Effects) {
    for count in 1..=2 * ELECTION_TICKS {
        let effects = raft.step(Input::Tick);
        if !effects.is_empty() {
            return (count, effects);
        }
    }
    panic!("it does not campaign")
}

/// Through the pre-vote: the term it campaigns in, and the write that makes its own vote durable.
pub fn candidate(raft: &mut Raft) -> (Term, WriteId) {
    let before = raft.status().term;
    until_it_acts(raft);
    assert_eq!(raft.status().role, RoleName::PreCandidate);
    let write = hear(raft, &format!("n2@{before} -> n1 PreVote granted")).persist;
    assert_eq!(raft.status().role, RoleName::Candidate);
    let write = write.unwrap_or_else(|| panic!("it does not write its vote"));
    (raft.status().term, write.id)
}

/// Elected by itself and n2 of three, with its first appends.
pub fn leader(raft: &mut Raft) -> Effects {
    let (term, write) = candidate(raft);
    raft.step(Input::Persisted(write));
    let effects = hear(raft, &format!("n2@{term} -> n1 Vote granted"));
    assert_eq!(raft.status().role, RoleName::Leader);
    effects
}

/// n1 of three, elected, with its first entry committed.
pub fn ready() -> Raft {
    let mut raft = server(in_term(0), &[]);
    let won = leader(&mut raft);
    write(&mut raft, &won);
    hear(&mut raft, "n2@1 -> n1 Matched 1");
    raft
}

pub fn propose(raft: &mut Raft, payloads: &[&str]) -> Effects {
    let proposal =
        |(id, payload): (usize, &&str)| Proposal { id: id as u64, payload: payload.as_bytes().into() };
    raft.step(Input::Propose(payloads.iter().enumerate().map(proposal).collect()))
}

/// Makes durable what a step wants written.
pub fn write(raft: &mut Raft, effects: &Effects) -> Effects {
    let persist = effects.persist.as_ref().unwrap_or_else(|| panic!("it writes nothing"));
    raft.step(Input::Persisted(persist.id))
}

/// Lets a single node win; gives back the write of its no-op, which is not durable yet.
pub fn elect(raft: &mut Raft) -> (WriteId, Effects) {
    let (_, campaign) = until_it_acts(raft);
    let voted = campaign.persist.unwrap_or_else(|| panic!("it does not vote"));
    assert_eq!(
        voted.write.hard_state,
        Some(HardState { term: Term(1), vote: Some(N1), ..Default::default() })
    );
    let mut won = raft.step(Input::Persisted(voted.id));
    let noop = won.persist.take().unwrap_or_else(|| panic!("it appends no no-op"));
    (noop.id, won)
}
