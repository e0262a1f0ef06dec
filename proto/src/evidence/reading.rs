//! Reads a line of evidence fast: field by field, and without a copy when they stand in the order in which nodes
//! write them.
//!
//! In: the fields of one JSON object, in any order. Out: a [`Line`]. Never: a second definition of the format: what
//! stands in another order goes to the derived reader, and the compiler compares the fields of [`Fields`] with those
//! of [`Event`].
//!
//! A tag within flattened fields makes the derived reader collect all values before it looks at one. With runs of
//! some million lines that is most of the time a verdict takes.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::{Appended, Applied, Digest, Event, Line, Role, Session};

/// [`Event`], named from outside: its fields can be read as they come.
#[derive(Deserialize)]
#[serde(remote = "Event", rename_all = "kebab-case", deny_unknown_fields)]
enum Fields {
    Boot {
        version: String,
        term: u64,
        vote: Option<String>,
        commit: u64,
        snapshot: u64,
        first: u64,
        last: u64,
    },
    Role {
        term: u64,
        role: Role,
        leader: Option<String>,
    },
    Vote {
        term: u64,
        #[serde(rename = "for")]
        candidate: String,
    },
    Append {
        first: u64,
        entries: Vec<Appended>,
        #[serde(default)]
        recovered: bool,
    },
    Truncate {
        after: u64,
    },
    Commit {
        index: u64,
        term: u64,
    },
    Apply {
        first: u64,
        entries: Vec<Applied>,
    },
    Snapshot {
        index: u64,
        term: u64,
        digest: Digest,
        installed: bool,
    },
    Config {
        index: u64,
        voters: Vec<String>,
        outgoing: Vec<String>,
        learners: Vec<String>,
    },
    Sessions {
        index: u64,
        sessions: Vec<Session>,
    },
    Stop {
        reason: String,
    },
}

/// [`Line`], read in any order.
#[derive(Deserialize)]
#[serde(remote = "Line")]
struct AnyOrder {
    seq: u64,
    t: u64,
    node: String,
    boot: u64,
    #[serde(flatten)]
    event: Event,
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Line, D::Error> {
        deserializer.deserialize_map(LineVisitor)
    }
}

struct LineVisitor;

impl<'de> Visitor<'de> for LineVisitor {
    type Value = Line;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line of evidence as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut rest: A) -> Result<Line, A::Error> {
        let mut read = Vec::with_capacity(4);
        let key = loop {
            let key = rest.next_key::<Key>()?;
            match (&key, read.len()) {
                (Some(Key::Seq), 0) | (Some(Key::T), 1) | (Some(Key::Boot), 3) => {
                    read.push(Scalar::Number(rest.next_value()?));
                }
                (Some(Key::Node), 2) => read.push(Scalar::Text(rest.next_value()?)),
                _ => break key,
            }
        };
        match (key, &mut read[..]) {
            (
                Some(Key::Event),
                [Scalar::Number(seq), Scalar::Number(t), Scalar::Text(node), Scalar::Number(boot)],
            ) => {
                let (seq, t, node, boot) = (*seq, *t, std::mem::take(node), *boot);
                let tag = rest.next_value()?;
                let event = Fields::deserialize(Tagged { tag, rest })?;
                Ok(Line { seq, t, node, boot, event })
            }
            (key, _) => {
                let read = ["seq", "t", "node", "boot"].into_iter().zip(read).collect::<Vec<_>>().into_iter();
                let key = key.map(Key::name);
                AnyOrder::deserialize(MapAccessDeserializer::new(Rejoined { read, value: None, key, rest }))
            }
        }
    }
}

enum Key {
    Seq,
    T,
    Node,
    Boot,
    Event,
    Other(String),
}

impl Key {
    fn name(self) -> String {
        match self {
            Key::Seq => "seq".to_owned(),
            Key::T => "t".to_owned(),
            Key::Node => "node".to_owned(),
            Key::Boot => "boot".to_owned(),
            Key::Event => "event".to_owned(),
            Key::Other(name) => name,
        }
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Key, E> {
                Ok(match name {
                    "seq" => Key::Seq,
                    "t" => Key::T,
                    "node" => Key::Node,
                    "boot" => Key::Boot,
                    "event" => Key::Event,
                    name => Key::Other(name.to_owned()),
                })
            }
        }
        deserializer.deserialize_identifier(Name)
    }
}

enum Scalar {
    Number(u64),
    Text(String),
}

/// What is left of the object once its tag is read, as an enum with that tag.
struct Tagged<A> {
    tag: String,
    rest: A,
}

impl<'de, A: MapAccess<'de>> Deserializer<'de> for Tagged<A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, A: MapAccess<'de>> EnumAccess<'de> for Tagged<A> {
    type Error = A::Error;
    type Variant = Rest<A>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Rest<A>), A::Error> {
        Ok((seed.deserialize(self.tag.into_deserializer())?, Rest(self.rest)))
    }
}

struct Rest<A>(A);

impl<'de, A: MapAccess<'de>> VariantAccess<'de> for Rest<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        Err(de::Error::custom("every event has fields"))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        seed.deserialize(MapAccessDeserializer::new(self.0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_map(self.0)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        visitor.visit_map(self.0)
    }
}

