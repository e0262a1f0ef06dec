//! The search for an order of one object's operations (Wing & Gong 1993, with the memoisation of Lowe 2017).
//!
//! In: when operations took place, a [`Machine`] that knows what they do, and a budget. Out: whether there is an
//! order, or how far the search came. Never: recursion, a clock, memory beyond the budget.
//!
//! A state of the search is the set of operations already put in order and what the object then holds. A *candidate*
//! is an operation that was invoked before the first completion among those which must happen and are not yet put in
//! order: only such a one may come next. What makes this fast, and loses no order:
//!
//! - A candidate that never changes anything and fits is put in order at once. It may stand here in any order in
//!   which it stands later, and nobody sees the difference.
//! - Of candidates that do the same (a *class*) only the one that completes first is tried. In an order where another
//!   one comes first both may change places: each was invoked by now, and what the later place allows the one that
//!   completes first it allows the other.
//! - Those which may or may not happen complete last; of a class they are taken in the order of their calls. So they
//!   stand beside the list that is gone through at each step, and a million of them cost nothing until they are wanted.
//! - Where there is one choice only, the state is remembered at every 64th place: the next real choice is.
//!
//! What a machine can add of its own (choices that are of no use, ends that are dead, operations nobody would miss
//! that ride along with another) stands with each.
//!
//! Of a set that was searched in vain only a 128-bit hash is kept (the sum, by exclusive or, of a random number for
//! each operation): two sets of n would be taken for one with a chance of about n²/2^128, which is below 1e-25
//! within the default budget.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use super::object::{OPEN, Span};

#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Choices made; and [`WORK_PER_STEP`] times as many operations looked at.
    pub steps: u64,
    /// States remembered, 16 bytes each and as much again for the table; and eight times as many choices not yet made,
    /// of four bytes.
    pub states: usize,
}

/// As many clients as this may always be at work at once.
const WORK_PER_STEP: u64 = 256;

impl Budget {
    pub const DEFAULT: Budget = Budget { steps: 4_000_000, states: 2_000_000 };

    /// The default, and enough for an order that shows without any wrong choice.
    pub fn of(operations: usize) -> Budget {
        Budget { steps: Budget::DEFAULT.steps + operations as u64, ..Budget::DEFAULT }
    }
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

impl Searched {
    /// Decided without a search, for so many operations that must happen.
    pub fn decided(has_order: bool, total: usize) -> Searched {
        match has_order {
            true => Searched { conclusion: Conclusion::Linearizable, steps: 0, reached: total, total },
            false => Searched { conclusion: Conclusion::NotLinearizable, steps: 0, reached: 0, total },
        }
    }
}

/// An object in the midst of a search, which goes forward and back. Operations are named by their places.
pub trait Machine {
    /// The operation leaves what the object holds as it is, whenever it fits.
    fn observes(&self, place: u32) -> bool;

    /// It may come next.
    fn fits(&self, place: u32) -> bool;

    /// Does it; `observes` or not, for what is left is counted here.
    fn apply(&mut self, place: u32);

    /// Undoes what was applied last.
    fn revert(&mut self, place: u32);

    /// Of what it holds, as far as the set of those applied does not say so.
    fn hash(&self) -> u128;

    /// Operations with the same number do the same. Below [`Machine::classes`].
    fn class(&self, place: u32) -> u32;

    fn classes(&self) -> usize;

    /// What is left can certainly not be put in order.
    fn is_dead(&self) -> bool {
        false
    }

    /// Others may be put in order together with this choice, right before it.
    fn carries(&self, _choice: u32) -> bool {
        false
    }

    /// This one, which must happen, is seen by nobody when it stands right before one that carries.
    fn rides(&self, _place: u32) -> bool {
        false
    }

    /// When the first of those completes that wait for what this choice makes; asked after [`Machine::wanted`].
    fn serves(&self, _choice: u32) -> u32 {
        OPEN
    }

    /// Adds those which may happen and are worth a choice, `candidates` being the others, none of which is an observer
    /// that fits. False when one of these can certainly not be put in order before it completes.
    fn wanted(&mut self, _candidates: &[u32], opens: &Opens, choices: &mut Vec<u32>) -> bool {
        choices.extend(opens.all().filter(|&place| self.fits(place)));
        true
    }
}

/// Operations that may or may not happen, by class.
#[derive(Debug)]
pub struct Opens {
    /// Places in the order of their calls, one class after the other.
    places: Vec<u32>,
    /// Where each class begins; one more for the end.
    begins: Vec<u32>,
    /// The first in `places` that is not yet put in order.
    next: Vec<u32>,
    /// Those which have any.
    classes: Vec<u32>,
    calls: Vec<u32>,
    /// The first completion among those left that must happen.
    first_ret: u32,
}

impl Opens {
    fn new(spans: &[Span], machine: &impl Machine) -> Opens {
        let of = |place: u32| (machine.class(place), spans[place as usize].call, place);
        let mut sorted: Vec<_> =
            (0..spans.len() as u32).filter(|&at| !spans[at as usize].must).map(of).collect();
        sorted.sort_unstable();
        let mut begins = vec![0_u32; machine.classes() + 1];
        for &(class, ..) in &sorted {
            begins[class as usize + 1] += 1;
        }
        let classes =
            (0_u32..).zip(&begins[1..]).filter(|&(_, &count)| count > 0).map(|(class, _)| class).collect();
        for class in 0..machine.classes() {
            begins[class + 1] += begins[class];
        }
        let next = begins[..machine.classes()].to_vec();
        let calls = sorted.iter().map(|&(_, call, _)| call).collect();
        Opens {
            places: sorted.into_iter().map(|(.., place)| place).collect(),
            begins,
            next,
            classes,
            calls,
            first_ret: OPEN,
        }
    }

