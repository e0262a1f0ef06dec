//! Run folders of a lawful cluster, as long as one likes, decided by a seed.
//!
//! In: a [`Shape`] and a seed. Out: a run folder on which every check holds. Never: a clock; a line no node could have
//! written; the whole run in memory.
//!
//! The leader appends batches of 1 to 64 entries, followers take them, now and then two at once; each tells of commits
//! and applies what it knows committed. From time to time a leader is left with entries that nobody else has, another is
//! elected, and the old one cuts them. Two followers are killed and read all back from their disks.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Of the committed log, about.
    pub entries: u64,
    pub nodes: usize,
    /// One entry in so many has its operation in the history, and as many reads are there.
    pub recorded: u64,
    pub elections: u64,
    /// Nanoseconds between two entries.
    pub pace_ns: u64,
}

const EPOCH: u64 = 1_000_000_000;
const ENTRIES_PER_LINE_MAX: u64 = 64;
const KEYS: u64 = 5;
const SESSIONS: u64 = 50;

/// Writes the folder and returns how many bytes its evidence has.
pub fn write_run(root: &Path, shape: Shape, seed: u64) -> io::Result<u64> {
    let mut cluster = Cluster::new(root, shape, seed)?;
    cluster.run()?;
    cluster.close(root, shape, seed)
}

struct Cluster<'r> {
    root: &'r Path,
    rng: ChaCha8Rng,
    t: u64,
    pace_ns: u64,
    /// Where each term begins in the committed log, from 1.
    terms: Vec<(u64, u64)>,
    last: u64,
    leader: usize,
    nodes: Vec<Node>,
    book: Book,
    shape: Shape,
    written: u64,
}

struct Node {
    name: String,
    file: BufWriter<File>,
    line: Vec<u8>,
    seq: u64,
    boot: u64,
    held: u64,
    commit: u64,
    term: u64,
    vote: Option<usize>,
    ends: Vec<&'static str>,
}

/// The history.
struct Book {
    file: BufWriter<File>,
    index: u64,
    /// What each key holds.
    values: [u64; KEYS as usize],
    plan: String,
    steps: u64,
}

