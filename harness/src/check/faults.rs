//! The faults that were planned were done.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::{Evidence, history_witness};
use super::verdict::{Finding, Tally, Verdict, Witness, count};
use crate::history::{Strike, StrikeOutcome, StrikeRecord};
use crate::scenario::{Act, Faults, Hold, Step};

/// Each step of the plan was done, and was seen to have been done.
///
/// Reads: the plan, and the nemesis' lines of the history. Fails: never: what did not happen broke nothing.
/// Unknown: a fault was done that is not as planned, or too early; a step has no lines, or its outcome or that of a heal
/// is indeterminate; every step with one fault and target was skipped; or no round of a script got to its end, with
/// every fault done and every fact there: so a trigger that never struck. Of a swarm these two are only unknown if every
/// step was skipped. A step that was skipped while others like it were done is told and does no harm: overlapping faults
/// find their targets down already, and not every fact comes in every round; nor does what an operator asks for, a transfer or
/// a snapshot, while its answer stayed out: it breaks nothing, and what it brought about is in the evidence. A fault that the
/// end of the load undid before its time is done, and is counted as cut short. Cannot see: whether a fault hurt. Cost: O(steps).
pub fn faults(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    let steps = &evidence.plan.steps;
    unplanned(evidence, &mut tally);
    let none = evidence.history.strikes.iter().all(|strike| strike.invoked.step.is_none());
    if steps.is_empty() && evidence.scenario.faults.is_empty() && none {
        tally.examined = 1;
        return tally.verdict("", |_| "the scenario has no faults".to_owned());
    }
    let mut strikes: BTreeMap<u64, &StrikeRecord> = BTreeMap::new();
    for strike in evidence.history.strikes.iter().filter(|strike| &*strike.f != "heal") {
        if let Some(step) = strike.invoked.step {
            strikes.insert(step, strike);
        }
    }
    let outcome = |number| strikes.get(&number)?.completed.as_ref()?.outcome;
    let mut installed: BTreeMap<String, u64> = BTreeMap::new();
    for (number, step) in (0..).zip(steps) {
        let done = outcome(number) == Some(StrikeOutcome::Installed);
        *installed.entry(rule(step)).or_default() += u64::from(done);
    }
    // Nobody has asked for what a swarm draws: it has shown something when any of it was done.
    let swarm = evidence.scenario.faults == Faults::Swarm;
    let any = installed.values().sum::<u64>();
    let (mut done, mut skipped, mut open) = (0, 0, 0);
    for (number, step) in (0..).zip(steps).filter(|(_, step)| matches!(step.act, Act::Strike { .. })) {
        tally.examined += 1;
        let alike = if swarm { any } else { installed.get(&rule(step)).copied().unwrap_or(0) };
        match outcome(number) {
            Some(StrikeOutcome::Installed) => done += 1,
            Some(StrikeOutcome::Skipped) if alike > 0 => {
                skipped += 1;
                tally.note(told(evidence, number, step, strikes.get(&number).copied(), "was skipped"));
            }
            Some(StrikeOutcome::Skipped) => {
                let became = "was skipped, as was every step like it";
                tally.doubt(told(evidence, number, step, strikes.get(&number).copied(), became));
            }
            Some(StrikeOutcome::Indeterminate) if alike > 0 && is_request(step) => {
                open += 1;
                let became = "may or may not have happened";
                tally.note(told(evidence, number, step, strikes.get(&number).copied(), became));
            }
            Some(StrikeOutcome::Indeterminate) => {
                let became = "may or may not have happened";
                tally.doubt(told(evidence, number, step, strikes.get(&number).copied(), became));
            }
            None => {
                let became = match strikes.get(&number) {
                    Some(_) => "was begun, and no line says what came of it",
                    None => "was never begun",
                };
                tally.doubt(told(evidence, number, step, strikes.get(&number).copied(), became));
            }
        }
    }
    if !swarm || any == 0 {
        unfinished(evidence, &strikes, &mut tally);
    }
    for heal in evidence.history.strikes.iter().filter(|strike| &*strike.f == "heal") {
        let Some(completed) = &heal.completed else { continue };
        if completed.outcome == Some(StrikeOutcome::Indeterminate) {
            let text = format!("a heal may not have happened: {}", completed.detail);
            let line = heal.completion_line.unwrap_or(heal.invoke_line);
            tally.doubt(Finding::new(text, [history_witness(line, completed.detail.as_str())]));
        }
    }
    let cut_short = cut_short(evidence, &strikes);
    tally.verdict("the scenario has faults, and the plan has no step", |steps| {
        let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        let open = if open > 0 { format!(", {open} open") } else { String::new() };
        let cut_short = if cut_short > 0 {
            format!(", {cut_short} cut short by the end of the load")
        } else {
            String::new()
        };
        format!("{} planned: {done} done{skipped}{open}{cut_short}", count(steps, "fault"))
    })
}

fn is_request(step: &Step) -> bool {
    matches!(step.act, Act::Strike { fault, .. } if fault.form().is_request())
}

