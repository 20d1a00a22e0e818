//! Private keys of custody `agent`: born here, never sent. What travels is their CSR.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD as B64};
use futures_util::{StreamExt as _, stream};
use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PublicKeyData as _, RsaKeySize, SanType,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, transport::Channel};
use vault_proto::v1::{
    self, agent_session_service_client::AgentSessionServiceClient, resource_report::Resource,
};
use zeroize::Zeroizing;

use crate::blocking;
use crate::config::Config;
use crate::desired::{Exchange, Report};
use crate::durable;
use crate::error::{Error, ErrorKind, Result};

/// How long the vault may take to accept a CSR.
const DEADLINE: Duration = Duration::from_secs(30);
/// CSRs that are made and handed in at once.
const AT_ONCE: usize = 4;
/// How soon a CSR that could not be handed in is tried again.
const AGAIN: Duration = Duration::from_secs(15);
/// id-pe-tlsfeature (RFC 7633 section 4).
const TLS_FEATURE: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 24];
/// SEQUENCE { INTEGER 5 }: status_request.
const STATUS_REQUEST: &[u8] = &[0x30, 0x03, 0x02, 0x01, 0x05];

/// A private key and the public key that a chain's leaf must have.
#[derive(Clone)]
pub struct LocalKey {
    /// PKCS#8, PEM.
    pub pem: Zeroizing<String>,
    /// SubjectPublicKeyInfo, DER.
    pub spki_der: Vec<u8>,
}

/// A key that waits for its certificate, with the order it was made for.
#[derive(Serialize, Deserialize)]
struct Pending {
    order_id: String,
    key_pem: Zeroizing<String>,
    /// Base64 of DER: the same order always gets the same request.
    csr: String,
}

impl LocalKey {
    /// Reads PKCS#8 PEM.
    ///
    /// # Errors
    /// `Invalid` where it is none.
    pub fn parse(pem: Zeroizing<String>) -> Result<Self> {
        let pair =
            KeyPair::from_pem(&pem).map_err(|e| Error::invalid("read", "a private key", e))?;
        Ok(Self { spki_der: pair.subject_public_key_info(), pem })
    }
}

/// Where what belongs to one certificate is kept.
pub fn directory(state_dir: &Path, certificate: &str) -> PathBuf {
    state_dir.join("certificates").join(certificate)
}

fn pending_file(state_dir: &Path, certificate: &str) -> PathBuf {
    directory(state_dir, certificate).join("pending.json")
}

/// The key that waits for its certificate.
///
/// # Errors
/// Where the state directory is damaged.
pub fn pending(state_dir: &Path, certificate: &str) -> Result<Option<LocalKey>> {
    let pending: Option<Pending> = durable::read_json(&pending_file(state_dir, certificate))?;
    pending.map(|pending| LocalKey::parse(pending.key_pem)).transpose()
}

/// Forgets the waiting key once it is the installed one. A power loss may bring it back, which does no harm.
///
/// # Errors
/// Where the state directory cannot be written.
pub fn forget_pending(state_dir: &Path, certificate: &str) -> Result<()> {
    durable::unlink(&pending_file(state_dir, certificate)).map(drop)
}

fn generate(algorithm: v1::KeyAlgorithm) -> Result<KeyPair, rcgen::Error> {
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
    match algorithm {
        v1::KeyAlgorithm::Unspecified | v1::KeyAlgorithm::EcP256 => {
            KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        }
        v1::KeyAlgorithm::EcP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        v1::KeyAlgorithm::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
        v1::KeyAlgorithm::Rsa2048 => rsa(RsaKeySize::_2048),
        v1::KeyAlgorithm::Rsa3072 => rsa(RsaKeySize::_3072),
        v1::KeyAlgorithm::Rsa4096 => rsa(RsaKeySize::_4096),
    }
}

/// The CSR for an order: made with a new key the first time, the same one after that.
fn csr(state_dir: &Path, certificate: &str, wanted: &v1::CsrWanted) -> Result<Vec<u8>> {
    let subject = || format!("the CSR of certificate {certificate}");
    let failed = |e: rcgen::Error| Error::local("make", subject(), e);
    let path = pending_file(state_dir, certificate);
    if let Some(pending) = durable::read_json::<Pending>(&path)?
        && pending.order_id == wanted.order_id
    {
        return B64.decode(pending.csr).map_err(|e| Error::local("read", subject(), e));
    }
    let key = generate(wanted.algorithm()).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for domain in &wanted.domains {
        let name = domain.as_str().try_into().map_err(failed)?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    for ip in &wanted.ips {
        let address: IpAddr = ip.parse().map_err(|e| Error::invalid("make", subject(), e))?;
        params.subject_alt_names.push(SanType::IpAddress(address));
    }
    if wanted.must_staple {
        let feature =
            rcgen::CustomExtension::from_oid_content(TLS_FEATURE, STATUS_REQUEST.to_vec());
        params.custom_extensions.push(feature);
    }
    let request = params.serialize_request(&key).map_err(failed)?.der().to_vec();
    durable::create_dir(&directory(state_dir, certificate))?;
    let pending = Pending {
        order_id: wanted.order_id.clone(),
        key_pem: Zeroizing::new(key.serialize_pem()),
        csr: B64.encode(&request),
    };
    // Durable before the vault hears of it: a certificate for a key that is lost is worth nothing.
    durable::write_json(&path, &pending)?;
    Ok(request)
}

/// Hands in the CSRs that the vault waits for, until `stop`; says so where one cannot be made.
pub async fn run(
    config: Arc<Config>,
    mut exchange: Exchange,
    mut channel: watch::Receiver<Option<Channel>>,
    stop: CancellationToken,
) {
    let mut waiting: BTreeMap<String, Waiting> = BTreeMap::new();
    let mut seen = 0;
    loop {
        let desired = exchange.desired.borrow_and_update().clone();
        for (name, wanted) in desired.certificates.since(seen) {
            match wanted.filter(|wanted| wanted.csr_wanted.is_some()) {
                Some(wanted) => {
                    let before = waiting.remove(name);
                    waiting.insert(name.to_owned(), Waiting::after(before, wanted));
                }
                None => drop(waiting.remove(name)),
            }
        }
        seen = desired.certificates.revision();
        let connected = channel.borrow_and_update().clone();
        let connection = desired.connection;
        let asked = waiting.values_mut().filter(|waiting| !waiting.handed_in);
        let asked = asked.map(|waiting| waiting.hand_in(&config, connected.clone(), connection));
        let asked: Vec<_> = asked.collect();
        let refused: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        for report in refused.into_iter().flatten() {
            if exchange.reports.send(Report { connection, report }).await.is_err() {
                return;
            }
        }
        let again = waiting.values().any(|waiting| !waiting.handed_in);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = exchange.desired.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if again => {}
        }
    }
}

