//! What can be waited for: facts that nodes and clients tell while the load goes on.
//!
//! In: words such as `commit +100`. Out: [`Fact`] and [`By`], and back. Never: how a fact is found out; `nemesis` has
//! that.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Name;
use super::words::{Words, node_number};

/// A fact counts only from the moment the wait for it began. Each is about one node: the one whose evidence has it,
/// or the one that answered a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Fact {
    /// A node stands for election.
    Candidate,
    /// A node becomes leader.
    Elected,
    /// A node is in a term that is higher than any that was seen before.
    Term,
    /// A node's commit index reaches this one.
    Commit(u64),
    /// A node's commit index reaches the highest one of when the wait began, and so many more.
    CommitMore(u64),
    /// Entries are durable on a node.
    Append,
    /// A node has cut its log.
    Truncate,
    /// A node has taken a snapshot.
    Snapshot,
    /// A node's unfinished snapshot is there.
    SnapshotBegins,
    /// A node has put the leader's snapshot in the place of its log.
    Installed,
    /// A configuration with outgoing voters takes effect on a node.
    Joint,
    /// A configuration takes effect on a node.
    Config,
    /// A node has recovered from its disk.
    Boot,
    /// A client's write was answered.
    WriteOk,
    /// A client's read was answered.
    ReadOk,
}

/// Whom a fact must be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum By {
    /// This one (from 1).
    Node(u32),
    /// One of those that an earlier move of this round came to.
    Named(Name),
    /// A node that is in no name of this round so far.
    Other,
}

/// What is waited for before a step is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    pub fact: Fact,
    pub by: Option<By>,
    /// Nanoseconds since the wait began, for which it goes on at most; None: to the end of the load.
    pub within: Option<u64>,
    /// Nanoseconds since the load began: the wait ends then, however long it has gone on. None: with the load.
    pub until: Option<u64>,
}

/// Facts that are one word; beside them: `commit 500` and `commit +100`.
impl Words for Fact {
    const WORDS: &'static [(&'static str, Fact)] = &[
        ("candidate", Fact::Candidate),
        ("elected", Fact::Elected),
        ("term", Fact::Term),
        ("append", Fact::Append),
        ("truncate", Fact::Truncate),
        ("snapshot", Fact::Snapshot),
        ("snapshot-begins", Fact::SnapshotBegins),
        ("installed", Fact::Installed),
        ("joint", Fact::Joint),
        ("config", Fact::Config),
        ("boot", Fact::Boot),
        ("write-ok", Fact::WriteOk),
        ("read-ok", Fact::ReadOk),
    ];
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::Commit(index) => write!(f, "commit {index}"),
            Fact::CommitMore(more) => write!(f, "commit +{more}"),
            other => f.pad(other.to_word().unwrap_or_else(|| panic!("WORDS has no line for {other:?}"))),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Node(number) => f.pad(&format!("n{number}")),
            By::Named(name) => name.fmt(f),
            By::Other => f.pad("other"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no fact: expected a word such as elected or write-ok, `commit 500` or `commit +100`")]
pub struct UnknownFact(pub String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nobody that a fact can be about: expected a node such as n2, a name, or other")]
pub struct UnknownBy(pub String);

impl FromStr for Fact {
    type Err = UnknownFact;

    fn from_str(word: &str) -> Result<Fact, UnknownFact> {
        let number = |digits: &str| {
            let canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
            digits.parse::<u64>().ok().filter(|_| canonical)
        };
        let commit = || match word.strip_prefix("commit ")?.strip_prefix('+') {
            Some(more) => number(more).map(Fact::CommitMore),
            None => number(word.strip_prefix("commit ")?).map(Fact::Commit),
        };
        Fact::from_word(word).or_else(commit).ok_or_else(|| UnknownFact(word.to_owned()))
    }
}

impl FromStr for By {
    type Err = UnknownBy;

    fn from_str(word: &str) -> Result<By, UnknownBy> {
        let other = (word == "other").then_some(By::Other);
        let node = || node_number(word).map(By::Node);
        let name = || word.parse().ok().map(By::Named);
        other.or_else(node).or_else(name).ok_or_else(|| UnknownBy(word.to_owned()))
    }
}

impl TryFrom<String> for Fact {
    type Error = UnknownFact;

    fn try_from(word: String) -> Result<Fact, UnknownFact> {
        word.parse()
    }
}

impl From<Fact> for String {
    fn from(fact: Fact) -> String {
        fact.to_string()
    }
}

impl TryFrom<String> for By {
    type Error = UnknownBy;

    fn try_from(word: String) -> Result<By, UnknownBy> {
        word.parse()
    }
}

impl From<By> for String {
    fn from(by: By) -> String {
        by.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_is_read_as_what_it_was_written_from() {
        let counted = [("commit 500", Fact::Commit(500)), ("commit +100", Fact::CommitMore(100))];
        for (word, fact) in Fact::WORDS.iter().copied().chain(counted) {
            assert_eq!(word.parse(), Ok(fact));
            assert_eq!(fact.to_string(), word);
        }
        for wrong in ["", "commit", "commit ", "commit 0", "commit +0", "commit -1", "commit 05", "Elected"] {
            assert_eq!(wrong.parse::<Fact>(), Err(UnknownFact(wrong.into())));
        }
    }

    #[test]
    fn whoever_a_fact_is_about_is_read_as_it_was_written() {
        for (word, by) in
            [("n2", By::Node(2)), ("other", By::Other), ("old", By::Named("old".parse().unwrap()))]
        {
            assert_eq!(word.parse(), Ok(by));
            assert_eq!(by.to_string(), word);
        }
        for wrong in ["", "n0", "leader", "others", "Old"] {
            assert_eq!(wrong.parse::<By>(), Err(UnknownBy(wrong.into())));
        }
    }
}
