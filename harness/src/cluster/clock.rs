//! The clocks of a node: what its processes are told the time is.
//!
//! In: jumps and rates. Out: changes, and how often processes have read their clock since: the proof that one has
//! arrived. Never: a clock of the harness, or one of CLOCK_MONOTONIC that goes back: Linux has none.
//!
//! A node's processes are started with a small library preloaded, which the harness carries within itself and which
//! answers for libc's clocks by a [`page`] that both have mapped. It lies in the node's folder, so that whatever is
//! changed is so for each later start too, as on a machine of its own. Paths are relative to the node's folder, in which
//! it is started: in `LD_PRELOAD` no path may have a space.

#[allow(dead_code, reason = "a part of it is for the library")]
mod page;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::time::{ClockId, clock_gettime};

use page::{Face, Line, MAGIC, PAGE_BYTES, Page, TRUE_PERCENT, VARIABLE};

static LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/clock.so"));
/// In the run folder.
const LIBRARY_FILE: &str = "clock.so";
/// In a node's folder.
const PAGE_FILE: &str = "clock";

/// One of the clocks of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// CLOCK_REALTIME and those that follow it.
    Wall,
    /// CLOCK_MONOTONIC and those that follow it, and how long waits last.
    Monotonic,
}

/// The clocks of one node.
#[derive(Debug)]
pub struct Clock {
    page: Mapped,
    /// One change at a time.
    hand: Mutex<()>,
}

/// A change of a clock, to be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub dial: Dial,
    number: u32,
}

/// How a clock goes at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Of the true time; negative when it is behind.
    pub ahead_ns: i64,
    pub percent: u64,
}

/// Whether this harness was built with the library.
pub fn clocks_can_be_changed() -> bool {
    !LIBRARY.is_empty()
}

/// Writes the library into the run folder `run`.
pub fn put_clock_library(run: &Path) -> io::Result<()> {
    fs::write(run.join(LIBRARY_FILE), LIBRARY)
}

