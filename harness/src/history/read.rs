//! Reads the witness book back and pairs each invocation with what came of it.
//!
//! In: `history.jsonl`. Out: [`History`], or an error that names the lines. Never: a line that is passed over, or
//! an outcome that nobody recorded.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::line::{Line, without_place};
use super::{Datum, OpType, Process, Strike};

/// A whole history, in the order of invocation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    pub operations: Vec<Operation>,
    pub strikes: Vec<StrikeRecord>,
    /// How many lines the file has.
    pub lines: u32,
}

/// A client's operation, from invocation to completion. Lines count from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    pub process: u64,
    pub f: Arc<str>,
    pub key: Option<Arc<str>>,
    /// As invoked: a write's value, a compare-and-swap's `[expected, new]`.
    pub value: Datum,
    /// As completed: what a read saw.
    pub result: Datum,
    /// What a node found that compared and changed nothing.
    pub seen: Option<Datum>,
    pub error: Option<Arc<str>>,
    pub node: Option<Arc<str>>,
    /// Session and sequence, which join a write to its log entry.
    pub ticket: Option<(u64, u64)>,
    pub invoked_at: u64,
    /// When the line that ended it was written; none when the history ends before.
    pub completed_at: Option<u64>,
    pub ended: Ended,
    pub invoke_line: u32,
    pub completion_line: Option<u32>,
}

impl Operation {
    /// Whether it may change something: not a read, nor a transaction that only reads.
    pub fn changes(&self) -> bool {
        match (&*self.f, self.value.as_array()) {
            ("read", _) => false,
            ("txn", Some(steps)) => steps.iter().any(|step| step[0] != "r"),
            _ => true,
        }
    }
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// It happened, between invocation and completion.
    Ok,
    /// It certainly did not and will not happen.
    Fail,
    /// Open to the end of time.
    Info,
}

/// A fault done (`f` is its kind) or undone (`heal`).
#[derive(Debug, Clone, PartialEq)]
pub struct StrikeRecord {
    pub f: Arc<str>,
    pub invoked: Strike,
    pub completed: Option<Strike>,
    pub invoked_at: u64,
    pub completed_at: Option<u64>,
    pub invoke_line: u32,
    pub completion_line: Option<u32>,
}

#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {fault}", path.display())]
pub struct HistoryError {
    pub path: PathBuf,
    /// From 1; 0 when the file as a whole is meant.
    pub line: u32,
    pub fault: Box<HistoryFault>,
}

#[derive(Debug, thiserror::Error)]
pub enum HistoryFault {
    #[error("failed to read: {0}")]
    Read(#[from] io::Error),
    #[error("expected one operation as a JSON object: {}, at column {}", without_place(.0), .0.column())]
    NotAnOp(#[from] serde_json::Error),
    #[error("the last line is cut: expected it to end with a newline")]
    Cut,
    #[error("expected index {expected}, found {found}")]
    Index { expected: u64, found: u64 },
    #[error("time {time} ns is before the {before} ns of line {line_before}")]
    TimeFalls { time: u64, before: u64, line_before: u32 },
    #[error("process {process} invokes `{f}` while its operation of line {open} is not complete")]
    Busy { process: u64, f: String, open: u32 },
    #[error("process {process} invokes again after line {info} left its operation open for ever")]
    Departed { process: u64, info: u32 },
    #[error("process {process} completes `{f}` without having invoked anything")]
    NotInvoked { process: u64, f: String },
    #[error(
        "process {process} completes `{f}` of key {key:?}, but line {open} invoked `{open_f}` of {open_key:?}"
    )]
    Mismatch {
        process: u64,
        f: String,
        key: Option<String>,
        open: u32,
        open_f: String,
        open_key: Option<String>,
    },
    #[error("process {process} completes `{f}` with {found}, but line {open} invoked it with {expected}")]
    Differs { process: u64, f: String, found: String, open: u32, expected: String },
    #[error("expected the value of a nemesis line (step, target, nodes, outcome, detail): {0}")]
    NotAStrike(serde_json::Error),
    #[error("the nemesis completes `{f}` of step {step:?}, which no line before invoked")]
    StrikeNotInvoked { f: String, step: Option<u64> },
    #[error("the nemesis invokes, then records `info`; found `{0:?}`")]
    StrikeType(OpType),
}

