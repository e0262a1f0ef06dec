//! Clusters of pure cores, for the tests: servers with disks that can lose writes, and a witness over all.
//!
//! In: inputs, in an order that a script, a test or a seed decides. Out: what every server did.
//! Never: a clock, a thread, a socket, an iteration order that differs from run to run.
//!
//! `lab` has the network in the test's hands and settles after each act; `simulation.rs` has its own, which a
//! seed rules. Both share the rest:
//!
//! - `random`: the one source of chance.
//! - `words`: messages, entries and roles as the traces and scripts spell them.
//! - `disk`: what is durable, what is being written, what a crash leaves.
//! - `ledger`: what commands mean.
//! - `server`: a core, its disk and its state machine.
//! - `witness`: the invariants, over all servers and boots.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod disk;
pub mod lab;
pub mod ledger;
pub mod random;
pub mod server;
pub mod swarm;
pub mod witness;
pub mod words;
pub mod world;
