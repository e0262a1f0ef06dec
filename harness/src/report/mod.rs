//! The telling: what the judge found, for a person at a terminal, for a browser and for CI.
//!
//! In: results, and for pictures the evidence they rest on. Out: text and files. Never: a verdict of its own, or a
//! softer word for one: unknown looks like a pass nowhere.

mod html;
mod junit;
mod line;
mod svg;
mod terminal;

use crate::check::{Judgement, Results};
use crate::history::folder::{FolderError, RunFolder, write, write_json};

pub use line::line;
pub use terminal::{Detail, one_check, terminal};

/// Writes `report.html` and `junit.xml` beside `results.json`, which the judge has written.
pub fn write_all(folder: &RunFolder, judgement: &Judgement) -> Result<(), FolderError> {
    let Judgement { evidence, results } = judgement;
    write(&folder.report(), html::page(folder, evidence, results).as_bytes())?;
    write(&folder.junit(), junit(folder, results)?.as_bytes())
}

/// Writes `results.json` and `junit.xml` of a scenario that was not run.
pub fn write_skipped(folder: &RunFolder, results: &Results) -> Result<(), FolderError> {
    write_json(&folder.results(), results)?;
    write(&folder.junit(), junit(folder, results)?.as_bytes())
}

/// `junit.xml`: one test case a check.
fn junit(folder: &RunFolder, results: &Results) -> Result<String, FolderError> {
    let failed = |source| FolderError::Write { path: folder.junit(), source: std::io::Error::other(source) };
    junit::report(results).to_string().map_err(failed)
}
