//! A cluster on the bench: links and disks in the test's hands, and everything that happens on a trace.
//!
//! In: one act at a time (a tick, a campaign, a cut link, a crash). Out: the trace, and each server's state.
//! After each act all messages are delivered and all writes completed, in the order in which they began,
//! until nothing moves; what is held, on a link or a disk, waits for its release. Never: chance or time.

mod telling;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mkraft_node::raft::{
    Change, Configuration, Effects, Entry, EntryKind, HardState, Index, Input, Message, NodeId, Options,
    Proposal, Raft, Reply, RequestId, Status, Term,
};

use super::disk::Image;
use super::random::Random;
use super::server::{Outcome, Server};
use super::witness::{Servers, Witness};
use super::words;
use telling::Told;

/// The least election timeout, in ticks.
pub const ELECTION_TICKS: u32 = 10;
pub const HEARTBEAT_TICKS: u32 = 3;
/// A learner that lacks more is not promoted.
pub const PROMOTE_LAG_ENTRIES_MAX: u64 = 5;

/// Messages after which a cluster that does not come to rest is taken to be broken.
const DELIVERIES_MAX: usize = 10_000;

pub type Link = (NodeId, NodeId);

pub struct Lab {
    pub servers: Servers,
    pub witness: Witness,
    /// On their way, oldest first.
    flying: VecDeque<Message>,
    /// Links that hold what is sent over them, and what they hold.
    held: BTreeMap<Link, VecDeque<Message>>,
    cut: BTreeSet<Link>,
    held_disks: BTreeSet<NodeId>,
    /// Whose snapshots are neither taken nor taken in until they are released.
    held_snapshots: BTreeSet<NodeId>,
    requests: RequestId,
    /// Ten for each tick.
    clocks: BTreeMap<NodeId, u64>,
    trace: Vec<String>,
    /// What the trace last said of each server.
    told: BTreeMap<NodeId, Told>,
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// The first voters.
    pub nodes: u64,
    /// Further nodes, which are not members.
    pub spares: u64,
    /// Units of a clock of which each tick is 10.
    pub lease: Option<u64>,
    pub append_bytes_max: usize,
    pub inflight_bytes_max: usize,
    pub uncommitted_entries_max: u64,
    /// A snapshot is taken when so many entries are committed since the last.
    pub compact_entries: u64,
    pub tail_entries: u64,
    /// Entries that a chunk of a snapshot holds.
    pub chunk_entries: u64,
    pub chunks_inflight_max: u64,
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            nodes: 3,
            spares: 0,
            lease: None,
            append_bytes_max: 1 << 20,
            inflight_bytes_max: 1 << 20,
            uncommitted_entries_max: 1000,
            compact_entries: u64::MAX,
            tail_entries: 0,
            chunk_entries: 2,
            chunks_inflight_max: 1,
            seed: 1,
        }
    }
}

impl Lab {
    pub fn new(settings: &Settings) -> Lab {
        let voters: BTreeSet<NodeId> = (1..=settings.nodes).map(NodeId).collect();
        let all = (1..=settings.nodes + settings.spares).map(NodeId);
        let configuration = Configuration { voters, ..Default::default() };
        let server = |id: NodeId| {
            let options = Options {
                id,
                election_ticks: ELECTION_TICKS,
                heartbeat_ticks: HEARTBEAT_TICKS,
                append_bytes_max: settings.append_bytes_max,
                inflight_bytes_max: settings.inflight_bytes_max,
                uncommitted_entries_max: settings.uncommitted_entries_max,
                compact_entries: settings.compact_entries,
                compact_bytes: usize::MAX / 8,
                tail_entries: settings.tail_entries,
                tail_bytes: usize::MAX,
                chunk_bytes: settings.chunk_entries,
                chunks_per_tick: 100,
                chunks_inflight_max: settings.chunks_inflight_max,
                promote_lag_entries_max: PROMOTE_LAG_ENTRIES_MAX,
                patience: 0,
                lease: settings.lease,
                seed: patient_seed(settings.seed.wrapping_mul(1_000_003).wrapping_add(id.0 * 1_009)),
            };
            let first =
                if configuration.voters.contains(&id) { configuration.clone() } else { Default::default() };
            (id, Server::new(options, first, false))
        };
        let servers = all.map(server).collect();
        let mut lab = Lab {
            servers,
            witness: Witness::new(configuration, PROMOTE_LAG_ENTRIES_MAX),
            flying: VecDeque::new(),
            held: BTreeMap::new(),
            cut: BTreeSet::new(),
            held_disks: BTreeSet::new(),
            held_snapshots: BTreeSet::new(),
            requests: 0,
            clocks: BTreeMap::new(),
            trace: Vec::new(),
            told: BTreeMap::new(),
        };
        for id in lab.ids() {
            lab.boot(id);
        }
        lab.trace.clear();
        lab
    }