/// The whole object again: the fields read so far, the name that came next, and the rest.
struct Rejoined<A> {
    read: std::vec::IntoIter<(&'static str, Scalar)>,
    value: Option<Scalar>,
    key: Option<String>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rejoined<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        if let Some((name, value)) = self.read.next() {
            self.value = Some(value);
            return seed.deserialize(name.into_deserializer()).map(Some);
        }
        match self.key.take() {
            Some(name) => seed.deserialize(name.into_deserializer()).map(Some),
            None => self.rest.next_key_seed(seed),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        match self.value.take() {
            Some(Scalar::Number(number)) => seed.deserialize(number.into_deserializer()),
            Some(Scalar::Text(text)) => seed.deserialize(text.into_deserializer()),
            None => self.rest.next_value_seed(seed),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const LINES: &[&str] = &[
        r#"{"seq":1,"t":2,"node":"n1","boot":3,"event":"boot","version":"v","term":4,"vote":null,"commit":5,"snapshot":0,"first":1,"last":6}"#,
        r#"{"seq":1,"t":2,"node":"n1","boot":3,"event":"role","term":4,"role":"pre-candidate","leader":"n2"}"#,
        r#"{"seq":1,"t":2,"node":"n1","boot":3,"event":"role","term":4,"role":"leader"}"#,
        r#"{"seq":1,"t":2,"node":"n1","boot":3,"event":"vote","term":4,"for":"n2"}"#,
        r#"{"seq":1,"t":2,"node":"n1","boot":3,"event":"append","first":7,"entries":[[4,"noop","00000000000000ab"]],"recovered":true}"#,
        r#"{"seq":1,"t":2,"node":"n1","boot":3,"event":"truncate","after":7}"#,
        r#"{"seq":1,"t":2,"node":"n1","boot":3,"event":"commit","index":7,"term":4}"#,
        r#"{"seq":1,"t":2,"node":"n1","boot":3,"event":"apply","first":7,"entries":[[4,"00000000000000ab",5,6,"duplicate"]]}"#,
        r#"{"seq":1,"t":2,"node":"n1","boot":3,"event":"snapshot","index":7,"term":4,"digest":"00000000000000ab","installed":false}"#,
        r#"{"seq":1,"t":2,"node":"n1","boot":3,"event":"config","index":7,"voters":["n1"],"outgoing":[],"learners":["n2"]}"#,
        r#"{"seq":1,"t":2,"node":"n1","boot":0,"event":"sessions","index":7,"sessions":[[3,6,2],[5,5,0]]}"#,
        r#"{"seq":1,"t":2,"node":"n1","boot":3,"event":"stop","reason":"asked"}"#,
    ];

    /// The derived reader alone.
    fn derived(text: &str) -> Result<Line, serde_json::Error> {
        AnyOrder::deserialize(&mut serde_json::Deserializer::from_str(text))
    }

    #[test]
    fn both_readers_take_the_same_lines_in_any_order_of_their_fields() {
        for text in LINES {
            let line: Line = serde_json::from_str(text).unwrap();
            assert_eq!(line, derived(text).unwrap(), "{text}");
            let Value::Object(fields) = serde_json::from_str(text).unwrap() else { panic!("{text}") };
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
                .collect();
            for turn in 0..fields.len() {
                let mut fields = fields.clone();
                fields.rotate_left(turn);
                let text = format!("{{{}}}", fields.join(","));
                assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
            }
        }
    }

    #[test]
    fn both_readers_refuse_the_same_lines() {
        let mut refused = 0;
        for text in LINES {
            let mut cases = vec![
                text.replace("\"seq\":1,", ""),
                text.replace("\"seq\":1", "\"seq\":-1"),
                text.replace("\"node\":\"n1\"", "\"node\":7"),
                text.replace("\"boot\":3", "\"boot\":3,\"boot\":3"),
                text.replace("\"event\":\"", "\"event\":\"no-"),
                text.replace('}', ",\"more\":1}"),
                text.replace('}', ",\"seq\":1}"),
                text[..text.len() - 1].to_owned(),
                format!("[{text}]"),
            ];
            // Without each of its fields, and with each a value of another kind.
            let Value::Object(fields) = serde_json::from_str(text).unwrap() else { panic!("{text}") };
            for name in fields.keys() {
                let mut less = fields.clone();
                less.remove(name);
                cases.push(Value::Object(less.clone()).to_string());
                less.insert(name.clone(), Value::from(1.5));
                cases.push(Value::Object(less).to_string());
            }
            for case in cases {
                let (one, other) = (serde_json::from_str::<Line>(&case), derived(&case));
                assert_eq!(one.is_ok(), other.is_ok(), "{case}: {one:?}, {other:?}");
                refused += u32::from(one.is_err());
            }
        }
        assert!(refused > 150, "{refused}");
    }

    #[test]
    fn a_refusal_says_what_is_wrong() {
        let [boot, ..] = LINES else { unreachable!() };
        let cases = [
            (boot.replace("\"term\":4,", ""), "missing field `term`"),
            (boot.replace("\"seq\":1,", ""), "missing field `seq`"),
            (boot.replace("\"last\":6", "\"last\":6,\"more\":1"), "unknown field `more`, expected one of"),
            (boot.replace("\"event\":\"boot\"", "\"event\":\"boots\""), "unknown variant `boots`"),
            (boot.replace("\"t\":2", "\"t\":\"2\""), "invalid type: string \"2\", expected u64"),
        ];
        for (text, expected) in cases {
            let error = serde_json::from_str::<Line>(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}\nshould contain\n{expected}");
        }
    }
}
