//! Follows one node through its facts: the log its disk holds, the role it plays.
//!
//! In: facts in order. Out: at each moment the durable log with its chain hash, role, term and commit index.
//! Never: a verdict; what does not fit is handed to the caller.
//!
//! The chain hash h(i) = H(h(i-1), term(i), digest(i)) stands for the whole log up to i, so that two logs are
//! compared by one number.

use mkraft_proto::evidence::{EntryKind, Role};
use xxhash_rust::xxh3::xxh3_64;

use super::evidence::{Act, BootAct, Entry, Fact, Node};

/// The chain hash of the empty log.
const CHAIN_ROOT: u64 = 0x6d6b_7261_6674_0001;

/// A chain hash nobody can know: the log begins after a snapshot that no replay has seen.
const CHAIN_UNKNOWN: u64 = 0;

/// An entry as the node's disk holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub entry: Entry,
    chain: u64,
}

impl Held {
    /// Stands for the log up to this entry; none when its begin is not known.
    pub fn chain(&self) -> Option<u64> {
        (self.chain != CHAIN_UNKNOWN).then_some(self.chain)
    }

    /// The same entry, and the same log up to it as far as both are known.
    pub fn agrees(&self, other: &Held) -> bool {
        let chains = self.chain().zip(other.chain());
        self.entry == other.entry && chains.is_none_or(|(own, other)| own == other)
    }
}

/// The durable log of a node: `held[0]` is at `first`.
#[derive(Debug, Clone)]
pub struct Log {
    first: u64,
    /// The chain hash before `first`.
    base: u64,
    held: Vec<Held>,
    /// Lines are missing: what follows has no chain hash that could be known.
    tainted: bool,
}

impl Default for Log {
    fn default() -> Log {
        Log::begin_after(0, CHAIN_ROOT)
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
        self.first - 1 + self.held.len() as u64
    }

    pub fn get(&self, index: u64) -> Option<&Held> {
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.held.get(place)
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
        let keep = after.saturating_add(1).saturating_sub(self.first);
        self.held.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    fn begin_after(index: u64, chain: u64) -> Log {
        Log { first: index + 1, base: chain, held: Vec::new(), tainted: false }
    }

    fn push(&mut self, entry: Entry) {
        let before = self.held.last().map_or(self.base, |held| held.chain);
        let before = if self.tainted { CHAIN_UNKNOWN } else { before };
        self.held.push(Held { entry, chain: extend(before, entry) });
    }

    /// The chain hash at an index at or after `first - 1`.
    fn chain_at(&self, index: u64) -> Option<u64> {
        if index + 1 == self.first {
            return (self.base != CHAIN_UNKNOWN).then_some(self.base);
        }
        self.get(index).and_then(Held::chain)
    }
}

impl Replay {
    /// Takes the next fact of this node. After a misfit the log is what it can best be taken for, and what
    /// follows still counts.
    pub fn take(&mut self, node: &Node, fact: &Fact) -> Result<(), Misfit> {
        match &fact.act {
            Act::Boot(boot) => self.boot(boot),
            Act::Role { term, role } => {
                self.role = Some(*role);
                self.term = *term;
            }
            Act::Vote { .. } | Act::Config(_) | Act::Stop => {}
            Act::Append { first, entries, recovered } => {
                return self.append(*first, node.appended(*entries), *recovered);
            }
            // A cut beyond the end cuts nothing.
            Act::Truncate { after } => self.log.truncate(*after),
            Act::Commit { index, .. } => self.commit = self.commit.max(*index),
            Act::Apply { .. } => {}
            Act::Snapshot { index, installed, .. } => {
                if *installed && self.log.get(*index).is_none() {
                    self.log = Log::begin_after(*index, CHAIN_UNKNOWN);
                }
            }
            Act::Hole => {
                self.trusted = false;
                self.log.tainted = true;
                self.recovering = None;
            }
        }
        Ok(())
    }

    /// What the last `append` line put at an index: also while the disk is still being read at boot.
    pub fn written(&self, index: u64) -> Option<&Held> {
        self.recovering.as_ref().unwrap_or(&self.log).get(index)
    }

    pub fn leads(&self) -> bool {
        self.role == Some(Role::Leader)
    }

    fn boot(&mut self, boot: &BootAct) {
        self.role = None;
        self.term = boot.term;
        self.commit = boot.commit.max(boot.snapshot);
        self.trusted = true;
        let base = self.log.chain_at(boot.first - 1).unwrap_or(CHAIN_UNKNOWN);
        let base = if boot.first == 1 { CHAIN_ROOT } else { base };
        let log = Log::begin_after(boot.first - 1, base);
        if boot.last < boot.first {
            self.log = log;
            self.recovering = None;
        } else {
            self.recovering = Some(log);
            self.recover_until = boot.last;
        }
    }

