//! The entries of all nodes, each distinct one once.
//!
//! In: stretches of entries in the order in which files tell of them, with the log they follow. Out: where each stretch
//! stands. Never: an entry taken for another, or with another log before it; a search through all that is there.
//!
//! The logs of a cluster are one tree: they begin alike, and now and then one goes another way. An entry together with
//! all before it is known by its chain hash h(i) = H(h(i-1), term(i), digest(i)). It stands right behind its predecessor,
//! unless another one already does: then it begins a new stretch, its *head*, which is found by its hash. So what follows
//! an entry is found in one step, in the next place or among the heads.

use std::collections::HashMap;

use mkraft_proto::evidence::EntryKind;
use xxhash_rust::xxh3::xxh3_64;

use super::evidence::{Applied, Entry};

/// The chain hash of the empty log.
pub const CHAIN_ROOT: u64 = 0x6d6b_7261_6674_0001;

/// A chain hash nobody can know: the log begins after a snapshot that no replay has seen, or lines are missing.
pub const CHAIN_UNKNOWN: u64 = 0;

/// An entry as a node's disk holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub entry: Entry,
    pub(super) chain: u64,
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

/// Places in a pool: a stretch of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub(super) start: u32,
    pub(super) len: u32,
}

impl Span {
    pub(super) fn end(self) -> u32 {
        self.start + self.len
    }

    pub(super) fn of<T>(self, pool: &[T]) -> &[T] {
        &pool[self.start as usize..self.end() as usize]
    }
}

/// What of a pool was looked at already: its first places, as far as they were met without a hole. Who goes over all
/// files in the order in which they were read meets them all.
#[derive(Debug, Default)]
pub struct Visited {
    upto: u32,
}

impl Visited {
    /// Looks at a stretch. Returns how many of its entries, from its begin, had been looked at before.
    pub fn visit(&mut self, span: Span) -> usize {
        let before = self.upto.saturating_sub(span.start).min(span.len);
        if span.start <= self.upto {
            self.upto = self.upto.max(span.end());
        }
        before as usize
    }
}

/// More entries than a place can count.
#[derive(Debug)]
pub struct Full;

/// What is appended after an entry.
#[derive(Debug, Clone, Copy)]
pub struct After {
    pub chain: u64,
    /// Its place, when it is in the pool.
    pub place: Option<u32>,
}

/// Every entry that some disk held, with the log before it.
#[derive(Debug, Default)]
pub struct Logs {
    pub held: Vec<Held>,
    /// Where stretches begin.
    starts: Vec<u32>,
    heads: HashMap<u64, u32>,
}

impl Logs {
    /// Puts entries from `index` on behind `after`, or finds them there. The stretch covers as many of them as
    /// stand in one place, and one at least; there is none for no entries.
    pub fn put(&mut self, after: After, index: u64, entries: &[Entry]) -> Result<Span, Full> {
        let size = place(self.held.len() + entries.len())?;
        let Some(&head) = entries.first() else { return Ok(Span { start: size, len: 0 }) };
        let chain = extend(after.chain, head);
        let name = if chain == CHAIN_UNKNOWN { unknown_name(index, head) } else { chain };
        let next =
            after.place.map(|place| place + 1).filter(|place| self.starts.binary_search(place).is_err());
        for start in [next, self.heads.get(&name).copied()].into_iter().flatten() {
            let len = self.common(start, chain, entries);
            if len == 0 {
                continue;
            }
            let span = Span { start, len };
            let rest = &entries[len as usize..];
            if rest.is_empty() || span.end() as usize != self.held.len() {
                return Ok(span);
            }
            let last = self.held[span.end() as usize - 1].chain;
            return Ok(Span { start, len: len + self.push(last, rest) });
        }
        let start = place(self.held.len())?;
        if next != Some(start) {
            self.starts.push(start);
            self.heads.insert(name, start);
        }
        Ok(Span { start, len: self.push(after.chain, entries) })
    }

    fn push(&mut self, mut chain: u64, entries: &[Entry]) -> u32 {
        for &entry in entries {
            chain = extend(chain, entry);
            self.held.push(Held { entry, chain });
        }
        entries.len() as u32
    }

