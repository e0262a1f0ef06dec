//! Reads histories that other systems wrote.
//!
//! In: a file in EDN as Jepsen writes it (one map a line, or one vector), the lines of Jepsen's older logs, or our own
//! `history.jsonl`. Out: a [`History`] and where each of its entries stands. Never: an entry passed over in silence; the
//! nemesis and lines of other loggers are counted.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::edn::{Edn, EdnError, Forms};
use super::shapes::Shape;
use super::{Datum, Ended, History, HistoryError, OpType, Operation};

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
    pub functions: &'a [&'a str],
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
    #[error("expected an operation, such as `0 :invoke :write 3`")]
    NotALogLine,
    #[error("expected :{field} to be {expected}, found {found}")]
    Field { field: &'static str, expected: String, found: String },
    #[error("process {process} invokes while its operation of line {open} is not complete")]
    Busy { process: u64, open: u32 },
    #[error("process {process} invokes again after line {info} left its operation open for ever")]
    Departed { process: u64, info: u32 },
    #[error("process {process} completes :{f} without having invoked it")]
    NotInvoked { process: u64, f: String },
    #[error("more than 4 294 967 295 entries")]
    TooMany,
}

/// Reads a whole file; its first character that is not blank says in which form it is.
pub fn import(path: &Path, dialect: Dialect) -> Result<Imported, ImportError> {
    let bytes = std::fs::read(path).map_err(|source| ImportError::Read { path: path.into(), source })?;
    let text = String::from_utf8_lossy(&bytes);
    let mut begin = text.trim_start().chars().filter(|sign| !sign.is_whitespace());
    let result = match (begin.next(), begin.next()) {
        (Some('{'), Some('"')) => return own_lines(path, dialect),
        (Some('{' | '[' | '#' | ';' | '('), _) => edn(&text, dialect),
        _ => log(&text, dialect),
    };
    result.map_err(|(line, fault)| ImportError::Entry { path: path.into(), line, fault })
}

fn own_lines(path: &Path, dialect: Dialect) -> Result<Imported, ImportError> {
    let mut history = History::read(path)?;
    for operation in &mut history.operations {
        if !dialect.functions.contains(&&*operation.f) {
            let fault = dialect.no_function(&operation.f);
            return Err(ImportError::Entry { path: path.into(), line: operation.invoke_line, fault });
        }
        operation.key.get_or_insert_with(|| "".into());
        let at = |line| move |fault| ImportError::Entry { path: path.into(), line, fault };
        dialect.fit(&operation.f, &operation.value.json(), false).map_err(at(operation.invoke_line))?;
        if let Some(line) = operation.completion_line.filter(|_| operation.ended == Ended::Ok) {
            dialect.fit(&operation.f, &operation.result.json(), true).map_err(at(line))?;
        }
    }
    let lines = (1..=history.lines).collect();
    let skipped = history.strikes.len() as u64;
    Ok(Imported { history, lines, skipped })
}

type Faulty = (u32, ImportFault);

/// One entry, whatever form it was written in.
struct Entry {
    /// None: the nemesis, or who else is no client.
    process: Option<u64>,
    kind: OpType,
    f: String,
    value: Edn,
    time: Option<u64>,
    error: Option<String>,
}

fn edn(text: &str, dialect: Dialect) -> Result<Imported, Faulty> {
    let mut forms = Forms::new(text, 1);
    let mut book = Book::new(dialect);
    let within = forms.take('[') || forms.take('(');
    loop {
        if within && (forms.take(']') || forms.take(')')) {
            return match forms.form() {
                Ok(None) => Ok(book.imported),
                _ => Err((forms.began(), ImportFault::NotAMap)),
            };
        }
        match forms.form().map_err(|error| (error.line, ImportFault::Syntax(error)))? {
            Some(form) => {
                let line = forms.began();
                let entry = entry(form).map_err(|fault| (line, fault))?;
                book.add(line, entry).map_err(|fault| (line, fault))?;
            }
            None if within => {
                let (expected, found) = ("the end of the vector", "the end".to_owned());
                let line = forms.began();
                return Err((line, ImportFault::Syntax(EdnError { line, expected, found })));
            }
            None => return Ok(book.imported),
        }
    }
}

