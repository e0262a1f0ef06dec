//! What a check says: holds, violated or unknown, and the lines that show it.
//!
//! In: findings and doubts. Out: [`Verdict`]. Never: "holds" from a check that examined nothing.

use serde::{Deserialize, Serialize};

use super::about::About;
use super::evidence::{Evidence, Kinds};

/// Findings beyond this many are counted and not kept: the first ones tell the story.
pub const FINDINGS_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Holds,
    Violated,
    /// Never a pass.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub status: Status,
    /// One sentence: what was examined, or what is wrong, or what is missing.
    pub summary: String,
    /// What is wrong when violated, what is missing when unknown, what is worth a look when it holds.
    pub findings: Vec<Finding>,
    /// Findings that are not shown.
    pub more: usize,
}

/// One thing that went wrong or is missing, in words, with the lines that show it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub text: String,
    pub witnesses: Vec<Witness>,
    /// Lines of text drawn in a fixed width; empty when words do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drawing: Vec<String>,
    /// Names it in this run's results: `log-matching/2`. Only what is wrong has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// What the clients had to do with it, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
    /// The ids of what it follows from, directly; a finding without is a root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Of a root: everything that follows from it, over however many steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consequences: Vec<Consequence>,
    #[serde(skip)]
    pub about: About,
}

/// The findings of one check that follow from a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consequence {
    pub check: String,
    /// `3 entries`, `k0, k4`; empty when there is no more to say than that it was violated.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub extent: String,
    pub ids: Vec<String>,
}

/// A line of the run folder and the fact it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// From the folder's root.
    pub file: String,
    /// From 1; 0 when the file as a whole is meant, or is not there.
    pub line: u32,
    pub text: String,
}

impl Finding {
    pub fn new(text: impl Into<String>, witnesses: impl Into<Vec<Witness>>) -> Finding {
        Finding { text: text.into(), witnesses: witnesses.into(), ..Finding::default() }
    }

    pub fn about(mut self, about: About) -> Finding {
        self.about = about;
        self
    }
}

/// Collects while a check goes over the evidence, and draws the one conclusion all checks share: violated if
/// anything was found, else unknown if anything was missing or nothing examined, else holds.
#[derive(Debug, Default)]
pub struct Tally {
    findings: Vec<Finding>,
    found: usize,
    doubts: Vec<Finding>,
    doubted: usize,
    notes: Vec<Finding>,
    noted: usize,
    /// How many facts the verdict rests on.
    pub examined: u64,
}

impl Tally {
    pub fn violated(&mut self, finding: Finding) {
        keep(&mut self.findings, &mut self.found, finding);
    }

    /// Further ones, which are counted and not told.
    pub fn violated_more(&mut self, more: usize) {
        self.found += more;
    }

    pub fn doubt(&mut self, finding: Finding) {
        keep(&mut self.doubts, &mut self.doubted, finding);
    }

    /// Worth a look, and no reason for another verdict.
    pub fn note(&mut self, finding: Finding) {
        keep(&mut self.notes, &mut self.noted, finding);
    }

    /// Doubts for each gap that may have swallowed a line of one of `kinds`.
    pub fn doubt_gaps(&mut self, evidence: &Evidence, kinds: Kinds) {
        for gap in evidence.gaps_in(kinds) {
            self.doubt(Finding::new(gap.text.clone(), [gap.witness.clone()]));
        }
    }

    /// `nothing` is the summary when nothing was examined, `holds` when all is well.
    pub fn verdict(self, nothing: &str, holds: impl FnOnce(u64) -> String) -> Verdict {
        let told = |findings: &[Finding], count: usize| match (findings, count) {
            ([only], 1) => only.text.clone(),
            ([first, ..], count) => format!("{} (and {} more)", first.text, count - 1),
            ([], _) => String::new(),
        };
        let (status, findings, count, summary) = if self.found > 0 {
            let summary = told(&self.findings, self.found);
            (Status::Violated, self.findings, self.found, summary)
        } else if self.doubted > 0 {
            let summary = told(&self.doubts, self.doubted);
            (Status::Unknown, self.doubts, self.doubted, summary)
        } else if self.examined == 0 {
            (Status::Unknown, self.notes, self.noted, nothing.to_owned())
        } else {
            (Status::Holds, self.notes, self.noted, holds(self.examined))
        };
        let more = count - findings.len();
        Verdict { status, summary, findings, more }
    }
}

fn keep(kept: &mut Vec<Finding>, count: &mut usize, finding: Finding) {
    *count += 1;
    if kept.len() < FINDINGS_MAX {
        kept.push(finding);
    }
}

/// `1 vote`, `2 votes`.
pub fn count(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {one}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_examined_is_unknown_and_found_outranks_doubted() {
        let finding = |text: &str| Finding::new(text, []);
        let nothing = Tally::default().verdict("no line", |_| unreachable!());
        assert_eq!((nothing.status, nothing.summary.as_str()), (Status::Unknown, "no line"));

        let mut tally = Tally { examined: 3, ..Tally::default() };
        tally.doubt(finding("a gap"));
        tally.violated(finding("two leaders"));
        let verdict = tally.verdict("", |_| unreachable!());
        assert_eq!((verdict.status, verdict.summary.as_str()), (Status::Violated, "two leaders"));

        let mut tally = Tally { examined: 3, ..Tally::default() };
        for number in 0..FINDINGS_MAX + 2 {
            tally.doubt(finding(&format!("gap {number}")));
        }
        let verdict = tally.verdict("", |_| unreachable!());
        assert_eq!((verdict.status, verdict.more), (Status::Unknown, 2));
        assert_eq!(verdict.summary, format!("gap 0 (and {} more)", FINDINGS_MAX + 1));
    }
}
