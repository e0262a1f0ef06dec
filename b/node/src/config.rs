//! What a node is told: flags win over the file, and a bad value is an error that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::raft::{NodeId, Options};
use crate::storage::{self, CHUNK_BYTES};

/// Ticks a heartbeat interval is divided into: the grain of election timeouts.
const HEARTBEAT_TICKS: u32 = 5;
const APPEND_BYTES_MAX: usize = 1 << 20;
const INFLIGHT_BYTES_MAX: usize = 8 << 20;
const UNCOMMITTED_ENTRIES_MAX: u64 = 16 << 10;
const TAIL_ENTRIES: u64 = 16 << 10;
const CHUNKS_INFLIGHT_MAX: u64 = 8;
/// Replicated in some milliseconds.
const PROMOTE_LAG_ENTRIES_MAX: u64 = 1 << 10;
/// Of the promise that followers make, this part is left to clocks that run at different rates.
const LEASE_DRIFT: f64 = 0.2;
const DEFAULT_COMPACT_ENTRIES: u64 = 256 << 10;
const DEFAULT_COMPACT_BYTES: u64 = 64 << 20;
/// A second.
const DEFAULT_SNAPSHOT_RATE: u64 = 64 << 20;
const DEFAULT_ELECTION_TIMEOUT: Duration = Duration::from_millis(1000);
const DEFAULT_HEARTBEAT: Duration = Duration::from_millis(100);

/// `mkraft-node run`: each of these may stand in the file instead, under the same name.
#[derive(Args, Debug, Default)]
pub struct Flags {
    /// This node's identity: n1, n2, ...
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Where the log is kept; made if absent
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address to serve peers and clients on
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Another node of the cluster and where to reach it; once for each
    #[arg(long = "peer", value_name = "ID=ADDR")]
    peers: Vec<String>,
    /// Write evidence lines into this folder, one file a boot
    #[arg(long, value_name = "DIR")]
    events: Option<PathBuf>,
    /// The least time without a leader before a campaign; each is drawn between this and its double [default: 1s]
    #[arg(long, value_name = "DURATION")]
    election_timeout: Option<String>,
    /// Between two heartbeats of a leader [default: 100ms]
    #[arg(long, value_name = "DURATION")]
    heartbeat: Option<String>,
    /// Take a snapshot once the log has grown by this many entries [default: 262144]
    #[arg(long, value_name = "ENTRIES")]
    compact_entries: Option<u64>,
    /// Take a snapshot once the log has grown by this many bytes [default: 67108864]
    #[arg(long, value_name = "BYTES")]
    compact_bytes: Option<u64>,
    /// Send snapshots to followers with at most this many bytes a second [default: 67108864]
    #[arg(long, value_name = "BYTES")]
    snapshot_rate: Option<u64>,
    /// Size of a file of the log: so much room is taken when it is begun [default: 8388608]
    #[arg(long, value_name = "BYTES")]
    segment_bytes: Option<u64>,
    /// Who votes in the cluster's first configuration; once for each, the same on all nodes [default: this node and
    /// all peers]. Remembered from the first start on: later it may be left away, and not be another
    #[arg(long = "voter", value_name = "ID", conflicts_with = "join")]
    voters: Vec<String>,
    /// Vote nowhere: wait until the cluster that this node is to join adds it
    #[arg(long)]
    join: bool,
    /// Let others campaign for so many election timeouts before this node does [default: 0]
    #[arg(long, value_name = "TIMEOUTS")]
    patience: Option<u32>,
    /// Answer reads for a part of the election timeout after a quorum has confirmed the leader, without asking again;
    /// linearizable as long as no two nodes' clocks differ in rate by more than a fifth. All nodes must have it, or none
    #[arg(long)]
    leases: bool,
    /// A YAML file with any of these; `peers` is a map there
    #[arg(long, value_name = "FILE.yaml")]
    config: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    id: Option<String>,
    data_dir: Option<PathBuf>,
    listen: Option<String>,
    #[serde(default)]
    peers: BTreeMap<String, String>,
    events: Option<PathBuf>,
    election_timeout: Option<String>,
    heartbeat: Option<String>,
    compact_entries: Option<u64>,
    compact_bytes: Option<u64>,
    snapshot_rate: Option<u64>,
    segment_bytes: Option<u64>,
    #[serde(default)]
    voters: Vec<String>,
    #[serde(default)]
    join: bool,
    patience: Option<u32>,
    #[serde(default)]
    leases: bool,
}

