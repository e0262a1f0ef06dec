//! One value a key: reads, writes of values that are each written once, compare-and-swap from the newest value known.

use serde_json::{Value, json};

use super::super::generator::Draw;
use super::super::lore::Lore;
use super::super::operation::{Invocation, Kind, LastLook, Operation, Step};
use super::super::text::{decode, encode, key_bytes, key_name};
use crate::scenario::Register;
use crate::system::call::{Call, Reply};

#[derive(Debug)]
struct Access {
    key: u32,
    act: Act,
}

#[derive(Debug)]
enum Act {
    Read,
    Write(u64),
    /// `expected`: absent asks that the key does not exist.
    Swap {
        expected: Option<u64>,
        new: u64,
    },
}

impl Kind for Register {
    fn draw(&self, draw: &mut Draw) -> Box<dyn Operation> {
        let key = draw.below(self.keys);
        let act = match draw.among(&[self.read, self.write, self.cas]) {
            0 => Act::Read,
            1 => Act::Write(draw.value()),
            _ => Act::Swap { expected: None, new: draw.value() },
        };
        Box::new(Access { key, act })
    }

    fn last_looks(&self, _: &Lore, _: &mut Draw) -> Vec<LastLook> {
        let look =
            |key| LastLook { name: key_name(key), operation: Box::new(Access { key, act: Act::Read }) };
        (0..self.keys).map(look).collect()
    }
}

impl Operation for Access {
    fn begin(&mut self, lore: &Lore) {
        match &mut self.act {
            Act::Read => {}
            // What is on its way is what others will most likely find.
            Act::Write(value) => lore.saw(self.key, Some(*value)),
            Act::Swap { expected, .. } => *expected = lore.newest(self.key),
        }
    }

    fn invocation(&self) -> Invocation {
        let (f, value) = match self.act {
            Act::Read => ("read", Value::Null),
            Act::Write(value) => ("write", json!(value)),
            Act::Swap { expected, new } => ("cas", json!([expected, new])),
        };
        Invocation { f, key: Some(key_name(self.key)), value }
    }

    fn changes(&self) -> bool {
        !matches!(self.act, Act::Read)
    }

    fn next(&mut self, reply: Option<Reply>, lore: &Lore) -> Step {
        let key = key_bytes(self.key);
        let Some(reply) = reply else {
            return Step::Ask(match self.act {
                Act::Read => Call::Get { key },
                Act::Write(value) => Call::Put { key, value: encode(value) },
                Act::Swap { expected, new } => {
                    Call::CompareAndSwap { key, expected: expected.map(encode), value: encode(new) }
                }
            });
        };
        match self.act {
            Act::Read => {
                let value = decode(reply.got().value.as_deref());
                lore.saw(self.key, value.as_u64());
                Step::Ok(value)
            }
            Act::Write(value) => {
                lore.saw(self.key, Some(value));
                Step::Ok(json!(value))
            }
            Act::Swap { expected, new } => {
                let swap = reply.swapped();
                if swap.swapped {
                    lore.saw(self.key, Some(new));
                    return Step::Ok(json!([expected, new]));
                }
                let seen = decode(swap.seen.as_deref());
                lore.saw(self.key, seen.as_u64());
                Step::Fail { error: "another value was there".into(), seen: Some(seen) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Store, carry_out};
    use super::*;

    fn access(act: Act) -> Access {
        Access { key: 2, act }
    }

    #[test]
    fn a_compare_and_swap_expects_what_was_seen_last() {
        let (mut store, lore) = (Store::default(), Lore::default());
        let mut swap = |new| {
            let mut swap = access(Act::Swap { expected: None, new });
            let step = carry_out(&mut swap, &mut store, &lore);
            (swap.invocation().value, step)
        };
        assert_eq!(swap(1), (json!([null, 1]), Step::Ok(json!([null, 1]))));
        assert_eq!(swap(2), (json!([1, 2]), Step::Ok(json!([1, 2]))));
        lore.saw(2, Some(9));
        let (asked, step) = swap(3);
        assert_eq!(asked, json!([9, 3]));
        assert!(matches!(step, Step::Fail { seen: Some(seen), .. } if seen == 2));
        assert_eq!(lore.newest(2), Some(2));
    }

    #[test]
    fn a_read_sees_what_was_written() {
        let (mut store, lore) = (Store::default(), Lore::default());
        assert_eq!(carry_out(&mut access(Act::Read), &mut store, &lore), Step::Ok(Value::Null));
        assert_eq!(carry_out(&mut access(Act::Write(4)), &mut store, &lore), Step::Ok(json!(4)));
        assert_eq!(carry_out(&mut access(Act::Read), &mut store, &lore), Step::Ok(json!(4)));
    }
}
