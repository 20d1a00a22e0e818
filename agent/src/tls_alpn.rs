//! TLS-ALPN-01 challenges (RFC 8737): a listener of the agent's own that shows a challenge's certificate
//! to whoever offers `acme-tls/1` and asks for its name, and nothing to anybody else.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use vault_proto::v1;

use crate::desired::Challenges;
use crate::error::{Error, Result};

/// RFC 8737 section 6.2.
const PROTOCOL: &[u8] = b"acme-tls/1";
/// Handshakes at once.
const CONNECTIONS: usize = 64;
/// How long one may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Shows challenges' certificates. Cheap to clone.
#[derive(Clone)]
pub struct Responder(Arc<Shown>);

/// What is shown, by token.
#[derive(Debug, Default)]
struct Shown(ArcSwap<BTreeMap<String, Answer>>);

#[derive(Debug, Clone)]
struct Answer {
    /// The name that is asked for (RFC 6066 section 3).
    server_name: String,
    certificate: Arc<CertifiedKey>,
}

impl Responder {
    /// Binds the listener and answers until `stop`.
    ///
    /// # Errors
    /// `Unavailable` where the address is taken.
    pub async fn new(address: SocketAddr, stop: CancellationToken) -> Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(|e| {
            Error::unavailable("listen", address.to_string(), e)
                .hint("check [tls_alpn01] listen in agent.toml; port 443 needs a capability")
        })?;
        let shown = Arc::new(Shown::default());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::local("listen", address.to_string(), e))?
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), stop));
        Ok(Self(shown))
    }

    /// Shows a challenge, by a certificate for a key of its own that lives in memory only.
    ///
    /// # Errors
    /// `Invalid` where it names nothing that a certificate could be for.
    pub fn present(&self, challenge: &v1::WantedChallenge) -> Result<()> {
        let subject = || format!("the challenge for {}", challenge.identifier);
        let certificate = certificate(challenge)
            .map_err(|why| Error::invalid("present", subject(), why.to_string()))?;
        let answer = Answer {
            server_name: server_name(&challenge.identifier),
            certificate: certificate.into(),
        };
        self.0.0.rcu(|now| {
            let mut more = BTreeMap::clone(now);
            more.insert(challenge.token.clone(), answer.clone());
            more
        });
        Ok(())
    }

    /// Ends showing whatever is not wanted any more.
    pub fn keep_only(&self, wanted: &Challenges) {
        self.0.0.rcu(|now| {
            let mut kept = BTreeMap::clone(now);
            kept.retain(|token, _| wanted.contains_key(token));
            kept
        });
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // RFC 8737 section 3: this protocol and no other.
        let mut offered = hello.alpn()?;
        if offered.next() != Some(PROTOCOL) || offered.next().is_some() {
            return None;
        }
        let name = hello.server_name()?;
        let shown = self.0.load();
        let found = shown.values().find(|answer| answer.server_name.eq_ignore_ascii_case(name));
        found.map(|answer| answer.certificate.clone())
    }
}

/// RFC 8737 section 3: one name, and in a critical extension the digest of the key authorization.
fn certificate(
    challenge: &v1::WantedChallenge,
) -> std::result::Result<CertifiedKey, Box<dyn std::error::Error>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![challenge.identifier.clone()])?;
    params.distinguished_name = DistinguishedName::new();
    let digest = Sha256::digest(challenge.key_authorization.as_bytes());
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = aws_lc_rs::default_provider().key_provider.load_private_key(key)?;
    // Unchecked: the critical extension, which is the point of it, is unknown to who would check.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// The name that a CA asks for: of an address the one in `.arpa` (RFC 8738 section 6).
fn server_name(identifier: &str) -> String {
    match identifier.parse() {
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Ok(IpAddr::V6(address)) => {
            let nibbles = hex::encode(address.octets());
            let labels: String = nibbles.chars().rev().flat_map(|nibble| [nibble, '.']).collect();
            format!("{labels}ip6.arpa")
        }
        Err(_) => identifier.to_owned(),
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // The handshake is the whole answer (RFC 8737 section 3).
            let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
            if let Ok(Err(error)) = shaken {
                tracing::debug!(%error, "nobody who asks for a challenge");
            }
            drop(slot);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_by_its_name_in_arpa() {
        for (identifier, name) in [
            ("shop.example", "shop.example".to_owned()),
            ("192.0.2.1", "1.2.0.192.in-addr.arpa".to_owned()),
            ("2001:db8::1", format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23))),
        ] {
            assert_eq!(server_name(identifier), name);
        }
    }
}
