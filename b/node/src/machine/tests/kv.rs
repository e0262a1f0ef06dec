//! The key-value store, operation by operation, and against a plain map.

use mkraft_proto::v1::command::{Append, CompareAndSwap, Delete, Op, Put};
use mkraft_proto::v1::{
    AppendReply, Compare, CompareAndSwapReply, DeleteReply, ErrorCode, GetReply, PutReply, RangeReply, Txn,
    TxnOp, TxnReply, TxnResult, compare, txn_op, txn_result,
};
use prost::bytes::Bytes;

use super::super::limits::{KEY_BYTES_MAX, REPLY_BYTES_MAX, TXN_BYTES_MAX, TXN_ITEMS_MAX, VALUE_BYTES_MAX};
use super::*;

fn bytes(text: &str) -> Bytes {
    text.to_owned().into()
}

fn put(key: &str, value: impl Into<Bytes>) -> Put {
    Put { key: bytes(key), value: value.into() }
}

fn delete(key: &str, version: Option<u64>) -> Delete {
    Delete { key: bytes(key), version }
}

fn append(key: &str, suffix: impl Into<Bytes>) -> Append {
    Append { key: bytes(key), suffix: suffix.into() }
}

fn get(key: &str) -> txn_op::Op {
    txn_op::Op::Get(txn_op::Get { key: bytes(key) })
}

fn txn(compare: Vec<Compare>, then: Vec<txn_op::Op>, otherwise: Vec<txn_op::Op>) -> Op {
    let ops = |ops: Vec<txn_op::Op>| ops.into_iter().map(|op| TxnOp { op: Some(op) }).collect();
    Op::Txn(Txn { compare, then: ops(then), otherwise: ops(otherwise) })
}

fn has_version(key: &str, version: u64) -> Compare {
    Compare { key: bytes(key), is: Some(compare::Is::Version(version)) }
}

fn has_value(key: &str, value: &str) -> Compare {
    Compare { key: bytes(key), is: Some(compare::Is::Value(bytes(value))) }
}

fn got(value: &str, version: u64) -> txn_result::Result {
    txn_result::Result::Get(GetReply { value: Some(bytes(value)), version })
}

fn done(succeeded: bool, results: Vec<txn_result::Result>) -> Answer {
    let results = results.into_iter().map(|result| TxnResult { result: Some(result) }).collect();
    Answer::Txn(TxnReply { succeeded, results })
}

/// Applies the operation as the entry at `index`.
fn apply(state: &mut KeyValue, index: u64, op: Op) -> Answer {
    let entry = entry(index, Command { ticket: None, op: Some(op.clone()) });
    state.apply(&entry, op)
}

#[test]
fn every_value_has_the_version_of_the_entry_that_wrote_it() {
    let none = || txn_result::Result::Get(GetReply { value: None, version: 0 });
    let swap = |expected: Option<&str>, value: &str| {
        Op::CompareAndSwap(CompareAndSwap {
            key: bytes("a"),
            expected: expected.map(bytes),
            value: bytes(value),
        })
    };
    let swapped = |swapped, seen: Option<&str>, version| {
        Answer::Swapped(CompareAndSwapReply { swapped, seen: seen.map(bytes), version })
    };
    let deleted = |deleted, seen| DeleteReply { deleted, seen };
    let appended = |version, length| AppendReply { version, length };
    let steps = [
        (Op::Put(put("a", "1")), Answer::Put(PutReply { version: 1 })),
        (Op::Put(put("a", "1")), Answer::Put(PutReply { version: 2 })),
        (Op::Append(append("a", "23")), Answer::Appended(appended(3, 3))),
        (Op::Append(append("b", "")), Answer::Appended(appended(4, 0))),
        (swap(Some("1"), "x"), swapped(false, Some("123"), 3)),
        (swap(Some("123"), "x"), swapped(true, Some("123"), 6)),
        (Op::Delete(delete("a", Some(3))), Answer::Deleted(deleted(false, 6))),
        (Op::Delete(delete("a", Some(6))), Answer::Deleted(deleted(true, 6))),
        (Op::Delete(delete("a", Some(0))), Answer::Deleted(deleted(false, 0))),
        (Op::Delete(delete("a", None)), Answer::Deleted(deleted(false, 0))),
        (swap(Some("x"), "y"), swapped(false, None, 0)),
        (swap(None, "y"), swapped(true, None, 12)),
        // All compare with the state before, and each sees what those before it did.
        (
            txn(
                vec![has_version("a", 12), has_value("a", "y"), has_version("c", 0)],
                vec![
                    get("a"),
                    txn_op::Op::Append(append("a", "z")),
                    txn_op::Op::Put(put("c", "1")),
                    txn_op::Op::Delete(delete("c", Some(13))),
                    get("a"),
                    get("c"),
                ],
                vec![],
            ),
            done(
                true,
                vec![
                    got("y", 12),
                    txn_result::Result::Append(appended(13, 2)),
                    txn_result::Result::Put(PutReply { version: 13 }),
                    txn_result::Result::Delete(deleted(true, 13)),
                    got("yz", 13),
                    none(),
                ],
            ),
        ),
        (
            txn(vec![has_version("a", 12)], vec![txn_op::Op::Delete(delete("a", None))], vec![get("a")]),
            done(false, vec![got("yz", 13)]),
        ),
        (txn(vec![has_value("none", "")], vec![get("a")], vec![]), done(false, vec![])),
        (
            txn(vec![has_value("b", ""), has_version("b", 4)], vec![get("b")], vec![]),
            done(true, vec![got("", 4)]),
        ),
        (txn(vec![], vec![get("none")], vec![]), done(true, vec![none()])),
    ];
    let mut state = KeyValue::default();
    for (index, (op, want)) in (1..).zip(steps) {
        assert_eq!(apply(&mut state, index, op.clone()), want, "entry {index}: {op:?}");
    }
}

