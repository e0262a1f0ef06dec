//! Honest users against nodes that misbehave: what reaches the nodes, and what the history says of it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod fake;

use std::collections::BTreeSet;
use std::time::Duration;

use fake::Manner;
use fake::load::run;
use mkraft_harness::history::{Ended, Operation};
use mkraft_harness::scenario::{Pacing, Placement, Register, Workload, WorkloadKind};
use mkraft_proto::v1::ErrorCode;

const REGISTER: Register = Register { keys: 2, read: 1, write: 1, cas: 1 };

fn workload() -> Workload {
    Workload {
        kind: WorkloadKind::Register(REGISTER),
        clients: 3,
        rate: 300,
        pacing: Pacing::Open,
        placement: Placement::Roam,
        // Beyond anything a busy machine does by itself.
        timeout: Duration::from_secs(15),
        connections: 2,
    }
}

fn is_write(operation: &Operation) -> bool {
    &*operation.f != "read"
}

#[test]
fn with_good_nodes_every_kind_of_operation_succeeds_and_every_key_is_read_at_the_end() {
    // Closed, or on a slow machine every swap finds another's value.
    let workload = Workload { pacing: Pacing::Closed, ..workload() };
    let run = run(&workload, &[Manner::Answer; 3], |_, now| now.ok >= 300);
    for f in ["read", "write", "cas"] {
        assert!(run.ended(Ended::Ok).filter(|operation| &*operation.f == f).count() > 20, "{f}");
    }
    assert_eq!(run.unread, Vec::<String>::new());
    assert_eq!(run.ended(Ended::Info).count(), 0);
    let asked: BTreeSet<_> = run.history.operations.iter().filter_map(|op| op.node.clone()).collect();
    assert_eq!(asked.len(), 3, "roaming users ask everyone: {asked:?}");
    let last = run.history.operations.last().unwrap();
    assert_eq!((&*last.f, last.ended), ("read", Ended::Ok));
    // A compare-and-swap that did not swap is a read too.
    assert!(run.ended(Ended::Fail).all(|operation| &*operation.f == "cas" && operation.seen.is_some()));
}

#[test]
fn a_write_that_times_out_is_open_and_its_process_and_session_are_not_seen_again() {
    let workload = Workload { timeout: Duration::from_millis(300), ..workload() };
    let run = run(&workload, &[Manner::Hang], |_, now| now.info >= 40);
    let open: Vec<_> = run.ended(Ended::Info).collect();
    assert!(open.iter().all(|operation| is_write(operation)), "a read that times out failed");
    assert!(run.ended(Ended::Fail).any(|operation| !is_write(operation)));
    let tickets: BTreeSet<_> = open.iter().map(|operation| operation.ticket.unwrap()).collect();
    let sessions: BTreeSet<_> = open.iter().map(|operation| operation.ticket.unwrap().0).collect();
    assert_eq!(tickets.len(), open.len());
    assert_eq!(sessions.len(), open.len(), "a session goes with its process");
    assert!(run.processes().len() > open.len(), "{:?}", run.snapshot);
    assert!(run.fakes.applied() > 0, "what was given up is in flight still, and the node wakes to it");
}

#[test]
fn a_definite_refusal_is_a_failure_and_the_process_goes_on() {
    // Closed: in an open loop, how many processes are under way at a time depends on the machine.
    let workload = Workload { placement: Placement::Pinned, pacing: Pacing::Closed, ..workload() };
    let run = run(&workload, &[Manner::Refuse(ErrorCode::Busy)], |_, now| now.fail >= 200);
    assert_eq!(run.ended(Ended::Info).count(), 0);
    assert_eq!(run.fakes.applied(), 0);
    let writers: Vec<_> = run.ended(Ended::Fail).filter(|op| is_write(op)).map(|op| op.process).collect();
    let distinct: BTreeSet<_> = writers.iter().collect();
    assert!(writers.len() > 50, "{} writes", writers.len());
    assert_eq!(distinct.len(), workload.clients as usize, "each client's process does all of its writes");
    let error = run.ended(Ended::Fail).next().unwrap().error.clone().unwrap();
    assert!(error.contains("BUSY"), "{error}");
}

#[test]
fn a_write_asked_again_keeps_its_session_and_sequence_and_happens_once() {
    let run = run(&workload(), &[Manner::LoseFirstReply], |_, now| now.ok >= 100);
    let tickets: Vec<_> = run.fakes.asked(0).into_iter().filter_map(|asked| asked.ticket).collect();
    let distinct: BTreeSet<_> = tickets.iter().copied().collect();
    assert_eq!(tickets.len(), 2 * distinct.len(), "each write was asked twice");
    assert_eq!(run.fakes.applied(), distinct.len() as u64);
    let recorded = run.history.operations.iter().filter_map(|operation| operation.ticket);
    assert_eq!(recorded.collect::<BTreeSet<_>>(), distinct);
    assert_eq!(run.ended(Ended::Info).count(), 0);
}

