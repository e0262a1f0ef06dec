//! Which data folder each peer keeps: a node that lost its own has lost its votes and its log with it, and must not
//! come back under its name.
//!
//! In: what peers say of themselves when a stream opens. Out: whether that is who was there before. Never: a memory
//! beyond this process; as long as one other node stays up, whoever was wiped meanwhile cannot speak to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Status;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::raft::NodeId;

/// Of the answer to a greeting.
const HEADER: &str = "mkraft-folder";

#[derive(Clone)]
pub struct Folders {
    /// This node's.
    own: u128,
    known: Arc<Mutex<BTreeMap<NodeId, u128>>>,
}

impl Folders {
    pub fn new(own: u128) -> Folders {
        Folders { own, known: Arc::default() }
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

    pub fn check_signed(&self, peer: NodeId, answer: &MetadataMap) -> Result<(), Status> {
        let folder = answer.get(HEADER).and_then(|value| value.to_str().ok());
        let folder = folder.and_then(|folder| u128::from_str_radix(folder, 16).ok());
        self.check(peer, folder)
    }

    pub fn check_bytes(&self, peer: NodeId, folder: &[u8]) -> Result<(), Status> {
        self.check(peer, folder.try_into().ok().map(u128::from_be_bytes))
    }

    fn check(&self, peer: NodeId, folder: Option<u128>) -> Result<(), Status> {
        let folder =
            folder.ok_or_else(|| Status::invalid_argument(format!("{peer} names no data folder")))?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match *known.entry(peer).or_insert(folder) {
            first if first == folder => Ok(()),
            _ => Err(Status::permission_denied(format!(
                "{peer} has come back with another data folder, without what it acknowledged and voted: \
                 remove it, and let it join under a new id"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_known_by_the_folder_it_had_first() {
        let (own, mut answer) = (Folders::new(7), MetadataMap::new());
        own.sign(&mut answer);
        let peers = Folders::new(8);
        assert!(peers.check_signed(NodeId(1), &MetadataMap::new()).is_err(), "it must name one");
        assert!(peers.check_signed(NodeId(1), &answer).is_ok());
        assert!(peers.check_bytes(NodeId(1), &own.own_bytes()).is_ok());
        let wiped = Folders::new(9);
        let refused = peers.check_bytes(NodeId(1), &wiped.own_bytes()).unwrap_err();
        assert!(refused.message().contains("n1 has come back with another data folder"), "{refused}");
        assert!(peers.check_bytes(NodeId(2), &wiped.own_bytes()).is_ok(), "another node has its own");
        assert!(peers.check_bytes(NodeId(2), &[1]).is_err());
    }
}
