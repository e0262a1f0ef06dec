//! Writes a scenario as YAML, with every default spelled out: what a run folder keeps.
//!
//! In: a [`Scenario`]. Out: text that reads as the same scenario. Never: a default left out.

use std::fmt;

use humantime::format_duration as show;

use super::kinds::Field;
use super::limits::NONE;
use super::{FaultRule, Scenario, Schedule, WorkloadKind};

impl Scenario {
    pub fn to_yaml(&self) -> String {
        Yaml(self).to_string()
    }
}

struct Yaml<'a>(&'a Scenario);

impl fmt::Display for Yaml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { name, claim, cluster, duration, workload, keep, faults, expect } = self.0;
        writeln!(f, "# {claim}")?;
        writeln!(f, "name: {name}")?;
        writeln!(f, "duration: {}", show(*duration))?;
        writeln!(f, "cluster:")?;
        writeln!(f, "  nodes: {}", cluster.nodes)?;
        writeln!(f, "  spares: {}", cluster.spares)?;
        writeln!(f, "  election-timeout: {}", show(cluster.election_timeout))?;
        writeln!(f, "  heartbeat: {}", show(cluster.heartbeat))?;
        writeln!(f, "  compact-entries: {}", cluster.compact_entries)?;
        writeln!(f, "  compact-bytes: {}", cluster.compact_bytes)?;
        writeln!(f, "  snapshot-rate: {}", cluster.snapshot_rate)?;
        writeln!(f, "  leases: {}", cluster.leases)?;
        writeln!(f, "workload:")?;
        writeln!(f, "  kind: {}", workload.kind)?;
        writeln!(f, "  clients: {}", workload.clients)?;
        writeln!(f, "  rate: {}", workload.rate)?;
        writeln!(f, "  loop: {}", workload.pacing)?;
        writeln!(f, "  placement: {}", workload.placement)?;
        writeln!(f, "  timeout: {}", show(workload.timeout))?;
        writeln!(f, "  connections: {}", workload.connections)?;
        particulars(f, workload.kind)?;
        writeln!(f, "keep: {keep}")?;
        writeln!(f, "faults:{}", if faults.is_empty() { " []" } else { "" })?;
        for rule in faults {
            writeln!(f, "  - {rule}")?;
        }
        writeln!(f, "expect:")?;
        writeln!(f, "  ok-min: {}", expect.ok_min)?;
        writeln!(f, "  leader-changes-min: {}", expect.leader_changes_min)?;
        let most = expect.leader_changes_max.map_or(NONE.to_owned(), |most| most.to_string());
        writeln!(f, "  leader-changes-max: {most}")?;
        writeln!(f, "  snapshots-installed-min: {}", expect.snapshots_installed_min)?;
        writeln!(f, "  config-changes-min: {}", expect.config_changes_min)?;
        writeln!(f, "  recovers-within: {}", show(expect.recovers_within))?;
        writeln!(f, "  serves-within: {}", expect.serves_within)?;
        writeln!(f, "  heals-within: {}", expect.heals_within)?;
        writeln!(f, "  service-min: {}%", expect.service_min_percent)
    }
}

/// What only this kind of load has.
fn particulars(f: &mut fmt::Formatter<'_>, mut kind: WorkloadKind) -> fmt::Result {
    let mut shares = Vec::new();
    for field in kind.fields() {
        match field {
            Field::Number { key, value, .. } => writeln!(f, "  {key}: {value}")?,
            Field::Time { key, value, .. } => writeln!(f, "  {key}: {}", show(*value))?,
            Field::Share { word, value } => shares.push(format!("{word}: {value}")),
        }
    }
    if shares.is_empty() { Ok(()) } else { writeln!(f, "  mix: {{ {} }}", shares.join(", ")) }
}

