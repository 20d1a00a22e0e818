//! Revocation at the CA (RFC 8555 section 7.6), and what follows from it: another version at once, and
//! another key where that one is compromised.

use std::sync::Arc;

use serde_json::{Value, json};
use vault_proto::ids::{CertificateName, KeyId};

use super::Issuer;
use crate::error::{Error, ErrorKind, Result};
use crate::named::named_enum;
use crate::policy::{Action, Principal};
use crate::signing::BoundKey;
use crate::store::{CertificateRecord, CertificateStatus, Custody, KeyState, VersionRecord};
use crate::x509::chain::Chain;

/// The RFC 5280 reason after which a key is not used again.
const KEY_COMPROMISE: &str = "key-compromise";
/// The RFC 5280 reason after which nobody wants another version.
const CESSATION: &str = "cessation-of-operation";

named_enum!(
    /// Who signs the request.
    RevokedBy, "signer of a revocation" {
        /// The account that has ordered the certificate.
        Account = "account",
        /// The certificate's own key.
        CertificateKey = "certificate-key",
    }
);

/// A revocation of the version in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The RFC 5280 reason.
    pub reason: String,
    /// Who signs the request.
    pub by: RevokedBy,
    /// Whether another version is ordered at once, where the reason leaves something to certify.
    pub replace: bool,
}

impl Revocation {
    /// What it comes down to, for the audit log.
    pub fn summary(&self) -> Value {
        json!({ "change": "revoke", "reason": self.reason, "by": self.by, "replace": self.replaces() })
    }

    fn replaces(&self) -> bool {
        self.replace && self.reason != CESSATION
    }
}

impl Issuer {
    /// Revokes the version in force at the CA that has issued it. A CA that has revoked it already is
    /// as good as one that does it now.
    ///
    /// # Errors
    /// `Conflict` where none was issued, it is revoked already or the key is not in use any more,
    /// `Invalid` where the key is not in the HSM, else what the CA says.
    pub async fn revoke(
        &self,
        who: &Principal,
        name: &CertificateName,
        revocation: &Revocation,
    ) -> Result<CertificateRecord> {
        let certificate = self.certificate(name).await?;
        let conflict = |why: &str| Error::conflict("revoke", format!("certificate {name}"), why);
        if certificate.status != CertificateStatus::Issued {
            return Err(conflict(&format!("it is {}", certificate.status)));
        }
        let version = self.store.version(name, certificate.current_version).await?;
        let version = version.ok_or_else(|| conflict("no version was issued"))?;
        let chain = Chain::parse(&version.chain_pem)?;
        let (der, reason) = (chain.leaf_der(), revocation.reason.as_str());
        match revocation.by {
            RevokedBy::Account => {
                let told = self.revoke_by_account(who, &version, der, reason).await;
                told.map_err(|error| another_way(&certificate, error))?;
            }
            RevokedBy::CertificateKey => {
                let signer = Arc::new(self.own_key(who, &certificate, &version).await?);
                let accounts = &self.accounts;
                accounts.revoke_by_certificate_key(&version.account, signer, der, reason).await?;
            }
        }
        let due = revocation.replaces().then(|| self.clock.now());
        self.store.revoke_version(name, version.version, reason, due).await?;
        self.hub.changed(name).await;
        self.certificate(name).await
    }

    async fn revoke_by_account(
        &self,
        who: &Principal,
        version: &VersionRecord,
        certificate_der: &[u8],
        reason: &str,
    ) -> Result<()> {
        let (_, account) = self.accounts.open(who, &version.account).await?;
        account.revoke(certificate_der, reason).await
    }

    /// A version's own key, bound to this one purpose.
    async fn own_key(
        &self,
        who: &Principal,
        certificate: &CertificateRecord,
        version: &VersionRecord,
    ) -> Result<BoundKey> {
        let subject = || format!("certificate {}", certificate.name);
        let Some(id) = version.key_id else {
            let why = "its key is on its web server, not in the HSM";
            return Err(Error::invalid("revoke", subject(), why)
                .hint("leave --by off: the account revokes it"));
        };
        let key = self.store.key(id).await?;
        let none = || Error::internal("revoke", subject(), "its key is not in the store");
        let key = key.ok_or_else(none)?;
        if !matches!(key.state, KeyState::Active | KeyState::Retired) {
            return Err(Error::conflict("revoke", subject(), format!("its key is {}", key.state))
                .hint("leave --by off: the account revokes it"));
        }
        let context = json!({ "certificate": certificate.name, "serial": version.serial });
        Ok(self.signing.bind(who.clone(), key, Action::SignRevocation, context))
    }

    /// Whether a version with this key was revoked because the key is compromised.
    pub(super) async fn is_compromised(&self, name: &CertificateName, key: KeyId) -> Result<bool> {
        let compromised = self.store.versions_revoked(name, KEY_COMPROMISE).await?;
        Ok(compromised.iter().any(|version| version.key_id == Some(key)))
    }

    /// Refuses a key that was named compromised, whoever keeps it.
    ///
    /// # Errors
    /// `Verification`.
    pub(super) async fn refuse_compromised(
        &self,
        name: &CertificateName,
        spki_der: &[u8],
    ) -> Result<()> {
        for version in self.store.versions_revoked(name, KEY_COMPROMISE).await? {
            if Chain::parse(&version.chain_pem)?.spki_der()? == spki_der {
                let why =
                    format!("version {} was revoked because it is compromised", version.version);
                let subject = format!("the key of certificate {name}");
                return Err(Error::verification("certify", subject, why)
                    .hint("the next order is for a new key"));
            }
        }
        Ok(())
    }
}

/// Whether what comes after a version must be for a new key: somebody else may have the old one.
pub fn must_have_new_key(version: &VersionRecord) -> bool {
    version.revoked.as_deref() == Some(KEY_COMPROMISE)
}

/// Names the other way where the account is none for its CA any more, and there is one.
fn another_way(certificate: &CertificateRecord, error: Error) -> Error {
    let gone = matches!(
        error.kind,
        ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::Verification | ErrorKind::Denied
    );
    match gone && certificate.custody == Custody::Vault {
        true => error.hint(
            "where the account is of no use any more, the certificate's own key can revoke it: \
             `vaultctl cert revoke NAME --reason R --by certificate-key`",
        ),
        false => error,
    }
}
