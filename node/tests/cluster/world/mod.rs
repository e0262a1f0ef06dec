//! One simulated schedule: servers, network, disks, clients and faults on one queue of events in virtual time.
//!
//! In: a seed. Out: a hash over all that happened and what was seen, or a panic at the first broken invariant.
//! Never: a real clock, or anything that the seed does not decide.
//!
//! Chaos comes first; then everything heals, and the cluster must come together and serve again. New kinds of
//! trouble are a feature in `swarm` and an arm in [`World::fault`]; new kinds of requests an arm in
//! [`World::request`].

mod clients;
mod ending;
mod evidence;
mod network;
mod servers;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use mkraft_node::raft::{
    Body, Change, Configuration, Effects, Input, Message, NodeId, Options, Proposal, RequestId, RoleName,
    Status, Term, Write, WriteId,
};

use clients::Clients;
use evidence::Evidence;

use super::random::Random;
use super::server::{Outcome, Server};
use super::swarm::{ABSENCE_MAX, LATE_ANSWER_MAX, LATE_COMPLETION_MAX, STRAGGLER_MAX, Swarm};
use super::witness::{Seen, Servers, Witness};
use super::words;

/// Units of time in a tick.
const TICK: u64 = 10;
const CHAOS: u64 = 180 * TICK;
/// From the heal until a leader must have brought all into line, in least election timeouts.
const RECOVERY_TIMEOUTS: u64 = 15;
/// For who needs a snapshot, beside the time that all chunks to all servers take at their bounded rate.
const INSTALLATION: u64 = 80 * TICK;
/// From the last requests until all must have heard of them.
const LAST_WORDS: u64 = 30 * TICK;
/// How often it is seen whether that is so.
const LOOK_EVERY: u64 = 3 * TICK;
/// With more than this, a paused server finds no further messages when it wakes.
const PAUSED_INBOX_MAX: usize = 100;

/// A fifth of the promise is left to clocks that drift, and a tick to the one that may come early.
fn lease(election_ticks: u32) -> u64 {
    u64::from(election_ticks - 1) * TICK * 8 / 10
}

type Link = (NodeId, NodeId);

pub struct World {
    random: Random,
    swarm: Swarm,
    servers: Servers,
    witness: Witness,
    now: u64,
    /// By time, then by the order of their making.
    events: BTreeMap<(u64, u64), Event>,
    made: u64,
    cut: BTreeSet<Link>,
    /// What cut links hold, oldest first.
    held: Vec<Message>,
    /// When the last message on a link arrives, where none may overtake another.
    busy: BTreeMap<Link, u64>,
    inbox: BTreeMap<NodeId, Vec<Input>>,
    paused: BTreeSet<NodeId>,
    ticks: BTreeMap<NodeId, u64>,
    requests: RequestId,
    clients: Clients,
    calm: bool,
    trace: Trace,
    evidence: Option<Evidence>,
}

#[derive(Debug)]
enum Event {
    Tick(NodeId),
    Arrive(Message),
    Drain(NodeId),
    /// The disk has finished a write of this boot.
    Written(NodeId, u64),
    /// The core of this boot hears of it.
    Completed(NodeId, u64, WriteId),
    /// The oldest snapshot that this boot has under way is done.
    Carried(NodeId, u64),
    Request,
    /// A client asks this server, whatever it has become; or for an answer of its own.
    Read(NodeId),
    ReadHere(NodeId),
    Fault,
    Restart(NodeId),
    Wake(NodeId),
}

/// A hash over all lines, which are printed only for who replays.
struct Trace {
    hash: DefaultHasher,
    print: bool,
}

pub struct Finished {
    pub hash: u64,
    pub seen: Seen,
    /// Each feature, and whether it was drawn in.
    pub features: Vec<(&'static str, bool)>,
}

/// What to make of a schedule beside its hash.
#[derive(Clone, Copy, Default)]
pub struct Telling<'a> {
    /// All that happens.
    pub print: bool,
    /// Where the run folder goes. It is that of nodes as they are: they wait for their disks, which do not rot.
    pub evidence: Option<&'a Path>,
}

