//! Every kind of load against nodes that misbehave: what the history says is what happened, and no more.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod fake;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fake::load::{Run, run};
use fake::{Fakes, Manner};
use mkraft_harness::history::{Ended, Operation, Recorder};
use mkraft_harness::scenario::{Append, Bank, Counter, Lock, Pacing, Placement, Set, Workload, WorkloadKind};
use mkraft_harness::system::gates::Gates;
use mkraft_harness::workload::Load;
use mkraft_proto::v1::ErrorCode;
use serde_json::{Value, json};

const SET: WorkloadKind = WorkloadKind::Set(Set { keys: 2, adds_per_key: 20, add: 1, read: 1 });
const COUNTER: WorkloadKind = WorkloadKind::Counter(Counter { keys: 1, add: 2, read: 1 });
const APPEND: WorkloadKind = WorkloadKind::Append(Append {
    keys: 2,
    appends_per_key: 10,
    operations: 4,
    append: 1,
    read: 1,
    compare: 2,
});
const BANK: WorkloadKind =
    WorkloadKind::Bank(Bank { accounts: 3, total: 50, transfer_max: 20, read: 1, transfer: 3 });
const LOCK: WorkloadKind = WorkloadKind::Lock(Lock { keys: 2, hold: Duration::from_millis(5) });

const KINDS: [WorkloadKind; 5] = [SET, COUNTER, APPEND, BANK, LOCK];

fn workload(kind: WorkloadKind) -> Workload {
    Workload {
        kind,
        clients: 3,
        // In an open loop on a slow machine, everyone would lose every race.
        rate: 300,
        pacing: Pacing::Closed,
        placement: Placement::Roam,
        // Beyond anything a busy machine does by itself.
        timeout: Duration::from_secs(15),
        connections: 2,
    }
}

/// What must be true of any history of this kind, with as little wit as possible.
fn assert_lawful(kind: WorkloadKind, run: &Run) {
    assert_eq!(run.unread, Vec::<String>::new(), "{kind}");
    match kind {
        WorkloadKind::Register(_) => {}
        WorkloadKind::Set(_) => elements(run, |operation| match &*operation.f {
            "add" => vec![(
                "add".into(),
                operation.key.as_deref().unwrap().into(),
                operation.value.json().into_owned(),
            )],
            _ => vec![(
                "r".into(),
                operation.key.as_deref().unwrap().into(),
                operation.result.json().into_owned(),
            )],
        }),
        WorkloadKind::Append(_) => elements(run, |operation| {
            let value = if operation.ended == Ended::Ok { &operation.result } else { &operation.value };
            let micro = |micro: &Value| {
                let word = |place: usize| micro[place].as_str().unwrap().to_owned();
                (if word(0) == "append" { "add".into() } else { word(0) }, word(1), micro[2].clone())
            };
            value.as_array().unwrap().iter().map(micro).collect()
        }),
        WorkloadKind::Counter(_) => counter(run),
        WorkloadKind::Bank(Bank { total, .. }) => {
            for read in run.ended(Ended::Ok).filter(|operation| &*operation.f == "read") {
                let balances = read.result.as_object().unwrap().values().map(|value| value.as_u64().unwrap());
                assert_eq!(balances.sum::<u64>(), u64::from(total), "{read:?}");
            }
        }
        WorkloadKind::Lock(_) => lock(run),
    }
}

/// `acts` are (add or r, key, value). Nothing added is lost, doubled, or there although it failed.
fn elements(run: &Run, acts: impl Fn(&Operation) -> Vec<(String, String, Value)>) {
    let mut added: BTreeMap<(String, u64), Ended> = BTreeMap::new();
    let mut longest: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for operation in &run.history.operations {
        for (what, key, value) in acts(operation) {
            if what == "add" {
                let before = added.insert((key, value.as_u64().unwrap()), operation.ended);
                assert_eq!(before, None, "{operation:?}");
            } else if operation.ended == Ended::Ok {
                let list: Vec<u64> =
                    value.as_array().unwrap().iter().map(|element| element.as_u64().unwrap()).collect();
                let longest = longest.entry(key).or_default();
                let shorter = list.len().min(longest.len());
                assert_eq!(list[..shorter], longest[..shorter], "lists only grow: {operation:?}");
                if list.len() > longest.len() {
                    *longest = list;
                }
            }
        }
    }
    for (key, list) in &longest {
        assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), list.len(), "{key}: {list:?}");
        for element in list {
            assert_ne!(added[&(key.clone(), *element)], Ended::Fail, "{key}: {element}");
        }
    }
    for ((key, element), ended) in added {
        let seen = longest.get(&key).is_some_and(|list| list.contains(&element));
        assert!(seen || ended != Ended::Ok, "{key}: {element} is lost");
    }
}

