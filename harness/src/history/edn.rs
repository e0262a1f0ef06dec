//! Reads and writes as much of EDN, Clojure's notation of data, as histories are made of.
//!
//! In: text. Out: one form after another, with the line it begins on. Never: a panic, or recursion without bound.

use std::fmt::Write;

use serde_json::Value;

/// Forms within forms, at most.
const DEPTH_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub enum Edn {
    /// Without its colon.
    Keyword(String),
    /// nil, true, false, numbers, strings; characters and symbols as strings.
    Plain(Value),
    /// A list or vector.
    Sequence(Vec<Edn>),
    /// Without an order.
    Set(Vec<Edn>),
    Map(Vec<(Edn, Edn)>),
}

#[derive(Debug, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct EdnError {
    pub line: u32,
    pub expected: &'static str,
    pub found: String,
}

/// Goes over a text form by form.
#[derive(Debug)]
pub struct Forms<'t> {
    text: &'t str,
    at: usize,
    line: u32,
    /// Of the form that was read last.
    began: u32,
}

impl Edn {
    /// As a value of JSON; a keyword keeps its colon, to be told from a string, and equal sets become equal arrays.
    pub fn into_value(self) -> Value {
        match self {
            Edn::Keyword(name) => Value::String(format!(":{name}")),
            Edn::Plain(value) => value,
            Edn::Sequence(items) => items.into_iter().map(Edn::into_value).collect(),
            Edn::Set(items) => {
                let mut items: Vec<Value> = items.into_iter().map(Edn::into_value).collect();
                items.sort_by_cached_key(Value::to_string);
                Value::Array(items)
            }
            Edn::Map(pairs) => {
                let text = |key: Edn| match key.into_value() {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                Value::Object(pairs.into_iter().map(|(key, value)| (text(key), value.into_value())).collect())
            }
        }
    }
}

impl<'t> Forms<'t> {
    pub fn new(text: &'t str, first_line: u32) -> Forms<'t> {
        Forms { text, at: 0, line: first_line, began: first_line }
    }

    /// The line on which the form read last begins, or the reader stands.
    pub fn began(&self) -> u32 {
        self.began
    }

    /// Steps over a sign that opens or closes a vector around forms.
    pub fn take(&mut self, sign: char) -> Result<bool, EdnError> {
        self.skip_all(0)?;
        let is_there = self.rest().starts_with(sign);
        if is_there {
            self.step();
        }
        Ok(is_there)
    }

    /// The next form, or none where the text ends.
    pub fn form(&mut self) -> Result<Option<Edn>, EdnError> {
        self.skip_all(0)?;
        self.began = self.line;
        if self.rest().is_empty() { Ok(None) } else { self.read(0).map(Some) }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn step(&mut self) -> Option<char> {
        let sign = self.rest().chars().next()?;
        self.at += sign.len_utf8();
        self.line = self.line.saturating_add(u32::from(sign == '\n'));
        Some(sign)
    }

    /// Blanks, commas and comments.
    fn skip(&mut self) {
        while let Some(sign) = self.rest().chars().next() {
            if sign == ';' {
                while !matches!(self.rest().chars().next(), None | Some('\n')) {
                    self.step();
                }
            } else if sign.is_whitespace() || sign == ',' {
                self.step();
            } else {
                return;
            }
        }
    }

    /// Forms that are marked to be left out, too.
    fn skip_all(&mut self, depth: usize) -> Result<(), EdnError> {
        self.skip();
        while self.rest().starts_with("#_") {
            self.at += 2;
            self.read(depth + 1)?;
            self.skip();
        }
        Ok(())
    }

    fn error(&self, expected: &'static str) -> EdnError {
        let found: String = self.rest().chars().take_while(|&sign| sign != '\n').take(30).collect();
        let found = if found.is_empty() { "the end".to_owned() } else { format!("`{found}`") };
        EdnError { line: self.line, expected, found }
    }

    fn read(&mut self, depth: usize) -> Result<Edn, EdnError> {
        if depth > DEPTH_MAX {
            return Err(self.error("at most 64 forms within each other"));
        }
        self.skip_all(depth)?;
        match self.rest().chars().next() {
            Some('(') => self.sequence(')', depth).map(Edn::Sequence),
            Some('[') => self.sequence(']', depth).map(Edn::Sequence),
            Some('{') => self.map(depth),
            Some('"') => self.string(),
            Some('#') => {
                self.step();
                match self.rest().chars().next() {
                    Some('{') => self.sequence('}', depth).map(Edn::Set),
                    // ##NaN, ##Inf: there is no such number in JSON.
                    Some('#') => Ok(Edn::Plain(format!("#{}", self.token()?).into())),
                    // A tag says what the next form is made into: the form itself is enough.
                    _ => {
                        self.token()?;
                        self.read(depth + 1)
                    }
                }
            }
            Some(':') => {
                self.step();
                Ok(Edn::Keyword(self.token()?.to_owned()))
            }
            Some('\\') => {
                self.step();
                let first = self.step().ok_or_else(|| self.error("a character"))?;
                let rest = self.token().unwrap_or_default();
                Ok(Edn::Plain(format!("{first}{rest}").into()))
            }
            _ => self.token().map(plain),
        }
    }

    fn take_within(&mut self, close: char, depth: usize) -> Result<bool, EdnError> {
        self.skip_all(depth + 1)?;
        self.take(close)
    }

    fn sequence(&mut self, close: char, depth: usize) -> Result<Vec<Edn>, EdnError> {
        self.step();
        let mut items = Vec::new();
        while !self.take_within(close, depth)? {
            items.push(self.read(depth + 1)?);
        }
        Ok(items)
    }

    fn map(&mut self, depth: usize) -> Result<Edn, EdnError> {
        self.step();
        let mut pairs = Vec::new();
        while !self.take_within('}', depth)? {
            let key = self.read(depth + 1)?;
            self.skip_all(depth + 1)?;
            if self.rest().starts_with('}') {
                return Err(self.error("a value for each key of a map"));
            }
            pairs.push((key, self.read(depth + 1)?));
        }
        Ok(Edn::Map(pairs))
    }

    fn string(&mut self) -> Result<Edn, EdnError> {
        self.step();
        let mut text = String::new();
        loop {
            match self.step() {
                None => return Err(self.error("the closing quote of a string")),
                Some('"') => return Ok(Edn::Plain(text.into())),
                Some('\\') => match self.step() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some('u') => {
                        let hex = self.rest().get(..4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
                        let sign = hex.ok_or_else(|| self.error("four hex digits after \\u"))?;
                        self.at += 4;
                        text.push(char::from_u32(sign).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    Some(sign) => text.push(sign),
                    None => return Err(self.error("the closing quote of a string")),
                },
                Some(sign) => text.push(sign),
            }
        }
    }

    fn token(&mut self) -> Result<&'t str, EdnError> {
        let ends = |sign: char| sign.is_whitespace() || ",;()[]{}\"".contains(sign);
        let rest = self.rest();
        let token = &rest[..rest.find(ends).unwrap_or(rest.len())];
        if token.is_empty() {
            return Err(self.error("a form"));
        }
        self.at += token.len();
        Ok(token)
    }
}

fn plain(token: &str) -> Edn {
    let value = match token {
        "nil" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        token => {
            let whole = token.strip_suffix('N').unwrap_or(token);
            let broken = token.strip_suffix('M').unwrap_or(token);
            let begins = token.trim_start_matches(['+', '-']).starts_with(|sign: char| sign.is_ascii_digit());
            let broken = || broken.parse::<f64>().ok().filter(|_| begins);
            whole
                .parse::<u64>()
                .ok()
                .map(Value::from)
                .or_else(|| whole.parse::<i64>().ok().map(Value::from))
                .or_else(|| broken().and_then(serde_json::Number::from_f64).map(Value::Number))
                .unwrap_or_else(|| token.into())
        }
    };
    Edn::Plain(value)
}

/// A value of JSON as EDN; the names in objects become numbers and keywords where they can.
pub fn write_value(out: &mut String, value: &Value) {
    // Writing to a string cannot fail.
    let _ = match value {
        Value::Null => write!(out, "nil"),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { " " } else { "" });
                write_value(out, item);
            }
            write!(out, "]")
        }
        Value::Object(fields) => {
            out.push('{');
            for (at, (name, value)) in fields.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write_name(out, name);
                out.push(' ');
                write_value(out, value);
            }
            write!(out, "}}")
        }
        Value::String(text) => {
            out.push('"');
            for sign in text.chars() {
                let _ = match sign {
                    '"' | '\\' => write!(out, "\\{sign}"),
                    '\n' => write!(out, "\\n"),
                    sign if sign.is_control() => write!(out, "\\u{:04x}", u32::from(sign)),
                    sign => write!(out, "{sign}"),
                };
            }
            write!(out, "\"")
        }
        Value::Bool(_) | Value::Number(_) => write!(out, "{value}"),
    };
}

