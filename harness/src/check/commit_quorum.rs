//! A leader commits what a quorum has on disk, and only by an entry of its own term (§5.3, §5.4.2).

use std::collections::{BTreeMap, BTreeSet};

use super::about::{About, Indices, extend};
use super::configurations::Voters;
use super::evidence::{Act, Boot, Evidence, Fact, Kinds, Node, NodeRef, witness};
use super::replay::{Held, Replay};
use super::verdict::{Finding, Tally, Verdict, count};

/// When a leader commits i, a quorum of the configuration has i durable, and term(i) is its own (§5.3, §5.4.2).
///
/// Reads: all nodes' lines merged by time: the logs on all disks at the moment of each leader's `commit` line, and
/// the configuration that the leader had told last; of a joint one, both majorities are asked for.
/// Fails: naming the commit, who had the entry and who did not; a follower's `commit` line of what no leader had
/// committed before. Unknown: lines of the log of so many nodes may be
/// missing that they could make up the quorum; or no leader committed anything. Cannot see: entries durable
/// without their line (a node killed in between cannot have acknowledged them). Cost: O(entries + commits * nodes).
pub fn commit_quorum(evidence: &Evidence) -> Verdict {
    let mut tally = Tally::default();
    let mut sweep = Sweep::new(evidence);
    let mut unsure = false;
    let mut heard = Heard::default();
    // A leader that commits so once does it again: each is told once a term.
    let mut told: BTreeMap<(NodeRef, u64, Option<BTreeSet<u64>>), Told> = BTreeMap::new();
    while let Some((node, boot, fact)) = sweep.next() {
        let Act::Commit { index, term } = fact.act else { continue };
        let leader = &sweep.followed[node.0 as usize];
        if !leader.replay.leads() || leader.replay.term != term {
            heard.of_follower(evidence, &sweep, (node, boot, fact), index);
            continue;
        }
        heard.from_leader = heard.from_leader.max(index);
        tally.examined += 1;
        let before = sweep.committed_before;
        let commit = Commit { index, term, node, boot, fact };
        let fault = match sweep.judge(&commit) {
            Judged::Held => continue,
            // The gap itself is told below.
            Judged::Unknown => {
                unsure = true;
                continue;
            }
            Judged::Short(short) => Fault::Short(short),
            Judged::Foreign(held) => Fault::Foreign(held),
        };
        let entries = before.saturating_add(1).min(index)..=index;
        let clashes = match &fault {
            Fault::Short(short) => Some(short.clashes.clone()),
            Fault::Foreign(_) => None,
        };
        let key = (node, term, clashes);
        match told.get_mut(&key) {
            Some(told) => told.again(entries, &fault),
            None => _ = told.insert(key, Told::first(evidence, &commit, entries, fault)),
        }
    }
    let mut told: Vec<Told> = told.into_values().collect();
    told.sort_by_key(|told| told.finding.about.at());
    told.into_iter().for_each(|told| tally.violated(told.finding()));
    heard.unheard.into_iter().for_each(|finding| tally.violated(finding));
    // Lines of a log that are missing matter when what is left is not a quorum.
    let log = if unsure { Kinds::LOG } else { Kinds::NONE };
    tally.doubt_gaps(evidence, log | Kinds::ROLE | Kinds::COMMIT | Kinds::CONFIG);
    tally.verdict("no leader committed anything in any file", |commits| {
        let commits = count(commits, "commit");
        format!("{commits} by leaders: each was on the disks of a quorum, and of the leader's term")
    })
}

/// What followers may know: no more than some leader has told.
#[derive(Default)]
struct Heard {
    from_leader: u64,
    /// The first such line.
    unheard: Option<Finding>,
}

impl Heard {
    /// A leader writes its line before anybody can learn of the commit.
    fn of_follower(
        &mut self,
        evidence: &Evidence,
        sweep: &Sweep,
        (node, boot, fact): (NodeRef, &Boot, &Fact),
        index: u64,
    ) {
        let whole = || evidence.gaps_in(Kinds::ROLE | Kinds::COMMIT).next().is_none();
        if index <= self.from_leader || self.unheard.is_some() || !whole() {
            return;
        }
        let (name, at, most) = (evidence.name(node), evidence.at(fact.t), self.from_leader);
        let text = format!(
            "{name} knew entry {index} to be committed at {at}, when no leader had committed any after {most}"
        );
        let lacking = sweep.followed.iter().all(|followed| followed.replay.log.get(index).is_none());
        let told = if lacking { format!("{text}; nobody had it") } else { text.clone() };
        self.unheard = Some(Finding::new(text, [witness(boot, fact, told)]));
    }
}

