//! The harness' end of a disk: starts it, asks it, hears it.
//!
//! In: where it is to be, and which fault it is to have. Out: a [`Disk`], and what it did. Never: a mount that is left
//! behind, whichever of the two processes dies first; a look into the mount, which may hang.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::model::Lost;
use super::mounted;
use super::orders::{Asked, Fail, Look, Place, Replied, Reply, Request, Slow};

/// The disk answers in microseconds, but for a loss of power, which waits for the dead; this long, and something is
/// stuck.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// A disk that is told to end does so in milliseconds.
const END_LIMIT: Duration = Duration::from_secs(2);
const END_POLL: Duration = Duration::from_millis(1);

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("failed to start the disk {program}")]
    Start { program: String, source: io::Error },
    #[error("no disk is mounted at {mount}: {reason}")]
    Mount { mount: PathBuf, reason: String },
    #[error("the disk at {mount} refuses: {reason}")]
    Refused { mount: PathBuf, reason: String },
    #[error("the disk at {mount} has ended; all that is in it is gone")]
    Gone { mount: PathBuf },
    #[error("the disk at {mount} did not answer within {ANSWER_LIMIT:?}")]
    Silent { mount: PathBuf },
    #[error("failed to unmount the disk at {mount}")]
    Unmount { mount: PathBuf, source: io::Error },
}

/// A mounted disk. When it is dropped, or the harness dies, it is unmounted and its process ends.
#[derive(Debug)]
pub struct Disk {
    place: Place,
    pid: u32,
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    process: Child,
    /// None once closed: the disk ends.
    requests: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    /// What was read of the next reply; one that nobody waits for any more is read by who asks next.
    heard: Vec<u8>,
    asked: u64,
}

impl Disk {
    /// Starts `program disk`; for the harness itself, `program` is `/proc/self/exe`. The folder to mount over must be
    /// there, the one beside must hold no disk.
    pub async fn mount(program: &Path, place: &Place) -> Result<Disk, DiskError> {
        let failed = |source| DiskError::Start { program: program.display().to_string(), source };
        let unmountable =
            |error: io::Error| DiskError::Mount { mount: place.mount.clone(), reason: error.to_string() };
        let mount = place.mount.canonicalize().map_err(unmountable)?;
        let place = Place { mount, ..place.clone() };
        let mut process = Command::new(program)
            .arg("disk")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (Some(requests), Some(replies)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(failed(io::Error::other("its pipes are missing")));
        };
        let pid = process.id().unwrap_or_default();
        let replies = BufReader::new(replies);
        let line = Line { process, requests: Some(requests), replies, heard: Vec::new(), asked: 0 };
        let disk = Disk { place: place.clone(), pid, line: Mutex::new(line) };
        match disk.ask(Request::Mount(place.clone())).await {
            Ok(_) => Ok(disk),
            Err(DiskError::Refused { mount, reason }) => Err(DiskError::Mount { mount, reason }),
            Err(error) => Err(error),
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.place.mount
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Of its process, which leads a group of its own.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// For when the node was killed: answers what it still waits for, waits until it has let go of its files, and
    /// forgets all that was not synced, as the draw says. After 5 s it forgets nevertheless: whoever still has a file
    /// open gets EIO from it.
    pub async fn lose_power(&self, draw: u64) -> Result<Lost, DiskError> {
        match self.ask(Request::LosePower { draw }).await? {
            Reply::Lost(lost) => Ok(lost),
            reply => panic!("the disk was told to lose power and answered {reply:?}"),
        }
    }

    /// Faults add up, until they are healed.
    pub async fn fail(&self, fail: Fail) -> Result<(), DiskError> {
        self.order(Request::Fail(fail)).await
    }

    /// In the place of how slow it was before.
    pub async fn slow(&self, slow: Slow) -> Result<(), DiskError> {
        self.order(Request::Slow(slow)).await
    }

    /// Every call that reads or changes the disk waits; a process that waits cannot be killed before it is let go.
    pub async fn hang(&self) -> Result<(), DiskError> {
        self.order(Request::Hang).await
    }

    /// There is no new block: what would need one gets ENOSPC. Blocks that become free stay unavailable.
    pub async fn full(&self) -> Result<(), DiskError> {
        self.order(Request::Full).await
    }

    /// Ends every fault, and lets go of whoever waits.
    pub async fn heal(&self) -> Result<(), DiskError> {
        self.order(Request::Heal).await
    }

    /// What was done to how many calls; brings the ledger up to date as well.
    pub async fn look(&self) -> Result<Look, DiskError> {
        match self.ask(Request::Look).await? {
            Reply::Look(look) => Ok(*look),
            reply => panic!("the disk was asked for a look and answered {reply:?}"),
        }
    }

    /// Waits until nothing is mounted and no process is left. Again it does nothing.
    pub async fn unmount(&self) -> Result<(), DiskError> {
        let told = self.ask(Request::Unmount).await;
        let mut line = self.line.lock().await;
        drop(line.requests.take());
        let ended = timeout(END_LIMIT, line.process.wait()).await;
        if ended.is_err() {
            let _ = line.process.start_kill();
            let _ = timeout(END_LIMIT, line.process.wait()).await;
        }
        self.detach()?;
        match told {
            // Dead before it was told, and nothing of it is left.
            Ok(_) | Err(DiskError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn detach(&self) -> Result<(), DiskError> {
        let mount = self.place.mount.clone();
        mounted::detach(&mount).map_err(|source| DiskError::Unmount { mount, source })
    }

    async fn order(&self, request: Request) -> Result<(), DiskError> {
        match self.ask(request).await? {
            Reply::Done => Ok(()),
            reply => panic!("the disk was given an order and answered {reply:?}"),
        }
    }

    async fn ask(&self, request: Request) -> Result<Reply, DiskError> {
        let mount = || self.place.mount.clone();
        let asked = async { self.line.lock().await.ask(request).await };
        match timeout(ANSWER_LIMIT, asked).await {
            Ok(Some(Reply::Refused { reason })) => Err(DiskError::Refused { mount: mount(), reason }),
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(DiskError::Gone { mount: mount() }),
            Err(_) => Err(DiskError::Silent { mount: mount() }),
        }
    }
}

impl Line {
    /// None: the disk speaks no more.
    async fn ask(&mut self, request: Request) -> Option<Reply> {
        self.asked += 1;
        let asked = Asked { id: self.asked, request };
        let mut line =
            serde_json::to_vec(&asked).unwrap_or_else(|error| panic!("{asked:?} is no JSON: {error}"));
        line.push(b'\n');
        self.requests.as_mut()?.write_all(&line).await.ok()?;
        loop {
            self.replies.read_until(b'\n', &mut self.heard).await.ok()?;
            let heard = std::mem::take(&mut self.heard);
            let Replied { id, reply } = serde_json::from_slice(&heard).ok()?;
            if id == asked.id {
                return Some(reply);
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let line = self.line.get_mut();
        drop(line.requests.take());
        let deadline = Instant::now() + END_LIMIT;
        while matches!(line.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(END_POLL);
        }
        if matches!(line.process.try_wait(), Ok(None)) {
            let _ = line.process.start_kill();
        }
        // Of one that was killed, the mount is left.
        if let Err(error) = self.detach() {
            tracing::warn!(%error, "a dead mount is left");
        }
    }
}
