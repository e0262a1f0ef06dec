//! The key-value store: an ordered map of bytes.

use std::collections::BTreeMap;

use mkraft_proto::v1::ErrorCode;
use mkraft_proto::v1::command::{self, CompareAndSwap, Delete, Op, Put};

use super::{Answer, StateMachine};

#[derive(Default)]
pub struct KeyValue(BTreeMap<Vec<u8>, Vec<u8>>);

impl StateMachine for KeyValue {
    fn apply(&mut self, op: command::Op) -> Answer {
        match op {
            Op::Put(Put { key, value }) => {
                self.0.insert(key.into(), value.into());
                Answer::Put
            }
            Op::Delete(Delete { key }) => Answer::Deleted { existed: self.0.remove(&*key).is_some() },
            Op::CompareAndSwap(CompareAndSwap { key, expected, value }) => {
                let seen = self.0.get(&*key).cloned();
                let swapped = seen.as_deref() == expected.as_deref();
                if swapped {
                    self.0.insert(key.into(), value.into());
                }
                Answer::Swapped { swapped, seen }
            }
            Op::OpenSession(_) => {
                Answer::Refused { code: ErrorCode::Invalid, why: "sessions are not the state machine's" }
            }
        }
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key).cloned()
    }
}
