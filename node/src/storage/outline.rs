//! The shape of the log: where it begins and ends, and where its terms change.
//!
//! In: each [`Write`], in order. Out: the write is possible, or the rule that it breaks. Both sides of the disk
//! ask: before a record is written, a broken rule is a bug; when one is read back, it is an error.
//! Never: a judgement of Raft's own rules (who may cut or vote what); the core and the judge know those.

use crate::raft::{Entry, Index, Position, Term, Write};

/// Grows with the number of terms, not of entries.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// The log begins after this.
    snapshot: Position,
    last: Position,
    /// The first entry of each term in the log, in order.
    runs: Vec<Position>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("it cuts the log after entry {after}, but the log begins after {snapshot}")]
    CutBelowSnapshot { after: Index, snapshot: Index },
    #[error("it cuts the log after entry {after}, but the log ends at {last}")]
    CutBeyondEnd { after: Index, last: Index },
    #[error("it holds entry {found} where {expected} follows")]
    Gap { found: Index, expected: Index },
    #[error("entry {index} is of term {found}, the one before it of term {before}")]
    TermFalls { index: Index, found: Term, before: Term },
    #[error("{0}")]
    Malformed(&'static str),
}

impl Outline {
    pub fn snapshot(&self) -> Position {
        self.snapshot
    }

    /// Follows one write. After a violation, the outline is of no further use.
    pub fn apply(&mut self, write: &Write) -> Result<(), Violation> {
        if let Some(after) = write.truncate_after {
            self.truncate(after)?;
        }
        write.entries.iter().try_for_each(|entry| self.push(entry))
    }

    fn truncate(&mut self, after: Index) -> Result<(), Violation> {
        if after < self.snapshot.index {
            return Err(Violation::CutBelowSnapshot { after, snapshot: self.snapshot.index });
        }
        if after > self.last.index {
            return Err(Violation::CutBeyondEnd { after, last: self.last.index });
        }
        while self.runs.pop_if(|run| run.index > after).is_some() {}
        let term = self.runs.last().map_or(self.snapshot.term, |run| run.term);
        self.last = Position { term, index: after };
        Ok(())
    }

    fn push(&mut self, entry: &Entry) -> Result<(), Violation> {
        let expected = self.last.index.next();
        if entry.index != expected {
            return Err(Violation::Gap { found: entry.index, expected });
        }
        if entry.term < self.last.term {
            let (index, found) = (entry.index, entry.term);
            return Err(Violation::TermFalls { index, found, before: self.last.term });
        }
        if self.runs.last().is_none_or(|run| run.term < entry.term) {
            self.runs.push(entry.position());
        }
        self.last = entry.position();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::EntryKind;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index: Index(index), term: Term(term), kind: EntryKind::Noop, payload: [].into() }
    }

    fn write(after: Option<u64>, entries: &[(u64, u64)]) -> Write {
        let entries = entries.iter().map(|&(index, term)| entry(index, term)).collect();
        Write { truncate_after: after.map(Index), entries, hard_state: None }
    }

    #[test]
    fn only_what_continues_the_log_is_possible() {
        let terms_fall = |index, found, before| {
            Err(Violation::TermFalls { index: Index(index), found: Term(found), before: Term(before) })
        };
        let gap = |found, expected| Err(Violation::Gap { found: Index(found), expected: Index(expected) });
        let cases = [
            (write(None, &[(4, 3)]), Ok(())),
            (write(None, &[(4, 7), (5, 9)]), Ok(())),
            (write(Some(3), &[]), Ok(())),
            (write(Some(1), &[(2, 1)]), Ok(())),
            (write(Some(0), &[(1, 1)]), Ok(())),
            (write(None, &[(5, 3)]), gap(5, 4)),
            (write(None, &[(3, 3)]), gap(3, 4)),
            (write(Some(1), &[(2, 1), (4, 1)]), gap(4, 3)),
            (write(None, &[(4, 2)]), terms_fall(4, 2, 3)),
            (write(Some(2), &[(3, 0)]), terms_fall(3, 0, 1)),
            (write(Some(4), &[]), Err(Violation::CutBeyondEnd { after: Index(4), last: Index(3) })),
        ];
        for (write, expected) in cases {
            let mut outline = Outline::default();
            outline.apply(&self::write(None, &[(1, 1), (2, 1), (3, 3)])).unwrap();
            assert_eq!(outline.apply(&write), expected, "{write:?}");
        }
    }

    #[test]
    fn the_log_is_never_cut_below_its_snapshot() {
        let snapshot = Position { term: Term(2), index: Index(5) };
        let mut outline = Outline { snapshot, last: snapshot, runs: Vec::new() };
        outline.apply(&write(None, &[(6, 2)])).unwrap();
        outline.apply(&write(Some(5), &[])).unwrap();
        assert_eq!(outline.last, snapshot);
        let below = Violation::CutBelowSnapshot { after: Index(4), snapshot: Index(5) };
        assert_eq!(outline.apply(&write(Some(4), &[])), Err(below));
    }
}
