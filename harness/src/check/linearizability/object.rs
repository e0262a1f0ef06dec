//! What the judge has to know of a kind of object: registers, sets, counters, queues, locks.
//!
//! In: the history's operations. Out: what each does, whether an order explains them, and how a history of them may be
//! made smaller without breaking it. Never: a story, a file, a thread.

use std::collections::HashMap;

use serde_json::Value;

use super::search::{Budget, Searched};
use crate::history::{History, Operation};

/// The completion of what may happen at any later time.
pub const OPEN: u32 = u32::MAX;

/// When an operation took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Line of the invocation: lines are in the order of time.
    pub call: u32,
    /// Line of the completion; [`OPEN`] when there is none that binds.
    pub ret: u32,
    /// It happened; else it may have.
    pub must: bool,
    /// Place in the history's operations, for words.
    pub source: u32,
}

impl Span {
    pub fn of(source: u32, operation: &Operation, must: bool) -> Span {
        let ret = operation.completion_line.filter(|_| must).unwrap_or(OPEN);
        Span { call: operation.invoke_line, ret, must, source }
    }

    /// As it looks to those who do not know how it ended.
    pub fn opened(self) -> Span {
        Span { ret: OPEN, must: false, ..self }
    }
}

/// An operation on one object.
pub trait Timed: Clone + PartialEq + Send + Sync + 'static {
    fn span(&self) -> Span;

    /// As it looks before it completed; none when it then says nothing.
    fn opened(&self) -> Option<Self>;

    /// What looking at it costs, next to others.
    fn weight(&self) -> usize {
        1
    }
}

/// A kind of object. A value of it collects the operations of one key.
pub trait Object: Default + Send + Sync {
    type Act: Timed;

    /// `register`, as in "an operation that no register has".
    const NAME: &'static str;

    /// Without a name, all operations are on one object; else one without a key is none.
    const KEYED: bool = false;

    /// Ways to make a history smaller that has no order; see [`Reduction`].
    const REDUCTIONS: &'static [Reduction<Self::Act>];

    /// None for what certainly did not happen or says nothing; an error for what no such object has.
    fn read(&mut self, source: u32, operation: &Operation) -> Result<Option<Self::Act>, &'static str>;

    /// Leaves out what need not be looked at: there is an order with it when there is one without.
    fn needed(acts: &[Self::Act]) -> Vec<Self::Act>;

    /// Looks for an order of operations that are in the order of their calls.
    fn judge(acts: &[Self::Act], budget: Budget) -> Searched;

    /// Few of these, which have no order, that have none either and show it first: when there is a quick way.
    fn suspects(_acts: &[Self::Act]) -> Option<Vec<Self::Act>> {
        None
    }

    /// The same operations in a form that is quicker to judge.
    fn tidy(acts: Vec<Self::Act>) -> Vec<Self::Act> {
        acts
    }

    /// What is wrong with the only one that is left: `saw what nobody had written`.
    fn alone(act: &Self::Act) -> &'static str;

    /// An operation of a core in few words, `read 17`. `whole` is what it was before anything was left out.
    fn short(
        _history: &History,
        _core: &[Self::Act],
        _act: &Self::Act,
        _whole: &Self::Act,
        operation: &Operation,
    ) -> String {
        short(operation)
    }

    /// A core as it is told: what is alike in one.
    fn gathered(core: Vec<Self::Act>) -> Vec<Self::Act> {
        core
    }

    /// In what it is taken for less than it was.
    fn taken_as(_act: &Self::Act, _whole: &Self::Act) -> &'static str {
        ""
    }
}

/// One way to make a history smaller: it must leave an order where there is one, or what is left proves nothing.
pub struct Reduction<A> {
    /// What can be left out, each by itself and any of them together.
    pub parts: fn(&[A]) -> Vec<u32>,
    /// The history without these parts; as it was, when they must stay.
    pub without: fn(&[A], &[u32]) -> Vec<A>,
}

/// `write 17`, `read 17`, `cas 17 to 18`, `cas of 17 saw 16`
pub fn short(operation: &Operation) -> String {
    let pair = operation.value.as_array().map(Vec::as_slice);
    match (&*operation.f, &operation.seen, pair) {
        ("read", ..) => format!("read {}", operation.result),
        ("cas", Some(seen), Some([expected, _])) => format!("cas of {expected} saw {seen}"),
        ("cas", None, Some([expected, new])) => format!("cas {expected} to {new}"),
        ("delete", ..) => "delete".to_owned(),
        (f, ..) => format!("{f} {}", operation.value),
    }
}

/// Numbers for values: 0 for null, then from 1 without holes.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Most values are small numbers; these need no text.
    numbers: HashMap<u64, u32>,
    others: HashMap<String, u32>,
}

impl Numbers {
    pub fn of(&mut self, value: &Value) -> u32 {
        let next = (self.numbers.len() + self.others.len()) as u32 + 1;
        match (value, value.as_u64()) {
            (Value::Null, _) => 0,
            (_, Some(number)) => *self.numbers.entry(number).or_insert(next),
            (value, None) => *self.others.entry(value.to_string()).or_insert(next),
        }
    }
}
