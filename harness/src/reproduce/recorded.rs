//! A run that is to be repeated: what its folder says of it.
//!
//! In: a run folder. Out: [`Recorded`]. Never: a change of the folder, or a guess where something in it is damaged.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::attempt;
use crate::check::{Evidence, EvidenceError, Overall, Results};
use crate::cli::Exit;
use crate::history::folder::{Binary, FolderError, Origin, RunFolder, RunInfo, read_json};
use crate::judging::with_causes;
use crate::scenario::{Plan, Scenario, ScenarioError};
use crate::system::{Mkraft, SystemError};

#[derive(Debug)]
pub struct Recorded {
    /// Where the folder really is, whatever link led to it.
    pub root: PathBuf,
    pub info: RunInfo,
    pub scenario: Scenario,
    pub plan: Plan,
    pub results: Results,
}

#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    #[error("{}: expected a run folder", path.display())]
    NoFolder { path: PathBuf },
    #[error("{0}")]
    Scenario(#[from] Box<ScenarioError>),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("{}: this is run {found}, and the scenario beside it is {expected}", path.display())]
    Mixed { path: PathBuf, found: String, expected: String },
    #[error("{}:{line}: the step comes after the end of the scenario beside it", path.display())]
    Late { path: PathBuf, line: usize },
    #[error("{} was not judged, and cannot be: {source}", path.display())]
    Unjudged { path: PathBuf, source: EvidenceError },
}

impl Recorded {
    pub fn read(run: &Path) -> Result<Recorded, RecordedError> {
        let root = match std::fs::canonicalize(run) {
            Ok(root) if root.is_dir() => root,
            _ => return Err(RecordedError::NoFolder { path: run.to_owned() }),
        };
        let folder = RunFolder::new(&root);
        let info = folder.read_info()?;
        let scenario = Scenario::load(folder.scenario()).map_err(Box::new)?;
        let plan = folder.read_plan()?;
        if info.scenario != scenario.name {
            let (found, expected) = (info.scenario, scenario.name);
            return Err(RecordedError::Mixed { path: folder.info(), found, expected });
        }
        let end = scenario.duration.as_nanos();
        if let Some(late) = plan.steps.iter().position(|step| u128::from(step.at) >= end) {
            return Err(RecordedError::Late { path: folder.plan(), line: late + 1 });
        }
        let results = results(&folder)?;
        Ok(Recorded { root, info, scenario, plan, results })
    }

    /// The check to look at first: of those whose findings nothing explains, that which causes what the others find.
    pub fn violated(&self) -> Option<String> {
        match self.results.overall {
            Overall::Violated => attempt::roots(&self.results).next(),
            _ => None,
        }
    }

    pub fn origin(&self) -> Origin {
        Origin { folder: self.name(), started: self.info.started.clone() }
    }

    /// Of the folder.
    pub fn name(&self) -> String {
        let name = self.root.file_name().map(|name| name.to_string_lossy().into_owned());
        name.unwrap_or_else(|| self.info.scenario.clone())
    }
}

/// As they were told, or, where they cannot be read, judged from the evidence.
fn results(folder: &RunFolder) -> Result<Results, RecordedError> {
    if let Ok(results) = read_json::<Results>(&folder.results(), "a results.json") {
        return Ok(results);
    }
    match Evidence::read(folder) {
        Ok(evidence) => Ok(Results::of(&evidence)),
        Err(source) => Err(RecordedError::Unjudged { path: folder.root().to_owned(), source }),
    }
}

/// What runs as a node.
#[derive(Debug)]
pub struct Programs {
    pub system: Mkraft,
    /// What `upgrade` starts in its place.
    pub next: Option<Mkraft>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    #[error(transparent)]
    System(#[from] SystemError),
    #[error("{} upgrades nodes, and the program for that is not there: name one with --node-next PATH", path.display())]
    NoNext { path: PathBuf },
}

impl Recorded {
    /// The programs that the arguments name, else those that the run had, else the node beside the harness.
    pub async fn programs(
        &self,
        node: Option<&Path>,
        next: Option<&Path>,
    ) -> Result<Programs, ProgramsError> {
        let there = |binary: &Binary| Some(PathBuf::from(&binary.path)).filter(|path| path.is_file());
        let of_the_run = there(&self.info.node_binary);
        let system = Mkraft::find(node.or(of_the_run.as_deref())).await?;
        let of_the_run = self.info.next_binary.as_ref().and_then(there);
        let next = match next.or(of_the_run.as_deref()) {
            Some(path) => Some(Mkraft::find(Some(path)).await?),
            None if self.plan.upgrades() => return Err(ProgramsError::NoNext { path: self.root.clone() }),
            None => None,
        };
        Ok(Programs { system, next })
    }

    /// Tells where a program is not the one that the run had.
    pub fn compare(&self, programs: &Programs) -> io::Result<()> {
        let Programs { system, next } = programs;
        let pairs =
            [(Some(system), Some(&self.info.node_binary)), (next.as_ref(), self.info.next_binary.as_ref())];
        for (now, was) in pairs {
            if let (Some(Mkraft { program, digest, .. }), Some(was)) = (now, was)
                && *digest != was.xxh3
            {
                let program = program.display();
                writeln!(
                    anstream::stderr(),
                    "note: {program} is another program than the run had, {}",
                    was.path
                )?;
            }
        }
        Ok(())
    }
}

/// Tells what is wrong with what was asked for.
pub fn usage(error: &(dyn std::error::Error + 'static)) -> io::Result<Exit> {
    writeln!(anstream::stderr(), "error: {}", with_causes(error))?;
    Ok(Exit::Usage)
}
