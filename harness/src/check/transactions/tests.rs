//! The judge of transactions against every order tried, against a lawful store, and against one planted fault each.

use std::collections::BTreeMap;

use super::exhaustive::{Plain, Step, has_order, history};
use super::simulated::{Store, simulate};
use super::*;
use crate::check::verdict::Status;

fn judge(plain: &[Plain]) -> Verdict {
    let history = history(plain);
    judge_append(&Book { history: &history, file: "history.jsonl", lines: None, epoch_ns: 0 })
}

const SMALL: Store =
    Store { transactions: 5, clients: 4, keys: 2, steps_max: 3, open: 12, failed: 8, ..Store::LAWFUL };

/// Judges so many histories, and tries every order of each. Returns how many have one, and how often each kind of
/// anomaly was found.
fn compare(stores: &[Store], histories: u64) -> (u64, BTreeMap<String, u32>) {
    let (mut lawful, mut kinds) = (0, BTreeMap::new());
    for seed in 0..histories {
        let store = stores[seed as usize % stores.len()];
        let transactions = 3 + seed as u32 / 7 % (store.transactions - 2);
        let plain = simulate(Store { transactions, ..store }, seed);
        let (expected, verdict) = (has_order(&plain), judge(&plain));
        let acknowledged = plain.iter().any(|one| one.ended == Ended::Ok);
        let status = match (expected, acknowledged) {
            (false, _) => Status::Violated,
            (true, true) => Status::Holds,
            (true, false) => Status::Unknown,
        };
        assert_eq!(verdict.status, status, "seed {seed}: {plain:#?}\n{verdict:#?}");
        lawful += u64::from(expected);
        for finding in &verdict.findings {
            *kinds.entry(kind(&finding.text).to_owned()).or_default() += 1;
        }
    }
    // Both must be there in numbers, or the agreement says little.
    assert!((histories / 5..histories * 4 / 5).contains(&lawful), "{lawful} of {histories} have an order");
    (lawful, kinds)
}

fn kind(text: &str) -> &str {
    text.split(':').next().unwrap_or_default()
}

fn assert_found(kinds: &BTreeMap<String, u32>, expected: &[&str]) {
    for kind in expected {
        let found = kinds.get(*kind).copied().unwrap_or(0);
        // Two rw and real time without a shorter way are rare: of two pairs in real time, one of the first comes
        // before one of the other pair too.
        let least = if *kind == "G2-realtime" { 3 } else { 20 };
        assert!(found > least, "{kind} was found {found} times: {kinds:?}");
    }
}

#[test]
fn the_judge_and_every_order_tried_agree_where_reads_are_spoiled() {
    let stores = [
        Store { spoiled: 40, ..SMALL },
        Store { lying: 50, failed: 25, ..SMALL },
        Store { keys: 1, loose: 30, lying: 10, spoiled: 10, ..SMALL },
    ];
    let (_, kinds) = compare(&stores, 50_000);
    assert_found(&kinds, &ALL_KINDS[..6]);
}

#[test]
fn the_judge_and_every_order_tried_agree_where_transactions_are_torn_or_come_at_the_wrong_time() {
    let stores = [
        Store { loose: 70, ..SMALL },
        Store { untimely: 90, steps_max: 2, ..SMALL },
        Store { transactions: 6, keys: 1, untimely: 90, steps_max: 1, ..SMALL },
        Store { transactions: 6, keys: 3, loose: 40, untimely: 20, steps_max: 2, ..SMALL },
    ];
    let (_, kinds) = compare(&stores, 70_000);
    assert_found(&kinds, &ALL_KINDS[6..]);
}

