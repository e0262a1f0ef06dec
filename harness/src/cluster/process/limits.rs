//! A node that may use little of the machine: file descriptors, memory, time on the CPUs.
//!
//! In: the most that it may have. Out: a [`Deed`] once the kernel says that the limit is in force, and another when it is
//! lifted, with how often it was felt. Never: a limit on another process than the node's.

use std::io;

use tokio::time::{Instant, timeout};

use super::{ActError, Deed, DeedKind, EFFECT_LIMIT, Ending, Life, Node, NodeState, Order};
use crate::cluster::group::{Controller, Group};
use crate::cluster::keeper::Child;

/// What a limit is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Descriptors,
    Memory,
    Cpu,
}

/// Which limits are on a node.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// Of the start of this number: the next has its own.
    descriptors: Option<u64>,
    /// How many processes the kernel had ended for want of memory when the limit came.
    memory: Option<u64>,
    /// How many of its processes were seen to end so since.
    pub(super) out_of_memory: u64,
    /// How often they had been kept from a CPU then.
    cpu: Option<u64>,
}

impl Node {
    pub fn is_limited(&self, resource: Resource) -> bool {
        let life = self.life.borrow();
        match resource {
            Resource::Descriptors => life.limits.descriptors == Some(life.starts.len() as u64),
            Resource::Memory => life.limits.memory.is_some(),
            Resource::Cpu => life.limits.cpu.is_some(),
        }
    }

    /// It can open so many descriptors beyond those it has. Proof: the limit in /proc.
    pub async fn limit_descriptors(&self, spare: u32) -> Result<Deed, ActError> {
        let _hand = self.hand.lock().await;
        self.free()?;
        let child = self.child(&[NodeState::Running])?;
        let began = Instant::now();
        let (open, limit) = self.descriptors(&child, Some(spare)).await?;
        self.prove_descriptors(&child, limit)?;
        let start = self.start_count();
        self.life.send_modify(|life| life.limits.descriptors = Some(start));
        Ok(self.deed(&child, DeedKind::FewDescriptors { open, limit }, began))
    }

    /// It can open as many as when it was started.
    pub async fn free_descriptors(&self) -> Result<Deed, ActError> {
        let _hand = self.hand.lock().await;
        let child = self.child(&[NodeState::Running, NodeState::Slow, NodeState::Paused])?;
        let began = Instant::now();
        let (open, limit) = self.descriptors(&child, None).await?;
        self.prove_descriptors(&child, limit)?;
        self.life.send_modify(|life| life.limits.descriptors = None);
        Ok(self.deed(&child, DeedKind::ManyDescriptors { open, limit }, began))
    }

    /// Its memory is so many bytes, or what it uses where the kernel takes no less. Proof: the kernel's files.
    pub async fn limit_memory(&self, bytes: u64) -> Result<Deed, ActError> {
        let kind = |most, _| DeedKind::LittleMemory { bytes: most };
        self.limit(Controller::Memory, bytes, |limits| &mut limits.memory, kind).await
    }

    /// It may have all there is. Started again if the kernel had ended it for want of memory.
    pub async fn free_memory(&self) -> Result<Deed, ActError> {
        let hand = self.hand.lock().await;
        let began = Instant::now();
        let kills = self.felt(Controller::Memory, |limits| limits.memory)?;
        // One that is ended at this moment ends for the limit.
        let mut life = self.life.subscribe();
        let seen = timeout(EFFECT_LIMIT, life.wait_for(|life| life.limits.out_of_memory >= kills)).await;
        drop(seen.ok());
        self.life.send_modify(|life| (life.limits.memory, life.limits.out_of_memory) = (None, 0));
        let ended = |ending: Ending| ending.order == Some(Order::OutOfMemory);
        let is_down = self.life.borrow().state == NodeState::Down;
        if is_down && self.last_start().and_then(|start| start.ending).is_some_and(ended) {
            self.start_held(&hand).await?;
        }
        Ok(self.deed_of_last(DeedKind::MuchMemory { kills }, began))
    }

