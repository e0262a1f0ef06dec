//! The key-value store: an ordered map of bytes, each value with the index of the entry that wrote it.
//!
//! In: operations, and the index of the entry that holds them. Out: answers. Never: half of a transaction.

use std::ops::Bound;

use imbl::OrdMap;
use mkraft_proto::v1::command::{Append, CompareAndSwap, Delete, Op, Put};
use mkraft_proto::v1::state_record::{self, Record};
use mkraft_proto::v1::{
    AppendReply, Compare, CompareAndSwapReply, DeleteReply, Error, ErrorCode, GetReply, PutReply, RangeReply,
    Txn, TxnOp, TxnReply, TxnResult, compare, range_reply, txn_op, txn_result,
};
use prost::Message;
use prost::bytes::{Bytes, BytesMut};

use super::limits::{self, RANGE_PAIRS_MAX, REPLY_BYTES_MAX, VALUE_BYTES_MAX};
use super::{Answer, StateMachine, Unfit};
use crate::raft::Entry;

#[derive(Clone, Default)]
pub struct KeyValue(OrdMap<Bytes, Versioned>);

#[derive(Clone, PartialEq, Debug)]
struct Versioned {
    value: Bytes,
    /// The index of the entry that wrote it.
    version: u64,
}

/// What may be asked of the store without an entry of the log.
#[derive(Clone, PartialEq, Debug)]
pub enum Query {
    Get {
        key: Bytes,
    },
    /// Keys that begin with `prefix` and are greater than `after`, at most `limit` of them and as many as a
    /// reply holds; a limit of 0 is none of its own.
    Range {
        prefix: Bytes,
        after: Option<Bytes>,
        limit: u32,
    },
}

#[derive(Clone, PartialEq, Debug)]
pub enum Reading {
    Got(GetReply),
    Ranged(RangeReply),
}

impl StateMachine for KeyValue {
    const NAME: &'static str = "kv";

    fn apply(&mut self, entry: &Entry, op: Op) -> Answer {
        let result = limits::check(&op).and_then(|()| self.carry_out(entry.index.0, op));
        result.unwrap_or_else(Answer::Refused)
    }

    fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.0.iter().map(|(key, Versioned { value, version })| {
            let (key, value) = (key.clone(), value.clone());
            Record::Pair(state_record::Pair { key, value, version: *version })
        })
    }

    fn restore(&mut self, record: Record) -> Result<(), Unfit> {
        let Record::Pair(state_record::Pair { key, value, version }) = record else {
            return Err(Unfit("is not of a key-value store".into()));
        };
        let checked = limits::check(&Op::Put(Put { key: key.clone(), value: value.clone() }));
        checked.map_err(|error| Unfit(format!("breaks a bound: {}", error.message)))?;
        if version == 0 {
            return Err(Unfit("has a value without a version".into()));
        }
        if self.0.get_max().is_some_and(|(last, _)| key <= *last) {
            return Err(Unfit("has a key out of order".into()));
        }
        self.0.insert(key, Versioned { value, version });
        Ok(())
    }
}

impl KeyValue {
    pub fn read(&self, query: &Query) -> Reading {
        match query {
            Query::Get { key } => Reading::Got(self.get(key)),
            Query::Range { prefix, after, limit } => {
                Reading::Ranged(self.range(prefix, after.as_deref(), *limit))
            }
        }
    }

    pub fn get(&self, key: &[u8]) -> GetReply {
        match self.0.get(key) {
            Some(Versioned { value, version }) => GetReply { value: Some(value.clone()), version: *version },
            None => GetReply { value: None, version: 0 },
        }
    }

    fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: u32) -> RangeReply {
        let limit = if limit == 0 { RANGE_PAIRS_MAX } else { RANGE_PAIRS_MAX.min(limit as usize) };
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut reply = RangeReply::default();
        let mut bytes = 0;
        let found = self.0.range::<_, [u8]>((start, Bound::Unbounded));
        for (key, Versioned { value, version }) in found.take_while(|(key, _)| key.starts_with(prefix)) {
            let pair = range_reply::Pair { key: key.clone(), value: value.clone(), version: *version };
            bytes += framed(pair.encoded_len());
            if reply.pairs.len() == limit || bytes > REPLY_BYTES_MAX {
                reply.more = true;
                break;
            }
            reply.pairs.push(pair);
        }
        reply
    }

    fn carry_out(&mut self, index: u64, op: Op) -> Result<Answer, Error> {
        Ok(match op {
            Op::Put(put) => Answer::Put(self.put(index, put)),
            Op::Delete(delete) => Answer::Deleted(self.delete(delete)),
            Op::Append(append) => Answer::Appended(self.append(index, append)?),
            Op::CompareAndSwap(swap) => Answer::Swapped(self.compare_and_swap(index, swap)),
            Op::Txn(txn) => Answer::Txn(self.txn(index, txn)?),
            Op::OpenSession(_) => {
                return Err(Error::new(ErrorCode::Invalid, "sessions are not the state machine's"));
            }
        })
    }

    fn put(&mut self, version: u64, Put { key, value }: Put) -> PutReply {
        self.0.insert(key, Versioned { value, version });
        PutReply { version }
    }

    fn delete(&mut self, Delete { key, version }: Delete) -> DeleteReply {
        let seen = self.version(&key);
        let deleted = seen != 0 && version.is_none_or(|version| version == seen);
        if deleted {
            self.0.remove(&*key);
        }
        DeleteReply { deleted, seen }
    }

    fn append(&mut self, version: u64, Append { key, suffix }: Append) -> Result<AppendReply, Error> {
        let value = self.0.get(&*key).map(|held| held.value.clone()).unwrap_or_default();
        let length = value.len() + suffix.len();
        if length > VALUE_BYTES_MAX {
            let message = format!(
                "a value has at most {VALUE_BYTES_MAX} bytes, this one would have {length} with what is appended"
            );
            return Err(Error::new(ErrorCode::Invalid, message));
        }
        let mut appended = BytesMut::with_capacity(length);
        appended.extend_from_slice(&value);
        appended.extend_from_slice(&suffix);
        self.0.insert(key, Versioned { value: appended.freeze(), version });
        Ok(AppendReply { version, length: length as u64 })
    }

    fn compare_and_swap(&mut self, index: u64, swap: CompareAndSwap) -> CompareAndSwapReply {
        let CompareAndSwap { key, expected, value } = swap;
        let GetReply { value: seen, version } = self.get(&key);
        let swapped = seen == expected;
        if swapped {
            self.0.insert(key, Versioned { value, version: index });
        }
        CompareAndSwapReply { swapped, seen, version: if swapped { index } else { version } }
    }

    fn txn(&mut self, index: u64, Txn { compare, then, otherwise }: Txn) -> Result<TxnReply, Error> {
        let succeeded = compare.iter().all(|compare| self.holds(compare));
        let mut before = Vec::new();
        let done = self.txn_ops(index, if succeeded { then } else { otherwise }, &mut before);
        if done.is_err() {
            // Newest first: a key that was changed twice gets back what it held at the start.
            for (key, held) in before.into_iter().rev() {
                match held {
                    Some(held) => self.0.insert(key, held),
                    None => self.0.remove(&*key),
                };
            }
        }
        Ok(TxnReply { succeeded, results: done? })
    }

    fn holds(&self, Compare { key, is }: &Compare) -> bool {
        match is {
            Some(compare::Is::Version(version)) => self.version(key) == *version,
            Some(compare::Is::Value(value)) => self.0.get(&**key).is_some_and(|held| held.value == *value),
            None => false,
        }
    }

    /// What each key held before it is changed goes to `before`, for the case that a later operation fails.
    fn txn_ops(
        &mut self,
        index: u64,
        ops: Vec<TxnOp>,
        before: &mut Vec<(Bytes, Option<Versioned>)>,
    ) -> Result<Vec<TxnResult>, Error> {
        let mut results = Vec::with_capacity(ops.len());
        let mut bytes = 0;
        for op in ops.into_iter().filter_map(|TxnOp { op }| op) {
            let changed = match &op {
                txn_op::Op::Get(_) => None,
                txn_op::Op::Put(Put { key, .. })
                | txn_op::Op::Delete(Delete { key, .. })
                | txn_op::Op::Append(Append { key, .. }) => Some(key),
            };
            if let Some(key) = changed {
                before.push((key.clone(), self.0.get(&**key).cloned()));
            }
            let result = match op {
                txn_op::Op::Get(txn_op::Get { key }) => txn_result::Result::Get(self.get(&key)),
                txn_op::Op::Put(put) => txn_result::Result::Put(self.put(index, put)),
                txn_op::Op::Delete(delete) => txn_result::Result::Delete(self.delete(delete)),
                txn_op::Op::Append(append) => txn_result::Result::Append(self.append(index, append)?),
            };
            let result = TxnResult { result: Some(result) };
            bytes += framed(result.encoded_len());
            if bytes > REPLY_BYTES_MAX {
                let message =
                    format!("what a transaction gets has at most {REPLY_BYTES_MAX} bytes, this is more");
                return Err(Error::new(ErrorCode::Invalid, message));
            }
            results.push(result);
        }
        Ok(results)
    }

    fn version(&self, key: &[u8]) -> u64 {
        self.0.get(key).map_or(0, |held| held.version)
    }
}

/// With its tag and length, as one of several in a message.
fn framed(bytes: usize) -> usize {
    1 + prost::length_delimiter_len(bytes) + bytes
}
