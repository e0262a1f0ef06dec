//! Which data folder each peer keeps: a node that lost its own has lost its votes and its log with it, and must not
//! come back under its name.
//!
//! In: what peers say of themselves when a stream opens. Out: whether that is who was there before. Never: a peer that
//! is spoken to before it is known on the disk who it is: a cluster that was stopped as a whole remembers as well.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Status;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::causes::with_causes;
use crate::raft::NodeId;

/// Of the answer to a greeting.
const HEADER: &str = "mkraft-folder";

#[derive(Clone)]
pub struct Folders {
    /// This node's.
    own: u128,
    /// What is durable of this: nobody waits for a disk who was met before.
    met: Arc<Mutex<BTreeMap<NodeId, u128>>>,
    meet: Arc<Mutex<Meet>>,
}

/// Remembers the data folder that a peer names, durably, and says which one it had first; or why it could not.
pub type Meet = Box<dyn FnMut(NodeId, u128) -> Result<u128, Box<dyn Error + Send + Sync>> + Send>;

impl Folders {
    pub fn new(own: u128, met: BTreeMap<NodeId, u128>, meet: Meet) -> Folders {
        Folders { own, met: Arc::new(Mutex::new(met)), meet: Arc::new(Mutex::new(meet)) }
    }

    pub fn own_bytes(&self) -> Vec<u8> {
        self.own.to_be_bytes().to_vec()
    }

    /// Says in an answer which folder this node keeps.
    pub fn sign(&self, answer: &mut MetadataMap) {
        if let Ok(own) = MetadataValue::try_from(format!("{:032x}", self.own)) {
            answer.insert(HEADER, own);
        }
    }

    pub async fn check_signed(&self, peer: NodeId, answer: &MetadataMap) -> Result<(), Status> {
        let folder = answer.get(HEADER).and_then(|value| value.to_str().ok());
        let folder = folder.and_then(|folder| u128::from_str_radix(folder, 16).ok());
        self.check(peer, folder).await
    }

    pub async fn check_bytes(&self, peer: NodeId, folder: &[u8]) -> Result<(), Status> {
        self.check(peer, folder.try_into().ok().map(u128::from_be_bytes)).await
    }

    async fn check(&self, peer: NodeId, folder: Option<u128>) -> Result<(), Status> {
        let folder =
            folder.ok_or_else(|| Status::invalid_argument(format!("{peer} names no data folder")))?;
        let met = lock(&self.met).get(&peer).copied();
        let first = match met {
            Some(first) => first,
            None => self.meet(peer, folder).await?,
        };
        if first == folder {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "{peer} has come back with another data folder, without what it acknowledged and voted: remove it, and \
             let it join under a new id"
        )))
    }

    /// Writes it down, in a thread that may wait.
    async fn meet(&self, peer: NodeId, folder: u128) -> Result<u128, Status> {
        let folders = self.clone();
        let first = tokio::task::spawn_blocking(move || {
            let first = (lock(&folders.meet))(peer, folder)?;
            lock(&folders.met).insert(peer, first);
            Ok(first)
        });
        let failed = |error: &(dyn Error + 'static)| {
            Status::unavailable(format!("failed to remember {peer}: {}", with_causes(error)))
        };
        first
            .await
            .map_err(|error| failed(&error))?
            .map_err(|error: Box<dyn Error + Send + Sync>| failed(&*error))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Options, Storage};

    fn folders(own: u128, dir: &std::path::Path) -> Folders {
        let (storage, _) = Storage::open(dir, NodeId(9), Options::default()).unwrap();
        let mut known = storage.known().unwrap();
        let met = known.folders().clone();
        Folders::new(own, met, Box::new(move |peer, folder| Ok(known.meet(peer, folder)?)))
    }

    #[tokio::test]
    async fn a_peer_is_known_by_the_folder_it_had_first_over_restarts() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (own, mut answer) = (folders(7, other.path()), MetadataMap::new());
        own.sign(&mut answer);
        let peers = folders(8, dir.path());
        assert!(peers.check_signed(NodeId(1), &MetadataMap::new()).await.is_err(), "it must name one");
        assert!(peers.check_signed(NodeId(1), &answer).await.is_ok());
        assert!(peers.check_bytes(NodeId(1), &own.own_bytes()).await.is_ok());
        for peers in [peers, folders(8, dir.path())] {
            let wiped = 9u128.to_be_bytes();
            let refused = peers.check_bytes(NodeId(1), &wiped).await.unwrap_err();
            assert!(refused.message().contains("n1 has come back with another data folder"), "{refused}");
            assert!(peers.check_bytes(NodeId(2), &wiped).await.is_ok(), "another node has its own");
            assert!(peers.check_bytes(NodeId(2), &[1]).await.is_err());
        }
    }
}
