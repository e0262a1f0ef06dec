//! Reads a scenario: every key, every default, every rule by which the keys must fit each other.
//!
//! In: the text of a file. Out: a [`Scenario`], or every mistake in the text. Never: a file, a seed.

use std::time::Duration;

use super::fields::{CLUSTER, EXPECT, Fields, Found, Located, MIX, SCENARIO, Section, WORKLOAD};
use super::problem::Problem;
use super::rules::{self, Bounds};
use super::tree::{self, Node, Value};
use super::{Cluster, Expect, FaultRule, Mix, Pacing, Placement, Scenario, Workload, WorkloadKind};

pub const NODES_MAX: u32 = 15;
pub const CLIENTS_MAX: u32 = 1_000;
pub const KEYS_MAX: u32 = 100_000;
pub const RATE_MAX: u32 = 1_000_000;
pub const CONNECTIONS_MAX: u32 = 64;
pub const SHARE_MAX: u32 = 1_000_000;

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
        let _ = fields.required("workload", "{ kind: register }", |_| Ok(()));
        let parts =
            ["cluster", "workload", "faults", "expect"].map(|key| fields.node(key).map(|(_, value)| value));
        self.problems.append(&mut fields.problems);

        let [cluster, workload, faults, expect] = parts;
        let (cluster, nodes) = self.cluster(cluster);
        let workload = workload.and_then(|node| self.workload(node, nodes.as_ref()));
        let bounds = Bounds { duration, nodes };
        let faults = self.faults(faults, &bounds);
        let operations_max = workload
            .as_ref()
            .zip(bounds.duration.as_ref())
            .map(|(workload, duration)| duration.value.as_millis() as u64 * u64::from(workload.rate) / 1_000);
        let expect = self.expect(expect, operations_max);
        Some(Scenario {
            name: name?.value,
            claim,
            cluster: cluster?,
            duration: bounds.duration?.value,
            workload: workload?,
            faults: faults?,
            expect: expect?,
        })
    }

    /// The cluster, and the number of nodes apart: other parts can be checked by it even if the cluster is wrong.
    fn cluster(&mut self, node: Option<&Node>) -> (Option<Cluster>, Option<Located<u32>>) {
        let Some(mut fields) = self.fields(node.unwrap_or(&EMPTY), CLUSTER) else { return (None, None) };
        let nodes = fields.read("nodes", |leaf| leaf.whole_u32(1..=NODES_MAX)).or(3);
        let election = fields.read("election-timeout", |leaf| leaf.duration(MILLISECOND));
        let heartbeat = fields.read("heartbeat", |leaf| leaf.duration(MILLISECOND));
        let election = election.or(Duration::from_millis(500));
        let heartbeat = heartbeat.or(Duration::from_millis(50));
        let (Some(election), Some(heartbeat)) = (election, heartbeat) else {
            self.problems.append(&mut fields.problems);
            return (None, nodes);
        };
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
        self.problems.append(&mut fields.problems);
        let cluster = nodes.as_ref().map(|nodes| Cluster {
            nodes: nodes.value,
            election_timeout: election.value,
            heartbeat: heartbeat.value,
        });
        (cluster, nodes)
    }

    fn workload(&mut self, node: &Node, nodes: Option<&Located<u32>>) -> Option<Workload> {
        let mut fields = self.fields(node, WORKLOAD)?;
        let kind = fields.required("kind", "register", |leaf| leaf.one_of::<WorkloadKind>("kind", None));
        let clients = fields.read("clients", |leaf| leaf.whole_u32(1..=CLIENTS_MAX)).or(6);
        let keys = fields.read("keys", |leaf| leaf.whole_u32(1..=KEYS_MAX)).or(3);
        let rate = fields.read("rate", |leaf| leaf.whole_u32(1..=RATE_MAX)).or(200);
        let pacing = fields.read("loop", |leaf| leaf.one_of("loop", None)).or(Pacing::Open);
        let placement = fields.read("placement", |leaf| leaf.one_of("placement", nodes)).or(Placement::Roam);
        let timeout = fields.read("timeout", |leaf| leaf.duration(MILLISECOND)).or(Duration::from_secs(1));
        let connections = fields.read("connections", |leaf| leaf.whole_u32(1..=CONNECTIONS_MAX)).or(2);
        let mix = fields.node("mix").map(|(_, value)| value);
        self.problems.append(&mut fields.problems);
        let mix = match mix {
            Some(node) => self.mix(node),
            None => Some(Mix { read: 50, write: 35, cas: 15 }),
        };
        Some(Workload {
            kind: kind?.value,
            clients: clients?.value,
            keys: keys?.value,
            rate: rate?.value,
            pacing: pacing?.value,
            placement: placement?.value,
            timeout: timeout?.value,
            connections: connections?.value,
            mix: mix?,
        })
    }

    /// A kind that a written mix leaves out has no share: `mix: { read: 1 }` only reads.
    fn mix(&mut self, node: &Node) -> Option<Mix> {
        let mut fields = self.fields(node, MIX)?;
        let mut share = |key| fields.read(key, |leaf| leaf.whole_u32(0..=SHARE_MAX)).or(0);
        let (read, write, cas) = (share("read"), share("write"), share("cas"));
        if [&read, &write, &cas].iter().all(|share| matches!(share, Some(Located { value: 0, .. })))
            && !fields.has_unknown
        {
            let problem = Problem::at(node.first_line(self.text), "a mix of nothing");
            fields.problem(problem.label("expected one of `read`, `write`, `cas` above 0"));
        }
        self.problems.append(&mut fields.problems);
        Some(Mix { read: read?.value, write: write?.value, cas: cas?.value })
    }

    fn faults(&mut self, node: Option<&Node>, bounds: &Bounds) -> Option<Vec<FaultRule>> {
        let Some(node) = node else { return Some(Vec::new()) };
        let Value::Sequence(lines) = &node.value else {
            let title = format!("`faults` is {}", node.description());
            let problem = Problem::at(node.first_line(self.text), title);
            self.problems
                .push(*problem.label("expected a list of lines such as `- { at: 5s, kill: leader }`"));
            return None;
        };
        // Each line is read, and only then is it asked whether all were right.
        let rules: Vec<_> =
            lines.iter().map(|line| rules::read(line, self.text, bounds, self.problems)).collect();
        rules.into_iter().collect()
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
            fields.problem(problem.label("expected at most `rate` times `duration`"));
        }
        let ok_min = ok_min.or(1);
        let leader_changes_min = fields.read("leader-changes-min", |leaf| leaf.whole(0..=u64::MAX)).or(0);
        let recovers_within =
            fields.read("recovers-within", |leaf| leaf.duration(MILLISECOND)).or(Duration::from_secs(10));
        self.problems.append(&mut fields.problems);
        Some(Expect {
            ok_min: ok_min?.value,
            leader_changes_min: leader_changes_min?.value,
            recovers_within: recovers_within?.value,
        })
    }

    fn fields<'n>(&mut self, node: &'n Node, section: Section) -> Option<Fields<'n>>
    where
        'a: 'n,
    {
        keep(Fields::of(node, self.text, section.name, section.keys), self.problems)
    }
}
