//! Mounts of this machine, as the kernel lists them: which are there, what is missing for one, and how one is undone.
//!
//! In: paths. Out: facts. Never: a look into a mount, which may hang.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::unistd::geteuid;

/// What the kernel calls our mounts.
pub(super) const NAME: &str = "mkraft-disk";
const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";

/// Why no disk can be mounted here, and what would help; None when one can.
pub fn missing() -> Option<String> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open(DEVICE) {
        return Some(format!(
            "{DEVICE} does not open ({error}): it needs the kernel's fuse module, and the right to it"
        ));
    }
    if geteuid().is_root() || helper().is_some() {
        return None;
    }
    Some(format!(
        "who is not root mounts through {HELPER}, which is not installed (Debian has it in `fuse3`)"
    ))
}

/// Whether something of ours is mounted there, alive or dead.
pub fn is_mounted(mount: &Path) -> io::Result<bool> {
    Ok(mounts()?.iter().any(|path| path == mount))
}

/// Every mount of ours.
pub fn mounts() -> io::Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text.lines().filter_map(ours).collect())
}

/// Takes a mount from the tree of files, whoever uses it: what is open stays open until it is closed. Nothing is done
/// where nothing of ours is mounted.
pub(super) fn detach(mount: &Path) -> io::Result<()> {
    if !is_mounted(mount)? {
        return Ok(());
    }
    match umount2(mount, MntFlags::MNT_DETACH) {
        // Another was faster.
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(Errno::EPERM) => detach_by_helper(mount),
        Err(errno) => Err(errno.into()),
    }
}

fn detach_by_helper(mount: &Path) -> io::Result<()> {
    let helper = helper().ok_or_else(|| io::Error::other(format!("{HELPER} is not installed")))?;
    let ended =
        Command::new(helper).args(["-u", "-z", "-q", "--"]).arg(mount).stdin(Stdio::null()).output()?;
    if ended.status.success() || !is_mounted(mount)? {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&ended.stderr).trim().to_owned()))
}

fn helper() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(HELPER)).find(|file| file.is_file())
}

/// The mount point in a line of mountinfo: `36 35 0:40 / /mnt rw,noatime shared:1 - fuse mkraft-disk rw`.
fn ours(line: &str) -> Option<PathBuf> {
    let (head, tail) = line.split_once(" - ")?;
    let source = tail.split(' ').nth(1)?;
    let point = head.split(' ').nth(4)?;
    (source == NAME).then(|| PathBuf::from(unescaped(point)))
}

/// Spaces, tabs, newlines and backslashes stand there in octal.
fn unescaped(point: &str) -> String {
    let known = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    known.iter().fold(point.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_says_where_a_disk_of_ours_is() {
        let line = |point: &str, name: &str| {
            format!("36 35 0:40 / {point} rw,noatime shared:1 - fuse {name} rw,user_id=0")
        };
        assert_eq!(ours(&line("/runs/n1/data", NAME)), Some("/runs/n1/data".into()));
        assert_eq!(ours(&line("/a\\040b", NAME)), Some("/a b".into()));
        assert_eq!(ours(&line("/runs/n1/data", "sshfs")), None);
        assert_eq!(ours(""), None);
    }
}
