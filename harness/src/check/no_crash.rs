//! No node ended but by the harness' hand.

use super::evidence::Evidence;
use super::verdict::{Finding, Tally, Verdict, Witness, count};
use crate::history::folder::End;

/// What the harness sends: everything else that ends a node is its own doing, or the machine's.
const SIGKILL: i32 = 9;

/// Every process of a node ended by SIGKILL, or cleanly when it was told to.
///
/// Reads: how each process ended, in `run.json`. Fails: naming a node that ended with an exit code other than 0 (a
/// panic, a failed write, a folder it refused) or by another signal. Unknown: nobody saw a process end, or none was
/// started. Cannot see: who sent a SIGKILL. Cost: O(boots).
pub fn no_crash(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    for node in &evidence.info.nodes {
        for (boot, run) in (1..).zip(&node.boots) {
            tally.examined += 1;
            let ended = match run.end {
                End::Stopped | End::Signal(SIGKILL) => continue,
                End::Signal(signal) => format!("by signal {signal}"),
                End::Exit(code) => format!("with exit code {code}"),
                End::Unseen => {
                    let text = format!("nobody saw how process {boot} of {} ended", node.id);
                    tally.doubt(Finding::new(text.clone(), [of("run.json".into(), text)]));
                    continue;
                }
            };
            let text = format!("process {boot} of {} ended {ended}, and nobody had asked it to", node.id);
            let log = format!("nodes/{}/stderr.log", node.id);
            let witnesses =
                [of("run.json".into(), text.clone()), of(log, "its last words are at the end".into())];
            tally.violated(Finding::new(text, witnesses));
        }
    }
    tally.verdict("no process of a node in run.json", |processes| {
        format!("{} of nodes: none ended but by the harness' hand", count(processes, "boot"))
    })
}

fn of(file: String, text: String) -> Witness {
    Witness { file, line: 0, text }
}
