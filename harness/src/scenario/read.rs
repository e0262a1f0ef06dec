//! Reads a scenario: every key, every default, every rule by which the keys must fit each other.
//!
//! In: the text of a file. Out: a [`Scenario`], or every mistake in the text. Never: a file, a seed.

use std::ops::Range;
use std::time::Duration;

use super::fields::{CLUSTER, EXPECT, Fields, Found, Located, SCENARIO, Section, WORKLOAD};
use super::kinds::{Field, SHARE_MAX};
use super::limits::{self, NONE};
use super::problem::{Problem, did_you_mean, one_of};
use super::rules::{self, Bounds, Size};
use super::swarm;
use super::tree::{self, Node, Value};
use super::words::Words;
use super::{
    Cluster, Disks, Expect, FaultKind, Faults, Keep, Pacing, Placement, Rule, Scenario, Workload,
    WorkloadKind,
};

pub const NODES_MAX: u32 = 15;
pub const CLIENTS_MAX: u32 = 1_000;
pub const RATE_MAX: u32 = 1_000_000;
pub const CONNECTIONS_MAX: u32 = 64;
/// Of a log or a snapshot, in bytes or entries: more than a disk has.
pub const SIZE_MAX: u64 = 1 << 40;

/// What is expected under `faults`.
const FAULTS_EXPECTED: &str = "expected a list of lines such as `- { at: 5s, kill: leader }`, or `swarm`";

const MILLISECOND: Duration = Duration::from_millis(1);

/// What stands for a mapping that the file leaves out.
static EMPTY: Node = Node { span: 0..0, value: Value::Mapping(Vec::new()) };

/// The scenario that `text` says, or its mistakes in the order of the text.
pub(super) fn scenario(text: &str) -> Result<Scenario, Vec<Problem>> {
    let mut problems = Vec::new();
    let claim = keep(claim(text), &mut problems);
    let scenario = keep(tree::read(text), &mut problems)
        .and_then(|node| Reader { text, problems: &mut problems }.scenario(&node, claim.unwrap_or_default()));
    problems.sort_by_key(Problem::start);
    match scenario {
        Some(scenario) if problems.is_empty() => Ok(scenario),
        None if problems.is_empty() => unreachable!("a scenario was refused without a reason:\n{text}"),
        _ => Err(problems),
    }
}

fn keep<T>(result: Result<T, Box<Problem>>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|problem| problems.push(*problem)).ok()
}

/// The comment that the file begins with.
fn claim(text: &str) -> Result<String, Box<Problem>> {
    let line = text.lines().next().unwrap_or_default();
    match line.strip_prefix('#').map(str::trim) {
        Some(claim) if !claim.is_empty() => Ok(claim.to_owned()),
        _ => Err(Problem::at(0..line.trim_end().len(), "the first line makes no claim").label(
            "expected a comment that says what must hold, such as `# Acknowledged writes survive any crash.`",
        )),
    }
}

/// The kind that a load says it is of, if it says one: which other keys it may have hangs on it.
fn written_kind(workload: &Node) -> Option<WorkloadKind> {
    let Value::Mapping(entries) = &workload.value else { return None };
    let is_kind = |node: &Node| matches!(&node.value, Value::Scalar { text, .. } if text == "kind");
    match &entries.iter().find(|(key, _)| is_kind(key))?.1.value {
        Value::Scalar { text, .. } => WorkloadKind::from_word(text),
        _ => None,
    }
}

