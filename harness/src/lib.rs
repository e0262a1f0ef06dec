//! The rooms of the harness; `main.rs` is its door.

pub mod audit;
pub mod bench;
pub mod capabilities;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod collect;
pub mod crash_states;
pub mod disk;
pub mod history;
pub mod judging;
pub mod nemesis;
pub mod report;
mod reproduce;
pub mod run;
pub mod scenario;
pub mod system;
pub mod workload;
