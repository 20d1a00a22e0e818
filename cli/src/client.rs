//! The channel to the vault and its services.

use std::{fs, path::Path, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};
use vault_proto::{
    error::ErrorKind,
    local::{ALPN_H2, VAULT_SERVER_NAME},
    v1::{
        account_service_client::AccountServiceClient, agent_service_client::AgentServiceClient,
        audit_service_client::AuditServiceClient, backup_service_client::BackupServiceClient,
        certificate_service_client::CertificateServiceClient,
        drill_service_client::DrillServiceClient, kek_service_client::KekServiceClient,
        key_service_client::KeyServiceClient, restore_service_client::RestoreServiceClient,
        system_service_client::SystemServiceClient,
    },
};

use crate::error::{Error, Result};
use crate::profile::{Profile, Target};

/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one call may take. Long enough for what waits for a CA.
const CALL: Duration = Duration::from_secs(180);
/// The longest answer, in bytes: a list of a million.
const LONGEST_ANSWER: usize = 1 << 30;

/// An open channel.
#[derive(Clone)]
pub struct Client(Channel);

/// A request with the deadline that every call has.
pub fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    request
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// `Unavailable` where nobody answers, `Denied` where the vault refuses the certificate,
    /// `Verification` where it is not the vault, `Invalid` where a file is wrong.
    pub async fn connect(target: &Target) -> Result<Self> {
        match target {
            Target::Socket(path) => local(path).await,
            Target::Network(profile) => network(profile).await,
        }
        .map(Self)
    }

    /// Keys.
    pub fn keys(&self) -> KeyServiceClient<Channel> {
        KeyServiceClient::new(self.0.clone()).max_decoding_message_size(LONGEST_ANSWER)
    }
    /// Accounts.
    pub fn accounts(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(self.0.clone()).max_decoding_message_size(LONGEST_ANSWER)
    }
    /// Certificates.
    pub fn certificates(&self) -> CertificateServiceClient<Channel> {
        CertificateServiceClient::new(self.0.clone()).max_decoding_message_size(LONGEST_ANSWER)
    }
    /// Agents.
    pub fn agents(&self) -> AgentServiceClient<Channel> {
        AgentServiceClient::new(self.0.clone()).max_decoding_message_size(LONGEST_ANSWER)
    }
    /// The audit log.
    pub fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.0.clone())
    }
    /// The KEK and its shares.
    pub fn keks(&self) -> KekServiceClient<Channel> {
        KekServiceClient::new(self.0.clone())
    }
    /// Backups.
    pub fn backups(&self) -> BackupServiceClient<Channel> {
        BackupServiceClient::new(self.0.clone())
    }
    /// A backup back into a vault.
    pub fn restores(&self) -> RestoreServiceClient<Channel> {
        RestoreServiceClient::new(self.0.clone())
    }
    /// Drills on record.
    pub fn drills(&self) -> DrillServiceClient<Channel> {
        DrillServiceClient::new(self.0.clone())
    }
    /// The vault itself.
    pub fn system(&self) -> SystemServiceClient<Channel> {
        SystemServiceClient::new(self.0.clone())
    }
}

fn endpoint() -> Endpoint {
    Endpoint::from_static("http://vault.internal").connect_timeout(CONNECT)
}

async fn local(path: &Path) -> Result<Channel> {
    let subject = format!("socket {}", path.display());
    let path = path.to_owned();
    let connect = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    endpoint().connect_with_connector(connect).await.map_err(|e| {
        Error::new(ErrorKind::Unavailable, "connect", subject, innermost(&e))
            .hint("check that vaultd runs and [listen] admin_socket in vault.toml")
    })
}

async fn network(profile: &Profile) -> Result<Channel> {
    let connector = TlsConnector::from(Arc::new(tls(profile)?));
    let address = profile.address.clone();
    let connect = tower::service_fn(move |_: http::Uri| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(VAULT_SERVER_NAME).map_err(std::io::Error::other)?;
            let mut stream = connector.connect(name, stream).await?;
            // In TLS 1.3 a server refuses a client's certificate after the client's handshake is
            // over: its alert is read here, where its meaning is still known.
            refused_late(&mut stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let opened = tokio::time::timeout(CONNECT, endpoint().connect_with_connector(connect)).await;
    let subject = format!("vault {}", profile.address);
    match opened {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(explain(subject, &error)),
        Err(_) => Err(Error::new(ErrorKind::Unavailable, "connect", subject, "no answer")),
    }
}

/// Waits for the server's first bytes, its HTTP/2 settings, without taking them.
async fn refused_late(
    stream: &mut tokio_rustls::client::TlsStream<TcpStream>,
) -> std::io::Result<()> {
    use tokio::io::AsyncBufReadExt as _;
    match tokio::time::timeout(CONNECT, stream.fill_buf()).await {
        Ok(Ok(_)) | Err(_) => Ok(()),
        Ok(Err(error)) => Err(error),
    }
}

fn explain(subject: String, error: &(dyn std::error::Error + 'static)) -> Error {
    let mut source = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && let Some(tls) = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            return match tls {
                rustls::Error::AlertReceived(_) => {
                    Error::new(ErrorKind::Unauthenticated, "connect", subject, tls).hint(
                        "the vault does not take this client certificate: it is expired, revoked \
                         or of another vault; ask for a new one (`vaultctl operator issue`)",
                    )
                }
                _ => Error::new(ErrorKind::Verification, "connect", subject, tls)
                    .hint("this is not the vault of the profile: check its address and ca"),
            };
        }
        source = cause.source();
    }
    Error::new(ErrorKind::Unavailable, "connect", subject, innermost(error))
        .hint("check that vaultd runs and the profile's address")
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn tls(profile: &Profile) -> Result<ClientConfig> {
    let bad = |path: &Path, why: String| Error::invalid("read", path.display().to_string(), why);
    let read = |path: &Path| fs::read(path).map_err(|e| bad(path, e.to_string()));
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&read(&profile.ca)?) {
        let root = root.map_err(|e| bad(&profile.ca, e.to_string()))?;
        roots.add(root).map_err(|e| bad(&profile.ca, e.to_string()))?;
    }
    let empty = || "it has no certificate in PEM".to_owned();
    if roots.is_empty() {
        return Err(bad(&profile.ca, empty()));
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(&profile.cert)?).collect();
    let chain = chain.map_err(|e| bad(&profile.cert, e.to_string()))?;
    if chain.is_empty() {
        return Err(bad(&profile.cert, empty()));
    }
    let key = zeroize::Zeroizing::new(read(&profile.key)?);
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|e| bad(&profile.key, e.to_string()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| Error::local("set up", "TLS", e))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| bad(&profile.cert, e.to_string()))?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