impl<'r> Cluster<'r> {
    fn new(root: &'r Path, shape: Shape, seed: u64) -> io::Result<Cluster<'r>> {
        let mut nodes = Vec::new();
        for at in 0..shape.nodes {
            let name = format!("n{}", at + 1);
            fs::create_dir_all(root.join("nodes").join(&name).join("events"))?;
            let file = boot_file(root, &name, 1)?;
            let (line, ends) = (Vec::new(), Vec::new());
            nodes.push(Node {
                name,
                file,
                line,
                seq: 0,
                boot: 1,
                held: 0,
                commit: 0,
                term: 0,
                vote: None,
                ends,
            });
        }
        let file = BufWriter::with_capacity(1 << 18, File::create(root.join("history.jsonl"))?);
        let book = Book { file, index: 0, values: [0; KEYS as usize], plan: String::new(), steps: 0 };
        let (rng, terms) = (ChaCha8Rng::seed_from_u64(seed), Vec::new());
        let pace_ns = shape.pace_ns;
        Ok(Cluster {
            root,
            rng,
            t: EPOCH,
            pace_ns,
            terms,
            last: 0,
            leader: 0,
            nodes,
            book,
            shape,
            written: 0,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        for node in 0..self.nodes.len() {
            self.begin(node)?;
            self.end(node)?;
        }
        self.elect(0)?;
        let every = self.shape.entries / (self.shape.elections + 1);
        let mut next_election = every;
        let mut kills = [(self.shape.entries / 4, 4), (self.shape.entries / 2, 3)].into_iter().peekable();
        while self.last < self.shape.entries {
            if self.last >= next_election {
                next_election += every;
                let heir = (self.leader + 1) % 3;
                self.left_alone()?;
                self.elect(heir)?;
            }
            if let Some((_, victim)) =
                kills.next_if(|&(at, victim)| at <= self.last && victim < self.nodes.len())
            {
                self.kill_and_boot(victim)?;
            }
            self.batch()?;
        }
        Ok(())
    }

    fn tick(&mut self, most: u64) {
        self.t += self.rng.random_range(1..=most.max(2));
    }

    fn batch(&mut self) -> io::Result<()> {
        let count = self.rng.random_range(1..=ENTRIES_PER_LINE_MAX);
        let (first, last) = (self.last + 1, self.last + count);
        let step = count * self.pace_ns / (self.nodes.len() as u64 * 3);
        let recorded: Vec<u64> = (first..=last).filter(|index| index % self.shape.recorded == 0).collect();
        for (process, &index) in (0..).zip(&recorded) {
            self.tick(100);
            self.book.write(self.t, process, "invoke", index)?;
        }
        self.last = last;
        let leader = self.leader;
        self.append(leader, last)?;
        // One follower may be late; it takes this batch with the next.
        let late = self.rng.random_bool(0.2).then(|| self.rng.random_range(0..self.nodes.len()));
        let here: Vec<usize> =
            (0..self.nodes.len()).filter(|&node| node != leader && Some(node) != late).collect();
        for &node in &here {
            self.tick(step);
            self.append(node, last)?;
        }
        self.tick(step);
        self.commit_and_apply(leader, last)?;
        for (process, &index) in (0..).zip(&recorded) {
            self.tick(100);
            self.book.write(self.t, process, "ok", index)?;
        }
        for &index in &recorded {
            self.book.values[(index % KEYS) as usize] = index;
        }
        for (process, &index) in (100..).zip(&recorded) {
            self.tick(100);
            self.book.read(self.t, process, index % KEYS)?;
        }
        for node in here {
            self.tick(step);
            self.commit_and_apply(node, last)?;
        }
        Ok(())
    }

    /// The leader appends what nobody else ever gets.
    fn left_alone(&mut self) -> io::Result<()> {
        let count = self.rng.random_range(1..=ENTRIES_PER_LINE_MAX);
        let leader = self.leader;
        for node in 0..self.nodes.len() {
            self.tick(1000);
            self.append(node, self.last)?;
            self.commit_and_apply(node, self.last)?;
        }
        let (first, term) = (self.last + 1, self.nodes[leader].term);
        self.start(leader, "append");
        let node = &mut self.nodes[leader];
        field(&mut node.line, "first", first);
        entries(&mut node.line, (first..first + count).map(|index| (index, term, false)));
        node.held += count;
        self.end(leader)
    }

    fn elect(&mut self, candidate: usize) -> io::Result<()> {
        let term = self.nodes[candidate].term + 1;
        self.role(candidate, term, "candidate", None)?;
        self.cast(candidate, term, candidate)?;
        for node in 0..self.nodes.len() {
            if node == candidate {
                continue;
            }
            self.tick(50_000);
            self.role(node, term, "follower", None)?;
            // The old leader has a longer log and refuses.
            if self.nodes[node].held == self.last {
                self.cast(node, term, candidate)?;
            }
        }
        self.tick(50_000);
        self.role(candidate, term, "leader", Some(candidate))?;
        for node in 0..self.nodes.len() {
            if self.nodes[node].held > self.last {
                self.start(node, "truncate");
                field(&mut self.nodes[node].line, "after", self.last);
                self.nodes[node].held = self.last;
                self.end(node)?;
            }
        }
        self.leader = candidate;
        self.last += 1;
        self.terms.push((self.last, term));
        for node in [candidate].into_iter().chain((0..self.nodes.len()).filter(|&node| node != candidate)) {
            self.tick(50_000);
            self.append(node, self.last)?;
        }
        self.commit_and_apply(candidate, self.last)
    }

    fn kill_and_boot(&mut self, node: usize) -> io::Result<()> {
        self.book.kill(self.t, &self.nodes[node].name.clone())?;
        self.t += 1_000_000;
        self.nodes[node].file.flush()?;
        let boot = self.nodes[node].boot + 1;
        self.nodes[node].ends.push(r#"{"answered":true,"end":{"signal":9}}"#);
        self.nodes[node].file = boot_file(self.root, &self.nodes[node].name, boot)?;
        (self.nodes[node].boot, self.nodes[node].seq) = (boot, 0);
        self.begin(node)?;
        self.end(node)?;
        self.recovered(node)?;
        let commit = self.nodes[node].commit;
        self.role(node, self.nodes[node].term, "follower", Some(self.leader))?;
        self.nodes[node].commit = 0;
        for upto in chunks(commit) {
            self.commit_and_apply(node, upto)?;
        }
        Ok(())
    }

    /// The boot line.
    fn begin(&mut self, node: usize) -> io::Result<()> {
        self.start(node, "boot");
        let Node { line, term, vote, held, .. } = &mut self.nodes[node];
        let vote = vote.map_or("null".to_owned(), |vote| format!("\"n{}\"", vote + 1));
        write!(
            line,
            r#","version":"generated","term":{term},"vote":{vote},"commit":0,"snapshot":0,"first":1,"last":{held}"#
        )
    }

    fn recovered(&mut self, node: usize) -> io::Result<()> {
        let mut first = 1;
        for last in chunks(self.nodes[node].held) {
            self.start(node, "append");
            let terms = Terms::new(&self.terms, first);
            let line = &mut self.nodes[node].line;
            field(line, "first", first);
            entries(line, terms.take((last + 1 - first) as usize));
            line.extend_from_slice(br#","recovered":true"#);
            self.end(node)?;
            first = last + 1;
        }
        Ok(())
    }

    fn append(&mut self, node: usize, last: u64) -> io::Result<()> {
        let first = self.nodes[node].held + 1;
        if first > last {
            return Ok(());
        }
        self.start(node, "append");
        let terms = Terms::new(&self.terms, first);
        let node_ = &mut self.nodes[node];
        field(&mut node_.line, "first", first);
        entries(&mut node_.line, terms.take((last + 1 - first) as usize));
        node_.held = last;
        self.end(node)
    }

    fn commit_and_apply(&mut self, node: usize, last: u64) -> io::Result<()> {
        let (first, term) = (self.nodes[node].commit + 1, self.nodes[node].term);
        if first > last {
            return Ok(());
        }
        self.start(node, "commit");
        field(&mut self.nodes[node].line, "index", last);
        field(&mut self.nodes[node].line, "term", term);
        self.end(node)?;
        self.start(node, "apply");
        let terms = Terms::new(&self.terms, first);
        let node_ = &mut self.nodes[node];
        node_.commit = last;
        field(&mut node_.line, "first", first);
        node_.line.extend_from_slice(br#","entries":["#);
        for (index, term, noop) in terms.take((last + 1 - first) as usize) {
            if index > first {
                node_.line.push(b',');
            }
            node_.line.push(b'[');
            decimal(&mut node_.line, term);
            node_.line.extend_from_slice(b",\"");
            hex(&mut node_.line, digest(index, term));
            node_.line.extend_from_slice(b"\",");
            decimal(&mut node_.line, if noop { 0 } else { 1 + index % SESSIONS });
            node_.line.push(b',');
            decimal(&mut node_.line, if noop { 0 } else { index });
            node_.line.extend_from_slice(b",\"applied\"]");
        }
        node_.line.push(b']');
        self.end(node)
    }

    fn role(&mut self, node: usize, term: u64, role: &str, leader: Option<usize>) -> io::Result<()> {
        self.start(node, "role");
        let leader = leader.map_or("null".to_owned(), |leader| format!("\"n{}\"", leader + 1));
        let before = std::mem::replace(&mut self.nodes[node].term, term);
        self.nodes[node].vote = self.nodes[node].vote.filter(|_| before == term);
        write!(self.nodes[node].line, r#","term":{term},"role":"{role}","leader":{leader}"#)?;
        self.end(node)
    }

    fn cast(&mut self, node: usize, term: u64, candidate: usize) -> io::Result<()> {
        self.start(node, "vote");
        self.nodes[node].vote = Some(candidate);
        write!(self.nodes[node].line, r#","term":{term},"for":"n{}""#, candidate + 1)?;
        self.end(node)
    }

    fn start(&mut self, node: usize, event: &str) {
        let t = self.t;
        let Node { line, name, seq, boot, .. } = &mut self.nodes[node];
        *seq += 1;
        line.clear();
        line.extend_from_slice(br#"{"seq":"#);
        decimal(line, *seq);
        field(line, "t", t);
        line.extend_from_slice(br#","node":""#);
        line.extend_from_slice(name.as_bytes());
        line.push(b'"');
        field(line, "boot", *boot);
        line.extend_from_slice(br#","event":""#);
        line.extend_from_slice(event.as_bytes());
        line.push(b'"');
    }

    fn end(&mut self, node: usize) -> io::Result<()> {
        let Node { line, file, .. } = &mut self.nodes[node];
        line.extend_from_slice(b"}\n");
        self.written += line.len() as u64;
        file.write_all(line)
    }

    fn close(mut self, root: &Path, shape: Shape, seed: u64) -> io::Result<u64> {
        for node in 0..self.nodes.len() {
            self.append(node, self.last)?;
            self.commit_and_apply(node, self.last)?;
        }
        let load_ended = self.t;
        self.t += 1_000_000;
        self.book.strike(self.t, "heal", None, "all", &[])?;
        let healed = self.t;
        self.t += 1_000_000;
        self.shape.recorded = 1;
        self.batch()?;
        for node in 0..self.nodes.len() {
            self.append(node, self.last)?;
            self.commit_and_apply(node, self.last)?;
            self.start(node, "stop");
            self.nodes[node].line.extend_from_slice(br#","reason":"SIGTERM""#);
            self.end(node)?;
            self.nodes[node].ends.push(r#"{"answered":true,"end":"stopped"}"#);
            self.nodes[node].file.flush()?;
            let dump = root.join("nodes").join(&self.nodes[node].name).join("dump.jsonl");
            self.nodes[node].file = BufWriter::with_capacity(1 << 18, File::create(dump)?);
            (self.nodes[node].seq, self.nodes[node].boot) = (0, 0);
            self.begin(node)?;
            self.end(node)?;
            self.recovered(node)?;
            self.nodes[node].file.flush()?;
        }
        self.book.file.flush()?;
        fs::write(root.join("plan.jsonl"), &self.book.plan)?;
        let (count, duration) = (shape.nodes, (self.t - EPOCH).div_ceil(1_000_000_000));
        let faults = if self.book.steps == 0 { "[]" } else { "[{ at: 1ms, kill: minority, down: 1ms }]" };
        fs::write(
            root.join("scenario.yaml"),
            format!(
                "# Nothing is wrong.\nname: generated\nduration: {duration}s\ncluster: {{ nodes: {count} }}\n\
                 workload:\n  kind: register\n  rate: 1000\n  mix: {{ read: 1, write: 1, cas: 0 }}\nfaults: {faults}\n\
                 expect: {{ ok-min: 1, leader-changes-min: 1, recovers-within: 10s }}\n"
            ),
        )?;
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|node| format!(r#"{{"id":"{}","boots":[{}]}}"#, node.name, node.ends.join(",")))
            .collect();
        let (nodes, lines) = (nodes.join(","), self.book.index);
        fs::write(
            root.join("run.json"),
            format!(
                r#"{{"scenario":"generated","seed":{seed},"harness_version":"0","node_version":"0","node_binary":{{"path":"","xxh3":""}},"started":"","load_began_ns":{EPOCH},"load_ended_ns":{load_ended},"last_heal_ns":{healed},"history_lines":{lines},"nodes":[{nodes}],"harness_failure":null,"interrupted":false}}"#
            ),
        )?;
        Ok(self.written)
    }
}

impl Book {
    fn line(&mut self, t: u64, rest: std::fmt::Arguments) -> io::Result<()> {
        let index = self.index;
        self.index += 1;
        writeln!(self.file, r#"{{"index":{index},"time":{t},{rest}}}"#)
    }

    fn write(&mut self, t: u64, process: u64, kind: &str, index: u64) -> io::Result<()> {
        let (key, session) = (index % KEYS, 1 + index % SESSIONS);
        self.line(
            t,
            format_args!(
                r#""process":{process},"type":"{kind}","f":"write","key":"k{key}","value":{index},"node":"n1","session":{session},"sequence":{index}"#
            ),
        )
    }

    fn read(&mut self, t: u64, process: u64, key: u64) -> io::Result<()> {
        let value = self.values[key as usize];
        for (kind, value) in [("invoke", "null".to_owned()), ("ok", value.to_string())] {
            self.line(
                t,
                format_args!(
                    r#""process":{process},"type":"{kind}","f":"read","key":"k{key}","value":{value},"node":"n1""#
                ),
            )?;
        }
        Ok(())
    }

    fn kill(&mut self, t: u64, node: &str) -> io::Result<()> {
        let at = t - EPOCH;
        self.plan +=
            &format!("{{\"at\":{at},\"fault\":\"kill\",\"target\":\"{node}\",\"hold\":1000,\"draw\":0}}\n");
        self.steps += 1;
        self.strike(t, "kill", Some(self.steps - 1), node, &[node])
    }

    fn strike(&mut self, t: u64, f: &str, step: Option<u64>, target: &str, nodes: &[&str]) -> io::Result<()> {
        let step = step.map_or("null".to_owned(), |step| step.to_string());
        let nodes: Vec<_> = nodes.iter().map(|node| format!("\"{node}\"")).collect();
        let nodes = nodes.join(",");
        for (kind, nodes, outcome) in [("invoke", "", "null"), ("info", &*nodes, "\"installed\"")] {
            self.line(
                t,
                format_args!(
                    r#""process":"nemesis","type":"{kind}","f":"{f}","value":{{"step":{step},"target":"{target}","nodes":[{nodes}],"outcome":{outcome},"detail":"as told"}}"#
                ),
            )?;
        }
        Ok(())
    }
}

/// The entries of the committed log from an index on: (index, term, whether it is a no-op).
struct Terms<'t> {
    terms: &'t [(u64, u64)],
    place: usize,
    index: u64,
}

impl Terms<'_> {
    fn new(terms: &[(u64, u64)], first: u64) -> Terms<'_> {
        let place = terms.partition_point(|&(begin, _)| begin <= first).saturating_sub(1);
        Terms { terms, place, index: first }
    }
}

impl Iterator for Terms<'_> {
    type Item = (u64, u64, bool);
    fn next(&mut self) -> Option<(u64, u64, bool)> {
        if self.terms.get(self.place + 1).is_some_and(|&(begin, _)| begin <= self.index) {
            self.place += 1;
        }
        let (begin, term) = self.terms[self.place];
        let index = self.index;
        self.index += 1;
        Some((index, term, begin == index))
    }
}

fn boot_file(root: &Path, name: &str, boot: u64) -> io::Result<BufWriter<File>> {
    let path = root.join("nodes").join(name).join("events").join(format!("boot-{boot:04}.jsonl"));
    Ok(BufWriter::with_capacity(1 << 18, File::create(path)?))
}

/// The last indices of lines that hold 1 to `last`.
fn chunks(last: u64) -> impl Iterator<Item = u64> {
    (0..last.div_ceil(ENTRIES_PER_LINE_MAX)).map(move |chunk| ((chunk + 1) * ENTRIES_PER_LINE_MAX).min(last))
}

fn digest(index: u64, term: u64) -> u64 {
    let mut x = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ term.wrapping_mul(0xd1b5_4a32_d192_ed03);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 27)
}

fn entries(line: &mut Vec<u8>, entries: impl Iterator<Item = (u64, u64, bool)>) {
    line.extend_from_slice(br#","entries":["#);
    for (at, (index, term, noop)) in entries.enumerate() {
        line.extend_from_slice(if at == 0 { b"[" } else { b",[" });
        decimal(line, term);
        line.extend_from_slice(if noop { b",\"noop\",\"" } else { b",\"command\",\"" });
        hex(line, digest(index, term));
        line.extend_from_slice(b"\"]");
    }
    line.push(b']');
}

fn field(line: &mut Vec<u8>, name: &str, number: u64) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
    decimal(line, number);
}

fn decimal(line: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[at..]);
}

fn hex(line: &mut Vec<u8>, number: u64) {
    line.extend((0..16).rev().map(|place| b"0123456789abcdef"[(number >> (4 * place)) as usize & 15]));
}
