//! What the vault, its agent and its tools share: ids, the error that crosses the wire, the audit
//! log's chain, and the types generated from `keyvault/v1/*.proto`.
//!
//! Nothing here decides anything; a type is here because two programs must agree on it.

pub mod audit;
#[cfg(feature = "grpc")]
pub mod error;
#[cfg(feature = "grpc")]
pub mod frames;
pub mod ids;
pub mod local;
#[cfg(feature = "grpc")]
mod redacted;

/// The generated messages, clients and servers of `keyvault.v1`.
#[cfg(feature = "grpc")]
#[allow(missing_docs, clippy::all, clippy::too_many_lines)]
pub mod v1 {
    tonic::include_proto!("keyvault.v1");

    /// The encoded `FileDescriptorSet`, for gRPC server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