    /// A fresh cluster in which `id` has won term 1 and all know that its no-op is committed.
    pub fn led_by(id: u64, settings: &Settings) -> Lab {
        let mut lab = Lab::new(settings);
        lab.campaign(NodeId(id));
        lab.tick(NodeId(id), HEARTBEAT_TICKS);
        lab.trace.clear();
        lab
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.servers.keys().copied().collect()
    }

    pub fn core(&self, id: u64) -> &Raft {
        self.servers[&NodeId(id)].core().unwrap_or_else(|| panic!("n{id} is down"))
    }

    pub fn status(&self, id: u64) -> Status {
        self.core(id).status()
    }

    /// The terms of a server's entries.
    pub fn terms(&self, id: u64) -> Vec<u64> {
        self.core(id).entries().map(|entry| entry.term.0).collect()
    }

    pub fn take_trace(&mut self) -> Vec<String> {
        std::mem::take(&mut self.trace)
    }

    pub fn note(&mut self, line: String) {
        self.trace.push(line);
    }

    // Servers.

    /// Gives a server that is down this past: a log of these terms, all durable.
    pub fn given(&mut self, id: NodeId, term: u64, vote: Option<NodeId>, commit: u64, log: &[u64]) {
        let entry = |(offset, &term): (usize, &u64)| Entry {
            index: Index(offset as u64 + 1),
            term: Term(term),
            kind: EntryKind::Command,
            payload: [].into(),
        };
        let server = self.server(id);
        assert!(!server.is_up(), "{id} must be down to be given a past");
        let hard_state = HardState { term: Term(term), vote, commit: Index(commit) };
        server.disk.durable =
            Image { hard_state, entries: log.iter().enumerate().map(entry).collect(), ..Image::default() };
    }

    /// The oldest `kept` writes under way are durable, the others lost.
    pub fn crash(&mut self, id: NodeId, kept: usize) {
        self.server(id).crash(kept);
        self.held_disks.remove(&id);
        self.held_snapshots.remove(&id);
        self.told.remove(&id);
    }

    /// Snapshots of this server stay under way: those it takes, and those it has all chunks of.
    pub fn hold_snapshots(&mut self, id: NodeId) {
        self.held_snapshots.insert(id);
    }

    pub fn release_snapshots(&mut self, id: NodeId) {
        self.held_snapshots.remove(&id);
        self.settle();
    }

    /// What this server received is not what was sent.
    pub fn spoil_snapshot(&mut self, id: NodeId) {
        self.finish_job(id, false);
        self.settle();
    }

    pub fn restart(&mut self, id: NodeId) {
        self.boot(id);
        self.settle();
    }

    pub fn tick(&mut self, id: NodeId, count: u32) {
        for _ in 0..count {
            self.step_tick(id);
            self.settle();
        }
    }

    /// Ticks a server until it campaigns.
    pub fn campaign(&mut self, id: NodeId) {
        for _ in 0..2 * ELECTION_TICKS {
            let before = self.status_of(id);
            let waiting = (self.flying.len(), self.server(id).disk.outstanding());
            self.step_tick(id);
            let after = (self.flying.len(), self.server(id).disk.outstanding());
            if self.status_of(id) != before || waiting != after {
                return self.settle();
            }
        }
        panic!("{id} does not campaign");
    }

    /// Ticks a server until it no longer hears its leader; the error says that it campaigned instead.
    pub fn forget(&mut self, id: NodeId) -> Result<(), String> {
        let before = self.status_of(id);
        for _ in 0..ELECTION_TICKS {
            self.step_tick(id);
        }
        if self.status_of(id) != before {
            return Err(format!("{id} drew the least timeout and campaigns; choose another seed"));
        }
        Ok(())
    }

    /// Gives back the names of the requests.
    pub fn propose(&mut self, id: NodeId, payloads: &[&str]) -> Vec<RequestId> {
        let mut proposals = Vec::new();
        for payload in payloads {
            self.requests += 1;
            self.witness.proposing(&self.servers, id, self.requests);
            proposals.push(Proposal { id: self.requests, payload: payload.as_bytes().into() });
        }
        let names = proposals.iter().map(|proposal| proposal.id).collect();
        self.step(id, Input::Propose(proposals));
        self.settle();
        names
    }

