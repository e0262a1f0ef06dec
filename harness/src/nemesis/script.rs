//! A script: steps of the plan that are done in order, each when the one before is done; a step by itself is the shortest.
//!
//! In: the steps, and the moment from which their times count. Out: what they left to be undone when the load ended.
//! Never: a step before its fact or its time; a step of a round after one whose fact did not come, but for its last
//! heal; a fault held longer than the script says, as long as the load goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::facts::{Seen, Whose};
use super::strike::{Blow, Landed};
use super::target::Known;
use super::{BookError, Family, Left, Nemesis, Undo, Undone};
use crate::history::{OpType, monotonic_ns};
use crate::scenario::{Act, By, Heal, Hold, Name, Step, Watch};

/// Timers of tokio are late by as much.
const TIMER_LATE: Duration = Duration::from_millis(2);
/// What the book calls the wait for a fact that did not come, where nothing else was to be done.
const WAIT: &str = "wait";

/// Steps of one number, with their lines of the plan.
pub(super) struct Script {
    nemesis: Arc<Nemesis>,
    began: Instant,
    began_ns: u64,
    known: Known,
    /// What this round has done that may not be undone yet.
    held: Vec<Held>,
    /// These undo what is held for a time.
    timers: JoinSet<Result<Option<Left>, BookError>>,
    /// What is left to the end of the run.
    left: Vec<Left>,
}

/// A fault that was done. Whoever comes first undoes it.
#[derive(Clone)]
struct Held {
    family: Family,
    step: u64,
    name: Option<Name>,
    target: String,
    undo: Arc<Mutex<Option<Undo>>>,
}

/// How a wait ended.
enum Waited {
    /// With the fact, if there was one to be waited for.
    Due(Option<Seen>),
    /// The fact did not come, for this reason.
    Missed(String),
    LoadEnded,
}

impl Script {
    pub fn new(nemesis: Arc<Nemesis>, began: Instant) -> Script {
        let began_ns = in_nanoseconds(began);
        let (known, held) = (Known::default(), Vec::new());
        Script { nemesis, began, began_ns, known, held, timers: JoinSet::new(), left: Vec::new() }
    }

    /// From before the first step's time to after the last undoing. Returns what is left to be undone.
    pub async fn carry_out(mut self, steps: Vec<(u64, Step)>) -> Result<Vec<Left>, BookError> {
        let mut done_ns = self.began_ns;
        let mut broken_off: Option<String> = None;
        let mut round = 0;
        for (number, step) in steps {
            if step.round != round {
                (self.known, round, broken_off) = (Known::default(), step.round, None);
            }
            if let Some(reason) = &broken_off {
                self.pass_over(number, &step, reason).await?;
                continue;
            }
            match self.wait(&step, done_ns).await {
                Waited::Due(cue) => self.act(number, &step, cue).await?,
                Waited::Missed(reason) => {
                    self.miss(number, &step, &reason).await?;
                    broken_off = Some(format!("step {number} was waiting before it: {reason}"));
                }
                Waited::LoadEnded if step.script.is_none() && step.on.is_none() => break,
                Waited::LoadEnded => self.miss(number, &step, "the load ended first").await?,
            }
            done_ns = monotonic_ns();
        }
        self.leave().await
    }

    /// Until it is due.
    async fn wait(&mut self, step: &Step, done_ns: u64) -> Waited {
        if !self.nemesis.waited_until(self.began + Duration::from_nanos(step.at)).await {
            return Waited::LoadEnded;
        }
        let Some(watch) = step.on else {
            let due = Instant::now() + Duration::from_nanos(step.after);
            return if self.nemesis.waited_until(due).await { Waited::Due(None) } else { Waited::LoadEnded };
        };
        let since_ns = done_ns.max(self.began_ns + step.at);
        let seen = match self.see(&watch, since_ns).await {
            Waited::Due(Some(seen)) => seen,
            other => return other,
        };
        self.known.it = Some(seen.node.clone());
        if step.after > 0 && !self.nemesis.waited_exactly(seen.at_ns + step.after).await {
            return Waited::LoadEnded;
        }
        Waited::Due(Some(seen))
    }

