//! What a client may ask of a key-value node, and what it may be told: the words between users and a system.
//!
//! In: keys, values, versions. Out: [`Call`] and [`Reply`], plain values. Never: how either goes over a wire.

use prost::bytes::Bytes;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Get {
        key: Bytes,
    },
    Put {
        key: Bytes,
        value: Bytes,
    },
    /// `expected`: absent asks that the key does not exist.
    CompareAndSwap {
        key: Bytes,
        expected: Option<Bytes>,
        value: Bytes,
    },
    /// Adds bytes at the end of a value.
    Append {
        key: Bytes,
        suffix: Bytes,
    },
    Txn(Txn),
}

/// Several acts at one moment: `then` if every comparison is true, else `otherwise`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub then: Vec<Act>,
    pub otherwise: Vec<Act>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    pub key: Bytes,
    pub is: Is,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Is {
    /// 0: the key does not exist.
    Version(u64),
    Value(Bytes),
}

/// Each sees what those before it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Get { key: Bytes },
    Put { key: Bytes, value: Bytes },
    Delete { key: Bytes },
    Append { key: Bytes, suffix: Bytes },
}

/// The answer to a [`Call`] of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Got(Found),
    /// To a put or an append.
    Done,
    Swapped(Swap),
    Txn(TxnDone),
}

/// What a key held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Absent when there was no such key.
    pub value: Option<Bytes>,
    /// 0 when there was no such key.
    pub version: u64,
}

/// What a compare-and-swap came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    pub swapped: bool,
    /// What the key held just before; absent when it did not exist.
    pub seen: Option<Bytes>,
}

/// What a transaction came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnDone {
    /// Every comparison was true.
    pub succeeded: bool,
    /// What the gets among the acts that were done found, in their order.
    pub found: Vec<Found>,
}

impl Call {
    /// Whether it may change anything.
    pub fn changes(&self) -> bool {
        match self {
            Call::Get { .. } => false,
            Call::Put { .. } | Call::CompareAndSwap { .. } | Call::Append { .. } => true,
            Call::Txn(txn) => txn.then.iter().chain(&txn.otherwise).any(|act| !act.is_get()),
        }
    }
}

impl Txn {
    /// Reads these keys at one moment.
    pub fn read(keys: impl IntoIterator<Item = Bytes>) -> Txn {
        Txn { then: keys.into_iter().map(|key| Act::Get { key }).collect(), ..Txn::default() }
    }
}

impl Act {
    pub fn is_get(&self) -> bool {
        matches!(self, Act::Get { .. })
    }
}

impl Compare {
    pub fn version(key: Bytes, version: u64) -> Compare {
        Compare { key, is: Is::Version(version) }
    }

    pub fn value(key: Bytes, value: Bytes) -> Compare {
        Compare { key, is: Is::Value(value) }
    }
}

/// Each panics when the reply is to another kind of call: a client gives none such.
impl Reply {
    pub fn got(self) -> Found {
        match self {
            Reply::Got(found) => found,
            other => panic!("a get was answered by {other:?}"),
        }
    }

    pub fn swapped(self) -> Swap {
        match self {
            Reply::Swapped(swap) => swap,
            other => panic!("a compare-and-swap was answered by {other:?}"),
        }
    }

    pub fn txn(self) -> TxnDone {
        match self {
            Reply::Txn(done) => done,
            other => panic!("a transaction was answered by {other:?}"),
        }
    }
}
