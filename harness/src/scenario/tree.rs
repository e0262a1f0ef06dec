//! YAML text as a tree in which every key and value knows where it stands.
//!
//! In: the text of one file. Out: its one document, with byte ranges. Never: the meaning of a key.
//!
//! The reader of scenarios tells all mistakes of a file at once, each with its place; serde stops at the first
//! and keeps no place for what it has read, which is why this reads the parser's events itself.

use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};

use super::problem::Problem;

/// A scenario nests four deep; this only keeps a hostile file from our stack.
const DEPTH_MAX: usize = 16;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Bytes of the text.
    pub span: Range<usize>,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Scalar {
        text: String,
        /// Written without quotes: only such can be a number.
        plain: bool,
    },
    Sequence(Vec<Node>),
    /// In the order of the file, duplicates and all.
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// As a person calls it: "a list".
    pub fn description(&self) -> String {
        match &self.value {
            Value::Scalar { text, .. } if text.is_empty() => "nothing".into(),
            Value::Scalar { text, .. } => format!("`{text}`"),
            Value::Sequence(_) => "a list".into(),
            Value::Mapping(_) => "a mapping".into(),
        }
    }

    /// The bytes of its first line: what to underline of a value that goes on for a page.
    pub fn first_line(&self, text: &str) -> Range<usize> {
        let all = &text[self.span.clone()];
        let line = all.lines().next().unwrap_or("").trim_end();
        self.span.start..self.span.start + line.len()
    }
}

/// Reads the only document of `text`.
pub(super) fn read(text: &str) -> Result<Node, Box<Problem>> {
    Events { parser: Parser::new_from_str(text), text, line_starts: line_starts(text) }.document()
}

struct Events<'a> {
    parser: Parser<'a, StrInput<'a>>,
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Events<'a> {
    fn document(mut self) -> Result<Node, Box<Problem>> {
        let mut document = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                _ if document.is_some() => {
                    return Err(Problem::at(span, "a second document").label("expected one scenario a file"));
                }
                event => document = Some(self.node(event, span, 0)?),
            }
        }
        document.ok_or_else(|| {
            let end = self.text.trim_end().len();
            Problem::at(end..end, "the file has no scenario").label("expected `name: ...` and the other keys")
        })
    }

    fn node(&mut self, event: Event<'a>, span: Range<usize>, depth: usize) -> Result<Node, Box<Problem>> {
        if depth > DEPTH_MAX {
            return Err(Problem::at(span, "nested too deeply").label(format!("{DEPTH_MAX} levels at most")));
        }
        let plain_yaml = |what: &str| {
            Problem::at(span.clone(), format!("{what} is not supported here")).label("write the value out")
        };
        match event {
            Event::Alias(_) => Err(plain_yaml("an alias")),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => Err(plain_yaml("a tag")),
            Event::Scalar(text, style, _, None) => {
                let plain = style == ScalarStyle::Plain;
                Ok(Node { span, value: Value::Scalar { text: text.into_owned(), plain } })
            }
            Event::SequenceStart(_, None) => {
                let mut items = Vec::new();
                let end = loop {
                    match self.next()? {
                        (Event::SequenceEnd, end) => break end,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                };
                Ok(Node { span: span.start..end.end, value: Value::Sequence(items) })
            }
            Event::MappingStart(_, None) => {
                let mut entries = Vec::new();
                let end = loop {
                    match self.next()? {
                        (Event::MappingEnd, end) => break end,
                        (event, span) => {
                            let key = self.node(event, span, depth + 1)?;
                            let (event, span) = self.next()?;
                            entries.push((key, self.node(event, span, depth + 1)?));
                        }
                    }
                };
                Ok(Node { span: span.start..end.end, value: Value::Mapping(entries) })
            }
            other => unreachable!("the parser gave {other:?} where a value starts"),
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Range<usize>), Box<Problem>> {
        match self.parser.next() {
            Some(Ok((event, span))) => {
                let start = self.offset(span.start);
                Ok((event, start..self.offset(span.end).max(start)))
            }
            Some(Err(error)) => {
                let at = self.offset(*error.marker());
                Err(Problem::at(at..at, "this is not YAML").label(error.info()))
            }
            None => Ok((Event::StreamEnd, self.text.len()..self.text.len())),
        }
    }

    /// Markers count characters, everything else here counts bytes.
    fn offset(&self, marker: Marker) -> usize {
        let Some(&start) = self.line_starts.get(marker.line().saturating_sub(1)) else {
            return self.text.len();
        };
        let line = &self.text[start..];
        line.char_indices().nth(marker.col()).map_or(self.text.len(), |(within, _)| start + within)
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_bytes_even_behind_letters_of_several_bytes() {
        let text = "# ≥ö\r\nkey: 'wörld'\r\nfaults:\r\n  - { at: 5s }\r\n";
        let node = read(text).unwrap();
        let Value::Mapping(entries) = &node.value else { panic!("{node:?}") };
        let words: Vec<&str> = entries
            .iter()
            .flat_map(|(key, value)| [&text[key.span.clone()], &text[value.first_line(text)]])
            .collect();
        assert_eq!(words, ["key", "'wörld'", "faults", "- { at: 5s }"]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-a-c:{},\\[\\]&*!|> '\"\n\r\t#%é]{0,60}") {
            if let Ok(node) = read(&text) {
                assert!(text.get(node.first_line(&text)).is_some());
            }
        }
    }
}
