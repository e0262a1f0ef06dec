//! A program whose clocks are changed: compiled by itself in a test, it is nothing but std and libc.
//!
//! In: the name of a wait and how long it is, in milliseconds. Out: how long it was by its own monotonic clock and by
//! the kernel's, in milliseconds; then how much its wall clock differs from that of its own start, in seconds.

use std::sync::{Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

unsafe extern "C" {
    fn epoll_create1(flags: i32) -> i32;
    fn epoll_wait(epoll: i32, events: *mut u8, most: i32, timeout: i32) -> i32;
    fn poll(descriptors: *mut u8, count: u64, timeout: i32) -> i32;
    fn select(count: i32, read: *mut u8, write: *mut u8, except: *mut u8, timeout: *mut [i64; 2]) -> i32;
    fn timerfd_create(clock: i32, flags: i32) -> i32;
    fn timerfd_settime(timer: i32, flags: i32, new: *const [i64; 4], old: *mut [i64; 4]) -> i32;
    fn read(descriptor: i32, place: *mut u8, bytes: usize) -> isize;
    fn time(place: *mut i64) -> i64;
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (wait, milliseconds) = (arguments[1].as_str(), arguments[2].parse::<u64>().unwrap());
    let span = Duration::from_millis(milliseconds);
    let (began, uptime, wall) = (Instant::now(), uptime_ms(), SystemTime::now());
    match wait {
        "sleep" => thread::sleep(span),
        "park" => {
            // It may return early, as documented.
            while began.elapsed() < span {
                thread::park_timeout(span.saturating_sub(began.elapsed()));
            }
        }
        "channel" => {
            let (_sender, receiver) = mpsc::channel::<()>();
            receiver.recv_timeout(span).unwrap_err();
        }
        "condition" => {
            let (mutex, condition) = (Mutex::new(()), Condvar::new());
            let guard = mutex.lock().unwrap();
            drop(condition.wait_timeout_while(guard, span, |()| true).unwrap());
        }
        _ => {
            let mut events = [0_u8; 64];
            // SAFETY: the places are ours, and as long as they are said to be.
            let result = unsafe {
                match wait {
                    "epoll" => epoll_wait(epoll_create1(0), events.as_mut_ptr(), 1, milliseconds as i32) as isize,
                    "poll" => poll(std::ptr::null_mut(), 0, milliseconds as i32) as isize,
                    "select" => {
                        let null = std::ptr::null_mut();
                        let mut timeout = [milliseconds as i64 / 1000, milliseconds as i64 % 1000 * 1000];
                        select(0, null, null, null, &mut timeout) as isize
                    }
                    "timer" => {
                        let timer = timerfd_create(1, 0);
                        let new = [0, 0, milliseconds as i64 / 1000, milliseconds as i64 % 1000 * 1_000_000];
                        timerfd_settime(timer, 0, &new, std::ptr::null_mut());
                        read(timer, events.as_mut_ptr(), 8) - 8
                    }
                    other => panic!("no wait is called {other}"),
                }
            };
            assert_eq!(result, 0, "{wait}");
        }
    }
    let told = began.elapsed().as_millis();
    println!("{told} {}", uptime_ms() - uptime);
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    // SAFETY: null asks for no place.
    let by_time = unsafe { time(std::ptr::null_mut()) };
    assert!((by_time - seconds(SystemTime::now())).abs() <= 1, "time and clock_gettime differ");
    println!("{}", seconds(wall));
}

/// As the kernel says it, whatever libc does; to 10 ms.
fn uptime_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap();
    (text.split(' ').next().unwrap().parse::<f64>().unwrap() * 1000.0) as u64
}
