//! How values are written in the store: as text that a person can read with `kv get`.
//!
//! In: numbers, bytes. Out: bytes, and values of the history. Never: a guess; what was not written by a user is shown
//! to the judge as the text it is.

use prost::bytes::Bytes;
use serde_json::Value;

/// How a key is written, on the wire and in the history.
pub fn key_name(key: u32) -> String {
    format!("k{key}")
}

pub fn key_bytes(key: u32) -> Bytes {
    Bytes::from(key_name(key))
}

pub fn encode(number: impl ToString) -> Bytes {
    Bytes::from(number.to_string())
}

/// The number that `bytes` are, written as [`encode`] writes it.
pub fn number(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.parse::<i64>().ok().filter(|number| number.to_string() == text)
}

/// Null where there is nothing.
pub fn decode(bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    match number(bytes) {
        Some(number) => Value::from(number),
        None => Value::from(String::from_utf8_lossy(bytes)),
    }
}

/// A number as an element of a list.
pub fn element(number: u64) -> Bytes {
    Bytes::from(format!("{number} "))
}

/// The elements, in their order; none where there is nothing.
pub fn list(bytes: Option<&[u8]>) -> Value {
    let elements = bytes.unwrap_or_default().split_inclusive(|byte| *byte == b' ');
    let element = |bytes: &[u8]| match bytes.strip_suffix(b" ") {
        Some(whole) => decode(Some(whole)),
        // Half of an element, though it may look like a number.
        None => Value::from(String::from_utf8_lossy(bytes)),
    };
    elements.map(element).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_written_by_us_is_not_taken_for_a_number() {
        for (bytes, value) in [
            (None, Value::Null),
            (Some("17"), json!(17)),
            (Some("-17"), json!(-17)),
            (Some("017"), json!("017")),
            (Some("+17"), json!("+17")),
            (Some("-0"), json!("-0")),
            (Some(""), json!("")),
        ] {
            assert_eq!(decode(bytes.map(str::as_bytes)), value);
        }
    }

    #[test]
    fn a_list_is_read_as_it_was_appended() {
        let appended: Vec<u8> = [5, 17, 5].into_iter().flat_map(element).collect();
        assert_eq!(list(Some(&appended)), json!([5, 17, 5]));
        for (bytes, value) in [
            (None, json!([])),
            (Some(""), json!([])),
            (Some("5 17"), json!([5, "17"])),
            (Some("5  x "), json!([5, "", "x"])),
        ] {
            assert_eq!(list(bytes.map(str::as_bytes)), value);
        }
    }
}
