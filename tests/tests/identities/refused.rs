//! Certificates that do not count: expired, forged, of another vault, of another role.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType, SerialNumber,
};
use testkit::{
    agent::Agent,
    grpc::{self, Certificate},
    process::eventually,
    vault::Vault,
};
use tonic::Code;
use vault_proto::{
    error::ErrorDetail,
    v1::{StatusRequest, system_service_client::SystemServiceClient},
};

/// What an operator's certificate says, for `name` in `domain`.
fn leaf(domain: &str, name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let id = format!("spiffe://{domain}/operator/{name}");
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.distinguished_name = named(&format!("operator/{name}"));
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// A root with a name, and its key.
fn root(common_name: &str) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = named(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params, KeyPair::generate().unwrap())
}

/// A directory as `vaultctl operator issue` writes it, with the vault's root.
fn write(vault: &Vault, name: &str, chain: &str, key: &KeyPair) -> PathBuf {
    let dir = vault.file(name);
    fs::create_dir(&dir).unwrap();
    fs::copy(vault.file("ada").join("ca.pem"), dir.join("ca.pem")).unwrap();
    fs::write(dir.join("cert.pem"), chain).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    dir
}

fn openssl(cert: &Path, what: &str) -> String {
    let cert = cert.display().to_string();
    let shown = testkit::programs::must("openssl", &["x509", "-noout", "-in", &cert, what]);
    shown.trim().split_once('=').unwrap().1.to_owned()
}

/// Refused at the handshake: before any request is read.
fn refused(vault: &Vault, dir: &Path) {
    let before = vault.json(&["key", "list"]);
    for args in [&["status"][..], &["key", "generate", "k", "--algorithm", "ec-p256"]] {
        let ended = vault.ctl_as(dir, args);
        ended.refused(4, "the vault does not take this client certificate");
    }
    assert_eq!(vault.json(&["key", "list"]), before);
}

#[test]
fn a_forged_certificate_is_refused() {
    let vault = Vault::initialized();
    let ada = vault.issue("ada", "operator");
    assert_eq!(vault.ctl_as(&ada, &["status"]).code, 0);
    // The same names, serial number and issuer, and a root by the same name.
    let serial = hex::decode(openssl(&ada.join("cert.pem"), "-serial")).unwrap();
    let issuer =
        format!("Vault internal CA {}", vault.json(&["status"])["vault_id"].as_str().unwrap());
    assert!(openssl(&ada.join("cert.pem"), "-issuer").contains(&issuer), "the test's own premise");
    let (ca, ca_key) = root(&issuer);
    let key = KeyPair::generate().unwrap();
    let mut params = leaf("test.example", "ada");
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let forged = params.signed_by(&key, &Issuer::new(ca.clone(), &ca_key)).unwrap();
    let its_root = ca.self_signed(&ca_key).unwrap();
    let alone = write(&vault, "alone", &forged.pem(), &key);
    refused(&vault, &alone);
    let whole = write(&vault, "whole", &format!("{}{}", forged.pem(), its_root.pem()), &key);
    refused(&vault, &whole);
    let own = leaf("test.example", "ada").self_signed(&key).unwrap();
    refused(&vault, &write(&vault, "own", &own.pem(), &key));
}

#[test]
fn an_operator_s_certificate_issues_no_other() {
    let vault = Vault::initialized();
    let ada = vault.issue("ada", "operator");
    let pem = fs::read_to_string(ada.join("key.pem")).unwrap();
    let mut as_ca = CertificateParams::new(Vec::new()).unwrap();
    as_ca.distinguished_name = named("operator/ada");
    let issuer = Issuer::new(as_ca, KeyPair::from_pem(&pem).unwrap());
    let key = KeyPair::generate().unwrap();
    let issued = leaf("test.example", "mallory").signed_by(&key, &issuer).unwrap();
    let chain = format!("{}{}", issued.pem(), fs::read_to_string(ada.join("cert.pem")).unwrap());
    refused(&vault, &write(&vault, "mallory", &chain, &key));
}

