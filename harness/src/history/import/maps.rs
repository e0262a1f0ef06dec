//! Entries that are maps in EDN: one after the other, or in one vector or list.

use std::collections::HashMap;

use serde_json::Value;

use super::pairing::Book;
use super::{Dialect, Entry, Faulty, ImportFault, Imported, NEMESIS, kind};
use crate::history::OpType;
use crate::history::edn::{Edn, EdnError, Forms};

pub fn read(text: &str, dialect: Dialect) -> Result<Imported, Faulty> {
    let mut forms = Forms::new(text, 1);
    let mut book = Book::new(dialect);
    let syntax = |error: EdnError| (error.line, ImportFault::Syntax(error));
    // What closes the vector or list around the entries.
    let close = if forms.take('[').map_err(syntax)? {
        Some(']')
    } else {
        forms.take('(').map_err(syntax)?.then_some(')')
    };
    let within = close.is_some();
    loop {
        if let Some(close) = close
            && forms.take(close).map_err(syntax)?
        {
            return match forms.form() {
                Ok(None) => Ok(book.imported),
                _ => Err((forms.began(), ImportFault::NotAMap)),
            };
        }
        match forms.form().map_err(syntax)? {
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
        let Edn::Keyword(name) = key else { continue };
        if fields.contains_key(&name) {
            return Err(ImportFault::FieldTwice { name });
        }
        fields.insert(name, value);
    }
    let mut take = |field: &'static str| fields.remove(field).unwrap_or(Edn::Plain(Value::Null));
    let wrong = |field, expected: &str, found: Edn| ImportFault::Field {
        field,
        expected: expected.to_owned(),
        found: found.into_value().to_string(),
    };
    let process = match take("process") {
        Edn::Keyword(name) if name == NEMESIS => None,
        Edn::Plain(Value::Number(number)) if number.is_u64() => number.as_u64(),
        other => return Err(wrong("process", "a number from 0, or :nemesis", other)),
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
    let value = take("value").into_value();
    Ok(Entry { process, kind: kind.unwrap_or(OpType::Info), f, value, time, error })
}
