//! Operations in words, and as rows of a drawing in which time runs to the right.
//!
//! In: operations and the book they stand in. Out: lines of text. Never: more columns than a terminal has.

use std::collections::BTreeSet;

use super::Book;
use super::object::{OPEN, Span};

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

/// One row an operation, in steps from one event to the next.
pub fn draw(rows: &[Row]) -> Vec<String> {
    let ends = rows.iter().flat_map(|row| [row.span.call, row.span.ret]).filter(|&line| line != OPEN);
    let events: BTreeSet<u32> = ends.collect();
    let step = (70 / events.len().max(1)).clamp(2, 8);
    let column = |line: u32| events.range(..line).count() * step;
    let labels: Vec<_> = rows.iter().map(|row| format!("p{} {}", row.process, row.short)).collect();
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).min(36);
    let line = |(row, label): (&Row, &String)| {
        let begin = column(row.span.call);
        let (end, close) = match row.span.ret {
            OPEN => (column(OPEN), "- ?"),
            ret => (column(ret), "|"),
        };
        let label: String = label.chars().take(width).collect();
        let bar = "-".repeat(end.saturating_sub(begin + 1));
        format!("{label:width$}  {}|{bar}{close}", " ".repeat(begin))
    };
    rows.iter().zip(&labels).map(line).collect()
}