    /// How many of `entries`, whose first has this chain hash, stand from `start` on. In one stretch equal entries
    /// after an equal chain hash have equal chain hashes.
    fn common(&self, start: u32, chain: u64, entries: &[Entry]) -> u32 {
        if self.held.get(start as usize).is_none_or(|held| held.chain != chain) {
            return 0;
        }
        let later = self.starts.partition_point(|&other| other <= start);
        let end = self.starts.get(later).map_or(self.held.len(), |&end| end as usize);
        let there = &self.held[start as usize..end];
        there.iter().zip(entries).take_while(|(held, entry)| held.entry == **entry).count() as u32
    }
}

/// Every entry that some machine applied.
#[derive(Debug, Default)]
pub struct Applications {
    pub applied: Vec<Applied>,
    /// The index and the place of each stretch's begin.
    stretches: Vec<(u64, u32)>,
}

impl Applications {
    /// So many of the newest stretches are looked at. There is one, unless machines differ.
    const STRETCHES_MAX: usize = 16;

    /// Where entries applied from `index` on stand, all in one place. What was applied before does not matter.
    pub fn put(&mut self, index: u64, entries: &[Applied]) -> Result<Span, Full> {
        let size = place(self.applied.len() + entries.len())?;
        if entries.is_empty() {
            return Ok(Span { start: size, len: 0 });
        }
        let first = self.stretches.first().into_iter();
        let newest = self.stretches.iter().rev().take(Applications::STRETCHES_MAX);
        let found = newest.chain(first).find_map(|stretch| self.common(*stretch, index, entries));
        if let Some((start, len)) = found {
            self.applied.extend_from_slice(&entries[len..]);
            return Ok(Span { start, len: entries.len() as u32 });
        }
        let start = place(self.applied.len())?;
        let continues =
            self.stretches.last().is_some_and(|(begin, from)| begin + u64::from(start - from) == index);
        if !continues {
            self.stretches.push((index, start));
        }
        self.applied.extend_from_slice(entries);
        Ok(Span { start, len: size - start })
    }

    /// Where a stretch has these entries, and how many; those it lacks must find room behind it.
    fn common(&self, (begin, start): (u64, u32), index: u64, entries: &[Applied]) -> Option<(u32, usize)> {
        let from = usize::try_from(index.checked_sub(begin)?).ok()?.checked_add(start as usize)?;
        let later = self.stretches.partition_point(|&(_, other)| other <= start);
        let end = self.stretches.get(later).map_or(self.applied.len(), |&(_, end)| end as usize);
        let there = self.applied.get(from..end).filter(|there| !there.is_empty())?;
        let len = there.iter().zip(entries).take_while(|(one, other)| one == other).count();
        let fits = len == entries.len() || (len > 0 && from + len == self.applied.len());
        fits.then_some((from as u32, len))
    }
}

fn place(place: usize) -> Result<u32, Full> {
    u32::try_from(place).map_err(|_| Full)
}

pub fn extend(before: u64, entry: Entry) -> u64 {
    if before == CHAIN_UNKNOWN {
        return CHAIN_UNKNOWN;
    }
    xxh3_64(&bytes(before, entry)).max(1)
}

/// What a head is found by where its chain hash is not known.
fn unknown_name(index: u64, entry: Entry) -> u64 {
    xxh3_64(&bytes(!index, entry))
}

fn bytes(before: u64, entry: Entry) -> [u8; 21] {
    let mut bytes = [0; 21];
    bytes[..8].copy_from_slice(&before.to_le_bytes());
    bytes[8..12].copy_from_slice(&entry.term.to_le_bytes());
    bytes[12..20].copy_from_slice(&entry.digest.0.to_le_bytes());
    bytes[20] = match entry.kind {
        EntryKind::Noop => 0,
        EntryKind::Command => 1,
        EntryKind::Config => 2,
    };
    bytes
}

#[cfg(test)]
mod tests {
    use mkraft_proto::evidence::{Digest, Outcome};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn entry(term: u32, digest: u64) -> Entry {
        Entry { digest: Digest(digest), term, kind: EntryKind::Command }
    }

    /// A log as a whole vector, put piece by piece.
    struct Whole {
        entries: Vec<Entry>,
        places: Vec<u32>,
        /// Nobody knows what was before the first.
        unknown: bool,
    }

