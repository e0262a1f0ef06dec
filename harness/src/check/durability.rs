//! What a node made durable stays, and what was acknowledged to a client is in the committed log.

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
struct HardState {
    term: Option<(u64, Witness)>,
    vote: Option<(u64, NodeRef, Witness)>,
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
            hard_state.learn(&scene);
            _ = replay.take(facts, fact);
        }
        before = Some(boot);
    }
    replay
}

impl HardState {
    fn learn(&mut self, scene: &Scene) {
        let name = scene.evidence.name(scene.node);
        let at = || scene.evidence.at(scene.fact.t);
        let (term, vote) = match &scene.fact.act {
            Act::Boot(act) => (act.term, act.vote.map(|vote| (act.term, vote))),
            Act::Vote { term, candidate } => (*term, Some((*term, *candidate))),
            Act::Role { term, .. } | Act::Commit { term, .. } => (*term, None),
            _ => return,
        };
        if self.term.as_ref().is_none_or(|(known, _)| *known < term) {
            let told = witness(scene.boot, scene.fact, format!("{name} is in term {term} at {}", at()));
            self.term = Some((term, told));
        }
        if let Some((term, candidate)) = vote {
            let whom = scene.evidence.name(candidate);
            let told = witness(
                scene.boot,
                scene.fact,
                format!("{name} voted for {whom} in term {term} at {}", at()),
            );
            self.vote = Some((term, candidate, told));
        }
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

    fn hard_state(&self, begin: &BootAct, known: &HardState, exact: bool, tally: &mut Tally) {
        let disk = self.disk();
        if let Some((term, before)) = &known.term
            && (begin.term < *term || (exact && begin.term != *term))
        {
            let text = format!("{disk} gives back term {}, after term {term}", begin.term);
            tally.violated(self.finding(text, Some(before.clone()), format!("{disk}: term {}", begin.term)));
        }
        if let Some((term, candidate, before)) = &known.vote
            && *term == begin.term
            && begin.vote != Some(*candidate)
        {
            let (name, whom) = (self.name(), self.evidence.name(*candidate));
            let vote = match begin.vote {
                Some(vote) => format!("a vote for {}", self.evidence.name(vote)),
                None => "no vote".to_owned(),
            };
            let text =
                format!("{name} voted for {whom} in term {term}, and {disk} gives back {vote} in that term");
            tally.violated(self.finding(
                text,
                Some(before.clone()),
                format!("{disk}: {vote} in term {term}"),
            ));
        }
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
            return Some(self.finding(text, before, format!("{disk}: the log ends at {last}")));
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
            tally.violated(self.finding(text, before, after));
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
