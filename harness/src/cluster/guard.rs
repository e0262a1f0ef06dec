//! The guard: a small process beside the harness that owns everything the harness starts, and outlives it.
//!
//! In: requests, one a line, on standard input. Out: replies on standard output. It spawns the nodes, sends
//! them every signal they get, and is the only one to reap them, so that a pid never means another process.
//! When its standard input ends, for the harness is done or dead, it kills all it finds below itself and ends.
//! Never: a second thread (nodes ask the kernel to die with the thread that made them), a node's meaning.
//!
//! Signals that would end it (a terminal's Ctrl-C goes to every process) it takes and ignores; being caught
//! and not ignored, they are back at their defaults in what it spawns.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{self as kernel, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpid, getppid, write};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal as Arrivals, SignalKind, signal};

use super::group::MEMBERS;
use super::orders::{Exit, Launch, Reply, Request, Signal, Status, now};
use super::stutter::Stutter;
use super::{descriptors, ground};

/// What cannot be killed in this time waits for the kernel (a dying disk), and is left to it.
const LAST_KILL_LIMIT: Duration = Duration::from_secs(10);
const LAST_KILL_POLL: Duration = Duration::from_millis(1);

/// Runs as the guard until standard input ends. To be called before the process has made any thread.
pub fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(guard())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mkraft-harness guard: {error} (the harness starts it; it is of no use by itself)");
            ExitCode::from(64)
        }
    }
}

async fn guard() -> io::Result<()> {
    let mut requests = BufReader::new(own_pipe(io::stdin(), pipe::Receiver::from_owned_fd)?).lines();
    let replies = own_pipe(io::stdout(), pipe::Sender::from_owned_fd)?;
    let caught = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
    let _caught: Vec<Arrivals> = caught.into_iter().map(signal).collect::<io::Result<_>>()?;
    let mut ends = signal(SignalKind::child())?;
    // Grandchildren whose parent has died become ours, and not init's.
    prctl::set_child_subreaper(true)?;

    let (leaders, stutters, groups) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
    let mut guard = Guard { replies, leaders, stutters, groups };
    let claim = match ground::claim((getpid().as_raw(), SystemTime::now())) {
        Ok(claim) => claim,
        Err(error) => {
            guard.say(&Reply::Unready { error: error.to_string() }).await;
            return Err(error);
        }
    };
    guard.say(&Reply::Ready { ground: claim.ground }).await;
    loop {
        tokio::select! {
            _ = ends.recv() => {
                guard.stutters.values_mut().for_each(Stutter::look);
                guard.reap_and_tell().await;
            }
            () = guard.next_turn() => guard.take_turns(),
            line = requests.next_line() => match line {
                Ok(Some(line)) => guard.obey(&line).await,
                Ok(None) | Err(_) => break,
            },
        }
    }
    kill_all_below(&guard.leaders);
    remove_all(&guard.groups);
    Ok(())
}

struct Guard {
    replies: pipe::Sender,
    /// The processes it spawned and has not reaped; each leads a process group of the same number.
    leaders: BTreeSet<i32>,
    /// Those of them that are stopped and run in turn.
    stutters: BTreeMap<i32, Stutter>,
    /// Groups of the kernel that it made.
    groups: BTreeSet<PathBuf>,
}

impl Guard {
    async fn obey(&mut self, line: &str) {
        let reply = match serde_json::from_str(line) {
            Ok(Request::Spawn { id, launch }) => {
                match self.enter(&launch).and_then(|groups| spawn(&launch, groups)) {
                    Ok(pid) => {
                        self.leaders.insert(pid as i32);
                        Reply::Spawned { id, pid }
                    }
                    Err(error) => Reply::NotSpawned { id, error },
                }
            }
            Ok(Request::Signal { id, pid, signal }) => {
                let alive = self.leaders.contains(&(pid as i32));
                let sent = alive && killpg(Pid::from_raw(pid as i32), kernel::Signal::from(signal)).is_ok();
                if sent { Reply::Signalled { id } } else { Reply::Gone { id } }
            }
            Ok(Request::Stutter { id, pid, stopped_ns, running_ns }) => {
                let leader = pid as i32;
                if self.leaders.contains(&leader) {
                    let (stopped, running) =
                        (Duration::from_nanos(stopped_ns), Duration::from_nanos(running_ns));
                    let stutter = Stutter::begin(Pid::from_raw(leader), stopped, running);
                    let so_far = stutter.so_far();
                    self.stutters.insert(leader, stutter);
                    Reply::Stuttered { id, so_far }
                } else {
                    Reply::Gone { id }
                }
            }
            Ok(Request::Look { id, pid }) => match self.stutters.get(&(pid as i32)) {
                Some(stutter) => Reply::Stuttered { id, so_far: stutter.so_far() },
                None => Reply::Gone { id },
            },
            Ok(Request::Steady { id, pid }) => match self.stutters.remove(&(pid as i32)) {
                Some(stutter) => Reply::Stuttered { id, so_far: stutter.end() },
                None => Reply::Gone { id },
            },
            Ok(Request::Descriptors { id, pid, spare }) => match self.leaders.contains(&(pid as i32)) {
                true => match descriptors::limit(pid as i32, spare) {
                    Ok((open, limit)) => Reply::Descriptors { id, open, limit },
                    Err(error) => Reply::NotLimited { id, error: error.to_string() },
                },
                false => Reply::Gone { id },
            },
            Err(error) => panic!("the harness sent {line:?}, which is no request: {error}"),
        };
        self.say(&reply).await;
    }

