//! What an agent may have signed for its web servers, and how much: on its stream to the vault itself.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use testkit::{
    agent::Agent,
    grpc::{self, Certificate},
    process::PATIENCE,
    vault::Vault,
    world::{AGENT, CERTIFICATE, Install, SITE, World, order, webroot},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use vault_proto::{
    error::{ErrorDetail, ErrorKind},
    ids::KeyId,
    v1::{self, agent_session_service_client::AgentSessionServiceClient, tls_sign_answer::Outcome},
};

/// A second certificate.
const OTHER: &str = "other";
/// A second agent, which is enrolled and does not run: its stream is the test's.
const SECOND: &str = "web2";

/// A vault with two certificates, both for both agents, and nobody but the test that signs.
struct Rules {
    world: World,
    second: Agent,
}

impl Rules {
    fn new() -> Self {
        Self::on(Vault::initialized())
    }

    fn with_rate(per_second: u32) -> Self {
        let mut vault = Vault::new();
        let policy = "trust_domain = \"test.example\"";
        let rate = format!("{policy}\ntls_signatures_per_second = {per_second}");
        vault.reconfigure(policy, &rate);
        vault.start();
        vault.ok(&["init"]);
        Self::on(vault)
    }

    fn on(vault: Vault) -> Self {
        let world = World::with(vault, |nginx| {
            let files = |name: &str| {
                let key = Some(nginx.file(&format!("{name}.key")));
                let chain = nginx.file(&format!("{name}.pem"));
                Install { key, ..Install::file(name, chain) }.toml()
            };
            format!("{}{}{}", files(CERTIFICATE), files(OTHER), webroot(nginx))
        });
        let second = Agent::new(&world.vault, "");
        let ended = second.enroll(&world.vault, SECOND);
        assert_eq!(ended.code, 0, "{ended:?}");
        for (name, domain) in [(CERTIFICATE, SITE), (OTHER, "other.example")] {
            world.vault.ok(&order(name, domain, "vault", &["--wait"]));
            world.vault.ok(&["cert", "deploy", name, "--to", SECOND]);
        }
        Self { world, second }
    }

    fn vault(&self) -> &Vault {
        &self.world.vault
    }

    /// The id of a certificate's key.
    fn key(&self, certificate: &str) -> KeyId {
        self.world.certificate(certificate)["key_id"].as_str().unwrap().parse().unwrap()
    }

    /// Opens an agent's stream.
    async fn stream(&self, agent: &str) -> Stream {
        self.try_stream(agent).await.expect("a stream")
    }

    /// The same, where the vault may refuse it.
    async fn try_stream(&self, agent: &str) -> Result<Stream, Status> {
        let agent = if agent == AGENT { &self.world.agent } else { &self.second };
        let (certificate, root) = Certificate::of_agent(agent);
        let channel = grpc::network(self.vault().address, &root, Some(&certificate)).await;
        let (up, outgoing) = mpsc::channel(16);
        let mut client = AgentSessionServiceClient::new(channel.expect("a vault"));
        let down = client.sign_tls(ReceiverStream::new(outgoing)).await?;
        Ok(Stream { up, down: down.into_inner() })
    }
}

/// An open stream. What is asked is awaited before the next is asked.
struct Stream {
    up: mpsc::Sender<v1::TlsSignRequests>,
    down: Streaming<v1::TlsSignAnswers>,
}

type Signed = Result<Vec<u8>, ErrorDetail>;

impl Stream {
    /// Asks for as many signatures in one message; the stream's own end is the outer error.
    async fn ask(
        &mut self,
        count: u64,
        request: v1::TlsSignRequest,
    ) -> Result<Vec<Signed>, Status> {
        let numbered = |id| v1::TlsSignRequest { id, ..request.clone() };
        let requests = (0..count).map(numbered).collect();
        // A stream that has ended says so when it is read.
        let _ = self.up.send(v1::TlsSignRequests { requests }).await;
        let mut signed = Vec::new();
        while (signed.len() as u64) < count {
            let answers = tokio::time::timeout(PATIENCE, self.down.message());
            let answers = answers.await.expect("an answer")?;
            let Some(answers) = answers else { return Err(Status::cancelled("the stream ended")) };
            signed.extend(answers.answers.into_iter().map(|answer| match answer.outcome {
                Some(Outcome::Signature(signature)) => Ok(signature),
                Some(Outcome::Error(error)) => Err(error),
                None => panic!("an answer without an outcome"),
            }));
        }
        Ok(signed)
    }

    /// Asks for one signature.
    async fn sign(&mut self, request: v1::TlsSignRequest) -> Signed {
        self.ask(1, request).await.expect("an open stream").remove(0)
    }
}

fn request(key: KeyId, mechanism: &str, data: Vec<u8>) -> v1::TlsSignRequest {
    let (key_id, mechanism) = (key.as_bytes().to_vec(), mechanism.to_owned());
    v1::TlsSignRequest { id: 0, key_id, mechanism, data }
}

