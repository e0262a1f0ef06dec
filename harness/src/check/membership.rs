//! The part of election safety that is about who counts: whether `config` lines tell what the logs hold, all nodes the
//! same, and voters change by way of a joint configuration.
//!
//! In: evidence. Out: findings in the caller's tally. Never: a verdict of its own, or a finding where a line may be missing
//! that would refute it.
//!
//! A line of entry 0 tells what a node was started with. Any other is of a `config` entry in the node's log, or of
//! the snapshot that its log begins after, and then of what was in force there. What an entry holds nobody can tell by
//! its digest; so all nodes must tell the same of it, and it must fit what the log has before it.

use std::collections::{BTreeSet, HashMap, HashSet};

use mkraft_proto::evidence::{Digest, EntryKind};

use super::configurations::Voters;
use super::evidence::{Act, Boot, ConfigAct, Evidence, Fact, Kinds, Node, NodeRef, witness};
use super::replay::{Held, Replay};
use super::verdict::{Finding, Tally, Witness};

/// Index, term and digest of a `config` entry; index 0 for what the cluster began with.
type Identity = (u64, u32, Digest);

const BEGIN: Identity = (0, 0, Digest(0));

/// Every `config` line agrees with the log of its node, with what other nodes tell, and with the configuration before.
///
/// Cost: O(entries).
pub fn membership(evidence: &Evidence, tally: &mut Tally) {
    let mut told = Told::new(evidence);
    for (node, facts) in evidence.nodes() {
        told.follow(node, facts, tally);
    }
    told.changes(tally);
    told.in_force(tally);
}

/// One line.
#[derive(Clone, Copy)]
struct Line<'e> {
    node: NodeRef,
    boot: &'e Boot,
    fact: &'e Fact,
    config: &'e ConfigAct,
}

struct Told<'e> {
    evidence: &'e Evidence,
    /// Who votes first: all nodes but those that are started with nobody.
    initial: Voters,
    first: HashMap<Identity, Line<'e>>,
    /// Which comes after which in some log.
    after: HashSet<(Identity, Identity)>,
    /// Of snapshots: who counted there.
    at_snapshots: Vec<Line<'e>>,
    /// All `config` entries.
    entries: BTreeSet<Identity>,
}

/// One node on the way through its lines.
struct Followed<'e> {
    facts: &'e Node,
    replay: Replay,
    /// Indices of the `config` entries in its log.
    held: Vec<u64>,
    /// Up to where its newest snapshot reaches that a log can begin after.
    snapshot: u64,
    /// Of a leader, who counts by an entry before its disk has it.
    early: Vec<Line<'e>>,
    /// Entries that lines of this boot told of.
    counted: BTreeSet<u64>,
}