    impl Whole {
        fn append(&mut self, logs: &mut Logs, entries: &[Entry]) {
            let mut rest = entries;
            while !rest.is_empty() {
                let place = self.places.last().copied();
                let root = if self.unknown { CHAIN_UNKNOWN } else { CHAIN_ROOT };
                let chain = place.map_or(root, |place| logs.held[place as usize].chain);
                let span = logs.put(After { chain, place }, self.entries.len() as u64 + 1, rest).unwrap();
                assert!(span.len > 0);
                self.places.extend(span.start..span.end());
                let (taken, left) = rest.split_at(span.len as usize);
                self.entries.extend(taken);
                rest = left;
            }
        }
    }

    #[test]
    fn each_log_reads_back_and_equal_logs_share_all_their_places() {
        let mut shared = 0;
        for seed in 0..400 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut logs = Logs::default();
            let whole = |unknown| Whole { entries: Vec::new(), places: Vec::new(), unknown };
            let mut nodes: Vec<Whole> = (0..4).map(|node| whole(node == 3)).collect();
            for _ in 0..60 {
                let node = rng.random_range(0..nodes.len());
                let keep = rng.random_range(0..=nodes[node].entries.len());
                if rng.random_bool(0.3) {
                    nodes[node].entries.truncate(keep);
                    nodes[node].places.truncate(keep);
                }
                let other = rng.random_range(0..nodes.len());
                let agree =
                    nodes[node].entries.iter().zip(&nodes[other].entries).take_while(|(one, two)| one == two);
                let (agree, held) = (agree.count(), nodes[node].entries.len());
                let news: Vec<Entry> = match rng.random_bool(0.6) && agree == held {
                    true => {
                        nodes[other].entries[held..].iter().copied().take(rng.random_range(0..9)).collect()
                    }
                    false => (0..rng.random_range(0..6)).map(|_| entry(1, rng.random_range(0..3))).collect(),
                };
                nodes[node].append(&mut logs, &news);
                for (at, node) in nodes.iter().enumerate() {
                    let there: Vec<Entry> =
                        node.places.iter().map(|&place| logs.held[place as usize].entry).collect();
                    assert_eq!(there, node.entries, "seed {seed}");
                    let mut chain = if node.unknown { CHAIN_UNKNOWN } else { CHAIN_ROOT };
                    for &place in &node.places {
                        let held = logs.held[place as usize];
                        chain = extend(chain, held.entry);
                        assert_eq!(held.chain, chain, "seed {seed}");
                    }
                    for other in nodes[..at].iter().filter(|other| other.unknown == node.unknown) {
                        let equal =
                            node.entries.iter().zip(&other.entries).take_while(|(one, two)| one == two);
                        let equal = equal.count();
                        assert_eq!(node.places[..equal], other.places[..equal], "seed {seed}");
                        shared += equal;
                    }
                }
            }
        }
        assert!(shared > 10_000, "{shared}");
    }

    #[test]
    fn what_was_visited_is_not_new_again() {
        let mut visited = Visited::default();
        let spans = [(0, 4, 0), (4, 2, 0), (0, 6, 6), (4, 5, 2), (9, 1, 0), (3, 2, 2), (10, 0, 0), (8, 4, 2)];
        let spans = spans.into_iter().chain([(20, 4, 0), (20, 4, 0), (12, 10, 0), (20, 4, 2)]);
        for (start, len, before) in spans {
            assert_eq!(visited.visit(Span { start, len }), before, "{start} {len}");
        }
    }

    #[test]
    fn equal_applications_share_their_places_and_others_do_not() {
        let applied = |number: u64| Applied {
            digest: Digest(number),
            session: 1,
            sequence: number,
            term: 1,
            outcome: Outcome::Applied,
        };
        let all: Vec<_> = (1..=9).map(applied).collect();
        let mut pool = Applications::default();
        let span = |start, len| Span { start, len };
        assert_eq!(pool.put(1, &all[..4]).unwrap(), span(0, 4));
        assert_eq!(pool.put(5, &all[4..6]).unwrap(), span(4, 2));
        assert_eq!(pool.put(1, &all[..6]).unwrap(), span(0, 6));
        // What is not there comes behind it.
        assert_eq!(pool.put(3, &all[2..]).unwrap(), span(2, 7));
        assert_eq!(pool.put(7, &all[6..]).unwrap(), span(6, 3));
        assert_eq!(pool.put(2, &[applied(99)]).unwrap(), span(9, 1));
        assert_eq!(pool.put(4, &all[3..]).unwrap(), span(3, 6));
        assert_eq!(pool.put(u64::MAX, &all[3..4]).unwrap(), span(10, 1));
        assert_eq!(pool.applied.len(), 11);
    }
}
