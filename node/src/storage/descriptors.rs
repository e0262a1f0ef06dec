//! Waits for a file descriptor where there is none to be had.
//!
//! In: what opens a file or a folder. Out: what it opened, or why it cannot be opened. Never: a second try of anything
//! that may have had an effect: the kernel finds a descriptor before it looks at a name.
//!
//! A node short of descriptors (its clients hold them, or somebody has lowered its limit) is as one whose disk hangs: its
//! writes wait, and its peers go on without it.

use std::io;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

/// A shortage that lasts longer is no shortage.
const WAIT_MAX: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn when_there_is_one<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..WAIT_MAX.as_millis() / PAUSE.as_millis() {
        match open() {
            Err(error) if is_want_of_descriptors(&error) => thread::sleep(PAUSE),
            result => return result,
        }
    }
    open()
}

/// Of this process, or of the machine.
fn is_want_of_descriptors(error: &io::Error) -> bool {
    [Errno::EMFILE, Errno::ENFILE].iter().any(|want| error.raw_os_error() == Some(*want as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_want_of_descriptors_is_waited_for_and_nothing_else_is() {
        let mut answers = [Errno::EMFILE, Errno::ENFILE, Errno::EACCES].into_iter();
        let error =
            when_there_is_one(|| -> io::Result<()> { Err(answers.next().unwrap().into()) }).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EACCES as i32));
        let mut tries = 0;
        let opened = when_there_is_one(|| {
            tries += 1;
            if tries < 3 { Err(Errno::EMFILE.into()) } else { Ok(tries) }
        });
        assert_eq!(opened.unwrap(), 3);
    }
}
