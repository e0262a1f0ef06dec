//! One test for each rule of the paper: figures 2 and 13, §5 to §8 of the extended Raft paper, and chapters 3, 4 and
//! 6 of Ongaro's thesis where this implementation follows it.
//!
//! In: the sentence, as the name of a test. Out: whether the core does what it says. `docs/paper.md` has all of them
//! beside the code that obeys, and `scripts/` shows many of them happen, message by message.
//!
//! A rule for one server is asked of a bare core, whose disk and peers are the test; one for several is played in
//! the lab. Where the implementation does something else than the sentence, the test says what, and the page why.

// What tests share may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod bench;
mod clients;
#[path = "../cluster/mod.rs"]
mod cluster;
mod elections;
mod membership;
mod reads;
mod replication;
mod safety;
mod snapshots;
mod state;
mod timing;
mod transfer;
