//! A vault that somebody has taken over: it enrols whoever comes and then says what a test wants,
//! true or not. The agent on the other end is the real one.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use der::Decode as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{mpsc, watch},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};
use vault_proto::{
    local::{ALPN_H2, VAULT_SERVER_NAME},
    v1::{
        self,
        agent_message::Message,
        agent_session_service_server::{AgentSessionService, AgentSessionServiceServer},
    },
};

/// A running vault of that kind; gone when dropped.
pub struct FakeVault {
    /// Where it listens.
    pub address: SocketAddr,
    /// The fingerprint of its root.
    pub fingerprint: String,
    parts: Parts,
    _runtime: Runtime,
}

#[derive(Clone)]
struct Parts {
    authority: Arc<CertifiedIssuer<'static, KeyPair>>,
    said: Arc<watch::Sender<Vec<v1::VaultMessage>>>,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    reports: Vec<v1::ResourceReport>,
    csrs: Vec<v1::SubmitCsrRequest>,
}

impl FakeVault {
    /// Starts it with a CA of its own.
    ///
    /// # Panics
    /// Where it cannot listen.
    pub fn start() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(DnType::CommonName, "A vault that was taken over");
        let authority = CertifiedIssuer::self_signed(root, key).expect("root");
        let fingerprint = format!("sha256:{}", hex::encode(Sha256::digest(authority.der())));
        let parts = Parts {
            authority: Arc::new(authority),
            said: Arc::new(watch::Sender::new(Vec::new())),
            heard: Arc::default(),
        };
        let runtime = Runtime::new().expect("runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("listener");
        let address = listener.local_addr().expect("address");
        runtime.spawn(serve(listener, parts.clone()));
        Self { address, fingerprint, parts, _runtime: runtime }
    }

    /// Says something to every agent that is connected or will be.
    pub fn say(&self, message: v1::VaultMessage) {
        self.parts.said.send_modify(|said| said.push(message));
    }

    /// What agents have reported so far.
    pub fn reports(&self) -> Vec<v1::ResourceReport> {
        self.parts.heard.lock().expect("heard").reports.clone()
    }

    /// The CSRs that agents have handed in so far.
    pub fn csrs(&self) -> Vec<v1::SubmitCsrRequest> {
        self.parts.heard.lock().expect("heard").csrs.clone()
    }

    /// A chain for `name` and the key of a CSR, PEM.
    ///
    /// # Panics
    /// Where it is no CSR for a P-256 key.
    pub fn chain(&self, name: &str, csr_der: &[u8]) -> String {
        let leaf = self.parts.leaf(SanType::DnsName(name.try_into().expect("name")), csr_der);
        format!("{}{}", leaf.pem(), self.parts.authority.pem())
    }
}

/// A CSR for a fresh P-256 key that nobody keeps, DER.
///
/// # Panics
/// Where there are no random numbers.
pub fn foreign_csr() -> Vec<u8> {
    let key = KeyPair::generate().expect("key");
    let request = CertificateParams::default().serialize_request(&key).expect("CSR");
    request.der().to_vec()
}

/// A P-256 public key.
struct PublicKey(Vec<u8>);

impl rcgen::PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl Parts {
    fn leaf(&self, name: SanType, csr_der: &[u8]) -> rcgen::Certificate {
        let csr = x509_cert::request::CertReq::from_der(csr_der).expect("CSR");
        let key = csr.info.public_key.subject_public_key;
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(name);
        let usages = [ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.extended_key_usages.extend(usages);
        params.signed_by(&PublicKey(key.raw_bytes().to_vec()), &*self.authority).expect("leaf")
    }

    fn identity(&self, csr_der: &[u8]) -> v1::IdentityResponse {
        let spiffe_id = "spiffe://test.example/agent/web1";
        let leaf = self.leaf(SanType::URI(spiffe_id.try_into().expect("URI")), csr_der);
        v1::IdentityResponse {
            chain_pem: leaf.pem(),
            ca_pem: self.authority.pem(),
            name: "web1".to_owned(),
            spiffe_id: spiffe_id.to_owned(),
            server_name: VAULT_SERVER_NAME.to_owned(),
        }
    }
}

async fn serve(listener: TcpListener, parts: Parts) {
    let acceptor = acceptor(&parts);
    let (sender, connections) = mpsc::channel::<std::io::Result<TlsStream<TcpStream>>>(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A failed handshake is the agent's right.
            if let Ok(stream) = acceptor.accept(stream).await
                && sender.send(Ok(stream)).await.is_err()
            {
                return;
            }
        }
    });
    let service = AgentSessionServiceServer::new(parts);
    let server = Server::builder().add_service(service);
    server.serve_with_incoming(ReceiverStream::new(connections)).await.expect("server");
}

fn acceptor(parts: &Parts) -> TlsAcceptor {
    let key = KeyPair::generate().expect("key");
    let params = CertificateParams::new(vec![VAULT_SERVER_NAME.to_owned()]).expect("name");
    let leaf = params.signed_by(&key, &*parts.authority).expect("server certificate");
    let chain = vec![leaf.der().clone(), parts.authority.der().clone()];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("server certificate");
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

#[tonic::async_trait]
impl AgentSessionService for Parts {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::IdentityResponse>, Status> {
        Ok(Response::new(self.identity(&request.into_inner().csr_der)))
    }

    async fn renew_identity(
        &self,
        request: Request<v1::RenewIdentityRequest>,
    ) -> Result<Response<v1::IdentityResponse>, Status> {
        Ok(Response::new(self.identity(&request.into_inner().csr_der)))
    }

    type SubscribeStream = ReceiverStream<Result<v1::VaultMessage, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let mut up = request.into_inner();
        let (down, receiver) = mpsc::channel(16);
        let (mut said, heard) = (self.said.subscribe(), self.heard.clone());
        tokio::spawn(async move {
            let mut sent = 0;
            loop {
                let news: Vec<_> = said.borrow_and_update().iter().skip(sent).cloned().collect();
                for message in news {
                    sent += 1;
                    if down.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    changed = said.changed() => if changed.is_err() { return },
                    message = up.message() => match message {
                        Ok(Some(message)) => {
                            if let Some(Message::Report(report)) = message.message {
                                heard.lock().expect("heard").reports.push(report);
                            }
                        }
                        _ => return,
                    },
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn submit_csr(
        &self,
        request: Request<v1::SubmitCsrRequest>,
    ) -> Result<Response<v1::SubmitCsrResponse>, Status> {
        self.heard.lock().expect("heard").csrs.push(request.into_inner());
        Ok(Response::new(v1::SubmitCsrResponse {}))
    }
}
