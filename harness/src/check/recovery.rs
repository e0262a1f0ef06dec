//! The cluster serves again soon after the last fault is healed.

use super::about::About;
use super::evidence::{Evidence, history_witness};
use super::verdict::{Finding, Tally, Verdict, Witness, count};
use crate::history::{Ended, Operation};

/// A write succeeds within the scenario's bound after the last heal.
///
/// Reads: `last_heal_ns` of `run.json`, the writes of the history that were invoked after it, and
/// `recovers-within`. Fails: naming the writes that were tried in that time in vain. Unknown: the last heal is not
/// recorded; no write was tried in that time, the load ended before it was over, or a node did not answer then. Cannot see: how long single
/// keys or nodes took. Cost: O(operations).
pub fn recovery(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    let bound_ns = u64::try_from(evidence.scenario.expect.recovers_within.as_nanos()).unwrap_or(u64::MAX);
    let bound = format!("{:.1} s", bound_ns as f64 / 1e9);
    let Some(healed) = evidence.info.last_heal_ns else {
        tally.doubt(Finding::new("no last heal is recorded in run.json", [run_json("last_heal_ns is null")]));
        return tally.verdict("", |_| String::new());
    };
    let deadline = healed.saturating_add(bound_ns);
    let attempts = || writes_after(evidence, healed);
    let tried: Vec<_> = attempts().filter(|write| write.invoked_at <= deadline).collect();
    tally.examined = tried.len() as u64;
    let first =
        attempts().filter(|write| write.ended == Ended::Ok).filter_map(|write| write.completed_at).min();
    let took = first.map(|t| (t - healed) as f64 / 1e9);
    if took.is_none() || first.is_some_and(|t| t > deadline) {
        let late = match took {
            Some(took) => format!("the first one succeeded {took:.3} s after it"),
            None => "none succeeded".to_owned(),
        };
        let text = format!("no write succeeded within {bound} after the last heal: {late}");
        let mut witnesses = vec![run_json(&format!("the last heal was done at {}", evidence.at(healed)))];
        witnesses.extend(tried.iter().take(3).map(|write| told(evidence, write)));
        let last_try = evidence.history.operations.iter().map(|operation| operation.invoked_at).max();
        match last_try {
            _ if tried.is_empty() => {}
            Some(last_try) if took.is_none() && last_try < deadline => {
                let text =
                    format!("{text}, and the load ended {} before that time was over", evidence.at(last_try));
                tally.doubt(Finding::new(text, witnesses));
            }
            _ => tally.violated(Finding::new(text, witnesses).about(About::NotServed)),
        }
    }
    for node in &evidence.info.silent {
        let text = format!("{node} did not answer when the time to recover was over");
        tally.doubt(Finding::new(text.clone(), [run_json(&text)]));
    }
    let nothing = format!("no write was tried within {bound} after the last heal");
    tally.verdict(&nothing, |tried| {
        let took = took.unwrap_or_default();
        format!(
            "a write succeeded {took:.3} s after the last heal ({} tried within {bound})",
            count(tried, "write")
        )
    })
}

/// Seconds from the last heal to the first write that succeeded after it.
pub fn recovery_seconds(evidence: &Evidence) -> Option<f64> {
    let healed = evidence.info.last_heal_ns?;
    let ok = writes_after(evidence, healed).filter(|write| write.ended == Ended::Ok);
    let first = ok.filter_map(|write| write.completed_at).min()?;
    Some((first - healed) as f64 / 1e9)
}

fn writes_after(evidence: &Evidence, healed: u64) -> impl Iterator<Item = &Operation> {
    let operations = evidence.history.operations.iter();
    operations.filter(move |operation| operation.changes() && operation.invoked_at >= healed)
}

fn told(evidence: &Evidence, write: &Operation) -> Witness {
    let line = write.completion_line.unwrap_or(write.invoke_line);
    let became = match (write.ended, &write.error) {
        (Ended::Ok, _) => "succeeded".to_owned(),
        (Ended::Fail, error) => format!("failed: {}", error.as_deref().unwrap_or("no reason")),
        (Ended::Info, error) => format!("stayed open: {}", error.as_deref().unwrap_or("no answer")),
    };
    let asked = write.node.as_deref().unwrap_or("a node");
    history_witness(
        line,
        format!("{} asked of {asked} at {}, {became}", write.f, evidence.at(write.invoked_at)),
    )
}

fn run_json(text: &str) -> Witness {
    Witness { file: "run.json".into(), line: 0, text: text.into() }
}
