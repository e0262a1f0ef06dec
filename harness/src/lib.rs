//! The rooms of the harness; `main.rs` is its door.

pub mod cli;
pub mod history;
pub mod scenario;
