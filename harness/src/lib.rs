//! The rooms of the harness; `main.rs` is its door.

pub mod cli;
pub mod cluster;
pub mod collect;
pub mod history;
pub mod nemesis;
pub mod scenario;
pub mod system;
