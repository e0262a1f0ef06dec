//! The second witness: what a stopped node's disk says, in the words of its own evidence.
//!
//! In: a data folder. Out: the lines with which the node's next boot would begin, read from the disk alone.
//! Never: a change to the folder, or a word that the disk does not hold.

use std::io;
use std::path::Path;

use mkraft_proto::evidence::{Event, Line, Session};

use crate::events;
use crate::machine::{self, RestoreError};
use crate::raft::NodeId;
use crate::storage::{self, Recovered, StorageError, Torn};

const SESSIONS_PER_LINE_MAX: usize = 1000;

#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("failed to read the sessions of the newest snapshot")]
    State(#[from] RestoreError),
    #[error("failed to write the dump")]
    Write { source: io::Error },
}

/// Prints the `boot` line, the recovered `append` lines and the `snapshot` line, of boot 0 and with no time; then the
/// sessions in that snapshot, which no boot tells.
///
/// A torn tail is left out, as the next boot would cut it, and returned for the caller to mention.
pub fn dump(data_dir: &Path, out: &mut impl io::Write) -> Result<Option<Torn>, DumpError> {
    let (node, recovered) = storage::read(data_dir)?;
    let sessions = sessions(data_dir, node, &recovered)?;
    let node = node.to_string();
    let mut text = Vec::new();
    let failed = |source| DumpError::Write { source };
    let recovery = events::recovery(&recovered, env!("CARGO_PKG_VERSION"));
    for (seq, event) in (1..).zip(recovery.chain(sessions)) {
        let line = Line { seq, t: 0, node: node.clone(), boot: 0, event };
        text.clear();
        serde_json::to_writer(&mut text, &line).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        out.write_all(&text).map_err(failed)?;
    }
    out.flush().map_err(failed)?;
    Ok(recovered.torn)
}

fn sessions(data_dir: &Path, node: NodeId, recovered: &Recovered) -> Result<Vec<Event>, DumpError> {
    let Some(snapshot) = &recovered.snapshot else { return Ok(Vec::new()) };
    let state = storage::snapshots_of(data_dir, node).open(snapshot.position)?;
    let sessions = machine::sessions(state)?;
    let sessions: Vec<_> =
        sessions.into_iter().map(|(id, used, sequence)| Session(id, used, sequence)).collect();
    let index = snapshot.position.index.0;
    let line = |chunk: &[Session]| Event::Sessions { index, sessions: chunk.to_vec() };
    Ok(sessions.chunks(SESSIONS_PER_LINE_MAX).map(line).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::events::EventLog;
    use crate::raft::{Entry, EntryKind, HardState, Index, Term, Write};
    use crate::storage::{Options, Storage};

    const NODE: NodeId = NodeId(4);

    /// A folder with more entries than a line holds, and its newest segment.
    fn written(dir: &Path) {
        let (mut storage, _) = Storage::open(dir, NODE, Options { segment_bytes: 16 << 10 }).unwrap();
        for batch in 0..25 {
            let entry = |index| Entry {
                index: Index(index),
                term: Term(batch + 1),
                kind: if index % 7 == 0 { EntryKind::Noop } else { EntryKind::Command },
                payload: index.to_le_bytes().as_slice().into(),
            };
            let entries = (batch * 100 + 1..=batch * 100 + 100).map(entry).collect();
            let hard_state =
                HardState { term: Term(batch + 1), vote: Some(NodeId(2)), commit: Index(batch * 100) };
            let write = Write { entries, hard_state: Some(hard_state), ..Write::default() };
            storage.write(&write).unwrap();
        }
    }

    fn dumped(dir: &Path) -> (Vec<Line>, Option<Torn>) {
        let mut out = Vec::new();
        let torn = dump(dir, &mut out).unwrap();
        let lines = str::from_utf8(&out).unwrap().lines();
        (lines.map(|line| serde_json::from_str(line).unwrap()).collect(), torn)
    }

    /// What the next boot writes first.
    fn booted(dir: &Path) -> Vec<Line> {
        let (_storage, recovered) = Storage::open(dir, NODE, Options::default()).unwrap();
        let events = tempfile::tempdir().unwrap();
        let mut log = EventLog::create(events.path(), NODE).unwrap();
        log.write_all(events::recovery(&recovered, env!("CARGO_PKG_VERSION"))).unwrap();
        let text = fs::read_to_string(log.path()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn assert_same_words(dump: Vec<Line>, boot: Vec<Line>) {
        assert!(dump.iter().all(|line| (line.boot, line.t) == (0, 0)));
        let words = |lines: Vec<Line>| lines.into_iter().map(|line| (line.seq, line.node, line.event));
        assert!(words(dump).eq(words(boot)));
    }

    #[test]
    fn a_dump_says_what_the_next_boot_says_first() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path());
        let (lines, torn) = dumped(folder.path());
        assert_eq!((lines.len(), torn), (1 + 3, None));
        assert_same_words(lines, booted(folder.path()));
    }

    #[test]
    fn a_dump_of_a_torn_log_shows_what_a_boot_would_keep() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path());
        let newest = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
        let newest = newest.filter(|path| path.extension().is_some_and(|wal| wal == "wal")).max().unwrap();
        let mut bytes = fs::read(&newest).unwrap();
        let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[last] = 0;
        fs::write(&newest, bytes).unwrap();
        // Else it would be known that this record was durable once.
        fs::remove_file(folder.path().join("durable")).unwrap();

        let (lines, torn) = dumped(folder.path());
        assert_eq!(torn.unwrap().path, newest);
        assert_same_words(lines, booted(folder.path()));
        assert_eq!(dumped(folder.path()).1, None);
    }

    #[test]
    fn a_running_node_is_not_dumped() {
        let folder = tempfile::tempdir().unwrap();
        let _running = Storage::open(folder.path(), NODE, Options::default()).unwrap();
        let mut out = Vec::new();
        let error = dump(folder.path(), &mut out).unwrap_err();
        assert!(matches!(error, DumpError::Storage(StorageError::InUse { .. })), "{error}");
        assert_eq!(out, b"");
    }

    #[test]
    fn what_is_no_data_folder_is_not_dumped() {
        let folder = tempfile::tempdir().unwrap();
        let error = dump(folder.path(), &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
        assert!(error.contains("not the data folder of a node"), "{error}");
    }

    #[test]
    fn a_dump_that_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path());
        let mut full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(matches!(dump(folder.path(), &mut full), Err(DumpError::Write { .. })));
    }
}
