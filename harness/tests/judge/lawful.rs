//! Random runs of a lawful Raft, as evidence: elections, commits, kills, truncations, boots, dumps, clients.
//!
//! In: a seed. Out: the lines of a run folder. Never: a network or a clock; what a cluster could do is chosen step
//! by step, with the rules of the paper kept, so that every check must hold; or with one of them broken throughout,
//! as a bug in a node would, so that everything that is wrong follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use mkraft_harness::check::judge;
use mkraft_harness::history::folder::RunFolder;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Who vote in the beginning.
const VOTERS: usize = 3;
const EPOCH: u64 = 1_000_000_000;

/// The lines of each file, by its path from the root.
#[derive(Clone)]
pub struct Run {
    pub lines: BTreeMap<String, Vec<Value>>,
    pub info: Value,
    scenario: String,
}

impl Run {
    pub fn write(&self, root: &Path) {
        fs::write(root.join("scenario.yaml"), &self.scenario).unwrap();
        fs::write(root.join("run.json"), self.info.to_string()).unwrap();
        for (name, lines) in &self.lines {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            fs::write(path, text).unwrap();
        }
    }
}

/// A rule of the paper that every node breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    VoteTwice,
    ForgetVote,
    VoteForStaleLog,
    CommitBeforeMajority,
    CommitOlderTerm,
    ApplyBeforeCommit,
    ReadWithoutQuorum,
    /// In a joint configuration, those who come decide alone.
    CommitByOneMajority,
}

/// Who counts. Of those who go, while they count too, a majority is needed as well.
#[derive(Debug, Clone, PartialEq, Default)]
struct Config {
    voters: Vec<usize>,
    outgoing: Vec<usize>,
}

impl Config {
    fn has(&self, node: usize) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    fn agree(&self, agrees: impl Fn(usize) -> bool) -> bool {
        let majority = |group: &Vec<usize>| {
            group.is_empty() || group.iter().filter(|&&node| agrees(node)).count() > group.len() / 2
        };
        majority(&self.voters) && majority(&self.outgoing)
    }
}

#[derive(Clone, PartialEq)]
struct Entry {
    term: u64,
    kind: &'static str,
    digest: String,
    ticket: (u64, u64),
    operation: Option<usize>,
    config: Option<Config>,
}

/// A client's operation that is not complete.
#[derive(Clone)]
struct Pending {
    process: u64,
    f: &'static str,
    value: Value,
    ticket: (u64, u64),
    done: bool,
}

#[derive(Default)]
struct Node {
    boot: usize,
    alive: bool,
    leads: bool,
    term: u64,
    vote: Option<usize>,
    log: Vec<Entry>,
    commit: usize,
    applied: usize,
    /// The key's value, after what it applied.
    state: Value,
}

struct World {
    rng: ChaCha8Rng,
    t: u64,
    nodes: Vec<Node>,
    lines: BTreeMap<String, Vec<Value>>,
    history: Vec<Value>,
    pending: Vec<Pending>,
    plan: Vec<Value>,
    ends: Vec<Vec<Value>>,
    next: u64,
    bug: Option<Bug>,
    settling: bool,
    /// Followers are killed between two lines too.
    sudden: bool,
    /// There is a spare, and members change.
    changing: bool,
}

fn name(node: usize) -> String {
    format!("n{}", node + 1)
}

impl World {
    fn tick(&mut self) -> u64 {
        self.t += self.rng.random_range(1_000..2_000_000);
        self.t
    }

    fn event(&mut self, node: usize, event: Value) {
        let t = self.tick();
        let boot = self.nodes[node].boot;
        let file = format!("nodes/{}/events/boot-{boot:04}.jsonl", name(node));
        let lines = self.lines.entry(file).or_default();
        let mut line = json!({"seq": lines.len() + 1, "t": t, "node": name(node), "boot": boot});
        line.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
        lines.push(line);
    }

    fn record(&mut self, op: Value) {
        let t = self.tick();
        let mut line = json!({"index": self.history.len(), "time": t});
        line.as_object_mut().unwrap().extend(op.as_object().unwrap().clone());
        self.history.push(line);
    }

