//! All nodes apply the same entries in the same order (§5.4.3).

use super::about::{About, EntryId, Indices, extend};
use super::by_index::ByIndex;
use super::evidence::{Act, Applied, Boot, Evidence, Fact, Kinds, NodeRef, witness};
use super::replay::Replay;
use super::snapshots::snapshots;
use super::verdict::{Finding, Tally, Verdict, Witness, count};

/// index -> (term, digest, session, sequence) applied is a function over all nodes and boots; each boot applies in order and without
/// gaps from its snapshot on, what its own log holds, and never beyond what it knows to be committed (§5.4.3); and the
/// term and the state of snapshots are functions of their index, the term that of the entry applied there; a node takes
/// one only of what it has applied, and installs one only of more (§7).
///
/// Reads: `boot`, `commit`, `apply`, `snapshot` and all that tells of the log. Fails: naming the lines. Unknown: such
/// lines of a node may be missing, or nothing was applied. Cannot see: whether two machines made the same of the same
/// command where no two snapshots end at one index. Cost: O(entries), and memory for each distinct one.
pub fn state_machine_safety(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    let total = evidence.nodes().map(|(_, node)| node.applications()).sum();
    let mut known: ByIndex<Seen> = ByIndex::new(total);
    for (node, facts) in evidence.nodes() {
        let mut replay = Replay::default();
        // None while lines are missing.
        let mut next: Option<u64> = None;
        let mut applied: Option<(&Boot, &Fact)> = None;
        let mut differed = false;
        let mut early: Option<Early> = None;
        for (place, boot) in facts.boots.iter().enumerate() {
            for fact in &boot.facts {
                _ = replay.take(facts, fact);
                let here = Here { evidence, node, boot, fact };
                if let (Act::Snapshot { index, installed, .. }, Some(next)) = (&fact.act, next) {
                    let finding = here.snapshot(*index, *installed, next - 1, applied);
                    finding.into_iter().for_each(|finding| tally.violated(finding));
                }
                match &fact.act {
                    Act::Boot(act) => next = Some(act.snapshot + 1),
                    Act::Snapshot { index, installed: true, .. } => next = Some(index + 1),
                    Act::Hole => next = None,
                    _ => {}
                }
                let Act::Apply { first, entries } = fact.act else { continue };
                applied = Some((boot, fact));
                let entries = facts.applied(entries);
                let last = first + (entries.len() as u64).saturating_sub(1);
                if let Some(finding) = here.order(first, last, next) {
                    tally.violated(finding);
                } else if replay.trusted && last > replay.commit {
                    let beyond = first.max(replay.commit + 1)..=last;
                    let early = early.get_or_insert_with(|| here.early(last, replay.commit));
                    // A line may be several facts.
                    early.times +=
                        u64::from(early.line.replace((place, fact.line)) != Some((place, fact.line)));
                    extend(&mut early.entries, beyond);
                }
                next = next.map(|_| first + entries.len() as u64);
                for (index, &entry) in (first..).zip(entries) {
                    tally.examined += 1;
                    let seen = Seen { entry, node, place: place as u32, line: fact.line };
                    let finding =
                        here.same(index, seen, &mut known).or_else(|| here.own(index, entry, &replay));
                    // What follows a difference differs too: it is told once for each node.
                    if let (Some(finding), false) = (finding, differed) {
                        tally.violated(finding);
                        differed = true;
                    }
                }
            }
        }
        early.into_iter().for_each(|early| tally.violated(early.finding(node)));
    }
    let applied_in = |index| {
        let seen: &Seen = known.get(index)?;
        let term = u64::from(seen.entry.term);
        let text = format!("{} applied entry {index} as of term {term}", evidence.name(seen.node));
        Some((term, seen.witness(evidence, text)?))
    };
    snapshots(evidence, applied_in, &mut tally);
    tally.doubt_gaps(evidence, Kinds::LOG | Kinds::COMMIT | Kinds::APPLY);
    let distinct = known.iter().count();
    tally.verdict("nothing was applied in any file", |applied| {
        format!(
            "{applied} applications of {distinct} entries: in order, never beyond commit, everywhere the same"
        )
    })
}

#[derive(Clone, Copy)]
struct Seen {
    entry: Applied,
    node: NodeRef,
    place: u32,
    line: u32,
}

impl Seen {
    fn witness(&self, evidence: &Evidence, text: String) -> Option<Witness> {
        let file = evidence.nodes[self.node.0 as usize].file(self.place as usize)?.file.clone();
        Some(Witness { file, line: self.line, text })
    }
}

/// The line that is looked at.
#[derive(Clone, Copy)]
struct Here<'e> {
    evidence: &'e Evidence,
    node: NodeRef,
    boot: &'e Boot,
    fact: &'e Fact,
}

