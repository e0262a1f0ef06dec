//! What `shrink` tells: how it is going, what it found, and the scenario that it writes.
//!
//! In: a search. Out: text. Never: a number of its own.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use humantime::format_duration;

use super::attempt::words;
use super::rate::Tries;
use super::search::{End, Heard, Known, Search, Standing, Try};
use crate::scenario::{Plan, Scenario};

/// Between lines of progress where they are not rewritten.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Fewer tries than this say little by themselves.
const FEW: u32 = 5;

/// One line, rewritten on a terminal, and a line for each thing that was learned.
pub struct Progress {
    terminal: bool,
    plain_next: Instant,
}

impl Progress {
    pub fn new() -> Progress {
        Progress { terminal: io::stderr().is_terminal(), plain_next: Instant::now() + PLAIN_INTERVAL }
    }

    pub fn show(&mut self, standing: &Standing<'_>, left: Duration) {
        if !self.terminal && Instant::now() < self.plain_next {
            return;
        }
        let line = line(standing, left);
        let mut out = io::stderr().lock();
        // Nobody to tell is no reason to stop.
        let _ = if self.terminal { write!(out, "\r\x1b[K{line}") } else { writeln!(out, "{line}") };
        let _ = out.flush();
        self.plain_next = Instant::now() + PLAIN_INTERVAL;
    }

    pub fn event(&mut self, it: &Try, heard: Heard, search: &Search) -> io::Result<()> {
        self.clear();
        let best = search.standing().best;
        let how = if it.how.is_empty() { "the recorded plan" } else { &it.how };
        let told = match heard {
            Heard::Taken => format!("smaller    {how}: {}", size(&best.scenario)),
            Heard::GivenUp => format!("no         {how}"),
            Heard::Counted { hit } => {
                let word = if hit { "violated" } else { "missed" };
                format!("{word:<10} {how}: {} so far", best.fresh)
            }
            Heard::TakenBack => format!("back       {how}: it violates too seldom"),
            Heard::Missed | Heard::Nothing => return Ok(()),
        };
        self.plain_next = Instant::now() + PLAIN_INTERVAL;
        writeln!(io::stderr(), "try {:<4} {told}", it.number)
    }

    /// Leaves the terminal's line empty for what comes next.
    pub fn clear(&mut self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(standing: &Standing<'_>, left: Duration) -> String {
    let left = format_duration(Duration::from_secs(left.as_secs()));
    let Standing { tries, best, candidate } = standing;
    let trying = match candidate {
        Some((how, misses, most)) => format!("{how}? ({misses} of {most} tries missed)"),
        None if best.how.is_empty() => "how often does the recorded plan violate?".to_owned(),
        None => "how often does it violate?".to_owned(),
    };
    format!("{left} left · {tries} tries · {} · {trying}", size(&best.scenario))
}

/// `3 faults, 5s`
fn size(scenario: &Scenario) -> String {
    let (faults, duration) = (steps(scenario), format_duration(scenario.duration));
    format!("{faults} fault{}, {duration}", if faults == 1 { "" } else { "s" })
}

/// Those of its plan, which is the same for every seed.
fn steps(scenario: &Scenario) -> usize {
    Plan::of(scenario, 0).steps.len()
}

/// Tries that violated something else than what is sought.
#[derive(Debug)]
pub struct Other {
    pub checks: BTreeSet<String>,
    /// What was tried.
    pub how: String,
    /// Of the first of them.
    pub folder: PathBuf,
}

/// All that there is to tell in the end.
pub struct Result<'a> {
    /// The name of the recorded run's folder.
    pub run: &'a str,
    /// What it violated.
    pub wanted: &'a str,
    pub seed: u64,
    pub node: &'a Path,
    pub before: &'a Scenario,
    /// Of the recorded plan.
    pub steps: usize,
    pub search: &'a Search,
    pub took: Duration,
    pub end: End,
    pub interrupted: bool,
}

impl Result<'_> {
    /// The whole report. `file` is where the smaller scenario is, and `kept` the folder of a try of it.
    pub fn told(&self, file: Option<&Path>, kept: Option<&Path>, others: &[Other]) -> String {
        let mut text = String::new();
        let (recorded, wanted) = (self.search.recorded(), self.wanted);
        // To a String: it does not fail.
        let mut line = |told: String| writeln!(text, "{told}").unwrap_or_default();
        match self.search.found().zip(file) {
            Some((found, file)) => {
                line(format!("SHRUNK  {} to {}", self.run, file.display()));
                for (what, before, after) in self.sizes(&found.scenario) {
                    line(format!("  {what:<12}  {before:>8}  ->  {after}"));
                }
                line(format!("It violates {wanted} {}", how_often(found)));
            }
            None if recorded.fresh.hits > 0 => {
                line(format!("NOT SHRUNK  {}: nothing smaller violated", self.run))
            }
            None => line(format!("NOT REPRODUCED  {}: its plan did not violate {wanted} again", self.run)),
        }
        line(format!("The recorded plan violates it in {}", Tries(recorded.fresh)));
        let took = format_duration(Duration::from_secs(self.took.as_secs()));
        line(format!("{} tries in {took}; {}", self.search.standing().tries, self.why()));
        for Other { checks, how, folder } in others {
            let how = if how.is_empty() { "the recorded plan" } else { how };
            line(format!(
                "Also found, when trying {how}: {} violated, in {}",
                words(checks),
                folder.display()
            ));
        }
        if let Some(kept) = kept {
            line(format!("A run of it that was violated: {}", kept.display()));
        }
        if let Some(file) = file {
            let node = self.node.display();
            line(format!("Run it: mkraft-harness run {} --seed {} --node {node}", file.display(), self.seed));
        }
        text
    }

