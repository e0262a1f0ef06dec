//! The search against simulated worlds: a hidden set of steps that is needed, and a rate at which tries hit.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::super::smaller::pinned::{self, pinned};
use super::*;
use crate::scenario::{Plan, Rule, Step, WorkloadKind};

const HOUR: Duration = Duration::from_secs(3600);
/// Of a try, beyond its duration.
const OVERHEAD: Duration = Duration::from_secs(2);

/// What a violation takes, which the search does not know.
struct World {
    /// Targets of faults, all of which must strike in this order.
    needed: Vec<String>,
    /// Then it violates so often, ...
    rate: f64,
    /// ... and an eighth as often for each of these that does not strike.
    helpful: Vec<String>,
    clients_min: u32,
    nodes_min: u32,
    /// None of them may strike before this.
    warm_up: Duration,
    numbers: ChaCha8Rng,
}

impl World {
    fn new(needed: &[u32], rate: f64, seed: u64) -> World {
        let needed = needed.iter().map(|node| format!("n{node}")).collect();
        let numbers = ChaCha8Rng::seed_from_u64(seed);
        World {
            needed,
            rate,
            helpful: Vec::new(),
            clients_min: 1,
            nodes_min: 1,
            warm_up: Duration::ZERO,
            numbers,
        }
    }

    fn can_violate(&self, scenario: &Scenario) -> Option<Duration> {
        let mut needed = self.needed.iter().peekable();
        let mut shown = Duration::ZERO;
        for rule in rules(scenario).iter().filter(|rule| pinned::begin(rule) >= self.warm_up) {
            if needed.next_if(|target| **target == target_of(rule)).is_some() {
                shown = pinned::end(rule);
            }
        }
        let loaded = scenario.workload.clients >= self.clients_min;
        let sized = scenario.cluster.nodes >= self.nodes_min;
        (needed.next().is_none() && loaded && sized).then_some(shown)
    }

    fn rate_of(&self, scenario: &Scenario) -> f64 {
        let strikes = |node: &&String| targets(scenario).contains(node);
        let missing = self.helpful.len() - self.helpful.iter().filter(strikes).count();
        self.rate * 0.125_f64.powi(missing as i32)
    }