/// A certificate whose order waits for a CSR.
struct Waiting {
    wanted: Arc<v1::WantedCertificate>,
    handed_in: bool,
    /// The connection on which was last said that there will be none.
    refused: Option<u64>,
}

impl Waiting {
    /// What was done for the same order is done.
    fn after(before: Option<Self>, wanted: &Arc<v1::WantedCertificate>) -> Self {
        let order = |wanted: &v1::WantedCertificate| {
            wanted.csr_wanted.as_ref().map(|csr| csr.order_id.clone())
        };
        let same = before.filter(|before| order(&before.wanted) == order(wanted));
        let (handed_in, refused) = same.map_or((false, None), |b| (b.handed_in, b.refused));
        Self { wanted: wanted.clone(), handed_in, refused }
    }

    /// Hands it in; what is to be said where that will not do.
    async fn hand_in(
        &mut self,
        config: &Arc<Config>,
        connected: Option<Channel>,
        connection: u64,
    ) -> Option<v1::ResourceReport> {
        let certificate = &self.wanted;
        let request = certificate.csr_wanted.clone()?;
        let Err(error) = hand_in(config, &certificate.name, request, connected).await else {
            self.handed_in = true;
            return None;
        };
        tracing::warn!(certificate = certificate.name, %error, hint = error.hint,
            "the CSR was not handed in");
        let known = self.refused == Some(connection);
        if error.kind == ErrorKind::Unavailable || known {
            return None;
        }
        self.refused = Some(connection);
        Some(nack(certificate, error.to_string()))
    }
}

/// There will be no next version as things are; what is held stays.
fn nack(certificate: &v1::WantedCertificate, detail: String) -> v1::ResourceReport {
    v1::ResourceReport {
        resource: Some(Resource::Certificate(certificate.name.clone())),
        version: certificate.version,
        outcome: v1::Outcome::Failed.into(),
        detail,
    }
}

async fn hand_in(
    config: &Arc<Config>,
    name: &str,
    wanted: v1::CsrWanted,
    channel: Option<Channel>,
) -> Result<()> {
    let subject = || format!("the CSR of certificate {name}");
    let install = config.install.iter().find(|install| install.certificate.as_str() == name);
    if install.is_none_or(|install| install.key.is_none()) {
        let why = "agent.toml has no [[install]] with a key for it";
        return Err(Error::invalid("make", subject(), why)
            .hint("add certificate, chain and key to agent.toml"));
    }
    let channel =
        channel.ok_or_else(|| Error::unavailable("hand in", subject(), "there is no vault now"))?;
    let order_id = wanted.order_id.clone();
    let (state_dir, certificate) = (config.state_dir.clone(), name.to_owned());
    let csr_der = blocking(move || csr(&state_dir, &certificate, &wanted)).await?;
    let certificate = name.to_owned();
    let mut request = Request::new(v1::SubmitCsrRequest { certificate, order_id, csr_der });
    request.set_timeout(DEADLINE);
    AgentSessionServiceClient::new(channel).submit_csr(request).await?;
    tracing::info!(certificate = name, "CSR handed in");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn wanted(order: &str) -> v1::CsrWanted {
        v1::CsrWanted {
            order_id: order.to_owned(),
            algorithm: v1::KeyAlgorithm::EcP256.into(),
            domains: vec!["a.example".to_owned()],
            ips: vec!["192.0.2.1".to_owned()],
            must_staple: true,
        }
    }

    #[test]
    fn an_order_has_one_request_and_a_new_order_a_new_key() {
        let state = tempfile::tempdir().unwrap();
        let first = csr(state.path(), "shop", &wanted("1")).unwrap();
        assert_eq!(csr(state.path(), "shop", &wanted("1")).unwrap(), first);
        let key = pending(state.path(), "shop").unwrap().unwrap();
        csr(state.path(), "shop", &wanted("2")).unwrap();
        assert_ne!(pending(state.path(), "shop").unwrap().unwrap().spki_der, key.spki_der);
    }

    #[test]
    fn a_waiting_key_is_for_the_agent_alone() {
        let state = tempfile::tempdir().unwrap();
        csr(state.path(), "shop", &wanted("1")).unwrap();
        let meta = std::fs::metadata(pending_file(state.path(), "shop")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    }
}
