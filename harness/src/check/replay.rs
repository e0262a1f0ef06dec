//! Follows one node through its facts: the log its disk holds, the role it plays.
//!
//! In: facts in order. Out: at each moment the durable log with its chain hash, role, term and commit index.
//! Never: a verdict; what does not fit is handed to the caller. A copy of an entry: a log is a few stretches of the
//! [`Logs`](super::pool::Logs) that all nodes share.
//!
//! The chain hash stands for the whole log up to an entry, so that two logs are compared by one number.

use std::sync::Arc;

use mkraft_proto::evidence::Role;

use super::evidence::{Act, BootAct, Fact, Node, Span};
pub use super::pool::Held;
use super::pool::{After, CHAIN_ROOT, CHAIN_UNKNOWN};

/// The durable log of a node, from entry `first` on.
#[derive(Debug, Clone)]
pub struct Log {
    first: u64,
    /// What stands before `first`.
    base: After,
    /// In order, without holes, none of them empty.
    stretches: Vec<Stretch>,
    held: Arc<Vec<Held>>,
    /// Lines are missing: what follows has no chain hash that could be known.
    tainted: bool,
}

#[derive(Debug, Clone, Copy)]
struct Stretch {
    first: u64,
    span: Span,
}

const ROOT: After = After { chain: CHAIN_ROOT, place: None };
const UNKNOWN: After = After { chain: CHAIN_UNKNOWN, place: None };

impl Default for Log {
    fn default() -> Log {
        Log::begin_after(0, ROOT)
    }
}

/// An act that does not fit the log it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// Entries from `first`, and the log ends before.
    Hole { first: u64, last: u64 },
    /// Entries from `first`, where the log has entries that nobody cut.
    Overwrite { first: u64, last: u64 },
}

/// Everything there is to know about a node after some fact.
#[derive(Debug, Default)]
pub struct Replay {
    pub log: Log,
    /// Since the boot: follower until a line says otherwise.
    pub role: Option<Role>,
    pub term: u64,
    pub commit: u64,
    /// False once lines are missing, until the next boot says how things are.
    pub trusted: bool,
    /// What the disk gave back, while those lines last. Until they are through, `log` stays what it was: a disk
    /// holds its log also while it is being read.
    recovering: Option<Log>,
    recover_until: u64,
}

impl Log {
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The index of the last entry; `first - 1` when there is none.
    pub fn last(&self) -> u64 {
        let stretch = self.stretches.last();
        stretch.map_or(self.first - 1, |stretch| stretch.first - 1 + u64::from(stretch.span.len))
    }

    pub fn get(&self, index: u64) -> Option<&Held> {
        self.held.get(self.place(index)? as usize)
    }

    fn place(&self, index: u64) -> Option<u32> {
        let at = self.stretches.partition_point(|stretch| stretch.first <= index);
        let stretch = &self.stretches[at.checked_sub(1)?];
        let offset = u32::try_from(index - stretch.first).ok()?;
        (offset < stretch.span.len).then(|| stretch.span.start + offset)
    }

