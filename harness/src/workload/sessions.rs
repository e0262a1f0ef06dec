//! Sessions opened ahead, so that a write starts at its time.
//!
//! In: the nodes. Out: sessions that nobody has used. Never: a session given twice.
//!
//! Whoever leads is asked, whatever the placement of the users: a user pinned to a stopped node must have
//! fresh sessions for the fresh writes it goes on sending there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::ask::{Late, Nodes};
use super::route::Route;
use crate::scenario::Placement;

/// Sessions kept ready.
const SPARE_MAX: usize = 64;
/// Requests for a session at a time.
const OPENERS: usize = 4;
/// One attempt to open a session, over all nodes it asks.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);
/// Between attempts that failed: nobody leads.
const PAUSE: Duration = Duration::from_millis(50);

pub struct Sessions {
    ready: Mutex<mpsc::Receiver<u64>>,
    /// End with this.
    _openers: JoinSet<()>,
}

impl Sessions {
    pub fn prepare(nodes: &Arc<Nodes>) -> Sessions {
        let (sender, receiver) = mpsc::channel(SPARE_MAX);
        let mut openers = JoinSet::new();
        for opener in 0..OPENERS {
            openers.spawn(keep_opening(nodes.clone(), opener as u64, sender.clone()));
        }
        Sessions { ready: Mutex::new(receiver), _openers: openers }
    }

    /// A session, or none when no node would open one in time.
    pub async fn take(&self, within: Duration) -> Option<u64> {
        timeout(within, async { self.ready.lock().await.recv().await }).await.ok().flatten()
    }
}

async fn keep_opening(nodes: Arc<Nodes>, mut draw: u64, sender: mpsc::Sender<u64>) {
    let route = Route { placement: Placement::Leader, client: 0, nodes: nodes.count() };
    loop {
        let deadline = Instant::now() + OPEN_TIMEOUT;
        let open =
            |client: Arc<crate::system::client::NodeClient>| async move { client.open_session().await };
        match nodes.ask(route, draw, deadline, Late::Cancel, None, open).await.result {
            // Waits while enough are ready.
            Ok(session) => {
                if sender.send(session).await.is_err() {
                    return;
                }
            }
            Err(_) => sleep(PAUSE).await,
        }
        draw = draw.wrapping_add(1);
    }
}
