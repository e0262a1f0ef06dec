//! One state of a disk, opened by a real node.
//!
//! In: a state, and what the node had told before. Out: an [`Outcome`]. Never: a process that is left, or a node that
//! speaks to another: its peers are nowhere.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::Failure;
use super::past::{Past, has_booted};
use crate::check::{CHECKS, Evidence, Status};
use crate::cluster::{Guard, Launch, Status as Ended};
use crate::disk::states::DiskState;
use crate::history::folder::RunFolder;
use crate::scenario::Scenario;
use crate::system::{Mkraft, Place, Settings};

/// A node of which only the disk is left says how it found it within this time.
const BOOT_LIMIT: Duration = Duration::from_secs(20);
const BOOT_POLL: Duration = Duration::from_millis(1);
/// What one node's evidence can show by itself.
const JUDGED: [&str; 5] = ["term-monotonic", "vote-once", "leader-append-only", "log-matching", "durability"];
const SIGKILL: i32 = nix::sys::signal::Signal::SIGKILL as i32;
/// Addresses of peers, at which nobody listens.
const NOWHERE: u32 = 60;
/// Of what a node says at its end so many bytes are quoted.
const WORDS_MAX: usize = 400;

/// One state of one disk.
pub(super) struct Trial {
    pub past: Arc<Past>,
    /// In the ledger, and among the states of this moment.
    pub place: usize,
    pub number: usize,
    /// CLOCK_MONOTONIC in nanoseconds.
    pub at: u64,
    pub state: DiskState,
}

pub(super) enum Outcome {
    Right,
    Wrong { what: String, folder: TempDir },
    Unclear(String),
}

/// Where trials are made, one at a time.
pub(super) struct Bench {
    slot: u32,
    system: Mkraft,
    nodes: u32,
    spares: u32,
    settings: Settings,
    guard: Arc<Guard>,
}

impl Trial {
    /// `n2-1204-3`
    pub fn name(&self) -> String {
        format!("{}-{}-{}", self.past.node.id, self.place, self.number)
    }

    /// What of the unsynced is there, a line each.
    pub fn survived(&self) -> String {
        self.state.told.join("\n")
    }
}

/// `n2, power lost after call 1204, state 3`
impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trial { past, place, number, .. } = self;
        write!(f, "{}, power lost after line {place} of its ledger, state {number}", past.node.id)
    }
}

impl Bench {
    pub fn new(slot: u32, system: &Mkraft, scenario: &Scenario, guard: Arc<Guard>) -> Bench {
        let asked = &scenario.cluster;
        let settings = Settings::of(asked);
        Bench { slot, system: system.clone(), nodes: asked.nodes, spares: asked.spares, settings, guard }
    }

    pub async fn attempt(&self, trial: &Trial) -> Result<Outcome, Failure> {
        let scene = tempfile::Builder::new().prefix("mkraft-crash-state-").tempdir()?;
        let folder = RunFolder::new(scene.path());
        let node = &trial.past.node.id;
        let boot = trial.past.write(&folder, trial.at)?;
        let data = folder.data(node);
        trial.state.materialise(&data)?;
        let verify = self.launch(scene.path(), self.system.verify_arguments(&data));
        let Some(verified) = self.end_of(&verify).await? else {
            return Ok(Outcome::Unclear(format!("`verify` did not end within {BOOT_LIMIT:?}")));
        };
        let words = last_words(scene.path());
        match self.boots(scene.path(), node, &folder, boot).await? {
            Booted::Yes => {}
            Booted::Refused(status) => {
                let what =
                    format!("it ended with {status} instead of starting: {}", last_words(scene.path()));
                return Ok(Outcome::Wrong { what, folder: scene });
            }
            Booted::Silent => {
                return Ok(Outcome::Unclear(format!(
                    "it did not say within {BOOT_LIMIT:?} how it found its disk"
                )));
            }
        }
        // Of a folder that was being made, and of which nothing was told, it may say that it is none.
        if verified != Ended::Code(0) && boot > 1 {
            let what = format!("it starts, and `verify` ended with {verified}: {words}");
            return Ok(Outcome::Wrong { what, folder: scene });
        }
        let dump = self.launch(scene.path(), self.system.dump_arguments(&data));
        let Some(dumped) = self.end_of(&Launch { stdout: folder.dump(node), ..dump }).await? else {
            return Ok(Outcome::Unclear(format!("`dump` did not end within {BOOT_LIMIT:?}")));
        };
        if dumped != Ended::Code(0) {
            let what = format!("it starts, and `dump` ended with {dumped}: {}", last_words(scene.path()));
            return Ok(Outcome::Wrong { what, folder: scene });
        }
        Ok(tokio::task::block_in_place(|| judged(&folder))?.unwrap_or_right(scene))
    }