impl Clock {
    /// Makes the page in a node's folder. It tells the truth.
    pub fn create(folder: &Path) -> io::Result<Clock> {
        let path = folder.join(PAGE_FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(PAGE_BYTES as u64)?;
        let page = Mapped::of(&file)?;
        for face in [&page.wall, &page.monotonic] {
            face.store(Line::TRUE);
        }
        page.magic.store(MAGIC, Ordering::Release);
        Ok(Clock { page, hand: Mutex::default() })
    }

    /// What a process must find in its environment that is started in a folder `nodes/ID` of a run folder with the
    /// library.
    pub fn environment() -> Vec<(String, String)> {
        let variable = |name: &str, value: String| (name.to_owned(), value);
        vec![
            variable("LD_PRELOAD", format!("../../{LIBRARY_FILE}")),
            variable(VARIABLE, PAGE_FILE.to_owned()),
        ]
    }

    /// Processes that were started with it and have found it.
    pub fn processes(&self) -> u64 {
        self.page.attached.load(Ordering::Acquire)
    }

    /// From now on it is this much ahead of where it was.
    pub fn forth(&self, dial: Dial, by: Duration) -> Change {
        self.change(dial, |line| Line { told_ns: line.told_ns.saturating_add(nanoseconds(by)), ..line })
    }

    /// From now on the wall clock is this much behind where it was.
    pub fn wall_back(&self, by: Duration) -> Change {
        self.change(Dial::Wall, |line| Line { told_ns: line.told_ns.saturating_sub(nanoseconds(by)), ..line })
    }

    /// From now on it goes at so many percent of the true rate, from where it was.
    pub fn rate(&self, dial: Dial, percent: u32) -> Change {
        assert!(percent > 0, "a clock that stands still is no clock");
        self.change(dial, |line| Line { percent: percent.into(), ..line })
    }

    /// Both go at the true rate, and the wall clock tells the true time. The monotonic one may be off for good: only what
    /// passes on it means anything. Returns the clocks that did not.
    pub fn be_true(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.look(Dial::Monotonic).percent != TRUE_PERCENT {
            changes.push(self.change(Dial::Monotonic, |line| Line { percent: TRUE_PERCENT, ..line }));
        }
        if self.look(Dial::Wall) != (Look { ahead_ns: 0, percent: TRUE_PERCENT }) {
            changes.push(self.change(Dial::Wall, |_| Line::TRUE));
        }
        changes
    }

    pub fn look(&self, dial: Dial) -> Look {
        let (line, _, now) = self.face(dial).read(|| true_ns(dial));
        let ahead = i128::from(line.at(now)) - i128::from(now);
        let bound = |ns: i128| ns.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        Look { ahead_ns: bound(ahead), percent: line.percent }
    }

    /// How often processes have read the clock since it was changed.
    pub fn heard(&self, change: Change) -> u32 {
        self.face(change.dial).heard_since(change.number)
    }

    /// `next` is told a line that begins now and goes on as before.
    fn change(&self, dial: Dial, next: impl FnOnce(Line) -> Line) -> Change {
        let _hand = self.hand.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.face(dial).change(|line| {
            let now = true_ns(dial);
            next(Line { true_ns: now, told_ns: line.at(now), percent: line.percent })
        });
        Change { dial, number }
    }

    fn face(&self, dial: Dial) -> &Face {
        match dial {
            Dial::Wall => &self.page.wall,
            Dial::Monotonic => &self.page.monotonic,
        }
    }
}

fn true_ns(dial: Dial) -> u64 {
    let clock = match dial {
        Dial::Wall => ClockId::CLOCK_REALTIME,
        Dial::Monotonic => ClockId::CLOCK_MONOTONIC,
    };
    // The call fails only for a clock that the kernel does not have.
    let time = clock_gettime(clock).map_or((0, 0), |time| (time.tv_sec(), time.tv_nsec()));
    time.0 as u64 * 1_000_000_000 + time.1 as u64
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A page in memory, shared with whoever maps the same file.
#[derive(Debug)]
struct Mapped(NonNull<Page>);

#[allow(unsafe_code)]
mod mapping {
    use super::*;

    const LENGTH: NonZeroUsize = NonZeroUsize::new(PAGE_BYTES).expect("a page has bytes");

    // SAFETY: everything in a page is atomic, and the mapping belongs to no thread.
    unsafe impl Send for Mapped {}
    // SAFETY: as above.
    unsafe impl Sync for Mapped {}

    impl Mapped {
        /// Of a file of [`PAGE_BYTES`].
        pub(super) fn of(file: &File) -> io::Result<Mapped> {
            let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            // SAFETY: the file is as long as the mapping, and nobody makes it shorter; the address is the kernel's to choose.
            let place = unsafe { mmap(None, LENGTH, access, MapFlags::MAP_SHARED, file, 0) }?;
            Ok(Mapped(place.cast()))
        }
    }

    impl std::ops::Deref for Mapped {
        type Target = Page;

        fn deref(&self) -> &Page {
            // SAFETY: it is mapped until this is dropped, begins at a page of memory, and any bytes are atomics.
            unsafe { self.0.as_ref() }
        }
    }

    impl Drop for Mapped {
        fn drop(&mut self) {
            // SAFETY: nothing borrowed from it is left. That it was mapped is the only way to fail.
            _ = unsafe { munmap(self.0.cast(), PAGE_BYTES) };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clock() -> (tempfile::TempDir, Clock) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::create(folder.path()).unwrap();
        (folder, clock)
    }

    fn told(clock: &Clock, dial: Dial) -> (u64, u64) {
        let (line, _, now) = clock.face(dial).read(|| true_ns(dial));
        (now, line.at(now))
    }

    #[test]
    fn a_new_clock_tells_the_truth() {
        let (_folder, clock) = clock();
        for dial in [Dial::Wall, Dial::Monotonic] {
            let (now, told) = told(&clock, dial);
            assert_eq!(now, told);
            assert_eq!(clock.look(dial), Look { ahead_ns: 0, percent: 100 });
        }
    }

    #[test]
    fn a_jump_and_its_opposite_leave_a_clock_as_it_was() {
        let (_folder, clock) = clock();
        clock.forth(Dial::Wall, Duration::from_secs(10));
        assert_eq!(clock.look(Dial::Wall).ahead_ns, 10_000_000_000);
        clock.wall_back(Duration::from_secs(25));
        assert_eq!(clock.look(Dial::Wall).ahead_ns, -15_000_000_000);
        clock.forth(Dial::Wall, Duration::from_secs(15));
        assert_eq!(clock.look(Dial::Wall).ahead_ns, 0);
        assert_eq!(clock.look(Dial::Monotonic).ahead_ns, 0);
    }

    #[test]
    fn a_rate_begins_where_the_clock_was_and_ends_without_a_jump() {
        let (_folder, clock) = clock();
        let dial = Dial::Monotonic;
        let began = told(&clock, dial);
        clock.rate(dial, 300);
        let mut last = began.1;
        let until = std::time::Instant::now() + Duration::from_millis(20);
        while std::time::Instant::now() < until {
            let (_, now) = told(&clock, dial);
            assert!(now >= last);
            last = now;
        }
        clock.rate(dial, 100);
        let ended = told(&clock, dial);
        assert!(ended.1 >= last);
        let (passed, shown) = (ended.0 - began.0, ended.1 - began.1);
        assert!(shown > passed * 2 && shown <= passed * 3, "{shown} ns were told of {passed}");
        assert_eq!(clock.be_true(), [], "a monotonic clock is true when it goes at the true rate");
    }

    #[test]
    fn what_was_changed_is_true_again_at_the_end() {
        let (_folder, clock) = clock();
        clock.rate(Dial::Wall, 50);
        clock.rate(Dial::Monotonic, 50);
        clock.forth(Dial::Wall, Duration::from_secs(3));
        assert_eq!(clock.be_true().len(), 2);
        assert_eq!(clock.look(Dial::Wall), Look { ahead_ns: 0, percent: 100 });
        assert_eq!(clock.look(Dial::Monotonic).percent, 100);
    }

    #[test]
    fn only_readings_since_a_change_count_for_it() {
        let (_folder, clock) = clock();
        let face = clock.face(Dial::Wall);
        let (_, before, ()) = face.read(|| ());
        face.note(before);
        let change = clock.forth(Dial::Wall, Duration::from_secs(1));
        assert_eq!(clock.heard(change), 0);
        face.note(before);
        assert_eq!(clock.heard(change), 0, "it was read by the line before");
        let (_, now, ()) = face.read(|| ());
        face.note(now);
        face.note(now);
        assert_eq!(clock.heard(change), 2);
    }

    proptest! {
        #[test]
        fn a_line_never_goes_back_and_a_wait_by_it_is_never_short(
            true_ns in 0..1_u64 << 60, told_ns in 0..1_u64 << 60, percent in 1..100_000_u64,
            span in 0..1_u64 << 44, step in 0..1_u64 << 30,
        ) {
            let line = Line { true_ns, told_ns, percent };
            let now = true_ns + step;
            prop_assert_eq!(line.at(true_ns), told_ns);
            prop_assert!(line.at(now + 1) >= line.at(now));
            let after = now + line.true_span(span);
            prop_assert!(line.at(after) >= line.at(now) + span);
        }
    }
}
