//! `faults: swarm`: every seed draws which kinds of faults a run has, and how they come.
//!
//! In: a [`Scenario`] and a seed. Out: rules, as somebody could have written them. Never: a fault that the cluster has
//! nobody for, or one that is not over before the load is.
//!
//! Each kind is in or out by a coin of its own (Groce et al., Swarm Testing, ISSTA 2012): a run that has all of them
//! finds less than many runs of which each leaves half of them out, since faults hide each other. What is drawn of a
//! kind, and whether it is in, hangs on the seed and the kind alone: a new kind leaves the others as they were. Two
//! things hang on all of them: which one is in where all coins say out, and when a mix strikes, and with what of it.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::manner::Term;
use super::words::{FAULT_FORMS, FaultForm, LinksForm, Words};
use super::{
    After, Choice, Disks, Fact, Fault, FaultKind, Faults, Keep, Links, Manner, Need, On, Phase, Phases, Rule,
    Scenario, Schedule, Shape, Side, Target, Trigger, Weighted, Whom, seed,
};

/// Shorter ones have no time for several faults and the quiet after them.
pub(super) const DURATION_MIN: Duration = Duration::from_secs(5);

/// Kinds that need more than a scenario can give: another binary.
const NEVER: &[FaultKind] = &[FaultKind::Upgrade];

/// Facts that come in any run before long.
const FACTS: &[Fact] = &[
    Fact::Elected,
    Fact::Term,
    Fact::Candidate,
    Fact::Append,
    Fact::CommitMore(1),
    Fact::CommitMore(100),
    Fact::WriteOk,
    Fact::ReadOk,
];

const HOLD_MAX_MS: u64 = 5_000;
const TIMES_MAX: u64 = 5;
const WEIGHT_MAX: u64 = 4;
const TERM_MIN_MS: u64 = 5;
const TERM_MAX_MS: u64 = 500;
const COUNT_MAX: u64 = 100;
/// Of `throttle`.
const RATE_KIB: (u64, u64) = (16, 1_024);

impl Scenario {
    /// The rules that a run with this seed has: its own, or those that a swarm draws.
    pub fn drawn(&self, seed: u64) -> Vec<Rule> {
        match &self.faults {
            Faults::Rules(rules) => rules.clone(),
            Faults::Swarm => Swarm::of(self).draw(forms(self), seed),
        }
    }
}

/// Those that a scenario gives all they need, on any machine but for its disks: what a seed draws must not hang on where it
/// is.
fn forms(scenario: &Scenario) -> impl Iterator<Item = &'static FaultForm> {
    let disks = scenario.cluster.disks == Disks::Simulated;
    let given = move |form: &&FaultForm| match form.kind.needs() {
        None => !NEVER.contains(&form.kind),
        Some(need) => disks && need == Need::Fuse,
    };
    FAULT_FORMS.iter().filter(given)
}

struct Swarm {
    nodes: u32,
    spares: u32,
    keep: Keep,
    /// Of the time in which faults strike: after it there is time for the last of them to be over, and for a quiet.
    striking_ms: u64,
    hold_max_ms: u64,
    after_max_ms: u64,
}

/// Of one kind, whatever becomes of the others.
struct Drawn {
    coin: u64,
    rule: Rule,
    /// Where it is in a mix.
    weight: u32,
}

/// Numbers for one purpose.
struct Draws(ChaCha8Rng);

impl Draws {
    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn below(&mut self, below: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(below)) >> u64::BITS) as u64
    }

    /// Both may come.
    fn from(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    fn milliseconds(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.from(least, most))
    }

    fn one<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
}

impl Swarm {
    fn of(scenario: &Scenario) -> Swarm {
        let duration_ms = scenario.duration.as_millis() as u64;
        let hold_max_ms = (duration_ms / 6).min(HOLD_MAX_MS);
        Swarm {
            nodes: scenario.cluster.nodes,
            spares: scenario.cluster.spares,
            keep: scenario.keep,
            striking_ms: duration_ms - hold_max_ms - duration_ms / 8,
            hold_max_ms,
            after_max_ms: duration_ms / 16,
        }
    }

