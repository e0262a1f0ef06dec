//! The rooms of a mkraft node; `main.rs` is its door.

pub mod acts;
pub mod carriers;
pub mod causes;
pub mod client;
pub mod config;
pub mod driver;
pub mod dump;
pub mod events;
pub mod fuzz;
pub mod machine;
pub mod raft;
pub mod storage;
pub mod transport;
