//! Crash consistency without luck: the disks that a loss of power could have left behind at moments of a run, each opened
//! by a real node.
//!
//! In: a run folder with ledgers. Out: for each state whether the node starts and has all that it had told by then; an
//! [`Exit`]. Never: a verdict of its own: what a node must have is for the [`check`](crate::check)s to say, which read a
//! small run folder made of the node's evidence up to that moment and of its start afterwards.
//!
//! The idea is that of ALICE (Pillai et al., OSDI 2014) and CrashMonkey (Mohan et al., OSDI 2018): [`moments`] says where
//! to look, [`disk::states`](crate::disk::states) what may be left there, [`trial`] what becomes of it.

mod moments;
mod past;
mod trial;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use self::moments::Moments;
use self::past::Past;
use self::trial::{Bench, Outcome, Trial};
use crate::cli::{CrashStatesArgs, Exit};
use crate::cluster::Guard;
use crate::disk::ledger::{Ledger, Replay};
use crate::disk::states::States;
use crate::history::folder::RunFolder;
use crate::judging::failed;
use crate::scenario::Scenario;
use crate::system::Mkraft;

/// Of one moment; the others are at other moments.
const STATES_EACH: usize = 12;
/// So many bad states are told and kept.
const TOLD_MAX: usize = 5;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What came of all of them.
#[derive(Default)]
struct Sum {
    states: usize,
    moments: usize,
    /// Moments of which all states were tried.
    exhausted: usize,
    nodes: usize,
    /// Nodes whose ledgers do not tell everything, and why.
    cut: Vec<String>,
    /// Each state that was wrong, and where it is kept.
    wrong: Vec<(String, PathBuf)>,
    more_wrong: usize,
    unclear: Vec<String>,
}

pub fn run(args: &CrashStatesArgs) -> io::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let began = Instant::now();
    let sum = runtime.block_on(all(args));
    runtime.shutdown_background();
    match sum {
        Ok(sum) => {
            sum.tell(began, &mut anstream::stdout().lock())?;
            Ok(sum.exit())
        }
        Err(error) => failed(error.as_ref()),
    }
}

async fn all(args: &CrashStatesArgs) -> Result<Sum, Failure> {
    let folder = RunFolder::new(&args.run);
    let info = folder.read_info()?;
    let scenario = Scenario::load(folder.scenario())?;
    let program = args.node.clone().unwrap_or_else(|| info.node_binary.path.clone().into());
    let system = Mkraft::find(Some(&program)).await?;
    let with_ledger: Vec<_> =
        info.nodes.iter().filter(|node| disk_of(&folder, &node.id).join("ledger.jsonl").exists()).collect();
    if with_ledger.is_empty() {
        let run = args.run.display();
        return Err(format!("{run} has no ledger: run its scenario with `disks: simulated`").into());
    }
    let mut sum = Sum { nodes: with_ledger.len(), ..Sum::default() };
    let (with_ledger, left_out): (Vec<_>, Vec<_>) =
        with_ledger.into_iter().partition(|node| !node.boots.iter().any(|boot| boot.damaged || boot.next));
    for node in left_out {
        let what = "its files were changed at rest, or by another program: what its ledger says is not all that was done";
        sum.unclear.push(format!("{}: {what}", node.id));
    }
    let kept = args.run.join("crash-states");
    if kept.exists() {
        std::fs::remove_dir_all(&kept)?;
    }
    let guard = Arc::new(Guard::start(Path::new("/proc/self/exe")).await?);
    let each = (args.states as usize).div_ceil(with_ledger.len().max(1));
    let (made, trials) = mpsc::channel(2 * args.jobs as usize);
    let (told, mut outcomes) = mpsc::channel(16);
    let trials = Arc::new(Mutex::new(trials));
    let mut jobs = JoinSet::new();
    for slot in 1..=args.jobs {
        let bench = Bench::new(slot, &system, &scenario, Arc::clone(&guard));
        jobs.spawn(work(bench, Arc::clone(&trials), told.clone()));
    }
    drop(told);
    let maker = tokio::task::spawn_blocking({
        let nodes: Vec<_> = with_ledger.into_iter().cloned().collect();
        let (folder, seed) = (folder.clone(), args.seed);
        move || make(&folder, nodes, each, seed, &made)
    });
    while let Some((trial, outcome)) = outcomes.recv().await {
        // What fails does not hide what was found.
        let taken = match outcome {
            Ok(outcome) => sum.take(&kept, &trial, outcome),
            Err(error) => Err(error),
        };
        if let Err(error) = taken {
            sum.unclear.push(format!("{trial}: {error}"));
        }
    }
    match maker.await? {
        Ok(made) => (sum.moments, sum.exhausted, sum.cut) = made,
        Err(error) => sum.unclear.push(error.to_string()),
    }
    guard.close().await?;
    Ok(sum)
}

