//! A schedule as a run folder, which the harness judges as it judges a run of real nodes.
//!
//! In: what servers do, in the order in which a node's driver does it, and what clients ask and are told. Out: a
//! folder of `nodes/*/events`, dumps, `history.jsonl`, `run.json`, a plan without faults and a scenario. Never: a
//! verdict. A unit of the schedule's time is a millisecond; no two lines have one time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mkraft_node::acts::Acts;
use mkraft_node::events;
use mkraft_node::machine::Applied;
use mkraft_node::raft::{Entry, NodeId, Raft, Snapshot, Write};
use mkraft_node::storage::Recovered;
use mkraft_proto::evidence::{Event, Line};
use mkraft_proto::v1::Command;
use mkraft_proto::v1::command::Op;
use prost::bytes::Bytes;
use serde_json::{Value, json};

use super::super::disk::Image;
use super::super::witness::Servers;
use super::CHAOS;

const VERSION: &str = "simulated";
const BEGIN_NS: u64 = 1_000_000_000;
const UNIT_NS: u64 = 1_000_000;
/// Between two lines of one unit.
const LINE_NS: u64 = 100;

pub struct Evidence {
    folder: PathBuf,
    seed: u64,
    election_ms: u64,
    time_ns: u64,
    nodes: BTreeMap<NodeId, Node>,
    history: Vec<Value>,
    /// Operations without an answer, and their invocations.
    open: BTreeMap<Operation, Value>,
    /// Of operations: a process has one at a time, and none after one that stays open.
    processes: u64,
    free: Vec<u64>,
}

#[derive(Default)]
struct Node {
    acts: Option<Acts>,
    /// Of each boot.
    files: Vec<String>,
    lines: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Write(u64),
    Read(u64),
}

/// How a write ended.
pub enum Done {
    Ok,
    /// It found this, and wrote nothing.
    Seen(Option<Bytes>),
    Fail,
    Info,
}

impl Evidence {
    pub fn new(folder: PathBuf, seed: u64, election_ms: u64) -> Evidence {
        Evidence {
            folder,
            seed,
            election_ms,
            time_ns: BEGIN_NS,
            nodes: BTreeMap::new(),
            history: Vec::new(),
            open: BTreeMap::new(),
            processes: 0,
            free: Vec::new(),
        }
    }

    // Nodes.

    pub fn boots(&mut self, now: u64, id: NodeId, raft: &Raft, image: &Image) {
        let node = self.nodes.entry(id).or_default();
        node.acts = Some(Acts::new(raft));
        node.files.push(String::new());
        node.lines = 0;
        let recovered = recovered(image);
        let applied = raft.snapshot().position.index;
        self.record(now, id, events::recovery(&recovered, VERSION).chain(Acts::at_boot(raft, applied)));
    }

    pub fn observe(&mut self, id: NodeId, raft: &Raft) {
        self.acts(id).observe(raft);
    }

    pub fn took_snapshot(&mut self, now: u64, id: NodeId, snapshot: &Snapshot) {
        self.record(now, id, [events::snapshot(snapshot, false)]);
    }

    /// Before anything is sent.
    pub fn leads(&mut self, now: u64, id: NodeId) {
        let lines = self.acts(id).take_at_once();
        self.record(now, id, lines);
    }

    /// What was asked for is durable, if there was anything; a server steps nothing before it is.
    pub fn stands(&mut self, now: u64, id: NodeId, wrote: Option<(&Write, Option<&Snapshot>)>) {
        let acts = self.acts(id);
        let (mut lines, after) = acts.take_waiting();
        acts.told();
        if let Some((write, installed)) = wrote {
            let installed = installed.map(|snapshot| events::snapshot(snapshot, true));
            lines.extend(events::durable(write, installed));
        }
        lines.extend(after);
        self.record(now, id, lines);
    }

    pub fn applied(&mut self, now: u64, id: NodeId, entries: &[(Entry, Applied)]) {
        self.record(now, id, events::apply(entries));
    }

    fn acts(&mut self, id: NodeId) -> &mut Acts {
        let acts = self.nodes.get_mut(&id).and_then(|node| node.acts.as_mut());
        acts.unwrap_or_else(|| panic!("{id} acts before its boot"))
    }

