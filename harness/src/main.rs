//! The door of the harness: everything behind it is in the library.

use std::process::ExitCode;

use mkraft_harness::cluster::guard;
use mkraft_harness::disk;

/// Requests, replies and lines of the history are made by one thread and freed by another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The harness starts itself a second time as the guard of its children.
    match std::env::args().nth(1).as_deref() {
        Some("guard") => guard::main(),
        // And once for each disk.
        Some("disk") => disk::process::main(),
        _ => mkraft_harness::cli::main(std::env::args_os()).into(),
    }
}
