//! The guard alone: what it spawns, what it signals, and that nothing is left when its harness is killed.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mkraft_harness::cluster::{Guard, GuardError, Launch, Status};

const DEADLINE: Duration = Duration::from_secs(20);
/// Names the file to which [`a_harness_that_is_about_to_be_killed`] writes what it has started.
const STAND_IN: &str = "MKRAFT_STAND_IN_FOR_A_HARNESS";

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_mkraft-harness"))
}

fn shell(script: &str, folder: &Path) -> Launch {
    Launch {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: vec![("GREETING".into(), "from the harness".into())],
        folder: folder.into(),
        stdout: folder.join("stdout"),
        stderr: folder.join("stderr"),
        groups: Vec::new(),
    }
}

/// Waits for a fact that stays true.
fn until<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = fact() {
            return value;
        }
        assert!(began.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The state letter in `/proc/<pid>/stat`; None when there is no such process, or only its zombie.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next().filter(|state| *state != 'Z')
}

#[tokio::test]
async fn a_process_gets_its_files_its_folder_and_its_environment_and_its_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let guard = Guard::start(program()).await.unwrap();
    let script = "echo $GREETING in $PWD; echo oops >&2; cat; exit 3";
    for _ in 0..2 {
        let child = guard.spawn(&shell(script, folder.path())).await.unwrap();
        assert_eq!(child.exit().await.unwrap().status, Status::Code(3));
    }
    let line = format!("from the harness in {}\n", folder.path().display());
    assert_eq!(
        fs::read_to_string(folder.path().join("stdout")).unwrap(),
        line.repeat(2),
        "files are appended to"
    );
    assert_eq!(fs::read_to_string(folder.path().join("stderr")).unwrap(), "oops\noops\n");
    guard.close().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_spawned_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let guard = Guard::start(program()).await.unwrap();
    let no_program = Launch { program: "/nowhere/node".into(), ..shell("", folder.path()) };
    let no_file = Launch { stdout: "/nowhere/stdout".into(), ..shell("", folder.path()) };
    for (launch, named) in [(no_program, "/nowhere/node"), (no_file, "/nowhere/stdout")] {
        let error = guard.spawn(&launch).await.unwrap_err();
        assert!(matches!(error, GuardError::Spawn { .. }) && error.to_string().contains(named), "{error}");
    }
    guard.close().await.unwrap();
}

#[tokio::test]
async fn signals_to_the_harness_do_not_reach_the_nodes_and_are_theirs_to_handle() {
    let folder = tempfile::tempdir().unwrap();
    let guard = Guard::start(program()).await.unwrap();
    // Ends at once if SIGINT has its default, never if it was ignored by whoever spawned it.
    let child = guard.spawn(&shell("kill -INT $$; sleep 100", folder.path())).await.unwrap();
    assert_eq!(child.exit().await.unwrap().status, Status::Signal(2));
    guard.close().await.unwrap();
}

#[tokio::test]
async fn guards_at_the_same_time_have_different_grounds() {
    let mut guards = Vec::new();
    for _ in 0..8 {
        guards.push(Guard::start(program()).await.unwrap());
    }
    let grounds: std::collections::HashSet<_> = guards.iter().map(|guard| guard.ground()).collect();
    assert_eq!(grounds.len(), guards.len());
    for guard in guards {
        guard.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_closed_guard_has_killed_everything_and_says_that_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let guard = Guard::start(program()).await.unwrap();
    let child = guard.spawn(&shell("sleep 100 & sleep 100", folder.path())).await.unwrap();
    guard.close().await.unwrap();
    assert_eq!(state(child.pid), None);
    let error = guard.spawn(&shell("true", folder.path())).await.unwrap_err();
    assert!(matches!(error, GuardError::Lost), "{error}");
}

#[tokio::test]
async fn what_is_left_of_a_group_dies_with_its_leader() {
    let folder = tempfile::tempdir().unwrap();
    let guard = Guard::start(program()).await.unwrap();
    let child = guard.spawn(&shell("sleep 100 & echo $!; exit 0", folder.path())).await.unwrap();
    assert_eq!(child.exit().await.unwrap().status, Status::Code(0));
    let grandchild: u32 = fs::read_to_string(folder.path().join("stdout")).unwrap().trim().parse().unwrap();
    until("the grandchild is gone", || state(grandchild).is_none().then_some(()));
    guard.close().await.unwrap();
}

/// Not a test by itself: [`nothing_is_left_when_the_harness_is_killed`] runs it in a process of its own.
#[tokio::test]
async fn a_harness_that_is_about_to_be_killed() {
    let Some(file) = std::env::var_os(STAND_IN).map(PathBuf::from) else { return };
    let folder = file.parent().unwrap();
    let guard = Guard::start(program()).await.unwrap();
    // One that runs, one that is stopped, one that ignores what it can, and one in a session of its own,
    // whose parent has left it.
    let scripts = [
        "echo $$ >>pids; exec sleep 100",
        "echo $$ >>pids; kill -STOP $$; exec sleep 100",
        "trap '' TERM INT HUP; echo $$ >>pids; while :; do sleep 1; done",
        "setsid sh -c 'echo $$ >>pids; exec sleep 100' & echo $$ >>pids; exec sleep 100",
        "setsid sh -c 'echo $$ >>pids; : >away; exec sleep 100' & until [ -e away ]; do sleep 0.01; done",
    ];
    for script in scripts {
        guard.spawn(&shell(script, folder)).await.unwrap();
    }
    fs::write(&file, "all spawned").unwrap();
    tokio::time::sleep(DEADLINE * 2).await;
}

#[test]
fn nothing_is_left_when_the_harness_is_killed() {
    const PROCESSES: usize = 6;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ready");
    let mut harness = Killed(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_harness_that_is_about_to_be_killed"])
            .env(STAND_IN, &file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let pids: Vec<u32> = until("all processes are there", || {
        let text = fs::read_to_string(folder.path().join("pids")).unwrap_or_default();
        let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        (pids.len() == PROCESSES && file.exists()).then_some(pids)
    });
    until("one is stopped", || pids.iter().any(|pid| state(*pid) == Some('T')).then_some(()));
    let guards = children(harness.0.id());
    assert_eq!(guards.len(), 1, "the guard is the only child of the harness");
    assert!(pids.iter().all(|pid| state(*pid).is_some()), "one died before the harness");

    harness.kill();
    let killed = Instant::now();
    until("no process is left", || pids.iter().chain(&guards).all(|pid| state(*pid).is_none()).then_some(()));
    assert!(killed.elapsed() < Duration::from_secs(5), "it took {:?}", killed.elapsed());
}

/// Killed with SIGKILL at the latest when the test ends.
struct Killed(Child);

impl Killed {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.kill();
    }
}

fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let lists = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap());
    let lists: Vec<String> = lists.collect();
    lists.iter().flat_map(|list| list.split_whitespace()).map(|pid| pid.parse().unwrap()).collect()
}
