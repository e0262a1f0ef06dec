//! How soon and how much was served: after each fault, and while a quorum was whole.
//!
//! In: the history, the time of the load, what is settled time and what is slow. Out: [`Service`], plain times. Never:
//! a bound, a verdict.
//!
//! A quorum is whole when the nemesis says so in the line of an act, from that line to the next that says otherwise; of
//! an act that breaks it, from when the act begins. Before the first act it is whole: the load begins when the cluster
//! serves. Time in which it is whole comes in *stretches*.
//!
//! After a fault or a heal, *waiting* is from there to the first success of an operation invoked since, within one
//! stretch: who waits while a quorum is broken waits anew from the next stretch.
//!
//! A *gap* of service begins when somebody asks for the first time after the last success, and ends with the next one;
//! shorter ones are slow answers. So time in which nobody asks is none, at whatever rate.

use std::collections::BTreeMap;
use std::time::Duration;

use super::evidence::Evidence;
use crate::history::{Ended, History, Operation, StrikeOutcome, StrikeRecord};
use crate::scenario::{Cluster, FAULT_FORMS};

/// A returned quorum is given so many of the longest election timeouts: to see that nobody leads, and for a vote that is
/// split.
const SETTLING_TIMEOUTS: u32 = 4;
/// An answer that takes less is not missed, however short the election timeout.
const SLOW_LEAST: Duration = Duration::from_millis(100);

/// From a time to a later one, in the nanoseconds of the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub from: u64,
    pub to: u64,
}

/// What counts as what, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// Begin and end of the load.
    pub load: Stretch,
    /// Until a quorum that is whole again is expected to serve.
    pub settling_ns: u64,
    /// A gap is longer.
    pub slow_ns: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    pub load: Stretch,
    /// The first line of the nemesis that does not say whether a quorum was whole: it is taken to change nothing.
    pub untold: Option<u32>,
    /// When a quorum was whole: apart, and in order.
    pub whole: Vec<Stretch>,
    /// By stretch of `whole`: the first success of what was invoked in it, if it came before the stretch ended.
    pub first_success: Vec<Option<u64>>,
    /// Of `whole` what counts: without the settling after a return.
    pub counted: Vec<Stretch>,
    /// Less of what counts tells nothing.
    pub counted_least_ns: u64,
    /// Whether anybody asked in what counts.
    pub asked: bool,
    /// An answer that takes this long is not missed.
    pub slow_ns: u64,
    pub gaps: Vec<Gap>,
    /// After each fault that landed, in their order.
    pub struck: Vec<Wait>,
    /// After each of these that was undone.
    pub healed: Vec<Wait>,
}

/// Asked, and not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub stretch: Stretch,
    /// The first operation that was invoked in it, as a place in the history.
    pub asked: usize,
}

/// For the first success after a fault, or after its heal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// The fault, as a place among the history's strikes.
    pub fault: usize,
    /// When it was done, or undone, and the line that says so.
    pub since: u64,
    pub line: u32,
    /// The first stretch that ends with a success: from when it is waited for.
    pub served: Option<Stretch>,
    /// The longest stretch before that, or of all, in which nothing succeeded.
    pub in_vain: Option<Stretch>,
}

impl Stretch {
    pub fn length(self) -> u64 {
        self.to.saturating_sub(self.from)
    }

    fn meet(self, other: Stretch) -> Option<Stretch> {
        let both = Stretch { from: self.from.max(other.from), to: self.to.min(other.to) };
        (both.from < both.to).then_some(both)
    }
}

impl Measure {
    /// None when no load is recorded.
    pub fn of(evidence: &Evidence) -> Option<Measure> {
        let (from, to) = evidence.info.load_began_ns.zip(evidence.info.load_ended_ns)?;
        let Cluster { election_timeout, .. } = evidence.scenario.cluster;
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let longest = election_timeout.saturating_mul(2);
        (from < to).then(|| Measure {
            load: Stretch { from, to },
            settling_ns: ns(longest.saturating_mul(SETTLING_TIMEOUTS)),
            slow_ns: ns(SLOW_LEAST.max(election_timeout / 2)),
        })
    }
}

impl Service {
    /// None when no load is recorded.
    pub fn of(evidence: &Evidence) -> Option<Service> {
        Measure::of(evidence).map(|measure| Service::measured(&evidence.history, measure))
    }

