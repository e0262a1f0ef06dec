//! The lines of one file of evidence, parsed ahead of who takes them.
//!
//! In: a path. Out: each line in order: what it says, or what is wrong with it. Never: a line left out; more than a few
//! batches of lines in memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use mkraft_proto::evidence::Line;

/// One line of a file.
#[derive(Debug)]
pub enum Text {
    Line(Line),
    /// Why it is none.
    NotEvidence(String),
    /// It has no newline, so it is the last.
    Cut(Vec<u8>),
}

/// A shorter file is parsed in less time than it takes to begin a thread.
const AHEAD_BYTES_MIN: u64 = 1 << 20;

/// So many lines go over together, in so many batches at most.
const BATCH_LINES: usize = 512;
const BATCHES_MAX: usize = 8;

/// Hands each line to `take`, until it returns an error.
///
/// Lines are lent: who has made them also lets go of them, so that two threads do not meet at the allocator's lock.
pub fn each_line<E>(path: &Path, mut take: impl FnMut(&Text) -> Result<(), E>) -> io::Result<Result<(), E>> {
    let file = File::open(path)?;
    let ahead = file.metadata()?.len() >= AHEAD_BYTES_MIN;
    let mut lines = Lines { file: BufReader::with_capacity(1 << 18, file), text: Vec::new() };
    if !ahead {
        while let Some(text) = lines.next()? {
            if let Err(error) = take(&text) {
                return Ok(Err(error));
            }
        }
        return Ok(Ok(()));
    }
    thread::scope(|scope| {
        let (send, receive) = sync_channel(BATCHES_MAX);
        let (give_back, used) = channel();
        let parser = scope.spawn(move || lines.send_all(&send, &used));
        let taken = take_all(receive, give_back, &mut take);
        match parser.join() {
            Ok(read) => read.map(|()| taken),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Consumes the channel: the parser must see that nobody listens any more.
fn take_all<E>(
    batches: Receiver<Vec<Text>>,
    give_back: Sender<Vec<Text>>,
    take: &mut impl FnMut(&Text) -> Result<(), E>,
) -> Result<(), E> {
    for batch in batches {
        batch.iter().try_for_each(&mut *take)?;
        // A parser that has ended needs none.
        _ = give_back.send(batch);
    }
    Ok(())
}

/// A line with its newline.
fn parse(text: &[u8]) -> Text {
    let line = Line::by_hand(text).map_or_else(|| serde_json::from_slice(text), Ok);
    line.map_or_else(|error| Text::NotEvidence(error.to_string()), Text::Line)
}

struct Lines {
    file: BufReader<File>,
    text: Vec<u8>,
}

impl Lines {
    fn next(&mut self) -> io::Result<Option<Text>> {
        let ahead = self.file.fill_buf()?;
        // Nearly every line stands in the buffer as a whole, and need not be copied.
        if let Some(end) = memchr::memchr(b'\n', ahead) {
            let text = parse(&ahead[..=end]);
            self.file.consume(end + 1);
            return Ok(Some(text));
        }
        self.text.clear();
        if self.file.read_until(b'\n', &mut self.text)? == 0 {
            return Ok(None);
        }
        Ok(Some(match self.text.last() {
            Some(b'\n') => parse(&self.text),
            _ => Text::Cut(self.text.clone()),
        }))
    }

    fn send_all(mut self, send: &SyncSender<Vec<Text>>, used: &Receiver<Vec<Text>>) -> io::Result<()> {
        let mut batch = Vec::with_capacity(BATCH_LINES);
        loop {
            match self.next()? {
                Some(text) => batch.push(text),
                // Whether anybody still listens matters no more.
                None => return Ok(_ = send.send(batch)),
            }
            if batch.len() == BATCH_LINES {
                let mut next = used.try_recv().unwrap_or_default();
                next.clear();
                if send.send(std::mem::replace(&mut batch, next)).is_err() {
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(path: &Path) -> Vec<String> {
        let mut told = Vec::new();
        each_line(path, |text| {
            told.push(format!("{text:?}"));
            Ok::<_, ()>(())
        })
        .unwrap()
        .unwrap();
        told
    }

    #[test]
    fn a_long_file_gives_each_line_once_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot-0001.jsonl");
        let line = |seq: usize| match seq % 7 {
            0 => format!("garbage {seq}\n"),
            1 => format!(r#"{{"event":"stop","reason":"r","seq":{seq},"t":2,"node":"n1","boot":3}}"#) + "\n",
            _ => {
                format!(
                    r#"{{"seq":{seq},"t":2,"node":"n1","boot":3,"event":"commit","index":{seq},"term":1}}"#
                ) + "\n"
            }
        };
        let text: String = (0..20_000).map(line).collect();
        std::fs::write(&path, text.clone() + "{\"seq\":1").unwrap();
        let told = all(&path);
        assert_eq!(told.len(), 20_001);
        for (seq, told) in told.iter().enumerate().take(20_000) {
            let expected = if seq % 7 == 0 { "NotEvidence" } else { &format!("seq: {seq},") };
            assert!(told.contains(expected), "{seq}: {told}");
        }
        assert!(told[20_000].starts_with("Cut"), "{}", told[20_000]);
        // The same as without a thread.
        std::fs::write(&path, &text[..text.len() / 4]).unwrap();
        assert_eq!(all(&path)[..4_000], told[..4_000]);
    }

    #[test]
    fn who_takes_may_stop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot-0001.jsonl");
        std::fs::write(&path, "\n".repeat(2 << 20)).unwrap();
        let mut left = 3;
        let taken = each_line(&path, |_| {
            left -= 1;
            if left > 0 { Ok(()) } else { Err("enough") }
        });
        assert_eq!((taken.unwrap(), left), (Err("enough"), 0));
    }
}
