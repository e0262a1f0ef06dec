//! No node ended but by the harness' hand.

use super::about::About;
use super::evidence::Evidence;
use super::verdict::{Finding, Tally, Verdict, Witness, count};
use crate::history::folder::{Asked, End};

/// What the harness sends: everything else that ends a node is its own doing, or the machine's.
const SIGKILL: i32 = 9;
/// Ends a node that has not begun to listen for it yet.
const SIGTERM: i32 = 15;
/// Exit code of a panic.
const PANIC: i32 = 101;

/// Every process of a node ended when and as the harness asked it to: by SIGKILL, or after a SIGTERM; or it told an
/// error and ended, after the harness had made its disk fail; or it refused a disk that was damaged while it was down,
/// and named the damage by file and place; or a fault had left it too little memory.
///
/// Reads: how each process ended and what was asked of it, in `run.json`. Fails: naming a node that ended unasked (a
/// panic, a failed write, a folder it refused, the machine's out-of-memory killer) or not as asked. Unknown: nobody saw
/// a process end, one did not obey SIGTERM within its grace, or none was started. Cost: O(boots).
pub fn no_crash(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    let mut refusals = 0;
    for node in &evidence.info.nodes {
        for (boot, run) in (1_usize..).zip(&node.boots) {
            tally.examined += 1;
            let doubt = |tally: &mut Tally, text: String| {
                tally.doubt(Finding::new(text.clone(), [of("run.json".into(), text)]));
            };
            let ended = match (run.end, run.asked) {
                (End::Unseen, _) => {
                    doubt(&mut tally, format!("nobody saw how process {boot} of {} ended", node.id));
                    continue;
                }
                (_, Asked::Forced) => {
                    let text = format!(
                        "process {boot} of {} did not end when it was told to, and was killed",
                        node.id
                    );
                    doubt(&mut tally, text);
                    continue;
                }
                (End::Stopped | End::Signal(SIGKILL | SIGTERM), Asked::Yes) => continue,
                // It was to.
                (End::Exit(code), Asked::Refused) if code != PANIC => {
                    refusals += 1;
                    continue;
                }
                (End::Exit(code), Asked::Failing) if code != PANIC => continue,
                (End::Signal(SIGKILL), Asked::OutOfMemory) => continue,
                (End::Stopped, _) => "cleanly".to_owned(),
                (End::Signal(signal), _) => format!("by signal {signal}"),
                (End::Exit(code), _) => format!("with exit code {code}"),
            };
            let text = format!("process {boot} of {} ended {ended}, and nobody had asked it to", node.id);
            let log = format!("nodes/{}/stderr.log", node.id);
            let witnesses =
                [of("run.json".into(), text.clone()), of(log, "its last words are at the end".into())];
            let about = evidence
                .node_named(&node.id)
                .map_or(About::Nothing, |of| About::Ended { node: of, last: boot == node.boots.len() });
            tally.violated(Finding::new(text, witnesses).about(about));
        }
    }
    tally.verdict("no process of a node in run.json", |processes| {
        let told = format!("{} of nodes: none ended but by the harness' hand", count(processes, "boot"));
        match refusals {
            0 => told,
            _ => format!("{told}, or for damage that it named ({refusals})"),
        }
    })
}

fn of(file: String, text: String) -> Witness {
    Witness { file, line: 0, text }
}
