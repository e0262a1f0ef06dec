//! Writes a scenario as YAML, with every default spelled out: what a run folder keeps.
//!
//! In: a [`Scenario`]. Out: text that reads as the same scenario. Never: a default left out.

use std::fmt;

use humantime::format_duration as show;

use super::kinds::Field;
use super::limits::NONE;
use super::{
    After, Choice, Deed, Fault, Faults, Move, On, Phase, Phases, Rule, Scenario, Schedule, Script, Trigger,
    Weighted, WorkloadKind,
};

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
        writeln!(f, "  segment-bytes: {}", cluster.segment_bytes)?;
        writeln!(f, "  leases: {}", cluster.leases)?;
        writeln!(f, "  disks: {}", cluster.disks)?;
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
        match faults {
            Faults::Swarm => writeln!(f, "faults: swarm")?,
            Faults::Rules(rules) => {
                writeln!(f, "faults:{}", if rules.is_empty() { " []" } else { "" })?;
                for rule in rules {
                    writeln!(f, "  - {rule}")?;
                }
            }
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
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Strike { schedule, choice } => write!(f, "{{ {schedule}, {choice} }}"),
            Rule::Trigger(Trigger { at, on, after, times, choice }) => {
                write!(f, "{{ at: {}, {on}, after: {after}, times: {times}, {choice} }}", show(*at))
            }
            Rule::Phases(Phases { at, times, phases }) => {
                write!(f, "{{ at: {}, times: {times}, phases: [{}] }}", show(*at), listed(phases))
            }
            Rule::Script(script) => {
                let Script { at, times, rounds } = script;
                write!(f, "{{ at: {}, times: {times}, ", show(*at))?;
                match script.has_rounds() {
                    false => write!(f, "steps: [{}] }}", listed(rounds.iter().flatten())),
                    true => {
                        let rounds = rounds.iter().map(|moves| format!("[{}]", listed(moves)));
                        write!(f, "rounds: [{}] }}", listed(rounds))
                    }
                }
            }
        }
    }
}

fn listed(items: impl IntoIterator<Item: fmt::Display>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schedule::At(at) => write!(f, "at: {}", show(*at)),
            Schedule::Every { interval, jitter_percent } => {
                write!(f, "every: {}, jitter: {jitter_percent}%", show(*interval))
            }
            Schedule::Between { least, most } => write!(f, "every: {} to {}", show(*least), show(*most)),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::One(fault) => fault.fmt(f),
            Choice::Any(any) => write!(f, "any: [{}]", listed(any)),
        }
    }
}

impl fmt::Display for Weighted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{ weight: {}, {} }}", self.weight, self.fault)
    }
}

