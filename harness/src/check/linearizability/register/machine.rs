//! A register in the midst of a search.
//!
//! In: operations that need and make values. Out: which of them may come next. Never: an order lost.
//!
//! Beside what every search does:
//!
//! - Values that nobody needs are one value: nobody can tell them apart.
//! - A write of a value that nothing left needs goes right before the next write that is chosen: nobody can see it
//!   there, nor miss it where it stood, for what followed it there made something without a need.
//! - An operation that may happen is chosen only when something needs what it makes: it can be dropped from an order in
//!   which the next operation does not. That next one is a candidate too, as taking what may happen lets nobody in;
//!   or it may happen itself, and so on up to one that must.
//! - The search goes back when something that must happen needs a value that nothing left makes and the register does
//!   not hold. With distinct values this leaves hardly any choice. A swap uses a value up: so there must be a maker left
//!   for each swap that needs it, but for one if the register holds it.
//! - It goes back, too, when a candidate needs a value that nothing makes which was invoked before the candidate
//!   completed: what is invoked later stands behind it. (All makers that are in order already were invoked before,
//!   so it is enough to count.)
//! - What makes a value that a candidate waits for is as urgent as that candidate.

use super::super::search::{Machine, Opens, random};
use super::{Act, Held, OPEN};

pub struct RegisterMachine {
    operations: Vec<Placed>,
    classes: usize,
    /// Per value: operations left that must happen and need it; all left that need it; all left that make it.
    must_need: Vec<u32>,
    need: Vec<u32>,
    make: Vec<u32>,
    state: u32,
    /// What it held before each operation that was applied.
    before: Vec<u32>,
    /// Per value: swaps left that must happen and need it.
    must_swap: Vec<u32>,
    /// Values that must be held once more than they will be made, and those more than once more.
    lacking: [u32; 2],
    /// Per value, the classes of what may happen and makes it.
    open_makers: Vec<Vec<u32>>,
    /// Per class, one of those that may happen.
    sample: Vec<u32>,
    /// Per value, the look at which it was wanted; and a list of these.
    wanted_at: Vec<u32>,
    wanted: Vec<u32>,
    looks: u32,
    /// Per value, the calls of all that make it, in order; and when the first of those completes that want it.
    maker_calls: Vec<Vec<u32>>,
    urgency: Vec<u32>,
}

/// An operation with its values counted from 0, without holes.
#[derive(Clone, Copy)]
struct Placed {
    needs: u32,
    makes: u32,
    class: u32,
    must: bool,
    ret: u32,
}

/// No value.
const NONE: u32 = u32::MAX;

/// Holds whatever nobody needs.
const UNNEEDED: u32 = 1;

impl RegisterMachine {
    pub fn new(operations: &[Act]) -> RegisterMachine {
        let (numbers, count) = numbers(operations);
        let number = |value: Held| numbers.get(value.0 as usize).copied().unwrap_or(count as u32 - 1);
        let place = |act: &Act| {
            let needs = act.needs.map_or(NONE, number);
            let makes = act.makes.map_or(NONE, number);
            // Swapping a value for itself is reading it.
            let makes = if makes == needs { NONE } else { makes };
            Placed { needs, makes, class: 0, must: act.must, ret: act.ret }
        };
        let mut placed: Vec<Placed> = operations.iter().map(place).collect();
        let mut kinds: Vec<(u32, u32)> = placed.iter().map(|act| (act.needs, act.makes)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for act in &mut placed {
            act.class = kinds.partition_point(|&kind| kind < (act.needs, act.makes)) as u32;
        }
        let mut machine = RegisterMachine {
            classes: kinds.len(),
            must_need: vec![0; count],
            need: vec![0; count],
            make: vec![0; count],
            state: 0,
            before: Vec::new(),
            must_swap: vec![0; count],
            lacking: [0; 2],
            open_makers: vec![Vec::new(); count],
            sample: vec![NONE; kinds.len()],
            wanted_at: vec![0; count],
            wanted: Vec::new(),
            looks: 0,
            maker_calls: vec![Vec::new(); count],
            urgency: vec![OPEN; count],
            operations: Vec::new(),
        };
        for (at, &act) in (0_u32..).zip(&placed) {
            machine.count(act, 1);
            if act.makes != NONE {
                machine.maker_calls[act.makes as usize].push(operations[at as usize].call);
            }
            if !act.must && act.makes != NONE && machine.sample[act.class as usize] == NONE {
                machine.sample[act.class as usize] = at;
                machine.open_makers[act.makes as usize].push(act.class);
            }
        }
        machine.operations = placed;
        (0..count as u32).for_each(|value| machine.count_lack(value, 1));
        machine
    }

    /// How often a value must be held more than it will be made.
    fn lack(&self, value: u32) -> u32 {
        let at = value as usize;
        let Some(&makers) = self.make.get(at) else { return 0 };
        let is_read = u32::from(self.must_need[at] > 0 && makers == 0);
        self.must_swap[at].saturating_sub(makers).max(is_read)
    }

    fn count_lack(&mut self, value: u32, by: i32) {
        let lack = self.lack(value);
        for (least, count) in (1..).zip(&mut self.lacking) {
            *count = count.wrapping_add_signed(if lack >= least { by } else { 0 });
        }
    }

    /// Counts an operation among those left (+1), or no more (-1).
    fn count(&mut self, act: Placed, by: i32) {
        let add = |count: &mut u32| *count = count.wrapping_add_signed(by);
        if act.needs != NONE {
            add(&mut self.need[act.needs as usize]);
            if act.must {
                add(&mut self.must_need[act.needs as usize]);
            }
            if act.must && act.makes != NONE {
                add(&mut self.must_swap[act.needs as usize]);
            }
        }
        if act.makes != NONE {
            add(&mut self.make[act.makes as usize]);
        }
    }

    fn recount(&mut self, act: Placed, by: i32) {
        // What it needs and what it makes are never the same.
        [act.needs, act.makes].into_iter().for_each(|value| self.count_lack(value, -1));
        self.count(act, by);
        [act.needs, act.makes].into_iter().for_each(|value| self.count_lack(value, 1));
    }
}

/// A number for each value, by [`Held`], and how many there are: 0 for absence, and one for all that nobody needs.
fn numbers(operations: &[Act]) -> (Vec<u32>, usize) {
    let values = || operations.iter().flat_map(|act| [act.needs, act.makes]).flatten();
    let most = values().filter(|&value| value != Held::IMPOSSIBLE).map(|value| value.0 as usize).max();
    let mut numbers = vec![UNNEEDED; most.unwrap_or(0) + 1];
    numbers[0] = 0;
    let mut next = UNNEEDED + 1;
    for value in operations.iter().filter_map(|act| act.needs) {
        if let Some(number) = numbers.get_mut(value.0 as usize)
            && *number == UNNEEDED
        {
            *number = next;
            next += 1;
        }
    }
    // The last is for what no register holds.
    (numbers, next as usize + 1)
}

impl Machine for RegisterMachine {
    fn observes(&self, place: u32) -> bool {
        self.operations[place as usize].makes == NONE
    }

