//! The last look, after all is healed and the load has ended: what users owe is done, and everything is seen once more.
//!
//! In: the users' yard, the kind of load. Out: operations in the history, and what could not be seen. Never: one begun
//! after the time it is given.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::generator::Draw;
use super::load::Yard;
use super::operation::{FollowUp, Kind};
use super::route::Route;
use super::user::{Process, perform};
use crate::history::OpType;
use crate::scenario::Placement;

/// Between looks at one thing that failed.
const PAUSE: Duration = Duration::from_millis(50);

pub async fn read_all(yard: &Yard, kind: &dyn Kind, draw: &mut Draw, within: Duration) -> Vec<String> {
    let route = Route { placement: Placement::Leader, client: 0, nodes: yard.nodes.count() };
    let looker = Looker { yard, route, deadline: Instant::now() + within };
    for (process, owed) in yard.take_owed() {
        looker.pay(process, owed).await;
    }
    let mut process = yard.new_process();
    let mut unseen = Vec::new();
    for mut look in kind.last_looks(&yard.lore, draw) {
        let mut seen = false;
        for attempt in 0.. {
            if seen || Instant::now() >= looker.deadline {
                break;
            }
            let ended = perform(yard, route, &mut process, &mut *look.operation, attempt).await;
            seen = ended == OpType::Ok;
            process = yard.after(process, ended);
            if let Some(owed) = look.operation.follow_up(ended) {
                process = looker.pay(process, owed).await;
            }
            if ended == OpType::Info {
                break;
            }
            if !seen {
                sleep(PAUSE).await;
            }
        }
        if !seen {
            unseen.push(look.name);
        }
    }
    unseen
}

struct Looker<'a> {
    yard: &'a Yard,
    route: Route,
    deadline: Instant,
}

impl Looker<'_> {
    /// Until nothing is owed, or the time is over.
    async fn pay(&self, mut process: Process, mut owed: FollowUp) -> Process {
        for attempt in 0.. {
            sleep(if attempt == 0 { Duration::ZERO } else { owed.pause }).await;
            if Instant::now() >= self.deadline {
                break;
            }
            let ended = perform(self.yard, self.route, &mut process, &mut *owed.operation, attempt).await;
            process = self.yard.after(process, ended);
            match owed.operation.follow_up(ended) {
                Some(more) => owed = more,
                None => break,
            }
        }
        process
    }
}