/// As a line under `faults:`.
impl fmt::Display for FaultRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.schedule {
            Schedule::At(at) => write!(f, "{{ at: {}", show(at))?,
            Schedule::Every { interval, jitter_percent } => {
                write!(f, "{{ every: {}, jitter: {jitter_percent}%", show(interval))?;
            }
        }
        write!(f, ", {}: {}", self.kind, self.target)?;
        for term in { self.manner }.terms() {
            write!(f, ", {}: {term}", term.key())?;
        }
        if let Some(hold) = &self.kind.form().hold {
            write!(f, ", {}: {}", hold.key, show(self.hold))?;
        }
        f.write_str(" }")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::kinds::{Field, SHARE_MAX};
    use super::super::manner::Term;
    use super::super::read::{CLIENTS_MAX, CONNECTIONS_MAX, NODES_MAX, RATE_MAX, SIZE_MAX};
    use super::super::words::{FAULT_FORMS, FaultForm, Words};
    use super::super::*;

    /// From `least` to `below`, in milliseconds.
    fn duration(least: u64, below: u64) -> impl Strategy<Value = Duration> {
        (least..below).prop_map(Duration::from_millis)
    }

    fn cluster() -> impl Strategy<Value = Cluster> {
        let size = (1..=NODES_MAX).prop_flat_map(|nodes| (Just(nodes), 0..=NODES_MAX - nodes));
        let times = (2..60_000_u64).prop_flat_map(|election| (Just(election), 1..election));
        let sizes = (1..=SIZE_MAX, 1..=SIZE_MAX, 1..=SIZE_MAX, any::<bool>());
        (size, times, sizes).prop_map(|((nodes, spares), (election, heartbeat), sizes)| {
            let (compact_entries, compact_bytes, snapshot_rate, leases) = sizes;
            Cluster {
                nodes,
                spares,
                election_timeout: Duration::from_millis(election),
                heartbeat: Duration::from_millis(heartbeat),
                compact_entries,
                compact_bytes,
                snapshot_rate,
                leases,
            }
        })
    }

    /// Any kind, with each of its fields drawn from all that it may be.
    fn kind() -> impl Strategy<Value = WorkloadKind> {
        let kinds: Vec<WorkloadKind> = WorkloadKind::WORDS.iter().map(|(_, kind)| *kind).collect();
        (proptest::sample::select(kinds), vec(any::<u32>(), 8)).prop_map(|(mut kind, draws)| {
            for (field, draw) in kind.fields().into_iter().zip(draws) {
                match field {
                    Field::Number { value, range, .. } => {
                        *value = range.start() + draw % (range.end() - range.start() + 1);
                    }
                    Field::Time { value, most, .. } => {
                        *value = Duration::from_millis(u64::from(draw) % (most.as_millis() as u64 + 1));
                    }
                    Field::Share { value, .. } => *value = 1 + draw % SHARE_MAX,
                }
            }
            kind
        })
    }

    fn workload(nodes: u32) -> impl Strategy<Value = Workload> {
        let placement = prop_oneof![
            Just(Placement::Roam),
            Just(Placement::Leader),
            Just(Placement::Pinned),
            (1..=nodes).prop_map(Placement::Node),
        ];
        let counts = (1..=CLIENTS_MAX, 1..=RATE_MAX, 1..=CONNECTIONS_MAX);
        let pacing = prop_oneof![Just(Pacing::Open), Just(Pacing::Closed)];
        (kind(), counts, pacing, placement, duration(1, 100_000)).prop_map(
            |(kind, (clients, rate, connections), pacing, placement, timeout)| Workload {
                kind,
                clients,
                rate,
                pacing,
                placement,
                timeout,
                connections,
            },
        )
    }

    /// A kind of fault with what it can be done to.
    fn deed(nodes: u32, spares: u32) -> impl Strategy<Value = (&'static FaultForm, Whom)> {
        let fits = move |form: &'static FaultForm| {
            let words = form.targets.iter().copied().filter(move |target| target.size(nodes, spares) > 0);
            let named = (1..=nodes + spares).map(Target::Node);
            let targets = words.chain(named).filter(move |_| !form.needs_spare() || spares > 0);
            let of_nodes = targets.map(Whom::Nodes).filter(|_| form.links.is_none());
            let links = form.links.into_iter().flat_map(move |takes| {
                links(nodes + spares).into_iter().filter(move |links| takes.allows(*links, nodes, spares))
            });
            of_nodes.chain(links.map(Whom::Links)).map(move |whom| (form, whom))
        };
        proptest::sample::select(FAULT_FORMS.iter().flat_map(fits).collect::<Vec<_>>())
    }

    /// Whatever can be written, right or not.
    fn links(nodes: u32) -> Vec<Links> {
        let named = [1, nodes].map(Target::Node);
        let targets: Vec<Target> = Target::WORDS.iter().map(|(_, target)| *target).chain(named).collect();
        let targets = targets.into_iter().filter(|target| *target != Target::Snapshotting);
        let sides: Vec<Side> =
            [Side::Clients, Side::Others].into_iter().chain(targets.clone().map(Side::Nodes)).collect();
        let mut all: Vec<Links> = Shape::WORDS.iter().map(|(_, shape)| Links::Shape(*shape)).collect();
        all.extend(targets.map(Links::Of));
        for &from in &sides {
            let to = sides.iter().flat_map(|to| [(*to, true), (*to, false)]);
            all.extend(to.map(|(to, both_ways)| Links::Between { from, to, both_ways }));
        }
        all
    }

    /// With each term drawn from all that it may be.
    fn manner(mut manner: Manner, draws: &[u32]) -> Manner {
        for (term, draw) in manner.terms().into_iter().zip(draws) {
            let draw = u64::from(*draw);
            match term {
                Term::Time { value, most, .. } => {
                    *value = Duration::from_millis(1 + draw % most.as_millis() as u64);
                }
                Term::Percent { value, most, .. } => *value = draw as u32 % (most + 1),
                Term::Size { value, most, .. } => *value = 1 + draw % most,
                Term::Heal { value, .. } => {
                    *value = Healing::WORDS[draw as usize % Healing::WORDS.len()].1;
                }
                Term::Shape { value, .. } => {
                    *value = Distribution::WORDS[draw as usize % Distribution::WORDS.len()].1;
                }
            }
        }
        manner
    }

    fn rule(nodes: u32, spares: u32, duration_ms: u64) -> impl Strategy<Value = FaultRule> {
        let least = duration_ms.div_ceil(1_000);
        let schedule = prop_oneof![
            duration(0, duration_ms).prop_map(Schedule::At),
            (duration(least, duration_ms.div_ceil(2)), 0..=100_u32)
                .prop_map(|(interval, jitter_percent)| Schedule::Every { interval, jitter_percent }),
        ];
        (schedule, deed(nodes, spares), duration(1, 100_000), vec(any::<u32>(), 3)).prop_map(
            move |(schedule, (form, target), hold, draws)| {
                let hold = if form.hold.is_some() { hold } else { Duration::ZERO };
                // It is over when the scenario is.
                let schedule = match schedule {
                    Schedule::At(at) => {
                        Schedule::At(at.min(Duration::from_millis(duration_ms).saturating_sub(hold)))
                    }
                    every => every,
                };
                let hold = match schedule {
                    Schedule::At(at) => hold.min(Duration::from_millis(duration_ms) - at),
                    Schedule::Every { .. } => hold,
                };
                FaultRule { schedule, kind: form.kind, target, manner: manner(form.manner, &draws), hold }
            },
        )
    }

    fn limits() -> impl Strategy<Value = Limits> {
        let bound = |word| proptest::option::of(duration(1, 100_000)).prop_map(move |bound| (word, bound));
        limits::words().into_iter().map(bound).collect::<Vec<_>>().prop_map(|bounds| {
            let bounds = bounds.into_iter().filter_map(|(word, bound)| Some((word, bound?)));
            Limits { bounds: bounds.collect() }
        })
    }

    fn expect(duration_ms: u64) -> impl Strategy<Value = Expect> {
        let limits = (limits(), limits(), 0..=100_u32);
        let changes = (any::<u64>(), proptest::option::of(any::<u64>()));
        (1..=duration_ms, changes, vec(any::<u64>(), 2), duration(1, 100_000), limits).prop_map(
            |(ok_min, (one, other), least, recovers_within, (serves_within, heals_within, percent))| Expect {
                ok_min,
                leader_changes_min: other.map_or(one, |other| one.min(other)),
                leader_changes_max: other.map(|other| one.max(other)),
                snapshots_installed_min: least[0],
                config_changes_min: least[1],
                recovers_within,
                serves_within,
                heals_within,
                service_min_percent: percent,
            },
        )
    }

    fn scenario() -> impl Strategy<Value = Scenario> {
        (cluster(), 10_000..10_000_000_u64).prop_flat_map(|(cluster, duration_ms)| {
            let words = ("[a-z0-9][a-z0-9-]{0,20}", "[!-~é≥]([ -~é≥]{0,40}[!-~é≥])?");
            let rules = vec(rule(cluster.nodes, cluster.spares, duration_ms), 0..5);
            let expect = expect(duration_ms);
            let keep =
                proptest::sample::select(Keep::WORDS.iter().map(|(_, keep)| *keep).collect::<Vec<_>>());
            (words, Just(cluster.clone()), workload(cluster.nodes + cluster.spares), (keep, rules), expect)
                .prop_map(move |((name, claim), cluster, mut workload, (keep, faults), expect)| {
                    workload.rate = workload.rate.max(1_000);
                    let duration = Duration::from_millis(duration_ms);
                    Scenario { name, claim, cluster, duration, workload, keep, faults, expect }
                })
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_what_it_was(scenario in scenario()) {
            let yaml = scenario.to_yaml();
            match Scenario::parse("scenario.yaml", &yaml) {
                Ok(read) => prop_assert_eq!(read, scenario),
                Err(error) => prop_assert!(false, "{error}\nin\n{yaml}"),
            }
        }

        #[test]
        fn every_planned_step_is_before_the_end_and_every_rule_strikes(scenario in scenario(), seed: u64) {
            let end = scenario.duration.as_nanos() as u64;
            let plan = Plan::of(&scenario, seed);
            prop_assert!(plan.steps.is_sorted_by_key(|step| step.at));
            prop_assert!(plan.steps.iter().all(|step| step.at < end));
            for rule in &scenario.faults {
                let target = rule.target.to_string();
                prop_assert!(plan.steps.iter().any(|step| step.fault() == Some((rule.kind, &*target))));
            }
        }
    }

    #[test]
    fn every_default_is_spelled_out() {
        let text = "\
# A claim.
name: least
duration: 90s
workload: { kind: register }
faults:
  - { at: 1s, kill: n1 }
  - { at: 1s, cut: halves }
  - { at: 1s, flaky: n1 -> others }
  - { at: 1s, delay: leader, by: 50ms }
  - { at: 1s, throttle: clients <-> n1, rate: 64KiB }
";
        let yaml = Scenario::parse("least.yaml", text).unwrap().to_yaml();
        assert_eq!(
            yaml,
            "\
# A claim.
name: least
duration: 1m 30s
cluster:
  nodes: 3
  spares: 0
  election-timeout: 500ms
  heartbeat: 50ms
  compact-entries: 262144
  compact-bytes: 67108864
  snapshot-rate: 67108864
  leases: false
workload:
  kind: register
  clients: 6
  rate: 200
  loop: open
  placement: roam
  timeout: 1s
  connections: 2
  keys: 3
  mix: { read: 50, write: 35, cas: 15 }
keep: nothing
faults:
  - { at: 1s, kill: n1, down: 1s }
  - { at: 1s, cut: halves, heal: deliver, for: 2s }
  - { at: 1s, flaky: n1 -> others, flap: 200ms, heal: deliver, for: 2s }
  - { at: 1s, delay: leader, by: 50ms, spread: 0%, distribution: uniform, for: 2s }
  - { at: 1s, throttle: clients <-> n1, rate: 64KiB, for: 2s }
expect:
  ok-min: 1
  leader-changes-min: 0
  leader-changes-max: none
  snapshots-installed-min: 0
  config-changes-min: 0
  recovers-within: 10s
  serves-within: none
  heals-within: none
  service-min: 0%
"
        );
    }
}
