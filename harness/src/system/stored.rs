//! What lies where in the data folder of a node, as far as one must know to damage it; and how a node says that it found
//! damage.
//!
//! In: a data folder, and which part of what is meant. Out: a file and a range of its bytes, all of which the node must
//! read at its next boot. Never: a change; a checksum, which the node alone judges.
//!
//! Formats: `node/src/storage/segment.rs`, `frame.rs`, `record.rs` and `snapshot.rs`. The hard state has no file of its
//! own: the newest record of the log that has one holds it.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Mkraft;

/// What a node keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    Log,
    HardState,
    /// The newest.
    Snapshot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Header,
    Middle,
    Tail,
}

/// Bytes that a node must find as it has written them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    pub path: PathBuf,
    pub range: Range<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum NoSpot {
    #[error("it has no {0} yet")]
    None(&'static str),
    #[error("failed to read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
}

const SEGMENT_HEADER_BYTES: usize = 64;
const SNAPSHOT_HEADER_BYTES: usize = 64;
const SNAPSHOT_TRAILER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 20;
/// Of a record's end.
const TAIL_BYTES: usize = 8;

/// Flags of a record's body.
const CUT: u8 = 1;
const HARD_STATE: u8 = 2;
const VOTE: u8 = 4;
const BEGIN: u8 = 16;
/// The first record of a segment, which repeats the hard state.
const BASE: u8 = 128;

impl Mkraft {
    /// Where this part stands; `pick` chooses one of so many.
    pub fn spot(
        data: &Path,
        stored: Stored,
        part: Part,
        mut pick: impl FnMut(usize) -> usize,
    ) -> Result<Spot, NoSpot> {
        let mut spots = match stored {
            Stored::Log => log(data, part)?,
            Stored::HardState => hard_state(data, part)?,
            Stored::Snapshot => snapshot(data, part)?,
        };
        spots.retain(|spot| !spot.range.is_empty());
        match spots.len() {
            0 => Err(NoSpot::None("record in such a place")),
            count => Ok(spots.swap_remove(pick(count))),
        }
    }

    /// What a node said of damage in the file of this name, at some byte of it.
    pub fn told_damage<'w>(words: &'w str, file: &str) -> Option<&'w str> {
        let of_file = words.lines().find(|line| {
            let offset = line.split_once(" at byte ").map(|(_, rest)| rest);
            line.contains(file)
                && offset.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        });
        of_file.map(str::trim)
    }
}

fn log(data: &Path, part: Part) -> Result<Vec<Spot>, NoSpot> {
    let mut spots = Vec::new();
    let segments = segments(data)?;
    for (number, path) in segments.iter().enumerate() {
        let frames = frames(&read(path)?);
        let newest = number + 1 == segments.len();
        let last = frames.last().cloned().unwrap_or_default();
        let range = match part {
            Part::Header => 0..SEGMENT_HEADER_BYTES,
            Part::Middle if newest => SEGMENT_HEADER_BYTES..last.start,
            Part::Middle => SEGMENT_HEADER_BYTES..last.end,
            Part::Tail if newest => last,
            Part::Tail => continue,
        };
        spots.push(Spot { path: path.clone(), range });
    }
    Ok(spots)
}

fn hard_state(data: &Path, part: Part) -> Result<Vec<Spot>, NoSpot> {
    let Some(path) = segments(data)?.pop() else { return Err(NoSpot::None("log")) };
    let bytes = read(&path)?;
    let found = frames(&bytes).into_iter().rev().find_map(|frame| {
        let body = frame.start + FRAME_HEADER_BYTES;
        let fields = match *bytes.get(body..frame.end)?.first()? {
            BASE => body + 9..body + 34,
            flags if flags & HARD_STATE != 0 => {
                let has = |flag, bytes| if flags & flag != 0 { bytes } else { 0 };
                let begin = body + 1 + has(CUT, 8) + has(BEGIN, 17);
                begin..begin + 16 + has(VOTE, 8)
            }
            _ => return None,
        };
        Some(match part {
            Part::Header => frame.start..body,
            Part::Middle => fields.start.min(frame.end)..fields.end.min(frame.end),
            Part::Tail => frame.end - TAIL_BYTES.min(frame.len())..frame.end,
        })
    });
    let range = found.ok_or(NoSpot::None("hard state"))?;
    Ok(vec![Spot { path, range }])
}

fn snapshot(data: &Path, part: Part) -> Result<Vec<Spot>, NoSpot> {
    let newest = files(data, "snapshot-", ".snap")?.pop();
    let Some(path) = newest else { return Err(NoSpot::None("snapshot")) };
    let length = read(&path)?.len();
    let end = length.saturating_sub(SNAPSHOT_TRAILER_BYTES);
    let range = match part {
        Part::Header => 0..SNAPSHOT_HEADER_BYTES.min(length),
        Part::Middle => SNAPSHOT_HEADER_BYTES.min(end)..end,
        Part::Tail => end..length,
    };
    Ok(vec![Spot { path, range }])
}

/// Oldest first.
fn segments(data: &Path) -> Result<Vec<PathBuf>, NoSpot> {
    files(data, "log-", ".wal")
}

