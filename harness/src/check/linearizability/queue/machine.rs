//! A queue that a search takes through its operations, forward and back.

use std::collections::VecDeque;

use super::super::object::OPEN;
use super::super::search::{Machine, random};
use super::{Act, Does};

/// A queue in the midst of a search.
///
/// It goes back when a value is behind another that surely comes out later: one that nobody takes, or whose dequeue is
/// called after that of the first returned.
pub struct QueueMachine {
    does: Vec<Does>,
    classes: Vec<u32>,
    count: usize,
    /// Values, each with the last call of a dequeue that it or one before it waits for.
    queue: VecDeque<(u32, u32)>,
    /// How many have come out.
    out: u64,
    hash: u128,
    /// Taken by open dequeues, the last one last.
    taken: Vec<(u32, u32)>,
    /// By value: the first call of what may take it, and the last return; 0 when it may stay.
    first_call: Vec<u32>,
    last_ret: Vec<u32>,
    /// What was put behind something that comes out later.
    stuck: u32,
}

impl QueueMachine {
    pub fn new(acts: &[Act]) -> QueueMachine {
        let mut kinds: Vec<Does> = acts.iter().map(|act| act.does).collect();
        let values =
            acts.iter().filter_map(|act| act.enqueued().or(act.taken())).max().map_or(0, |most| most + 1);
        kinds.sort_unstable();
        kinds.dedup();
        let take =
            acts.iter().filter(|act| act.does == Does::Take).map(|act| act.span.call).min().unwrap_or(OPEN);
        let mut first_call = vec![take; values as usize];
        let mut last_ret = vec![0; values as usize];
        for (value, span) in acts.iter().filter_map(|act| Some((act.taken()?, act.span))) {
            let (call, ret) = (&mut first_call[value as usize], &mut last_ret[value as usize]);
            (*call, *ret) = ((*call).min(span.call), (*ret).max(span.ret));
        }
        // One of several alike may stay.
        let mut more = vec![0_i64; values as usize];
        acts.iter().filter_map(Act::enqueued).for_each(|value| more[value as usize] += 1);
        acts.iter().filter_map(Act::taken).for_each(|value| more[value as usize] -= 1);
        for (ret, _) in last_ret.iter_mut().zip(more).filter(|&(_, more)| more > 0) {
            *ret = 0;
        }
        let class = |act: &Act| kinds.partition_point(|kind| *kind < act.does) as u32;
        QueueMachine {
            does: acts.iter().map(|act| act.does).collect(),
            classes: acts.iter().map(class).collect(),
            count: kinds.len(),
            queue: VecDeque::new(),
            out: 0,
            hash: 0,
            taken: Vec::new(),
            first_call,
            last_ret,
            stuck: 0,
        }
    }

    /// Of a value at a place, counted from the first that ever was in it.
    fn toggle(&mut self, value: u32, place: u64) {
        self.hash ^= random(place << 32 | u64::from(value) | 1 << 63);
    }

    fn is_stuck(&self, value: u32) -> bool {
        let ahead = self.queue.back().map_or(0, |&(_, call)| call);
        let ret = self.last_ret[value as usize];
        ret != 0 && ret < ahead
    }

    fn dequeue(&mut self) -> (u32, u32) {
        let first = self.queue.pop_front().unwrap_or_default();
        self.toggle(first.0, self.out);
        self.out += 1;
        first
    }

    fn put_back(&mut self, first: (u32, u32)) {
        self.out -= 1;
        self.toggle(first.0, self.out);
        self.queue.push_front(first);
    }
}

impl Machine for QueueMachine {
    fn observes(&self, place: u32) -> bool {
        self.does[place as usize] == Does::Empty
    }

    fn fits(&self, place: u32) -> bool {
        match self.does[place as usize] {
            Does::Enqueue(_) => true,
            Does::Dequeue(value) => self.queue.front().is_some_and(|&(first, _)| first == value),
            Does::Empty => self.queue.is_empty(),
            Does::Take => !self.queue.is_empty(),
        }
    }

    fn apply(&mut self, place: u32) {
        match self.does[place as usize] {
            Does::Enqueue(value) => {
                self.stuck += u32::from(self.is_stuck(value));
                let ahead = self.queue.back().map_or(0, |&(_, call)| call);
                self.toggle(value, self.out + self.queue.len() as u64);
                self.queue.push_back((value, ahead.max(self.first_call[value as usize])));
            }
            Does::Dequeue(_) | Does::Take => {
                let first = self.dequeue();
                self.taken.push(first);
            }
            Does::Empty => {}
        }
    }

    fn revert(&mut self, place: u32) {
        match self.does[place as usize] {
            Does::Enqueue(value) => {
                self.queue.pop_back();
                self.toggle(value, self.out + self.queue.len() as u64);
                self.stuck -= u32::from(self.is_stuck(value));
            }
            Does::Dequeue(_) | Does::Take => {
                let first = self.taken.pop().unwrap_or_default();
                self.put_back(first);
            }
            Does::Empty => {}
        }
    }

    fn hash(&self) -> u128 {
        self.hash
    }

    fn class(&self, place: u32) -> u32 {
        self.classes[place as usize]
    }

    fn classes(&self) -> usize {
        self.count
    }

    fn is_dead(&self) -> bool {
        self.stuck > 0
    }
}