#[test]
fn a_transaction_that_cannot_be_done_whole_has_no_effect() {
    let mut state = KeyValue::default();
    let large = || Bytes::from(vec![b'x'; VALUE_BYTES_MAX]);
    apply(&mut state, 1, Op::Put(put("full", large())));
    apply(&mut state, 2, Op::Put(put("a", "1")));
    let before = state.read(&all());
    let changes = || {
        vec![
            txn_op::Op::Put(put("new", "1")),
            txn_op::Op::Delete(delete("a", None)),
            txn_op::Op::Put(put("a", "2")),
            txn_op::Op::Append(append("a", "3")),
        ]
    };
    let gets = |count| (0..count).map(|_| get("full"));
    let cases = [
        ("an append beyond the bound", vec![txn_op::Op::Append(append("full", "y"))]),
        ("more than a reply holds", gets(REPLY_BYTES_MAX / VALUE_BYTES_MAX).collect()),
    ];
    for (what, last) in cases {
        let op = txn(vec![], changes().into_iter().chain(last).collect(), vec![]);
        let answer = apply(&mut state, 3, op);
        let Answer::Refused(error) = answer else { panic!("{what}: {answer:?}") };
        assert_eq!(error.code(), ErrorCode::Invalid, "{what}");
        assert_eq!(state.read(&all()), before, "{what}");
    }
    let op = txn(vec![], gets(REPLY_BYTES_MAX / VALUE_BYTES_MAX - 1).collect(), vec![]);
    assert!(matches!(apply(&mut state, 3, op), Answer::Txn(_)));
}

fn all() -> Query {
    Query::Range { prefix: Bytes::new(), after: None, limit: 0 }
}

#[test]
fn a_range_is_in_order_within_its_prefix_and_says_whether_there_is_more() {
    let mut state = KeyValue::default();
    for (index, key) in (1..).zip(["b", "a", "ab", "abc", "ac", "a\u{ff}"]) {
        apply(&mut state, index, Op::Put(put(key, key)));
    }
    type Case = (&'static str, Option<&'static str>, u32, &'static [&'static str], bool);
    let cases: [Case; 10] = [
        ("", None, 0, &["a", "ab", "abc", "ac", "a\u{ff}", "b"], false),
        ("a", None, 0, &["a", "ab", "abc", "ac", "a\u{ff}"], false),
        ("ab", None, 0, &["ab", "abc"], false),
        ("a", None, 2, &["a", "ab"], true),
        ("a", Some("ab"), 2, &["abc", "ac"], true),
        ("a", Some("ac"), 2, &["a\u{ff}"], false),
        ("ab", Some("a"), 2, &["ab", "abc"], false),
        ("a", Some("b"), 0, &[], false),
        ("ab", Some("abx"), 0, &[], false),
        ("x", None, 0, &[], false),
    ];
    for (prefix, after, limit, want, more) in cases {
        let reading = state.read(&Query::Range { prefix: bytes(prefix), after: after.map(bytes), limit });
        let Reading::Ranged(RangeReply { pairs, more: is_more }) = reading else { panic!("{reading:?}") };
        let keys: Vec<_> = pairs.iter().map(|pair| str::from_utf8(&pair.key).unwrap()).collect();
        assert_eq!((&*keys, is_more), (want, more), "{prefix:?} after {after:?}, {limit}");
        assert!(pairs.iter().all(|pair| pair.key == pair.value && pair.version > 0));
    }
}