/// Its keys, without the line around them.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.target)?;
        for term in { self.manner }.terms() {
            write!(f, ", {}: {term}", term.key())?;
        }
        if let Some((form, hold)) = self.kind.form().hold.as_ref().zip(self.hold) {
            write!(f, ", {}: {}", form.key, show(hold))?;
        }
        match self.draw {
            Some(draw) => write!(f, ", draw: {draw}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on: {}", self.fact)?;
        if let Some(by) = self.by {
            write!(f, " by {by}")?;
        }
        match self.within {
            Some(within) => write!(f, ", within: {}", show(within)),
            None => f.write_str(", within: end"),
        }
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_drawn() {
            false => write!(f, "{}", show(self.least)),
            true => write!(f, "{} to {}", show(self.least), show(self.most)),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{ for: {}, parallel: [{}] }}", show(self.length), listed(&self.parallel))
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.map(|name| format!("name: {name}"));
        let on = self.on.map(|on| on.to_string());
        let after = format!("after: {}", self.after);
        let deed = match &self.deed {
            Deed::Strike(fault) => Some(fault.to_string()),
            Deed::Heal(heal) => Some(format!("heal: {heal}")),
            Deed::Wait => None,
        };
        write!(f, "{{ {} }}", listed([name, on, Some(after), deed].into_iter().flatten()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
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
        let sizes = (1..=SIZE_MAX, 1..=SIZE_MAX, 1..=SIZE_MAX, 1..=SIZE_MAX, any::<bool>());
        (size, times, sizes).prop_map(|((nodes, spares), (election, heartbeat), sizes)| {
            let (compact_entries, compact_bytes, snapshot_rate, segment_bytes, leases) = sizes;
            Cluster {
                nodes,
                spares,
                election_timeout: Duration::from_millis(election),
                heartbeat: Duration::from_millis(heartbeat),
                compact_entries,
                compact_bytes,
                snapshot_rate,
                segment_bytes,
                leases,
                // It fits whatever faults there are.
                disks: Disks::Simulated,
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

    /// Every kind of fault with whatever it can be done to.
    fn deeds(nodes: u32, spares: u32) -> Arc<[(&'static FaultForm, Whom)]> {
        let all = links(nodes + spares);
        let fits = |form: &'static FaultForm| -> Vec<_> {
            let words = form.targets.iter().copied().filter(|target| target.size(nodes, spares) > 0);
            let named = (1..=nodes + spares).map(Target::Node);
            let targets = words.chain(named).filter(|_| !form.needs_spare() || spares > 0);
            let of_nodes = targets.map(Whom::Nodes).filter(|_| form.links.is_none());
            let links = form.links.into_iter().flat_map(|takes| {
                all.iter().copied().filter(move |links| takes.allows(*links, nodes, spares))
            });
            of_nodes.chain(links.map(Whom::Links)).map(|whom| (form, whom)).collect()
        };
        FAULT_FORMS.iter().flat_map(fits).collect()
    }

    fn deed(room: &Room) -> impl Strategy<Value = (&'static FaultForm, Whom)> + use<> {
        let deeds = Arc::clone(&room.deeds);
        any::<proptest::sample::Index>().prop_map(move |index| deeds[index.index(deeds.len())])
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
                Term::Count { value, range, .. } => {
                    *value = range.start() + draw as u32 % (range.end() - range.start() + 1);
                }
                Term::Word { value, .. } => value.set(draw as usize % value.words().len()),
                Term::Rate { value, range, .. } => *value = range.start() + draw as u32 % range.end(),
            }
        }
        if let (Some(_), Manner::JumpClock { direction, .. }) = (manner.contradiction(), &mut manner) {
            *direction = Direction::Forward;
        }
        if let (Some(_), Manner::DriftClock { rate_percent, .. }) = (manner.contradiction(), &mut manner) {
            *rate_percent += 1;
        }
        manner
    }

    /// Where rules are: how many nodes there are, and for how long the load or the phase goes on.
    #[derive(Clone)]
    struct Room {
        nodes: u32,
        spares: u32,
        duration_ms: u64,
        deeds: Arc<[(&'static FaultForm, Whom)]>,
    }

    /// Of any kind, with a hold that fits; `special` may be its target instead.
    fn fault(room: &Room, special: Vec<Target>) -> impl Strategy<Value = Fault> + use<> {
        let alone = room.nodes + room.spares < 2;
        let hold = duration(1, (room.duration_ms / 2).max(2));
        let draw = proptest::option::weighted(0.2, any::<u64>());
        let special = proptest::option::weighted(0.3, proptest::sample::select(special_or_all(special)));
        (deed(room), special, hold, vec(any::<u32>(), 3), draw).prop_map(
            move |((form, target), special, hold, draws, draw)| {
                let hold = if form.hold.is_some() { hold } else { Duration::ZERO };
                let target = match (special, form.links) {
                    (None, _) => target,
                    (_, Some(_)) if alone => target,
                    (Some(special), None) => Whom::Nodes(special),
                    (Some(special), Some(takes)) => {
                        let (from, to) = (Side::Nodes(special), Side::Others);
                        let arrow = Links::Between { from, to, both_ways: false };
                        let links = if takes == LinksForm::Of { Links::Of(special) } else { arrow };
                        Whom::Links(links)
                    }
                };
                let manner = manner(form.manner, &draws);
                Fault { kind: form.kind, target, manner, hold: Some(hold), draw }
            },
        )
    }

    fn special_or_all(special: Vec<Target>) -> Vec<Target> {
        if special.is_empty() { vec![Target::Node(1)] } else { special }
    }

    fn choice(room: &Room, special: Vec<Target>) -> impl Strategy<Value = Choice> + use<> {
        let weighted = (1..=rules::WEIGHT_MAX, fault(room, special.clone()))
            .prop_map(|(weight, fault)| Weighted { weight, fault: Fault { draw: None, ..fault } });
        let any = vec(weighted, 1..4).prop_map(Choice::Any);
        prop_oneof![3 => fault(room, special).prop_map(Choice::One), 1 => any]
    }

    fn strike(room: &Room) -> impl Strategy<Value = Rule> + use<> {
        let Room { duration_ms, .. } = *room;
        let least = duration_ms.div_ceil(50);
        let half = duration_ms.div_ceil(2);
        let schedule = prop_oneof![
            duration(0, half).prop_map(Schedule::At),
            (duration(least, half), 0..=100_u32)
                .prop_map(|(interval, jitter_percent)| Schedule::Every { interval, jitter_percent }),
            (duration(least, half), duration(0, half - 1))
                .prop_map(|(least, more)| Schedule::Between { least, most: least + more }),
        ];
        (schedule, choice(room, Vec::new())).prop_map(|(schedule, choice)| Rule::Strike { schedule, choice })
    }

    fn after() -> impl Strategy<Value = After> {
        let micros = |below: u64| (0..below).prop_map(Duration::from_micros);
        let drawn =
            (micros(3_000), micros(10_000)).prop_map(|(least, more)| After { least, most: least + more });
        prop_oneof![Just(After::NOTHING), drawn]
    }

    fn on(nodes: u32, who: Vec<By>) -> impl Strategy<Value = On> {
        let words = Fact::WORDS.iter().map(|(_, fact)| *fact).collect::<Vec<_>>();
        let fact = prop_oneof![
            proptest::sample::select(words),
            (1..=u64::MAX).prop_map(Fact::Commit),
            (1..=u64::MAX).prop_map(Fact::CommitMore),
        ];
        let node = (1..=nodes).prop_map(By::Node);
        let who = if who.is_empty() { node.boxed() } else { proptest::sample::select(who).boxed() };
        let within = proptest::option::of(duration(1, 100_000));
        (fact, proptest::option::of(who), within).prop_map(|(fact, by, within)| On { fact, by, within })
    }

    fn trigger(room: &Room) -> impl Strategy<Value = Rule> + use<> {
        let at = duration(0, room.duration_ms / 3);
        (at, on(room.nodes, Vec::new()), after(), 1..=5_u32, choice(room, vec![Target::It])).prop_map(
            |(at, on, after, times, choice)| Rule::Trigger(Trigger { at, on, after, times, choice }),
        )
    }

    /// A leader is held and named; somebody else is waited for; and so on.
    fn round(room: &Room) -> impl Strategy<Value = Vec<Move>> + use<> {
        let old: Name = "old".parse().unwrap();
        let first =
            fault(room, Vec::new()).prop_filter("it is healed", |fault| fault.kind.form().hold.is_some());
        let held = first.prop_map(move |fault| Move {
            name: Some(old),
            on: None,
            after: After::NOTHING,
            deed: Deed::Strike(Fault { hold: None, ..fault }),
        });
        let special = vec![Target::It, Target::Named(old)];
        let struck = (on(room.nodes, vec![By::Other, By::Named(old)]), after(), fault(room, special))
            .prop_map(|(on, after, fault)| {
                let on = Some(on);
                Move { name: Some("new".parse().unwrap()), on, after, deed: Deed::Strike(fault) }
            });
        let wait = (on(room.nodes, vec![By::Other]), after());
        let wait = wait.prop_map(|(on, after)| Move { name: None, on: Some(on), after, deed: Deed::Wait });
        let seen = on(room.nodes, vec![By::Other]).prop_map(|on| Move {
            name: Some("seen".parse().unwrap()),
            on: Some(on),
            after: After::NOTHING,
            deed: Deed::Wait,
        });
        let heal = prop_oneof![Just(Heal::All), Just(Heal::Named(old))];
        let heal = (heal, after());
        let heal =
            heal.prop_map(|(heal, after)| Move { name: None, on: None, after, deed: Deed::Heal(heal) });
        let rest = vec(prop_oneof![wait, heal], 0..3);
        (held, proptest::option::of(seen), proptest::option::of(struck), rest).prop_map(
            |(held, seen, struck, rest)| [held].into_iter().chain(seen).chain(struck).chain(rest).collect(),
        )
    }

    fn script(room: &Room) -> impl Strategy<Value = Rule> + use<> {
        let rounds = prop_oneof![vec(round(room), 1), vec(round(room), 2..3)];
        (duration(0, room.duration_ms / 2), 1..=3_u32, rounds)
            .prop_map(|(at, times, rounds)| Rule::Script(Script { at, times, rounds }))
    }

    /// All but phases.
    fn plain(room: &Room) -> impl Strategy<Value = Rule> + use<> {
        prop_oneof![3 => strike(room), 1 => trigger(room), 1 => script(room)]
    }

    fn phases(room: &Room, depth: usize) -> BoxedStrategy<Rule> {
        let inner = Room { duration_ms: room.duration_ms / 8, ..room.clone() };
        let rule = match depth {
            1 => plain(&inner).boxed(),
            _ => prop_oneof![3 => plain(&inner), 1 => phases(&inner, depth - 1)].boxed(),
        };
        let length = Duration::from_millis(inner.duration_ms);
        let phase = vec(rule, 0..3).prop_map(move |parallel| Phase { length, parallel });
        (duration(0, room.duration_ms / 4), 1..=2_u32, vec(phase, 1..=3))
            .prop_map(|(at, times, phases)| Rule::Phases(Phases { at, times, phases }))
            .boxed()
    }

    /// What lasts beyond the end by its own time is shortened.
    fn fitting(rule: Rule, duration: Duration) -> Rule {
        let shortened = |choice: Choice, at: Duration| {
            let fits = |fault: Fault| {
                let hold = fault.hold.map(|hold| hold.min(duration - at));
                Fault { hold, ..fault }
            };
            match choice {
                Choice::One(fault) => Choice::One(fits(fault)),
                Choice::Any(any) => {
                    let any = any.into_iter();
                    Choice::Any(any.map(|one| Weighted { fault: fits(one.fault), ..one }).collect())
                }
            }
        };
        match rule {
            Rule::Strike { schedule: Schedule::At(at), choice } => {
                Rule::Strike { schedule: Schedule::At(at), choice: shortened(choice, at) }
            }
            Rule::Trigger(trigger) => {
                let choice = shortened(trigger.choice, trigger.at + trigger.after.least);
                Rule::Trigger(Trigger { choice, ..trigger })
            }
            Rule::Phases(all) => {
                let phases = all.phases.into_iter().map(|Phase { length, parallel }| {
                    let parallel = parallel.into_iter().map(|rule| fitting(rule, length)).collect();
                    Phase { length, parallel }
                });
                Rule::Phases(Phases { phases: phases.collect(), ..all })
            }
            other => other,
        }
    }

    fn rule(room: &Room) -> impl Strategy<Value = Rule> + use<> {
        let rule = prop_oneof![4 => plain(room), 1 => phases(room, rules::DEPTH_MAX)];
        let duration = Duration::from_millis(room.duration_ms);
        rule.prop_map(move |rule| fitting(rule, duration))
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
        (cluster(), 20_000..10_000_000_u64).prop_flat_map(|(cluster, duration_ms)| {
            let words = ("[a-z0-9][a-z0-9-]{0,20}", "[!-~é≥]([ -~é≥]{0,40}[!-~é≥])?");
            let (nodes, spares) = (cluster.nodes, cluster.spares);
            let room = Room { nodes, spares, duration_ms, deeds: deeds(nodes, spares) };
            let rules = prop_oneof![
                9 => vec(rule(&room), 0..5).prop_map(Faults::Rules),
                1 => Just(Faults::Swarm),
            ];
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
        fn every_planned_step_is_before_the_end_and_every_fault_may_strike(scenario in scenario(), seed: u64) {
            let end = scenario.duration.as_nanos() as u64;
            let plan = Plan::of(&scenario, seed);
            prop_assert!(plan.steps.is_sorted_by_key(|step| step.at));
            prop_assert!(plan.steps.iter().all(|step| step.at < end));
            for rule in scenario.drawn(seed) {
                let is_planned = |fault: &&Fault| {
                    let target = fault.target.to_string();
                    plan.steps.iter().any(|step| step.fault() == Some((fault.kind, &*target)))
                };
                let struck = rule.faults().into_iter().filter(is_planned).count();
                let expected = match &rule {
                    Rule::Strike { .. } | Rule::Trigger(_) => 1,
                    _ => rule.faults().len().min(1),
                };
                prop_assert!(struck >= expected, "{rule}");
            }
        }

        #[test]
        fn a_plan_reads_back_as_it_was_written(scenario in scenario(), seed: u64) {
            let plan = Plan::of(&scenario, seed);
            prop_assert_eq!(Plan::from_jsonl("plan.jsonl", &plan.to_jsonl()).unwrap(), plan);
        }

        #[test]
        fn the_rules_of_a_plan_make_that_plan_under_every_seed(scenario in scenario(), seed: u64, other: u64) {
            let mut plan = Plan::of(&scenario, seed);
            let pinned = Scenario { faults: Faults::Rules(plan.rules()), ..scenario };
            let yaml = pinned.to_yaml();
            match Scenario::parse("pinned.yaml", &yaml) {
                Ok(read) => prop_assert_eq!(&read, &pinned),
                Err(error) => prop_assert!(false, "{error}\nin\n{yaml}"),
            }
            // What YAML can say.
            for step in &mut plan.steps {
                step.at -= step.at % 1_000_000;
            }
            prop_assert_eq!(Plan::of(&pinned, other), plan);
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
  segment-bytes: 8388608
  leases: false
  disks: plain
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