    async fn see(&mut self, watch: &Watch, since_ns: u64) -> Waited {
        let whose = match self.whose(watch.by) {
            Ok(whose) => whose,
            Err(reason) => return Waited::Missed(reason),
        };
        let Some(facts) = &self.nemesis.facts else { unreachable!("the plan has {watch:?}") };
        let within = watch.within.map(|within| since_ns.saturating_add(within));
        let until = watch.until.map(|until| self.began_ns.saturating_add(until));
        let end = within.into_iter().chain(until).min();
        let mut stop = self.nemesis.stop.clone();
        let by = watch.by.map(|by| format!(" by {by}")).unwrap_or_default();
        let over = async {
            match end {
                Some(end_ns) => sleep_until(in_time(end_ns)).await,
                None => std::future::pending().await,
            }
        };
        if end.is_some_and(|end_ns| end_ns <= since_ns) {
            return Waited::Missed(format!("the time for {}{by} was over", watch.fact));
        }
        tokio::select! {
            biased;
            seen = facts.wait(watch.fact, whose, since_ns) => Waited::Due(Some(Seen { fact: watch.fact, ..seen })),
            () = over => {
                let waited = Duration::from_nanos(end.unwrap_or_default().saturating_sub(since_ns));
                let lost = facts.lost();
                let lost = if lost.is_empty() { lost } else { format!("; {lost}") };
                Waited::Missed(format!("no {}{by} came within {waited:?}{lost}", watch.fact))
            }
            _ = stop.wait_for(|stop| *stop) => Waited::LoadEnded,
        }
    }

    fn whose(&self, by: Option<By>) -> Result<Whose, String> {
        let nodes = |name: &Name| self.known.named.get(name).cloned().unwrap_or_default();
        Ok(match by {
            None => Whose::Anyone,
            Some(By::Node(number)) => Whose::OneOf([format!("n{number}")].into()),
            Some(By::Named(name)) => match nodes(&name) {
                nodes if nodes.is_empty() => return Err(format!("`{name}` came to nobody")),
                nodes => Whose::OneOf(nodes.into_iter().collect()),
            },
            Some(By::Other) => Whose::NoneOf(self.known.named.values().flatten().cloned().collect()),
        })
    }

    async fn act(&mut self, number: u64, step: &Step, cue: Option<Seen>) -> Result<(), BookError> {
        let (fault, target, manner, hold) = match &step.act {
            Act::Wait => {
                if let Some((name, seen)) = step.name.zip(cue) {
                    self.known.named.insert(name, vec![seen.node]);
                }
                return Ok(());
            }
            Act::Heal(heal) => return self.heal(*heal).await,
            Act::Strike { fault, target, manner, hold } => (*fault, target, *manner, *hold),
        };
        let cue = cue.as_ref();
        let blow =
            Blow { step: number, kind: fault, target, manner, draw: step.draw, cue, known: &self.known };
        let Landed { family, named, undo } = self.nemesis.strike(blow).await?;
        if let Some(name) = step.name {
            self.known.named.insert(name, named);
        }
        let Some(undo) = undo else { return Ok(()) };
        let undo = Arc::new(Mutex::new(Some(undo)));
        let held = Held { family, step: number, name: step.name, target: target.clone(), undo };
        self.held.retain(Held::is_held);
        self.held.push(held.clone());
        if let Hold::For(hold) = hold
            && !(hold == 0 && fault.form().lasts_for_good())
        {
            let (nemesis, until) = (Arc::clone(&self.nemesis), Instant::now() + Duration::from_nanos(hold));
            self.timers.spawn(async move {
                match nemesis.waited_until(until).await {
                    true => nemesis.undo(held).await,
                    false => Ok(held.left()),
                }
            });
        }
        Ok(())
    }

    /// Undoes what is held, in the order in which it was done.
    async fn heal(&mut self, heal: Heal) -> Result<(), BookError> {
        let is_meant = |held: &Held| match heal {
            Heal::All => true,
            Heal::Named(name) => held.name == Some(name),
        };
        let (meant, others): (Vec<Held>, Vec<Held>) =
            std::mem::take(&mut self.held).into_iter().partition(is_meant);
        self.held = others;
        for held in meant {
            self.left.extend(self.nemesis.undo(held).await?);
        }
        Ok(())
    }

