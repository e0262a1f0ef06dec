//! What the seed decides about the faults, before anything is started.
//!
//! In: a [`Scenario`] and a seed. Out: [`Plan`]; `plan.jsonl` and back. Never: what the cluster does: who leads
//! when a fault strikes is found out then, and [`Step::draw`] decides among those that fit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Act, By, FaultKind, Heal, Name, Scenario, Step, Target, UnknownWhom, planning};

/// What the seed decided: a pure function of (scenario, seed). One line of `plan.jsonl` each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// By time; at the same time, in the order of the rules.
    pub steps: Vec<Step>,
}

/// A `plan.jsonl` that is not what a plan writes.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("{file}:{line}: expected a step of a plan: {source}")]
    Step { file: String, line: usize, source: serde_json::Error },
    #[error("{file}:{line}: {source}")]
    Target { file: String, line: usize, source: UnknownWhom },
    #[error("{file}:{line}: no step of this round before has the name `{name}`")]
    Name { file: String, line: usize, name: Name },
    #[error("{file}:{line}: the step comes before the one above it: expected steps by time")]
    Order { file: String, line: usize },
    #[error("{file}:{line}: the last line has no end: the file is cut")]
    Cut { file: String, line: usize },
}

impl Plan {
    pub fn of(scenario: &Scenario, seed: u64) -> Plan {
        Plan { steps: planning::steps(scenario, seed) }
    }

    /// Whether a second program is needed for it.
    pub fn upgrades(&self) -> bool {
        self.steps.iter().any(|step| step.fault().is_some_and(|(kind, _)| kind == FaultKind::Upgrade))
    }

    pub fn to_jsonl(&self) -> String {
        self.steps.iter().fold(String::new(), |mut text, step| {
            let line = serde_json::to_string(step).expect("a step has only numbers and words");
            let _ = writeln!(text, "{line}");
            text
        })
    }

    /// `file` is what messages call the text.
    pub fn from_jsonl(file: &str, text: &str) -> Result<Plan, PlanError> {
        let mut steps: Vec<Step> = Vec::new();
        let mut names = Names::default();
        for (line, json) in (1..).zip(text.split_inclusive('\n')) {
            let file = || file.to_owned();
            let json = json.strip_suffix('\n').ok_or_else(|| PlanError::Cut { file: file(), line })?;
            let step: Step = serde_json::from_str(json).map_err(|source| PlanError::Step {
                file: file(),
                line,
                source,
            })?;
            match names.check(&step) {
                Ok(()) => {}
                Err(Stranger::Target(source)) => {
                    return Err(PlanError::Target { file: file(), line, source });
                }
                Err(Stranger::Name(name)) => return Err(PlanError::Name { file: file(), line, name }),
            }
            if steps.last().is_some_and(|last| last.at > step.at) {
                return Err(PlanError::Order { file: file(), line });
            }
            steps.push(step);
        }
        Ok(Plan { steps })
    }
}

/// Which names the steps before have given, round by round.
#[derive(Default)]
struct Names(BTreeMap<(Option<u32>, u32), BTreeSet<Name>>);

/// What a step speaks of and nobody knows.
enum Stranger {
    Target(UnknownWhom),
    Name(Name),
}

