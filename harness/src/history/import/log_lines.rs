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
        // Later logs name the logger behind the sign, not before it.
        let text = text.trim_start();
        let text = text.strip_prefix("jepsen.util").map_or(text, str::trim_start);
        let mut words = text.split_whitespace();
        let (process, word, f) = (words.next(), words.next(), words.next());
        let kind = word.and_then(|word| word.strip_prefix(':')).and_then(kind);
        let f = f.and_then(|word| word.strip_prefix(':'));
        let who = process.map(|word| (word.parse::<u64>().ok(), word.starts_with(':')));
        let (Some((process, is_keyword)), Some(kind), Some(f)) = (who, kind, f) else {
            // Other loggers write into the same file; what begins as an operation does is none of theirs.
            let is_number = process.is_some_and(|word| word.parse::<u64>().is_ok());
            let is_like_ours = is_number && (word.is_none() || text.contains(" :") || text.contains("\t:"));
            if logger.is_some() && !is_like_ours {
                book.imported.skipped += 1;
                continue;
            }
            if text.trim().is_empty() {
                continue;
            }
            return Err((line, ImportFault::NotALogLine));
        };
        if process.is_none() && !(is_keyword && text.starts_with(":nemesis")) {
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
