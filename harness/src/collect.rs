//! The bodies: stops every node and has each tell what its disk holds.
//!
//! In: a cluster, in whatever state the run has left it. Out: `nodes/<id>/dump.jsonl` of each node, beside the
//! events and the log that the node itself has written there; and a [`Collection`] that says what is missing.
//! Never: a wait without a bound, or one node's failure that keeps the others from being collected.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::cluster::{
    ActError, Cluster, Deed, GRACE, GuardError, Launch, Node, NodeFolder, NodeState, Status, at_once,
};
use crate::disk::{Disk, DiskError, Look};

/// Reading a log takes seconds at most; a dump that hangs is killed with the cluster.
const DUMP_LIMIT: Duration = Duration::from_secs(60);
/// Of what a failed dump says, so much is quoted.
const REASON_BYTES_MAX: u64 = 400;
const COPY_BYTES: usize = 64 << 10;
/// Copying a node's data takes seconds at most.
const COPY_LIMIT: Duration = Duration::from_secs(60);

/// What became of each node, in their order.
#[derive(Debug)]
pub struct Collection {
    pub nodes: Vec<Collected>,
}

#[derive(Debug)]
pub struct Collected {
    pub node: String,
    /// How it was stopped; None when it was down before.
    pub stop: Option<Result<Deed, ActError>>,
    pub dump: Result<(), DumpError>,
    /// What its disk, if that is one of the harness, did by no fault that was asked for.
    pub disk_failure: Option<String>,
    folder: NodeFolder,
    /// Mounted over the data until it is kept or dropped.
    disk: Option<Arc<Disk>>,
}

#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error("{node} has not been stopped, so its disk may still change")]
    NotStopped { node: String },
    #[error("failed to dump {node}: {source}")]
    Spawn { node: String, source: GuardError },
    #[error("the dump of {node} did not end within {DUMP_LIMIT:?}")]
    Hangs { node: String },
    #[error("the dump of {node} ended with {status}: {reason}")]
    Failed { node: String, status: Status, reason: String },
    #[error("failed to handle the files of the dump of {node}: {source}")]
    File { node: String, source: io::Error },
}

#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    #[error("the data of {node} was not copied from its disk: {source}")]
    Copy { node: String, source: io::Error },
    #[error("the data of {node} was not kept or dropped: {source}")]
    File { node: String, source: io::Error },
    #[error("the disk of {node} is left: {source}")]
    Disk { node: String, source: DiskError },
}

/// Stops what runs or is paused, all at once, then dumps one node after the other.
pub async fn collect(cluster: &Cluster) -> Collection {
    let stops = stop_all(cluster).await;
    // Whatever a fault has left: nobody is to wait for a disk that hangs.
    for disk in cluster.nodes().iter().filter_map(|node| node.simulated_disk()) {
        if let Err(error) = disk.heal().await {
            tracing::warn!(%error, "a disk was not healed");
        }
    }
    let mut nodes = Vec::new();
    for (node, stop) in cluster.nodes().iter().zip(stops) {
        let folder = cluster.node_folder(node.name());
        let dump = match node.state() {
            NodeState::Down => dump(cluster, node.name(), &folder).await,
            _ => Err(DumpError::NotStopped { node: node.name().to_string() }),
        };
        let disk = node.simulated_disk().cloned();
        let disk_failure = match &disk {
            Some(disk) => disk_failure(node.name(), disk.look().await),
            None => None,
        };
        nodes.push(Collected { node: node.name().to_string(), stop, dump, disk_failure, folder, disk });
    }
    Collection { nodes }
}

impl Collection {
    /// Everything that is not as it should be, for a person to read.
    pub fn troubles(&self) -> Vec<String> {
        let of = |node: &Collected| {
            let stop = node.stop.as_ref().and_then(|stop| stop.as_ref().err()).map(ActError::to_string);
            let dump = node.dump.as_ref().err().map(DumpError::to_string);
            stop.into_iter().chain(dump).collect::<Vec<_>>()
        };
        self.nodes.iter().flat_map(of).collect()
    }

    /// How the disks of the harness failed, for which the nodes are not to be blamed.
    pub fn disk_failure(&self) -> Option<String> {
        let failures: Vec<&str> = self.nodes.iter().filter_map(|node| node.disk_failure.as_deref()).collect();
        (!failures.is_empty()).then(|| failures.join("; "))
    }

    /// Keeps the nodes' data in the run folder, where something was violated, or drops it. Of a disk of the harness its
    /// ledger stays in any case.
    pub async fn keep_data(&self, keep: bool) -> Result<(), KeepError> {
        let mut kept = Ok(());
        for node in &self.nodes {
            // What one node cannot give does not cost that of the others.
            kept = kept.and(node.keep_data(keep).await);
        }
        kept
    }
}

impl Collected {
    async fn keep_data(&self, keep: bool) -> Result<(), KeepError> {
        let node = || self.node.clone();
        let failed = |source| KeepError::File { node: node(), source };
        let data = self.folder.data();
        let mut kept = Ok(());
        if let Some(disk) = self.disk.as_ref().filter(|_| self.folder.disk_store().exists()) {
            let copy = data.with_extension("copy");
            if keep {
                kept = copy_within(COPY_LIMIT, &data, &copy, copy_folder).await;
            }
            // It lets go of a copy that was given up.
            disk.unmount().await.map_err(|source| KeepError::Disk { node: node(), source })?;
            fs::remove_dir_all(self.folder.disk_store()).map_err(failed)?;
            if keep && kept.is_ok() {
                // What is empty may be renamed over.
                fs::rename(&copy, &data).map_err(failed)?;
            }
        }
        if !keep {
            fs::remove_dir_all(data).map_err(failed)?;
        }
        kept.map_err(|source| KeepError::Copy { node: node(), source })
    }
}

