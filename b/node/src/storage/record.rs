//! The body of a record: one [`Write`] as bytes.
//!
//! In: a write, or bytes whose checksum is right. Out: the other. Never: an allocation larger than the bytes
//! at hand justify, and never a panic, whatever the bytes are: another format could have a right checksum too.
//!
//! ```text
//! u8   flags: 1 cut, 2 hard state, 4 vote, 8 entries, 16 begin
//! u64  cut: the log ends after this index
//! u64  begin: the log begins after this index;  u64 its term;  u8 1 if all of the log goes
//! u64  hard state: term;  u64 commit;  u64 vote
//! u32  entries: how many;  u64 index of the first;  then for each
//!      u64 term;  u8 kind;  u32 length of the payload;  the payload
//! ```
//! Numbers are little-endian, as everywhere in the log. What a flag denies is not there.
//!
//! The first record of a segment is its *base* instead: what all records before it add up to, but for the
//! entries, so that the segments before it can go once a snapshot covers their entries.
//!
//! ```text
//! u8   128
//! u64  number of the first record of the segment before; 0 if there was none
//! u64  hard state: term;  u64 commit;  u8 1 if voted;  u64 vote
//! u64  the log begins after this index;  u64 its term;  u64 last index
//! u32  runs of entries of one term: how many;  for each  u64 first index;  u64 term
//! ```

use super::outline::{Outline, Violation};
use crate::raft::{Begin, Entry, EntryKind, HardState, Index, NodeId, Position, Term, Write};

const CUT: u8 = 1;
const HARD_STATE: u8 = 2;
const VOTE: u8 = 4;
const ENTRIES: u8 = 8;
const BEGIN: u8 = 16;
const BASE: u8 = 128;

/// Bytes of an entry beside its payload.
const ENTRY_BYTES: usize = 8 + 1 + 4;

/// What the first record of a segment says of all before it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Base {
    /// Number of the first record of the segment before; 0 if there was none.
    pub previous: u64,
    pub hard_state: HardState,
    pub outline: Outline,
}

/// The length which [`encode`] adds.
pub(super) fn encoded_bytes(write: &Write) -> u64 {
    let mut bytes = 1;
    if write.truncate_after.is_some() {
        bytes += 8;
    }
    if write.begin.is_some() {
        bytes += 17;
    }
    if let Some(hard_state) = &write.hard_state {
        bytes += if hard_state.vote.is_some() { 24 } else { 16 };
    }
    if !write.entries.is_empty() {
        bytes += 12;
    }
    let entries = write.entries.iter().map(|entry| (ENTRY_BYTES + entry.payload.len()) as u64);
    bytes + entries.sum::<u64>()
}

/// Of a write that is not empty, whose entries are consecutive, and whose length in bytes fits 32 bits.
pub(super) fn encode(write: &Write, out: &mut Vec<u8>) {
    let vote = write.hard_state.and_then(|hard_state| hard_state.vote);
    let flags = flag(CUT, write.truncate_after.is_some())
        | flag(HARD_STATE, write.hard_state.is_some())
        | flag(VOTE, vote.is_some())
        | flag(ENTRIES, !write.entries.is_empty())
        | flag(BEGIN, write.begin.is_some());
    out.push(flags);
    if let Some(after) = write.truncate_after {
        out.extend(after.0.to_le_bytes());
    }
    if let Some(Begin { position, clear }) = write.begin {
        out.extend(position.index.0.to_le_bytes());
        out.extend(position.term.0.to_le_bytes());
        out.push(flag(1, clear));
    }
    if let Some(hard_state) = &write.hard_state {
        out.extend(hard_state.term.0.to_le_bytes());
        out.extend(hard_state.commit.0.to_le_bytes());
    }
    if let Some(vote) = vote {
        out.extend(vote.0.to_le_bytes());
    }
    if let Some(first) = write.entries.first() {
        out.extend((write.entries.len() as u32).to_le_bytes());
        out.extend(first.index.0.to_le_bytes());
    }
    for entry in &write.entries {
        out.extend(entry.term.0.to_le_bytes());
        out.push(number(entry.kind));
        out.extend((entry.payload.len() as u32).to_le_bytes());
        out.extend_from_slice(&entry.payload);
    }
}