impl Names {
    /// That whatever `step` speaks of is there; and keeps its name.
    fn check(&mut self, step: &Step) -> Result<(), Stranger> {
        let known = self.0.entry((step.script, step.round)).or_default();
        if let Some((fault, word)) = step.fault() {
            let whom = fault.whom(word).map_err(Stranger::Target)?;
            let strange = |target| match target {
                Target::It => step.on.is_none(),
                Target::Named(name) => !known.contains(&name),
                _ => false,
            };
            if whom.targets().any(strange) {
                return Err(Stranger::Target(fault.unknown(word)));
            }
        }
        let by = match step.on.and_then(|watch| watch.by) {
            Some(By::Named(name)) => Some(name),
            _ => None,
        };
        let healed = match step.act {
            Act::Heal(Heal::Named(name)) => Some(name),
            _ => None,
        };
        match by.into_iter().chain(healed).find(|name| !known.contains(name)) {
            Some(name) => Err(Stranger::Name(name)),
            None => {
                known.extend(step.name);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Faults, Hold, Rule};
    use super::*;

    /// Each with a hold of its own, by which the tests know whose a step is.
    const FAULTS: [&str; 4] = [
        "{ every: 2s, jitter: 50%, kill: leader, down: 1s }",
        "{ at: 5s, stop: n2, down: 3s }",
        "{ every: 6s, jitter: 20%, pause: follower, for: 2s }",
        "{ every: 300ms, jitter: 100%, restart: random }",
    ];

    fn scenario(faults: &[&str]) -> Scenario {
        let head = "# A test.\nname: test\nduration: 20s\nworkload: { kind: register }\nfaults:\n";
        let lines: String = faults.iter().map(|line| format!("  - {line}\n")).collect();
        Scenario::parse("test.yaml", &format!("{head}{lines}")).unwrap()
    }

    fn steps(faults: &[&str], seed: u64) -> Vec<Step> {
        Plan::of(&scenario(faults), seed).steps
    }

    fn rules(faults: &[&str]) -> Vec<Rule> {
        match scenario(faults).faults {
            Faults::Rules(rules) => rules,
            Faults::Swarm => panic!("{faults:?} are rules"),
        }
    }

    fn lasting(rule: &Rule) -> Hold {
        Hold::For(planning::nanoseconds(rule.faults()[0].hold.unwrap()))
    }

    fn hold(step: &Step) -> Hold {
        match step.act {
            Act::Strike { hold, .. } => hold,
            Act::Heal(_) | Act::Wait => panic!("{step:?} is no fault"),
        }
    }

    #[test]
    fn a_plan_is_the_same_for_ever() {
        let plan = Plan::of(&scenario(&FAULTS[1..3]), 7).to_jsonl();
        // Seeds in old reports mean these strikes.
        assert_eq!(
            plan,
            r#"{"at":5000000000,"fault":"stop","target":"n2","hold":3000000000,"draw":11817020402199619196}
{"at":5723067351,"fault":"pause","target":"follower","hold":2000000000,"draw":349364430860720080}
{"at":12151497680,"fault":"pause","target":"follower","hold":2000000000,"draw":17268283387862035767}
{"at":18875514147,"fault":"pause","target":"follower","hold":2000000000,"draw":9315902845944218403}
"#
        );
    }

    #[test]
    fn another_seed_makes_another_plan() {
        assert_eq!(steps(&FAULTS, 1), steps(&FAULTS, 1));
        assert_ne!(steps(&FAULTS, 1), steps(&FAULTS, 2));
    }

    #[test]
    fn without_one_rule_the_others_strike_as_before() {
        let all = steps(&FAULTS, 3);
        for (gone, rule) in rules(&FAULTS).iter().enumerate() {
            let mut rest = FAULTS.to_vec();
            rest.remove(gone);
            let expected: Vec<Step> =
                all.iter().filter(|step| hold(step) != lasting(rule)).cloned().collect();
            assert!(expected.len() < all.len());
            assert_eq!(steps(&rest, 3), expected, "without {rule}");
        }
    }

    #[test]
    fn without_one_of_two_scripts_or_triggers_that_are_nearly_the_same_the_other_is_as_before() {
        let script = |moves: &str| format!("{{ steps: [{moves}, {{ pause: follower }}] }}");
        let trigger = |rest: &str| format!("{{ on: elected, after: 0s to 9ms, times: 2, {rest} }}");
        let after = "after: 1us to 9s";
        for [one, other] in [
            ["on: elected, kill: leader", "on: term, kill: leader"]
                .map(|it| script(&format!("{{ {it}, {after} }}"))),
            ["n1", "n2"].map(|by| script(&format!("{{ on: elected, by: {by}, {after}, kill: leader }}"))),
            ["1s", "2s"]
                .map(|within| script(&format!("{{ on: term, within: {within}, {after}, kill: n1 }}"))),
            ["8s", "9s"].map(|most| script(&format!("{{ after: 1us to {most}, kill: leader }}"))),
            ["one", "two"].map(|name| script(&format!("{{ name: {name}, {after}, kill: leader }}"))),
            ["5ms", "6ms"].map(|by| script(&format!("{{ {after}, delay: random, by: {by} }}"))),
            ["5ms", "6ms"].map(|by| trigger(&format!("delay: random, by: {by}"))),
            ["n1", "n2"].map(|by| trigger(&format!("by: {by}, kill: random"))),
        ] {
            let numbers = |steps: Vec<Step>, script: u32| -> Vec<(u64, u64)> {
                let of = steps.into_iter().filter(|step| step.script == Some(script));
                of.map(|step| (step.after, step.draw)).collect()
            };
            let both = steps(&[&one, &other], 6);
            assert_eq!(numbers(steps(&[&one], 6), 0), numbers(both.clone(), 0), "without {other}");
            assert_eq!(numbers(steps(&[&other], 6), 0), numbers(both.clone(), 1), "without {one}");
            assert_ne!(numbers(both.clone(), 0), numbers(both, 1), "{one} and {other}");
        }
    }

    #[test]
    fn two_rules_alike_strike_apart() {
        let steps = steps(&[FAULTS[0], FAULTS[0]], 4);
        let times: std::collections::BTreeSet<u64> = steps.iter().map(|step| step.at).collect();
        assert_eq!(times.len(), steps.len());
    }

    #[test]
    fn a_longer_hold_strikes_at_the_same_times() {
        let [short, long] = ["1s", "2s"].map(|hold| {
            let line = format!("{{ every: 1s, jitter: 80%, pause: leader, for: {hold} }}");
            steps(&[&line], 5).into_iter().map(|step| (step.at, step.draw)).collect::<Vec<_>>()
        });
        assert_eq!(short, long);
    }

    #[test]
    fn without_jitter_strikes_come_at_the_interval_and_before_the_end() {
        let times: Vec<u64> = steps(&["{ every: 5s, kill: leader }"], 0).iter().map(|step| step.at).collect();
        assert_eq!(times, [5_000_000_000, 10_000_000_000, 15_000_000_000]);
    }

    proptest::proptest! {
        #[test]
        fn every_rule_strikes_at_least_once_in_order_and_before_the_end(seed: u64, interval_ms in 20u64..10_000) {
            let line = format!("{{ every: {interval_ms}ms, jitter: 99%, kill: leader }}");
            let steps = steps(&[&line], seed);
            let interval = interval_ms * 1_000_000;
            let times: Vec<u64> = std::iter::once(0).chain(steps.iter().map(|step| step.at)).collect();
            assert!(times.len() > 1);
            assert!(times.windows(2).all(|pair| pair[0] + interval / 100 <= pair[1] && pair[1] < pair[0] + 2 * interval));
            assert!(times.iter().all(|at| *at < 20_000_000_000));
        }
    }

    #[test]
    fn a_plan_reads_back_as_it_was_written() {
        let links = [
            "{ at: 1s, cut: halves, heal: reset }",
            "{ at: 2s, delay: n1 -> n2, by: 50ms, spread: 30%, distribution: pareto }",
            "{ at: 3s, throttle: clients <-> all, rate: 64KiB }",
            "{ at: 4s, flaky: ring }",
            "{ at: 5s, slow-close: leader, by: 1s }",
            "{ at: 6s, half-open: leader -> others }",
        ];
        for faults in [&FAULTS[..], &links] {
            let plan = Plan::of(&scenario(faults), 9);
            assert_eq!(Plan::from_jsonl("plan.jsonl", &plan.to_jsonl()).unwrap(), plan);
        }
        let delay = Plan::of(&scenario(&links[1..2]), 9).to_jsonl();
        let manner = r#""manner":{"delay":{"by_ns":50000000,"spread_percent":30,"distribution":"pareto"}}"#;
        assert!(delay.contains(manner), "{delay}");
    }

    #[test]
    fn a_damaged_plan_is_refused_by_line() {
        let good = r#"{"at":5,"fault":"kill","target":"leader","hold":1,"draw":7}"#;
        for (text, expected) in [
            (format!("{good}\n{good}"), "plan.jsonl:2: the last line has no end: the file is cut"),
            (
                format!("{good}\ngarbage\n"),
                "plan.jsonl:2: expected a step of a plan: expected value at line 1 column 1",
            ),
            (
                good.replace("leader", "boss") + "\n",
                "plan.jsonl:1: `boss` is not a target: expected leader, follower, learner, spare, random, minority, \
                 majority, snapshotting, all, or a node such as n2",
            ),
            (
                good.replace("kill", "cut").replace("leader", "leader <-> boss") + "\n",
                "plan.jsonl:1: `leader <-> boss` are no links: expected a node or nodes such as leader or n2; a \
                 shape such as halves; or two sides, as in `leader -> others` or `clients <-> n1`",
            ),
            (
                good.replace("leader", "it") + "\n",
                "plan.jsonl:1: `it` is not a target: expected leader, follower, learner, spare, random, minority, \
                 majority, snapshotting, all, or a node such as n2",
            ),
            (
                "{\"at\":5,\"script\":0,\"heal\":\"boss\",\"draw\":7}\n".to_owned(),
                "plan.jsonl:1: no step of this round before has the name `boss`",
            ),
            (
                format!("{good}\n{}\n", good.replace(":5", ":4")),
                "plan.jsonl:2: the step comes before the one above it: expected steps by time",
            ),
        ] {
            assert_eq!(Plan::from_jsonl("plan.jsonl", &text).unwrap_err().to_string(), expected);
        }
    }
}