    fn role(&mut self, node: usize, term: u64, role: &str) {
        (self.nodes[node].leads, self.nodes[node].term) = (role == "leader", term);
        self.event(node, json!({"event": "role", "term": term, "role": role, "leader": null}));
    }

    /// The newest in a node's log, with the index of its entry.
    fn config(&self, node: usize) -> (usize, Config) {
        self.config_upto(node, self.nodes[node].log.len())
    }

    fn config_upto(&self, node: usize, upto: usize) -> (usize, Config) {
        let log = self.nodes[node].log[..upto].iter().enumerate().rev();
        let mut held = log.filter_map(|(at, entry)| Some((at + 1, entry.config.clone()?)));
        let first = Config { voters: (0..VOTERS).collect(), outgoing: Vec::new() };
        // A spare knows of nobody until its log tells.
        let first = if node < VOTERS { first } else { Config::default() };
        held.next().unwrap_or((0, first))
    }

    fn tell_config(&mut self, node: usize) {
        if self.changing {
            let (index, Config { voters, outgoing }) = self.config(node);
            let [voters, outgoing] =
                [voters, outgoing].map(|all| all.into_iter().map(name).collect::<Vec<_>>());
            self.event(
                node,
                json!({"event": "config", "index": index, "voters": voters, "outgoing": outgoing, "learners": []}),
            );
        }
    }

    /// A leader whose term and configuration are committed changes the voters.
    fn change(&mut self, leader: usize) {
        let (index, Config { voters, outgoing }) = self.config(leader);
        let Node { commit, log, term, .. } = &self.nodes[leader];
        let own = *commit > 0 && log[*commit - 1].term == *term;
        if !self.changing || self.settling || !own || index > *commit || !outgoing.is_empty() {
            return;
        }
        let mut next = voters.clone();
        let out = self.rng.random_range(0..next.len());
        let spare = (0..self.nodes.len()).find(|node| !voters.contains(node));
        match (self.rng.random_range(0..3), spare) {
            (0, Some(spare)) => next[out] = spare,
            (1, Some(spare)) => next.push(spare),
            _ if next.len() > 2 => _ = next.remove(out),
            _ => return,
        }
        self.append_config(leader, Config { voters: next, outgoing: voters });
    }

    fn append_config(&mut self, leader: usize, config: Config) {
        let (term, digest) = (self.nodes[leader].term, self.digest());
        let config = Some(config);
        self.append(
            leader,
            vec![Entry { term, kind: "config", digest, ticket: (0, 0), operation: None, config }],
        );
    }

    fn boot(&mut self, node: usize) {
        if self.bug == Some(Bug::ForgetVote) {
            self.nodes[node].vote = None;
        }
        let Node { term, vote, log, .. } = &self.nodes[node];
        let (term, vote, last) = (*term, vote.map(name), log.len());
        self.nodes[node].boot += 1;
        self.nodes[node].state = Value::Null;
        (self.nodes[node].alive, self.nodes[node].commit, self.nodes[node].applied) = (true, 0, 0);
        self.event(node, begin(term, &vote, last));
        let split = self.rng.random_range(0..=last);
        for (first, end) in [(0, split), (split, last)] {
            if first < end {
                let event = append(&self.nodes[node].log[first..end], first + 1, true);
                self.event(node, event);
            }
        }
        self.tell_config(node);
    }

