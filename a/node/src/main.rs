//! The door: flags in, exit codes out.

use std::hash::{BuildHasher, RandomState};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mkraft_node::causes::with_causes;
use mkraft_node::client::{self, KvArgs, Nodes, Outcome};
use mkraft_node::config::{Config, Flags};
use mkraft_node::driver::{Driver, Event, Inbox, Parts};
use mkraft_node::events::{self, EventLog};
use mkraft_node::machine::{KeyValue, Machine};
use mkraft_node::raft::{Configuration, Initial};
use mkraft_node::storage::{self, Storage, StorageError};
use mkraft_node::transport::{Outbox, Transport};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Replies that are on their way when a node stops have this long to leave.
const DRAIN: Duration = Duration::from_millis(50);

#[derive(Parser)]
#[command(name = "mkraft-node", version, about = "A Raft key-value node", propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node until SIGTERM
    Run(Box<Flags>),
    /// Print what a stopped node's disk holds, in the words of its evidence
    Dump {
        #[arg(long, value_name = "DIR")]
        data_dir: std::path::PathBuf,
    },
    /// Read all of a stopped node's disk, and name every damage by file and offset
    ///
    /// Exit codes: 0 sound, 1 damaged, 2 it could not be read.
    Verify {
        #[arg(long, value_name = "DIR")]
        data_dir: std::path::PathBuf,
        /// One JSON object instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Read and write keys
    Kv(KvArgs),
    /// Ask each node what it knows
    Status(Nodes),
    /// See and change who the members of a cluster are, and who leads it
    Members(client::OperateArgs),
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let log = tracing_subscriber::EnvFilter::try_from_env("MKRAFT_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(log).with_writer(std::io::stderr).with_ansi(false).init();
    let result = match Cli::parse().command {
        Command::Run(flags) => run(*flags).map(|()| ExitCode::SUCCESS),
        Command::Dump { data_dir } => dump(&data_dir).map(|()| ExitCode::SUCCESS),
        Command::Verify { data_dir, json } => verify(&data_dir, json),
        Command::Kv(args) => block_on(client::kv(args)).and_then(|outcome| show(outcome?)),
        Command::Members(args) => block_on(client::operate(args)).and_then(|outcome| show(outcome?)),
        Command::Status(nodes) => block_on(client::status(&nodes)).and_then(|outcome| show(outcome?)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("mkraft-node: {}", with_causes(&*error));
        ExitCode::from(2)
    })
}

fn run(flags: Flags) -> Result<(), Failure> {
    let config = Config::resolve(flags)?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Bound first: a second node on the same address must not touch the disk.
    let listener = runtime.block_on(Transport::bind(config.listen))?;
    let options = storage::Options { segment_bytes: config.segment_bytes };
    let opened = Storage::open(&config.data_dir, config.id, options);
    let (mut storage, recovered) = opened.inspect_err(|error| {
        if error.is_damage() {
            eprintln!("{REJOIN}");
        }
    })?;
    let mut known = storage.known()?;
    let voters = known.voters(config.voters.as_ref(), &config.all())?;
    for damage in &recovered.passed_over {
        tracing::error!(damage, "a snapshot is damaged; an older one and the log make up for it");
    }
    if let Some(torn) = &recovered.torn {
        tracing::warn!(path = %torn.path.display(), offset = torn.offset, bytes = torn.bytes, "cut a torn tail");
    }
    let events = match &config.events {
        Some(folder) => {
            let mut events = EventLog::create(folder, config.id)?;
            events.write_all(events::recovery(&recovered, env!("CARGO_PKG_VERSION")))?;
            Some(events)
        }
        None => None,
    };
    let machine = match &recovered.snapshot {
        Some(snapshot) => Machine::restore(storage.snapshots().open(snapshot.position)?)?,
        None => Machine::new(KeyValue::default()),
    };
    let initial = Initial {
        hard_state: recovered.hard_state,
        begin: recovered.begin,
        snapshot: recovered.snapshot.unwrap_or_default(),
        entries: recovered.entries,
        configuration: Configuration { voters, ..Configuration::default() },
    };
    let (inbox, receiver) = Inbox::new();
    let outbox = Outbox::default();
    // A process's hasher keys are drawn from the system's randomness.
    let options = config.options(RandomState::new().hash_one(config.id));
    let folder = storage.identity().folder;
    let parts = Parts {
        options,
        initial,
        tick: config.tick(),
        snapshots: storage.snapshots(),
        write: Box::new(move |write| storage.write(write)),
        machine,
        events,
        own: inbox.clone(),
        inbox: receiver,
        outbox: outbox.clone(),
    };
    let (driver, status) = Driver::new(parts)?;
    tracing::info!(id = %config.id, listen = %config.listen, "up");

    let to_driver = inbox.clone();
    let transport = Transport {
        id: config.id,
        peers: config.peers.clone(),
        folder,
        met: known.folders().clone(),
        meet: Box::new(move |peer, folder| {
            let first = known.meet(peer, folder);
            first.map_err(|error| {
                let told = with_causes(&error);
                if matches!(error, StorageError::Sync { .. }) {
                    to_driver.deliver(Event::Failed(error));
                }
                told.into()
            })
        }),
        inbox: inbox.clone(),
        outbox,
        status,
    };
    let driver = std::thread::Builder::new().name("driver".into()).spawn(move || {
        let mut driver = driver;
        // Declared last, so dropped first: a panic ends the process before the driver drops those who wait.
        let _ends_node = EndsNode;
        if let Err(error) = driver.run() {
            // Nothing may be answered after a failed write: not even an error.
            eprintln!("mkraft-node: {}", with_causes(&error));
            std::process::exit(1);
        }
    })?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async move {
            let reason = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            let ended = tokio::task::spawn_blocking(move || {
                inbox.stop(reason.into());
                driver.join()
            });
            if !matches!(ended.await, Ok(Ok(()))) {
                std::process::exit(101);
            }
            tokio::time::sleep(DRAIN).await;
        };
        transport.serve(listener, stop).await.map_err(Failure::from)
    })?;
    runtime.shutdown_background();
    Ok(())
}