/// How many were done, would have lasted beyond the last heal, and were not healed before the load ended.
fn cut_short(evidence: &Evidence, strikes: &BTreeMap<u64, &StrikeRecord>) -> usize {
    let heals = || evidence.history.strikes.iter().filter(|strike| &*strike.f == "heal");
    let Some(healed) = heals().find(|heal| heal.invoked.step.is_none()).map(|heal| heal.invoked_at) else {
        return 0;
    };
    // The end of the run heals a link or a disk step by step too, but only once the load has had its time.
    let duration = u64::try_from(evidence.scenario.duration.as_nanos()).unwrap_or(u64::MAX);
    let end = evidence.epoch_ns.saturating_add(duration);
    let before = heals().filter(|heal| heal.invoked_at < end);
    let healed_before: BTreeSet<u64> = before.filter_map(|heal| heal.invoked.step).collect();
    let outlasts = |(number, step): &(u64, &Step)| {
        let Act::Strike { hold: Hold::For(hold), .. } = step.act else { return false };
        let Some(strike) = strikes.get(number).filter(|_| !healed_before.contains(number)) else {
            return false;
        };
        let installed = strike.completed.as_ref().is_some_and(is_installed);
        installed && strike.completed_at.is_some_and(|since| since.saturating_add(hold) > healed)
    };
    (0..).zip(&evidence.plan.steps).filter(outlasts).count()
}

fn is_installed(completed: &Strike) -> bool {
    completed.outcome == Some(StrikeOutcome::Installed)
}

/// Scripts of which no round got to its end.
fn unfinished(evidence: &Evidence, strikes: &BTreeMap<u64, &StrikeRecord>, tally: &mut Tally) {
    let mut rounds: BTreeMap<u32, BTreeMap<u32, Option<u64>>> = BTreeMap::new();
    for (number, step) in (0..).zip(&evidence.plan.steps) {
        let Some(script) = step.script else { continue };
        let stuck = rounds.entry(script).or_default().entry(step.round).or_default();
        let completed = strikes.get(&number).map(|strike| strike.completed.as_ref());
        let done = match (&step.act, completed) {
            // What only waits or heals has a line of its own when its fact did not come.
            (Act::Wait | Act::Heal(_), line) => line.is_none(),
            (Act::Strike { .. }, line) => line.flatten().is_some_and(is_installed),
        };
        if !done {
            stuck.get_or_insert(number);
        }
    }
    for (script, rounds) in rounds {
        let mut stuck: Vec<u64> = rounds.values().copied().flatten().collect();
        if stuck.len() < rounds.len() {
            continue;
        }
        stuck.truncate(1);
        for number in stuck {
            let Some(step) = evidence.plan.steps.get(number as usize) else { continue };
            let rounds = count(rounds.len() as u64, "round");
            let became = format!("was not done, and script {script} never got to its end in {rounds}");
            tally.doubt(told(evidence, number, step, strikes.get(&number).copied(), &became));
        }
    }
}

/// What the nemesis did and the plan does not say, or says otherwise.
fn unplanned(evidence: &Evidence, tally: &mut Tally) {
    let mut done: BTreeMap<u64, u32> = BTreeMap::new();
    for strike in &evidence.history.strikes {
        let heal = &*strike.f == "heal";
        let (Some(number), target) = (strike.invoked.step, &strike.invoked.target) else { continue };
        let step = usize::try_from(number).ok().and_then(|number| evidence.plan.steps.get(number));
        let twice = (!heal).then(|| done.insert(number, strike.invoke_line)).flatten();
        let planned = |step: &Step| evidence.epoch_ns.saturating_add(step.at);
        let why = match step {
            None => format!("the plan ends at {}", count(evidence.plan.steps.len() as u64, "step")),
            Some(step) if !is_planned(step, &strike.f, target) => {
                format!("the plan says {}", rule(step))
            }
            Some(step) if strike.invoked_at < planned(step) => {
                format!("it was planned for {}", evidence.at(planned(step)))
            }
            Some(_) => match twice {
                Some(line) => format!("it was done before, at line {line}"),
                None => continue,
            },
        };
        let begun =
            format!("step {number}: {} {target} begins at {}", strike.f, evidence.at(strike.invoked_at));
        let plan = Witness {
            file: "plan.jsonl".into(),
            line: step.map_or(0, |_| u32::try_from(number + 1).unwrap_or(u32::MAX)),
            text: why.clone(),
        };
        let text = format!("{begun}, and {why}");
        tally.doubt(Finding::new(text, [history_witness(strike.invoke_line, begun), plan]));
    }
}

/// What steps of one line of the scenario share.
fn rule(step: &Step) -> String {
    step.act.to_string()
}

/// Whether it is what the step does, or the undoing of it; or, of one that is no fault, that its fact or its time did
/// not come.
fn is_planned(step: &Step, f: &str, target: &str) -> bool {
    match step.fault() {
        Some((fault, planned)) => planned == target && (f == "heal" || fault.to_string() == f),
        None if f == "wait" => match step.on {
            Some(watch) => watch.fact.to_string() == target,
            // The load ended in the time that it was to let pass.
            None => step.after > 0 && target == "after",
        },
        None => false,
    }
}

fn told(
    evidence: &Evidence,
    number: u64,
    step: &Step,
    strike: Option<&StrikeRecord>,
    became: &str,
) -> Finding {
    let planned = evidence.epoch_ns.saturating_add(step.at);
    let text = format!("step {number} ({} at {}) {became}", rule(step), evidence.at(planned));
    let planned = Witness {
        file: "plan.jsonl".into(),
        line: u32::try_from(number + 1).unwrap_or(u32::MAX),
        text: format!("planned: {} at {}", rule(step), evidence.at(planned)),
    };
    let line = strike.map(|strike| {
        let detail = strike.completed.as_ref().map_or("begun", |completed| completed.detail.as_str());
        history_witness(strike.completion_line.unwrap_or(strike.invoke_line), detail)
    });
    Finding::new(text, [Some(planned), line].into_iter().flatten().collect::<Vec<_>>())
}
