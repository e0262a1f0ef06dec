//! How fast a cluster is: a closed loop of clients that write, each with a session, and follow the leader.
//!
//! In: the arguments of `bench`. Out: writes a second, and how long they took. Never: a fault, a judgement, or a
//! time that was measured while things were still warming up.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use prost::bytes::Bytes;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::cli::{BenchArgs, Exit};
use crate::cluster::{Cluster, Layout, Wiring};
use crate::judging::failed;
use crate::system::call::Call;
use crate::system::client::{Failure, NodeClient, Ticket};
use crate::system::{Mkraft, Settings};

const WARM_UP: Duration = Duration::from_secs(1);
/// A cluster without faults has a leader long before.
const LEADER_LIMIT: Duration = Duration::from_secs(20);
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// After a failure, before the next request.
const PAUSE: Duration = Duration::from_millis(10);
const SETTINGS: Settings = Settings::timed(Duration::from_millis(500), Duration::from_millis(50));
/// Latencies beyond it count as this long; more than [`REQUEST_LIMIT`] cannot be.
const LATENCY_US_MAX: u64 = 60_000_000;

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    pub nodes: u32,
    pub clients: u32,
    pub value_bytes: u32,
    pub connections: u32,
    pub proxies: bool,
    pub events: bool,
    pub seconds: u32,
    pub operations: u64,
    /// Requests that failed; each was made again until it succeeded.
    pub errors: u64,
    pub operations_per_second: f64,
    pub slowest_second: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

pub fn run(args: &BenchArgs) -> io::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(measure(args));
    runtime.shutdown_background();
    let measured = match measured {
        Ok(measured) => measured,
        Err(error) => return failed(error.as_ref()),
    };
    let mut out = anstream::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&measured)?)?;
    } else {
        tell(&measured, &mut out)?;
    }
    Ok(if measured.operations > 0 { Exit::Holds } else { Exit::Unknown })
}

async fn measure(args: &BenchArgs) -> Result<Measured, Box<dyn std::error::Error>> {
    let system = Mkraft::find(args.node.as_deref()).await?;
    let mut builder = tempfile::Builder::new();
    builder.prefix("mkraft-bench-");
    let folder = match &args.dir {
        Some(dir) => builder.tempdir_in(dir)?,
        None => builder.tempdir()?,
    };
    let wiring = if args.proxies { Wiring::Linked } else { Wiring::Direct };
    let layout = Layout { events: args.events, ..Layout::new(args.nodes, SETTINGS, folder.path(), wiring) };
    let cluster = Cluster::start(system, &layout).await?;
    let led = cluster.leader_within(LEADER_LIMIT).await.is_some();
    let measured = if led { Ok(load(args, &cluster).await) } else { Err("the cluster elects no leader") };
    cluster.close().await?;
    Ok(measured?)
}

/// All clients, from their first session to their last write.
async fn load(args: &BenchArgs, cluster: &Cluster) -> Measured {
    let addresses: Vec<_> = cluster.client_addresses().into_iter().collect();
    let nodes = Arc::new(Nodes::new(&addresses, args.connections));
    let warm = Instant::now() + WARM_UP;
    let window = Window { begins: warm, ends: warm + Duration::from_secs(args.seconds.into()) };
    let mut clients = JoinSet::new();
    for client in 0..args.clients {
        clients.spawn(write_on(nodes.clone(), client, args.value_bytes as usize, window));
    }
    let mut tally = Tally::new(args.seconds);
    while let Some(ended) = clients.join_next().await {
        tally.add(&ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())));
    }
    tally.measured(args)
}

#[derive(Debug, Clone, Copy)]
struct Window {
    begins: Instant,
    ends: Instant,
}

struct Nodes {
    clients: Vec<NodeClient>,
    /// The one that is taken for the leader.
    leader: AtomicUsize,
}

/// What one client, or all, saw within the window.
struct Tally {
    latencies_us: Histogram<u64>,
    by_second: Vec<u64>,
    errors: u64,
}

