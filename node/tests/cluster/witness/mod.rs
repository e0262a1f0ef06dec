//! The invariants of Raft (figure 3) and of its clients, over all servers and boots, at every step.
//!
//! In: every boot, step, message that leaves and request of every server, as they happen. Out: a panic with
//! the facts at the first step that breaks one. Never: a word to a server.
//!
//! A log is compared by chain hashes: h(i) = H(h(i-1), term(i), payload(i)), so that one hash stands for all
//! of a log up to i. What a leader commits is known with the term of that leader: a leader of an earlier term
//! may well win afterwards, with votes that were long on their way, and owes nothing to it (§5.4.3).

mod clients;
mod log;
mod power;
mod seen;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::hash::{Hash, Hasher};

use mkraft_node::machine::Applied;
use mkraft_proto::evidence::Outcome as Effect;

use mkraft_node::raft::{
    AppendOutcome, Begin, Body, Configuration, Effects, Entry, EntryKind, Index, Message, NodeId, Position,
    Raft, Reply, RequestId, RoleName, Snapshot, Term,
};

pub use seen::Seen;

use super::disk::State;
use super::server::{Job, Outcome, Server, States};
use super::words;

pub type Servers = BTreeMap<NodeId, Server>;

pub struct Witness {
    /// With which the cluster began.
    first: Configuration,
    /// Each that any log has held.
    configurations: BTreeMap<Position, Configuration>,
    promote_lag_entries_max: u64,
    views: BTreeMap<NodeId, View>,
    /// Who leads each term, in which boot, with which log.
    leaders: BTreeMap<Term, Leadership>,
    /// What stands where; all logs that hold a position agree up to it.
    chains: BTreeMap<Position, u64>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// Where the log of each candidate ends, as it told its voters.
    candidates: BTreeMap<(NodeId, Term), Position>,
    /// The newest entry that a leader of each term has committed.
    commits: BTreeMap<Term, Position>,
    /// What stands at each applied index, from 1.
    applied: Vec<Position>,
    /// What each of these did, once a machine has said so.
    effects: BTreeMap<Index, Applied>,
    /// Where each (session, sequence) took effect.
    once: BTreeMap<(u64, u64), Index>,
    /// Without an answer yet.
    requests: BTreeMap<RequestId, Request>,
    /// Transfers that a leader has begun; those without an answer are under way.
    transfers: BTreeMap<NodeId, RequestId>,
    /// Writes that are committed, and reads that are answered.
    done: BTreeSet<RequestId>,
    /// What a read that begins now must see: all that a client was told of.
    told: Index,
    /// The state of each snapshot, by its digest; and the one digest of each position.
    pub states: States,
    digests: BTreeMap<Position, u64>,
    pub seen: Seen,
}

/// One server, as last seen in its current boot.
struct View {
    boot: u64,
    term: Term,
    vote: Option<NodeId>,
    role: RoleName,
    commit: Index,
    /// Terms and chain hashes of its log, from 1, as it asked for them to be written.
    log: Vec<(Term, u64)>,
    applied: Index,
    /// What it counts by where its log says nothing of it.
    first: Configuration,
    /// What it counts by, and where that stands.
    counts: (Index, Configuration),
    /// The highest term that others have seen of it, over all boots.
    shown: Term,
}

struct Leadership {
    id: NodeId,
    boot: u64,
    log: Vec<Term>,
}

#[derive(Clone, Copy)]
enum Request {
    Proposed { to: NodeId, boot: u64 },
    Accepted { to: NodeId, boot: u64, position: Position },
    Read { to: NodeId, boot: u64, told: Index },
    Operation { to: NodeId, told: Index },
}

