//! Writes a history of ours for the tools of others: Jepsen, Knossos, elle-cli.
//!
//! In: `history.jsonl`. Out: one EDN map a line, or one JSON array with an operation a line. Never: a line left out.
//!
//! The keyed value of those tools is `[key value]`; the steps of a transaction are named by keywords in EDN, `[:append 1 2]`. A nemesis' line is `info` there, whether it begins or ends. What a
//! compare-and-swap that failed saw has no place there, and is lost.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::edn::{write_transaction, write_value};
use super::{HistoryError, HistoryFault, Op, OpType, Process};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Edn,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("failed to write the history: {0}")]
    Write(#[from] io::Error),
}

/// Reads the lines at `path` and writes them to `out`.
pub fn export(path: &Path, format: Format, out: &mut impl Write) -> Result<(), ExportError> {
    let fault = |line, fault: HistoryFault| HistoryError { path: path.into(), line, fault: Box::new(fault) };
    let file = File::open(path).map_err(|error| fault(0, error.into()))?;
    let mut first = true;
    for (line, text) in (1..).zip(BufReader::new(file).lines()) {
        let text = text.map_err(|error| fault(line, error.into()))?;
        let op: Op = serde_json::from_str(&text).map_err(|error| fault(line, error.into()))?;
        match format {
            Format::Edn => writeln!(out, "{}", edn(op))?,
            Format::Json => {
                out.write_all(if first { b"[" } else { b",\n" })?;
                serde_json::to_writer(&mut *out, &json(op)).map_err(io::Error::from)?;
            }
        }
        first = false;
    }
    if format == Format::Json {
        out.write_all(if first { b"[]\n" } else { b"]\n" })?;
    }
    Ok(out.flush()?)
}

fn kind(op: &Op) -> &'static str {
    match (op.process, op.kind) {
        (Process::Nemesis(_), _) | (_, OpType::Info) => "info",
        (_, OpType::Invoke) => "invoke",
        (_, OpType::Ok) => "ok",
        (_, OpType::Fail) => "fail",
    }
}

fn value(key: Option<String>, value: Value) -> Value {
    match key {
        Some(key) => json!([key, value]),
        None => value,
    }
}

fn edn(op: Op) -> String {
    let process = match op.process {
        Process::Client(process) => process.to_string(),
        Process::Nemesis(_) => ":nemesis".to_owned(),
    };
    let (index, time, kind) = (op.index, op.time, kind(&op));
    let mut text =
        format!("{{:index {index}, :time {time}, :process {process}, :type :{kind}, :f :{}, :value ", op.f);
    match (&*op.f, &op.key) {
        ("txn", None) => write_transaction(&mut text, &op.value),
        _ => write_value(&mut text, &value(op.key, op.value)),
    }
    if let Some(error) = op.error {
        text.push_str(", :error ");
        write_value(&mut text, &error.into());
    }
    text + "}"
}

