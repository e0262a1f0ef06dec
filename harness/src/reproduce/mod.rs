//! Again: a recorded run is run once more, to learn how often it shows what it showed, and with less, to learn how
//! little it takes.
//!
//! In: a run folder. Out: how many tries of its plan violated the same; a smaller scenario that does. Never: a rate
//! without its interval, or a scenario that did not violate when it was tried.

mod attempt;
mod moment;
mod rate;
mod recorded;
mod replay;
mod search;
mod shrink;
mod smaller;
mod told;

pub use replay::replay;
pub use shrink::shrink;
