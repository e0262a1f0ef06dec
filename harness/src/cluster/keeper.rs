//! The harness' end of its guard: starts it, asks it, hears it.
//!
//! In: what to spawn and whom to signal. Out: [`Child`]ren, whose end is known the moment the guard reaps
//! them. Never: a signal of its own to a node's process; the guard alone knows what a pid means.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::ground::Ground;
use super::orders::{Exit, Launch, Reply, Request, Signal, Stuttered};

/// The guard answers in microseconds; this long, and the machine or the guard is stuck.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Longer than the guard takes at the worst to kill all it has.
const CLOSE_LIMIT: Duration = Duration::from_secs(12);
const REQUESTS_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    #[error("failed to start the guard {program}")]
    Start { program: String, source: io::Error },
    #[error("the guard found no loopback network that is free: {reason}")]
    Ground { reason: String },
    #[error("failed to spawn {program}: {reason}")]
    Spawn { program: String, reason: String },
    #[error("the guard has ended; all that it spawned died with it")]
    Lost,
    #[error("the guard did not answer within {ANSWER_LIMIT:?}")]
    Silent,
}

/// A running guard. When it is dropped, or the harness dies, the guard kills all that it spawned.
pub struct Guard {
    ground: Ground,
    pid: u32,
    /// None once closed.
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    desk: Arc<Mutex<Desk>>,
    process: tokio::sync::Mutex<tokio::process::Child>,
    next_id: AtomicU64,
}

/// A process that the guard spawned, and its end.
#[derive(Debug, Clone)]
pub struct Child {
    pub pid: u32,
    exit: watch::Receiver<Option<Exit>>,
}

/// Who waits for what.
#[derive(Default)]
struct Desk {
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    exits: HashMap<u32, watch::Sender<Option<Exit>>>,
    /// The guard speaks no more.
    lost: bool,
}

#[derive(Debug)]
enum Answer {
    Spawned(Child),
    NotSpawned(String),
    Signalled,
    Stuttered(Stuttered),
    Descriptors { open: u64, limit: u64 },
    NotLimited(String),
    Gone,
}

impl Guard {
    /// Starts `program guard`; for the harness itself, `program` is `/proc/self/exe`.
    pub async fn start(program: &Path) -> Result<Guard, GuardError> {
        let failed = |source| GuardError::Start { program: program.display().to_string(), source };
        let mut process = Command::new(program)
            .arg("guard")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(failed(io::Error::other("its pipes are missing")));
        };
        let pid = process.id().ok_or(GuardError::Lost)?;
        let mut replies = BufReader::new(stdout);
        let ground = match timeout(ANSWER_LIMIT, hear(&mut replies)).await {
            Ok(Some(Reply::Ready { ground })) => ground,
            Ok(Some(Reply::Unready { error })) => return Err(GuardError::Ground { reason: error }),
            Ok(_) => return Err(GuardError::Lost),
            Err(_) => return Err(GuardError::Silent),
        };
        let desk = Arc::default();
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        tokio::spawn(forward(queue, stdin));
        tokio::spawn(attend(replies, Arc::clone(&desk)));
        Ok(Guard {
            ground,
            pid,
            requests: Mutex::new(Some(requests)),
            desk,
            process: tokio::sync::Mutex::new(process),
            next_id: AtomicU64::new(1),
        })
    }

    /// The loopback network that is ours while the guard lives.
    pub fn ground(&self) -> Ground {
        self.ground
    }

    /// Of the guard itself; no other that runs now has it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub async fn spawn(&self, launch: &Launch) -> Result<Child, GuardError> {
        let launch = launch.clone();
        let program = launch.program.display().to_string();
        match self.ask(|id| Request::Spawn { id, launch }).await? {
            Answer::Spawned(child) => Ok(child),
            Answer::NotSpawned(reason) => Err(GuardError::Spawn { program, reason }),
            answer => panic!("the guard was asked to spawn and answered {answer:?}"),
        }
    }

    /// SIGKILL to the process group of `child`. False: it had ended before.
    pub async fn kill(&self, child: &Child) -> Result<bool, GuardError> {
        self.signal(child, Signal::Kill).await
    }

    /// Signals the process group of `child`. False: it had ended before.
    pub(super) async fn signal(&self, child: &Child, signal: Signal) -> Result<bool, GuardError> {
        match self.ask(|id| Request::Signal { id, pid: child.pid, signal }).await? {
            Answer::Signalled => Ok(true),
            Answer::Gone => Ok(false),
            answer => panic!("the guard was asked to signal and answered {answer:?}"),
        }
    }

    /// Has `child` stopped and running in turn until it ends or is steadied, beginning with a stop. False: it had
    /// ended before.
    pub(super) async fn stutter(
        &self,
        child: &Child,
        stopped: Duration,
        running: Duration,
    ) -> Result<bool, GuardError> {
        let [stopped_ns, running_ns] =
            [stopped, running].map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let asked = self.ask_of_stutter(|id| Request::Stutter { id, pid: child.pid, stopped_ns, running_ns });
        asked.await.map(|answer| answer.is_some())
    }

    /// What came of it so far; None when the child does not stutter.
    pub(super) async fn look(&self, child: &Child) -> Result<Option<Stuttered>, GuardError> {
        self.ask_of_stutter(|id| Request::Look { id, pid: child.pid }).await
    }

    /// Has it run, and says what came of it; None when it does not stutter.
    pub(super) async fn steady(&self, child: &Child) -> Result<Option<Stuttered>, GuardError> {
        self.ask_of_stutter(|id| Request::Steady { id, pid: child.pid }).await
    }

    async fn ask_of_stutter(
        &self,
        request: impl FnOnce(u64) -> Request,
    ) -> Result<Option<Stuttered>, GuardError> {
        match self.ask(request).await? {
            Answer::Stuttered(so_far) => Ok(Some(so_far)),
            Answer::Gone => Ok(None),
            answer => panic!("the guard was asked of a process that stutters and answered {answer:?}"),
        }
    }

    /// Lets `child` open so many descriptors beyond those it has, or as many as when it was started. Returns how many it
    /// has, and its limit; or why there is none. None: it had ended before.
    pub(super) async fn descriptors(
        &self,
        child: &Child,
        spare: Option<u32>,
    ) -> Result<Option<Result<(u64, u64), String>>, GuardError> {
        match self.ask(|id| Request::Descriptors { id, pid: child.pid, spare }).await? {
            Answer::Descriptors { open, limit } => Ok(Some(Ok((open, limit)))),
            Answer::NotLimited(error) => Ok(Some(Err(error))),
            Answer::Gone => Ok(None),
            answer => panic!("the guard was asked to limit descriptors and answered {answer:?}"),
        }
    }

    /// Has the guard kill all that is left, and waits until it has ended. Then the ground is free again.
    pub async fn close(&self) -> Result<(), GuardError> {
        drop(locked(&self.requests).take());
        let mut process = self.process.lock().await;
        match timeout(CLOSE_LIMIT, process.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(GuardError::Silent),
        }
    }

    async fn ask(&self, request: impl FnOnce(u64) -> Request) -> Result<Answer, GuardError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        {
            let mut desk = locked(&self.desk);
            if desk.lost {
                return Err(GuardError::Lost);
            }
            desk.answers.insert(id, sender);
        }
        let requests = locked(&self.requests).clone().ok_or(GuardError::Lost)?;
        let asked = async {
            requests.send(request(id)).await.map_err(|_| GuardError::Lost)?;
            answer.await.map_err(|_| GuardError::Lost)
        };
        timeout(ANSWER_LIMIT, asked).await.unwrap_or(Err(GuardError::Silent))
    }
}

