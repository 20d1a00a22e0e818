//! The agent's own identity: one file with key, certificate and the vault's root, replaced as a
//! whole, so that no crash leaves a key without its certificate.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use der::Decode as _;
use rustls::{SignatureScheme, client::ResolvesClientCert, crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use time::OffsetDateTime;
use tokio::sync::watch;
use vault_proto::v1;
use x509_cert::Certificate;
use zeroize::Zeroizing;

use crate::durable;
use crate::error::{Error, Result};

/// The file's name in the state directory.
const FILE: &str = "identity.pem";

/// Who the agent is to the vault, and whom it takes for the vault.
pub struct Identity {
    path: PathBuf,
    current: ArcSwap<Loaded>,
    changed: watch::Sender<u64>,
}

struct Loaded {
    certified: Arc<CertifiedKey>,
    root: CertificateDer<'static>,
    spiffe_id: String,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

/// A fresh key and the request to certify it.
pub struct Candidate {
    key_pem: Zeroizing<String>,
    /// PKCS#10, DER.
    pub csr_der: Vec<u8>,
}

impl Candidate {
    /// A P-256 key and its request; the vault ignores the request's names.
    ///
    /// # Errors
    /// Where there are no random numbers.
    pub fn new() -> Result<Self> {
        let failed = |e: rcgen::Error| Error::local("generate", "the agent's key", e);
        let key = rcgen::KeyPair::generate().map_err(failed)?;
        let params = rcgen::CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
        let csr_der = params.serialize_request(&key).map_err(failed)?.der().to_vec();
        Ok(Self { key_pem: Zeroizing::new(key.serialize_pem()), csr_der })
    }

    /// The identity's file, once the vault has answered.
    fn file(&self, answer: &v1::IdentityResponse) -> Zeroizing<String> {
        let (key, chain, root) = (&*self.key_pem, &answer.chain_pem, &answer.ca_pem);
        Zeroizing::new(format!("{key}{chain}{root}"))
    }
}

impl Identity {
    /// Whether the agent is enrolled.
    pub fn exists(state_dir: &Path) -> bool {
        state_dir.join(FILE).exists()
    }

    /// Reads the identity.
    ///
    /// # Errors
    /// `Invalid` where the agent is not enrolled or the file is damaged.
    pub fn load(state_dir: &Path) -> Result<Arc<Self>> {
        let path = state_dir.join(FILE);
        let bytes = durable::read(&path)?.map(Zeroizing::new).ok_or_else(|| {
            Error::invalid("read", path.display().to_string(), "this agent is not enrolled")
                .hint("run `vault-agent enroll` with a token from `vaultctl agent token`")
        })?;
        let current = ArcSwap::from_pointee(parse(&path, &bytes)?);
        Ok(Arc::new(Self { path, current, changed: watch::Sender::new(0) }))
    }

    /// Stores the answer to an enrolment.
    ///
    /// # Errors
    /// Where the answer is malformed or the state directory cannot be written.
    pub fn store(
        state_dir: &Path,
        candidate: &Candidate,
        answer: &v1::IdentityResponse,
    ) -> Result<()> {
        let path = state_dir.join(FILE);
        let file = candidate.file(answer);
        parse(&path, file.as_bytes())?;
        durable::write(&path, file.as_bytes(), 0o600)
    }

    /// Takes the answer to a renewal: durable first, then used by every new connection.
    ///
    /// # Errors
    /// As [`Identity::store`]; the present identity stays then.
    pub fn replace(&self, candidate: &Candidate, answer: &v1::IdentityResponse) -> Result<()> {
        let file = candidate.file(answer);
        let loaded = parse(&self.path, file.as_bytes())?;
        if loaded.root != self.current.load().root {
            let subject = self.path.display().to_string();
            return Err(Error::verification("renew", subject, "the vault's root has changed")
                .hint("enrol this agent anew if that is right"));
        }
        durable::write(&self.path, file.as_bytes(), 0o600)?;
        self.current.store(Arc::new(loaded));
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Changes whenever the identity was replaced.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The vault's root.
    pub fn root(&self) -> CertificateDer<'static> {
        self.current.load().root.clone()
    }

    /// Its SPIFFE id.
    pub fn spiffe_id(&self) -> String {
        self.current.load().spiffe_id.clone()
    }

    /// The agent's name: the last part of its SPIFFE id.
    pub fn name(&self) -> String {
        self.spiffe_id().rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// Its end.
    pub fn not_after(&self) -> OffsetDateTime {
        self.current.load().not_after
    }

    /// How long it is valid.
    pub fn lifetime(&self) -> Duration {
        let current = self.current.load();
        Duration::try_from(current.not_after - current.not_before).unwrap_or_default()
    }

    /// How long to wait before renewing: until half of the lifetime is over.
    pub fn renew_in(&self, now: OffsetDateTime) -> Duration {
        let current = self.current.load();
        let due = current.not_before + (current.not_after - current.not_before) / 2;
        Duration::try_from(due - now).unwrap_or_default()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.spiffe_id())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(
        &self,
        _issuers: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Loaded> {
    let bad = |why: String| {
        Error::invalid("read", path.display().to_string(), why)
            .hint("enrol this agent anew with a token from `vaultctl agent token`")
    };
    let key = PrivateKeyDer::from_pem_slice(bytes).map_err(|e| bad(e.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let mut certificates = certificates.map_err(|e| bad(e.to_string()))?;
    let root = certificates.pop().filter(|_| !certificates.is_empty());
    let root = root.ok_or_else(|| bad("it lacks a certificate or the root".to_owned()))?;
    let leaf = certificates.first().ok_or_else(|| bad("it lacks a certificate".to_owned()))?;
    let leaf = Certificate::from_der(leaf).map_err(|e| bad(e.to_string()))?;
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|e| bad(e.to_string()))?;
    let certified = CertifiedKey::new(certificates, key);
    certified.keys_match().map_err(|e| bad(e.to_string()))?;
    let validity = leaf.tbs_certificate().validity();
    let at = |time: x509_cert::time::Time| {
        let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|e| bad(e.to_string()))
    };
    Ok(Loaded {
        certified: Arc::new(certified),
        root,
        spiffe_id: spiffe_id(&leaf).unwrap_or_default(),
        not_before: at(validity.not_before)?,
        not_after: at(validity.not_after)?,
    })
}

fn spiffe_id(leaf: &Certificate) -> Option<String> {
    use x509_cert::ext::pkix::{SubjectAltName, name::GeneralName};
    let (_, names) = leaf.tbs_certificate().get_extension::<SubjectAltName>().ok()??;
    names.0.iter().find_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
        _ => None,
    })
}
