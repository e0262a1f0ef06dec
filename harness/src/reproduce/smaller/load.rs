//! Lighter: fewer clients, operations, keys and kinds of operations; fewer nodes.
//!
//! In: a scenario. Out: the same with one number less. Never: two at once.

use super::Smaller;
use crate::scenario::{Particular, Scenario};

/// Below this a load says nothing: the last reads alone are more.
const RATE_MIN: u32 = 5;

/// What else a load can have less of, by its words in YAML; a smaller one of the others is not simpler.
const COUNTED: [&str; 3] = ["keys", "accounts", "operations"];

/// The least comes first, and then the half.
fn less(number: u32, least: u32) -> impl Iterator<Item = u32> {
    let half = Some(number / 2).filter(|half| *half > least);
    std::iter::once(least).chain(half).filter(move |less| *less < number)
}

pub fn lighter(scenario: &Scenario) -> Vec<Smaller> {
    let mut all = Vec::new();
    let workload = &scenario.workload;
    let mut push = |how: String, change: &dyn Fn(&mut Scenario)| {
        let mut lighter = scenario.clone();
        change(&mut lighter);
        let place = all.len();
        all.push(Smaller { scenario: lighter, how, place });
    };
    for clients in less(workload.clients, 1) {
        push(format!("with {clients} clients"), &|it| it.workload.clients = clients);
    }
    for rate in less(workload.rate, RATE_MIN) {
        push(format!("with {rate} operations a second"), &|it| it.workload.rate = rate);
    }
    for Particular { word, value, least, is_share } in workload.kind.particulars() {
        if is_share && value > 0 {
            push(format!("without {word}"), &|it| it.workload.kind.set(word, 0));
        } else if COUNTED.contains(&word) {
            for number in less(value, least) {
                push(format!("with {number} {word}"), &|it| it.workload.kind.set(word, number));
            }
        }
    }
    for connections in less(workload.connections, 1) {
        push(format!("with {connections} connections"), &|it| it.workload.connections = connections);
    }
    all
}

/// Only where nothing names one that is no more: no such scenario can be written.
pub fn fewer_nodes(scenario: &Scenario) -> Vec<Smaller> {
    let (nodes, spares) = (scenario.cluster.nodes, scenario.cluster.spares);
    let voters = [3, nodes.saturating_sub(1)].into_iter().filter(|fewer| (1..nodes).contains(fewer));
    let mut sizes: Vec<(u32, u32)> = voters.map(|fewer| (fewer, spares)).collect();
    sizes.extend(less(spares, 0).map(|fewer| (nodes, fewer)));
    sizes.dedup();
    let sized = |(place, (nodes, spares)): (usize, (u32, u32))| {
        let mut fewer = scenario.clone();
        (fewer.cluster.nodes, fewer.cluster.spares) = (nodes, spares);
        Smaller { scenario: fewer, how: format!("with {nodes} nodes and {spares} spares"), place }
    };
    (0..).zip(sizes).map(sized).collect()
}