    fn elect(&mut self, candidate: usize) {
        let last = |node: &Node| (node.log.last().map_or(0, |entry| entry.term), node.log.len());
        let own = last(&self.nodes[candidate]);
        let willing = |&node: &usize| {
            let node = &self.nodes[node];
            node.alive && (last(node) <= own || self.bug == Some(Bug::VoteForStaleLog))
        };
        let (index, config) = self.config(candidate);
        // Who is removed may still lead until it knows that it is.
        let removed = !config.voters.contains(&candidate);
        if removed
            && (index <= self.nodes[candidate].commit
                || !self.config_upto(candidate, index - 1).1.has(candidate))
        {
            return;
        }
        let others = (0..self.nodes.len()).filter(|&node| node != candidate && config.has(node));
        let mut voters: Vec<usize> = others.filter(willing).collect();
        let enough = |voters: &[usize]| config.agree(|node| node == candidate || voters.contains(&node));
        if voters.is_empty() || !enough(&voters) {
            return;
        }
        if self.rng.random_bool(0.5) {
            while let Some(at) = (0..voters.len()).rev().find(|&at| {
                let rest: Vec<_> = voters.iter().copied().filter(|node| *node != voters[at]).collect();
                !rest.is_empty() && enough(&rest)
            }) {
                voters.remove(at);
            }
        }
        let highest = voters.iter().map(|&node| self.nodes[node].term).max().unwrap();
        let term = highest.max(self.nodes[candidate].term) + 1;
        self.role(candidate, term, "candidate");
        self.cast(candidate, term, candidate);
        for &voter in &voters {
            self.role(voter, term, "follower");
            self.cast(voter, term, candidate);
        }
        self.lead(candidate, term);
        if let ([voter], false) = (&voters[..], self.settling) {
            self.rival(candidate, *voter, term);
        }
    }

    /// With the votes of the same term, which a node gives twice or has forgotten.
    fn rival(&mut self, leader: usize, voter: usize, term: u64) {
        let Some(rival) = (0..VOTERS).find(|&node| node != leader && node != voter) else { return };
        let last = |node: &Node| (node.log.last().map_or(0, |entry| entry.term), node.log.len());
        let up_to_date = last(&self.nodes[rival]) >= last(&self.nodes[voter]);
        let free = self.nodes[rival].alive && self.nodes[rival].term <= term && up_to_date;
        match self.bug {
            Some(Bug::VoteTwice) if free => {}
            Some(Bug::ForgetVote) if free => {
                self.kill(voter);
                self.boot(voter);
            }
            _ => return,
        }
        self.role(rival, term, "candidate");
        self.cast(rival, term, rival);
        self.cast(voter, term, rival);
        self.lead(rival, term);
    }

    fn lead(&mut self, candidate: usize, term: u64) {
        self.role(candidate, term, "leader");
        let entry = Entry {
            term,
            kind: "noop",
            digest: self.digest(),
            ticket: (0, 0),
            operation: None,
            config: None,
        };
        self.append(candidate, vec![entry]);
    }

    fn cast(&mut self, node: usize, term: u64, candidate: usize) {
        self.nodes[node].vote = Some(candidate);
        self.event(node, json!({"event": "vote", "term": term, "for": name(candidate)}));
    }

    fn digest(&mut self) -> String {
        format!("{:016x}", self.rng.random::<u64>())
    }

    fn append(&mut self, node: usize, entries: Vec<Entry>) {
        let first = self.nodes[node].log.len() + 1;
        let configures = entries.iter().any(|entry| entry.config.is_some());
        self.event(node, append(&entries, first, false));
        self.nodes[node].log.extend(entries);
        if configures {
            self.tell_config(node);
        }
        if self.bug == Some(Bug::ApplyBeforeCommit) {
            self.apply(node, self.nodes[node].log.len());
        }
    }

    fn leader(&mut self) -> Option<usize> {
        let leads = |node: &usize| self.nodes[*node].alive && self.nodes[*node].leads;
        let leaders: Vec<usize> = (0..self.nodes.len()).filter(leads).collect();
        match self.bug {
            Some(Bug::VoteTwice | Bug::ForgetVote | Bug::ReadWithoutQuorum) => {
                leaders.choose(&mut self.rng).copied()
            }
            _ => leaders.into_iter().max_by_key(|&node| self.nodes[node].term),
        }
    }

