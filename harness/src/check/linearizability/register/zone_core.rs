//! Where a history breaks, and a few operations around that place that have no order: straight from the zones.
//!
//! In: operations of one key that the zones find broken. Out: the first line at which that shows, and a small part
//! of them that is broken already. Never: a part whose being broken says nothing of the whole.
//!
//! Two ways to make a history smaller keep an order where there is one. Operations may be left out when nothing that
//! stays needs a value made by them. And a compare-and-swap may be taken for a write: whoever could do it when the
//! register held one value can do it at any time. The second cuts long chains of swaps: near the operation that
//! shows the fault they stay what they are, further away each value stands for itself.

use std::collections::{HashMap, HashSet};

use super::zones::{Broken, BrokenKind, Zoned, chain, judge};
use super::{Act, Held, OPEN, needed, renumbered};

/// Guesses tried before the interval is halved.
const GUESSES_MAX: u32 = 4;

/// The first line of the history at which there is no order; `broken` is what [`judge`] says of all of it.
pub fn first_broken_line(acts: &[Act], broken: Broken) -> u32 {
    let rets = acts.iter().filter(|act| act.must).map(|act| act.ret);
    // A history that has an order has one for each prefix.
    let (mut ordered, mut high) = (0, rets.max().unwrap_or(OPEN));
    let (mut guess, mut guesses) = (broken.line, 0);
    while high - ordered > 1 {
        let is_useful = guesses < GUESSES_MAX && (ordered + 1..high).contains(&guess);
        let middle = if is_useful { guess } else { ordered + (high - ordered) / 2 };
        guesses += 1;
        match judge(acts, middle) {
            Zoned::Broken(broken) => {
                high = middle;
                guess = broken.line.min(high - 1);
            }
            Zoned::Ordered | Zoned::Ambiguous => ordered = middle,
        }
    }
    high
}

/// Few operations without an order among those that were called up to `line`, the first line that shows it.
pub fn suspects(acts: &[Act], line: u32) -> Vec<Act> {
    let cut = super::super::core::prefix::<super::Register>(acts, line);
    let Some(last) = cut.iter().position(|act| act.must && act.ret == line) else { return cut };
    let mut near = Near::new(&cut, last);
    // Each round looks twice as far along the chain; when that ends, at all of it.
    let mut radius = 0;
    loop {
        let whole = radius > 0 && near.frontier.is_empty();
        let weakened = weaken(&cut, |at| whole || near.swaps.contains(&at));
        if let Some(few) = with_one_maker(&weakened, last, &near.values) {
            return few;
        }
        if let Zoned::Broken(broken) = judge(&weakened, OPEN) {
            let roots = match broken.kind {
                BrokenKind::Unmade | BrokenKind::Fork => Vec::new(),
                BrokenKind::Within(root) => vec![root],
                BrokenKind::Between(one, other) => vec![one, other],
            };
            let mut values: HashSet<Held> =
                roots.iter().flat_map(|&root| chain(&weakened, OPEN, root)).collect();
            if roots.is_empty() {
                values.clone_from(&near.values);
            }
            let few = renumbered(&needed(&outermost(&weakened, last, &roots, &values)));
            if matches!(judge(&few, OPEN), Zoned::Broken(_)) {
                return few;
            }
        }
        if whole {
            return renumbered(&cut);
        }
        for _ in 0..radius.max(1) {
            near.grow();
        }
        radius = (2 * radius).max(1);
    }
}

/// The likeliest fault, told with the fewest: another value was surely made between two operations of one block.
fn with_one_maker(acts: &[Act], last: usize, values: &HashSet<Held>) -> Option<Vec<Act>> {
    let mut few = outermost(acts, last, &[], values);
    let last_call = few.iter().map(|act| act.call).max()?;
    let between = |act: &&Act| {
        act.must && act.ret < last_call && act.makes.is_some_and(|value| !values.contains(&value))
    };
    // The later it was called, the more of the block had returned.
    let maker = acts.iter().filter(between).max_by_key(|act| act.call)?;
    few.push(Act { needs: None, ..*maker });
    few.sort_unstable_by_key(|act| act.call);
    let few = renumbered(&needed(&few));
    matches!(judge(&few, OPEN), Zoned::Broken(_)).then_some(few)
}

