//! Reads one file of evidence, line by line, and notes what is wrong with its lines.
//!
//! In: a file of a boot or a dump. Out: its facts in compact form, and gaps. Never: a line that is passed over in
//! silence.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use mkraft_proto::evidence::{self, Event, Line};

use super::evidence::{Act, Applied, Boot, BootAct, ConfigAct, Entry, Fact, Kinds, Node, NodeRef, Span};
use super::reading::{EvidenceError, Reader};
use crate::history::folder::{BootRun, End};

/// One file as it is read.
struct Open<'a> {
    node: NodeRef,
    id: &'a str,
    /// What `boot` must say.
    number: u64,
    path: PathBuf,
    /// What a gap in this file takes away.
    all: Kinds,
    boot: Boot,
    seq: u64,
    t: u64,
    /// What the boot line announced and `recovered` lines have not yet given.
    owed: Option<(u64, u64)>,
    stopped: bool,
}

impl Reader<'_> {
    /// Reads the file of one boot, or with number 0 the dump. `run` is the process that wrote it, when it is known.
    pub(super) fn file(
        &mut self,
        node: NodeRef,
        id: &str,
        number: u64,
        run: Option<BootRun>,
        read: &mut Node,
    ) -> Result<Boot, EvidenceError> {
        let (path, all) = match number {
            0 => (self.folder.dump(id), Kinds::DUMP),
            number => (self.folder.boot(id, number), Kinds::EVENTS),
        };
        let failed = |source| EvidenceError::Read { path: path.clone(), source };
        let mut file = BufReader::with_capacity(1 << 18, File::open(&path).map_err(failed)?);
        let end = run.map(|run| run.end);
        let boot = Boot { file: self.folder.relative(&path), facts: Vec::new(), number, end };
        let path = path.clone();
        let (seq, t, owed, stopped) = (0, 0, None, false);
        let mut open = Open { node, id, number, path, all, boot, seq, t, owed, stopped };
        let (mut text, mut line) = (Vec::new(), 0_u32);
        while file.read_until(b'\n', &mut text).map_err(failed)? > 0 {
            line = line.checked_add(1).ok_or_else(|| EvidenceError::TooLarge { path: open.path.clone() })?;
            if text.last() == Some(&b'\n') {
                self.line(&mut open, line, &text, read)?;
            } else {
                self.cut(&mut open, line, &text);
            }
            text.clear();
        }
        // A process that was killed at once may have got no further than to open its file.
        if line == 0 && number > 0 && run.is_none_or(|run| run.answered) {
            self.hole(&mut open, 0, format!("the evidence of boot {number} of {id} is empty"));
        }
        self.close(&mut open, line);
        Ok(open.boot)
    }

    /// Notes that lines are missing before or at `line`.
    fn hole(&mut self, open: &mut Open, line: u32, text: String) {
        self.gap(open.node.0 as usize, open.all, &open.path.clone(), line, text);
        open.boot.facts.push(Fact { t: open.t, line, act: Act::Hole });
        open.owed = None;
    }

    fn line(
        &mut self,
        open: &mut Open,
        number: u32,
        text: &[u8],
        read: &mut Node,
    ) -> Result<(), EvidenceError> {
        open.seq += 1;
        let line: Line = match serde_json::from_slice(text) {
            Ok(line) => line,
            Err(error) => {
                self.hole(open, number, format!("this line is not evidence: {error}"));
                return Ok(());
            }
        };
        if (line.node.as_str(), line.boot) != (open.id, open.number) {
            let text = format!(
                "this line is of {} in boot {}; expected {} in boot {}",
                line.node, line.boot, open.id, open.number
            );
            self.hole(open, number, text);
            return Ok(());
        }
        if line.seq != open.seq {
            self.hole(open, number, format!("expected seq {}, found {}", open.seq, line.seq));
            open.seq = line.seq;
        }
        if line.t < open.t {
            self.hole(open, number, format!("time falls from {} ns to {} ns", open.t, line.t));
        }
        open.t = line.t;
        self.order(open, number, &line.event);
        match self.act(line.event, read) {
            Ok(act) => open.boot.facts.push(Fact { t: line.t, line: number, act }),
            Err(Unfit::Value(text)) => self.hole(open, number, text),
            Err(Unfit::Room) => return Err(EvidenceError::TooLarge { path: open.path.clone() }),
        }
        Ok(())
    }

    /// A boot line comes first, then what the disk gave back, all of it; nothing comes after a stop.
    fn order(&mut self, open: &mut Open, number: u32, event: &Event) {
        let begun = !open.boot.facts.is_empty();
        let complaint = match event {
            _ if open.stopped => Some("this line comes after the node's `stop`".to_owned()),
            Event::Boot { .. } if begun => Some("a second `boot` line in one file".to_owned()),
            Event::Boot { first, last, .. } => {
                open.owed = (first <= last).then_some((*first, *last));
                None
            }
            _ if !begun => Some("expected the file to begin with a `boot` line".to_owned()),
            Event::Append { first, entries, recovered: true } => match open.owed {
                Some((owed, last)) if *first == owed && !entries.is_empty() => {
                    let next = owed.saturating_add(entries.len() as u64);
                    open.owed = (next <= last).then_some((next, last));
                    None
                }
                Some((owed, _)) => Some(format!("expected recovered entries from {owed}, found {first}")),
                None => Some("recovered entries beyond those of the `boot` line".to_owned()),
            },
            _ => {
                open.owed.map(|(first, last)| format!("the recovered entries {first} to {last} are missing"))
            }
        };
        open.stopped = matches!(event, Event::Stop { .. });
        if let Some(text) = complaint {
            self.hole(open, number, text);
        }
    }

    /// The line was being written when the node was killed; so nobody has learnt of the act it tells.
    fn cut(&mut self, open: &mut Open, line: u32, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let word = text.split_once("\"event\":\"").and_then(|(_, rest)| rest.split_once('"'));
        let lost = match word.and_then(|(word, _)| Kinds::of_word(word)) {
            Some(kind) if open.all == Kinds::EVENTS && open.boot.may_have_been_killed() => kind,
            _ => open.all,
        };
        self.gap(open.node.0 as usize, lost, &open.path.clone(), line, "the last line is cut".to_owned());
        open.boot.facts.push(Fact { t: open.t, line, act: Act::Hole });
        open.owed = None;
        open.stopped = true;
    }

    fn close(&mut self, open: &mut Open, lines: u32) {
        let must_stop = open.number > 0 && matches!(open.boot.end, Some(End::Stopped)) && !open.stopped;
        if must_stop {
            let text = format!("{} stopped cleanly, and its last line is not `stop`", open.id);
            self.hole(open, lines, text);
        } else if let (Some((first, last)), true) = (open.owed, open.number == 0) {
            self.hole(open, lines, format!("the recovered entries {first} to {last} are missing"));
        }
    }

    fn act(&mut self, event: Event, read: &mut Node) -> Result<Act, Unfit> {
        let names = &mut self.names;
        Ok(match event {
            Event::Boot { term, vote, commit, snapshot, first, last, .. } => {
                if first == 0
                    || last > u64::MAX / 2
                    || first > last + 1
                    || snapshot > last
                    || first > snapshot + 1
                {
                    let text = format!("a log of {first} to {last} after a snapshot at {snapshot} cannot be");
                    return Err(Unfit::Value(text));
                }
                let vote = vote.map(|name| names.of(&name));
                Act::Boot(Box::new(BootAct { term, vote, commit, snapshot, first, last }))
            }
            Event::Role { term, role, .. } => Act::Role { term, role },
            Event::Vote { term, candidate } => Act::Vote { term, candidate: names.of(&candidate) },
            Event::Append { first, entries, recovered } => {
                let start = room(read.appended.len(), entries.len(), first)?;
                for &evidence::Appended(term, kind, digest) in &entries {
                    read.appended.push(Entry { digest, term: small(term)?, kind });
                }
                Act::Append { first, entries: Span { start, len: entries.len() as u32 }, recovered }
            }
            Event::Truncate { after } => Act::Truncate { after },
            Event::Commit { index, term } => Act::Commit { index, term },
            Event::Apply { first, entries } => {
                let start = room(read.applied.len(), entries.len(), first)?;
                for &evidence::Applied(term, digest, session, sequence, outcome) in &entries {
                    read.applied.push(Applied { digest, session, sequence, term: small(term)?, outcome });
                }
                Act::Apply { first, entries: Span { start, len: entries.len() as u32 } }
            }
            Event::Snapshot { index, term, installed, .. } => Act::Snapshot { index, term, installed },
            Event::Config { voters, outgoing, .. } => {
                let mut refer = |list: Vec<String>| list.iter().map(|name| names.of(name)).collect();
                let (voters, outgoing) = (refer(voters), refer(outgoing));
                Act::Config(Box::new(ConfigAct { voters, outgoing }))
            }
            Event::Stop { .. } => Act::Stop,
        })
    }
}

enum Unfit {
    Value(String),
    /// More than the compact form can count.
    Room,
}

fn room(held: usize, more: usize, first: u64) -> Result<u32, Unfit> {
    if first == 0 || first > u64::MAX / 2 {
        return Err(Unfit::Value(format!("entries count from 1; these begin at {first}")));
    }
    u32::try_from(held + more).map_err(|_| Unfit::Room)?;
    u32::try_from(held).map_err(|_| Unfit::Room)
}

fn small(term: u64) -> Result<u32, Unfit> {
    u32::try_from(term).map_err(|_| Unfit::Value(format!("term {term} is beyond all reason")))
}