    /// In O(n log n).
    pub fn measured(history: &History, measure: Measure) -> Service {
        let Measure { load, settling_ns, slow_ns } = measure;
        let (whole, untold) = whole(&history.strikes, load);
        let settled = |stretch: &Stretch| match stretch.from == load.from {
            true => Some(*stretch),
            false => {
                let from = stretch.from.saturating_add(settling_ns);
                (from < stretch.to).then_some(Stretch { from, ..*stretch })
            }
        };
        let counted: Vec<Stretch> = whole.iter().filter_map(settled).collect();
        let asked = counted.iter().any(|stretch| {
            let place = history.operations.partition_point(|operation| operation.invoked_at < stretch.from);
            history.operations.get(place).is_some_and(|operation| operation.invoked_at < stretch.to)
        });
        let waits = Waits::of(&history.operations, &whole, load);
        let landed = history.strikes.iter().enumerate().filter(|(_, strike)| landed(strike));
        let (mut struck, mut healed) = (Vec::new(), Vec::new());
        let heals = Heals::of(&history.strikes);
        for (fault, strike) in landed {
            let done = strike.completed_at.zip(strike.completion_line);
            struck.extend(done.and_then(|(since, line)| waits.after(fault, since, line)));
            healed.extend(heals.of_fault(strike).and_then(|(since, line)| waits.after(fault, since, line)));
        }
        Service {
            load,
            untold,
            gaps: gaps(&history.operations, load, slow_ns),
            first_success: waits.first_successes(),
            whole,
            counted,
            counted_least_ns: settling_ns,
            asked,
            slow_ns,
            struck,
            healed,
        }
    }

    /// Where what counts and the gaps meet, with the gap.
    pub fn unserved(&self) -> Vec<(Stretch, Gap)> {
        let mut found = Vec::new();
        let mut counted = self.counted.iter().copied().peekable();
        for gap in &self.gaps {
            while counted.peek().is_some_and(|stretch| stretch.to <= gap.stretch.from) {
                counted.next();
            }
            // The last one may reach into the next gap.
            while let Some(&stretch) = counted.peek().filter(|stretch| stretch.from < gap.stretch.to) {
                found.extend(stretch.meet(gap.stretch).map(|both| (both, *gap)));
                if stretch.to > gap.stretch.to {
                    break;
                }
                counted.next();
            }
        }
        found
    }

    pub fn counted_ns(&self) -> u64 {
        self.counted.iter().map(|stretch| stretch.length()).sum()
    }

    /// Why nothing can be said of the share of what counts in which there was service.
    pub fn unjudged(&self) -> Option<&'static str> {
        match () {
            () if self.counted_ns() < self.counted_least_ns.max(1) => {
                Some("no quorum was whole for long enough")
            }
            () if !self.asked => Some("nobody asked while one was whole"),
            () => None,
        }
    }
}

/// It was carried out; one that compared, and found something else, too.
pub fn served(operation: &Operation) -> bool {
    operation.ended == Ended::Ok || operation.seen.is_some()
}

/// A fault that was seen to have happened.
pub fn landed(strike: &StrikeRecord) -> bool {
    let outcome = strike.completed.as_ref().and_then(|completed| completed.outcome);
    &*strike.f != "heal" && outcome == Some(StrikeOutcome::Installed)
}

/// When a quorum was whole within the load, and the first line that should say it and does not.
fn whole(strikes: &[StrikeRecord], load: Stretch) -> (Vec<Stretch>, Option<u32>) {
    let mut said = Vec::new();
    let mut broken = Vec::new();
    let mut untold: Option<u32> = None;
    for strike in strikes {
        let told = strike.completed.as_ref().and_then(|completed| completed.whole);
        match strike.completed_at.zip(strike.completion_line).zip(told) {
            Some(((t, line), whole)) => {
                said.push((line, t, whole));
                if !whole {
                    broken.push(Stretch { from: strike.invoked_at, to: t });
                }
            }
            None => {
                let line = strike.completion_line.unwrap_or(strike.invoke_line);
                untold = Some(untold.map_or(line, |first| first.min(line)));
            }
        }
    }
    said.sort_unstable();
    let mut since = None;
    for (_, t, whole) in said {
        match (since, whole) {
            (None, false) => since = Some(t),
            (Some(from), true) => {
                broken.push(Stretch { from, to: t });
                since = None;
            }
            _ => {}
        }
    }
    broken.extend(since.map(|from| Stretch { from, to: u64::MAX }));
    broken.sort_unstable_by_key(|stretch| stretch.from);
    let mut whole = Vec::new();
    let mut from = load.from;
    for broken in broken {
        whole.extend(load.meet(Stretch { from, to: broken.from }));
        from = from.max(broken.to);
    }
    whole.extend(load.meet(Stretch { from, to: load.to }));
    (whole, untold)
}

