//! The search for an order of one register's operations (Wing & Gong 1993, with the memoisation of Lowe 2017).
//!
//! In: operations and a budget. Out: whether there is an order, or how far the search came. Never: recursion, a
//! clock, memory beyond the budget.
//!
//! A state of the search is the set of operations already put in order and what the register then holds. A
//! *candidate* is an operation that was invoked before the first completion among those not yet put in order: only
//! such a one may come next. What makes this fast for registers:
//!
//! - A candidate that makes nothing and needs what the register holds is put in order at once. It changes nothing
//!   for the others, and may stand here in any order in which it stands later: no branch is lost.
//! - A candidate that is a write whose value nothing left needs goes right before the next write that is chosen,
//!   for the same reason: nobody can see it there, nor miss it where it stood.
//! - The register must not move on from a value that something which must happen still needs, when nothing is left
//!   that makes it again. With distinct values this leaves hardly any choice.
//!
//! Of a set that was searched in vain only a 128-bit hash is kept (the sum, by exclusive or, of a random number for
//! each operation): two sets of n would be taken for one with a chance of about n²/2^128, which is below 1e-25
//! within the default budget.

use std::collections::{HashMap, HashSet};

use super::{Act, Held, OPEN};

#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Choices made.
    pub steps: u64,
    /// States remembered, 16 bytes each and as much again for the table.
    pub states: usize,
}

impl Budget {
    pub const DEFAULT: Budget = Budget { steps: 2_000_000, states: 2_000_000 };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Searched {
    pub conclusion: Conclusion,
    pub steps: u64,
    /// The most operations (of those that must happen) that any order tried could hold.
    pub reached: usize,
    /// Operations that must happen.
    pub total: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    Linearizable,
    NotLinearizable,
    OutOfBudget,
}

/// Looks for an order of `operations`, which are in the order of their calls.
pub fn search(operations: &[Act], budget: Budget) -> Searched {
    let mut board = Board::new(operations);
    let total = board.must_left;
    let searched = |conclusion, steps, reached| Searched { conclusion, steps, reached, total };
    if board.is_hopeless() {
        return searched(Conclusion::NotLinearizable, 0, 0);
    }
    let (mut steps, mut reached) = (0, 0);
    let mut seen: HashSet<u128> = HashSet::new();
    let mut stack: Vec<Frame> = Vec::new();
    let mut entering = true;
    loop {
        if entering {
            board.settle();
            reached = reached.max(total - board.must_left);
            if board.must_left == 0 {
                return searched(Conclusion::Linearizable, steps, reached);
            }
            let choices = if seen.insert(board.hash()) { board.choices() } else { Vec::new() };
            stack.push(Frame { choices, mark: board.trail.len(), state: board.state });
        }
        let Some(frame) = stack.last_mut() else {
            return searched(Conclusion::NotLinearizable, steps, reached);
        };
        board.back_to(frame.mark, frame.state);
        match frame.choices.pop() {
            Some(choice) => {
                steps += 1;
                if steps > budget.steps || seen.len() > budget.states {
                    return searched(Conclusion::OutOfBudget, steps, reached);
                }
                entering = board.choose(choice);
            }
            None => {
                stack.pop();
                entering = false;
            }
        }
    }
}

struct Frame {
    /// What may come next, the most promising last.
    choices: Vec<u32>,
    /// Where the trail stood.
    mark: usize,
    state: u32,
}

/// Which operations are not yet put in order, and what the register holds.
///
/// They form a doubly linked list in the order of calls; taking one out keeps its own links, so that putting back
/// in the opposite order restores the list.
struct Board {
    operations: Vec<Placed>,
    next: Vec<u32>,
    previous: Vec<u32>,
    state: u32,
    hash: u128,
    must_left: usize,
    /// Per value: operations left that must happen and need it; all left that need it; all left that make it.
    must_need: Vec<u32>,
    need: Vec<u32>,
    make: Vec<u32>,
    /// What was taken out, in that order.
    trail: Vec<u32>,
}

/// An operation with its values counted from 0, without holes.
#[derive(Clone, Copy)]
struct Placed {
    call: u32,
    ret: u32,
    needs: u32,
    makes: u32,
    must: bool,
}

/// No value.
const NONE: u32 = u32::MAX;

impl Board {
    fn new(operations: &[Act]) -> Board {
        let mut values = HashMap::from([(Held::ABSENT, 0)]);
        let mut number = |value: Option<Held>| match value {
            Some(value) => {
                let next = values.len() as u32;
                *values.entry(value).or_insert(next)
            }
            None => NONE,
        };
        let mut placed = Vec::with_capacity(operations.len());
        for operation in operations {
            let Act { call, ret, must, .. } = *operation;
            let (needs, makes) = (number(operation.needs), number(operation.makes));
            placed.push(Placed { call, ret: if must { ret } else { OPEN }, needs, makes, must });
        }
        let (count, size) = (values.len(), placed.len() as u32);
        let mut board = Board {
            operations: placed,
            // The last place is the list's head.
            next: (0..size).map(|place| place + 1).chain([0]).collect(),
            previous: (0..=size).map(|place| place.checked_sub(1).unwrap_or(size)).collect(),
            state: 0,
            hash: 0,
            must_left: 0,
            must_need: vec![0; count],
            need: vec![0; count],
            make: vec![0; count],
            trail: Vec::new(),
        };
        for place in 0..board.operations.len() {
            board.count(board.operations[place], 1);
        }
        board
    }