    fn append(&mut self, first: u64, entries: &[Entry], recovered: bool) -> Result<(), Misfit> {
        if let (Some(mut log), true) = (self.recovering.take(), recovered) {
            let fits = fit(&mut log, first);
            entries.iter().for_each(|&entry| log.push(entry));
            match log.last() >= self.recover_until {
                true => self.log = log,
                false => self.recovering = Some(log),
            }
            return fits;
        }
        let fits = fit(&mut self.log, first);
        entries.iter().for_each(|&entry| self.log.push(entry));
        fits
    }
}

/// Makes the log end right before `first`.
fn fit(log: &mut Log, first: u64) -> Result<(), Misfit> {
    let last = log.last();
    if first > last + 1 {
        *log = Log::begin_after(first - 1, CHAIN_UNKNOWN);
        return Err(Misfit::Hole { first, last });
    }
    if first <= last {
        log.truncate(first - 1);
        if first < log.first {
            *log = Log::begin_after(first - 1, CHAIN_UNKNOWN);
        }
        return Err(Misfit::Overwrite { first, last });
    }
    Ok(())
}

fn extend(before: u64, entry: Entry) -> u64 {
    if before == CHAIN_UNKNOWN {
        return CHAIN_UNKNOWN;
    }
    let mut bytes = [0; 21];
    bytes[..8].copy_from_slice(&before.to_le_bytes());
    bytes[8..12].copy_from_slice(&entry.term.to_le_bytes());
    bytes[12..20].copy_from_slice(&entry.digest.0.to_le_bytes());
    bytes[20] = match entry.kind {
        EntryKind::Noop => 0,
        EntryKind::Command => 1,
        EntryKind::Config => 2,
    };
    xxh3_64(&bytes).max(1)
}

#[cfg(test)]
mod tests {
    use mkraft_proto::evidence::Digest;

    use super::super::evidence::Span;
    use super::*;

    fn entry(term: u32, digest: u64) -> Entry {
        Entry { digest: Digest(digest), term, kind: EntryKind::Command }
    }

    fn append(node: &mut Node, first: u64, entries: &[Entry], recovered: bool) -> Act {
        let start = node.appended.len() as u32;
        node.appended.extend(entries);
        Act::Append { first, entries: Span { start, len: entries.len() as u32 }, recovered }
    }

    fn boot(first: u64, last: u64) -> Act {
        Act::Boot(Box::new(BootAct { term: 1, vote: None, commit: 0, snapshot: first - 1, first, last }))
    }

    fn replay(node: &Node, acts: Vec<Act>) -> (Replay, Vec<Misfit>) {
        let mut replay = Replay::default();
        let facts = acts.into_iter().map(|act| Fact { t: 0, line: 0, act });
        let misfits = facts.filter_map(|fact| replay.take(node, &fact).err()).collect();
        (replay, misfits)
    }

    #[test]
    fn equal_logs_have_equal_chains_however_they_came_to_be() {
        let mut node = Node::default();
        let [a, b, c, d] = [entry(1, 1), entry(1, 2), entry(1, 3), entry(2, 3)];
        let whole = vec![boot(1, 0), append(&mut node, 1, &[a, b, d], false)];
        let cut = vec![
            boot(1, 0),
            append(&mut node, 1, &[a, b, c], false),
            Act::Truncate { after: 2 },
            append(&mut node, 3, &[d], false),
            boot(1, 3),
            append(&mut node, 1, &[a], true),
            append(&mut node, 2, &[b, d], true),
        ];
        let ((left, none), (right, nothing)) = (replay(&node, whole), replay(&node, cut));
        assert_eq!((none, nothing), (vec![], vec![]));
        assert!(left.log.get(3).unwrap().chain().is_some());
        assert_eq!(left.log.get(3), right.log.get(3));
    }

    #[test]
    fn a_log_stays_as_it_was_until_recovery_is_through() {
        let mut node = Node::default();
        let acts = vec![
            boot(1, 0),
            append(&mut node, 1, &[entry(1, 1), entry(1, 2)], false),
            boot(1, 2),
            append(&mut node, 1, &[entry(1, 1)], true),
        ];
        assert_eq!(replay(&node, acts).0.log.last(), 2);
    }

    #[test]
    fn acts_that_do_not_fit_are_told() {
        let mut node = Node::default();
        let one = [entry(1, 1)];
        let acts = vec![boot(1, 0), append(&mut node, 3, &one, false), append(&mut node, 3, &one, false)];
        let (replay, misfits) = replay(&node, acts);
        let expected = [Misfit::Hole { first: 3, last: 0 }, Misfit::Overwrite { first: 3, last: 3 }];
        assert_eq!(misfits, expected);
        assert_eq!(replay.log.get(3).unwrap().chain(), None);
    }
}
