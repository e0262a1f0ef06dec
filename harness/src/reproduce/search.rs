//! Which scenario to try next, given what the tries before it showed.
//!
//! In: a scenario that is said to violate, the time there is, and the answer of each try. Out: tries, and in the end
//! the smallest scenario that violated. Never: a clock, a run, or a result that has not violated in a try.
//!
//! A try of real processes may miss what another one of the same scenario hits, so each answer is a draw: a smaller
//! scenario is taken at its first hit, and given up only after as many misses as are unlikely where its rate is half of
//! the best one known. So the rate is measured first, and how many tries a step costs follows from it.
//!
//! One hit may be luck, and a chain of such ends at what hardly ever violates. So before something is given up in favour
//! of what was taken last, that must show about the best rate itself; what is unlikely to have half of it is taken back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::rate::{Count, tries_to_doubt};
use super::smaller::pinned::rules;
use super::smaller::{PASSES, Pass, Smaller, smaller};
use crate::scenario::Scenario;

/// So many hits of the recorded plan tell its rate well enough to begin with, ...
const HITS_FIRST: u32 = 3;
/// ... and after so many tries without one it is not sought further.
const TRIES_FIRST: u32 = 20;
/// Of the time, no more is spent on that once there was a hit.
const SHARE_FIRST: u32 = 4;
/// Of the result, so many tries tell how often it violates, in at most such a share of the time.
const TRIES_LAST: u32 = 10;
const SHARE_LAST: u32 = 4;
/// So many times as many tries as give a candidate up settle what one hit was worth.
const UNSETTLED: u32 = 2;
/// What was believed of a rate counts as so many tries.
const BELIEVED: f64 = 2.0;
/// Failures of the harness in a row, after which there is no sense in going on; and of one scenario in all.
const FAILURES_MAX: u32 = 6;
const FAILURES_OF_ONE_MAX: u32 = 2;
/// Of a search, whatever its time.
const TRIES_MAX: u64 = 100_000;
/// From the beginning to the end of a try, beyond its duration, before one was seen.
const OVERHEAD_FIRST: Duration = Duration::from_secs(3);

/// What a try of a scenario showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// What is sought was violated, and first shown at this time of the load, if that is known.
    Hit { shown: Option<Duration> },
    /// Anything else that a run can show.
    Miss,
    /// Nothing: there was no run.
    Failed,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    Try(Box<Try>),
    /// Nothing, until a try that is under way is answered.
    Wait,
    Done(End),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Try {
    pub number: u64,
    pub scenario: Scenario,
    /// What is tried, for a person.
    pub how: String,
}

/// Why a search is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing that is left to try violates.
    Smallest,
    OutOfTime,
    /// The recorded plan did not violate again.
    NotReproduced,
    /// There was no run again and again.
    Failing,
}

/// What an answer meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// One more of the best one known.
    Counted { hit: bool },
    /// It is the best one known now.
    Taken,
    /// It was, and hits too seldom.
    TakenBack,
    /// It may still be taken.
    Missed,
    /// It will not be tried again.
    GivenUp,
    /// It came too late to matter, or there was no run.
    Nothing,
}

/// A scenario that violated.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    pub scenario: Scenario,
    /// What was left out last; empty of the recorded plan.
    pub how: String,
    /// Tries by which it was chosen among others; none of the recorded plan.
    pub taken: Count,
    /// Those after them. Of the result, nothing chose them for what they showed.
    pub fresh: Count,
    /// The earliest and the latest time at which a try showed it.
    shown: Option<(Duration, Duration)>,
    /// What was believed of its rate before the first try.
    believed: f64,
    /// Where the search stood when it was taken.
    passes: Passes,
}

/// How a search stands, for a person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing<'a> {
    pub tries: u64,
    pub best: &'a Known,
    /// What is tried, how often it missed, and after how many misses it is given up; None while the best one itself is.
    pub candidate: Option<(&'a str, u32, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// How often does the recorded plan violate?
    First,
    Smaller,
    /// How often does the result? And why nothing smaller was sought.
    Last(End),
    Over(End),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    Shown,
    Missed,
    Open,
}

#[derive(Debug)]
struct Candidate {
    smaller: Smaller,
    misses: u32,
    failures: u32,
}

#[derive(Debug)]
pub struct Search {
    total: Duration,
    stage: Stage,
    /// Each smaller than the one before it; never empty. The first is the recorded plan, which may not have violated.
    known: Vec<Known>,
    passes: Passes,
    candidate: Option<Candidate>,
    /// Something was given up, and the best one has yet to show that it is better.
    doubted: bool,
    /// As they are written.
    given_up: BTreeSet<String>,
    /// Tries that have no answer yet: of which scenario.
    under_way: BTreeMap<u64, Scenario>,
    tries: u64,
    /// In a row.
    failures: u32,
    overhead: Duration,
}

