//! Whether one register's operations have an order, from the zones of its values and without a search.
//!
//! In: operations in the order of their calls, and up to which line of the history they count. Out: ordered, or what
//! breaks the order, or that the argument does not apply. Never: a guess, recursion, more than O(n log n).
//!
//! After Gibbons & Korach, "Testing Shared Memories" (SIAM J. Comput. 1997), extended by compare-and-swap and by
//! unknown outcomes. "Makes", "needs" and "must" are the words of the module above; a *maker* is an operation that
//! makes a value, a *reader* one that only needs one.
//!
//! # When it applies
//!
//! Each value that is needed by what happens (below) has one maker. The register's absence at first has a maker too,
//! which ended before all else; so a `delete` is welcome as long as nobody saw absence. A value that nobody needs
//! may be made often: its makers cannot be told apart, nor need they be.
//!
//! # What happens
//!
//! What must happen does, and so does the maker of each value that is needed by what happens. Let H be these. If the
//! operations have an order, H alone has one: nothing in H needs what an operation outside makes, and what stands
//! in the order between a maker in H and the last one that needs its value makes nothing (the value would be gone,
//! and nobody makes it again); so each in H still finds what it needs. If H has an order, it is one of the whole, for
//! what is outside only may happen. A maker in H whose outcome is unknown is an operation like the others whose
//! return is open: it cannot end before anything begins.
//!
//! # Blocks
//!
//! Let H have an order, and look at a value v. Between v's maker and the last operation that needs v there is no
//! other maker. So of those in H that need v at most one makes something, and it stands after all readers of v; and
//! what stands in between are readers of v. Hence a chain (a write of v0, swaps v0 to v1, v1 to v2, ..., and all
//! readers of these) stands together as a *block*, in this order but for readers of one value among themselves:
//!
//! > maker of v0, readers of v0, maker of v1, readers of v1, ...
//!
//! Every operation of H is in one block, unless a value it needs has no maker or its chain of needs goes round in a
//! circle; then there is no order, for a register holds only what was made before. An order within the block exists
//! when no operation returned before one that stands in an earlier place was called. (In its own place, too, a reader
//! may be forced before another; that is the order of time, and no circle comes of it.) The initial absence is the
//! first value of such a block.
//!
//! # Zones
//!
//! So the order of H is an order of blocks, and it respects time when, within blocks, the above holds and, between
//! blocks, A stands before B wherever an operation of A returned before one of B was called. With f(X) the first
//! return in a block and s(X) the last call this is f(A) < s(B), written A → B. There is an order of blocks if and
//! only if → between different blocks has no circle, and then no circle of two. For take a shortest circle
//! of k > 2 blocks, A → B on it and, further on, C → D, where D may be A. From f(A) < s(B) and f(C) < s(D) follows
//! f(A) < s(D) or f(C) < s(B), whichever f is the smaller. For k > 3 take C two steps after A: then A → D or C → B
//! closes a shorter circle (k = 4: of two blocks). For k = 3, D is A: either C → B, and with B → C there is a circle
//! of two; or f(A) < s(A), and by turning the circle the same for B and C. Three such zones [f, s] of which no two
//! make a circle are pairwise apart, and → is then their order on the line, which has no circle.
//!
//! A circle of two is f(A) < s(B) and f(B) < s(A). Call a block *forward* when f < s, else *backward*. Two forward
//! blocks make a circle when [f, s] of both overlap; a forward A and a backward B when B's [s, f] lies within A's
//! [f, s]; two backward ones never: f(A) < s(B) ≤ f(B) < s(A) ≤ f(A). With blocks sorted by f the first kind shows
//! at neighbours, and when there is none, the second at the last forward block that begins before the backward one.

use super::{Act, Held, OPEN};

/// What the zones say of a history up to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zoned {
    Ordered,
    Broken(Broken),
    /// A value that is needed may have been made by several: the argument does not apply.
    Ambiguous,
}

/// Why there is no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    pub kind: BrokenKind,
    /// A line up to which it may well show already; a guess.
    pub line: u32,
}

/// Blocks are named by their first operation's place; [`INITIAL`] for the one of the register's first absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenKind {
    /// A value is needed that nobody made, or that is needed for its own making.
    Unmade,
    /// Two that happened need the same value to make others of it.
    Fork,
    /// A later one of a block returned before an earlier one was called.
    Within(u32),
    /// Either block has to stand before the other.
    Between(u32, u32),
}

/// In place of an operation: the register's beginning, which made it absent.
pub const INITIAL: u32 = u32::MAX - 2;

