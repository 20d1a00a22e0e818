//! A gRPC client without the comfort of `vaultctl`: any certificate or none, any call.

use std::{fs, io, net::SocketAddr, path::Path, sync::Arc};

use hyper_util::rt::TokioIo;
use prost::Message as _;
use rustls::{ClientConfig, RootCertStore, client::Resumption};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint, Error},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use vault_proto::{
    frames::{AgentEnd, Frames},
    local::{ALPN_H2, ALPN_TLS_SIGN, VAULT_SERVER_NAME},
    v1,
};

use crate::agent::Agent;
use crate::process::PATIENCE;
use crate::vault::Vault;

/// A client certificate's chain and key, PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The chain, leaf first.
    pub chain: String,
    /// The leaf's key.
    pub key: String,
}

impl Certificate {
    /// The one in a directory, as `vaultctl operator issue` writes it.
    ///
    /// # Panics
    /// Where there is none.
    pub fn of(dir: &Path) -> Self {
        let read = |name: &str| fs::read_to_string(dir.join(name)).expect("a certificate's file");
        Self { chain: read("cert.pem"), key: read("key.pem") }
    }

    /// One that a vault issues to somebody of this role, and its root, PEM.
    ///
    /// # Panics
    /// Where it does not.
    pub fn issued(vault: &Vault, name: &str, role: &str) -> (Self, String) {
        let dir = vault.issue(name, role);
        let root = fs::read_to_string(dir.join("ca.pem")).expect("the vault's root");
        (Self::of(&dir), root)
    }

    /// An enrolled agent's, and the vault's root, PEM.
    ///
    /// # Panics
    /// Where it has none.
    pub fn of_agent(agent: &Agent) -> (Self, String) {
        let identity = agent.identity();
        let (key, certificates) = identity.split_once("-----BEGIN CERT").expect("certificates");
        let certificates = format!("-----BEGIN CERT{certificates}");
        let root = certificates.rfind("-----BEGIN CERT").expect("a root");
        let (chain, root) = certificates.split_at(root);
        (Self { chain: chain.to_owned(), key: key.to_owned() }, root.to_owned())
    }
}

fn endpoint() -> Endpoint {
    Endpoint::from_static("http://vault.internal")
}

/// Connects to a vault's admin socket.
///
/// # Errors
/// Where nobody listens.
pub async fn local(socket: &Path) -> Result<Channel, Error> {
    let socket = socket.to_owned();
    let connect = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    endpoint().connect_with_connector(connect).await
}

/// Connects to a vault by TLS, with a client certificate or without one; the server must have a
/// certificate of `root`, PEM. A certificate that the vault refuses may show at the first call only,
/// as TLS 1.3 has it.
///
/// # Errors
/// Where there is no handshake.
///
/// # Panics
/// Where a certificate is malformed.
pub async fn network(
    address: SocketAddr,
    root: &str,
    certificate: Option<&Certificate>,
) -> Result<Channel, Error> {
    let config = Arc::new(config(root, certificate, ALPN_H2));
    let connect = tower::service_fn(move |_: http::Uri| {
        let config = config.clone();
        async move { shake_hands(address, config).await.map(TokioIo::new) }
    });
    endpoint().connect_with_connector(connect).await
}

/// Connects to a vault for signatures, as an agent does for its web servers: what the vault says first is
/// still to be read.
///
/// # Errors
/// Where there is no handshake.
///
/// # Panics
/// Where a certificate is malformed.
pub async fn for_signatures(
    address: SocketAddr,
    root: &str,
    certificate: Option<&Certificate>,
) -> io::Result<AgentEnd<TlsStream<TcpStream>>> {
    let config = Arc::new(config(root, certificate, ALPN_TLS_SIGN));
    Ok(AgentEnd::new(shake_hands(address, config).await?, Frames::default()))
}

async fn shake_hands(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(VAULT_SERVER_NAME).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}

fn config(root: &str, certificate: Option<&Certificate>, protocol: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).expect("a root")).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(Certificate { chain, key }) => {
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(chain.expect("a chain"), key).expect("a certificate")
        }
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// Every method of the contract, as a path: no test forgets one.
///
/// # Panics
/// Where the contract is malformed.
pub fn methods() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(v1::FILE_DESCRIPTOR_SET).expect("a contract");
    let mut paths = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let base = format!("/{}.{}", file.package(), service.name());
            paths.extend(service.method.iter().map(|method| format!("{base}/{}", method.name())));
        }
    }
    assert!(paths.len() > 30, "{paths:?}");
    paths
}

/// Calls a method with an empty message, which is a message of every type.
///
/// # Errors
/// What the vault answers.
///
/// # Panics
/// Where it cannot be reached.
pub async fn call(channel: &Channel, path: &str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.expect("a vault");
    let mut request = Request::new(());
    request.set_timeout(PATIENCE);
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    client.unary(request, path.parse().expect("a path"), codec).await.map(drop)
}

/// What gRPC health says of a vault.
///
/// # Panics
/// Where it does not answer.
pub fn health(vault: &Vault) -> ServingStatus {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let channel = local(&vault.file("admin.sock")).await.expect("the admin socket");
        let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
        answer.expect("gRPC health").into_inner().status()
    })
}
