//! The rooms of a mkraft node; `main.rs` is its door.

pub mod dump;
pub mod events;
pub mod raft;
pub mod storage;
