//! When a run first showed what is wrong with it.
//!
//! In: a run folder and its results. Out: a time of the load. Never: a guess: what a dump alone shows was not seen at
//! any time.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde::Deserialize;

use crate::check::{Finding, Results, Witness};
use crate::history::folder::RunFolder;

/// The moment of the last witness of the finding that was complete first, among the roots of `check`; from the
/// beginning of the load. None when it was not before the end of the load that somebody could have seen it.
pub fn first_shown(folder: &RunFolder, results: &Results, check: &str) -> Option<Duration> {
    let info = folder.read_info().ok()?;
    let (began_ns, ended_ns) = (info.load_began_ns?, info.load_ended_ns?);
    let roots = results.checks.iter().filter(|it| it.name == check).flat_map(|it| it.roots());
    let shown_ns = roots.filter_map(|root| complete_at(folder, root)).min()?;
    (shown_ns <= ended_ns).then(|| Duration::from_nanos(shown_ns.saturating_sub(began_ns)))
}

/// When the last of its witnesses was written down.
fn complete_at(folder: &RunFolder, finding: &Finding) -> Option<u64> {
    let times: Option<Vec<u64>> = finding.witnesses.iter().map(|witness| time_ns(folder, witness)).collect();
    times?.into_iter().max()
}

/// Lines of the history and of events have a time, each by a word of its own.
#[derive(Deserialize)]
struct Timed {
    #[serde(alias = "t")]
    time: u64,
}

fn time_ns(folder: &RunFolder, witness: &Witness) -> Option<u64> {
    let line = usize::try_from(witness.line).ok()?.checked_sub(1)?;
    let file = File::open(folder.root().join(&witness.file)).ok()?;
    let json = BufReader::new(file).lines().nth(line)?.ok()?;
    Some(serde_json::from_str::<Timed>(&json).ok()?.time)
}
