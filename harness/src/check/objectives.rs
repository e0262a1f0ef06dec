//! What the scenario demands of service while faults come and go, and how often the leader may change.

use std::collections::BTreeMap;

use mkraft_proto::evidence::Role;

use super::about::About;
use super::evidence::{Act, Boot, Evidence, Fact, Kinds, NodeRef, history_witness, witness};
use super::recovery::outcome_of;
use super::service::{Service, Stretch, Wait, landed, served};
use super::verdict::{FINDINGS_MAX, Finding, Tally, Verdict, Witness, count};
use super::waited::{Came, Waited};
use crate::history::Operation;
use crate::scenario::{ANY, Expect, Limits};

/// Of what a finding has many of, the first ones are shown.
const SHOWN: usize = 3;

/// `leader-changes-max`, `serves-within`, `heals-within` and `service-min` of the scenario are kept.
///
/// Reads: the history with what the nemesis says of the quorum, the `role` lines, the scenario. Fails: naming the
/// `role` lines beyond, each fault or heal with the operations that were tried in its time in vain, the longest gaps
/// of service. Unknown: what is demanded was not measured: no fault of the kind was waited for, no time counts, a line
/// of the nemesis does not say whether a quorum was whole, a `role` line may be missing. Where nothing is demanded it
/// holds. Cannot see: service that nobody asked for; which of several faults at a time was to blame.
/// Cost: O(n log n) of operations and strikes for each bound, and O(n) for each finding that is kept.
pub fn objectives(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    let mut told = Vec::new();
    let expect = &evidence.scenario.expect;
    if let Some(most) = expect.leader_changes_max {
        told.extend(leaders(evidence, most, &mut tally));
    }
    if of_service(expect) {
        told.extend(measured(evidence, &mut tally));
    }
    if !of_service(expect) && expect.leader_changes_max.is_none() {
        tally.examined = 1;
        told.push("none is demanded".to_owned());
    }
    tally.verdict("nothing of what is demanded was measured", |_| told.join(", "))
}

fn of_service(expect: &Expect) -> bool {
    !expect.serves_within.is_empty() || !expect.heals_within.is_empty() || expect.service_min_percent > 0
}

/// The terms beyond the most that there may be.
fn leaders(evidence: &Evidence, most: u64, tally: &mut Tally) -> Option<String> {
    let mut terms: BTreeMap<u64, (NodeRef, &Boot, &Fact)> = BTreeMap::new();
    for (node, facts) in evidence.nodes() {
        for (boot, fact) in facts.facts() {
            if let Act::Role { term, role: Role::Leader } = fact.act {
                terms.entry(term).or_insert((node, boot, fact));
            }
        }
    }
    tally.doubt_gaps(evidence, Kinds::ROLE);
    tally.examined += terms.len() as u64;
    let changes = (terms.len() as u64).saturating_sub(1);
    let told = format!("{} (at most {most})", count(changes, "leader change"));
    if changes > most {
        let beyond =
            terms.iter().skip(usize::try_from(most).map_or(usize::MAX, |most| most.saturating_add(1)));
        let line = |(term, (node, boot, fact)): (&u64, &(NodeRef, &Boot, &Fact))| {
            let (name, at) = (evidence.name(*node), evidence.at(fact.t));
            witness(boot, fact, format!("{name} leads term {term} from {at}"))
        };
        let lines: Vec<Witness> = beyond.take(SHOWN).map(line).collect();
        let text = format!("{}; leader-changes-max is {most}", count(changes, "leader change"));
        tally.violated(Finding::new(text, lines));
    }
    Some(told)
}

