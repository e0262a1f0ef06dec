//! Damages bytes, blindly and with knowledge of what numbers, strings, lists and lines look like.
//!
//! In: bytes and the number of a case. Out: other bytes, always the same. Never: a length beyond some times that of
//! what came in, so that a case stays small.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub struct Mutator(ChaCha8Rng);

impl Mutator {
    pub fn new(seed: u64) -> Mutator {
        Mutator(ChaCha8Rng::seed_from_u64(seed))
    }

    pub fn below(&mut self, size: usize) -> usize {
        self.0.random_range(0..size.max(1))
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }

    /// A random stretch of `size` places, mostly short.
    fn stretch(&mut self, size: usize) -> (usize, usize) {
        let from = self.below(size + 1);
        let len = match self.below(4) {
            0 => self.below(size + 1),
            _ => self.below(24),
        };
        (from, (from + len).min(size))
    }
}

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "-0",
    "00",
    "1.5",
    "1e3",
    "1e309",
    "1e-400",
    "4294967295",
    "4294967296",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999",
    "null",
    "true",
    "\"7\"",
    "[]",
    "{}",
    "NaN",
    "1N",
    "1/2",
];

const WORDS: &[&str] = &[
    "",
    "n1",
    "n9",
    "nemesis",
    "read",
    "write",
    "cas",
    "delete",
    "kill",
    "heal",
    "append",
    "apply",
    "boot",
    "role",
    "commit",
    "truncate",
    "snapshot",
    "config",
    "stop",
    "leader",
    "installed",
    "holds",
    "../../etc",
    "\u{0}",
    "é",
    "\\u0000",
    "\\ud800",
    "\\",
    "0123456789abcdef",
    "k1",
];

const BYTES: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\n",
    b"\n\n",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"#",
    b"#_",
    b"#{",
    b"&a",
    b"*a",
    b"!!",
    b"- ",
    b"\t",
    b" ",
    b";",
    b"^",
    b"(",
    b")",
    b"%",
];

pub fn mutated(mutator: &mut Mutator, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + mutator.below(4) {
        bytes = match mutator.below(12) {
            0 => blind(mutator, bytes),
            1 => splice(mutator, bytes, other),
            2 => nested(mutator, bytes),
            3 => whole(mutator, bytes),
            4..=6 => lines(mutator, bytes),
            7 => text(mutator, bytes),
            _ => numbers(mutator, bytes),
        };
    }
    bytes
}

fn blind(mutator: &mut Mutator, mut bytes: Vec<u8>) -> Vec<u8> {
    let (from, to) = mutator.stretch(bytes.len());
    match mutator.below(4) {
        0 => bytes.drain(from..to).for_each(drop),
        1 => {
            let again = bytes[from..to].to_vec();
            bytes.splice(to..to, again);
        }
        2 => _ = bytes.splice(from..from, mutator.pick(BYTES).iter().copied()),
        _ => {
            if let Some(byte) = bytes.get_mut(from) {
                *byte ^= 1 << mutator.below(8);
            }
        }
    }
    bytes
}

fn splice(mutator: &mut Mutator, mut bytes: Vec<u8>, other: &[u8]) -> Vec<u8> {
    let (from, to) = mutator.stretch(other.len());
    let (begin, end) = mutator.stretch(bytes.len());
    bytes.splice(begin..end, other[from..to].iter().copied());
    bytes
}

fn nested(mutator: &mut Mutator, mut bytes: Vec<u8>) -> Vec<u8> {
    let deep = [10, 100, 200, 5_000, 60_000][mutator.below(5)];
    let (open, close) =
        [("[", "]"), ("{\"a\":", "}"), ("(", ")"), ("{", "}"), ("#{", "}"), ("#_", ""), ("- ", "")]
            [mutator.below(7)];
    let closes = if mutator.below(2) == 0 { close.repeat(deep) } else { String::new() };
    let text = format!("{}1{closes}", open.repeat(deep));
    let at = places(&bytes, |byte| byte.is_ascii_digit() || byte == b'"' || byte == b'[');
    let at = at.get(mutator.below(at.len())).copied().unwrap_or(0);
    bytes.splice(at..(at + 1).min(bytes.len()), text.bytes());
    bytes
}

fn whole(mutator: &mut Mutator, mut bytes: Vec<u8>) -> Vec<u8> {
    match mutator.below(8) {
        0 => Vec::new(),
        1 => vec![b'\n'; 1 + mutator.below(50)],
        2 => vec![0; 1 + mutator.below(5_000)],
        3 => String::from_utf8_lossy(&bytes).replace('\n', "\r\n").into_bytes(),
        4 => [b"\xef\xbb\xbf", &bytes[..]].concat(),
        5 => String::from_utf8_lossy(&bytes).encode_utf16().flat_map(u16::to_le_bytes).collect(),
        6 => String::from_utf8_lossy(&bytes).replace('\n', " ").into_bytes(),
        _ => {
            bytes.truncate(mutator.below(bytes.len() + 1));
            bytes
        }
    }
}

fn lines(mutator: &mut Mutator, bytes: Vec<u8>) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    let (one, other) = (mutator.below(lines.len()), mutator.below(lines.len()));
    if lines.is_empty() {
        return bytes;
    }
    match mutator.below(6) {
        0 => _ = lines.remove(one),
        1 => lines.swap(one, other),
        2 => {
            let line = lines[one].clone();
            lines.insert(other, line);
        }
        3 => {
            let line = lines[one].clone();
            let times = 1 + mutator.below(40);
            lines.splice(one..one, std::iter::repeat_n(line, times));
        }
        4 => {
            let keep = mutator.below(lines[one].len() + 1);
            lines[one].truncate(keep);
        }
        _ => lines.truncate(one),
    }
    lines.concat()
}

/// What stands between two quotes becomes another word.
fn text(mutator: &mut Mutator, mut bytes: Vec<u8>) -> Vec<u8> {
    let quotes = places(&bytes, |byte| byte == b'"');
    let at = mutator.below(quotes.len());
    if let (Some(&from), Some(&to)) = (quotes.get(at), quotes.get(at + 1)) {
        bytes.splice(from + 1..to, mutator.pick(WORDS).bytes());
    }
    bytes
}

/// A number becomes another one, here or in many places.
fn numbers(mutator: &mut Mutator, mut bytes: Vec<u8>) -> Vec<u8> {
    let times = if mutator.below(5) == 0 { 1 + mutator.below(30) } else { 1 };
    for _ in 0..times {
        let digits = places(&bytes, |byte| byte.is_ascii_digit());
        let Some(&from) = digits.get(mutator.below(digits.len())) else { return bytes };
        let from = bytes[..from].iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |at| at + 1);
        let to =
            bytes[from..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |at| from + at);
        let near = String::from_utf8_lossy(&bytes[from..to]).parse::<u64>().unwrap_or(0);
        let new = match mutator.below(3) {
            0 => near.wrapping_add(1).to_string(),
            1 => near.wrapping_sub(1).to_string(),
            _ => mutator.pick(NUMBERS).to_owned(),
        };
        bytes.splice(from..to, new.bytes());
    }
    bytes
}

fn places(bytes: &[u8], fits: impl Fn(u8) -> bool) -> Vec<usize> {
    (0..bytes.len()).filter(|&at| fits(bytes[at])).collect()
}
