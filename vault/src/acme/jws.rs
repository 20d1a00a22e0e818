//! JSON Web Signatures as ACME wants them (RFC 8555 section 6.2), signed in the HSM.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use der::{Decode as _, asn1::UintRef};
use secrecy::{ExposeSecret as _, SecretSlice};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use spki::SubjectPublicKeyInfoRef;
use url::Url;

use crate::error::{Error, Result};
use crate::keystore::{Algorithm, MessageSigner, PublicKey};

#[derive(der::Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// The public key as a JWK (RFC 7517, RFC 8037): its required members and no other, so that its
/// serialisation is also the input of the thumbprint.
///
/// # Errors
/// `Internal` for a malformed key.
pub fn jwk(key: &PublicKey) -> Result<BTreeMap<&'static str, String>> {
    let bad = |why: &dyn std::fmt::Display| Error::internal("encode", "a JWK", why);
    let spki = SubjectPublicKeyInfoRef::try_from(key.spki_der.as_slice()).map_err(|e| bad(&e))?;
    let bits = spki.subject_public_key.as_bytes().ok_or_else(|| bad(&"bits are unaligned"))?;
    let curve = |name: &str, size: usize| {
        let point = bits.get(1..).filter(|point| point.len() == 2 * size);
        let (x, y) = point.ok_or_else(|| bad(&"the point is malformed"))?.split_at(size);
        Ok(BTreeMap::from([
            ("crv", name.to_owned()),
            ("kty", "EC".to_owned()),
            ("x", B64.encode(x)),
            ("y", B64.encode(y)),
        ]))
    };
    match key.algorithm {
        Algorithm::EcP256 => curve("P-256", 32),
        Algorithm::EcP384 => curve("P-384", 48),
        Algorithm::Ed25519 => Ok(BTreeMap::from([
            ("crv", "Ed25519".to_owned()),
            ("kty", "OKP".to_owned()),
            ("x", B64.encode(bits)),
        ])),
        Algorithm::Rsa2048 | Algorithm::Rsa3072 | Algorithm::Rsa4096 => {
            let key = RsaPublicKey::from_der(bits).map_err(|e| bad(&e))?;
            Ok(BTreeMap::from([
                ("e", B64.encode(key.exponent.as_bytes())),
                ("kty", "RSA".to_owned()),
                ("n", B64.encode(key.modulus.as_bytes())),
            ]))
        }
    }
}

/// The key's thumbprint (RFC 7638), SHA-256, base64url.
///
/// # Errors
/// `Internal` for a malformed key.
pub fn thumbprint(key: &PublicKey) -> Result<String> {
    let canonical =
        serde_json::to_vec(&jwk(key)?).map_err(|e| Error::internal("encode", "a JWK", e))?;
    Ok(B64.encode(Sha256::digest(canonical)))
}

/// The key authorization of a token (RFC 8555 section 8.1).
///
/// # Errors
/// `Internal` for a malformed key.
pub fn key_authorization(token: &str, key: &PublicKey) -> Result<String> {
    Ok(format!("{token}.{}", thumbprint(key)?))
}

/// `alg` of a key (RFC 7518 section 3.1, RFC 8037 section 3.1).
fn alg(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::EcP256 => "ES256",
        Algorithm::EcP384 => "ES384",
        Algorithm::Ed25519 => "EdDSA",
        Algorithm::Rsa2048 | Algorithm::Rsa3072 | Algorithm::Rsa4096 => "RS256",
    }
}

/// Signs a payload; `alg` is set from the key. Flattened JSON (RFC 7515 section 7.2.2).
pub(super) async fn sign(
    signer: &dyn MessageSigner,
    mut protected: Map<String, Value>,
    payload: &[u8],
) -> Result<Value> {
    protected.insert("alg".to_owned(), alg(signer.public_key().algorithm).into());
    let header =
        serde_json::to_vec(&protected).map_err(|e| Error::internal("encode", "a JWS", e))?;
    let (protected, payload) = (B64.encode(header), B64.encode(payload));
    let signature = signer.sign(format!("{protected}.{payload}").as_bytes()).await?;
    let signature = B64.encode(signature.jose());
    Ok(json!({ "protected": protected, "payload": payload, "signature": signature }))
}

