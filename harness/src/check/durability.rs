//! What a node made durable stays, and what was acknowledged to a client is in the committed log.

use super::about::About;
use super::acknowledged::acknowledged;
use super::evidence::{Act, Boot, BootAct, Entry, Evidence, Fact, Kinds, Node, NodeRef, witness};
use super::replay::{Held, Replay};
use super::verdict::{Finding, Tally, Verdict, Witness, count};

/// What a node made durable is there at its next boot; the dump equals the replayed events; no acknowledged write
/// is missing from the committed log.
///
/// Reads: every line of each node in order, over its boots and into its dump; the acknowledged writes of the
/// history, joined to `apply` lines by session and sequence; the logs on all disks at the end. Fails: naming what
/// was there and what came back. Unknown: lines of a node, or its dump, may be missing; or no node was ever
/// started again or dumped. Cost: O(entries), and memory for each acknowledged write.
///
/// A snapshot that was damaged on purpose is not missed where the boot goes on from an older one, or from the first entry,
/// with a log that reaches as far: then nothing that it held is lost.
///
/// A node killed between a sync and the line that tells of it has more on its disk than it told: entries and votes
/// nobody heard of are no fault, nor a tail replaced by entries new to this node. Cannot see: a cut that was made
/// and not told, when the kill fell between the cut and the entries that replace what was cut: it looks like a
/// loss, and is judged as one. A write without session and sequence cannot be joined.
pub fn durability(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    let mut finals = Vec::new();
    for (node, facts) in evidence.nodes() {
        finals.push(boots(evidence, node, facts, &mut tally));
    }
    let reboots = tally.examined;
    let writes = acknowledged(evidence, &finals, &mut tally);
    tally.doubt_gaps(evidence, Kinds::EVENTS | Kinds::DUMP);
    tally.verdict("no node was started again or dumped, and no write was acknowledged", |_| {
        let disks = count(reboots, "disk");
        format!(
            "{disks} read back at boot or in a dump: nothing lost; {} acknowledged, none missing",
            count(writes, "write")
        )
    })
}

/// What one node is known to have made durable beside its log.
#[derive(Default)]
struct HardState<'e> {
    term: Option<(u64, Witness)>,
    vote: Option<(u64, NodeRef, Witness)>,
    /// The highest commit index that lines of the newest boot tell of.
    commit: u64,
    /// File and line that told of it, but for a snapshot.
    commit_line: Option<(&'e Boot, &'e Fact)>,
    snapshot: Option<(u64, Witness)>,
}

/// A disk being read back, against the log that lines tell of.
struct ReadBack<'e> {
    boot: &'e Boot,
    begin: &'e BootAct,
    /// Every line before is there, and the log they tell of is this long.
    expected_last: Option<u64>,
    /// The node wrote `stop`: the disk holds what lines tell, and nothing else.
    exact: bool,
    differs: bool,
}

/// Compares each boot, and the dump, with what came before. Returns the node as the last of them shows it.
fn boots<'e>(evidence: &'e Evidence, node: NodeRef, facts: &'e Node, tally: &mut Tally) -> Replay {
    let mut replay = Replay::default();
    let mut hard_state = HardState::default();
    let mut before: Option<&Boot> = None;
    // Told once.
    let mut fell = false;
    for (place, boot) in facts.files().enumerate() {
        let mut back: Option<ReadBack> = None;
        for fact in &boot.facts {
            let scene = Scene { evidence, node, boot, fact };
            match &fact.act {
                Act::Boot(begin) => {
                    let follows =
                        before.is_some_and(|before| boot.number == before.number + 1 || boot.number == 0);
                    let exact = follows && replay.trusted && before.is_some_and(Boot::stopped);
                    let expected_last = (follows && replay.trusted).then(|| replay.log.last());
                    tally.examined += u64::from(before.is_some());
                    scene.hard_state(begin, &hard_state, exact, tally);
                    back = Some(ReadBack { boot, begin, expected_last, exact, differs: false });
                }
                Act::Append { first, entries, recovered: true } => {
                    let killed = before.is_none_or(Boot::may_have_been_killed);
                    let entries = (*first..).zip(facts.appended(*entries));
                    let prior = Prior { node: facts, place, replay: &replay, killed };
                    if let Some(back) = back.as_mut().filter(|back| back.expected_last.is_some()) {
                        scene.entries(entries, &prior, back, tally);
                    }
                }
                _ => {}
            }
            if matches!(fact.act, Act::Boot(_)) {
                let lost = back.as_ref().and_then(|back| scene.length(back, &replay, facts));
                lost.into_iter().for_each(|finding| tally.violated(finding));
            }
            if let (Act::Commit { index, .. }, true) = (&fact.act, replay.trusted) {
                let finding = scene.commit_fell(*index, &hard_state).filter(|_| !fell);
                fell |= finding.is_some();
                finding.into_iter().for_each(|finding| tally.violated(finding));
            }
            hard_state.learn(&scene);
            _ = replay.take(facts, fact);
        }
        before = Some(boot);
    }
    replay
}

