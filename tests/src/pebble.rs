//! Pebble, Let's Encrypt's small ACME server, with its companion for DNS.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use serde_json::json;
use tempfile::TempDir;

use crate::process::{Process, free_port};
use crate::programs::must;

/// How Pebble behaves.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Good nonces that are rejected, in percent.
    pub nonce_reject: u32,
    /// External account bindings: key id and base64url of the MAC key. Where there is one, accounts
    /// without are refused.
    pub external_account: Option<(String, String)>,
    /// How long its certificates are valid, in seconds.
    pub validity: u32,
    /// How many other chains it offers for each certificate.
    pub alternate_roots: u32,
    /// How often, in percent, it takes a valid authorization again for a new order. Never without: its look
    /// for one locks up for good where many order at once.
    pub authorization_reuse: u32,
    /// The port on 127.0.0.1 of the name server that it asks; without one every name leads there.
    pub dns: Option<u16>,
    /// The OCSP responder that its certificates name.
    pub ocsp: Option<String>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            nonce_reject: 20,
            external_account: None,
            validity: 157_766_400,
            alternate_roots: 0,
            authorization_reuse: 0,
            dns: None,
            ocsp: None,
        }
    }
}

/// A running Pebble; every name leads to 127.0.0.1.
pub struct Pebble {
    address: SocketAddr,
    management: SocketAddr,
    dns: u16,
    behaviour: Behaviour,
    /// Where it validates HTTP-01.
    pub http01: SocketAddr,
    /// Where it validates TLS-ALPN-01.
    pub tls_alpn01: SocketAddr,
    _dns: Process,
    process: Process,
    /// Dropped last: what the program has written is read when it is dropped.
    dir: TempDir,
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Pebble {
    /// Starts it with the usual behaviour.
    pub fn start() -> Self {
        Self::start_with(Behaviour::default())
    }

    /// Starts it.
    pub fn start_with(behaviour: Behaviour) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let (address, management) = (local(free_port()), local(free_port()));
        let (http01, tls_alpn01) = (local(free_port()), local(free_port()));
        let own_dns = free_port();
        let dns = behaviour.dns.unwrap_or(own_dns);
        write_certificate(&dir);
        let process_dns = start_dns(&dir, own_dns);
        let ports = (http01.port(), tls_alpn01.port());
        let process = start_ca(&dir, address, management, ports, dns, &behaviour);
        let mut pebble = Self {
            dir,
            address,
            management,
            dns,
            behaviour,
            http01,
            tls_alpn01,
            _dns: process_dns,
            process,
        };
        pebble.process.wait_listening(address);
        pebble.process.wait_listening(management);
        pebble
    }

    /// Its directory URL.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// Where it speaks HTTPS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it says of a certificate that it has issued, by its serial number in hex: `Status`,
    /// and of a revoked one `Reason`.
    ///
    /// # Panics
    /// Where it does not know the certificate.
    pub fn certificate_status(&self, serial: &str) -> serde_json::Value {
        let url = format!("https://{}/cert-status-by-serial/{serial}", self.management);
        let said = must("curl", &["-sf", "--cacert", &self.root().display().to_string(), &url]);
        serde_json::from_str(&said).expect("JSON")
    }

    /// Stops it where it stands: it takes connections, and answers when it is resumed.
    pub fn freeze(&self) {
        self.process.signal(rustix::process::Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal(rustix::process::Signal::CONT);
    }

    /// The root of its HTTPS server, a PEM file.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("tls.pem")
    }

    /// The root of the certificates that it issues, PEM.
    pub fn issuer(&self) -> String {
        self.root_of(0)
    }

    /// The root of one of the chains that it offers, PEM; the default one's is 0.
    pub fn root_of(&self, chain: u32) -> String {
        self.managed(&format!("roots/{chain}"))
    }

    /// The certificate that issues, and its key, PEM: for whoever revokes in its name.
    pub fn intermediate(&self) -> (String, String) {
        (self.managed("intermediates/0"), self.managed("intermediate-keys/0"))
    }

    fn managed(&self, path: &str) -> String {
        let url = format!("https://{}/{path}", self.management);
        must("curl", &["-sf", "--cacert", &self.root().display().to_string(), &url])
    }

    /// Ends it; nobody answers any more.
    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// Starts it again: as Pebble keeps nothing, it has forgotten every account and order.
    pub fn restart(&mut self) {
        let ports = (self.http01.port(), self.tls_alpn01.port());
        self.process =
            start_ca(&self.dir, self.address, self.management, ports, self.dns, &self.behaviour);
        self.process.wait_listening(self.address);
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

fn write_certificate(dir: &TempDir) {
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let key = rcgen::KeyPair::generate().expect("key");
    let mut params = rcgen::CertificateParams::new(names).expect("names");
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    let certificate = params.self_signed(&key).expect("certificate");
    fs::write(dir.path().join("tls.pem"), certificate.pem()).expect("tls.pem");
    fs::write(dir.path().join("tls.key"), key.serialize_pem()).expect("tls.key");
}

fn start_dns(dir: &TempDir, port: u16) -> Process {
    let mut command = Command::new("pebble-challtestsrv");
    command.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", ""]);
    command.args(["-tlsalpn01", "", "-dns01", &local(port).to_string()]);
    let management = local(free_port());
    command.args(["-management", &management.to_string()]);
    let mut process = Process::spawn("challtestsrv", command, dir.path());
    process.wait_listening(management);
    process
}

fn start_ca(
    dir: &TempDir,
    address: SocketAddr,
    management: SocketAddr,
    (http01, tls_alpn01): (u16, u16),
    dns: u16,
    behaviour: &Behaviour,
) -> Process {
    let mut config = json!({
        "listenAddress": address.to_string(),
        "managementListenAddress": management.to_string(),
        "certificate": dir.path().join("tls.pem"),
        "privateKey": dir.path().join("tls.key"),
        "httpPort": http01,
        "tlsPort": tls_alpn01,
        "ocspResponderURL": behaviour.ocsp.clone().unwrap_or_default(),
        "certificateValidityPeriod": behaviour.validity,
        "externalAccountBindingRequired": behaviour.external_account.is_some(),
    });
    if let Some((kid, mac)) = &behaviour.external_account {
        config["externalAccountMACKeys"] = json!({ kid: mac });
    }
    let file = dir.path().join("pebble.json");
    fs::write(&file, json!({ "pebble": config }).to_string()).expect("pebble.json");
    let mut command = Command::new("pebble");
    command.args(["-config", &file.display().to_string(), "-dnsserver", &local(dns).to_string()]);
    command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_VA_ALWAYS_VALID", "0");
    command.env("PEBBLE_WFE_NONCEREJECT", behaviour.nonce_reject.to_string());
    command.env("PEBBLE_ALTERNATE_ROOTS", behaviour.alternate_roots.to_string());
    command.env("PEBBLE_AUTHZREUSE", behaviour.authorization_reuse.to_string());
    Process::spawn("pebble", command, dir.path())
}