    /// A write or a compare-and-swap of the one key, asked of `leader`.
    fn ask(&mut self, leader: usize, f: &'static str, value: Value) {
        self.next += 1;
        let (process, ticket) = (self.next, (self.next, 1));
        self.record(json!({"process": process, "type": "invoke", "f": f, "key": "k", "value": value,
            "node": name(leader), "session": ticket.0, "sequence": ticket.1}));
        let (term, digest) = (self.nodes[leader].term, self.digest());
        let operation = Some(self.pending.len());
        self.pending.push(Pending { process, f, value, ticket, done: false });
        self.append(leader, vec![Entry { term, kind: "command", digest, ticket, operation, config: None }]);
    }

    fn read(&mut self, leader: usize) {
        self.next += 1;
        let op = |kind: &str, process: u64, value: Value| json!({"process": process, "type": kind, "f": "read", "key": "k", "value": value, "node": name(leader)});
        self.record(op("invoke", self.next, Value::Null));
        let state = self.nodes[leader].state.clone();
        self.record(op("ok", self.next, state));
    }

    fn replicate(&mut self, leader: usize, follower: usize) {
        let term = self.nodes[leader].term;
        // Of two leaders of one term neither gives way to the other.
        let both_lead = self.nodes[follower].leads && self.nodes[follower].term == term;
        if self.nodes[follower].term > term || both_lead {
            return;
        }
        if self.nodes[follower].term < term || self.nodes[follower].leads {
            self.nodes[follower].vote =
                self.nodes[follower].vote.filter(|_| self.nodes[follower].term == term);
            self.role(follower, term, "follower");
        }
        let (own, other) = (&self.nodes[leader].log, &self.nodes[follower].log);
        // As nodes do: by term and index alone.
        let agree = own.iter().zip(other).take_while(|(own, other)| own.term == other.term).count();
        if agree < own.len().min(other.len()) {
            let before = self.config(follower);
            self.nodes[follower].log.truncate(agree);
            self.event(follower, json!({"event": "truncate", "after": agree}));
            if self.config(follower) != before {
                self.tell_config(follower);
            }
            if self.falls(follower) {
                return;
            }
        }
        let upto = self.rng.random_range(agree..=self.nodes[leader].log.len());
        let held = self.nodes[follower].log.len();
        if upto > held {
            let entries = self.nodes[leader].log[held..upto].to_vec();
            self.append(follower, entries);
        }
        let known = self.nodes[leader].commit.min(upto);
        self.commit(follower, known);
        self.advance(leader);
    }

    /// The leader commits what a majority holds, when it is of its own term.
    fn advance(&mut self, leader: usize) {
        let log = self.nodes[leader].log.clone();
        let holds = |node: &Node, index: usize| {
            let other = node.log.get(..index);
            other.is_some_and(|other| other.iter().zip(&log).all(|(one, other)| one.term == other.term))
        };
        let (_, mut config) = self.config(leader);
        if self.bug == Some(Bug::CommitByOneMajority) {
            config.outgoing.clear();
        }
        let quorum = |index: usize| match self.bug {
            Some(Bug::CommitBeforeMajority) => self.nodes.iter().any(|node| holds(node, index)),
            _ => config.agree(|node| holds(&self.nodes[node], index)),
        };
        let term = self.nodes[leader].term;
        let own = |index: usize| log[index - 1].term == term || self.bug == Some(Bug::CommitOlderTerm);
        let highest = (1..=log.len()).rev().find(|&index| own(index) && quorum(index));
        self.commit(leader, highest.unwrap_or(0));
        let (index, config) = self.config(leader);
        if index == 0
            || index > self.nodes[leader].commit
            || self.nodes[leader].log[self.nodes[leader].commit - 1].term != term
        {
            return;
        }
        if !config.outgoing.is_empty() {
            self.append_config(leader, Config { outgoing: Vec::new(), ..config });
        } else if !config.voters.contains(&leader) {
            self.role(leader, term, "follower");
        }
    }

    fn commit(&mut self, node: usize, index: usize) {
        if index > self.nodes[node].commit {
            self.nodes[node].commit = index;
            let term = self.nodes[node].term;
            self.event(node, json!({"event": "commit", "index": index, "term": term}));
            if self.falls(node) {
                return;
            }
        }
        self.apply(node, self.nodes[node].commit);
    }

