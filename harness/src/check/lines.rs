//! Reads one file of evidence, line by line, and notes what is wrong with its lines.
//!
//! In: a file of a boot or a dump. Out: its facts in compact form, and gaps. Never: a line that is passed over in
//! silence.

use std::path::PathBuf;

use mkraft_proto::evidence::{self, Event, Line};

use super::evidence::{Act, Applied, Boot, BootAct, ConfigAct, Entry, Fact, Kinds, Node, NodeRef};
use super::pool::Full;
use super::reading::{EvidenceError, Reader};
use super::replay::Replay;
use super::stream::{Text, each_line};
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
    /// Where the snapshot ends that it announced, until a line tells of it.
    owed_snapshot: Option<u64>,
    stopped: bool,
    read: &'a mut Node,
    replay: &'a mut Replay,
}

impl Reader<'_> {
    /// Reads the file of one boot, or with number 0 the dump. `run` is the process that wrote it, when it is known.
    /// The node's replay has seen all files before.
    pub(super) fn file(
        &mut self,
        (node, id): (NodeRef, &str),
        number: u64,
        run: Option<BootRun>,
        (read, replay): (&mut Node, &mut Replay),
    ) -> Result<Boot, EvidenceError> {
        let (path, all) = match number {
            0 => (self.folder.dump(id), Kinds::DUMP),
            number => (self.folder.boot(id, number), Kinds::EVENTS),
        };
        let (end, damaged) = (run.map(|run| run.end), run.is_some_and(|run| run.damaged));
        let boot = Boot { file: self.folder.relative(&path), facts: Vec::new(), number, end, damaged };
        let (seq, t, owed, owed_snapshot, stopped) = (0, 0, None, None, false);
        let file = path.clone();
        let mut open =
            Open { node, id, number, path, all, boot, seq, t, owed, owed_snapshot, stopped, read, replay };
        let mut line = 0_u32;
        each_line(&file, |text| {
            line = line.checked_add(1).ok_or_else(|| EvidenceError::TooLarge { path: file.clone() })?;
            self.text(&mut open, line, text)
        })
        .map_err(|source| EvidenceError::Read { path: file.clone(), source })??;
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
        self.fact(open, line, Act::Hole);
        (open.owed, open.owed_snapshot) = (None, None);
    }

    fn fact(&self, open: &mut Open, line: u32, act: Act) {
        open.replay.turn(&self.logs.held, &act);
        open.boot.facts.push(Fact { t: open.t, line, act });
    }

    fn text(&mut self, open: &mut Open, number: u32, text: &Text) -> Result<(), EvidenceError> {
        // What the line before said may be the greatest there is.
        open.seq = open.seq.saturating_add(1);
        match text {
            Text::Line(line) => return self.line(open, number, line),
            Text::NotEvidence(error) => {
                self.hole(open, number, format!("this line is not evidence: {error}"))
            }
            Text::Cut(text) => self.cut(open, number, text),
        }
        Ok(())
    }

    fn line(&mut self, open: &mut Open, number: u32, line: &Line) -> Result<(), EvidenceError> {
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
        match self.take(open, number, &line.event) {
            Ok(()) => Ok(()),
            Err(Unfit::Room) => Err(EvidenceError::TooLarge { path: open.path.clone() }),
            Err(Unfit::Value(text)) => {
                self.hole(open, number, text);
                Ok(())
            }
        }
    }

    /// A boot line comes first, then what the disk gave back, all of it and no more; nothing comes after a stop.
    fn order(&mut self, open: &mut Open, number: u32, event: &Event) {
        let begun = !open.boot.facts.is_empty();
        let complaint = match event {
            _ if open.stopped => Some("this line comes after the node's `stop`".to_owned()),
            Event::Boot { .. } if begun => Some("a second `boot` line in one file".to_owned()),
            Event::Boot { first, last, snapshot, .. } => {
                open.owed = (first <= last).then_some((*first, *last));
                open.owed_snapshot = (*snapshot > 0).then_some(*snapshot);
                None
            }
            _ if !begun => Some("expected the file to begin with a `boot` line".to_owned()),
            Event::Append { entries, .. } if entries.is_empty() => Some("an append of no entry".to_owned()),
            Event::Append { first, entries, recovered: true } => match open.owed {
                Some((owed, last)) if *first == owed => {
                    let next = owed.saturating_add(entries.len() as u64);
                    open.owed = (next <= last).then_some((next, last));
                    let until = next.saturating_sub(1);
                    (until > last).then(|| {
                        format!("recovered entries up to {until}; the log of the `boot` line ends at {last}")
                    })
                }
                Some((owed, _)) => Some(format!("expected recovered entries from {owed}, found {first}")),
                None => Some("recovered entries beyond those of the `boot` line".to_owned()),
            },
            Event::Snapshot { index, installed, .. } if open.owed.is_none() => {
                let announced = open.owed_snapshot.take().filter(|end| (*end, false) != (*index, *installed));
                let told = if *installed { "one installed" } else { "one" };
                announced.map(|end| {
                    format!(
                        "the snapshot of the `boot` line ends at entry {end}; this line tells of {told} up to {index}"
                    )
                })
            }
            _ => match (open.owed, open.owed_snapshot) {
                (Some((first, last)), _) => {
                    Some(format!("the recovered entries {first} to {last} are missing"))
                }
                (None, Some(end)) => {
                    Some(format!("the line about the snapshot up to {end} of the `boot` line is missing"))
                }
                (None, None) => None,
            },
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
        self.fact(open, line, Act::Hole);
        (open.owed, open.owed_snapshot) = (None, None);
        open.stopped = true;
    }

    fn close(&mut self, open: &mut Open, lines: u32) {
        let must_stop = open.number > 0 && matches!(open.boot.end, Some(End::Stopped)) && !open.stopped;
        if must_stop {
            let text = format!("{} stopped cleanly, and its last line is not `stop`", open.id);
            self.hole(open, lines, text);
        } else if let (Some((first, last)), true) = (open.owed, open.number == 0) {
            self.hole(open, lines, format!("the recovered entries {first} to {last} are missing"));
        } else if let (Some(end), true) = (open.owed_snapshot, open.number == 0) {
            let text = format!("the line about the snapshot up to {end} of the `boot` line is missing");
            self.hole(open, lines, text);
        }
    }

    fn take(&mut self, open: &mut Open, line: u32, event: &Event) -> Result<(), Unfit> {
        let names = &mut self.names;
        let act = match *event {
            Event::Append { first, ref entries, recovered } => {
                return self.append(open, line, first, entries, recovered);
            }
            Event::Apply { first, ref entries } => return self.apply(open, line, first, entries),
            Event::Boot { term, ref vote, commit, snapshot, first, last, .. } => {
                if first == 0
                    || last > u64::MAX / 2
                    || first > last + 1
                    || snapshot > last
                    || first > snapshot + 1
                {
                    let text = format!("a log of {first} to {last} after a snapshot at {snapshot} cannot be");
                    return Err(Unfit::Value(text));
                }
                if let (0, Some(vote)) = (term, vote) {
                    return Err(Unfit::Value(format!("a vote for {vote} in term 0 cannot be")));
                }
                let vote = vote.as_ref().map(|name| names.of(name));
                Act::Boot(Box::new(BootAct { term, vote, commit, snapshot, first, last }))
            }
            Event::Role { term, role, .. } => Act::Role { term, role },
            Event::Vote { term, ref candidate } => Act::Vote { term, candidate: names.of(candidate) },
            Event::Truncate { after } => Act::Truncate { after },
            Event::Commit { index, .. } | Event::Snapshot { index, .. } if index > MIDDLE => {
                return Err(Unfit::Value(format!("index {index} is beyond all reason")));
            }
            Event::Commit { index, term } => Act::Commit { index, term },
            Event::Snapshot { index, term, digest, installed } => {
                Act::Snapshot { index, term, digest, installed }
            }
            Event::Config { index, ref voters, ref outgoing, ref learners } => {
                let mut refer = |list: &[String]| list.iter().map(|name| names.of(name)).collect();
                let (voters, outgoing, learners) = (refer(voters), refer(outgoing), refer(learners));
                Act::Config(Box::new(ConfigAct { index, voters, outgoing, learners }))
            }
            // For people: what a client may ask again no check needs to know.
            Event::Sessions { .. } => return Ok(()),
            Event::Stop { .. } => Act::Stop,
        };
        self.fact(open, line, act);
        Ok(())
    }

    fn append(
        &mut self,
        open: &mut Open,
        line: u32,
        first: u64,
        entries: &[evidence::Appended],
        recovered: bool,
    ) -> Result<(), Unfit> {
        counted(first)?;
        self.entries.clear();
        for &evidence::Appended(term, kind, digest) in entries {
            self.entries.push(Entry { digest, term: small(term)?, kind });
        }
        open.read.entries += entries.len();
        let (mut first, mut rest) = (first, &self.entries[..]);
        loop {
            let (after, _) = open.replay.room(&self.logs.held, first, recovered);
            let span = self.logs.put(after, first, rest).map_err(|Full| Unfit::Room)?;
            open.replay.fill(span);
            let act = Act::Append { first, entries: span, recovered };
            open.boot.facts.push(Fact { t: open.t, line, act });
            first += u64::from(span.len);
            rest = &rest[span.len as usize..];
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn apply(
        &mut self,
        open: &mut Open,
        line: u32,
        first: u64,
        entries: &[evidence::Applied],
    ) -> Result<(), Unfit> {
        counted(first)?;
        self.applied.clear();
        for &evidence::Applied(term, digest, session, sequence, outcome) in entries {
            self.applied.push(Applied { digest, session, sequence, term: small(term)?, outcome });
        }
        open.read.applications += entries.len();
        let entries = self.applications.put(first, &self.applied).map_err(|Full| Unfit::Room)?;
        self.fact(open, line, Act::Apply { first, entries });
        Ok(())
    }
}

enum Unfit {
    Value(String),
    /// More than the compact form can count.
    Room,
}

fn counted(first: u64) -> Result<(), Unfit> {
    match first {
        1..=MIDDLE => Ok(()),
        first => Err(Unfit::Value(format!("entries count from 1; these begin at {first}"))),
    }
}

/// No index is beyond it, so that sums with lengths stay numbers.
const MIDDLE: u64 = u64::MAX / 2;

fn small(term: u64) -> Result<u32, Unfit> {
    u32::try_from(term).map_err(|_| Unfit::Value(format!("term {term} is beyond all reason")))
}
