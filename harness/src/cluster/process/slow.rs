//! A node that is stopped and runs in turn: it answers, late.
//!
//! In: how long it is stopped at a time, and how long it runs between. Out: a [`Deed`] once a stop was seen, and
//! another when it runs on. Never: a signal by the clock of the harness, which may be busy: the guard takes the turns.

use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep};

use super::{ActError, Deed, DeedKind, EFFECT_LIMIT, EFFECT_POLL, Node, NodeState};

impl Node {
    /// SIGSTOP and SIGCONT in turn. Proof: the kernel told the guard that a stop took effect.
    pub async fn slow(&self, stopped: Duration, running: Duration) -> Result<Deed, ActError> {
        let _hand = self.hand.lock().await;
        self.free()?;
        let child = self.child(&[NodeState::Running])?;
        let began = Instant::now();
        let begun = self.guard.stutter(&child, stopped, running).await;
        if !begun.map_err(|source| self.guard_failed(source))? {
            return Err(self.ended_before(&child).await);
        }
        self.life.send_if_modified(|life| life.turn(&child, NodeState::Slow));
        loop {
            let so_far = self.guard.look(&child).await.map_err(|source| self.guard_failed(source))?;
            match so_far {
                None => return Err(self.ended_before(&child).await),
                Some(so_far) if so_far.seen > 0 => break,
                Some(_) if began.elapsed() < EFFECT_LIMIT => sleep(EFFECT_POLL).await,
                Some(so_far) => return Err(self.unproven(&child, so_far.to_string())),
            }
        }
        Ok(self.deed(&child, DeedKind::Slowed { stopped, running }, began))
    }

    /// SIGCONT, and no stop after it. Proof: no thread in state T.
    pub async fn steady(&self) -> Result<Deed, ActError> {
        let hand = self.hand.lock().await;
        self.steady_held(&hand).await
    }

    pub(super) async fn steady_held(&self, _hand: &MutexGuard<'_, ()>) -> Result<Deed, ActError> {
        let child = self.child(&[NodeState::Slow])?;
        let began = Instant::now();
        let so_far = self.guard.steady(&child).await.map_err(|source| self.guard_failed(source))?;
        let Some(so_far) = so_far else { return Err(self.ended_before(&child).await) };
        self.threads_until(&child, |stopped, _| stopped == 0).await?;
        self.life.send_if_modified(|life| life.turn(&child, NodeState::Running));
        Ok(self.deed(&child, DeedKind::Steadied(so_far), began))
    }
}
