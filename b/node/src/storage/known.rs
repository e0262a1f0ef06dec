//! What a node knows of its cluster that no log holds: whom it began with, and which data folder each peer keeps.
//!
//! In: what it was started with, what peers say of themselves. Out: the same at every later boot. Never: a word that is
//! acted on before it is durable, or one that is taken back.
//!
//! ```text
//! mkraft cluster
//! voters 1 2 3
//! folder 2 0123456789abcdef0123456789abcdef
//! crc32c 01234567
//! ```
//! One file, written whole each time something is added to it (see `folder::place`): once a boot, and once a peer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crc32c::crc32c;

use super::error::StorageError;
use super::folder;
use crate::raft::NodeId;

const NAME: &str = "cluster";
/// Not that of the log's files: this one is written beside them.
const TEMPORARY: &str = "cluster.tmp";
const MAGIC: &str = "mkraft cluster";

/// Of an open data folder.
#[derive(Debug)]
pub struct Known {
    dir: PathBuf,
    facts: Facts,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    /// Of the configuration this node began with; nobody where it was to join.
    voters: Option<BTreeSet<NodeId>>,
    folders: BTreeMap<NodeId, u128>,
}

impl Known {
    pub(super) fn open(dir: &Path) -> Result<Known, StorageError> {
        let path = dir.join(NAME);
        let facts = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Facts::default(),
            // Not even text.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(damaged(&path)),
            Err(error) => return Err(StorageError::io("read", &path)(error)),
            Ok(text) => parse(&text).ok_or_else(|| damaged(&path))?,
        };
        Ok(Known { dir: dir.to_owned(), facts })
    }

    /// Whom the cluster began with: what was `given` at this node's first boot. Whoever gives others later is refused;
    /// `default` counts where nothing was ever given.
    pub fn voters(
        &mut self,
        given: Option<&BTreeSet<NodeId>>,
        default: &BTreeSet<NodeId>,
    ) -> Result<BTreeSet<NodeId>, StorageError> {
        match (&self.facts.voters, given) {
            (Some(found), Some(given)) if found != given => {
                let (found, given) = (told(found), told(given));
                Err(StorageError::OtherVoters { path: self.dir.join(NAME), found, given })
            }
            (Some(found), _) => Ok(found.clone()),
            (None, given) => {
                let voters = given.unwrap_or(default).clone();
                self.write(Facts { voters: Some(voters.clone()), ..self.facts.clone() })?;
                Ok(voters)
            }
        }
    }

    pub fn folders(&self) -> &BTreeMap<NodeId, u128> {
        &self.facts.folders
    }

    /// The folder that this peer had first: this one, if it had none.
    pub fn meet(&mut self, peer: NodeId, folder: u128) -> Result<u128, StorageError> {
        if let Some(&first) = self.facts.folders.get(&peer) {
            return Ok(first);
        }
        let mut facts = self.facts.clone();
        facts.folders.insert(peer, folder);
        self.write(facts)?;
        Ok(folder)
    }

    fn write(&mut self, facts: Facts) -> Result<(), StorageError> {
        let text = render(&facts);
        folder::place_by(&self.dir, TEMPORARY, NAME, |file| file.write_all(text.as_bytes()))?;
        self.facts = facts;
        Ok(())
    }
}

fn damaged(path: &Path) -> StorageError {
    StorageError::corrupt(
        path,
        0,
        "the lines `mkraft cluster`, `voters ...`, `folder N X` and their `crc32c`",
    )
}

fn told(voters: &BTreeSet<NodeId>) -> String {
    match voters.is_empty() {
        true => "nobody, to join a cluster".into(),
        false => voters.iter().map(NodeId::to_string).collect::<Vec<_>>().join(" "),
    }
}

fn render(Facts { voters, folders }: &Facts) -> String {
    let mut text = format!("{MAGIC}\n");
    if let Some(voters) = voters {
        text += "voters";
        voters.iter().for_each(|voter| text += &format!(" {}", voter.0));
        text += "\n";
    }
    for (peer, folder) in folders {
        text += &format!("folder {} {folder:032x}\n", peer.0);
    }
    format!("{text}crc32c {:08x}\n", crc32c(text.as_bytes()))
}

/// Byte for byte what [`render`] makes, or nothing.
fn parse(text: &str) -> Option<Facts> {
    let mut facts = Facts::default();
    for line in text.lines().skip(1) {
        let mut words = line.split(' ');
        match words.next()? {
            "voters" => {
                let ids = words.map(|id| id.parse().ok().map(NodeId)).collect::<Option<_>>()?;
                facts.voters = Some(ids);
            }
            "folder" => {
                let peer = words.next()?.parse().ok().map(NodeId)?;
                facts.folders.insert(peer, u128::from_str_radix(words.next()?, 16).ok()?);
            }
            _ => break,
        }
    }
    (render(&facts) == text).then_some(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn what_a_node_began_with_and_whom_it_met_is_known_to_every_later_boot() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Known::open(folder.path()).unwrap();
        assert_eq!(open().voters(None, &ids(&[1, 2])).unwrap(), ids(&[1, 2]));
        assert_eq!(open().meet(NodeId(2), 7).unwrap(), 7);
        assert_eq!(open().meet(NodeId(2), 8).unwrap(), 7, "it had another first");
        assert_eq!(open().meet(NodeId(3), u128::MAX).unwrap(), u128::MAX);
        // More peers by now.
        assert_eq!(open().voters(None, &ids(&[1, 2, 3])).unwrap(), ids(&[1, 2]));
        assert_eq!(open().voters(Some(&ids(&[1, 2])), &ids(&[])).unwrap(), ids(&[1, 2]));
        let refused = open().voters(Some(&ids(&[1, 2, 3])), &ids(&[])).unwrap_err().to_string();
        assert!(refused.contains("began with n1 n2, and now n1 n2 n3 is given"), "{refused}");
        let refused = open().voters(Some(&ids(&[])), &ids(&[])).unwrap_err().to_string();
        assert!(refused.contains("now nobody, to join a cluster is given"), "{refused}");
        assert_eq!(open().folders().len(), 2);
    }

    #[test]
    fn a_node_that_joins_is_known_to_have_begun_with_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Known::open(folder.path()).unwrap();
        assert_eq!(open().voters(Some(&ids(&[])), &ids(&[1])).unwrap(), ids(&[]));
        assert_eq!(open().voters(None, &ids(&[1])).unwrap(), ids(&[]));
        assert!(open().voters(Some(&ids(&[1])), &ids(&[1])).is_err());
    }

    #[test]
    fn no_flipped_bit_goes_unseen_and_no_shorter_file_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let mut known = Known::open(folder.path()).unwrap();
        known.voters(None, &ids(&[1, 2])).unwrap();
        known.meet(NodeId(2), 7).unwrap();
        let path = folder.path().join(NAME);
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            assert!(Known::open(folder.path()).unwrap_err().is_damage(), "bit {bit}");
        }
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(Known::open(folder.path()).is_err(), "{length} bytes");
        }
    }
}
