//! `shrink`: finds a smaller scenario that violates what a run violated, by trying real ones.
//!
//! In: the arguments. Out: a scenario that `run` can run, with how often it violates; an [`Exit`]. Never: a decision what
//! to try next, which is [`search`](super::search)'s, or a scenario written that has not violated.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::attempt::{Attempt, Outcome, Scene};
use super::recorded::{ProgramsError, Recorded, usage};
use super::search::{Answer, End, Heard, Next, Search, Try};
use super::smaller::pinned;
use super::told::{Other, Progress, Result, scenario_text};
use crate::cli::{Exit, ShrinkArgs};
use crate::history::folder;
use crate::judging::failed;
use crate::run::{self, Interrupt};
use crate::scenario::{Plan, Scenario};

/// Folders of violated tries that are kept until it is known which one is worth it.
const FOLDERS_MAX: usize = 3;
/// Kinds of other violations that are told.
const OTHERS_MAX: usize = 8;
/// How often the line of progress is looked at.
const TICK: Duration = Duration::from_millis(200);
/// Files of one name beside a run.
const NAMES_MAX: u32 = 10_000;

pub fn shrink(args: &ShrinkArgs) -> io::Result<Exit> {
    let recorded = match Recorded::read(&args.run) {
        Ok(recorded) => recorded,
        Err(error) => return usage(&error),
    };
    let Some(wanted) = recorded.violated() else {
        let run = args.run.display();
        writeln!(
            anstream::stderr(),
            "error: {run} violated nothing: expected a run that did, to make it smaller"
        )?;
        return Ok(Exit::Usage);
    };
    let first = pinned(&recorded.scenario, &recorded.plan);
    if let Err(error) = Scenario::parse("the plan as a scenario", &first.to_yaml()) {
        return failed(&error);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(async {
        let programs = match recorded.programs(args.node.as_deref(), args.node_next.as_deref()).await {
            Ok(programs) => programs,
            Err(error @ ProgramsError::NoNext { .. }) => return usage(&error),
            Err(error) => return failed(&error),
        };
        recorded.compare(&programs)?;
        let beside = recorded.root.parent().unwrap_or(Path::new(".")).to_owned();
        let folder = tempfile::Builder::new().prefix(".shrink-").tempdir_in(&beside)?;
        let scene = Scene {
            seed: recorded.info.seed,
            out: folder.path().to_owned(),
            programs,
            interrupt: Interrupt::listen()?,
            replay_of: recorded.origin(),
            wanted: Some(wanted.clone()),
        };
        let total = Duration::from_secs(60 * u64::from(args.minutes));
        let shrinking = Shrinking {
            search: Search::new(first, total),
            scene: Arc::new(scene),
            total,
            began: Instant::now(),
            folders: Vec::new(),
            others: Vec::new(),
            progress: Progress::new(),
        };
        shrinking.carry_out(&recorded, &wanted, args, &beside).await
    });
    // Requests that no node will ever answer may still wait.
    runtime.shutdown_background();
    exit
}

/// A try that has ended.
type Tried = (Box<Try>, io::Result<Attempt>);

struct Shrinking {
    search: Search,
    scene: Arc<Scene>,
    total: Duration,
    began: Instant,
    /// Of tries that violated what is sought, the newest last.
    folders: Vec<(Scenario, PathBuf)>,
    /// Tries that violated something else.
    others: Vec<Other>,
    progress: Progress,
}

impl Shrinking {
    async fn carry_out(
        mut self,
        recorded: &Recorded,
        wanted: &str,
        args: &ShrinkArgs,
        beside: &Path,
    ) -> io::Result<Exit> {
        let name = recorded.name();
        writeln!(anstream::stderr(), "{name}, which violated {wanted}: how often does its plan do so?")?;
        let end = self.seek(args.jobs as usize).await?;
        self.progress.clear();
        let kept = self.keep(beside)?;
        let result = Result {
            run: &name,
            wanted,
            seed: self.scene.seed,
            node: &self.scene.programs.system.program,
            before: &recorded.scenario,
            steps: recorded.plan.steps.len(),
            search: &self.search,
            took: self.began.elapsed(),
            end,
            interrupted: self.scene.interrupt.came(),
        };
        let file = match self.search.found() {
            None => None,
            Some(_) => Some(write(&result, args.out.as_deref(), beside)?),
        };
        let mut out = anstream::stdout();
        write!(out, "{}", result.told(file.as_deref(), kept.as_deref(), &self.others))?;
        Ok(match end {
            _ if self.search.recorded().fresh.hits > 0 => Exit::Violated,
            End::Failing => Exit::HarnessFailed,
            _ => Exit::Unknown,
        })
    }

    /// Tries until the search has nothing more to try.
    async fn seek(&mut self, jobs: usize) -> io::Result<End> {
        let mut under_way: JoinSet<Tried> = JoinSet::new();
        loop {
            if self.scene.interrupt.came() {
                self.search.stop();
            }
            let next = match under_way.len() < jobs {
                true => self.search.next(self.left()),
                false => Next::Wait,
            };
            match next {
                Next::Done(end) => return Ok(end),
                Next::Try(it) => {
                    let scene = self.scene.clone();
                    under_way.spawn(async move {
                        let plan = Plan::of(&it.scenario, scene.seed);
                        let attempt = scene.attempt(&it.scenario, plan, false).await;
                        (it, attempt)
                    });
                }
                Next::Wait => match self.answered(&mut under_way).await {
                    Some((it, attempt)) => self.hear(*it, &attempt?)?,
                    // Nobody will answer any more.
                    None => self.search.stop(),
                },
            }
        }
    }

    /// The next try that ends, while the progress is shown; a panic of one is a bug that ends all.
    async fn answered(&mut self, under_way: &mut JoinSet<Tried>) -> Option<Tried> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                joined = under_way.join_next() => return joined.map(|joined| match joined {
                    Ok(answered) => answered,
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }),
                _ = ticks.tick() => self.progress.show(&self.search.standing(), self.left()),
            }
        }
    }

    fn hear(&mut self, it: Try, attempt: &Attempt) -> io::Result<()> {
        let answer = match &attempt.outcome {
            Outcome::Violated { at, .. } => Answer::Hit { shown: *at },
            _ if !attempt.counts() => Answer::Failed,
            Outcome::Another(_) | Outcome::Held | Outcome::Unknown => Answer::Miss,
            Outcome::Failed => Answer::Failed,
        };
        let heard = self.search.answer(it.number, answer, attempt.took);
        if matches!(heard, Heard::Taken | Heard::TakenBack | Heard::GivenUp | Heard::Counted { .. }) {
            self.progress.event(&it, heard, &self.search)?;
        }
        match (&attempt.outcome, &attempt.folder) {
            (Outcome::Violated { .. }, Some(folder)) => self.hold(it.scenario, folder.clone()),
            (Outcome::Another(checks), Some(folder)) => {
                if self.others.len() < OTHERS_MAX && self.others.iter().all(|other| other.checks != *checks) {
                    let other = Other { checks: checks.clone(), how: it.how, folder: folder.clone() };
                    self.others.push(other);
                    Ok(())
                } else {
                    attempt.remove()
                }
            }
            _ => attempt.remove(),
        }
    }

    /// The newest folder of each scenario, of the newest scenarios.
    fn hold(&mut self, scenario: Scenario, folder: PathBuf) -> io::Result<()> {
        let old = self.folders.iter().position(|(other, _)| *other == scenario);
        let old = old.or_else(|| (self.folders.len() >= FOLDERS_MAX).then_some(0));
        if let Some(old) = old {
            fs::remove_dir_all(self.folders.remove(old).1)?;
        }
        self.folders.push((scenario, folder));
        Ok(())
    }

    /// Moves what is worth it beside the run: a try of what was found, and one of each other violation.
    fn keep(&mut self, beside: &Path) -> io::Result<Option<PathBuf>> {
        let seed = self.scene.seed;
        for Other { folder, .. } in &mut self.others {
            *folder = adopted(folder, beside, "another", seed)?;
        }
        let Some(found) = self.search.found() else { return Ok(None) };
        let Some((scenario, folder)) = self.folders.iter().find(|(it, _)| *it == found.scenario) else {
            return Ok(None);
        };
        adopted(folder, beside, &scenario.name, seed).map(Some)
    }

    fn left(&self) -> Duration {
        self.total.saturating_sub(self.began.elapsed())
    }
}

fn adopted(folder: &Path, beside: &Path, name: &str, seed: u64) -> io::Result<PathBuf> {
    run::adopt(folder, beside, name, seed).map_err(io::Error::other)
}

/// Writes what was found to `out`, or beside the run under a name that nothing has.
fn write(result: &Result<'_>, out: Option<&Path>, beside: &Path) -> io::Result<PathBuf> {
    let Some(found) = result.search.found() else { return Err(io::Error::other("nothing was found")) };
    let name = &found.scenario.name;
    let free = || {
        let files = (1..=NAMES_MAX).map(|number| match number {
            1 => beside.join(format!("{name}.yaml")),
            number => beside.join(format!("{name}-{number}.yaml")),
        });
        files.into_iter().find(|file| !file.exists())
    };
    let Some(file) = out.map(Path::to_owned).or_else(free) else {
        return Err(io::Error::other(format!("{NAMES_MAX} files like {name}.yaml exist: remove some")));
    };
    let text = scenario_text(result, found);
    // What cannot be run would be no result.
    Scenario::parse(&file.display().to_string(), &text).map_err(io::Error::other)?;
    folder::write(&file, text.as_bytes()).map_err(io::Error::other)?;
    Ok(file)
}