    fn answer(&mut self, scenario: &Scenario) -> Answer {
        let drawn = (self.numbers.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        match self.can_violate(scenario) {
            Some(shown) if drawn < self.rate_of(scenario) => Answer::Hit { shown: Some(shown) },
            _ => Answer::Miss,
        }
    }
}

/// A fault at each of `nodes` nodes, one after the other.
fn recorded(nodes: u32) -> Scenario {
    let text = format!(
        "# Something.\nname: something\nduration: {}s\ncluster: {{ nodes: {nodes} }}\n\
         workload: {{ kind: register, clients: 8, rate: 300 }}\n",
        2 * nodes + 3
    );
    let scenario = Scenario::parse("recorded.yaml", &text).unwrap();
    let step = |node: u32| {
        let at = u64::from(2 * node - 1) * 1_000_000_000;
        let json =
            format!(r#"{{"at":{at},"fault":"kill","target":"n{node}","hold":1000000000,"draw":{node}}}"#);
        serde_json::from_str::<Step>(&json).unwrap()
    };
    pinned(&scenario, &Plan { steps: (1..=nodes).map(step).collect() })
}

struct Outcome {
    end: End,
    found: Option<Known>,
    tries: u64,
    spent: Duration,
    search: Search,
}

/// With so many tries at a time; asserts what must hold of every search.
fn run(recorded: &Scenario, world: &mut World, total: Duration, jobs: usize) -> Outcome {
    let mut search = Search::new(recorded.clone(), total);
    let mut violated: Vec<Scenario> = Vec::new();
    let mut under_way: VecDeque<(Box<Try>, Duration)> = VecDeque::new();
    let (mut now, mut tries) = (Duration::ZERO, 0);
    let end = loop {
        let next = match under_way.len() < jobs {
            true => search.next(total.saturating_sub(now)),
            false => Next::Wait,
        };
        match next {
            Next::Try(it) => {
                tries += 1;
                let over = now + it.scenario.duration + OVERHEAD;
                under_way.push_back((it, over));
            }
            Next::Wait => {
                let (it, over) = under_way.pop_front().expect("a wait is for a try that is under way");
                now = now.max(over);
                let answer = world.answer(&it.scenario);
                if matches!(answer, Answer::Hit { .. }) {
                    violated.push(it.scenario.clone());
                }
                search.answer(it.number, answer, it.scenario.duration + OVERHEAD);
            }
            Next::Done(end) => break end,
        }
    };
    assert!(under_way.is_empty(), "an end leaves no try behind");
    assert_eq!(search.standing().tries, tries);
    let found = search.found().cloned();
    if let Some(found) = &found {
        assert!(violated.contains(&found.scenario), "what is found has violated");
        let hits = violated.iter().filter(|scenario| **scenario == found.scenario).count() as u32;
        assert_eq!(found.taken.hits + found.fresh.hits, hits);
        let again = Scenario::parse("", &found.scenario.to_yaml()).unwrap();
        assert_eq!(again, found.scenario, "what is found can be written");
    }
    Outcome { end, found, tries, spent: now, search }
}

fn target_of(rule: &Rule) -> String {
    rule.faults()[0].target.to_string()
}

fn targets(scenario: &Scenario) -> Vec<String> {
    rules(scenario).iter().map(target_of).collect()
}

#[test]
fn where_every_try_hits_just_what_is_needed_is_left() {
    for seed in 0..5 {
        let mut numbers = ChaCha8Rng::seed_from_u64(seed);
        let mut needed: Vec<u32> = (1..=15).filter(|_| numbers.next_u64() % 5 == 0).collect();
        needed.truncate(4);
        let mut world = World::new(&needed, 1.0, seed);
        let outcome = run(&recorded(15), &mut world, 20 * HOUR, 1 + seed as usize % 3);
        assert_eq!(outcome.end, End::Smallest);
        let found = outcome.found.unwrap().scenario;
        assert_eq!(targets(&found), world.needed, "seed {seed}");
        assert_eq!((found.workload.clients, found.workload.rate), (1, 5));
        let named = needed.last().copied().unwrap_or(1);
        assert_eq!(found.cluster.nodes, named, "nobody needs more nodes than those that are named");
        assert!(found.duration < Duration::from_secs(5), "seed {seed}: {:?}", found.duration);
        assert!(outcome.tries < 1500, "seed {seed}: {} tries", outcome.tries);
    }
}

#[test]
fn where_tries_often_miss_little_more_than_what_is_needed_is_left() {
    for (rate, minimal_min) in [(0.7, 4), (0.4, 4), (0.2, 3)] {
        let mut minimal = 0;
        for seed in 0..5 {
            let mut world = World::new(&[2, 7, 8], rate, seed);
            let outcome = run(&recorded(12), &mut world, 500 * HOUR, 2);
            // One of a hundred is so unlucky that nothing violates in the first tries.
            let Some(found) = outcome.found else { continue };
            assert!(world.can_violate(&found.scenario).is_some());
            minimal += u32::from(targets(&found.scenario) == world.needed);
            let (low, high) = found.fresh.interval().unwrap();
            // Of many intervals at 95 % a few miss; none misses by far.
            assert!(low - 0.15 < rate && rate < high + 0.15, "{} at {rate}", found.fresh);
        }
        assert!(minimal >= minimal_min, "at {rate}: {minimal} of 5 are minimal");
    }
}

#[test]
fn a_search_does_not_drift_to_what_hardly_ever_violates() {
    let (mut kept, mut larger) = (0, 0);
    for seed in 0..5 {
        let mut world = World::new(&[4], 0.9, seed);
        world.helpful = vec!["n2".to_owned(), "n9".to_owned()];
        let found = run(&recorded(10), &mut world, 200 * HOUR, 1).found.unwrap().scenario;
        let rate = world.rate_of(&found);
        kept += u32::from(rate > 0.4);
        larger += u32::from(rules(&found).len() > 4);
    }
    assert!(kept >= 4 && larger <= 1, "{kept} of 5 still violate as often, {larger} are too large");
}

#[test]
fn what_hits_neither_often_nor_seldom_is_settled_in_a_bounded_number_of_tries() {
    for (hit_each, expected) in [(2, Heard::Counted { hit: false }), (3, Heard::TakenBack)] {
        let recorded = recorded(4);
        let mut search = Search::new(recorded.clone(), 100 * HOUR);
        let (mut taken, mut tries) = (None, 0);
        let last = loop {
            let Next::Try(it) = search.next(100 * HOUR) else { panic!("one at a time never waits") };
            let hit = Answer::Hit { shown: None };
            if it.scenario == recorded || taken.is_none() {
                taken = (it.scenario != recorded).then(|| it.scenario.clone());
                search.answer(it.number, hit, OVERHEAD);
            } else if taken.as_ref() == Some(&it.scenario) {
                tries += 1;
                let answer = if tries % hit_each == 0 { hit } else { Answer::Miss };
                let heard = search.answer(it.number, answer, OVERHEAD);
                if heard == Heard::TakenBack || !search.doubted || search.worth() == Worth::Shown {
                    break heard;
                }
            } else {
                search.answer(it.number, Answer::Miss, OVERHEAD);
            }
            assert!(tries < 20, "{tries} tries settle nothing");
        };
        assert!(
            last == expected || matches!((last, expected), (Heard::Counted { .. }, Heard::Counted { .. }))
        );
    }
}

#[test]
fn what_needs_its_load_its_nodes_or_its_time_keeps_them() {
    for seed in 0..4 {
        let mut world = World::new(&[9], 1.0, seed);
        (world.clients_min, world.nodes_min) = (3, 9);
        world.warm_up = Duration::from_secs(10);
        let outcome = run(&recorded(9), &mut world, 50 * HOUR, 1);
        let found = outcome.found.unwrap().scenario;
        assert_eq!((targets(&found).as_slice(), found.cluster.nodes), (&["n9".to_owned()][..], 9));
        assert_eq!(found.workload.clients, 4, "a half is tried, not every number");
        let begin = pinned::begin(&rules(&found)[0]);
        assert!((10..=17).contains(&begin.as_secs()), "it may not be so early: {begin:?}");
    }
}

#[test]
fn the_time_is_kept_and_what_is_found_by_then_is_told_with_its_rate() {
    for minutes in [2, 5, 10, 30] {
        for seed in 0..3 {
            let mut world = World::new(&[3, 4], 0.8, seed);
            let total = Duration::from_secs(60 * minutes);
            let outcome = run(&recorded(12), &mut world, total, 1);
            assert!(outcome.spent <= total + Duration::from_secs(5), "{:?} of {total:?}", outcome.spent);
            if minutes >= 10 {
                let found = outcome.found.unwrap();
                assert!(found.scenario.duration < Duration::from_secs(15));
                assert!(found.fresh.of >= 3, "{minutes} minutes, seed {seed}: {}", found.fresh);
            }
        }
    }
}

#[test]
fn what_never_violates_again_is_no_result_and_costs_a_bounded_number_of_tries() {
    let mut world = World::new(&[1], 0.0, 1);
    let outcome = run(&recorded(5), &mut world, 100 * HOUR, 3);
    assert_eq!((outcome.end, outcome.found), (End::NotReproduced, None));
    assert_eq!(outcome.search.recorded().fresh, Count { hits: 0, of: TRIES_FIRST });
}

#[test]
fn a_candidate_is_given_up_after_as_many_misses_as_its_rate_demands() {
    for rate in [1.0, 0.5, 0.3] {
        let recorded = recorded(4);
        let mut search = Search::new(recorded.clone(), 900 * HOUR);
        let mut numbers = ChaCha8Rng::seed_from_u64(4);
        let (mut misses, mut first) = (0, None);
        let given_up = loop {
            let Next::Try(it) = search.next(800 * HOUR) else { panic!("one at a time never waits") };
            let drawn = (numbers.next_u64() % 1000) as f64 / 1000.0;
            let known = it.scenario == recorded;
            let answer = if known && drawn < rate { Answer::Hit { shown: None } } else { Answer::Miss };
            let heard = search.answer(it.number, answer, Duration::from_secs(12));
            if !known {
                misses += 1;
                assert_eq!(*first.get_or_insert(it.scenario.clone()), it.scenario);
            }
            if heard == Heard::GivenUp {
                break misses;
            }
        };
        let Count { hits, of } = search.recorded().fresh;
        let expected = f64::from(hits + 1) / f64::from(of + 2);
        assert_eq!(given_up, tries_to_doubt(expected), "at {rate}: {hits} of {of}");
    }
}

#[test]
fn failures_count_for_nothing_and_do_not_go_on_for_ever() {
    let mut search = Search::new(recorded(4), HOUR);
    for _ in 0..FAILURES_MAX {
        let Next::Try(it) = search.next(HOUR) else { panic!("it goes on") };
        assert_eq!(search.answer(it.number, Answer::Failed, OVERHEAD), Heard::Nothing);
    }
    assert_eq!(search.next(HOUR), Next::Done(End::Failing));
    assert_eq!(search.recorded().fresh, Count::default());
}

#[test]
fn a_result_that_does_not_violate_again_gives_way_to_the_one_before_it() {
    let recorded = recorded(2);
    let mut search = Search::new(recorded.clone(), 100 * HOUR);
    let mut lucky = 0;
    let end = loop {
        match search.next(100 * HOUR) {
            // All that is smaller violates once, and never again.
            Next::Try(it) => {
                let known = it.scenario == recorded;
                let first = !known && search.standing().candidate.is_some() && lucky < 1;
                lucky += u32::from(first);
                let answer = if known || first { Answer::Hit { shown: None } } else { Answer::Miss };
                search.answer(it.number, answer, OVERHEAD);
            }
            Next::Wait => panic!("one at a time never waits"),
            Next::Done(end) => break end,
        }
    };
    assert_eq!((lucky, end), (1, End::Smallest));
    assert_eq!(search.found(), None);
}

#[test]
fn of_a_script_only_the_moves_that_are_needed_are_left() {
    let text = "# A script.\nname: script\nduration: 20s\ncluster: { nodes: 5 }\nworkload: { kind: register }\nfaults:\n  \
         - { at: 1s, times: 4, steps: [ { name: old, isolate: leader }, \
         { on: elected, after: 100ms to 300ms, name: new, pause: it }, { after: 200ms, heal: old }, \
         { kill: n2, down: 100ms } ] }\n  - { at: 9s, kill: n3, down: 1s }\n";
    let scenario = Scenario::parse("script.yaml", text).unwrap();
    let first = pinned(&scenario, &Plan::of(&scenario, 3));
    let mut search = Search::new(first.clone(), 50 * HOUR);
    // What it takes: somebody is isolated, and whoever is elected then is paused.
    let violates = |scenario: &Scenario| {
        let acts: Vec<_> = Plan::of(scenario, 0).steps.iter().map(|step| step.act.to_string()).collect();
        let at = |act: &str| acts.iter().position(|other| other == act);
        at("isolate leader").zip(at("pause it")).is_some_and(|(isolated, paused)| isolated < paused)
    };
    assert!(violates(&first));
    let end = loop {
        match search.next(40 * HOUR) {
            Next::Try(it) => {
                let hit = Answer::Hit { shown: None };
                let answer = if violates(&it.scenario) { hit } else { Answer::Miss };
                search.answer(it.number, answer, it.scenario.duration + OVERHEAD);
            }
            Next::Wait => panic!("one at a time never waits"),
            Next::Done(end) => break end,
        }
    };
    assert_eq!(end, End::Smallest);
    let found = &search.found().unwrap().scenario;
    let acts: Vec<_> = Plan::of(found, 0).steps.iter().map(|step| step.act.to_string()).collect();
    assert_eq!(acts, ["isolate leader", "pause it", "heal all"], "{}", found.to_yaml());
}

#[test]
fn kinds_of_operations_that_are_not_needed_are_left_out() {
    let mut world = World::new(&[1], 1.0, 0);
    let found = run(&recorded(3), &mut world, 20 * HOUR, 1).found.unwrap().scenario;
    let WorkloadKind::Register(register) = found.workload.kind else { panic!("another load") };
    let shares = [register.read, register.write, register.cas];
    assert_eq!(shares.iter().filter(|share| **share > 0).count(), 1, "{shares:?}");
    assert_eq!((register.keys, found.workload.connections), (1, 1));
}