impl<'e> Told<'e> {
    fn new(evidence: &'e Evidence) -> Told<'e> {
        let mut initial = Voters::initial(evidence);
        let is_spare = |node: &NodeRef| {
            let lines = evidence.nodes[node.0 as usize].facts();
            let mut first = lines.filter_map(|(_, fact)| config_of(fact)).filter(|config| config.index == 0);
            first.next().is_some_and(|config| config.voters.is_empty())
        };
        initial.voters.retain(|node| !is_spare(node));
        Told {
            evidence,
            initial,
            first: HashMap::new(),
            after: HashSet::new(),
            at_snapshots: Vec::new(),
            entries: BTreeSet::new(),
        }
    }

    fn follow(&mut self, node: NodeRef, facts: &'e Node, tally: &mut Tally) {
        let mut followed = Followed::new(facts);
        for boot in &facts.boots {
            for (place, fact) in boot.facts.iter().enumerate() {
                followed.take(fact, &mut self.entries);
                let mut lines = followed.now_durable();
                if let Some(config) = config_of(fact) {
                    // Of two entries that came with one write, the second in the place of the first, only one is on the
                    // disk.
                    let next = boot.facts.get(place + 1).and_then(config_of);
                    if next.is_none_or(|next| next.index > config.index) {
                        lines.push(Line { node, boot, fact, config });
                    }
                }
                let next = boot.facts.get(place + 1).and_then(config_of).map(|next| next.index);
                let untold = followed.untold(fact).filter(|&index| next != Some(index));
                let untold = untold.map(|index| self.untold(node, boot, fact, index));
                let wrong = lines.into_iter().filter_map(|line| self.line(&mut followed, line).err());
                wrong.for_each(|finding| tally.violated(*finding));
                untold.into_iter().for_each(|finding| tally.violated(finding));
            }
        }
    }

    /// A leader tells that it counts by an entry no later than that it has it on disk.
    fn untold(&self, node: NodeRef, boot: &Boot, fact: &Fact, index: u64) -> Finding {
        let name = self.evidence.name(node);
        let text =
            format!("{name} led and appended the configuration of entry {index}, and did not count by it");
        Finding::new(text.clone(), [witness(boot, fact, text)])
    }

    fn line(&mut self, followed: &mut Followed<'e>, line: Line<'e>) -> Result<(), Box<Finding>> {
        let index = line.config.index;
        self.known(&line)?;
        if index == 0 {
            return self.begin(&line);
        }
        if !followed.replay.trusted {
            return Ok(());
        }
        let log = &followed.replay.log;
        match log.get(index) {
            Some(held) if held.entry.kind == EntryKind::Config => {
                let identity = identity(index, held);
                let before = followed.held.iter().rfind(|&&held| held < index);
                match before {
                    Some(&before) => {
                        let before = log.get(before).map(|held| self::identity(before, held));
                        self.after.extend(before.map(|before| (before, identity)));
                    }
                    None if log.first() == 1 => _ = self.after.insert((BEGIN, identity)),
                    None => {}
                }
                let first = *self.first.entry(identity).or_insert(line);
                self.alike(first, line, &format!("entry {index}"))
            }
            _ if index == followed.snapshot => {
                self.at_snapshots.push(line);
                Ok(())
            }
            None if index > log.last() && followed.replay.leads() => {
                followed.early.push(line);
                Ok(())
            }
            found => {
                let what = if found.is_some() { "holds no configuration" } else { "is not in its log" };
                let name = self.evidence.name(line.node);
                let text = format!("{name} counts by the configuration of entry {index}, which {what}");
                let holds = followed.facts.line_with(index, line.fact.t).filter(|_| found.is_some());
                let holds = holds.map(|(boot, fact)| {
                    witness(boot, fact, format!("{name} appended an entry {index} that is no configuration"))
                });
                let witnesses: Vec<_> = [self.witness(&line)].into_iter().chain(holds).collect();
                Err(Box::new(Finding::new(text, witnesses)))
            }
        }
    }

    /// Those named are nodes of the run.
    fn known(&self, line: &Line) -> Result<(), Box<Finding>> {
        let ConfigAct { voters, outgoing, learners, .. } = line.config;
        let mut named = voters.iter().chain(outgoing).chain(learners);
        let Some(&stranger) = named.find(|node| node.0 as usize >= self.evidence.nodes.len()) else {
            return Ok(());
        };
        let (name, whom) = (self.evidence.name(line.node), self.evidence.name(stranger));
        let text = format!("{name} counts {whom}, which is no node of this run");
        Err(Box::new(Finding::new(text, [self.witness(line)])))
    }

    /// A node is started with all that vote first, or to join, with nobody.
    fn begin(&mut self, line: &Line<'e>) -> Result<(), Box<Finding>> {
        let ConfigAct { voters, outgoing, learners, .. } = line.config;
        let nobody = voters.is_empty() && !self.initial.voters.contains(&line.node);
        let lone = outgoing.is_empty() && learners.is_empty();
        if lone && (nobody || Voters::from(line.config) == self.initial) {
            return Ok(());
        }
        let name = self.evidence.name(line.node);
        let text = format!(
            "{name} was started with {}, where the cluster began with {}",
            self.words(line.config),
            self.names(&self.initial.voters)
        );
        Err(Box::new(Finding::new(text, [self.witness(line)])))
    }

    fn alike(&self, first: Line, line: Line, place: &str) -> Result<(), Box<Finding>> {
        if values(first.config) == values(line.config) {
            return Ok(());
        }
        let (one, other) = (self.evidence.name(first.node), self.evidence.name(line.node));
        let text = format!("{one} and {other} tell of different configurations at {place}");
        Err(Box::new(Finding::new(text, [self.witness(&first), self.witness(&line)])))
    }

    /// Voters change in two steps, by way of both sets; all else in one.
    fn changes(&self, tally: &mut Tally) {
        let mut after: Vec<_> = self.after.iter().collect();
        after.sort_unstable_by_key(|(_, next)| next.0);
        for (before, next) in after {
            let Some(next) = self.first.get(next) else { continue };
            let (from, seen) = match self.first.get(before) {
                Some(before) => (Voters::from(before.config), Some(self.witness(before))),
                None if *before == BEGIN => (self.initial.clone(), None),
                None => continue,
            };
            let to = Voters::from(next.config);
            let fits = match from.outgoing.is_empty() {
                true if to.outgoing.is_empty() => to.voters == from.voters,
                true => to.outgoing == from.voters,
                false => to.outgoing.is_empty() && to.voters == from.voters,
            };
            if fits {
                continue;
            }
            let text = format!(
                "the configuration of entry {} cannot come after that of {}: voters change from one set to another only by \
                 way of both",
                next.config.index,
                if *before == BEGIN { "the begin".to_owned() } else { format!("entry {}", before.0) },
            );
            let witnesses: Vec<_> = seen.into_iter().chain([self.witness(next)]).collect();
            tally.violated(Finding::new(text, witnesses));
        }
    }

    /// Where a log begins after a snapshot, that counts which was in force there.
    fn in_force(&self, tally: &mut Tally) {
        let whole = self.evidence.gaps_in(Kinds::LOG | Kinds::APPLY | Kinds::CONFIG).next().is_none();
        if self.at_snapshots.is_empty() || !whole {
            return;
        }
        let applied = self.applied();
        for line in &self.at_snapshots {
            let newest = applied.range(..=(line.config.index, u32::MAX, Digest(u64::MAX))).next_back();
            let finding = match newest {
                Some(identity) => {
                    let Some(first) = self.first.get(identity) else { continue };
                    self.alike(*first, *line, &format!("entry {}", line.config.index))
                }
                None if Voters::from(line.config) == self.initial && line.config.learners.is_empty() => {
                    continue;
                }
                None => {
                    let text = format!(
                        "{} counts by {} at entry {}, up to which no configuration was committed but that of the begin",
                        self.evidence.name(line.node),
                        self.words(line.config),
                        line.config.index
                    );
                    Err(Box::new(Finding::new(text, [self.witness(line)])))
                }
            };
            finding.err().into_iter().for_each(|finding| tally.violated(*finding));
        }
    }

    /// The `config` entries that some node applied.
    fn applied(&self) -> BTreeSet<Identity> {
        let mut applied = BTreeSet::new();
        for (_, facts) in self.evidence.nodes() {
            for (_, fact) in facts.facts() {
                let Act::Apply { first, entries } = fact.act else { continue };
                let entries = facts.applied(entries);
                let last = first + entries.len() as u64;
                let here = self.entries.range((first, 0, Digest(0))..(last, 0, Digest(0)));
                applied.extend(here.filter(|(index, term, digest)| {
                    let entry = &entries[(index - first) as usize];
                    (entry.term, entry.digest) == (*term, *digest)
                }));
            }
        }
        applied
    }

    fn witness(&self, line: &Line) -> Witness {
        let (name, at) = (self.evidence.name(line.node), self.evidence.at(line.fact.t));
        let text =
            format!("{name} counts by entry {} at {at}: {}", line.config.index, self.words(line.config));
        witness(line.boot, line.fact, text)
    }

    fn words(&self, config: &ConfigAct) -> String {
        let mut text = self.names(&config.voters);
        for (what, nodes) in [("outgoing", &config.outgoing), ("learners", &config.learners)] {
            if !nodes.is_empty() {
                text += &format!("; {what} {}", self.names(nodes));
            }
        }
        text
    }

    fn names(&self, nodes: &[NodeRef]) -> String {
        let names: Vec<_> = nodes.iter().map(|&node| self.evidence.name(node)).collect();
        if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
    }
}

impl<'e> Followed<'e> {
    fn new(facts: &'e Node) -> Followed<'e> {
        let (replay, early, counted) = (Replay::default(), Vec::new(), BTreeSet::new());
        Followed { facts, replay, held: Vec::new(), snapshot: 0, early, counted }
    }

    /// What a leader had counted by, and the disk has now.
    fn now_durable(&mut self) -> Vec<Line<'e>> {
        let last = self.replay.log.last();
        self.early.extract_if(.., |early| early.config.index <= last).collect()
    }