/// Names hold numbers of one length, so their order is that of the numbers.
fn files(data: &Path, prefix: &str, suffix: &str) -> Result<Vec<PathBuf>, NoSpot> {
    let failed = |source| NoSpot::Read { path: data.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(data).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix) && name.ends_with(suffix) {
            found.push(data.join(&*name));
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, NoSpot> {
    fs::read(path).map_err(|source| NoSpot::Read { path: path.to_owned(), source })
}

/// The records of a segment. What it was used for before may stand behind them, with other numbers.
fn frames(segment: &[u8]) -> Vec<Range<usize>> {
    let mut frames = Vec::new();
    let Some(mut sequence) = number(segment, 24) else { return frames };
    let mut start = SEGMENT_HEADER_BYTES;
    while number(segment, start + 8) == Some(sequence)
        && let Some(bytes) = segment.get(start..start + 4).and_then(|bytes| bytes.try_into().ok())
    {
        let end = start + FRAME_HEADER_BYTES + u32::from_le_bytes(bytes) as usize;
        if end > segment.len() {
            break;
        }
        frames.push(start..end);
        (start, sequence) = (end, sequence + 1);
    }
    frames
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of this body; nobody looks at its checksums.
    fn frame(sequence: u64, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xcc; FRAME_HEADER_BYTES];
        frame[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
        frame[8..16].copy_from_slice(&sequence.to_le_bytes());
        frame.extend(body);
        frame
    }

    fn base() -> Vec<u8> {
        let mut body = vec![BASE];
        body.extend([0; 61]);
        body
    }

    fn segment(first: u64, bodies: &[&[u8]]) -> Vec<u8> {
        let mut segment = vec![0; SEGMENT_HEADER_BYTES];
        segment[24..32].copy_from_slice(&first.to_le_bytes());
        for (sequence, body) in (first..).zip(bodies) {
            segment.extend(frame(sequence, body));
        }
        // What it was used for before.
        segment.extend(frame(1, b"old"));
        segment.resize(1024, 0);
        segment
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        let vote = [&[CUT | HARD_STATE | VOTE | 8][..], &[7; 8], &[1; 24], b"entries"].concat();
        put("log-0000000000000001.wal", &segment(1, &[&base(), b"\x08old entries", b""]));
        put("log-0000000000000004.wal", &segment(4, &[&base(), &vote, b"\x08more"]));
        put("snapshot-0000000000000007-0000000000000002.snap", &[1; 200]);
        put("snapshot-0000000000000010-0000000000000002.snap", &[2; 300]);
        put("spare-0000000000000001", &[3; 100]);
        folder
    }

    #[test]
    fn each_part_is_found_where_the_node_has_put_it() {
        let folder = folder();
        let (old, new) = ("log-0000000000000001.wal", "log-0000000000000004.wal");
        let snapshot = "snapshot-0000000000000010-0000000000000002.snap";
        // Base: 82 bytes from 64; then in the newer one 60 and 25 bytes.
        for (stored, part, expected) in [
            (Stored::Log, Part::Header, vec![(old, 0..64), (new, 0..64)]),
            (Stored::Log, Part::Middle, vec![(old, 64..198), (new, 64..206)]),
            (Stored::Log, Part::Tail, vec![(new, 206..231)]),
            (Stored::HardState, Part::Header, vec![(new, 146..166)]),
            (Stored::HardState, Part::Middle, vec![(new, 175..199)]),
            (Stored::HardState, Part::Tail, vec![(new, 198..206)]),
            (Stored::Snapshot, Part::Header, vec![(snapshot, 0..64)]),
            (Stored::Snapshot, Part::Middle, vec![(snapshot, 64..268)]),
            (Stored::Snapshot, Part::Tail, vec![(snapshot, 268..300)]),
        ] {
            for (picked, (name, range)) in expected.iter().enumerate() {
                let pick = |count| {
                    assert_eq!(count, expected.len(), "{stored:?} {part:?}");
                    picked
                };
                let spot = Mkraft::spot(folder.path(), stored, part, pick).unwrap();
                assert_eq!(
                    spot,
                    Spot { path: folder.path().join(name), range: range.clone() },
                    "{stored:?} {part:?}"
                );
            }
        }
    }

    #[test]
    fn of_a_new_segment_the_base_is_the_last_record_and_has_the_hard_state() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("log-0000000000000009.wal"), segment(9, &[&base()])).unwrap();
        let range = |stored, part| Mkraft::spot(folder.path(), stored, part, |_| 0).map(|spot| spot.range);
        assert_eq!(range(Stored::Log, Part::Tail).unwrap(), 64..146);
        assert_eq!(range(Stored::HardState, Part::Middle).unwrap(), 93..118);
        let none = range(Stored::Log, Part::Middle).unwrap_err().to_string();
        assert_eq!(none, "it has no record in such a place yet");
        let none = range(Stored::Snapshot, Part::Tail).unwrap_err().to_string();
        assert_eq!(none, "it has no snapshot yet");
    }

    #[test]
    fn damage_is_told_by_a_file_and_a_byte_of_it() {
        let refusal = "mkraft-node: the disk has lost\n\
             mkraft-node: /d/log-01.wal: damaged at byte 64: expected record 1, which came with the segment\n";
        let found = Mkraft::told_damage(refusal, "log-01.wal").unwrap();
        assert!(found.contains("damaged at byte 64"), "{found}");
        assert_eq!(Mkraft::told_damage(refusal, "log-02.wal"), None);
        assert_eq!(Mkraft::told_damage("/d/log-01.wal: cannot be read", "log-01.wal"), None);
    }
}
