//! How large what a client sends may be, and what it is told.
//!
//! In: an operation. Out: the reason why no node carries it out, if there is one. Never: a look at the state.
//!
//! Nodes that disagree on one of these would go different ways with the same log: they are no setting, and a
//! change of one is a new version of the state machine.

use mkraft_proto::v1::command::{self, Op};
use mkraft_proto::v1::{Compare, Error, ErrorCode, Txn, TxnOp, compare, txn_op};
use prost::Message;

pub const KEY_BYTES_MAX: usize = 4 << 10;
/// Also of a value that appends have made.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Comparisons of a transaction; and operations, in each of its two lists.
pub const TXN_ITEMS_MAX: usize = 128;
/// Of a transaction with all its keys and values, encoded.
pub const TXN_BYTES_MAX: usize = 2 << 20;
/// Of the results of a transaction, or the pairs of a range: below the 4 MiB that gRPC clients take unasked.
pub const REPLY_BYTES_MAX: usize = 2 << 20;
pub const RANGE_PAIRS_MAX: usize = 1024;
/// The largest command: a compare-and-swap, with what its encoding adds to its key and two values.
pub const COMMAND_BYTES_MAX: usize = KEY_BYTES_MAX + 2 * VALUE_BYTES_MAX + FRAMING_BYTES_MAX;

/// What a command adds to what it carries.
const FRAMING_BYTES_MAX: usize = 256;

const _: () = assert!(TXN_BYTES_MAX + FRAMING_BYTES_MAX <= COMMAND_BYTES_MAX);
// One value must fit where several may be asked for.
const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX + FRAMING_BYTES_MAX <= REPLY_BYTES_MAX);

/// Refuses what no state could carry out.
pub fn check(op: &Op) -> Result<(), Error> {
    match op {
        Op::OpenSession(_) => Ok(()),
        Op::Put(put) => check_put(put),
        Op::Delete(command::Delete { key, .. }) => check_key(key),
        Op::Append(append) => check_append(append),
        Op::CompareAndSwap(command::CompareAndSwap { key, expected, value }) => {
            check_key(key)?;
            check_value(expected.as_deref().unwrap_or_default())?;
            check_value(value)
        }
        Op::Txn(txn) => check_txn(txn),
    }
}

pub fn check_key(key: &[u8]) -> Result<(), Error> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return invalid(format!("a key has 1 to {KEY_BYTES_MAX} bytes, this one has {}", key.len()));
    }
    Ok(())
}

/// Of the keys of a range, or where one begins.
pub fn check_prefix(prefix: &[u8]) -> Result<(), Error> {
    if prefix.len() > KEY_BYTES_MAX {
        return invalid(format!("a key has at most {KEY_BYTES_MAX} bytes, this prefix has {}", prefix.len()));
    }
    Ok(())
}

fn check_value(value: &[u8]) -> Result<(), Error> {
    if value.len() > VALUE_BYTES_MAX {
        return invalid(format!("a value has at most {VALUE_BYTES_MAX} bytes, this one has {}", value.len()));
    }
    Ok(())
}

fn check_put(put: &command::Put) -> Result<(), Error> {
    check_key(&put.key)?;
    check_value(&put.value)
}

fn check_append(append: &command::Append) -> Result<(), Error> {
    check_key(&append.key)?;
    check_value(&append.suffix)
}

fn check_txn(txn: &Txn) -> Result<(), Error> {
    let Txn { compare, then, otherwise } = txn;
    let lists = [("comparisons", compare.len()), ("operations", then.len()), ("operations", otherwise.len())];
    for (what, count) in lists {
        if count > TXN_ITEMS_MAX {
            return invalid(format!(
                "a transaction has at most {TXN_ITEMS_MAX} {what}, this one has {count}"
            ));
        }
    }
    let bytes = txn.encoded_len();
    if bytes > TXN_BYTES_MAX {
        return invalid(format!("a transaction has at most {TXN_BYTES_MAX} bytes, this one has {bytes}"));
    }
    for Compare { key, is } in compare {
        check_key(key)?;
        match is {
            Some(compare::Is::Version(_)) => {}
            Some(compare::Is::Value(value)) => check_value(value)?,
            None => return invalid("a comparison is with a version or with a value"),
        }
    }
    for TxnOp { op } in then.iter().chain(otherwise) {
        match op {
            Some(txn_op::Op::Get(txn_op::Get { key })) => check_key(key)?,
            Some(txn_op::Op::Put(put)) => check_put(put)?,
            Some(txn_op::Op::Delete(command::Delete { key, .. })) => check_key(key)?,
            Some(txn_op::Op::Append(append)) => check_append(append)?,
            None => return invalid("an operation of a transaction is a get, put, delete or append"),
        }
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> Result<(), Error> {
    Err(Error::new(ErrorCode::Invalid, message))
}
