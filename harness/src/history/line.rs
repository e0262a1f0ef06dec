//! One line of the witness book as it is read back: by hand where it stands just as the recorder writes it, and by
//! serde in any other shape.
//!
//! In: the bytes of a line. Out: its fields, names still in place. Never: a second opinion of what a line may be: what
//! the hand does not know goes to serde, which alone finds faults.
//!
//! A history has millions of lines, and nearly all have one shape: reading them by hand takes a fifth of the time.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::{Datum, OpType, Process, present};

/// An [`Op`](super::Op) whose names stay in the line.
#[derive(Debug, PartialEq)]
pub struct Line<'l> {
    pub index: u64,
    pub time: u64,
    pub process: Process,
    pub kind: OpType,
    pub f: Cow<'l, str>,
    pub key: Option<Cow<'l, str>>,
    pub value: Datum,
    pub seen: Option<Datum>,
    pub error: Option<Cow<'l, str>>,
    pub node: Option<Cow<'l, str>>,
    pub session: Option<u64>,
    pub sequence: Option<u64>,
}

impl<'l> Line<'l> {
    pub fn read(text: &'l [u8]) -> Result<Line<'l>, serde_json::Error> {
        match as_recorded(text) {
            Some(line) => Ok(line),
            None => serde_json::from_slice::<AnyShape>(text).map(Line::from),
        }
    }
}

/// What is wrong, without the line and column of the text that serde was given: who tells it knows where that text stands.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what).to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyShape<'l> {
    index: u64,
    time: u64,
    process: Process,
    #[serde(rename = "type")]
    kind: OpType,
    #[serde(borrow)]
    f: Cow<'l, str>,
    #[serde(borrow, default)]
    key: Option<Name<'l>>,
    #[serde(default)]
    value: Value,
    #[serde(default, deserialize_with = "present")]
    seen: Option<Value>,
    #[serde(borrow, default)]
    error: Option<Name<'l>>,
    #[serde(borrow, default)]
    node: Option<Name<'l>>,
    #[serde(default)]
    session: Option<u64>,
    #[serde(default)]
    sequence: Option<u64>,
}

/// Without this, one that may be absent would be copied.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'l>(#[serde(borrow)] Cow<'l, str>);

impl<'l> From<AnyShape<'l>> for Line<'l> {
    fn from(read: AnyShape<'l>) -> Line<'l> {
        Line {
            index: read.index,
            time: read.time,
            process: read.process,
            kind: read.kind,
            f: read.f,
            key: read.key.map(|name| name.0),
            value: read.value.into(),
            seen: read.seen.map(Datum::from),
            error: read.error.map(|name| name.0),
            node: read.node.map(|name| name.0),
            session: read.session,
            sequence: read.sequence,
        }
    }
}