impl History {
    /// Reads line by line and checks the rules of [`Op`](super::Op).
    pub fn read(path: &Path) -> Result<History, HistoryError> {
        let mut reader = Reader::default();
        let mut line = 0;
        let mut result = || -> Result<(), HistoryFault> {
            let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
            let mut text = Vec::new();
            while file.read_until(b'\n', &mut text)? > 0 {
                line += 1;
                if text.last() != Some(&b'\n') {
                    return Err(HistoryFault::Cut);
                }
                reader.line(line, Line::read(&text)?)?;
                text.clear();
            }
            Ok(())
        };
        match result() {
            Ok(()) => Ok(reader.history),
            Err(fault) => Err(HistoryError { path: path.into(), line, fault: Box::new(fault) }),
        }
    }
}

#[derive(Default)]
struct Reader {
    history: History,
    clients: Clients,
    /// Positions in `history.strikes` which wait for their completion.
    /// By what they do and for which step, the oldest first.
    open_strikes: HashMap<(Arc<str>, Option<u64>), VecDeque<usize>>,
    names: Names,
    time: u64,
}

enum Client {
    Idle,
    /// Position in `history.operations`.
    Busy(usize),
    /// Left an operation open at this line.
    Departed(u32),
}

impl Reader {
    fn line(&mut self, line: u32, op: Line) -> Result<(), HistoryFault> {
        let expected = u64::from(line) - 1;
        if op.index != expected {
            return Err(HistoryFault::Index { expected, found: op.index });
        }
        if op.time < self.time {
            let (before, line_before) = (self.time, line - 1);
            return Err(HistoryFault::TimeFalls { time: op.time, before, line_before });
        }
        self.time = op.time;
        self.history.lines = line;
        match (op.process, op.kind) {
            (Process::Client(process), OpType::Invoke) => self.invoke(line, process, op),
            (Process::Client(process), _) => self.complete(line, process, op),
            (Process::Nemesis(_), OpType::Invoke) => self.strike(line, op),
            (Process::Nemesis(_), OpType::Info) => self.struck(line, op),
            (Process::Nemesis(_), kind) => Err(HistoryFault::StrikeType(kind)),
        }
    }

    fn invoke(&mut self, line: u32, process: u64, op: Line) -> Result<(), HistoryFault> {
        let at = self.history.operations.len();
        match self.clients.insert(process, Client::Busy(at)) {
            Some(Client::Busy(open)) => {
                let open = self.history.operations[open].invoke_line;
                return Err(HistoryFault::Busy { process, f: op.f.into_owned(), open });
            }
            Some(Client::Departed(info)) => return Err(HistoryFault::Departed { process, info }),
            Some(Client::Idle) | None => {}
        }
        let operation = Operation {
            process,
            f: self.names.of(&op.f),
            key: op.key.map(|key| self.names.of(&key)),
            value: op.value,
            result: Datum::NULL,
            seen: None,
            error: None,
            node: op.node.map(|node| self.names.of(&node)),
            ticket: op.session.zip(op.sequence),
            invoked_at: op.time,
            completed_at: None,
            ended: Ended::Info,
            invoke_line: line,
            completion_line: None,
        };
        self.history.operations.push(operation);
        Ok(())
    }

    fn complete(&mut self, line: u32, process: u64, op: Line) -> Result<(), HistoryFault> {
        let (ended, client) = match op.kind {
            OpType::Ok => (Ended::Ok, Client::Idle),
            OpType::Fail => (Ended::Fail, Client::Idle),
            OpType::Info | OpType::Invoke => (Ended::Info, Client::Departed(line)),
        };
        let Some(Client::Busy(at)) = self.clients.insert(process, client) else {
            return Err(HistoryFault::NotInvoked { process, f: op.f.into_owned() });
        };
        let open = &self.history.operations[at];
        if *open.f != *op.f || open.key.as_deref() != op.key.as_deref() {
            return Err(HistoryFault::Mismatch {
                process,
                f: op.f.into_owned(),
                key: op.key.map(Cow::into_owned),
                open: open.invoke_line,
                open_f: open.f.to_string(),
                open_key: open.key.as_deref().map(String::from),
            });
        }
        if let Some((found, expected)) = differs(open, &op) {
            let (f, open) = (op.f.into_owned(), open.invoke_line);
            return Err(HistoryFault::Differs { process, f, found, open, expected });
        }
        let node = op.node.map(|node| self.names.of(&node));
        let error = op.error.map(|error| self.names.of(&error));
        let operation = &mut self.history.operations[at];
        // What was asked is mostly told again: one copy is enough.
        let again = op.value == operation.value;
        operation.result = if again { operation.value.clone() } else { op.value };
        operation.seen = op.seen;
        operation.error = error;
        operation.node = node.or(operation.node.take());
        operation.ticket = op.session.zip(op.sequence).or(operation.ticket);
        operation.completed_at = Some(op.time);
        operation.ended = ended;
        operation.completion_line = Some(line);
        Ok(())
    }

