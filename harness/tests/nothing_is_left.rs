//! After a run whose harness was killed with SIGKILL in the middle of a fault nothing of it is there: no process, no
//! socket that listens, no file outside of its run folder, no mount, no group of the kernel. The same for every kind of fault that there is.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mkraft_harness::capabilities;
use mkraft_harness::cluster::{Controller, Tree};
use mkraft_harness::scenario::{FAULT_FORMS, FaultForm, LinksForm, Need, Target};

const HARNESS: &str = env!("CARGO_BIN_EXE_mkraft-harness");
/// From the start of a run to its fault, on a machine that does other things too.
const FAULT_DEADLINE: Duration = Duration::from_secs(90);
/// From the end of the harness to that of all it has started. The guard itself waits half as long for the kernel.
const END_DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
/// Runs at a time; they do not meet.
const AT_ONCE: usize = 3;

#[test]
fn nothing_is_left_of_a_run_that_is_killed_in_the_middle_of_a_fault_of_any_kind() {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "mkraft-node"]).status();
    assert!(built.unwrap().success(), "the node does not build");
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(form) = FAULT_FORMS.get(next.fetch_add(1, Ordering::Relaxed)) {
            match missing(form) {
                None => Killed::in_the_middle_of(form).leaves_nothing(),
                Some(why) => eprintln!("left out, for this machine cannot do it: {why}"),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    assert!(next.load(Ordering::Relaxed) >= FAULT_FORMS.len());
}

/// Why there is no run that such a fault could be in the middle of.
fn missing(form: &FaultForm) -> Option<String> {
    let node = Path::new(HARNESS).with_file_name("mkraft-node");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let abilities = runtime.block_on(capabilities::find(form.kind.needs(), Some(&node), &[]));
    capabilities::missing(form.kind.needs(), &abilities)
}

/// Groups of the kernel that were made for one of these processes.
fn groups_of(pids: &BTreeSet<u32>) -> Vec<PathBuf> {
    let trees = [Controller::Memory, Controller::Cpu].into_iter().filter_map(|it| Tree::find(it).ok());
    let all = trees
        .flat_map(|tree| fs::read_dir(tree.folder()).unwrap())
        .filter_map(|entry| Some(entry.ok()?.path()));
    let is_theirs = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        pids.iter().any(|pid| name.starts_with(&format!("mkraft-{pid}-")))
    };
    all.filter(is_theirs).collect()
}

/// A harness that was killed, and what was known of its run a moment before.
struct Killed {
    word: &'static str,
    folder: tempfile::TempDir,
    pids: BTreeSet<u32>,
    sockets: BTreeSet<u64>,
}

/// Where everything would go that does not go into the run folder: the only folders that the run is told of.
const ELSEWHERE: [(&str, &str); 3] = [("TMPDIR", "tmp"), ("HOME", "home"), ("PWD", "work")];

impl Killed {
    fn in_the_middle_of(form: &FaultForm) -> Killed {
        let folder = tempfile::tempdir().unwrap();
        let scenario = folder.path().join("scenario.yaml");
        fs::write(&scenario, text(form)).unwrap();
        let node = Path::new(HARNESS).with_file_name("mkraft-node");
        let mut command = Command::new(HARNESS);
        command.args(["run", "--out"]).arg(folder.path().join("runs"));
        command.arg("--node").arg(&node).arg("--node-next").arg(&node).arg(&scenario);
        for (variable, name) in ELSEWHERE {
            fs::create_dir(folder.path().join(name)).unwrap();
            command.env(variable, folder.path().join(name));
        }
        command.current_dir(folder.path().join("work"));
        let output = fs::File::create(folder.path().join("output")).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let mut harness = Ended(command.spawn().unwrap());

        let history = folder.path().join("runs/left-0/history.jsonl");
        let began = Instant::now();
        while !fs::read_to_string(&history).is_ok_and(|history| history.lines().any(|line| shows(line, form)))
        {
            assert!(harness.0.try_wait().unwrap().is_none(), "{}: {}", form.word, told(folder.path()));
            assert!(began.elapsed() < FAULT_DEADLINE, "no {} in {}", form.word, told(folder.path()));
            std::thread::sleep(POLL);
        }
        let mut pids = descendants(harness.0.id());
        assert!(pids.len() >= 3, "{}: a guard and at least two nodes, not {pids:?}", form.word);
        pids.extend(of_run(folder.path()));
        let sockets: BTreeSet<u64> = pids.iter().flat_map(|pid| sockets_of(*pid)).collect();
        let sockets: BTreeSet<u64> = listening().intersection(&sockets).copied().collect();
        // Links of the harness, a claim of the guard, and nodes.
        assert!(sockets.len() > 10, "{}: only {} sockets listen", form.word, sockets.len());
        let limited = matches!(form.kind.needs(), Some(Need::CgroupMemory | Need::CgroupCpu));
        assert_eq!(limited, !groups_of(&pids).is_empty(), "{}: {:?}", form.word, groups_of(&pids));
        harness.kill();
        Killed { word: form.word, folder, pids, sockets }
    }

