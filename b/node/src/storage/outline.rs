//! The shape of the log: where it begins and ends, and where its terms change.
//!
//! In: each [`Write`], in order. Out: the write is possible, or the rule that it breaks. Both sides of the disk
//! ask: before a record is written, a broken rule is a bug; when one is read back, it is an error.
//! Never: a judgement of Raft's own rules (who may cut or vote what); the core and the judge know those.

use crate::raft::{Begin, Entry, Index, Position, Term, Write};

/// Grows with the number of terms, not of entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Outline {
    /// The log begins after this.
    pub begin: Position,
    pub last: Position,
    /// The first entry of each term in the log, in order.
    pub runs: Vec<Position>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("it cuts the log after entry {after}, but the log begins after {begin}")]
    CutBelowBegin { after: Index, begin: Index },
    #[error("it cuts the log after entry {after}, but the log ends at {last}")]
    CutBeyondEnd { after: Index, last: Index },
    #[error("it holds entry {found} where {expected} follows")]
    Gap { found: Index, expected: Index },
    #[error("entry {index} is of term {found}, the one before it of term {before}")]
    TermFalls { index: Index, found: Term, before: Term },
    #[error("it begins the log after {position:?}, which the log does not hold")]
    BeginsElsewhere { position: Position },
    #[error("it does not say what the records before it add up to")]
    OtherBase,
    #[error("{0}")]
    Malformed(&'static str),
}

impl Outline {
    /// None beyond the ends of the log.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index < self.begin.index || index > self.last.index {
            return None;
        }
        let run = self.runs.iter().rev().find(|run| run.index <= index);
        Some(run.map_or(self.begin.term, |run| run.term))
    }

    pub fn holds(&self, position: Position) -> bool {
        self.term_at(position.index) == Some(position.term)
    }

    /// Follows one write. After a violation, the outline is of no further use.
    pub fn apply(&mut self, write: &Write) -> Result<(), Violation> {
        if let Some(after) = write.truncate_after {
            self.truncate(after)?;
        }
        if let Some(begin) = write.begin {
            self.begin_after(begin)?;
        }
        write.entries.iter().try_for_each(|entry| self.push(entry))
    }

    fn truncate(&mut self, after: Index) -> Result<(), Violation> {
        if after < self.begin.index {
            return Err(Violation::CutBelowBegin { after, begin: self.begin.index });
        }
        if after > self.last.index {
            return Err(Violation::CutBeyondEnd { after, last: self.last.index });
        }
        while self.runs.pop_if(|run| run.index > after).is_some() {}
        let term = self.runs.last().map_or(self.begin.term, |run| run.term);
        self.last = Position { term, index: after };
        Ok(())
    }

    fn begin_after(&mut self, Begin { position, clear }: Begin) -> Result<(), Violation> {
        if clear {
            *self = Outline { begin: position, last: position, runs: Vec::new() };
        } else if self.holds(position) {
            self.begin = position;
            // What is left of a run that began before is told by `begin`.
            self.runs.retain(|run| run.index > position.index);
        } else {
            return Err(Violation::BeginsElsewhere { position });
        }
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
        Write { truncate_after: after.map(Index), entries, ..Write::default() }
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

    fn position(index: u64, term: u64) -> Position {
        Position { index: Index(index), term: Term(term) }
    }

    #[test]
    fn the_log_is_never_cut_below_its_begin() {
        let begin = position(5, 2);
        let mut outline = Outline { begin, last: begin, runs: Vec::new() };
        outline.apply(&write(None, &[(6, 2)])).unwrap();
        outline.apply(&write(Some(5), &[])).unwrap();
        assert_eq!(outline.last, begin);
        let below = Violation::CutBelowBegin { after: Index(4), begin: Index(5) };
        assert_eq!(outline.apply(&write(Some(4), &[])), Err(below));
    }

    #[test]
    fn the_log_begins_only_after_what_it_holds_unless_all_of_it_goes() {
        let entries = [(1, 1), (2, 1), (3, 3), (4, 3), (5, 4)];
        for (begin, clear, held) in [
            ((2, 1), false, true),
            ((4, 3), false, true),
            ((5, 4), false, true),
            ((4, 4), false, false),
            ((6, 4), false, false),
            ((4, 9), true, true),
            ((9, 9), true, true),
        ] {
            let mut outline = Outline::default();
            outline.apply(&write(None, &entries)).unwrap();
            let position = position(begin.0, begin.1);
            let begins = Write { begin: Some(Begin { position, clear }), ..Write::default() };
            assert_eq!(outline.apply(&begins).is_ok(), held, "{begins:?}");
            if held {
                assert_eq!((outline.begin, outline.term_at(position.index)), (position, Some(position.term)));
                assert_eq!(outline.term_at(position.index.prev()), None);
                assert_eq!(outline.term_at(Index(5)), (!clear).then_some(Term(4)));
            }
        }
    }
}
