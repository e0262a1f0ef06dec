//! What an operation wrote or saw, in half the room of a JSON value.
//!
//! In: a JSON value. Out: the same value, to be asked as one asks a [`Value`]. Never: a value changed on the way.
//!
//! A history has millions of values, and almost all of them are null or small numbers.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// A JSON value of 16 bytes, which is cheap to clone.
#[derive(Clone, Default)]
pub struct Datum(Inner);

#[derive(Clone, Default)]
enum Inner {
    #[default]
    Null,
    Number(u64),
    /// Neither null nor a number that [`Inner::Number`] can hold.
    Other(Arc<Value>),
}

impl Datum {
    pub const NULL: Datum = Datum(Inner::Null);

    pub fn is_null(&self) -> bool {
        matches!(self.0, Inner::Null)
    }

    pub fn as_u64(&self) -> Option<u64> {
        match self.0 {
            Inner::Number(number) => Some(number),
            // Every number that a u64 can hold is held by one.
            Inner::Null | Inner::Other(_) => None,
        }
    }

    pub fn as_i64(&self) -> Option<i64> {
        match &self.0 {
            Inner::Null => None,
            Inner::Number(number) => i64::try_from(*number).ok(),
            Inner::Other(value) => value.as_i64(),
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        self.other()?.as_bool()
    }

    pub fn as_str(&self) -> Option<&str> {
        self.other()?.as_str()
    }

    pub fn as_array(&self) -> Option<&Vec<Value>> {
        self.other()?.as_array()
    }

    pub fn as_object(&self) -> Option<&serde_json::Map<String, Value>> {
        self.other()?.as_object()
    }

    /// As JSON: without a copy where it is more than a number.
    pub fn json(&self) -> Cow<'_, Value> {
        match &self.0 {
            Inner::Null => Cow::Owned(Value::Null),
            Inner::Number(number) => Cow::Owned(Value::from(*number)),
            Inner::Other(value) => Cow::Borrowed(value),
        }
    }

    fn other(&self) -> Option<&Value> {
        match &self.0 {
            Inner::Other(value) => Some(value),
            Inner::Null | Inner::Number(_) => None,
        }
    }
}

impl From<u64> for Datum {
    fn from(number: u64) -> Datum {
        Datum(Inner::Number(number))
    }
}

impl From<Value> for Datum {
    fn from(value: Value) -> Datum {
        match value.as_u64() {
            Some(number) => Datum::from(number),
            None if value.is_null() => Datum::NULL,
            None => Datum(Inner::Other(Arc::new(value))),
        }
    }
}

impl PartialEq for Datum {
    fn eq(&self, other: &Datum) -> bool {
        match (&self.0, &other.0) {
            (Inner::Null, Inner::Null) => true,
            (Inner::Number(one), Inner::Number(other)) => one == other,
            (Inner::Other(one), Inner::Other(other)) => Arc::ptr_eq(one, other) || one == other,
            _ => false,
        }
    }
}

impl PartialEq<Value> for Datum {
    fn eq(&self, other: &Value) -> bool {
        match &self.0 {
            Inner::Null => other.is_null(),
            Inner::Number(number) => other.as_u64() == Some(*number),
            Inner::Other(value) => **value == *other,
        }
    }
}

impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Null => f.write_str("null"),
            Inner::Number(number) => number.fmt(f),
            Inner::Other(value) => value.fmt(f),
        }
    }
}

impl fmt::Debug for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_datum_answers_as_its_value_does() {
        let values = [
            json!(null),
            json!(0),
            json!(u64::MAX),
            json!(-1),
            json!(1.0),
            json!(true),
            json!("text"),
            json!([null, 2]),
            json!({"a": [1]}),
        ];
        for value in &values {
            let datum = Datum::from(value.clone());
            assert_eq!(datum, *value);
            assert_eq!(*datum.json(), *value);
            assert_eq!(datum.to_string(), value.to_string());
            assert_eq!((datum.is_null(), datum.as_u64()), (value.is_null(), value.as_u64()), "{value}");
            assert_eq!((datum.as_i64(), datum.as_bool()), (value.as_i64(), value.as_bool()), "{value}");
            assert_eq!((datum.as_str(), datum.as_array()), (value.as_str(), value.as_array()), "{value}");
            assert_eq!(datum.as_object(), value.as_object(), "{value}");
            let others = values.iter().cloned().map(Datum::from);
            assert_eq!(others.filter(|other| *other == datum).count(), 1, "{value}");
        }
        assert_eq!(size_of::<Datum>(), 16);
    }
}
