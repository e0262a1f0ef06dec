//! Compiles `mkraft/v1/*.proto` with protox, so that no protoc is needed on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files =
        ["mkraft/v1/raft.proto", "mkraft/v1/kv.proto", "mkraft/v1/state.proto", "mkraft/v1/admin.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
