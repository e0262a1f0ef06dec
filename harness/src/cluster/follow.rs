//! Follows what nodes write while they write it: lines of their evidence, and files that appear among their data.
//!
//! In: the folders of the nodes. Out: [`News`], from a thread of its own that the kernel wakes, a fraction of a
//! millisecond after they are there. Never: a line before all of it is there, or twice; a word of what it means; a node
//! followed any further from where it cannot be read.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use super::NodeFolder;
use super::orders::now;

/// No node writes a line that is nearly as long.
const LINE_BYTES_MAX: usize = 1 << 20;
const READ_BYTES: usize = 256 << 10;

/// Of one node.
#[derive(Debug, PartialEq, Eq)]
pub enum News<'n> {
    /// With its newline.
    Line(&'n [u8]),
    /// A file has appeared in the folder of its data.
    File { name: &'n str, at_ns: u64 },
    /// There will be no more news of it, for this reason.
    Lost(String),
}

/// Hears the news of a node, by its place. `Err` says what is wrong with a line.
pub trait Hear: Send + 'static {
    fn hear(&mut self, node: usize, news: News<'_>) -> Result<(), String>;
}

/// When it is dropped, nothing is heard any more.
pub struct Follower {
    over: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// From the first line of the first boot on: what is there already is heard before this returns. The folders must
    /// be there.
    pub fn start(folders: &[NodeFolder], listener: impl Hear) -> io::Result<Follower> {
        let kernel = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let mut nodes = Vec::new();
        for folder in folders {
            let written = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | taken_away();
            let events = folder.events();
            nodes.push(Node {
                evidence: watch(&kernel, &events, written)?,
                data: watch(&kernel, &folder.data(), AddWatchFlags::IN_CREATE)?,
                folder: events,
                boots: BTreeSet::new(),
                reading: None,
                lost: false,
            });
        }
        let over = Arc::new(EventFd::new()?);
        let mut round =
            Round { kernel, over: Arc::clone(&over), nodes, listener, buffer: vec![0; READ_BYTES] };
        for place in 0..round.nodes.len() {
            round.look_again(place);
            round.catch_up(place);
        }
        let thread = thread::Builder::new().name("evidence".to_owned()).spawn(move || round.go())?;
        Ok(Follower { over, thread: Some(thread) })
    }
}

/// Of a file in a folder, or of the folder.
fn taken_away() -> AddWatchFlags {
    AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
}

fn watch(kernel: &Inotify, folder: &PathBuf, flags: AddWatchFlags) -> io::Result<WatchDescriptor> {
    kernel
        .add_watch(folder, flags)
        .map_err(|error| io::Error::other(format!("failed to watch {}: {error}", folder.display())))
}

impl Drop for Follower {
    fn drop(&mut self) {
        let told = self.over.write(1);
        if let (Ok(_), Some(thread)) = (told, self.thread.take()) {
            // What it panicked of stands on standard error.
            let _ = thread.join();
        }
    }
}

struct Node {
    evidence: WatchDescriptor,
    data: WatchDescriptor,
    /// Of its evidence.
    folder: PathBuf,
    /// Files that were not begun to be read.
    boots: BTreeSet<BootFile>,
    reading: Option<Reading>,
    lost: bool,
}

fn is_boot(name: &str) -> bool {
    name.starts_with("boot-") && name.ends_with(".jsonl")
}

/// In the order of boots, however many digits they have.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct BootFile {
    length: usize,
    name: String,
}

struct Reading {
    path: PathBuf,
    file: File,
    lines: u64,
    /// Of a line that is not all there.
    begun: Vec<u8>,
}

struct Round<L> {
    kernel: Inotify,
    over: Arc<EventFd>,
    nodes: Vec<Node>,
    listener: L,
    buffer: Vec<u8>,
}

impl<L: Hear> Round<L> {
    fn go(mut self) {
        loop {
            let mut ready = [
                PollFd::new(self.kernel.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.over.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) if ready[1].any().unwrap_or(true) => return,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return self.lose_all(&format!("failed to wait for the kernel: {error}")),
            }
            let told = match self.kernel.read_events() {
                Ok(told) => told,
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(error) => return self.lose_all(&format!("failed to hear the kernel: {error}")),
            };
            for place in self.take(&told) {
                self.catch_up(place);
            }
        }
    }

