//! Reads histories that other systems wrote.
//!
//! In: a file in EDN as Jepsen writes it (one map a line, or one vector), the lines of Jepsen's older logs, an array of
//! JSON as `export` writes it, or our own `history.jsonl`. Out: a [`History`] and where each of its entries stands.
//! Never: an entry passed over in silence; the nemesis and lines of other loggers are counted.
//!
//! A form is a file here, which makes each entry an [`Entry`]; [`pairing`] joins those of one operation.

mod array;
mod log_lines;
mod maps;
mod pairing;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::edn::EdnError;
use super::function::{Function, Shape};
use super::{Ended, History, HistoryError, OpType};

#[derive(Debug, Default)]
pub struct Imported {
    /// Where it speaks of lines, entries are meant, counted from 1: several may stand on one line of the file.
    pub history: History,
    /// The line of each entry, from 1.
    pub lines: Vec<u32>,
    /// Entries of the nemesis, and lines of other loggers.
    pub skipped: u64,
}

/// What is known of a foreign history beforehand.
#[derive(Debug, Clone, Copy)]
pub struct Dialect<'a> {
    /// Functions that may occur.
    pub functions: &'a [Function],
    /// Values are `[key value]`.
    pub keyed: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("failed to read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}:{line}: {fault}", path.display())]
    Entry { path: PathBuf, line: u32, fault: ImportFault },
    #[error(transparent)]
    Lines(#[from] HistoryError),
}

#[derive(Debug, thiserror::Error)]
pub enum ImportFault {
    #[error("{0}")]
    Syntax(EdnError),
    #[error("expected a map of an operation, such as {{:process 0, :type :invoke, :f :read, :value nil}}")]
    NotAMap,
    #[error("expected an object of an operation in JSON: {0}")]
    NotAnObject(String),
    #[error("expected {expected}, found {found}")]
    Sign { expected: &'static str, found: String },
    #[error("expected an operation, such as `0 :invoke :write 3`")]
    NotALogLine,
    #[error("expected :{field} to be {expected}, found {found}")]
    Field { field: &'static str, expected: String, found: String },
    #[error("expected each field once, found :{name} twice")]
    FieldTwice { name: String },
    #[error("process {process} invokes while its operation of line {open} is not complete")]
    Busy { process: u64, open: u32 },
    #[error("process {process} invokes again after line {info} left its operation open for ever")]
    Departed { process: u64, info: u32 },
    #[error("process {process} completes :{f} without having invoked it")]
    NotInvoked { process: u64, f: String },
    #[error("more than 4 294 967 295 entries")]
    TooMany,
    #[error("expected text in UTF-8, found {0}")]
    NotText(&'static str),
}

/// Reads a whole file; its first character that is not blank says in which form it is.
pub fn import(path: &Path, dialect: Dialect) -> Result<Imported, ImportError> {
    let failed = |source| ImportError::Read { path: path.into(), source };
    // Ours may be large, and is read line by line.
    if begins_as_ours(path).map_err(failed)? {
        return own_lines(path, dialect);
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let text = text(&bytes).map_err(|(line, fault)| ImportError::Entry { path: path.into(), line, fault })?;
    let mut begin = text.chars().filter(|sign| !sign.is_whitespace());
    let result = match (begin.next(), begin.next(), begin.next()) {
        (Some('{'), Some('"'), _) => return own_lines(path, dialect),
        (Some('['), Some('{'), Some('"')) => array::read(text, dialect),
        (Some('{' | '[' | '#' | ';' | '('), ..) => maps::read(text, dialect),
        _ => log_lines::read(text, dialect),
    };
    result.map_err(|(line, fault)| ImportError::Entry { path: path.into(), line, fault })
}

/// Without the mark of byte order that some editors put first.
fn text(bytes: &[u8]) -> Result<&str, Faulty> {
    if bytes.starts_with(b"\x1f\x8b") {
        return Err((1, ImportFault::NotText("a file that gzip compressed")));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let lines = bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        (lines as u32 + 1, ImportFault::NotText("bytes that are none"))
    })
}

fn begins_as_ours(path: &Path) -> io::Result<bool> {
    let mut begin = Vec::new();
    File::open(path)?.take(64).read_to_end(&mut begin)?;
    Ok(begin
        .trim_ascii_start()
        .strip_prefix(b"{")
        .is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\"")))
}

fn own_lines(path: &Path, dialect: Dialect) -> Result<Imported, ImportError> {
    let mut history = History::read(path)?;
    for operation in &mut history.operations {
        let wrong = |line, fault| ImportError::Entry { path: path.into(), line, fault };
        let line = operation.invoke_line;
        let function = dialect.function(&operation.f).map_err(|fault| wrong(line, fault))?;
        let value = taken(function.asks, operation.value.json().into_owned());
        operation.value = value.map_err(|fault| wrong(line, fault))?.into();
        if operation.ended == Ended::Ok {
            let result = taken(function.answers, operation.result.json().into_owned());
            let line = operation.completion_line.unwrap_or(line);
            operation.result = result.map_err(|fault| wrong(line, fault))?.into();
        }
        operation.key.get_or_insert_with(|| "".into());
    }
    let lines = (1..=history.lines).collect();
    let skipped = history.strikes.len() as u64;
    Ok(Imported { history, lines, skipped })
}

/// A value of this shape.
fn taken(shape: Shape, value: Value) -> Result<Value, ImportFault> {
    if is_rounded(&value) {
        let (expected, found) = ("whole numbers of 64 bits at most".to_owned(), shown(&value));
        return Err(ImportFault::Field { field: "value", expected, found });
    }
    let text = if matches!(shape, Shape::Ignored | Shape::Anything) { String::new() } else { shown(&value) };
    let wrong =
        |expected: &str| ImportFault::Field { field: "value", expected: expected.to_owned(), found: text };
    shape.take(value).map_err(wrong)
}

/// A whole number within it was too large to be kept as it was written.
fn is_rounded(value: &Value) -> bool {
    const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => {
            number.is_f64() && number.as_f64().is_none_or(|number| number.abs() >= EXACT_BELOW)
        }
        Value::Array(items) => items.iter().any(is_rounded),
        Value::Object(fields) => fields.values().any(is_rounded),
        _ => false,
    }
}