    fn apply(&mut self, node: usize, to: usize) {
        let from = self.nodes[node].applied;
        if from >= to {
            return;
        }
        let entries = self.nodes[node].log[from..to].to_vec();
        let told: Vec<_> = entries
            .iter()
            .map(|entry| json!([entry.term, entry.digest, entry.ticket.0, entry.ticket.1, "applied"]))
            .collect();
        self.event(node, json!({"event": "apply", "first": from + 1, "entries": told}));
        self.nodes[node].applied = to;
        for entry in entries {
            let before = self.nodes[node].state.clone();
            let pending = entry.operation.map(|operation| self.pending[operation].clone());
            let swaps =
                pending.as_ref().is_none_or(|pending| pending.f != "cas" || pending.value[0] == before);
            let after = pending.as_ref().filter(|_| swaps).map(|pending| match pending.f {
                "cas" => pending.value[1].clone(),
                _ => pending.value.clone(),
            });
            self.nodes[node].state = after.unwrap_or(before.clone());
            // Only a leader that proposed it answers.
            let answers = self.nodes[node].leads && entry.term == self.nodes[node].term;
            if let (Some(pending), true) = (pending.filter(|pending| !pending.done), answers) {
                self.pending[entry.operation.unwrap()].done = true;
                let Pending { process, f, value, ticket, .. } = pending;
                let mut op = json!({"process": process, "type": if swaps { "ok" } else { "fail" }, "f": f,
                    "key": "k", "value": value, "session": ticket.0, "sequence": ticket.1});
                if !swaps {
                    op["seen"] = before;
                }
                self.record(op);
            }
        }
    }

    fn strike(&mut self, f: &str, step: Option<usize>, target: &str, nodes: &[String]) {
        let op = |kind: &str, nodes: &[String], outcome: Value| {
            json!({"process": "nemesis", "type": kind, "f": f, "value":
                {"step": step, "target": target, "nodes": nodes, "outcome": outcome, "detail": "as told"}})
        };
        self.record(op("invoke", &[], Value::Null));
        self.record(op("info", nodes, json!("installed")));
    }

    fn kill(&mut self, node: usize) {
        let step = self.plan.len();
        let at = self.t.saturating_sub(EPOCH);
        self.plan.push(json!({"at": at, "fault": "kill", "target": name(node), "hold": 1000, "draw": 0}));
        self.strike("kill", Some(step), &name(node), &[name(node)]);
        (self.nodes[node].alive, self.nodes[node].leads) = (false, false);
        self.ends[node].push(json!({"answered": true, "end": {"signal": 9}}));
    }

    fn falls(&mut self, node: usize) -> bool {
        let falls = self.sudden && !self.settling && !self.nodes[node].leads && self.rng.random_bool(0.2);
        if falls {
            self.kill(node);
        }
        falls
    }

    fn step(&mut self) {
        let node = self.rng.random_range(0..self.nodes.len());
        if self.changing
            && let Some(leader) = self.leader()
            && self.rng.random_bool(0.1)
        {
            return self.change(leader);
        }
        match (self.rng.random_range(0..20), self.leader()) {
            (0, _) if self.nodes[node].alive => self.kill(node),
            (0..=3, _) if !self.nodes[node].alive => self.boot(node),
            (1, _) if self.nodes[node].alive => self.elect(node),
            (_, None) if self.nodes[node].alive => self.elect(node),
            // An old leader that knows of no other may go on proposing.
            (2..=3, _) if self.nodes[node].alive && self.nodes[node].leads => {
                self.next += 1;
                let value = json!(self.next * 1000);
                self.ask(node, "write", value);
            }
            (4..=6, Some(leader)) => {
                let value = json!(self.next * 1000 + 1);
                self.ask(leader, "write", value);
            }
            (7..=8, Some(leader)) => {
                let expected = self.nodes[leader].state.clone();
                self.ask(leader, "cas", json!([expected, self.next * 1000 + 2]));
            }
            (9, Some(leader)) => {
                // A read is served once an entry of the leader's own term is committed and a quorum still knows no
                // higher term; here all of them.
                let (commit, term) = (self.nodes[leader].commit, self.nodes[leader].term);
                let newest = self.nodes.iter().all(|node| node.term <= term)
                    || self.bug == Some(Bug::ReadWithoutQuorum);
                if newest
                    && commit > 0
                    && self.nodes[leader].log.len() >= commit
                    && self.nodes[leader].log[commit - 1].term == term
                {
                    self.read(leader);
                }
            }
            (_, Some(leader))
                if node != leader && self.nodes[node].alive && self.config(leader).1.has(node) =>
            {
                self.replicate(leader, node);
            }
            _ => {}
        }
    }

