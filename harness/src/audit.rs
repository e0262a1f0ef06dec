//! Whether a node acknowledges before its disk has what it acknowledges: `audit-fsync`, for any program that speaks as a
//! node does.
//!
//! In: a program. Out: for each acknowledged write, since when its bytes were durable on each disk; an [`Exit`]. Never: the
//! node's own word for it: it is the disk that says what was synced, and the client that says when the answer came.
//!
//! Of three nodes one is down, so that a write needs the disks of both others; each write has a mark of its own in its
//! value, by which the ledgers of the [`disk`](crate::disk)s tell where its bytes went; and each write and sync takes a
//! while, so that an answer which does not wait for it comes first.

mod durable;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prost::bytes::Bytes;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use self::durable::Durable;
use crate::cli::{AuditArgs, Exit};
use crate::cluster::{Cluster, Layout, Trouble, Wiring};
use crate::disk::ledger::{Cut, Ledger};
use crate::disk::{self, Slow};
use crate::history::monotonic_ns;
use crate::judging::failed;
use crate::scenario::Distribution;
use crate::system::call::Call;
use crate::system::client::NodeClient;
use crate::system::{Mkraft, Settings};

const NODES: u32 = 3;
const LEADER_LIMIT: Duration = Duration::from_secs(20);
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
const SETTINGS: Settings = Settings::timed(Duration::from_millis(500), Duration::from_millis(50));
/// Fewer acknowledgements show nothing.
const LEAST: usize = 20;
/// After a failure, before the next write.
const PAUSE: Duration = Duration::from_millis(10);
/// So many early acknowledgements are told one by one.
const TOLD_MAX: usize = 5;

/// One write that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Acknowledged {
    mark: Bytes,
    /// CLOCK_MONOTONIC in nanoseconds, when its client had the answer.
    at: u64,
}

/// What an audit came to.
#[derive(Debug, Serialize)]
struct Audited {
    program: String,
    version: String,
    nodes: Vec<String>,
    sync_takes_ms: u64,
    acknowledged: usize,
    /// Acknowledged before they were durable on every disk that was needed.
    early: Vec<Early>,
    /// Of those in time, the least time by which their bytes were durable before the answer came.
    least_margin_ms: Option<f64>,
    /// Why nothing can be said; then there is no verdict.
    unknown: Option<String>,
}

#[derive(Debug, Serialize)]
struct Early {
    mark: String,
    node: String,
    acknowledged_ns: u64,
    /// What the disk says of its bytes.
    found: Durable,
}

pub fn run(args: &AuditArgs) -> io::Result<Exit> {
    if let Some(missing) = disk::missing() {
        writeln!(anstream::stderr(), "skipped: an audit needs a disk of the harness, and {missing}")?;
        return Ok(Exit::Unknown);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let audited = runtime.block_on(audit(args));
    runtime.shutdown_background();
    let audited = match audited {
        Ok(audited) => audited,
        Err(error) => return failed(error.as_ref()),
    };
    let mut out = anstream::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", serde_json::to_string(&audited)?)?,
        false => tell(&audited, &mut out)?,
    }
    Ok(match (&audited.early[..], &audited.unknown) {
        ([_, ..], _) => Exit::Violated,
        ([], Some(_)) => Exit::Unknown,
        ([], None) => Exit::Holds,
    })
}

async fn audit(args: &AuditArgs) -> Result<Audited, Box<dyn std::error::Error>> {
    let system = Mkraft::find(args.node.as_deref()).await?;
    let folder = tempfile::Builder::new().prefix("mkraft-audit-").tempdir()?;
    let layout =
        Layout { events: false, disks: true, ..Layout::new(NODES, SETTINGS, folder.path(), Wiring::Direct) };
    let cluster = Cluster::start(system.clone(), &layout).await?;
    let taken = load(args, &cluster).await;
    cluster.close().await?;
    let (disks, acknowledged) = taken?;
    let mut audited = Audited {
        program: system.program.display().to_string(),
        version: system.version,
        nodes: disks.keys().cloned().collect(),
        sync_takes_ms: args.sync_ms,
        acknowledged: acknowledged.len(),
        early: Vec::new(),
        least_margin_ms: None,
        unknown: (acknowledged.len() < LEAST)
            .then(|| format!("only {} writes were acknowledged, which shows nothing", acknowledged.len())),
    };
    for (node, beside) in &disks {
        // They are unmounted, and so their ledgers are whole.
        audited.compare(node, &Ledger::read(beside)?, &acknowledged)?;
    }
    Ok(audited)
}