/// When faults were undone: by their steps, and what is left by the last heal of everything.
struct Heals {
    of_steps: BTreeMap<u64, Option<(u64, u32)>>,
    last: Option<(u64, u32)>,
}

impl Heals {
    fn of(strikes: &[StrikeRecord]) -> Heals {
        let mut heals = Heals { of_steps: BTreeMap::new(), last: None };
        for heal in strikes.iter().filter(|strike| &*strike.f == "heal") {
            let outcome = heal.completed.as_ref().and_then(|completed| completed.outcome);
            let done = heal.completed_at.zip(heal.completion_line);
            let done = done.filter(|_| outcome == Some(StrikeOutcome::Installed));
            match heal.invoked.step {
                Some(step) => _ = heals.of_steps.entry(step).or_insert(done),
                None => heals.last = heals.last.or(done),
            }
        }
        heals
    }

    /// None when it ends by itself, or was undone by what was done for another one.
    fn of_fault(&self, strike: &StrikeRecord) -> Option<(u64, u32)> {
        let own = strike.invoked.step.and_then(|step| self.of_steps.get(&step));
        let lasts = || FAULT_FORMS.iter().any(|form| form.word == &*strike.f && form.hold.is_some());
        match own {
            Some(done) => *done,
            None => self.last.filter(|_| lasts()),
        }
    }
}

/// Answers when somebody who waits since some time is served.
struct Waits<'w> {
    /// When operations were invoked, in order, and when the first of those from there on succeeded.
    first_success: Vec<(u64, u64)>,
    whole: &'w [Stretch],
    /// By stretch: who waits from its beginning.
    from_stretch: Vec<(Option<Stretch>, Option<Stretch>)>,
}