    /// Everybody is up again and agrees.
    fn settle(&mut self) -> usize {
        self.settling = true;
        for node in (0..self.nodes.len()).filter(|&node| !self.nodes[node].alive).collect::<Vec<_>>() {
            self.boot(node);
        }
        // Whoever wins first may be on its way out.
        for _ in 0..10 {
            let leader = self.settled_leader();
            self.spread(leader);
            if self.nodes[leader].leads {
                return leader;
            }
        }
        panic!("nobody leads for long");
    }

    fn settled_leader(&mut self) -> usize {
        let mut nodes: Vec<usize> = (0..self.nodes.len()).collect();
        nodes.sort_by_key(|&node| {
            let log = &self.nodes[node].log;
            (log.last().map_or(0, |entry| entry.term), log.len(), node)
        });
        for node in nodes.into_iter().rev() {
            let term = self.nodes[node].term;
            self.elect(node);
            if self.nodes[node].leads && self.nodes[node].term > term {
                return node;
            }
        }
        panic!("nobody is elected");
    }

    /// Until all whom the leader replicates to know all to be committed.
    fn spread(&mut self, leader: usize) {
        for _ in 0..10_000 {
            let (_, config) = self.config(leader);
            let members: Vec<usize> = (0..self.nodes.len()).filter(|&node| config.has(node)).collect();
            let length = self.nodes[leader].log.len();
            if !self.nodes[leader].leads || members.iter().all(|&node| self.nodes[node].commit >= length) {
                return;
            }
            members.iter().filter(|&&node| node != leader).for_each(|&node| self.replicate(leader, node));
        }
        panic!("the logs never agree");
    }

    fn stop(&mut self) {
        for node in 0..self.nodes.len() {
            self.event(node, json!({"event": "stop", "reason": "SIGTERM"}));
            self.ends[node].push(json!({"answered": true, "end": "stopped"}));
            let Node { term, vote, log, .. } = &self.nodes[node];
            let mut dump = vec![begin(*term, &vote.map(name), log.len())];
            if !log.is_empty() {
                dump.push(append(log, 1, true));
            }
            for (at, line) in dump.iter_mut().enumerate() {
                let head = json!({"seq": at + 1, "t": self.t, "node": name(node), "boot": 0});
                line.as_object_mut().unwrap().extend(head.as_object().unwrap().clone());
            }
            self.lines.insert(format!("nodes/{}/dump.jsonl", name(node)), dump);
        }
    }
}

fn begin(term: u64, vote: &Option<String>, last: usize) -> Value {
    json!({"event": "boot", "version": "sim", "term": term, "vote": vote, "commit": 0, "snapshot": 0,
        "first": 1, "last": last})
}

fn append(entries: &[Entry], first: usize, recovered: bool) -> Value {
    let entries: Vec<_> = entries.iter().map(|entry| json!([entry.term, entry.kind, entry.digest])).collect();
    let mut event = json!({"event": "append", "first": first, "entries": entries});
    if recovered {
        event["recovered"] = json!(true);
    }
    event
}

/// A run that breaks no rule.
pub fn run(seed: u64) -> Run {
    world(seed, None, false, false)
}

/// A run of nodes that all have this bug.
pub fn planted(seed: u64, bug: Bug) -> Run {
    world(seed, Some(bug), false, bug == Bug::CommitByOneMajority)
}

