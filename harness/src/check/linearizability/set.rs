//! Sets with add and a read of all elements; nothing is ever removed.
//!
//! In: the operations on one set. Out: whether they have an order, in time linear in what was read (and n log n in the
//! number of operations). Never: a search.
//!
//! A failed add says nothing, nor does a read that did not succeed. An add that stayed open may happen at any time after
//! its invocation, or never. A read that lists an element twice is of no set: it was added twice.
//!
//! # Places
//!
//! In any order the set only grows, so what was read must be a chain S1 ⊂ S2 ⊂ ... ⊂ Sk. Say that reads of Si stand at
//! place 2i, and that an element is *new* in the first Si that has it (in none: i = k + 1). Its first add stands between the
//! reads of the set before and those of Si: place 2i - 1. So in every order the places of reads and first adds do
//! not fall. An element that was read and that nobody adds breaks it.
//!
//! Of several adds of one element, some order has the one first that was invoked first, x, if there is an order at all: in
//! an order where y is the first move x to right before y (or put it there, if it did not happen). Whatever stood
//! between y and x had not returned before y was called (or it would stand before y), so not before x was. Then y adds
//! nothing, as before x did. The others may stand at any place that is not before the first. Those that may happen
//! and are not first, or add what nobody read, are left out: they change nothing for anybody.
//!
//! Give the others the earliest place they can have: the greatest among that of their element's first add, and those of
//! operations that returned before they were called. Then there is an order if and only if no operation returned
//! before one of a lower place was called: sort by place, and by call within a place. It respects time; within a place
//! adds commute, and so do reads; a first add stands before its like, for it was called first; and an add that stands
//! among reads adds what is there already. If, however, an operation x returned before y of a lower place was called,
//! then y is a read or a first add (the place of others is no lower, by its choice), which stands at its place in every
//! order; and x stands at its place or later in every order: reads and first adds at their own, the others at the
//! earliest. So no order has x before y.
//!
//! # How a history without an order is made smaller
//!
//! Any read may be left out. An element may be left out of everything, adds and reads: the rest of each set is as it was.

use std::collections::HashSet;
use std::sync::Arc;

use super::object::{Numbers, Object, Reduction, Span, Timed};
use super::search::{Budget, Searched};
use crate::history::{Ended, History, Operation};

#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    span: Span,
    does: Does,
}

#[derive(Debug, Clone, PartialEq)]
enum Does {
    Add(u32),
    /// In the order in which they were read.
    Read(Arc<[u32]>),
}

impl Timed for Act {
    fn span(&self) -> Span {
        self.span
    }

    fn opened(&self) -> Option<Act> {
        let is_add = matches!(self.does, Does::Add(_));
        is_add.then(|| Act { span: self.span.opened(), does: self.does.clone() })
    }

    fn weight(&self) -> usize {
        1 + self.elements().len() / 8
    }
}

impl Act {
    /// What was read.
    fn elements(&self) -> &[u32] {
        match &self.does {
            Does::Add(_) => &[],
            Does::Read(elements) => elements,
        }
    }

    fn added(&self) -> Option<u32> {
        match self.does {
            Does::Add(element) => Some(element),
            Does::Read(_) => None,
        }
    }
}

/// The elements of one set.
#[derive(Debug, Default)]
pub struct Set {
    numbers: Numbers,
}

impl Object for Set {
    type Act = Act;

    const NAME: &'static str = "set";