    fn strike(&mut self, line: u32, op: Line) -> Result<(), HistoryFault> {
        let invoked = serde_json::from_value::<Strike>(op.value.json().into_owned())
            .map_err(HistoryFault::NotAStrike)?;
        let act = (self.names.of(&op.f), invoked.step);
        self.open_strikes.entry(act).or_default().push_back(self.history.strikes.len());
        let strike = StrikeRecord {
            f: self.names.of(&op.f),
            invoked,
            completed: None,
            invoked_at: op.time,
            completed_at: None,
            invoke_line: line,
            completion_line: None,
        };
        self.history.strikes.push(strike);
        Ok(())
    }

    /// Faults overlap, so a completion belongs to the oldest open line of the same act of the same step.
    fn struck(&mut self, line: u32, op: Line) -> Result<(), HistoryFault> {
        let completed: Strike =
            serde_json::from_value(op.value.json().into_owned()).map_err(HistoryFault::NotAStrike)?;
        let act = (self.names.of(&op.f), completed.step);
        let Some(place) = self.open_strikes.get_mut(&act).and_then(VecDeque::pop_front) else {
            return Err(HistoryFault::StrikeNotInvoked { f: op.f.into_owned(), step: completed.step });
        };
        let strike = &mut self.history.strikes[place];
        strike.completed = Some(completed);
        strike.completed_at = Some(op.time);
        strike.completion_line = Some(line);
        Ok(())
    }
}

/// What a completion says of the operation in other words than its invocation: what was found and expected.
fn differs(asked: &Operation, told: &Line) -> Option<(String, String)> {
    // Other functions tell what they saw.
    let repeats = matches!(&*told.f, "write" | "cas") && !told.value.is_null();
    if repeats && told.value != asked.value {
        return Some((told.value.to_string(), asked.value.to_string()));
    }
    let ticket = |(session, sequence)| format!("session {session}, sequence {sequence}");
    let (expected, found) = asked.ticket.zip(told.session.zip(told.sequence))?;
    (expected != found).then(|| (ticket(found), ticket(expected)))
}

/// Who has an operation open. Processes are mostly numbered from 0.
#[derive(Default)]
struct Clients {
    near: Vec<Option<Client>>,
    far: HashMap<u64, Client>,
}

impl Clients {
    /// So many stand in a vector, if they come.
    const NEAR: u64 = 1 << 20;

    fn insert(&mut self, process: u64, client: Client) -> Option<Client> {
        if process >= Clients::NEAR {
            return self.far.insert(process, client);
        }
        let place = process as usize;
        if self.near.len() <= place {
            self.near.resize_with(place + 1, || None);
        }
        self.near[place].replace(client)
    }
}

/// The few names of a history, each kept once.
#[derive(Default)]
struct Names {
    all: HashSet<Arc<str>>,
    /// By their length and last signs: most names of a line were in a line shortly before.
    recent: [Option<Arc<str>>; Names::RECENT],
}

impl Names {
    const RECENT: usize = 32;

