//! Every byte that crosses a process boundary of mkraft, and nothing else.
//!
//! [`v1`] is what nodes and clients say to each other over gRPC; [`errors`] says which failures are definite;
//! [`evidence`] are the lines a node writes about itself and a judge reads.

pub mod errors;
pub mod evidence;

/// The generated gRPC messages, clients and servers of package `mkraft.v1`.
#[allow(clippy::all)]
pub mod v1 {
    tonic::include_proto!("mkraft.v1");
}
