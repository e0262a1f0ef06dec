//! The run folder, before anything runs: a name of its own, the scenario as resolved, the plan.
//!
//! In: where run folders go, a scenario, a seed. Out: a new [`RunFolder`]. Never: a folder that another run wrote.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::history::folder::{self, FolderError, RunFolder};
use crate::scenario::{Plan, Scenario};

/// Runs of one scenario with one seed that are kept side by side.
const REPEATS_MAX: u32 = 10_000;
/// The newest run folder.
const LATEST: &str = "latest";

#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("failed to make {}: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("failed to link {}: {source}", path.display())]
    Link { path: PathBuf, source: io::Error },
    #[error("{} and {REPEATS_MAX} runs like it exist: remove some", path.display())]
    Full { path: PathBuf },
    #[error(transparent)]
    Write(#[from] FolderError),
}

/// Moves a run's folder, which is on the same disk, to `<out>/<name>-<seed>[-k]/`, and turns `<out>/latest` to it.
pub fn adopt(folder: &Path, out: &Path, name: &str, seed: u64) -> Result<PathBuf, PrepareError> {
    fs::create_dir_all(out).map_err(|source| PrepareError::Folder { path: out.into(), source })?;
    let path = claim(out, &format!("{name}-{seed}"))?;
    // What is empty may be renamed over.
    fs::rename(folder, &path).map_err(|source| PrepareError::Folder { path: path.clone(), source })?;
    point_latest(out, &path)?;
    Ok(path)
}

/// Makes `<out>/<name>-<seed>[-k]/` and turns `<out>/latest` to it.
pub fn prepare(out: &Path, scenario: &Scenario, seed: u64, plan: &Plan) -> Result<RunFolder, PrepareError> {
    fs::create_dir_all(out).map_err(|source| PrepareError::Folder { path: out.into(), source })?;
    let name = format!("{}-{seed}", scenario.name);
    let run = RunFolder::new(claim(out, &name)?);
    folder::write(&run.scenario(), scenario.to_yaml().as_bytes())?;
    run.write_plan(plan)?;
    point_latest(out, run.root())?;
    Ok(run)
}

/// The first of `name`, `name-2`, `name-3`, ... that nobody has: making it is taking it.
fn claim(out: &Path, name: &str) -> Result<PathBuf, PrepareError> {
    for repeat in 1..=REPEATS_MAX {
        let path = out.join(if repeat == 1 { name.to_owned() } else { format!("{name}-{repeat}") });
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(PrepareError::Folder { path, source }),
        }
    }
    Err(PrepareError::Full { path: out.join(name) })
}

/// By renaming, so that `latest` is there at every moment, whoever else runs.
fn point_latest(out: &Path, run: &Path) -> Result<(), PrepareError> {
    let latest = out.join(LATEST);
    let Some(name) = run.file_name() else { return Ok(()) };
    let beside = out.join(format!(".{LATEST}-{}", name.to_string_lossy()));
    let linked = symlink(name, &beside).and_then(|()| fs::rename(&beside, &latest));
    linked.map_err(|source| {
        let _ = fs::remove_file(&beside);
        PrepareError::Link { path: latest, source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario() -> Scenario {
        let text = "# Nothing goes wrong.\nname: calm\nduration: 1s\n\
             cluster: { nodes: 3 }\nworkload: { kind: register }\n";
        Scenario::parse("calm.yaml", text).unwrap()
    }

    #[test]
    fn each_run_has_a_folder_of_its_own_and_latest_is_the_newest() {
        let out = tempfile::tempdir().unwrap();
        let plan = Plan::of(&scenario(), 7);
        let names: Vec<_> = (0..3)
            .map(|_| prepare(out.path(), &scenario(), 7, &plan).unwrap())
            .map(|run| run.root().file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["calm-7", "calm-7-2", "calm-7-3"]);
        assert_eq!(fs::read_link(out.path().join(LATEST)).unwrap(), Path::new("calm-7-3"));
    }

    #[test]
    fn a_folder_that_moves_in_is_the_newest_and_takes_no_name_that_is_taken() {
        let out = tempfile::tempdir().unwrap();
        let elsewhere = out.path().join("elsewhere");
        let plan = Plan::of(&scenario(), 7);
        prepare(out.path(), &scenario(), 7, &plan).unwrap();
        let moved = prepare(&elsewhere, &scenario(), 7, &plan).unwrap();
        let kept = adopt(moved.root(), out.path(), "calm", 7).unwrap();
        assert_eq!(kept, out.path().join("calm-7-2"));
        assert_eq!(fs::read_link(out.path().join(LATEST)).unwrap(), Path::new("calm-7-2"));
        assert_eq!(RunFolder::new(kept).read_plan().unwrap(), plan);
        assert!(!moved.root().exists());
    }

    #[test]
    fn the_scenario_in_the_folder_is_the_one_that_runs() {
        let out = tempfile::tempdir().unwrap();
        let run = prepare(out.path(), &scenario(), 7, &Plan::of(&scenario(), 7)).unwrap();
        assert_eq!(Scenario::load(run.scenario()).unwrap(), scenario());
    }
}