impl Child {
    /// Waits for the end of the process.
    pub async fn exit(&self) -> Result<Exit, GuardError> {
        let mut exit = self.exit.clone();
        let exit = exit.wait_for(Option::is_some).await.map_err(|_| GuardError::Lost)?;
        exit.ok_or(GuardError::Lost)
    }
}

/// Writes requests down until nobody can make one; then standard input ends, which ends the guard.
async fn forward(mut queue: mpsc::Receiver<Request>, mut stdin: ChildStdin) {
    while let Some(request) = queue.recv().await {
        let mut line =
            serde_json::to_vec(&request).unwrap_or_else(|error| panic!("{request:?} is no JSON: {error}"));
        line.push(b'\n');
        if stdin.write_all(&line).await.is_err() {
            return;
        }
    }
}

/// Hands replies to those who wait, until the guard ends; then nobody waits any more.
async fn attend(mut replies: BufReader<ChildStdout>, desk: Arc<Mutex<Desk>>) {
    while let Some(reply) = hear(&mut replies).await {
        locked(&desk).take(reply);
    }
    let mut desk = locked(&desk);
    desk.lost = true;
    desk.answers.clear();
    desk.exits.clear();
}

async fn hear(replies: &mut BufReader<ChildStdout>) -> Option<Reply> {
    let mut line = String::new();
    replies.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
    // A line cut short is the last word of a guard that was killed.
    serde_json::from_str(&line).ok()
}

impl Desk {
    fn take(&mut self, reply: Reply) {
        let (id, answer) = match reply {
            Reply::Spawned { id, pid } => {
                let (sender, exit) = watch::channel(None);
                self.exits.insert(pid, sender);
                (id, Answer::Spawned(Child { pid, exit }))
            }
            Reply::NotSpawned { id, error } => (id, Answer::NotSpawned(error)),
            Reply::Signalled { id } => (id, Answer::Signalled),
            Reply::Stuttered { id, so_far } => (id, Answer::Stuttered(so_far)),
            Reply::Descriptors { id, open, limit } => (id, Answer::Descriptors { open, limit }),
            Reply::NotLimited { id, error } => (id, Answer::NotLimited(error)),
            Reply::Gone { id } => (id, Answer::Gone),
            Reply::Exited { pid, exit } => {
                if let Some(sender) = self.exits.remove(&pid) {
                    let _ = sender.send(Some(exit));
                }
                return;
            }
            Reply::Ready { .. } | Reply::Unready { .. } => return,
        };
        if let Some(sender) = self.answers.remove(&id) {
            // Whoever asked may have given up.
            let _ = sender.send(answer);
        }
    }
}

/// These locks are held for a few lines that cannot panic half-way.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