/// Writes for a while; what was acknowledged, and beside which disks that had to have it their ledgers are.
async fn load(
    args: &AuditArgs,
    cluster: &Cluster,
) -> Result<(BTreeMap<String, PathBuf>, Vec<Acknowledged>), Box<dyn std::error::Error>> {
    let leader = cluster.leader_within(LEADER_LIMIT).await.ok_or("the cluster elects no leader")?;
    let (down, up): (Vec<_>, Vec<_>) =
        cluster.nodes().iter().partition(|node| Some(node.name()) == other(cluster, &leader.node));
    for node in down {
        node.kill().await?;
    }
    let by = Duration::from_millis(args.sync_ms);
    for node in &up {
        let slow = Slow { by, spread: 0.0, distribution: Distribution::Uniform, seed: 0 };
        node.trouble_disk(Trouble::Slow(slow)).await?;
    }
    let address = cluster.client_addresses()[&leader.node];
    let client = Arc::new(NodeClient::new(leader.node, address, 4));
    let ends = Instant::now() + Duration::from_secs(args.seconds.into());
    let mut writers = JoinSet::new();
    for writer in 0..args.clients {
        writers.spawn(write_until(ends, writer, Arc::clone(&client)));
    }
    let acknowledged = writers.join_all().await.into_iter().flatten().collect();
    let mut disks = BTreeMap::new();
    for node in up {
        let disk = node.simulated_disk().ok_or("the disks are plain")?;
        let store = disk.look().await?.store;
        if store.count > 0 {
            return Err(format!("the disk of {}: {store}", node.name()).into());
        }
        disks.insert(node.name().to_owned(), disk.place().beside.clone());
    }
    Ok((disks, acknowledged))
}

/// Some node that does not lead.
fn other<'c>(cluster: &'c Cluster, leader: &str) -> Option<&'c str> {
    cluster.nodes().iter().map(|node| node.name()).find(|name| *name != leader)
}

/// One write after the other. What fails was not acknowledged, whatever became of it.
async fn write_until(ends: Instant, writer: u32, client: Arc<NodeClient>) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    let key = Bytes::from(format!("audit-{writer}"));
    for number in 0_u64.. {
        if Instant::now() >= ends {
            break;
        }
        let mark = Bytes::from(durable::mark(writer, number));
        let put = Call::Put { key: key.clone(), value: mark.clone() };
        match timeout(REQUEST_LIMIT, client.ask(put, None)).await {
            Ok(Ok(_)) => acknowledged.push(Acknowledged { mark, at: monotonic_ns() }),
            _ => sleep(PAUSE).await,
        }
    }
    acknowledged
}

impl Audited {
    fn compare(
        &mut self,
        node: &str,
        ledger: &Ledger,
        acknowledged: &[Acknowledged],
    ) -> Result<(), disk::ledger::Damage> {
        if let Some(cut) = ledger.cut {
            let help = if cut == Cut::Bound { "; write for a shorter time" } else { "" };
            self.unknown = Some(format!("the ledger of {node} {cut}{help}"));
            return Ok(());
        }
        let durable = durable::durable(ledger)?;
        if durable.is_empty() && !acknowledged.is_empty() {
            self.unknown = Some(format!("no mark of a write is found on the disk of {node}, in clear"));
            return Ok(());
        }
        for Acknowledged { mark, at } in acknowledged {
            // It may stand there in pieces.
            let Some(found) = durable.get(&mark[..]).copied() else {
                let mark = String::from_utf8_lossy(mark);
                self.unknown =
                    Some(format!("{mark} was acknowledged, and is not found on the disk of {node}"));
                continue;
            };
            match found {
                Durable::Since { ns } if ns <= *at => {
                    let margin = (at - ns) as f64 / 1e6;
                    self.least_margin_ms =
                        Some(self.least_margin_ms.map_or(margin, |least| least.min(margin)));
                }
                found => self.early.push(Early {
                    mark: String::from_utf8_lossy(mark).into_owned(),
                    node: node.to_owned(),
                    acknowledged_ns: *at,
                    found,
                }),
            }
        }
        Ok(())
    }
}

fn tell(audited: &Audited, out: &mut impl Write) -> io::Result<()> {
    let Audited { program, version, nodes, sync_takes_ms, acknowledged, early, least_margin_ms, unknown } =
        audited;
    writeln!(out, "{version} ({program})")?;
    writeln!(
        out,
        "{acknowledged} writes acknowledged, each of which needed the disks of {}; each write and sync of theirs took {sync_takes_ms} ms longer",
        nodes.join(" and ")
    )?;
    for Early { mark, node, acknowledged_ns, found } in early.iter().take(TOLD_MAX) {
        let then = match found {
            Durable::Never => "were never synced".to_owned(),
            Durable::Since { ns } => {
                format!("were durable {:.3} ms later", ns.saturating_sub(*acknowledged_ns) as f64 / 1e6)
            }
            Durable::Nameless => "were synced in a file whose name never was".to_owned(),
        };
        writeln!(out, "  {mark} was acknowledged when {node} did not have it: its bytes there {then}")?;
    }
    match (early.len(), unknown) {
        (0, None) => {
            let least = least_margin_ms.unwrap_or_default();
            writeln!(out, "HOLDS  all of them were durable on both before, by {least:.3} ms at least")
        }
        (0, Some(reason)) => writeln!(out, "UNKNOWN  {reason}"),
        (many, _) => writeln!(out, "VIOLATED  {many} times a disk did not have what was acknowledged"),
    }
}
