//! What a TLS server shows, in OpenSSL's eyes.

use std::net::SocketAddr;

use crate::programs::must;

/// The leaf that a server shows for a name: `x509 -noout` with these options.
///
/// # Panics
/// Where there is no handshake.
pub fn leaf(address: SocketAddr, server_name: &str, x509: &[&str]) -> String {
    let shown = format!(
        "openssl s_client -connect {address} -servername {server_name} </dev/null 2>/dev/null \
         | openssl x509 -noout {}",
        x509.join(" ")
    );
    must("sh", &["-c", &shown]).trim().to_owned()
}