    pub fn read(&mut self, id: NodeId) -> RequestId {
        self.requests += 1;
        self.witness.reading(&self.servers, id, self.requests);
        self.step(id, Input::Read(vec![self.requests]));
        self.settle();
        self.requests
    }

    /// The same on any node, by its leader's leave.
    pub fn read_here(&mut self, id: NodeId) -> RequestId {
        self.requests += 1;
        self.witness.reading(&self.servers, id, self.requests);
        self.step(id, Input::ReadHere(vec![self.requests]));
        self.settle();
        self.requests
    }

    pub fn change(&mut self, id: NodeId, change: Change) -> RequestId {
        self.operate(id, |name| Input::Change(name, change))
    }

    pub fn transfer(&mut self, id: NodeId, to: Option<NodeId>) -> RequestId {
        self.operate(id, |name| Input::Transfer(name, to))
    }

    fn operate(&mut self, id: NodeId, input: impl FnOnce(RequestId) -> Input) -> RequestId {
        self.requests += 1;
        self.witness.operating(&self.servers, id, self.requests);
        self.step(id, input(self.requests));
        self.settle();
        self.requests
    }

    /// A message that no server has sent.
    pub fn forge(&mut self, at: NodeId, message: Message) {
        self.note(format!("{} (forged)", words::message(&message)));
        self.step(at, Input::Message(message));
        self.settle();
    }

    // The network.

