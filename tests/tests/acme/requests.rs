//! What the vault signs for a CA verifies: by the CA itself, by OpenSSL, and by the public key that
//! the vault shows.

use std::{fs, path::Path, process::Command};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testkit::{
    fault_ca::Seen,
    pebble::Behaviour,
    programs::{must, run},
};
use x509_cert::der::{DecodePem as _, Encode as _};

use super::world::{ACCOUNT, World, leaf};

/// The uncompressed point of a P-256 key, PEM.
fn point(pem: &str) -> Vec<u8> {
    let spki = x509_cert::spki::SubjectPublicKeyInfoOwned::from_pem(pem).expect("public key");
    spki.subject_public_key.raw_bytes().to_vec()
}

/// RFC 7638 section 3, made by hand.
fn thumbprint(point: &[u8]) -> String {
    let (x, y) = (B64.encode(&point[1..33]), B64.encode(&point[33..]));
    let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    B64.encode(Sha256::digest(jwk))
}

fn verify(seen: &Seen, point: &[u8]) {
    let part = |name: &str| seen.body[name].as_str().unwrap().to_owned();
    let signed = format!("{}.{}", part("protected"), part("payload"));
    let signature = B64.decode(part("signature")).unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &signature)
        .unwrap_or_else(|_| panic!("not the HSM's signature: {seen:?}"));
}