    fn of(&mut self, name: &str) -> Arc<str> {
        let ends = name.bytes().rev().take(2).fold(name.len(), |ends, byte| ends * 7 + usize::from(byte));
        let recent = &mut self.recent[ends % Names::RECENT];
        if let Some(known) = recent.as_ref().filter(|known| ***known == *name) {
            return known.clone();
        }
        let known = match self.all.get(name) {
            Some(known) => known.clone(),
            None => {
                let new: Arc<str> = name.into();
                self.all.insert(new.clone());
                new
            }
        };
        *recent = Some(known.clone());
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<History, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        std::fs::write(&path, text).unwrap();
        History::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn what_only_reads_changes_nothing() {
        for (f, value, expected) in [
            ("read", "null", false),
            ("write", "3", true),
            ("release", "3", true),
            ("txn", r#"[["r","k1",null],["r","k2",null]]"#, false),
            ("txn", r#"[["r","k1",null],["append","k2",7]]"#, true),
            ("txn", "null", true),
        ] {
            let line =
                format!(r#"{{"index":0,"time":1,"process":0,"type":"invoke","f":"{f}","value":{value}}}"#);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("history.jsonl");
            std::fs::write(&path, line + "\n").unwrap();
            let history = History::read(&path).unwrap();
            assert_eq!(history.operations[0].changes(), expected, "{f} {value}");
        }
    }

    #[test]
    fn a_completion_finds_its_invocation() {
        let history = read(
            r#"{"index":0,"time":5,"process":0,"type":"invoke","f":"cas","key":"k","value":[1,2],"session":7,"sequence":8}
{"index":1,"time":6,"process":"nemesis","type":"invoke","f":"kill","value":{"step":0,"target":"leader","nodes":[],"outcome":null,"detail":""}}
{"index":2,"time":6,"process":1,"type":"invoke","f":"read","key":"k","value":null}
{"index":3,"time":7,"process":0,"type":"fail","f":"cas","key":"k","value":[1,2],"seen":null}
{"index":4,"time":8,"process":"nemesis","type":"info","f":"kill","value":{"step":0,"target":"leader","nodes":["n1"],"outcome":"installed","detail":"n1: ended by signal 9"}}
"#,
        )
        .unwrap();
        let [cas, read] = &history.operations[..] else { panic!("{history:?}") };
        assert_eq!((cas.ended, cas.completed_at, cas.completion_line), (Ended::Fail, Some(7), Some(4)));
        assert_eq!((cas.ticket, cas.seen.clone()), (Some((7, 8)), Some(Datum::NULL)));
        assert_eq!((read.ended, read.completed_at, read.invoke_line), (Ended::Info, None, 3));
        assert_eq!(history.strikes[0].completed.as_ref().unwrap().nodes, ["n1"]);
    }

    #[test]
    fn a_broken_rule_is_named_with_its_lines() {
        let invoke = |index: u64, process: u64| {
            format!(
                r#"{{"index":{index},"time":{index},"process":{process},"type":"invoke","f":"read","key":"k"}}"#
            ) + "\n"
        };
        let end = |index: u64, kind: &str, f: &str| {
            format!(r#"{{"index":{index},"time":{index},"process":0,"type":"{kind}","f":"{f}","key":"k"}}"#)
                + "\n"
        };
        let cases = [
            (invoke(0, 0) + &invoke(2, 1), "history.jsonl:2: expected index 1, found 2"),
            (invoke(0, 0) + &invoke(1, 0), ":2: process 0 invokes `read` while its operation of line 1"),
            (
                invoke(0, 0) + &end(1, "info", "read") + &invoke(2, 0),
                ":3: process 0 invokes again after line 2",
            ),
            (end(0, "ok", "read"), ":1: process 0 completes `read` without"),
            (
                invoke(0, 0) + &end(1, "ok", "write"),
                ":2: process 0 completes `write` of key Some(\"k\"), but line 1",
            ),
            (
                invoke(0, 0).replace("read", "write").replace('}', r#","value":1}"#)
                    + &end(1, "ok", "write").replace('}', r#","value":2}"#),
                ":2: process 0 completes `write` with 2, but line 1 invoked it with 1",
            ),
            (
                invoke(0, 0).replace('}', r#","session":1,"sequence":2}"#)
                    + &end(1, "ok", "read").replace('}', r#","session":1,"sequence":3}"#),
                "with session 1, sequence 3, but line 1 invoked it with session 1, sequence 2",
            ),
            (invoke(0, 0) + "garbage\n", ":2: expected one operation"),
            (invoke(0, 0) + r#"{"index":1,"#, ":2: the last line is cut"),
            (
                invoke(0, 0) + r#"{"index":1,"time":1,"process":"nemesis","type":"ok","f":"kill"}"# + "\n",
                ":2: the nemesis invokes",
            ),
        ];
        for (text, expected) in cases {
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected), "{error}\nshould contain\n{expected}");
        }
        let late = invoke(0, 0).replace("\"time\":0", "\"time\":9");
        assert!(
            read(&(late + &invoke(1, 1))).unwrap_err().contains("time 1 ns is before the 9 ns of line 1")
        );
    }
}
