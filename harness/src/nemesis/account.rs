//! The account of what is broken at present, and whether the voters that are left can agree.
//!
//! In: what each step of the plan breaks, from before it does so until it is undone; and the configurations in force.
//! Out: whether some voters that run and reach each other are a majority of each. Never: a look at the cluster: who
//! died by itself is broken by no step, and is a finding.

use std::collections::{BTreeMap, BTreeSet};

/// A configuration of voters.
pub type Voters = BTreeSet<String>;

/// What one step breaks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Breakage {
    /// Nodes that do not run, or that no client reaches.
    nodes: BTreeMap<String, Lasts>,
    /// Between whom bytes do not pass as they should, one way or both. The lesser name first.
    pairs: BTreeSet<(String, String)>,
    /// Something stands between clients and nodes.
    hushes: bool,
    /// The voters that there are to be, until they are in force or never will be.
    voters: Option<Voters>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lasts {
    UntilUndone,
    /// Or until the node is started again, whoever does it: its starts were so many when it was broken.
    UntilStarted(u64),
}

impl Breakage {
    /// A node that does not run: for as long as the start of this number is its last.
    pub fn process(mut self, node: &str, start: u64) -> Breakage {
        self.nodes.insert(node.to_owned(), Lasts::UntilStarted(start));
        self
    }

    /// A node that counts for nothing until the step is undone, however often it starts.
    pub fn node(mut self, node: &str) -> Breakage {
        self.nodes.insert(node.to_owned(), Lasts::UntilUndone);
        self
    }

    pub fn pair(mut self, one: &str, other: &str) -> Breakage {
        let (lesser, greater) = if one < other { (one, other) } else { (other, one) };
        self.pairs.insert((lesser.to_owned(), greater.to_owned()));
        self
    }

    /// Clients do not reach some node as they should. A quorum may well be whole then; but who leads goes on leading,
    /// and need not serve.
    pub fn hush(mut self) -> Breakage {
        self.hushes = true;
        self
    }

    pub fn voters(mut self, voters: Voters) -> Breakage {
        self.voters = Some(voters);
        self
    }

    fn is_nothing(&self) -> bool {
        *self == Breakage::default()
    }
}

/// What the steps break that are not undone yet.
#[derive(Debug, Default)]
pub struct Account {
    broken: BTreeMap<u64, Breakage>,
}

impl Account {
    /// Takes down what `step` is about to break. With `keep`, not if no whole quorum would be left then: `Err` is who
    /// breaks the cluster already.
    pub fn claim(
        &mut self,
        step: u64,
        breakage: Breakage,
        sight: &Sight<'_>,
        keep: bool,
    ) -> Result<(), String> {
        if breakage.is_nothing() {
            return Ok(());
        }
        let before = self.broken.insert(step, breakage);
        let breaks = self.broken.get(&step).is_some_and(|breakage| *breakage != Breakage::default().hush());
        if !keep || !breaks || self.is_whole(sight) {
            return Ok(());
        }
        match before {
            None => self.broken.remove(&step),
            Some(before) => self.broken.insert(step, before),
        };
        Err(format!("it would leave no whole quorum: {}", self.told(sight)))
    }

    /// The step has broken nothing, or what it broke is undone.
    pub fn release(&mut self, step: u64) {
        self.broken.remove(&step);
    }

    /// The voters that the step was to bring are in force, or never will be.
    pub fn settle(&mut self, step: u64) {
        if let Some(breakage) = self.broken.get_mut(&step) {
            breakage.voters = None;
        }
    }

    pub fn release_all(&mut self) {
        self.broken.clear();
    }

    /// Whether a step stands between clients and nodes.
    pub fn hushes(&self) -> bool {
        self.broken.values().any(|breakage| breakage.hushes)
    }