/// Signs a payload for an account's URL; an empty payload makes a POST-as-GET.
///
/// # Errors
/// Those of the signer.
pub async fn sign_with_kid(
    signer: &dyn MessageSigner,
    kid: &Url,
    url: &Url,
    nonce: Option<&str>,
    payload: &[u8],
) -> Result<String> {
    let mut protected = Map::new();
    protected.insert("kid".to_owned(), kid.as_str().into());
    protected.insert("url".to_owned(), url.as_str().into());
    if let Some(nonce) = nonce {
        protected.insert("nonce".to_owned(), nonce.into());
    }
    Ok(sign(signer, protected, payload).await?.to_string())
}

/// The external account binding: the account's JWK under the CA's MAC key (RFC 8555 section
/// 7.3.4).
pub(super) fn bind_external(
    kid: &str,
    mac_key: &SecretSlice<u8>,
    url: &Value,
    key: &PublicKey,
) -> Result<Value> {
    let encode = |value: &Value| serde_json::to_vec(value).map(|bytes| B64.encode(bytes));
    let failed = |e| Error::internal("encode", "an external account binding", e);
    let header = json!({ "alg": "HS256", "kid": kid, "url": url });
    let protected = encode(&header).map_err(failed)?;
    let payload = encode(&json!(jwk(key)?)).map_err(failed)?;
    let mac_key = hmac::Key::new(hmac::HMAC_SHA256, mac_key.expose_secret());
    let tag = hmac::sign(&mac_key, format!("{protected}.{payload}").as_bytes());
    let signature = B64.encode(tag.as_ref());
    Ok(json!({ "protected": protected, "payload": payload, "signature": signature }))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;
    use crate::x509::testing::TestKey;

    #[test]
    fn a_thumbprint_is_that_of_rfc_7638() {
        // The key of RFC 7638 section 3.1, as SubjectPublicKeyInfo.
        let n = B64
            .decode(concat!(
                "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1",
                "L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4",
                "QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbO",
                "pbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csF",
                "Cur-kEgU8awapJzKnqDKgw",
            ))
            .unwrap();
        use der::Encode as _;
        let key = RsaPublicKey {
            modulus: UintRef::new(&n).unwrap(),
            exponent: UintRef::new(&[1, 0, 1]).unwrap(),
        };
        let bits = key.to_der().unwrap();
        let spki = SubjectPublicKeyInfoRef {
            algorithm: spki::AlgorithmIdentifierRef {
                oid: const_oid::db::rfc5912::RSA_ENCRYPTION,
                parameters: Some(der::asn1::AnyRef::NULL),
            },
            subject_public_key: der::asn1::BitStringRef::from_bytes(&bits).unwrap(),
        };
        let key = PublicKey { algorithm: Algorithm::Rsa2048, spki_der: spki.to_der().unwrap() };
        assert_eq!(thumbprint(&key).unwrap(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[tokio::test]
    async fn a_jws_verifies_with_the_key_in_its_jwk() {
        let key = TestKey::new(Algorithm::EcP256);
        let kid: Url = "https://ca.example/acct/1".parse().unwrap();
        let url: Url = "https://ca.example/order".parse().unwrap();
        let jws = sign_with_kid(&key, &kid, &url, Some("n1"), b"{}").await.unwrap();
        let jws: Value = serde_json::from_str(&jws).unwrap();
        let part = |name: &str| jws[name].as_str().unwrap().to_owned();
        let header: Value =
            serde_json::from_slice(&B64.decode(part("protected")).unwrap()).unwrap();
        let expected = json!({"alg": "ES256", "kid": kid, "nonce": "n1", "url": url});
        assert_eq!(header, expected);
        let jwk = jwk(key.public_key()).unwrap();
        let mut point = vec![4];
        point.extend(B64.decode(&jwk["x"]).unwrap());
        point.extend(B64.decode(&jwk["y"]).unwrap());
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(
                format!("{}.{}", part("protected"), part("payload")).as_bytes(),
                &B64.decode(part("signature")).unwrap(),
            )
            .unwrap();
    }
}