impl Here<'_> {
    fn order(&self, first: u64, last: u64, next: Option<u64>) -> Option<Finding> {
        let next = next.filter(|&next| next != first)?;
        let (name, at) = (self.evidence.name(self.node), self.evidence.at(self.fact.t));
        let text = format!("{name} applied entry {first} at {at}, when entry {next} was next");
        let about = About::AppliedWrong { entries: first..=last, at: self.fact.t };
        Some(Finding::new(text.clone(), [witness(self.boot, self.fact, text)]).about(about))
    }

    /// A snapshot holds what was applied; one from a leader holds more.
    fn snapshot(
        &self,
        index: u64,
        installed: bool,
        applied: u64,
        before: Option<(&Boot, &Fact)>,
    ) -> Option<Finding> {
        let (name, at) = (self.evidence.name(self.node), self.evidence.at(self.fact.t));
        let text = match installed {
            false if index > applied => format!(
                "{name} has a snapshot of its own up to entry {index} at {at}, when it had applied no more than \
                 {applied}"
            ),
            true if index <= applied => format!(
                "{name} put a snapshot up to entry {index} in the place of its state at {at}, when it had applied up \
                 to {applied}"
            ),
            _ => return None,
        };
        let before =
            before.map(|(boot, fact)| witness(boot, fact, format!("{name} had applied up to {applied}")));
        let witnesses: Vec<_> =
            before.into_iter().chain([witness(self.boot, self.fact, text.clone())]).collect();
        let about = About::AppliedWrong { entries: index..=index, at: self.fact.t };
        Some(Finding::new(text, witnesses).about(about))
    }

    fn early(&self, last: u64, commit: u64) -> Early {
        let (name, at) = (self.evidence.name(self.node), self.evidence.at(self.fact.t));
        let text =
            format!("{name} applied entry {last} at {at}, when it knew no more than {commit} committed");
        let witness = witness(self.boot, self.fact, text.clone());
        Early { text, witness, times: 0, line: None, entries: Vec::new(), at: self.fact.t }
    }

    fn same(&self, index: u64, seen: Seen, known: &mut ByIndex<Seen>) -> Option<Finding> {
        let Some(before) = known.get(index) else {
            known.insert(index, seen);
            return None;
        };
        // What became of a session's entry is exactly-once's matter.
        let identity = |entry: &Applied| {
            let outcome = (entry.session == 0).then_some(entry.outcome);
            (entry.term, entry.digest, entry.session, entry.sequence, outcome)
        };
        if identity(&before.entry) == identity(&seen.entry) {
            return None;
        }
        let (one, other) = (self.evidence.name(before.node), self.evidence.name(self.node));
        let told = |name: &str, entry: Applied| {
            let Applied { term, digest, session, sequence, outcome } = entry;
            let write = format!("write {sequence} of session {session}: {outcome:?}").to_lowercase();
            format!("{name} applied entry {index} as of term {term}, digest {digest}, {write}")
        };
        let first = before.witness(self.evidence, told(one, before.entry))?;
        let second = witness(self.boot, self.fact, told(other, seen.entry));
        let text = match one == other {
            true => format!("{one} applied two different entries at index {index}"),
            false => format!("{one} and {other} applied different entries at index {index}"),
        };
        let entries =
            [before.entry, seen.entry].map(|entry| EntryId { index, term: entry.term, digest: entry.digest });
        let about = About::Diverged { nodes: [before.node, self.node], entries, at: self.fact.t };
        Some(Finding::new(text, [first, second]).about(about))
    }

    fn own(&self, index: u64, entry: Applied, replay: &Replay) -> Option<Finding> {
        let held = replay.log.get(index).filter(|_| replay.trusted)?.entry;
        if (held.term, held.digest) == (entry.term, entry.digest) {
            return None;
        }
        let name = self.evidence.name(self.node);
        let text = format!(
            "{name} applied entry {index} as of term {}, digest {}; its own log has term {}, digest {}",
            entry.term, entry.digest, held.term, held.digest
        );
        let about = About::AppliedWrong { entries: index..=index, at: self.fact.t };
        Some(Finding::new(text.clone(), [witness(self.boot, self.fact, text)]).about(about))
    }
}

/// What one node applied beyond its commit index: a node that does so does it again and again, and is told once.
struct Early {
    text: String,
    witness: Witness,
    times: u64,
    /// The last of them: a file's place, and a line.
    line: Option<(usize, u32)>,
    entries: Vec<Indices>,
    at: u64,
}

impl Early {
    fn finding(self, node: NodeRef) -> Finding {
        let Early { text, witness, times, entries, at, .. } = self;
        let more = match times {
            1 => String::new(),
            times => format!("; and {} later", count(times - 1, "time")),
        };
        Finding::new(text + &more, [witness]).about(About::AppliedEarly { node, entries, at })
    }
}
