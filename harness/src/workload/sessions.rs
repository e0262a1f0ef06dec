//! Sessions opened ahead, so that a write starts at its time.
//!
//! In: the nodes, sessions that are of no more use to their user. Out: sessions. Never: one session to two users, or
//! one in which a write is open.
//!
//! A session carries one write at a time, so there are as many as writes are under way at a time. Those given back are
//! given first: opening one costs the cluster a write.
//!
//! Whoever leads is asked, whatever the placement of the users: a user pinned to a stopped node must have
//! fresh sessions for the fresh writes it goes on sending there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{self, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::ask::{Late, Nodes};
use super::route::Route;
use crate::scenario::Placement;
use crate::system::client::{NodeClient, Ticket};

/// Fresh sessions kept ready.
const SPARE_MAX: usize = 64;
/// Requests for a session at a time.
const OPENERS: usize = 4;
/// One attempt to open a session, over all nodes it asks.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);
/// Between attempts that failed: nobody leads.
const PAUSE: Duration = Duration::from_millis(50);

pub struct Sessions {
    /// The one given back last is the first to be given.
    used: Mutex<Vec<Session>>,
    /// As many permits as `used` has sessions.
    given_back: Semaphore,
    fresh: sync::Mutex<mpsc::Receiver<Session>>,
    /// End with this.
    _openers: JoinSet<()>,
}

/// From whoever opened it, with what came of it so far.
#[derive(Debug)]
pub struct Session {
    id: u64,
    /// The last sequence number used.
    sequence: u64,
}

impl Session {
    /// For the next write, never used before.
    pub fn next_ticket(&mut self) -> Ticket {
        self.sequence += 1;
        Ticket { session: self.id, sequence: self.sequence }
    }
}

impl Sessions {
    pub fn prepare(nodes: &Arc<Nodes>) -> Sessions {
        let (sender, receiver) = mpsc::channel(SPARE_MAX);
        let mut openers = JoinSet::new();
        for opener in 0..OPENERS {
            openers.spawn(keep_opening(nodes.clone(), opener as u64, sender.clone()));
        }
        let (used, given_back) = (Mutex::default(), Semaphore::new(0));
        Sessions { used, given_back, fresh: sync::Mutex::new(receiver), _openers: openers }
    }

    /// A session, or none when nobody gave one back in time and no node would open one.
    pub async fn take(&self, within: Duration) -> Option<Session> {
        let fresh = async { self.fresh.lock().await.recv().await };
        let either = async {
            tokio::select! {
                biased;
                Ok(permit) = self.given_back.acquire() => {
                    permit.forget();
                    self.used().pop()
                }
                fresh = fresh => fresh,
            }
        };
        timeout(within, either).await.ok().flatten()
    }

    /// For others to use. The last write in it must have ended: what is open may yet take effect, and would be refused
    /// once a later one of the session has.
    pub fn give_back(&self, session: Session) {
        self.used().push(session);
        self.given_back.add_permits(1);
    }

    fn used(&self) -> MutexGuard<'_, Vec<Session>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn keep_opening(nodes: Arc<Nodes>, mut draw: u64, sender: mpsc::Sender<Session>) {
    let route = Route { placement: Placement::Leader, client: 0, nodes: nodes.count() };
    loop {
        let deadline = Instant::now() + OPEN_TIMEOUT;
        let open = |client: Arc<NodeClient>| async move { client.open_session().await };
        match nodes.ask(route, draw, deadline, Late::Cancel, None, open).await.result {
            // Waits while enough are ready.
            Ok(id) => {
                if sender.send(Session { id, sequence: 0 }).await.is_err() {
                    return;
                }
            }
            Err(_) => sleep(PAUSE).await,
        }
        draw = draw.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::gates::Gates;

    /// Where nobody opens any. The discard port of this machine: nobody listens there.
    fn sessions() -> Sessions {
        let nodes = Nodes::new(&[("n1".to_owned(), "127.0.0.1:9".parse().unwrap())], 1, &Gates::default());
        Sessions::prepare(&Arc::new(nodes))
    }

    #[tokio::test]
    async fn what_is_given_back_is_given_once_and_goes_on_where_it_was() {
        let sessions = sessions();
        for id in [1, 2] {
            sessions.give_back(Session { id, sequence: 7 });
        }
        let mut session = sessions.take(Duration::MAX).await.unwrap();
        assert_eq!(session.next_ticket(), Ticket { session: 2, sequence: 8 });
        sessions.give_back(session);
        assert_eq!(sessions.take(Duration::MAX).await.unwrap().next_ticket().sequence, 9);
        assert_eq!(sessions.take(Duration::MAX).await.unwrap().id, 1);
        assert!(sessions.take(Duration::from_millis(1)).await.is_none());
    }

    #[tokio::test]
    async fn who_waits_gets_what_is_given_back_meanwhile() {
        let sessions = sessions();
        let (session, ()) = tokio::join!(sessions.take(Duration::MAX), async {
            sessions.give_back(Session { id: 5, sequence: 0 });
        });
        assert_eq!(session.unwrap().id, 5);
    }
}