    fn record(&mut self, now: u64, id: NodeId, lines: impl IntoIterator<Item = Event>) {
        for event in lines {
            let t = self.tick(now);
            let node = self.nodes.entry(id).or_default();
            node.lines += 1;
            let line =
                Line { seq: node.lines, t, node: id.to_string(), boot: node.files.len() as u64, event };
            if let Some(file) = node.files.last_mut() {
                put(file, &line);
            }
        }
    }

    fn tick(&mut self, now: u64) -> u64 {
        self.time_ns = (self.time_ns + LINE_NS).max(BEGIN_NS + now * UNIT_NS);
        self.time_ns
    }

    // Clients.

    /// Only what acts on keys is an operation of the history.
    pub fn invoke_write(&mut self, now: u64, number: u64, at: NodeId, command: &Command) {
        let (Some(ticket), Some(op)) = (&command.ticket, &command.op) else { return };
        let (f, key, value) = match op {
            Op::Put(put) => ("write", &put.key, datum(Some(&put.value))),
            Op::CompareAndSwap(swap) => {
                ("cas", &swap.key, json!([datum(swap.expected.as_ref()), datum(Some(&swap.value))]))
            }
            _ => return,
        };
        let mut line = self.invocation(f, &String::from_utf8_lossy(key), value);
        line["session"] = ticket.session.into();
        line["sequence"] = ticket.sequence.into();
        self.invoke(now, Operation::Write(number), at, line);
    }

    pub fn invoke_read(&mut self, now: u64, name: u64, at: NodeId, key: &str) {
        let line = self.invocation("read", key, Value::Null);
        self.invoke(now, Operation::Read(name), at, line);
    }

    pub fn complete(&mut self, now: u64, number: u64, by: Option<NodeId>, done: Done) {
        let Some(mut line) = self.open.remove(&Operation::Write(number)) else { return };
        let kind = match done {
            Done::Ok => "ok",
            Done::Seen(found) => {
                line["seen"] = datum(found.as_ref());
                line["error"] = "another value was there".into();
                "fail"
            }
            Done::Fail => "fail",
            Done::Info => "info",
        };
        self.end(now, line, kind, by);
    }

    /// None: it was refused.
    pub fn complete_read(&mut self, now: u64, name: u64, by: NodeId, value: Option<Option<Bytes>>) {
        let Some(mut line) = self.open.remove(&Operation::Read(name)) else { return };
        match value {
            Some(value) => {
                line["value"] = datum(value.as_ref());
                self.end(now, line, "ok", Some(by));
            }
            None => self.end(now, line, "fail", Some(by)),
        }
    }

    fn invocation(&mut self, f: &str, key: &str, value: Value) -> Value {
        let process = self.free.pop().unwrap_or_else(|| {
            self.processes += 1;
            self.processes - 1
        });
        json!({ "process": process, "f": f, "key": key, "value": value })
    }

    fn invoke(&mut self, now: u64, operation: Operation, at: NodeId, line: Value) {
        self.open.insert(operation, line.clone());
        self.tell(now, line, "invoke", Some(at));
    }

    fn end(&mut self, now: u64, line: Value, kind: &str, by: Option<NodeId>) {
        if kind == "info" {
            // Its process never asks again.
        } else if let Some(process) = line["process"].as_u64() {
            self.free.push(process);
        }
        if kind == "fail" && line["error"].is_null() {
            let mut line = line;
            line["error"] = "no server took it".into();
            return self.tell(now, line, kind, by);
        }
        self.tell(now, line, kind, by);
    }

    fn tell(&mut self, now: u64, mut line: Value, kind: &str, node: Option<NodeId>) {
        line["index"] = self.history.len().into();
        line["time"] = self.tick(now).into();
        line["type"] = kind.into();
        if let Some(node) = node {
            line["node"] = node.to_string().into();
        }
        self.history.push(line);
    }

    /// Each kind of operation succeeded; of those that write, after all has healed.
    pub fn shows_all(&self) -> bool {
        let healed = BEGIN_NS + CHAOS * UNIT_NS;
        let shown = |f: &str| {
            let fits = |line: &Value| line["f"] == f && line["type"] == "ok";
            self.history.iter().any(|line| fits(line) && line["time"].as_u64() >= Some(healed))
        };
        ["read", "write", "cas"].into_iter().all(shown)
    }