/// A value as an error shows it: values may be long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

type Faulty = (u32, ImportFault);

/// The one process that is no client.
const NEMESIS: &str = "nemesis";

/// One entry, whatever form it was written in.
struct Entry {
    /// None: the nemesis, or who else is no client.
    process: Option<u64>,
    kind: OpType,
    f: String,
    value: Value,
    time: Option<u64>,
    error: Option<String>,
}

impl Dialect<'_> {
    fn function(&self, f: &str) -> Result<Function, ImportFault> {
        if let Some(function) = self.functions.iter().find(|function| function.name == f) {
            return Ok(*function);
        }
        let names: Vec<_> = self.functions.iter().map(|function| format!(":{}", function.name)).collect();
        Err(ImportFault::Field { field: "f", expected: names.join(" or "), found: format!(":{f}") })
    }

    /// Key and value; the key of a history that has none is empty.
    fn split(&self, value: Value) -> Result<(String, Value), ImportFault> {
        if !self.keyed {
            return Ok((String::new(), value));
        }
        match value {
            Value::Array(items) if items.len() == 2 => {
                let mut items = items.into_iter();
                let key = match items.next() {
                    // A name that could be taken for another value keeps its quotes.
                    Some(Value::String(key)) if serde_json::from_str::<Value>(&key).is_err() => key,
                    key => key.unwrap_or_default().to_string(),
                };
                Ok((key, items.next().unwrap_or_default()))
            }
            other => {
                let (expected, found) = ("[key value]".to_owned(), shown(&other));
                Err(ImportFault::Field { field: "value", expected, found })
            }
        }
    }
}