    /// True when something that must happen needs what the register never holds.
    fn is_hopeless(&self) -> bool {
        (1..self.make.len()).any(|value| self.must_need[value] > 0 && self.make[value] == 0)
    }

    fn hash(&self) -> u128 {
        self.hash ^ random(u64::from(self.state) | 1 << 63)
    }

    /// Counts an operation among those left (+1), or no more (-1).
    fn count(&mut self, operation: Placed, by: i32) {
        let add = |count: &mut u32| *count = count.wrapping_add_signed(by);
        if operation.must {
            self.must_left = self.must_left.wrapping_add_signed(by as isize);
        }
        if let Some(need) = self.need.get_mut(operation.needs as usize) {
            add(need);
        }
        if let (Some(need), true) = (self.must_need.get_mut(operation.needs as usize), operation.must) {
            add(need);
        }
        if let Some(make) = self.make.get_mut(operation.makes as usize) {
            add(make);
        }
    }

    /// Puts an operation next in the order.
    fn take(&mut self, place: u32) {
        let operation = self.operations[place as usize];
        let (before, after) = (self.previous[place as usize], self.next[place as usize]);
        self.next[before as usize] = after;
        self.previous[after as usize] = before;
        self.count(operation, -1);
        self.hash ^= random(u64::from(place));
        self.trail.push(place);
        if operation.makes != NONE {
            self.state = operation.makes;
        }
    }

    /// Undoes what was put in order since the trail was this long, and the register held this.
    fn back_to(&mut self, mark: usize, state: u32) {
        while self.trail.len() > mark {
            let Some(place) = self.trail.pop() else { break };
            let (before, after) = (self.previous[place as usize], self.next[place as usize]);
            self.next[before as usize] = place;
            self.previous[after as usize] = place;
            self.count(self.operations[place as usize], 1);
            self.hash ^= random(u64::from(place));
        }
        self.state = state;
    }

    /// In the order of calls.
    fn candidates(&self) -> impl Iterator<Item = (u32, &Placed)> {
        let mut place = self.next[self.operations.len()];
        let mut first_ret = OPEN;
        std::iter::from_fn(move || {
            // The list's head is no operation.
            let operation = self.operations.get(place as usize)?;
            let (candidate, here) = (operation.call <= first_ret, place);
            first_ret = first_ret.min(operation.ret);
            place = self.next[place as usize];
            candidate.then_some((here, operation))
        })
    }

