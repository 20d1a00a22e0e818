//! Keys that somebody else may have: a certificate's CA has revoked it for that, or its operator has.

use vault_proto::ids::KeyId;

use super::Issuer;
use crate::error::Result;
use crate::store::{CertificateRecord, VersionRecord};

/// The RFC 5280 reason by which a key is known to be bad.
const KEY_COMPROMISE: &str = "key-compromise";

/// Whether what comes after a version must be for a new key.
pub fn must_have_new_key(version: &VersionRecord) -> bool {
    version.revoked.as_deref() == Some(KEY_COMPROMISE)
}

impl Issuer {
    /// Whether a key of a certificate is one that somebody else may have.
    pub(super) async fn is_compromised(
        &self,
        certificate: &CertificateRecord,
        key: KeyId,
    ) -> Result<bool> {
        let versions = self.store.versions(&certificate.name).await?;
        Ok(versions.iter().any(|v| v.key_id == Some(key) && must_have_new_key(v)))
    }
}
