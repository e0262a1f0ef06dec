//! The log in memory: the position it begins after, then consecutive entries.
//!
//! In: entries to append or cut. Out: terms, positions, ranges. Never: a hole, or a term that falls.

use std::collections::VecDeque;

use super::{Entry, Index, Position, Term};

pub struct Log {
    /// Everything up to here is in a snapshot, which may reach further.
    begin: Position,
    entries: VecDeque<Entry>,
    /// Of all entries.
    bytes: usize,
}

impl Log {
    pub fn new(begin: Position, entries: Vec<Entry>) -> Log {
        let mut log = Log { begin, entries: VecDeque::with_capacity(entries.len()), bytes: 0 };
        for entry in entries {
            log.push(entry);
        }
        log
    }

    pub fn begin(&self) -> Position {
        self.begin
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn last(&self) -> Position {
        self.entries.back().map_or(self.begin, Entry::position)
    }

    /// None where this log has no entry, and below its begin.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.begin.index {
            return Some(self.begin.term);
        }
        self.offset(index).map(|offset| self.entries[offset].term)
    }

    pub fn holds(&self, position: Position) -> bool {
        self.term_at(position.index) == Some(position.term)
    }

    pub fn push(&mut self, entry: Entry) {
        let last = self.last();
        assert_eq!(entry.index, last.index.next(), "{:?} cannot follow {last:?}", entry.position());
        assert!(entry.term >= last.term, "{:?} cannot follow {last:?}", entry.position());
        self.bytes += entry.size();
        self.entries.push_back(entry);
    }

    /// Forgets the entries up to `index`, which the log holds.
    pub fn begin_after(&mut self, index: Index) {
        let term =
            self.term_at(index).unwrap_or_else(|| panic!("{index:?} is not in the log to begin after"));
        for entry in self.entries.drain(..(index.0 - self.begin.index.0) as usize) {
            self.bytes -= entry.size();
        }
        self.begin = Position { term, index };
    }

    /// Forgets everything: what `position` stands for is in its place.
    pub fn replace(&mut self, position: Position) {
        *self = Log::new(position, Vec::new());
    }

    pub fn truncate_after(&mut self, index: Index) {
        assert!(index >= self.begin.index, "a cut after {index} is below the begin {:?}", self.begin);
        let kept = ((index.0 - self.begin.index.0) as usize).min(self.entries.len());
        for entry in self.entries.drain(kept..) {
            self.bytes -= entry.size();
        }
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// From the one at `index` backwards, to the begin.
    pub fn entries_before(&self, index: Index) -> impl Iterator<Item = &Entry> {
        let count = index.0.saturating_sub(self.begin.index.0) as usize;
        self.entries.range(..count.min(self.entries.len())).rev()
    }

    /// The entries from `first` to `last`, both included and both in the log.
    pub fn range(&self, first: Index, last: Index) -> impl Iterator<Item = &Entry> {
        let start =
            self.offset(first).unwrap_or_else(|| panic!("{first:?} is not in the log of {:?}", self.last()));
        self.entries.range(start..=start + (last.0 - first.0) as usize)
    }

    /// The newest position at or below `index` whose term is at most `term`.
    ///
    /// Logs that agree anywhere at or below `index` on an entry of at most `term` agree no later than here:
    /// above it stand only entries of higher terms, which the other log cannot hold at or below `term`.
    pub fn newest_with_term_at_most(&self, index: Index, term: Term) -> Position {
        // Terms never fall along the log.
        let of_such_terms = self.entries.partition_point(|entry| entry.term <= term) as u64;
        let index = index.min(Index(self.begin.index.0 + of_such_terms));
        self.term_at(index).map_or(self.begin, |own| Position { term: own, index })
    }

    fn offset(&self, index: Index) -> Option<usize> {
        let offset = index.0.checked_sub(self.begin.index.0 + 1)? as usize;
        (offset < self.entries.len()).then_some(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::EntryKind;

    fn log(terms: &[u64]) -> Log {
        let entry = |(offset, term): (usize, &u64)| Entry {
            index: Index(offset as u64 + 1),
            term: Term(*term),
            kind: EntryKind::Command,
            payload: [].into(),
        };
        Log::new(Position::default(), terms.iter().enumerate().map(entry).collect())
    }

    #[test]
    fn the_hint_skips_whole_terms() {
        let log = log(&[1, 1, 2, 2, 5, 5, 5]);
        let cases =
            [((7, 5), (7, 5)), ((7, 4), (4, 2)), ((9, 1), (2, 1)), ((3, 9), (3, 2)), ((6, 0), (0, 0))];
        for ((index, term), (want_index, want_term)) in cases {
            let want = Position { index: Index(want_index), term: Term(want_term) };
            assert_eq!(log.newest_with_term_at_most(Index(index), Term(term)), want);
        }
    }

    #[test]
    fn a_log_that_begins_later_holds_the_rest_and_counts_its_bytes() {
        let mut log = log(&[1, 1, 2, 2, 5]);
        let each = log.bytes() / 5;
        log.begin_after(Index(3));
        assert_eq!(log.begin(), Position { index: Index(3), term: Term(2) });
        assert_eq!((log.term_at(Index(2)), log.term_at(Index(4))), (None, Some(Term(2))));
        assert_eq!(log.bytes(), 2 * each);
        log.truncate_after(Index(4));
        assert_eq!(log.bytes(), each);
        log.replace(Position { index: Index(9), term: Term(7) });
        assert_eq!((log.last(), log.bytes()), (Position { index: Index(9), term: Term(7) }, 0));
    }

    #[test]
    fn a_cut_leaves_what_is_at_or_before_it() {
        let mut log = log(&[1, 1, 2]);
        log.truncate_after(Index(2));
        assert_eq!(log.last(), Position { index: Index(2), term: Term(1) });
        assert_eq!(log.term_at(Index(3)), None);
    }
}
