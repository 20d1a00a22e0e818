//! `cert update`: what of a certificate can be changed, and what can not.

use serde_json::{Value, json};
use testkit::{
    vault::Vault,
    world::{CERTIFICATE, SITE, order},
};
use vault_proto::v1::{
    UpdateCertificateRequest, certificate_service_client::CertificateServiceClient,
};

use super::scene::Scene;

const UPDATE: [&str; 3] = ["cert", "update", CERTIFICATE];

/// The settings, as `cert show` has them.
fn shown(vault: &Vault) -> Value {
    let all = vault.json(&["cert", "show", CERTIFICATE]);
    let settings = ["challenge", "profile", "tls_use", "rotate_key"];
    settings.iter().map(|name| ((*name).to_owned(), all[name].clone())).collect()
}

#[test]
fn settings_are_changed_one_by_one_or_together_and_shown() {
    let mut scene = Scene::new();
    // It offers no profiles; where it cannot be asked, any may be one of its.
    scene.pebble.stop();
    let vault = &scene.vault;
    let mut expected =
        json!({ "challenge": "http-01", "profile": "", "tls_use": "message", "rotate_key": false });
    assert_eq!(shown(vault), expected);
    let before = vault.json(&["cert", "show", CERTIFICATE]);
    let cases: &[(&[&str], Value)] = &[
        (&["--rotate-key", "true"], json!({ "rotate_key": true })),
        (&["--tls-use", "tls13"], json!({ "tls_use": "tls13" })),
        (&["--profile", "shortlived"], json!({ "profile": "shortlived" })),
        (&["--acme-profile=classic"], json!({ "profile": "classic" })),
        (&["--challenge", "http-01"], json!({})),
        (&["--tls-use", "tls13"], json!({})),
        (
            &["--rotate-key", "false", "--tls-use", "digest", "--no-profile"],
            json!({ "rotate_key": false, "tls_use": "digest", "profile": "" }),
        ),
        (
            &["--rotate-key", "true", "--tls-use", "message"],
            json!({ "rotate_key": true, "tls_use": "message" }),
        ),
        (&["--rotate-key", "false"], json!({ "rotate_key": false })),
    ];
    for (rest, change) in cases {
        let answer = vault.json(&[&UPDATE[..], *rest].concat());
        for (name, value) in change.as_object().unwrap() {
            expected[name] = value.clone();
        }
        assert_eq!(shown(vault), expected, "{rest:?}");
        assert_eq!(answer, vault.json(&["cert", "show", CERTIFICATE]), "{rest:?}");
    }
    // All is as it was, and so is everything that is no setting.
    assert_eq!(vault.json(&["cert", "show", CERTIFICATE]), before);
    let table = vault.ok(&["cert", "show", CERTIFICATE]);
    for line in ["tls_use", "rotate_key"] {
        assert!(table.lines().any(|shown| shown.trim().starts_with(line)), "{table}");
    }
}

#[test]
fn an_update_that_names_no_change_or_a_bad_one_is_refused() {
    let scene = Scene::new();
    let cases: &[(&[&str], &str)] = &[
        (&[], "--tls-use"),
        (&["--tls-use", "everything"], "everything"),
        (&["--tls-use", ""], "--tls-use"),
        (&["--rotate-key"], "--rotate-key"),
        (&["--rotate-key", "yes"], "yes"),
        (&["--profile", ""], "profile"),
        (&["--profile", "shortlived", "--no-profile"], "--no-profile"),
        (&["--challenge", "email"], "email"),
        (&["--canary", "web9"], "does not go to agent web9"),
        (&["--canary", "web1", "--no-canary"], "--no-canary"),
        (&["--challenge", "dns-01"], "no DNS is set up"),
        (&["--domain", "other.example"], "--domain"),
        (&["--algorithm", "rsa-2048"], "--algorithm"),
    ];
    for (rest, why) in cases {
        scene.refuse(&[&UPDATE[..], *rest].concat(), 2, why);
    }
}

/// Another client than `vaultctl` may ask for nothing.
#[tokio::test]
async fn the_vault_itself_refuses_an_update_that_names_no_change() {
    let vault = Vault::initialized();
    let channel = testkit::grpc::local(&vault.file("admin.sock")).await.unwrap();
    let request = UpdateCertificateRequest { name: CERTIFICATE.into(), ..Default::default() };
    let status = CertificateServiceClient::new(channel).update_certificate(request).await;
    let detail = vault_proto::error::ErrorDetail::from_status(&status.unwrap_err());
    assert_eq!((detail.kind().exit_code(), detail.why.as_str()), (2, "no change is named"));
    assert!(detail.hint.contains("cert update --help"), "{detail:?}");
}

#[test]
fn a_new_key_for_each_renewal_and_digests_exclude_each_other() {
    let scene = Scene::new();
    let vault = &scene.vault;
    let (rotate, digest) = (["--rotate-key", "true"], ["--tls-use", "digest"]);
    let issue = order("new", SITE, "vault", &["--rotate-key", "--tls-use", "digest"]);
    let refused = |args: &[&str]| {
        let ended = scene.refuse(args, 2, "knows keys by their name alone");
        for way_out in ["--tls-use message", "--rotate-key false"] {
            assert!(ended.stderr.contains(way_out), "{ended:?}");
        }
    };
    refused(&issue);
    refused(&[&UPDATE[..], &rotate, &digest].concat());
    vault.ok(&[&UPDATE[..], &rotate].concat());
    refused(&[&UPDATE[..], &digest].concat());
    vault.ok(&[&UPDATE[..], &digest, &["--rotate-key", "false"]].concat());
    refused(&[&UPDATE[..], &rotate].concat());
}

#[test]
fn an_update_is_on_the_audit_log_with_what_it_changes() {
    let scene = Scene::new();
    scene.vault.ok(&[&UPDATE[..], &["--tls-use", "tls13", "--no-profile"]].concat());
    scene.vault.ctl(&[&UPDATE[..], &["--challenge", "dns-01"]].concat()).refused(2, "dns-01");
    let updates: Vec<_> = scene
        .vault
        .audit()
        .into_iter()
        .filter(|record| record["detail"]["change"] == "update")
        .map(|intent| {
            assert_eq!(intent["action"], "certificate.manage");
            assert_eq!(intent["resource"], format!("certificate/{CERTIFICATE}"));
            let results = scene.vault.audit().into_iter();
            let mut results = results.filter(|r| r["operation"] == intent["operation"]);
            (intent["detail"].clone(), results.next_back().unwrap()["outcome"].clone())
        })
        .collect();
    assert_eq!(
        updates,
        [
            (json!({ "change": "update", "tls_use": "tls13", "profile": null }), json!("ok")),
            (json!({ "change": "update", "challenge": "dns-01" }), json!("failed")),
        ]
    );
}
