//! Reads a value that has no keys of its own: a number, a word, a duration.
//!
//! In: a [`Node`] and what it may be. Out: the value, or what is wrong with it and what was expected. Never: another
//! value of the file; those which must fit each other are compared by who reads both.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::fields::Located;
use super::manner::SIZES;
use super::problem::{Problem, did_you_mean, one_of, quoted};
use super::tree::{Node, Value};
use super::words::{Words, node_number};

/// What is expected where a duration is.
const DURATION: &str = "a duration such as 500ms, 5s, 2m";

/// A scenario runs for no longer than this, and no other duration in it is longer.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A value that has no keys of its own.
pub(super) struct Leaf<'a> {
    pub key: &'static str,
    pub node: &'a Node,
    pub text: &'a str,
}

/// The finest part of a time that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grain {
    /// What a node can be told.
    Millisecond,
    /// What counts between two acts of a node.
    Microsecond,
}

impl Grain {
    fn nanoseconds(self) -> u32 {
        match self {
            Grain::Millisecond => 1_000_000,
            Grain::Microsecond => 1_000,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Grain::Millisecond => "whole milliseconds",
            Grain::Microsecond => "whole microseconds",
        }
    }
}

impl<'a> Leaf<'a> {
    pub fn wrong(&self, title: impl Into<String>) -> Box<Problem> {
        Problem::at(self.node.first_line(self.text), title)
    }

