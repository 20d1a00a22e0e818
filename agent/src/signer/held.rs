//! What is known of the keys that the vault keeps for this agent, as the module shows it. Kept on
//! disk, so that a web server that starts while vault or agent are away finds its key.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    time::Duration,
};

use der::{Decode as _, Encode as _, asn1::OctetStringRef};
use prost::Message as _;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use vault_proto::local::v1::{Key, KeyType, Keys as List};
use vault_proto::v1::WantedCertificate;
use x509_cert::Certificate;

use crate::blocking;
use crate::desired::Desired;
use crate::durable;
use crate::error::{Error, Result};
use crate::identity::Identity;

/// For everybody whom its directory lets in: it says what certificates say.
const MODE: u32 = 0o644;

/// Making the list anew takes at most one part in so many of the time: it is as long as there are keys.
const SELDOM: u32 = 10;
/// The longest wait for that.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// rsaEncryption (RFC 8017 appendix A.1).
const RSA: der::asn1::ObjectIdentifier =
    der::asn1::ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// id-ecPublicKey (RFC 5480 section 2.1.1).
const EC: der::asn1::ObjectIdentifier =
    der::asn1::ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// id-Ed25519 (RFC 8410 section 3).
const ED25519: der::asn1::ObjectIdentifier = der::asn1::ObjectIdentifier::new_unwrap("1.3.101.112");
/// CKA_EC_PARAMS of Ed25519 as PKCS#11 v3.0 has it: PrintableString `edwards25519`.
const EDWARDS25519: &[u8] = b"\x13\x0cedwards25519";

#[derive(der::Sequence)]
struct RsaPublicKey<'a> {
    modulus: der::asn1::UintRef<'a>,
    exponent: der::asn1::UintRef<'a>,
}

/// The list as it is now.
#[derive(Debug, Default)]
pub struct KeyList {
    list: List,
    /// The ids on it: each signature asks for one.
    ids: HashSet<Vec<u8>>,
}

impl From<List> for KeyList {
    fn from(list: List) -> Self {
        Self { ids: list.keys.iter().map(|key| key.id.clone()).collect(), list }
    }
}

impl KeyList {
    /// All of it, as the module shows it.
    pub fn list(&self) -> &List {
        &self.list
    }

    /// Whether a key is on it.
    pub fn has(&self, id: &[u8]) -> bool {
        self.ids.contains(id)
    }
}

/// Keeps the list.
pub struct Keys {
    file: PathBuf,
    list: watch::Sender<KeyList>,
    listed: watch::Sender<Desired>,
}

impl Keys {
    /// Reads what was known, and keeps it under the name that the agent has now.
    ///
    /// # Errors
    /// Where the file is there and cannot be read.
    pub fn load(file: PathBuf, identity: &Identity) -> Result<Self> {
        let known = durable::read(&file)?.and_then(|bytes| List::decode(bytes.as_slice()).ok());
        let list = List { token_label: identity.name(), ..known.clone().unwrap_or_default() };
        if known.as_ref() != Some(&list) {
            said(durable::write(&file, &list.encode_to_vec(), MODE));
        }
        let (list, listed) = (watch::Sender::new(list.into()), watch::Sender::default());
        Ok(Self { file, list, listed })
    }

    /// The list, and every change of it.
    pub fn watch(&self) -> watch::Receiver<KeyList> {
        self.list.subscribe()
    }

    /// The desired state as far as its keys are listed: what a web server is given to load, the module
    /// must find.
    pub fn listed(&self) -> watch::Receiver<Desired> {
        self.listed.subscribe()
    }