    /// Messages sent over these links are lost.
    pub fn cut(&mut self, links: &[Link]) {
        self.cut.extend(links);
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub fn hold(&mut self, links: &[Link]) {
        for link in links {
            self.held.entry(*link).or_default();
        }
    }

    /// Delivers what these links hold, and no longer holds it.
    pub fn release(&mut self, links: &[Link]) {
        for link in links {
            self.flying.extend(self.held.remove(link).unwrap_or_default());
        }
        self.settle();
    }

    /// The oldest messages on a link that holds them.
    pub fn deliver(&mut self, link: Link, count: usize) -> Result<(), String> {
        for message in self.take_held(link, count)? {
            self.receive(message);
        }
        self.settle();
        Ok(())
    }

    pub fn drop(&mut self, link: Link, count: usize) -> Result<(), String> {
        for message in self.take_held(link, count)? {
            self.note(format!("{} (dropped)", words::message(&message)));
        }
        Ok(())
    }

    /// The oldest message on a link comes a second time, after all others on it.
    pub fn duplicate(&mut self, link: Link) -> Result<(), String> {
        let held = self.held.get_mut(&link).ok_or("that link is not held")?;
        let again = held.front().ok_or("that link holds nothing")?.clone();
        held.push_back(again);
        Ok(())
    }

    /// The newest message on a link overtakes all others.
    pub fn reverse(&mut self, link: Link) -> Result<(), String> {
        let held = self.held.get_mut(&link).ok_or("that link is not held")?;
        held.make_contiguous().reverse();
        Ok(())
    }

    pub fn links(&self) -> Vec<Link> {
        let ids = self.ids();
        let from = |&from: &NodeId| ids.iter().map(move |&to| (from, to));
        ids.iter().flat_map(from).filter(|(from, to)| from != to).collect()
    }

    /// Every link of one server, both ways.
    pub fn links_of(&self, id: NodeId) -> Vec<Link> {
        self.links().into_iter().filter(|&(from, to)| from == id || to == id).collect()
    }

    pub fn held_messages(&self) -> impl Iterator<Item = &Message> {
        self.held.values().flatten()
    }

    // Disks.

    pub fn hold_disk(&mut self, id: NodeId) {
        self.held_disks.insert(id);
    }

    pub fn release_disk(&mut self, id: NodeId) {
        self.held_disks.remove(&id);
        self.settle();
    }

    /// Completes the oldest writes of a disk that is held, with one completion for them all.
    pub fn complete(&mut self, id: NodeId, count: usize) {
        self.complete_writes(id, count);
        self.settle();
    }

    // What happens.

    fn step_tick(&mut self, id: NodeId) {
        let clock = self.clocks.entry(id).or_insert(10);
        *clock += 10;
        let now = *clock;
        self.step(id, Input::Clock(now));
        self.step(id, Input::Tick);
    }

    fn settle(&mut self) {
        for _ in 0..DELIVERIES_MAX {
            let busy =
                |server: &&Server| server.disk.outstanding() > 0 && !self.held_disks.contains(&server.id);
            let carries =
                |server: &&Server| !server.jobs.is_empty() && !self.held_snapshots.contains(&server.id);
            if let Some(id) = self.servers.values().find(busy).map(|server| server.id) {
                self.complete_writes(id, 1);
            } else if let Some(id) = self.servers.values().find(carries).map(|server| server.id) {
                self.finish_job(id, true);
            } else if let Some(message) = self.flying.pop_front() {
                self.receive(message);
            } else {
                return;
            }
        }
        panic!("the cluster does not come to rest");
    }

    fn receive(&mut self, message: Message) {
        let to = message.to;
        let line = words::message(&message);
        if !self.servers.get(&to).is_some_and(Server::is_up) {
            return self.note(format!("{line} ({to} is down)"));
        }
        self.note(line);
        self.step(to, Input::Message(message));
    }

    fn complete_writes(&mut self, id: NodeId, count: usize) {
        let Some(completion) = self.server(id).written(count) else { return };
        if self.held_disks.contains(&id) {
            self.note(format!("{id} has written {count}"));
        }
        self.dispatch(completion.release);
        self.step(id, Input::Persisted(completion.id));
    }

    fn finish_job(&mut self, id: NodeId, whole: bool) {
        let states = self.witness.states.clone();
        if let Some(input) = self.server(id).finish_job(&states, whole) {
            match &input {
                Input::Snapshotted(snapshot) => self.note(format!("{id} has taken {:?}", snapshot.position)),
                Input::Received(snapshot) => self.note(format!("{id} has received {:?}", snapshot.position)),
                _ => self.note(format!("{id} has received what was not sent")),
            }
            self.step(id, input);
        }
    }

    fn boot(&mut self, id: NodeId) {
        let effects = self.server(id).boot();
        self.witness.booted(&self.servers, id, &effects);
        let told = self.current(id);
        let status = told.status;
        self.told.insert(id, told);
        self.note(format!("{id} boots in term {} with {} entries", status.term, status.last));
        self.follow(id, effects);
    }

    fn step(&mut self, id: NodeId, input: Input) {
        let effects = self.server(id).step(input).unwrap_or_else(|| panic!("{id} is down"));
        self.witness.stepped(&self.servers, id, &effects);
        self.follow(id, effects);
    }

    /// Carries out effects and tells of them.
    fn follow(&mut self, id: NodeId, effects: Effects) {
        let outcome = self.server(id).carry_out(effects);
        self.witness.carried_out(&self.servers[&id], &outcome);
        self.tell(id, &outcome);
        self.dispatch(outcome.send);
    }

    fn dispatch(&mut self, messages: Vec<Message>) {
        for message in messages {
            self.witness.leaving(&self.servers, &message);
            let link = (message.from, message.to);
            if self.cut.contains(&link) {
                self.note(format!("{} (cut)", words::message(&message)));
            } else if let Some(held) = self.held.get_mut(&link) {
                self.trace.push(format!("{} (held)", words::message(&message)));
                held.push_back(message);
            } else {
                self.flying.push_back(message);
            }
        }
    }

    fn status_of(&self, id: NodeId) -> Status {
        self.status(id.0)
    }

    fn server(&mut self, id: NodeId) -> &mut Server {
        self.servers.get_mut(&id).unwrap_or_else(|| panic!("there is no {id}"))
    }

    fn take_held(&mut self, link: Link, count: usize) -> Result<Vec<Message>, String> {
        let held = self.held.get_mut(&link).ok_or("that link is not held")?;
        if held.len() < count {
            return Err(format!("that link holds {} messages, not {count}", held.len()));
        }
        Ok(held.drain(..count).collect())
    }
}

/// The next seed whose boots do not draw the least timeout soon: `forget` needs the tick between.
fn patient_seed(from: u64) -> u64 {
    const BOOTS: u64 = 4;
    const DRAWS: usize = 6;
    let patient = |seed: &u64| {
        (1..=BOOTS).all(|boot| {
            let mut random = Random::new(seed.wrapping_add(boot));
            (0..DRAWS).all(|_| !random.next().is_multiple_of(u64::from(ELECTION_TICKS)))
        })
    };
    (from..).find(patient).unwrap_or(from)
}