    /// One of each class that has any.
    pub fn all(&self) -> impl Iterator<Item = u32> {
        self.classes.iter().filter_map(|&class| self.first(class))
    }

    /// The one of this class that is to be taken first, if it was invoked in time.
    pub fn first(&self, class: u32) -> Option<u32> {
        let at = self.next[class as usize] as usize;
        let is_there = at < self.begins[class as usize + 1] as usize && self.calls[at] <= self.first_ret;
        is_there.then(|| self.places[at])
    }
}

/// Looks for an order of operations that took place at `spans`, which are in the order of their calls.
pub fn search<M: Machine>(spans: &[Span], machine: M, budget: Budget) -> Searched {
    let mut board = Board::new(spans, machine);
    let total = board.must_left;
    let searched = |conclusion, steps, reached| Searched { conclusion, steps, reached, total };
    if board.machine.is_dead() {
        return searched(Conclusion::NotLinearizable, 0, 0);
    }
    let (mut steps, mut reached, mut forced) = (0, 0, 0_u32);
    let mut seen: HashSet<u128, BuildHasherDefault<Hashed>> = HashSet::default();
    let mut choices: Vec<u32> = Vec::new();
    let mut frames: Vec<Frame> = Vec::new();
    let mut entering = true;
    loop {
        if entering {
            let frame = Frame { first: choices.len(), mark: 0 };
            board.settle();
            reached = reached.max(total - board.must_left);
            if board.must_left == 0 {
                return searched(Conclusion::Linearizable, steps, reached);
            }
            board.choices(&mut choices);
            let is_forced = choices.len() == frame.first + 1;
            forced = if is_forced { forced + 1 } else { 0 };
            let remember = !is_forced || forced.is_multiple_of(64);
            if remember && !seen.insert(board.hash()) {
                choices.truncate(frame.first);
            }
            frames.push(Frame { mark: board.trail.len(), ..frame });
        }
        let Some(&Frame { first, mark }) = frames.last() else {
            return searched(Conclusion::NotLinearizable, steps, reached);
        };
        board.back_to(mark);
        entering = false;
        match choices.pop() {
            Some(choice) if choices.len() >= first => {
                // With the last choice there is nothing to come back to.
                if choices.len() == first {
                    frames.pop();
                }
                steps += 1;
                let is_full = seen.len() > budget.states || choices.len() > 8 * budget.states;
                if steps > budget.steps || board.work > WORK_PER_STEP * budget.steps || is_full {
                    return searched(Conclusion::OutOfBudget, steps, reached);
                }
                entering = board.choose(choice);
            }
            other => {
                choices.extend(other);
                frames.pop();
            }
        }
    }
}

struct Frame {
    /// Where its choices begin, the most promising last.
    first: usize,
    /// Where the trail stood.
    mark: usize,
}

/// Which operations are not yet put in order.
///
/// Those which must happen form a doubly linked list in the order of calls; taking one out keeps its own links, so
/// that putting back in the opposite order restores the list.
struct Board<'s, M> {
    spans: &'s [Span],
    machine: M,
    next: Vec<u32>,
    previous: Vec<u32>,
    opens: Opens,
    hash: u128,
    must_left: usize,
    /// What was taken out, in that order.
    trail: Vec<u32>,
    /// As [`Board::settle`] leaves them, in the order of calls.
    candidates: Vec<u32>,
    /// By class: where among the choices its best one stands, and for which look that is true.
    best: Vec<(u32, u32)>,
    looks: u32,
    /// Operations looked at so far.
    work: u64,
}

