//! Golden scripts: what a small cluster does, act by act, compared with what its script expects.
//!
//! In: the files under `scripts/`; each is a comment that states a rule with its source, commands, a line
//! `---`, and the expected trace. Out: a difference, if there is one. `UPDATE=1` writes the trace instead.
//!
//! Each command is echoed as `> command`, then what it led to; `quietly command` shows neither. Nodes are `1`
//! or `n1`; a link is `1->2` or `1<->2` (both ways); `all` stands for all nodes or links.
//!
//! | command | what happens |
//! |---|---|
//! | `cluster nodes=3 [spares=1] [leader=1] [lease=70] [seed=] [append-bytes=] [inflight-bytes=] [uncommitted=] [compact=] [tail=] [chunk=] [chunks=]` | first, once |
//! | `given N term=4 log=1,1,4 [vote=2] [commit=1]` | the node restarts with this past |
//! | `tick N [count]`, `campaign N` | time passes on a node; until it campaigns |
//! | `forget N...` | time passes until these no longer hear their leader |
//! | `propose N x=1 ...`, `read N` | a client's request |
//! | `here N` | a read that this node answers, by its leader's leave |
//! | `change N [add=4,5] [promote=4] [remove=1]`, `transfer N [to]` | an operator's request |
//! | `crash N [kept]`, `restart N` | the oldest `kept` writes under way survive |
//! | `cut LINK...`, `isolate N...`, `heal` | what is sent is lost |
//! | `hold LINK...`, `release LINK...` | what is sent waits |
//! | `deliver A->B [count]`, `drop A->B [count]` | the oldest messages that wait on a link |
//! | `duplicate A->B`, `reverse A->B` | the oldest comes twice; the newest comes first |
//! | `snapshot hold N`, `snapshot spoil N`, `snapshot release N` | what it takes or received waits; is bad; is done |
//! | `disk hold N`, `disk write N [count]`, `disk release N` | writes wait; some complete; all do |
//! | `forge [at=N] n2@3 -> n1 Append prev=1@1 entries=2@3 commit=0` | a message that no node has sent |
//! | `status [N...]`, `log [N...]`, `held` | prints |

mod cluster;

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::path::Path;

use cluster::lab::{Lab, Link, Settings};
use cluster::words;
use mkraft_node::raft::{Change, NodeId};

const SEPARATOR: &str = "---";

datatest_stable::harness! {
    { test = run, root = "tests/scripts", pattern = r"/[a-z0-9_]+$" },
}

/// Printed as it is, lines and all.
#[derive(thiserror::Error)]
#[error("{0}")]
struct Failure(String);

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn run(path: &Path) -> datatest_stable::Result<()> {
    Ok(play(path).map_err(Failure)?)
}

fn play(path: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let (script, expected) = match text.split_once(&format!("\n{SEPARATOR}\n")) {
        Some((script, expected)) => (script, expected),
        None => (text.trim_end(), ""),
    };
    if !script.starts_with("# ") {
        return Err(format!("{}:1: expected a comment that states the rule", path.display()));
    }
    let mut play = Play::default();
    for (number, line) in script.lines().enumerate() {
        let command = line.split('#').next().unwrap_or_default().trim();
        if !command.is_empty() {
            let place = || format!("{}:{}", path.display(), number + 1);
            play.command(command).map_err(|error| format!("{}: {error}", place()))?;
        }
    }
    let trace = play.trace.iter().fold(String::new(), |all, line| all + line + "\n");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, format!("{script}\n{SEPARATOR}\n{trace}")).map_err(failed)?;
    } else if trace != expected {
        return Err(format!("{}: the trace differs\n{}", path.display(), difference(expected, &trace)));
    }
    Ok(())
}

#[derive(Default)]
struct Play {
    lab: Option<Lab>,
    trace: Vec<String>,
}

impl Play {
    fn command(&mut self, line: &str) -> Result<(), String> {
        if let Some(line) = line.strip_prefix("quietly ") {
            self.act(line.trim())?;
            self.lab()?.take_trace();
            return Ok(());
        }
        self.act(line)?;
        let happened = self.lab()?.take_trace();
        if !line.starts_with("cluster ") {
            self.trace.push(format!("> {line}"));
            self.trace.extend(happened);
        }
        Ok(())
    }