#[test]
fn a_write_that_was_open_once_never_becomes_a_failure() {
    // The second request of each write is refused for certain; the first may have happened.
    let workload =
        Workload { kind: WorkloadKind::Register(Register { read: 0, cas: 0, ..REGISTER }), ..workload() };
    let manners = [Manner::Refuse(ErrorCode::LeadershipLost), Manner::Refuse(ErrorCode::Invalid)];
    let run = run(&workload, &manners, |_, now| now.info >= 50 && now.fail >= 50);
    for operation in run.history.operations.iter().filter(|operation| is_write(operation)) {
        let ticket = operation.ticket.unwrap();
        let open = run.fakes.asked(0).iter().any(|asked| asked.ticket == Some(ticket));
        assert_eq!(operation.ended, if open { Ended::Info } else { Ended::Fail }, "{operation:?}");
    }
}

#[test]
fn a_named_leader_is_followed() {
    for placement in [Placement::Roam, Placement::Leader] {
        // Closed, or on a slow machine hundreds may have started before anyone is named.
        let workload = Workload { placement, pacing: Pacing::Closed, ..workload() };
        let manners = [Manner::NotLeader(3), Manner::NotLeader(3), Manner::Answer];
        let run = run(&workload, &manners, |_, now| now.ok >= 400);
        let ok: BTreeSet<_> = run.ended(Ended::Ok).filter_map(|operation| operation.node.clone()).collect();
        assert_eq!(ok, BTreeSet::from(["n3".into()]));
        let refused = run.fakes.asked(0).len() + run.fakes.asked(1).len();
        match placement {
            // Two of three draws.
            Placement::Roam => assert!(refused > 200, "{refused} refused: the roaming come by everywhere"),
            // Each client at most once before it has heard of the leader; and again should a connection fail.
            _ => assert!(refused < 40, "{refused} refused of 400: who follows the leader asks it"),
        }
    }
}

#[test]
fn who_is_pinned_asks_no_other_node() {
    let workload = Workload { placement: Placement::Node(2), ..workload() };
    let manners = [Manner::Answer, Manner::NotLeader(1), Manner::Answer];
    let run = run(&workload, &manners, |fakes, _| fakes.asked(1).len() >= 100);
    // The last reads go through the leader.
    let by_others = run.fakes.asked(0).len() + run.fakes.asked(2).len();
    assert!(by_others <= REGISTER.keys as usize, "{by_others} requests went elsewhere");
    assert!(run.fakes.asked(0).iter().chain(&run.fakes.asked(2)).all(|asked| asked.method == "get"));
}

#[test]
fn an_open_loop_goes_on_asking_a_node_that_never_answers() {
    let workload = Workload { timeout: Duration::from_secs(3), placement: Placement::Pinned, ..workload() };
    let at_once = 250;
    let run = run(&workload, &[Manner::Hang], |fakes, now| {
        let waiting = fakes.asked(0).len();
        waiting >= at_once || (waiting > 0 && now.fail + now.info > 0)
    });
    // Fresh requests came before the first of them was given up.
    assert!(run.fakes.asked(0).len() >= at_once, "{} requests", run.fakes.asked(0).len());
}

#[test]
fn what_hangs_is_bounded_and_what_is_shed_is_counted() {
    let workload = Workload { clients: 1, rate: 2_000, timeout: Duration::from_secs(3), ..workload() };
    let run = run(&workload, &[Manner::Hang], |_, now| now.shed >= 100);
    let asked = run.fakes.asked(0).len() - run.history.operations.len().min(REGISTER.keys as usize);
    assert!(asked <= 256, "{asked} requests of one client at a time");
    assert!(run.snapshot.shed >= 100);
}

#[test]
fn in_a_closed_loop_each_client_does_one_operation_at_a_time() {
    let workload = Workload { pacing: Pacing::Closed, rate: 5_000, ..workload() };
    let run = run(&workload, &[Manner::Answer; 3], |_, now| now.ok >= 300);
    let mut edges = Vec::new();
    for operation in &run.history.operations {
        edges.push((operation.invoked_at, 1));
        edges.push((operation.completed_at.unwrap(), -1));
    }
    edges.sort();
    let mut under_way = 0;
    for (_, change) in edges {
        under_way += change;
        assert!(under_way <= workload.clients as i32);
    }
    assert!(run.snapshot.ok >= 300);
}