#[derive(Debug, PartialEq)]
pub struct Config {
    pub id: NodeId,
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub peers: BTreeMap<NodeId, String>,
    pub events: Option<PathBuf>,
    pub election_timeout: Duration,
    pub heartbeat: Duration,
    pub compact_entries: u64,
    pub compact_bytes: u64,
    pub snapshot_rate: u64,
    pub segment_bytes: u64,
    /// Of the first configuration, as it is given; nobody for a node that is to join a cluster.
    pub voters: Option<BTreeSet<NodeId>>,
    pub patience: u32,
    pub leases: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("failed to read the configuration {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("failed to parse the configuration {}", path.display())]
    Parse { path: PathBuf, source: serde_yaml::Error },
    #[error("{name} is missing: give --{name}, or {name} in the configuration file")]
    Missing { name: &'static str },
    #[error("{name}: {value:?} is not {expected}")]
    Invalid { name: &'static str, value: String, expected: &'static str },
    #[error("peers: {id} is this node itself")]
    OwnPeer { id: NodeId },
    #[error("voters: {id} is no peer, so this node has no address of it")]
    NoAddress { id: NodeId },
    #[error("peers: {id} is named twice")]
    PeerTwice { id: NodeId },
    #[error("election-timeout ({election:?}) must be at least three times heartbeat ({heartbeat:?})")]
    Impatient { election: Duration, heartbeat: Duration },
}

impl Config {
    pub fn resolve(flags: Flags) -> Result<Config, ConfigError> {
        let file = flags.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let id = flags.id.or(file.id).ok_or(ConfigError::Missing { name: "id" })?;
        let id = parse_id("id", &id)?;
        let data_dir = flags.data_dir.or(file.data_dir).ok_or(ConfigError::Missing { name: "data-dir" })?;
        let listen = flags.listen.or(file.listen).ok_or(ConfigError::Missing { name: "listen" })?;
        let listen = listen.parse().map_err(|_| ConfigError::Invalid {
            name: "listen",
            value: listen,
            expected: "an address and port such as 127.0.0.1:7001",
        })?;
        let peers = if flags.peers.is_empty() {
            file.peers.into_iter().collect()
        } else {
            flags.peers.iter().map(|peer| split_peer(peer)).collect::<Result<Vec<_>, _>>()?
        };
        let election_timeout =
            parse_duration("election-timeout", flags.election_timeout.or(file.election_timeout))?;
        let heartbeat = parse_duration("heartbeat", flags.heartbeat.or(file.heartbeat))?;
        let peers = parse_peers(id, peers)?;
        let voters = if flags.voters.is_empty() { file.voters } else { flags.voters };
        let config = Config {
            id,
            data_dir,
            listen,
            voters: parse_voters(id, &peers, &voters, flags.join || file.join)?,
            peers,
            patience: flags.patience.or(file.patience).unwrap_or(0),
            leases: flags.leases || file.leases,
            events: flags.events.or(file.events),
            election_timeout: election_timeout.unwrap_or(DEFAULT_ELECTION_TIMEOUT),
            heartbeat: heartbeat.unwrap_or(DEFAULT_HEARTBEAT),
            compact_entries: flags
                .compact_entries
                .or(file.compact_entries)
                .unwrap_or(DEFAULT_COMPACT_ENTRIES),
            compact_bytes: flags.compact_bytes.or(file.compact_bytes).unwrap_or(DEFAULT_COMPACT_BYTES),
            snapshot_rate: flags.snapshot_rate.or(file.snapshot_rate).unwrap_or(DEFAULT_SNAPSHOT_RATE),
            segment_bytes: flags
                .segment_bytes
                .or(file.segment_bytes)
                .unwrap_or(storage::Options::default().segment_bytes),
        };
        let sizes = [
            ("compact-entries", config.compact_entries),
            ("compact-bytes", config.compact_bytes),
            ("snapshot-rate", config.snapshot_rate),
            ("segment-bytes", config.segment_bytes),
        ];
        if let Some((name, value)) = sizes.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Invalid {
                name,
                value: value.to_string(),
                expected: "more than nothing",
            });
        }
        // Below this, one late heartbeat is an election.
        if config.election_timeout < 3 * config.heartbeat {
            let (election, heartbeat) = (config.election_timeout, config.heartbeat);
            return Err(ConfigError::Impatient { election, heartbeat });
        }
        Ok(config)
    }

