//! The command line: what may be asked for, and what the exit code says.
//!
//! In: the arguments of the process. Out: text on its standard output and error, and an [`Exit`]. Never: work of
//! its own beyond `list` and `validate`, which need no cluster.

use std::ffi::OsString;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};

use crate::check::models::Model;
use crate::scenario::{Need, Plan, Scenario, ScenarioError};
use crate::{audit, bench, capabilities, crash_states, judging, reproduce, run};

/// The seed where none is given.
pub const SEED_DEFAULT: u64 = 0;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Everything that was checked holds.
    Holds = 0,
    /// Something is violated.
    Violated = 1,
    /// Nothing is violated, and not everything is known to hold.
    Unknown = 2,
    /// What was run holds, and a scenario was not run, for this machine cannot do what it needs.
    Skipped = 3,
    /// The command line or a scenario is wrong; nothing was run.
    Usage = 64,
    /// The harness itself failed: no verdict on the cluster.
    HarnessFailed = 70,
}

impl Exit {
    /// A violation stands even where the harness failed later, and no failure may pass for a mere unknown.
    fn rank(self) -> u8 {
        match self {
            Exit::Holds => 0,
            Exit::Skipped => 1,
            Exit::Unknown => 2,
            Exit::Usage => 3,
            Exit::HarnessFailed => 4,
            Exit::Violated => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// The exit of several runs together; of none it is unknown, for nothing was shown.
pub fn worst(exits: impl IntoIterator<Item = Exit>) -> Exit {
    exits.into_iter().max_by_key(|exit| exit.rank()).unwrap_or(Exit::Unknown)
}

#[derive(Debug, Parser)]
#[command(
    name = "mkraft-harness",
    version,
    about = "Spawns clusters of mkraft nodes, breaks them, and judges what they did",
    after_help = EXIT_CODES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0   everything holds
  1   something is violated (outranks all others)
  2   unknown: nothing is violated, and not everything is known to hold
  3   what was run holds, and a scenario was skipped: this machine cannot do what it needs
  64  the command line or a scenario is wrong; nothing was run
  70  the harness itself failed";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs scenarios against clusters of real nodes, and judges them
    Run(RunArgs),
    /// Judges a run folder again, or the history of another system, without a cluster
    Check(CheckArgs),
    /// Writes a run's history for other tools, to standard output
    Export(ExportArgs),
    /// Tells what a run folder was judged to be
    Report(ReportArgs),
    /// Runs the recorded plan of a run again, and tells how often it shows the same
    Replay(ReplayArgs),
    /// Finds a smaller scenario that shows what a violated run showed
    Shrink(ShrinkArgs),
    /// Measures a cluster of its own: writes a second, and how long they take
    Bench(BenchArgs),
    /// Opens with a real node the disks that a loss of power could have left at moments of a run
    ///
    /// Exit codes: 0 all start and have what they had told, 1 some do not, 2 nothing can be said.
    CrashStates(CrashStatesArgs),
    /// Proves of a node that it acknowledges nothing before its disk has it, or shows where it does
    ///
    /// Needs FUSE. Exit codes: 0 no acknowledgement came early, 1 one did, 2 nothing can be said.
    AuditFsync(AuditArgs),
    /// Tells which faults this machine can do, and what would enable the others
    Capabilities(CapabilitiesArgs),
    /// Lists the scenarios of a folder: name, length, nodes, claim
    List(ListArgs),
    /// Reads scenarios and tells every mistake in them, without running anything
    Validate(ValidateArgs),
}

impl Command {
    fn carry_out(self) -> io::Result<Exit> {
        match self {
            Command::Run(args) => run::run(&args),
            Command::Check(args) => judging::check(&args),
            Command::Export(args) => judging::export(&args),
            Command::Report(args) => judging::report(&args),
            Command::Replay(args) => reproduce::replay(&args),
            Command::Shrink(args) => reproduce::shrink(&args),
            Command::Bench(args) => bench::run(&args),
            Command::CrashStates(args) => crash_states::run(&args),
            Command::AuditFsync(args) => audit::run(&args),
            Command::Capabilities(args) => capabilities::run(&args),
            Command::List(args) => list(&args),
            Command::Validate(args) => validate(&args),
        }
    }
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Scenarios to run, one after the other
    #[arg(required = true, value_name = "SCENARIO.yaml")]
    pub scenarios: Vec<PathBuf>,
    /// Decides everything that is left to chance
    #[arg(long, value_name = "N", default_value_t = SEED_DEFAULT)]
    pub seed: u64,
    /// Where the run folders go
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub out: PathBuf,
    /// The node's program [default: mkraft-node beside this program]
    #[arg(long, value_name = "PATH")]
    pub node: Option<PathBuf>,
    /// The program that `upgrade` starts in its place
    #[arg(long, value_name = "PATH")]
    pub node_next: Option<PathBuf>,
    /// A scenario that is skipped, because this machine cannot do what it needs, counts as unknown
    #[arg(long)]
    pub require_all: bool,
    /// Does as on a machine that has not this: one of the names that `capabilities` tells
    #[arg(long, value_name = "NAME", value_parser = need)]
    pub without: Vec<Need>,
}

#[derive(Debug, Args)]
pub struct CapabilitiesArgs {
    /// The node's program, on which the library is tried that changes clocks [default: mkraft-node beside this program]
    #[arg(long, value_name = "PATH")]
    pub node: Option<PathBuf>,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
    /// Does as on a machine that has not this
    #[arg(long, value_name = "NAME", value_parser = need)]
    pub without: Vec<Need>,
}

fn need(word: &str) -> Result<Need, String> {
    let known = || Need::all().map(|need| need.to_string()).collect::<Vec<_>>().join(", ");
    Need::of_word(word).ok_or_else(|| format!("expected one of {}", known()))
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A run folder
    #[arg(required_unless_present = "history")]
    pub run: Option<PathBuf>,
    /// In place of a run: a history in Jepsen's EDN, its older log lines, or our JSON lines
    #[arg(long, value_name = "FILE", conflicts_with = "run", requires = "model")]
    pub history: Option<PathBuf>,
    /// What the clients of that history spoke to
    #[arg(long, requires = "history", value_parser = PossibleValuesParser::new(Model::WORDS))]
    pub model: Option<String>,
    /// Each value of that history is [key value]
    #[arg(long, requires = "history")]
    pub keyed: bool,
    /// Tells every finding of every check, not only root causes
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A run folder
    pub run: PathBuf,
    /// One EDN map a line, or one JSON array
    #[arg(long, value_parser = PossibleValuesParser::new(["edn", "json"]))]
    pub format: String,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A run folder
    pub run: PathBuf,
    /// One line for programs: the verdict, then `key=value` pairs
    #[arg(long)]
    pub line: bool,
    /// Tells every finding of every check, not only root causes
    #[arg(long, conflicts_with = "line")]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// A run folder
    pub run: PathBuf,
    /// So many tries, of which the violated ones are kept, and the first one of each other outcome
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub times: u32,
    /// Where the run folders go
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub out: PathBuf,
    /// The node's program [default: that of the run, else mkraft-node beside this program]
    #[arg(long, value_name = "PATH")]
    pub node: Option<PathBuf>,
    /// The program that `upgrade` starts in its place [default: that of the run]
    #[arg(long, value_name = "PATH")]
    pub node_next: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ShrinkArgs {
    /// The folder of a run that was violated
    pub run: PathBuf,
    /// How long it may take
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub minutes: u32,
    /// Tries at a time; each is a cluster of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub jobs: u32,
    /// Where the smaller scenario is written [default: NAME-shrunk.yaml beside the run]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The node's program [default: that of the run, else mkraft-node beside this program]
    #[arg(long, value_name = "PATH")]
    pub node: Option<PathBuf>,
    /// The program that `upgrade` starts in its place [default: that of the run]
    #[arg(long, value_name = "PATH")]
    pub node_next: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Nodes of the cluster
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub nodes: u32,
    /// Clients, each with one write under way
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub clients: u32,
    /// How long is measured, after a second of warming up
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Size of each value written
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub value_bytes: u32,
    /// Connections to each node
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub connections: u32,
    /// Let nodes and clients speak through the links that scenarios break
    #[arg(long)]
    pub proxies: bool,
    /// Let the nodes write their evidence
    #[arg(long)]
    pub events: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the nodes' data goes, in a folder that is removed afterwards [default: the system's for such]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The node's program [default: mkraft-node beside this program]
    #[arg(long, value_name = "PATH")]
    pub node: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CrashStatesArgs {
    /// A run folder with ledgers: of a scenario with faults of disks, or with `disks: simulated`
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The node's program [default: that of the run]
    #[arg(long, value_name = "PATH")]
    pub node: Option<PathBuf>,
    /// So many states, of all nodes together, at most
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub states: u32,
    /// Decides which, where there are more
    #[arg(long, value_name = "N", default_value_t = SEED_DEFAULT)]
    pub seed: u64,
    /// States at a time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub jobs: u32,
}

#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The node's program [default: mkraft-node beside this program]
    #[arg(long, value_name = "PATH")]
    pub node: Option<PathBuf>,
    /// How long clients write
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// Clients, each with one write under way
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub clients: u32,
    /// Milliseconds that a write and a sync take longer than they do
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub sync_ms: u64,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// A folder of scenarios
    #[arg(value_name = "DIR", default_value = "scenarios")]
    folder: PathBuf,
}

#[derive(Debug, Args)]
struct ValidateArgs {
    /// Scenarios to read
    #[arg(required = true, value_name = "SCENARIO.yaml")]
    scenarios: Vec<PathBuf>,
}

/// Does what `arguments` (the program's name first) ask for.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        // Asked for help or the version is no mistake.
        Err(answer) => {
            let exit = if answer.use_stderr() { Exit::Usage } else { Exit::Holds };
            return answer.print().map_or(Exit::HarnessFailed, |()| exit);
        }
    };
    exit_of(|| cli.command.carry_out())
}