impl<'w> Waits<'w> {
    fn of(operations: &[Operation], whole: &'w [Stretch], load: Stretch) -> Waits<'w> {
        let mut first_success = Vec::new();
        let mut first = u64::MAX;
        for operation in operations.iter().rev().filter(|operation| operation.invoked_at <= load.to) {
            if served(operation) {
                first = first.min(operation.completed_at.unwrap_or(u64::MAX));
            }
            first_success.push((operation.invoked_at, first));
        }
        first_success.reverse();
        let mut waits = Waits { first_success, whole, from_stretch: Vec::new() };
        let mut from_stretch = vec![(None, None); whole.len()];
        let mut next = (None, None);
        for (place, stretch) in whole.iter().enumerate().rev() {
            next = waits.within(*stretch, next);
            from_stretch[place] = next;
        }
        waits.from_stretch = from_stretch;
        waits
    }

    /// Served in this stretch, or in vain and then as from the next one on.
    fn within(
        &self,
        stretch: Stretch,
        next: (Option<Stretch>, Option<Stretch>),
    ) -> (Option<Stretch>, Option<Stretch>) {
        let place = self.first_success.partition_point(|(invoked, _)| *invoked < stretch.from);
        match self.first_success.get(place) {
            Some(&(_, success)) if success <= stretch.to => (Some(Stretch { to: success, ..stretch }), None),
            _ => {
                let longer = next.1.filter(|later| later.length() > stretch.length());
                (next.0, longer.or(Some(stretch)))
            }
        }
    }

    fn first_successes(&self) -> Vec<Option<u64>> {
        let within = |stretch: &Stretch| self.within(*stretch, (None, None)).0.map(|served| served.to);
        self.whole.iter().map(within).collect()
    }

    /// None when no quorum was whole any more.
    fn after(&self, fault: usize, since: u64, line: u32) -> Option<Wait> {
        let place = self.whole.partition_point(|stretch| stretch.to <= since);
        let stretch = self.whole.get(place)?;
        let (served, in_vain) = match stretch.from < since {
            true => {
                let next = self.from_stretch.get(place + 1).copied().unwrap_or_default();
                self.within(Stretch { from: since, ..*stretch }, next)
            }
            false => self.from_stretch[place],
        };
        Some(Wait { fault, since, line, served, in_vain })
    }
}

fn gaps(operations: &[Operation], load: Stretch, slow_ns: u64) -> Vec<Gap> {
    let mut successes: Vec<u64> = operations
        .iter()
        .filter(|operation| served(operation))
        .filter_map(|operation| operation.completed_at)
        .filter(|t| (load.from..load.to).contains(t))
        .collect();
    successes.sort_unstable();
    let mut gaps = Vec::new();
    let mut asked = operations.iter().enumerate().peekable();
    let mut since = load.from;
    for to in successes.into_iter().chain([load.to]) {
        while asked.next_if(|(_, operation)| operation.invoked_at < since).is_some() {}
        if let Some(&(place, operation)) = asked.peek() {
            let stretch = Stretch { from: operation.invoked_at, to };
            if stretch.length() > slow_ns {
                gaps.push(Gap { stretch, asked: place });
            }
        }
        since = to;
    }
    gaps
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::history::{Datum, Strike};

    const LOAD: Stretch = Stretch { from: 0, to: 1_000 };
    const MEASURE: Measure = Measure { load: LOAD, settling_ns: 100, slow_ns: 20 };

    fn stretches(times: &[(u64, u64)]) -> Vec<Stretch> {
        times.iter().map(|&(from, to)| Stretch { from, to }).collect()
    }

    /// Invoked, completed and whether it succeeded.
    fn operations(times: &[(u64, u64, bool)]) -> Vec<Operation> {
        let operation = |&(invoked_at, completed_at, ok): &(u64, u64, bool)| Operation {
            process: 0,
            f: "read".into(),
            key: None,
            value: Datum::NULL,
            result: Datum::NULL,
            seen: None,
            error: None,
            node: None,
            ticket: None,
            invoked_at,
            completed_at: Some(completed_at),
            ended: if ok { Ended::Ok } else { Ended::Fail },
            invoke_line: 1,
            completion_line: Some(2),
        };
        times.iter().map(operation).collect()
    }

    /// f, step, from when to when, and what it says of the quorum.
    pub type Act = (&'static str, Option<u64>, u64, u64, Option<bool>);

    /// Lines are in the order of completion.
    fn strikes(acts: &[Act]) -> Vec<StrikeRecord> {
        let record = |(line, &(f, step, from, to, whole)): (u32, &Act)| {
            let outcome = Some(StrikeOutcome::Installed);
            let invoked = Strike {
                step,
                target: "leader".into(),
                nodes: Vec::new(),
                outcome: None,
                detail: String::new(),
                whole: None,
            };
            StrikeRecord {
                f: f.into(),
                completed: Some(Strike { outcome, whole, ..invoked.clone() }),
                invoked,
                invoked_at: from,
                completed_at: Some(to),
                invoke_line: 100 + line * 2,
                completion_line: Some(101 + line * 2),
            }
        };
        (0..).zip(acts).map(record).collect()
    }

    pub fn history(times: &[(u64, u64, bool)], acts: &[Act]) -> History {
        History { operations: operations(times), strikes: strikes(acts), lines: 0 }
    }

    /// With a load from 0 to 1000, settling in 100, and answers that may take 20.
    pub fn measured(history: &History) -> Service {
        Service::measured(history, MEASURE)
    }

    fn service(times: &[(u64, u64, bool)], acts: &[Act]) -> Service {
        measured(&history(times, acts))
    }

    #[test]
    fn a_quorum_is_broken_from_the_begin_of_an_act_to_the_end_of_its_heal() {
        let cases: [(&[_], &[_], &[_]); 4] = [
            (&[], &[(0, 1_000)], &[(0, 1_000)]),
            (
                &[("kill", Some(0), 200, 210, Some(false)), ("heal", Some(0), 300, 320, Some(true))],
                &[(0, 200), (320, 1_000)],
                // It has to settle first.
                &[(0, 200), (420, 1_000)],
            ),
            // The first heal leaves one fault; a return that is over before it has settled counts for nothing.
            (
                &[
                    ("pause", Some(0), 200, 210, Some(true)),
                    ("cut", Some(1), 205, 215, Some(false)),
                    ("heal", Some(0), 300, 310, Some(false)),
                    ("heal", Some(1), 400, 410, Some(true)),
                    ("kill", Some(2), 500, 505, Some(false)),
                ],
                &[(0, 205), (410, 500)],
                &[(0, 205)],
            ),
            (&[("kill", Some(0), 0, 5, Some(false))], &[], &[]),
        ];
        for (acts, whole, counted) in cases {
            let service = service(&[], acts);
            assert_eq!(service.whole, stretches(whole), "{acts:?}");
            assert_eq!(service.counted, stretches(counted), "{acts:?}");
            assert_eq!(service.untold, None);
        }
        let silent = service(&[], &[("kill", Some(0), 10, 20, Some(true)), ("kill", Some(1), 30, 40, None)]);
        assert_eq!(silent.untold, Some(103));
    }

    #[test]
    fn a_gap_is_from_the_first_who_asks_in_vain_to_the_next_success() {
        let cases: [(&[_], &[_]); 5] = [
            // Nobody asks for long, and each is served soon.
            (&[(10, 20, true), (500, 510, true), (990, 995, true)], &[]),
            (&[(10, 20, true), (100, 101, false), (150, 160, true)], &[(100, 160)]),
            // Slow, and no gap.
            (&[(10, 20, true), (100, 120, true)], &[]),
            // What was asked before the last success tells nothing; what is asked since does.
            (&[(10, 400, false), (15, 30, true), (200, 210, true), (600, 700, false)], &[(600, 1_000)]),
            (&[(50, 60, false)], &[(50, 1_000)]),
        ];
        for (times, expected) in cases {
            let found: Vec<_> = service(times, &[]).gaps.iter().map(|gap| gap.stretch).collect();
            assert_eq!(found, stretches(expected), "{times:?}");
        }
    }

    #[test]
    fn only_what_counts_of_a_gap_is_without_service() {
        let acts = [("kill", Some(0), 200, 200, Some(false)), ("heal", Some(0), 300, 300, Some(true))];
        let times = [(0, 5, true), (150, 500, true), (600, 650, true), (990, 992, true)];
        let unserved: Vec<_> = service(&times, &acts).unserved().iter().map(|(both, _)| *both).collect();
        assert_eq!(unserved, stretches(&[(150, 200), (400, 500), (600, 650)]));
    }

    #[test]
    fn a_share_needs_as_much_time_as_settling_takes_and_somebody_who_asks_in_it() {
        let short = [("kill", Some(0), 99, 99, Some(false))];
        let enough = [("kill", Some(0), 100, 100, Some(false))];
        let cases: [(&[_], &[_], Option<&str>); 5] = [
            (&[(10, 20, true)], &short, Some("no quorum was whole for long enough")),
            (&[(10, 20, true)], &enough, None),
            (&[(100, 110, true)], &enough, Some("nobody asked while one was whole")),
            (&[], &[], Some("nobody asked while one was whole")),
            (&[(999, 999, false)], &[], None),
        ];
        for (times, acts, expected) in cases {
            assert_eq!(service(times, acts).unjudged(), expected, "{times:?} {acts:?}");
        }
    }

    #[test]
    fn a_wait_begins_anew_when_a_quorum_is_whole_again() {
        let kill = ("kill", Some(0), 100, 100, Some(true));
        let broken = [
            kill,
            ("cut", Some(1), 150, 150, Some(false)),
            ("heal", Some(1), 300, 300, Some(true)),
            ("heal", None, 800, 800, Some(true)),
        ];
        let wait = |times: &[(u64, u64, bool)], acts: &[_]| {
            let service = service(times, acts);
            (service.struck[0].served, service.struck[0].in_vain)
        };
        let stretch = |from, to| Some(Stretch { from, to });
        // What was asked before the fault, or while no quorum was whole, is no answer.
        assert_eq!(wait(&[(90, 120, true), (110, 130, true)], &[kill]), (stretch(100, 130), None));
        let late = [(90, 120, true), (110, 160, true), (200, 310, true), (305, 340, true)];
        assert_eq!(wait(&late, &broken), (stretch(300, 340), stretch(100, 150)));
        assert_eq!(wait(&[(110, 120, false)], &broken), (None, stretch(300, 1_000)));
        let healed = service(&[(810, 815, true)], &broken).healed;
        assert_eq!(healed.iter().map(|wait| wait.since).collect::<Vec<_>>(), [800, 300]);
        assert_eq!(healed[0].served, stretch(800, 815));
    }

    #[test]
    fn what_was_skipped_or_ends_by_itself_is_not_waited_for() {
        let mut acts = strikes(&[
            ("kill", Some(0), 100, 100, Some(true)),
            ("transfer", Some(1), 200, 200, Some(true)),
            ("heal", None, 800, 800, Some(true)),
        ]);
        acts[0].completed.as_mut().unwrap().outcome = Some(StrikeOutcome::Skipped);
        let history = History { operations: Vec::new(), strikes: acts, lines: 0 };
        let service = Service::measured(&history, MEASURE);
        assert_eq!(service.struck.iter().map(|wait| wait.fault).collect::<Vec<_>>(), [1]);
        assert_eq!(service.healed, []);
    }
}
