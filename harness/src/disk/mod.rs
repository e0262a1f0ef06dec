//! A disk for a node that can forget, fail, be slow, hang and be full: a file system of the harness' own, on FUSE.
//!
//! In: a folder to mount over, and orders. Out: a [`Disk`], proof of what was done to whom, and a [`ledger`] of all
//! that was written and synced. Never: a fault that nothing shows; anything left of it when the harness is gone.
//!
//! A power loss is what SIGKILL is not: what was not synced is gone. [`model`] is the file system as plain values,
//! [`store`] where its durable bytes are, [`drive`] joins them with [`faults`]; [`served`] is the kernel's side of it
//! and [`process`] the process that all this is in, of which [`keeper`] is the harness' end and [`orders`] the words.
//! [`states`] are those that a power loss could have left at any moment that the ledger tells of.

mod drive;
mod faults;
mod keeper;
pub mod ledger;
pub mod model;
mod mounted;
mod orders;
pub mod process;
mod served;
pub mod sparse;
pub mod states;
pub mod store;

pub use keeper::{Disk, DiskError};
pub use model::{Lost, Unsynced};
pub use mounted::{is_mounted, missing, mounts};
pub use orders::{Call, Counts, Fail, Kept, LEDGER_BYTES_MAX, Look, Place, Slow, StoreFailures};