/// A run that breaks no rule, in which nodes are also killed right after a cut or a commit.
pub fn sudden(seed: u64) -> Run {
    world(seed, None, true, false)
}

/// A run that breaks no rule, in which the voters change, by way of joint configurations.
pub fn changing(seed: u64) -> Run {
    world(seed, None, seed.is_multiple_of(2), true)
}

fn world(seed: u64, bug: Option<Bug>, sudden: bool, changing: bool) -> Run {
    let size = VOTERS + usize::from(changing);
    let mut world = World {
        rng: ChaCha8Rng::seed_from_u64(seed),
        t: EPOCH,
        nodes: (0..size).map(|_| Node::default()).collect(),
        lines: BTreeMap::new(),
        history: Vec::new(),
        pending: Vec::new(),
        plan: Vec::new(),
        ends: vec![Vec::new(); size],
        next: 1,
        bug,
        settling: false,
        sudden,
        changing,
    };
    (0..size).for_each(|node| world.boot(node));
    (0..150).for_each(|_| world.step());
    let leader = world.settle();
    world.strike("heal", None, "all", &[]);
    let last_heal = world.t;
    world.ask(leader, "write", json!(1));
    world.spread(leader);
    world.ask(leader, "cas", json!([1, 2]));
    world.spread(leader);
    world.read(leader);
    world.stop();
    let nodes: Vec<_> = (0..size).map(|node| json!({"id": name(node), "boots": world.ends[node]})).collect();
    let info = json!({"scenario": "lawful", "seed": seed, "harness_version": "0", "node_version": "0",
        "node_binary": {"path": "", "xxh3": ""}, "started": "", "load_began_ns": EPOCH, "load_ended_ns": world.t,
        "last_heal_ns": last_heal, "history_lines": world.history.len(), "nodes": nodes,
        "harness_failure": null, "interrupted": false});
    let faults = if world.plan.is_empty() { "[]" } else { "[{ at: 200ms, kill: leader, down: 400ms }]" };
    let scenario = format!(
        "# Nothing is wrong.\nname: lawful\nduration: 1s\ncluster: {{ nodes: 3{} }}\nworkload:\n  kind: register\n  \
         rate: 1000\n  mix: {{ read: 1, write: 1, cas: 1 }}\nfaults: {faults}\nexpect: {{ ok-min: 3, \
         leader-changes-min: 0, leader-changes-max: 1000, recovers-within: 1s }}\n",
        if changing { ", spares: 1" } else { "" }
    );
    let World { mut lines, history, plan, .. } = world;
    lines.insert("history.jsonl".into(), history);
    lines.insert("plan.jsonl".into(), plan);
    Run { lines, info, scenario }
}

#[test]
fn a_lawful_run_holds_on_every_check() {
    all_hold(run, &["truncate", "recovered", "\"fail\"", "\"kill\""]);
}

#[test]
fn a_lawful_run_in_which_members_change_holds_on_every_check() {
    // A change that was cut again, one of which a removed leader is the last to know, and a spare that leads.
    let joint = "\"outgoing\":[\"n";
    all_hold(changing, &["truncate", joint, "\"voters\":[\"n2\",\"n3\"]", "\"for\":\"n4\""]);
}

/// Over many seeds, in which each of `kinds` is seen.
fn all_hold(make: fn(u64) -> Run, kinds: &[&str]) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for seed in 0..80 {
        let run = make(seed);
        let folder = tempfile::tempdir().unwrap();
        run.write(folder.path());
        let results = judge(&RunFolder::new(folder.path())).unwrap().results;
        let bad: Vec<_> = results.checks.iter().filter(|check| !check.verdict.findings.is_empty()).collect();
        assert_eq!(results.exit_code, 0, "seed {seed}: {bad:#?}");
        let text: String = run.lines.values().flatten().map(Value::to_string).collect();
        seen.extend(kinds.iter().filter(|kind| text.contains(**kind)));
    }
    assert_eq!(seen.len(), kinds.len(), "{seen:?}");
}
