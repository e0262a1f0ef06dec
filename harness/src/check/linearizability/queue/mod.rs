//! First-in-first-out queues with enqueue and dequeue, empty at first.
//!
//! In: the operations on one queue. Out: whether they have an order. Never: a value that comes out twice.
//!
//! `dequeue` takes the value that is longest in it, or says that it is empty. A failed operation says nothing. An enqueue
//! that stayed open may happen at any time after its invocation, or never; so may a dequeue, and nobody knows what
//! it took. An open enqueue of a value that nobody took is left out: what nobody takes hinders others at most.
//!
//! Where no value is enqueued twice, [`patterns`] decide without a search, which goes by [`machine`].
//!
//! # How a history without an order is made smaller
//!
//! A value may be left out, with all that enqueue or dequeue it: the others come out in the same order. So may each that
//! found it empty. Of open dequeues no more are of use than there are values which nobody is known to have taken; and
//! of those that do the same the first called do.

mod machine;
mod patterns;

use std::collections::{HashMap, HashSet};

use self::machine::QueueMachine;
use self::patterns::by_patterns;
use super::object::{Numbers, Object, Reduction, Span, Timed};
use super::search::{self, Budget, Searched};
use crate::history::{Ended, History, Operation};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    span: Span,
    does: Does,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Does {
    Enqueue(u32),
    Dequeue(u32),
    /// Found nothing.
    Empty,
    /// Took something, if it happened.
    Take,
}

impl Timed for Act {
    fn span(&self) -> Span {
        self.span
    }

    fn opened(&self) -> Option<Act> {
        let does = match self.does {
            Does::Enqueue(value) => Does::Enqueue(value),
            Does::Dequeue(_) | Does::Empty | Does::Take => Does::Take,
        };
        Some(Act { span: self.span.opened(), does })
    }
}

/// The values of one queue.
#[derive(Debug, Default)]
pub struct Queue {
    numbers: Numbers,
}

impl Object for Queue {
    type Act = Act;

    const NAME: &'static str = "queue";

    const REDUCTIONS: &'static [Reduction<Act>] = &[
        Reduction { parts: values, without: without_values },
        Reduction { parts: empties, without: without_empties },
    ];

    fn read(&mut self, source: u32, operation: &Operation) -> Result<Option<Act>, &'static str> {
        let must = operation.ended == Ended::Ok;
        let does = match &*operation.f {
            "enqueue" | "dequeue" if operation.ended == Ended::Fail => return Ok(None),
            "enqueue" if operation.value.is_null() => return Err("an enqueue without a value"),
            "enqueue" => Does::Enqueue(self.numbers.of(&operation.value.json())),
            "dequeue" if !must => Does::Take,
            "dequeue" if operation.result.is_null() => Does::Empty,
            "dequeue" => Does::Dequeue(self.numbers.of(&operation.result.json())),
            _ => return Err("its function is none of enqueue, dequeue"),
        };
        Ok(Some(Act { span: Span::of(source, operation, must), does }))
    }

    fn needed(acts: &[Act]) -> Vec<Act> {
        let mut left: HashMap<u32, i64> = HashMap::new();
        for act in acts {
            match act.does {
                Does::Enqueue(value) => *left.entry(value).or_default() += 1,
                Does::Dequeue(value) => *left.entry(value).or_default() -= 1,
                Does::Empty | Does::Take => {}
            }
        }
        let taken: HashSet<u32> = acts.iter().filter_map(|act| act.taken()).collect();
        let is_idle =
            |act: &Act| !act.span.must && act.enqueued().is_some_and(|value| !taken.contains(&value));
        for value in acts.iter().filter(|act| is_idle(act)).filter_map(Act::enqueued) {
            *left.entry(value).or_default() -= 1;
        }
        let mut takers = left.values().filter(|&&left| left > 0).sum::<i64>();
        let is_needed = |act: &&Act| match act.does {
            Does::Take => {
                takers -= 1;
                takers >= 0
            }
            _ => !is_idle(act),
        };
        acts.iter().filter(is_needed).copied().collect()
    }

    fn judge(acts: &[Act], budget: Budget) -> Searched {
        match by_patterns(acts) {
            Some(has_order) => Searched::decided(has_order, acts.iter().filter(|act| act.span.must).count()),
            None => search(acts, budget),
        }
    }

    fn alone(act: &Act) -> &'static str {
        match act.does {
            Does::Empty => "found it empty",
            _ => "took what nobody had enqueued",
        }
    }

    fn short(_: &History, _: &[Act], act: &Act, _: &Act, operation: &Operation) -> String {
        match act.does {
            Does::Enqueue(_) => format!("enqueue {}", operation.value),
            Does::Dequeue(_) => format!("dequeue {}", operation.result),
            Does::Empty => "dequeue of nothing".to_owned(),
            Does::Take => "dequeue".to_owned(),
        }
    }
}

