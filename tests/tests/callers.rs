//! A caller that goes away in the middle of a call leaves nothing half done.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::time::Duration;

use testkit::{grpc, process::eventually, vault::Vault};
use vault_proto::v1::{self, key_service_client::KeyServiceClient};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_whose_caller_hangs_up_is_born_whole_all_the_same() {
    let mut vault = Vault::initialized();
    let socket = vault.file("admin.sock");
    let generations = |vault: &Vault, what: &str, value: &str| {
        let records = vault.audit().into_iter();
        records.filter(|r| r["action"] == "key.generate" && r[what] == value).count()
    };
    for number in 0..100 {
        let mut client = KeyServiceClient::new(grpc::local(&socket).await.unwrap());
        // RSA keys take their time, so that the caller is gone well before the key is there.
        let request = v1::GenerateKeyRequest {
            name: format!("key-{number}"),
            algorithm: v1::KeyAlgorithm::Rsa3072.into(),
            ..Default::default()
        };
        let hurried = Duration::from_millis(15);
        let answer = tokio::time::timeout(hurried, client.generate_key(request)).await;
        drop((answer, client));
        // The internal CA's key was the first.
        if number >= 7 && generations(&vault, "phase", "intent") > 1 {
            break;
        }
    }
    let listed = |vault: &Vault| vault.json(&["key", "list"]).as_array().unwrap().len();
    // The internal CA's key, and every one that the vault has heard of but for those that a busy machine has
    // not made in time; a call may still be on its way to the vault when all that were there are at their end.
    let there = eventually("every call is at its end, and what was made is there", || {
        let ended = vault.open_operations().is_empty();
        let made = generations(&vault, "outcome", "ok");
        (ended && listed(&vault) == made).then_some(made)
    });
    assert!(there > 1, "no key was made for a caller that had gone");
    assert_eq!(vault.keys_in_token().len(), there);
    vault.stop();
    vault.start();
    let findings = vault.json(&["status"])["findings"].clone();
    assert_eq!(findings.as_array().unwrap().len(), 0, "{findings}");
}