    const REDUCTIONS: &'static [Reduction<Act>] = &[
        Reduction { parts: reads, without: without_reads },
        Reduction { parts: elements, without: without_elements },
    ];

    fn read(&mut self, source: u32, operation: &Operation) -> Result<Option<Act>, &'static str> {
        let must = operation.ended == Ended::Ok;
        let does = match &*operation.f {
            "add" if operation.ended == Ended::Fail => return Ok(None),
            "add" => Does::Add(self.numbers.of(&operation.value.json())),
            "read" if !must => return Ok(None),
            "read" => {
                let elements = operation.result.as_array().ok_or("a read that saw no list of elements")?;
                Does::Read(elements.iter().map(|element| self.numbers.of(element)).collect())
            }
            _ => return Err("its function is none of add, read"),
        };
        Ok(Some(Act { span: Span::of(source, operation, must), does }))
    }

    fn needed(acts: &[Act]) -> Vec<Act> {
        let mut seen = Marks::of(acts);
        acts.iter().flat_map(Act::elements).for_each(|&element| _ = seen.mark(element));
        let mut added = Marks::of(acts);
        let is_needed = |act: &&Act| {
            act.added().is_none_or(|element| {
                let is_first = added.mark(element);
                act.span.must || is_first && seen.has(element)
            })
        };
        acts.iter().filter(is_needed).cloned().collect()
    }

    fn judge(acts: &[Act], _: Budget) -> Searched {
        let has_order = Levels::of(acts).is_some_and(|levels| levels.do_not_fall(acts));
        Searched::decided(has_order, acts.iter().filter(|act| act.span.must).count())
    }

    fn alone(act: &Act) -> &'static str {
        let mut elements = act.elements().to_vec();
        elements.sort_unstable();
        match elements.windows(2).any(|pair| pair[0] == pair[1]) {
            true => "lists an element twice",
            false => "saw what nobody had added",
        }
    }

    /// What matters of a read, which may be long: which elements of this story it has, and which not.
    fn short(history: &History, core: &[Act], act: &Act, whole: &Act, operation: &Operation) -> String {
        if act.added().is_some() {
            return format!("add {}", operation.value);
        }
        let place = |element: &u32| whole.elements().iter().position(|other| other == element);
        let value = |element: &u32| Some(operation.result.as_array()?.get(place(element)?)?.to_string());
        let with: Vec<String> = act.elements().iter().filter_map(value).collect();
        let is_missing = |add: &&Act| add.added().is_some_and(|element| !act.elements().contains(&element));
        let added = |add: &Act| Some(history.operations.get(add.span.source as usize)?.value.to_string());
        let mut without: Vec<String> = core.iter().filter(is_missing).filter_map(added).collect();
        without.dedup();
        let list = |word: &str, values: Vec<String>| match values.len() {
            0 => String::new(),
            1..5 => format!(" {word} {}", values.join(", ")),
            many => format!(" {word} {}, ... ({many})", values[..3].join(", ")),
        };
        format!("read{}{}", list("with", with), list("without", without))
    }

    fn taken_as(act: &Act, whole: &Act) -> &'static str {
        if act.elements().len() < whole.elements().len() { " (and others)" } else { "" }
    }
}

/// A set of elements, which are numbers without many holes.
struct Marks {
    marks: Vec<bool>,
}

impl Marks {
    fn of(acts: &[Act]) -> Marks {
        Marks { marks: vec![false; size(acts)] }
    }

    /// True the first time.
    fn mark(&mut self, element: u32) -> bool {
        !std::mem::replace(&mut self.marks[element as usize], true)
    }

    fn has(&self, element: u32) -> bool {
        self.marks[element as usize]
    }
}

/// One more than the greatest element.
fn size(acts: &[Act]) -> usize {
    let most = |act: &Act| act.elements().iter().copied().chain(act.added()).max();
    acts.iter().filter_map(most).max().map_or(0, |most| most as usize + 1)
}

/// Where the chain of sets that were read has each element, and each read.
struct Levels {
    /// By element, the number of the first set that has it, from 1; 0 where none has.
    new_in: Vec<u32>,
    /// By read, the number of its set; in the order of the operations.
    of_read: Vec<u32>,
    sets: u32,
}