/// A panic, too, is a failure of the harness and not a verdict.
fn exit_of(work: impl FnOnce() -> io::Result<Exit>) -> Exit {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(exit)) => exit,
        Ok(Err(error)) => {
            // Whoever reads has seen enough (`list | head`): no complaint, but an answer untold is no pass either.
            if error.kind() != io::ErrorKind::BrokenPipe {
                // When even this cannot be written, the exit code remains.
                let _ = writeln!(anstream::stderr(), "error: failed to write the answer: {error}");
            }
            Exit::HarnessFailed
        }
        // The panic has told its message and place by now.
        Err(_) => Exit::HarnessFailed,
    }
}

/// The scenarios of `paths`; every mistake goes to standard error, and any makes the exit [`Exit::Usage`].
pub fn read_all(paths: &[PathBuf]) -> io::Result<(Vec<Scenario>, Exit)> {
    let mut exit = Exit::Holds;
    let mut scenarios = Vec::new();
    for path in paths {
        match Scenario::load(path) {
            Ok(scenario) => scenarios.push(scenario),
            Err(error) => {
                exit = Exit::Usage;
                tell(&error)?;
            }
        }
    }
    Ok((scenarios, exit))
}

fn list(args: &ListArgs) -> io::Result<Exit> {
    let paths = match scenario_files(&args.folder) {
        Ok(paths) if !paths.is_empty() => paths,
        Ok(_) => {
            let folder = args.folder.display();
            writeln!(anstream::stderr(), "error: no scenario in {folder}: expected files *.yaml")?;
            return Ok(Exit::Usage);
        }
        Err(source) => {
            tell(&ScenarioError::Read { path: args.folder.clone(), source })?;
            return Ok(Exit::Usage);
        }
    };
    let (scenarios, exit) = read_all(&paths)?;
    let rows: Vec<[String; 4]> = std::iter::once(["NAME", "LENGTH", "NODES", "CLAIM"].map(str::to_owned))
        .chain(scenarios.into_iter().map(|scenario| {
            let length = humantime::format_duration(scenario.duration).to_string();
            [scenario.name, length, scenario.cluster.nodes.to_string(), scenario.claim]
        }))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut out = anstream::stdout().lock();
    for [name, length, nodes, claim] in &rows {
        let [first, second, third] = widths;
        writeln!(out, "{name:first$}  {length:>second$}  {nodes:>third$}  {claim}")?;
    }
    Ok(exit)
}

