//! What Pebble does not have: CRLs and an OCSP responder, by OpenSSL's own CA with Pebble's issuing key.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::pebble::Pebble;
use crate::process::{Process, free_port};
use crate::programs::must;

/// Who revokes in the name of a CA.
pub struct Revoker {
    /// Where its responder listens, once it runs.
    pub address: SocketAddr,
    /// The name of the certificate that issues.
    pub issuer: String,
    /// How long its responder's answers hold.
    pub minutes: u32,
    /// Whose key signs the responder's answers, by its files' name.
    responder_is: &'static str,
    responder: Option<Process>,
    /// Dropped last: what the program has written is read when it is dropped.
    dir: TempDir,
}

impl Revoker {
    /// In the name of this CA.
    ///
    /// # Panics
    /// Where it does not say its key.
    pub fn of(pebble: &Pebble) -> Self {
        let (certificate, key) = pebble.intermediate();
        Self::new(&certificate, &certificate, &key)
    }

    /// Who claims to be this CA and has another key.
    ///
    /// # Panics
    /// Where the CA does not say its name.
    pub fn forging(pebble: &Pebble) -> Self {
        let (certificate, _) = pebble.intermediate();
        let dir = tempfile::tempdir().expect("directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::write(at("true.pem"), &certificate).expect("true.pem");
        let subject = format!("/CN={}", common_name(&at("true.pem")));
        let (forged, key) = (at("forged.pem"), at("forged.key"));
        // The name to the letter, as Go writes it.
        let config = "[req]\nstring_mask = default\ndistinguished_name = dn\n[dn]\n";
        fs::write(at("req.cnf"), config).expect("req.cnf");
        let config = at("req.cnf");
        let files = ["-keyout", &key, "-out", &forged, "-subj", &subject, "-config", &config];
        let make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
        let make = [&make[..], &["-addext", "subjectKeyIdentifier=hash"]].concat();
        must("openssl", &[&make[..], &files].concat());
        let read = |file: &str| fs::read_to_string(file).expect("PEM");
        Self::new(&certificate, &read(&forged), &read(&key))
    }

    /// In the name of this CA, with a responder that has a key and a certificate of its own. The CA has issued
    /// that for `usage`, as OpenSSL has it: `OCSPSigning` is the right one (RFC 6960 section 4.2.2.2).
    ///
    /// # Panics
    /// Where OpenSSL refuses.
    pub fn delegating(pebble: &Pebble, usage: &str) -> Self {
        let this = Self::of(pebble);
        let (key, csr) = (this.path("responder.key"), this.path("responder.csr"));
        let make = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let files = ["-keyout", &key, "-out", &csr, "-subj", "/CN=responder"];
        must("openssl", &[&make[..], &files].concat());
        fs::write(this.at("usage.cnf"), format!("extendedKeyUsage = {usage}\n")).expect("a usage");
        let (ca, ca_key) = (this.path("ca.pem"), this.path("ca.key"));
        let (usage, out) = (this.path("usage.cnf"), this.path("responder.pem"));
        let by = ["x509", "-req", "-in", &csr, "-CA", &ca, "-CAkey", &ca_key, "-days", "2"];
        must("openssl", &[&by[..], &["-extfile", &usage, "-out", &out]].concat());
        Self { responder_is: "responder", ..this }
    }

    /// Signs with `signer` and `key` what `issuer` has issued, PEM.
    fn new(issuer: &str, signer: &str, key: &str) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::write(at("issuer.pem"), issuer).expect("issuer.pem");
        fs::write(at("ca.pem"), signer).expect("ca.pem");
        fs::write(at("ca.key"), key).expect("ca.key");
        fs::write(at("index.txt"), "").expect("index.txt");
        fs::write(at("crlnumber"), "01\n").expect("crlnumber");
        let config = format!(
            "[ca]\ndefault_ca = revoker\n[revoker]\ndatabase = {}\ncrlnumber = {}\n\
             certificate = {}\nprivate_key = {}\ndefault_md = sha256\ndefault_crl_hours = 1\n\
             crl_extensions = crl\n[crl]\nauthorityKeyIdentifier = keyid\n\
             [only-cas]\nissuingDistributionPoint = critical, @cas\n\
             [another-part]\nissuingDistributionPoint = critical, @part\n\
             [cas]\nonlyCA = TRUE\nfullname = URI:http://ca.example/cas.crl\n\
             [part]\nfullname = URI:http://ca.example/another-part.crl\n",
            at("index.txt"),
            at("crlnumber"),
            at("ca.pem"),
            at("ca.key"),
        );
        fs::write(at("ca.cnf"), config).expect("ca.cnf");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let issuer = common_name(&at("issuer.pem"));
        Self { address, issuer, minutes: 1, responder_is: "ca", responder: None, dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    /// Says that a certificate is good, by its serial number in hex.
    ///
    /// # Panics
    /// Where that cannot be written.
    pub fn knows(&self, serial: &str) {
        self.note(serial, "V", "");
    }

    /// Says that a certificate is revoked, for a reason as OpenSSL has it: `keyCompromise`.
    ///
    /// # Panics
    /// Where that cannot be written.
    pub fn revokes(&self, serial: &str, reason: &str) {
        self.note(serial, "R", &format!("250101000000Z,{reason}"));
    }

    /// One line of OpenSSL's database for each certificate.
    fn note(&self, serial: &str, state: &str, revoked: &str) {
        let even = if serial.len().is_multiple_of(2) { "" } else { "0" };
        let serial = format!("{even}{}", serial.to_uppercase());
        let before = fs::read_to_string(self.at("index.txt")).expect("index.txt");
        let others = before.lines().filter(|line| !line.contains(&serial));
        let mut all: Vec<String> = others.map(str::to_owned).collect();
        all.push(format!("{state}\t491231235959Z\t{revoked}\t{serial}\tunknown\t/CN=any"));
        fs::write(self.at("new.txt"), all.join("\n") + "\n").expect("index.txt");
        fs::rename(self.at("new.txt"), self.at("index.txt")).expect("index.txt");
    }

    /// Makes a CRL, DER, that holds for an hour, into a file.
    ///
    /// # Panics
    /// Where OpenSSL refuses.
    pub fn publish_crl(&self, to: &Path) {
        self.crl(to, &[]);
    }

    /// The same, of one that held until long ago.
    ///
    /// # Panics
    /// Where OpenSSL refuses.
    pub fn publish_ended_crl(&self, to: &Path) {
        let dates = ["-crl_lastupdate", "20250101000000Z", "-crl_nextupdate", "20250201000000Z"];
        self.crl(to, &dates);
    }

    /// The same, of one that is not for every certificate: for those of CAs (`only-cas`), or for such as name
    /// another address of it (`another-part`).
    ///
    /// # Panics
    /// Where OpenSSL refuses.
    pub fn publish_crl_for(&self, scope: &str, to: &Path) {
        self.crl(to, &["-crlexts", scope]);
    }

    fn crl(&self, to: &Path, more: &[&str]) {
        let (config, pem, der) = (self.path("ca.cnf"), self.path("crl.pem"), self.path("crl.der"));
        let make = ["ca", "-config", &config, "-gencrl", "-out", &pem];
        must("openssl", &[&make[..], more].concat());
        must("openssl", &["crl", "-in", &pem, "-outform", "DER", "-out", &der]);
        let new = to.with_extension("new");
        fs::copy(der, &new).expect("a CRL");
        fs::rename(new, to).expect("a CRL");
    }

    /// Where its responder answers.
    pub fn responder_url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Starts its responder. It looks for what is new in the database before
    /// each answer.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn start_responder(&mut self) {
        let (index, issuer) = (self.path("index.txt"), self.path("issuer.pem"));
        let [signer, key] =
            ["pem", "key"].map(|end| self.path(&format!("{}.{end}", self.responder_is)));
        let (port, minutes) = (self.address.port().to_string(), self.minutes.to_string());
        let mut command = Command::new("openssl");
        command
            .args(["ocsp", "-index", &index, "-CA", &issuer, "-rsigner", &signer, "-rkey", &key]);
        command.args(["-port", &port, "-nmin", &minutes, "-ignore_err"]);
        let log = self.at("openssl-ocsp.log");
        let _ = fs::remove_file(&log);
        let mut process = Process::spawn("openssl-ocsp", command, self.dir.path());
        // A connection that says nothing would keep it waiting for ever.
        let says = || fs::read_to_string(&log).is_ok_and(|log| log.contains("waiting for OCSP"));
        process.wait_until("its responder", says);
        self.responder = Some(process);
    }

    /// Ends its responder.
    ///
    /// # Panics
    /// Where none runs.
    pub fn stop_responder(&mut self) {
        self.responder.take().expect("a responder").kill();
    }
}

/// The subject's common name of a certificate in a file.
fn common_name(file: &str) -> String {
    let show = ["x509", "-noout", "-subject", "-nameopt", "multiline", "-in", file];
    let subject = must("openssl", &show);
    let name = subject.lines().find_map(|line| line.split_once("commonName"));
    let name = name.and_then(|(_, rest)| rest.split_once('=')).expect("a common name");
    name.1.trim().to_owned()
}
