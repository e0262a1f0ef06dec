//! The cluster serves again soon after the last fault is healed.

use super::about::About;
use super::evidence::{Evidence, history_witness};
use super::verdict::{Finding, Tally, Verdict, Witness, count};
use crate::history::{Ended, History, Operation};

/// A write succeeds within the scenario's bound after the last heal.
///
/// Reads: the last heal in the history, the writes that were invoked after it, and `recovers-within`; `last_heal_ns` of
/// `run.json`, which must say the same. Fails: naming the writes that were tried in that time in vain. Unknown: the last
/// heal is not recorded, or not after what the history says; no write was tried in that time, the load ended before it was over, or a node did not answer then. Cannot see: how long single
/// keys or nodes took. Cost: O(operations).
pub fn recovery(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    let bound_ns = u64::try_from(evidence.scenario.expect.recovers_within.as_nanos()).unwrap_or(u64::MAX);
    let bound = format!("{:.1} s", bound_ns as f64 / 1e9);
    let Some(claimed) = evidence.info.last_heal_ns else {
        tally.doubt(Finding::new("no last heal is recorded in run.json", [run_json("last_heal_ns is null")]));
        return tally.verdict("", |_| String::new());
    };
    let recorded = last_heal(&evidence.history);
    doubt_claim(evidence, claimed, recorded, &mut tally);
    let healed = recorded.map_or(claimed, |(t, _)| t);
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
        let done = format!("the last heal was done at {}", evidence.at(healed));
        let mut witnesses = vec![match recorded {
            Some((_, line)) => history_witness(line, done),
            None => run_json(&done),
        }];
        witnesses.extend(tried.iter().take(3).map(|write| outcome_of(evidence, write)));
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
    let healed = last_heal(&evidence.history).map(|(t, _)| t).or(evidence.info.last_heal_ns)?;
    let ok = writes_after(evidence, healed).filter(|write| write.ended == Ended::Ok);
    let first = ok.filter_map(|write| write.completed_at).min()?;
    Some((first - healed) as f64 / 1e9)
}

/// When everything was healed, and the line that tells it: the heal of everything, or one after it of what it leaves.
fn last_heal(history: &History) -> Option<(u64, u32)> {
    let heals = history.strikes.iter().filter(|strike| &*strike.f == "heal");
    let all = heals.clone().find(|strike| strike.invoked.step.is_none())?;
    let after = heals.filter(|strike| strike.invoked_at >= all.invoked_at);
    after.filter_map(|strike| strike.completed_at.zip(strike.completion_line)).max()
}

/// The conductor takes the time when the heal is done and in the history, while the load still goes on.
fn doubt_claim(evidence: &Evidence, claimed: u64, recorded: Option<(u64, u32)>, tally: &mut Tally) {
    let told = run_json(&format!("last_heal_ns is {claimed}: {}", evidence.at(claimed)));
    match recorded {
        Some((healed, line)) if claimed < healed => {
            let at = evidence.at(healed);
            let text = format!(
                "run.json has the last heal done at {}, and in the history it ends at {at}",
                evidence.at(claimed)
            );
            let witnesses = [told, history_witness(line, format!("the last heal is done at {at}"))];
            tally.doubt(Finding::new(text, witnesses));
        }
        _ if evidence.info.load_ended_ns.is_some_and(|ended| ended < claimed) => {
            let text = "run.json has the last heal done when the load had ended";
            tally.doubt(Finding::new(text, [told]));
        }
        // Where nothing was broken, nothing had to be healed.
        None if !evidence.history.strikes.is_empty() || !evidence.plan.steps.is_empty() => {
            let text = "run.json records a last heal, and the history none";
            tally.doubt(Finding::new(text, [told]));
        }
        _ => {}
    }
}

fn writes_after(evidence: &Evidence, healed: u64) -> impl Iterator<Item = &Operation> {
    let operations = evidence.history.operations.iter();
    operations.filter(move |operation| operation.changes() && operation.invoked_at >= healed)
}

/// An operation in words: whom it asked, when, and what became of it.
pub(super) fn outcome_of(evidence: &Evidence, write: &Operation) -> Witness {
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