/// A mapping that has keys by the kind of load beside `common` ones: its name and keys. Of an unknown kind, it may
/// have those of any.
fn section(
    name: &str,
    kind: Option<WorkloadKind>,
    common: &[&'static str],
    own: fn(WorkloadKind) -> Vec<&'static str>,
) -> (String, Vec<&'static str>) {
    let mut keys = common.to_vec();
    match kind {
        Some(kind) => keys.extend(own(kind)),
        None => {
            let mut any: Vec<_> = WorkloadKind::WORDS.iter().flat_map(|(_, kind)| own(*kind)).collect();
            any.sort_unstable();
            any.dedup();
            keys.extend(any);
        }
    }
    (kind.map_or(name.to_owned(), |kind| format!("{name} of kind `{kind}`")), keys)
}

/// The least election timeout and the heartbeat.
fn timing(fields: &mut Fields) -> Option<(Duration, Duration)> {
    let election = fields.read("election-timeout", |leaf| leaf.duration(MILLISECOND));
    let heartbeat = fields.read("heartbeat", |leaf| leaf.duration(MILLISECOND));
    let election = election.or(Duration::from_millis(500));
    let heartbeat = heartbeat.or(Duration::from_millis(50));
    let (election, heartbeat) = election.zip(heartbeat)?;
    if heartbeat.value >= election.value {
        let show = humantime::format_duration;
        let title = format!(
            "a heartbeat of {} is no sign of life within an election timeout of {}",
            show(heartbeat.value),
            show(election.value)
        );
        let here = heartbeat.span.clone().or(election.span.clone()).unwrap_or_default();
        let also = heartbeat.span.and(election.span);
        let problem = Problem::at(here, title).label("expected heartbeat < election-timeout");
        fields.problem(problem.also(also, "the timeout"));
    }
    Some((election.value, heartbeat.value))
}

/// How often another node may and must lead, at least and at most.
fn leader_changes(fields: &mut Fields) -> (Option<u64>, Option<Option<u64>>) {
    let least = fields.read("leader-changes-min", |leaf| leaf.whole(0..=u64::MAX)).or(0);
    let most = fields.read("leader-changes-max", |leaf| match leaf.word("a whole number, or `none`")? {
        NONE => Ok(None),
        _ => leaf.whole(0..=u64::MAX).map(Some),
    });
    let most = most.or(None);
    if let (Some(least), Some(Located { value: Some(most), span })) = (&least, &most)
        && least.value > *most
    {
        let title = format!("no run has at least {} leader changes and at most {most}", least.value);
        let problem = Problem::at(span.clone().unwrap_or_default(), title);
        let problem = problem.label("expected `leader-changes-min` or more");
        fields.problem(problem.also(least.span.clone(), "the least"));
    }
    (least.map(|least| least.value), most.map(|most| most.value))
}

/// A value and its place.
type Written<T> = (Range<usize>, T);

/// The first kind of fault in `faults` that is done to disks; a swarm has those that its cluster has disks for.
fn first_of_disks(faults: &Faults) -> Option<FaultKind> {
    let Faults::Rules(rules) = faults else { return None };
    rules.iter().flat_map(Rule::faults).map(|fault| fault.kind).find(|kind| kind.is_of_disks())
}

struct Reader<'a> {
    text: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn scenario(&mut self, node: &Node, claim: String) -> Option<Scenario> {
        let mut fields = self.fields(node, SCENARIO)?;
        let name = fields.required("name", "my-scenario", |leaf| {
            let word = leaf.word("a name of a-z, 0-9 and `-`")?;
            let fits = !word.starts_with('-')
                && word.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
            // It names run folders.
            let problem = || {
                leaf.wrong(format!("`{word}` is no name"))
                    .label("expected only a-z, 0-9 and `-`, beginning with a letter or digit")
            };
            fits.then(|| word.to_owned()).ok_or_else(problem)
        });
        let duration = fields.required("duration", "10s", |leaf| leaf.duration(MILLISECOND));
        let keep = fields.read("keep", |leaf| leaf.one_of("keep", None)).or(Keep::Nothing);
        let _ = fields.required("workload", "{ kind: register }", |_| Ok(()));
        let parts =
            ["cluster", "workload", "faults", "expect"].map(|key| fields.node(key).map(|(_, value)| value));
        self.problems.append(&mut fields.problems);

        let [cluster, workload, faults, expect] = parts;
        let (cluster, size, disks) = self.cluster(cluster);
        let all = size.as_ref().map(Size::all);
        let workload = workload.and_then(|node| self.workload(node, all.as_ref()));
        let bounds = Bounds { duration, end: "the end", size, depth: 0 };
        let faults = self.faults(faults, &bounds);
        let of_disks = faults.as_ref().and_then(first_of_disks);
        if let (Some((span, Disks::Plain)), Some(kind)) = (&disks, of_disks) {
            let problem =
                Problem::at(span.clone(), format!("`{kind}` is done to a disk, and these are plain"));
            self.problems
                .push(*problem.label("expected `simulated`, or nothing: it is the default with such faults"));
        }
        let operations_max = workload.as_ref().zip(bounds.duration.as_ref()).map(|(workload, duration)| {
            let starts = duration.value.as_millis() as u64 * u64::from(workload.rate) / 1_000;
            starts * workload.kind.operations_per_start()
        });
        let expect = self.expect(expect, operations_max);
        Some(Scenario {
            name: name?.value,
            claim,
            cluster: Cluster {
                disks: match (disks, of_disks) {
                    (None, Some(_)) => Disks::Simulated,
                    (None, None) => Disks::Plain,
                    (Some((_, written)), _) => written,
                },
                ..cluster?
            },
            duration: bounds.duration?.value,
            workload: workload?,
            keep: keep?.value,
            faults: faults?,
            expect: expect?,
        })
    }

    /// The cluster, and its size apart: other parts can be checked by it even if the cluster is wrong.
    /// So are the disks that are written, with their place: what they are otherwise hangs on the faults.
    fn cluster(&mut self, node: Option<&Node>) -> (Option<Cluster>, Option<Size>, Option<Written<Disks>>) {
        let Some(mut fields) = self.fields(node.unwrap_or(&EMPTY), CLUSTER) else {
            return (None, None, None);
        };
        let nodes = fields.read("nodes", |leaf| leaf.whole_u32(1..=NODES_MAX)).or(3);
        let spares = fields.read("spares", |leaf| leaf.whole_u32(0..=NODES_MAX - 1)).or(0);
        let size = nodes.zip(spares).map(|(nodes, spares)| Size { nodes, spares });
        if let Some(Size { nodes, spares }) = &size
            && nodes.value + spares.value > NODES_MAX
        {
            let title = format!("{} nodes and {} spares are too many", nodes.value, spares.value);
            let problem = Problem::at(spares.span.clone().unwrap_or_default(), title);
            let problem = problem.label(format!("expected {NODES_MAX} together, at most"));
            fields.problem(problem.also(nodes.span.clone(), "the nodes"));
        }
        let times = timing(&mut fields);
        let compact_entries = fields.read("compact-entries", |leaf| leaf.whole(1..=SIZE_MAX)).or(256 << 10);
        let compact_bytes = fields.read("compact-bytes", |leaf| leaf.whole(1..=SIZE_MAX)).or(64 << 20);
        let snapshot_rate = fields.read("snapshot-rate", |leaf| leaf.whole(1..=SIZE_MAX)).or(64 << 20);
        let segment_bytes = fields.read("segment-bytes", |leaf| leaf.whole(1..=SIZE_MAX)).or(8 << 20);
        let leases = fields.read("leases", |leaf| leaf.switch()).or(false);
        let disks = fields.read("disks", |leaf| leaf.one_of("disks", None).map(Some)).or(None);
        self.problems.append(&mut fields.problems);
        let cluster = || {
            let (election_timeout, heartbeat) = times?;
            Some(Cluster {
                nodes: size.as_ref()?.nodes.value,
                spares: size.as_ref()?.spares.value,
                election_timeout,
                heartbeat,
                compact_entries: compact_entries?.value,
                compact_bytes: compact_bytes?.value,
                snapshot_rate: snapshot_rate?.value,
                segment_bytes: segment_bytes?.value,
                leases: leases?.value,
                disks: disks.as_ref()?.value.unwrap_or(Disks::Plain),
            })
        };
        let written = disks.as_ref().and_then(|disks| disks.span.clone().zip(disks.value));
        (cluster(), size, written)
    }

    fn workload(&mut self, node: &Node, nodes: Option<&Located<u32>>) -> Option<Workload> {
        let written = written_kind(node);
        let section = section("`workload`", written, WORKLOAD.keys, WorkloadKind::keys);
        let mut fields = keep(Fields::of(node, self.text, section.0, &section.1), self.problems)?;
        let kind = fields.required("kind", "register", |leaf| leaf.one_of::<WorkloadKind>("kind", None));
        let clients = fields.read("clients", |leaf| leaf.whole_u32(1..=CLIENTS_MAX)).or(6);
        let rate = fields.read("rate", |leaf| leaf.whole_u32(1..=RATE_MAX)).or(200);
        let pacing = fields.read("loop", |leaf| leaf.one_of("loop", None)).or(Pacing::Open);
        let placement = fields.read("placement", |leaf| leaf.one_of("placement", nodes)).or(Placement::Roam);
        let timeout = fields.read("timeout", |leaf| leaf.duration(MILLISECOND)).or(Duration::from_secs(1));
        let connections = fields.read("connections", |leaf| leaf.whole_u32(1..=CONNECTIONS_MAX)).or(2);
        let kind = kind.and_then(|kind| self.particulars(kind.value, &mut fields));
        self.problems.append(&mut fields.problems);
        Some(Workload {
            kind: kind?,
            clients: clients?.value,
            rate: rate?.value,
            pacing: pacing?.value,
            placement: placement?.value,
            timeout: timeout?.value,
            connections: connections?.value,
        })
    }

    /// What only this kind has; `kind` comes with the defaults.
    fn particulars(&mut self, mut kind: WorkloadKind, fields: &mut Fields) -> Option<WorkloadKind> {
        let mut right = true;
        for field in kind.fields() {
            match field {
                Field::Number { key, value, range } => {
                    let read = fields.read(key, |leaf| leaf.whole_u32(range)).or(*value);
                    right &= read.map(|read| *value = read.value).is_some();
                }
                Field::Time { key, value, most } => {
                    let read =
                        fields.read(key, |leaf| leaf.duration_within(Duration::ZERO..=most)).or(*value);
                    right &= read.map(|read| *value = read.value).is_some();
                }
                Field::Share { .. } => {}
            }
        }
        let mix = if kind.shares().is_empty() { None } else { fields.node("mix") };
        if let Some((_, node)) = mix {
            right &= self.mix(node, &mut kind).is_some();
        }
        right.then_some(kind)
    }

    /// A share that a written mix leaves out is none: `mix: { read: 1 }` only reads.
    fn mix(&mut self, node: &Node, kind: &mut WorkloadKind) -> Option<()> {
        let section = section("`mix`", Some(*kind), &[], WorkloadKind::shares);
        let mut fields = keep(Fields::of(node, self.text, section.0, &section.1), self.problems)?;
        let (mut right, mut some) = (true, fields.has_unknown);
        for field in kind.fields() {
            let Field::Share { word, value } = field else { continue };
            match fields.read(word, |leaf| leaf.whole_u32(0..=SHARE_MAX)).or(0) {
                Some(share) => *value = share.value,
                None => right = false,
            }
            some |= !right || *value > 0;
        }
        if !some {
            let problem = Problem::at(node.first_line(self.text), "a mix of nothing");
            fields.problem(problem.label(format!("expected one of {} above 0", one_of(section.1))));
        }
        self.problems.append(&mut fields.problems);
        right.then_some(())
    }

    fn faults(&mut self, node: Option<&Node>, bounds: &Bounds) -> Option<Faults> {
        let Some(node) = node else { return Some(Faults::Rules(Vec::new())) };
        if let Value::Scalar { text: word, .. } = &node.value
            && !word.is_empty()
        {
            return self.swarm(node, word, bounds);
        }
        let Value::Sequence(lines) = &node.value else {
            let title = format!("`faults` is {}", node.description());
            let problem = Problem::at(node.first_line(self.text), title);
            self.problems.push(*problem.label(FAULTS_EXPECTED));
            return None;
        };
        // Each line is read, and only then is it asked whether all were right.
        let rules: Vec<_> =
            lines.iter().map(|line| rules::read(line, self.text, bounds, self.problems)).collect();
        let rules: Vec<Rule> = rules.into_iter().collect::<Option<_>>()?;
        if let Some(duration) = &bounds.duration
            && let Some((title, expected)) = rules::too_many(&rules, duration.value)
        {
            let problem = Problem::at(node.first_line(self.text), title);
            self.problems.push(*problem.label(expected));
            return None;
        }
        Some(Faults::Rules(rules))
    }

    fn swarm(&mut self, node: &Node, word: &str, bounds: &Bounds) -> Option<Faults> {
        if word != "swarm" {
            let problem = Problem::at(node.first_line(self.text), format!("`faults` is `{word}`"));
            let problem = problem.label(FAULTS_EXPECTED);
            self.problems.push(*problem.help(did_you_mean(word, ["swarm"])));
            return None;
        }
        if let Some(Located { value: duration, span }) = &bounds.duration
            && *duration < swarm::DURATION_MIN
        {
            let problem = Problem::at(node.first_line(self.text), "too little time for a swarm");
            let least = humantime::format_duration(swarm::DURATION_MIN);
            let problem = problem.label(format!("expected a duration of {least} or more"));
            self.problems.push(*problem.also(span.clone(), "the duration"));
            return None;
        }
        Some(Faults::Swarm)
    }

    fn expect(&mut self, node: Option<&Node>, operations_max: Option<u64>) -> Option<Expect> {
        let mut fields = self.fields(node.unwrap_or(&EMPTY), EXPECT)?;
        // Not 0: a run in which nothing succeeded has shown nothing.
        let ok_min = fields.read("ok-min", |leaf| leaf.whole(1..=u64::MAX));
        if let (Found::Here(ok_min), Some(most)) = (&ok_min, operations_max)
            && ok_min.value > most
        {
            let title = format!("{} operations cannot succeed where at most {most} start", ok_min.value);
            let problem = Problem::at(ok_min.span.clone().unwrap_or_default(), title);
            fields.problem(problem.label("expected at most what `rate` and `duration` allow"));
        }
        let ok_min = ok_min.or(1);
        let (changes_min, changes_max) = leader_changes(&mut fields);
        let installed = fields.read("snapshots-installed-min", |leaf| leaf.whole(0..=u64::MAX)).or(0);
        let changes = fields.read("config-changes-min", |leaf| leaf.whole(0..=u64::MAX)).or(0);
        let recovers_within =
            fields.read("recovers-within", |leaf| leaf.duration(MILLISECOND)).or(Duration::from_secs(10));
        let serves_within = limits::read("serves-within", self.text, &mut fields);
        let heals_within = limits::read("heals-within", self.text, &mut fields);
        let service_min = fields.read("service-min", |leaf| leaf.percent(100)).or(0);
        self.problems.append(&mut fields.problems);
        Some(Expect {
            ok_min: ok_min?.value,
            leader_changes_min: changes_min?,
            leader_changes_max: changes_max?,
            snapshots_installed_min: installed?.value,
            config_changes_min: changes?.value,
            recovers_within: recovers_within?.value,
            serves_within: serves_within?,
            heals_within: heals_within?,
            service_min_percent: service_min?.value,
        })
    }

    fn fields<'n>(&mut self, node: &'n Node, section: Section) -> Option<Fields<'n>>
    where
        'a: 'n,
    {
        keep(Fields::of(node, self.text, section.name, section.keys), self.problems)
    }
}
