//! The door of the harness: everything behind it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    mkraft_harness::cli::main(std::env::args_os()).into()
}