struct Commit<'e> {
    index: u64,
    term: u64,
    node: NodeRef,
    boot: &'e Boot,
    fact: &'e Fact,
}

enum Judged {
    Held,
    Short(Short),
    /// The entry is of another term.
    Foreign(Held),
    Unknown,
}

/// Fewer than a quorum had it.
struct Short {
    holders: Vec<NodeRef>,
    lacking: Vec<NodeRef>,
    needed: usize,
    /// Who they had to be a majority of, where two had to be.
    of: Option<Vec<NodeRef>>,
    /// When it would have been a quorum with those that had an entry of the same term there: the terms in which their
    /// logs and the leader's first clash.
    clashes: BTreeSet<u64>,
}

enum Fault {
    Short(Short),
    Foreign(Held),
}

/// All commits of one kind by one leader in one term.
struct Told {
    finding: Finding,
    times: u64,
}

impl Told {
    fn first(evidence: &Evidence, commit: &Commit, entries: Indices, fault: Fault) -> Told {
        let (leader, term, at, commits) = (commit.node, commit.term, commit.fact.t, vec![entries]);
        let finding = match fault {
            Fault::Foreign(held) => {
                foreign(evidence, commit, &held).about(About::CommitForeign { term, commits, at })
            }
            Fault::Short(short) => {
                let finding = told_short(evidence, commit, &short);
                let Short { holders, lacking, needed, clashes, .. } = short;
                let short_by = needed - holders.len();
                finding.about(About::CommitShort { leader, term, commits, lacking, short_by, clashes, at })
            }
        };
        Told { finding, times: 1 }
    }

    fn again(&mut self, entries: Indices, fault: &Fault) {
        self.times += 1;
        match (&mut self.finding.about, fault) {
            (About::CommitForeign { commits, .. }, _) => extend(commits, entries),
            (About::CommitShort { commits, lacking, short_by, .. }, Fault::Short(short)) => {
                extend(commits, entries);
                lacking.retain(|node| short.lacking.contains(node));
                *short_by = (*short_by).max(short.needed - short.holders.len());
            }
            _ => {}
        }
    }

    fn finding(self) -> Finding {
        let Told { mut finding, times } = self;
        if times > 1 {
            finding.text += &format!("; and {} later in that term", count(times - 1, "time"));
        }
        finding
    }
}

/// All nodes followed at once, in the order of their common clock.
struct Sweep<'e> {
    followed: Vec<Followed<'e>>,
    /// Nodes of which lines may be missing.
    holey: Vec<bool>,
    /// The highest index that any node knew to be committed, and the same before the latest fact.
    committed: u64,
    committed_before: u64,
}

struct Followed<'e> {
    node: &'e Node,
    rest: Box<dyn Iterator<Item = (&'e Boot, &'e Fact)> + 'e>,
    next: Option<(&'e Boot, &'e Fact)>,
    replay: Replay,
    /// Who counts for this node.
    voters: Voters,
}

