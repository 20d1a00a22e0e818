//! One who visits a web server: he shakes hands, checks chain and signature, and may keep his session.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use der::Decode as _;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion, client::Resumption, crypto::aws_lc_rs,
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use x509_cert::Certificate;

use crate::process::PATIENCE;

/// Who visits one name on one server, in one version of TLS.
#[derive(Debug, Clone)]
pub struct Visitor {
    address: SocketAddr,
    name: ServerName<'static>,
    version: &'static SupportedProtocolVersion,
    config: Arc<ClientConfig>,
}

impl Visitor {
    /// One whom the server does not know: each of his handshakes needs a signature. He takes no
    /// chain that does not lead to one of the `roots`, PEM.
    ///
    /// # Panics
    /// Where name or roots are malformed.
    pub fn new(
        address: SocketAddr,
        server_name: &str,
        roots: &str,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        let mut known = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
            known.add(root.expect("PEM")).expect("a root");
        }
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(&[version])
            .expect("versions")
            .with_root_certificates(known)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(server_name.to_owned()).expect("a server's name");
        Self { address, name, version, config: Arc::new(config) }
    }

    /// The same, who comes again with the session that he has.
    #[must_use]
    pub fn who_returns(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::in_memory_sessions(8);
        Self { config: Arc::new(config), ..self.clone() }
    }

    /// Which version of TLS he speaks.
    pub fn version(&self) -> ProtocolVersion {
        self.version.version
    }

    /// A handshake; the leaf's serial number, lower-case hex as the vault writes it.
    ///
    /// # Errors
    /// Where it fails.
    pub fn shake_hands(&self) -> io::Result<String> {
        let (mut connection, mut stream) = self.connect()?;
        let leaf = connection.peer_certificates().and_then(|chain| chain.first());
        let leaf = leaf.ok_or_else(|| io::Error::other("no certificate was shown"))?;
        let leaf = Certificate::from_der(leaf).map_err(io::Error::other)?;
        connection.send_close_notify();
        let _ = connection.write_tls(&mut stream);
        let serial = leaf.tbs_certificate().serial_number().as_bytes();
        // Without the zero that DER puts before a high bit.
        Ok(hex::encode(serial.strip_prefix(&[0]).unwrap_or(serial)))
    }

    /// A handshake, a question and its answer, with which sessions come in TLS 1.3; whether a
    /// session was resumed.
    ///
    /// # Errors
    /// Where it fails.
    pub fn visit(&self) -> io::Result<bool> {
        let (connection, stream) = self.connect()?;
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let mut stream = StreamOwned::new(connection, stream);
        let host = self.name.to_str();
        write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        stream.read_exact(&mut [0; 12])?;
        Ok(resumed)
    }

    fn connect(&self) -> io::Result<(ClientConnection, TcpStream)> {
        let made = ClientConnection::new(self.config.clone(), self.name.clone());
        let mut connection = made.map_err(io::Error::other)?;
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        // One that is never answered has failed, too.
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok((connection, stream))
    }
}