/// A node without its driver would look alive: a panic there ends the process.
struct EndsNode;

impl Drop for EndsNode {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::exit(101);
        }
    }
}

/// Each stream and each client is an open file, and the usual soft limit is low. A node that may not raise it
/// runs with what it has.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "failed to raise the limit of open files");
    }
}

fn dump(data_dir: &std::path::Path) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if let Some(torn) = mkraft_node::dump::dump(data_dir, &mut out)? {
        let path = torn.path.display();
        eprintln!(
            "mkraft-node: {path}: {} bytes after byte {} are a torn tail, left out",
            torn.bytes, torn.offset
        );
    }
    Ok(())
}

fn verify(data_dir: &std::path::Path, json: bool) -> Result<ExitCode, Failure> {
    let report = storage::verify(data_dir)?;
    let damages = report.damages.iter();
    if json {
        let damages = damages.map(
            |damage| serde_json::json!({ "file": damage.path, "offset": damage.offset, "what": damage.what }),
        );
        let snapshots = report.snapshots.iter().map(|snapshot| {
            serde_json::json!({
                "index": snapshot.position.index.0,
                "term": snapshot.position.term.0,
                "bytes": snapshot.bytes,
                "digest": format!("{:016x}", snapshot.digest),
            })
        });
        let report = serde_json::json!({
            "sound": report.is_sound(),
            "node": report.node.map(|node| node.to_string()),
            "segments": report.segments,
            "records": report.records,
            "bytes": report.bytes,
            "snapshots": snapshots.collect::<Vec<_>>(),
            "damages": damages.collect::<Vec<_>>(),
            "notes": report.notes,
        });
        println!("{report}");
    } else {
        damages.for_each(|damage| {
            println!("{}: damaged at byte {}: {}", damage.path.display(), damage.offset, damage.what);
        });
        report.notes.iter().for_each(|note| println!("{note}"));
        let storage::Report { segments, records, bytes, ref snapshots, .. } = report;
        let verdict = if report.is_sound() { "sound" } else { "damaged" };
        let snapshots = snapshots.len();
        println!(
            "{verdict}: {segments} segments, {records} records, {snapshots} snapshots, {bytes} bytes read"
        );
        if !report.is_sound() {
            eprintln!("{REJOIN}");
        }
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What a damaged folder means for the cluster stands in docs/decisions/damaged-disk.md.
const REJOIN: &str = "mkraft-node: the disk has lost what this node may have acknowledged or voted, so it must not \
    come back under its name: keep the folder aside, remove the node from the cluster, and let it join as a new \
    member with a new identity and an empty folder";

fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}

fn show(outcome: Outcome) -> Result<ExitCode, Failure> {
    println!("{}", outcome.text);
    if let Some(note) = outcome.note {
        eprintln!("mkraft-node: {note}");
    }
    Ok(if outcome.success { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