/// The CertificateVerify of TLS 1.3.
fn certificate_verify(key: KeyId) -> v1::TlsSignRequest {
    let transcript = [7; 32];
    let parts = [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", &transcript];
    request(key, "ecdsa-sha256", parts.concat())
}

/// The ServerKeyExchange of TLS 1.2, with a key on P-256.
fn server_key_exchange(key: KeyId) -> v1::TlsSignRequest {
    request(key, "ecdsa-sha256", [&[7; 64][..], &[3, 0, 23, 65], &[4; 65]].concat())
}

/// The digest of something.
fn digest(key: KeyId) -> v1::TlsSignRequest {
    request(key, "ecdsa-digest", vec![7; 32])
}

/// A signature with a P-256 key: r‖s.
fn is_signature(signed: &Signed) -> bool {
    signed.as_ref().is_ok_and(|signature| signature.len() == 64)
}

/// Checks that it was refused so.
fn refused(signed: &Signed, kind: ErrorKind, why: &str, hint: &str) {
    let error = signed.as_ref().expect_err("it must be refused");
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.why.contains(why) && error.hint.contains(hint), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn above_its_rate_an_agent_is_refused_one_key_and_nobody_else_is_anything() {
    let rules = Rules::with_rate(1);
    let (shop, other) = (rules.key(CERTIFICATE), rules.key(OTHER));
    let mut first = rules.stream(AGENT).await;
    let signed = first.ask(200, certificate_verify(shop)).await.unwrap();
    let (good, bad): (Vec<_>, Vec<_>) = signed.into_iter().partition(is_signature);
    assert!(!good.is_empty() && !bad.is_empty(), "{} of 200 are above the rate", bad.len());
    for refusal in &bad {
        let rate = "[policy] tls_signatures_per_second";
        refused(refusal, ErrorKind::Exhausted, "agent web1 asks for more than its rate", rate);
    }
    // Another key, another agent.
    let signed = first.sign(certificate_verify(other)).await;
    assert!(is_signature(&signed), "{signed:?}");
    let signed = rules.stream(SECOND).await.sign(certificate_verify(shop)).await;
    assert!(is_signature(&signed), "{signed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_undeployed_is_refused_on_the_open_stream() {
    let rules = Rules::new();
    let (shop, other) = (rules.key(CERTIFICATE), rules.key(OTHER));
    let (mut first, mut second) = (rules.stream(AGENT).await, rules.stream(SECOND).await);
    let signed = second.sign(certificate_verify(shop)).await;
    assert!(is_signature(&signed), "{signed:?}");
    rules.vault().ok(&["cert", "undeploy", CERTIFICATE, "--from", SECOND]);
    let signed = second.sign(certificate_verify(shop)).await;
    let why = "it belongs to no certificate that is deployed to agent web2";
    refused(&signed, ErrorKind::Denied, why, "vaultctl cert deploy");
    // Its other certificate, and the other agent, sign on.
    assert!(is_signature(&second.sign(certificate_verify(other)).await));
    assert!(is_signature(&first.sign(certificate_verify(shop)).await));
    rules.vault().ok(&["cert", "deploy", CERTIFICATE, "--to", SECOND]);
    let signed = second.sign(certificate_verify(shop)).await;
    assert!(is_signature(&signed), "{signed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_update_lets_a_key_sign_is_in_force_on_the_open_stream() {
    let rules = Rules::new();
    let key = rules.key(CERTIFICATE);
    let mut stream = rules.stream(AGENT).await;
    let messages = [certificate_verify(key), server_key_exchange(key), digest(key)];
    // Each use lets one more message be signed than the one before it.
    for (tls_use, allowed) in [("message", 2), ("digest", 3), ("tls13", 1), ("message", 2)] {
        rules.vault().ok(&["cert", "update", CERTIFICATE, "--tls-use", tls_use]);
        for (at, message) in messages.iter().enumerate() {
            let signed = stream.sign(message.clone()).await;
            if at < allowed {
                assert!(is_signature(&signed), "{tls_use}: {at}: {signed:?}");
            } else {
                let why = format!("the key's use is {tls_use}");
                refused(&signed, ErrorKind::Denied, &why, "vaultctl cert update --tls-use");
            }
        }
    }
    // The other certificate's key is as it was.
    let signed = stream.sign(digest(rules.key(OTHER))).await;
    refused(&signed, ErrorKind::Denied, "the key's use is message", "vaultctl cert update");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicted_agent_s_stream_ends_without_another_signature() {
    let rules = Rules::new();
    let key = rules.key(CERTIFICATE);
    let (mut first, mut second) = (rules.stream(AGENT).await, rules.stream(SECOND).await);
    let signed = second.sign(certificate_verify(key)).await;
    assert!(is_signature(&signed), "{signed:?}");
    rules.vault().ok(&["agent", "evict", SECOND, "--yes"]);
    // It is not waited for until it asks.
    let status = second.down.message().await.expect_err("the stream ends");
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    let detail = ErrorDetail::from_status(&status);
    assert_eq!((detail.subject.as_str(), detail.why.as_str()), ("agent web2", "it is not active"));
    // It does not come back by another stream, and the other agent signs on.
    let again = rules.try_stream(SECOND).await.map(drop).expect_err("no stream");
    assert_eq!(again.code(), Code::Unauthenticated, "{again:?}");
    assert!(is_signature(&first.sign(certificate_verify(key)).await));
}
