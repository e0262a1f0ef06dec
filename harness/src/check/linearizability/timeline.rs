//! Operations in words, and as rows of a drawing in which time runs to the right.
//!
//! In: operations and the book they stand in. Out: lines of text. Never: more columns than a terminal has.

use super::Book;
use super::object::{OPEN, Span};
use crate::check::timeline::{self, Row as Bar};

/// An operation in words.
pub struct Row {
    span: Span,
    process: u64,
    /// `read 17`
    short: String,
    /// ` asked of n2`, or nothing.
    asked: String,
    pub when: String,
}

impl Row {
    pub fn of(book: &Book, span: Span, short: String) -> Row {
        let Some(operation) = book.history.operations.get(span.source as usize) else {
            return Row { span, process: 0, short, asked: String::new(), when: String::new() };
        };
        let from = book.at(operation.invoked_at);
        let when = match (span.ret, operation.completed_at) {
            (OPEN, _) | (_, None) => format!("invoked at {from}, open when the last of these completed"),
            (_, Some(t)) => format!("from {from} to {}", book.at(t)),
        };
        let asked = operation.node.as_deref().map_or_else(String::new, |node| format!(" asked of {node}"));
        Row { span, process: operation.process, short, asked, when }
    }

    /// `process 4's read of 17 asked of n2`
    pub fn what(&self) -> String {
        format!("process {}'s {}{}", self.process, self.short, self.asked)
    }
}

/// One row an operation.
pub fn draw(rows: &[Row]) -> Vec<String> {
    let bar = |row: &Row| Bar {
        label: format!("p{} {}", row.process, row.short),
        call: row.span.call,
        ret: (row.span.ret != OPEN).then_some(row.span.ret),
    };
    timeline::draw(&rows.iter().map(bar).collect::<Vec<_>>(), 0)
}
