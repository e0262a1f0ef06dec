//! A glimpse of a node's evidence while it is being written: the few acts that a fault may wait for.
//!
//! In: a line. Out: a [`Glimpse`], none of a line that tells of something else, or what is wrong with it. Never: all that
//! stands in a line: the judge reads that, when there is time.
//!
//! A busy cluster writes ten thousands of lines in a second, and nearly all of them are looked at no further than
//! needed to know that they are of no interest.

use mkraft_proto::evidence::{Event, Line};

pub use mkraft_proto::evidence::Role;

/// What a node wrote down, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glimpse {
    /// CLOCK_MONOTONIC in nanoseconds.
    pub t: u64,
    pub act: Act,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Boot,
    Role {
        term: u64,
        role: Role,
    },
    /// Entries from this one on are durable.
    Append {
        first: u64,
    },
    Truncate {
        after: u64,
    },
    Commit {
        index: u64,
    },
    /// A snapshot that the node has taken itself.
    Snapshot {
        index: u64,
    },
    /// A snapshot of the leader's, in the place of the log.
    Installed {
        index: u64,
    },
    Config {
        index: u64,
        /// There are voters of before whose majority is needed too.
        joint: bool,
    },
}

impl Glimpse {
    /// Of a line with its newline.
    pub fn of(line: &[u8]) -> Result<Option<Glimpse>, serde_json::Error> {
        match at_a_glance(line) {
            Some(seen) => Ok(seen),
            None => serde_json::from_slice::<Line>(line).map(|line| whole(&line)),
        }
    }
}

fn whole(line: &Line) -> Option<Glimpse> {
    let act = match &line.event {
        Event::Boot { .. } => Act::Boot,
        Event::Role { term, role, .. } => Act::Role { term: *term, role: *role },
        Event::Append { first, recovered: false, .. } => Act::Append { first: *first },
        Event::Truncate { after } => Act::Truncate { after: *after },
        Event::Commit { index, .. } => Act::Commit { index: *index },
        Event::Snapshot { index, installed: false, .. } => Act::Snapshot { index: *index },
        Event::Snapshot { index, installed: true, .. } => Act::Installed { index: *index },
        Event::Config { index, outgoing, .. } => Act::Config { index: *index, joint: !outgoing.is_empty() },
        Event::Append { recovered: true, .. }
        | Event::Vote { .. }
        | Event::Apply { .. }
        | Event::Sessions { .. }
        | Event::Stop { .. } => return None,
    };
    Some(Glimpse { t: line.t, act })
}

/// Of the lines that come most often, as nodes write them. None when it has to be read as a whole.
fn at_a_glance(line: &[u8]) -> Option<Option<Glimpse>> {
    if !line.ends_with(b"}\n") {
        return None;
    }
    let mut rest = Rest(line);
    rest.take(br#"{"seq":"#)?;
    rest.number()?;
    rest.take(br#","t":"#)?;
    let t = rest.number()?;
    rest.take(br#","node":""#)?;
    rest.word()?;
    rest.take(br#","boot":"#)?;
    rest.number()?;
    rest.take(br#","event":""#)?;
    let act = match rest.word()? {
        b"apply" => return Some(None),
        b"append"
            if line.ends_with(
                br#","recovered":true}
"#,
            ) =>
        {
            return Some(None);
        }
        b"append" => {
            rest.take(br#","first":"#)?;
            Act::Append { first: rest.number()? }
        }
        b"commit" => {
            rest.take(br#","index":"#)?;
            Act::Commit { index: rest.number()? }
        }
        _ => return None,
    };
    Some(Some(Glimpse { t, act }))
}

/// What is left of a line. Each step is None when the line is not of the known shape.
struct Rest<'l>(&'l [u8]);

impl<'l> Rest<'l> {
    fn take(&mut self, expected: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    fn number(&mut self) -> Option<u64> {
        let length = self.0.iter().position(|byte| !byte.is_ascii_digit())?;
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Up to its quote, which is taken too.
    fn word(&mut self) -> Option<&'l [u8]> {
        let length = self.0.iter().position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'-'))?;
        let (word, rest) = self.0.split_at(length);
        self.0 = rest.strip_prefix(b"\"")?;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use mkraft_proto::evidence::{Appended, Applied, Digest, EntryKind, Outcome};

    use super::*;

    fn told() -> Vec<(Event, Option<Act>)> {
        let digest = Digest(7);
        let snapshot = |installed| Event::Snapshot { index: 9, term: 2, digest, installed };
        let append = |recovered| {
            let entries = vec![Appended(2, EntryKind::Noop, digest), Appended(2, EntryKind::Command, digest)];
            Event::Append { first: 4, entries, recovered }
        };
        let config =
            |outgoing| Event::Config { index: 3, voters: vec!["n1".into()], outgoing, learners: vec![] };
        let boot = Event::Boot {
            version: "1".into(),
            term: 1,
            vote: None,
            commit: 0,
            snapshot: 0,
            first: 1,
            last: 0,
        };
        vec![
            (boot, Some(Act::Boot)),
            (
                Event::Role { term: 5, role: Role::PreCandidate, leader: None },
                Some(Act::Role { term: 5, role: Role::PreCandidate }),
            ),
            (
                Event::Role { term: 6, role: Role::Leader, leader: Some("n3".into()) },
                Some(Act::Role { term: 6, role: Role::Leader }),
            ),
            (Event::Vote { term: 6, candidate: "n2".into() }, None),
            (append(false), Some(Act::Append { first: 4 })),
            (append(true), None),
            (Event::Truncate { after: 3 }, Some(Act::Truncate { after: 3 })),
            (Event::Commit { index: u64::MAX, term: 6 }, Some(Act::Commit { index: u64::MAX })),
            (Event::Apply { first: 4, entries: vec![Applied(2, digest, 1, 1, Outcome::Applied)] }, None),
            (snapshot(false), Some(Act::Snapshot { index: 9 })),
            (snapshot(true), Some(Act::Installed { index: 9 })),
            (config(vec![]), Some(Act::Config { index: 3, joint: false })),
            (config(vec!["n2".into()]), Some(Act::Config { index: 3, joint: true })),
            (Event::Stop { reason: "asked".into() }, None),
        ]
    }

    #[test]
    fn every_kind_of_line_is_seen_for_what_it_is_in_whatever_order_its_fields_stand() {
        for (event, act) in told() {
            let line = Line { seq: 1, t: 812, node: "n2".into(), boot: 3, event };
            let text = serde_json::to_string(&line).unwrap() + "\n";
            let expected = act.map(|act| Glimpse { t: 812, act });
            assert_eq!(Glimpse::of(text.as_bytes()).unwrap(), expected, "{text}");
            // Through a map that sorts them.
            let sorted: serde_json::Value = serde_json::from_str(&text).unwrap();
            let sorted = format!("{sorted}\n");
            assert!(at_a_glance(sorted.as_bytes()).is_none(), "{sorted}");
            assert_eq!(Glimpse::of(sorted.as_bytes()).unwrap(), expected, "{sorted}");
        }
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for text in [
            "garbage\n",
            "{}\n",
            r#"{"seq":1,"t":2,"node":"n1","boot":1,"event":"role","term":"five"}"#,
            r#"{"seq":1,"t":2,"node":"n1","boot":1,"event":"commit","index":"#,
            "{\"seq\":1,\"t\":99999999999999999999,\"node\":\"n1\",\"boot\":1,\"event\":\"commit\",\"index\":1,\"term\":1}\n",
        ] {
            assert!(Glimpse::of(text.as_bytes()).is_err(), "{text}");
        }
    }
}
