//! The witness book: what clients and the nemesis did, in one file, on one clock.

mod datum;
mod edn;
pub mod export;
pub mod folder;
pub mod function;
pub mod import;
mod line;
mod read;
mod recorder;

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Serialize};

pub use datum::Datum;
pub use read::{Ended, History, HistoryError, HistoryFault, Operation, StrikeRecord};
pub use recorder::{Ear, Recorder, monotonic_ns};

/// One line of `history.jsonl`, in Jepsen's words, so that its tools can read it.
///
/// A process does one operation at a time: `invoke`, then `ok` (it happened), `fail` (it certainly did not)
/// or `info` (open to the end of time; that process never invokes again).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Op {
    /// Counts the lines of the file, from 0.
    pub index: u64,
    /// Nanoseconds of CLOCK_MONOTONIC: the clock of the nodes' evidence lines too.
    pub time: u64,
    pub process: Process,
    #[serde(rename = "type")]
    pub kind: OpType,
    /// The function: `read`, `write`, `cas`, `add`, `txn`, ...; a fault's kind or `heal` for the nemesis.
    pub f: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `write`, `add`: the value. `read`: null, then what was read. `cas`: `[expected, new]`. `txn`: a list of
    /// `["append", key, element]` and `["r", key, null]`, then with what was read. `transfer`: an object of `from`, `to`
    /// and `amount`. `acquire`, `release`: the token. The nemesis: see there.
    #[serde(default)]
    pub value: serde_json::Value,
    /// What a node found that carried an operation out and changed nothing, for what was compared was otherwise. Of a
    /// compare-and-swap the value, null when there was no such key: it is a read.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub seen: Option<serde_json::Value>,
    /// Why it failed or stayed open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The node that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// With `sequence`, joins a write to its log entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpType {
    Invoke,
    Ok,
    Fail,
    Info,
}

/// A client's number, or the nemesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Process {
    Client(u64),
    Nemesis(NemesisProcess),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NemesisProcess {
    Nemesis,
}

/// Not derived: an untagged enum takes a copy of each value before it looks at it.
impl<'de> Deserialize<'de> for Process {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Process, D::Error> {
        struct Who;
        impl Visitor<'_> for Who {
            type Value = Process;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a client's number, or \"nemesis\"")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Process, E> {
                Ok(Process::Client(number))
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Process, E> {
                match name {
                    "nemesis" => Ok(Process::Nemesis(NemesisProcess::Nemesis)),
                    name => Err(E::invalid_value(de::Unexpected::Str(name), &self)),
                }
            }
        }
        deserializer.deserialize_any(Who)
    }
}

/// Tells a null from an absent field.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(Some)
}

/// The `value` of the nemesis' lines: an `invoke` names step and intent, the `info` after it what came of it.
///
/// `f` is the fault's kind (`kill`, `pause`, ...) when it is done, and `heal` when it is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strike {
    /// Line of `plan.jsonl`, from 0; null for the conductor's own last heal of everything.
    pub step: Option<u64>,
    /// The target as the scenario says it (`leader`); `all` for the last heal.
    pub target: String,
    /// The nodes it came to; empty in an `invoke`.
    pub nodes: Vec<String>,
    /// Null in an `invoke`.
    pub outcome: Option<StrikeOutcome>,
    /// The proof, or the reason: "n3: ended by signal 9", "no node leads".
    pub detail: String,
    /// Whether a quorum of the voters is out of reach of every fault from now on: they run, and nothing that is done
    /// to links stands between any two of them. Null in an `invoke`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StrikeOutcome {
    /// It happened, and was seen to have happened.
    Installed,
    /// It certainly did not happen.
    Skipped,
    /// It may have happened, or only in part.
    Indeterminate,
}
