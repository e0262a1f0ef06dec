//! The kinds of things that cannot be, and what was found of each.
//!
//! In: findings, each of a kind. Out: the most severe kinds first, a bounded number of each, and a count of the rest.
//! Never: a finding that is worded and then thrown away; a broken system can have a million.

use std::collections::BTreeMap;
use std::fmt;

use crate::check::verdict::{Finding, Tally};

/// Of a kind that needs no cycle, told at most.
const SHOWN_MAX: usize = 3;

/// In the order of severity: the first ones no isolation level allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Garbage,
    DuplicateElements,
    Internal,
    AbortedRead,
    IntermediateRead,
    IncompatibleOrder,
    Cycle { realtime: bool, shape: Shape },
}

/// Of which edges a cycle consists, beside those of real time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// Only ww.
    G0,
    /// ww and wr.
    G1c,
    /// One rw.
    GSingle,
    /// Several rw.
    G2,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Garbage => "garbage",
            Kind::DuplicateElements => "duplicate-elements",
            Kind::Internal => "internal",
            Kind::AbortedRead => "G1a",
            Kind::IntermediateRead => "G1b",
            Kind::IncompatibleOrder => "incompatible-order",
            Kind::Cycle { shape: Shape::G0, .. } => "G0",
            Kind::Cycle { shape: Shape::G1c, .. } => "G1c",
            Kind::Cycle { shape: Shape::GSingle, .. } => "G-single",
            Kind::Cycle { shape: Shape::G2, .. } => "G2",
        })?;
        match self {
            Kind::Cycle { realtime: true, .. } => f.write_str("-realtime"),
            _ => Ok(()),
        }
    }
}

#[derive(Debug, Default)]
pub struct Anomalies {
    found: BTreeMap<Kind, (Vec<Finding>, usize)>,
}

impl Anomalies {
    /// `tell` words it, where it is told; its text need not name the kind.
    pub fn add(&mut self, kind: Kind, tell: impl FnOnce() -> Finding) {
        let (findings, count) = self.found.entry(kind).or_default();
        *count += 1;
        if findings.len() < SHOWN_MAX || matches!(kind, Kind::Cycle { .. }) {
            let mut finding = tell();
            finding.text = format!("{kind}: {}", finding.text);
            findings.push(finding);
        }
    }

    pub fn into_tally(self, tally: &mut Tally) {
        let mut rest = 0;
        for (findings, count) in self.found.into_values() {
            rest += count - findings.len();
            findings.into_iter().for_each(|finding| tally.violated(finding));
        }
        tally.violated_more(rest);
    }
}