    /// It has so many percent of one CPU. Proof: the kernel's files.
    pub async fn limit_cpu(&self, percent: u64) -> Result<Deed, ActError> {
        let kind = |most, _| DeedKind::LittleCpu { percent: most };
        self.limit(Controller::Cpu, percent, |limits| &mut limits.cpu, kind).await
    }

    /// It may have all there is.
    pub async fn free_cpu(&self) -> Result<Deed, ActError> {
        let _hand = self.hand.lock().await;
        let began = Instant::now();
        let throttled = self.felt(Controller::Cpu, |limits| limits.cpu)?;
        self.life.send_modify(|life| life.limits.cpu = None);
        Ok(self.deed_of_last(DeedKind::MuchCpu { throttled }, began))
    }

    async fn limit(
        &self,
        controller: Controller,
        most: u64,
        place: impl Fn(&mut Limits) -> &mut Option<u64>,
        kind: impl Fn(u64, u64) -> DeedKind,
    ) -> Result<Deed, ActError> {
        let _hand = self.hand.lock().await;
        self.free()?;
        let child = self.child(&[NodeState::Running])?;
        let began = Instant::now();
        let group = self.group(controller)?;
        if !group.has(child.pid) {
            return Err(self.unlimited(format!("pid {} is not in {}", child.pid, group.folder().display())));
        }
        let before = group.felt().map_err(|error| self.unlimited(error))?;
        // Said before it is done: from then on it may end.
        self.life.send_modify(|life| *place(&mut life.limits) = Some(before));
        let taken = group.limit(most).map_err(|error| {
            self.life.send_modify(|life| *place(&mut life.limits) = None);
            self.unlimited(error)
        })?;
        Ok(self.deed(&child, kind(taken, before), began))
    }

    /// Lifts the limit; how often it was felt.
    fn felt(&self, controller: Controller, before: impl Fn(&Limits) -> Option<u64>) -> Result<u64, ActError> {
        let group = self.group(controller)?;
        group.lift().map_err(|error| self.unlimited(error))?;
        let now = group.felt().map_err(|error| self.unlimited(error))?;
        Ok(now.saturating_sub(before(&self.life.borrow().limits).unwrap_or(now)))
    }

    fn group(&self, controller: Controller) -> Result<&Group, ActError> {
        let group = self.groups.iter().find(|(has, _)| *has == controller).map(|(_, group)| group);
        group.ok_or_else(|| self.unlimited("it is in no group of its own"))
    }

    async fn descriptors(&self, child: &Child, spare: Option<u32>) -> Result<(u64, u64), ActError> {
        match self.guard.descriptors(child, spare).await.map_err(|source| self.guard_failed(source))? {
            Some(answer) => answer.map_err(|error| self.unlimited(error)),
            None => Err(self.ended_before(child).await),
        }
    }

    fn prove_descriptors(&self, child: &Child, limit: u64) -> Result<(), ActError> {
        match soft_limit(child.pid) {
            Ok(seen) if seen == limit => Ok(()),
            Ok(seen) => Err(self.unproven(child, format!("a limit of {seen} descriptors and not {limit}"))),
            Err(error) => Err(self.unproven(child, error.to_string())),
        }
    }

    fn unlimited(&self, reason: impl ToString) -> ActError {
        ActError::Limit { node: self.name.clone(), reason: reason.to_string() }
    }

    fn deed_of_last(&self, kind: DeedKind, began: Instant) -> Deed {
        let pid = self.last_start().map_or(0, |start| start.pid);
        Deed { node: self.name.clone(), pid, start: self.start_count(), kind, took: began.elapsed() }
    }
}

impl Life {
    /// Whether a process that ended by SIGKILL unasked was ended by the kernel for want of the memory that a fault has
    /// left it.
    pub(super) fn is_out_of_memory(&self, groups: &[(Controller, Group)]) -> bool {
        let Some(before) = self.limits.memory else { return false };
        let group = groups.iter().find(|(controller, _)| *controller == Controller::Memory);
        let known = before + self.limits.out_of_memory;
        group.is_some_and(|(_, group)| group.felt().is_ok_and(|now| now > known))
    }
}

/// Of open files, from `/proc`.
fn soft_limit(pid: u32) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    soft.ok_or_else(|| io::Error::other("no line of open files"))
}
