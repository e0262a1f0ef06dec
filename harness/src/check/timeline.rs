//! Operations as bars over time, in characters.
//!
//! In: rows with their lines in the history. Out: text of a fixed width a character. Never: a scale; what counts is
//! what came before what.

use std::collections::BTreeSet;

/// The bars together are about this wide.
const COLUMNS: usize = 70;

/// A label beyond this is cut.
const LABEL_MAX: usize = 36;

pub struct Row {
    pub label: String,
    /// Lines are in the order of time.
    pub call: u32,
    /// None: it may go on for ever.
    pub ret: Option<u32>,
}

/// One row an operation; time runs to the right, in steps from one event to the next. `more` are not shown.
pub fn draw(rows: &[Row], more: usize) -> Vec<String> {
    let events: BTreeSet<u32> = rows.iter().flat_map(|row| [Some(row.call), row.ret]).flatten().collect();
    let step = (COLUMNS / events.len().max(1)).clamp(2, 8);
    let column = |line: u32| events.range(..line).count() * step;
    let width = rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0).min(LABEL_MAX);
    let bar = |row: &Row| {
        let begin = column(row.call);
        let (end, close) = row.ret.map_or((events.len() * step, "- ?"), |ret| (column(ret), "|"));
        let label = cut(&row.label, width);
        let bar = "-".repeat(end.saturating_sub(begin + 1));
        format!("{label:width$}  {}|{bar}{close}", " ".repeat(begin))
    };
    let mut drawing: Vec<String> = rows.iter().map(bar).collect();
    if more > 0 {
        drawing.push(format!("... and {more} more"));
    }
    drawing
}

fn cut(label: &str, width: usize) -> String {
    if label.chars().count() <= width {
        return label.to_owned();
    }
    label.chars().take(width.saturating_sub(2)).chain("..".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_in_the_order_of_their_lines() {
        let row = |label: &str, call, ret| Row { label: label.into(), call, ret };
        let rows = [row("a", 1, Some(9)), row("bc", 3, None), row("d", 20, Some(21))];
        let expected = [
            "a   |---------------|",
            "bc          |-------------------------------- ?",
            "d                           |-------|",
            "... and 2 more",
        ];
        assert_eq!(draw(&rows, 2), expected);
    }
}
