//! One simulated schedule: servers, network, disks, clients and faults on one queue of events in virtual time.
//!
//! In: a seed. Out: a hash over all that happened and what was seen, or a panic at the first broken invariant.
//! Never: a real clock, or anything that the seed does not decide.
//!
//! Chaos comes first; then everything heals, and the cluster must come together and serve again. New kinds of
//! trouble are a feature in `swarm` and an arm in [`World::fault`]; new kinds of requests an arm in
//! [`World::request`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use mkraft_node::raft::{
    Body, Configuration, Effects, Input, Message, NodeId, Options, Proposal, RequestId, RoleName, Status,
    Term, Write, WriteId,
};

use super::random::Random;
use super::server::{Outcome, Server};
use super::swarm::{LATE_COMPLETION_MAX, STRAGGLER_MAX, Swarm};
use super::witness::{Seen, Servers, Witness};
use super::words;

/// Units of time in a tick.
const TICK: u64 = 10;
const CHAOS: u64 = 180 * TICK;
/// From the heal until a leader must have brought all into line, in least election timeouts.
const RECOVERY_TIMEOUTS: u64 = 15;
/// From the last requests until all must have heard of them.
const LAST_WORDS: u64 = 30 * TICK;
/// With more than this, a paused server finds no further messages when it wakes.
const PAUSED_INBOX_MAX: usize = 100;

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
    calm: bool,
    trace: Trace,
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
    Request,
    /// A client asks this server, whatever it has become.
    Read(NodeId),
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
}

pub fn run(seed: u64, print: bool) -> Finished {
    let mut world = World::new(seed, print);
    world.schedule(0, Event::Request);
    world.schedule(0, Event::Fault);
    world.run_until(CHAOS);
    world.heal_for_good();
    let recovered = CHAOS + RECOVERY_TIMEOUTS * u64::from(world.swarm.election_ticks) * TICK;
    world.run_until(recovered);
    let leader = world.sole_leader();
    let last = world.ask(leader, true);
    let read = world.ask(leader, false);
    world.run_until(recovered + LAST_WORDS);
    world.check_recovered(leader, last, read);
    Finished { hash: world.trace.hash.finish(), seen: world.witness.seen }
}

