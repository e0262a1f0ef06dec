//! From a run folder, or a history, to a verdict that is told: `check` and `report`, and the last act of `run`.
//!
//! In: a run folder. Out: its `results.json` and reports, text on standard output, an [`Exit`]. Never: a cluster.

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::check::linearizability::Book;
use crate::check::models::Model;
use crate::check::{self, JudgeError, Judgement, Overall, Results, Status};
use crate::cli::{CheckArgs, Exit, ExportArgs, ReportArgs};
use crate::history::Operation;
use crate::history::export::{self, ExportError, Format};
use crate::history::folder::{RunFolder, read_json};
use crate::history::import::{Dialect, import};
use crate::report::{self, Detail};

/// Judges a run folder, wherever it came from, or a history.
pub fn check(args: &CheckArgs) -> io::Result<Exit> {
    let model = args.model.as_deref().and_then(Model::of_word);
    match (&args.run, &args.history, model) {
        (Some(run), _, _) => check_run(run, detail(args.all)),
        (None, Some(history), Some(model)) => check_history(history, model, args.keyed, detail(args.all)),
        // The command line is refused before it comes to this.
        (None, _, _) => Ok(Exit::Usage),
    }
}

fn check_run(run: &Path, detail: Detail) -> io::Result<Exit> {
    if let Some(exit) = no_folder(run)? {
        return Ok(exit);
    }
    let folder = RunFolder::new(run);
    // There is nothing to be judged of what was not run.
    if let Ok(results) = read_json::<Results>(&folder.results(), "a results.json")
        && results.overall == Overall::Skipped
    {
        tell_in(&results, &folder, detail)?;
        return Ok(exit(results.overall));
    }
    match judge(&folder) {
        Ok(judgement) => {
            tell_in(&judgement.results, &folder, detail)?;
            Ok(exit(judgement.results.overall))
        }
        Err(error) => failed(&error),
    }
}

/// Judges what clients of any system saw; times count from its first entry.
fn check_history(path: &Path, model: Model, keyed: bool, detail: Detail) -> io::Result<Exit> {
    if keyed && !model.may_be_keyed() {
        writeln!(
            anstream::stderr(),
            "error: --keyed: the values of this model name their keys or accounts themselves"
        )?;
        return Ok(Exit::Usage);
    }
    let imported = match import(path, Dialect { functions: model.functions(), keyed }) {
        Ok(imported) => imported,
        Err(error) => {
            writeln!(anstream::stderr(), "error: {}", with_causes(&error))?;
            return Ok(Exit::Usage);
        }
    };
    let epoch_ns = imported.history.operations.first().map_or(0, |first| first.invoked_at);
    let file = path.display().to_string();
    let book = Book { history: &imported.history, file: &file, lines: Some(&imported.lines), epoch_ns };
    let result = model.judge(&book);
    let mut out = anstream::stdout();
    writeln!(out, "{}", report::one_check(&result, detail, true).trim_end())?;
    let are_pairs = |operation: &Operation| operation.value.as_array().is_some_and(|pair| pair.len() == 2);
    if !keyed && model.may_be_keyed() && imported.history.operations.iter().all(are_pairs) {
        writeln!(out, "(every value is a pair: with --keyed its first half is taken for a key)")?;
    }
    if imported.skipped > 0 {
        writeln!(out, "({} entries of the nemesis or of other loggers were left out)", imported.skipped)?;
    }
    Ok(match result.verdict.status {
        Status::Holds => Exit::Holds,
        Status::Violated => Exit::Violated,
        Status::Unknown => Exit::Unknown,
    })
}

/// Writes a run's history for other tools.
pub fn export(args: &ExportArgs) -> io::Result<Exit> {
    if let Some(exit) = no_folder(&args.run)? {
        return Ok(exit);
    }
    let format = if args.format == "json" { Format::Json } else { Format::Edn };
    let mut out = io::BufWriter::new(io::stdout().lock());
    match export::export(&RunFolder::new(&args.run).history(), format, &mut out) {
        Ok(()) => Ok(Exit::Holds),
        Err(ExportError::Write(error)) => Err(error),
        Err(error) => failed(&error),
    }
}

/// Tells again what a run folder was judged to be.
pub fn report(args: &ReportArgs) -> io::Result<Exit> {
    if let Some(exit) = no_folder(&args.run)? {
        return Ok(exit);
    }
    let folder = RunFolder::new(real(&args.run));
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
                tell_in(&results, &folder, detail(args.all))?;
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
    tell_in(results, folder, Detail::Roots)
}

fn tell_in(results: &Results, folder: &RunFolder, detail: Detail) -> io::Result<()> {
    writeln!(anstream::stdout(), "{}", report::terminal(results, folder, detail, true).trim_end())
}

fn detail(all: bool) -> Detail {
    if all { Detail::All } else { Detail::Roots }
}

pub fn exit(overall: Overall) -> Exit {
    match overall {
        Overall::Holds => Exit::Holds,
        Overall::Violated => Exit::Violated,
        Overall::Unknown => Exit::Unknown,
        Overall::HarnessFailed => Exit::HarnessFailed,
        Overall::Skipped => Exit::Skipped,
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

/// What `latest` points at: after the next run it points elsewhere.
fn real(run: &Path) -> PathBuf {
    let target = std::fs::read_link(run).ok();
    target.and_then(|target| Some(run.parent()?.join(target))).unwrap_or_else(|| run.to_owned())
}

fn no_folder(run: &Path) -> io::Result<Option<Exit>> {
    if run.is_dir() {
        return Ok(None);
    }
    writeln!(anstream::stderr(), "error: {}: expected a run folder", run.display())?;
    Ok(Some(Exit::Usage))
}
