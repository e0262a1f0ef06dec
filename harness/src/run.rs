//! The conductor: takes scenarios from intent to verdict, and is the only one who knows every room.
//!
//! In: the arguments of `run`. Out: run folders, the report of each, an [`Exit`]. Never: a run that leaves without
//! having healed, waited, read a last time and collected, whatever failed before; a wait without a bound.

mod course;
mod interrupt;
mod prepare;
mod progress;
mod ready;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use self::course::Course;
pub use self::interrupt::Interrupt;
pub use self::prepare::{PrepareError, adopt};
use crate::capabilities;
use crate::check::{Overall, Results};
use crate::cli::{self, Exit, RunArgs};
use crate::cluster::{self, Cluster, Controller, Layout, Wiring};
use crate::collect::{Collection, collect};
use crate::history::Recorder;
use crate::history::folder::{Asked, Binary, BootRun, End, NodeRun, Origin, RunFolder, RunInfo};
use crate::judging::{self, failed, with_causes};
use crate::report;
use crate::scenario::{Disks, Faults, Need, Plan, Rule, Scenario};
use crate::system::{Mkraft, Settings};

/// Runs each scenario in turn; the exit is the worst of them.
pub fn run(args: &RunArgs) -> io::Result<Exit> {
    let (scenarios, exit) = cli::read_all(&args.scenarios)?;
    if exit != Exit::Holds {
        return Ok(exit);
    }
    if args.node_next.is_none() {
        let needing = args
            .scenarios
            .iter()
            .zip(&scenarios)
            .filter(|(_, scenario)| Plan::of(scenario, args.seed).upgrades());
        let needing: Vec<&PathBuf> = needing.map(|(path, _)| path).collect();
        for path in &needing {
            writeln!(
                anstream::stderr(),
                "error: {}: `upgrade` needs a second program: name it with --node-next PATH, which may be that of --node",
                line_of_upgrade(path)
            )?;
        }
        if !needing.is_empty() {
            return Ok(Exit::Usage);
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(run_all(&scenarios, args));
    // Requests that no node will ever answer may still wait.
    runtime.shutdown_background();
    exit
}

/// `file:line` of the first `upgrade:` in a scenario that has one, as far as the file still says so.
fn line_of_upgrade(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let code = |line: &str| line.split(" #").next().is_some_and(|code| code.contains("upgrade:"));
    match text.lines().position(|line| !line.starts_with('#') && code(line)) {
        Some(before) => format!("{}:{}", path.display(), before + 1),
        None => path.display().to_string(),
    }
}

async fn run_all(scenarios: &[Scenario], args: &RunArgs) -> io::Result<Exit> {
    let system = match Mkraft::find(args.node.as_deref()).await {
        Ok(system) => system,
        Err(error) => return failed(&error),
    };
    let next = match &args.node_next {
        None => None,
        Some(path) => match Mkraft::find(Some(path)).await {
            Ok(next) => Some(next),
            Err(error) => return failed(&error),
        },
    };
    let interrupt = Interrupt::listen()?;
    let all_of = |scenario: &Scenario| needs(scenario, &Plan::of(scenario, args.seed));
    let all: BTreeSet<Need> = scenarios.iter().flat_map(all_of).collect();
    let abilities = capabilities::find(all, Some(&system.program), &args.without).await;
    let mut done = Vec::new();
    for scenario in scenarios {
        if interrupt.came() {
            break;
        }
        let run = Run {
            scenario,
            plan: Plan::of(scenario, args.seed),
            seed: args.seed,
            out: &args.out,
            system: &system,
            next: next.as_ref(),
            interrupt: interrupt.clone(),
            replay_of: None,
            aloud: true,
        };
        done.push(match capabilities::missing(needs(scenario, &run.plan), &abilities) {
            None => run.carry_out().await?,
            Some(why) => run.skip(why)?,
        });
    }
    if scenarios.len() > 1 {
        sum_up(&done, scenarios.len())?;
    }
    tell_skipped(&done, scenarios.len(), args.require_all)?;
    let missing = (done.len() < scenarios.len()).then_some(Exit::Unknown);
    let exit = |done: &Done| match done.exit {
        Exit::Skipped if args.require_all => Exit::Unknown,
        exit => exit,
    };
    Ok(cli::worst(done.iter().map(exit).chain(missing)))
}

/// One scenario with one seed, and the plan of both or one that was recorded.
pub struct Run<'a> {
    pub scenario: &'a Scenario,
    pub plan: Plan,
    pub seed: u64,
    /// Where its folder goes.
    pub out: &'a Path,
    pub system: &'a Mkraft,
    /// What `upgrade` starts in its place.
    pub next: Option<&'a Mkraft>,
    pub interrupt: Interrupt,
    /// The run that it is to repeat.
    pub replay_of: Option<Origin>,
    /// Tells how it goes, and its report; else the folder alone has them.
    pub aloud: bool,
}

/// What became of a run.
pub struct Done {
    pub name: String,
    /// None when there is none.
    pub folder: Option<PathBuf>,
    pub exit: Exit,
    /// None when it could not be judged.
    pub results: Option<Results>,
}

impl Run<'_> {
    pub async fn carry_out(&self) -> io::Result<Done> {
        let (name, seed) = (&self.scenario.name, self.seed);
        let done = |folder, exit, results| Done { name: name.clone(), folder, exit, results };
        let folder = match prepare::prepare(self.out, self.scenario, seed, &self.plan) {
            Ok(folder) => folder,
            Err(error) => return Ok(done(None, failed(&error)?, None)),
        };
        if self.aloud {
            writeln!(anstream::stderr(), "{name}, seed {seed}: {}", self.scenario.claim)?;
        }
        let (exit, results) = match self.fill(&folder).await {
            Ok(collection) => {
                // Judging computes without a pause: other runs of this process go on meanwhile.
                let (exit, results) = tokio::task::block_in_place(|| self.judge(&folder))?;
                // What is worth a look is kept.
                let keep = results.as_ref().is_none_or(|results| results.overall != Overall::Holds);
                let kept = match &collection {
                    Some(collection) => collection.keep_data(keep).await,
                    None => Ok(()),
                };
                match kept {
                    Ok(()) => (exit, results),
                    Err(error) => (cli::worst([exit, failed(&error)?]), results),
                }
            }
            Err(error) => (failed(error.as_ref())?, None),
        };
        Ok(done(Some(folder.root().to_owned()), exit, results))
    }

    /// Leaves a folder that says why it was not run, and starts nothing.
    fn skip(&self, why: String) -> io::Result<Done> {
        let (name, seed) = (self.scenario.name.clone(), self.seed);
        let done = |folder, exit, results| Done { name, folder, exit, results };
        let folder = match prepare::prepare(self.out, self.scenario, seed, &self.plan) {
            Ok(folder) => folder,
            Err(error) => return Ok(done(None, failed(&error)?, None)),
        };
        let results = Results::skipped(self.scenario, seed, why);
        if let Err(error) = report::write_skipped(&folder, &results) {
            return Ok(done(Some(folder.root().to_owned()), failed(&error)?, None));
        }
        let _ = judging::tell(&results, &folder);
        Ok(done(Some(folder.root().to_owned()), Exit::Skipped, Some(results)))
    }

    /// Runs the cluster and leaves in the folder all that a verdict needs. Fails only when the folder cannot be
    /// written; whatever else goes wrong stands in its `run.json`.
    async fn fill(
        &self,
        folder: &RunFolder,
    ) -> Result<Option<Collection>, Box<dyn std::error::Error + Send + Sync>> {
        let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let recorder = Arc::new(Recorder::create(&folder.history())?);
        let mut course = Course::default();
        let asked = &self.scenario.cluster;
        let settings = Settings::of(asked);
        let needs = self.plan.needs();
        let groups = [(Need::CgroupMemory, Controller::Memory), (Need::CgroupCpu, Controller::Cpu)];
        let limits =
            groups.into_iter().filter(|(need, _)| needs.contains(need)).map(|(_, controller)| controller);
        let layout = Layout {
            spares: asked.spares,
            clocks: needs.contains(&Need::Preload),
            limits: limits.collect(),
            next: self.next.cloned(),
            disks: asked.disks == Disks::Simulated,
            ..Layout::new(asked.nodes, settings, folder.root(), Wiring::Linked)
        };
        let (mut nodes, mut collection) = (Vec::new(), None);
        match Cluster::start(self.system.clone(), &layout).await {
            Ok(cluster) => {
                let cluster = Arc::new(cluster);
                course::conduct(self, &cluster, &recorder, &mut course).await;
                let collected = collect(&cluster).await;
                nodes = cluster.nodes().iter().map(|node| node_run(node)).collect();
                course.notes.extend(collected.troubles());
                course.disk_failure = collected.disk_failure();
                course.notes.extend(unasked_endings(&cluster));
                collection = Some(collected);
                if let Some(cluster) = Arc::into_inner(cluster)
                    && let Err(error) = cluster.close().await
                {
                    course.notes.push(error.to_string());
                }
            }
            Err(error) => course.fail(with_causes(&error)),
        }
        recorder.flush()?;
        folder.write_info(&self.info(started, nodes, &course, recorder.lines()))?;
        for note in course.notes.iter().filter(|_| self.aloud) {
            writeln!(anstream::stderr(), "note: {note}")?;
        }
        Ok(collection)
    }

    /// What a swarm drew: the rules of any other scenario stand in it.
    fn drawn(&self) -> Vec<String> {
        match &self.scenario.faults {
            Faults::Rules(_) => Vec::new(),
            Faults::Swarm => self.scenario.drawn(self.seed).iter().map(Rule::to_string).collect(),
        }
    }

    fn info(&self, started: String, nodes: Vec<NodeRun>, course: &Course, history_lines: u64) -> RunInfo {
        RunInfo {
            scenario: self.scenario.name.clone(),
            seed: self.seed,
            harness_version: env!("CARGO_PKG_VERSION").to_owned(),
            node_version: self.system.version.clone(),
            node_binary: binary(self.system),
            next_version: self.next.map(|next| next.version.clone()),
            next_binary: self.next.map(binary),
            drawn: self.drawn(),
            started,
            load_began_ns: course.load_began_ns,
            load_ended_ns: course.load_ended_ns,
            last_heal_ns: course.last_heal_ns,
            history_lines: Some(history_lines),
            nodes,
            harness_failure: course.failure(),
            disk_failure: course.disk_failure.clone(),
            silent: course.silent.clone(),
            interrupted: self.interrupt.came(),
            replay_of: self.replay_of.clone(),
            not_started: course.not_started,
        }
    }

    /// Judges the folder, and reports.
    fn judge(&self, folder: &RunFolder) -> io::Result<(Exit, Option<Results>)> {
        let results = match judging::judge(folder) {
            Ok(judgement) => judgement.results,
            Err(error) => return Ok((failed(&error)?, None)),
        };
        if self.aloud {
            // The verdict is the exit code too, whether or not somebody reads along.
            let _ = judging::tell(&results, folder);
        }
        Ok((judging::exit(results.overall), Some(results)))
    }
}

