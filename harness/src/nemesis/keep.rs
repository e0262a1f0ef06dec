//! Decides, one at a time, whether a step may break what it is about to.
//!
//! In: what it would break, the voters in force, and whether a quorum is to be kept. Out: leave, or the reason why not.
//! Never: a wait: what is in force is what was last heard, and while a change is asked for, what it would bring counts too.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::account::{Account, Breakage, Sight};
use crate::cluster::Cluster;
use crate::scenario::Keep;

/// What all steps of a run share.
#[derive(Clone)]
pub(super) struct Keeper {
    cluster: Arc<Cluster>,
    keep: Keep,
    account: Arc<Mutex<Account>>,
}

/// What one step breaks, in the account of all.
#[derive(Clone)]
pub(super) struct Claim {
    keeper: Keeper,
    step: u64,
}

impl Keeper {
    pub fn new(cluster: Arc<Cluster>, keep: Keep) -> Keeper {
        Keeper { cluster, keep, account: Arc::default() }
    }

    pub fn claim(&self, step: u64) -> Claim {
        Claim { keeper: self.clone(), step }
    }

    /// Whether a quorum of the voters, and all that clients say to nodes, is out of reach of every fault from now on.
    pub fn is_whole(&self) -> bool {
        self.look(|account, sight| account.is_whole(sight) && !account.hushes())
    }

    /// Everything is undone.
    pub fn release_all(&self) {
        self.account().release_all();
    }

    fn look<T>(&self, look: impl FnOnce(&mut Account, &Sight<'_>) -> T) -> T {
        let members = self.cluster.known_members();
        let start_count = |node: &str| self.cluster.node(node).start_count();
        let sight = Sight { configurations: [&members.voters, &members.outgoing], start_count: &start_count };
        look(&mut self.account(), &sight)
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// To be asked before anything is broken; what the step broke before is replaced. `Err` is the reason to let it be.
    pub fn breaks(&self, breakage: Breakage) -> Result<(), String> {
        self.claim(breakage, self.keeper.keep == Keep::Quorum)
    }

    /// The same, whatever the scenario keeps: a quorum is left.
    pub fn spares_a_quorum(&self, breakage: Breakage) -> Result<(), String> {
        self.claim(breakage, true)
    }

    fn claim(&self, breakage: Breakage, keep: bool) -> Result<(), String> {
        self.keeper.look(|account, sight| account.claim(self.step, breakage, sight, keep))
    }

    /// What it was to bring is in force, or never will be; what it broke otherwise still is broken.
    pub fn settle(&self) {
        self.keeper.account().settle(self.step);
    }

    /// It has broken nothing, or what it broke is undone.
    pub fn release(&self) {
        self.keeper.account().release(self.step);
    }
}