impl Act {
    fn enqueued(&self) -> Option<u32> {
        if let Does::Enqueue(value) = self.does { Some(value) } else { None }
    }

    fn taken(&self) -> Option<u32> {
        if let Does::Dequeue(value) = self.does { Some(value) } else { None }
    }
}

fn search(acts: &[Act], budget: Budget) -> Searched {
    let spans: Vec<Span> = acts.iter().map(Timed::span).collect();
    search::search(&spans, QueueMachine::new(acts), budget)
}

fn values(acts: &[Act]) -> Vec<u32> {
    let mut values: Vec<u32> = acts.iter().filter_map(|act| act.enqueued().or(act.taken())).collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn without_values(acts: &[Act], values: &[u32]) -> Vec<Act> {
    let gone: HashSet<u32> = values.iter().copied().collect();
    let stays = |act: &&Act| act.enqueued().or(act.taken()).is_none_or(|value| !gone.contains(&value));
    Queue::needed(&acts.iter().filter(stays).copied().collect::<Vec<_>>())
}

/// The calls of those that found nothing.
fn empties(acts: &[Act]) -> Vec<u32> {
    acts.iter().filter(|act| act.does == Does::Empty).map(|act| act.span.call).collect()
}

fn without_empties(acts: &[Act], calls: &[u32]) -> Vec<Act> {
    let gone: HashSet<u32> = calls.iter().copied().collect();
    acts.iter().filter(|act| act.does != Does::Empty || !gone.contains(&act.span.call)).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;

    use super::super::trials::{self, Plain};
    use super::*;

    impl Plain for Queue {
        type State = VecDeque<u32>;

        fn step(state: &VecDeque<u32>, act: &Act) -> Option<VecDeque<u32>> {
            let mut state = state.clone();
            match act.does {
                Does::Enqueue(value) => state.push_back(value),
                Does::Dequeue(value) if state.pop_front() != Some(value) => return None,
                Does::Dequeue(_) => {}
                Does::Empty if !state.is_empty() => return None,
                Does::Empty => {}
                Does::Take => _ = state.pop_front()?,
            }
            Some(state)
        }
    }

    /// What a queue could have done, with slips; mostly with distinct values.
    fn random_acts(rng: &mut ChaCha8Rng) -> Vec<Act> {
        let mut spans = trials::spans(rng, 7);
        let distinct = rng.random_bool(0.8);
        let slips = if rng.random_bool(0.4) { 0.1 } else { 0.8 };
        let enqueues = rng.random_range(0.4..0.65);
        let mut state: VecDeque<u32> = VecDeque::new();
        let mut does = vec![None; spans.len()];
        for (next, at) in trials::moments(rng, &spans).into_iter().enumerate() {
            does[at] = Some(if rng.random_bool(enqueues) {
                let value = if distinct { next as u32 } else { rng.random_range(0..2) };
                state.push_back(value);
                Does::Enqueue(value)
            } else if rng.random_bool(slips) {
                match state.len() {
                    0 => Does::Dequeue(rng.random_range(0..6)),
                    _ if rng.random_bool(0.3) => Does::Empty,
                    size => state.remove(rng.random_range(0..size)).map_or(Does::Empty, Does::Dequeue),
                }
            } else {
                state.pop_front().map_or(Does::Empty, Does::Dequeue)
            });
        }
        trials::open_some(rng, &mut spans, 0.15);
        let act = |(span, does): (Span, Option<Does>)| {
            let act = Act { span, does: does? };
            if act.span.must { Some(act) } else { act.opened() }
        };
        spans.into_iter().zip(does).filter_map(act).collect()
    }

    #[test]
    fn patterns_and_every_order_tried_agree_on_a_hundred_thousand_random_histories() {
        let trial = trials::agree::<Queue>(140_000, random_acts, |acts| Queue::judge(acts, Budget::DEFAULT));
        let known = trial.count(|acts| by_patterns(acts).is_some());
        let empty =
            trial.count(|acts| by_patterns(acts).is_some() && acts.iter().any(|act| act.does == Does::Empty));
        let takes =
            trial.count(|acts| by_patterns(acts).is_some() && acts.iter().any(|act| act.does == Does::Take));
        assert!(known >= 100_000, "{known} without a search");
        assert!(empty > 20_000 && takes > 10_000, "{empty} with empty dequeues, {takes} with open ones");
    }

    #[test]
    fn the_search_agrees_too() {
        trials::agree::<Queue>(20_000, random_acts, |acts| search(acts, Budget::DEFAULT));
    }

    #[test]
    fn a_smaller_history_keeps_an_order_and_a_core_has_none() {
        trials::reductions_are_sound::<Queue>(20_000, random_acts);
        trials::cores_are_small::<Queue>(10_000, 5, random_acts);
    }
}