fn counter(run: &Run) {
    assert_eq!(run.ended(Ended::Info).count(), 0, "with open adds this would be no proof");
    let adds = run.ended(Ended::Ok).filter(|operation| &*operation.f == "add");
    let sum: i64 = adds.map(|operation| operation.value.as_i64().unwrap()).sum();
    let last = run.history.operations.last().unwrap();
    assert_eq!((&*last.f, last.result.as_i64()), ("read", Some(sum)));
}

/// Between an acquisition and the call of its release no other lock is acquired.
fn lock(run: &Run) {
    let mut holdings: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for acquire in run.ended(Ended::Ok).filter(|operation| &*operation.f == "acquire") {
        let of_it = |operation: &&Operation| &*operation.f == "release" && operation.value == acquire.value;
        let release = run.history.operations.iter().find(of_it).expect("whoever holds a lock releases it");
        let holding = (acquire.completed_at.unwrap(), release.invoked_at);
        holdings.entry(acquire.key.as_deref().unwrap()).or_default().push(holding);
    }
    for holdings in holdings.values_mut() {
        holdings.sort_unstable();
        assert!(holdings.windows(2).all(|pair| pair[0].1 <= pair[1].0), "two hold it: {holdings:?}");
    }
    assert_eq!(run.fakes.keys(), Vec::<String>::new(), "in the end nobody holds a lock");
}

#[test]
fn with_good_nodes_every_function_of_every_kind_succeeds_and_nothing_is_open() {
    for kind in KINDS {
        let run = run(&workload(kind), &[Manner::Answer; 3], |_, now| now.ok >= 120);
        for f in kind.functions() {
            let ok = run.ended(Ended::Ok).filter(|operation| &*operation.f == f).count();
            assert!(ok > 10, "{kind}: {ok} {f}");
        }
        assert_eq!(run.ended(Ended::Info).count(), 0, "{kind}");
        // What a node answered and did not do says what it found instead; the judge then knows why it is in the log.
        for failed in run.ended(Ended::Fail) {
            let poor = failed.error.as_deref().unwrap().starts_with("insufficient funds");
            assert!(poor || failed.seen.is_some(), "{kind}: {failed:?}");
        }
        assert_lawful(kind, &run);
    }
}

#[test]
fn what_is_asked_again_happens_once_in_every_kind() {
    for kind in KINDS {
        let run = run(&workload(kind), &[Manner::LoseFirstReply], |_, now| now.ok >= 60);
        let tickets: Vec<_> = run.fakes.asked(0).into_iter().filter_map(|asked| asked.ticket).collect();
        let distinct: BTreeSet<_> = tickets.iter().collect();
        assert_eq!(tickets.len(), 2 * distinct.len(), "{kind}: each write was asked twice");
        assert_eq!(run.fakes.applied(), distinct.len() as u64, "{kind}");
        assert_lawful(kind, &run);
    }
}

#[test]
fn a_change_that_was_refused_is_open_or_failed_as_its_code_says_and_reads_never_are_open() {
    for kind in KINDS {
        for (code, expected) in [(ErrorCode::LeadershipLost, Ended::Info), (ErrorCode::Busy, Ended::Fail)] {
            let workload = Workload { placement: Placement::Pinned, ..workload(kind) };
            // The bank is refused as soon as it is made.
            let run = run_from(&workload, Manner::Answer, Manner::RefuseWrites(code));
            let refused = |operation: &&Operation| {
                operation.error.as_deref().is_some_and(|error| error.contains(code.as_str_name()))
            };
            let ended: BTreeSet<_> =
                run.history.operations.iter().filter(refused).map(|op| format!("{:?}", op.ended)).collect();
            assert_eq!(ended, BTreeSet::from([format!("{expected:?}")]), "{kind}");
            for open in run.ended(Ended::Info) {
                assert!(open.ticket.is_some(), "{kind}: {open:?}");
            }
        }
    }
}

