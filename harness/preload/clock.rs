//! The library that is preloaded into nodes: it tells their processes the time that a page says.
//!
//! In: calls of libc's clocks and of those of its waits that have a timeout. Out: what the clocks of the page say, and
//! waits that last as long by them. Never: an allocation, a lock, a thread, anything of Rust's std: it lives in somebody
//! else's process, from before `main`.
//!
//! Without a page (`MKRAFT_CLOCK` names none) every call does what it does without this library. Of the clocks
//! `CLOCK_REALTIME`, its coarse and alarm forms and `CLOCK_TAI` follow the page's wall clock; `CLOCK_MONOTONIC`, its
//! coarse and raw forms and `CLOCK_BOOTTIME` follow its monotonic one, for a machine has one oscillator. Clocks of CPU
//! time tell the truth.
//!
//! A timeout is a time on one of these clocks. A wait for it is cut into slices of [`SLICE_NS`], after each of which the
//! clock is asked again: so a wait under way follows a change within that time. `select` and timers of descriptors are
//! converted once, when they begin. Not reached: programs that ask the kernel (rustix, Go) or the vDSO themselves or
//! that are linked statically; and timed locks for reading or writing.

#![no_std]

use core::ffi::{c_char, c_int, c_long, c_uint, c_void};
use core::ptr;
use core::sync::atomic::{AtomicI64, AtomicPtr, Ordering};

#[path = "../src/cluster/clock/page.rs"]
#[allow(dead_code)]
mod page;

use page::{Face, MAGIC, PAGE_BYTES, Page};

/// A wait under way notices a change of its clock within this.
const SLICE_NS: u64 = 50_000_000;
const SECOND_NS: u64 = 1_000_000_000;

type ClockId = c_int;
const REALTIME: ClockId = 0;
const MONOTONIC: ClockId = 1;
const MONOTONIC_RAW: ClockId = 4;
const REALTIME_COARSE: ClockId = 5;
const MONOTONIC_COARSE: ClockId = 6;
const BOOTTIME: ClockId = 7;
const REALTIME_ALARM: ClockId = 8;
const BOOTTIME_ALARM: ClockId = 9;
const TAI: ClockId = 11;

const EINTR: c_int = 4;
const ENOSYS: c_int = 38;
const ETIMEDOUT: c_int = 110;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

#[repr(C)]
pub struct Timeval {
    seconds: i64,
    microseconds: i64,
}

#[repr(C)]
pub struct Itimerspec {
    interval: Timespec,
    value: Timespec,
}

impl Timespec {
    fn of(nanoseconds: u64) -> Timespec {
        Timespec { seconds: (nanoseconds / SECOND_NS) as i64, nanoseconds: (nanoseconds % SECOND_NS) as i64 }
    }

    /// None: libc is to say what is wrong with it.
    fn nanoseconds(self) -> Option<u64> {
        if self.seconds < 0 || !(0..SECOND_NS as i64).contains(&self.nanoseconds) {
            return None;
        }
        Some((self.seconds as u64).saturating_mul(SECOND_NS).saturating_add(self.nanoseconds as u64))
    }
}

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn getenv(name: *const c_char) -> *const c_char;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn close(descriptor: c_int) -> c_int;
    fn mmap(
        at: *mut c_void,
        length: usize,
        protection: c_int,
        flags: c_int,
        descriptor: c_int,
        offset: i64,
    ) -> *mut c_void;
    fn abort() -> !;
    fn __errno_location() -> *mut c_int;
}

/// The function that this library stands before; None where libc has none.
macro_rules! libc {
    ($name:literal, fn($($argument:ty),*) -> $result:ty) => {{
        static FOUND: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
        let mut found = FOUND.load(Ordering::Acquire);
        if found.is_null() {
            const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;
            // SAFETY: the name ends with a nul.
            found = unsafe { dlsym(RTLD_NEXT, concat!($name, "\0").as_ptr().cast()) };
            FOUND.store(found, Ordering::Release);
        }
        // SAFETY: libc documents this signature, and a null pointer is None.
        unsafe { core::mem::transmute::<*mut c_void, Option<unsafe extern "C" fn($($argument),*) -> $result>>(found) }
    }};
}