fn validate(args: &ValidateArgs) -> io::Result<Exit> {
    let (scenarios, exit) = read_all(&args.scenarios)?;
    let mut out = anstream::stdout().lock();
    for scenario in &scenarios {
        let strikes = Plan::of(scenario, SEED_DEFAULT).steps.len();
        let length = humantime::format_duration(scenario.duration);
        writeln!(out, "ok  {}: {length}, {strikes} strikes with seed {SEED_DEFAULT}", scenario.name)?;
    }
    Ok(exit)
}

/// The scenarios in `folder`, by name.
fn scenario_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            paths.push(path);
        }
    }
    // By name, and not by path, in which a longer name may come before the shorter one that it begins with.
    paths.sort_by(|one, other| one.file_stem().cmp(&other.file_stem()));
    Ok(paths)
}

/// In colour where standard error shows colour.
fn tell(error: &ScenarioError) -> io::Result<()> {
    writeln!(anstream::stderr(), "{}\n", error.render(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_outranks_a_failure_and_a_failure_outranks_an_unknown() {
        use Exit::{HarnessFailed, Holds, Skipped, Unknown, Usage, Violated};
        let by_rank = [Holds, Skipped, Unknown, Usage, HarnessFailed, Violated];
        for (low, lower) in by_rank.into_iter().enumerate() {
            for higher in &by_rank[low..] {
                assert_eq!(worst([lower, *higher]), *higher);
                assert_eq!(worst([*higher, lower, lower]), *higher);
            }
        }
    }

    #[test]
    fn nothing_run_is_unknown_and_never_a_pass() {
        assert_eq!(worst([]), Exit::Unknown);
    }

    #[test]
    fn a_panic_and_an_untold_answer_are_failures_of_the_harness() {
        assert_eq!(exit_of(|| panic!("as this test wants")), Exit::HarnessFailed);
        assert_eq!(exit_of(|| Err(io::ErrorKind::BrokenPipe.into())), Exit::HarnessFailed);
        assert_eq!(exit_of(|| Ok(Exit::Violated)), Exit::Violated);
    }

    #[test]
    fn the_help_documents_every_exit_code() {
        for exit in
            [Exit::Holds, Exit::Violated, Exit::Unknown, Exit::Skipped, Exit::Usage, Exit::HarnessFailed]
        {
            let code = format!("\n  {:<3} ", exit as u8);
            assert!(EXIT_CODES.contains(&code), "{exit:?}");
        }
    }

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