fn kind(word: &str) -> Option<OpType> {
    Some(match word {
        "invoke" => OpType::Invoke,
        "ok" => OpType::Ok,
        "fail" => OpType::Fail,
        "info" => OpType::Info,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::*;

    const FUNCTIONS: &[Function] = &[
        Function::new("read", Shape::Ignored, Shape::Anything),
        Function::new("write", Shape::Anything, Shape::Ignored),
        Function::new("cas", Shape::Pair, Shape::Ignored),
    ];

    fn read(text: &str, keyed: bool) -> Result<Imported, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.edn");
        std::fs::write(&path, text).unwrap();
        let dialect = Dialect { functions: FUNCTIONS, keyed };
        import(&path, dialect).map_err(|error| error.to_string())
    }

    /// Process, function, key, value, result, how it ended.
    fn told(imported: &Imported) -> Vec<String> {
        let tell = |operation: &Operation| {
            let Operation { process, f, value, result, ended, .. } = operation;
            let key = operation.key.as_deref().unwrap_or_default();
            format!("{process} {f} {key}:{value} {result} {ended:?}")
        };
        imported.history.operations.iter().map(tell).collect()
    }

    #[test]
    fn maps_a_vector_and_log_lines_tell_the_same() {
        let maps = "{:process 0, :type :invoke, :f :write, :value 3, :time 10, :index 0}
{:process :nemesis, :type :info, :f :start, :value [:isolated #{\"n1\"}]}
{:process 1, :type :invoke, :f :read, :value nil}
#jepsen.history.Op{:process 1, :type :ok, :f :read, :value 3}
{:process 0, :type :info, :f :write, :value 3, :error :timeout}
{:process 2, :type :invoke, :f :cas, :value [3 4]}
{:process 2, :type :fail, :f :cas, :value [3 4]}
";
        let log = "INFO  jepsen.core - Worker 0 starting
INFO  jepsen.util - 0\t:invoke\t:write\t3
INFO  jepsen.util - :nemesis :info :start nil
1 :invoke :read nil

INFO  jepsen.util - 1\t:ok\t:read\t3
INFO  jepsen.util - 0\t:info\t:write\t:timed-out
INFO  jepsen.util - 2 :invoke :cas [3 4]
INFO  jepsen.util - 2 :fail :cas :timed-out
";
        let expected = ["0 write :3 null Info", "1 read :null 3 Ok", "2 cas :[3,4] null Fail"];
        let vector = format!("[{}]", maps.replace('\n', " "));
        for (text, skipped) in [(maps, 1), (&*vector, 1), (&*format!("[{maps}]"), 1), (log, 2)] {
            let imported = read(text, false).unwrap();
            assert_eq!(told(&imported), expected, "{text}");
            assert_eq!(imported.skipped, skipped, "{text}");
            assert_eq!(imported.lines.len(), 7);
        }
        assert_eq!(read(maps, false).unwrap().lines, [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn keyed_values_are_taken_apart() {
        let text = "{:process 0 :type :invoke :f :read :value [\"x\" nil]}
{:process 1 :type :invoke :f :cas :value [7 [1 2]]}
{:process 0 :type :ok :f :read :value [\"x\" 5]}
{:process 1 :type :info :f :cas :value :timed-out}";
        assert_eq!(told(&read(text, true).unwrap()), ["0 read x:null 5 Ok", "1 cas 7:[1,2] null Info"]);
    }

    #[test]
    fn a_mistake_is_named_with_its_line_and_what_was_expected() {
        let invoke = "{:process 0 :type :invoke :f :write :value 1}\n";
        let cases = [
            (format!("{invoke}{invoke}"), "history.edn:2: process 0 invokes while its operation of line 1"),
            (
                invoke.replace(":write", ":enqueue"),
                ":1: expected :f to be :read or :write or :cas, found :enqueue",
            ),
            (invoke.replace(":invoke", ":begin"), ":1: expected :type to be :invoke, :ok, :fail or :info"),
            (invoke.replace(":write", ":cas"), ":1: expected :value to be [expected new], found 1"),
            (invoke.replace(":invoke", ":ok"), ":1: process 0 completes :write without"),
            (invoke.replace("0", "-1"), ":1: expected :process to be a number"),
            (format!("{invoke}\n[1 2]"), ":3: expected a map of an operation"),
            (format!("{invoke}{{:process 0 :type"), ":2: expected"),
            (format!("[{invoke}"), ":2: expected the end of the vector"),
            (
                format!("{invoke}{{:process 0, :type :info :f :write}}\n{invoke}"),
                ":3: process 0 invokes again after line 2",
            ),
            ("0 :invoke :write 3\nnoise\n".to_owned(), ":2: expected an operation, such as `0 :invoke"),
            ("INFO jepsen.util - 0 :okay :read 3\n".to_owned(), ":1: expected an operation, such as"),
            ("INFO jepsen.util - 0 :ok read 3\n".to_owned(), ":1: expected an operation, such as"),
            (
                invoke.replace(":f :write", ":f :write :f :read"),
                ":1: expected each field once, found :f twice",
            ),
            (format!("({invoke}]"), ":2: expected a form, found `]`"),
            (
                invoke.replace("process 0", "process :client-1"),
                ":1: expected :process to be a number from 0, or :nemesis, found",
            ),
            (
                invoke.replace("value 1", "value 18446744073709551617"),
                ":1: expected :value to be whole numbers",
            ),
            (
                format!("{invoke}{}", invoke.replace(":invoke", ":ok").replace("value 1", "value 2")),
                ":2: expected :value to be 1, as invoked, found 2",
            ),
            (
                "[{\"process\": 0, \"type\": \"invoke\", \"f\": \"read\"}]\n[]".to_owned(),
                ":2: expected the end after",
            ),
            ("\u{1f}\u{8b}".to_owned(), ":1: expected an operation, such as"),
        ];
        for (text, expected) in cases {
            let error = read(&text, false).unwrap_err();
            assert!(error.contains(expected), "{error}\nshould contain\n{expected}");
        }
        let error = read(invoke, true).unwrap_err();
        assert!(error.contains("expected :value to be [key value], found 1"), "{error}");
        let bytes =
            [(&b"\x1f\x8b\x08"[..], "found a file that gzip"), (b"{\n\xff}", ":2: expected text in UTF-8")];
        for (bytes, expected) in bytes {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("h"), bytes).unwrap();
            let dialect = Dialect { functions: FUNCTIONS, keyed: false };
            let error = import(&folder.path().join("h"), dialect).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        let both = |one: &str, other: &str, keyed| {
            let told = |value: &str| {
                told(&read(&format!("{{:process 0 :type :invoke :f :write :value {value}}}"), keyed).unwrap())
            };
            told(one) == told(other)
        };
        assert!(both("#{1 2}", "#{2 1}", false));
        assert!(both("[1 2]", "#_ 3 [1 #_ 4 2 #_ 5]", false));
        assert!(!both("[1 2]", "[2 1]", false));
        let key = |text: &str| read(text, true).unwrap().history.operations[0].key.clone().unwrap();
        let of = |key: &str| format!("\u{feff}{{:process 0 :type :invoke :f :write :value [{key} 1]}}");
        assert_eq!((&*key(&of("1")), &*key(&of("\"1\"")), &*key(&of("\"x\""))), ("1", "\"1\"", "x"));
    }
}
