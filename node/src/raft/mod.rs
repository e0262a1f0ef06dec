//! The core.
mod message;

pub use message::*;