/// Calls it; fails as the kernel does where there is no such call.
macro_rules! call {
    ($name:literal, fn($($type:ty),*) -> $result:ty, $($value:expr),*) => {
        match libc!($name, fn($($type),*) -> $result) {
            // SAFETY: these are the arguments that our own caller gave, but for a timeout of ours.
            Some(function) => unsafe { function($($value),*) },
            None => fail(ENOSYS) as $result,
        }
    };
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: abort has no conditions.
    unsafe { abort() }
}

static PAGE: AtomicPtr<Page> = AtomicPtr::new(ptr::null_mut());

#[used]
#[unsafe(link_section = ".init_array")]
static ATTACH: extern "C" fn() = attach;

extern "C" fn attach() {
    const READ_WRITE_CLOSE_ON_EXEC: c_int = 0o2000002;
    const READ_WRITE: c_int = 3;
    const SHARED: c_int = 1;
    // SAFETY: both texts end with a nul, the mapping is as long as the file, and nobody unmaps it.
    unsafe {
        let path = getenv(c"MKRAFT_CLOCK".as_ptr());
        if path.is_null() {
            return;
        }
        let file = open(path, READ_WRITE_CLOSE_ON_EXEC);
        if file < 0 {
            return;
        }
        let place = mmap(ptr::null_mut(), PAGE_BYTES, READ_WRITE, SHARED, file, 0);
        close(file);
        if place as isize == -1 {
            return;
        }
        let page = place.cast::<Page>();
        if (*page).magic.load(Ordering::Acquire) == MAGIC {
            PAGE.store(page, Ordering::Release);
            (*page).attached.fetch_add(1, Ordering::AcqRel);
        }
    }
}

fn page() -> Option<&'static Page> {
    // SAFETY: it is null, or a page that stays mapped; all of it is atomic.
    unsafe { PAGE.load(Ordering::Acquire).as_ref() }
}

fn fail(error: c_int) -> c_int {
    // SAFETY: libc has one for each thread.
    unsafe { *__errno_location() = error };
    -1
}

fn error() -> c_int {
    // SAFETY: as above.
    unsafe { *__errno_location() }
}

// Clocks.

fn true_clock(clock: ClockId, time: *mut Timespec) -> c_int {
    call!("clock_gettime", fn(ClockId, *mut Timespec) -> c_int, clock, time)
}

/// Of a clock that every Linux has.
fn true_ns(clock: ClockId) -> u64 {
    let mut time = Timespec::of(0);
    true_clock(clock, &mut time);
    time.nanoseconds().unwrap_or(0)
}

/// The face that a clock follows, the clock that it is read from, and by what its own times lie beside that one's; None
/// of a clock that tells the truth.
fn follows(page: &Page, clock: ClockId) -> Option<(&Face, ClockId, i64)> {
    static RAW: AtomicI64 = AtomicI64::new(i64::MIN);
    static BOOT: AtomicI64 = AtomicI64::new(i64::MIN);
    static ATOMIC: AtomicI64 = AtomicI64::new(i64::MIN);
    // Found once: what it changes by later would show as steps of a clock that has none.
    let beside = |base: ClockId, known: &AtomicI64| {
        if known.load(Ordering::Relaxed) == i64::MIN {
            let found = true_ns(clock) as i64 - true_ns(base) as i64;
            let _ = known.compare_exchange(i64::MIN, found, Ordering::Relaxed, Ordering::Relaxed);
        }
        known.load(Ordering::Relaxed)
    };
    Some(match clock {
        REALTIME | REALTIME_COARSE => (&page.wall, clock, 0),
        REALTIME_ALARM => (&page.wall, REALTIME, 0),
        TAI => (&page.wall, REALTIME, beside(REALTIME, &ATOMIC)),
        MONOTONIC | MONOTONIC_COARSE => (&page.monotonic, clock, 0),
        MONOTONIC_RAW => (&page.monotonic, MONOTONIC, beside(MONOTONIC, &RAW)),
        BOOTTIME | BOOTTIME_ALARM => (&page.monotonic, MONOTONIC, beside(MONOTONIC, &BOOT)),
        _ => return None,
    })
}

