//! Groups of the kernel (cgroups) in which nodes run, so that their memory and their time on the CPUs can be limited.
//!
//! In: what a process may use at most. Out: limits as the kernel took them, and its counters: the proof that they were
//! felt. Never: a group that it makes or removes but to try: the guard does, because it outlives the harness.
//!
//! A node is in its group from its start, so that all that it uses counts. Both versions of the interface are spoken; in
//! version 1 memory and CPU are two trees, in version 2 one. A group stands below that of the harness where that may be,
//! so that nobody gets more than the harness was given.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// The kernel's own, and long enough that a share of a percent is a time it can measure.
const PERIOD_US: u64 = 100_000;
/// Steps by which a limit is raised that the kernel refuses, for more is in use.
const RAISE_BYTES: u64 = 64 << 10;
const RAISES_MAX: u32 = 200;
/// Whoever is in a group.
pub(super) const MEMBERS: &str = "cgroup.procs";

/// What of a machine can be limited by a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    Memory,
    Cpu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Where groups of one controller can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    controller: Controller,
    version: Version,
    folder: PathBuf,
}

/// The group of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group(Tree);

impl Controller {
    fn word(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
        }
    }
}

impl Tree {
    /// `Err` is why there is none, and nobody was put into a group to find out.
    pub fn find(controller: Controller) -> Result<Tree, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let (mounts, own) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
        let places = places(controller, &mounts, &own);
        let mut why = format!("no tree of groups with the controller {} is mounted", controller.word());
        for (version, folder) in places {
            let tree = Tree { controller, version, folder };
            match tree.try_it() {
                Ok(()) => return Ok(tree),
                Err(error) => why = format!("no group can be made in {}: {error}", tree.folder.display()),
            }
        }
        Err(why)
    }

    /// Of the node of this name, of the run whose guard has this pid.
    pub fn group(&self, guard: u32, node: &str) -> Group {
        Group(Tree { folder: self.folder.join(format!("mkraft-{guard}-{node}")), ..self.clone() })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn try_it(&self) -> io::Result<()> {
        let trial =
            self.folder.join(format!("mkraft-trial-{}-{}", std::process::id(), self.controller.word()));
        // Whoever moves into a group must be able to leave the one it is in.
        OpenOptions::new().write(true).open(self.folder.join(MEMBERS))?;
        fs::create_dir(&trial)?;
        let group = Group(Tree { folder: trial.clone(), ..self.clone() });
        let opened = [MEMBERS, group.limit_file()]
            .iter()
            .try_for_each(|file| OpenOptions::new().write(true).open(trial.join(file)).map(|_| ()));
        fs::remove_dir(&trial).and(opened)
    }
}

/// Where a group may be made, best first.
fn places(controller: Controller, mounts: &str, own: &str) -> Vec<(Version, PathBuf)> {
    let mut places = Vec::new();
    for mount in mounts.lines() {
        let Some((about, kind)) = mount.split_once(" - ") else { continue };
        let (about, kind): (Vec<&str>, Vec<&str>) = (about.split(' ').collect(), kind.split(' ').collect());
        let (Some(root), Some(point)) = (about.get(3), about.get(4)) else { continue };
        let version = match kind.first() {
            Some(&"cgroup")
                if kind.last().is_some_and(|has| has.split(',').any(|it| it == controller.word())) =>
            {
                Version::One
            }
            Some(&"cgroup2") => Version::Two,
            _ => continue,
        };
        let is_own = |line: &&str| match version {
            Version::One => {
                line.split(':').nth(1).is_some_and(|has| has.split(',').any(|it| it == controller.word()))
            }
            Version::Two => line.starts_with("0::"),
        };
        let own = own.lines().find(is_own).and_then(|line| line.splitn(3, ':').nth(2)).unwrap_or("/");
        let below = own.strip_prefix(root.trim_end_matches('/')).unwrap_or("").trim_start_matches('/');
        let point = Path::new(point);
        let own = if below.is_empty() { point.to_path_buf() } else { point.join(below) };
        let up_to_the_mount = own.ancestors().take_while(|place| place.starts_with(point));
        places.extend(up_to_the_mount.map(|place| (version, place.to_path_buf())));
    }
    places
}

impl Group {
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    pub fn has(&self, pid: u32) -> bool {
        self.read(MEMBERS).is_ok_and(|pids| pids.lines().any(|line| line == pid.to_string()))
    }

    /// Bytes of memory or percent of a CPU. Returns what the kernel took: version 1 takes no less memory than is in use,
    /// so that as much is taken and nothing more can be had.
    pub fn limit(&self, most: u64) -> io::Result<u64> {
        let taken = match (self.0.controller, self.0.version) {
            (Controller::Memory, Version::One) => self.limit_memory(most)?,
            (Controller::Memory, Version::Two) => {
                self.write_if_there("memory.swap.max", "0")?;
                self.write("memory.max", &most.to_string())?;
                most
            }
            (Controller::Cpu, Version::One) => {
                self.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
                self.write("cpu.cfs_quota_us", &(PERIOD_US * most / 100).to_string())?;
                most
            }
            (Controller::Cpu, Version::Two) => {
                self.write("cpu.max", &format!("{} {PERIOD_US}", PERIOD_US * most / 100))?;
                most
            }
        };
        Ok(taken)
    }