fn json(op: Op) -> Value {
    let kind = kind(&op);
    let mut entry = json!({
        "index": op.index,
        "time": op.time,
        "process": op.process,
        "type": kind,
        "f": op.f,
        "value": value(op.key, op.value),
    });
    if let Some(error) = op.error {
        entry["error"] = error.into();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::super::function::{Function, Shape};
    use super::super::import::{Dialect, import};
    use super::super::{Ended, History};
    use super::*;

    const LINES: &str = r#"{"index":0,"time":5,"process":0,"type":"invoke","f":"cas","key":"k 1","value":[null,2],"session":7,"sequence":8}
{"index":1,"time":6,"process":"nemesis","type":"invoke","f":"kill","value":{"step":0,"target":"leader","nodes":[],"outcome":null,"detail":"a \"b\""}}
{"index":2,"time":6,"process":1,"type":"invoke","f":"read","key":"k2","value":null}
{"index":3,"time":7,"process":0,"type":"info","f":"cas","key":"k 1","value":[null,2],"error":"timeout"}
{"index":4,"time":8,"process":1,"type":"ok","f":"read","key":"k2","value":"v\"\n"}
"#;

    #[test]
    fn what_is_exported_as_edn_is_imported_as_the_same_operations() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (folder.path().join("history.jsonl"), folder.path().join("history.edn"));
        std::fs::write(&ours, LINES).unwrap();
        export(&ours, Format::Edn, &mut File::create(&theirs).unwrap()).unwrap();
        let functions = &[
            Function::new("read", Shape::Ignored, Shape::Anything),
            Function::new("cas", Shape::Pair, Shape::Ignored),
        ];
        let dialect = Dialect { functions, keyed: true };
        let (ours, theirs) = (History::read(&ours).unwrap(), import(&theirs, dialect).unwrap());
        assert_eq!((theirs.skipped, theirs.lines), (1, vec![1, 2, 3, 4, 5]));
        assert_eq!(ours.operations.len(), theirs.history.operations.len());
        for (ours, theirs) in ours.operations.iter().zip(&theirs.history.operations) {
            assert_eq!((ours.process, &ours.f, &ours.key), (theirs.process, &theirs.f, &theirs.key));
            assert_eq!((&ours.value, ours.ended), (&theirs.value, theirs.ended));
            assert_eq!(
                (ours.invoke_line, ours.completion_line),
                (theirs.invoke_line, theirs.completion_line)
            );
            assert_eq!((ours.invoked_at, ours.completed_at), (theirs.invoked_at, theirs.completed_at));
            // What an open operation saw is of no account.
            assert!(ours.ended == Ended::Info || ours.result == theirs.result, "{ours:?} {theirs:?}");
        }
    }

    /// What other tools read of each kind of object, and what we read back of it.
    #[test]
    fn each_kind_of_operation_has_the_form_that_jepsen_writes() {
        let cases = [
            ("add", Some("s"), "3", r#":add, :value ["s" 3]}"#),
            ("read", Some("s"), "[3,1]", r#":read, :value ["s" [3 1]]}"#),
            ("read", None, "-7", ":read, :value -7}"),
            ("enqueue", None, "\"v\"", r#":enqueue, :value "v"}"#),
            ("dequeue", None, "null", ":dequeue, :value nil}"),
            ("acquire", Some("l"), "\"t1\"", r#":acquire, :value ["l" "t1"]}"#),
            ("release", None, "null", ":release, :value nil}"),
            (
                "txn",
                None,
                r#"[["append","k1",2],["r",1,null],["r",2,[1,2]]]"#,
                r#":txn, :value [[:append "k1" 2] [:r 1 nil] [:r 2 [1 2]]]}"#,
            ),
            (
                "transfer",
                None,
                r#"{"from":"a","to":0,"amount":5}"#,
                r#":transfer, :value {:amount 5, :from "a", :to 0}}"#,
            ),
            ("balances", None, r#"{"0":5,"a b":6,"c":7}"#, r#":balances, :value {0 5, "a b" 6, :c 7}}"#),
        ];
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (folder.path().join("history.jsonl"), folder.path().join("history.edn"));
        for (f, key, value, expected) in cases {
            let key = key.map_or_else(String::new, |key| format!(r#""key":"{key}","#));
            let line = |index: u8, kind: &str| {
                format!(
                    r#"{{"index":{index},"time":{index},"process":0,"type":"{kind}","f":"{f}",{key}"value":{value}}}"#
                )
            };
            std::fs::write(&ours, line(0, "invoke") + "\n" + &line(1, "ok") + "\n").unwrap();
            export(&ours, Format::Edn, &mut File::create(&theirs).unwrap()).unwrap();
            let text = std::fs::read_to_string(&theirs).unwrap();
            assert!(text.lines().all(|line| line.ends_with(expected)), "{text}\nshould end with\n{expected}");
            let shape = match f {
                "txn" => Shape::Transaction,
                "transfer" => Shape::Transfer,
                "balances" => Shape::Balances,
                _ => Shape::Anything,
            };
            let functions = &[Function::new(f, shape, shape)];
            let dialect = Dialect { functions, keyed: !key.is_empty() };
            let imported = import(&theirs, dialect).unwrap();
            let value: Value = serde_json::from_str(value).unwrap();
            let operation = &imported.history.operations[0];
            assert_eq!((&*operation.value.json(), &*operation.result.json()), (&value, &value), "{text}");
        }
    }

    #[test]
    fn the_exported_json_is_imported_as_the_same_operations() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (folder.path().join("history.jsonl"), folder.path().join("history.json"));
        std::fs::write(&ours, LINES).unwrap();
        export(&ours, Format::Json, &mut File::create(&theirs).unwrap()).unwrap();
        let functions = &[
            Function::new("read", Shape::Ignored, Shape::Anything),
            Function::new("cas", Shape::Pair, Shape::Ignored),
        ];
        let imported = import(&theirs, Dialect { functions, keyed: true }).unwrap();
        assert_eq!((imported.skipped, imported.lines), (1, vec![1, 2, 3, 4, 5]));
        let ours = History::read(&ours).unwrap();
        for (ours, theirs) in ours.operations.iter().zip(&imported.history.operations) {
            assert_eq!((&ours.f, &ours.key, &ours.value), (&theirs.f, &theirs.key, &theirs.value));
            assert_eq!((ours.ended, ours.completion_line), (theirs.ended, theirs.completion_line));
        }
    }

    #[test]
    fn the_json_is_one_array_of_keyed_operations() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        std::fs::write(&path, LINES).unwrap();
        let mut out = Vec::new();
        export(&path, Format::Json, &mut out).unwrap();
        let entries: Vec<Value> = serde_json::from_slice(&out).unwrap();
        assert_eq!(entries.len(), 5);
        assert_eq!(entries[0]["value"], json!(["k 1", [null, 2]]));
        assert_eq!((&entries[1]["process"], &entries[1]["type"]), (&json!("nemesis"), &json!("info")));
        assert_eq!(entries[4]["value"], json!(["k2", "v\"\n"]));
        std::fs::write(&path, "").unwrap();
        let mut out = Vec::new();
        export(&path, Format::Json, &mut out).unwrap();
        assert_eq!(out, b"[]\n");
    }
}