impl<'e> Sweep<'e> {
    fn new(evidence: &'e Evidence) -> Sweep<'e> {
        let follow = |(_, node): (NodeRef, &'e Node)| {
            let mut rest: Box<dyn Iterator<Item = _>> = Box::new(node.facts());
            let next = rest.next();
            Followed { node, rest, next, replay: Replay::default(), voters: Voters::initial(evidence) }
        };
        let followed = evidence.nodes().map(follow).collect();
        let holey = evidence.nodes().map(|(node, _)| !evidence.is_whole(node, Kinds::LOG)).collect();
        Sweep { followed, holey, committed: 0, committed_before: 0 }
    }

    /// Takes the earliest fact. In the same nanosecond what is written comes before what is committed.
    fn next(&mut self) -> Option<(NodeRef, &'e Boot, &'e Fact)> {
        let key = |followed: &Followed| {
            let (_, fact) = followed.next?;
            Some((fact.t, matches!(fact.act, Act::Commit { .. })))
        };
        let heads = self.followed.iter().enumerate().filter_map(|(at, followed)| Some((key(followed)?, at)));
        let (_, at) = heads.min()?;
        let followed = &mut self.followed[at];
        let (boot, fact) = followed.next?;
        followed.next = followed.rest.next();
        _ = followed.replay.take(followed.node, fact);
        self.committed_before = self.committed;
        self.committed = self.committed.max(followed.replay.commit);
        if let Act::Config(config) = &fact.act {
            followed.voters = (&**config).into();
        }
        Some((NodeRef(at as u32), boot, fact))
    }

    fn judge(&self, commit: &Commit) -> Judged {
        let leader = &self.followed[commit.node.0 as usize];
        let held = |node: &NodeRef| self.followed.get(node.0 as usize)?.replay.log.get(commit.index);
        let own_term = |held: &&Held| u64::from(held.entry.term) == commit.term;
        // A leader may commit before its own disk has the entry.
        let of_others = || leader.voters.groups().flatten().filter_map(held).find(own_term);
        let reference = held(&commit.node).or_else(of_others).copied();
        if let Some(reference) = reference.filter(|held| !own_term(&held)) {
            return if leader.replay.trusted { Judged::Foreign(reference) } else { Judged::Unknown };
        }
        for voters in leader.voters.groups() {
            let has =
                |node: &&NodeRef| held(node).zip(reference).is_some_and(|(own, held)| own.agrees(&held));
            let holders: Vec<_> = voters.iter().filter(has).copied().collect();
            let needed = voters.len() / 2 + 1;
            // What a node had before lines went missing it may have cut since.
            let trusted = |node: &&NodeRef| {
                self.followed.get(node.0 as usize).is_some_and(|followed| followed.replay.trusted)
            };
            if holders.iter().filter(trusted).count() >= needed {
                continue;
            }
            let unsure = |node: &&NodeRef| {
                !holders.contains(node) && self.holey.get(node.0 as usize).copied().unwrap_or(true)
            };
            return match holders.len() + voters.iter().filter(unsure).count() >= needed {
                true => Judged::Unknown,
                false => {
                    let lacking: Vec<_> =
                        voters.iter().filter(|node| !holders.contains(node)).copied().collect();
                    let clash = |node: &NodeRef| {
                        let other = self.followed.get(node.0 as usize)?;
                        leader.replay.log.clashes_in(&other.replay.log, commit.index)
                    };
                    let same = |node: &&NodeRef| held(node).is_some_and(|held| own_term(&held));
                    let alike: Vec<u64> = lacking.iter().filter(same).filter_map(clash).collect();
                    let counted = holders.len() + alike.len() >= needed;
                    let clashes = alike.into_iter().filter(|_| counted).collect();
                    let of = (!leader.voters.outgoing.is_empty()).then(|| voters.to_vec());
                    Judged::Short(Short { holders, lacking, needed, of, clashes })
                }
            };
        }
        Judged::Held
    }
}

fn told_short(evidence: &Evidence, commit: &Commit, short: &Short) -> Finding {
    let Short { holders, needed, of, .. } = short;
    let Commit { index, term, node, boot, fact } = *commit;
    let (name, at) = (evidence.name(node), evidence.at(fact.t));
    let names: Vec<_> = holders.iter().map(|&holder| evidence.name(holder)).collect();
    let held = match &names[..] {
        [] => "no node".to_owned(),
        names => format!("only {}", names.join(" and ")),
    };
    let names =
        |nodes: &Vec<NodeRef>| nodes.iter().map(|&node| evidence.name(node)).collect::<Vec<_>>().join(", ");
    let of = of.as_ref().map_or(String::new(), |of| format!(" of {}, in a joint configuration", names(of)));
    let text = format!(
        "{name}, leader of term {term}, committed entry {index} at {at}, when {held} had it on disk; a quorum is \
         {needed}{of}"
    );
    let told = format!("{name} committed entry {index} in term {term} at {at}");
    let mut witnesses = vec![witness(boot, fact, told)];
    for (other, facts) in evidence.nodes() {
        if let Some((boot, with)) = facts.line_with(index, fact.t) {
            let when = if with.t > fact.t { "only then had" } else { "had" };
            let told = format!(
                "{} {when} an entry {index} on disk, at {}",
                evidence.name(other),
                evidence.at(with.t)
            );
            witnesses.push(witness(boot, with, told));
        }
    }
    Finding::new(text, witnesses)
}

fn foreign(evidence: &Evidence, commit: &Commit, held: &Held) -> Finding {
    let Commit { index, term, node, boot, fact } = *commit;
    let (name, at, other) = (evidence.name(node), evidence.at(fact.t), held.entry.term);
    let text = format!(
        "{name}, leader of term {term}, committed entry {index} of term {other} at {at}: only an entry of its own \
         term may be committed by counting"
    );
    let mut witnesses = vec![witness(boot, fact, format!("{name} committed entry {index} in term {term}"))];
    let line = evidence.nodes[node.0 as usize].line_with(index, fact.t);
    witnesses.extend(line.map(|(boot, with)| {
        witness(
            boot,
            with,
            format!("{name} appended entry {index} of term {other} at {}", evidence.at(with.t)),
        )
    }));
    Finding::new(text, witnesses)
}
