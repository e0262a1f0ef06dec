//! How a run is going, for a person who waits: one line, rewritten on a terminal, repeated now and then elsewhere.
//!
//! In: a [`View`]. Out: text on standard error. Never: anything that a program should read.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::Leader;
use crate::workload::Snapshot;

/// Between lines where they are not rewritten.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// The least time over which a rate is told.
const RATE_SECONDS_MIN: f64 = 0.9;

/// A run at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct View<'a> {
    pub phase: Phase,
    /// Faults done and proven.
    pub faults: u64,
    pub load: Snapshot,
    pub leader: Option<&'a Leader>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Load { left: Duration },
    Recovery,
    LastReads,
}

pub struct Progress {
    aloud: bool,
    terminal: bool,
    /// Where the line is rewritten, something stands on it.
    written: bool,
    plain_next: Instant,
    /// Operations ended, and when: what a rate is made of.
    before: (u64, Instant),
    rate: u64,
}

impl Progress {
    pub fn new(aloud: bool) -> Progress {
        Progress {
            aloud,
            terminal: io::stderr().is_terminal(),
            written: false,
            plain_next: Instant::now() + PLAIN_INTERVAL,
            before: (0, Instant::now()),
            rate: 0,
        }
    }

    pub fn show(&mut self, view: &View<'_>) {
        let now = Instant::now();
        let plain_due = !self.terminal && now >= self.plain_next;
        if !self.aloud || !self.terminal && !plain_due {
            return;
        }
        self.update_rate(view.load, now);
        let line = line(view, self.rate);
        let mut out = io::stderr().lock();
        // Nobody to tell is no reason to stop a run.
        let _ = if self.terminal { write!(out, "\r\x1b[K{line}") } else { writeln!(out, "{line}") };
        let _ = out.flush();
        self.written = true;
        self.plain_next = now + PLAIN_INTERVAL;
    }

    /// Leaves the terminal's line empty for what comes next.
    pub fn clear(&mut self) {
        if self.terminal && self.written {
            let _ = write!(io::stderr(), "\r\x1b[K");
            self.written = false;
        }
    }

    fn update_rate(&mut self, load: Snapshot, now: Instant) {
        let ended = load.ok + load.fail + load.info;
        let (before, at) = self.before;
        let seconds = now.saturating_duration_since(at).as_secs_f64();
        // Two looks in a moment say nothing of a rate.
        if seconds >= RATE_SECONDS_MIN {
            self.rate = (ended.saturating_sub(before) as f64 / seconds).round() as u64;
            self.before = (ended, now);
        }
    }
}

fn line(view: &View<'_>, rate: u64) -> String {
    let phase = match view.phase {
        Phase::Load { left } => format!("{} s left", left.as_secs_f64().ceil() as u64),
        Phase::Recovery => "healed, recovering".to_owned(),
        Phase::LastReads => "reading a last time".to_owned(),
    };
    let leader = match view.leader {
        Some(leader) => format!("{} leads term {}", leader.node, leader.term),
        None => "no leader".to_owned(),
    };
    let Snapshot { ok, fail, info, .. } = view.load;
    let faults = view.faults;
    format!("{phase} · faults {faults} · {rate} ops/s ({ok} ok, {fail} failed, {info} open) · {leader}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_left_what_was_done_and_who_leads() {
        let leader = Leader { node: "n2".into(), term: 4 };
        let load = Snapshot { ok: 900, fail: 30, info: 2, shed: 0, withheld: 0 };
        let view = View {
            phase: Phase::Load { left: Duration::from_millis(6100) },
            faults: 3,
            load,
            leader: Some(&leader),
        };
        assert_eq!(
            line(&view, 190),
            "7 s left · faults 3 · 190 ops/s (900 ok, 30 failed, 2 open) · n2 leads term 4"
        );
        let view = View { phase: Phase::Recovery, leader: None, ..view };
        assert_eq!(
            line(&view, 0),
            "healed, recovering · faults 3 · 0 ops/s (900 ok, 30 failed, 2 open) · no leader"
        );
    }

    #[test]
    fn the_rate_is_that_between_two_looks() {
        let mut progress = Progress::new(true);
        let now = Instant::now();
        progress.before = (100, now);
        progress.update_rate(
            Snapshot { ok: 290, fail: 9, info: 1, shed: 7, withheld: 0 },
            now + Duration::from_secs(2),
        );
        assert_eq!(progress.rate, 100);
        // A look a moment later leaves it as it is.
        progress.update_rate(Snapshot { ok: 400, ..Snapshot::default() }, now + Duration::from_millis(2001));
        assert_eq!(progress.rate, 100);
    }
}