/// `None`, or what was wrong with the disk of a node.
fn disk_failure(node: &str, look: Result<Look, DiskError>) -> Option<String> {
    match look {
        Ok(Look { store, .. }) if store.count == 0 => None,
        Ok(Look { store, .. }) => Some(format!("the disk of {node}: {store}")),
        Err(error) => Some(format!("the disk of {node}: {error}")),
    }
}

/// A mount may hang, and whoever reads it with it: such a copy is left as it is.
async fn copy_within(
    limit: Duration,
    from: &Path,
    to: &Path,
    copy: impl FnOnce(&Path, &Path) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let (from, so_far) = (from.to_owned(), to.to_owned());
    match timeout(limit, spawn_blocking(move || copy(&from, &so_far))).await {
        Ok(Ok(copied)) => copied,
        Ok(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        Err(_) => {
            let given_up = format!("given up after {limit:?}; what there is of it is in {}", to.display());
            Err(io::Error::new(io::ErrorKind::TimedOut, given_up))
        }
    }
}

/// Files and folders; long stretches of zeros become holes, as they were.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_dir() => copy_folder(&entry.path(), &copy)?,
            _ => copy_file(&entry.path(), &copy)?,
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create_new(to)?);
    let mut bytes = vec![0; COPY_BYTES];
    let mut length = 0;
    loop {
        let read = from.read(&mut bytes)?;
        length += read as u64;
        match &bytes[..read] {
            [] => return to.set_len(length),
            zeros if zeros.iter().all(|byte| *byte == 0) => _ = to.seek(SeekFrom::Start(length))?,
            some => to.write_all(some)?,
        }
    }
}

/// All together, so that none has time to elect itself among the last.
async fn stop_all(cluster: &Cluster) -> Vec<Option<Result<Deed, ActError>>> {
    let stop = |node: &Arc<Node>| {
        let node = Arc::clone(node);
        async move {
            match node.state() {
                NodeState::Down => None,
                _ => Some(node.terminate(GRACE).await),
            }
        }
    };
    at_once(cluster.nodes().iter().map(stop)).await
}

async fn dump(cluster: &Cluster, node: &str, folder: &NodeFolder) -> Result<(), DumpError> {
    // Half a dump would be taken for a short log; so it has its name only when it is whole.
    let unfinished = folder.dump().with_extension("unfinished");
    let file_failed = |source| DumpError::File { node: node.to_string(), source };
    for path in [&folder.dump(), &unfinished, &folder.dump_log()] {
        remove(path).map_err(file_failed)?;
    }
    let launch = Launch {
        program: cluster.node(node).program().clone(),
        arguments: cluster.system().dump_arguments(&folder.data()),
        environment: Vec::new(),
        folder: folder.root().to_path_buf(),
        stdout: unfinished.clone(),
        stderr: folder.dump_log(),
        groups: Vec::new(),
    };
    let guard_failed = |source| DumpError::Spawn { node: node.to_string(), source };
    let child = cluster.guard().spawn(&launch).await.map_err(guard_failed)?;
    let exit = match timeout(DUMP_LIMIT, child.exit()).await {
        Ok(exit) => exit.map_err(guard_failed)?,
        Err(_) => return Err(DumpError::Hangs { node: node.to_string() }),
    };
    if exit.status != Status::Code(0) {
        let reason = beginning_of(&folder.dump_log()).map_err(file_failed)?;
        return Err(DumpError::Failed { node: node.to_string(), status: exit.status, reason });
    }
    fs::rename(&unfinished, folder.dump()).map_err(file_failed)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn beginning_of(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(REASON_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::StoreFailures;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_from_a_disk_that_hangs_is_given_up_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("data"), folder.path().join("data.copy"));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("file"), "bytes").unwrap();
        copy_within(DUMP_LIMIT, &from, &to, copy_folder).await.unwrap();
        assert_eq!(fs::read_to_string(to.join("file")).unwrap(), "bytes");
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        let hangs = move |_: &Path, _: &Path| {
            let _ = held.recv();
            Ok(())
        };
        let error = copy_within(Duration::from_millis(20), &from, &to, hangs).await.unwrap_err().to_string();
        assert!(error.starts_with("given up after 20ms; what there is of it is in "), "{error}");
        drop(let_go);
    }

    #[test]
    fn a_disk_that_ended_or_whose_store_failed_is_told_and_no_other() {
        assert_eq!(disk_failure("n2", Ok(Look::default())), None);
        let first = Some("failed to sync inode 5: No space left on device".to_owned());
        let store = StoreFailures { count: 3, first };
        assert_eq!(
            disk_failure("n2", Ok(Look { store, ..Look::default() })).unwrap(),
            "the disk of n2: its store on the machine's own disk failed 3 times, at first so: \
             failed to sync inode 5: No space left on device"
        );
        let gone = DiskError::Gone { mount: "/m".into() };
        assert_eq!(
            disk_failure("n2", Err(gone)).unwrap(),
            "the disk of n2: the disk at /m has ended; all that is in it is gone"
        );
    }
}