impl Search {
    /// `total` is the time for all of it.
    pub fn new(recorded: Scenario, total: Duration) -> Search {
        let passes = Passes::over(&recorded);
        let first = Known {
            scenario: recorded,
            how: String::new(),
            taken: Count::default(),
            fresh: Count::default(),
            shown: None,
            believed: 0.5,
            passes: passes.clone(),
        };
        Search {
            total,
            stage: Stage::First,
            passes,
            known: vec![first],
            candidate: None,
            doubted: false,
            given_up: BTreeSet::new(),
            under_way: BTreeMap::new(),
            tries: 0,
            failures: 0,
            overhead: OVERHEAD_FIRST,
        }
    }

    /// What to do with `left` of the time.
    pub fn next(&mut self, left: Duration) -> Next {
        if self.tries >= TRIES_MAX {
            self.stop();
        }
        // Each time round, the stage or the candidate is another.
        loop {
            let next = match self.stage {
                Stage::First => self.next_first(left),
                Stage::Smaller => self.next_smaller(left),
                Stage::Last(why) => self.next_last(why, left),
                Stage::Over(_) if !self.under_way.is_empty() => Some(Next::Wait),
                Stage::Over(why) => Some(Next::Done(why)),
            };
            if let Some(next) = next {
                return next;
            }
        }
    }

    /// There will be no more tries.
    pub fn stop(&mut self) {
        if !matches!(self.stage, Stage::Over(_)) {
            self.stage = Stage::Over(End::OutOfTime);
        }
    }

    /// The smallest one that violated; None as long as only the recorded plan may have.
    pub fn found(&self) -> Option<&Known> {
        self.known.last().filter(|_| self.known.len() > 1)
    }

    /// Of the recorded plan.
    pub fn recorded(&self) -> &Known {
        &self.known[0]
    }

