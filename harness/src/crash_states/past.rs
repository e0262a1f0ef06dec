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