fn disk_of(folder: &RunFolder, node: &str) -> PathBuf {
    folder.node(node).join("disk")
}

/// Every state that is to be tried, node by node; how many moments they are of, of how many of these all states are among
/// them, and whose ledgers end before the run does.
fn make(
    folder: &RunFolder,
    nodes: Vec<crate::history::folder::NodeRun>,
    each: usize,
    seed: u64,
    made: &mpsc::Sender<Trial>,
) -> Result<(usize, usize, Vec<String>), Failure> {
    let (mut count, mut exhausted, mut cut) = (0, 0, Vec::new());
    for node in nodes {
        let ledger = Ledger::read(&disk_of(folder, &node.id))?;
        cut.extend(ledger.cut.map(|cut| format!("{} {cut}", node.id)));
        let past = Arc::new(Past::read(folder, node)?);
        let mut replay = Replay::new(&ledger);
        for place in Moments::of(&ledger, each, STATES_EACH, seed)? {
            replay.go_to(place)?;
            let Some(at) = told_until(&ledger, place) else { continue };
            let states = States::of(replay.model(), STATES_EACH, seed ^ place as u64);
            count += 1;
            exhausted += usize::from(states.is_exhaustive());
            for (number, state) in states.enumerate() {
                let trial = Trial { past: Arc::clone(&past), place, number, at, state };
                if made.blocking_send(trial).is_err() {
                    // Somebody has failed, and says why.
                    return Ok((count, exhausted, cut));
                }
            }
        }
    }
    Ok((count, exhausted, cut))
}

/// The last moment at which a disk was as it is in this place: what its node had told by then must be on it, for nobody
/// had the answer of the next call yet. None when what was done later is not known.
fn told_until(ledger: &Ledger, place: usize) -> Option<u64> {
    match ledger.entries.get(place) {
        Some(next) => Some(next.end - 1),
        None if ledger.cut.is_some() => None,
        None => Some(u64::MAX),
    }
}

async fn work(
    bench: Bench,
    trials: Arc<Mutex<mpsc::Receiver<Trial>>>,
    told: mpsc::Sender<(Trial, Result<Outcome, Failure>)>,
) {
    loop {
        let Some(trial) = trials.lock().await.recv().await else { return };
        let outcome = bench.attempt(&trial).await;
        if told.send((trial, outcome)).await.is_err() {
            return;
        }
    }
}

impl Sum {
    fn take(&mut self, kept: &Path, trial: &Trial, outcome: Outcome) -> Result<(), Failure> {
        self.states += 1;
        match outcome {
            Outcome::Right => {}
            Outcome::Unclear(reason) => self.unclear.push(format!("{trial}: {reason}")),
            Outcome::Wrong { .. } if self.wrong.len() >= TOLD_MAX => self.more_wrong += 1,
            Outcome::Wrong { what, folder } => {
                let to = kept.join(trial.name());
                std::fs::create_dir_all(&to)?;
                trial.state.materialise(&to)?;
                std::fs::write(
                    to.with_extension("txt"),
                    format!("{trial}: {what}\n\n{}\n", trial.survived()),
                )?;
                drop(folder);
                self.wrong.push((format!("{trial}: {what}"), to));
            }
        }
        Ok(())
    }

    fn exit(&self) -> Exit {
        let clear = self.unclear.is_empty() && self.cut.is_empty() && self.states > 0;
        match (self.wrong.is_empty(), clear) {
            (false, _) => Exit::Violated,
            (true, true) => Exit::Holds,
            (true, false) => Exit::Unknown,
        }
    }

    fn tell(&self, began: Instant, out: &mut impl Write) -> io::Result<()> {
        let Sum { states, moments, exhausted, nodes, cut, wrong, more_wrong, unclear } = self;
        for (what, folder) in wrong {
            writeln!(out, "VIOLATED  {what}\n  kept: {}", folder.display())?;
        }
        if *more_wrong > 0 {
            writeln!(out, "and {more_wrong} more")?;
        }
        for reason in unclear.iter().take(TOLD_MAX) {
            writeln!(out, "UNKNOWN  {reason}")?;
        }
        for node in cut {
            writeln!(out, "of what came later nothing is tried: the ledger of {node}")?;
        }
        writeln!(
            out,
            "{states} states of the disks of {nodes} nodes at {moments} moments ({exhausted} of them with all their \
             states) in {:.1} s: {} wrong, {} unclear",
            began.elapsed().as_secs_f64(),
            wrong.len() + more_wrong,
            unclear.len()
        )
    }
}
