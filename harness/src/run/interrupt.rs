//! SIGINT and SIGTERM: the first ends a run early and in order, the second at once.
//!
//! In: signals. Out: an [`Interrupt`] that one may look at or wait for. Never: children left behind: their guard
//! ends them when the harness is gone.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::Exit;

#[derive(Debug, Clone)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Takes the signals over, for the rest of the process' life.
    pub fn listen() -> io::Result<Interrupt> {
        let (sender, receiver) = watch::channel(false);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if sender.send_replace(true) {
                    std::process::exit(Exit::HarnessFailed as i32);
                }
                eprintln!(
                    "\ninterrupted: healing, collecting and judging what there is; again to leave at once"
                );
            }
        });
        Ok(Interrupt(receiver))
    }

    pub fn came(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it came; never, when it does not.
    pub async fn wait(&mut self) {
        if self.0.wait_for(|came| *came).await.is_err() {
            std::future::pending().await
        }
    }
}
