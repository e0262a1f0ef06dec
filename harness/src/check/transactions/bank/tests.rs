//! The judge of banks against a lawful bank, against every order tried, and against one planted fault each.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::*;
use crate::check::verdict::Status;
use crate::history::History;

/// What stands in a line of a test: when it was invoked and completed, how it ended, and what it did.
#[derive(Debug, Clone)]
struct Plain {
    call: u32,
    ret: u32,
    ended: Ended,
    act: Act,
}

#[derive(Debug, Clone)]
enum Act {
    Read(Vec<i64>),
    Transfer(usize, usize, i64),
}

fn judge(plain: &[Plain]) -> Verdict {
    let mut plain = plain.to_vec();
    plain.sort_by_key(|one| one.call);
    let operation = |(process, one): (u64, &Plain)| {
        let (f, value, result) = match &one.act {
            Act::Transfer(from, to, amount) => {
                ("transfer", json!({"from": from, "to": to, "amount": amount}), json!(null))
            }
            Act::Read(balances) => {
                let named = balances.iter().enumerate().map(|(at, balance)| (at.to_string(), json!(balance)));
                ("read", json!(null), Value::Object(named.collect()))
            }
        };
        Operation {
            process,
            f: f.into(),
            key: None,
            value: value.into(),
            result: result.into(),
            seen: None,
            error: None,
            node: None,
            ticket: None,
            invoked_at: u64::from(one.call),
            completed_at: Some(one.ret.into()),
            ended: one.ended,
            invoke_line: one.call,
            completion_line: Some(one.ret),
        }
    };
    let operations: Vec<_> = (0..).zip(&plain).map(operation).collect();
    let history = History { operations, strikes: Vec::new(), lines: 2 * plain.len() as u32 };
    judge_bank(&Book { history: &history, file: "history.jsonl", lines: None, epoch_ns: 0 }, None)
}

/// A bank with so many accounts of 10, whose clients overlap, and which lies now and then.
fn simulate(seed: u64, size: u32, accounts: usize, lies: f64) -> Vec<Plain> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut plain: Vec<(u32, usize, Plain)> = Vec::new();
    for at in 0..size {
        let call = 20 * at + random.random_range(0..20);
        let ret = call + random.random_range(2..200);
        let moment = random.random_range(call..ret);
        let act = match random.random_bool(0.4) {
            true => Act::Read(Vec::new()),
            false => Act::Transfer(
                random.random_range(0..accounts),
                random.random_range(0..accounts),
                random.random_range(1..5),
            ),
        };
        plain.push((moment, at as usize, Plain { call, ret, ended: Ended::Ok, act }));
    }
    plain.sort_by_key(|&(moment, at, _)| (moment, at));
    let mut held = vec![10_i64; accounts];
    for (_, _, one) in &mut plain {
        let lie = random.random_bool(lies);
        match &mut one.act {
            Act::Read(balances) => balances.clone_from(&held),
            Act::Transfer(from, _, amount) if held[*from] < *amount => one.ended = Ended::Fail,
            Act::Transfer(from, to, amount) => {
                if random.random_bool(0.1) {
                    one.ended = Ended::Info;
                }
                // A transfer is lost, or done though it failed.
                if lie && random.random_bool(0.5) {
                    one.ended = Ended::Fail;
                } else if lie {
                    continue;
                }
                held[*from] -= *amount;
                held[*to] += *amount;
            }
        }
    }
    let mut ends: Vec<(u32, usize, bool)> = Vec::new();
    for (at, (_, _, one)) in plain.iter().enumerate() {
        ends.extend([(one.call, at, true), (one.ret, at, false)]);
    }
    ends.sort_unstable();
    for (line, (_, at, is_call)) in (1..).zip(ends) {
        let one = &mut plain[at].2;
        if is_call { one.call = line } else { one.ret = line }
    }
    plain.into_iter().map(|(_, _, one)| one).collect()
}

