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
//!   not hold. With distinct values this leaves hardly any choice.

use super::super::search::{Machine, Opens, random};
use super::{Act, Held};

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
    /// Values needed by what must happen, and made by nothing that is left.
    orphans: u32,
    /// Per value, the classes of what may happen and makes it.
    open_makers: Vec<Vec<u32>>,
    /// Per class, one of those that may happen.
    sample: Vec<u32>,
    /// Per value, the look at which it was wanted; and a list of these.
    wanted_at: Vec<u32>,
    wanted: Vec<u32>,
    looks: u32,
}

/// An operation with its values counted from 0, without holes.
#[derive(Clone, Copy)]
struct Placed {
    needs: u32,
    makes: u32,
    class: u32,
    must: bool,
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
            Placed { needs, makes, class: 0, must: act.must }
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
            orphans: 0,
            open_makers: vec![Vec::new(); count],
            sample: vec![NONE; kinds.len()],
            wanted_at: vec![0; count],
            wanted: Vec::new(),
            looks: 0,
            operations: Vec::new(),
        };
        for (at, &act) in (0..).zip(&placed) {
            machine.count(act, 1);
            if !act.must && act.makes != NONE && machine.sample[act.class as usize] == NONE {
                machine.sample[act.class as usize] = at;
                machine.open_makers[act.makes as usize].push(act.class);
            }
        }
        machine.operations = placed;
        machine.orphans = (0..count as u32).map(|value| machine.orphan(value)).sum();
        machine
    }

    /// 1 for a value that is needed and will not be made again.
    fn orphan(&self, value: u32) -> u32 {
        let at = value as usize;
        u32::from(self.must_need.get(at).is_some_and(|&needs| needs > 0 && self.make[at] == 0))
    }

    /// Counts an operation among those left (+1), or no more (-1).
    fn count(&mut self, act: Placed, by: i32) {
        let add = |count: &mut u32| *count = count.wrapping_add_signed(by);
        if act.needs != NONE {
            add(&mut self.need[act.needs as usize]);
            if act.must {
                add(&mut self.must_need[act.needs as usize]);
            }
        }
        if act.makes != NONE {
            add(&mut self.make[act.makes as usize]);
        }
    }

    fn recount(&mut self, act: Placed, by: i32) {
        self.orphans -= self.orphan(act.needs) + self.orphan(act.makes);
        self.count(act, by);
        self.orphans += self.orphan(act.needs) + self.orphan(act.makes);
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
        self.orphans > self.orphan(self.state)
    }

    fn carries(&self, choice: u32) -> bool {
        self.operations[choice as usize].needs == NONE
    }

    fn rides(&self, place: u32) -> bool {
        let act = self.operations[place as usize];
        act.makes != NONE && act.needs == NONE && self.need[act.makes as usize] == 0
    }

    fn wanted(&mut self, candidates: &[u32], opens: &Opens, choices: &mut Vec<u32>) {
        self.looks = self.looks.wrapping_add(1);
        if self.looks == 0 {
            self.wanted_at.fill(0);
            self.looks = 1;
        }
        let mut want = |value: u32, wanted: &mut Vec<u32>| {
            if value != NONE && value != self.state && self.wanted_at[value as usize] != self.looks {
                self.wanted_at[value as usize] = self.looks;
                wanted.push(value);
            }
        };
        for &place in candidates {
            want(self.operations[place as usize].needs, &mut self.wanted);
        }
        while let Some(value) = self.wanted.pop() {
            for &class in &self.open_makers[value as usize] {
                let Some(place) = opens.first(class) else { continue };
                let needs = self.operations[self.sample[class as usize] as usize].needs;
                if needs == NONE || needs == self.state {
                    choices.push(place);
                } else {
                    want(needs, &mut self.wanted);
                }
            }
        }
    }
}
