//! Sets that only grow: an add appends an element to the key's value, a read takes the whole value apart.
//!
//! An add that is carried out twice stands there twice, and one that is lost is missing from every read after it.

use serde_json::{Value, json};

use super::super::generator::Draw;
use super::super::lore::Lore;
use super::super::operation::{Invocation, Kind, LastLook, Operation, Step};
use super::super::text::{element, key_bytes, key_name, list};
use super::LAST_LOOKS_MAX;
use crate::scenario::Set;
use crate::system::call::{Call, Reply};

#[derive(Debug)]
struct Access {
    place: Place,
    /// None reads.
    add: Option<u64>,
}

#[derive(Debug)]
enum Place {
    /// Whatever set is in use there when the operation starts.
    Slot {
        slot: u32,
        adds_per_key: u32,
    },
    Key(u32),
}

impl Kind for Set {
    fn draw(&self, draw: &mut Draw) -> Box<dyn Operation> {
        let place = Place::Slot { slot: draw.below(self.keys), adds_per_key: self.adds_per_key };
        let add = match draw.among(&[self.add, self.read]) {
            0 => Some(draw.value()),
            _ => None,
        };
        Box::new(Access { place, add })
    }

    fn last_looks(&self, lore: &Lore, _: &mut Draw) -> Vec<LastLook> {
        let used = lore.keys_used();
        let look = |key| LastLook {
            name: key_name(key),
            operation: Box::new(Access { place: Place::Key(key), add: None }),
        };
        (used.saturating_sub(LAST_LOOKS_MAX)..used).rev().map(look).collect()
    }
}

impl Access {
    fn key(&self) -> u32 {
        match self.place {
            Place::Key(key) => key,
            Place::Slot { .. } => panic!("asked for its key before it began: {self:?}"),
        }
    }
}

impl Operation for Access {
    fn begin(&mut self, lore: &Lore) {
        if let Place::Slot { slot, adds_per_key } = self.place {
            self.place = Place::Key(match self.add {
                Some(_) => lore.key_to_write(slot, adds_per_key),
                None => lore.key_in_use(slot),
            });
        }
    }

    fn invocation(&self) -> Invocation {
        let (f, value) = self.add.map_or(("read", Value::Null), |value| ("add", json!(value)));
        Invocation { f, key: Some(key_name(self.key())), value }
    }

    fn changes(&self) -> bool {
        self.add.is_some()
    }

    fn next(&mut self, reply: Option<Reply>, _: &Lore) -> Step {
        let key = key_bytes(self.key());
        match (reply, self.add) {
            (None, Some(value)) => Step::Ask(Call::Append { key, suffix: element(value) }),
            (None, None) => Step::Ask(Call::Get { key }),
            (Some(_), Some(value)) => Step::Ok(json!(value)),
            (Some(reply), None) => Step::Ok(list(reply.got().value.as_deref())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Store, carry_out, draw};
    use super::*;

    #[test]
    fn a_set_holds_what_was_added_and_a_full_one_is_left() {
        let kind = Set { keys: 1, adds_per_key: 3, add: 1, read: 0 };
        let (mut store, lore, mut draw) = (Store::default(), Lore::default(), draw());
        let mut added = Vec::new();
        for _ in 0..7 {
            let mut add = kind.draw(&mut draw);
            let step = carry_out(&mut *add, &mut store, &lore);
            assert_eq!(step, Step::Ok(add.invocation().value));
            added.push((add.invocation().key.unwrap(), add.invocation().value));
        }
        let mut looks = kind.last_looks(&lore, &mut draw);
        assert_eq!(looks.iter().map(|look| &*look.name).collect::<Vec<_>>(), ["k2", "k1", "k0"]);
        for look in &mut looks {
            let in_it = added.iter().filter(|(key, _)| *key == look.name);
            let expected: Vec<_> = in_it.map(|(_, value)| value.clone()).collect();
            assert!((1..=3).contains(&expected.len()));
            assert_eq!(carry_out(&mut *look.operation, &mut store, &lore), Step::Ok(json!(expected)));
        }
    }

    #[test]
    fn a_set_that_was_never_added_to_is_empty() {
        let kind = Set { keys: 1, adds_per_key: 3, add: 0, read: 1 };
        let mut read = kind.draw(&mut draw());
        assert_eq!(carry_out(&mut *read, &mut Store::default(), &Lore::default()), Step::Ok(json!([])));
    }
}
