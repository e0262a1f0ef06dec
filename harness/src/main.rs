use std::process::ExitCode;

use mkraft_harness::cluster::guard;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("guard") => guard::main(),
        _ => ExitCode::from(64),
    }
}