    /// The first index, of those up to one, at which two logs differ or one of them ends. Below a snapshot of either
    /// nobody can tell, and nothing speaks against it.
    pub fn parts_from(&self, other: &Log, upto: u64) -> Option<u64> {
        let begin = self.first.max(other.first);
        let agrees =
            |index| self.get(index).zip(other.get(index)).is_some_and(|(own, held)| own.agrees(held));
        // Logs that agree somewhere agree below.
        let (mut low, mut high) = (begin, upto.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            match agrees(middle) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        (low <= upto).then_some(low)
    }

    /// The term of the first entry that two logs have in common by index and term, after they have parted: there
    /// log matching is lost between them. None when they have no such entry up to an index.
    pub fn clashes_in(&self, other: &Log, upto: u64) -> Option<u64> {
        let from = self.parts_from(other, upto)?;
        let terms = |index| Some((self.get(index)?.entry.term, other.get(index)?.entry.term));
        let pairs = (from..=upto).map_while(terms);
        pairs.filter(|(own, held)| own == held).map(|(term, _)| u64::from(term)).next()
    }

    /// Forgets entries after this index; those before `first` are in the snapshot and stay.
    fn truncate(&mut self, after: u64) {
        let keep = self.stretches.partition_point(|stretch| stretch.first <= after);
        self.stretches.truncate(keep);
        if let Some(last) = self.stretches.last_mut() {
            let len = after - last.first + 1;
            last.span.len = last.span.len.min(u32::try_from(len).unwrap_or(u32::MAX));
        }
    }

    fn begin_after(index: u64, base: After) -> Log {
        Log { first: index + 1, base, stretches: Vec::new(), held: Arc::default(), tainted: false }
    }

    /// Another log in the same pool.
    fn anew_after(&self, index: u64, base: After) -> Log {
        Log { held: self.held.clone(), ..Log::begin_after(index, base) }
    }

    fn push(&mut self, span: Span) {
        let first = self.last() + 1;
        match self.stretches.last_mut() {
            _ if span.len == 0 => {}
            Some(last) if last.span.end() == span.start => last.span.len += span.len,
            _ => self.stretches.push(Stretch { first, span }),
        }
    }

    /// What the next entry comes behind.
    fn end(&self, held: &[Held]) -> After {
        let end = self.after(self.last(), held).unwrap_or(UNKNOWN);
        if self.tainted { After { chain: CHAIN_UNKNOWN, ..end } } else { end }
    }

    /// An index at or after `first - 1`.
    fn after(&self, index: u64, held: &[Held]) -> Option<After> {
        if index + 1 == self.first {
            return Some(self.base);
        }
        let place = self.place(index)?;
        Some(After { chain: held.get(place as usize)?.chain, place: Some(place) })
    }
}

impl Replay {
    /// Takes the next fact of this node. After a misfit the log is what it can best be taken for, and what
    /// follows still counts.
    pub fn take(&mut self, node: &Node, fact: &Fact) -> Result<(), Misfit> {
        if !Arc::ptr_eq(&self.log.held, &node.held) {
            self.log.held = node.held.clone();
        }
        if let Act::Append { first, entries, recovered } = fact.act {
            let (_, fits) = self.room(&node.held, first, recovered);
            self.fill(entries);
            return fits;
        }
        self.turn(&node.held, &fact.act);
        Ok(())
    }

    /// Takes anything but an `append`.
    pub(super) fn turn(&mut self, held: &[Held], act: &Act) {
        match act {
            Act::Boot(boot) => self.boot(held, boot),
            Act::Role { term, role } => {
                self.role = Some(*role);
                self.term = *term;
            }
            Act::Vote { .. } | Act::Config(_) | Act::Stop | Act::Append { .. } => {}
            // A cut beyond the end cuts nothing.
            Act::Truncate { after } => self.log.truncate(*after),
            Act::Commit { index, .. } => self.commit = self.commit.max(*index),
            Act::Apply { .. } => {}
            Act::Snapshot { index, term, installed, .. } => {
                let place = self.log.place(*index).and_then(|place| held.get(place as usize));
                let holds = place.is_some_and(|held| u64::from(held.entry.term) == *term);
                if *installed && !holds {
                    self.log = self.log.anew_after(*index, UNKNOWN);
                }
            }
            Act::Hole => {
                self.trusted = false;
                self.log.tainted = true;
                self.recovering = None;
            }
        }
    }

    /// Makes the log end right before `first`. Returns what is then its end, and whether it did end there.
    pub(super) fn room(&mut self, held: &[Held], first: u64, recovered: bool) -> (After, Result<(), Misfit>) {
        if !recovered {
            self.recovering = None;
        }
        let log = self.recovering.as_mut().unwrap_or(&mut self.log);
        let fits = fit(log, first);
        (log.end(held), fits)
    }

    /// Puts entries where [`Replay::room`] was made for them.
    pub(super) fn fill(&mut self, entries: Span) {
        let Some(mut log) = self.recovering.take() else { return self.log.push(entries) };
        log.push(entries);
        match log.last() >= self.recover_until {
            true => self.log = log,
            false => self.recovering = Some(log),
        }
    }

    pub fn leads(&self) -> bool {
        self.role == Some(Role::Leader)
    }

