//! What this machine can do of all that scenarios may need, tried and not guessed.
//!
//! In: [`Need`]s, and the node's program. Out: an [`Ability`] for each: what showed it, or why not and what would enable
//! it. Never: a scenario run without what it needs, or anything left of a trial.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::inotify::{InitFlags, Inotify};
use rustix::process::{Resource, getpid, getrlimit, prlimit};
use serde::Serialize;
use tokio::process::Command;
use tokio::time::timeout;

use crate::cli::{CapabilitiesArgs, Exit};
use crate::cluster::{Clock, Controller, NodeFolder, Tree, clocks_can_be_changed, put_clock_library};
use crate::disk;
use crate::scenario::{FAULT_FORMS, Need};
use crate::system::Mkraft;

/// Of a program that is only to load a library and say its version.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);

/// Whether something can be done here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ability {
    pub can: bool,
    /// What showed it, or why it cannot be done.
    pub why: String,
    /// What would enable it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable: Option<String>,
}

/// By what is needed.
pub type Abilities = BTreeMap<Need, Ability>;

/// Tries each. `without` are taken for missing, as on a machine that has them not.
pub async fn find(needs: impl IntoIterator<Item = Need>, node: Option<&Path>, without: &[Need]) -> Abilities {
    let mut found = Abilities::new();
    for need in needs {
        let ability = match without.contains(&need) {
            true => Ability::not("this run was told to do without it", "leave `--without` away"),
            false => try_it(need, node).await,
        };
        found.insert(need, ability);
    }
    found
}

async fn try_it(need: Need, node: Option<&Path>) -> Ability {
    match need {
        Need::Preload => preload(node).await,
        Need::Prlimit => prlimit_works(),
        Need::CgroupMemory => group(Controller::Memory),
        Need::CgroupCpu => group(Controller::Cpu),
        Need::Fuse => fuse(),
        Need::Inotify => inotify(),
    }
}

impl Ability {
    fn yes(why: impl Into<String>) -> Ability {
        Ability { can: true, why: why.into(), enable: None }
    }

    fn not(why: impl Into<String>, enable: impl Into<String>) -> Ability {
        Ability { can: false, why: why.into(), enable: Some(enable.into()) }
    }
}

/// Tried on the program itself: a static one, one with privileges, or one for another libc does not load the library.
async fn preload(node: Option<&Path>) -> Ability {
    const DYNAMIC: &str =
        "a node that is linked dynamically with glibc, and runs with no more privileges than this user's";
    if !clocks_can_be_changed() {
        return Ability::not(
            "this harness was built without its library",
            "build it for x86_64 or aarch64 with glibc; cargo told why it could not",
        );
    }
    let Some(node) = node else {
        return Ability::not("there is no node to try it on", "name it with --node PATH");
    };
    match loads(node).await {
        Ok(true) => Ability::yes(format!("{} has loaded the library", node.display())),
        Ok(false) => Ability::not(format!("{} has not loaded the library", node.display()), DYNAMIC),
        Err(error) => Ability::not(format!("{} could not be tried: {error}", node.display()), DYNAMIC),
    }
}

/// In a folder that looks like that of a run.
async fn loads(node: &Path) -> io::Result<bool> {
    let run = tempfile::tempdir()?;
    let folder = NodeFolder::new(run.path(), "n1");
    fs::create_dir_all(folder.root())?;
    put_clock_library(run.path())?;
    let clock = Clock::create(folder.root())?;
    let mut command = Command::new(node);
    command.arg("--version").envs(Clock::environment()).current_dir(folder.root());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let ended = timeout(TRIAL_LIMIT, command.status()).await;
    ended.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(clock.processes() > 0)
}

/// Of this process, to what it is already.
fn prlimit_works() -> Ability {
    match prlimit(Some(getpid()), Resource::Nofile, getrlimit(Resource::Nofile)) {
        Ok(_) => Ability::yes("prlimit(2) sets the limits of a process"),
        Err(error) => Ability::not(format!("prlimit(2) fails: {error}"), "a sandbox that allows prlimit64"),
    }
}

fn group(controller: Controller) -> Ability {
    match Tree::find(controller) {
        Ok(tree) => Ability::yes(format!("groups can be made in {}", tree.folder().display())),
        Err(why) => Ability::not(
            why,
            "root, or a group that is delegated: systemd-run --user --scope -p Delegate=yes mkraft-harness ...",
        ),
    }
}

