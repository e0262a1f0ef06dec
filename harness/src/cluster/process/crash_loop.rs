//! A node that is killed and started again and again.
//!
//! In: how long it stays up, about, how often it may be killed, and the numbers that draw it. Out: a [`Deed`] once it was
//! killed and started for the first time, and another when it runs again and stays up. Never: a kill that counts without
//! its end by SIGKILL having been seen; an act of anybody else on the node meanwhile.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{ActError, Deed, DeedKind, Node, NodeState};

/// A loop that goes on.
pub(super) struct Looping {
    stop: watch::Sender<bool>,
    task: JoinHandle<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    /// The node was down already when it was to be killed: an unasked end, which is a finding of its own.
    others: u64,
    /// It was started as often as it may be, and has run on since.
    spent: bool,
    /// Why it did not go on.
    trouble: Option<String>,
}

impl Node {
    /// Kills it and starts it again at once; then again after each half to one and a half of `up`, `most` times in all.
    pub async fn crash_loop(
        self: &Arc<Self>,
        up: Duration,
        most: u64,
        numbers: ChaCha8Rng,
    ) -> Result<Deed, ActError> {
        let began = Instant::now();
        let mut looping = self.looping.lock().await;
        let hand = self.hand.lock().await;
        self.free()?;
        self.kill_held(&hand).await?;
        let started = self.start_held(&hand).await.map_err(|error| self.left_down(&error))?;
        self.life.send_modify(|life| life.looping = true);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(go_on(Arc::clone(self), up, most, numbers, stopped));
        *looping = Some(Looping { stop, task });
        Ok(Deed { kind: DeedKind::CrashLooped, took: began.elapsed(), ..started })
    }

    /// Lets it run from now on.
    pub async fn end_crash_loop(&self) -> Result<Deed, ActError> {
        let began = Instant::now();
        let Some(Looping { stop, task }) = self.looping.lock().await.take() else {
            return Err(self.already(self.state()));
        };
        stop.send_replace(true);
        let tally = task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let hand = self.hand.lock().await;
        let is_down = self.life.borrow().state == NodeState::Down;
        let started =
            if is_down { self.start_held(&hand).await } else { Err(self.already(NodeState::Running)) };
        self.life.send_modify(|life| life.looping = false);
        if let (true, Err(error)) = (is_down, started) {
            return Err(self.left_down(&error));
        }
        let child = self.child(&[NodeState::Running])?;
        match tally {
            Tally { kills, others, spent, trouble: None } => {
                Ok(self.deed(&child, DeedKind::CrashLoopEnded { kills, others, spent }, began))
            }
            Tally { trouble: Some(trouble), kills, .. } => {
                Err(self.unproven(&child, format!("killed {kills} times, then {trouble}")))
            }
        }
    }

    /// Killed, and not started again.
    fn left_down(&self, error: &ActError) -> ActError {
        let pid = self.life.borrow().starts.last().map_or(0, |start| start.pid);
        ActError::Unproven { node: self.name.clone(), pid, seen: format!("killed; then {error}") }
    }
}

async fn go_on(
    node: Arc<Node>,
    up: Duration,
    most: u64,
    mut numbers: ChaCha8Rng,
    mut stop: watch::Receiver<bool>,
) -> Tally {
    // The first kill was done by who began this.
    let mut tally = Tally { kills: 1, ..Tally::default() };
    loop {
        if tally.kills + tally.others >= most {
            tally.spent = true;
            let _ = stop.wait_for(|stop| *stop).await;
            return tally;
        }
        let next = sleep(up.mul_f64(numbers.random_range(0.5..1.5)));
        tokio::select! {
            biased;
            // An error means that the node itself is gone.
            _ = stop.wait_for(|stop| *stop) => return tally,
            () = next => {}
        }
        let hand = node.hand.lock().await;
        match node.kill_held(&hand).await {
            Ok(_) => tally.kills += 1,
            Err(error) if error.definite() => tally.others += 1,
            Err(error) => tally.trouble = Some(error.to_string()),
        }
        if tally.trouble.is_none()
            && let Err(error) = node.start_held(&hand).await
        {
            tally.trouble = Some(error.to_string());
        }
        if tally.trouble.is_some() {
            return tally;
        }
    }
}
