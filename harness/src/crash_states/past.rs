//! What a node had told by some moment, as files of evidence.
//!
//! In: the evidence of one node of a run. Out: the same, cut at a moment, in another folder. Never: a line that was written
//! later, or a part of one.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;

use crate::history::folder::{Asked, BootRun, End, NodeRun, RunFolder, RunInfo};
use crate::scenario::{Cluster, Faults, Placement, Scenario, Workload};

/// One node of a run.
pub(super) struct Past {
    pub node: NodeRun,
    info: RunInfo,
    /// That of the run, of this one node and without a fault.
    scenario: String,
    boots: Vec<Boot>,
}

/// What one process has told.
struct Boot {
    number: u64,
    text: String,
    /// Of each line its time, in CLOCK_MONOTONIC ns, and where it ends.
    lines: Vec<(u64, usize)>,
}

#[derive(Deserialize)]
struct Told {
    t: u64,
}

impl Past {
    pub fn read(folder: &RunFolder, node: NodeRun) -> Result<Past, super::Failure> {
        let mut boots = Vec::new();
        for number in node.boots.iter().filter_map(|boot| boot.evidence) {
            let path = folder.boot(&node.id, number);
            let text = match fs::read_to_string(&path) {
                // It was killed before it had told anything.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                text => text.map_err(|error| format!("failed to read {}: {error}", path.display()))?,
            };
            let (mut lines, mut end) = (Vec::new(), 0);
            // A last line without an end is of a process that was killed in the middle of it.
            for (at, line) in (1..).zip(text.split_inclusive('\n').filter(|line| line.ends_with('\n'))) {
                let told: Told = serde_json::from_str(line).map_err(|error| {
                    format!("{}:{at}: expected a line of evidence: {error}", path.display())
                })?;
                end += line.len();
                lines.push((told.t, end));
            }
            boots.push(Boot { number, text, lines });
        }
        let of_run = Scenario::load(folder.scenario())?;
        let scenario = Scenario {
            cluster: Cluster { nodes: 1, spares: 0, ..of_run.cluster },
            workload: Workload { placement: Placement::Roam, ..of_run.workload },
            faults: Faults::Rules(Vec::new()),
            ..of_run
        };
        Ok(Past { node, info: folder.read_info()?, scenario: scenario.to_yaml(), boots })
    }

    /// The run as if it had ended for this node at `at`: in `folder`, which is empty. The number of the boot to come.
    pub fn write(&self, folder: &RunFolder, at: u64) -> Result<u64, super::Failure> {
        fs::create_dir_all(folder.events(&self.node.id))?;
        fs::create_dir_all(folder.data(&self.node.id))?;
        fs::write(folder.scenario(), &self.scenario)?;
        fs::write(folder.plan(), "")?;
        fs::write(folder.history(), "")?;
        let mut last = 0;
        for boot in &self.boots {
            let told = boot.lines.partition_point(|(time, _)| *time <= at);
            if told == 0 {
                continue;
            }
            fs::write(folder.boot(&self.node.id, boot.number), &boot.text[..boot.lines[told - 1].1])?;
            last = boot.number;
        }
        let killed = |evidence| BootRun {
            answered: false,
            end: End::Signal(nix::sys::signal::Signal::SIGKILL as i32),
            asked: Asked::Yes,
            next: false,
            damaged: false,
            evidence: Some(evidence),
        };
        // Each of them, those that told nothing included, was killed at the latest by the loss of power.
        let boots = (1..=last + 1).map(killed).collect();
        let node = NodeRun { id: self.node.id.clone(), boots };
        folder.write_info(&RunInfo { nodes: vec![node], history_lines: Some(0), ..self.info.clone() })?;
        Ok(last + 1)
    }
}

/// Whether a file of evidence tells by now how the disk was found.
pub(super) fn has_booted(evidence: &Path) -> bool {
    fs::read_to_string(evidence).is_ok_and(|text| text.contains('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash_states::told_until;
    use crate::disk::ledger::Ledger;

    const SCENARIO: &str = "# A claim.\nname: past\nduration: 5s\nworkload: { kind: register }\n";
    const INFO: &str = r#"{"scenario": "past", "seed": 1, "harness_version": "0", "node_version": "0",
        "node_binary": {"path": "", "xxh3": ""}, "started": "", "load_began_ns": 1, "load_ended_ns": 2,
        "last_heal_ns": 2, "history_lines": 0, "harness_failure": null, "interrupted": false,
        "nodes": [{"id": "n1", "boots": [{"answered": true, "end": {"signal": 9}, "evidence": 1}]}]}"#;

    /// Of each call when it began and when it ended; the third is a sync of what the second wrote.
    const LEDGER: &str = r#"{"number":1,"begin":10,"end":11,"act":"create","folder":1,"name":"log","inode":2,"new":"file"}
{"number":2,"begin":20,"end":21,"act":"length","inode":2,"length":5}
{"number":3,"begin":30,"end":40,"act":"sync","inode":2,"through":2,"failed":false}
{"number":4,"begin":50,"end":60,"act":"sync","inode":1,"through":1,"failed":false}
"#;

    /// The times of the lines that a disk must live up to, when this many calls of its ledger have had their effect; None
    /// when nobody can say.
    fn demanded(end: &str, told: &[u64], calls: usize) -> Option<Vec<u64>> {
        let run = tempfile::tempdir().unwrap();
        fs::write(run.path().join("ledger.jsonl"), format!("{LEDGER}{end}")).unwrap();
        fs::write(run.path().join("ledger.bytes"), "").unwrap();
        let at = told_until(&Ledger::read(run.path()).unwrap(), calls)?;

        let of_run = RunFolder::new(run.path());
        fs::write(of_run.scenario(), SCENARIO).unwrap();
        fs::write(run.path().join("run.json"), INFO).unwrap();
        fs::create_dir_all(of_run.events("n1")).unwrap();
        let lines: String = told.iter().map(|t| format!("{{\"t\":{t}}}\n")).collect();
        fs::write(of_run.boot("n1", 1), lines).unwrap();
        let node = of_run.read_info().unwrap().nodes.remove(0);
        let past = Past::read(&of_run, node).unwrap();

        let small = tempfile::tempdir().unwrap();
        let small = RunFolder::new(small.path());
        past.write(&small, at).unwrap();
        let text = fs::read_to_string(small.boot("n1", 1)).unwrap_or_default();
        Some(text.lines().map(|line| serde_json::from_str::<Told>(line).unwrap().t).collect())
    }

    #[test]
    fn what_is_told_while_a_sync_is_under_way_must_hold_without_it_and_what_is_told_at_its_end_with_it_only()
    {
        const END: &str = r#"{"number":5,"begin":70,"end":70,"act":"end"}"#;
        let told = [15, 29, 30, 35, 39, 40, 41, 59, 60, 99];
        for (calls, expected) in [
            // Nobody has the answer of the sync: who tells of what it makes durable has told too early, and is found.
            (2, &[15, 29, 30, 35, 39][..]),
            (3, &[15, 29, 30, 35, 39, 40, 41, 59]),
            (4, &told),
        ] {
            assert_eq!(
                demanded(&format!("{END}\n"), &told, calls).as_deref(),
                Some(expected),
                "{calls} calls"
            );
        }
        // Without its end the ledger may lack the very sync that came before a line.
        assert_eq!(demanded("", &told, 3).map(|told| told.len()), Some(8));
        assert_eq!(demanded("", &told, 4), None);
    }
}
