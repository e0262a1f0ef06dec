//! The page that the harness and a node's process share: what its clocks are to say.
//!
//! In: true times. Out: times as they are told. Never: a call of any library: this file is compiled into the harness
//! and, by itself, into the library that is preloaded into nodes.
//!
//! Each clock tells a line: at a true time it tells a time, and from there on so many percent of the true time that
//! passes. The harness alone changes a line, under a sequence number that is odd meanwhile (a seqlock). A process notes
//! with each answer by which line it was: that is the proof that a change has arrived.

use core::sync::atomic::{AtomicU64, Ordering, fence};

/// At the beginning of a page, once it can be read.
pub const MAGIC: u64 = 0x6d6b_7261_6674_0001;
/// Bytes of the file.
pub const PAGE_BYTES: usize = 4096;
/// Where a process finds the file.
pub const VARIABLE: &str = "MKRAFT_CLOCK";
/// The rate of a clock that tells the truth.
pub const TRUE_PERCENT: u64 = 100;

#[repr(C)]
pub struct Page {
    pub magic: AtomicU64,
    /// Processes that have found it.
    pub attached: AtomicU64,
    pub wall: Face,
    pub monotonic: Face,
}

/// One clock, as processes see it.
#[repr(C)]
pub struct Face {
    /// Twice the number of changes; odd in the middle of one.
    sequence: AtomicU64,
    true_ns: AtomicU64,
    told_ns: AtomicU64,
    percent: AtomicU64,
    /// The number of the newest change by which it was read (upper half), and how often since (lower half).
    heard: AtomicU64,
}

/// What a clock tells, as long as nobody changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The true time from which on it holds.
    pub true_ns: u64,
    /// What is told then.
    pub told_ns: u64,
    /// Of true time; never 0.
    pub percent: u64,
}

impl Line {
    pub const TRUE: Line = Line { true_ns: 0, told_ns: 0, percent: TRUE_PERCENT };

    pub fn at(self, true_ns: u64) -> u64 {
        let passed = i128::from(true_ns) - i128::from(self.true_ns);
        let told = match self.percent {
            // Without a division: nearly all readings.
            TRUE_PERCENT => passed,
            percent => passed * i128::from(percent) / i128::from(TRUE_PERCENT),
        };
        (i128::from(self.told_ns) + told).clamp(0, i128::from(u64::MAX)) as u64
    }

    /// How much true time it takes to tell so much.
    pub fn true_span(self, told_ns: u64) -> u64 {
        let product = u128::from(told_ns) * u128::from(TRUE_PERCENT);
        u64::try_from(product.div_ceil(u128::from(self.percent))).unwrap_or(u64::MAX)
    }
}

impl Face {
    /// The line in force, its number, and what `look` saw while it was in force.
    pub fn read<T>(&self, look: impl Fn() -> T) -> (Line, u32, T) {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                let line = self.load();
                let seen = look();
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == before {
                    return (line, (before / 2) as u32, seen);
                }
            }
            core::hint::spin_loop();
        }
    }

    /// Notes that a time was told by the line of this number.
    pub fn note(&self, change: u32) {
        let heard = self.heard.load(Ordering::Relaxed);
        let (newest, count) = ((heard >> 32) as u32, heard as u32);
        if newest == change && count < u32::MAX {
            self.heard.fetch_add(1, Ordering::Relaxed);
        } else if newest < change {
            // Who loses this race has another time to tell soon.
            let first = u64::from(change) << 32 | 1;
            let _ = self.heard.compare_exchange(heard, first, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// How often it was read since the change of this number.
    pub fn heard_since(&self, change: u32) -> u32 {
        let heard = self.heard.load(Ordering::Relaxed);
        if (heard >> 32) as u32 >= change { heard as u32 } else { 0 }
    }

    /// Puts a new line in the place of the one in force. Nobody reads meanwhile: `next` is told the line and looks at
    /// the true time itself. To be called by one at a time. Returns the number of the change.
    pub fn change(&self, next: impl FnOnce(Line) -> Line) -> u32 {
        let before = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(before | 1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.store(next(self.load()));
        let after = (before | 1) + 1;
        self.sequence.store(after, Ordering::Release);
        (after / 2) as u32
    }

    /// What is told before any change.
    pub fn store(&self, line: Line) {
        self.true_ns.store(line.true_ns, Ordering::Relaxed);
        self.told_ns.store(line.told_ns, Ordering::Relaxed);
        self.percent.store(line.percent, Ordering::Relaxed);
    }

    fn load(&self) -> Line {
        let percent = self.percent.load(Ordering::Relaxed).max(1);
        let (true_ns, told_ns) = (&self.true_ns, &self.told_ns);
        Line { true_ns: true_ns.load(Ordering::Relaxed), told_ns: told_ns.load(Ordering::Relaxed), percent }
    }
}
