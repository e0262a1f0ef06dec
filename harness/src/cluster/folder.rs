//! Where each thing of a node lies in the run folder.
//!
//! In: the run folder and a node's name. Out: paths. Never: what is in the files.

use std::path::{Path, PathBuf};

/// `nodes/<id>/` of a run folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFolder {
    root: PathBuf,
}

impl NodeFolder {
    pub fn new(run_folder: &Path, node: &str) -> NodeFolder {
        NodeFolder { root: run_folder.join("nodes").join(node) }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the node wrote down about itself, one file a boot.
    pub fn events(&self) -> PathBuf {
        self.root.join("events")
    }

    /// What the node remembers; dropped after a run that violated nothing.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// What a disk of the harness keeps of it: its ledger, and while it is mounted its store.
    pub fn disk(&self) -> PathBuf {
        self.root.join("disk")
    }

    /// Where such a disk has what is durable.
    pub fn disk_store(&self) -> PathBuf {
        self.disk().join("store")
    }

    /// Standard output and error of all its starts.
    pub fn log(&self) -> PathBuf {
        self.root.join("stderr.log")
    }

    /// What its disk says, once it has stopped.
    pub fn dump(&self) -> PathBuf {
        self.root.join("dump.jsonl")
    }

    /// Why there is no dump.
    pub fn dump_log(&self) -> PathBuf {
        self.root.join("dump.stderr")
    }
}
