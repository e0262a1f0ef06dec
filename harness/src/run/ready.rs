//! Waits until a cluster that has just been started serves.
//!
//! In: a cluster without faults. Out: nothing, or why it does not serve, with the last words of nodes that ended.
//! Never: a wait beyond its bound.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use mkraft_proto::evidence::Role;
use tokio::time::{Instant, sleep};

use super::interrupt::Interrupt;
use crate::cluster::{Cluster, NodeState};
use crate::system::NodeStatus;

/// From the start of the processes until one leads and all answer.
const READY_LIMIT: Duration = Duration::from_secs(20);
const READY_POLL: Duration = Duration::from_millis(20);
/// Of the log of a node that ended, so much is quoted.
const LAST_WORDS_BYTES: u64 = 800;

type Answers = BTreeMap<String, Result<NodeStatus, String>>;

pub async fn ready(cluster: &Cluster, interrupt: &Interrupt) -> Result<(), String> {
    let deadline = Instant::now() + READY_LIMIT;
    loop {
        let answers = cluster.status().await;
        if let Some(node) = cluster.nodes().iter().find(|node| node.state() == NodeState::Down) {
            let words = last_words(&cluster.node_folder(node.name()).log());
            return Err(format!("{} ended as soon as it was started: {words}", node.name()));
        }
        if serves(&answers, cluster.nodes().len()) || interrupt.came() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(format!("the cluster does not serve after {READY_LIMIT:?}: {}", describe(&answers)));
        }
        sleep(READY_POLL).await;
    }
}

fn serves(answers: &Answers, nodes: usize) -> bool {
    let known: Vec<_> = answers.values().filter_map(|answer| answer.as_ref().ok()).collect();
    known.len() == nodes && known.iter().any(|status| status.role == Role::Leader)
}

fn describe(answers: &Answers) -> String {
    let of = |(node, answer): (&String, &Result<NodeStatus, String>)| match answer {
        Ok(status) => format!("{node} is {:?} in term {}", status.role, status.term).to_lowercase(),
        Err(error) => format!("{node}: {error}"),
    };
    answers.iter().map(of).collect::<Vec<_>>().join("; ")
}

/// The end of a log, or why it cannot be read.
pub(super) fn last_words(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.is_empty() => format!("it said nothing in {}", log.display()),
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(error) => format!("failed to read {}: {error}", log.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_serves_when_all_answer_and_one_leads() {
        let says = |role| Ok(NodeStatus { term: 2, role, leader: None, last: 0, commit: 0, applied: 0 });
        let answers = |all: [Result<NodeStatus, String>; 3]| -> Answers {
            ["n1", "n2", "n3"].map(String::from).into_iter().zip(all).collect()
        };
        let (leader, follower, silent) = (says(Role::Leader), says(Role::Follower), Err("silent".to_owned()));
        for (all, expected) in [
            ([follower.clone(), leader.clone(), follower.clone()], true),
            ([follower.clone(), follower.clone(), follower.clone()], false),
            ([follower.clone(), leader.clone(), silent.clone()], false),
        ] {
            assert_eq!(serves(&answers(all.clone()), 3), expected, "{all:?}");
        }
        let told = describe(&answers([follower, leader, silent]));
        assert_eq!(told, "n1 is follower in term 2; n2 is leader in term 2; n3: silent");
    }

    #[test]
    fn last_words_are_the_end_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("stderr.log");
        std::fs::write(&log, "x".repeat(5000) + "\nerror: no such flag\n").unwrap();
        let words = last_words(&log);
        assert!(words.ends_with("error: no such flag") && words.len() as u64 <= LAST_WORDS_BYTES, "{words}");
        assert!(last_words(&folder.path().join("none")).contains("failed to read"));
    }
}