    fn boot(&mut self, held: &[Held], boot: &BootAct) {
        self.role = None;
        self.term = boot.term;
        // What nobody holds, nobody knows to be committed: such a line is wrong, and durability tells so.
        self.commit = boot.commit.min(boot.last).max(boot.snapshot);
        self.trusted = true;
        let base = self.log.after(boot.first - 1, held).unwrap_or(UNKNOWN);
        let base = if boot.first == 1 { ROOT } else { base };
        let log = self.log.anew_after(boot.first - 1, base);
        if boot.last < boot.first {
            self.log = log;
            self.recovering = None;
        } else {
            self.recovering = Some(log);
            self.recover_until = boot.last;
        }
    }
}

/// Makes the log end right before `first`.
fn fit(log: &mut Log, first: u64) -> Result<(), Misfit> {
    let last = log.last();
    if first > last + 1 {
        *log = log.anew_after(first - 1, UNKNOWN);
        return Err(Misfit::Hole { first, last });
    }
    if first <= last {
        log.truncate(first - 1);
        if first < log.first {
            *log = log.anew_after(first - 1, UNKNOWN);
        }
        return Err(Misfit::Overwrite { first, last });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mkraft_proto::evidence::{Digest, EntryKind};

    use super::super::evidence::Entry;
    use super::super::pool::Logs;
    use super::*;

    fn entry(term: u32, digest: u64) -> Entry {
        Entry { digest: Digest(digest), term, kind: EntryKind::Command }
    }

    enum Step {
        Boot { first: u64, last: u64 },
        Append { first: u64, entries: Vec<Entry>, recovered: bool },
        Truncate { after: u64 },
    }

    fn append(first: u64, entries: &[Entry], recovered: bool) -> Step {
        Step::Append { first, entries: entries.to_vec(), recovered }
    }

    /// As the reader puts them into the pool, and then as a check takes them.
    fn replay(logs: &mut Logs, steps: &[Step]) -> (Replay, Vec<Misfit>) {
        let (mut reading, mut acts) = (Replay::default(), Vec::new());
        for step in steps {
            match *step {
                Step::Boot { first, last } => {
                    let act = BootAct { term: 1, vote: None, commit: 0, snapshot: first - 1, first, last };
                    acts.push(Act::Boot(Box::new(act)));
                    reading.turn(&logs.held, &acts[acts.len() - 1]);
                }
                Step::Truncate { after } => {
                    acts.push(Act::Truncate { after });
                    reading.turn(&logs.held, &acts[acts.len() - 1]);
                }
                Step::Append { first, ref entries, recovered } => {
                    let (mut first, mut rest) = (first, &entries[..]);
                    while !rest.is_empty() {
                        let (after, _) = reading.room(&logs.held, first, recovered);
                        let entries = logs.put(after, first, rest).unwrap();
                        reading.fill(entries);
                        acts.push(Act::Append { first, entries, recovered });
                        (first, rest) = (first + u64::from(entries.len), &rest[entries.len as usize..]);
                    }
                }
            }
        }
        let node = Node { held: Arc::new(logs.held.clone()), ..Node::default() };
        let mut replay = Replay::default();
        let facts = acts.into_iter().map(|act| Fact { t: 0, line: 0, act });
        let misfits = facts.filter_map(|fact| replay.take(&node, &fact).err()).collect();
        assert_eq!(format!("{:?}", replay.log.stretches), format!("{:?}", reading.log.stretches));
        (replay, misfits)
    }

    #[test]
    fn equal_logs_have_equal_chains_however_they_came_to_be() {
        let mut logs = Logs::default();
        let [a, b, c, d] = [entry(1, 1), entry(1, 2), entry(1, 3), entry(2, 3)];
        let whole = vec![Step::Boot { first: 1, last: 0 }, append(1, &[a, b, d], false)];
        let cut = vec![
            Step::Boot { first: 1, last: 0 },
            append(1, &[a, b, c], false),
            Step::Truncate { after: 2 },
            append(3, &[d], false),
            Step::Boot { first: 1, last: 3 },
            append(1, &[a], true),
            append(2, &[b, d], true),
        ];
        let ((left, none), (right, nothing)) = (replay(&mut logs, &whole), replay(&mut logs, &cut));
        assert_eq!((none, nothing), (vec![], vec![]));
        assert!(left.log.get(3).unwrap().chain().is_some());
        assert_eq!(left.log.get(3), right.log.get(3));
    }

    #[test]
    fn a_log_stays_as_it_was_until_recovery_is_through() {
        let mut logs = Logs::default();
        let acts = vec![
            Step::Boot { first: 1, last: 0 },
            append(1, &[entry(1, 1), entry(1, 2)], false),
            Step::Boot { first: 1, last: 2 },
            append(1, &[entry(1, 1)], true),
        ];
        assert_eq!(replay(&mut logs, &acts).0.log.last(), 2);
    }

    #[test]
    fn acts_that_do_not_fit_are_told() {
        let mut logs = Logs::default();
        let one = [entry(1, 1)];
        let acts = vec![Step::Boot { first: 1, last: 0 }, append(3, &one, false), append(3, &one, false)];
        let (replay, misfits) = replay(&mut logs, &acts);
        let expected = [Misfit::Hole { first: 3, last: 0 }, Misfit::Overwrite { first: 3, last: 3 }];
        assert_eq!(misfits, expected);
        assert_eq!(replay.log.get(3).unwrap().chain(), None);
    }
}
