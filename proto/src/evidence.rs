//! What a node writes down about itself, one JSON object a line, and what a judge reads back.
//!
//! A line is written with write(2) after the fact is durable on this node and before any other process can
//! learn of it, so a kill cannot hide an act. A file holds one boot: `boot-0001.jsonl`. Any other Raft that
//! writes these lines can be judged too.

mod by_hand;
mod reading;

use std::fmt;

use serde::de::{self, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// One line of evidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Counts the lines of one file, from 1, without gaps.
    pub seq: u64,
    /// CLOCK_MONOTONIC in nanoseconds: one clock for the whole machine.
    pub t: u64,
    pub node: String,
    /// Counts the boots of one node, from 1; 0 in a dump, which is read outside any boot.
    pub boot: u64,
    #[serde(flatten)]
    pub event: Event,
}

/// What happened. Indices and terms count from 1; 0 means "none".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// After recovery: what the disk gave back. `append` lines marked `recovered` follow, for first..=last.
    Boot {
        version: String,
        term: u64,
        vote: Option<String>,
        commit: u64,
        /// Index of the snapshot the log begins after.
        snapshot: u64,
        first: u64,
        last: u64,
    },
    /// At every change of role or term.
    Role { term: u64, role: Role, leader: Option<String> },
    /// Once the vote is durable.
    Vote {
        term: u64,
        #[serde(rename = "for")]
        candidate: String,
    },
    /// Once the entries are durable: at `first` and following.
    Append {
        first: u64,
        entries: Vec<Appended>,
        /// These were read back from the disk at boot, and are not new.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        recovered: bool,
    },
    /// Once the cut is durable: entries after this index are gone.
    Truncate { after: u64 },
    /// When the commit index advances; `term` is this node's current term.
    Commit { index: u64, term: u64 },
    /// Before the reply to the client: the entries at `first` and following, as applied.
    Apply { first: u64, entries: Vec<Applied> },
    /// When taken, or installed from the leader.
    Snapshot { index: u64, term: u64, digest: Digest, installed: bool },
    /// When it takes effect.
    Config { index: u64, voters: Vec<String>, outgoing: Vec<String>, learners: Vec<String> },
    /// In a dump alone, after all else: client sessions of the newest snapshot, which ends at `index`, by rising id.
    Sessions { index: u64, sessions: Vec<Session> },
    /// On a clean stop.
    Stop { reason: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Follower,
    PreCandidate,
    Candidate,
    Leader,
    Learner,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    Noop,
    Command,
    Config,
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            EntryKind::Noop => "noop",
            EntryKind::Command => "command",
            EntryKind::Config => "config",
        })
    }
}

/// `[term, kind, digest]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Appended(pub u64, pub EntryKind, pub Digest);

/// `[term, digest, session, sequence, outcome]`; session and sequence are 0 for an entry that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied(pub u64, pub Digest, pub u64, pub u64, pub Outcome);

/// `[id, used, sequence]`: the entry that named it last, and the last of its sequences that took effect; 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session(pub u64, pub u64, pub u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It took effect (a no-op's effect is none; a compare-and-swap's may be "no swap").
    Applied,
    /// Its sequence was the session's last; the first attempt's reply was given again.
    Duplicate,
    /// Its session or sequence was not acceptable; it took no effect.
    Refused,
}

/// xxh3-64 of an entry's kind and payload; 16 lower-case hex digits in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub u64);

impl Digest {
    /// Of the kind's number in `raft.proto` as one byte, then the payload.
    pub fn of_entry(kind: EntryKind, payload: &[u8]) -> Digest {
        let mut hash = Xxh3::new();
        hash.update(&[kind as u8]);
        hash.update(payload);
        Digest(hash.digest())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        struct Hex;
        impl de::Visitor<'_> for Hex {
            type Value = Digest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("16 hex digits")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Digest, E> {
                let hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                let value = hex.then(|| u64::from_str_radix(text, 16).ok()).flatten();
                value.map(Digest).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Hex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: Event) -> Line {
        Line { seq: 1, t: 2, node: "n1".into(), boot: 3, event }
    }

    #[test]
    fn lines_read_as_the_design_says() {
        let digest = Digest(0xab);
        let cases = [
            (
                line(Event::Vote { term: 4, candidate: "n2".into() }),
                r#"{"seq":1,"t":2,"node":"n1","boot":3,"event":"vote","term":4,"for":"n2"}"#,
            ),
            (
                line(Event::Append {
                    first: 7,
                    entries: vec![Appended(4, EntryKind::Noop, digest)],
                    recovered: false,
                }),
                r#"{"seq":1,"t":2,"node":"n1","boot":3,"event":"append","first":7,"entries":[[4,"noop","00000000000000ab"]]}"#,
            ),
            (
                line(Event::Apply { first: 7, entries: vec![Applied(4, digest, 5, 6, Outcome::Duplicate)] }),
                r#"{"seq":1,"t":2,"node":"n1","boot":3,"event":"apply","first":7,"entries":[[4,"00000000000000ab",5,6,"duplicate"]]}"#,
            ),
            (
                line(Event::Role { term: 4, role: Role::PreCandidate, leader: None }),
                r#"{"seq":1,"t":2,"node":"n1","boot":3,"event":"role","term":4,"role":"pre-candidate","leader":null}"#,
            ),
        ];
        for (line, text) in cases {
            assert_eq!(serde_json::to_string(&line).unwrap(), text);
            assert_eq!(serde_json::from_str::<Line>(text).unwrap(), line);
        }
    }

    #[test]
    fn a_digest_that_is_not_16_hex_digits_is_refused() {
        for text in ["\"ab\"", "\"+0000000000000ab\"", "\"00000000000000zz\"", "12"] {
            let error = serde_json::from_str::<Digest>(text).unwrap_err().to_string();
            assert!(error.contains("16 hex digits"), "{error}");
        }
    }
}
