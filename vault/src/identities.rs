//! Who may connect: identities from the internal CA, registered before they are handed out and
//! looked up on every request, so that a revoked one ends at once.

use std::sync::Arc;

use serde_json::json;
use time::{Duration, OffsetDateTime};
use vault_proto::{
    ids::{Identity, KeyId, SpiffeId},
    local::VAULT_SERVER_NAME,
};

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::policy::{Action, Principal};
use crate::signing::Signing;
use crate::store::{AgentStatus, IdentityRecord, Store};
use crate::x509::{ca, peer};

/// The internal CA at work.
pub struct Identities {
    signing: Signing,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    root_der: Vec<u8>,
    ca_key: KeyId,
    trust_domain: String,
    lifetime: Duration,
}

/// A certificate for a caller or for the vault itself.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The leaf, DER.
    pub der: Vec<u8>,
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// Its end.
    pub not_after: OffsetDateTime,
}

impl Identities {
    /// The CA with this root and key; `lifetime` is that of callers' identities.
    pub fn new(
        signing: Signing,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        root_der: Vec<u8>,
        ca_key: KeyId,
        trust_domain: &str,
        lifetime: Duration,
    ) -> Self {
        Self {
            signing,
            store,
            clock,
            root_der,
            ca_key,
            trust_domain: trust_domain.to_owned(),
            lifetime,
        }
    }

    /// The root, DER.
    pub fn root_der(&self) -> &[u8] {
        &self.root_der
    }

    /// The trust domain of every id.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The SPIFFE id of an identity in this trust domain.
    ///
    /// # Errors
    /// Never for a trust domain that the configuration's check has passed.
    pub fn spiffe_id(&self, identity: Identity) -> Result<SpiffeId> {
        Ok(SpiffeId::new(&self.trust_domain, identity)?)
    }

    /// Issues a client certificate for the key in a PKCS#10 request, whose names are ignored.
    ///
    /// # Errors
    /// `Invalid` or `Verification` for a request whose key is weak or whose signature does not
    /// hold; those of [`Signing::sign_with`].
    pub async fn issue_client(
        &self,
        requested_by: &Principal,
        identity: Identity,
        csr_der: &[u8],
    ) -> Result<Issued> {
        let spki = ca::identity_csr(csr_der)?;
        self.issue(requested_by, identity, &spki, self.lifetime).await
    }

    /// Issues the vault's own server certificate.
    ///
    /// # Errors
    /// Those of [`Signing::sign_with`].
    pub async fn issue_server(&self, spki_der: &[u8], lifetime: Duration) -> Result<Issued> {
        self.issue(&Principal::Vault("listen"), Identity::Vault, spki_der, lifetime).await
    }

    async fn issue(
        &self,
        requested_by: &Principal,
        identity: Identity,
        spki_der: &[u8],
        lifetime: Duration,
    ) -> Result<Issued> {
        let server = identity == Identity::Vault;
        let spiffe_id = self.spiffe_id(identity)?;
        let context = json!({
            "spiffe_id": spiffe_id.to_string(),
            "requested_by": requested_by.to_string(),
        });
        let key = self.store.key(self.ca_key).await?;
        let key = key.ok_or_else(|| {
            Error::internal("issue", "an identity", "the internal CA's key is not in the store")
        })?;
        let signer = self.signing.bind(
            Principal::Vault("identities"),
            key,
            Action::SignCertificate,
            context,
        );
        let dns_names: &[&str] = if server { &[VAULT_SERVER_NAME] } else { &[] };
        let authority =
            ca::InternalCa { root_der: self.root_der.clone(), signer: Arc::new(signer) };
        let issued = authority
            .issue(&ca::IdentityRequest {
                spki_der,
                spiffe_id: &spiffe_id,
                dns_names,
                now: self.clock.now(),
                lifetime,
                server,
            })
            .await?;
        self.store
            .insert_identity(&IdentityRecord {
                serial: issued.serial.clone(),
                spiffe_id: spiffe_id.to_string(),
                not_after: issued.not_after,
                revoked_at: None,
            })
            .await?;
        Ok(Issued { der: issued.der, spiffe_id, not_after: issued.not_after })
    }

    /// Who a TLS peer is, by the certificate that the handshake has verified against the root.
    ///
    /// # Errors
    /// `Unauthenticated` where the certificate is of another trust domain, unknown to the
    /// register, revoked or ended, or its agent is evicted.
    pub async fn principal(&self, certificate_der: &[u8]) -> Result<Principal> {
        let refused = |why: String| {
            Error::unauthenticated("authenticate", "the client certificate", why)
                .hint("ask an operator for a new identity")
        };
        let peer = peer::Peer::of(certificate_der).map_err(|e| refused(e.why))?;
        if peer.spiffe_id.trust_domain() != self.trust_domain {
            return Err(refused(format!("{} is of another trust domain", peer.spiffe_id)));
        }
        let registered = self.store.identity(&peer.serial).await?;
        let registered = registered.filter(|r| r.spiffe_id == peer.spiffe_id.to_string());
        let registered = registered.ok_or_else(|| {
            refused("this vault does not know it".to_owned()).hint(
                "where the vault was restored from an older backup: enrol the agent anew (`vault-agent \
                 enroll --replace`, with a token from `vaultctl agent token`), or have the operator \
                 issued a new one",
            )
        })?;
        if registered.revoked_at.is_some() {
            return Err(refused(format!("{} is revoked", peer.spiffe_id)));
        }
        if registered.not_after <= self.clock.now() {
            return Err(refused(format!("{} ended {}", peer.spiffe_id, registered.not_after)));
        }
        if let Identity::Agent(name) = peer.spiffe_id.identity() {
            let agent = self.store.agent(name).await?;
            if agent.is_none_or(|agent| agent.status != AgentStatus::Active) {
                return Err(refused(format!("agent {name} is not active")));
            }
        }
        Ok(Principal::Spiffe(peer.spiffe_id))
    }
}