    /// The nodes that may have written something.
    fn take(&mut self, told: &[InotifyEvent]) -> BTreeSet<usize> {
        let mut stirred = BTreeSet::new();
        for event in told {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                for place in 0..self.nodes.len() {
                    self.look_again(place);
                    stirred.insert(place);
                }
                continue;
            }
            let created = event.mask.contains(AddWatchFlags::IN_CREATE);
            let name = event.name.as_ref().and_then(|name| name.to_str());
            if let Some(place) = self.nodes.iter().position(|node| node.evidence == event.wd) {
                if let (true, Some(name)) = (created, name) {
                    self.nodes[place].found(name);
                }
                stirred.insert(place);
                if event.mask.intersects(taken_away()) && name.is_none_or(is_boot) {
                    self.catch_up(place);
                    let folder = &self.nodes[place].folder;
                    let path = name.map_or(folder.clone(), |name| folder.join(name));
                    self.lose(place, format!("{} was taken away", path.display()));
                }
            } else if let (Some(place), Some(name)) =
                (self.nodes.iter().position(|node| node.data == event.wd && !node.lost), name)
            {
                // Nothing is wrong with a name.
                let _ = self.listener.hear(place, News::File { name, at_ns: now() });
            }
        }
        stirred
    }

    fn look_again(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        match fs::read_dir(&node.folder) {
            Ok(entries) => {
                for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
                    node.found(&name);
                }
            }
            Err(error) => {
                let why = format!("failed to list {}: {error}", node.folder.display());
                self.lose(place, why);
            }
        }
    }

    /// Reads all that there is.
    fn catch_up(&mut self, place: usize) {
        let hear = |line: &[u8]| self.listener.hear(place, News::Line(line));
        if let Err(why) = self.nodes[place].read(&mut self.buffer, hear) {
            self.lose(place, why);
        }
    }

    fn lose(&mut self, place: usize, why: String) {
        if !std::mem::replace(&mut self.nodes[place].lost, true) {
            let _ = self.listener.hear(place, News::Lost(why));
        }
    }

    fn lose_all(&mut self, why: &str) {
        for place in 0..self.nodes.len() {
            self.lose(place, why.to_owned());
        }
    }
}

impl Node {
    fn found(&mut self, name: &str) {
        let boot = BootFile { length: name.len(), name: name.to_owned() };
        let known = self.reading.as_ref().and_then(|reading| reading.path.file_name()?.to_str());
        let is_later = known.is_none_or(|known| (known.len(), known) < (boot.length, &*boot.name));
        if is_boot(name) && is_later {
            self.boots.insert(boot);
        }
    }

    fn read(
        &mut self,
        buffer: &mut [u8],
        mut hear: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        while !self.lost {
            if let Some(reading) = &mut self.reading {
                reading.read(buffer, &mut hear)?;
            }
            // A boot's file is all there once the next one has begun.
            let Some(BootFile { name, .. }) = self.boots.pop_first() else { break };
            let path = self.folder.join(name);
            let file =
                File::open(&path).map_err(|error| format!("failed to open {}: {error}", path.display()))?;
            self.reading = Some(Reading { path, file, lines: 0, begun: Vec::new() });
        }
        Ok(())
    }
}

