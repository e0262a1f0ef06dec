//! The judge on run folders: kept ones with a known fault each, damaged copies of them, and random lawful ones.

mod damage;
mod folders;
mod lawful;
mod mutations;
