//! What a move of a script calls the nodes that it came to, so that later moves can mean the same ones.
//!
//! In: a word. Out: [`Name`], and back. Never: a word that means something else where nodes are meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::words::Words;
use super::{Shape, Target};

/// Bytes of a name at most, so that whatever may have one stays [`Copy`].
pub const NAME_LEN_MAX: usize = 16;

/// Words for nodes and links that stand in no table of their own.
const RESERVED: &[&str] = &["it", "other", "others", "clients", "nothing"];

/// One of a-z, then a-z, 0-9 and `-`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name {
    bytes: [u8; NAME_LEN_MAX],
    len: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name: expected at most {NAME_LEN_MAX} of a-z, 0-9 and `-`, beginning with a letter, and no word that \
     means nodes or links"
)]
pub struct UnknownName(pub String);

impl Name {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("a name is made of ASCII")
    }
}

impl FromStr for Name {
    type Err = UnknownName;

    fn from_str(word: &str) -> Result<Name, UnknownName> {
        let letters = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let begins = word.starts_with(|first: char| first.is_ascii_lowercase());
        if word.len() > NAME_LEN_MAX || !begins || !word.bytes().all(letters) || means_nodes(word) {
            return Err(UnknownName(word.to_owned()));
        }
        let mut bytes = [0; NAME_LEN_MAX];
        bytes[..word.len()].copy_from_slice(word.as_bytes());
        Ok(Name { bytes, len: word.len() as u8 })
    }
}

/// Whether it means nodes or links already, or looks as if it did: `n`, `n0`, `n12`.
fn means_nodes(word: &str) -> bool {
    let numbered =
        word.strip_prefix('n').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let listed = Target::from_word(word).is_some() || Shape::from_word(word).is_some();
    numbered || listed || RESERVED.contains(&word)
}

impl TryFrom<String> for Name {
    type Error = UnknownName;

    fn try_from(word: String) -> Result<Name, UnknownName> {
        word.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.as_str().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_what_it_was_written_from_and_never_means_other_nodes() {
        for word in ["old", "a", "new-leader-2", "n1a", "sixteen-letters-"] {
            assert_eq!(word.parse::<Name>().unwrap().to_string(), word);
        }
        for wrong in ["", "-a", "2nd", "Old", "old one", "n", "n0", "n12", "leader", "it", "others", "halves"]
        {
            assert_eq!(wrong.parse::<Name>(), Err(UnknownName(wrong.into())));
        }
        assert!("seventeen-letters".parse::<Name>().is_err());
    }
}
