//! The frame around a record: how long it is, which one it is, and whether it is whole.
//!
//! In: a body, or the bytes of a segment. Out: the other, or that there is no whole record here.
//! Never: trust in a length that is not checked, or that goes beyond the bytes at hand.
//!
//! ```text
//! u32  length of the body; none for a seal
//! u32  CRC32C of the body
//! u64  sequence number: one more than the record before it, across segments
//! u32  CRC32C of the segment's salt and the 16 bytes above
//!      the body
//! ```
//! The header has a checksum of its own, so that the search for later records costs a few bytes at each offset,
//! and so that a whole header proves its record was begun even when the body is not whole. The salt keeps
//! bytes that a client chose, or that an older segment left behind, from being taken for a record.

use crc32c::{crc32c, crc32c_append};

pub(super) const HEADER_BYTES: usize = 20;

/// A record without a body: nothing follows it in its segment.
pub(super) const SEAL_BYTES: usize = HEADER_BYTES;

/// Writes a whole frame into `buffer`, which it clears first.
pub(super) fn build(buffer: &mut Vec<u8>, salt: u64, sequence: u64, body: impl FnOnce(&mut Vec<u8>)) {
    buffer.clear();
    buffer.resize(HEADER_BYTES, 0);
    body(buffer);
    let (header, body) = buffer.split_at_mut(HEADER_BYTES);
    header[0..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    header[4..8].copy_from_slice(&crc32c(body).to_le_bytes());
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    let checksum = header_checksum(salt, &header[..16]);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
}

/// The body of record `sequence` if it stands whole at the start of `bytes`.
pub(super) fn body(bytes: &[u8], salt: u64, sequence: u64) -> Option<&[u8]> {
    let header = Header::parse(bytes, salt).filter(|header| header.sequence == sequence)?;
    let body = bytes[HEADER_BYTES..].get(..header.body_bytes as usize)?;
    (crc32c(body) == header.body_checksum).then_some(body)
}

/// The number of the record whose header stands whole at the start of `bytes`.
pub(super) fn sequence(bytes: &[u8], salt: u64) -> Option<u64> {
    Header::parse(bytes, salt).map(|header| header.sequence)
}

/// How long the frame of record `sequence` would be whose header stands whole at the start of `bytes`.
pub(super) fn begun(bytes: &[u8], salt: u64, sequence: u64) -> Option<u64> {
    let header = Header::parse(bytes, salt).filter(|header| header.sequence == sequence)?;
    Some(HEADER_BYTES as u64 + u64::from(header.body_bytes))
}

/// Where in `bytes` the header of record `sequence` or of a later one is whole, if anywhere.
pub(super) fn find_header(bytes: &[u8], salt: u64, sequence: u64) -> Option<usize> {
    // No more records than this could have been written here.
    let beyond = sequence.saturating_add((bytes.len() / HEADER_BYTES) as u64 + 1);
    bytes.windows(HEADER_BYTES).position(|window| {
        let found = u64_at(window, 8).filter(|found| (sequence..=beyond).contains(found));
        found.is_some() && Header::parse(window, salt).is_some()
    })
}

struct Header {
    body_bytes: u32,
    body_checksum: u32,
    sequence: u64,
}

impl Header {
    fn parse(bytes: &[u8], salt: u64) -> Option<Header> {
        let header = Header {
            body_bytes: u32_at(bytes, 0)?,
            body_checksum: u32_at(bytes, 4)?,
            sequence: u64_at(bytes, 8)?,
        };
        (u32_at(bytes, 16)? == header_checksum(salt, &bytes[..16])).then_some(header)
    }
}

fn header_checksum(salt: u64, fields: &[u8]) -> u32 {
    crc32c_append(crc32c(&salt.to_le_bytes()), fields)
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 0x5eed;

    fn frame(sequence: u64, body: &[u8]) -> Vec<u8> {
        let mut buffer = vec![1, 2, 3];
        build(&mut buffer, SALT, sequence, |out| out.extend(body));
        buffer
    }

    #[test]
    fn a_whole_record_is_read_back_and_a_shorter_one_is_not() {
        let mut bytes = frame(7, b"what was promised");
        assert_eq!(body(&bytes, SALT, 7), Some(&b"what was promised"[..]));
        for length in 0..bytes.len() {
            assert_eq!(body(&bytes[..length], SALT, 7), None, "{length} bytes");
        }
        bytes.extend([9; 30]);
        assert_eq!(body(&bytes, SALT, 7), Some(&b"what was promised"[..]));
        assert_eq!(body(&frame(8, b""), SALT, 8), Some(&b""[..]));
    }

    #[test]
    fn a_record_of_another_place_or_segment_counts_for_nothing() {
        let bytes = frame(7, b"body");
        assert_eq!(body(&bytes, SALT, 6), None);
        assert_eq!(body(&bytes, SALT, 8), None);
        assert_eq!(body(&bytes, SALT + 1, 7), None);
        assert_eq!(find_header(&bytes, SALT + 1, 7), None);
    }

    #[test]
    fn no_flipped_bit_goes_unseen() {
        let bytes = frame(7, b"body");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(body(&flipped, SALT, 7), None, "bit {bit}");
        }
    }

    #[test]
    fn a_later_header_is_found_at_any_offset_even_when_its_body_is_not_whole() {
        for before in 0..40 {
            let mut bytes = vec![0xaa; before];
            bytes.extend(frame(9, b"body"));
            bytes.pop();
            assert_eq!(find_header(&bytes, SALT, 8), Some(before));
            assert_eq!(find_header(&bytes, SALT, 9), Some(before));
            assert_eq!(find_header(&bytes, SALT, 10), None);
        }
    }
}