pub(super) fn decode(body: &[u8]) -> Result<Write, Violation> {
    let mut fields = Fields { rest: body };
    let flags = fields.u8()?;
    let has = |bit| flags & bit != 0;
    if flags & !(CUT | HARD_STATE | VOTE | ENTRIES | BEGIN) != 0
        || (has(VOTE) && !has(HARD_STATE))
        || flags == 0
    {
        return Err(Violation::Malformed("its flags are not of this format"));
    }
    let mut write = Write::default();
    if has(CUT) {
        write.truncate_after = Some(Index(fields.u64()?));
    }
    if has(BEGIN) {
        let position = fields.position()?;
        write.begin = Some(Begin { position, clear: fields.bool()? });
    }
    if has(HARD_STATE) {
        let (term, commit) = (Term(fields.u64()?), Index(fields.u64()?));
        let vote = if has(VOTE) { Some(NodeId(fields.u64()?)) } else { None };
        write.hard_state = Some(HardState { term, vote, commit });
    }
    if has(ENTRIES) {
        write.entries = entries(&mut fields)?;
    }
    fields.end()?;
    Ok(write)
}

pub(super) fn is_base(body: &[u8]) -> bool {
    body.first() == Some(&BASE)
}

pub(super) fn encode_base(base: &Base, out: &mut Vec<u8>) {
    let Base { previous, hard_state, outline } = base;
    out.push(BASE);
    let vote = hard_state.vote.map_or(0, |vote| vote.0);
    for number in [*previous, hard_state.term.0, hard_state.commit.0] {
        out.extend(number.to_le_bytes());
    }
    out.push(flag(1, hard_state.vote.is_some()));
    for number in [vote, outline.begin.index.0, outline.begin.term.0, outline.last.index.0] {
        out.extend(number.to_le_bytes());
    }
    out.extend((outline.runs.len() as u32).to_le_bytes());
    for run in &outline.runs {
        out.extend(run.index.0.to_le_bytes());
        out.extend(run.term.0.to_le_bytes());
    }
}

/// The length which [`encode_base`] adds.
pub(super) fn base_bytes(base: &Base) -> usize {
    1 + 24 + 1 + 32 + 4 + 16 * base.outline.runs.len()
}

pub(super) fn decode_base(body: &[u8]) -> Result<Base, Violation> {
    let mut fields = Fields { rest: body };
    if fields.u8()? != BASE {
        return Err(Violation::Malformed("it does not begin as the first record of a segment"));
    }
    let previous = fields.u64()?;
    let (term, commit) = (Term(fields.u64()?), Index(fields.u64()?));
    let voted = fields.bool()?;
    let vote = match (voted, fields.u64()?) {
        (true, vote) => Some(NodeId(vote)),
        (false, 0) => None,
        (false, _) => return Err(Violation::Malformed("it votes for somebody and for nobody")),
    };
    let begin = fields.position()?;
    let last = Index(fields.u64()?);
    let count = fields.u32()? as usize;
    if count > fields.rest.len() / 16 {
        return Err(Violation::Malformed("its number of runs does not fit its length"));
    }
    let runs = (0..count).map(|_| fields.position()).collect::<Result<Vec<_>, _>>()?;
    fields.end()?;
    let last = Position { index: last, term: runs.last().map_or(begin.term, |run: &Position| run.term) };
    let outline = Outline { begin, last, runs };
    Ok(Base { previous, hard_state: HardState { term, vote, commit }, outline })
}

fn entries(fields: &mut Fields) -> Result<Vec<Entry>, Violation> {
    let count = fields.u32()? as usize;
    let first = fields.u64()?;
    if count == 0 || count > fields.rest.len() / ENTRY_BYTES {
        return Err(Violation::Malformed("its number of entries does not fit its length"));
    }
    if first.checked_add(count as u64).is_none() {
        return Err(Violation::Malformed("its entries have no index"));
    }
    let mut entries = Vec::with_capacity(count);
    for index in first..first + count as u64 {
        let term = Term(fields.u64()?);
        let kind = kind(fields.u8()?)?;
        let length = fields.u32()? as usize;
        let payload = fields.take(length)?.into();
        entries.push(Entry { index: Index(index), term, kind, payload });
    }
    Ok(entries)
}

fn flag(bit: u8, set: bool) -> u8 {
    if set { bit } else { 0 }
}

fn number(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Noop => 0,
        EntryKind::Command => 1,
        EntryKind::Config => 2,
    }
}

