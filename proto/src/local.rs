//! Names that both ends of a connection must know without asking.

/// The DNS name in every vault server certificate. Clients reach a vault by any address and check
/// this name, because the internal CA, not the DNS, says who is a vault.
pub const VAULT_SERVER_NAME: &str = "vault.internal";

/// The ALPN protocol of every connection (RFC 9113): without it a tonic server refuses to speak.
pub const ALPN_H2: &[u8] = b"h2";
