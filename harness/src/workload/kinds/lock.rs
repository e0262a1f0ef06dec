//! Locks: acquired by writing a token where nothing is, held for a while, released by deleting that token.
//!
//! Whoever may hold a lock owes its release: after an acquire or a release whose outcome stayed open, a successor asks
//! for the release again until a node has answered. It goes on with the session of the one before, whose open request
//! can then no longer take effect: a node carries out no lower sequence after a higher one. So no lock stays held by
//! nobody.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::generator::Draw;
use super::super::lore::Lore;
use super::super::operation::{FollowUp, Invocation, Kind, LastLook, Operation, Step};
use super::super::text::{decode, encode, key_bytes, key_name};
use crate::history::OpType;
use crate::scenario::Lock;
use crate::system::call::{Act, Call, Compare, Reply, Txn};

/// Before a release is asked for again.
const RELEASE_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Acquire {
    key: u32,
    /// Whose lock it then is: of this one acquisition.
    token: u64,
    hold: Duration,
}

#[derive(Debug)]
struct Release {
    key: u32,
    token: u64,
    /// A node has looked: the token is certainly gone, or was not there.
    answered: bool,
}

impl Kind for Lock {
    fn draw(&self, draw: &mut Draw) -> Box<dyn Operation> {
        Box::new(Acquire { key: draw.below(self.keys), token: draw.value(), hold: self.hold })
    }

    /// That it can be acquired shows that nobody holds it.
    fn last_looks(&self, _: &Lore, draw: &mut Draw) -> Vec<LastLook> {
        let mut look = |key| LastLook {
            name: key_name(key),
            operation: Box::new(Acquire { key, token: draw.value(), hold: Duration::ZERO }),
        };
        (0..self.keys).map(&mut look).collect()
    }
}

/// The end of what compares, and looks at the lock when it does nothing.
fn end(reply: Reply, token: u64, error: &str) -> Step {
    let done = reply.txn();
    if done.succeeded {
        return Step::Ok(json!(token));
    }
    let holder = done.found.first().map_or(Value::Null, |found| decode(found.value.as_deref()));
    Step::Fail { error: error.into(), seen: Some(holder) }
}

impl Operation for Acquire {
    fn invocation(&self) -> Invocation {
        Invocation { f: "acquire", key: Some(key_name(self.key)), value: json!(self.token) }
    }

    fn changes(&self) -> bool {
        true
    }

    fn next(&mut self, reply: Option<Reply>, _: &Lore) -> Step {
        let key = key_bytes(self.key);
        match reply {
            None => Step::Ask(Call::Txn(Txn {
                compare: vec![Compare::version(key.clone(), 0)],
                then: vec![Act::Put { key: key.clone(), value: encode(self.token) }],
                otherwise: vec![Act::Get { key }],
            })),
            Some(reply) => end(reply, self.token, "another holds it"),
        }
    }

    fn follow_up(&self, ended: OpType) -> Option<FollowUp> {
        let pause = match ended {
            OpType::Ok => self.hold,
            OpType::Info => RELEASE_PAUSE,
            OpType::Fail | OpType::Invoke => return None,
        };
        let operation = Box::new(Release { key: self.key, token: self.token, answered: false });
        Some(FollowUp { pause, operation })
    }
}

impl Operation for Release {
    fn invocation(&self) -> Invocation {
        Invocation { f: "release", key: Some(key_name(self.key)), value: json!(self.token) }
    }

    fn changes(&self) -> bool {
        true
    }

    fn next(&mut self, reply: Option<Reply>, _: &Lore) -> Step {
        let key = key_bytes(self.key);
        self.answered = reply.is_some();
        match reply {
            None => Step::Ask(Call::Txn(Txn {
                compare: vec![Compare::value(key.clone(), encode(self.token))],
                then: vec![Act::Delete { key: key.clone() }],
                otherwise: vec![Act::Get { key }],
            })),
            Some(reply) => end(reply, self.token, "the token was not there"),
        }
    }

    /// One that was refused has changed nothing either: the lock is still held.
    fn follow_up(&self, _: OpType) -> Option<FollowUp> {
        let again = || Box::new(Release { key: self.key, token: self.token, answered: false });
        (!self.answered).then(|| FollowUp { pause: RELEASE_PAUSE, operation: again() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Store, carry_out, draw};
    use super::*;

    fn acquire(token: u64) -> Acquire {
        Acquire { key: 0, token, hold: Duration::from_millis(3) }
    }

    #[test]
    fn only_the_token_that_holds_a_lock_releases_it() {
        let (mut store, lore) = (Store::default(), Lore::default());
        let release = |token| Release { key: 0, token, answered: false };
        let fails =
            |step, holder: Value| matches!(step, Step::Fail { seen: Some(seen), .. } if seen == holder);
        assert_eq!(carry_out(&mut acquire(1), &mut store, &lore), Step::Ok(json!(1)));
        assert!(fails(carry_out(&mut acquire(2), &mut store, &lore), json!(1)));
        assert!(fails(carry_out(&mut release(2), &mut store, &lore), json!(1)));
        assert_eq!(carry_out(&mut release(1), &mut store, &lore), Step::Ok(json!(1)));
        assert!(fails(carry_out(&mut release(1), &mut store, &lore), Value::Null));
        assert_eq!(carry_out(&mut acquire(2), &mut store, &lore), Step::Ok(json!(2)));
    }

    #[test]
    fn whoever_may_hold_a_lock_owes_its_release_until_a_node_has_answered() {
        let (mut store, lore) = (Store::default(), Lore::default());
        let acquire = acquire(4);
        assert!(acquire.follow_up(OpType::Fail).is_none());
        let owed = acquire.follow_up(OpType::Ok).unwrap();
        assert_eq!((owed.pause, owed.operation.invocation().value), (acquire.hold, json!(4)));
        let mut release = acquire.follow_up(OpType::Info).unwrap().operation;
        for ended in [OpType::Info, OpType::Fail] {
            let Step::Ask(_) = release.next(None, &lore) else { panic!("a release asks") };
            release = release.follow_up(ended).unwrap().operation;
            assert_eq!(release.invocation().f, "release");
        }
        assert!(matches!(carry_out(&mut *release, &mut store, &lore), Step::Fail { .. }));
        assert!(release.follow_up(OpType::Fail).is_none());
    }

    #[test]
    fn in_the_end_every_lock_is_tried() {
        let kind = Lock { keys: 3, hold: Duration::from_secs(1) };
        let (mut store, lore) = (Store::default(), Lore::default());
        for (key, mut look) in kind.last_looks(&lore, &mut draw()).into_iter().enumerate() {
            assert_eq!(look.name, key_name(key as u32));
            assert!(matches!(carry_out(&mut *look.operation, &mut store, &lore), Step::Ok(_)));
            let owed = look.operation.follow_up(OpType::Ok).unwrap();
            assert_eq!(owed.pause, Duration::ZERO);
        }
    }
}