    pub fn tick(&self) -> Duration {
        self.heartbeat / HEARTBEAT_TICKS
    }

    /// `seed` is what the election timeouts are drawn from.
    pub fn options(&self, seed: u64) -> Options {
        let election_ticks = self.election_timeout.as_nanos().div_ceil(self.tick().as_nanos());
        Options {
            id: self.id,
            election_ticks: u32::try_from(election_ticks).unwrap_or(u32::MAX / 2),
            heartbeat_ticks: HEARTBEAT_TICKS,
            append_bytes_max: APPEND_BYTES_MAX,
            inflight_bytes_max: INFLIGHT_BYTES_MAX,
            uncommitted_entries_max: UNCOMMITTED_ENTRIES_MAX,
            compact_entries: self.compact_entries,
            compact_bytes: usize::try_from(self.compact_bytes).unwrap_or(usize::MAX),
            tail_entries: TAIL_ENTRIES.min(self.compact_entries / 4),
            tail_bytes: usize::try_from(self.compact_bytes / 4).unwrap_or(usize::MAX),
            chunk_bytes: CHUNK_BYTES as u64,
            chunks_per_tick: (self.snapshot_rate as f64 * self.tick().as_secs_f64() / CHUNK_BYTES as f64)
                .ceil() as u64,
            chunks_inflight_max: CHUNKS_INFLIGHT_MAX,
            promote_lag_entries_max: PROMOTE_LAG_ENTRIES_MAX,
            patience: self.patience,
            lease: self.leases.then(|| self.lease()),
            seed,
        }
    }

    /// The voters that the cluster begins with where none are given.
    pub fn all(&self) -> BTreeSet<NodeId> {
        self.peers.keys().copied().chain([self.id]).collect()
    }

    /// In microseconds. Followers count the promise in ticks, of which the first may come a tick early.
    fn lease(&self) -> u64 {
        let promised = self.election_timeout.saturating_sub(self.tick());
        (promised.as_micros() as f64 * (1.0 - LEASE_DRIFT)) as u64
    }
}

pub fn parse_id(name: &'static str, text: &str) -> Result<NodeId, ConfigError> {
    let number = text.strip_prefix('n').filter(|digits| !digits.starts_with(['0', '+']));
    number.and_then(|digits| digits.parse().ok()).map(NodeId).ok_or_else(|| ConfigError::Invalid {
        name,
        value: text.into(),
        expected: "a node's identity such as n1",
    })
}

/// `n2=127.0.0.1:7002` in its halves.
pub fn split_peer(text: &str) -> Result<(String, String), ConfigError> {
    let halves = text.split_once('=').map(|(id, address)| (id.to_owned(), address.to_owned()));
    halves.ok_or_else(|| ConfigError::Invalid {
        name: "peer",
        value: text.into(),
        expected: "an identity and an address such as n2=127.0.0.1:7002",
    })
}

pub fn check_address(name: &'static str, address: &str) -> Result<(), ConfigError> {
    // Anything else would change the meaning of the URL that an address becomes a part of.
    let of_host = |c: char| c.is_ascii_alphanumeric() || "._:[]-".contains(c);
    let is_host = |host: &str| !host.is_empty() && host.chars().all(of_host);
    let port = address.rsplit_once(':').filter(|(host, _)| is_host(host)).map(|(_, port)| port);
    if port
        .filter(|port| !port.starts_with('+'))
        .is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
    {
        return Ok(());
    }
    let expected = "a host and port such as 127.0.0.1:7002";
    Err(ConfigError::Invalid { name, value: address.into(), expected })
}

fn parse_peers(own: NodeId, peers: Vec<(String, String)>) -> Result<BTreeMap<NodeId, String>, ConfigError> {
    let mut map = BTreeMap::new();
    for (id, address) in peers {
        let id = parse_id("peer", &id)?;
        check_address("peer", &address)?;
        if id == own {
            return Err(ConfigError::OwnPeer { id });
        }
        if map.insert(id, address).is_some() {
            return Err(ConfigError::PeerTwice { id });
        }
    }
    Ok(map)
}