    // The folder.

    /// All nodes stop; those in the middle of a write are killed.
    pub fn finish(mut self, now: u64, servers: &Servers) -> io::Result<()> {
        for (_, line) in std::mem::take(&mut self.open) {
            self.end(now, line, "info", None);
        }
        let ended_ns = self.tick(now);
        let mut nodes = Vec::new();
        for (&id, server) in servers {
            let clean = server.is_up() && !server.is_waiting() && server.disk.outstanding() == 0;
            if clean {
                self.record(now, id, [Event::Stop { reason: "the schedule is over".into() }]);
            }
            let node = &self.nodes[&id];
            let folder = self.folder.join("nodes").join(id.to_string());
            fs::create_dir_all(folder.join("events"))?;
            for (boot, lines) in (1..).zip(&node.files) {
                fs::write(folder.join(format!("events/boot-{boot:04}.jsonl")), lines)?;
            }
            fs::write(folder.join("dump.jsonl"), dump(id, &server.disk.durable))?;
            let killed = json!({ "answered": true, "end": { "signal": 9 }, "asked": "yes" });
            let mut boots = vec![killed; node.files.len()];
            if let (true, Some(last)) = (clean, boots.last_mut()) {
                last["end"] = "stopped".into();
            }
            nodes.push(json!({ "id": id.to_string(), "boots": boots }));
        }
        let mut history = String::new();
        self.history.iter().for_each(|line| writeln!(history, "{line}").unwrap_or_default());
        fs::write(self.folder.join("history.jsonl"), history)?;
        fs::write(self.folder.join("plan.jsonl"), "")?;
        fs::write(self.folder.join("scenario.yaml"), self.scenario(nodes.len(), now))?;
        let info = json!({
            "scenario": "simulated", "seed": self.seed, "harness_version": VERSION, "node_version": VERSION,
            "node_binary": { "path": "node/tests/simulation.rs", "xxh3": "0000000000000000" },
            "started": "1970-01-01T00:00:00Z",
            "load_began_ns": BEGIN_NS, "load_ended_ns": ended_ns, "last_heal_ns": BEGIN_NS + CHAOS * UNIT_NS,
            "history_lines": self.history.len(), "nodes": nodes,
            "harness_failure": null, "silent": [], "interrupted": false,
        });
        fs::write(self.folder.join("run.json"), format!("{info:#}\n"))
    }

    fn scenario(&self, nodes: usize, span_ms: u64) -> String {
        format!(
            "# A simulated schedule: whatever the network, the disks and the power do, clients see one register per key.\n\
             name: simulated\n\
             duration: {span_ms}ms\n\
             cluster: {{ nodes: {nodes}, election-timeout: {}ms, heartbeat: {}ms }}\n\
             workload: {{ kind: register, clients: 6, keys: 3, rate: 100 }}\n\
             faults: []\n\
             expect: {{ ok-min: 1, recovers-within: 5s }}\n",
            self.election_ms,
            self.election_ms / 3,
        )
    }
}

fn dump(id: NodeId, image: &Image) -> String {
    let mut text = String::new();
    for (seq, event) in (1..).zip(events::recovery(&recovered(image), VERSION)) {
        put(&mut text, &Line { seq, t: 0, node: id.to_string(), boot: 0, event });
    }
    text
}

fn recovered(image: &Image) -> Recovered {
    Recovered {
        hard_state: image.hard_state,
        begin: image.begin,
        entries: image.entries.clone(),
        snapshot: image.snapshot().map(|(snapshot, _)| snapshot.clone()),
        ..Recovered::default()
    }
}

fn put(text: &mut String, line: &Line) {
    let line = serde_json::to_string(line).unwrap_or_else(|error| panic!("{line:?} has no words: {error}"));
    text.push_str(&line);
    text.push('\n');
}

/// Clients write numbers.
fn datum(bytes: Option<&Bytes>) -> Value {
    let number = |bytes: &Bytes| std::str::from_utf8(bytes).ok()?.parse::<u64>().ok();
    bytes.map_or(Value::Null, |bytes| number(bytes).map_or(Value::Null, Value::from))
}

/// Where the folder of a seed goes.
pub fn folder(root: &Path, seed: u64) -> PathBuf {
    root.join(format!("simulated-{seed}"))
}
