//! What happens to a node's disk: power lost, a call that fails, a trouble that lasts.
//!
//! In: a node on a disk of the harness. Out: a [`Deed`] with what the disk says it did. Never: two lasting troubles of one
//! disk at a time, or a node that cannot be killed because its disk hangs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{ActError, Deed, DeedKind, EFFECT_POLL, Node, NodeState, Status};
use crate::disk::{Call, Counts, Disk, DiskError, Fail, Look, Slow};

/// A node that does anything at all makes its calls within this time; idle ones sync nothing.
const FAIL_LIMIT: Duration = Duration::from_secs(3);
/// From a failed call to the end of who made it.
const END_LIMIT: Duration = Duration::from_secs(1);
/// How long a trouble has to show itself in a call.
const SHOW_LIMIT: Duration = Duration::from_millis(500);
const LOOK_POLL: Duration = Duration::from_millis(1);

/// What is the matter with a disk until it is healed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trouble {
    Slow(Slow),
    Hung,
    Full,
}

/// A trouble that is not healed yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Standing {
    trouble: Trouble,
    /// How many calls its kind had met before.
    before: u64,
}

impl Trouble {
    /// How many calls it has met since the disk was mounted.
    fn met(self, look: &Look) -> u64 {
        match self {
            Trouble::Slow(_) => look.slowed.all(),
            Trouble::Hung => look.hung.all(),
            Trouble::Full => look.refused,
        }
    }

    async fn befall(self, disk: &Disk) -> Result<(), DiskError> {
        match self {
            Trouble::Slow(slow) => disk.slow(slow).await,
            Trouble::Hung => disk.hang().await,
            Trouble::Full => disk.full().await,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trouble::Slow(_) => "slow",
            Trouble::Hung => "hanging",
            Trouble::Full => "full",
        })
    }
}

impl Node {
    /// SIGKILL, and its disk forgets what was not synced; the draw says what is torn. Proof: its end by signal 9, and what
    /// the disk says is gone.
    pub async fn lose_power(&self, draw: u64) -> Result<Deed, ActError> {
        let hand = self.hand.lock().await;
        self.free()?;
        let began = Instant::now();
        let killed = self.kill_held(&hand).await?;
        let lost = self.disk().lose_power(draw).await.map_err(|source| self.disk_failed(source))?;
        Ok(Deed { kind: DeedKind::LostPower(lost), took: began.elapsed(), ..killed })
    }

    /// Has the nth call of a kind fail, of which the node may end. Proof: the disk has failed it.
    pub async fn fail_disk(&self, call: Call, nth: u64) -> Result<Deed, ActError> {
        let _hand = self.hand.lock().await;
        self.free()?;
        let trouble = self.trouble.lock().await;
        self.sound(*trouble)?;
        let child = self.child(&[NodeState::Running])?;
        let (disk, began) = (self.disk(), Instant::now());
        let failed = |look: &Look| count(&look.failed, call);
        let before = failed(&self.look().await?);
        self.life.send_modify(|life| life.failing = true);
        disk.fail(Fail::nth(call, nth)).await.map_err(|source| self.disk_failed(source))?;
        while failed(&self.look().await?) == before {
            if began.elapsed() < FAIL_LIMIT {
                sleep(LOOK_POLL).await;
                continue;
            }
            disk.heal().await.map_err(|source| self.disk_failed(source))?;
            // It may have come in the last moment.
            if failed(&self.look().await?) > before {
                break;
            }
            // If it has ended, then of something else.
            self.life.send_modify(|life| {
                life.failing = false;
                if let Some(ending) = life.starts.last_mut().and_then(|start| start.ending.as_mut()) {
                    ending.expected &= !ending.failed;
                    ending.failed = false;
                }
            });
            return Err(ActError::NoCall { node: self.name.clone(), call });
        }
        let took = began.elapsed();
        let mut life = self.life.subscribe();
        let ended = timeout(END_LIMIT, life.wait_for(|life| life.state == NodeState::Down)).await;
        let ended = match ended {
            Ok(Ok(life)) => life.starts.last().and_then(|start| start.ending.as_ref()).map(|end| end.status),
            _ => None,
        };
        Ok(Deed { took, ..self.deed(&child, DeedKind::FailedByDisk { call, nth, ended }, began) })
    }

    /// Starts it, unless it runs on.
    pub async fn start_after_failure(&self) -> Result<Deed, ActError> {
        let hand = self.hand.lock().await;
        match self.child(&[NodeState::Running, NodeState::Slow, NodeState::Paused]) {
            Ok(child) => {
                // What it ends of later is something else.
                self.life.send_modify(|life| life.failing = false);
                Ok(self.deed(&child, DeedKind::RanOn, Instant::now()))
            }
            Err(_) => self.start_held(&hand).await,
        }
    }

