//! Reads by hand the three lines that make up nearly all evidence, `append`, `commit` and `apply`, where they stand just
//! as nodes write them.
//!
//! In: the bytes of a line. Out: the [`Line`], or none when it has any other shape. Never: an opinion on what is wrong
//! with a line: who gets none asks serde, which reads every shape and tells faults.

use super::{Appended, Applied, Digest, EntryKind, Event, Line, Outcome};

impl Line {
    /// The line with its newline. None does not mean that the line is wrong.
    pub fn by_hand(text: &[u8]) -> Option<Line> {
        let mut rest = Rest(text);
        rest.take(br#"{"seq":"#)?;
        let seq = rest.number()?;
        rest.take(br#","t":"#)?;
        let t = rest.number()?;
        rest.take(br#","node":""#)?;
        let node = rest.name()?;
        rest.take(br#","boot":"#)?;
        let boot = rest.number()?;
        rest.take(br#","event":""#)?;
        let event = match rest.name()? {
            "append" => rest.append()?,
            "commit" => rest.commit()?,
            "apply" => rest.apply()?,
            _ => return None,
        };
        rest.take(b"}\n")?;
        rest.0.is_empty().then(|| Line { seq, t, node: node.to_owned(), boot, event })
    }
}

/// What is left of a line. Each step is None when the line is not of the known shape.
struct Rest<'l>(&'l [u8]);

impl<'l> Rest<'l> {
    fn append(&mut self) -> Option<Event> {
        self.take(br#","first":"#)?;
        let first = self.number()?;
        let entries = self.entries(34, |rest| {
            let term = rest.number()?;
            let kind = rest.one_of([
                (b",\"command\",\"", EntryKind::Command),
                (b",\"noop\",\"", EntryKind::Noop),
                (b",\"config\",\"", EntryKind::Config),
            ])?;
            Some(Appended(term, kind, rest.digest()?))
        })?;
        let recovered = self.take(br#","recovered":true"#).is_some();
        Some(Event::Append { first, entries, recovered })
    }

    fn commit(&mut self) -> Option<Event> {
        self.take(br#","index":"#)?;
        let index = self.number()?;
        self.take(br#","term":"#)?;
        let term = self.number()?;
        Some(Event::Commit { index, term })
    }

    fn apply(&mut self) -> Option<Event> {
        self.take(br#","first":"#)?;
        let first = self.number()?;
        let entries = self.entries(38, |rest| {
            let term = rest.number()?;
            rest.take(b",\"")?;
            let digest = rest.digest()?;
            rest.take(b",")?;
            let session = rest.number()?;
            rest.take(b",")?;
            let sequence = rest.number()?;
            let outcome = rest.one_of([
                (b",\"applied\"", Outcome::Applied),
                (b",\"duplicate\"", Outcome::Duplicate),
                (b",\"refused\"", Outcome::Refused),
            ])?;
            Some(Applied(term, digest, session, sequence, outcome))
        })?;
        Some(Event::Apply { first, entries })
    }

    /// A list of lists, each of so many bytes about.
    fn entries<T>(&mut self, bytes: usize, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        self.take(br#","entries":["#)?;
        let mut entries = Vec::with_capacity(self.0.len() / bytes + 1);
        if self.take(b"]").is_some() {
            return Some(entries);
        }
        loop {
            self.take(b"[")?;
            entries.push(one(self)?);
            self.take(b"]")?;
            if self.take(b",").is_none() {
                break;
            }
        }
        self.take(b"]")?;
        Some(entries)
    }

    fn take(&mut self, expected: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    fn one_of<T>(&mut self, words: [(&[u8], T); 3]) -> Option<T> {
        words.into_iter().find_map(|(word, meaning)| self.take(word).map(|()| meaning))
    }

    /// Digits which no sign, point or exponent follows.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        let mut length = 0;
        while let Some(digit @ b'0'..=b'9') = self.0.get(length) {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            length += 1;
        }
        let leading_zero = length > 1 && self.0[0] == b'0';
        let ends = matches!(self.0.get(length), Some(b',' | b'}' | b']'));
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        match length {
            0 => None,
            _ if leading_zero || !ends => None,
            1..=19 => Some(number),
            _ => std::str::from_utf8(digits).ok()?.parse().ok(),
        }
    }

    /// The rest of a string whose quote is taken already, and its last quote.
    fn name(&mut self) -> Option<&'l str> {
        let plain = |&byte: &u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        let length = self.0.iter().position(|byte| !plain(byte))?;
        let name = std::str::from_utf8(&self.0[..length]).ok()?;
        self.0 = self.0[length..].strip_prefix(b"\"")?;
        Some(name)
    }

    /// As [`Rest::name`].
    fn digest(&mut self) -> Option<Digest> {
        let (digits, rest) = self.0.split_first_chunk::<8>()?;
        let (more, rest) = rest.split_first_chunk::<8>()?;
        self.0 = rest.strip_prefix(b"\"")?;
        Some(Digest(u64::from(eight(*digits)?) << 32 | u64::from(eight(*more)?)))
    }
}

/// Eight lower-case hex digits, all at once.
fn eight(digits: [u8; 8]) -> Option<u32> {
    let each = |byte: u8| u64::from(byte) * 0x0101_0101_0101_0101;
    let signs = u64::from_be_bytes(digits);
    let high = each(0x80);
    if signs & high != 0 {
        return None;
    }
    // In each byte the highest bit says whether it is at least so much; no byte has it set by itself.
    let from = |least: u8| (signs + each(0x80 - least)) & high;
    let number = from(b'0') & !from(b'9' + 1);
    let letter = from(b'a') & !from(b'f' + 1);
    if number | letter != high {
        return None;
    }
    // Letters are 9 short of what they stand for in their low four bits.
    let mut value = (signs & each(0x0f)) + (letter >> 7) * 9;
    value = (value | value >> 4) & 0x00ff_00ff_00ff_00ff;
    value = (value | value >> 8) & 0x0000_ffff_0000_ffff;
    Some((value | value >> 16) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<String> {
        let head = |event: &str| format!(r#"{{"seq":1,"t":20,"node":"n1","boot":3,"event":"{event}""#);
        let digest = "00000000000000ab";
        [
            (
                head("append"),
                format!(r#","first":7,"entries":[[4,"noop","{digest}"],[4,"command","{digest}"]]"#),
            ),
            (head("append"), format!(r#","first":1,"entries":[[1,"config","{digest}"]],"recovered":true"#)),
            (head("append"), r#","first":1,"entries":[]"#.to_owned()),
            (head("commit"), r#","index":18446744073709551615,"term":2"#.to_owned()),
            (
                head("apply"),
                format!(
                    r#","first":7,"entries":[[4,"{digest}",5,6,"duplicate"],[4,"{digest}",0,0,"applied"]]"#
                ),
            ),
            (head("apply"), format!(r#","first":7,"entries":[[4,"{digest}",5,60,"refused"]]"#)),
        ]
        .into_iter()
        .map(|(head, rest)| format!("{head}{rest}}}\n"))
        .collect()
    }

    #[test]
    fn eight_digits_are_read_as_one_by_one() {
        for place in 0..8 {
            for byte in 0..=255 {
                let mut digits = *b"09af1e5b";
                digits[place] = byte;
                let lower = digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                let text = String::from_utf8_lossy(&digits);
                let expected = lower.then(|| u32::from_str_radix(&text, 16).unwrap());
                assert_eq!(eight(digits), expected, "{digits:?}");
            }
        }
    }

    #[test]
    fn the_hand_reads_what_serde_reads() {
        for text in lines() {
            let by_serde: Line = serde_json::from_str(&text).unwrap();
            assert_eq!(Line::by_hand(text.as_bytes()), Some(by_serde), "{text}");
        }
    }

    /// Every byte dropped, doubled or replaced by each that means something in JSON.
    #[test]
    fn the_hand_takes_no_line_that_serde_refuses() {
        let mut taken = 0;
        for text in lines() {
            let text = text.into_bytes();
            for at in 0..text.len() {
                let mut changed =
                    vec![[&text[..at], &text[at + 1..]].concat(), [&text[..=at], &text[at..]].concat()];
                for byte in *b"0159aAfz-+.,:[]{}\"\\ \n\t\x00\xff" {
                    changed.push(text.clone());
                    changed.last_mut().unwrap()[at] = byte;
                }
                for text in changed {
                    if let Some(line) = Line::by_hand(&text) {
                        taken += 1;
                        let told = String::from_utf8_lossy(&text);
                        assert_eq!(serde_json::from_slice::<Line>(&text).ok(), Some(line), "{told}");
                    }
                }
            }
        }
        assert!(taken > 500, "{taken}");
    }
}
