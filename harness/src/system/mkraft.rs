//! mkraft as a system under test: its program, its flags, its Status.
//!
//! In: a path to `mkraft-node`, or none. Out: command lines, and answers of the admin service. Never: a
//! request that changes anything.

use std::env;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mkraft_proto::evidence::Role;
use mkraft_proto::v1::admin_client::AdminClient;
use mkraft_proto::v1::{self, StatusRequest};
use tokio::process::Command;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use xxhash_rust::xxh3::xxh3_64;

use super::{NodeStatus, Place, Settings, SystemError};

/// Name of the node's program, which stands beside the harness' own.
pub const PROGRAM: &str = "mkraft-node";

/// In the data folder of a node, until they are whole.
const UNFINISHED_SNAPSHOTS: &[&str] = &["received.snap.tmp", "taken.snap.tmp"];

const VERSION_LIMIT: Duration = Duration::from_secs(10);
const STATUS_LIMIT: Duration = Duration::from_millis(300);

/// The program under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mkraft {
    pub program: PathBuf,
    /// What `--version` prints.
    pub version: String,
    /// xxh3-64 of the program file, in hex.
    pub digest: String,
}

impl Mkraft {
    /// The program at `explicit`, else the one beside the harness; asked for its version.
    pub async fn find(explicit: Option<&Path>) -> Result<Mkraft, SystemError> {
        let looked_at = match explicit {
            Some(path) => path.to_path_buf(),
            None => beside_the_harness()?,
        };
        let program = match fs::canonicalize(&looked_at) {
            Ok(program) if program.is_file() => program,
            _ => return Err(SystemError::NoProgram { looked_at }),
        };
        let digest =
            digest(&program).map_err(|source| SystemError::Read { path: program.clone(), source })?;
        let version = version(&program).await?;
        Ok(Mkraft { program, version, digest })
    }

    /// Arguments with which a node starts, for the first time or on the data it has.
    pub fn run_arguments(&self, place: &Place, settings: Settings) -> Vec<String> {
        let mut arguments = vec!["run".to_string()];
        let mut flag = |name: &str, value: String| arguments.extend([name.to_string(), value]);
        flag("--id", place.name.clone());
        flag("--data-dir", place.data.display().to_string());
        flag("--listen", place.listen.to_string());
        for (peer, address) in &place.peers {
            flag("--peer", format!("{peer}={address}"));
        }
        if let Some(events) = &place.events {
            flag("--events", events.display().to_string());
        }
        for voter in &place.voters {
            flag("--voter", voter.clone());
        }
        flag("--election-timeout", humantime::format_duration(settings.election_timeout).to_string());
        flag("--heartbeat", humantime::format_duration(settings.heartbeat).to_string());
        flag("--compact-entries", settings.compact_entries.to_string());
        flag("--compact-bytes", settings.compact_bytes.to_string());
        flag("--snapshot-rate", settings.snapshot_rate.to_string());
        flag("--segment-bytes", settings.segment_bytes.to_string());
        let switches = [("--join", place.voters.is_empty()), ("--leases", settings.leases)];
        arguments.extend(switches.iter().filter(|(_, on)| *on).map(|(switch, _)| switch.to_string()));
        arguments
    }

    /// The snapshot that a node is writing into its data folder at this moment, taken by itself or received: the
    /// file, and how many bytes of it there are.
    pub fn unfinished_snapshot(data: &Path) -> Option<(&'static str, u64)> {
        let length = |name: &'static str| Some((name, fs::metadata(data.join(name)).ok()?.len()));
        UNFINISHED_SNAPSHOTS.iter().find_map(|name| length(name))
    }

    /// Whether a file of this name in the data folder is a snapshot that is being written.
    pub fn is_unfinished_snapshot(name: &str) -> bool {
        UNFINISHED_SNAPSHOTS.contains(&name)
    }

    /// The number of the newest file of evidence in such a folder; 0 when there is none. The next process that writes
    /// there takes the next number.
    pub fn last_evidence(events: &Path) -> io::Result<u64> {
        let number = |entry: io::Result<fs::DirEntry>| -> io::Result<u64> {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("boot-")?.strip_suffix(".jsonl"));
            Ok(number.and_then(|number| number.parse().ok()).unwrap_or(0))
        };
        fs::read_dir(events)?.map(number).try_fold(0, |last, number| Ok(last.max(number?)))
    }

    /// Arguments with which all that a stopped node has on its disk is read, and every damage named: exit code 0 is sound.
    pub fn verify_arguments(&self, data: &Path) -> Vec<String> {
        ["verify", "--data-dir"].map(String::from).into_iter().chain([data.display().to_string()]).collect()
    }

    /// Arguments with which the log and the hard state of a stopped node are printed.
    pub fn dump_arguments(&self, data: &Path) -> Vec<String> {
        ["dump", "--data-dir"].map(String::from).into_iter().chain([data.display().to_string()]).collect()
    }
}