#[test]
fn every_request_to_the_ca_is_signed_by_the_key_in_the_hsm() {
    let world = World::with_agent(&["shop"]);
    let ended = world.issue("shop", "vault", &["--domain", "shop.example", "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    world.vault.ok(&["cert", "revoke", "shop", "--reason", "superseded", "--yes", "--no-replace"]);

    let account = world.account();
    let id = account["key_id"].as_str().unwrap().replace('-', "");
    assert!(world.vault.keys_in_token().contains(&id), "the account's key is in the token");
    let point = point(&world.vault.ok(&["key", "public", ACCOUNT]));
    assert_eq!(account["thumbprint"], thumbprint(&point));
    let all = world.ca.all_seen();
    let posts: Vec<_> = all.iter().filter(|seen| seen.method == "POST").collect();
    assert!(posts.len() > 5, "{posts:?}");
    for post in posts {
        verify(post, &point);
        let header = post.header();
        match header.get("jwk") {
            Some(jwk) => assert_eq!(jwk["x"], B64.encode(&point[1..33])),
            None => assert_eq!(header["kid"], account["url"]),
        }
    }
}

/// A POST by curl; answers its status and its body.
fn post(world: &World, url: &str, jws: &Path) -> (String, String) {
    let body = world.vault.path("answer");
    let mut command = Command::new("curl");
    command.args(["-s", "-o", &body, "-w", "%{http_code}", "--cacert"]).arg(world.pebble.root());
    command.args(["-H", "Content-Type: application/jose+json", "--data-binary"]);
    command.arg(format!("@{}", jws.display())).arg(url);
    let ended = run(command);
    assert_eq!(ended.code, 0, "{ended:?}");
    (ended.stdout, fs::read_to_string(body).unwrap_or_default())
}

fn nonce(world: &World) -> String {
    let (root, url) =
        (world.pebble.root(), format!("https://{}/nonce-plz", world.pebble.address()));
    let headers = must("curl", &["-sfI", "--cacert", &root.display().to_string(), &url]);
    let headers = headers.lines().filter_map(|line| line.split_once(": "));
    let mut nonces = headers.filter(|(name, _)| name.eq_ignore_ascii_case("replay-nonce"));
    nonces.next().expect("a nonce").1.trim().to_owned()
}

#[test]
fn a_jws_by_hand_is_taken_by_the_ca() {
    let world = World::behaving(Behaviour { nonce_reject: 0, ..Behaviour::default() });
    let (directory, root) = (world.pebble.directory(), world.pebble.root().display().to_string());
    let args = ["account", "register", ACCOUNT, "--directory", &directory, "--ca-root", &root];
    world.vault.ok(&[&args[..], &["--agree-tos"]].concat());
    let url = world.account()["url"].as_str().unwrap().to_owned();
    let order = format!("https://{}/order-plz", world.pebble.address());
    let payload = json!({ "identifiers": [{ "type": "dns", "value": "shop.example" }] });
    let (empty, placed) = (world.vault.path("empty"), world.vault.path("order.json"));
    fs::write(&empty, "").unwrap();
    fs::write(&placed, payload.to_string()).unwrap();
    let jws = world.vault.file("jws");
    for (url, payload, status) in [(&url, &empty, "200"), (&order, &placed, "201")] {
        let nonce = nonce(&world);
        let args = ["jws", "sign", "--account", ACCOUNT, "--url", url, "--payload", payload];
        fs::write(&jws, world.vault.ok(&[&args[..], &["--nonce", &nonce]].concat())).unwrap();
        let (answered, body) = post(&world, url, &jws);
        assert_eq!(answered, status, "{url}: {body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert!(body["status"] == "valid" || body["status"] == "pending", "{body}");
    }
    // The same again is worth nothing: a nonce counts once.
    assert_eq!(post(&world, &order, &jws).0, "400");
    // base64url: every 64th nonce of a CA begins with a hyphen.
    let args = ["jws", "sign", "--account", ACCOUNT, "--url", &order, "--payload", &placed];
    let signed = world.vault.ok(&[&args[..], &["--nonce", "-Fu5QkTJugu0MoTTd8VFnQ"]].concat());
    let signed: Value = serde_json::from_str(&signed).unwrap();
    let header = B64.decode(signed["protected"].as_str().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header["nonce"], "-Fu5QkTJugu0MoTTd8VFnQ");
}

#[test]
fn a_request_for_a_certificate_verifies_in_openssl() {
    let world = World::bare();
    let csr = world.vault.path("csr.pem");
    for algorithm in ["ec-p256", "ec-p384", "rsa-2048", "ed25519"] {
        world.vault.ok(&["key", "generate", algorithm, "--algorithm", algorithm]);
        world.vault.ok(&[
            "csr",
            "create",
            "--key",
            algorithm,
            "--domain",
            "shop.example",
            "--domain",
            "www.shop.example",
            "--ip",
            "192.0.2.7",
            "--ip",
            "2001:db8::7",
            "--must-staple",
            "--out",
            &csr,
        ]);
        let shown = must("openssl", &["req", "-verify", "-noout", "-text", "-in", &csr]);
        for name in [
            "DNS:shop.example",
            "DNS:www.shop.example",
            "IP Address:192.0.2.7",
            "IP Address:2001:DB8:0:0:0:0:0:7",
            "status_request",
        ] {
            assert!(shown.contains(name), "{algorithm}: no {name} in {shown}");
        }
        let key = must("openssl", &["req", "-noout", "-pubkey", "-in", &csr]);
        assert_eq!(key, world.vault.ok(&["key", "public", algorithm]), "{algorithm}");
        fs::remove_file(&csr).unwrap();
    }
    // Nothing is signed for what is no name.
    let args = ["csr", "create", "--key", "ec-p256", "--domain", "bad..example", "--out", &csr];
    world.vault.ctl(&args).refused(2, "bad..example");
    assert!(!Path::new(&csr).exists());
}

#[test]
fn a_chain_of_custody_vault_is_for_the_key_in_the_hsm() {
    let world = World::with_agent(&["shop"]);
    let ended = world.issue("shop", "vault", &["--domain", "shop.example", "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let chain = world.vault.ok(&["cert", "chain", "shop"]);
    let key =
        |chain: &str| leaf(chain).tbs_certificate().subject_public_key_info().to_der().unwrap();
    let public = world.vault.ok(&["key", "public", "shop"]);
    let public = x509_cert::spki::SubjectPublicKeyInfoOwned::from_pem(&public).unwrap();
    let public = public.to_der().unwrap();
    assert_eq!(key(&chain), public);
    let id = world.certificate("shop")["key_id"].as_str().unwrap().replace('-', "");
    assert!(world.vault.keys_in_token().contains(&id), "its private key is in the token");
    // A renewal keeps the key, and is another certificate.
    world.vault.ok(&["cert", "renew", "shop", "--force", "--wait"]);
    let renewed = world.vault.ok(&["cert", "chain", "shop"]);
    assert_ne!(renewed, chain);
    assert_eq!(key(&renewed), public);
}
