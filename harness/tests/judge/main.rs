//! The judge on run folders: kept ones with a known fault each, damaged copies of them, and random lawful ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod damage;
mod edited;
mod folders;
mod gaps;
mod lawful;
mod mutations;
mod planted;
mod real;