    fn act(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, rest) = words.split_first().ok_or("expected a command")?;
        if *name == "cluster" {
            self.lab = Some(build(rest)?);
            return Ok(());
        }
        let lab = self.lab()?;
        match *name {
            "given" => given(lab, rest)?,
            "tick" => {
                let count = rest.get(1).map_or(Ok(1), |text| words::number(text))?;
                nodes(lab, &rest[..1])?.into_iter().for_each(|id| lab.tick(id, count as u32));
            }
            "campaign" => lab.campaign(one(lab, rest)?),
            "forget" => nodes(lab, rest)?.into_iter().try_for_each(|id| lab.forget(id))?,
            "propose" => drop(lab.propose(one(lab, rest)?, &rest[1..])),
            "read" => drop(lab.read(one(lab, rest)?)),
            "here" => drop(lab.read_here(one(lab, rest)?)),
            "change" => change(lab, rest)?,
            "transfer" => {
                let to = rest.get(1).map(|word| words::node(word)).transpose()?;
                lab.transfer(one(lab, rest)?, to);
            }
            "crash" => {
                let kept = rest.get(1).map_or(Ok(0), |text| words::number(text))?;
                lab.crash(one(lab, rest)?, kept as usize);
            }
            "restart" => lab.restart(one(lab, rest)?),
            "cut" => lab.cut(&links(lab, rest)?),
            "isolate" => {
                for id in nodes(lab, rest)? {
                    lab.cut(&lab.links_of(id));
                }
            }
            "heal" => lab.heal(),
            "hold" => lab.hold(&links(lab, rest)?),
            "release" => lab.release(&links(lab, rest)?),
            "deliver" | "drop" => {
                let link = link(rest.first().ok_or("expected a link")?)?;
                let count = rest.get(1).map_or(Ok(1), |text| words::number(text))? as usize;
                if *name == "drop" { lab.drop(link, count)? } else { lab.deliver(link, count)? }
            }
            "duplicate" => lab.duplicate(link(rest.first().ok_or("expected a link")?)?)?,
            "reverse" => lab.reverse(link(rest.first().ok_or("expected a link")?)?)?,
            "disk" => disk(lab, rest)?,
            "snapshot" => snapshot(lab, rest)?,
            "forge" => forge(lab, rest)?,
            "status" => status(lab, rest)?,
            "log" => log(lab, rest)?,
            "held" => {
                let held: Vec<String> = lab.held_messages().map(words::message).collect();
                held.into_iter().for_each(|line| lab.note(line));
            }
            _ => return Err(format!("unknown command `{name}`; the first lines of scripts.rs list them")),
        }
        Ok(())
    }

    fn lab(&mut self) -> Result<&mut Lab, String> {
        self.lab.as_mut().ok_or("the first command must be `cluster`".to_owned())
    }
}

fn build(options: &[&str]) -> Result<Lab, String> {
    let mut settings = Settings::default();
    let mut leader = None;
    for option in options {
        let (key, value) = option.split_once('=').ok_or(format!("expected `key=value`, found `{option}`"))?;
        let value = words::number(value)?;
        match key {
            "nodes" => settings.nodes = value,
            "spares" => settings.spares = value,
            "lease" => settings.lease = Some(value),
            "leader" => leader = Some(value),
            "seed" => settings.seed = value,
            "append-bytes" => settings.append_bytes_max = value as usize,
            "inflight-bytes" => settings.inflight_bytes_max = value as usize,
            "compact" => settings.compact_entries = value,
            "tail" => settings.tail_entries = value,
            "chunk" => settings.chunk_entries = value,
            "chunks" => settings.chunks_inflight_max = value,
            "uncommitted" => settings.uncommitted_entries_max = value,
            _ => return Err(format!("a cluster has no `{key}`")),
        }
    }
    Ok(leader.map_or_else(|| Lab::new(&settings), |leader| Lab::led_by(leader, &settings)))
}

fn given(lab: &mut Lab, words: &[&str]) -> Result<(), String> {
    let id = one(lab, words)?;
    let (mut term, mut vote, mut commit, mut log) = (0, None, 0, Vec::new());
    for option in &words[1..] {
        match option.split_once('=') {
            Some(("term", value)) => term = words::number(value)?,
            Some(("vote", value)) => vote = Some(words::node(value)?),
            Some(("commit", value)) => commit = words::number(value)?,
            Some(("log", value)) => {
                log = value.split(',').map(words::number).collect::<Result<_, _>>()?;
            }
            _ => return Err(format!("a past has no `{option}`")),
        }
    }
    lab.crash(id, 0);
    lab.given(id, term, vote, commit, &log);
    lab.restart(id);
    Ok(())
}

fn change(lab: &mut Lab, words: &[&str]) -> Result<(), String> {
    let id = one(lab, words)?;
    let mut change = Change::default();
    for option in &words[1..] {
        let (key, value) = option.split_once('=').ok_or(format!("expected `add=4`, found `{option}`"))?;
        let ids = value.split(',').map(words::node).collect::<Result<_, _>>()?;
        match key {
            "add" => change.add = ids,
            "promote" => change.promote = ids,
            "remove" => change.remove = ids,
            _ => return Err(format!("a change has no `{key}`")),
        }
    }
    lab.change(id, change);
    Ok(())
}

fn disk(lab: &mut Lab, words: &[&str]) -> Result<(), String> {
    let [act, rest @ ..] = words else { return Err("expected `disk hold`, `write` or `release`".into()) };
    let count = rest.get(1).map_or(Ok(1), |text| words::number(text))?;
    let id = one(lab, rest)?;
    match *act {
        "hold" => lab.hold_disk(id),
        "write" => lab.complete(id, count as usize),
        "release" => lab.release_disk(id),
        _ => return Err(format!("a disk cannot `{act}`")),
    }
    Ok(())
}