/// All that a run needs of the machine.
fn needs(scenario: &Scenario, plan: &Plan) -> BTreeSet<Need> {
    let disks = (scenario.cluster.disks == Disks::Simulated).then_some(Need::Fuse);
    plan.needs().into_iter().chain(disks).collect()
}

fn binary(system: &Mkraft) -> Binary {
    Binary { path: system.program.display().to_string(), xxh3: system.digest.clone() }
}

/// How the processes of a node went, for the judge.
fn node_run(node: &cluster::Node) -> NodeRun {
    let asked = |ending: Option<&cluster::Ending>| match ending {
        Some(ending) if !ending.expected => Asked::No,
        Some(ending) if ending.failed => Asked::Failing,
        Some(ending) if ending.order == Some(cluster::Order::KillAfterGrace) => Asked::Forced,
        Some(ending) if ending.order == Some(cluster::Order::OutOfMemory) => Asked::OutOfMemory,
        _ => Asked::Yes,
    };
    let boot = |start: cluster::Start| BootRun {
        answered: start.answered,
        asked: if start.refused { Asked::Refused } else { asked(start.ending.as_ref()) },
        damaged: start.damaged,
        next: start.next,
        evidence: start.evidence,
        end: match start.ending.map(|ending| ending.status) {
            Some(cluster::Status::Code(0)) => End::Stopped,
            Some(cluster::Status::Code(code)) => End::Exit(code),
            Some(cluster::Status::Signal(signal)) => End::Signal(signal),
            None => End::Unseen,
        },
    };
    NodeRun { id: node.name().to_owned(), boots: node.starts().into_iter().map(boot).collect() }
}