impl World {
    fn new(seed: u64, print: bool) -> World {
        let mut random = Random::new(seed);
        let swarm = Swarm::draw(&mut random);
        let voters = (1..=swarm.nodes).map(NodeId).collect();
        let configuration = Configuration { voters, ..Default::default() };
        let mut world = World {
            swarm,
            servers: Servers::new(),
            witness: Witness::new(configuration.clone()),
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
            calm: false,
            trace: Trace { hash: DefaultHasher::new(), print },
            random,
        };
        world.trace.note(0, format_args!("{:?}", world.swarm));
        for &id in &configuration.voters {
            let options = Options {
                id,
                election_ticks: world.swarm.election_ticks,
                heartbeat_ticks: world.swarm.election_ticks / 3,
                append_bytes_max: world.swarm.append_bytes_max,
                inflight_bytes_max: world.swarm.inflight_bytes_max,
                uncommitted_entries_max: world.swarm.uncommitted_entries_max,
                seed: world.random.next(),
            };
            world.servers.insert(id, Server::new(options, configuration.clone()));
            let drift = if world.swarm.drift { world.random.between(5, 25) } else { TICK };
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
                self.trace.note(self.now, format_args!("{}", words::message(&message)));
                self.offer(message.to, Input::Message(message));
            }
            Event::Drain(id) => {
                if !self.paused.contains(&id) {
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
            Event::Read(id) if !self.calm && self.servers[&id].is_up() => drop(self.ask(id, false)),
            Event::Request | Event::Fault | Event::Read(_) => {}
            Event::Restart(id) => {
                if !self.servers[&id].is_up() {
                    self.boot(id);
                }
            }
            Event::Wake(id) => self.wake(id),
        }
    }

    // Servers.

    /// Hands an input to a server that runs; one that is paused finds it when it wakes.
    fn offer(&mut self, id: NodeId, input: Input) {
        if !self.servers[&id].is_up() {
            return;
        }
        let paused = self.paused.contains(&id);
        let inbox = self.inbox.entry(id).or_default();
        if !paused && !self.swarm.batches && inbox.is_empty() {
            return self.process(id, vec![input]);
        }
        // Only what the network brings is lost.
        if paused && inbox.len() >= PAUSED_INBOX_MAX && matches!(input, Input::Message(_)) {
            return;
        }
        inbox.push(input);
        if !paused && inbox.len() == 1 {
            let soon = self.random.between(0, TICK / 2);
            self.schedule(soon, Event::Drain(id));
        }
    }

    fn process(&mut self, id: NodeId, inputs: Vec<Input>) {
        let before = self.standing(id);
        let mut all = Effects::default();
        for input in inputs {
            let Some(effects) = self.server(id).step(input) else { return };
            self.witness.stepped(&self.servers, id, &effects);
            all.absorb(effects);
        }
        self.check_peers(id);
        self.carry_out(id, all);
        let sudden = self.swarm.sudden_crashes && self.random.percent(1) && self.random.percent(30);
        let election = self.standing(id) != before && self.random.percent(self.swarm.crashes_in_elections);
        if !self.calm && (sudden || election) {
            self.crash(id);
        }
    }

    fn carry_out(&mut self, id: NodeId, effects: Effects) {
        if effects.is_empty() {
            return;
        }
        let outcome = self.server(id).carry_out(effects);
        self.tell(id, &outcome);
        if outcome.wrote.is_some() {
            let most = if self.calm { 2 } else { self.swarm.write_max };
            let takes = self.random.between(0, most);
            let boot = self.servers[&id].boot;
            self.schedule(takes, Event::Written(id, boot));
        }
        outcome.send.into_iter().for_each(|message| self.transmit(message));
    }

    fn tell(&mut self, id: NodeId, outcome: &Outcome) {
        let Some(core) = self.servers[&id].core() else { return };
        let Status { term, role, last, commit, .. } = core.status();
        let now = format_args!("{id} {}@{term} last={last} commit={commit}", words::role(role)).to_string();
        if let Some(Write { truncate_after, entries, .. }) = &outcome.wrote {
            let cut = truncate_after.map_or(String::new(), |after| format!(" cut after {after},"));
            self.trace.note(self.now, format_args!("{now}: writes{cut} {}", words::positions(entries)));
        }
        for reply in &outcome.replies {
            self.trace.note(self.now, format_args!("{now}: {reply:?}"));
        }
    }

    fn written(&mut self, id: NodeId, boot: u64) {
        let server = self.server(id);
        if !server.is_up() || server.boot != boot {
            return;
        }
        let outstanding = server.disk.outstanding();
        // Now and then one sync serves several writes.
        let count = if outstanding > 1 && self.random.percent(30) { outstanding } else { 1 };
        let Some(completion) = self.server(id).disk.complete(count) else { return };
        self.trace.note(self.now, format_args!("{id} has written {count}"));
        completion.release.into_iter().for_each(|message| self.transmit(message));
        let late = self.swarm.late_completions && !self.calm && self.random.percent(20);
        let takes = if late { self.random.between(1, LATE_COMPLETION_MAX) } else { 0 };
        // Late, but never before the completion of an earlier write.
        let busy = self.busy.entry((id, id)).or_default();
        *busy = (self.now + takes).max(*busy);
        let takes = *busy - self.now;
        self.schedule(takes, Event::Completed(id, boot, completion.id));
    }

    fn boot(&mut self, id: NodeId) {
        let effects = self.server(id).boot();
        self.trace.note(self.now, format_args!("{id} boots"));
        self.witness.booted(&self.servers, id, &effects);
        self.carry_out(id, effects);
    }

    fn crash(&mut self, id: NodeId) {
        self.witness.compare_with_disks(&self.servers);
        let outstanding = self.servers[&id].disk.outstanding() as u64;
        let kept = self.random.between(0, outstanding) as usize;
        self.trace.note(self.now, format_args!("{id} crashes, {kept} of {outstanding} writes kept"));
        self.server(id).crash(kept);
        self.inbox.remove(&id);
        self.paused.remove(&id);
        let down = self.random.between(0, self.swarm.down_max * TICK);
        self.schedule(down, Event::Restart(id));
    }

    fn wake(&mut self, id: NodeId) {
        if self.paused.remove(&id) {
            self.trace.note(self.now, format_args!("{id} wakes"));
            self.schedule(0, Event::Drain(id));
        }
    }

    // The network.

    fn transmit(&mut self, message: Message) {
        self.witness.leaving(&self.servers, &message);
        let link = (message.from, message.to);
        if self.cut.contains(&link) {
            if self.swarm.cuts_hold {
                self.held.push(message);
            }
            return;
        }
        if !self.calm && self.random.percent(self.swarm.loss) {
            return;
        }
        if !self.calm && self.random.percent(self.swarm.duplicates) {
            self.arrive(link, message.clone());
        }
        self.arrive(link, message);
    }

    fn arrive(&mut self, link: Link, message: Message) {
        let asks = matches!(message.body, Body::RequestVote { pre: false, .. });
        let chance = if asks { self.swarm.straggling_candidates } else { self.swarm.stragglers };
        let straggles = !self.calm && self.random.percent(chance);
        let most = if straggles { STRAGGLER_MAX } else { self.swarm.delay_max };
        let takes = self.random.between(1, if self.calm { 3 } else { most });
        let mut due = self.now + takes;
        if !self.swarm.reorder {
            let busy = self.busy.entry(link).or_default();
            due = due.max(*busy);
            *busy = due;
        }
        self.schedule(due - self.now, Event::Arrive(message));
    }

    fn heal(&mut self) {
        self.trace.note(self.now, format_args!("all links heal"));
        self.cut.clear();
        for message in std::mem::take(&mut self.held) {
            self.arrive((message.from, message.to), message);
        }
    }

    // Clients and faults.

    fn request(&mut self) {
        let ids: Vec<NodeId> = self.servers.keys().copied().collect();
        let leading = |id: &&NodeId| self.role(**id) == Some(RoleName::Leader);
        // Old leaders too: they are the ones that must not answer.
        let leaders: Vec<NodeId> = ids.iter().filter(leading).copied().collect();
        let among = if leaders.is_empty() || self.random.percent(10) { ids } else { leaders };
        let Some(&id) = self.random.pick(&among) else { return };
        if self.servers[&id].is_up() {
            let write = !self.random.percent(self.swarm.reads);
            self.ask(id, write);
        }
    }

    fn ask(&mut self, id: NodeId, write: bool) -> RequestId {
        self.requests += 1;
        let name = self.requests;
        let input = if write {
            self.witness.proposing(&self.servers, id, name);
            Input::Propose(vec![Proposal { id: name, payload: format!("w{name}").into_bytes().into() }])
        } else {
            self.witness.reading(&self.servers, id, name);
            Input::Read(vec![name])
        };
        self.offer(id, input);
        name
    }

    fn fault(&mut self) {
        let ids: Vec<NodeId> = self.servers.keys().copied().collect();
        let leading = |id: &&NodeId| self.role(**id) == Some(RoleName::Leader);
        let leaders: Vec<NodeId> = ids.iter().filter(leading).copied().collect();
        let biased = if leaders.is_empty() || self.random.percent(50) { &ids } else { &leaders };
        let Some(&victim) = self.random.pick(biased) else { return };
        // Its clients stay with it for a while.
        let stay = if leaders.contains(&victim) && self.random.percent(self.swarm.reads) { 8 } else { 0 };
        for _ in 0..stay {
            let after = self.random.between(1, 3 * u64::from(self.swarm.election_ticks) * TICK);
            self.schedule(after, Event::Read(victim));
        }
        let cuts_before = self.cut.len();
        match self.random.between(0, 5) {
            0 if self.swarm.crashes && self.servers[&victim].is_up() => self.crash(victim),
            1 if self.swarm.pauses && self.servers[&victim].is_up() => {
                let span = self.random.between(1, 60 * TICK);
                self.trace.note(self.now, format_args!("{victim} pauses for {span}"));
                self.paused.insert(victim);
                self.schedule(span, Event::Wake(victim));
            }
            2 if self.swarm.one_way_cuts => {
                let Some(&other) = self.random.pick(&ids) else { return };
                self.cut.insert((victim, other));
            }
            3 if self.swarm.isolations => {
                let links = ids.iter().flat_map(|&id| [(id, victim), (victim, id)]);
                self.cut.extend(links);
            }
            4 if self.swarm.partitions => {
                let side: BTreeSet<NodeId> =
                    ids.iter().copied().filter(|_| self.random.percent(50)).collect();
                let links = ids.iter().flat_map(|&from| ids.iter().map(move |&to| (from, to)));
                let across = links.filter(|(from, to)| side.contains(from) != side.contains(to));
                self.cut.extend(across);
            }
            _ => self.heal(),
        }
        if self.cut.len() > cuts_before {
            self.trace.note(self.now, format_args!("cut: {:?}", self.cut));
        }
    }

    // The end.

    fn heal_for_good(&mut self) {
        self.calm = true;
        self.heal();
        for id in self.servers.keys().copied().collect::<Vec<_>>() {
            self.wake(id);
            if !self.servers[&id].is_up() {
                self.boot(id);
            }
        }
    }

    fn sole_leader(&self) -> NodeId {
        let leaders: Vec<NodeId> =
            self.servers.keys().copied().filter(|id| self.role(*id) == Some(RoleName::Leader)).collect();
        let [leader] = leaders[..] else { panic!("{leaders:?} lead long after all has healed") };
        leader
    }

    fn check_recovered(&self, leader: NodeId, last: RequestId, read: RequestId) {
        assert!(self.witness.is_done(last), "{leader} does not commit after all has healed");
        assert!(self.witness.is_done(read), "{leader} answers no read after all has healed");
        self.witness.compare_with_disks(&self.servers);
        assert_eq!(self.witness.open_reads(&self.servers), 0, "reads were neither answered nor refused");
        let Some(led) = self.servers[&leader].core() else { panic!("{leader} is down") };
        for (id, server) in &self.servers {
            let Some(core) = server.core() else { panic!("{id} is down") };
            assert!(core.entries().eq(led.entries()), "{id} ends with another log than {leader}");
            let status = core.status();
            assert_eq!(status.commit, status.last, "{id} has not learned what is committed");
            assert_eq!(server.applied_index(), status.last, "{id} has not applied what is committed");
            assert_eq!(status.leader, Some(leader), "{id} follows another");
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