/// Judges what was called up to the line `until`; what returned later counts as not returned. All with [`OPEN`].
///
/// When all of a history is not [`Zoned::Ambiguous`], no prefix is: in it less is needed, and by fewer.
pub fn judge(acts: &[Act], until: u32) -> Zoned {
    let begun = acts.partition_point(|act| act.call <= until);
    let mut history = Zones::new(&acts[..begun], until);
    match history.mark_happening().and_then(|()| history.link()).and_then(|()| history.blocks()) {
        Ok(mut blocks) => match circle(&mut blocks) {
            Some((one, other)) => {
                let line = history.ret_of_call(one.last_call).max(history.ret_of_call(other.last_call));
                Zoned::Broken(Broken { kind: BrokenKind::Between(one.root, other.root), line })
            }
            None => Zoned::Ordered,
        },
        Err(found) => found,
    }
}

/// The values of a block and who makes each, from its first; INITIAL for the first absence. Only for histories in
/// which [`judge`] found blocks.
pub fn chain(acts: &[Act], until: u32, root: u32) -> Vec<Held> {
    let begun = acts.partition_point(|act| act.call <= until);
    let mut history = Zones::new(&acts[..begun], until);
    if history.mark_happening().and_then(|()| history.link()).is_err() {
        return Vec::new();
    }
    let mut value = acts.get(root as usize).map_or(Some(Held::ABSENT), |act| act.makes);
    let mut values = Vec::new();
    // No value comes twice: a chain from a root has no circle.
    while let Some(held) = value {
        values.push(held);
        let next = history.clusters[held.0 as usize].next;
        value = acts.get(next as usize).and_then(|act| act.makes);
    }
    values
}

struct Zones<'a> {
    acts: &'a [Act],
    until: u32,
    /// By value.
    clusters: Vec<Cluster>,
    /// By operation.
    happens: Vec<bool>,
}

/// One value, its maker and its readers.
#[derive(Clone, Copy)]
struct Cluster {
    maker: u32,
    /// The operation that needs this value and makes another.
    next: u32,
    /// Of the readers.
    first_ret: u32,
    last_call: u32,
}

/// Operations that stay together, by what decides where they may stand.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    pub first_ret: u32,
    pub last_call: u32,
    pub root: u32,
}

const NONE: u32 = u32::MAX;
const SEVERAL: u32 = u32::MAX - 1;