    /// From now on its disk is slow, hangs or is full. Proof: the disk's word, and the first calls that met it.
    pub async fn trouble_disk(&self, trouble: Trouble) -> Result<Deed, ActError> {
        let child = self.child(&[NodeState::Running, NodeState::Slow, NodeState::Paused])?;
        let mut standing = self.trouble.lock().await;
        self.sound(*standing)?;
        let began = Instant::now();
        let before = trouble.met(&self.look().await?);
        // Said before it is done: what may have befallen it must be healed.
        *standing = Some(Standing { trouble, before });
        trouble.befall(self.disk()).await.map_err(|source| self.disk_failed(source))?;
        let mut met = 0;
        while met == 0 && began.elapsed() < SHOW_LIMIT {
            sleep(LOOK_POLL).await;
            met = trouble.met(&self.look().await?) - before;
        }
        Ok(self.deed(&child, DeedKind::TroubledByDisk { trouble, met }, began))
    }

    /// Ends that. Proof: the disk's word, and that no call waits any more.
    pub async fn heal_disk(&self) -> Result<Deed, ActError> {
        let mut standing = self.trouble.lock().await;
        let Some(Standing { trouble, before }) = *standing else {
            return Err(ActError::Overtaken { node: self.name.clone() });
        };
        let began = Instant::now();
        self.disk().heal().await.map_err(|source| self.disk_failed(source))?;
        *standing = None;
        let mut look = self.look().await?;
        while look.waiting > 0 && began.elapsed() < SHOW_LIMIT {
            sleep(EFFECT_POLL).await;
            look = self.look().await?;
        }
        let (pid, start) = (self.last_start().map_or(0, |start| start.pid), self.start_count());
        let met = trouble.met(&look).saturating_sub(before);
        let kind = DeedKind::DiskHealed { trouble, met, waiting: look.waiting };
        Ok(Deed { node: self.name.clone(), pid, start, kind, took: began.elapsed() })
    }

    /// What its data lies on, if that is a disk of the harness.
    pub fn simulated_disk(&self) -> Option<&Arc<Disk>> {
        self.disk.as_ref()
    }

    /// Whether whoever reads its files waits until its disk is healed.
    pub async fn has_hanging_disk(&self) -> bool {
        self.trouble.lock().await.is_some_and(|standing| standing.trouble == Trouble::Hung)
    }

    /// Whether nobody troubles its disk, or is about to.
    pub fn has_sound_disk(&self) -> bool {
        self.trouble.try_lock().is_ok_and(|standing| standing.is_none())
    }

    /// Whether its disk has a trouble that lasts.
    pub async fn has_troubled_disk(&self) -> bool {
        self.trouble.lock().await.is_some()
    }

    /// A process that was killed waits for the calls that it has made; so those go through that a hanging disk holds.
    pub(super) async fn let_go_of_disk(&self) -> Result<(), ActError> {
        // Who has the lock is about to change the trouble, and needs nothing of the process.
        if !self.has_hanging_disk().await {
            return Ok(());
        }
        let disk = self.disk();
        disk.heal().await.map_err(|source| self.disk_failed(source))?;
        disk.hang().await.map_err(|source| self.disk_failed(source))
    }

    async fn look(&self) -> Result<Look, ActError> {
        self.disk().look().await.map_err(|source| self.disk_failed(source))
    }

    fn sound(&self, standing: Option<Standing>) -> Result<(), ActError> {
        match standing {
            None => Ok(()),
            Some(Standing { trouble, .. }) => {
                Err(ActError::DiskAlready { node: self.name.clone(), trouble: trouble.to_string() })
            }
        }
    }

    /// Panics where the disks are plain: a scenario with faults of disks has others.
    fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap_or_else(|| panic!("the disk of {} is plain", self.name))
    }

    fn disk_failed(&self, source: DiskError) -> ActError {
        ActError::Disk { node: self.name.clone(), source }
    }
}

fn count(counts: &Counts, call: Call) -> u64 {
    match call {
        Call::Read => counts.reads,
        Call::Write => counts.writes,
        Call::Sync => counts.syncs,
        Call::Other => counts.others,
    }
}

/// `its 1st sync failed, and it ended with exit code 2`
pub(super) fn told_of_failure(call: Call, nth: u64, ended: Option<Status>) -> String {
    let call = match call {
        Call::Read => "read",
        Call::Write => "write",
        Call::Sync => "sync",
        Call::Other => "other call",
    };
    let end = match ended {
        Some(status) => format!("it ended with {status}"),
        None => format!("it had not ended {END_LIMIT:?} later"),
    };
    format!("{call} number {nth} failed with EIO, and {end}")
}
