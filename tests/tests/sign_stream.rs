//! `SignStream`: many signatures in one call, each authorized, recorded and answered by itself.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::collections::BTreeMap;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use testkit::{
    agent::Agent,
    grpc::{self, Certificate},
    process::eventually,
    vault::Vault,
    world::AGENT,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use vault_proto::{
    error::{ErrorDetail, ErrorKind},
    v1::{
        self, SignRequest, SignStreamRequest, SignStreamResponse,
        key_service_client::KeyServiceClient, sign_stream_response::Outcome,
    },
};

/// More than are under way at once.
const SOME: u64 = 400;
/// More than the vault and the connection hold of answers that nobody reads.
const MANY: u64 = 3_000;

/// A vault with a key.
fn vault() -> Vault {
    let vault = Vault::initialized();
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    vault
}

async fn as_operator(vault: &Vault) -> Channel {
    let (ada, root) = Certificate::issued(vault, "ada", "operator");
    grpc::network(vault.address, &root, Some(&ada)).await.unwrap()
}

/// A stream, and both of its ends.
async fn open(
    channel: Channel,
) -> (mpsc::Sender<SignStreamRequest>, Result<Streaming<SignStreamResponse>, Status>) {
    let (up, requests) = mpsc::channel(8);
    let opened = KeyServiceClient::new(channel).sign_stream(ReceiverStream::new(requests)).await;
    (up, opened.map(tonic::Response::into_inner))
}

fn message(id: u64) -> Vec<u8> {
    format!("document {id}").into_bytes()
}

fn request(id: u64, name: &str, mechanism: &str) -> SignStreamRequest {
    let (name, mechanism) = (name.to_owned(), mechanism.to_owned());
    SignStreamRequest { id, request: Some(SignRequest { name, mechanism, message: message(id) }) }
}

fn good(id: u64) -> SignStreamRequest {
    request(id, "k", "ecdsa-sha256")
}

/// The kind of a refusal.
fn refused(answer: &SignStreamResponse) -> ErrorKind {
    match &answer.outcome {
        Some(Outcome::Error(error)) => error.kind(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_request_has_its_answer_and_a_refusal_ends_no_other() {
    let vault = vault();
    let channel = as_operator(&vault).await;
    let key = v1::GetKeyRequest { name: "k".into() };
    let key = KeyServiceClient::new(channel.clone()).get_key(key).await.unwrap().into_inner();
    let (up, down) = open(channel).await;
    let mut down = down.unwrap();
    let (asked_some, some_asked) = oneshot::channel();
    let asking = tokio::spawn(async move {
        let mut asked_some = Some(asked_some);
        for id in 0..MANY {
            if id == SOME {
                let _ = asked_some.take().unwrap().send(());
            }
            let mut asked = match id % 10 {
                3 => request(id, "nobody", "ecdsa-sha256"),
                5 => request(id, "k", "rsa-pss-sha256"),
                7 => SignStreamRequest { id, request: None },
                _ => good(id),
            };
            if id == 9 {
                asked.request.as_mut().unwrap().message = vec![0; (1 << 20) + 1];
            }
            up.send(asked).await.unwrap();
        }
    });
    // Nothing is lost where a caller is slow to read.
    some_asked.await.unwrap();
    let mut answers = BTreeMap::new();
    while let Some(answer) = down.message().await.unwrap() {
        assert!(answers.insert(answer.id, answer).is_none(), "answered twice");
    }
    asking.await.unwrap();
    assert_eq!(answers.len() as u64, MANY);
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.public_key_der);
    for (id, answer) in answers {
        match id % 10 {
            3 => assert_eq!(refused(&answer), ErrorKind::NotFound),
            5 | 7 => assert_eq!(refused(&answer), ErrorKind::Invalid),
            9 if id == 9 => assert_eq!(refused(&answer), ErrorKind::Invalid),
            _ => {
                let Some(Outcome::Signed(signed)) = answer.outcome else { panic!("{answer:?}") };
                assert_eq!(signed.key_id, key.id);
                public.verify(&message(id), &signed.signature).expect("this message's signature");
            }
        }
    }
    assert!(vault.open_operations().is_empty());
    vault.ok(&["audit", "verify"]);
}

#[tokio::test]
async fn who_asks_is_asked_for_each_request() {
    let vault = vault();
    let agent = Agent::enrolled(&vault, AGENT, "");
    let (certificate, root) = Certificate::of_agent(&agent);
    let (up, down) =
        open(grpc::network(vault.address, &root, Some(&certificate)).await.unwrap()).await;
    let mut down = down.unwrap();
    up.send(good(1)).await.unwrap();
    assert_eq!(refused(&down.message().await.unwrap().unwrap()), ErrorKind::Denied);
    let denied = vault.audit().into_iter().find(|record| record["action"] == "key.sign.message");
    assert!(denied.unwrap()["detail"]["denied"].is_string());
    vault.ok(&["agent", "evict", AGENT, "--yes"]);
    up.send(good(2)).await.unwrap();
    assert_eq!(refused(&down.message().await.unwrap().unwrap()), ErrorKind::Unauthenticated);

    let (_, nobody) = open(grpc::network(vault.address, &root, None).await.unwrap()).await;
    assert_eq!(nobody.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_stops_ends_what_it_has_begun_and_has_recorded_all_that_it_gave() {
    let mut vault = vault();
    let (up, down) = open(as_operator(&vault).await).await;
    let mut down = down.unwrap();
    let asking = tokio::spawn(async move {
        for id in 0.. {
            if up.send(good(id)).await.is_err() {
                return;
            }
        }
    });
    let mut signed = 0;
    let ended = loop {
        match down.message().await {
            Ok(Some(SignStreamResponse { outcome: Some(Outcome::Signed(_)), .. })) => signed += 1,
            Ok(other) => panic!("{other:?}"),
            Err(status) => break status,
        }
        if signed == 100 {
            vault.process().terminate();
        }
    };
    assert_eq!(ErrorDetail::from_status(&ended).kind(), ErrorKind::Unavailable, "{ended:?}");
    assert!(vault.process().wait_exit().success());
    asking.await.unwrap();
    let log = vault.process().log();
    assert!(!log.contains("calls were still under way"), "{log}");
    let is_result = |record: &serde_json::Value| {
        record["action"] == "key.sign.message" && record["phase"] == "result"
    };
    let results = vault.audit().iter().filter(|record| is_result(record)).count();
    // The connection may be closed before the last answers have been read.
    assert!(signed >= 100 && results >= signed, "{results} of {signed} are on record");
    assert!(vault.open_operations().is_empty());
}

#[tokio::test]
async fn a_caller_who_hangs_up_leaves_nothing_half_done() {
    let vault = vault();
    let (up, down) = open(as_operator(&vault).await).await;
    for id in 0..200 {
        up.send(good(id)).await.unwrap();
    }
    drop((up, down));
    eventually("everything begun is at its end", || {
        let begun = |record: &serde_json::Value| record["action"] == "key.sign.message";
        (vault.audit().iter().any(begun) && vault.open_operations().is_empty()).then_some(())
    });
    vault.ok(&["status"]);
}