    async fn boots(
        &self,
        scene: &Path,
        node: &str,
        folder: &RunFolder,
        boot: u64,
    ) -> Result<Booted, Failure> {
        let ground = self.guard.ground();
        let number: u32 = node.trim_start_matches('n').parse()?;
        let name = |number: u32| format!("n{number}");
        let others = (1..=self.nodes + self.spares).filter(|other| *other != number);
        let place = Place {
            name: node.to_owned(),
            listen: ground.node(self.slot),
            peers: others.map(|other| (name(other), ground.node(NOWHERE + other))).collect(),
            voters: if number <= self.nodes { (1..=self.nodes).map(name).collect() } else { Vec::new() },
            data: folder.data(node),
            events: Some(folder.events(node)),
        };
        let child =
            self.guard.spawn(&self.launch(scene, self.system.run_arguments(&place, self.settings))).await?;
        let (evidence, deadline) = (folder.boot(node, boot), Instant::now() + BOOT_LIMIT);
        loop {
            if has_booted(&evidence) {
                self.guard.kill(&child).await?;
                let status = child.exit().await?.status;
                without_cut_line(&evidence)?;
                return Ok(match status {
                    Ended::Signal(SIGKILL) => Booted::Yes,
                    status => Booted::Refused(status),
                });
            }
            if let Ok(exit) = timeout(BOOT_POLL, child.exit()).await {
                return Ok(Booted::Refused(exit?.status));
            }
            if Instant::now() > deadline {
                self.guard.kill(&child).await?;
                child.exit().await?;
                return Ok(Booted::Silent);
            }
            sleep(BOOT_POLL).await;
        }
    }

    /// None when it had to be killed.
    async fn end_of(&self, launch: &Launch) -> Result<Option<Ended>, Failure> {
        let child = self.guard.spawn(launch).await?;
        match timeout(BOOT_LIMIT, child.exit()).await {
            Ok(exit) => Ok(Some(exit?.status)),
            Err(_) => {
                self.guard.kill(&child).await?;
                child.exit().await?;
                Ok(None)
            }
        }
    }

    fn launch(&self, scene: &Path, arguments: Vec<String>) -> Launch {
        Launch {
            program: self.system.program.clone(),
            arguments,
            environment: Vec::new(),
            groups: Vec::new(),
            folder: scene.to_owned(),
            stdout: scene.join("words"),
            stderr: scene.join("words"),
        }
    }
}

enum Booted {
    Yes,
    Refused(Ended),
    Silent,
}

enum Judged {
    Right,
    Wrong(String),
    Unclear(String),
}

impl Judged {
    fn unwrap_or_right(self, folder: TempDir) -> Outcome {
        match self {
            Judged::Right => Outcome::Right,
            Judged::Wrong(what) => Outcome::Wrong { what, folder },
            Judged::Unclear(why) => Outcome::Unclear(why),
        }
    }
}

/// What the checks say of the node before and after.
fn judged(folder: &RunFolder) -> Result<Judged, Failure> {
    let evidence = Evidence::read(folder)?;
    let mut judged = Judged::Right;
    for check in CHECKS.iter().filter(|check| JUDGED.contains(&check.name)) {
        let verdict = (check.judge)(&evidence);
        match verdict.status {
            Status::Violated => {
                let found = verdict.findings.first().map_or(verdict.summary, |finding| finding.text.clone());
                return Ok(Judged::Wrong(format!("{}: {found}", check.name)));
            }
            // Of others it is no wonder that one node's evidence shows nothing.
            Status::Unknown if check.name == "durability" => {
                judged = Judged::Unclear(format!("{}: {}", check.name, verdict.summary));
            }
            Status::Holds | Status::Unknown => {}
        }
    }
    Ok(judged)
}

/// It was killed as soon as it had told how it found its disk, and may have been about to tell more.
fn without_cut_line(evidence: &Path) -> io::Result<()> {
    let mut lines = fs::read(evidence)?;
    lines.truncate(lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    fs::write(evidence, lines)
}

fn last_words(scene: &Path) -> String {
    let words = fs::read(scene.join("words")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words[words.len().saturating_sub(WORDS_MAX)..]).into_owned();
    words.trim().to_owned()
}