impl Witness {
    pub fn new(first: Configuration, promote_lag_entries_max: u64) -> Witness {
        Witness {
            first,
            configurations: BTreeMap::new(),
            promote_lag_entries_max,
            views: BTreeMap::new(),
            leaders: BTreeMap::new(),
            chains: BTreeMap::from([(Position::default(), 0)]),
            votes: BTreeMap::new(),
            candidates: BTreeMap::new(),
            commits: BTreeMap::new(),
            applied: Vec::new(),
            effects: BTreeMap::new(),
            once: BTreeMap::new(),
            requests: BTreeMap::new(),
            transfers: BTreeMap::new(),
            done: BTreeSet::new(),
            told: Index(0),
            states: States::new(),
            digests: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    /// A server came up with what its disk holds.
    pub fn booted(&mut self, servers: &Servers, id: NodeId, effects: &Effects) {
        let (server, core) = running(servers, id);
        self.seen.boots += 1;
        let shown = self.views.get(&id).map_or(Term(0), |view| view.shown);
        let term = core.status().term;
        assert!(term >= shown, "{id} shows term {shown} to others and boots with {term}");
        let view = View {
            boot: server.boot,
            term,
            vote: core.vote(),
            role: core.status().role,
            commit: server.applied_index(),
            log: self.prefix(id, server.disk.durable.begin),
            applied: server.applied_index(),
            // A spare waits until it is told.
            first: match server.disk.durable.snapshot() {
                None if !self.first.voters.contains(&id) => Configuration::default(),
                _ => self.first.clone(),
            },
            counts: (Index(0), Configuration::default()),
            shown,
        };
        self.check_state(id, &server.applied);
        self.views.insert(id, view);
        self.recount(id);
        self.requests.retain(|_, request| request.to() != id);
        self.follow_log(id, None, &server.disk.durable.entries);
        self.stepped(servers, id, effects);
    }

    /// A server took one step; its effects are not carried out yet.
    pub fn stepped(&mut self, servers: &Servers, id: NodeId, effects: &Effects) {
        let (_, core) = running(servers, id);
        let status = core.status();
        self.seen.steps += 1;
        if let Some(persist) = &effects.persist {
            let led = self.views[&id].role == RoleName::Leader && status.role == RoleName::Leader;
            let cut = persist.write.truncate_after;
            assert!(!led || cut.is_none(), "{id} leads {} and cuts its log: {persist:?}", status.term);
            if let Some(begin) = persist.write.begin {
                self.follow_begin(id, begin, effects.install.as_ref());
            }
            self.follow_changes(servers, id, status.term, led, &persist.write.entries);
            self.follow_log(id, cut, &persist.write.entries);
        }
        self.follow_state(id, core);
        if status.role == RoleName::Leader {
            self.follow_leader(servers, id, status.term);
            self.follow_succession(servers, id, effects);
        }
        self.follow_commit(id, core);
        self.follow_applied(id, &effects.apply);
        self.follow_replies(id, &effects.reply);
    }

    /// A server carried out what a step asked for.
    pub fn carried_out(&mut self, server: &Server, outcome: &Outcome) {
        for (entry, effect) in &outcome.applied {
            self.follow_effect(server.id, entry, effect);
        }
        for job in server.jobs.iter().rev().take(outcome.jobs) {
            if let Job::Take(snapshot, state) = job {
                self.taking(server.id, snapshot, state);
            }
        }
    }

    /// A snapshot is being taken: the state at one position is one state (§5.4.3), whoever takes it.
    fn taking(&mut self, id: NodeId, snapshot: &Snapshot, state: &State) {
        self.check_state(id, &state.applied);
        let last = state.applied.last().map(Entry::position);
        assert_eq!(last, Some(snapshot.position), "{id} takes another state");
        let log = self.prefix(id, snapshot.position);
        let want = self.in_force(&log, &self.views[&id].first).1;
        assert_eq!(snapshot.configuration, want, "{id} takes a snapshot with another configuration");
        let known = *self.digests.entry(snapshot.position).or_insert(snapshot.digest);
        assert_eq!(known, snapshot.digest, "{id} and another have two states at {:?}", snapshot.position);
        self.states.insert(snapshot.digest, state.clone());
        self.seen.snapshots += 1;
    }

    /// Who counts for a server, and who only receives.
    pub fn counts(&self, id: NodeId) -> Configuration {
        self.views[&id].counts.1.clone()
    }

    /// What each core holds is what it asked its disk to hold, entry for entry.
    pub fn compare_with_disks(&self, servers: &Servers) {
        for (id, server) in servers {
            let Some(core) = server.core() else { continue };
            let held: Vec<Term> = core.entries().map(|entry| entry.term).collect();
            let begin = core.begin().index.0 as usize;
            let asked: Vec<Term> = self.views[id].log[begin..].iter().map(|(term, _)| *term).collect();
            assert_eq!(held, asked, "{id} holds another log than it asked to be written");
            if server.disk.outstanding() == 0 {
                assert!(core.entries().eq(&server.disk.durable.entries), "the disk of {id} differs");
                assert_eq!(core.begin(), server.disk.durable.begin, "the disk of {id} begins elsewhere");
            }
        }
    }

    fn position(&self, id: NodeId, index: Index) -> Position {
        Position { index, term: self.views[&id].log[index.0 as usize - 1].0 }
    }
}

impl Request {
    fn to(&self) -> NodeId {
        match *self {
            Request::Proposed { to, .. }
            | Request::Accepted { to, .. }
            | Request::Read { to, .. }
            | Request::Operation { to, .. } => to,
        }
    }
}

/// By the witness' own count, not the core's: more than half of the voters, and of the outgoing ones too (§6).
fn agreed(counts: &Configuration, agrees: impl Fn(NodeId) -> bool) -> bool {
    let majority = |ids: &BTreeSet<NodeId>| 2 * ids.iter().filter(|id| agrees(**id)).count() > ids.len();
    majority(&counts.voters) && (counts.outgoing.is_empty() || majority(&counts.outgoing))
}

fn running(servers: &Servers, id: NodeId) -> (&Server, &Raft) {
    let server = &servers[&id];
    (server, server.core().unwrap_or_else(|| panic!("{id} is down")))
}