    pub fn standing(&self) -> Standing<'_> {
        let candidate = self.candidate.as_ref().map(|it| (&*it.smaller.how, it.misses, self.misses_max()));
        Standing { tries: self.tries, best: self.best(), candidate }
    }

    fn best(&self) -> &Known {
        self.known.last().expect("the recorded plan is never taken away")
    }

    fn next_first(&mut self, left: Duration) -> Option<Next> {
        let fresh = self.best().fresh;
        let spent = self.total.saturating_sub(left);
        let enough = match fresh.hits {
            0 => fresh.of >= TRIES_FIRST,
            hits => hits >= HITS_FIRST || spent >= self.total / SHARE_FIRST,
        };
        if enough && fresh.hits > 0 {
            self.stage = Stage::Smaller;
            return None;
        }
        let wanted = !enough && fresh.of + self.under_way_of_best() < TRIES_FIRST;
        match self.try_best(wanted, left) {
            Some(next) => Some(next),
            None if fresh.hits == 0 => self.over(End::NotReproduced),
            None => self.over(End::OutOfTime),
        }
    }

    fn next_smaller(&mut self, left: Duration) -> Option<Next> {
        if self.doubted {
            match self.worth() {
                Worth::Shown => self.doubted = false,
                // Of what has missed nothing is left; should it be, more tries tell.
                Worth::Open | Worth::Missed => {
                    let next = self.try_best(true, left);
                    if next.is_none() {
                        self.last(End::OutOfTime);
                    }
                    return next;
                }
            }
        }
        if self.candidate.is_none() {
            let given_up = &self.given_up;
            let best = self.known.last()?;
            let Some(smaller) = self
                .passes
                .next(best, |it| !given_up.contains(&it.scenario.to_yaml()) && it.can_be_written())
            else {
                // A drift may end here too.
                self.doubted = self.worth() != Worth::Shown;
                if !self.doubted {
                    self.last(End::Smallest);
                }
                return None;
            };
            self.candidate = Some(Candidate { smaller, misses: 0, failures: 0 });
        }
        let (scenario, how, misses) = {
            let Candidate { smaller, misses, .. } = self.candidate.as_ref()?;
            (smaller.scenario.clone(), smaller.how.clone(), *misses)
        };
        let under_way = self.under_way.values().filter(|other| **other == scenario).count() as u32;
        if misses + under_way >= self.misses_max() {
            return Some(Next::Wait);
        }
        let reserve = (self.cost(&self.best().scenario) * TRIES_LAST).min(self.total / SHARE_LAST);
        if self.cost(&scenario) + reserve > left {
            self.candidate = None;
            self.last(End::OutOfTime);
            return None;
        }
        Some(self.begin(scenario, how))
    }

    fn next_last(&mut self, why: End, left: Duration) -> Option<Next> {
        let wanted = self.best().fresh.of + self.under_way_of_best() < TRIES_LAST;
        match self.try_best(wanted, left) {
            Some(next) => Some(next),
            None => self.over(why),
        }
    }

    /// What showed that the best one is worth it was waited for, and says too much of its rate.
    fn last(&mut self, why: End) {
        self.stage = Stage::Last(why);
        if let [_, .., best] = self.known.as_mut_slice() {
            best.taken.hits += best.fresh.hits;
            best.taken.of += best.fresh.of;
            best.fresh = Count::default();
        }
    }

    /// Another try of the best one, or the wait for one; None when neither helps.
    fn try_best(&mut self, wanted: bool, left: Duration) -> Option<Next> {
        let Known { scenario, how, .. } = self.best();
        if wanted && self.cost(scenario) <= left {
            let (scenario, how) = (scenario.clone(), how.clone());
            return Some(self.begin(scenario, how));
        }
        (!self.under_way.is_empty()).then_some(Next::Wait)
    }

    fn over(&mut self, why: End) -> Option<Next> {
        self.stage = Stage::Over(why);
        None
    }

    fn begin(&mut self, scenario: Scenario, how: String) -> Next {
        self.tries += 1;
        self.under_way.insert(self.tries, scenario.clone());
        Next::Try(Box::new(Try { number: self.tries, scenario, how }))
    }

    /// How long a try will take.
    fn cost(&self, scenario: &Scenario) -> Duration {
        scenario.duration + self.overhead
    }

    fn under_way_of_best(&self) -> u32 {
        let best = &self.best().scenario;
        self.under_way.values().filter(|scenario| *scenario == best).count() as u32
    }

    /// The best one known: that of the recorded plan, or of what was tried often enough to be sure of a higher one.
    fn rate(&self) -> f64 {
        let often = |known: &&Known| known.fresh.of >= TRIES_LAST;
        let smaller = self.known.iter().skip(1).filter(often).map(Known::rate);
        smaller.fold(self.recorded().rate(), f64::max)
    }

    /// So many misses of a candidate are enough.
    fn misses_max(&self) -> u32 {
        tries_to_doubt(self.rate())
    }

    /// Whether the best one has shown that it hits about as often as any that is known. Where tries do not settle it,
    /// a rate that is neither is met: then half is enough.
    fn worth(&self) -> Worth {
        let (fresh, rate) = (self.best().fresh, self.rate());
        let half = f64::from(fresh.hits) >= f64::from(fresh.of) * rate / 2.0;
        match fresh.of >= UNSETTLED * self.misses_max() {
            _ if self.known.len() == 1 || fresh.shows(rate) => Worth::Shown,
            true if half => Worth::Shown,
            true => Worth::Missed,
            false if fresh.is_unlikely_at(rate / 2.0) => Worth::Missed,
            false => Worth::Open,
        }
    }

    /// To the one before it, when the best one has shown that it does not.
    fn take_back(&mut self) -> bool {
        let seldom = self.worth() == Worth::Missed;
        let Some(worse) = self.known.pop_if(|_| seldom) else { return false };
        self.given_up.insert(worse.scenario.to_yaml());
        self.passes = worse.passes;
        self.candidate = None;
        // What was given up for it alone, had it been better: the one before it has to show the same.
        self.doubted = true;
        if matches!(self.stage, Stage::Last(_)) {
            self.stage = Stage::Smaller;
        }
        true
    }

    /// What try `number` showed, and how long it `took` from beginning to end.
    pub fn answer(&mut self, number: u64, answer: Answer, took: Duration) -> Heard {
        let Some(scenario) = self.under_way.remove(&number) else { return Heard::Nothing };
        let hit = match answer {
            Answer::Failed => return self.failed(&scenario),
            Answer::Hit { shown } => Some(shown),
            Answer::Miss => None,
        };
        self.failures = 0;
        self.overhead = (self.overhead * 3 + took.saturating_sub(scenario.duration)) / 4;
        if let Some(known) = self.known.iter_mut().find(|known| known.scenario == scenario) {
            known.fresh.add(hit.is_some());
            if let Some(Some(shown)) = hit {
                known.saw(shown);
            }
            return match self.take_back() {
                true => Heard::TakenBack,
                false => Heard::Counted { hit: hit.is_some() },
            };
        }
        let Some(mut candidate) = self.candidate.take_if(|it| it.smaller.scenario == scenario) else {
            return Heard::Nothing;
        };
        let Some(shown) = hit else {
            candidate.misses += 1;
            return self.keep_or_give_up(candidate);
        };
        let Candidate { smaller, misses, .. } = candidate;
        let mut known = Known {
            taken: Count { hits: 1, of: misses + 1 },
            fresh: Count::default(),
            believed: self.rate(),
            shown: None,
            how: smaller.how,
            passes: self.passes.clone(),
            scenario,
        };
        if let Some(shown) = shown {
            known.saw(shown);
        }
        self.passes.taken(&known, smaller.place);
        self.known.push(known);
        Heard::Taken
    }

    fn failed(&mut self, scenario: &Scenario) -> Heard {
        self.failures += 1;
        if self.failures >= FAILURES_MAX {
            self.stage = Stage::Over(End::Failing);
        }
        if let Some(mut candidate) = self.candidate.take_if(|it| it.smaller.scenario == *scenario) {
            candidate.failures += 1;
            return self.keep_or_give_up(candidate);
        }
        Heard::Nothing
    }

    fn keep_or_give_up(&mut self, candidate: Candidate) -> Heard {
        if candidate.misses < self.misses_max() && candidate.failures < FAILURES_OF_ONE_MAX {
            self.candidate = Some(candidate);
            return Heard::Missed;
        }
        self.given_up.insert(candidate.smaller.scenario.to_yaml());
        self.doubted = true;
        Heard::GivenUp
    }
}