fn kind(number: u8) -> Result<EntryKind, Violation> {
    match number {
        0 => Ok(EntryKind::Noop),
        1 => Ok(EntryKind::Command),
        2 => Ok(EntryKind::Config),
        _ => Err(Violation::Malformed("an entry's kind is not of this format")),
    }
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Violation> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Violation> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Violation> {
        self.array().map(u64::from_le_bytes)
    }

    fn bool(&mut self) -> Result<bool, Violation> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Violation::Malformed("neither yes nor no")),
        }
    }

    fn position(&mut self) -> Result<Position, Violation> {
        Ok(Position { index: Index(self.u64()?), term: Term(self.u64()?) })
    }

    fn end(&self) -> Result<(), Violation> {
        if self.rest.is_empty() { Ok(()) } else { Err(Violation::Malformed("bytes follow its last field")) }
    }
}

const CUT_SHORT: Violation = Violation::Malformed("it ends within a field");

#[cfg(test)]
mod tests {
    use super::*;

    fn writes() -> Vec<Write> {
        let entry = |index, kind, payload: &[u8]| Entry {
            index: Index(index),
            term: Term(index / 2),
            kind,
            payload: payload.into(),
        };
        let hard_state = |vote| HardState { term: Term(u64::MAX), vote, commit: Index(9) };
        vec![
            Write { truncate_after: Some(Index(0)), ..Write::default() },
            Write { hard_state: Some(hard_state(None)), ..Write::default() },
            Write { hard_state: Some(hard_state(Some(NodeId(0)))), ..Write::default() },
            Write { entries: vec![entry(1, EntryKind::Noop, b"")], ..Write::default() },
            Write {
                begin: Some(Begin { position: Position { index: Index(3), term: Term(2) }, clear: true }),
                ..Write::default()
            },
            Write {
                truncate_after: Some(Index(6)),
                begin: Some(Begin { position: Position { index: Index(3), term: Term(2) }, clear: false }),
                entries: vec![
                    entry(7, EntryKind::Config, b"voters"),
                    entry(8, EntryKind::Command, &[0; 300]),
                ],
                hard_state: Some(hard_state(Some(NodeId(3)))),
            },
        ]
    }

    #[test]
    fn a_write_survives_the_way_through_bytes_and_its_length_is_known_before() {
        for write in writes() {
            let mut bytes = Vec::new();
            encode(&write, &mut bytes);
            assert_eq!(bytes.len() as u64, encoded_bytes(&write));
            assert_eq!(decode(&bytes), Ok(write));
        }
    }

    #[test]
    fn a_body_cut_short_or_too_long_is_malformed() {
        for write in writes() {
            let mut bytes = Vec::new();
            encode(&write, &mut bytes);
            for length in 0..bytes.len() {
                let result = decode(&bytes[..length]);
                assert!(matches!(result, Err(Violation::Malformed(_))), "{length} bytes of {write:?}");
            }
            bytes.push(0);
            assert_eq!(decode(&bytes), Err(Violation::Malformed("bytes follow its last field")));
        }
    }

    #[test]
    fn a_base_survives_the_way_through_bytes_and_nothing_shorter_or_longer_is_one() {
        let position = |index, term| Position { index: Index(index), term: Term(term) };
        let outline = Outline {
            begin: position(3, 2),
            last: position(9, 7),
            runs: vec![position(5, 4), position(8, 7)],
        };
        let hard_state = |vote| HardState { term: Term(8), vote, commit: Index(4) };
        let bases = [
            Base::default(),
            Base { previous: 1, hard_state: hard_state(None), outline: outline.clone() },
            Base { previous: 77, hard_state: hard_state(Some(NodeId(0))), outline },
        ];
        for base in bases {
            let mut bytes = Vec::new();
            encode_base(&base, &mut bytes);
            assert!(is_base(&bytes));
            assert_eq!(bytes.len(), base_bytes(&base));
            assert_eq!(decode_base(&bytes), Ok(base));
            for length in 0..bytes.len() {
                assert!(matches!(decode_base(&bytes[..length]), Err(Violation::Malformed(_))), "{length}");
            }
            bytes.push(0);
            assert!(matches!(decode_base(&bytes), Err(Violation::Malformed(_))));
            assert!(decode(&bytes).is_err(), "a base is no write");
        }
    }

    #[test]
    fn a_number_of_entries_beyond_the_bytes_allocates_nothing() {
        let mut bytes = vec![ENTRIES];
        bytes.extend(u32::MAX.to_le_bytes());
        bytes.extend([0; 40]);
        let error = decode(&bytes).unwrap_err();
        assert_eq!(error, Violation::Malformed("its number of entries does not fit its length"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(0u8..32, 0..80)) {
            if let Ok(write) = decode(&bytes) {
                let mut again = Vec::new();
                encode(&write, &mut again);
                proptest::prop_assert_eq!(again, bytes);
            }
        }
    }
}