#[test]
fn a_certificate_of_another_vault_is_refused_and_so_is_the_other_vault() {
    for domain in ["test.example", "other.example"] {
        let vault = Vault::initialized();
        let ada = vault.issue("ada", "operator");
        let mut other = Vault::new();
        other.reconfigure("test.example", domain);
        other.start();
        other.ok(&["init"]);
        let theirs = other.issue("ada", "operator");
        assert_eq!(other.ctl_as(&theirs, &["status"]).code, 0, "the test's own premise");
        // The operator trusts neither: each side finds out.
        let stranger = other.ctl_as(&ada, &["status"]);
        stranger.refused(7, "this is not the vault of the profile");
        fs::copy(ada.join("ca.pem"), theirs.join("ca.pem")).unwrap();
        refused(&vault, &theirs);
    }
}

#[test]
fn an_expired_certificate_is_refused() {
    let mut vault = Vault::initialized();
    let ada = vault.issue("ada", "operator");
    vault.stop();
    vault.reconfigure("drain =", "identity_lifetime = \"1s\"\ndrain =");
    vault.start();
    let late = vault.issue("late", "operator");
    // In its last second the handshake may still succeed, and the request be refused.
    eventually("a handshake after its end", || {
        let ended = vault.ctl_as(&late, &["status"]);
        assert!([0, 4].contains(&ended.code), "{ended:?}");
        ended.stderr.contains("Expired").then(|| ended.refused(4, "is expired").code)
    });
    assert_eq!(vault.ctl_as(&ada, &["status"]).code, 0, "others are not touched");
}

#[tokio::test]
async fn an_open_connection_ends_its_rights_with_its_certificate() {
    let mut vault = Vault::new();
    vault.reconfigure("drain =", "identity_lifetime = \"20s\"\ndrain =");
    vault.start();
    vault.ok(&["init"]);
    let ada = vault.issue("ada", "operator");
    let root = fs::read_to_string(ada.join("ca.pem")).unwrap();
    let certificate = Certificate::of(&ada);
    let channel = grpc::network(vault.address, &root, Some(&certificate)).await.unwrap();
    let mut system = SystemServiceClient::new(channel);
    system.status(StatusRequest {}).await.expect("it counts yet");
    let end = std::time::Instant::now() + testkit::process::PATIENCE;
    let status = loop {
        if let Err(status) = system.status(StatusRequest {}).await {
            break status;
        }
        assert!(std::time::Instant::now() < end, "it still counts");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    let detail = ErrorDetail::from_status(&status);
    assert!(detail.why.contains("operator/ada ended"), "{detail:?}");
    assert!(!detail.hint.is_empty());
    assert_eq!(detail.kind().exit_code(), 4);
}

#[test]
fn an_agent_s_certificate_is_no_operator_s() {
    let vault = Vault::initialized();
    let agent = Agent::new(&vault, "");
    assert_eq!(agent.enroll(&vault, "web1").code, 0);
    vault.issue("ada", "operator");
    let identity = fs::read_to_string(agent.file("state").join("identity.pem")).unwrap();
    let (at, end) = (identity.find("-----BEGIN CERT"), "-----END CERTIFICATE-----\n");
    let chain = identity[at.unwrap()..].split_inclusive(end).next().unwrap();
    let at = identity.find("-----BEGIN PRIVATE").unwrap();
    let key = identity[at..].split_inclusive("-----END PRIVATE KEY-----\n").next().unwrap();
    let dir = write(&vault, "web1", chain, &KeyPair::from_pem(key).unwrap());
    let before = vault.json(&["key", "list"]);
    for args in [
        &["status"][..],
        &["key", "list"],
        &["key", "show", "nothing"],
        &["key", "generate", "k", "--algorithm", "ec-p256"],
        &["cert", "list"],
        &["agent", "token", "web2"],
        &["audit", "query"],
        &["operator", "issue", "mallory", "--out", &vault.path("mallory")],
    ] {
        vault.ctl_as(&dir, args).refused(4, "spiffe://test.example/agent/web1 has no role");
    }
    assert_eq!(vault.json(&["key", "list"]), before);
    assert!(!vault.file("mallory").join("key.pem").exists());
}