    /// Opens the files by which a process puts itself into its groups; makes those that are not there.
    fn enter(&mut self, launch: &Launch) -> Result<Vec<File>, String> {
        let mut files = Vec::new();
        for group in &launch.groups {
            let failed = |error: io::Error| format!("{}: {error}", group.display());
            match fs::create_dir(group) {
                Ok(()) => _ = self.groups.insert(group.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
            files.push(OpenOptions::new().write(true).open(group.join(MEMBERS)).map_err(failed)?);
        }
        Ok(files)
    }

    /// Comes when a process that stutters is to be stopped or resumed.
    fn next_turn(&self) -> impl Future<Output = ()> + use<> {
        let due = self.stutters.values().map(Stutter::due).min();
        async move {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        }
    }

    fn take_turns(&mut self) {
        let now = Instant::now();
        self.stutters.values_mut().filter(|stutter| stutter.due() <= now).for_each(Stutter::take_turn);
    }

    async fn reap_and_tell(&mut self) {
        while let Some((pid, status)) = reap_one(&self.leaders) {
            self.stutters.remove(&pid.as_raw());
            if self.leaders.remove(&pid.as_raw()) {
                let exit = Exit { status, at: now() };
                self.say(&Reply::Exited { pid: pid.as_raw() as u32, exit }).await;
            }
        }
    }

    /// A harness that cannot hear is dead: the end of standard input, which follows, says the same.
    async fn say(&mut self, reply: &Reply) {
        let mut line =
            serde_json::to_vec(reply).unwrap_or_else(|error| panic!("{reply:?} is no JSON: {error}"));
        line.push(b'\n');
        let _ = self.replies.write_all(&line).await;
    }
}

/// Takes a pipe of this process for tokio; an error when it is a terminal or a file.
fn own_pipe<P>(end: impl AsFd, make: impl Fn(std::os::fd::OwnedFd) -> io::Result<P>) -> io::Result<P> {
    make(end.as_fd().try_clone_to_owned()?)
}

/// Reaps one ended child, after killing what is left of the group it led.
fn reap_one(leaders: &BTreeSet<i32>) -> Option<(Pid, Status)> {
    // Looked at first and reaped after: until then the dead leader keeps its number from being used again.
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let pid = waitid(Id::All, peek).ok()?.pid()?;
    if leaders.contains(&pid.as_raw()) {
        let _ = killpg(pid, kernel::Signal::SIGKILL);
    }
    match waitid(Id::Pid(pid), WaitPidFlag::WEXITED) {
        Ok(WaitStatus::Exited(pid, code)) => Some((pid, Status::Code(code))),
        Ok(WaitStatus::Signaled(pid, signal, _)) => Some((pid, Status::Signal(signal as i32))),
        other => panic!("child {pid} had ended, then waitid said {other:?}"),
    }
}

#[allow(unsafe_code)]
fn spawn(launch: &Launch, groups: Vec<File>) -> Result<u32, String> {
    let guard = getpid();
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.arguments)
        .envs(launch.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&launch.folder)
        .stdin(Stdio::null())
        .stdout(append(&launch.stdout)?)
        .stderr(append(&launch.stderr)?)
        .process_group(0);
    // SAFETY: between fork and exec, this calls prctl(2), getppid(2) and write(2) and nothing else: all are
    // async-signal-safe, and none allocates or takes a lock.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(kernel::Signal::SIGKILL)?;
            // 0 is whoever writes.
            for group in &groups {
                write(group, b"0")?;
            }
            // A guard that died before the line above would never be noticed.
            if getppid() == guard { Ok(()) } else { Err(Errno::ESRCH.into()) }
        });
    }
    let child = command.spawn().map_err(|error| format!("{}: {error}", launch.program.display()))?;
    Ok(child.id())
}

fn append(path: &Path) -> Result<File, String> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Kills the groups it made and whatever became its child, until it has no child left.
fn kill_all_below(leaders: &BTreeSet<i32>) {
    for leader in leaders {
        let _ = killpg(Pid::from_raw(*leader), kernel::Signal::SIGKILL);
    }
    let deadline = Instant::now() + LAST_KILL_LIMIT;
    while Instant::now() < deadline {
        for child in children() {
            let _ = kill(child, kernel::Signal::SIGKILL);
        }
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Err(Errno::ECHILD) => return,
            Ok(WaitStatus::StillAlive) => std::thread::sleep(LAST_KILL_POLL),
            _ => {}
        }
    }
}

/// Nobody is in them any more, or will be when the kernel is done with whom it kills.
fn remove_all(groups: &BTreeSet<PathBuf>) {
    let deadline = Instant::now() + LAST_KILL_LIMIT;
    for group in groups {
        while Instant::now() < deadline
            && fs::remove_dir(group).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
        {
            std::thread::sleep(LAST_KILL_POLL);
        }
    }
}

fn children() -> Vec<Pid> {
    // One thread, so one file; it lists a child until that is reaped.
    let text = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

impl From<Signal> for kernel::Signal {
    fn from(signal: Signal) -> kernel::Signal {
        match signal {
            Signal::Kill => kernel::Signal::SIGKILL,
            Signal::Stop => kernel::Signal::SIGSTOP,
            Signal::Continue => kernel::Signal::SIGCONT,
            Signal::Terminate => kernel::Signal::SIGTERM,
        }
    }
}
