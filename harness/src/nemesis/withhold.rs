//! Load that is steered: operations that clients do not send to a node.
//!
//! In: nodes, by their target, and which operations. Out: shut gates; and when they are opened, how many requests of
//! that sort were sent since they were shut, which is the proof when it is none. Never: a request taken back that was on
//! its way before.

use std::sync::Arc;

use super::account::Breakage;
use super::strike::Aim;
use super::target::{candidates, resolve};
use super::{Doing, Struck, Told, Undo};
use crate::history::StrikeOutcome;
use crate::scenario::{Manner, Ops};
use crate::system::gates::{Gate, Passage, Sort};

/// Shuts the gates before the target; they are opened again.
pub(super) fn withhold(aim: Aim) -> Doing<Struck> {
    Box::pin(async move {
        let Manner::Withhold { ops } = aim.manner else { unreachable!("{:?}", aim.manner) };
        let nodes = candidates(&aim.cluster);
        let names = match resolve(aim.target, &aim.view(&nodes), |_| true, aim.draw) {
            Ok(names) => names,
            Err(reason) => return Struck::skipped(reason),
        };
        if let Err(reason) = aim.claim.breaks(Breakage::default().hush()) {
            return Struck::skipped(reason);
        }
        let shut = |name: &String, sort: Sort| {
            let gate = aim.cluster.gates().of(name);
            let before = gate.shut(sort);
            Shut { name: name.clone(), sort, before, gate }
        };
        let all: Vec<Shut> =
            names.iter().flat_map(|name| sorts(ops).iter().map(move |sort| shut(name, *sort))).collect();
        let told = all.iter().map(|one| {
            let Shut { name, sort, before, .. } = one;
            format!("{name}: no {} are sent to it any more, after {}", word(*sort), before.passed)
        });
        let detail = told.collect::<Vec<_>>().join("; ");
        let told = Told { nodes: names.clone(), outcome: StrikeOutcome::Installed, detail };
        Struck { told, undo: Some(Undo::new(move || async move { open(names, all) })) }
    })
}

/// A gate that is held shut to one sort of operations.
struct Shut {
    name: String,
    sort: Sort,
    /// What had come when it was shut.
    before: Passage,
    gate: Arc<Gate>,
}

fn open(nodes: Vec<String>, all: Vec<Shut>) -> Told {
    let (mut kept, mut told) = (true, Vec::new());
    for Shut { name, sort, before, gate } in all {
        let now = gate.open(sort);
        let (passed, turned) = (now.passed - before.passed, now.turned_away - before.turned_away);
        kept &= passed == 0;
        told.push(format!("{name}: {passed} {} were sent to it, {turned} turned away", word(sort)));
    }
    let outcome = if kept { StrikeOutcome::Installed } else { StrikeOutcome::Indeterminate };
    Told { nodes, outcome, detail: told.join("; ") }
}

fn sorts(ops: Ops) -> &'static [Sort] {
    match ops {
        Ops::Reads => &[Sort::Read],
        Ops::Writes => &[Sort::Write],
        Ops::All => &[Sort::Read, Sort::Write],
    }
}

fn word(sort: Sort) -> &'static str {
    match sort {
        Sort::Read => "reads",
        Sort::Write => "writes",
    }
}
