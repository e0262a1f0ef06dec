//! The last look: every key once more, after all is healed and the load has ended.
//!
//! In: the users' yard. Out: one successful read a key in the history, and the keys for which there is none.
//! Never: a read begun after the time it is given.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::generator::{Request, key_name};
use super::load::Yard;
use super::route::Route;
use super::user::{Process, perform};
use crate::history::OpType;
use crate::scenario::Placement;

/// Between reads of one key that failed.
const PAUSE: Duration = Duration::from_millis(50);

pub async fn read_all(yard: &Yard, keys: u32, within: Duration) -> Vec<String> {
    let deadline = Instant::now() + within;
    let route = Route { placement: Placement::Leader, client: 0, nodes: yard.nodes.count() };
    let mut process = yard.new_process();
    let mut unread = Vec::new();
    for key in 0..keys {
        if !read(yard, route, &mut process, key, deadline).await {
            unread.push(key_name(key));
        }
    }
    unread
}

async fn read(yard: &Yard, route: Route, process: &mut Process, key: u32, deadline: Instant) -> bool {
    let mut draw = 0;
    while Instant::now() < deadline {
        if perform(yard, route, process, Request::Read { key }, draw).await == OpType::Ok {
            return true;
        }
        sleep(PAUSE).await;
        draw += 1;
    }
    false
}
