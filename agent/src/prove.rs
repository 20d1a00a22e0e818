//! A real handshake with the web server: the new leaf is served by who has its key, or it is not.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable as _};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::Check;
use crate::error::{Error, Result};

/// How long one handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How often in a row the new leaf must be seen, and how far apart: while a web server replaces its
/// workers, old and new ones answer side by side (nginx: for a tenth of a second and more).
const IN_A_ROW: u32 = 5;
/// See [`IN_A_ROW`].
const APART: Duration = Duration::from_millis(50);

/// Waits until `leaf` and no other is what the web server shows, trying until the check's timeout:
/// a reload takes its time.
///
/// # Errors
/// `Verification` with what was seen instead.
pub async fn serves(check: &Check, leaf: &[u8]) -> Result<()> {
    let schedule = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(1))
        .with_total_delay(Some(check.timeout))
        .without_max_times()
        .with_jitter();
    let once = || async {
        for handshake in 0..IN_A_ROW {
            if handshake > 0 {
                tokio::time::sleep(APART).await;
            }
            if leaf_of(check.address, &check.server_name).await? != leaf {
                let subject = format!("{} ({})", check.address, check.server_name);
                return Err(Error::verification("prove", subject, "another certificate is served"));
            }
        }
        Ok(())
    };
    once.retry(schedule).await
}

/// The leaf that a server shows for a name, after it has proven to have its key.
///
/// # Errors
/// `Unavailable` where there is no handshake.
pub async fn leaf_of(address: SocketAddr, name: &str) -> Result<Vec<u8>> {
    let failed = |why: String| {
        Error::unavailable("handshake", format!("{address} ({name})"), why)
            .hint("check that the web server runs and [install.check]")
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let seen = Arc::new(Seen { provider: provider.clone(), leaf: Mutex::default() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    // A resumed handshake shows no certificate.
    config.resumption = Resumption::disabled();
    let server = ServerName::try_from(name.to_owned()).map_err(|e| failed(e.to_string()))?;
    let shake = async {
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(server, stream).await
    };
    match tokio::time::timeout(HANDSHAKE, shake).await {
        Ok(Ok(_)) => {
            let leaf = seen.leaf.lock().unwrap_or_else(PoisonError::into_inner).clone();
            leaf.ok_or_else(|| failed("it showed no certificate".to_owned()))
        }
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no handshake within {HANDSHAKE:?}"))),
    }
}

/// Takes any certificate, whose chain the vault has checked, and checks that the server has its
/// key. Which certificate it is, is the question.
#[derive(Debug)]
struct Seen {
    provider: Arc<CryptoProvider>,
    leaf: Mutex<Option<Vec<u8>>>,
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut leaf = self.leaf.lock().unwrap_or_else(PoisonError::into_inner);
        *leaf = Some(end_entity.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
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
