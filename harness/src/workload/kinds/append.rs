//! Transactions over several lists (Elle's list-append): each reads lists and appends elements that nobody else appends.
//!
//! What a list holds tells which transactions came before which, so that a judge finds cycles among them. Three kinds
//! take different ways through a node: appends without a condition, reads alone, and reads whose lists are written
//! whole, by a second request that compares the versions which the first one found.

use std::collections::BTreeMap;

use prost::bytes::Bytes;
use serde_json::{Value, json};

use super::super::generator::Draw;
use super::super::lore::Lore;
use super::super::operation::{Invocation, Kind, LastLook, Operation, Step};
use super::super::text::{element, key_bytes, key_name, list};
use super::{LAST_LOOKS_MAX, RACE_LOST};
use crate::scenario::Append;
use crate::system::call::{Act, Call, Compare, Found, Reply, Txn};

/// Lists that one of the last reads takes.
const LOOK_TOGETHER: u32 = 8;

#[derive(Debug)]
struct Transaction {
    manner: Manner,
    steps: Vec<Micro>,
    appends_per_key: u32,
    /// What the reads are told; as soon as it is known.
    lists: Vec<Value>,
    /// The request that compares is under way.
    comparing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Everything in one request, whatever the lists hold.
    AtOnce,
    /// Read first, then write if nobody wrote since.
    Compare,
}

#[derive(Debug)]
struct Micro {
    list: List,
    /// None reads.
    append: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum List {
    /// Whatever list is in use there when the transaction starts.
    Slot(u32),
    Key(u32),
}

impl Kind for Append {
    fn draw(&self, draw: &mut Draw) -> Box<dyn Operation> {
        let (manner, appends) = match draw.among(&[self.append, self.read, self.compare]) {
            0 => (Manner::AtOnce, true),
            1 => (Manner::AtOnce, false),
            _ => (Manner::Compare, true),
        };
        let count = 1 + draw.below(self.operations);
        // One at least.
        let certain = draw.below(count);
        let micro = |place| {
            let list = List::Slot(draw.below(self.keys));
            let append = (appends && (place == certain || draw.below(2) == 0)).then(|| draw.value());
            Micro { list, append }
        };
        let steps = (0..count).map(micro).collect();
        Box::new(Transaction {
            manner,
            steps,
            appends_per_key: self.appends_per_key,
            lists: Vec::new(),
            comparing: false,
        })
    }

    fn last_looks(&self, lore: &Lore, _: &mut Draw) -> Vec<LastLook> {
        let used = lore.keys_used();
        let keys: Vec<u32> = (used.saturating_sub(LAST_LOOKS_MAX)..used).rev().collect();
        let look = |keys: &[u32]| {
            let names: Vec<_> = keys.iter().map(|key| key_name(*key)).collect();
            let steps = keys.iter().map(|key| Micro { list: List::Key(*key), append: None }).collect();
            let (manner, appends_per_key) = (Manner::AtOnce, self.appends_per_key);
            let transaction =
                Transaction { manner, steps, appends_per_key, lists: Vec::new(), comparing: false };
            LastLook { name: names.join(", "), operation: Box::new(transaction) }
        };
        keys.chunks(LOOK_TOGETHER as usize).map(look).collect()
    }
}

impl Micro {
    fn key(&self) -> u32 {
        match self.list {
            List::Key(key) => key,
            List::Slot(_) => panic!("asked for its key before it began: {self:?}"),
        }
    }

