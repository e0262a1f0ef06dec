//! A run in one line, for programs that go over many.

use crate::check::{Overall, Results, Status};

/// `violated scenario=quickstart seed=7 ops=2091 ok=1968 faults=4 violated=vote-once,durability unknown=-`
pub fn line(results: &Results) -> String {
    let overall = match results.overall {
        Overall::Holds => "holds",
        Overall::Violated => "violated",
        Overall::Unknown => "unknown",
        Overall::HarnessFailed => "harness-failed",
    };
    let named = |status| {
        let those = results.checks.iter().filter(|check| check.verdict.status == status);
        let names: Vec<&str> = those.map(|check| check.name.as_str()).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(",") }
    };
    let numbers = &results.numbers;
    let faults: u64 = numbers.faults.values().map(|strikes| strikes.installed).sum();
    format!(
        "{overall} scenario={} seed={} ops={} ok={} faults={faults} violated={} unknown={}",
        results.scenario,
        results.seed,
        numbers.operations(),
        numbers.ok(),
        named(Status::Violated),
        named(Status::Unknown),
    )
}