impl<'e> HardState<'e> {
    fn learn(&mut self, scene: &Scene<'e>) {
        match &scene.fact.act {
            Act::Boot(act) => self.begin(act, scene),
            Act::Commit { index, term } => {
                if *index >= self.commit {
                    (self.commit, self.commit_line) = (*index, Some((scene.boot, scene.fact)));
                }
                self.in_term(*term, scene);
            }
            Act::Role { term, .. } => self.in_term(*term, scene),
            Act::Vote { term, candidate } => {
                self.in_term(*term, scene);
                self.voted(*term, *candidate, scene);
            }
            Act::Snapshot { index, installed, .. } => {
                self.commit = self.commit.max(*index);
                let verb = if *installed { "installed" } else { "took" };
                if self.snapshot.as_ref().is_none_or(|(known, _)| known < index) {
                    self.snapshot =
                        Some((*index, scene.told(&format!("{verb} a snapshot up to entry {index}"))));
                }
            }
            _ => {}
        }
    }

    /// What was lost is told once: from here on the disk is what it is.
    fn begin(&mut self, act: &BootAct, scene: &Scene<'e>) {
        self.commit = act.commit.min(act.last).max(act.snapshot);
        self.commit_line = Some((scene.boot, scene.fact));
        self.term = None;
        self.in_term(act.term, scene);
        self.vote = None;
        if let Some(vote) = act.vote {
            self.voted(act.term, vote, scene);
        }
        let has = || scene.told(&format!("has a snapshot up to entry {}", act.snapshot));
        self.snapshot = (act.snapshot > 0).then(|| (act.snapshot, has()));
    }

    fn in_term(&mut self, term: u64, scene: &Scene) {
        if self.term.as_ref().is_none_or(|(known, _)| *known < term) {
            self.term = Some((term, scene.told(&format!("is in term {term}"))));
        }
    }

    fn voted(&mut self, term: u64, candidate: NodeRef, scene: &Scene) {
        let whom = scene.evidence.name(candidate);
        self.vote = Some((term, candidate, scene.told(&format!("voted for {whom} in term {term}"))));
    }
}

#[derive(Clone, Copy)]
struct Scene<'e> {
    evidence: &'e Evidence,
    node: NodeRef,
    boot: &'e Boot,
    fact: &'e Fact,
}

/// What is known of the node before it was started again.
struct Prior<'e, 'r> {
    node: &'e Node,
    /// Of the boot that reads the disk, among [`Node::files`].
    place: usize,
    replay: &'r Replay,
    killed: bool,
}

