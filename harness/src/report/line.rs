//! A run in one line, for programs that go over many.

use std::collections::BTreeMap;

use crate::check::measured::Times;
use crate::check::{Overall, Results, Status};

/// `violated scenario=quickstart seed=7 ops=2091 ok=1968 faults=4 violated=vote-once,durability unknown=- leaders=3
/// service=98.71 gap=0.412 serves=kill:0.733 heals=kill:0.004`, all in one: the share of service in percent, and in
/// seconds its longest gap and the worst time to the first success by kind of fault, with a `+` when none came.
pub fn line(results: &Results) -> String {
    let overall = match results.overall {
        Overall::Holds => "holds",
        Overall::Violated => "violated",
        Overall::Unknown => "unknown",
        Overall::HarnessFailed => "harness-failed",
        Overall::Skipped => "skipped",
    };
    let named = |status| {
        let those = results.checks.iter().filter(|check| check.verdict.status == status);
        let names: Vec<&str> = those.map(|check| check.name.as_str()).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(",") }
    };
    let numbers = &results.numbers;
    let faults: u64 = numbers.faults.values().map(|strikes| strikes.installed).sum();
    let service = numbers.service.as_ref();
    let number = |number: Option<f64>, digits| number.map_or("-".to_owned(), |it| format!("{it:.digits$}"));
    format!(
        "{overall} scenario={} seed={} ops={} ok={} faults={faults} violated={} unknown={} leaders={} service={} \
         gap={} serves={} heals={}",
        results.scenario,
        results.seed,
        numbers.operations(),
        numbers.ok(),
        named(Status::Violated),
        named(Status::Unknown),
        numbers.leader_changes.saturating_add(1),
        number(service.and_then(|service| service.service_percent), 2),
        number(service.and_then(|service| service.longest_gap_seconds), 3),
        worst(service.map(|service| &service.struck)),
        worst(service.map(|service| &service.healed)),
    )
}

fn worst(kinds: Option<&BTreeMap<String, Times>>) -> String {
    let told = |(kind, times): (&String, &Times)| {
        let open = if times.in_vain { "+" } else { "" };
        times.worst.map(|worst| format!("{kind}:{worst:.3}{open}"))
    };
    let told: Vec<String> = kinds.into_iter().flatten().filter_map(told).collect();
    if told.is_empty() { "-".to_owned() } else { told.join(",") }
}