    fn first_candidate(&self, wanted: impl Fn(u32, &Placed) -> bool) -> Option<u32> {
        let found = self.candidates().find(|&(place, operation)| wanted(place, operation));
        found.map(|(place, _)| place)
    }

    /// Puts in order whatever makes nothing and fits.
    fn settle(&mut self) {
        while let Some(place) =
            self.first_candidate(|_, operation| operation.makes == NONE && operation.needs == self.state)
        {
            self.take(place);
        }
    }

    /// What may come next and makes something; last the one that completes first.
    fn choices(&self) -> Vec<u32> {
        let fits = |operation: &Placed| operation.needs == NONE || operation.needs == self.state;
        // What may happen is of use only for those who need it.
        let useful = |operation: &Placed| operation.must || self.need[operation.makes as usize] > 0;
        let makers = self.candidates().filter(|(_, operation)| operation.makes != NONE);
        let mut choices: Vec<u32> = makers
            .filter(|(_, operation)| fits(operation) && useful(operation))
            .map(|(place, _)| place)
            .collect();
        choices.sort_by_key(|&place| std::cmp::Reverse(self.operations[place as usize].ret));
        choices
    }

    /// Puts a choice in order, and before it, when it is a write, the writes nobody needs. False when that leaves
    /// something behind that can never be.
    fn choose(&mut self, choice: u32) -> bool {
        let chosen = self.operations[choice as usize];
        let left = self.state as usize;
        if chosen.needs == NONE {
            // Each one taken may let others become candidates.
            while let Some(place) = self.first_candidate(|place, operation| {
                let write = operation.must && operation.makes != NONE && operation.needs == NONE;
                write && place != choice && self.need[operation.makes as usize] == 0
            }) {
                self.take(place);
            }
        }
        self.take(choice);
        self.must_need[left] == 0 || self.make[left] > 0 || self.state as usize == left
    }
}

/// Numbers without a pattern, always the same (splitmix64, twice).
fn random(seed: u64) -> u128 {
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let (low, high) = (seed.wrapping_add(0x9e37_79b9_7f4a_7c15), seed.wrapping_add(0x3c6e_f372_fe94_f82a));
    u128::from(mix(mix(low))) << 64 | u128::from(mix(high ^ 0x5851_f42d_4c95_7f2d))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(call: u32, ret: u32, value: u32) -> Act {
        Act { call, ret, needs: None, makes: Some(Held(value)), must: ret != OPEN, source: 0 }
    }

    fn read(call: u32, ret: u32, value: u32) -> Act {
        Act { call, ret, needs: Some(Held(value)), makes: None, must: true, source: 0 }
    }

    #[test]
    fn a_stale_read_has_no_order_and_a_concurrent_one_has() {
        let stale = [write(1, 2, 1), write(3, 4, 2), read(5, 6, 1)];
        assert_eq!(search(&stale, Budget::DEFAULT).conclusion, Conclusion::NotLinearizable);
        let concurrent = [write(1, 2, 1), write(3, 6, 2), read(4, 5, 1)];
        assert_eq!(search(&concurrent, Budget::DEFAULT).conclusion, Conclusion::Linearizable);
        assert_eq!(search(&[], Budget::DEFAULT).conclusion, Conclusion::Linearizable);
    }

    #[test]
    fn a_spent_budget_says_how_far_it_came() {
        let many: Vec<_> = (0..20).map(|at| write(2 * at + 1, 2 * at + 2, at + 1)).collect();
        let searched = search(&many, Budget { steps: 5, states: 100 });
        assert_eq!((searched.conclusion, searched.total), (Conclusion::OutOfBudget, 20));
        assert!((1..20).contains(&searched.reached), "{searched:?}");
    }
}