    /// Follows the desired state until `stop`.
    pub async fn run(self, mut desired: watch::Receiver<Desired>, stop: CancellationToken) {
        let (mut shown, mut seen) = (Shown::new(), 0);
        loop {
            let began = Instant::now();
            let mut written = false;
            let now = desired.borrow_and_update().clone();
            // What lies on disk from before may say something else.
            let first = now.known && seen == 0;
            let changed = take(&now, seen, &mut shown);
            seen = now.certificates.revision();
            if first || changed {
                let token_label = self.list.borrow().list.token_label.clone();
                let next = List { keys: shown.values().flatten().cloned().collect(), token_label };
                if next != self.list.borrow().list {
                    let (file, bytes) = (self.file.clone(), next.encode_to_vec());
                    // On disk first: what the module finds there is never older than what it is told.
                    said(blocking(move || durable::write(&file, &bytes, MODE)).await);
                    written = true;
                    self.list.send_replace(next.into());
                }
            }
            self.listed.send_replace(now);
            // Of many changes in a row the list is made anew for some together.
            if written {
                let rest = (began.elapsed() * (SELDOM - 1)).min(LONGEST_REST);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(rest) => {}
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = desired.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Without the list on disk everything works but a web server's start while there is no agent.
fn said(kept: Result<()>) {
    if let Err(error) = kept {
        tracing::warn!(%error, "the list of keys is not kept");
    }
}

/// The keys of each certificate that has any.
type Shown = BTreeMap<String, Vec<Key>>;

/// Reads the keys of what has changed; whether they are others now.
fn take(desired: &Desired, seen: u64, shown: &mut Shown) -> bool {
    let mut changed = false;
    for (name, wanted) in desired.certificates.since(seen) {
        let keys = wanted.map(|wanted| keys_of(wanted)).filter(|keys| !keys.is_empty());
        if shown.get(name) != keys.as_ref() {
            changed = true;
            match keys {
                Some(keys) => drop(shown.insert(name.to_owned(), keys)),
                None => drop(shown.remove(name)),
            }
        }
    }
    changed
}

fn keys_of(wanted: &WantedCertificate) -> Vec<Key> {
    let one = |key: &vault_proto::v1::TlsKey| {
        shown(&wanted.name, &key.key_id, &key.leaf_der)
            .inspect_err(
                |error| tracing::warn!(certificate = wanted.name, %error, "a key is not shown"),
            )
            .ok()
    };
    wanted.tls_keys.iter().filter_map(one).collect()
}

/// A key with its attributes, read from its certificate.
fn shown(label: &str, id: &[u8], leaf_der: &[u8]) -> Result<Key> {
    let refused = |e: der::Error| Error::verification("read", format!("the leaf of {label}"), e);
    let leaf = Certificate::from_der(leaf_der).map_err(refused)?;
    let tbs = leaf.tbs_certificate();
    let spki = tbs.subject_public_key_info();
    let bits = spki.subject_public_key.raw_bytes();
    let mut key = Key {
        id: id.to_vec(),
        label: label.to_owned(),
        public_key_info: spki.to_der().map_err(refused)?,
        certificate: leaf_der.to_vec(),
        subject: tbs.subject().to_der().map_err(refused)?,
        issuer: tbs.issuer().to_der().map_err(refused)?,
        serial_number: tbs.serial_number().to_der().map_err(refused)?,
        ..Key::default()
    };
    let point = |bits| OctetStringRef::new(bits).and_then(|point| point.to_der()).map_err(refused);
    match spki.algorithm.oid {
        RSA => {
            let public = RsaPublicKey::from_der(bits).map_err(refused)?;
            key.set_type(KeyType::Rsa);
            key.modulus = public.modulus.as_bytes().to_vec();
            key.public_exponent = public.exponent.as_bytes().to_vec();
        }
        EC => {
            let curve = spki.algorithm.parameters.as_ref();
            let curve = curve.map(|curve| curve.to_der()).transpose().map_err(refused)?;
            key.set_type(KeyType::Ec);
            key.ec_params = curve.unwrap_or_default();
            key.ec_point = point(bits)?;
        }
        ED25519 => {
            key.set_type(KeyType::EcEdwards);
            key.ec_params = EDWARDS25519.to_vec();
            key.ec_point = point(bits)?;
        }
        other => {
            let why = format!("its key is of an unknown kind ({other})");
            return Err(Error::verification("read", format!("the leaf of {label}"), why));
        }
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keys_attributes_are_read_from_its_certificate() {
        for (algorithm, kind) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, KeyType::Ec),
            (&rcgen::PKCS_RSA_SHA256, KeyType::Rsa),
            (&rcgen::PKCS_ED25519, KeyType::EcEdwards),
        ] {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let params = rcgen::CertificateParams::new(vec!["shop.example".to_owned()]).unwrap();
            let leaf = params.self_signed(&pair).unwrap();
            let key = shown("shop", &[7; 16], leaf.der()).unwrap();
            assert_eq!(key.r#type(), kind);
            match kind {
                KeyType::Rsa => {
                    assert_eq!(key.modulus.len(), 256);
                    assert_eq!(key.public_exponent, [1, 0, 1]);
                }
                KeyType::Ec => {
                    assert_eq!(key.ec_point[..3], [4, 65, 4]);
                    assert_eq!(key.ec_params[..2], [6, 8]);
                }
                _ => assert_eq!(key.ec_point.len(), 34),
            }
        }
        assert!(shown("shop", &[7; 16], b"garbage").is_err());
    }
}