pub fn run(seed: u64, telling: Telling<'_>) -> Finished {
    let mut world = World::new(seed, telling);
    world.schedule(0, Event::Request);
    world.schedule(0, Event::Fault);
    world.run_until(CHAOS);
    world.heal_for_good();
    let recovery = world.installation() + RECOVERY_TIMEOUTS * u64::from(world.swarm.election_ticks) * TICK;
    // What chaos has sent on its way may still depose a leader, and a transfer may be under way.
    world.run_until(CHAOS + STRAGGLER_MAX + 2 * u64::from(world.swarm.election_ticks) * TICK);
    world.run_until_true(CHAOS + recovery, World::is_in_line);
    let leader = world.sole_leader();
    world.close_history(leader);
    let last = world.write(leader);
    let read = world.read(leader, false);
    world.run_until_true(world.now + LAST_WORDS, |world| {
        world.is_in_line() && world.witness.is_done(last) && world.witness.is_done(read)
    });
    world.check_recovered(leader, last, read);
    if let Some(evidence) = world.evidence.take() {
        let written = evidence.finish(world.now, &world.servers);
        written.unwrap_or_else(|error| panic!("failed to write the run folder of seed {seed}: {error}"));
    }
    let features = world.swarm.features();
    Finished { hash: world.trace.hash.finish(), seen: world.witness.seen, features }
}

impl World {
    fn new(seed: u64, telling: Telling<'_>) -> World {
        let mut random = Random::new(seed);
        let mut swarm = Swarm::draw(&mut random);
        if telling.evidence.is_some() {
            (swarm.waits_for_disk, swarm.damaged_snapshots) = (true, 0);
        }
        let evidence = telling.evidence.map(|root| {
            let election_ms = u64::from(swarm.election_ticks) * TICK;
            Evidence::new(evidence::folder(root, seed), seed, election_ms)
        });
        let voters: BTreeSet<NodeId> = (1..=swarm.nodes).map(NodeId).collect();
        let all = (1..=swarm.nodes + swarm.spares).map(NodeId);
        let configuration = Configuration { voters, ..Default::default() };
        let promote_lag_entries_max = swarm.promote_lag_entries_max;
        let mut world = World {
            servers: Servers::new(),
            witness: Witness::new(configuration.clone(), promote_lag_entries_max),
            now: 0,
            events: BTreeMap::new(),
            made: 0,
            cut: BTreeSet::new(),
            held: Vec::new(),
            busy: BTreeMap::new(),
            inbox: BTreeMap::new(),
            paused: BTreeSet::new(),
            ticks: BTreeMap::new(),
            requests: 0,
            clients: Clients::new(swarm.clients),
            swarm,
            calm: false,
            trace: Trace { hash: DefaultHasher::new(), print: telling.print },
            evidence,
            random,
        };
        world.trace.note(0, format_args!("{:?}", world.swarm));
        for id in all {
            let options = Options {
                id,
                election_ticks: world.swarm.election_ticks,
                heartbeat_ticks: world.swarm.election_ticks / 3,
                append_bytes_max: world.swarm.append_bytes_max,
                inflight_bytes_max: world.swarm.inflight_bytes_max,
                uncommitted_entries_max: world.swarm.uncommitted_entries_max,
                compact_entries: world.swarm.compact_entries,
                compact_bytes: world.swarm.compact_bytes,
                tail_entries: world.swarm.tail_entries,
                tail_bytes: world.swarm.tail_bytes,
                chunk_bytes: world.swarm.chunk_entries,
                chunks_per_tick: world.swarm.chunks_per_tick,
                chunks_inflight_max: world.swarm.chunks_inflight_max,
                promote_lag_entries_max,
                patience: if id.0 == world.swarm.nodes { world.swarm.patience } else { 0 },
                lease: world.swarm.leases.then(|| lease(world.swarm.election_ticks)),
                seed: world.random.next(),
            };
            let first =
                if configuration.voters.contains(&id) { configuration.clone() } else { Default::default() };
            let server = Server::new(options, first, world.swarm.waits_for_disk);
            world.servers.insert(id, server);
            // A lease is good within a bound on the drift.
            let (least, most) = if world.swarm.leases { (9, 11) } else { (5, 25) };
            let drift = if world.swarm.drift { world.random.between(least, most) } else { TICK };
            world.ticks.insert(id, drift);
            let first = world.random.between(0, TICK);
            world.schedule(first, Event::Tick(id));
            world.boot(id);
        }
        world
    }

