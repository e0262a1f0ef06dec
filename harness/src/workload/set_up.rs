//! What must be done before a load begins: one transaction, awaited.
//!
//! In: the users' yard, a transaction. Out: nothing, or why it was not done. Never: a line in the history; what it
//! makes is what the first lawful state is.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::load::Yard;
use super::route::Route;
use crate::scenario::Placement;
use crate::system::call::{Call, Txn};

/// A cluster that serves does it in one request; this is for one that has just begun to.
const LIMIT: Duration = Duration::from_secs(10);
const REQUEST_LIMIT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);

pub async fn set_up(yard: &Yard, txn: Txn) -> Result<(), String> {
    let failed = |why: String| Err(format!("the load could not be set up within {LIMIT:?}: {why}"));
    let deadline = Instant::now() + LIMIT;
    let Some(mut session) = yard.sessions.take(LIMIT).await else {
        return failed("no session could be opened".into());
    };
    // The same ticket every time: it is done once, however often it is asked for.
    let ticket = Some(session.next_ticket());
    let route = Route { placement: Placement::Leader, client: 0, nodes: yard.nodes.count() };
    let (call, mut draw) = (Call::Txn(txn), 0);
    loop {
        let until = deadline.min(Instant::now() + REQUEST_LIMIT);
        match yard.nodes.carry_out(route, draw, until, &call, ticket, None).await.result {
            Ok(reply) => {
                let exists = || "the load could not be set up: its keys exist already".to_owned();
                return reply.txn().succeeded.then_some(()).ok_or_else(exists);
            }
            Err(no_answer) if Instant::now() + PAUSE >= deadline => return failed(no_answer.error),
            Err(_) => sleep(PAUSE).await,
        }
        draw += 1;
    }
}