impl Scene<'_> {
    fn name(&self) -> &str {
        self.evidence.name(self.node)
    }

    fn at(&self) -> u64 {
        self.boot.time_of(self.fact)
    }

    /// This line, and what it tells of the node.
    fn told(&self, what: &str) -> Witness {
        let at = self.evidence.at(self.fact.t);
        witness(self.boot, self.fact, format!("{} {what} at {at}", self.name()))
    }

    /// `the disk of n1` at its boot, or in its dump.
    fn disk(&self) -> String {
        match self.boot.number {
            0 => format!("the dump of {}", self.name()),
            number => format!("boot {number} of {}", self.name()),
        }
    }

    fn finding(&self, text: String, before: Option<Witness>, after: String) -> Finding {
        let mut witnesses: Vec<_> = before.into_iter().collect();
        witnesses.push(witness(self.boot, self.fact, after));
        Finding::new(text, witnesses)
    }

    /// Term, vote, commit index and snapshot against what lines tell of them.
    fn hard_state(&self, begin: &BootAct, known: &HardState, exact: bool, tally: &mut Tally) {
        self.term(begin, known, exact, tally);
        self.vote(begin, known, exact, tally);
        let disk = self.disk();
        let last = begin.last.max(begin.snapshot);
        let (told, commit) = (known.commit, begin.commit);
        if exact && commit > told {
            let text =
                format!("{disk} gives back commit index {commit}, and no line tells of any above {told}");
            tally.violated(self.finding(text, None, format!("{disk}: commit index {commit}")));
        } else if commit > last {
            let text = format!("{disk} gives back commit index {commit}, of a log that ends at {last}");
            tally.violated(self.finding(text.clone(), None, text));
        }
        let (told, before) = match &known.snapshot {
            Some((told, before)) => (*told, Some(before.clone())),
            None => (0, None),
        };
        let found = begin.snapshot;
        let after = format!("{disk}: the snapshot ends at {found}");
        // A boot line whose log does not go on where its snapshot ends is none.
        let makes_up = self.boot.damaged && begin.last >= told;
        if found < told && !makes_up {
            let text = format!("{disk} gives back a snapshot up to entry {found}, after one up to {told}");
            let about = About::EntriesLost { node: self.node, entries: found + 1..=told, at: self.at() };
            tally.violated(self.finding(text, before, after).about(about));
        } else if exact && found > told.max(known.commit) {
            // Snapshots are taken beside everything else: one that is finished while the node stops has no line.
            let text = format!(
                "{disk} gives back a snapshot up to entry {found}, and no line tells of any after {told}"
            );
            tally.violated(self.finding(text, before, after));
        }
    }

    fn term(&self, begin: &BootAct, known: &HardState, exact: bool, tally: &mut Tally) {
        let Some((term, before)) = &known.term else { return };
        let (disk, found) = (self.disk(), begin.term);
        let after = format!("{disk}: term {found}");
        if found < *term {
            let text = format!("{disk} gives back term {found}, after term {term}");
            let about = About::HardStateLost { node: self.node, terms: found..=*term, at: self.at() };
            tally.violated(self.finding(text, Some(before.clone()), after).about(about));
        } else if exact && found > *term {
            let text = format!("{disk} gives back term {found}, and no line tells of any after {term}");
            tally.violated(self.finding(text, Some(before.clone()), after));
        }
    }

    fn vote(&self, begin: &BootAct, known: &HardState, exact: bool, tally: &mut Tally) {
        let (disk, name) = (self.disk(), self.name());
        let found = match begin.vote {
            Some(vote) => format!("a vote for {}", self.evidence.name(vote)),
            None => "no vote".to_owned(),
        };
        let after = format!("{disk}: {found} in term {}", begin.term);
        // Of another term than the lines tell there is another finding.
        let in_term = known.term.as_ref().is_some_and(|(term, _)| *term == begin.term);
        match known.vote.as_ref().filter(|(term, ..)| *term == begin.term) {
            Some((_, candidate, _)) if begin.vote == Some(*candidate) => {}
            Some((term, candidate, before)) => {
                let whom = self.evidence.name(*candidate);
                let text = format!(
                    "{name} voted for {whom} in term {term}, and {disk} gives back {found} in that term"
                );
                let about = About::HardStateLost { node: self.node, terms: *term..=*term, at: self.at() };
                tally.violated(self.finding(text, Some(before.clone()), after).about(about));
            }
            None if exact && begin.vote.is_some() && in_term => {
                let text =
                    format!("{disk} gives back {found} in term {}, of which no line tells", begin.term);
                tally.violated(self.finding(text, None, after));
            }
            None => {}
        }
    }

    /// What a node knows to be committed it does not forget while it runs.
    fn commit_fell(&self, index: u64, known: &HardState) -> Option<Finding> {
        let (boot, fact) = known.commit_line.filter(|_| index < known.commit)?;
        let text = format!("{} knows no more than {index} committed, after {}", self.name(), known.commit);
        let before = witness(boot, fact, format!("{} knows {} committed", self.name(), known.commit));
        Some(self.finding(text.clone(), Some(before), text))
    }

    /// The disk must not hold less than lines tell, and after a clean stop nothing more.
    fn length(&self, back: &ReadBack, replay: &Replay, node: &Node) -> Option<Finding> {
        let expected = back.expected_last?;
        let (last, disk) = (back.begin.last.max(back.begin.snapshot), self.disk());
        if last < expected && !self.replaces(back, replay, node) {
            let before = node.line_with(expected, self.fact.t).filter(|(_, with)| with.t <= self.fact.t).map(
                |(boot, with)| {
                    let told = format!(
                        "{} made entry {expected} durable at {}",
                        self.name(),
                        self.evidence.at(with.t)
                    );
                    witness(boot, with, told)
                },
            );
            let text = format!("{disk} gives back entries up to {last}, and {expected} was durable");
            let about = About::EntriesLost { node: self.node, entries: last + 1..=expected, at: self.at() };
            let finding = self.finding(text, before, format!("{disk}: the log ends at {last}"));
            return Some(finding.about(about));
        }
        if back.exact && last > expected {
            let text = format!(
                "{disk} gives back entries up to {last}, and no line tells of any after {expected}, although the \
                 node had stopped cleanly"
            );
            return Some(self.finding(text, None, format!("{disk}: the log ends at {last}")));
        }
        None
    }

    /// True when what comes back differs from the log of before, so that a shorter log is no loss by itself: the
    /// difference is judged entry by entry.
    fn replaces(&self, back: &ReadBack, replay: &Replay, node: &Node) -> bool {
        let recovered = back.boot.facts.iter().filter_map(|fact| match fact.act {
            Act::Append { first, entries, recovered: true } => Some((first..).zip(node.appended(entries))),
            _ => None,
        });
        recovered
            .flatten()
            .any(|(index, entry)| replay.log.get(index).is_some_and(|held| held.entry != entry.entry))
    }

    fn entries<'e>(
        &self,
        entries: impl Iterator<Item = (u64, &'e Held)>,
        prior: &Prior,
        back: &mut ReadBack,
        tally: &mut Tally,
    ) {
        for (index, Held { entry, .. }) in entries {
            let Some(held) = prior.replay.log.get(index).filter(|_| !back.differs) else { continue };
            if held.entry == *entry {
                continue;
            }
            back.differs = true;
            let (name, disk) = (self.name(), self.disk());
            let untold = !back.exact
                && prior.killed
                && held.entry.term != entry.term
                && index > prior.replay.commit
                && !prior.told_before(index, entry);
            if untold {
                let text = format!(
                    "{disk} gives back another entry {index} than {name} told of: it was killed before the line that \
                     tells of the replacement"
                );
                tally.note(self.finding(
                    text,
                    None,
                    format!("{disk}: entry {index} is of term {}", entry.term),
                ));
                continue;
            }
            let before = prior.node.line_with(index, self.fact.t).map(|(boot, with)| {
                let told = format!(
                    "{name}: entry {index} of term {}, digest {}",
                    held.entry.term, held.entry.digest
                );
                witness(boot, with, told)
            });
            let text = format!("{disk} gives back another entry {index} than was durable");
            let after = format!("{disk}: entry {index} of term {}, digest {}", entry.term, entry.digest);
            let last = prior.replay.log.last();
            let about = About::EntriesLost { node: self.node, entries: index..=last, at: self.at() };
            tally.violated(self.finding(text, before, after).about(about));
        }
    }
}

impl Prior<'_, '_> {
    /// True when an earlier line has this very entry: then it was cut since, and has come back.
    fn told_before(&self, index: u64, entry: &Entry) -> bool {
        let earlier = self.node.files().take(self.place).flat_map(|boot| &boot.facts);
        earlier
            .filter_map(|fact| match fact.act {
                Act::Append { first, entries, .. } => Some((first, self.node.appended(entries))),
                _ => None,
            })
            .any(|(first, entries)| {
                let place = index.checked_sub(first).and_then(|place| usize::try_from(place).ok());
                place.and_then(|place| entries.get(place)).is_some_and(|held| held.entry == *entry)
            })
    }
}