/// What a clock tells; with the face that it was read from and the number of its line.
fn told<'p>(page: &'p Page, clock: ClockId) -> Option<(u64, &'p Face, u32)> {
    let (face, base, beside) = follows(page, clock)?;
    let (line, change, mut now) = face.read(|| true_ns(base));
    if base == MONOTONIC_COARSE {
        // It lies behind the clock by which the line was drawn, and must not go back where the line begins.
        now = now.max(line.true_ns);
    }
    Some((line.at(now).saturating_add_signed(beside), face, change))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: ClockId, time: *mut Timespec) -> c_int {
    let Some((now, face, change)) = page().filter(|_| !time.is_null()).and_then(|page| told(page, clock))
    else {
        return true_clock(clock, time);
    };
    // SAFETY: our caller's, and not null.
    unsafe { *time = Timespec::of(now) };
    face.note(change);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut Timeval, zone: *mut c_void) -> c_int {
    if page().is_none() || time.is_null() || !zone.is_null() {
        let result = call!("gettimeofday", fn(*mut Timeval, *mut c_void) -> c_int, time, zone);
        if page().is_none() || time.is_null() || result != 0 {
            return result;
        }
    }
    let mut now = Timespec::of(0);
    // SAFETY: the place is ours.
    let result = unsafe { clock_gettime(REALTIME, &mut now) };
    // SAFETY: our caller's, and not null.
    unsafe { *time = Timeval { seconds: now.seconds, microseconds: now.nanoseconds / 1000 } };
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(place: *mut i64) -> i64 {
    let mut now = Timespec::of(0);
    // SAFETY: the place is ours.
    unsafe { clock_gettime(REALTIME, &mut now) };
    if !place.is_null() {
        // SAFETY: our caller's, and not null.
        unsafe { *place = now.seconds };
    }
    now.seconds
}

// Waits.

/// A time on a clock of the page that is waited for.
struct Wait {
    page: &'static Page,
    clock: ClockId,
    deadline_ns: u64,
}

impl Wait {
    /// This long from now, by the monotonic clock.
    fn span(page: &'static Page, span_ns: u64) -> Wait {
        let now = told(page, MONOTONIC).map_or(0, |(now, ..)| now);
        Wait { page, clock: MONOTONIC, deadline_ns: now.saturating_add(span_ns) }
    }

    /// Until a time that does not say of which clock it is: of the one that it is nearer to. Half a century lies between
    /// them.
    fn until(page: &'static Page, deadline_ns: u64) -> Wait {
        let away = |clock| told(page, clock).map_or(u64::MAX, |(now, ..)| now.abs_diff(deadline_ns));
        let clock = if away(REALTIME) < away(MONOTONIC) { REALTIME } else { MONOTONIC };
        Wait { page, clock, deadline_ns }
    }

    /// What is left of it, as the clock tells.
    fn told_left(&self) -> u64 {
        told(self.page, self.clock).map_or(0, |(now, ..)| self.deadline_ns.saturating_sub(now))
    }

    /// And in true time, if nobody changes the clock.
    fn left(&self) -> u64 {
        let face = if self.clock == REALTIME { &self.page.wall } else { &self.page.monotonic };
        face.read(|| ()).0.true_span(self.told_left())
    }

    fn is_over(&self) -> bool {
        self.told_left() == 0
    }

    fn slice(&self) -> u64 {
        self.left().min(SLICE_NS)
    }

    /// At the end of the next slice, on a true clock.
    fn slice_end(&self, clock: ClockId) -> Timespec {
        Timespec::of(true_ns(clock).saturating_add(self.slice()))
    }

    fn slice_ms(&self) -> c_int {
        self.slice().div_ceil(1_000_000) as c_int
    }

    /// Does `wait` for one slice after the other until something comes of it or the time is over.
    fn in_slices(&self, wait: impl Fn() -> c_int) -> c_int {
        self.again_until_over(wait, |result| result == 0)
    }

    /// The same, where a slice that was all there was to it says so in another way.
    fn again_until_over(&self, wait: impl Fn() -> c_int, is_slice: impl Fn(c_int) -> bool) -> c_int {
        loop {
            let result = wait();
            if !is_slice(result) || self.is_over() {
                return result;
            }
        }
    }
}

/// The wait of a call that takes milliseconds; None where it is none, or has no end.
fn milliseconds(timeout: c_int) -> Option<Wait> {
    let page = page().filter(|_| timeout > 0)?;
    Some(Wait::span(page, timeout as u64 * 1_000_000))
}

/// The same of a time that may be absent.
fn span(timeout: *const Timespec) -> Option<Wait> {
    // SAFETY: our caller's; null is none.
    let timeout = unsafe { timeout.as_ref() }?;
    let span_ns = timeout.nanoseconds().filter(|span| *span > 0)?;
    Some(Wait::span(page()?, span_ns))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_wait(epoll: c_int, events: *mut c_void, most: c_int, timeout: c_int) -> c_int {
    let wait = |timeout| {
        call!("epoll_wait", fn(c_int, *mut c_void, c_int, c_int) -> c_int, epoll, events, most, timeout)
    };
    match milliseconds(timeout) {
        None => wait(timeout),
        Some(span) => span.in_slices(|| wait(span.slice_ms())),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_pwait(
    epoll: c_int,
    events: *mut c_void,
    most: c_int,
    timeout: c_int,
    mask: *const c_void,
) -> c_int {
    let wait = |timeout| {
        call!(
            "epoll_pwait",
            fn(c_int, *mut c_void, c_int, c_int, *const c_void) -> c_int,
            epoll,
            events,
            most,
            timeout,
            mask
        )
    };
    match milliseconds(timeout) {
        None => wait(timeout),
        Some(span) => span.in_slices(|| wait(span.slice_ms())),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_pwait2(
    epoll: c_int,
    events: *mut c_void,
    most: c_int,
    timeout: *const Timespec,
    mask: *const c_void,
) -> c_int {
    let wait = |timeout: *const Timespec| {
        call!(
            "epoll_pwait2",
            fn(c_int, *mut c_void, c_int, *const Timespec, *const c_void) -> c_int,
            epoll,
            events,
            most,
            timeout,
            mask
        )
    };
    match span(timeout) {
        None => wait(timeout),
        Some(span) => span.in_slices(|| wait(&Timespec::of(span.slice()))),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn poll(descriptors: *mut c_void, count: u64, timeout: c_int) -> c_int {
    let wait = |timeout| call!("poll", fn(*mut c_void, u64, c_int) -> c_int, descriptors, count, timeout);
    match milliseconds(timeout) {
        None => wait(timeout),
        Some(span) => span.in_slices(|| wait(span.slice_ms())),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ppoll(
    descriptors: *mut c_void,
    count: u64,
    timeout: *const Timespec,
    mask: *const c_void,
) -> c_int {
    let wait = |timeout: *const Timespec| {
        call!(
            "ppoll",
            fn(*mut c_void, u64, *const Timespec, *const c_void) -> c_int,
            descriptors,
            count,
            timeout,
            mask
        )
    };
    match span(timeout) {
        None => wait(timeout),
        Some(span) => span.in_slices(|| wait(&Timespec::of(span.slice()))),
    }
}

/// In one wait: its sets are overwritten with the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn select(
    count: c_int,
    read: *mut c_void,
    write: *mut c_void,
    except: *mut c_void,
    timeout: *mut Timeval,
) -> c_int {
    let wait = |timeout: *mut Timeval| {
        call!(
            "select",
            fn(c_int, *mut c_void, *mut c_void, *mut c_void, *mut Timeval) -> c_int,
            count,
            read,
            write,
            except,
            timeout
        )
    };
    let asked = (!timeout.is_null()).then(|| {
        // SAFETY: our caller's, and not null.
        let Timeval { seconds, microseconds } = unsafe { ptr::read(timeout) };
        Timespec { seconds, nanoseconds: microseconds.saturating_mul(1000) }
    });
    let Some(span) = asked.as_ref().and_then(|asked| span(asked)) else { return wait(timeout) };
    let left = Timespec::of(span.left());
    let mut left = Timeval { seconds: left.seconds, microseconds: left.nanoseconds / 1000 };
    let result = wait(&mut left);
    let told = Timespec::of(span.told_left());
    // SAFETY: as above. Linux says there what is left.
    unsafe { *timeout = Timeval { seconds: told.seconds, microseconds: told.nanoseconds / 1000 } };
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pselect(
    count: c_int,
    read: *mut c_void,
    write: *mut c_void,
    except: *mut c_void,
    timeout: *const Timespec,
    mask: *const c_void,
) -> c_int {
    let wait = |timeout: *const Timespec| {
        call!(
            "pselect",
            fn(c_int, *mut c_void, *mut c_void, *mut c_void, *const Timespec, *const c_void) -> c_int,
            count,
            read,
            write,
            except,
            timeout,
            mask
        )
    };
    match span(timeout) {
        None => wait(timeout),
        Some(span) => wait(&Timespec::of(span.left())),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nanosleep(asked: *const Timespec, left: *mut Timespec) -> c_int {
    match span(asked) {
        None => call!("nanosleep", fn(*const Timespec, *mut Timespec) -> c_int, asked, left),
        Some(span) => match sleep_out(&span, left) {
            0 => 0,
            error => fail(error),
        },
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_nanosleep(
    clock: ClockId,
    flags: c_int,
    asked: *const Timespec,
    left: *mut Timespec,
) -> c_int {
    let page = page().filter(|page| follows(page, clock).is_some());
    // SAFETY: our caller's; null is none.
    let time = unsafe { asked.as_ref() }.and_then(|asked| asked.nanoseconds());
    match (page, time) {
        (Some(page), Some(span_ns)) if flags == 0 => sleep_out(&Wait::span(page, span_ns), left),
        (Some(page), Some(deadline_ns)) => sleep_out(&Wait { page, clock, deadline_ns }, ptr::null_mut()),
        _ => call!(
            "clock_nanosleep",
            fn(ClockId, c_int, *const Timespec, *mut Timespec) -> c_int,
            clock,
            flags,
            asked,
            left
        ),
    }
}

/// 0, or the error, as `clock_nanosleep` says it.
fn sleep_out(wait: &Wait, left: *mut Timespec) -> c_int {
    let sleep = || {
        let slice = Timespec::of(wait.slice());
        call!(
            "clock_nanosleep",
            fn(ClockId, c_int, *const Timespec, *mut Timespec) -> c_int,
            MONOTONIC,
            0,
            &slice,
            ptr::null_mut()
        )
    };
    let result = wait.in_slices(sleep);
    if result == EINTR && !left.is_null() {
        // SAFETY: our caller's, and not null.
        unsafe { *left = Timespec::of(wait.told_left()) };
    }
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sleep(seconds: c_uint) -> c_uint {
    let asked = Timespec { seconds: i64::from(seconds), nanoseconds: 0 };
    let mut left = Timespec::of(0);
    // SAFETY: both are ours.
    match unsafe { nanosleep(&asked, &mut left) } {
        0 => 0,
        _ => left.seconds as c_uint,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn usleep(microseconds: c_uint) -> c_int {
    let asked = Timespec::of(u64::from(microseconds) * 1000);
    // SAFETY: it is ours, and what is left is not asked for.
    unsafe { nanosleep(&asked, ptr::null_mut()) }
}

/// At the end of a slice it returns as if it had been woken, which it may at any time: its caller looks whether what it
/// waits for is there, as this library cannot.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_cond_timedwait(
    condition: *mut c_void,
    mutex: *mut c_void,
    deadline: *const Timespec,
) -> c_int {
    let wait = |deadline: *const Timespec| {
        call!(
            "pthread_cond_timedwait",
            fn(*mut c_void, *mut c_void, *const Timespec) -> c_int,
            condition,
            mutex,
            deadline
        )
    };
    let Some((until, _)) = wait_until(deadline) else { return wait(deadline) };
    woken_or_over(&until, wait(&until.slice_end(until.clock)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_cond_clockwait(
    condition: *mut c_void,
    mutex: *mut c_void,
    clock: ClockId,
    deadline: *const Timespec,
) -> c_int {
    let wait = |deadline: *const Timespec| {
        call!(
            "pthread_cond_clockwait",
            fn(*mut c_void, *mut c_void, ClockId, *const Timespec) -> c_int,
            condition,
            mutex,
            clock,
            deadline
        )
    };
    match wait_until(deadline).filter(|_| matches!(clock, REALTIME | MONOTONIC)) {
        None => wait(deadline),
        Some((until, page)) => {
            let until = Wait { page, clock, deadline_ns: until.deadline_ns };
            woken_or_over(&until, wait(&until.slice_end(clock)))
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sem_timedwait(semaphore: *mut c_void, deadline: *const Timespec) -> c_int {
    let wait = |deadline: *const Timespec| {
        call!("sem_timedwait", fn(*mut c_void, *const Timespec) -> c_int, semaphore, deadline)
    };
    match wait_until(deadline) {
        None => wait(deadline),
        Some((until, page)) => {
            let until = Wait { page, clock: REALTIME, deadline_ns: until.deadline_ns };
            until.again_until_over(
                || wait(&until.slice_end(REALTIME)),
                |result| result == -1 && error() == ETIMEDOUT,
            )
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sem_clockwait(
    semaphore: *mut c_void,
    clock: ClockId,
    deadline: *const Timespec,
) -> c_int {
    let wait = |deadline: *const Timespec| {
        call!("sem_clockwait", fn(*mut c_void, ClockId, *const Timespec) -> c_int, semaphore, clock, deadline)
    };
    match wait_until(deadline).filter(|_| matches!(clock, REALTIME | MONOTONIC)) {
        None => wait(deadline),
        Some((until, page)) => {
            let until = Wait { page, clock, deadline_ns: until.deadline_ns };
            until.again_until_over(
                || wait(&until.slice_end(clock)),
                |result| result == -1 && error() == ETIMEDOUT,
            )
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_mutex_timedlock(mutex: *mut c_void, deadline: *const Timespec) -> c_int {
    let wait = |deadline: *const Timespec| {
        call!("pthread_mutex_timedlock", fn(*mut c_void, *const Timespec) -> c_int, mutex, deadline)
    };
    match wait_until(deadline) {
        None => wait(deadline),
        Some((until, page)) => {
            let until = Wait { page, clock: REALTIME, deadline_ns: until.deadline_ns };
            until.again_until_over(|| wait(&until.slice_end(REALTIME)), |result| result == ETIMEDOUT)
        }
    }
}

fn wait_until(deadline: *const Timespec) -> Option<(Wait, &'static Page)> {
    // SAFETY: our caller's; null is none.
    let deadline_ns = unsafe { deadline.as_ref() }?.nanoseconds()?;
    let page = page()?;
    Some((Wait::until(page, deadline_ns), page))
}

fn woken_or_over(wait: &Wait, result: c_int) -> c_int {
    if result == ETIMEDOUT && !wait.is_over() { 0 } else { result }
}

/// Converted once. What `timerfd_gettime` says to be left is true time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn timerfd_settime(
    timer: c_int,
    flags: c_int,
    new: *const Itimerspec,
    old: *mut Itimerspec,
) -> c_int {
    const ABSOLUTE: c_int = 1;
    let set = |flags: c_int, new: *const Itimerspec| {
        call!(
            "timerfd_settime",
            fn(c_int, c_int, *const Itimerspec, *mut Itimerspec) -> c_int,
            timer,
            flags,
            new,
            old
        )
    };
    // SAFETY: our caller's; null is none.
    let asked = unsafe { new.as_ref() };
    let asked = asked.and_then(|new| Some((new.value.nanoseconds()?, new.interval.nanoseconds()?)));
    let (Some(page), Some((value, interval))) = (page(), asked.filter(|(value, _)| *value > 0)) else {
        return set(flags, new);
    };
    let wait = if flags & ABSOLUTE == 0 { Wait::span(page, value) } else { Wait::until(page, value) };
    let interval = page.monotonic.read(|| ()).0.true_span(interval);
    // A time that is over must come at once; 0 would be never.
    let value = Timespec::of(wait.left().max(1));
    set(0, &Itimerspec { interval: Timespec::of(interval), value })
}

// Calls of the kernel by number, as Rust's std and parking_lot make them.

#[cfg(target_arch = "x86_64")]
mod number {
    pub const NANOSLEEP: i64 = 35;
    pub const GETTIMEOFDAY: i64 = 96;
    pub const FUTEX: i64 = 202;
    pub const CLOCK_GETTIME: i64 = 228;
    pub const CLOCK_NANOSLEEP: i64 = 230;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const NANOSLEEP: i64 = 101;
    pub const GETTIMEOFDAY: i64 = 169;
    pub const FUTEX: i64 = 98;
    pub const CLOCK_GETTIME: i64 = 113;
    pub const CLOCK_NANOSLEEP: i64 = 115;
}

/// On these machines a function that takes whole numbers finds them where one that takes any arguments does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    // SAFETY: what the kernel would be given, our functions are.
    unsafe {
        match number {
            number::CLOCK_GETTIME => c_long::from(clock_gettime(a as ClockId, b as *mut Timespec)),
            number::GETTIMEOFDAY => c_long::from(gettimeofday(a as *mut Timeval, b as *mut c_void)),
            number::NANOSLEEP => c_long::from(nanosleep(a as *const Timespec, b as *mut Timespec)),
            number::CLOCK_NANOSLEEP => {
                let (asked, left) = (c as *const Timespec, d as *mut Timespec);
                match clock_nanosleep(a as ClockId, b as c_int, asked, left) {
                    0 => 0,
                    error => c_long::from(fail(error)),
                }
            }
            number::FUTEX => futex(a, b, c, d as *const Timespec, e, f),
            _ => kernel(number, a, b, c, d, e, f),
        }
    }
}

fn kernel(number: c_long, a: c_long, b: c_long, c: c_long, d: c_long, e: c_long, f: c_long) -> c_long {
    call!(
        "syscall",
        fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long,
        number,
        a,
        b,
        c,
        d,
        e,
        f
    )
}

/// A wait for it that is begun again finds out by itself whether the value has changed meanwhile.
fn futex(
    place: c_long,
    operation: c_long,
    value: c_long,
    timeout: *const Timespec,
    e: c_long,
    f: c_long,
) -> c_long {
    const WAIT: c_long = 0;
    const WAIT_BITSET: c_long = 9;
    const PRIVATE: c_long = 128;
    const ON_REALTIME: c_long = 256;
    let command = operation & !(PRIVATE | ON_REALTIME);
    let ask = |operation: c_long, timeout: *const Timespec| {
        kernel(number::FUTEX, place, operation, value, timeout as c_long, e, f)
    };
    if !matches!(command, WAIT | WAIT_BITSET) || timeout.is_null() {
        return ask(operation, timeout);
    }
    // SAFETY: our caller's, and not null.
    let Some((page, time)) = page().zip(unsafe { *timeout }.nanoseconds()) else {
        return ask(operation, timeout);
    };
    let clock = if operation & ON_REALTIME == 0 { MONOTONIC } else { REALTIME };
    let wait = match command {
        WAIT => Wait::span(page, time),
        _ => Wait { page, clock, deadline_ns: time },
    };
    let slice = || match command {
        WAIT => ask(operation & !ON_REALTIME, &Timespec::of(wait.slice())) as c_int,
        _ => ask(operation & !ON_REALTIME, &wait.slice_end(MONOTONIC)) as c_int,
    };
    c_long::from(wait.again_until_over(slice, |result| result == -1 && error() == ETIMEDOUT))
}

const _: () = assert!(PAGE_BYTES >= size_of::<Page>());