impl<'s, M: Machine> Board<'s, M> {
    fn new(spans: &'s [Span], machine: M) -> Board<'s, M> {
        let size = spans.len() as u32;
        // The last place is the list's head.
        let (mut next, mut previous) = (vec![size; spans.len() + 1], vec![size; spans.len() + 1]);
        let mut last = size;
        for place in (0..size).filter(|&place| spans[place as usize].must) {
            (next[last as usize], previous[place as usize]) = (place, last);
            last = place;
        }
        (next[last as usize], previous[size as usize]) = (size, last);
        Board {
            spans,
            next,
            previous,
            opens: Opens::new(spans, &machine),
            hash: 0,
            must_left: spans.iter().filter(|span| span.must).count(),
            trail: Vec::new(),
            candidates: Vec::new(),
            best: vec![(0, 0); machine.classes()],
            looks: 0,
            work: 0,
            machine,
        }
    }

    fn hash(&self) -> u128 {
        self.hash ^ self.machine.hash()
    }

    /// Puts an operation next in the order.
    fn take(&mut self, place: u32) {
        if self.spans[place as usize].must {
            let (before, after) = (self.previous[place as usize], self.next[place as usize]);
            self.next[before as usize] = after;
            self.previous[after as usize] = before;
            self.must_left -= 1;
        } else {
            self.opens.next[self.machine.class(place) as usize] += 1;
        }
        self.machine.apply(place);
        self.hash ^= random(u64::from(place));
        self.trail.push(place);
    }

    /// Undoes what was put in order since the trail was this long.
    fn back_to(&mut self, mark: usize) {
        while self.trail.len() > mark {
            let Some(place) = self.trail.pop() else { break };
            if self.spans[place as usize].must {
                let (before, after) = (self.previous[place as usize], self.next[place as usize]);
                self.next[before as usize] = place;
                self.previous[after as usize] = place;
                self.must_left += 1;
            } else {
                self.opens.next[self.machine.class(place) as usize] -= 1;
            }
            self.machine.revert(place);
            self.hash ^= random(u64::from(place));
        }
    }

    /// Puts in order whatever changes nothing and fits, and notes the candidates that then are left.
    ///
    /// Once through is enough: what is passed over will not fit later, for the object holds the same, and those taken
    /// delay nobody.
    fn settle(&mut self) {
        self.candidates.clear();
        let mut first_ret = OPEN;
        let mut place = self.next[self.spans.len()];
        while let Some(&Span { call, ret, .. }) = self.spans.get(place as usize) {
            if call > first_ret {
                break;
            }
            let after = self.next[place as usize];
            if self.machine.observes(place) && self.machine.fits(place) {
                self.take(place);
            } else {
                first_ret = first_ret.min(ret);
                self.candidates.push(place);
            }
            place = after;
        }
        self.opens.first_ret = first_ret;
        self.work += self.candidates.len() as u64;
    }

    /// What may come next and changes something, one of each class; last the one that completes first, or serves one
    /// that does.
    fn choices(&mut self, choices: &mut Vec<u32>) {
        let first = choices.len();
        self.looks = self.looks.wrapping_add(1);
        if self.looks == 0 {
            self.best.fill((0, 0));
            self.looks = 1;
        }
        if !self.machine.wanted(&self.candidates, &self.opens, choices) {
            choices.truncate(first);
            return;
        }
        let must = choices.len();
        for &place in &self.candidates {
            if self.machine.observes(place) || !self.machine.fits(place) {
                continue;
            }
            let (look, at) = &mut self.best[self.machine.class(place) as usize];
            if *look != self.looks {
                (*look, *at) = (self.looks, choices.len() as u32);
                choices.push(place);
            } else if self.spans[place as usize].ret < self.spans[choices[*at as usize] as usize].ret {
                choices[*at as usize] = place;
            }
        }
        // One that must happen completes before all of its class that may.
        let mut kept = first;
        for at in first..choices.len() {
            let place = choices[at];
            let (look, _) = self.best[self.machine.class(place) as usize];
            if at >= must || look != self.looks {
                choices[kept] = place;
                kept += 1;
            }
        }
        choices.truncate(kept);
        let urgency = |&place: &u32| self.spans[place as usize].ret.min(self.machine.serves(place));
        choices[first..].sort_by_cached_key(|place| std::cmp::Reverse(urgency(place)));
    }

    /// Puts a choice in order, and before it those which ride along. False when that leaves something behind that can
    /// never be.
    fn choose(&mut self, choice: u32) -> bool {
        if self.machine.carries(choice) {
            // Each one taken may let others become candidates.
            let mut first_ret = OPEN;
            let mut place = self.next[self.spans.len()];
            while let Some(&Span { call, ret, .. }) = self.spans.get(place as usize) {
                if call > first_ret {
                    break;
                }
                let after = self.next[place as usize];
                if place != choice && self.machine.rides(place) {
                    self.take(place);
                } else {
                    first_ret = first_ret.min(ret);
                }
                place = after;
            }
        }
        self.take(choice);
        !self.machine.is_dead()
    }
}

/// Numbers without a pattern, always the same (splitmix64, twice).
pub fn random(seed: u64) -> u128 {
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let (low, high) = (seed.wrapping_add(0x9e37_79b9_7f4a_7c15), seed.wrapping_add(0x3c6e_f372_fe94_f82a));
    u128::from(mix(mix(low))) << 64 | u128::from(mix(high ^ 0x5851_f42d_4c95_7f2d))
}

/// What is kept is a hash already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}
