//! Which links a fault is done to, and the words for it.
//!
//! In: a word such as `leader -> others`. Out: [`Links`], and back. Never: names of nodes; those are found when the
//! fault strikes.
//!
//! An arrow is the way that bytes go, whoever of the two opened the connection: the replies of a node to its clients
//! are `n1 -> clients`.

use std::fmt;
use std::str::FromStr;

use super::Target;
use super::words::Words;

/// Links between nodes, or between clients and nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// All links of the target's nodes with other nodes, both ways.
    Of(Target),
    /// From each node of the one side to each of the other.
    Between {
        from: Side,
        to: Side,
        both_ways: bool,
    },
    Shape(Shape),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Clients,
    /// Every node that is not on the other side.
    Others,
    Nodes(Target),
}

/// Links between nodes, of which the seed draws who is where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Those between two halves of the voters.
    Halves,
    /// Those from one half of the voters to the other, and not those back.
    OneWay,
    /// Those between two halves of the voters, but for one node that both halves reach.
    Bridge,
    /// As many as leave each voter hearing a majority, and no two of them the same.
    Ring,
    /// Each way between two nodes by a coin of its own.
    Grudge,
    /// Those of the leader with as many voters as it can do without. All others reach each other.
    PartialMesh,
}

impl Words for Shape {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("halves", Shape::Halves),
        ("one-way", Shape::OneWay),
        ("bridge", Shape::Bridge),
        ("ring", Shape::Ring),
        ("grudge", Shape::Grudge),
        ("partial-mesh", Shape::PartialMesh),
    ];
}

/// `clients` and `others`, then those of [`Target`] that are [`ENDS`], in their order.
const SIDES: [(&str, Side); ENDS.len() + 2] = {
    let mut sides = [("clients", Side::Clients); ENDS.len() + 2];
    sides[1] = ("others", Side::Others);
    let (mut place, mut filled) = (0, 2);
    while place < Target::WORDS.len() {
        let (word, target) = Target::WORDS[place];
        if !matches!(target, Target::Snapshotting) {
            sides[filled] = (word, Side::Nodes(target));
            filled += 1;
        }
        place += 1;
    }
    assert!(filled == sides.len(), "every target but `snapshotting` can have its links broken");
    sides
};

/// Beside these: what [`Target`] has beside its words.
impl Words for Side {
    const WORDS: &'static [(&'static str, Self)] = &SIDES;

    fn numbered(number: u32) -> Option<Side> {
        Target::numbered(number).map(Side::Nodes)
    }
}

/// Nodes whose links can be broken.
pub(super) const ENDS: &[Target] = &[
    Target::Leader,
    Target::Follower,
    Target::Learner,
    Target::Spare,
    Target::Random,
    Target::Minority,
    Target::Majority,
    Target::All,
];

impl Shape {
    /// As few voters as there can be.
    pub fn voters_min(self) -> u32 {
        match self {
            Shape::Halves | Shape::OneWay | Shape::Grudge => 2,
            Shape::Bridge | Shape::Ring | Shape::PartialMesh => 3,
        }
    }
}

impl Links {
    /// The nodes that it names.
    pub fn targets(self) -> impl Iterator<Item = Target> {
        let (one, other) = match self {
            Links::Of(target) => (Some(target), None),
            Links::Between { from, to, .. } => (from.target(), to.target()),
            Links::Shape(_) => (None, None),
        };
        one.into_iter().chain(other)
    }

    /// Whether it goes one way between two sides.
    pub fn is_one_way(self) -> bool {
        matches!(self, Links::Between { both_ways: false, .. })
    }

    pub fn has_clients(self) -> bool {
        matches!(self, Links::Between { from, to, .. } if from == Side::Clients || to == Side::Clients)
    }

    /// The two sides of an arrow, if `word` has one, and whether it goes both ways.
    pub(super) fn arrow(word: &str) -> Option<(&str, &str, bool)> {
        let both = word.split_once(" <-> ").map(|(from, to)| (from, to, true));
        both.or_else(|| word.split_once(" -> ").map(|(from, to)| (from, to, false)))
    }
}

impl Side {
    fn target(self) -> Option<Target> {
        match self {
            Side::Nodes(target) => Some(target),
            Side::Clients | Side::Others => None,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_word().unwrap_or_else(|| panic!("WORDS has no line for {self:?}")))
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Side::Nodes(target) => target.fmt(f),
            Side::Clients => f.pad("clients"),
            Side::Others => f.pad("others"),
        }
    }
}

impl fmt::Display for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Links::Of(target) => target.fmt(f),
            Links::Between { from, to, both_ways: false } => write!(f, "{from} -> {to}"),
            Links::Between { from, to, both_ways: true } => write!(f, "{from} <-> {to}"),
            Links::Shape(shape) => shape.fmt(f),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` are no links: expected a node or nodes such as leader or n2; a shape such as halves; or two sides, as in \
     `leader -> others` or `clients <-> n1`"
)]
pub struct UnknownLinks(pub String);

impl FromStr for Links {
    type Err = UnknownLinks;

    fn from_str(word: &str) -> Result<Links, UnknownLinks> {
        let unknown = || UnknownLinks(word.to_owned());
        let target = |word: &str| match word.parse() {
            Ok(Target::Snapshotting) | Err(_) => Err(unknown()),
            Ok(target) => Ok(Side::Nodes(target)),
        };
        let side = |word: &str| Side::from_word(word).map_or_else(|| target(word), Ok);
        match Links::arrow(word) {
            Some((from, to, both_ways)) => Ok(Links::Between { from: side(from)?, to: side(to)?, both_ways }),
            None => match Shape::from_word(word) {
                Some(shape) => Ok(Links::Shape(shape)),
                None => match side(word)? {
                    Side::Nodes(target) => Ok(Links::Of(target)),
                    Side::Clients | Side::Others => Err(unknown()),
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_can_be_whatever_can_have_its_links_broken() {
        for target in ENDS {
            assert_eq!(Side::from_word(&target.to_string()), Some(Side::Nodes(*target)));
        }
        assert_eq!(Side::WORDS.len(), ENDS.len() + 2);
    }

    #[test]
    fn every_word_is_read_as_what_it_was_written_from() {
        let nodes = |target: &str| Side::Nodes(target.parse().unwrap());
        for (word, links) in [
            ("leader", Links::Of(Target::Leader)),
            ("n3", Links::Of(Target::Node(3))),
            ("old -> others", Links::Between { from: nodes("old"), to: Side::Others, both_ways: false }),
            ("it", Links::Of(Target::It)),
            ("partial-mesh", Links::Shape(Shape::PartialMesh)),
            ("n1 -> n2", Links::Between { from: nodes("n1"), to: nodes("n2"), both_ways: false }),
            (
                "others <-> minority",
                Links::Between { from: Side::Others, to: nodes("minority"), both_ways: true },
            ),
            (
                "leader -> clients",
                Links::Between { from: nodes("leader"), to: Side::Clients, both_ways: false },
            ),
        ] {
            assert_eq!(word.parse(), Ok(links));
            assert_eq!(links.to_string(), word);
        }
        for wrong in
            ["", "Halves", "n1->n2", "n1 <- n2", "n1 -> n2 -> n3", "clients", "n1 -> halves", "snapshotting"]
        {
            assert_eq!(wrong.parse::<Links>(), Err(UnknownLinks(wrong.into())));
        }
    }
}