fn entry(form: Edn) -> Result<Entry, ImportFault> {
    let Edn::Map(pairs) = form else { return Err(ImportFault::NotAMap) };
    let mut fields: HashMap<String, Edn> = HashMap::new();
    for (key, value) in pairs {
        if let Edn::Keyword(name) = key {
            fields.insert(name, value);
        }
    }
    let mut take = |field: &'static str| fields.remove(field).unwrap_or(Edn::Plain(Value::Null));
    let wrong = |field, expected: &str, found: Edn| ImportFault::Field {
        field,
        expected: expected.to_owned(),
        found: found.into_value().to_string(),
    };
    let process = match take("process") {
        Edn::Keyword(_) => None,
        Edn::Plain(Value::Number(number)) if number.is_u64() => number.as_u64(),
        other => return Err(wrong("process", "a number from 0, or a keyword", other)),
    };
    let kind = match take("type") {
        Edn::Keyword(name) if kind(&name).is_some() => kind(&name),
        other => return Err(wrong("type", ":invoke, :ok, :fail or :info", other)),
    };
    let f = match take("f") {
        Edn::Keyword(name) => name,
        other => return Err(wrong("f", "a keyword", other)),
    };
    let time = match take("time") {
        Edn::Plain(value) => value.as_u64(),
        _ => None,
    };
    let error = match take("error") {
        Edn::Plain(Value::Null) => None,
        other => Some(other.into_value().to_string()),
    };
    Ok(Entry { process, kind: kind.unwrap_or(OpType::Info), f, value: take("value"), time, error })
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

/// `process :type :f value`, perhaps after `INFO  jepsen.util - `, perhaps before an error.
fn log(text: &str, dialect: Dialect) -> Result<Imported, Faulty> {
    let mut book = Book::new(dialect);
    for (line, text) in (1..).zip(text.lines()) {
        let (logger, text) = match text.split_once(" - ") {
            Some((before, after))
                if !before.trim_start().starts_with(|c: char| c.is_ascii_digit() || c == ':') =>
            {
                (Some(before), after)
            }
            _ => (None, text),
        };
        let mut words = text.split_whitespace();
        let (process, word, f) = (words.next(), words.next(), words.next());
        let kind = word.and_then(|word| word.strip_prefix(':')).and_then(kind);
        let f = f.and_then(|word| word.strip_prefix(':'));
        let who = process.map(|word| (word.parse::<u64>().ok(), word.starts_with(':')));
        let (Some((process, is_keyword)), Some(kind), Some(f)) = (who, kind, f) else {
            // Other loggers write into the same file.
            if logger.is_some() {
                book.imported.skipped += 1;
                continue;
            }
            if text.trim().is_empty() {
                continue;
            }
            return Err((line, ImportFault::NotALogLine));
        };
        if process.is_none() && !is_keyword {
            return Err((line, ImportFault::NotALogLine));
        }
        // The value begins after the third word.
        let after = text.find(&format!(":{f}")).map_or("", |at| &text[at + 1 + f.len()..]);
        let mut forms = Forms::new(after, line);
        let value = match process {
            Some(_) => forms.form().map_err(|error| (line, ImportFault::Syntax(error)))?,
            // What the nemesis says need not be a form.
            None => None,
        };
        let entry = Entry {
            process,
            kind,
            f: f.to_owned(),
            value: value.unwrap_or(Edn::Plain(Value::Null)),
            time: None,
            error: None,
        };
        book.add(line, entry).map_err(|fault| (line, fault))?;
    }
    Ok(book.imported)
}

impl Dialect<'_> {
    fn no_function(&self, f: &str) -> ImportFault {
        let names: Vec<_> = self.functions.iter().map(|name| format!(":{name}")).collect();
        ImportFault::Field { field: "f", expected: names.join(" or "), found: format!(":{f}") }
    }

    /// Refuses a value of another form than its function has.
    fn fit(&self, f: &str, value: &Value, answered: bool) -> Result<(), ImportFault> {
        match Shape::of(self.functions, f) {
            Some(shape) if !shape.fits(value, answered) => {
                let (expected, found) = (shape.expected().to_owned(), value.to_string());
                Err(ImportFault::Field { field: "value", expected, found })
            }
            _ => Ok(()),
        }
    }

    /// Key and value; the key of a history that has none is empty.
    fn split(&self, f: &str, value: Edn, answered: bool) -> Result<(String, Value), ImportFault> {
        let (key, mut value) = self.keyed(value)?;
        if let Some(shape) = Shape::of(self.functions, f) {
            shape.bring(&mut value);
        }
        self.fit(f, &value, answered)?;
        Ok((key, value))
    }

    fn keyed(&self, value: Edn) -> Result<(String, Value), ImportFault> {
        if !self.keyed {
            return Ok((String::new(), value.into_value()));
        }
        match value {
            Edn::Sequence(items) if items.len() == 2 => {
                let mut items = items.into_iter().map(Edn::into_value);
                let key = match items.next() {
                    Some(Value::String(key)) => key,
                    key => key.unwrap_or_default().to_string(),
                };
                Ok((key, items.next().unwrap_or_default()))
            }
            other => {
                let found = other.into_value().to_string();
                Err(ImportFault::Field { field: "value", expected: "[key value]".to_owned(), found })
            }
        }
    }
}