    /// Any scalar, as it is written.
    pub fn word(&self, expected: &str) -> Result<&'a str, Box<Problem>> {
        match &self.node.value {
            Value::Scalar { text, .. } if !text.is_empty() => Ok(text),
            Value::Scalar { .. } => {
                Err(self.wrong(format!("`{}` has no value", self.key)).label(format!("expected {expected}")))
            }
            _ => {
                let title = format!("`{}` is {}", self.key, self.node.description());
                Err(self.wrong(title).label(format!("expected {expected}")))
            }
        }
    }

    pub fn whole(&self, range: RangeInclusive<u64>) -> Result<u64, Box<Problem>> {
        let expected = match range.clone().into_inner() {
            (least, u64::MAX) => format!("a whole number, {least} or more"),
            (least, most) => format!("a whole number from {least} to {most}"),
        };
        let word = self.word(&expected)?;
        let plain = matches!(self.node.value, Value::Scalar { plain: true, .. });
        let digits = plain && word.bytes().all(|byte| byte.is_ascii_digit());
        match word.parse() {
            Ok(number) if digits && range.contains(&number) => Ok(number),
            _ if digits => Err(self
                .wrong(format!("`{}: {word}` is out of range", self.key))
                .label(format!("expected {expected}"))),
            _ => Err(self
                .wrong(format!("`{}: {word}` is not a whole number", self.key))
                .label(format!("expected {expected}"))),
        }
    }

    pub fn whole_u32(&self, range: RangeInclusive<u32>) -> Result<u32, Box<Problem>> {
        let number = self.whole(u64::from(*range.start())..=u64::from(*range.end()))?;
        Ok(u32::try_from(number).expect("the range ends within u32"))
    }

    /// `true` or `false`, as YAML 1.2 has them.
    pub fn switch(&self) -> Result<bool, Box<Problem>> {
        const EXPECTED: &str = "true or false";
        let plain = matches!(self.node.value, Value::Scalar { plain: true, .. });
        match self.word(EXPECTED)? {
            "true" if plain => Ok(true),
            "false" if plain => Ok(false),
            word => {
                let title = format!("`{}: {word}` is neither yes nor no", self.key);
                Err(self.wrong(title).label(format!("expected {EXPECTED}")))
            }
        }
    }

    /// 50 of `50%`, up to `most`.
    pub fn percent(&self, most: u32) -> Result<u32, Box<Problem>> {
        self.percent_within(0..=most, "a share")
    }

    /// 150 of `150%`.
    pub fn rate(&self, range: RangeInclusive<u32>) -> Result<u32, Box<Problem>> {
        self.percent_within(range, "a rate")
    }

    fn percent_within(&self, range: RangeInclusive<u32>, what: &str) -> Result<u32, Box<Problem>> {
        let (least, most) = (range.start(), range.end());
        let expected = format!("expected {what} from {least}% to {most}%, in whole percent");
        let word = self.word(&format!("{what} such as 50%"))?;
        let digits = word.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        match digits.map(str::parse) {
            Some(Ok(percent)) if range.contains(&percent) => Ok(percent),
            Some(_) => Err(self.wrong(format!("`{}: {word}` is out of range", self.key)).label(expected)),
            None => Err(self.wrong(format!("`{}: {word}` is not {what}", self.key)).label(expected)),
        }
    }

    /// 65536 of `64KiB`; from 1 to `most`.
    pub fn size(&self, most: u64) -> Result<u64, Box<Problem>> {
        const EXPECTED: &str = "a size such as 512B, 64KiB, 1MiB";
        let word = self.word(EXPECTED)?;
        let (digits, unit) = word.split_at(word.bytes().take_while(u8::is_ascii_digit).count());
        if unit.is_empty() {
            return Err(self
                .wrong(format!("`{}: {word}` has no unit", self.key))
                .label(format!("expected {EXPECTED}")));
        }
        let bytes = SIZES.iter().find(|(known, _)| *known == unit).map(|(_, bytes)| *bytes);
        let Some((number, bytes)) = digits.parse::<u64>().ok().zip(bytes) else {
            return Err(self
                .wrong(format!("`{}: {word}` is not a size", self.key))
                .label(format!("expected {EXPECTED}")));
        };
        number.checked_mul(bytes).filter(|size| (1..=most).contains(size)).ok_or_else(|| {
            self.wrong(format!("`{}: {word}` is out of range", self.key))
                .label(format!("expected {}MiB or less, and more than nothing", most >> 20))
        })
    }

    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::Sequence(_))
    }

    /// A list, or what someone who meant a list may write.
    pub fn is_several(&self) -> bool {
        match &self.node.value {
            Value::Scalar { text, .. } => text.contains([',', ' ']),
            Value::Sequence(_) => true,
            Value::Mapping(_) => false,
        }
    }

    /// One of the words of `T`, or one of `nodes` where `T` has numbered ones; None when their number is unknown.
    pub fn one_of<T: Words>(&self, what: &str, nodes: Option<&Located<u32>>) -> Result<T, Box<Problem>> {
        let word = self.word(&expected::<T>(nodes))?;
        self.one_of_word(what, word, nodes)
    }

    /// The same of a `word` that is a part of the value.
    pub fn one_of_word<T: Words>(
        &self,
        what: &str,
        word: &str,
        nodes: Option<&Located<u32>>,
    ) -> Result<T, Box<Problem>> {
        if let Some(number) = node_number(word)
            && let Some(value) = T::numbered(number)
        {
            return self.in_cluster(number, nodes).map(|_| value);
        }
        T::from_word(word).ok_or_else(|| {
            self.wrong(format!("unknown {what} `{word}`"))
                .label(format!("expected {}", expected::<T>(nodes)))
                .help(did_you_mean(word, listed::<T>()))
        })
    }

    /// That the cluster has a node of this number, where its size is known.
    pub fn in_cluster(&self, number: u32, nodes: Option<&Located<u32>>) -> Result<u32, Box<Problem>> {
        match nodes {
            Some(nodes) if number > nodes.value => Err(self
                .wrong(format!("there is no `n{number}` in a cluster of {}", nodes.value))
                .label(format!("expected {}", node(Some(nodes))))
                .also(nodes.span.clone(), "the cluster")),
            _ => Ok(number),
        }
    }

    /// Whole milliseconds; at least `least`.
    pub fn duration(&self, least: Duration) -> Result<Duration, Box<Problem>> {
        self.duration_within(least..=DURATION_MAX)
    }

    pub fn duration_within(&self, range: RangeInclusive<Duration>) -> Result<Duration, Box<Problem>> {
        self.time(self.word(DURATION)?, range, Grain::Millisecond)
    }

    /// The two of `2s to 5s`; of `2s` alone, which the last says, it twice.
    pub fn span(&self, least: Duration, grain: Grain) -> Result<(Duration, Duration, bool), Box<Problem>> {
        let word = self.word("a duration such as 5s, or two as in `2s to 5s`")?;
        let range = least..=DURATION_MAX;
        let Some((from, to)) = word.split_once(" to ") else {
            return self.time(word, range, grain).map(|time| (time, time, true));
        };
        let (from, to) = (self.time(from, range.clone(), grain)?, self.time(to, range, grain)?);
        if from > to {
            let problem = self.wrong(format!("`{}: {word}` ends before it begins", self.key));
            let show = humantime::format_duration;
            return Err(problem.label(format!("expected `{} to {}`", show(to), show(from))));
        }
        Ok((from, to, false))
    }

    /// None for `end`.
    pub fn duration_or_end(&self) -> Result<Option<Duration>, Box<Problem>> {
        match self.word("a duration such as 10s, or `end`")? {
            "end" => Ok(None),
            word => self.time(word, Duration::from_millis(1)..=DURATION_MAX, Grain::Millisecond).map(Some),
        }
    }

    fn time(
        &self,
        word: &str,
        range: RangeInclusive<Duration>,
        grain: Grain,
    ) -> Result<Duration, Box<Problem>> {
        if word.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self
                .wrong(format!("`{}: {word}` has no unit", self.key))
                .label(format!("expected {DURATION}"))
                .help(Some(format!("`{word}s` are seconds, `{word}ms` milliseconds"))));
        }
        let Ok(duration) = humantime::parse_duration(word) else {
            return Err(self
                .wrong(format!("`{}: {word}` is not a duration", self.key))
                .label(format!("expected {DURATION}")));
        };
        let (title, expected) = if !duration.subsec_nanos().is_multiple_of(grain.nanoseconds()) {
            ("is too fine", grain.word().into())
        } else if duration < *range.start() {
            ("is too short", format!("{} or more", humantime::format_duration(*range.start())))
        } else if duration > *range.end() {
            ("is too long", format!("{} or less", humantime::format_duration(*range.end())))
        } else {
            return Ok(duration);
        };
        Err(self.wrong(format!("`{}: {word}` {title}", self.key)).label(format!("expected {expected}")))
    }
}

fn listed<T: Words>() -> impl Iterator<Item = &'static str> {
    T::WORDS.iter().map(|(word, _)| *word)
}

fn expected<T: Words>(nodes: Option<&Located<u32>>) -> String {
    match T::numbered(1) {
        None => one_of(listed::<T>()),
        Some(_) => format!("{}, or {}", quoted(listed::<T>()).join(", "), node(nodes)),
    }
}

fn node(nodes: Option<&Located<u32>>) -> String {
    nodes.map_or("a node such as `n1`".into(), |nodes| format!("a node, `n1` to `n{}`", nodes.value))
}
