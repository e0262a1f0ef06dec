//! How many descriptors a process that runs can open: the guard's side of it.
//!
//! In: the pid of a child of this process, and how many it is to have beyond those that it has open. Out: the limit that
//! is in force. Never: its hard limit, which only root could raise again.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// None gives it what this process has, which is what it was started with. Returns how many it has open, and below which
/// number each must be from now on.
pub(super) fn limit(pid: i32, spare: Option<u32>) -> io::Result<(u64, u64)> {
    let open = open(pid)?;
    let given = getrlimit(Resource::Nofile);
    let limit = match spare {
        Some(spare) => Some(below(&open, spare)),
        None => given.current,
    };
    let process = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    prlimit(Some(process), Resource::Nofile, Rlimit { current: limit, maximum: given.maximum })?;
    Ok((open.len() as u64, limit.unwrap_or(u64::MAX)))
}

fn open(pid: i32) -> io::Result<BTreeSet<u64>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// The number below which just so many are not open: a process is given the least that is free.
fn below(open: &BTreeSet<u64>, spare: u32) -> u64 {
    let mut free = (0..).filter(|number| !open.contains(number));
    free.nth(spare as usize).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_leaves_as_many_numbers_free_as_it_says() {
        let open = BTreeSet::from([0, 1, 2, 4, 7]);
        for (spare, limit) in [(0, 3), (1, 5), (2, 6), (3, 8), (4, 9)] {
            assert_eq!(below(&open, spare), limit);
            let free = (0..limit).filter(|number| !open.contains(number)).count();
            assert_eq!(free, spare as usize);
        }
    }
}