/// The steps of a transaction, `[["append", 1, 2]]`, with the names of their functions as keywords.
pub fn write_transaction(out: &mut String, value: &Value) {
    let Value::Array(steps) = value else { return write_value(out, value) };
    out.push('[');
    for (at, step) in steps.iter().enumerate() {
        out.push_str(if at > 0 { " " } else { "" });
        match step.as_array().map(Vec::as_slice) {
            Some([Value::String(f), parts @ ..]) if is_keyword(f) => {
                let _ = write!(out, "[:{f}");
                for part in parts {
                    out.push(' ');
                    write_value(out, part);
                }
                out.push(']');
            }
            _ => write_value(out, step),
        }
    }
    out.push(']');
}

fn write_name(out: &mut String, name: &str) {
    if name.parse::<i64>().is_ok_and(|number| number.to_string() == name) {
        out.push_str(name);
    } else if is_keyword(name) {
        let _ = write!(out, ":{name}");
    } else {
        write_value(out, &name.into());
    }
}

fn is_keyword(name: &str) -> bool {
    let is_sign = |sign: char| sign.is_ascii_alphanumeric() || "-_.*+!?".contains(sign);
    name.starts_with(|sign: char| sign.is_ascii_alphabetic()) && name.chars().all(is_sign)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forms_are_read_as_values() {
        let cases = [
            ("nil", json!(null)),
            ("-3", json!(-3)),
            ("18446744073709551615", json!(u64::MAX)),
            ("7N", json!(7)),
            ("1.5M", json!(1.5)),
            ("2/3", json!("2/3")),
            ("inf", json!("inf")),
            (r#""a\"b\n\u00e9""#, json!("a\"b\né")),
            (":ok", json!(":ok")),
            ("\\newline", json!("newline")),
            ("(1, 2 [3 #{4}]) ; all", json!([1, 2, [3, [4]]])),
            ("{:a 1, \"b\" {2 nil}}", json!({":a": 1, "b": {"2": null}})),
            ("#jepsen.history.Op{:a #_ 5 6}", json!({":a": 6})),
            ("#_ 1 [#_ 2 3 #_ #_ 4 5]", json!([3])),
            ("#{2 10 1}", json!([1, 10, 2])),
            ("##NaN", json!("##NaN")),
        ];
        for (text, expected) in cases {
            let value = Forms::new(text, 1).form().unwrap().unwrap().into_value();
            assert_eq!(value, expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let value = json!([null, true, -4, 1.5, "a \"quoted\"\n\\ \u{1} é", [1, []]]);
        let mut text = String::new();
        write_value(&mut text, &value);
        assert_eq!(Forms::new(&text, 1).form().unwrap().unwrap().into_value(), value, "{text}");
    }

    #[test]
    fn any_part_of_any_text_is_read_or_refused() {
        let text = "[{:a #x (1 \"é\\u00e9\" \\c) ; c\n :b #{2/3 -1.5M}} #_ nil]";
        for (from, _) in text.char_indices() {
            for (to, _) in text.char_indices().filter(|&(to, _)| to >= from) {
                let mut forms = Forms::new(&text[from..to], 1);
                while let Ok(Some(_)) = forms.form() {}
            }
        }
        let deep = "[".repeat(100_000);
        let error = Forms::new(&deep, 1).form().unwrap_err().to_string();
        assert!(error.contains("at most 64 forms"), "{error}");
    }
}