    /// From those of `forms` that there is anybody for.
    fn draw<'f>(&self, forms: impl Iterator<Item = &'f FaultForm>, seed: u64) -> Vec<Rule> {
        let all: Vec<Drawn> = forms.filter_map(|form| self.kind(form, seed)).collect();
        let heads = u64::MAX / 2;
        // All out by their coins: the one that came nearest to being in.
        let nearest = all.iter().map(|drawn| drawn.coin).min().unwrap_or_default().max(heads);
        let kinds: Vec<Drawn> = all.into_iter().filter(|drawn| drawn.coin <= nearest).collect();
        let mut draws = Draws(seed::stream(seed, "swarm", 0));
        let rules = match draws.coin() {
            // So many kinds share one clock.
            true => mixed(kinds, self.schedule(&mut draws, 20)),
            false => kinds.into_iter().map(|drawn| drawn.rule).collect(),
        };
        rules.into_iter().map(|rule| self.in_time(rule)).collect()
    }

    fn kind(&self, form: &FaultForm, seed: u64) -> Option<Drawn> {
        let mut draws = Draws(seed::stream(seed, &format!("swarm {}", form.word), 0));
        let coin = draws.below(u64::MAX);
        let rule = self.rule(form, &mut draws)?;
        Some(Drawn { coin, rule, weight: draws.from(1, WEIGHT_MAX) as u32 })
    }

    /// Nothing strikes after the phase.
    fn in_time(&self, rule: Rule) -> Rule {
        let phase = Phase { length: Duration::from_millis(self.striking_ms), parallel: vec![rule] };
        Rule::Phases(Phases { at: Duration::ZERO, times: 1, phases: vec![phase] })
    }

    /// None when there is nobody for it.
    fn rule(&self, form: &FaultForm, draws: &mut Draws) -> Option<Rule> {
        let on_fact = draws.below(4) == 0;
        let target = self.whom(form, on_fact, draws)?;
        let manner = drawn(form.manner, draws);
        let hold = form
            .hold
            .as_ref()
            .map_or(Duration::ZERO, |hold| draws.milliseconds(100, self.hold_max_ms).max(hold.least));
        let choice = Choice::One(Fault { kind: form.kind, target, manner, hold: Some(hold), draw: None });
        if !on_fact {
            return Some(Rule::Strike { schedule: self.schedule(draws, 10), choice });
        }
        let on = On { fact: draws.one(FACTS), by: None, within: None };
        let at = draws.milliseconds(0, self.striking_ms / 2);
        let least = draws.from(0, self.after_max_ms);
        let most = draws.from(least, self.after_max_ms);
        let after = After { least: Duration::from_millis(least), most: Duration::from_millis(most) };
        let times = draws.from(1, TIMES_MAX) as u32;
        Some(Rule::Trigger(Trigger { at, on, after, times, choice }))
    }

    /// Of `parts` in the time to two thirds of it.
    fn schedule(&self, draws: &mut Draws, parts: u64) -> Schedule {
        let least = draws.from(self.striking_ms / parts, self.striking_ms / 3);
        let most = draws.from(least, 2 * least);
        Schedule::Between { least: Duration::from_millis(least), most: Duration::from_millis(most) }
    }

    fn whom(&self, form: &FaultForm, it: bool, draws: &mut Draws) -> Option<Whom> {
        let is_possible = match form.kind {
            // Fewer than two voters are never left.
            FaultKind::Remove => self.nodes > 2,
            _ => !form.needs_spare() || self.spares > 0,
        };
        if !is_possible {
            return None;
        }
        // Of nobody or of a node in the middle of something there may be none all through.
        let sure = |target: &Target| match target {
            Target::Learner | Target::Snapshotting => false,
            Target::Majority | Target::All => self.keep == Keep::Nothing,
            _ => true,
        };
        let mut targets: Vec<Target> = form.targets.iter().copied().filter(sure).collect();
        let of_members = targets.contains(&Target::Leader);
        if of_members {
            targets.push(Target::Node(draws.from(1, u64::from(self.nodes)) as u32));
            targets.extend(it.then_some(Target::It));
        }
        match form.links {
            None => {
                let there = |target: &Target| target.size(self.nodes, self.spares) > 0;
                let targets: Vec<Target> = targets.into_iter().filter(there).collect();
                (!targets.is_empty()).then(|| Whom::Nodes(draws.one(&targets)))
            }
            Some(takes) => self.links(takes, &targets, draws).map(Whom::Links),
        }
    }

    /// A shape, all links of some nodes, or two sides: each as likely, where it can be.
    fn links(&self, takes: LinksForm, targets: &[Target], draws: &mut Draws) -> Option<Links> {
        let nodes = targets.iter().map(|target| Side::Nodes(*target));
        let sides: Vec<Side> = nodes.chain([Side::Others, Side::Clients]).collect();
        let pairs = sides.iter().flat_map(|from| sides.iter().map(move |to| (*from, *to)));
        let arrows = pairs
            .flat_map(|(from, to)| [false, true].map(|both_ways| Links::Between { from, to, both_ways }));
        let families: [Vec<Links>; 3] = [
            Shape::WORDS.iter().map(|(_, shape)| Links::Shape(*shape)).collect(),
            targets.iter().map(|target| Links::Of(*target)).collect(),
            arrows.collect(),
        ];
        let fits = |links: &Links| takes.allows(*links, self.nodes, self.spares);
        let families = families.map(|family| family.into_iter().filter(fits).collect::<Vec<_>>());
        let possible: Vec<&Vec<Links>> = families.iter().filter(|family| !family.is_empty()).collect();
        (!possible.is_empty()).then(|| {
            let family = draws.one(&possible);
            draws.one(family)
        })
    }
}

