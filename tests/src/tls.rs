//! What a TLS server shows, in OpenSSL's eyes, and what it begins with.

use std::{fs, net::SocketAddr, path::Path};

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

/// One full handshake by OpenSSL with these options, `-tls1_3` for example; OpenSSL checks the
/// server's signature. What OpenSSL says of it; `None` where there was none.
pub fn handshake(address: SocketAddr, server_name: &str, options: &str) -> Option<String> {
    let shake = format!("openssl s_client -connect {address} -servername {server_name} {options}");
    let said = must("sh", &["-c", &format!("{shake} </dev/null 2>&1 || true")]);
    said.contains("Peer signature type").then_some(said)
}

/// Writes a chain and a key of nobody's, with which a server can start.
///
/// # Panics
/// Where they cannot be written.
pub fn placeholder(chain: &Path, key: &Path) {
    let pair = rcgen::KeyPair::generate().expect("key");
    let params = rcgen::CertificateParams::new(vec!["placeholder.invalid".to_owned()]);
    let placeholder = params.expect("name").self_signed(&pair).expect("certificate");
    fs::write(chain, placeholder.pem()).expect("chain");
    fs::write(key, pair.serialize_pem()).expect("key");
}