impl Known {
    /// As far as its fresh tries say, and what was believed before them.
    fn rate(&self) -> f64 {
        self.fresh.expected(self.believed, BELIEVED)
    }

    fn saw(&mut self, shown: Duration) {
        let (earliest, latest) = self.shown.unwrap_or((shown, shown));
        self.shown = Some((earliest.min(shown), latest.max(shown)));
    }
}

/// Goes over all that can be made smaller, pass by pass, until nothing in a whole sweep was.
#[derive(Debug, Clone, PartialEq)]
struct Passes {
    at: usize,
    /// Faults that are left out at a time.
    chunk: usize,
    /// Something was taken in this sweep.
    taken: bool,
    first_sweep: bool,
    queue: VecDeque<Smaller>,
    /// The queue has not been filled for what is known and done now.
    stale: bool,
    /// Of what was taken last in this pass.
    place: usize,
}

impl Passes {
    fn over(scenario: &Scenario) -> Passes {
        let chunk = coarsest(scenario);
        Passes {
            at: 0,
            chunk,
            taken: false,
            first_sweep: true,
            queue: VecDeque::new(),
            stale: true,
            place: 0,
        }
    }

    fn next(&mut self, best: &Known, fits: impl Fn(&Smaller) -> bool) -> Option<Smaller> {
        while self.at < PASSES.len() {
            if self.stale {
                self.fill(best);
            }
            while let Some(smaller) = self.queue.pop_front() {
                if fits(&smaller) {
                    return Some(smaller);
                }
            }
            self.turn(best);
        }
        None
    }

    fn fill(&mut self, best: &Known) {
        let mut all = smaller(&best.scenario, PASSES[self.at], self.chunk, best.shown);
        // What stood before it was tried a moment ago, beside it.
        all.sort_by_key(|smaller| smaller.place < self.place);
        self.queue = all.into();
        self.stale = false;
    }

    /// To smaller chunks, the next pass, the next sweep, or the end.
    fn turn(&mut self, best: &Known) {
        let in_chunks = matches!(PASSES[self.at], Pass::Steps | Pass::StepsInPlace);
        self.stale = true;
        self.place = 0;
        if in_chunks && self.chunk > 1 {
            self.chunk = self.chunk.div_ceil(2).min(self.chunk - 1);
            return;
        }
        self.at += 1;
        if self.at == PASSES.len() {
            if !self.taken {
                return;
            }
            (self.at, self.taken, self.first_sweep) = (0, false, false);
        }
        // What was needed in large pieces is not tried in them again.
        let coarse = self.first_sweep && !(self.taken && PASSES[self.at] == Pass::StepsInPlace);
        self.chunk = if coarse { coarsest(&best.scenario) } else { 1 };
    }

    fn taken(&mut self, known: &Known, place: usize) {
        self.taken = true;
        self.stale = true;
        self.place = place;
        self.chunk = self.chunk.min(rules(&known.scenario).len().max(1));
    }
}

/// A half. That no fault at all is needed is not likely, and costs least to see when there is one left.
fn coarsest(scenario: &Scenario) -> usize {
    rules(scenario).len().div_ceil(2).max(1)
}

#[cfg(test)]
mod tests;