/// What strikes by the clock takes turns by that of `schedule`, instead of each by a clock of its own.
fn mixed(kinds: Vec<Drawn>, schedule: Schedule) -> Vec<Rule> {
    let mut any = Vec::new();
    let mut rest = Vec::new();
    for Drawn { rule, weight, .. } in kinds {
        match rule {
            Rule::Strike { choice: Choice::One(fault), .. } => any.push(Weighted { weight, fault }),
            other => rest.push(other),
        }
    }
    if !any.is_empty() {
        rest.insert(0, Rule::Strike { schedule, choice: Choice::Any(any) });
    }
    rest
}

/// With each term drawn from what does something within seconds.
fn drawn(mut manner: Manner, draws: &mut Draws) -> Manner {
    for term in manner.terms() {
        match term {
            Term::Time { value, .. } => *value = draws.milliseconds(TERM_MIN_MS, TERM_MAX_MS),
            Term::Percent { value, most, .. } => *value = draws.from(0, u64::from(most)) as u32,
            Term::Size { value, .. } => *value = draws.from(RATE_KIB.0, RATE_KIB.1) << 10,
            Term::Count { value, range, .. } => {
                *value = draws.from(u64::from(*range.start()), u64::from(*range.end()).min(COUNT_MAX)) as u32;
            }
            Term::Word { value, .. } => value.set(draws.below(value.words().len() as u64) as usize),
            // Only kinds have this that no swarm has.
            Term::Rate { .. } => {}
        }
    }
    manner
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::{Act, Hold, Plan};
    use super::*;

    fn scenario(cluster: &str, more: &str, duration: &str) -> Scenario {
        let text = format!(
            "# A test.\nname: test\nduration: {duration}\ncluster: {cluster}\nworkload: {{ kind: register }}\n{more}\nfaults: swarm"
        );
        Scenario::parse("test.yaml", &text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn five() -> Scenario {
        scenario("{ nodes: 5, spares: 1 }", "", "60s")
    }

    #[test]
    fn a_thousand_seeds_make_a_thousand_plans() {
        let plans: BTreeSet<String> = (0..1_000).map(|seed| Plan::of(&five(), seed).to_jsonl()).collect();
        assert_eq!(plans.len(), 1_000);
    }

    #[test]
    fn each_kind_is_in_by_a_coin_and_every_two_kinds_meet_and_part() {
        let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
        let mut kinds_of = BTreeSet::new();
        for seed in 0..1_000 {
            let rules = five().drawn(seed);
            let kinds: BTreeSet<&str> =
                rules.iter().flat_map(Rule::faults).map(|fault| fault.kind.form().word).collect();
            assert!(!kinds.is_empty(), "seed {seed}");
            for kind in &kinds {
                *seen.entry(kind).or_default() += 1;
            }
            kinds_of.insert(kinds);
        }
        for form in forms(&five()) {
            let times = seen.get(form.word).copied().unwrap_or_default();
            assert!((400..=600).contains(&times), "{}: {times} of 1000", form.word);
        }
        assert!(kinds_of.len() > 950, "only {} sets of kinds", kinds_of.len());
    }

    /// `rule` as it is when the kind called `word` is no more; None when nothing is left of it.
    fn without(mut rule: Rule, word: &str) -> Option<Rule> {
        let is_other = |fault: &Fault| fault.kind.form().word != word;
        if let Rule::Phases(all) = &mut rule
            && let Rule::Strike { choice: Choice::Any(any), .. } = &mut all.phases[0].parallel[0]
        {
            any.retain(|weighted| is_other(&weighted.fault));
        }
        rule.faults().into_iter().any(is_other).then_some(rule)
    }

    #[test]
    fn without_one_kind_what_was_drawn_of_the_others_is_as_before() {
        let scenario = five();
        let swarm = Swarm::of(&scenario);
        let mut in_mixes = 0;
        for seed in 0..50 {
            let all = scenario.drawn(seed);
            for gone in forms(&five()) {
                let rest = swarm.draw(forms(&five()).filter(|form| form.word != gone.word), seed);
                let expected: Vec<Rule> =
                    all.iter().cloned().filter_map(|rule| without(rule, gone.word)).collect();
                assert_eq!(rest, expected, "seed {seed} without {}", gone.word);
                in_mixes += u32::from(rest.len() == all.len() && rest != all);
            }
        }
        assert!(in_mixes > 100, "only {in_mixes} of them were in a mix");
    }

    #[test]
    fn whatever_is_drawn_can_be_written_and_is_over_before_the_end() {
        for (cluster, more, duration) in [
            ("{ nodes: 1 }", "", "5s"),
            ("{ nodes: 2 }", "", "5s"),
            ("{ nodes: 3, spares: 1 }", "keep: quorum", "30s"),
            ("{ nodes: 5 }", "", "10m"),
            ("{ nodes: 15 }", "", "24h"),
        ] {
            let swarm = scenario(cluster, more, duration);
            let end = swarm.duration.as_nanos() as u64;
            for seed in 0..100 {
                let rules = swarm.drawn(seed);
                let written = Scenario { faults: Faults::Rules(rules), ..swarm.clone() };
                let read = Scenario::parse("drawn.yaml", &written.to_yaml());
                assert_eq!(read.unwrap_or_else(|error| panic!("{error}")), written);
                let plan = Plan::of(&swarm, seed);
                assert_eq!(plan, Plan::of(&written, seed));
                assert!(!plan.steps.is_empty());
                for step in plan.steps {
                    let begin = step.on.map_or(step.at, |watch| watch.until.unwrap() + step.after);
                    let Act::Strike { hold: Hold::For(hold), fault, target, .. } = step.act else {
                        panic!("{step:?}")
                    };
                    assert!(begin + hold <= end - end / 17, "seed {seed}: {fault} {target}");
                    let loses_quorum = matches!(&*target, "majority" | "all");
                    assert!(swarm.keep == Keep::Nothing || !loses_quorum, "seed {seed}: {fault} {target}");
                }
            }
        }
    }

    #[test]
    fn facts_shapes_mixes_and_it_all_come() {
        let lines: String =
            (0..200).flat_map(|seed| five().drawn(seed)).map(|rule| format!("{rule}\n")).collect();
        for word in
            ["on: elected", ": it", "it ->", "any: [", "halves", "ring", "clients", "pareto", "rate: "]
        {
            assert!(lines.contains(word), "{word} is in none of\n{lines}");
        }
    }
}