impl Reading {
    fn read(
        &mut self,
        buffer: &mut [u8],
        hear: &mut impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        loop {
            let length = match self.file.read(buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("failed to read {}: {error}", self.path.display())),
            };
            let mut rest = &buffer[..length];
            while let Some(end) = memchr::memchr(b'\n', rest) {
                let (line, after) = rest.split_at(end + 1);
                rest = after;
                self.lines += 1;
                let heard = match self.begun.is_empty() {
                    true => hear(line),
                    false => {
                        self.begun.extend_from_slice(line);
                        let heard = hear(&self.begun);
                        self.begun.clear();
                        heard
                    }
                };
                heard.map_err(|what| format!("{}:{}: {what}", self.path.display(), self.lines))?;
            }
            self.begun.extend_from_slice(rest);
            if self.begun.len() > LINE_BYTES_MAX {
                let line = self.lines + 1;
                return Err(format!("{}:{line}: no line is so long", self.path.display()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    struct Ear(Sender<(usize, String)>);

    impl Hear for Ear {
        fn hear(&mut self, node: usize, news: News<'_>) -> Result<(), String> {
            let told = match news {
                News::Line(line) => String::from_utf8(line.to_vec()).unwrap(),
                News::File { name, .. } => format!("file {name}"),
                News::Lost(why) => format!("lost: {why}"),
            };
            let damaged = told.starts_with("damaged");
            let _ = self.0.send((node, told));
            if damaged { Err("expected a line".to_owned()) } else { Ok(()) }
        }
    }

    struct Scene {
        root: TempDir,
        folders: Vec<NodeFolder>,
        heard: Receiver<(usize, String)>,
    }

    impl Scene {
        fn new() -> (Scene, Ear) {
            let root = tempfile::tempdir().unwrap();
            let folders: Vec<_> = ["n1", "n2"].map(|name| NodeFolder::new(root.path(), name)).into();
            for folder in &folders {
                fs::create_dir_all(folder.events()).unwrap();
                fs::create_dir_all(folder.data()).unwrap();
            }
            let (sender, heard) = channel();
            (Scene { root, folders, heard }, Ear(sender))
        }

        fn write(&self, node: usize, boot: &str, text: &str) {
            let path = self.folders[node].events().join(format!("boot-{boot}.jsonl"));
            let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn hears(&self, node: usize, expected: &str) {
            let heard = self.heard.recv_timeout(DEADLINE).unwrap();
            assert_eq!(heard, (node, expected.to_owned()));
        }
    }

    #[test]
    fn every_line_is_heard_once_when_all_of_it_is_there_from_boot_to_boot() {
        let (scene, ear) = Scene::new();
        scene.write(0, "9999", "before\n");
        scene.write(0, "9998", "long before\n");
        let follower = Follower::start(&scene.folders, ear).unwrap();
        scene.hears(0, "long before\n");
        scene.hears(0, "before\n");
        scene.write(0, "9999", "be");
        scene.write(1, "0001", "another node\n");
        scene.hears(1, "another node\n");
        scene.write(0, "9999", "gun\nthe ne");
        scene.hears(0, "begun\n");
        // Killed within a line.
        scene.write(0, "10000", "next\nboot\n");
        scene.hears(0, "next\n");
        scene.hears(0, "boot\n");
        fs::write(scene.folders[1].data().join("a.tmp"), "").unwrap();
        scene.hears(1, "file a.tmp");
        let long = "x".repeat(3 * READ_BYTES) + "\n";
        scene.write(1, "0001", &long);
        scene.hears(1, &long);
        drop(follower);
        scene.write(1, "0001", "nobody hears this\n");
        assert!(scene.heard.recv_timeout(DEADLINE).is_err(), "the thread has let go of its ear");
    }

    #[test]
    fn from_a_damaged_line_on_a_node_is_not_followed_and_the_others_are() {
        let (scene, ear) = Scene::new();
        let _follower = Follower::start(&scene.folders, ear).unwrap();
        scene.write(0, "0001", "good\ndamaged\nafter\n");
        scene.hears(0, "good\n");
        scene.hears(0, "damaged\n");
        let path = scene.root.path().join("nodes/n1/events/boot-0001.jsonl");
        scene.hears(0, &format!("lost: {}:2: expected a line", path.display()));
        scene.write(0, "0001", "more\n");
        scene.write(0, "0002", "more\n");
        scene.write(1, "0001", "fine\n");
        scene.hears(1, "fine\n");
    }

    #[test]
    fn a_node_whose_evidence_was_taken_away_is_not_followed() {
        let (scene, ear) = Scene::new();
        let _follower = Follower::start(&scene.folders, ear).unwrap();
        scene.write(0, "0001", "good\n");
        scene.hears(0, "good\n");
        let path = scene.folders[0].events().join("boot-0001.jsonl");
        fs::remove_file(&path).unwrap();
        scene.hears(0, &format!("lost: {} was taken away", path.display()));
        let events = scene.folders[1].events();
        fs::write(events.join("else"), "").unwrap();
        fs::remove_file(events.join("else")).unwrap();
        scene.write(1, "0001", "fine\n");
        scene.hears(1, "fine\n");
        fs::rename(&events, events.with_file_name("elsewhere")).unwrap();
        scene.hears(1, &format!("lost: {} was taken away", events.display()));
        // Files among its data are no news either.
        fs::write(scene.folders[0].data().join("a.tmp"), "").unwrap();
        assert!(scene.heard.recv_timeout(Duration::from_millis(200)).is_err());
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let (scene, ear) = Scene::new();
        let nowhere = NodeFolder::new(scene.root.path(), "n9");
        let error = Follower::start(std::slice::from_ref(&nowhere), ear).err().unwrap();
        assert!(error.to_string().contains("n9/events"), "{error}");
    }
}