    /// Whether some voters that run and reach each other are a majority of each configuration.
    pub fn is_whole(&self, sight: &Sight<'_>) -> bool {
        let to_be = self.broken.values().filter_map(|breakage| breakage.voters.as_ref());
        let configurations: Vec<&Voters> =
            sight.configurations.iter().copied().filter(|voters| !voters.is_empty()).chain(to_be).collect();
        let voters: BTreeSet<&str> =
            configurations.iter().flat_map(|voters| voters.iter().map(String::as_str)).collect();
        let voters: Vec<&str> = voters.into_iter().collect();
        assert!(voters.len() <= Nodes::BITS as usize, "{} voters are more than a scenario has", voters.len());
        let place = |name: &str| voters.binary_search(&name).ok();
        let majorities = configurations.iter().map(|voters| {
            let places = voters.iter().filter_map(|name| place(name));
            places.fold(0, |set: Nodes, place| set | 1 << place)
        });
        let broken: BTreeSet<&str> = self.nodes(sight).map(|(_, node)| node).collect();
        let run = (0..voters.len()).filter(|place| !broken.contains(voters[*place]));
        let run = run.fold(0, |set: Nodes, place| set | 1 << place);
        let mut apart = vec![0; voters.len()];
        for (one, other) in self.broken.values().flat_map(|breakage| &breakage.pairs) {
            if let (Some(one), Some(other)) = (place(one), place(other)) {
                apart[one] |= 1 << other;
                apart[other] |= 1 << one;
            }
        }
        has_quorum(run, &apart, &majorities.collect::<Vec<_>>())
    }

    /// With the step that broke it.
    fn nodes<'a>(&'a self, sight: &'a Sight<'_>) -> impl Iterator<Item = (u64, &'a str)> {
        let of = |(step, breakage): (&'a u64, &'a Breakage)| {
            breakage.nodes.iter().map(|(node, lasts)| (*step, node.as_str(), *lasts))
        };
        let lasts = |lasts, node: &str| match lasts {
            Lasts::UntilUndone => true,
            Lasts::UntilStarted(start) => (sight.start_count)(node) == start,
        };
        let all = self.broken.iter().flat_map(of);
        all.filter(move |(_, node, until)| lasts(*until, node)).map(|(step, node, _)| (step, node))
    }

    fn told(&self, sight: &Sight<'_>) -> String {
        let nodes = self.nodes(sight).map(|(step, node)| format!("{node} is broken by step {step}"));
        let pairs = self.broken.iter().flat_map(|(step, breakage)| {
            breakage.pairs.iter().map(move |(one, other)| format!("{one} <-> {other} by step {step}"))
        });
        let changes = self.broken.iter().filter(|(_, breakage)| breakage.voters.is_some());
        let changes = changes.map(|(step, _)| format!("step {step} changes the voters"));
        let told: Vec<String> = nodes.chain(pairs).chain(changes).collect();
        if told.is_empty() { "nothing is broken yet".to_owned() } else { told.join(", ") }
    }
}

/// What of the cluster counts for the account.
pub struct Sight<'a> {
    /// In force; one that is empty is none.
    pub configurations: [&'a Voters; 2],
    /// How often a node was started.
    pub start_count: &'a dyn Fn(&str) -> u64,
}

/// A set of voters, by their place.
type Nodes = u128;