#[test]
fn a_range_fits_its_reply_and_goes_on_where_it_ended() {
    let mut state = KeyValue::default();
    let keys: Vec<_> = (0..7).map(|key| format!("k{key}")).collect();
    for (index, key) in (1..).zip(&keys) {
        apply(&mut state, index, Op::Put(put(key, vec![b'x'; VALUE_BYTES_MAX * 5 / 8])));
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let Reading::Ranged(reply) = state.read(&Query::Range { prefix: bytes("k"), after, limit: 0 }) else {
            panic!("a range is answered with a range")
        };
        assert!(reply.encoded_len() <= REPLY_BYTES_MAX + 8, "{} bytes", reply.encoded_len());
        assert_eq!(reply.pairs.len() == 3, reply.more, "all that fit, and no fewer");
        found.extend(reply.pairs.iter().map(|pair| String::from_utf8(pair.key.to_vec()).unwrap()));
        after = reply.pairs.last().map(|pair| pair.key.clone());
        if !reply.more {
            break;
        }
    }
    assert_eq!(found, keys);
}

#[test]
fn what_no_state_could_carry_out_is_refused() {
    let of = |count: usize| Bytes::from(vec![b'x'; count]);
    let key = |count: usize| String::from_utf8(vec![b'k'; count]).unwrap();
    let swap = |expected: usize, value: usize| {
        Op::CompareAndSwap(CompareAndSwap { key: bytes("k"), expected: Some(of(expected)), value: of(value) })
    };
    let gets = |count: usize| (0..count).map(|_| get("k")).collect::<Vec<_>>();
    let compares = |count: usize| (0..count).map(|_| has_version("k", 0)).collect::<Vec<_>>();
    let puts = |count: usize, bytes: usize| {
        (0..count).map(|_| txn_op::Op::Put(put("k", of(bytes)))).collect::<Vec<_>>()
    };
    let empty = Op::Txn(Txn { then: vec![TxnOp { op: None }], ..Txn::default() });
    let nothing = Op::Txn(Txn { compare: vec![Compare { key: of(1), is: None }], ..Txn::default() });
    let cases = [
        (Op::Put(put("k", of(VALUE_BYTES_MAX))), true),
        (Op::Put(put("k", of(VALUE_BYTES_MAX + 1))), false),
        (Op::Put(put(&key(KEY_BYTES_MAX), of(0))), true),
        (Op::Put(put(&key(KEY_BYTES_MAX + 1), of(0))), false),
        (Op::Put(put("", of(1))), false),
        (Op::Delete(delete("", None)), false),
        (Op::Append(append("k", of(VALUE_BYTES_MAX))), true),
        (Op::Append(append("k", of(VALUE_BYTES_MAX + 1))), false),
        (Op::Append(append("", of(1))), false),
        (swap(VALUE_BYTES_MAX, VALUE_BYTES_MAX), true),
        (swap(VALUE_BYTES_MAX + 1, 1), false),
        (swap(1, VALUE_BYTES_MAX + 1), false),
        (txn(compares(TXN_ITEMS_MAX), gets(TXN_ITEMS_MAX), gets(TXN_ITEMS_MAX)), true),
        (txn(compares(TXN_ITEMS_MAX + 1), vec![], vec![]), false),
        (txn(vec![], gets(TXN_ITEMS_MAX + 1), vec![]), false),
        (txn(vec![], vec![], gets(TXN_ITEMS_MAX + 1)), false),
        (txn(vec![], puts(1, VALUE_BYTES_MAX), vec![]), true),
        (txn(vec![], puts(2, TXN_BYTES_MAX / 2), vec![]), false),
        (txn(vec![], puts(1, VALUE_BYTES_MAX + 1), vec![]), false),
        (txn(vec![has_value("", "x")], vec![], vec![]), false),
        (txn(vec![], vec![get("")], vec![]), false),
        (txn(vec![], vec![], vec![txn_op::Op::Append(append("", "x"))]), false),
        (empty, false),
        (nothing, false),
    ];
    for (number, (op, allowed)) in cases.into_iter().enumerate() {
        let checked = limits::check(&op);
        assert_eq!(checked.is_ok(), allowed, "case {number}: {checked:?}");
        let whole =
            Command { ticket: Some(Ticket { session: u64::MAX, sequence: u64::MAX }), op: Some(op.clone()) };
        assert!(!allowed || whole.encoded_len() <= limits::COMMAND_BYTES_MAX, "case {number}");
        let refused = matches!(apply(&mut KeyValue::default(), 1, op), Answer::Refused(_));
        assert_eq!(refused, !allowed, "case {number}");
    }
}
