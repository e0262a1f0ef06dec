//! Where in a ledger to look: between two calls, when something is not synced.
//!
//! In: a [`Ledger`], how many moments, a seed. Out: places in it, rising. Never: a place at which a loss of power takes
//! nothing; there the disk is what it is at a clean stop.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::disk::Unsynced;
use crate::disk::ledger::{Damage, Ledger, Replay};
use crate::disk::states::States;

/// An iterator over places.
pub(super) struct Moments(std::vec::IntoIter<usize>);

impl Moments {
    /// Those that have about `count` states, of at most `each` at one moment. Half of them where a name is not synced:
    /// names change seldom, and there are most ways to be wrong with them.
    pub fn of(ledger: &Ledger, count: usize, each: usize, seed: u64) -> Result<Moments, Damage> {
        let (mut of_names, mut of_bytes) = (Vec::new(), Vec::new());
        let mut replay = Replay::new(ledger);
        while replay.step()? {
            let unsynced = replay.model().unsynced();
            if unsynced == Unsynced::default() {
                continue;
            }
            let states = States::of(replay.model(), each, seed).at_most();
            let places = if unsynced.names > 0 { &mut of_names } else { &mut of_bytes };
            places.push((replay.place(), states));
        }
        let mut draws = ChaCha8Rng::seed_from_u64(seed);
        let mut some = |mut places: Vec<(usize, usize)>, mut left: usize| {
            places.shuffle(&mut draws);
            let fits = |(place, states): (usize, usize)| {
                let fits = left > 0;
                left = left.saturating_sub(states);
                fits.then_some(place)
            };
            let chosen: Vec<usize> = places.into_iter().map_while(fits).collect();
            (chosen, left)
        };
        let (mut places, left) = some(of_names, count.div_ceil(2));
        places.extend(some(of_bytes, count / 2 + left).0);
        places.sort_unstable();
        Ok(Moments(places.into_iter()))
    }
}

impl Iterator for Moments {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.0.next()
    }
}