impl Levels {
    /// None when what was read is no chain of sets, or holds what nobody added.
    fn of(acts: &[Act]) -> Option<Levels> {
        let mut added = Marks::of(acts);
        acts.iter().filter_map(Act::added).for_each(|element| _ = added.mark(element));
        let reads: Vec<&[u32]> = acts.iter().filter(|act| act.added().is_none()).map(Act::elements).collect();
        let mut by_size: Vec<usize> = (0..reads.len()).collect();
        by_size.sort_by_key(|&read| reads[read].len());
        let mut levels = Levels { new_in: vec![0; size(acts)], of_read: vec![0; reads.len()], sets: 0 };
        let mut listed_by = vec![usize::MAX; levels.new_in.len()];
        let mut last_size = 0;
        for read in by_size {
            let is_new_set = levels.sets == 0 || reads[read].len() > last_size;
            levels.sets += u32::from(is_new_set);
            let mut known = 0;
            for &element in reads[read] {
                let element = element as usize;
                let twice = std::mem::replace(&mut listed_by[element], read) == read;
                if twice || !added.marks[element] {
                    return None;
                }
                if levels.new_in[element] == 0 {
                    levels.new_in[element] = levels.sets;
                } else {
                    known += 1;
                }
            }
            // It has each element of the set before, and no other if it is no larger.
            if known != last_size {
                return None;
            }
            last_size = reads[read].len();
            levels.of_read[read] = levels.sets;
        }
        Some(levels)
    }

    /// No operation returned before one of a lower place was called.
    fn do_not_fall(&self, acts: &[Act]) -> bool {
        let mut added = Marks::of(acts);
        let mut reads = self.of_read.iter();
        // Those that returned, and the greatest place among them.
        let mut rets: Vec<(u32, u32)> =
            (0..).zip(acts).filter(|(_, act)| act.span.must).map(|(at, act)| (act.span.ret, at)).collect();
        rets.sort_unstable();
        let mut rets = rets.into_iter().peekable();
        let mut places = vec![0; acts.len()];
        let mut returned = 0;
        for (at, act) in acts.iter().enumerate() {
            while let Some((_, other)) = rets.next_if(|&(ret, _)| ret < act.span.call) {
                returned = returned.max(places[other as usize]);
            }
            let (place, is_fixed) = match act.added() {
                None => (2 * reads.next().copied().unwrap_or(0), true),
                Some(element) => {
                    let is_first = added.mark(element);
                    let new_in = match self.new_in[element as usize] {
                        0 => self.sets + 1,
                        set => set,
                    };
                    (2 * new_in - 1, is_first)
                }
            };
            if !is_fixed {
                places[at] = place.max(returned);
            } else if place < returned {
                return false;
            } else {
                places[at] = place;
            }
        }
        true
    }
}

/// The calls of reads.
fn reads(acts: &[Act]) -> Vec<u32> {
    acts.iter().filter(|act| act.added().is_none()).map(|act| act.span.call).collect()
}

fn without_reads(acts: &[Act], calls: &[u32]) -> Vec<Act> {
    let calls: HashSet<u32> = calls.iter().copied().collect();
    acts.iter().filter(|act| act.added().is_some() || !calls.contains(&act.span.call)).cloned().collect()
}

fn elements(acts: &[Act]) -> Vec<u32> {
    let mut seen = Marks::of(acts);
    let elements = acts.iter().flat_map(|act| act.elements().iter().copied().chain(act.added()));
    elements.filter(|&element| seen.mark(element)).collect()
}

