//! Who shows challenges to the CA.

use async_trait::async_trait;
use vault_proto::ids::CertificateName;

use crate::error::Result;
use crate::store::Identifier;

/// A challenge that the CA wants answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The CA's token (RFC 8555 section 8.1).
    pub token: String,
    /// Where the CA is told that it is answered.
    pub(super) url: String,
    /// What it proves control of.
    pub identifier: Identifier,
    /// Token and account key thumbprint (RFC 8555 section 8.1).
    pub key_authorization: String,
}

/// Shows challenges wherever the certificate's names lead to.
#[async_trait]
pub trait ChallengePresenter: Send + Sync {
    /// Returns once every place shows every challenge.
    ///
    /// # Errors
    /// Where one cannot, or does not answer in time.
    async fn present(&self, certificate: &CertificateName, challenges: &[Challenge]) -> Result<()>;

    /// Ends showing them; best effort, since a challenge that stays harms nobody.
    async fn withdraw(&self, certificate: &CertificateName, tokens: &[String]);
}
