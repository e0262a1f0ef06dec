//! Writes the witness book while the run goes on.
//!
//! In: operations from many tasks. Out: `history.jsonl`, where the order of lines is the order of times; and each line
//! to whoever listens, when it is written. Never: an opinion of what is recorded; a wait for anything but the file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::time::{ClockId, clock_gettime};

use super::Op;
use super::folder::FolderError;

/// A line is on its way to the disk after this, if lines keep coming.
const FLUSH_INTERVAL_NS: u64 = 500_000_000;

/// Hears every line, with its time, in the task that records it: it must be quick.
pub type Ear = Arc<dyn Fn(&Op) + Send + Sync>;

/// Shared by all that do something worth a line.
pub struct Recorder {
    path: PathBuf,
    book: Mutex<Book>,
    /// Whether there is an ear: all that a line costs when there is none.
    heard: AtomicBool,
    ear: Mutex<Option<Ear>>,
}

#[derive(Debug)]
struct Book {
    file: BufWriter<File>,
    next_index: u64,
    flushed_at: u64,
}

impl Recorder {
    /// Begins a new book; one that is there already is replaced.
    pub fn create(path: &Path) -> Result<Recorder, FolderError> {
        let file = File::create(path).map_err(|source| FolderError::Write { path: path.into(), source })?;
        let book =
            Book { file: BufWriter::with_capacity(1 << 16, file), next_index: 0, flushed_at: monotonic_ns() };
        let (heard, ear) = (AtomicBool::new(false), Mutex::new(None));
        Ok(Recorder { path: path.into(), book: Mutex::new(book), heard, ear })
    }

    /// From now on; who listened before, does no more.
    pub fn listen(&self, ear: Ear) {
        *self.ear() = Some(ear);
        self.heard.store(true, Ordering::Release);
    }

    pub fn listen_no_more(&self) {
        self.heard.store(false, Ordering::Release);
        *self.ear() = None;
    }

    /// Appends one line and returns its time. The `index` and `time` that `op` brings are replaced: both are
    /// taken under one lock, so that their orders agree.
    ///
    /// Takes microseconds, so async code may call it directly. After an error the book is not to be trusted.
    pub fn record(&self, mut op: Op) -> Result<u64, FolderError> {
        let mut book = self.lock();
        op.index = book.next_index;
        op.time = monotonic_ns();
        book.write(&op).map_err(|source| FolderError::Write { path: self.path.clone(), source })?;
        drop(book);
        if self.heard.load(Ordering::Acquire) {
            let ear = self.ear().clone();
            if let Some(ear) = ear {
                ear(&op);
            }
        }
        Ok(op.time)
    }

    /// How many lines there are so far.
    pub fn lines(&self) -> u64 {
        self.lock().next_index
    }

    /// Hands every line over to the kernel: to be called now and then by one who has a clock, and at the end.
    pub fn flush(&self) -> Result<(), FolderError> {
        let flushed = self.lock().file.flush();
        flushed.map_err(|source| FolderError::Write { path: self.path.clone(), source })
    }

    fn ear(&self) -> MutexGuard<'_, Option<Ear>> {
        self.ear.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic elsewhere must not take the witness book with it.
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn write(&mut self, op: &Op) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.file, op)?;
        self.file.write_all(b"\n")?;
        self.next_index += 1;
        if op.time.saturating_sub(self.flushed_at) >= FLUSH_INTERVAL_NS {
            self.file.flush()?;
            self.flushed_at = op.time;
        }
        Ok(())
    }
}

/// CLOCK_MONOTONIC in nanoseconds: the clock of the nodes' evidence lines too.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has CLOCK_MONOTONIC");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

#[cfg(test)]
mod tests {
    use super::super::{Ended, History, OpType, Process};
    use super::*;

    fn op(process: u64, kind: OpType, value: u64) -> Op {
        Op {
            index: 99,
            time: 99,
            process: Process::Client(process),
            kind,
            f: "write".into(),
            key: Some("k1".into()),
            value: value.into(),
            seen: None,
            error: None,
            node: Some("n1".into()),
            session: Some(1),
            sequence: Some(value),
        }
    }

    #[test]
    fn what_many_threads_record_at_once_reads_as_one_lawful_history() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let recorder = Recorder::create(&path).unwrap();
        std::thread::scope(|scope| {
            for process in 0..8 {
                let recorder = &recorder;
                scope.spawn(move || {
                    for value in 0..200 {
                        recorder.record(op(process, OpType::Invoke, value)).unwrap();
                        recorder.record(op(process, OpType::Ok, value)).unwrap();
                    }
                });
            }
        });
        recorder.flush().unwrap();
        let history = History::read(&path).unwrap();
        assert_eq!(history.operations.len(), 1600);
        assert!(history.operations.iter().all(|operation| operation.ended == Ended::Ok));
    }

    #[test]
    fn who_listens_hears_every_line_as_it_was_written_and_who_does_not_hears_none() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(&folder.path().join("history.jsonl")).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        recorder.record(op(1, OpType::Invoke, 1)).unwrap();
        let ear = Arc::clone(&heard);
        recorder.listen(Arc::new(move |op| ear.lock().unwrap().push((op.index, op.time))));
        let time = recorder.record(op(1, OpType::Ok, 1)).unwrap();
        recorder.listen_no_more();
        recorder.record(op(1, OpType::Invoke, 2)).unwrap();
        assert_eq!(*heard.lock().unwrap(), [(1, time)]);
        assert_eq!(Arc::strong_count(&heard), 1, "the ear is let go of");
    }
}
