//! Compiles the library that is preloaded into nodes whose clocks a run changes, for the harness to carry within itself.
//!
//! In: `preload/clock.rs`, which has no dependencies, and the compiler that compiles the harness. Out: `clock.so` in
//! cargo's folder for such. Never: a build that fails for want of it: without the library its file is empty, cargo tells
//! why, and so does `mkraft-harness capabilities`.
//!
//! It is no package of the workspace because a package cannot embed another one's library with stable cargo.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCES: [&str; 2] = ["preload/clock.rs", "src/cluster/clock/page.rs"];

fn main() -> Result<(), Box<dyn Error>> {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    let library = PathBuf::from(env::var("OUT_DIR")?).join("clock.so");
    if let Err(why) = compile(&library) {
        println!("cargo::warning=no library to preload, so that no clock can be changed: {why}");
        fs::write(&library, "")?;
    }
    Ok(())
}

fn compile(library: &Path) -> Result<(), Box<dyn Error>> {
    let target = env::var("TARGET")?;
    // It passes arguments on as these machines do, and knows the numbers of their system calls.
    if !["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"].contains(&target.as_str()) {
        return Err(format!("it is not written for {target}").into());
    }
    let mut compiler = Command::new(env::var("RUSTC")?);
    compiler.args(["--edition", "2024", "--crate-type", "cdylib", "--crate-name", "mkraft_clock"]);
    compiler.args(["--target", &target, "-D", "warnings", "-C", "panic=abort", "-C", "opt-level=3"]);
    // What is precompiled of core names it; nothing unwinds here.
    compiler.args(["-C", "strip=symbols", "-C", "link-arg=-Wl,--defsym=rust_eh_personality=0"]);
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        compiler.arg("-C").arg(format!("linker={linker}"));
    }
    let output = compiler.arg("-o").arg(library).arg(SOURCES[0]).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        return Err(format!("{} {said}", output.status).into());
    }
    Ok(())
}