    fn fits(&self, place: u32) -> bool {
        let needs = self.operations[place as usize].needs;
        needs == NONE || needs == self.state
    }

    fn apply(&mut self, place: u32) {
        let act = self.operations[place as usize];
        self.recount(act, -1);
        self.before.push(self.state);
        if act.makes != NONE {
            self.state = act.makes;
        }
    }

    fn revert(&mut self, place: u32) {
        self.recount(self.operations[place as usize], 1);
        self.state = self.before.pop().unwrap_or_default();
    }

    fn hash(&self) -> u128 {
        random(u64::from(self.state) | 1 << 63)
    }

    fn class(&self, place: u32) -> u32 {
        self.operations[place as usize].class
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn is_dead(&self) -> bool {
        let [once, more] = self.lacking;
        more > 0 || once > u32::from(self.lack(self.state) > 0)
    }

    fn carries(&self, choice: u32) -> bool {
        self.operations[choice as usize].needs == NONE
    }

    fn rides(&self, place: u32) -> bool {
        let act = self.operations[place as usize];
        act.makes != NONE && act.needs == NONE && self.need[act.makes as usize] == 0
    }

    fn serves(&self, choice: u32) -> u32 {
        let makes = self.operations[choice as usize].makes as usize;
        if self.wanted_at.get(makes) == Some(&self.looks) { self.urgency[makes] } else { OPEN }
    }

    fn wanted(&mut self, candidates: &[u32], opens: &Opens, choices: &mut Vec<u32>) -> bool {
        self.looks = self.looks.wrapping_add(1);
        if self.looks == 0 {
            self.wanted_at.fill(0);
            self.looks = 1;
        }
        self.wanted.clear();
        for &place in candidates {
            let Placed { needs, ret, .. } = self.operations[place as usize];
            if needs == NONE || needs == self.state {
                continue;
            }
            self.want(needs, ret);
            let makers = &self.maker_calls[needs as usize];
            let gone = makers.len() - self.make[needs as usize] as usize;
            if makers.get(gone).is_none_or(|_| makers.partition_point(|&call| call < ret) <= gone) {
                return false;
            }
        }
        while let Some(value) = self.wanted.pop() {
            for at in 0..self.open_makers[value as usize].len() {
                let class = self.open_makers[value as usize][at];
                let Some(place) = opens.first(class) else { continue };
                let needs = self.operations[self.sample[class as usize] as usize].needs;
                if needs == NONE || needs == self.state {
                    choices.push(place);
                } else {
                    self.want(needs, self.urgency[value as usize]);
                }
            }
        }
        true
    }
}

impl RegisterMachine {
    /// Notes that an operation that completes then waits for a value.
    fn want(&mut self, value: u32, ret: u32) {
        let at = value as usize;
        if value == self.state {
            return;
        }
        if self.wanted_at[at] == self.looks {
            self.urgency[at] = self.urgency[at].min(ret);
        } else {
            (self.wanted_at[at], self.urgency[at]) = (self.looks, ret);
            self.wanted.push(value);
        }
    }
}