    fn leaves_nothing(self) {
        let Killed { word, folder, pids, sockets } = self;
        let killed = Instant::now();
        let until_empty = |what: &str, left: &dyn Fn() -> Vec<String>| {
            loop {
                let left = left();
                if left.is_empty() {
                    return;
                }
                assert!(killed.elapsed() < END_DEADLINE, "{word}: these {what} are left: {left:#?}");
                std::thread::sleep(POLL);
            }
        };
        let described = |pids: BTreeSet<u32>| pids.into_iter().map(described).collect();
        until_empty("processes", &|| described(pids.iter().copied().filter(|pid| is_alive(*pid)).collect()));
        // One that was started in the last moment is found by what it inherited. To look at every process of this
        // machine costs so much that it is done last: those that are to end need the processors.
        until_empty("processes", &|| described(of_run(folder.path())));
        until_empty("sockets", &|| (&listening() & &sockets).iter().map(u64::to_string).collect());
        until_empty("groups", &|| groups_of(&pids).iter().map(|path| path.display().to_string()).collect());
        for (variable, name) in ELSEWHERE {
            let files: Vec<PathBuf> =
                fs::read_dir(folder.path().join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(files.is_empty(), "{word}: {files:?} are left in {variable}");
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let folder = folder.path().to_str().unwrap();
        assert!(!mounts.contains(folder), "{word}: a mount is left: {mounts}");
    }
}

fn text(form: &FaultForm) -> String {
    let target = match form.links {
        Some(LinksForm::Any) => "halves",
        Some(LinksForm::Of | LinksForm::Connecting) => "leader",
        Some(LinksForm::OneWay) => "leader -> others",
        None if form.targets.contains(&Target::Follower) => "follower",
        None => "spare",
    };
    let more = match form.word {
        "delay" | "slow-close" | "slow-disk" => ", by: 50ms",
        "throttle" => ", rate: 64KiB",
        "jump-clock" => ", by: 1h",
        "drift-clock" => ", rate: 200%",
        "memory" => ", most: 64MiB",
        "cpu" => ", most: 50%",
        _ => "",
    };
    // What ends by itself comes so often that one is under way most of the time.
    let (when, hold) = match &form.hold {
        Some(hold) => ("at: 500ms", format!(", {}: 40s", hold.key)),
        None => ("every: 200ms", String::new()),
    };
    format!(
        "# Nothing is left.\nname: left\nduration: 2m\n\
         cluster: {{ nodes: 3, spares: 1, election-timeout: 200ms, heartbeat: 20ms }}\n\
         workload: {{ kind: register, clients: 2, rate: 30 }}\n\
         faults: [{{ {when}, {}: {target}{more}{hold} }}]\n",
        form.word
    )
}

/// Whether this line of the history says that the fault is in its middle.
fn shows(line: &str, form: &FaultForm) -> bool {
    let begun = line.contains(&format!(r#""f":"{}""#, form.word));
    let told = match form.hold {
        Some(_) => line.contains(r#""outcome":"installed""#),
        None => line.contains(r#""type":"invoke""#),
    };
    begun && told
}

fn told(folder: &Path) -> String {
    let read = |path| fs::read_to_string(folder.join(path)).unwrap_or_default();
    let nemesis = read("runs/left-0/history.jsonl");
    let nemesis: Vec<&str> = nemesis.lines().filter(|line| line.contains(r#""process":"nemesis""#)).collect();
    format!("{}\n{}", read("output"), nemesis.join("\n"))
}

/// Killed with SIGKILL at the latest when the test ends.
struct Ended(Child);

impl Ended {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself, which its test tells.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Children, their children, and so on; a process that ends meanwhile has none.
fn descendants(pid: u32) -> BTreeSet<u32> {
    let mut all = BTreeSet::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().map(|child| child.parse().unwrap()) {
            all.insert(child);
            all.extend(descendants(child));
        }
    }
    all
}

/// Every process that was started by this run or by one of its processes: all have its folder for what is temporary.
fn of_run(folder: &Path) -> BTreeSet<u32> {
    let mark = format!("TMPDIR={}\0", folder.join("tmp").display());
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_marked = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        is_alive(*pid) && environment.windows(mark.len()).any(|found| found == mark.as_bytes())
    };
    pids.filter(is_marked).collect()
}

/// A zombie is not: it is its parent's to reap.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// What it is, and what it does or waits for.
fn described(pid: u32) -> String {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let state = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let wait = fs::read_to_string(task.path().join("wchan")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?');
        format!("{state} {wait}")
    };
    let states: Vec<String> = tasks.map(state).collect();
    format!("{pid} {} {states:?}", read("cmdline").replace('\0', " "))
}

/// By their inodes.
fn sockets_of(pid: u32) -> Vec<u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let inode = |file: fs::DirEntry| {
        let link = fs::read_link(file.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    files.filter_map(inode).collect()
}

fn listening() -> BTreeSet<u64> {
    const LISTEN: &str = "0A";
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let rows = tables.iter().flat_map(|table| table.lines().skip(1));
    let inode = |row: &str| {
        let columns: Vec<&str> = row.split_whitespace().collect();
        (columns.get(3) == Some(&LISTEN)).then(|| columns.get(9)?.parse().ok()).flatten()
    };
    rows.filter_map(inode).collect()
}
