//! One try to reproduce: a run, and what it showed.
//!
//! In: a scenario, its plan, and where the run folder goes. Out: [`Attempt`]. Never: a verdict of its own: the judge's
//! is taken as it is.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::moment::first_shown;
use super::recorded::Programs;
use crate::check::{Overall, Results};
use crate::cli::Exit;
use crate::history::folder::{Origin, RunFolder};
use crate::run::{self, Interrupt, Run};
use crate::scenario::{Plan, Scenario};

/// What all tries of a command share.
pub struct Scene {
    pub seed: u64,
    /// Where the run folders of tries go.
    pub out: PathBuf,
    pub programs: Programs,
    pub interrupt: Interrupt,
    pub replay_of: Origin,
    /// The check that the recorded run violated, and nothing explains; None when it violated none.
    pub wanted: Option<String>,
}

/// What became of a try.
#[derive(Debug)]
pub struct Attempt {
    pub outcome: Outcome,
    pub exit: Exit,
    pub folder: Option<PathBuf>,
    pub took: Duration,
    /// A person ended it before its time.
    pub interrupted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// What the recorded run violated, among all that this one did; first shown at this time of the load, if known.
    Violated {
        checks: BTreeSet<String>,
        at: Option<Duration>,
    },
    /// Something, and nothing of that.
    Another(BTreeSet<String>),
    Held,
    Unknown,
    /// The harness could not do its work.
    Failed,
}

impl Scene {
    pub async fn attempt(&self, scenario: &Scenario, plan: Plan, aloud: bool) -> io::Result<Attempt> {
        let run = Run {
            scenario,
            plan,
            seed: self.seed,
            out: &self.out,
            system: &self.programs.system,
            next: self.programs.next.as_ref(),
            interrupt: self.interrupt.clone(),
            replay_of: Some(self.replay_of.clone()),
            aloud,
        };
        let began = Instant::now();
        let run::Done { folder, exit, results, .. } = run.carry_out().await?;
        let outcome = match (&folder, &results) {
            (Some(folder), Some(results)) => self.outcome(&RunFolder::new(folder), results),
            _ => Outcome::Failed,
        };
        let interrupted = self.interrupt.came();
        Ok(Attempt { outcome, exit, folder, took: began.elapsed(), interrupted })
    }

    fn outcome(&self, folder: &RunFolder, results: &Results) -> Outcome {
        match results.overall {
            Overall::Holds => Outcome::Held,
            Overall::Unknown | Overall::Skipped => Outcome::Unknown,
            Overall::HarnessFailed => Outcome::Failed,
            Overall::Violated => {
                let checks = violated(results);
                match &self.wanted {
                    Some(wanted) if checks.contains(wanted) => {
                        Outcome::Violated { at: first_shown(folder, results, wanted), checks }
                    }
                    _ => Outcome::Another(checks),
                }
            }
        }
    }
}

impl Attempt {
    pub fn is_violated(&self) -> bool {
        matches!(self.outcome, Outcome::Violated { .. } | Outcome::Another(_))
    }

    /// Nothing is learned from what was cut short, unless it was violated by then.
    pub fn counts(&self) -> bool {
        self.is_violated() || !self.interrupted
    }

    /// Unless its folder has moved elsewhere.
    pub fn remove(&self) -> io::Result<()> {
        match self.folder.as_ref().map_or(Ok(()), fs::remove_dir_all) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// `durability, linearizability`
pub fn words(checks: &BTreeSet<String>) -> String {
    checks.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The checks of which something is violated that nothing else explains.
pub fn violated(results: &Results) -> BTreeSet<String> {
    roots(results).collect()
}

/// The same in the order of the judge, causes before consequences.
pub fn roots(results: &Results) -> impl Iterator<Item = String> {
    let roots = results.checks.iter().filter(|check| check.roots().next().is_some());
    roots.map(|check| check.name.clone())
}
