//! `replay`: the recorded plan of a run once more, or so many times that its rate of reproduction can be told.
//!
//! In: the arguments. Out: run folders, what became of each try, an [`Exit`]. Never: an unknown try counted as one that
//! held, or a try that a person cut short counted at all.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::attempt::{Attempt, Outcome, Scene, words};
use super::rate::Count;
use super::recorded::{ProgramsError, Recorded, usage};
use crate::cli::{self, Exit, ReplayArgs};
use crate::judging::{failed, with_causes};
use crate::run::{self, Interrupt};

pub fn replay(args: &ReplayArgs) -> io::Result<Exit> {
    let recorded = match Recorded::read(&args.run) {
        Ok(recorded) => recorded,
        Err(error) => return usage(&error),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(async {
        let programs = match recorded.programs(args.node.as_deref(), args.node_next.as_deref()).await {
            Ok(programs) => programs,
            Err(error @ ProgramsError::NoNext { .. }) => return usage(&error),
            Err(error) => return failed(&error),
        };
        recorded.compare(&programs)?;
        let scene = |out: &Path, interrupt| Scene {
            seed: recorded.info.seed,
            out: out.to_owned(),
            programs,
            interrupt,
            replay_of: recorded.origin(),
            wanted: recorded.violated(),
        };
        let interrupt = Interrupt::listen()?;
        match args.times {
            1 => once(&recorded, &scene(&args.out, interrupt)).await,
            times => {
                std::fs::create_dir_all(&args.out)?;
                let folder = tempfile::Builder::new().prefix(".replay-").tempdir_in(&args.out)?;
                many(&recorded, &scene(folder.path(), interrupt), times, &args.out).await
            }
        }
    });
    // Requests that no node will ever answer may still wait.
    runtime.shutdown_background();
    exit
}

/// As `run` would, told as `run` tells it.
async fn once(recorded: &Recorded, scene: &Scene) -> io::Result<Exit> {
    let attempt = scene.attempt(&recorded.scenario, recorded.plan.clone(), true).await?;
    let now = match &attempt.outcome {
        Outcome::Violated { checks, .. } => format!("the same, {}", words(checks)),
        Outcome::Another(checks) => format!("something else, {}", words(checks)),
        Outcome::Held => "holds".to_owned(),
        Outcome::Unknown => "unknown".to_owned(),
        Outcome::Failed => "the harness failed".to_owned(),
    };
    writeln!(anstream::stdout(), "\nReplay of {}, which {}; now: {now}", recorded.name(), was(recorded))?;
    Ok(attempt.exit)
}

fn was(recorded: &Recorded) -> String {
    recorded.violated().map_or("violated nothing".to_owned(), |check| format!("violated {check}"))
}

async fn many(recorded: &Recorded, scene: &Scene, times: u32, out: &Path) -> io::Result<Exit> {
    let mut errors = anstream::stderr();
    let scenario = &recorded.scenario;
    let (name, seed) = (recorded.name(), scene.seed);
    writeln!(errors, "{name}, which {}, {times} times again: {}", was(recorded), scenario.claim)?;
    let mut tally = Tally { times, ..Tally::default() };
    for number in 1..=times {
        let attempt = scene.attempt(scenario, recorded.plan.clone(), false).await?;
        if attempt.counts() {
            let first = tally.add(&attempt);
            let told = tally.told(&attempt.outcome);
            let (seconds, so_far) = (attempt.took.as_secs_f64(), tally.rate());
            writeln!(errors, "try {number} of {times}: {told} · {seconds:.1} s · {so_far} so far")?;
            if (attempt.is_violated() || first)
                && let Some(folder) = &attempt.folder
            {
                match run::adopt(folder, out, &scenario.name, seed) {
                    Ok(kept) => tally.kept.push((kept, told)),
                    Err(error) => writeln!(errors, "note: not kept: {}", with_causes(&error))?,
                }
            }
        }
        attempt.remove()?;
        if scene.interrupt.came() {
            break;
        }
    }
    writeln!(anstream::stdout(), "{}", Told { name: &name, was: was(recorded), tally: &tally })?;
    let missing = (tally.tries() < times).then_some(Exit::Unknown);
    Ok(cli::worst(tally.exits.iter().copied().chain(missing)))
}

/// What became of all tries.
#[derive(Debug, Default)]
struct Tally {
    times: u32,
    same: u32,
    /// By what was violated.
    another: BTreeMap<String, u32>,
    held: u32,
    unknown: u32,
    failed: u32,
    /// How often each check was violated in those that violated the same.
    checks: BTreeMap<String, u32>,
    exits: Vec<Exit>,
    kept: Vec<(PathBuf, String)>,
}

impl Tally {
    /// Whether it is the first one with this outcome.
    fn add(&mut self, attempt: &Attempt) -> bool {
        self.exits.push(attempt.exit);
        let count = match &attempt.outcome {
            Outcome::Violated { checks, .. } => {
                for check in checks {
                    *self.checks.entry(check.clone()).or_default() += 1;
                }
                &mut self.same
            }
            Outcome::Another(checks) => self.another.entry(words(checks)).or_default(),
            Outcome::Held => &mut self.held,
            Outcome::Unknown => &mut self.unknown,
            Outcome::Failed => &mut self.failed,
        };
        *count += 1;
        *count == 1
    }

    fn tries(&self) -> u32 {
        self.verdicts() + self.failed
    }

    fn verdicts(&self) -> u32 {
        self.same + self.another.values().sum::<u32>() + self.held + self.unknown
    }

    /// Of the tries that came to a verdict, also to that of unknown: they did not reproduce it.
    fn rate(&self) -> Count {
        Count { hits: self.same, of: self.verdicts() }
    }

    fn told(&self, outcome: &Outcome) -> String {
        match outcome {
            Outcome::Violated { checks, .. } => format!("violated {}", words(checks)),
            Outcome::Another(checks) => format!("violated something else, {}", words(checks)),
            Outcome::Held => "held".to_owned(),
            Outcome::Unknown => "unknown".to_owned(),
            Outcome::Failed => "the harness failed".to_owned(),
        }
    }
}

struct Told<'a> {
    name: &'a str,
    was: String,
    tally: &'a Tally,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { times, same, another, held, unknown, failed, checks, kept, .. } = self.tally;
        let tries = self.tally.tries();
        let early = if tries < *times { format!(" of {times}, interrupted") } else { String::new() };
        writeln!(f, "REPLAYED  {}, which {}: {tries} tries{early}", self.name, self.was)?;
        writeln!(f, "  {same:>6}  violated the same")?;
        for (check, count) in checks {
            writeln!(f, "          {check} in {count}")?;
        }
        for (checks, count) in another {
            writeln!(f, "  {count:>6}  violated something else: {checks}")?;
        }
        for (count, what) in
            [(held, "held"), (unknown, "unknown"), (failed, "without a verdict: the harness failed")]
        {
            if *count > 0 {
                writeln!(f, "  {count:>6}  {what}")?;
            }
        }
        writeln!(f, "Rate of reproduction: {}", self.tally.rate())?;
        for (folder, why) in kept {
            write!(f, "\nKept: {}  {why}", folder.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    fn attempt(outcome: Outcome, exit: Exit) -> Attempt {
        Attempt { outcome, exit, folder: None, took: Duration::ZERO, interrupted: false }
    }

    fn set(checks: &[&str]) -> BTreeSet<String> {
        checks.iter().map(|check| (*check).to_owned()).collect()
    }

    #[test]
    fn the_rate_counts_what_was_unknown_as_not_reproduced_and_failures_not_at_all() {
        let mut tally = Tally { times: 7, ..Tally::default() };
        let same = |checks: &[&str]| Outcome::Violated { checks: set(checks), at: None };
        let firsts: Vec<bool> = [
            attempt(same(&["vote-once"]), Exit::Violated),
            attempt(same(&["election-safety", "vote-once"]), Exit::Violated),
            attempt(Outcome::Another(set(&["no-crash"])), Exit::Violated),
            attempt(Outcome::Held, Exit::Holds),
            attempt(Outcome::Held, Exit::Holds),
            attempt(Outcome::Unknown, Exit::Unknown),
            attempt(Outcome::Failed, Exit::HarnessFailed),
        ]
        .iter()
        .map(|attempt| tally.add(attempt))
        .collect();
        assert_eq!(firsts, [true, false, true, true, false, true, true]);
        assert_eq!(tally.rate(), Count { hits: 2, of: 6 });
        let told = Told { name: "elections-1", was: "violated vote-once".into(), tally: &tally };
        assert_eq!(
            told.to_string(),
            "\
REPLAYED  elections-1, which violated vote-once: 7 tries
       2  violated the same
          election-safety in 1
          vote-once in 2
       1  violated something else: no-crash
       2  held
       1  unknown
       1  without a verdict: the harness failed
Rate of reproduction: 2 of 6 (33 %, 95 % interval 10 % to 70 %)
"
        );
    }

    #[test]
    fn what_is_cut_short_counts_only_when_it_was_violated_by_then() {
        let cut = |outcome| Attempt { interrupted: true, ..attempt(outcome, Exit::Unknown) };
        assert!(!cut(Outcome::Unknown).counts());
        assert!(!cut(Outcome::Held).counts());
        assert!(cut(Outcome::Violated { checks: set(&["vote-once"]), at: None }).counts());
        assert!(attempt(Outcome::Unknown, Exit::Unknown).counts());
    }
}
