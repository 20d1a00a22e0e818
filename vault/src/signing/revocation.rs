//! What a certificate's key signs to revoke that certificate (RFC 8555 section 7.6), and nothing that
//! could be taken for anything else.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use der::{Decode as _, Encode as _};
use serde::Deserialize;
use url::Url;
use x509_cert::Certificate;

use crate::error::{Error, Result};
use crate::policy::Action;
use crate::store::KeyRecord;

/// The protected header: these members and no other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    #[serde(rename = "alg")]
    _alg: String,
    #[serde(rename = "jwk")]
    _jwk: BTreeMap<String, String>,
    #[serde(rename = "nonce")]
    _nonce: String,
    url: Url,
}

/// The payload: these members and no other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    certificate: String,
    #[serde(rename = "reason")]
    _reason: Option<u8>,
}

/// Refuses a revocation that is not the JWS of one, or that is of another key's certificate. What is
/// signed as something else is not looked at.
///
/// # Errors
/// `Denied`, and what about it is wrong.
pub(super) fn check(action: Action, key: &KeyRecord, message: &[u8]) -> Result<()> {
    if action != Action::SignRevocation {
        return Ok(());
    }
    let refused = |why: &str| {
        Error::denied(action.as_str(), format!("key {}", key.name), why)
            .hint("a certificate's key signs the revocation of its own certificate, nothing else")
    };
    let (header, payload) = parts(message).ok_or_else(|| refused("it is no JWS"))?;
    let header: Header =
        serde_json::from_slice(&header).map_err(|_| refused("its header is no revocation's"))?;
    if header.url.scheme() != "https" {
        return Err(refused("its URL does not begin with https://"));
    }
    let payload: Payload =
        serde_json::from_slice(&payload).map_err(|_| refused("its payload is no revocation's"))?;
    let certified = B64.decode(payload.certificate).ok().and_then(|der| key_of(&der));
    match certified {
        Some(spki_der) if spki_der == key.spki_der => Ok(()),
        Some(_) => Err(refused("the certificate is another key's")),
        None => Err(refused("its certificate is none")),
    }
}

/// Header and payload of a JWS signing input (RFC 7515 section 5.1).
fn parts(message: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (header, payload) = std::str::from_utf8(message).ok()?.split_once('.')?;
    Some((B64.decode(header).ok()?, B64.decode(payload).ok()?))
}

fn key_of(certificate_der: &[u8]) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(certificate_der).ok()?;
    certificate.tbs_certificate().subject_public_key_info().to_der().ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
    use serde_json::{Value, json};
    use vault_proto::ids::KeyId;

    use super::*;
    use crate::keystore::{Algorithm, Escrow};
    use crate::store::{KeyPurpose, KeyState};

    fn key(pair: &KeyPair) -> KeyRecord {
        KeyRecord {
            id: KeyId::random(),
            name: "shop".to_owned(),
            version: 1,
            purpose: KeyPurpose::Certificate,
            algorithm: Algorithm::EcP256,
            escrow: Escrow::None,
            state: KeyState::Active,
            spki_der: pair.subject_public_key_info(),
            labels: BTreeMap::new(),
            created_at: time::OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn certificate(pair: &KeyPair) -> String {
        let params = CertificateParams::new(vec!["shop.example".to_owned()]).unwrap();
        B64.encode(params.self_signed(pair).unwrap().der())
    }

    fn message(header: &Value, payload: &Value) -> Vec<u8> {
        format!("{}.{}", B64.encode(header.to_string()), B64.encode(payload.to_string()))
            .into_bytes()
    }

    #[test]
    fn a_key_signs_the_revocation_of_its_own_certificate_and_nothing_else() {
        let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let key = key(&own);
        let check = |header: &Value, payload: &Value| {
            check(Action::SignRevocation, &key, &message(header, payload))
        };
        let header = json!({ "alg": "ES256", "jwk": { "kty": "EC" }, "nonce": "n",
            "url": "https://ca.example/revoke" });
        let payload = json!({ "certificate": certificate(&own), "reason": 1 });
        check(&header, &payload).unwrap();
        check(&header, &json!({ "certificate": certificate(&own) })).unwrap();
        for (payload, why) in [
            (json!({ "certificate": certificate(&other), "reason": 1 }), "another key's"),
            (json!({ "certificate": "AAAA" }), "is none"),
            (json!({ "termsOfServiceAgreed": true }), "payload"),
            (json!({ "certificate": certificate(&own), "contact": [] }), "payload"),
        ] {
            let error = check(&header, &payload).unwrap_err();
            assert!(error.why.contains(why), "{why}: {error}");
        }
        for (name, value) in [
            ("kid", json!("https://ca.example/account/1")),
            ("url", json!("http://ca.example/revoke")),
            ("url", json!(1)),
            ("b64", json!(false)),
        ] {
            let mut header = header.clone();
            header[name] = value;
            assert!(check(&header, &payload).is_err(), "{header}");
        }
        for bytes in [&b"a message"[..], b"", b"a.b", b"\xff.\xff", &[0x30; 64]] {
            assert!(super::check(Action::SignRevocation, &key, bytes).is_err(), "{bytes:?}");
        }
    }
}