/// Tries every order, whatever the accounts held at first.
fn has_order(plain: &[Plain], placed: &mut [bool], moved: &mut Vec<i64>, first: Option<&[i64]>) -> bool {
    let must = |placed: &[bool], at: usize| plain[at].ended == Ended::Ok && !placed[at];
    if (0..plain.len()).all(|at| !must(placed, at)) {
        return true;
    }
    for at in 0..plain.len() {
        let one = &plain[at];
        let late = (0..plain.len()).any(|other| must(placed, other) && plain[other].ret < one.call);
        if placed[at] || late || one.ended == Ended::Fail {
            continue;
        }
        placed[at] = true;
        let found = match &one.act {
            Act::Read(balances) => {
                let then: Vec<i64> = balances.iter().zip(&*moved).map(|(held, moved)| held - moved).collect();
                first.is_none_or(|first| first == then) && has_order(plain, placed, moved, Some(&then))
            }
            Act::Transfer(from, to, amount) => {
                let before = moved.clone();
                moved[*from] -= amount;
                moved[*to] += amount;
                let found = has_order(plain, placed, moved, first);
                *moved = before;
                found
            }
        };
        placed[at] = false;
        if found {
            return true;
        }
    }
    false
}

#[test]
fn a_lawful_bank_is_never_flagged() {
    for seed in 0..60 {
        let plain = simulate(seed, 400, 2 + seed as usize % 6, 0.0);
        let verdict = judge(&plain);
        assert_eq!(verdict.status, Status::Holds, "seed {seed}: {verdict:#?}");
    }
}

#[test]
fn what_is_called_wrong_has_no_order_and_much_of_what_is_wrong_is_found() {
    let (mut wrong, mut found) = (0, 0);
    for seed in 0..20_000 {
        let plain = simulate(seed, 4 + seed as u32 % 3, 2, 0.6);
        let lawful = has_order(&plain, &mut vec![false; plain.len()], &mut vec![0; 2], None);
        let violated = judge(&plain).status == Status::Violated;
        assert!(!(violated && lawful), "seed {seed}: {plain:#?}");
        wrong += u32::from(!lawful);
        found += u32::from(violated);
    }
    assert!(wrong > 1_000 && found * 2 > wrong, "{found} of {wrong} were found");
}

#[test]
fn each_planted_fault_is_told() {
    let act = |call, ret, act| Plain { call, ret, ended: Ended::Ok, act };
    let read = |call, ret, balances: &[i64]| act(call, ret, Act::Read(balances.to_vec()));
    let transfer = |call, ret, amount| act(call, ret, Act::Transfer(0, 1, amount));
    let failed = |plain: Plain| Plain { ended: Ended::Fail, ..plain };
    let open = |plain: Plain| Plain { ended: Ended::Info, ..plain };
    let begin = read(1, 2, &[10, 5]);
    let cases: [(&str, &[Plain]); 10] = [
        ("a read saw 14 in sum, where there are 15", &[begin.clone(), read(3, 4, &[10, 4])]),
        ("less than nothing: -1 in account 0", &[begin.clone(), transfer(3, 4, 11), read(5, 6, &[-1, 16])]),
        ("other accounts than the first one: without 1", &[begin.clone(), read(3, 4, &[15])]),
        ("other accounts than the first one: with 2", &[begin.clone(), read(3, 4, &[10, 5, 0])]),
        // Lost, done although it failed, done twice, read too late, read too early.
        ("held 10 and then 10: 3 more", &[begin.clone(), transfer(3, 4, 3), read(5, 6, &[10, 5])]),
        ("held 10 and then 7: 3 less", &[begin.clone(), failed(transfer(3, 4, 3)), read(5, 6, &[7, 8])]),
        ("held 10 and then 4: 3 less", &[begin.clone(), transfer(3, 4, 3), read(5, 6, &[4, 11])]),
        ("held 7 and then 10: 3 more", &[transfer(1, 2, 3), read(3, 4, &[7, 8]), read(5, 6, &[10, 5])]),
        ("held 7 and then 7: 3 more", &[read(1, 2, &[7, 8]), transfer(3, 4, 3), read(5, 6, &[7, 8])]),
        ("held 10 and then 4: 3 less", &[begin.clone(), open(transfer(3, 4, 3)), read(5, 6, &[4, 11])]),
    ];
    for (expected, plain) in cases {
        let verdict = judge(plain);
        assert_eq!(verdict.status, Status::Violated, "{expected}");
        assert!(verdict.findings[0].text.contains(expected), "{expected}: {verdict:#?}");
    }
    for plain in [
        &[begin.clone(), transfer(3, 6, 3), read(4, 5, &[10, 5]), read(7, 8, &[7, 8])][..],
        &[begin.clone(), transfer(3, 6, 3), read(4, 5, &[7, 8]), read(7, 8, &[7, 8])],
        &[begin.clone(), open(transfer(3, 4, 3)), read(5, 6, &[10, 5]), read(7, 8, &[7, 8])],
    ] {
        assert_eq!(judge(plain).status, Status::Holds, "{plain:#?}");
    }
}