fn parse_voters(
    own: NodeId,
    peers: &BTreeMap<NodeId, String>,
    voters: &[String],
    join: bool,
) -> Result<Option<BTreeSet<NodeId>>, ConfigError> {
    if join {
        return Ok(Some(BTreeSet::new()));
    }
    if voters.is_empty() {
        return Ok(None);
    }
    let voters = voters.iter().map(|voter| parse_id("voter", voter)).collect::<Result<BTreeSet<_>, _>>()?;
    match voters.iter().find(|id| **id != own && !peers.contains_key(id)) {
        Some(&id) => Err(ConfigError::NoAddress { id }),
        None => Ok(Some(voters)),
    }
}

fn parse_duration(name: &'static str, text: Option<String>) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let range = Duration::from_millis(5)..=Duration::from_secs(3600);
    match humantime::parse_duration(&text) {
        Ok(duration) if range.contains(&duration) => Ok(Some(duration)),
        _ => {
            let expected = "a duration from 5ms to 1h, such as 500ms or 2s";
            Err(ConfigError::Invalid { name, value: text, expected })
        }
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    serde_yaml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Flags {
        Flags {
            id: Some("n1".into()),
            data_dir: Some("data".into()),
            listen: Some("127.0.0.1:7001".into()),
            peers: vec!["n2=127.0.0.1:7002".into()],
            ..Flags::default()
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.yaml");
        std::fs::write(
            &path,
            "id: n9\nlisten: 127.0.0.1:9\npeers: {n3: \"127.0.0.1:7003\"}\nheartbeat: 20ms\n",
        )
        .unwrap();
        let config = Config::resolve(Flags { config: Some(path.clone()), ..flags() }).unwrap();
        assert_eq!(config.id, NodeId(1));
        assert_eq!(config.peers.keys().copied().collect::<Vec<_>>(), [NodeId(2)]);
        assert_eq!(config.heartbeat, Duration::from_millis(20));
        let only_file = Flags { config: Some(path), data_dir: Some("data".into()), ..Flags::default() };
        assert_eq!(Config::resolve(only_file).unwrap().peers[&NodeId(3)], "127.0.0.1:7003");
    }

    #[test]
    fn a_bad_value_is_named() {
        let text = |text: &str| Some(text.to_owned());
        let peers = |peers: &[&str]| peers.iter().map(|&peer| peer.to_owned()).collect::<Vec<_>>();
        let cases = [
            (Flags { id: None, ..flags() }, "id is missing: give --id"),
            (Flags { id: text("node1"), ..flags() }, "id: \"node1\" is not a node's identity such as n1"),
            (Flags { id: text("n0"), ..flags() }, "id: \"n0\" is not"),
            (Flags { listen: text("7001"), ..flags() }, "listen: \"7001\" is not an address and port"),
            (Flags { peers: peers(&["n2"]), ..flags() }, "peer: \"n2\" is not an identity and an address"),
            (Flags { peers: peers(&["n2=7002"]), ..flags() }, "peer: \"7002\" is not a host and port"),
            (Flags { peers: peers(&["n2=a/b:1"]), ..flags() }, "peer: \"a/b:1\" is not a host and port"),
            (Flags { peers: peers(&["n2=a@b:1"]), ..flags() }, "peer: \"a@b:1\" is not a host and port"),
            (Flags { peers: peers(&["n2=h:+1"]), ..flags() }, "peer: \"h:+1\" is not a host and port"),
            (Flags { peers: peers(&["n1=h:1"]), ..flags() }, "peers: n1 is this node itself"),
            (Flags { peers: peers(&["n2=h:1", "n2=h:2"]), ..flags() }, "peers: n2 is named twice"),
            (Flags { compact_bytes: Some(0), ..flags() }, "compact-bytes: \"0\" is not more than nothing"),
            (Flags { heartbeat: text("5"), ..flags() }, "heartbeat: \"5\" is not a duration"),
            (Flags { election_timeout: text("200ms"), ..flags() }, "must be at least three times heartbeat"),
        ];
        for (flags, want) in cases {
            let error = Config::resolve(flags).unwrap_err().to_string();
            assert!(error.contains(want), "{error:?} should contain {want:?}");
        }
    }

    #[test]
    fn an_unknown_key_in_the_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.yaml");
        std::fs::write(&path, "id: n1\nheart-beat: 20ms\n").unwrap();
        let error = Config::resolve(Flags { config: Some(path), ..flags() }).unwrap_err();
        let text = crate::causes::with_causes(&error);
        for part in ["node.yaml", "unknown field `heart-beat`", "line 2"] {
            assert_eq!(text.matches(part).count(), 1, "{part:?} in {text:?}");
        }
    }
}
