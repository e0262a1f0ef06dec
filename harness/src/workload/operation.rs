//! What a user does, as far as it is the same for every kind of load: an operation that asks one call after another
//! until it knows how it ended.
//!
//! In: replies. Out: calls, and the end. Never: a clock, a socket, a process; `user` carries operations out.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::generator::Draw;
use super::lore::Lore;
use crate::history::OpType;
use crate::system::call::{Call, Reply, Txn};

/// One kind of load.
pub trait Kind: Send + Sync {
    /// A client's next operation, which hangs on nothing but the draw.
    fn draw(&self, draw: &mut Draw) -> Box<dyn Operation>;

    /// What must have succeeded before the load begins.
    fn set_up(&self) -> Option<Txn> {
        None
    }

    /// What shows, after everything, what is left: each is carried out until it succeeds.
    fn last_looks(&self, lore: &Lore, draw: &mut Draw) -> Vec<LastLook>;
}

pub struct LastLook {
    /// What is looked at, for those who are told that it could not be seen.
    pub name: String,
    pub operation: Box<dyn Operation>,
}

/// From `invoke` to `ok`, `fail` or `info`. At most one of its calls changes anything, and that is its last.
pub trait Operation: fmt::Debug + Send {
    /// Settles what the past decides, now that it starts.
    fn begin(&mut self, _lore: &Lore) {}

    fn invocation(&self) -> Invocation;

    /// Whether one of its calls changes something.
    fn changes(&self) -> bool;

    /// What comes after `reply`, which answers its last call; `None` begins, perhaps anew after a failure.
    fn next(&mut self, reply: Option<Reply>, lore: &Lore) -> Step;

    /// What its user owes the others, now that it has ended so.
    fn follow_up(&self, _ended: OpType) -> Option<FollowUp> {
        None
    }
}

/// As the history says it.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    pub f: &'static str,
    pub key: Option<String>,
    pub value: Value,
}

#[derive(Debug, PartialEq)]
pub enum Step {
    Ask(Call),
    /// It happened; with the value that the history's line then has.
    Ok(Value),
    /// It certainly did not happen.
    Fail {
        error: String,
        /// What stood in the way, if a node looked.
        seen: Option<Value>,
    },
}

/// An operation that must come, in time; in the load's last moments, before the last looks.
#[derive(Debug)]
pub struct FollowUp {
    pub pause: Duration,
    pub operation: Box<dyn Operation>,
}