    fn act(&self) -> Act {
        let key = key_bytes(self.key());
        match self.append {
            Some(value) => Act::Append { key, suffix: element(value) },
            None => Act::Get { key },
        }
    }
}

impl Transaction {
    /// Each key once.
    fn keys(&self) -> Vec<u32> {
        let mut keys: Vec<u32> = self.steps.iter().map(Micro::key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The reads are told what was `found`, and what this transaction itself appended to it. What is so written is
    /// written only if every list is still as it was found.
    fn compared(&mut self, found: Vec<Found>) -> Txn {
        let keys = self.keys();
        let mut txn =
            Txn { otherwise: Txn::read(keys.iter().copied().map(key_bytes)).then, ..Txn::default() };
        let mut lists: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for (key, Found { value, version }) in keys.into_iter().zip(found) {
            txn.compare.push(Compare::version(key_bytes(key), version));
            lists.insert(key, value.unwrap_or_default().to_vec());
        }
        self.lists.clear();
        for micro in &self.steps {
            let held = lists.entry(micro.key()).or_default();
            match micro.append {
                Some(value) => held.extend(element(value)),
                None => self.lists.push(list(Some(held))),
            }
        }
        for (key, held) in lists {
            if self.steps.iter().any(|micro| micro.key() == key && micro.append.is_some()) {
                txn.then.push(Act::Put { key: key_bytes(key), value: Bytes::from(held) });
            }
        }
        txn
    }

    /// As the history says it.
    fn value(&self) -> Value {
        let mut lists = self.lists.iter();
        let micro = |micro: &Micro| match micro.append {
            Some(value) => json!(["append", key_name(micro.key()), value]),
            None => json!(["r", key_name(micro.key()), lists.next()]),
        };
        self.steps.iter().map(micro).collect()
    }
}

impl Operation for Transaction {
    fn begin(&mut self, lore: &Lore) {
        for Micro { list, append } in &mut self.steps {
            if let List::Slot(slot) = *list {
                *list = List::Key(match append {
                    Some(_) => lore.key_to_write(slot, self.appends_per_key),
                    None => lore.key_in_use(slot),
                });
            }
        }
    }

    fn invocation(&self) -> Invocation {
        Invocation { f: "txn", key: None, value: self.value() }
    }

    fn changes(&self) -> bool {
        self.steps.iter().any(|micro| micro.append.is_some())
    }

    fn next(&mut self, reply: Option<Reply>, _: &Lore) -> Step {
        let Some(reply) = reply else {
            (self.lists, self.comparing) = (Vec::new(), false);
            return Step::Ask(Call::Txn(match self.manner {
                Manner::AtOnce => Txn { then: self.steps.iter().map(Micro::act).collect(), ..Txn::default() },
                Manner::Compare => Txn::read(self.keys().into_iter().map(key_bytes)),
            }));
        };
        let done = reply.txn();
        let lists = |found: &[Found]| -> Vec<Value> {
            found.iter().map(|found| list(found.value.as_deref())).collect()
        };
        match self.manner {
            Manner::AtOnce => {
                self.lists = lists(&done.found);
                Step::Ok(self.value())
            }
            Manner::Compare if !self.comparing => {
                self.comparing = true;
                Step::Ask(Call::Txn(self.compared(done.found)))
            }
            Manner::Compare if done.succeeded => Step::Ok(self.value()),
            Manner::Compare => {
                let names = self.keys().into_iter().map(key_name);
                let seen = names.zip(lists(&done.found)).collect();
                Step::Fail { error: RACE_LOST.into(), seen: Some(Value::Object(seen)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Store, carry_out, draw, finish};
    use super::*;

    fn transaction(manner: Manner, steps: &[(u32, Option<u64>)]) -> Transaction {
        let micro = |&(key, append): &(u32, Option<u64>)| Micro { list: List::Key(key), append };
        let steps = steps.iter().map(micro).collect();
        Transaction { manner, steps, appends_per_key: 32, lists: Vec::new(), comparing: false }
    }

    const STEPS: [(u32, Option<u64>); 5] = [(1, None), (1, Some(7)), (2, None), (1, None), (3, Some(8))];

    #[test]
    fn in_either_manner_reads_see_what_was_there_and_what_the_transaction_itself_appended() {
        for manner in [Manner::AtOnce, Manner::Compare] {
            let (mut store, lore) = (Store::default(), Lore::default());
            store.put("k1", "5 ");
            let mut txn = transaction(manner, &STEPS);
            assert_eq!(txn.invocation().value[3], json!(["r", "k1", null]));
            let expected = json!([
                ["r", "k1", [5]],
                ["append", "k1", 7],
                ["r", "k2", []],
                ["r", "k1", [5, 7]],
                ["append", "k3", 8]
            ]);
            assert_eq!(carry_out(&mut txn, &mut store, &lore), Step::Ok(expected), "{manner:?}");
            let held = ["k1", "k2", "k3"].map(|key| store.text(key));
            assert_eq!(held, [Some("5 7 ".to_owned()), None, Some("8 ".to_owned())], "{manner:?}");
        }
    }

    #[test]
    fn what_compares_fails_when_a_list_that_it_only_read_has_changed() {
        let (mut store, lore) = (Store::default(), Lore::default());
        let mut slow = transaction(Manner::Compare, &STEPS);
        let Step::Ask(read) = slow.next(None, &lore) else { panic!("it reads first") };
        let deciding = slow.next(Some(store.carry_out(read)), &lore);
        carry_out(&mut transaction(Manner::AtOnce, &[(2, Some(1))]), &mut store, &lore);
        let end = finish(&mut slow, deciding, &mut store, &lore);
        let seen = json!({ "k1": [], "k2": [1], "k3": [] });
        assert_eq!(end, Step::Fail { error: RACE_LOST.into(), seen: Some(seen) });
        assert_eq!((store.text("k1"), store.text("k3")), (None, None));
    }

    #[test]
    fn a_list_takes_so_many_appends_and_is_then_left_for_a_fresh_one() {
        let kind = Append { keys: 2, appends_per_key: 3, operations: 4, append: 1, read: 1, compare: 1 };
        let (mut store, lore, mut draw) = (Store::default(), Lore::default(), draw());
        for _ in 0..50 {
            let step = carry_out(&mut *kind.draw(&mut draw), &mut store, &lore);
            assert!(matches!(step, Step::Ok(_)), "{step:?}");
        }
        let used = lore.keys_used();
        assert!(used > 10);
        let mut looked = Vec::new();
        for mut look in kind.last_looks(&lore, &mut draw) {
            let Step::Ok(Value::Array(reads)) = carry_out(&mut *look.operation, &mut store, &lore) else {
                panic!("a read of {} succeeds", look.name)
            };
            assert!(reads.iter().all(|read| read[2].as_array().unwrap().len() <= 3));
            let names = reads.into_iter().map(|read| read[1].as_str().unwrap().to_owned());
            looked.extend(names);
        }
        assert_eq!(looked, (0..used).rev().map(key_name).collect::<Vec<_>>());
    }

    #[test]
    fn a_transaction_that_is_to_append_does() {
        let kind = Append { keys: 3, appends_per_key: 9, operations: 5, append: 1, read: 0, compare: 1 };
        let mut draw = draw();
        assert!((0..500).all(|_| kind.draw(&mut draw).changes()));
        let kind = Append { append: 0, compare: 0, read: 1, ..kind };
        assert!((0..500).all(|_| !kind.draw(&mut draw).changes()));
    }
}
