//! Entries that are objects in one array of JSON; the nemesis' process is a name.

use serde::Deserialize;
use serde_json::Value;

use super::pairing::Book;
use super::{Dialect, Entry, Faulty, ImportFault, Imported, NEMESIS, shown};
use crate::history::OpType;
use crate::history::line::without_place;

pub fn read(text: &str, dialect: Dialect) -> Result<Imported, Faulty> {
    let mut book = Book::new(dialect);
    let (mut at, mut line) = (0, 1);
    let mut expected = '[';
    loop {
        // Blanks and the sign before the next entry.
        let blank = text[at..].find(|sign: char| !sign.is_whitespace()).unwrap_or(text.len() - at);
        line += lines_in(&text[at..at + blank]);
        at += blank;
        let sign = text[at..].chars().next();
        let is_last = sign == Some(']') && expected == ',';
        if sign != Some(expected) && !is_last {
            let expected = if expected == '[' { "`[`" } else { "`,`" };
            let found = sign.map_or_else(|| "the end".to_owned(), |sign| format!("`{sign}`"));
            return Err((line, ImportFault::Sign { expected, found }));
        }
        at += 1;
        let is_empty = expected == '[' && text[at..].trim_start().starts_with(']');
        if is_last || is_empty {
            let after = text[at..].trim_start();
            let after = if is_empty { after[1..].trim_start() } else { after };
            return match after.chars().next() {
                None => Ok(book.imported),
                Some(sign) => {
                    let line = line + lines_in(&text[at..text.len() - after.len()]);
                    let expected = "the end after the array";
                    Err((line, ImportFault::Sign { expected, found: format!("`{sign}`") }))
                }
            };
        }
        expected = ',';
        let blank = text[at..].find(|sign: char| !sign.is_whitespace()).unwrap_or(text.len() - at);
        line += lines_in(&text[at..at + blank]);
        at += blank;
        let mut entries = serde_json::Deserializer::from_str(&text[at..]).into_iter::<JsonEntry>();
        let entry = entries.next().unwrap_or_else(|| Err(serde::de::Error::custom("found the end")));
        let entry = entry.map_err(|error| (line, ImportFault::NotAnObject(without_place(&error))))?;
        let end = at + entries.byte_offset();
        let process = match &entry.process {
            Value::String(name) if name == NEMESIS => None,
            Value::Number(number) if number.is_u64() => number.as_u64(),
            other => {
                let expected = "a number from 0, or \"nemesis\"".to_owned();
                return Err((line, ImportFault::Field { field: "process", expected, found: shown(other) }));
            }
        };
        let JsonEntry { kind, f, value, time, error, .. } = entry;
        let error = error.filter(|error| !error.is_null()).map(|error| error.to_string());
        book.add(line, Entry { process, kind, f, value, time, error }).map_err(|fault| (line, fault))?;
        line += lines_in(&text[at..end]);
        at = end;
    }
}

fn lines_in(text: &str) -> u32 {
    text.bytes().filter(|&byte| byte == b'\n').count() as u32
}

#[derive(Deserialize)]
struct JsonEntry {
    process: Value,
    #[serde(rename = "type")]
    kind: OpType,
    f: String,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    time: Option<u64>,
    #[serde(default)]
    error: Option<Value>,
}