fn unasked_endings(cluster: &Cluster) -> Vec<String> {
    let unasked = cluster.endings().into_iter().filter(|ending| !ending.expected);
    let told = |ending: cluster::Ending| {
        let log = cluster.node_folder(&ending.node).log();
        format!("{} ended unasked with {}: {}", ending.node, ending.status, ready::last_words(&log))
    };
    unasked.map(told).collect()
}

/// The last line, so that nobody overlooks it.
fn tell_skipped(done: &[Done], asked: usize, require_all: bool) -> io::Result<()> {
    let skipped: Vec<&str> =
        done.iter().filter(|done| done.exit == Exit::Skipped).map(|done| done.name.as_str()).collect();
    if skipped.is_empty() {
        return Ok(());
    }
    let counts = if require_all { ", which counts as unknown" } else { "" };
    let (count, names) = (skipped.len(), skipped.join(", "));
    writeln!(
        anstream::stdout(),
        "\nSKIPPED: {count} of {asked} scenarios not run{counts}: {names} (`mkraft-harness capabilities` says what is missing)"
    )
}

fn sum_up(done: &[Done], asked: usize) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let skipped = done.iter().filter(|done| done.exit == Exit::Skipped).count();
    let not_run = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    writeln!(out, "\n{} of {asked} scenarios ran{not_run}:", done.len() - skipped)?;
    for Done { name, folder, exit, .. } in done {
        let folder = folder.as_ref().map_or("no run folder".to_owned(), |path| path.display().to_string());
        writeln!(out, "  {:<14} {name:<28} {folder}", format!("{exit:?}").to_lowercase())?;
    }
    Ok(())
}