/// One fault each, and what it is called. Each line is a transaction: when it was invoked and completed, `ok`, `open` or
/// `fail`, and its steps: key `=` what it read, or key `+` what it appended.
const PLANTED: [(&str, &str); 24] = [
    ("garbage", "1 2 ok x+1\n3 4 ok x=1,9"),
    ("duplicate-elements", "1 2 ok x+1\n3 4 ok x=1,1"),
    ("internal: a read without its own append", "1 2 ok x+1 x="),
    ("internal: two reads that differ", "1 4 ok x= x=1\n2 3 ok x+1"),
    ("internal: an append in its own read before", "1 2 ok x=1 x+1"),
    ("internal: two appends in the other order", "1 2 ok x+1 x+2\n3 4 ok x=2,1"),
    ("G1a", "1 2 fail x+1\n3 4 ok x=1"),
    ("G1b", "1 4 ok x+1 x+2\n2 3 ok x=1\n5 6 ok x=1,2"),
    ("G1b: of one whose outcome is unknown", "1 4 open x+1 x+2\n2 3 ok x=1"),
    ("G1b: the rest is never seen", "1 2 ok x+1 x+2\n3 4 ok x=1"),
    ("incompatible-order", "1 2 ok x+1\n1 3 ok x+2\n4 5 ok x=1,2\n6 7 ok x=2,1"),
    ("G0", "1 4 ok x+1 y+1\n2 3 ok x+2 y+2\n5 6 ok x=1,2 y=2,1"),
    ("G0: an append between two of another", "1 4 ok x+1 x+3\n2 3 ok x+2\n5 6 ok x=1,2,3"),
    ("G1c", "1 4 ok x+1 y=2\n2 3 ok y+2 x=1"),
    ("G-single: read skew", "1 4 ok x+1 y+1\n2 3 ok x=1 y=\n5 6 ok x=1 y=1"),
    ("G-single: lost update, one of them seen", "1 4 ok x= x+1\n2 3 ok x= x+2\n5 6 ok x=1,2"),
    ("G2: lost update, none seen", "1 4 ok x= x+1\n2 3 ok x= x+2"),
    ("G2: write skew", "1 4 ok x= y+1\n2 3 ok y= x+1"),
    ("G-single: with one that is open and seen", "1 4 ok x= y+1\n2 3 open y+2 x+1\n5 6 ok x=1 y=2,1"),
    ("G0-realtime", "1 2 ok x+1\n3 4 ok x+2\n5 6 ok x=2,1"),
    ("G1c-realtime", "1 2 ok x=1\n3 4 ok x+1"),
    ("G-single-realtime: stale read", "1 2 ok x+1\n3 4 ok x+2\n5 6 ok x=1\n7 8 ok x=1,2"),
    ("G-single-realtime: an acknowledged append is lost", "1 2 ok x+1\n3 4 ok x+2\n5 6 ok x=2"),
    ("G2-realtime", "1 10 ok x=1 y=\n2 9 ok x+1\n3 4 ok y+1\n5 6 ok x="),
];

/// Its lines are spread from `begin` on, `step` lines for one.
fn planted(text: &str, begin: u32, step: u32) -> Vec<Plain> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let one = |line: &str| {
        let words = words(line);
        let time = |at: usize| begin + step * words[at].parse::<u32>().unwrap();
        let ended = match words[2].as_str() {
            "ok" => Ended::Ok,
            "fail" => Ended::Fail,
            _ => Ended::Info,
        };
        // Keys that no other transaction has.
        let step = |word: &String| {
            let (key, rest) = word.split_at(1);
            let key = 1_000 + u32::from(key.as_bytes()[0]);
            let numbers = rest[1..].split(',').filter(|number| !number.is_empty());
            let numbers: Vec<u32> = numbers.map(|number| number.parse().unwrap()).collect();
            if rest.starts_with('+') { Step::Append(key, numbers[0]) } else { Step::Read(key, numbers) }
        };
        Plain { call: time(0), ret: Some(time(1)), ended, steps: words[3..].iter().map(step).collect() }
    };
    text.lines().map(one).collect()
}

#[test]
fn each_planted_fault_is_found_under_its_name_alone_and_among_others() {
    for (name, text) in PLANTED {
        let alone = planted(text, 0, 1);
        assert!(!has_order(&alone), "{name}");
        let verdict = judge(&alone);
        assert_eq!(kind(&verdict.findings[0].text), kind(name), "{name}: {verdict:#?}");
        for seed in 0..5 {
            let mut lawful = simulate(Store::LAWFUL, seed);
            lawful.iter_mut().for_each(|one| {
                one.call *= 100;
                one.ret = one.ret.map(|ret| ret * 100);
            });
            // Lines end in their own digits, so that none is that of another.
            let begin = 10_001 + 3_000 * seed as u32;
            lawful.extend(planted(text, begin, 1_000));
            let verdict = judge(&lawful);
            let kinds: Vec<_> = verdict.findings.iter().map(|finding| kind(&finding.text)).collect();
            assert_eq!(kinds, [kind(name)], "{name}, seed {seed}: {verdict:#?}");
            assert!(
                verdict.findings[0].witnesses.iter().all(|witness| witness.line % 100 == 1),
                "{verdict:#?}"
            );
        }
    }
}

#[test]
fn a_lawful_store_is_never_flagged() {
    let (mut open_but_seen, mut judged) = (0, 0);
    for seed in 0..150 {
        let store = Store { clients: 2 + seed as u32 % 40, keys: 1 + seed as u32 % 7, ..Store::LAWFUL };
        let plain = simulate(Store { open: seed as u32 % 30, ..store }, seed);
        let verdict = judge(&plain);
        assert_eq!(verdict.status, Status::Holds, "seed {seed}: {verdict:#?}");
        judged += plain.len();
        open_but_seen += usize::from(!verdict.summary.contains("with 0 open ones"));
    }
    assert!(judged == 45_000 && open_but_seen > 100, "{judged} {open_but_seen}");
}

const ALL_KINDS: [&str; 14] = [
    "garbage",
    "duplicate-elements",
    "internal",
    "G1a",
    "G1b",
    "incompatible-order",
    "G0",
    "G1c",
    "G-single",
    "G2",
    "G0-realtime",
    "G1c-realtime",
    "G-single-realtime",
    "G2-realtime",
];
