//! Entries that are lines of a log: `process :type :f value`, perhaps after `INFO  jepsen.util - `, perhaps before an
//! error.

use super::pairing::Book;
use super::{Dialect, Entry, Faulty, ImportFault, Imported, kind};
use crate::history::edn::{Edn, Forms};

pub fn read(text: &str, dialect: Dialect) -> Result<Imported, Faulty> {
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
            value: value.map(Edn::into_value).unwrap_or_default(),
            time: None,
            error: None,
        };
        book.add(line, entry).map_err(|fault| (line, fault))?;
    }
    Ok(book.imported)
}
