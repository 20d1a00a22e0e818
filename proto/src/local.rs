//! What both ends of a connection must know without asking.

/// The generated messages between the PKCS#11 module and the agent, `keyvault.local.v1`.
#[allow(missing_docs, clippy::all, clippy::too_many_lines)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/keyvault.local.v1.rs"));
}

/// Where the agent's socket is looked for where `VAULT_AGENT_SOCKET` does not say.
pub const SIGNER_SOCKET: &str = "/run/vault-agent/signer.sock";

/// Where the agent keeps the list of keys, a `keyvault.local.v1.Keys`, where neither its configuration
/// nor `VAULT_AGENT_KEYS` names another place: a web server that starts before the agent finds its keys
/// by it.
pub const SIGNER_KEYS: &str = "/var/lib/vault-agent/signer-keys.pb";

/// The longest message on the agent's socket, in bytes: a signature's input is far below, and so is
/// a list of a thousand keys.
pub const LONGEST_LOCAL_MESSAGE: usize = 8 << 20;

/// The DNS name in every vault server certificate. Clients reach a vault by any address and check
/// this name, because the internal CA, not the DNS, says who is a vault.
pub const VAULT_SERVER_NAME: &str = "vault.internal";

/// The ALPN protocol of every call (RFC 9113): without it a tonic server refuses to speak.
pub const ALPN_H2: &[u8] = b"h2";

/// The ALPN protocol of a connection for signatures of web servers: see `frames`.
pub const ALPN_TLS_SIGN: &[u8] = b"vault-tls-sign/1";