/// Whether among `nodes` there are some of whom no two are `apart`, and who are a majority of each of `configurations`.
fn has_quorum(nodes: Nodes, apart: &[Nodes], configurations: &[Nodes]) -> bool {
    let is_majority = |all: &Nodes| 2 * (nodes & all).count_ones() > all.count_ones();
    if !configurations.iter().all(is_majority) {
        return false;
    }
    let from = |place: &usize| (apart[*place] & nodes).count_ones();
    let members = (0..apart.len()).filter(|place| nodes >> place & 1 == 1);
    match members.max_by_key(from).filter(|place| from(place) > 0) {
        None => true,
        // Either without whom the most are apart from, or without all of these.
        Some(place) => {
            has_quorum(nodes & !(1 << place), apart, configurations)
                || has_quorum(nodes & !apart[place], apart, configurations)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn voters(names: &str) -> Voters {
        names.split_whitespace().map(str::to_owned).collect()
    }

    fn nodes(names: &str) -> Breakage {
        names.split_whitespace().fold(Breakage::default(), |breakage, name| breakage.process(name, 1))
    }

    fn pairs(names: &[(&str, &str)]) -> Breakage {
        names.iter().fold(Breakage::default(), |breakage, (one, other)| breakage.pair(one, other))
    }

    /// Where every node was started once.
    fn with_sight<T>(voters: &Voters, outgoing: &Voters, look: impl FnOnce(&Sight<'_>) -> T) -> T {
        look(&Sight { configurations: [voters, outgoing], start_count: &|_| 1 })
    }

    #[test]
    fn whole_are_voters_that_run_and_reach_each_other_and_are_a_majority_of_each_configuration() {
        let alone = |node: &str, others: &str| {
            others.split_whitespace().fold(Breakage::default(), |broken, other| broken.pair(node, other))
        };
        let ring = || pairs(&[("n1", "n2"), ("n2", "n3"), ("n3", "n4"), ("n4", "n5"), ("n5", "n1")]);
        let cases: [(&str, &str, Vec<Breakage>, bool); 14] = [
            ("n1 n2 n3", "", vec![], true),
            ("n1 n2 n3", "", vec![nodes("n2")], true),
            ("n1 n2 n3", "", vec![nodes("n1 n2")], false),
            ("n1 n2 n3", "", vec![nodes("n1"), nodes("n3")], false),
            ("n1 n2 n3", "", vec![nodes("n4 n5")], true),
            ("n1 n2 n3 n4", "", vec![nodes("n1 n2")], false),
            ("n1 n2 n3", "", vec![alone("n1", "n2 n3")], true),
            ("n1 n2 n3", "", vec![alone("n1", "n2 n3"), nodes("n2")], false),
            // The one way that is left leads through n3.
            ("n1 n2 n3", "", vec![pairs(&[("n1", "n2")]), nodes("n3")], false),
            ("n1 n2 n3 n4 n5", "", vec![ring()], false),
            ("n1 n2 n3 n4 n5", "", vec![pairs(&[("n1", "n2"), ("n3", "n4")])], true),
            ("n2 n3 n4", "n1 n2 n3", vec![nodes("n1")], true),
            ("n2 n3 n4", "n1 n2 n3", vec![nodes("n3")], true),
            ("n2 n3 n4", "n1 n2 n3", vec![nodes("n1 n2")], false),
        ];
        for (of, outgoing, broken, expected) in cases {
            let mut account = Account::default();
            with_sight(&voters(of), &voters(outgoing), |sight| {
                for (step, breakage) in (0..).zip(broken) {
                    account.claim(step, breakage, sight, false).unwrap();
                }
                assert_eq!(account.is_whole(sight), expected, "{of}, {outgoing}: {account:?}");
            });
        }
    }

    #[test]
    fn what_two_steps_break_is_broken_until_both_are_undone() {
        let mut account = Account::default();
        with_sight(&voters("n1 n2 n3"), &Voters::new(), |sight| {
            let cut = || pairs(&[("n1", "n2"), ("n1", "n3"), ("n2", "n3")]);
            account.claim(1, cut(), sight, false).unwrap();
            account.claim(2, cut(), sight, false).unwrap();
            account.release(1);
            assert!(!account.is_whole(sight));
            account.release(2);
            assert!(account.is_whole(sight));
        });
    }

    #[test]
    fn a_node_that_was_started_again_is_broken_only_by_what_outlasts_a_start() {
        let (all, none) = (voters("n1 n2 n3"), Voters::new());
        let sight =
            |count: &'static dyn Fn(&str) -> u64| Sight { configurations: [&all, &none], start_count: count };
        let mut account = Account::default();
        let broken = Breakage::default().process("n1", 1).node("n2");
        account.claim(1, broken, &sight(&|_| 1), false).unwrap();
        assert!(!account.is_whole(&sight(&|_| 1)));
        assert!(account.is_whole(&sight(&|_| 2)));
        account.claim(2, Breakage::default().node("n1"), &sight(&|_| 2), false).unwrap();
        assert!(!account.is_whole(&sight(&|_| 9)));
    }

    #[test]
    fn a_quorum_that_is_to_be_kept_is_kept_with_the_reason_told() {
        let mut account = Account::default();
        with_sight(&voters("n1 n2 n3"), &Voters::new(), |sight| {
            account.claim(4, nodes("n2"), sight, true).unwrap();
            let refused = account.claim(5, pairs(&[("n1", "n3")]), sight, true).unwrap_err();
            assert_eq!(refused, "it would leave no whole quorum: n2 is broken by step 4");
            // What n2 had is lost already.
            account.claim(6, pairs(&[("n1", "n2")]), sight, true).unwrap();
            // Four that are to vote need three.
            let four = Breakage::default().voters(voters("n1 n2 n3 n4"));
            account.claim(7, four, sight, true).unwrap();
            let refused = account.claim(8, nodes("n4"), sight, true).unwrap_err();
            assert!(refused.ends_with("n1 <-> n2 by step 6, step 7 changes the voters"), "{refused}");
            account.settle(7);
            account.claim(8, nodes("n4"), sight, true).unwrap();
            assert!(account.is_whole(sight));
            // What breaks nothing is never refused.
            account.claim(9, Breakage::default(), sight, true).unwrap();
        });
    }

    const NAMES: [&str; 7] = ["n1", "n2", "n3", "n4", "n5", "n6", "n7"];

    fn name() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(&NAMES[..])
    }

    fn breakage() -> impl Strategy<Value = Breakage> {
        let nodes = proptest::collection::vec((name(), any::<bool>()), 0..3);
        let pairs = proptest::collection::vec((name(), name()), 0..8);
        let voters = proptest::option::weighted(0.1, proptest::sample::subsequence(&NAMES[..], 2..7));
        (nodes, pairs, voters).prop_map(|(nodes, pairs, voters)| {
            let broken = nodes.into_iter().fold(Breakage::default(), |broken, (node, lasts)| {
                if lasts { broken.node(node) } else { broken.process(node, 1) }
            });
            let broken = pairs
                .into_iter()
                .filter(|(one, other)| one != other)
                .fold(broken, |broken, (one, other)| broken.pair(one, other));
            match voters {
                None => broken,
                Some(voters) => broken.voters(voters.into_iter().map(str::to_owned).collect()),
            }
        })
    }

    fn configuration() -> impl Strategy<Value = Voters> {
        proptest::sample::subsequence(&NAMES[..], 1..=7)
            .prop_map(|names| names.into_iter().map(str::to_owned).collect())
    }

    /// By all the sets there are.
    fn is_whole_by_trial(broken: &BTreeMap<u64, Breakage>, configurations: &[&Voters]) -> bool {
        let to_be = broken.values().filter_map(|breakage| breakage.voters.as_ref());
        let configurations: Vec<&Voters> = configurations.iter().copied().chain(to_be).collect();
        (0_u32..1 << NAMES.len()).any(|set| {
            let has = |name: &str| NAMES.iter().position(|n| *n == name).is_some_and(|n| set >> n & 1 == 1);
            broken.values().all(|breakage| {
                !breakage.nodes.keys().any(|node| has(node))
                    && !breakage.pairs.iter().any(|(one, other)| has(one) && has(other))
            }) && configurations
                .iter()
                .all(|voters| 2 * voters.iter().filter(|name| has(name)).count() > voters.len())
        })
    }

    proptest! {
        #[test]
        fn whole_is_what_a_trial_of_every_set_of_voters_finds(
            of in configuration(),
            outgoing in proptest::option::of(configuration()),
            broken in proptest::collection::vec(breakage(), 0..4),
        ) {
            let mut account = Account::default();
            let outgoing = outgoing.unwrap_or_default();
            let whole = with_sight(&of, &outgoing, |sight| {
                for (step, breakage) in (0..).zip(broken) {
                    account.claim(step, breakage, sight, false).unwrap();
                }
                account.is_whole(sight)
            });
            let configurations: Vec<&Voters> =
                [&of, &outgoing].into_iter().filter(|voters| !voters.is_empty()).collect();
            prop_assert_eq!(whole, is_whole_by_trial(&account.broken, &configurations));
        }

        #[test]
        fn however_faults_overlap_a_kept_quorum_is_whole_at_every_moment(
            of in configuration(),
            acts in proptest::collection::vec((0..6_u64, proptest::option::weighted(0.7, breakage())), 1..40),
        ) {
            let mut account = Account::default();
            with_sight(&of, &Voters::new(), |sight| {
                for (step, act) in acts {
                    match act {
                        Some(breakage) => {
                            let before = account.broken.clone();
                            match account.claim(step, breakage, sight, true) {
                                Ok(()) => {}
                                Err(_) => assert_eq!(account.broken, before, "what is refused leaves nothing"),
                            }
                        }
                        None => account.release(step),
                    }
                    assert!(account.is_whole(sight), "{account:?}");
                }
            });
        }
    }
}