fn snapshot(lab: &mut Lab, words: &[&str]) -> Result<(), String> {
    let [act, rest @ ..] = words else { return Err("expected `snapshot hold`, `spoil` or `release`".into()) };
    let id = one(lab, rest)?;
    match *act {
        "hold" => lab.hold_snapshots(id),
        "spoil" => lab.spoil_snapshot(id),
        "release" => lab.release_snapshots(id),
        _ => return Err(format!("a snapshot cannot `{act}`")),
    }
    Ok(())
}

fn forge(lab: &mut Lab, words: &[&str]) -> Result<(), String> {
    let at = words.first().and_then(|word| word.strip_prefix("at="));
    let message = words::parse_message(if at.is_some() { &words[1..] } else { words })?;
    let at = at.map_or(Ok(message.to), words::node)?;
    lab.forge(at, message);
    Ok(())
}

fn status(lab: &mut Lab, words: &[&str]) -> Result<(), String> {
    for id in nodes(lab, if words.is_empty() { &["all"] } else { words })? {
        let Some(core) = lab.servers[&id].core() else {
            lab.note(format!("{id} down"));
            continue;
        };
        let status = core.status();
        let leader = status.leader.map_or("-".to_owned(), |leader| leader.to_string());
        let vote = core.vote().map_or("-".to_owned(), |vote| vote.to_string());
        lab.note(format!(
            "{id} {} term={} leader={leader} vote={vote} last={} commit={} refused={}",
            words::role(status.role),
            status.term,
            status.last,
            status.commit,
            core.refused(),
        ));
    }
    Ok(())
}

/// Entries in brackets are not durable yet.
fn log(lab: &mut Lab, words: &[&str]) -> Result<(), String> {
    for id in nodes(lab, if words.is_empty() { &["all"] } else { words })? {
        let server = &lab.servers[&id];
        let begin = server.core().map_or(server.disk.durable.begin, |core| core.begin());
        let mut line = format!("{id} log");
        if begin.index.0 > 0 {
            line += &format!(" after {begin:?}");
        }
        let held: Vec<_> = match server.core() {
            Some(core) => core.entries().cloned().collect(),
            None => server.disk.durable.entries.clone(),
        };
        for entry in held {
            let durable = server.disk.durable.holds(entry.position());
            let text = words::entry(&entry);
            let _ = if durable { write!(line, " | {text}") } else { write!(line, " | [{text}]") };
        }
        lab.note(line);
    }
    Ok(())
}

fn one(lab: &Lab, words: &[&str]) -> Result<NodeId, String> {
    let id = words::node(words.first().ok_or("expected a node")?)?;
    if !lab.servers.contains_key(&id) {
        return Err(format!("the cluster has no {id}"));
    }
    Ok(id)
}

fn nodes(lab: &Lab, words: &[&str]) -> Result<Vec<NodeId>, String> {
    if words == ["all"] {
        return Ok(lab.ids());
    }
    if words.is_empty() {
        return Err("expected nodes, or `all`".into());
    }
    words.iter().map(|word| one(lab, &[word])).collect()
}

fn links(lab: &Lab, words: &[&str]) -> Result<Vec<Link>, String> {
    let mut links = Vec::new();
    for word in words {
        if *word == "all" {
            links.extend(lab.links());
        } else if let Some((a, b)) = word.split_once("<->") {
            let (a, b) = (one(lab, &[a])?, one(lab, &[b])?);
            links.extend([(a, b), (b, a)]);
        } else {
            links.push(link(word)?);
        }
    }
    if links.is_empty() { Err("expected links, as `1->2`, `1<->2` or `all`".into()) } else { Ok(links) }
}

fn link(word: &str) -> Result<Link, String> {
    let (from, to) = word.split_once("->").ok_or(format!("expected a link as `1->2`, found `{word}`"))?;
    Ok((words::node(from)?, words::node(to)?))
}

/// What is the same at both ends is left out but for three lines.
fn difference(expected: &str, found: &str) -> String {
    const CONTEXT: usize = 3;
    let mut expected: VecDeque<&str> = expected.lines().collect();
    let mut found: VecDeque<&str> = found.lines().collect();
    let mut before = VecDeque::new();
    while expected.front().is_some() && expected.front() == found.front() {
        before.extend(expected.pop_front());
        found.pop_front();
        if before.len() > CONTEXT {
            before.pop_front();
        }
    }
    let mut after = VecDeque::new();
    while expected.back().is_some() && expected.back() == found.back() {
        if let Some(line) = expected.pop_back() {
            after.push_front(line);
        }
        found.pop_back();
        after.truncate(CONTEXT);
    }
    let mut text = String::new();
    for (mark, lines) in [(' ', before), ('-', expected), ('+', found), (' ', after)] {
        lines.into_iter().for_each(|line| text += &format!("  {mark} {line}\n"));
    }
    text + "  (- expected, + found; UPDATE=1 takes what was found)"
}