impl<'a> Zones<'a> {
    fn new(acts: &'a [Act], until: u32) -> Zones<'a> {
        let makes = acts.iter().filter_map(|act| act.makes);
        let size = makes.map(|value| value.0 as usize + 1).max().unwrap_or(0).max(1);
        let mut clusters = vec![Cluster { maker: NONE, next: NONE, first_ret: OPEN, last_call: 0 }; size];
        clusters[Held::ABSENT.0 as usize].maker = INITIAL;
        for (at, act) in (0..).zip(acts) {
            if let Some(value) = act.makes {
                let maker = &mut clusters[value.0 as usize].maker;
                *maker = if *maker == NONE { at } else { SEVERAL };
            }
        }
        Zones { acts, until, clusters, happens: vec![false; acts.len()] }
    }

    /// It is known to have happened by now.
    fn must(&self, act: &Act) -> bool {
        act.must && act.ret <= self.until
    }

    fn ret(&self, act: &Act) -> u32 {
        if self.must(act) { act.ret } else { OPEN }
    }

    /// Marks what must happen and the makers it takes.
    fn mark_happening(&mut self) -> Result<(), Zoned> {
        let (acts, until) = (self.acts, self.until);
        let must = |act: &Act| act.must && act.ret <= until;
        let mut unmade: Option<u32> = None;
        for act in acts.iter().filter(|act| must(act)) {
            let mut needs = act.needs;
            while let Some(value) = needs {
                match self.clusters.get(value.0 as usize).map_or(NONE, |cluster| cluster.maker) {
                    NONE => {
                        let line = unmade.map_or(act.ret, |line| line.min(act.ret));
                        unmade = Some(line);
                        break;
                    }
                    SEVERAL => return Err(Zoned::Ambiguous),
                    INITIAL => break,
                    maker => {
                        // What must happen has its own turn.
                        let act = &acts[maker as usize];
                        if must(act) || self.happens[maker as usize] {
                            break;
                        }
                        self.happens[maker as usize] = true;
                        needs = act.needs;
                    }
                }
            }
        }
        self.happens.iter_mut().zip(acts).for_each(|(happens, act)| *happens |= must(act));
        unmade.map_or(Ok(()), |line| Err(Zoned::Broken(Broken { kind: BrokenKind::Unmade, line })))
    }

    /// Finds each value's readers and the one that makes another of it.
    fn link(&mut self) -> Result<(), Zoned> {
        for at in 0..self.acts.len() {
            let act = self.acts[at];
            let (Some(value), true) = (act.needs, self.happens[at]) else { continue };
            let ret = self.ret(&act);
            let cluster = &mut self.clusters[value.0 as usize];
            if act.makes.is_none() {
                cluster.first_ret = cluster.first_ret.min(ret);
                cluster.last_call = cluster.last_call.max(act.call);
            } else if cluster.next == NONE {
                cluster.next = at as u32;
            } else {
                let other = self.acts[cluster.next as usize];
                let rets = [ret, self.ret(&other)];
                let line = rets.into_iter().filter(|&ret| ret != OPEN).max().unwrap_or(OPEN);
                return Err(Zoned::Broken(Broken { kind: BrokenKind::Fork, line }));
            }
        }
        Ok(())
    }

    /// Walks each chain from its first maker.
    fn blocks(&self) -> Result<Vec<Block>, Zoned> {
        let mut blocks = Vec::new();
        let (mut makers, mut placed) = (0, 0);
        if self.clusters[Held::ABSENT.0 as usize].maker == INITIAL {
            let start = Block { first_ret: 0, last_call: 0, root: INITIAL };
            blocks.push(self.walk(start, Some(Held::ABSENT), &mut placed)?);
        }
        for (at, act) in (0..).zip(self.acts) {
            if act.makes.is_none() || !self.happens[at as usize] {
                continue;
            }
            makers += 1;
            if act.needs.is_none() {
                placed += 1;
                let start = Block { first_ret: self.ret(act), last_call: act.call, root: at };
                blocks.push(self.walk(start, act.makes, &mut placed)?);
            }
        }
        if placed < makers {
            return Err(Zoned::Broken(Broken { kind: BrokenKind::Unmade, line: OPEN }));
        }
        Ok(blocks)
    }

    fn walk(&self, start: Block, first: Option<Held>, placed: &mut usize) -> Result<Block, Zoned> {
        let mut block = start;
        let mut value = first;
        while let Some(held) = value {
            let cluster = self.clusters[held.0 as usize];
            self.add(&mut block, cluster.first_ret, cluster.last_call)?;
            value = None;
            if let Some(next) = self.acts.get(cluster.next as usize) {
                *placed += 1;
                self.add(&mut block, self.ret(next), next.call)?;
                value = next.makes;
            }
        }
        Ok(block)
    }

    /// Those of the next place: none of them may have returned before one of an earlier place was called.
    fn add(&self, block: &mut Block, first_ret: u32, last_call: u32) -> Result<(), Zoned> {
        if first_ret < block.last_call {
            let line = self.ret_of_call(block.last_call);
            return Err(Zoned::Broken(Broken { kind: BrokenKind::Within(block.root), line }));
        }
        block.first_ret = block.first_ret.min(first_ret);
        block.last_call = block.last_call.max(last_call);
        Ok(())
    }

    /// When the operation called at this line returned; its call when it did not.
    fn ret_of_call(&self, call: u32) -> u32 {
        let at = self.acts.partition_point(|act| act.call < call);
        self.acts.get(at).map_or(call, |act| if self.must(act) { act.ret } else { call })
    }
}

impl Block {
    fn is_forward(&self) -> bool {
        self.first_ret < self.last_call
    }
}

/// Two blocks each of which has to stand before the other.
pub fn circle(blocks: &mut [Block]) -> Option<(Block, Block)> {
    blocks.sort_unstable_by_key(|block| block.first_ret);
    let forward: Vec<Block> = blocks.iter().filter(|block| block.is_forward()).copied().collect();
    // Apart so far, they end in the order in which they begin.
    if let Some(pair) = forward.windows(2).find(|pair| pair[1].first_ret < pair[0].last_call) {
        return Some((pair[0], pair[1]));
    }
    blocks.iter().filter(|block| !block.is_forward()).find_map(|inner| {
        let after = forward.partition_point(|outer| outer.first_ret < inner.last_call);
        let outer = forward.get(after.checked_sub(1)?)?;
        (inner.first_ret < outer.last_call).then_some((*outer, *inner))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::search::{Budget, Conclusion};
    use super::super::{exhaustive, needed, search};
    use super::*;

    #[test]
    fn zones_and_every_order_tried_agree_on_a_hundred_thousand_random_histories() {
        let (mut judged, mut open, mut swapped) = (0, 0, 0);
        let mut verdicts: BTreeMap<&str, u32> = BTreeMap::new();
        for seed in 0..160_000 {
            let acts = exhaustive::random_history(seed, 7);
            let zoned = judge(&acts, OPEN);
            if zoned == Zoned::Ambiguous {
                continue;
            }
            let expected = exhaustive::has_order(&acts);
            assert_eq!(zoned == Zoned::Ordered, expected, "seed {seed}: {zoned:?} of {acts:#?}");
            judged += 1;
            open += u32::from(acts.iter().any(|act| !act.must));
            swapped += u32::from(acts.iter().any(|act| act.needs.is_some() && act.makes.is_some()));
            let verdict = match zoned {
                Zoned::Ordered => "ordered",
                Zoned::Broken(Broken { kind: BrokenKind::Unmade, .. }) => "unmade",
                Zoned::Broken(Broken { kind: BrokenKind::Fork, .. }) => "fork",
                Zoned::Broken(Broken { kind: BrokenKind::Within(_), .. }) => "within",
                Zoned::Broken(Broken { kind: BrokenKind::Between(..), .. }) => "between",
                Zoned::Ambiguous => unreachable!(),
            };
            *verdicts.entry(verdict).or_default() += 1;
        }
        // All kinds must be there in numbers, or the agreement says little.
        assert!(judged >= 100_000 && open > 30_000 && swapped > 30_000, "{judged} {open} {swapped}");
        for verdict in ["ordered", "unmade", "fork", "within", "between"] {
            assert!(verdicts.get(verdict).is_some_and(|&count| count > 1_000), "{verdicts:?}");
        }
        assert!(verdicts["ordered"] < 90_000, "{verdicts:?}");
    }

    #[test]
    fn zones_and_the_search_agree_on_histories_of_many_clients() {
        let (mut lawful, mut broken) = (0, 0);
        for seed in 0..600 {
            let mut acts = exhaustive::busy_history(seed, 40 + seed as u32 % 160, 2 + seed as u32 % 12);
            for late in 0..seed as usize % 3 {
                exhaustive::make_one_stale(&mut acts, late);
            }
            let zoned = judge(&acts, OPEN);
            let searched = search(&needed(&acts), Budget::DEFAULT).conclusion;
            assert_ne!((zoned, searched), (Zoned::Ambiguous, Conclusion::OutOfBudget));
            assert_eq!(
                zoned == Zoned::Ordered,
                searched == Conclusion::Linearizable,
                "seed {seed}: {zoned:?}"
            );
            lawful += u32::from(zoned == Zoned::Ordered);
            broken += u32::from(zoned != Zoned::Ordered);
        }
        assert!(lawful >= 200 && broken >= 200, "{lawful} lawful, {broken} broken");
    }

    #[test]
    fn a_prefix_judged_in_place_is_the_history_cut_there() {
        for seed in 0..4_000 {
            let acts = exhaustive::random_history(seed, 7);
            if judge(&acts, OPEN) == Zoned::Ambiguous {
                continue;
            }
            for until in 0..=21 {
                let cut: Vec<Act> = acts
                    .iter()
                    .filter(|act| act.call <= until && (act.ret <= until || act.makes.is_some()))
                    .map(|act| match act.ret {
                        ret if ret <= until => *act,
                        _ => Act { ret: OPEN, must: false, ..*act },
                    })
                    .collect();
                let zoned = judge(&acts, until);
                assert_ne!(zoned, Zoned::Ambiguous, "seed {seed} until {until}");
                assert_eq!(zoned == Zoned::Ordered, exhaustive::has_order(&cut), "seed {seed} until {until}");
            }
        }
    }

    #[test]
    fn a_delete_is_judged_as_long_as_nobody_saw_absence() {
        let act = |call: u32, needs, makes| Act { call, ret: call + 1, needs, makes, must: true, source: 0 };
        let (one, two) = (Some(Held(1)), Some(Held(2)));
        let delete = |call| act(call, None, Some(Held::ABSENT));
        let lawful = [act(1, None, one), delete(3), delete(5), act(7, None, two), act(9, two, None)];
        assert_eq!(judge(&lawful, OPEN), Zoned::Ordered);
        let stale = [act(1, None, one), delete(3), act(5, one, None)];
        assert!(matches!(judge(&stale, OPEN), Zoned::Broken(_)));
        let seen = [act(1, None, one), delete(3), act(5, Some(Held::ABSENT), None)];
        assert_eq!(judge(&seen, OPEN), Zoned::Ambiguous);
    }
}
