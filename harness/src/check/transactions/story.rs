//! A cycle, told edge by edge.
//!
//! In: a [`Cycle`] and what its edges were made from. Out: a [`Finding`]. Never: an edge without the elements or the
//! times that prove it.

use super::cycles::{Cycle, Link};
use super::graph::{RT, RW, WR};
use super::orders::{NOBODY, Orders};
use super::views::{View, Views};
use super::words::{Words, bare, list};
use crate::check::verdict::Finding;

pub struct Story<'s, 'h> {
    pub words: Words<'s, 'h>,
    pub views: &'s Views<'h>,
    pub orders: &'s Orders<'h>,
}

impl Story<'_, '_> {
    pub fn tell(&self, cycle: &Cycle) -> Finding {
        let transactions: Vec<u32> = cycle.links.iter().map(|link| link.from).collect();
        let count = transactions.len();
        let links = cycle.links.iter().enumerate();
        let links: Vec<_> = links.map(|(at, link)| self.link(link, [at + 1, (at + 1) % count + 1])).collect();
        self.words.finding(links.join("; "), &transactions)
    }

    /// `names`: the numbers of its two transactions.
    fn link(&self, link: &Link, names: [usize; 2]) -> String {
        let [one, other] = names;
        if link.kind == RT {
            let (completed, invoked) = (self.words.completed(link.from), self.words.invoked(link.to));
            return format!("T{one} had completed ({completed}) before T{other} was invoked ({invoked})");
        }
        let key = self.words.key(link.key);
        match link.kind {
            RW => {
                let read = self.base(link.from, link.key);
                let (read, missed) = (read.unwrap_or_default(), self.missed(link));
                format!("T{one} read {read} of {key} and so did not see T{other}'s append of {missed}")
            }
            WR => {
                let read = self.base(link.to, link.key).unwrap_or_default();
                format!("T{other} saw T{one}'s append to {key} as the last of {read}")
            }
            _ => {
                let (first, second) = self.neighbours(link).unwrap_or_default();
                format!("T{one}'s append of {first} to {key} stands right before T{other}'s {second}")
            }
        }
    }

    /// What a transaction saw before its own appends.
    fn base(&self, transaction: u32, key: u32) -> Option<String> {
        let view = self.view(transaction, key)?;
        Some(list(&view.list[..view.base as usize]))
    }

    fn view(&self, transaction: u32, key: u32) -> Option<&View<'_>> {
        let views = self.views.of_key(key);
        // In the order of calls, as transactions are.
        let at = views.partition_point(|view| view.transaction < transaction);
        views.get(at).filter(|view| view.transaction == transaction)
    }

    /// The first append of the link's second transaction that its first one did not see.
    fn missed(&self, link: &Link) -> String {
        let seen = self.view(link.from, link.key).map_or(&[][..], |view| view.list);
        let mut appends = self.words.transactions.appends(link.to, link.key);
        appends.find(|value| !seen.contains(value)).map(bare).unwrap_or_default()
    }

    /// The elements by which the second comes right after the first; those without a writer may lie between.
    fn neighbours(&self, link: &Link) -> Option<(String, String)> {
        let order = &self.orders.keys[link.key as usize];
        let known = order.writers.iter().enumerate().filter(|&(_, &writer)| writer != NOBODY);
        let (places, writers): (Vec<usize>, Vec<u32>) = known.unzip();
        let pair = writers.windows(2).position(|pair| pair == [link.from, link.to])?;
        let value = |at: usize| match order.read.get(places[at]) {
            Some(value) => Some(bare(value)),
            // Nobody read it: it is the first of those that follow what its transaction read.
            None => {
                let mut appends = self.words.transactions.appends(link.to, link.key);
                appends.find(|value| !order.read.contains(value)).map(bare)
            }
        };
        Some((value(pair)?, value(pair + 1)?))
    }
}
