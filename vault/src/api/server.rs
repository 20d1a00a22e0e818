//! Listening: mTLS for the network, a Unix socket for the machine's own operators.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use rustls::{
    RootCertStore, ServerConfig,
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::transport::server::{Connected, Router, Server};
use tower::layer::util::{Identity, Stack};
use vault_proto::{
    frames,
    local::{ALPN_H2, ALPN_TLS_SIGN},
    v1::{
        self, account_service_server::AccountServiceServer,
        agent_service_server::AgentServiceServer,
        agent_session_service_server::AgentSessionServiceServer,
        audit_service_server::AuditServiceServer, backup_service_server::BackupServiceServer,
        certificate_service_server::CertificateServiceServer,
        drill_service_server::DrillServiceServer, kek_service_server::KekServiceServer,
        key_service_server::KeyServiceServer, restore_service_server::RestoreServiceServer,
        system_service_server::SystemServiceServer,
    },
};

use super::{
    Context, PeerInfo, TlsPeer, accounts::Accounts, agents::Agents, audit::Audit, backup::Backup,
    certificates::Certificates, detach::Detach, drills::Drills, kek::Kek, keys::Keys,
    movable::Movable, restore::Restore, sessions::Sessions, system::System,
    tls_signing::TlsSigning,
};
use crate::error::{Error, Result};

/// How long a client may take over its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way at once; further connections wait in the kernel.
const HANDSHAKES: usize = 256;
/// Connections end after this, so that agents spread over nodes again and old identities do not
/// live on in old connections.
pub(super) const CONNECTION_AGE: Duration = Duration::from_secs(12 * 3600);
/// Requests of one connection that are worked on at once.
const CONCURRENT: usize = 256;
/// The longest message that is read, in bytes.
const LONGEST_MESSAGE: usize = 4 << 20;

/// Every service over one context, ready to listen.
///
/// # Errors
/// `Internal` where the reflection data is malformed.
pub fn router<H>(context: &Arc<Context>, health: H) -> Result<Router<Stack<Detach, Identity>>>
where
    H: tower::Service<
            http::Request<tonic::body::Body>,
            Response = http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + tonic::server::NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    H::Future: Send + 'static,
{
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|e| Error::internal("set up", "gRPC reflection", e))?;
    let c = || context.clone();
    macro_rules! limited {
        ($server:ident, $service:expr) => {
            $server::new($service).max_decoding_message_size(LONGEST_MESSAGE)
        };
    }
    Ok(Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_connection_age(CONNECTION_AGE)
        .concurrency_limit_per_connection(CONCURRENT)
        .layer(Detach(context.calls.clone()))
        .add_service(health)
        .add_service(reflection)
        .add_service(limited!(KeyServiceServer, Keys::new(c())))
        .add_service(limited!(KekServiceServer, Kek(c())))
        .add_service(limited!(AccountServiceServer, Accounts(c())))
        .add_service(limited!(CertificateServiceServer, Certificates(c())))
        .add_service(limited!(AgentServiceServer, Agents(c())))
        .add_service(limited!(AgentSessionServiceServer, Sessions::new(c())))
        .add_service(limited!(AuditServiceServer, Audit(c())))
        .add_service(limited!(BackupServiceServer, Backup(c())))
        .add_service(limited!(RestoreServiceServer, Restore(c())))
        .add_service(limited!(DrillServiceServer, Drills(c())))
        .add_service(limited!(SystemServiceServer, System(c()))))
}

/// The vault's own certificate and key, replaced while connections are open.
#[derive(Default)]
pub struct ServerIdentity(ArcSwapOption<CertifiedKey>);

