//! What the vault's HTTPS clients have in common: TLS as the library has it by default, and TCP that waits for
//! nothing.

use std::sync::Arc;

use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, Result};

/// The system's roots, those that can be read; there may be none.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// TLS that trusts these roots and no other, without a certificate of its own.
///
/// # Errors
/// `Internal` where the library cannot be set up.
pub fn tls(roots: RootCertStore) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::internal("set up", "TLS", e))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Connections below TLS, or without it. A request is a head and a body; the body is not to wait until the other
/// side's system has confirmed the head, which it is in no hurry to do.
pub fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp
}