fn without_elements(acts: &[Act], elements: &[u32]) -> Vec<Act> {
    let mut gone = Marks::of(acts);
    elements.iter().for_each(|&element| _ = gone.mark(element));
    let rest = |act: &Act| match &act.does {
        Does::Add(element) => (!gone.has(*element)).then(|| act.clone()),
        Does::Read(elements) if !elements.iter().any(|&element| gone.has(element)) => Some(act.clone()),
        Does::Read(elements) => {
            let elements = elements.iter().copied().filter(|&element| !gone.has(element)).collect();
            Some(Act { span: act.span, does: Does::Read(elements) })
        }
    };
    acts.iter().filter_map(rest).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;

    use super::super::trials::{self, Plain};
    use super::*;

    impl Plain for Set {
        type State = BTreeSet<u32>;

        fn step(state: &BTreeSet<u32>, act: &Act) -> Option<BTreeSet<u32>> {
            let mut state = state.clone();
            match &act.does {
                Does::Add(element) => _ = state.insert(*element),
                Does::Read(elements) => {
                    let mut elements = elements.to_vec();
                    elements.sort_unstable();
                    if !elements.iter().eq(&state) {
                        return None;
                    }
                }
            }
            Some(state)
        }
    }

    /// What a set could have done, with slips; elements added once each, or few that come again.
    fn random(rng: &mut ChaCha8Rng) -> Vec<Act> {
        let mut spans = trials::spans(rng, 6);
        let unique = rng.random_bool(0.6);
        let slips = if rng.random_bool(0.5) { 0.1 } else { 0.8 };
        let reads = rng.random_range(0.3..0.7);
        let mut state: Vec<u32> = Vec::new();
        let mut does = vec![None; spans.len()];
        for (next, at) in trials::moments(rng, &spans).into_iter().enumerate() {
            does[at] = Some(if rng.random_bool(reads) {
                let mut seen = state.clone();
                if rng.random_bool(slips) {
                    match rng.random_range(0..4) {
                        0 => seen.push(rng.random_range(0..9)),
                        1 => seen.extend(seen.first().copied()),
                        _ => _ = seen.pop(),
                    }
                }
                Does::Read(seen.into())
            } else {
                let element = if unique { next as u32 } else { rng.random_range(0..3) };
                if !state.contains(&element) {
                    state.insert(rng.random_range(0..state.len() + 1), element);
                }
                Does::Add(element)
            });
        }
        trials::open_some(rng, &mut spans, 0.2);
        let act = |(span, does): (Span, Option<Does>)| {
            let act = Act { span, does: does? };
            if act.span.must { Some(act) } else { act.opened() }
        };
        spans.into_iter().zip(does).filter_map(act).collect()
    }

    #[test]
    fn places_and_every_order_tried_agree_on_a_hundred_thousand_random_histories() {
        let trial = trials::agree::<Set>(110_000, random, |acts| Set::judge(acts, Budget::DEFAULT));
        let twice = trial.count(|acts| {
            let adds: Vec<u32> = acts.iter().filter_map(Act::added).collect();
            adds.iter().collect::<BTreeSet<_>>().len() < adds.len()
        });
        assert!(twice > 10_000, "{twice} add an element twice");
    }

    #[test]
    fn a_smaller_history_keeps_an_order_and_a_core_has_none() {
        trials::reductions_are_sound::<Set>(20_000, random);
        trials::cores_are_small::<Set>(10_000, 3, random);
    }

    #[test]
    fn a_lost_element_among_many_is_told_with_two_operations() {
        let span = |call, ret| Span { call, ret, must: true, source: 0 };
        let mut acts: Vec<Act> = Vec::new();
        for add in 0..3_000_u32 {
            acts.push(Act { span: span(2 * add + 1, 2 * add + 2), does: Does::Add(add) });
            if add % 100 == 99 {
                let line = 2 * add + 2;
                acts.last_mut().unwrap().span.ret = 100_000 + line;
                let seen = (0..=add).filter(|&element| element != 700 || add < 2_000).collect();
                acts.push(Act { span: span(line, 200_000 + line), does: Does::Read(seen) });
            }
        }
        // Calls and returns of neighbours overlap here; only the order of lines counts.
        let (core, _) = super::super::core::core::<Set>(&acts);
        assert_eq!(core.len(), 2, "{core:?}");
    }
}