    pub fn lift(&self) -> io::Result<()> {
        match (self.0.controller, self.0.version) {
            (Controller::Memory, Version::One) => {
                self.write_if_there("memory.memsw.limit_in_bytes", "-1")?;
                self.write("memory.limit_in_bytes", "-1")
            }
            (Controller::Memory, Version::Two) => {
                self.write("memory.max", "max")?;
                self.write_if_there("memory.swap.max", "max")
            }
            (Controller::Cpu, Version::One) => self.write("cpu.cfs_quota_us", "-1"),
            (Controller::Cpu, Version::Two) => self.write("cpu.max", "max"),
        }
    }

    /// How often the limit was felt so far: processes that were ended for want of memory, periods in which they were kept
    /// from a CPU.
    pub fn felt(&self) -> io::Result<u64> {
        let (file, word) = match (self.0.controller, self.0.version) {
            (Controller::Memory, Version::One) => ("memory.oom_control", "oom_kill"),
            (Controller::Memory, Version::Two) => ("memory.events", "oom_kill"),
            (Controller::Cpu, _) => ("cpu.stat", "nr_throttled"),
        };
        let text = self.read(file)?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let count = lines.find(|(name, _)| *name == word).and_then(|(_, count)| count.trim().parse().ok());
        count.ok_or_else(|| io::Error::other(format!("{file} has no {word}")))
    }

    /// The limit, as the kernel says it.
    pub fn in_force(&self) -> io::Result<String> {
        self.read(self.limit_file()).map(|text| text.trim().to_owned())
    }

    fn limit_memory(&self, most: u64) -> io::Result<u64> {
        let mut asked = most;
        for _ in 0..RAISES_MAX {
            match self.write("memory.limit_in_bytes", &asked.to_string()) {
                Ok(()) => {
                    // Nor in swap. It must not be less, and is refused while that much is there.
                    _ = self.write_if_there("memory.memsw.limit_in_bytes", &asked.to_string());
                    return Ok(asked);
                }
                Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
                    let used: u64 = self.read("memory.usage_in_bytes")?.trim().parse().unwrap_or(asked);
                    asked = used.max(asked + RAISE_BYTES);
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("{asked} bytes are in use, and ever more")))
    }

    fn limit_file(&self) -> &'static str {
        match (self.0.controller, self.0.version) {
            (Controller::Memory, Version::One) => "memory.limit_in_bytes",
            (Controller::Memory, Version::Two) => "memory.max",
            (Controller::Cpu, Version::One) => "cpu.cfs_quota_us",
            (Controller::Cpu, Version::Two) => "cpu.max",
        }
    }

    fn read(&self, file: &str) -> io::Result<String> {
        let path = self.folder().join(file);
        fs::read_to_string(&path).map_err(|error| named(&path, error))
    }

    /// In one call, as the kernel wants it.
    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let path = self.folder().join(file);
        let written =
            OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(value.as_bytes()));
        // Told apart by its number.
        written.map_err(|error| {
            if error.raw_os_error() == Some(Errno::EBUSY as i32) { error } else { named(&path, error) }
        })
    }

    fn write_if_there(&self, file: &str, value: &str) -> io::Result<()> {
        if self.folder().join(file).exists() { self.write(file, value) } else { Ok(()) }
    }
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
";
    const TWO: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn groups_are_made_below_that_of_the_harness_or_as_near_as_may_be() {
        let places = |controller, mounts, own| -> Vec<String> {
            places(controller, mounts, own).iter().map(|(_, place)| place.display().to_string()).collect()
        };
        let own = "4:memory:/jobs/7\n2:cpu,cpuacct:/\n0::/\n";
        let memory = ["/sys/fs/cgroup/memory/jobs/7", "/sys/fs/cgroup/memory/jobs", "/sys/fs/cgroup/memory"];
        assert_eq!(places(Controller::Memory, ONE, own), memory);
        assert_eq!(places(Controller::Cpu, ONE, own), ["/sys/fs/cgroup/cpu"]);
        let own = "0::/user.slice/a.scope\n";
        let both = ["/sys/fs/cgroup/user.slice/a.scope", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup"];
        assert_eq!(places(Controller::Memory, TWO, own), both);
        // What a container sees of its own group is the root of what is mounted.
        let inside = TWO.replace(" / ", " /docker/7 ");
        assert_eq!(places(Controller::Cpu, &inside, "0::/docker/7\n"), ["/sys/fs/cgroup"]);
        assert_eq!(places(Controller::Memory, "", own), [""; 0]);
    }

    /// Plain files in the place of the kernel's.
    fn fake(controller: Controller, version: Version, files: &[(&str, &str)]) -> (tempfile::TempDir, Group) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let tree = Tree { controller, version, folder: folder.path().to_path_buf() };
        (folder, Group(tree))
    }

    #[test]
    fn limits_are_written_as_the_second_version_has_them() {
        let files = [("memory.max", ""), ("memory.swap.max", ""), ("memory.events", "oom 1\noom_kill 2\n")];
        let (folder, group) = fake(Controller::Memory, Version::Two, &files);
        assert_eq!(group.limit(1 << 20).unwrap(), 1 << 20);
        let read = |file| fs::read_to_string(folder.path().join(file)).unwrap();
        assert_eq!((read("memory.max"), read("memory.swap.max")), ("1048576".into(), "0".into()));
        assert_eq!(group.felt().unwrap(), 2);

        let (folder, group) =
            fake(Controller::Cpu, Version::Two, &[("cpu.max", ""), ("cpu.stat", "nr_throttled 5\n")]);
        assert_eq!(group.limit(10).unwrap(), 10);
        assert_eq!(fs::read_to_string(folder.path().join("cpu.max")).unwrap(), "10000 100000");
        assert_eq!(group.felt().unwrap(), 5);
    }
}
