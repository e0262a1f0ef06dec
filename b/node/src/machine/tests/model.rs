//! The key-value store against a plain map that copies itself for each transaction.

use std::collections::BTreeMap;

use mkraft_proto::v1::command::Op;
use mkraft_proto::v1::state_record;
use mkraft_proto::v1::{
    AppendReply, CompareAndSwapReply, DeleteReply, GetReply, PutReply, RangeReply, Txn, TxnReply, TxnResult,
    compare, range_reply, txn_op, txn_result,
};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::bytes::Bytes;

use super::super::limits::{RANGE_PAIRS_MAX, REPLY_BYTES_MAX, VALUE_BYTES_MAX};
use super::*;

#[derive(Clone, Default)]
struct Model(BTreeMap<Bytes, (Bytes, u64)>);

impl Model {
    /// None where it cannot be done.
    fn apply(&mut self, index: u64, op: Op) -> Option<Answer> {
        Some(match op {
            Op::Put(put) => {
                self.0.insert(put.key, (put.value, index));
                Answer::Put(PutReply { version: index })
            }
            Op::Delete(delete) => {
                let seen = self.version(&delete.key);
                let deleted = seen > 0 && delete.version.unwrap_or(seen) == seen;
                if deleted {
                    self.0.remove(&delete.key);
                }
                Answer::Deleted(DeleteReply { deleted, seen })
            }
            Op::Append(append) => {
                let before = self.0.get(&append.key).map(|(value, _)| value.clone()).unwrap_or_default();
                let value = [before, append.suffix].concat();
                let length = value.len() as u64;
                if value.len() > VALUE_BYTES_MAX {
                    return None;
                }
                self.0.insert(append.key, (value.into(), index));
                Answer::Appended(AppendReply { version: index, length })
            }
            Op::CompareAndSwap(swap) => {
                let seen = self.0.get(&swap.key).map(|(value, _)| value.clone());
                let swapped = seen == swap.expected;
                if swapped {
                    self.0.insert(swap.key.clone(), (swap.value, index));
                }
                Answer::Swapped(CompareAndSwapReply { swapped, seen, version: self.version(&swap.key) })
            }
            Op::Txn(txn) => Answer::Txn(self.txn(index, txn)?),
            Op::OpenSession(_) => return None,
        })
    }

    fn txn(&mut self, index: u64, Txn { compare, then, otherwise }: Txn) -> Option<TxnReply> {
        let succeeded = compare.iter().all(|compare| match compare.is.as_ref().unwrap() {
            compare::Is::Version(version) => self.version(&compare.key) == *version,
            compare::Is::Value(value) => self.0.get(&compare.key).is_some_and(|(held, _)| held == value),
        });
        let mut after = self.clone();
        let mut reply = TxnReply { succeeded, results: Vec::new() };
        for op in if succeeded { then } else { otherwise } {
            let op = match op.op.unwrap() {
                txn_op::Op::Get(txn_op::Get { key }) => {
                    let value = after.0.get(&key).map(|(value, _)| value.clone());
                    let result = txn_result::Result::Get(GetReply { value, version: after.version(&key) });
                    reply.results.push(TxnResult { result: Some(result) });
                    continue;
                }
                txn_op::Op::Put(put) => Op::Put(put),
                txn_op::Op::Delete(delete) => Op::Delete(delete),
                txn_op::Op::Append(append) => Op::Append(append),
            };
            let result = match after.apply(index, op)? {
                Answer::Put(reply) => txn_result::Result::Put(reply),
                Answer::Deleted(reply) => txn_result::Result::Delete(reply),
                Answer::Appended(reply) => txn_result::Result::Append(reply),
                answer => panic!("{answer:?}"),
            };
            reply.results.push(TxnResult { result: Some(result) });
        }
        let results = TxnReply { succeeded: false, ..reply.clone() };
        if results.encoded_len() > REPLY_BYTES_MAX {
            return None;
        }
        *self = after;
        Some(reply)
    }

    fn version(&self, key: &Bytes) -> u64 {
        self.0.get(key).map_or(0, |(_, version)| *version)
    }

    fn range(&self, prefix: &[u8], after: Option<&[u8]>) -> RangeReply {
        let mut reply = RangeReply::default();
        let found = self.0.iter().filter(|(key, _)| key.starts_with(prefix));
        for (key, (value, version)) in found.filter(|(key, _)| after.is_none_or(|after| &***key > after)) {
            let pair = range_reply::Pair { key: key.clone(), value: value.clone(), version: *version };
            reply.pairs.push(pair);
            if reply.encoded_len() > REPLY_BYTES_MAX || reply.pairs.len() > RANGE_PAIRS_MAX {
                reply.pairs.pop();
                reply.more = true;
                break;
            }
        }
        reply
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_store_answers_as_a_plain_map_does(
        ops in vec(commands::op(), 1..300),
        ranges in vec(("(k[0-9]{0,2})?", proptest::option::of("k[0-9]{0,3}")), 8),
    ) {
        let (mut state, mut model) = (KeyValue::default(), Model::default());
        for (index, op) in (1..).zip(ops) {
            let entry = entry(index, Command { ticket: None, op: Some(op.clone()) });
            let answer = state.apply(&entry, op.clone());
            match limits::check(&op).ok().and_then(|()| model.apply(index, op)) {
                Some(want) => prop_assert_eq!(answer, want, "entry {}", index),
                None => prop_assert!(matches!(answer, Answer::Refused(_)), "entry {index}: {answer:?}"),
            }
        }
        let record = |(key, (value, version)): (&Bytes, &(Bytes, u64))| {
            Record::Pair(state_record::Pair { key: key.clone(), value: value.clone(), version: *version })
        };
        prop_assert!(state.records().eq(model.0.iter().map(record)), "they end with other pairs");
        for (prefix, after) in ranges {
            let want = model.range(prefix.as_bytes(), after.as_deref().map(str::as_bytes));
            let query = Query::Range { prefix: prefix.into(), after: after.map(Bytes::from), limit: 0 };
            prop_assert_eq!(state.read(&query), Reading::Ranged(want), "{:?}", query);
        }
    }
}
