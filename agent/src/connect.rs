//! Connections to a vault: TLS 1.3, its root pinned, the agent's certificate shown.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use vault_proto::{
    frames::{self, AgentEnd, Frames},
    local::{ALPN_H2, ALPN_TLS_SIGN, VAULT_SERVER_NAME},
};

use crate::error::{Error, Result};
use crate::identity::Identity;

/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(10);

/// SHA-256 over the DER of the vault's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl std::str::FromStr for Fingerprint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("sha256:").ok_or("it must begin with sha256:")?;
        let bytes = hex::decode(digits).map_err(|e| e.to_string())?;
        bytes.try_into().map(Self).map_err(|_| "it must have 64 hexadecimal digits".to_owned())
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn broken(e: impl std::fmt::Display) -> Error {
    Error::local("set up", "TLS", e)
}

/// TLS towards the vault that the agent is enrolled with, for calls.
///
/// # Errors
/// Where the root is malformed.
pub fn enrolled(identity: &Arc<Identity>) -> Result<Arc<ClientConfig>> {
    towards(identity, ALPN_H2)
}

fn towards(identity: &Arc<Identity>, protocol: &[u8]) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.root()).map_err(broken)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(broken)?
        .with_root_certificates(roots)
        .with_client_cert_resolver(identity.clone());
    finish(&mut config, protocol);
    Ok(Arc::new(config))
}

/// TLS towards a vault of which only the root's fingerprint is known.
///
/// # Errors
/// Where TLS cannot be set up.
pub fn pinned(fingerprint: Fingerprint) -> Result<Arc<ClientConfig>> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(broken)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { fingerprint, provider: provider() }))
        .with_no_client_auth();
    finish(&mut config, ALPN_H2);
    Ok(Arc::new(config))
}

fn finish(config: &mut ClientConfig, protocol: &[u8]) {
    config.alpn_protocols = vec![protocol.to_vec()];
    // A resumed session would keep an identity that was replaced.
    config.resumption = Resumption::disabled();
}

/// Opens a channel to `HOST:PORT`.
///
/// # Errors
/// `Unavailable` where nobody answers, `Verification` where it is not the vault, `Denied` where
/// the vault does not take the agent's certificate.
pub async fn open(address: &str, tls: Arc<ClientConfig>) -> Result<Channel> {
    let connector = TlsConnector::from(tls);
    let target = address.to_owned();
    let connect = tower::service_fn(move |_: http::Uri| {
        let (connector, target) = (connector.clone(), target.clone());
        async move { shake_hands(&connector, &target).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://vault.internal")
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    let opened = tokio::time::timeout(CONNECT, endpoint.connect_with_connector(connect)).await;
    match opened {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(refused(address, &error)),
        Err(_) => Err(Error::unavailable("connect", format!("vault {address}"), "no answer")),
    }
}

/// Opens a connection to `HOST:PORT` for signatures, as this agent.
///
/// # Errors
/// Those of [`open`].
pub async fn open_for_signatures(
    address: &str,
    identity: &Arc<Identity>,
) -> Result<AgentEnd<TlsStream<TcpStream>>> {
    let connector = TlsConnector::from(towards(identity, ALPN_TLS_SIGN)?);
    let stream = shake_hands(&connector, address).await.map_err(|e| refused(address, &e))?;
    frames::notice_loss(stream.get_ref().0).map_err(|e| refused(address, &e))?;
    Ok(AgentEnd::new(stream, Frames::default()))
}

async fn shake_hands(connector: &TlsConnector, target: &str) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(VAULT_SERVER_NAME).map_err(io::Error::other)?;
    connector.connect(name, stream).await
}

/// What a failed connection means; the cause is deep inside.
fn refused(address: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    let subject = format!("vault {address}");
    let (mut source, mut why) = (Some(error), String::new());
    while let Some(cause) = source {
        why = cause.to_string();
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && let Some(tls) = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            return match tls {
                rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                    Error::unavailable("connect", subject, tls)
                        .hint("this vaultd and this agent are of different versions: upgrade both")
                }
                rustls::Error::AlertReceived(_) => {
                    Error::new(crate::error::ErrorKind::Denied, "connect", subject, tls)
                        .hint("the vault does not take this agent's certificate: enrol anew")
                }
                _ => Error::verification("connect", subject, tls)
                    .hint("this is not the vault that the agent knows: check address and CA"),
            };
        }
        source = cause.source();
    }
    Error::unavailable("connect", subject, why).hint("check that vaultd runs and [vault] addresses")
}

/// Takes a server whose chain ends in the root with the pinned fingerprint.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refuse = |why: String| rustls::Error::General(why);
        let (root, between) = intermediates
            .split_last()
            .ok_or_else(|| refuse("the server does not show its root".to_owned()))?;
        let shown = Fingerprint(Sha256::digest(root).into());
        if shown != self.fingerprint {
            return Err(refuse(format!(
                "the server's root has the fingerprint {shown}, not {}",
                self.fingerprint
            )));
        }
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        let known =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone());
        let known = known.build().map_err(|e| refuse(e.to_string()))?;
        known.verify_server_cert(end_entity, between, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("a vault speaks TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