    fn run_until(&mut self, end: u64) {
        while let Some(entry) = self.events.first_entry()
            && entry.key().0 <= end
        {
            let ((now, _), event) = entry.remove_entry();
            self.now = now;
            self.happen(event);
        }
        self.now = end;
    }

    fn installation(&self) -> u64 {
        let entries = self.servers.values().map(|server| server.applied.len() as u64).max().unwrap_or(0);
        let chunks = entries.div_ceil(self.swarm.chunk_entries) * self.servers.len() as u64;
        INSTALLATION + 2 * chunks.div_ceil(self.swarm.chunks_per_tick) * TICK
    }

    /// Until `fact` is seen, or the time to come to it is over.
    fn run_until_true(&mut self, end: u64, fact: impl Fn(&World) -> bool) {
        while self.now < end && !fact(self) {
            self.run_until(end.min(self.now + LOOK_EVERY));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(id) => {
                let tick = if self.calm { TICK } else { self.ticks[&id] };
                self.schedule(tick, Event::Tick(id));
                if !self.paused.contains(&id) {
                    self.offer(id, Input::Tick);
                }
            }
            Event::Arrive(message) => {
                self.trace.arrives(self.now, &message);
                self.offer(message.to, Input::Message(message));
            }
            Event::Drain(id) => {
                if !self.paused.contains(&id) && !self.servers[&id].is_waiting() {
                    let inputs = self.inbox.remove(&id).unwrap_or_default();
                    self.process(id, inputs);
                }
            }
            Event::Written(id, boot) => self.written(id, boot),
            Event::Completed(id, boot, write) => {
                if self.servers[&id].is_up() && self.servers[&id].boot == boot {
                    self.offer(id, Input::Persisted(write));
                }
            }
            Event::Carried(id, boot) => self.carried(id, boot),
            Event::Request if !self.calm => {
                let every = self.random.between(1, 2 * self.swarm.request_every);
                self.schedule(every, Event::Request);
                self.request();
            }
            Event::Fault if !self.calm => {
                let every = self.random.between(1, 2 * self.swarm.fault_every);
                self.schedule(every, Event::Fault);
                self.fault();
            }
            Event::Read(id) if !self.calm && self.servers[&id].is_up() => drop(self.read(id, false)),
            Event::ReadHere(id) if !self.calm && self.servers[&id].is_up() => drop(self.read(id, true)),
            Event::Request | Event::Fault | Event::Read(_) | Event::ReadHere(_) => {}
            Event::Restart(id) => {
                if !self.servers[&id].is_up() {
                    self.boot(id);
                }
            }
            Event::Wake(id) => self.wake(id),
        }
    }

    /// What a correct peer sends is never refused.
    fn check_peers(&self, id: NodeId) {
        let refused = self.servers[&id].core().map_or(0, |core| core.refused());
        assert_eq!(refused, 0, "{id} refuses a message of a correct peer");
    }

    fn standing(&self, id: NodeId) -> Option<(Term, RoleName)> {
        self.servers[&id].core().map(|core| (core.status().term, core.status().role))
    }

    fn role(&self, id: NodeId) -> Option<RoleName> {
        self.servers[&id].core().map(|core| core.status().role)
    }

    fn server(&mut self, id: NodeId) -> &mut Server {
        self.servers.get_mut(&id).unwrap_or_else(|| panic!("there is no {id}"))
    }

    fn schedule(&mut self, after: u64, event: Event) {
        self.made += 1;
        self.events.insert((self.now + after, self.made), event);
    }
}

impl Trace {
    /// The most frequent line by far: its words are made only for who reads them.
    fn arrives(&mut self, now: u64, message: &Message) {
        self.hash.write_u64(now);
        (message.from, message.to, message.term, words::facts(&message.body)).hash(&mut self.hash);
        if self.print {
            println!("{now:>6} {}", words::message(message));
        }
    }

    fn note(&mut self, now: u64, line: fmt::Arguments<'_>) {
        struct Into<'a>(&'a mut DefaultHasher);
        impl fmt::Write for Into<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.write(text.as_bytes());
                Ok(())
            }
        }
        self.hash.write_u64(now);
        if fmt::write(&mut Into(&mut self.hash), line).is_err() {
            unreachable!("a hash takes every byte");
        }
        if self.print {
            println!("{now:>6} {line}");
        }
    }
}