/// Takes each compare-and-swap for a write, but those to be kept.
fn weaken(acts: &[Act], keep: impl Fn(u32) -> bool) -> Vec<Act> {
    let weaken = |(at, act): (u32, &Act)| match act.makes {
        Some(_) if !keep(at) => Act { needs: None, ..*act },
        _ => *act,
    };
    (0..).zip(acts).map(weaken).collect()
}

/// What decides where these values' blocks may stand: their makers, and of the readers of each the first that
/// returned and the last that was called.
fn outermost(acts: &[Act], last: usize, roots: &[u32], values: &HashSet<Held>) -> Vec<Act> {
    let mut chosen: HashSet<usize> = HashSet::from([last]);
    chosen.extend(roots.iter().map(|&root| root as usize).filter(|&root| root < acts.len()));
    let mut readers: HashMap<Held, (usize, usize)> = HashMap::new();
    let mut made: HashMap<Held, Vec<usize>> = HashMap::new();
    let of_these = |value: &Option<Held>| value.filter(|value| values.contains(value));
    for (at, act) in acts.iter().enumerate() {
        if let Some(value) = of_these(&act.makes) {
            made.entry(value).or_default().push(at);
        }
        match (of_these(&act.needs), act.makes) {
            (None, _) => {}
            (Some(_), Some(_)) => _ = chosen.insert(at),
            (Some(value), None) => {
                let (first, late) = readers.entry(value).or_insert((at, at));
                *first = if act.ret < acts[*first].ret { at } else { *first };
                *late = if act.call > acts[*late].call { at } else { *late };
            }
        }
    }
    chosen.extend(readers.into_values().flat_map(|(first, late)| [first, late]));
    // A value made by several is one that nobody needs: only the one that is a root matters.
    chosen.extend(made.into_values().filter(|makers| makers.len() == 1).flatten());
    acts.iter().enumerate().filter(|(at, _)| chosen.contains(at)).map(|(_, act)| *act).collect()
}

/// The values around an operation, joined by compare-and-swaps.
struct Near<'a> {
    acts: &'a [Act],
    /// Swaps by what they make, and by what they need.
    by_makes: Vec<(Held, u32)>,
    by_needs: Vec<(Held, u32)>,
    values: HashSet<Held>,
    swaps: HashSet<u32>,
    /// Values whose swaps have not been looked at.
    frontier: Vec<Held>,
}

impl<'a> Near<'a> {
    fn new(acts: &'a [Act], last: usize) -> Near<'a> {
        let swaps =
            || (0..).zip(acts).filter_map(|(at, act)| act.needs.zip(act.makes).map(|values| (at, values)));
        let mut by_makes: Vec<_> = swaps().map(|(at, (_, makes))| (makes, at)).collect();
        let mut by_needs: Vec<_> = swaps().map(|(at, (needs, _))| (needs, at)).collect();
        by_makes.sort_unstable();
        by_needs.sort_unstable();
        let frontier: Vec<Held> = [acts[last].needs, acts[last].makes].into_iter().flatten().collect();
        let values = frontier.iter().copied().collect();
        Near { acts, by_makes, by_needs, values, swaps: HashSet::new(), frontier }
    }

    fn grow(&mut self) {
        for value in std::mem::take(&mut self.frontier) {
            for list in [&self.by_makes, &self.by_needs] {
                let from = list.partition_point(|&(other, _)| other < value);
                for &(_, at) in list[from..].iter().take_while(|&&(other, _)| other == value) {
                    self.swaps.insert(at);
                    let act = &self.acts[at as usize];
                    let values = [act.needs, act.makes].into_iter().flatten();
                    self.frontier.extend(values.filter(|&value| self.values.insert(value)));
                }
            }
        }
    }
}
