//! Revocation by the certificate's own key (RFC 8555 section 7.6), for which no account is needed.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use serde_json::json;

use super::{
    Ca,
    account::{client, reason_of},
    clients::Clients,
    directory::Directory,
    resign::Keys,
};
use crate::error::{Error, Result};
use crate::keystore::MessageSigner;

/// Revokes a certificate for an RFC 5280 reason; the signer has the certificate's key. What is revoked
/// already is revoked.
///
/// # Errors
/// `Invalid` for an unknown reason, else what the CA says.
pub async fn revoke_by_certificate_key(
    ca: &Ca,
    clients: &Clients,
    signer: Arc<dyn MessageSigner>,
    certificate_der: &[u8],
    reason: &str,
) -> Result<()> {
    let reason = reason_of(reason)?;
    let (client, name) = client(clients, ca, Arc::new(Keys::of(signer)))?;
    let directory = Directory::known(&client.transport).await?;
    let url = directory.revoke_cert.ok_or_else(|| {
        Error::unavailable("revoke", name, "its directory does not say where that is done")
    })?;
    let payload = json!({ "certificate": B64.encode(certificate_der), "reason": reason });
    // The key itself is put into the header where it is signed.
    let header = json!({ "jwk": {}, "url": url });
    client.post(&url, &header, payload.to_string().as_bytes()).await.map(drop)
}
