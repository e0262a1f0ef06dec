//! The rooms of the harness; `main.rs` is its door.

pub mod check;
pub mod cli;
pub mod history;
pub mod report;
pub mod scenario;