/// One client: one write after the other until the window closes. A write counts when it ends within it.
async fn write_on(nodes: Arc<Nodes>, client: u32, value_bytes: usize, window: Window) -> Tally {
    let mut tally = Tally::new((window.ends - window.begins).as_secs() as u32);
    let key = Bytes::from(format!("bench-{client}"));
    // Not all alike, lest something on the way compresses it.
    let value: Bytes =
        (0..value_bytes).map(|at| (at as u8).wrapping_mul(31).wrapping_add(client as u8)).collect();
    let mut session = 0;
    let mut sequence = 0;
    loop {
        let began = Instant::now();
        if began >= window.ends {
            return tally;
        }
        let node = nodes.leader.load(Ordering::Relaxed);
        let link = &nodes.clients[node];
        let request = async {
            if session == 0 {
                return link.open_session().await.map(Some);
            }
            // A write that failed is made again under the same number.
            let ticket = Ticket { session, sequence: sequence + 1 };
            let put = Call::Put { key: key.clone(), value: value.clone() };
            link.ask(put, Some(ticket)).await.map(|_| None)
        };
        let reply = timeout(REQUEST_LIMIT, request).await;
        match reply.unwrap_or_else(|_| Err(Failure::timed_out(REQUEST_LIMIT))) {
            Ok(Some(opened)) => session = opened,
            Ok(None) => {
                sequence += 1;
                tally.count(began, Instant::now(), window);
            }
            Err(failure) => {
                tally.errors += u64::from(Instant::now() >= window.begins);
                nodes.turn(node, &failure);
                sleep(PAUSE).await;
            }
        }
    }
}

impl Nodes {
    fn new(addresses: &[(String, SocketAddr)], connections: u32) -> Nodes {
        let client = |(node, address): &(String, SocketAddr)| NodeClient::new(node, *address, connections);
        Nodes { clients: addresses.iter().map(client).collect(), leader: AtomicUsize::new(0) }
    }

    /// Away from a node that failed: to the one it names, or the next.
    fn turn(&self, failed: usize, failure: &Failure) {
        let named = failure.leader.as_deref();
        let named = named.and_then(|name| self.clients.iter().position(|client| client.node() == name));
        let next = named.unwrap_or((failed + 1) % self.clients.len());
        let _ = self.leader.compare_exchange(failed, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Tally {
    fn new(seconds: u32) -> Tally {
        let latencies_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order");
        Tally { latencies_us, by_second: vec![0; seconds as usize], errors: 0 }
    }

    fn count(&mut self, began: Instant, ended: Instant, window: Window) {
        let second = ended.checked_duration_since(window.begins).map(|since| since.as_secs() as usize);
        if let Some(count) = second.and_then(|second| self.by_second.get_mut(second)) {
            *count += 1;
            self.latencies_us.saturating_record((ended - began).as_micros() as u64);
        }
    }

    fn add(&mut self, other: &Tally) {
        self.latencies_us.add(&other.latencies_us).expect("all histograms have the same bounds");
        for (count, other) in self.by_second.iter_mut().zip(&other.by_second) {
            *count += other;
        }
        self.errors += other.errors;
    }

    fn measured(&self, args: &BenchArgs) -> Measured {
        let operations = self.by_second.iter().sum();
        let quantile = |quantile| self.latencies_us.value_at_quantile(quantile) as f64 / 1000.0;
        Measured {
            nodes: args.nodes,
            clients: args.clients,
            value_bytes: args.value_bytes,
            connections: args.connections,
            proxies: args.proxies,
            events: args.events,
            seconds: args.seconds,
            operations,
            errors: self.errors,
            operations_per_second: operations as f64 / f64::from(args.seconds),
            slowest_second: self.by_second.iter().copied().min().unwrap_or(0),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            max_ms: self.latencies_us.max() as f64 / 1000.0,
        }
    }
}

fn tell(measured: &Measured, out: &mut impl Write) -> io::Result<()> {
    let Measured { nodes, clients, value_bytes, connections, seconds, .. } = measured;
    let ways = if measured.proxies { "through links" } else { "direct" };
    let evidence = if measured.events { "with" } else { "without" };
    writeln!(
        out,
        "{nodes} nodes, {clients} clients over {connections} connections a node ({ways}), values of \
         {value_bytes} B, {evidence} evidence, {seconds} s"
    )?;
    writeln!(
        out,
        "{:.0} writes/s (slowest second {})",
        measured.operations_per_second, measured.slowest_second
    )?;
    writeln!(
        out,
        "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms; {} requests failed and were made again",
        measured.p50_ms, measured.p99_ms, measured.max_ms, measured.errors
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_within_the_window_counts_in_the_second_in_which_it_ends() {
        let start = Instant::now();
        let begins = start + WARM_UP;
        let window = Window { begins, ends: begins + Duration::from_secs(2) };
        let mut tally = Tally::new(2);
        for (ended_ms, took_ms) in [(999, 10), (1000, 10), (1999, 20), (2000, 30), (3000, 10)] {
            let ended = start + Duration::from_millis(ended_ms);
            tally.count(ended - Duration::from_millis(took_ms), ended, window);
        }
        assert_eq!(tally.by_second, [2, 1]);
        assert_eq!(tally.latencies_us.len(), 3);
        assert!((29_900..=30_100).contains(&tally.latencies_us.max()));
    }
}