    fn why(&self) -> &'static str {
        match self.end {
            _ if self.interrupted => "interrupted",
            End::Smallest => "nothing that was left to try violates",
            End::OutOfTime => "the time is over, and more may be left to leave out",
            End::NotReproduced => "a rate of reproduction within the interval is not to be shrunk by",
            End::Failing => "the harness failed again and again",
        }
    }

    /// What is of another size now: what it is, before, after.
    fn sizes(&self, after: &Scenario) -> Vec<(&'static str, String, String)> {
        let before = self.before;
        let mut sizes = vec![
            ("faults", self.steps.to_string(), steps(after).to_string()),
            (
                "duration",
                format_duration(before.duration).to_string(),
                format_duration(after.duration).to_string(),
            ),
        ];
        let mut number = |what, before: u32, after: u32| {
            if before != after {
                sizes.push((what, before.to_string(), after.to_string()));
            }
        };
        number("nodes", before.cluster.nodes, after.cluster.nodes);
        number("spares", before.cluster.spares, after.cluster.spares);
        number("clients", before.workload.clients, after.workload.clients);
        number("rate", before.workload.rate, after.workload.rate);
        number("connections", before.workload.connections, after.workload.connections);
        let particulars = before.workload.kind.particulars().into_iter();
        for (before, after) in particulars.zip(after.workload.kind.particulars()) {
            number(before.word, before.value, after.value);
        }
        sizes
    }
}

/// `in 9 of 10 tries`: of those that nothing chose for what they showed, if there was time for any.
fn how_often(found: &Known) -> String {
    let Known { taken, fresh, .. } = found;
    let before = format!("in {} of the {} tries by which it was found", taken.hits, taken.of);
    match fresh.of {
        0 => before,
        1..FEW => format!("in {}, and {before}", Tries(*fresh)),
        _ => format!("in {}", Tries(*fresh)),
    }
}

/// A scenario that `run` can run, and says what it is.
pub fn scenario_text(result: &Result<'_>, found: &Known) -> String {
    let claim = format!("Violates {} {}; shrunk from {}.", result.wanted, how_often(found), result.run);
    let yaml = Scenario { claim, ..found.scenario.clone() }.to_yaml();
    let sizes: Vec<String> = result
        .sizes(&found.scenario)
        .into_iter()
        .map(|(what, before, after)| format!("{what} {before} -> {after}"))
        .collect();
    let from = format!("# From: {}. Its load was drawn by --seed {}.\n", sizes.join(", "), result.seed);
    match yaml.split_once('\n') {
        Some((claim, rest)) => format!("{claim}\n{from}{rest}"),
        None => yaml,
    }
}
