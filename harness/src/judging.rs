//! From a run folder to a verdict that is told: `check` and `report`, and the last act of `run`.
//!
//! In: a run folder. Out: its `results.json` and reports, text on standard output, an [`Exit`]. Never: a cluster.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use crate::check::{self, JudgeError, Judgement, Overall, Results};
use crate::cli::{CheckArgs, Exit, ReportArgs};
use crate::history::folder::{RunFolder, read_json};
use crate::report;

/// Judges a run folder, wherever it came from.
pub fn check(args: &CheckArgs) -> io::Result<Exit> {
    if let Some(exit) = no_folder(&args.run)? {
        return Ok(exit);
    }
    let folder = RunFolder::new(&args.run);
    match judge(&folder) {
        Ok(judgement) => {
            tell(&judgement.results, &folder)?;
            Ok(exit(judgement.results.overall))
        }
        Err(error) => failed(&error),
    }
}

/// Tells again what a run folder was judged to be.
pub fn report(args: &ReportArgs) -> io::Result<Exit> {
    if let Some(exit) = no_folder(&args.run)? {
        return Ok(exit);
    }
    let folder = RunFolder::new(&args.run);
    if !folder.results().exists() {
        let run = args.run.display();
        writeln!(
            anstream::stderr(),
            "error: {run} was not judged yet: `mkraft-harness check {run}` does it"
        )?;
        return Ok(Exit::Usage);
    }
    match read_json::<Results>(&folder.results(), "a results.json") {
        Ok(results) => {
            if args.line {
                writeln!(anstream::stdout(), "{}", report::line(&results))?;
            } else {
                tell(&results, &folder)?;
            }
            Ok(exit(results.overall))
        }
        Err(error) => failed(&error),
    }
}

/// Judges and writes results and reports into the folder.
pub fn judge(folder: &RunFolder) -> Result<Judgement, JudgeError> {
    let judgement = check::judge(folder)?;
    report::write_all(folder, &judgement)?;
    Ok(judgement)
}

/// In colour where standard output shows colour.
pub fn tell(results: &Results, folder: &RunFolder) -> io::Result<()> {
    writeln!(anstream::stdout(), "{}", report::terminal(results, folder, true).trim_end())
}

pub fn exit(overall: Overall) -> Exit {
    match overall {
        Overall::Holds => Exit::Holds,
        Overall::Violated => Exit::Violated,
        Overall::Unknown => Exit::Unknown,
        Overall::HarnessFailed => Exit::HarnessFailed,
    }
}

/// Tells why the harness could not do its work.
pub fn failed(error: &(dyn Error + 'static)) -> io::Result<Exit> {
    writeln!(anstream::stderr(), "error: {}", with_causes(error))?;
    Ok(Exit::HarnessFailed)
}

/// An error and what led to it, where the error does not say so itself.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn no_folder(run: &Path) -> io::Result<Option<Exit>> {
    if run.is_dir() {
        return Ok(None);
    }
    writeln!(anstream::stderr(), "error: {}: expected a run folder", run.display())?;
    Ok(Some(Exit::Usage))
}