/// A client's line in the shape in which the recorder writes it: its fields in order, without blanks, its names without
/// escapes, its values null, a number or a pair of these.
fn as_recorded(text: &[u8]) -> Option<Line<'_>> {
    let mut rest = Rest(text);
    rest.take(br#"{"index":"#)?;
    let index = rest.number()?;
    rest.take(br#","time":"#)?;
    let time = rest.number()?;
    rest.take(br#","process":"#)?;
    let process = Process::Client(rest.number()?);
    rest.take(br#","type":""#)?;
    let kind = match rest.name()? {
        "invoke" => OpType::Invoke,
        "ok" => OpType::Ok,
        "fail" => OpType::Fail,
        "info" => OpType::Info,
        _ => return None,
    };
    rest.take(br#","f":""#)?;
    let f = Cow::Borrowed(rest.name()?);
    let key = rest.field(br#","key":""#, Rest::name)?.map(Cow::Borrowed);
    rest.take(br#","value":"#)?;
    let value = rest.value()?;
    let seen = rest.field(br#","seen":"#, Rest::value)?;
    let error = rest.field(br#","error":""#, Rest::name)?.map(Cow::Borrowed);
    let node = rest.field(br#","node":""#, Rest::name)?.map(Cow::Borrowed);
    let session = rest.field(br#","session":"#, Rest::number)?;
    let sequence = rest.field(br#","sequence":"#, Rest::number)?;
    rest.take(b"}\n")?;
    let line = Line { index, time, process, kind, f, key, value, seen, error, node, session, sequence };
    rest.0.is_empty().then_some(line)
}

/// What is left of a line. Each step is None when the line is not of the known shape.
struct Rest<'l>(&'l [u8]);

impl<'l> Rest<'l> {
    fn take(&mut self, expected: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    /// A field that may be absent: None within when it is.
    fn field<T>(&mut self, label: &[u8], read: fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.take(label) {
            Some(()) => read(self).map(Some),
            None => Some(None),
        }
    }

    /// Digits which no sign, point or exponent follows.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        let mut length = 0;
        while let Some(digit @ b'0'..=b'9') = self.0.get(length) {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            length += 1;
        }
        let leading_zero = length > 1 && self.0.first() == Some(&b'0');
        let ends = matches!(self.0.get(length), Some(b',' | b'}' | b']'));
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        match length {
            0 => None,
            _ if leading_zero || !ends => None,
            1..=19 => Some(number),
            _ => std::str::from_utf8(digits).ok()?.parse().ok(),
        }
    }

    /// The rest of a string whose quote is taken already, and its last quote.
    fn name(&mut self) -> Option<&'l str> {
        let plain = |&byte: &u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        let length = self.0.iter().position(|byte| !plain(byte))?;
        let name = std::str::from_utf8(&self.0[..length]).ok()?;
        self.0 = self.0[length..].strip_prefix(b"\"")?;
        Some(name)
    }

    fn value(&mut self) -> Option<Datum> {
        if self.take(b"[").is_none() {
            return self.scalar();
        }
        let one = self.scalar()?;
        self.take(b",")?;
        let other = self.scalar()?;
        self.take(b"]")?;
        let pair = [one, other].map(|scalar| scalar.json().into_owned());
        Some(Value::from(Vec::from(pair)).into())
    }

    fn scalar(&mut self) -> Option<Datum> {
        match self.take(b"null") {
            Some(()) => Some(Datum::NULL),
            None => self.number().map(Datum::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Op;
    use super::*;

    fn by_serde(text: &[u8]) -> Result<Line<'_>, String> {
        serde_json::from_slice::<AnyShape>(text).map(Line::from).map_err(|error| error.to_string())
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let scalar = || {
            prop_oneof![
                Just(Value::Null),
                any::<u64>().prop_map(Value::from),
                (0..99_u64).prop_map(Value::from),
                any::<i64>().prop_map(Value::from),
                any::<bool>().prop_map(Value::from),
                "[a-z\"\\\\\n é]{0,6}".prop_map(Value::from),
            ]
        };
        prop_oneof![4 => scalar(), 2 => proptest::collection::vec(scalar(), 0..4).prop_map(Value::from)]
    }

    prop_compose! {
        fn any_op()(
            (index, time, process) in (any::<u64>(), 0..1_000_000_000_000_u64, 0..60_u64),
            kind in prop_oneof![Just(OpType::Invoke), Just(OpType::Ok), Just(OpType::Fail), Just(OpType::Info)],
            f in "read|write|cas|a \"b\"",
            key in proptest::option::of("k[0-9]{1,3}|\t|é"),
            value in any_value(),
            seen in proptest::option::of(any_value()),
            error in proptest::option::of("[ -~]{0,20}|no\nanswer"),
            node in proptest::option::of("n[1-9]"),
            session in proptest::option::of(any::<u64>()),
            sequence in proptest::option::of(0..9_u64),
        ) -> Op {
            let process = Process::Client(process);
            Op { index, time, process, kind, f, key, value, seen, error, node, session, sequence }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn the_hand_reads_what_serde_reads(op in any_op()) {
            let text = serde_json::to_string(&op).unwrap() + "\n";
            if let Some(line) = as_recorded(text.as_bytes()) {
                prop_assert_eq!(Ok(line), by_serde(text.as_bytes()));
            }
        }

        /// One byte changed, dropped or doubled: what the hand still takes, serde takes for the same.
        #[test]
        fn the_hand_takes_no_line_that_serde_refuses(
            op in any_op(), at in any::<prop::sample::Index>(), byte in any::<u8>(), how in 0..3,
        ) {
            let mut text = serde_json::to_vec(&op).unwrap();
            text.push(b'\n');
            let at = at.index(text.len());
            match how {
                0 => text[at] = byte,
                1 => _ = text.remove(at),
                _ => text.insert(at, text[at]),
            }
            if let Some(line) = as_recorded(&text) {
                prop_assert_eq!(Ok(line), by_serde(&text));
            }
        }
    }

    /// The shape that the recorder writes is the one that is known here, or nothing is gained.
    #[test]
    fn the_lines_of_registers_are_read_by_hand() {
        let op = Op {
            index: 3,
            time: 1_000,
            process: Process::Client(4),
            kind: OpType::Ok,
            f: "cas".into(),
            key: Some("k1".into()),
            value: serde_json::json!([null, 7]),
            seen: Some(Value::Null),
            error: Some("another value was there".into()),
            node: Some("n1".into()),
            session: Some(1 << 40),
            sequence: Some(0),
        };
        let bare = Op { key: None, value: Value::Null, seen: None, error: None, node: None, ..op.clone() };
        let bare = Op { session: None, sequence: None, ..bare };
        for op in [op, bare] {
            let text = serde_json::to_string(&op).unwrap() + "\n";
            let line = as_recorded(text.as_bytes());
            assert!(line.is_some(), "{text}");
            assert_eq!(line, by_serde(text.as_bytes()).ok());
        }
    }
}
