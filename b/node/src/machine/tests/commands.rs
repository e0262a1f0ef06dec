//! Random entries for machines: sessions opened and used rightly and wrongly, and every operation.

use std::ops::Range;

use mkraft_proto::v1::command::{Append, CompareAndSwap, Delete, Op, Put};
use mkraft_proto::v1::{Compare, Ticket, Txn, TxnOp, compare, txn_op};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::bytes::Bytes;

use super::super::limits::VALUE_BYTES_MAX;
use super::*;

/// More than a few nodes of the map hold.
const KEYS: u32 = 300;

/// A command, as far as it can be said without what came before it.
#[derive(Clone, Debug)]
pub enum Step {
    Noop,
    Open,
    /// Without a session.
    Bare(Op),
    /// Within one of those opened so far, the `session`th from the last; `ahead` of its highest sequence.
    Within {
        session: usize,
        ahead: i64,
        op: Op,
    },
}

/// The first has index 1.
pub fn entries(steps: &[Step]) -> Vec<Entry> {
    let mut opened: Vec<(u64, i64)> = Vec::new();
    let command = |(index, step): (u64, &Step)| {
        let command = match step {
            Step::Noop => {
                let noop = Entry { kind: EntryKind::Noop, ..entry(index, open()) };
                return Entry { payload: [].into(), ..noop };
            }
            Step::Open => {
                opened.push((index, 0));
                open()
            }
            Step::Bare(op) => Command { ticket: None, op: Some(op.clone()) },
            Step::Within { session, ahead, op } => {
                let at = opened.len().checked_sub(1 + session);
                let ticket = match at.and_then(|at| opened.get_mut(at)) {
                    // Never opened.
                    None => Ticket { session: index + 1, sequence: 1 },
                    Some((session, highest)) => {
                        let sequence = (*highest + ahead).max(1);
                        *highest = sequence.max(*highest);
                        Ticket { session: *session, sequence: sequence as u64 }
                    }
                };
                Command { ticket: Some(ticket), op: Some(op.clone()) }
            }
        };
        entry(index, command)
    };
    (1..).zip(steps).map(command).collect()
}

pub fn steps(count: Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::Noop),
        2 => Just(Step::Open),
        3 => op().prop_map(Step::Bare),
        9 => (0..6_usize, -1..3_i64, op())
            .prop_map(|(session, ahead, op)| Step::Within { session, ahead, op }),
    ];
    vec(step, count)
}

pub fn op() -> impl Strategy<Value = Op> {
    let txn = (vec(compare(), 0..3), vec(txn_op(), 0..6), vec(txn_op(), 0..6)).prop_map(
        |(compare, then, otherwise)| {
            let ops = |ops: Vec<txn_op::Op>| ops.into_iter().map(|op| TxnOp { op: Some(op) }).collect();
            Op::Txn(Txn { compare, then: ops(then), otherwise: ops(otherwise) })
        },
    );
    let swap = (key(), proptest::option::of(value()), value())
        .prop_map(|(key, expected, value)| CompareAndSwap { key, expected, value });
    prop_oneof![
        3 => put().prop_map(Op::Put),
        2 => delete().prop_map(Op::Delete),
        2 => append().prop_map(Op::Append),
        2 => swap.prop_map(Op::CompareAndSwap),
        3 => txn,
    ]
}

fn key() -> impl Strategy<Value = Bytes> {
    // Some keys are met often.
    prop_oneof![0..4_u32, 0..KEYS].prop_map(|key| Bytes::from(format!("k{key}")))
}

/// Some so large that two do not fit together.
fn value() -> impl Strategy<Value = Bytes> {
    let large = Bytes::from(vec![b'x'; VALUE_BYTES_MAX / 2 + 1]);
    prop_oneof![25 => "[ab]{0,2}".prop_map(Bytes::from), 1 => Just(large)]
}

fn put() -> impl Strategy<Value = Put> {
    (key(), value()).prop_map(|(key, value)| Put { key, value })
}

fn append() -> impl Strategy<Value = Append> {
    (key(), value()).prop_map(|(key, suffix)| Append { key, suffix })
}

fn delete() -> impl Strategy<Value = Delete> {
    (key(), proptest::option::of(0..50_u64)).prop_map(|(key, version)| Delete { key, version })
}

fn compare() -> impl Strategy<Value = Compare> {
    let is = prop_oneof![
        3 => Just(compare::Is::Version(0)),
        1 => (0..50_u64).prop_map(compare::Is::Version),
        1 => value().prop_map(compare::Is::Value),
    ];
    (key(), is).prop_map(|(key, is)| Compare { key, is: Some(is) })
}

fn txn_op() -> impl Strategy<Value = txn_op::Op> {
    prop_oneof![
        key().prop_map(|key| txn_op::Op::Get(txn_op::Get { key })),
        put().prop_map(txn_op::Op::Put),
        delete().prop_map(txn_op::Op::Delete),
        append().prop_map(txn_op::Op::Append),
    ]
}