/// Pairs invocations and completions.
struct Book<'a> {
    dialect: Dialect<'a>,
    imported: Imported,
    clients: HashMap<u64, Client>,
    names: HashSet<Arc<str>>,
}

enum Client {
    Busy(usize),
    Departed(u32),
}

impl<'a> Book<'a> {
    fn new(dialect: Dialect<'a>) -> Book<'a> {
        let imported = Imported::default();
        Book { dialect, imported, clients: HashMap::new(), names: HashSet::new() }
    }

    fn add(&mut self, line: u32, entry: Entry) -> Result<(), ImportFault> {
        let place = u32::try_from(self.imported.lines.len() + 1).map_err(|_| ImportFault::TooMany)?;
        self.imported.lines.push(line);
        self.imported.history.lines = place;
        let Some(process) = entry.process else {
            self.imported.skipped += 1;
            return Ok(());
        };
        if !self.dialect.functions.contains(&entry.f.as_str()) {
            return Err(self.dialect.no_function(&entry.f));
        }
        let time = entry.time.unwrap_or(place.into());
        if entry.kind == OpType::Invoke {
            return self.invoke(place, process, time, entry);
        }
        let Some(Client::Busy(at)) = self.clients.remove(&process) else {
            return Err(ImportFault::NotInvoked { process, f: entry.f });
        };
        let open = &self.imported.history.operations[at];
        if *open.f != *entry.f {
            return Err(ImportFault::NotInvoked { process, f: entry.f });
        }
        let ended = match entry.kind {
            OpType::Ok => Ended::Ok,
            OpType::Fail => Ended::Fail,
            OpType::Info | OpType::Invoke => Ended::Info,
        };
        let mut result = Datum::NULL;
        // What did not succeed may tell an error in place of its value.
        if ended == Ended::Ok && matches!(&*open.f, "read" | "txn") {
            let (key, value) = self.dialect.split(&open.f, entry.value, true)?;
            if open.key.as_deref() != Some(&key) {
                let expected = format!("of key {}, as invoked", open.key.as_deref().unwrap_or_default());
                return Err(ImportFault::Field { field: "value", expected, found: key });
            }
            result = value.into();
        }
        if ended == Ended::Info {
            self.clients.insert(process, Client::Departed(line));
        }
        let error = entry.error.map(|error| self.name(error));
        let operation = &mut self.imported.history.operations[at];
        operation.error = error;
        (operation.result, operation.ended) = (result, ended);
        (operation.completed_at, operation.completion_line) = (Some(time), Some(place));
        Ok(())
    }

    fn invoke(&mut self, place: u32, process: u64, time: u64, entry: Entry) -> Result<(), ImportFault> {
        let at = self.imported.history.operations.len();
        match self.clients.insert(process, Client::Busy(at)) {
            Some(Client::Busy(open)) => {
                let place = self.imported.history.operations[open].invoke_line;
                let open = self.imported.lines[place as usize - 1];
                return Err(ImportFault::Busy { process, open });
            }
            Some(Client::Departed(info)) => return Err(ImportFault::Departed { process, info }),
            None => {}
        }
        let (key, value) = self.dialect.split(&entry.f, entry.value, false)?;
        let is_pair = value.as_array().is_some_and(|pair| pair.len() == 2);
        if entry.f == "cas" && !is_pair {
            let (expected, found) = ("[expected new]".to_owned(), value.to_string());
            return Err(ImportFault::Field { field: "value", expected, found });
        }
        let (f, key) = (self.name(entry.f), self.name(key));
        self.imported.history.operations.push(Operation {
            process,
            f,
            key: Some(key),
            value: value.into(),
            result: Datum::NULL,
            seen: None,
            error: None,
            node: None,
            ticket: None,
            invoked_at: time,
            completed_at: None,
            ended: Ended::Info,
            invoke_line: place,
            completion_line: None,
        });
        Ok(())
    }

    /// The few names of a history are kept once.
    fn name(&mut self, name: String) -> Arc<str> {
        if let Some(name) = self.names.get(name.as_str()) {
            return name.clone();
        }
        let name: Arc<str> = name.into();
        self.names.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, keyed: bool) -> Result<Imported, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.edn");
        std::fs::write(&path, text).unwrap();
        let dialect = Dialect { functions: &["read", "write", "cas"], keyed };
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
    fn transactions_and_banks_are_brought_into_our_form() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.edn");
        let read = |text: &str, functions: &[&str]| {
            std::fs::write(&path, text).unwrap();
            import(&path, Dialect { functions, keyed: false }).map_err(|error| error.to_string())
        };
        let txn = "{:process 0 :type :invoke :f :txn :value [[:append 1 2] [:r x nil] [:r 3]]}
{:process 0 :type :ok :f :txn :value [[:append 1 2] [:r x []] [:r 3 [1 2]]]}";
        let expected = r#"0 txn :[["append",1,2],["r","x",null],["r",3,null]] [["append",1,2],["r","x",[]],["r",3,[1,2]]] Ok"#;
        assert_eq!(told(&read(txn, &["txn"]).unwrap()), [expected]);
        let bank = "0 :invoke :transfer {:from 0, :to 1, :amount 5}
1 :invoke :read nil
1 :ok :read {0 10, 1 5}
0 :ok :transfer {:from 0, :to 1, :amount 5}";
        let expected =
            [r#"0 transfer :{"amount":5,"from":0,"to":1} null Ok"#, r#"1 read :null {"0":10,"1":5} Ok"#];
        assert_eq!(told(&read(bank, &["read", "transfer"]).unwrap()), expected);

        let ours = r#"{"index":0,"time":0,"process":0,"type":"invoke","f":"txn","value":[["r",1,null]]}
{"index":1,"time":1,"process":0,"type":"ok","f":"txn","value":[["r",1,[7]]]}
"#;
        assert_eq!(told(&read(ours, &["txn"]).unwrap()), [r#"0 txn :[["r",1,null]] [["r",1,[7]]] Ok"#]);
        let list = "a list of [:append key value] and [:r key list], found ";
        let cases = [
            (txn.replace("[:r x nil]", "[:w x 1]"), ":1: expected :value to be ", list),
            (txn.replace("[:r 3 [1 2]]", "[:r 3 1]"), ":2: expected :value to be ", list),
            (
                bank.replace(":amount 5", ""),
                ":1: expected :value to be ",
                "{:from account, :to account, :amount number}",
            ),
            (bank.replace("{0 10", "{0 nil"), ":3: expected :value to be ", "a map from account to balance"),
            (ours.replace("[7]", "7"), ":2: expected :value to be ", list),
            (ours.replace("null", "[1],[2]"), ":1: expected :value to be ", list),
        ];
        for (text, place, expected) in cases {
            let functions: &[&str] = if text.contains("txn") { &["txn"] } else { &["read", "transfer"] };
            let error = read(&text, functions).unwrap_err();
            assert!(
                error.contains(place) && error.contains(expected),
                "{error}\nshould contain\n{place}{expected}"
            );
        }
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
        ];
        for (text, expected) in cases {
            let error = read(&text, false).unwrap_err();
            assert!(error.contains(expected), "{error}\nshould contain\n{expected}");
        }
        let error = read(invoke, true).unwrap_err();
        assert!(error.contains("expected :value to be [key value], found 1"), "{error}");
    }
}
