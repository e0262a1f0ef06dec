//! A process that is stopped and runs in turn: the guard's side of a slow node.
//!
//! In: the pid of a child of this process that leads its group, and two times. Out: what was done and seen so far.
//! Never: a turn of its own: the guard, which knows that the pid is still that child's, takes each when it is due.
//!
//! Each turn is timed from the one before as it was taken: a late one makes the next late too, and no two come at
//! once. That a stop took effect is the kernel's word to the parent: it is given when all threads have stopped.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::orders::Stuttered;

pub(super) struct Stutter {
    leader: Pid,
    stopped: Duration,
    running: Duration,
    began: Instant,
    /// When it was sent SIGSTOP; None while it runs.
    since: Option<Instant>,
    /// The stop of this turn was seen.
    seen: bool,
    due: Instant,
    so_far: Stuttered,
}

impl Stutter {
    /// Begins with a stop.
    pub fn begin(leader: Pid, stopped: Duration, running: Duration) -> Stutter {
        let now = Instant::now();
        let so_far = Stuttered::default();
        let mut stutter =
            Stutter { leader, stopped, running, began: now, since: None, seen: false, due: now, so_far };
        stutter.take_turn();
        stutter
    }

    /// When the next turn is to be taken.
    pub fn due(&self) -> Instant {
        self.due
    }

    pub fn take_turn(&mut self) {
        match self.since {
            None => self.stop(),
            Some(_) => self.resume(),
        }
    }

    /// Asks the kernel whether the stop has taken effect: at the signal that a child has changed, at the latest when
    /// the stop is over.
    pub fn look(&mut self) {
        let stops = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
        let stopped = matches!(waitid(Id::Pid(self.leader), stops), Ok(WaitStatus::Stopped(..)));
        if stopped && self.since.is_some() && !self.seen {
            self.seen = true;
            self.so_far.seen += 1;
        }
    }

    pub fn so_far(&self) -> Stuttered {
        let stopped = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        Stuttered {
            stopped_ns: self.so_far.stopped_ns + nanoseconds(stopped),
            within_ns: nanoseconds(self.began.elapsed()),
            ..self.so_far
        }
    }

    /// Leaves the process running.
    pub fn end(mut self) -> Stuttered {
        if self.since.is_some() {
            self.resume();
        }
        self.so_far()
    }

    fn stop(&mut self) {
        // Fails only when the process has ended; then its end is about to be told.
        if killpg(self.leader, Signal::SIGSTOP).is_ok() {
            self.so_far.stops += 1;
        }
        self.seen = false;
        let now = Instant::now();
        self.since = Some(now);
        self.due = now + self.stopped;
    }

    fn resume(&mut self) {
        self.look();
        let _ = killpg(self.leader, Signal::SIGCONT);
        let now = Instant::now();
        if let Some(since) = self.since.take() {
            self.so_far.stopped_ns += nanoseconds(now - since);
        }
        self.due = now + self.running;
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