fn measured(evidence: &Evidence, tally: &mut Tally) -> Vec<String> {
    let Some(service) = Service::of(evidence) else {
        let text = "run.json does not say when the load began and ended".to_owned();
        let line = Witness { file: "run.json".into(), line: 0, text: text.clone() };
        tally.doubt(Finding::new(text, [line]));
        return Vec::new();
    };
    if let Some(line) = service.untold {
        let text = "the nemesis does not say whether a quorum was whole";
        tally.doubt(Finding::new(text, [history_witness(line, "no `whole` in this act, or no end of it")]));
        return Vec::new();
    }
    let expect = &evidence.scenario.expect;
    let bounds = [
        Bounds {
            evidence,
            service: &service,
            key: "serves-within",
            limits: &expect.serves_within,
            waits: &service.struck,
            after: "was done",
        },
        Bounds {
            evidence,
            service: &service,
            key: "heals-within",
            limits: &expect.heals_within,
            waits: &service.healed,
            after: "was undone",
        },
    ];
    let mut told: Vec<String> = bounds.iter().flat_map(|bounds| bounds.kept(tally)).collect();
    if expect.service_min_percent > 0 {
        told.extend(share(evidence, &service, expect.service_min_percent, tally));
    }
    told
}

/// One key of the two that bound times by the kind of fault.
struct Bounds<'e> {
    evidence: &'e Evidence,
    service: &'e Service,
    key: &'static str,
    limits: &'e Limits,
    waits: &'e [Wait],
    /// `was done`
    after: &'static str,
}

impl Bounds<'_> {
    /// What is told when all is kept.
    fn kept(&self, tally: &mut Tally) -> Option<String> {
        let mut waited: BTreeMap<&str, u64> = self.limits.iter().map(|(word, _)| (word, 0)).collect();
        let mut open: BTreeMap<&str, Vec<Witness>> = BTreeMap::new();
        let mut waited_for: BTreeMap<u64, Waited<'_>> = BTreeMap::new();
        let operations = &self.evidence.history.operations;
        let (mut waits, mut slowest, mut broken) = (0, 0, 0);
        for wait in self.waits {
            let fault = &self.evidence.history.strikes[wait.fault];
            let Some((word, bound)) = self.limits.of(&fault.f) else { continue };
            let bound = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
            let new = || Waited::of(operations, self.service, bound);
            let waited_for = waited_for.entry(bound).or_insert_with(new);
            let came = waited_for.came(wait);
            if let Came::Open(why) = came {
                let line = history_witness(wait.line, format!("{}, and {why}", self.told(wait)));
                let open = open.entry(word).or_default();
                open.extend((open.len() < SHOWN).then(|| line.clone()));
                tally.note(Finding::new(line.text.clone(), [line]));
                continue;
            }
            tally.examined += 1;
            waits += 1;
            // A bound of its own is one for any kind, too.
            for word in [word, ANY] {
                waited.entry(word).and_modify(|waited| *waited += 1);
            }
            match came {
                Came::Broken(stretch) => {
                    broken += 1;
                    // A finding looks through the run, and those beyond are not kept.
                    match broken <= FINDINGS_MAX {
                        true => tally.violated(self.late(wait, stretch, waited_for).about(About::NotServed)),
                        false => tally.violated_more(1),
                    }
                }
                Came::Kept(took) => slowest = slowest.max(took),
                Came::Open(_) => {}
            }
        }
        self.limits.iter().next()?;
        for (word, bound) in self.limits.iter().filter(|(word, _)| waited.get(word) == Some(&0)) {
            let mut lines = open.remove(word).unwrap_or_default();
            let kind = if word == ANY { "fault" } else { word };
            let bound = humantime::format_duration(bound);
            let none = if lines.is_empty() { "none was seen" } else { "none could be waited for" };
            let none =
                format!("{} {word} is {bound}, and of each {kind} that {} {none}", self.key, self.after);
            if lines.is_empty() {
                lines.push(Witness { file: "history.jsonl".into(), line: 0, text: none.clone() });
            }
            tally.doubt(Finding::new(none, lines));
        }
        let (bounded, slowest) = (count(waits, "fault"), seconds(slowest));
        Some(format!("served at most {slowest} after each of {bounded} that {}", self.after))
    }

    fn told(&self, wait: &Wait) -> String {
        let fault = &self.evidence.history.strikes[wait.fault];
        let (step, at) = (fault.invoked.step.unwrap_or_default(), self.evidence.at(wait.since));
        format!("step {step} ({} {}) {} at {at}", fault.f, fault.invoked.target, self.after)
    }

    fn late(&self, wait: &Wait, stretch: Stretch, waited: &Waited<'_>) -> Finding {
        let (evidence, bound) = (self.evidence, waited.bound);
        let in_vain = wait.served != Some(stretch);
        let until = stretch.from.saturating_add(bound);
        let whole = match stretch.from > wait.since {
            true => format!(", a quorum was whole again at {}", evidence.at(stretch.from)),
            false => String::new(),
        };
        let became = match in_vain {
            true => format!("none did until {}", evidence.at(stretch.to)),
            false => format!("the first one succeeded after {}", seconds(stretch.length())),
        };
        let text = format!(
            "{}{whole}, and no operation succeeded within {}: {became}",
            self.told(wait),
            seconds(bound)
        );
        let mut lines = vec![history_witness(wait.line, self.told(wait))];
        let strikes = &evidence.history.strikes;
        let meanwhile = strikes.iter().enumerate().filter(|(place, strike)| {
            let within = strike.completed_at.is_some_and(|t| (wait.since..=until).contains(&t));
            *place != wait.fault && within && landed(strike)
        });
        lines.extend(meanwhile.take(SHOWN).filter_map(|(_, strike)| {
            let (t, line) = strike.completed_at.zip(strike.completion_line)?;
            let target = &strike.invoked.target;
            Some(history_witness(line, format!("meanwhile {} {target} at {}", strike.f, evidence.at(t))))
        }));
        let tried = waited.tried(stretch);
        lines.extend(tried.take(SHOWN).map(|operation| outcome_of(evidence, operation)));
        if !in_vain && let Some(line) = self.succeeded(stretch, waited).filter(|line| !lines.contains(line)) {
            lines.push(line);
        }
        Finding::new(text, lines)
    }

    /// The operation with which waiting ended.
    fn succeeded(&self, stretch: Stretch, waited: &Waited<'_>) -> Option<Witness> {
        let ends = |operation: &&Operation| served(operation) && operation.completed_at == Some(stretch.to);
        let operation = waited.invoked(stretch).find(ends)?;
        Some(outcome_of(self.evidence, operation))
    }
}

