//! The agent's own identity: one file with key, certificate and the vault's root, replaced as a
//! whole, so that no crash leaves a key without its certificate. The one before is kept: a vault that
//! was restored from an older backup may not know the new one.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
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
/// The same of the one before.
const PREVIOUS: &str = "identity-previous.pem";

/// Who the agent is to the vault, and whom it takes for the vault.
pub struct Identity {
    path: PathBuf,
    current: ArcSwap<Loaded>,
    previous: ArcSwapOption<Loaded>,
    changed: watch::Sender<u64>,
}

struct Loaded {
    /// The file's content.
    pem: Zeroizing<Vec<u8>>,
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
        let previous = ArcSwapOption::from(previous(state_dir).map(Arc::new));
        Ok(Arc::new(Self { path, current, previous, changed: watch::Sender::new(0) }))
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
        durable::remove(&state_dir.join(PREVIOUS))?;
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
        let before = self.current.load_full();
        durable::write(&self.path.with_file_name(PREVIOUS), &before.pem, 0o600)?;
        durable::write(&self.path, file.as_bytes(), 0o600)?;
        self.previous.store(Some(before));
        self.current.store(Arc::new(loaded));
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Takes the identity before this one, where the vault does not know this one; `false` where there
    /// is none that is in date. What the vault says of it counts, as of any; it is renewed at once.
    pub fn fall_back(&self, now: OffsetDateTime) -> bool {
        let current = self.current.load_full();
        let fits = |previous: &Arc<Loaded>| {
            previous.not_after > now
                && previous.root == current.root
                && previous.spiffe_id == current.spiffe_id
        };
        let Some(previous) = self.previous.load_full().filter(fits) else { return false };
        self.previous.store(Some(current));
        self.current.store(previous);
        self.changed.send_modify(|count| *count += 1);
        true
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

/// The identity before the present one. Without it everything works but a fall back on it.
fn previous(state_dir: &Path) -> Option<Loaded> {
    let path = state_dir.join(PREVIOUS);
    let read = durable::read(&path)
        .and_then(|bytes| bytes.map(Zeroizing::new).map(|bytes| parse(&path, &bytes)).transpose());
    read.unwrap_or_else(|error| {
        tracing::warn!(%error, "the identity before this one is not there to fall back on");
        None
    })
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
        pem: Zeroizing::new(bytes.to_vec()),
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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer};
    use time::macros::datetime;

    use super::*;

    const BEGIN: OffsetDateTime = datetime!(2026-01-01 0:00 UTC);

    /// An internal CA whose answers end so many days after the beginning.
    struct Ca(Issuer<'static, rcgen::KeyPair>, String);

    impl Ca {
        fn new() -> Self {
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = rcgen::KeyPair::generate().unwrap();
            let root = params.self_signed(&key).unwrap().pem();
            Self(Issuer::new(params, key), root)
        }

        fn answer(&self, candidate: &Candidate, days: i64) -> v1::IdentityResponse {
            let key = rcgen::KeyPair::from_pem(&candidate.key_pem).unwrap();
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.not_before = BEGIN;
            params.not_after = BEGIN + time::Duration::days(days);
            let chain_pem = params.signed_by(&key, &self.0).unwrap().pem();
            v1::IdentityResponse { chain_pem, ca_pem: self.1.clone(), ..Default::default() }
        }
    }

    fn enrolled(ca: &Ca, dir: &Path, days: i64) -> Arc<Identity> {
        let candidate = Candidate::new().unwrap();
        Identity::store(dir, &candidate, &ca.answer(&candidate, days)).unwrap();
        Identity::load(dir).unwrap()
    }

    fn renewed(ca: &Ca, identity: &Identity, days: i64) {
        let candidate = Candidate::new().unwrap();
        identity.replace(&candidate, &ca.answer(&candidate, days)).unwrap();
    }

    fn days(identity: &Identity) -> i64 {
        (identity.not_after() - BEGIN).whole_days()
    }

    #[test]
    fn the_identity_before_is_fallen_back_on_also_after_a_restart_while_it_is_in_date() {
        let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
        let identity = enrolled(&ca, dir.path(), 10);
        assert!(!identity.fall_back(BEGIN), "there is none");
        renewed(&ca, &identity, 20);
        for identity in [identity, Identity::load(dir.path()).unwrap()] {
            assert_eq!(days(&identity), 20);
            assert!(!identity.fall_back(BEGIN + time::Duration::days(11)), "it has ended");
            assert!(identity.fall_back(BEGIN));
            assert_eq!(days(&identity), 10);
            // The vault may know the other one after all.
            assert!(identity.fall_back(BEGIN));
            assert_eq!(days(&identity), 20);
        }
    }

    #[test]
    fn the_one_before_is_the_one_that_was_in_use() {
        let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
        let identity = enrolled(&ca, dir.path(), 10);
        renewed(&ca, &identity, 20);
        assert!(identity.fall_back(BEGIN));
        renewed(&ca, &identity, 30);
        assert_eq!(days(&identity), 30);
        assert!(identity.fall_back(BEGIN));
        assert_eq!(days(&identity), 10);
    }

    #[test]
    fn an_enrolment_leaves_nothing_to_fall_back_on() {
        let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
        renewed(&ca, &enrolled(&ca, dir.path(), 10), 20);
        let identity = enrolled(&ca, dir.path(), 30);
        assert!(!identity.fall_back(BEGIN));
        assert_eq!(days(&identity), 30);
    }
}