    /// The step whose fact did not come.
    async fn miss(&mut self, number: u64, step: &Step, reason: &str) -> Result<(), BookError> {
        match (&step.act, step.on) {
            (Act::Strike { .. }, _) => {}
            (Act::Wait | Act::Heal(_), Some(watch)) => {
                self.nemesis.skip(number, WAIT, &watch.fact.to_string(), reason)?;
            }
            (Act::Wait | Act::Heal(_), None) if step.after > 0 => {
                self.nemesis.skip(number, WAIT, "after", reason)?;
            }
            (Act::Wait | Act::Heal(_), None) => {}
        }
        self.pass_over(number, step, reason).await
    }

    /// A step that comes after it in the round.
    async fn pass_over(&mut self, number: u64, step: &Step, reason: &str) -> Result<(), BookError> {
        match &step.act {
            Act::Strike { fault, target, .. } => {
                if let Some(name) = step.name {
                    self.known.named.insert(name, Vec::new());
                }
                self.nemesis.skip(number, &fault.to_string(), target, reason)
            }
            Act::Heal(Heal::All) => self.heal(Heal::All).await,
            Act::Heal(Heal::Named(_)) | Act::Wait => Ok(()),
        }
    }

    /// What the load's end found held.
    async fn leave(mut self) -> Result<Vec<Left>, BookError> {
        while let Some(ended) = self.timers.join_next().await {
            match ended {
                Ok(left) => self.left.extend(left?),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        self.left.extend(self.held.into_iter().filter_map(Held::left));
        Ok(self.left)
    }
}

impl Held {
    fn is_held(&self) -> bool {
        self.slot().is_some()
    }

    fn take(&self) -> Option<Undo> {
        self.slot().take()
    }

    /// Of processes nothing: the last heal sees what there is to be done.
    fn left(self) -> Option<Left> {
        let undo = self.take().filter(|_| self.family != Family::Processes)?;
        Some(Left { family: self.family, step: self.step, target: self.target, undo })
    }

    fn slot(&self) -> MutexGuard<'_, Option<Undo>> {
        self.undo.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nemesis {
    /// Undoes what nobody has undone yet; returns it when the load ended first, or when it cannot be undone yet.
    async fn undo(&self, held: Held) -> Result<Option<Left>, BookError> {
        let _turn = self.turns.of(held.family).lock().await;
        if *self.stop.borrow() {
            return Ok(held.left());
        }
        let Some(undo) = held.take() else { return Ok(None) };
        self.write(OpType::Invoke, "heal", held.step, &held.target, None)?;
        let Undone { told, again } = undo.carry_out().await;
        if again.is_none() && held.family.is_over(told.outcome) {
            self.means.keeper.claim(held.step).release();
        }
        self.write(OpType::Info, "heal", held.step, &held.target, Some(told))?;
        let Held { family, step, target, .. } = held;
        Ok(again.map(|undo| Left { family, step, target, undo }))
    }

    /// False: the run was stopped before.
    async fn waited_until(&self, time: Instant) -> bool {
        let mut stop = self.stop.clone();
        tokio::select! {
            // What is due is done, even when the end comes with it.
            biased;
            () = sleep_until(time) => true,
            // An error means that nobody is left to stop us, which is as good as being stopped.
            _ = stop.wait_for(|stop| *stop) => false,
        }
    }

    /// To the tenth of a millisecond or so, of CLOCK_MONOTONIC in nanoseconds. False: the run was stopped before.
    async fn waited_exactly(&self, time_ns: u64) -> bool {
        let time = in_time(time_ns);
        if !self.waited_until(time.checked_sub(TIMER_LATE).unwrap_or(time)).await {
            return false;
        }
        let rest = Duration::from_nanos(time_ns.saturating_sub(monotonic_ns()));
        // A thread of its own is woken in time. It cannot fail but by a panic.
        rest.is_zero() || spawn_blocking(move || thread::sleep(rest)).await.is_ok()
    }
}

/// Of a moment on the clock of the evidence.
fn in_time(time_ns: u64) -> Instant {
    let (now, now_ns) = (Instant::now(), monotonic_ns());
    match time_ns.checked_sub(now_ns) {
        Some(ahead) => now + Duration::from_nanos(ahead),
        None => now,
    }
}

/// On the clock of the evidence. It may lie behind.
fn in_nanoseconds(time: Instant) -> u64 {
    let (now, now_ns) = (Instant::now(), monotonic_ns());
    let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    match time.checked_duration_since(now) {
        Some(ahead) => now_ns.saturating_add(nanoseconds(ahead)),
        None => now_ns.saturating_sub(nanoseconds(now - time)),
    }
}