fn share(evidence: &Evidence, service: &Service, least: u32, tally: &mut Tally) -> Option<String> {
    let counted = service.counted_ns();
    if let Some(why) = service.unjudged() {
        let text = format!("service-min is {least}%, and {why}");
        let line = Witness { file: "history.jsonl".into(), line: 0, text: text.clone() };
        tally.doubt(Finding::new(text, [line]));
        return None;
    }
    let mut unserved = service.unserved();
    let without: u64 = unserved.iter().map(|(stretch, _)| stretch.length()).sum();
    tally.examined += 1;
    let found = 100.0 * counted.saturating_sub(without) as f64 / counted as f64;
    let told = format!("service in {found:.2}% of {} (at least {least}%)", seconds(counted));
    if u128::from(without) * 100 > u128::from(counted) * u128::from(100_u32.saturating_sub(least)) {
        unserved.sort_by_key(|(stretch, _)| std::cmp::Reverse(stretch.length()));
        let line = |(stretch, gap): &(Stretch, super::service::Gap)| {
            let operation = &evidence.history.operations[gap.asked];
            let (from, to) = (evidence.at(stretch.from), evidence.at(stretch.to));
            let text = format!("no service from {from} to {to}: {}", outcome_of(evidence, operation).text);
            history_witness(operation.invoke_line, text)
        };
        let text = format!(
            "there was service in {found:.2}% of the {} in which a quorum was whole; service-min is {least}%",
            seconds(counted)
        );
        let lines: Vec<Witness> = unserved.iter().take(SHOWN).map(line).collect();
        tally.violated(Finding::new(text, lines).about(About::NotServed));
    }
    Some(told)
}

fn seconds(ns: u64) -> String {
    format!("{:.3} s", ns as f64 / 1e9)
}