/// Asks one node for its status, on a connection of its own that comes back when the node does.
#[derive(Debug, Clone)]
pub struct StatusClient {
    client: AdminClient<Channel>,
}

impl StatusClient {
    /// To be called within a tokio runtime; connects at the first question.
    pub fn new(address: SocketAddr) -> StatusClient {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .unwrap_or_else(|error| panic!("http://{address} is no address: {error}"));
        let channel = endpoint.connect_timeout(STATUS_LIMIT).connect_lazy();
        StatusClient { client: AdminClient::new(channel) }
    }

    /// The error is for a person to read; a node that is down or paused has one as a matter of course.
    pub async fn status(&mut self) -> Result<NodeStatus, String> {
        let reply = match timeout(STATUS_LIMIT, self.client.status(StatusRequest {})).await {
            Ok(Ok(reply)) => reply.into_inner(),
            Ok(Err(status)) => return Err(format!("{:?}: {}", status.code(), status.message())),
            Err(_) => return Err(format!("no answer within {STATUS_LIMIT:?}")),
        };
        let role = match reply.role() {
            v1::Role::Follower => Role::Follower,
            v1::Role::PreCandidate => Role::PreCandidate,
            v1::Role::Candidate => Role::Candidate,
            v1::Role::Leader => Role::Leader,
            v1::Role::Learner => Role::Learner,
        };
        let leader = (reply.leader != 0).then(|| format!("n{}", reply.leader));
        let v1::StatusReply { term, last, commit, applied, .. } = reply;
        Ok(NodeStatus { term, role, leader, last, commit, applied })
    }
}

/// xxh3-64 of a program's file, in hex.
pub fn digest(program: &Path) -> io::Result<String> {
    Ok(format!("{:016x}", xxh3_64(&fs::read(program)?)))
}

fn beside_the_harness() -> Result<PathBuf, SystemError> {
    let own =
        env::current_exe().map_err(|source| SystemError::Read { path: "/proc/self/exe".into(), source })?;
    Ok(own.with_file_name(PROGRAM))
}

async fn version(program: &Path) -> Result<String, SystemError> {
    let failed = |reason: String| SystemError::Version { program: program.to_path_buf(), reason };
    let asked = Command::new(program).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match timeout(VERSION_LIMIT, asked).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failed(format!("failed: {error}"))),
        Err(_) => return Err(failed(format!("did not end within {VERSION_LIMIT:?}"))),
    };
    if !output.status.success() {
        return Err(failed(format!("failed: {}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_run_with_every_flag_spelled_out() {
        let mkraft = Mkraft { program: "/p".into(), version: String::new(), digest: String::new() };
        let mut place = Place {
            name: "n1".into(),
            listen: "127.16.0.1:7000".parse().unwrap(),
            peers: vec![
                ("n2".into(), "127.16.0.101:7002".parse().unwrap()),
                ("n3".into(), "127.16.0.101:7003".parse().unwrap()),
            ],
            voters: vec!["n1".into(), "n2".into()],
            data: "/r/data".into(),
            events: Some("/r/events".into()),
        };
        let settings = Settings::timed(Duration::from_millis(500), Duration::from_millis(50));
        let expected = "run --id n1 --data-dir /r/data --listen 127.16.0.1:7000 \
             --peer n2=127.16.0.101:7002 --peer n3=127.16.0.101:7003 --events /r/events \
             --voter n1 --voter n2 --election-timeout 500ms --heartbeat 50ms \
             --compact-entries 262144 --compact-bytes 67108864 --snapshot-rate 67108864 \
             --segment-bytes 8388608";
        assert_eq!(mkraft.run_arguments(&place, settings).join(" "), expected);
        place.voters.clear();
        let joining = mkraft.run_arguments(&place, Settings { leases: true, ..settings }).join(" ");
        assert!(joining.ends_with(" --join --leases") && !joining.contains("--voter"), "{joining}");
        assert_eq!(mkraft.dump_arguments(&place.data).join(" "), "dump --data-dir /r/data");
    }

    #[tokio::test]
    async fn a_missing_program_is_named_with_what_to_build() {
        let error = Mkraft::find(Some(Path::new("/nowhere/mkraft-node"))).await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/mkraft-node") && error.contains("cargo build --release"), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_tells_no_version_is_no_node() {
        let error = Mkraft::find(Some(Path::new("/bin/false"))).await.unwrap_err();
        assert!(matches!(error, SystemError::Version { .. }), "{error}");
    }

    #[tokio::test]
    async fn nobody_at_the_address_is_an_answer_in_time() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(StatusClient::new(free).status().await.is_err());
    }
}