/// A load whose nodes change their manner when it has begun, until 30 operations have not succeeded.
fn run_from(workload: &Workload, first: Manner, then: Manner) -> Run {
    run(workload, &[first], |fakes, now| {
        fakes.set_manner(0, then);
        now.fail + now.info >= 30
    })
}

#[test]
fn a_change_that_needs_a_read_first_fails_for_certain_when_the_read_does() {
    for kind in [COUNTER, BANK] {
        let then = Manner::Refuse(ErrorCode::LeadershipLost);
        let run =
            run_from(&Workload { placement: Placement::Pinned, ..workload(kind) }, Manner::Answer, then);
        let failed = run.ended(Ended::Fail).filter(|operation| operation.ticket.is_some()).count();
        assert!(failed > 10, "{kind}: {failed}");
        assert!(run.ended(Ended::Info).count() <= 3, "{kind}: only what was under way before");
    }
}

#[test]
fn a_lock_is_free_again_after_any_open_outcome_even_if_the_node_wakes_late() {
    let (timeout, pacing) = (Duration::from_millis(300), Pacing::Open);
    let workload = Workload { timeout, pacing, rate: 60, ..workload(LOCK) };
    let manners = [Manner::Hang, Manner::Answer];
    let run = run(&workload, &manners, |_, now| now.info >= 15 && now.ok >= 30);
    // Acquisitions that were open reached the store after their releases, and took no lock.
    assert!(run.fakes.stale() > 0);
    let open: BTreeSet<u64> = run
        .ended(Ended::Info)
        .filter(|operation| &*operation.f == "acquire")
        .map(|operation| operation.value.as_u64().unwrap())
        .collect();
    assert!(open.len() >= 5);
    for token in open {
        let of_it = |operation: &&Operation| &*operation.f == "release" && operation.value == json!(token);
        let releases: Vec<_> = run.history.operations.iter().filter(of_it).collect();
        assert!(releases.last().is_some_and(|last| last.ended != Ended::Info), "{token}: {releases:?}");
    }
    assert_lawful(LOCK, &run);
}

#[test]
fn a_refused_release_is_asked_for_again_in_another_session_if_that_one_is_lost() {
    for code in [ErrorCode::Invalid, ErrorCode::SessionUnknown] {
        // Alone with one lock, a client holds it whenever an odd number of its operations has succeeded.
        let kind = WorkloadKind::Lock(Lock { keys: 1, hold: Duration::from_millis(100) });
        let run = run(&Workload { clients: 1, ..workload(kind) }, &[Manner::Answer], |fakes, now| {
            let refuses = now.ok % 2 == 1 && now.ok >= 3 && now.fail + now.info < 8;
            fakes.set_manner(0, if refuses { Manner::RefuseWrites(code) } else { Manner::Answer });
            now.ok >= 9
        });
        let refused = |operation: &&Operation| {
            operation.error.as_deref().is_some_and(|error| error.contains(code.as_str_name()))
        };
        let refused: Vec<_> = run.history.operations.iter().filter(refused).collect();
        assert!(
            refused.len() >= 8 && refused.iter().all(|operation| &*operation.f == "release"),
            "{refused:?}"
        );
        let sessions: BTreeSet<_> = refused.iter().map(|operation| operation.ticket.unwrap().0).collect();
        assert_eq!(sessions.len() == refused.len(), code == ErrorCode::SessionUnknown, "{refused:?}");
        assert_lawful(LOCK, &run);
    }
}

#[test]
fn a_bank_that_exists_already_cannot_be_set_up() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let recorder = Arc::new(Recorder::create(&folder.path().join("history.jsonl")).unwrap());
    runtime.block_on(async {
        let fakes = Fakes::start(&[Manner::LoseFirstReply]).await;
        let load =
            Load::start(&workload(BANK), 1, &fakes.addresses, &Gates::default(), recorder.clone()).await;
        assert!(load.is_ok(), "a reply that is lost is asked for again");
        drop(load);
        let fakes = Fakes::start(&[Manner::Answer]).await;
        fakes.put("a1", "7");
        let refused = Load::start(&workload(BANK), 1, &fakes.addresses, &Gates::default(), recorder).await;
        let why = refused.err().expect("somebody else's account stands there");
        assert_eq!(why, "the load could not be set up: its keys exist already");
        assert_eq!(fakes.keys(), ["a1"]);
    });
}
