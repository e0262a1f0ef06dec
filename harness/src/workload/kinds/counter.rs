//! One integer a key: an add reads it, and writes the sum if nobody wrote since.
//!
//! Two adds that build on the same read must not both succeed. One that lost the race has certainly failed, and is not
//! tried again: a failure that counts all the same is then seen.

use serde_json::{Value, json};

use super::super::generator::Draw;
use super::super::lore::Lore;
use super::super::operation::{Invocation, Kind, LastLook, Operation, Step};
use super::super::text::{encode, key_bytes, key_name, number};
use super::RACE_LOST;
use crate::scenario::Counter;
use crate::system::call::{Act, Call, Compare, Found, Reply, Txn};

/// Drawn this widely, the addends of a few open adds do not come to the same as one that was lost or doubled.
const ADDEND_MAX: u32 = 1_000_000;

#[derive(Debug)]
struct Access {
    key: u32,
    /// None reads.
    add: Option<i64>,
}

impl Kind for Counter {
    fn draw(&self, draw: &mut Draw) -> Box<dyn Operation> {
        let key = draw.below(self.keys);
        let add = match draw.among(&[self.add, self.read]) {
            0 => {
                let addend = i64::from(1 + draw.below(ADDEND_MAX));
                Some(if draw.below(4) == 0 { -addend } else { addend })
            }
            _ => None,
        };
        Box::new(Access { key, add })
    }

    fn last_looks(&self, _: &Lore, _: &mut Draw) -> Vec<LastLook> {
        let look = |key| LastLook { name: key_name(key), operation: Box::new(Access { key, add: None }) };
        (0..self.keys).map(look).collect()
    }
}

/// Nothing is 0; what is no number stays as it is.
fn count(found: &Found) -> Result<i64, Value> {
    match found.value.as_deref() {
        None => Ok(0),
        Some(bytes) => number(bytes).ok_or_else(|| Value::from(String::from_utf8_lossy(bytes))),
    }
}

fn shown(found: &Found) -> Value {
    count(found).map_or_else(|strange| strange, Value::from)
}

impl Operation for Access {
    fn invocation(&self) -> Invocation {
        let (f, value) = self.add.map_or(("read", Value::Null), |addend| ("add", json!(addend)));
        Invocation { f, key: Some(key_name(self.key)), value }
    }

    fn changes(&self) -> bool {
        self.add.is_some()
    }

    fn next(&mut self, reply: Option<Reply>, _: &Lore) -> Step {
        let key = key_bytes(self.key);
        let Some(addend) = self.add else {
            return reply.map_or(Step::Ask(Call::Get { key }), |reply| Step::Ok(shown(&reply.got())));
        };
        match reply {
            None => Step::Ask(Call::Get { key }),
            Some(Reply::Got(found)) => match count(&found).map(|count| count.checked_add(addend)) {
                Ok(Some(sum)) => Step::Ask(Call::Txn(Txn {
                    compare: vec![Compare::version(key.clone(), found.version)],
                    then: vec![Act::Put { key: key.clone(), value: encode(sum) }],
                    otherwise: vec![Act::Get { key }],
                })),
                _ => Step::Fail { error: format!("{} is no count to add to", shown(&found)), seen: None },
            },
            Some(reply) => {
                let done = reply.txn();
                match done.found.first() {
                    _ if done.succeeded => Step::Ok(json!(addend)),
                    found => {
                        Step::Fail { error: RACE_LOST.into(), seen: Some(found.map_or(Value::Null, shown)) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Store, carry_out, finish};
    use super::*;

    #[test]
    fn adds_add_up_whatever_their_sign() {
        let (mut store, lore) = (Store::default(), Lore::default());
        let read = |store: &mut Store| carry_out(&mut Access { key: 1, add: None }, store, &lore);
        assert_eq!(read(&mut store), Step::Ok(json!(0)));
        for addend in [5, -12, 3] {
            let mut add = Access { key: 1, add: Some(addend) };
            assert_eq!(carry_out(&mut add, &mut store, &lore), Step::Ok(json!(addend)));
        }
        assert_eq!(read(&mut store), Step::Ok(json!(-4)));
        assert_eq!(store.text("k1").as_deref(), Some("-4"));
    }

    #[test]
    fn of_two_adds_that_build_on_the_same_read_one_fails_and_says_what_it_found() {
        let (mut store, lore) = (Store::default(), Lore::default());
        let mut slow = Access { key: 0, add: Some(1) };
        let Step::Ask(get) = slow.next(None, &lore) else { panic!("an add reads first") };
        let deciding = slow.next(Some(store.carry_out(get)), &lore);
        assert_eq!(carry_out(&mut Access { key: 0, add: Some(5) }, &mut store, &lore), Step::Ok(json!(5)));
        let end = finish(&mut slow, deciding, &mut store, &lore);
        assert_eq!(end, Step::Fail { error: RACE_LOST.into(), seen: Some(json!(5)) });
        assert_eq!(store.text("k0").as_deref(), Some("5"));
    }

    #[test]
    fn what_is_no_number_is_shown_and_not_added_to() {
        let (mut store, lore) = (Store::default(), Lore::default());
        store.put("k0", "5x");
        assert_eq!(carry_out(&mut Access { key: 0, add: None }, &mut store, &lore), Step::Ok(json!("5x")));
        let end = carry_out(&mut Access { key: 0, add: Some(1) }, &mut store, &lore);
        assert!(matches!(end, Step::Fail { seen: None, .. }), "{end:?}");
    }
}