impl ServerIdentity {
    /// New handshakes get this certificate from now on; the root goes with it, for agents that
    /// know only its fingerprint.
    ///
    /// # Errors
    /// `Internal` where key and certificate are malformed.
    pub fn replace(&self, leaf: Vec<u8>, root: Vec<u8>, key: PrivateKeyDer<'_>) -> Result<()> {
        let failed = |e: rustls::Error| Error::internal("use", "the server certificate", e);
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(failed)?;
        let chain = vec![CertificateDer::from(leaf), CertificateDer::from(root)];
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(failed)?;
        self.0.store(Some(Arc::new(certified)));
        Ok(())
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerIdentity")
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// A connection that knows its peer.
pub struct Connection<S> {
    stream: S,
    peer: PeerInfo,
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = PeerInfo;
    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The mTLS listener.
pub struct TlsListener {
    listener: TcpListener,
    config: Arc<ServerConfig>,
}

impl TlsListener {
    /// Binds. A client certificate is verified against `root_der` where there is one; who has
    /// none is anonymous and may do nothing but enrol.
    ///
    /// # Errors
    /// `Unavailable` where the address is taken.
    pub async fn bind(
        address: SocketAddr,
        identity: Arc<ServerIdentity>,
        root_der: Vec<u8>,
    ) -> Result<Self> {
        let failed = |e: String| Error::internal("set up", "TLS", e);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(root_der)).map_err(|e| failed(e.to_string()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| failed(e.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(identity);
        config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_TLS_SIGN.to_vec()];
        // A resumed session would keep an identity that was replaced meanwhile.
        config.send_tls13_tickets = 0;
        let listener = TcpListener::bind(address).await.map_err(|e| {
            Error::unavailable("listen", address.to_string(), e)
                .hint("check [listen] address in vault.toml")
        })?;
        Ok(Self { listener, config: Arc::new(config) })
    }

    /// Connections for calls whose handshake is done; those for signatures go to `signing`. One slow
    /// client holds up no other.
    pub fn incoming(
        self,
        signing: TlsSigning,
    ) -> impl Stream<Item = io::Result<Connection<TlsStream<Movable>>>> {
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(async move {
            let slots = Arc::new(Semaphore::new(HANDSHAKES));
            let acceptor = TlsAcceptor::from(self.config);
            loop {
                let Ok(slot) = slots.clone().acquire_owned().await else { return };
                let accepted = tokio::select! {
                    accepted = self.listener.accept() => accepted,
                    () = sender.closed() => return,
                };
                let (stream, from) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors, most likely: it passes.
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                let signing = signing.clone();
                tokio::spawn(async move {
                    match handshake(acceptor, stream).await {
                        Ok(Connection { stream, peer }) if signs(&stream) => {
                            signing.accept(stream, peer);
                        }
                        Ok(connection) => drop(sender.send(Ok(connection)).await),
                        Err(error) => tracing::info!(%from, %error, "a handshake failed"),
                    }
                    drop(slot);
                });
            }
        });
        ReceiverStream::new(receiver)
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> io::Result<Connection<TlsStream<Movable>>> {
    stream.set_nodelay(true)?;
    frames::notice_loss(&stream)?;
    let accepted = acceptor.accept(Movable::new(stream));
    let stream = tokio::time::timeout(HANDSHAKE, accepted).await??;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let peer = PeerInfo::Tls(certificate.map(|der| TlsPeer::new(der.to_vec())));
    Ok(Connection { stream, peer })
}

/// Whether it is a connection for signatures.
fn signs(stream: &TlsStream<Movable>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(ALPN_TLS_SIGN)
}

/// The local admin socket. Its file is removed on drop.
pub struct AdminSocket {
    listener: UnixListener,
    file: RemoveOnDrop,
}

impl AdminSocket {
    /// Binds with mode 0600; a socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// `Conflict` where another process listens there or it is no socket, `Unavailable` where it cannot be made.
    pub async fn bind(path: &Path) -> Result<Self> {
        let subject = || format!("admin socket {}", path.display());
        let failed = |e: io::Error| {
            Error::unavailable("listen", subject(), e)
                .hint("check [listen] admin_socket in vault.toml and who may write there")
        };
        if let Ok(meta) = fs::symlink_metadata(path) {
            if !meta.file_type().is_socket() {
                return Err(Error::conflict("listen", subject(), "it is there and is no socket")
                    .hint("move it away, or name another [listen] admin_socket"));
            }
            if UnixStream::connect(path).await.is_ok() {
                return Err(Error::conflict("listen", subject(), "another process has it")
                    .hint("is another vaultd running? Each needs an admin socket of its own"));
            }
            fs::remove_file(path).map_err(failed)?;
        }
        // Bound under a name nobody knows and moved once its mode is right.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let hidden = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let _ = fs::remove_file(&hidden);
        let listener = UnixListener::bind(&hidden).map_err(failed)?;
        fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        fs::rename(&hidden, path).map_err(failed)?;
        Ok(Self { listener, file: RemoveOnDrop(path.to_owned()) })
    }

    /// Connections by root or by the user that the vault runs as.
    pub fn incoming(self) -> impl Stream<Item = io::Result<Connection<UnixStream>>> {
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            let own = rustix::process::geteuid().as_raw();
            let _remove = self.file;
            loop {
                let accepted = tokio::select! {
                    accepted = self.listener.accept() => accepted,
                    () = sender.closed() => return,
                };
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                match stream.peer_cred().map(|peer| peer.uid()) {
                    Ok(uid) if uid == 0 || uid == own => {
                        let peer = PeerInfo::Local(uid);
                        if sender.send(Ok(Connection { stream, peer })).await.is_err() {
                            return;
                        }
                    }
                    other => tracing::warn!(?other, "the admin socket refused a peer"),
                }
            }
        });
        ReceiverStream::new(receiver)
    }
}

struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