    /// A `config` entry in an append by a leader, of which no line has told.
    fn untold(&self, fact: &Fact) -> Option<u64> {
        let Act::Append { first, recovered: false, .. } = fact.act else { return None };
        let leads = self.replay.leads() && self.replay.trusted;
        let mut new = self.held.iter().filter(|&&held| held >= first);
        new.find(|held| leads && !self.counted.contains(held)).copied()
    }

    fn take(&mut self, fact: &Fact, entries: &mut BTreeSet<Identity>) {
        _ = self.replay.take(self.facts, fact);
        match &fact.act {
            Act::Boot(boot) => {
                self.snapshot = boot.snapshot;
                self.held.clear();
                self.early.clear();
                self.counted.clear();
            }
            Act::Snapshot { index, installed: true, .. } => {
                self.snapshot = *index;
                self.held.retain(|&held| self.replay.log.get(held).is_some());
            }
            Act::Truncate { after } => {
                self.held.retain(|held| held <= after);
                self.early.retain(|early| early.config.index <= *after);
            }
            Act::Config(config) => {
                self.early.retain(|early| early.config.index < config.index);
                self.counted.insert(config.index);
            }
            Act::Hole => self.early.clear(),
            Act::Append { first, entries: span, .. } => {
                self.held.retain(|held| held < first);
                for (index, held) in (*first..).zip(self.facts.appended(*span)) {
                    if held.entry.kind == EntryKind::Config {
                        self.held.push(index);
                        entries.insert(identity(index, held));
                    }
                }
            }
            _ => {}
        }
    }
}

fn identity(index: u64, held: &Held) -> Identity {
    (index, held.entry.term, held.entry.digest)
}

fn config_of(fact: &Fact) -> Option<&ConfigAct> {
    match &fact.act {
        Act::Config(config) => Some(config),
        _ => None,
    }
}

/// Whatever order a line names them in.
fn values(config: &ConfigAct) -> (Voters, Vec<NodeRef>) {
    let mut learners = config.learners.clone();
    learners.sort_unstable();
    (config.into(), learners)
}