fn fuse() -> Ability {
    let enable = "modprobe fuse, and in a container --device /dev/fuse --cap-add SYS_ADMIN; who is not root, the package fuse3";
    disk::missing()
        .map_or_else(|| Ability::yes("a disk can be mounted"), |missing| Ability::not(missing, enable))
}

fn inotify() -> Ability {
    match Inotify::init(InitFlags::IN_CLOEXEC) {
        Ok(_) => Ability::yes("inotify opens"),
        Err(error) => Ability::not(
            format!("inotify does not open: {error}"),
            "a greater number in /proc/sys/fs/inotify/max_user_instances",
        ),
    }
}

/// `mkraft-harness capabilities`
pub fn run(args: &CapabilitiesArgs) -> io::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let abilities = runtime.block_on(async {
        // A node that does not run is no node to try anything on, and is told so.
        let node = Mkraft::find(args.node.as_deref()).await.ok();
        find(Need::all(), node.as_ref().map(|node| node.program.as_path()), &args.without).await
    });
    let mut out = anstream::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &told(&abilities)).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", table(&abilities))?;
    }
    Ok(Exit::Holds)
}

/// Why a scenario that needs these cannot run; None when it can.
pub fn missing(needs: impl IntoIterator<Item = Need>, abilities: &Abilities) -> Option<String> {
    let told = |need: Need| {
        let Ability { why, enable, .. } = abilities.get(&need).filter(|ability| !ability.can)?;
        let enable =
            enable.as_ref().map(|enable| format!(" (what would enable it: {enable})")).unwrap_or_default();
        Some(format!("{need}, for {}: {why}{enable}", need.whose().join(", ")))
    };
    let missing: Vec<String> = needs.into_iter().filter_map(told).collect();
    (!missing.is_empty()).then(|| missing.join("; "))
}

#[derive(Serialize)]
struct Told<'a> {
    /// By kind of fault: whether it can be done here.
    faults: BTreeMap<&'static str, bool>,
    abilities: BTreeMap<String, Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    ability: &'a Ability,
    needed_by: Vec<&'static str>,
}

fn told(abilities: &Abilities) -> Told<'_> {
    let can =
        |need: Option<Need>| need.is_none_or(|need| abilities.get(&need).is_some_and(|ability| ability.can));
    Told {
        faults: FAULT_FORMS.iter().map(|form| (form.word, can(form.kind.needs()))).collect(),
        abilities: abilities
            .iter()
            .map(|(need, ability)| (need.to_string(), Row { ability, needed_by: need.whose() }))
            .collect(),
    }
}

fn table(abilities: &Abilities) -> String {
    let anywhere: Vec<&str> =
        FAULT_FORMS.iter().filter(|form| form.kind.needs().is_none()).map(|form| form.word).collect();
    let mut text = format!("can     any Linux      {}\n", anywhere.join(", "));
    for (need, Ability { can, why, enable }) in abilities {
        let whose = need.whose();
        let whose = if whose.is_empty() { "(no kind of fault yet)".to_owned() } else { whose.join(", ") };
        let word = if *can { "can" } else { "CANNOT" };
        text += &format!("{word:6}  {need:13}  {whose}\n                       {why}\n");
        if let Some(enable) = enable {
            text += &format!("                       what would enable it: {enable}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_what_would_enable_it() {
        let abilities = Abilities::from([
            (Need::Prlimit, Ability::yes("it works")),
            (Need::Preload, Ability::not("it is static", "a dynamic one")),
        ]);
        assert_eq!(missing([Need::Prlimit], &abilities), None);
        assert_eq!(
            missing([Need::Prlimit, Need::Preload], &abilities).unwrap(),
            "preload, for jump-clock, drift-clock: it is static (what would enable it: a dynamic one)"
        );
        let text = table(&abilities);
        assert!(text.contains("CANNOT  preload        jump-clock, drift-clock\n"), "{text}");
        assert!(text.contains("can     prlimit        descriptors\n"), "{text}");
        let json = serde_json::to_value(told(&abilities)).unwrap();
        assert_eq!(json["faults"]["drift-clock"], false);
        assert_eq!(json["faults"]["kill"], true);
        assert_eq!(json["abilities"]["preload"]["enable"], "a dynamic one");
    }

    #[tokio::test]
    async fn what_a_run_is_to_do_without_is_missing() {
        let found = find([Need::Inotify], None, &[Need::Inotify]).await;
        assert!(!found[&Need::Inotify].can);
        assert!(!find([Need::Preload], None, &[]).await[&Need::Preload].can, "there is no node to try it on");
    }
}
