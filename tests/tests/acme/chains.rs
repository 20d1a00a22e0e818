//! A chain that is not what was ordered is refused before it is stored, whoever sent it.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SignatureAlgorithm,
};
use testkit::{
    fault_ca::{Fault, Place},
    nginx::Nginx,
    world::{Install, SITE, webroot},
};
use time::{Duration, OffsetDateTime};

use super::world::{World, leaf};

/// A P-256 key of which only the public half is known.
struct PublicKey(Vec<u8>);

impl PublicKey {
    /// The key of a chain's leaf.
    fn of(chain: &str) -> Self {
        let leaf = leaf(chain);
        let key = leaf.tbs_certificate().subject_public_key_info();
        Self(key.subject_public_key.raw_bytes().to_vec())
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// A CA that signs whatever it likes.
fn issuer() -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "any CA");
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), Issuer::new(params, key))
}

/// A chain for a key and names, valid from and to these days from now.
fn forged(key: &impl PublicKeyData, names: &[&str], from: i64, to: i64) -> String {
    let (top, issuer) = issuer();
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut leaf = CertificateParams::new(names).unwrap();
    leaf.not_before = OffsetDateTime::now_utc() + Duration::days(from);
    leaf.not_after = OffsetDateTime::now_utc() + Duration::days(to);
    leaf.signed_by(key, &issuer).unwrap().pem() + &top
}

type Change = fn(String) -> String;

/// What the CA sends in place of the chain, and what is said of it.
const CHAINS: &[(Change, &str)] = &[
    (|real| forged(&PublicKey::of(&real), &["other.example"], -1, 90), "does not name shop"),
    (|real| forged(&PublicKey::of(&real), &[SITE, "more.example"], -1, 90), "names more.example"),
    (|_| forged(&KeyPair::generate().unwrap(), &[SITE], -1, 90), "key is not the one"),
    (|real| forged(&PublicKey::of(&real), &[SITE], -90, -1), "ended"),
    (|real| forged(&PublicKey::of(&real), &[SITE], 1, 90), "begins only"),
    (
        |real| {
            let end = "-----END CERTIFICATE-----\n";
            let leaf = real.split_inclusive(end).next().unwrap();
            leaf.to_owned() + &issuer().0
        },
        "a link does not hold",
    ),
    (|real| real.repeat(6), "certificates"),
    (|real| real.replace('M', "*"), "malformed"),
    (|real| real[..real.len() / 4].to_owned(), ""),
    (|_| "<html>It works!</html>".to_owned(), "no certificate"),
    (|_| String::new(), "no certificate"),
];

#[test]
fn a_chain_that_does_not_fit_is_not_stored_and_the_old_one_is_served() {
    let world = World::bare();
    let nginx = Nginx::start(SITE, world.pebble.http01);
    let world = world.ready_with(|_| Install::into(&nginx).toml() + &webroot(&nginx));
    let ended = world.issue("shop", "agent", &["--domain", SITE, "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let chain = world.vault.ok(&["cert", "chain", "shop"]);
    nginx.wait_serves(SITE, ended.json()["serial"].as_str().unwrap());
    let served = nginx.served(SITE, &["-serial"]);
    let mut attempts = 0;
    for (change, why) in CHAINS {
        world.ca.fail(Place::Certificate, Fault::Changed(Arc::new(change)));
        world.vault.ok(&["cert", "renew", "shop", "--force"]);
        let failed = world.wait_failed("shop", attempts);
        attempts = failed["failed_attempts"].as_u64().unwrap();
        let error = failed["last_error"].as_str().unwrap();
        assert!(error.contains("the certificate chain") && error.contains(why), "{why}: {error}");
        assert_eq!(failed["version"], 1, "{why}");
        assert_eq!(world.vault.ok(&["cert", "chain", "shop"]), chain, "{why}");
        assert_eq!(nginx.served(SITE, &["-serial"]), served, "{why}");
        world.ca.heal();
    }
    assert_eq!(world.vault.json(&["cert", "history", "shop"]).as_array().unwrap().len(), 1);
    let renewed = world.vault.json(&["cert", "renew", "shop", "--force", "--wait"]);
    assert_eq!(renewed["version"], 2);
    nginx.wait_serves(SITE, renewed["serial"].as_str().unwrap());
}

#[test]
fn a_chain_in_another_dress_is_the_same_chain() {
    let world = World::with_agent(&["shop"]);
    // RFC 8555 section 9.1 wants LF and nothing between; not every CA knows.
    let dressed =
        |real: String| format!("subject=/CN=shop\r\n{}\r\n\r\n", real.replace('\n', "\r\n"));
    world.ca.fail(Place::Certificate, Fault::Changed(Arc::new(dressed)));
    let ended = world.issue("shop", "vault", &["--domain", "shop.example", "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let chain = world.vault.ok(&["cert", "chain", "shop"]);
    assert!(chain.starts_with("-----BEGIN") && !chain.contains('\r'), "{chain}");
}
