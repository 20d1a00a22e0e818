//! What an agent may have signed for its web servers, and how much: on its connection to the vault itself.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use futures_util::{SinkExt as _, StreamExt as _};
use testkit::{
    agent::Agent,
    grpc::{self, Certificate},
    process::PATIENCE,
    vault::Vault,
    world::{AGENT, CERTIFICATE, Install, SITE, World, order, webroot},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_rustls::client::TlsStream;
use vault_proto::{
    error::{ErrorDetail, ErrorKind},
    frames::AgentEnd,
    ids::KeyId,
    v1::{self, tls_sign_answer::Outcome},
};

/// A second certificate.
const OTHER: &str = "other";
/// A second agent, which is enrolled and does not run: its connection is the test's.
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

    /// Opens an agent's connection.
    async fn connect(&self, agent: &str) -> Connection {
        self.try_connect(agent).await.expect("a connection")
    }

    /// The same, where the vault may refuse it.
    async fn try_connect(&self, agent: &str) -> Result<Connection, ErrorDetail> {
        let agent = if agent == AGENT { &self.world.agent } else { &self.second };
        let (certificate, root) = Certificate::of_agent(agent);
        self.connect_with(&root, Some(&certificate)).await
    }

    /// The same with any certificate or none.
    async fn connect_with(
        &self,
        root: &str,
        certificate: Option<&Certificate>,
    ) -> Result<Connection, ErrorDetail> {
        let opened = grpc::for_signatures(self.vault().address, root, certificate).await;
        let mut connection = Connection(opened.expect("a vault"));
        assert!(connection.answers().await?.is_empty(), "nothing was asked yet");
        Ok(connection)
    }
}

/// An open connection. What is asked is awaited before the next is asked.
struct Connection(AgentEnd<TlsStream<TcpStream>>);

type Signed = Result<Vec<u8>, ErrorDetail>;

impl Connection {
    /// What the vault says next, or why it ends the connection.
    async fn answers(&mut self) -> Result<Vec<v1::TlsSignAnswer>, ErrorDetail> {
        let answers = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("an answer");
        let v1::TlsSignAnswers { answers, ended } = answers.expect("a reason").expect("a message");
        ended.map_or(Ok(answers), Err)
    }

    /// Asks for as many signatures in one message; the connection's own end is the outer error.
    async fn ask(
        &mut self,
        count: u64,
        request: v1::TlsSignRequest,
    ) -> Result<Vec<Signed>, ErrorDetail> {
        let numbered = |id| v1::TlsSignRequest { id, ..request.clone() };
        let requests = (0..count).map(numbered).collect();
        // A connection that has ended says so when it is read.
        let _ = self.0.send(v1::TlsSignRequests { requests }).await;
        let mut signed = Vec::new();
        while (signed.len() as u64) < count {
            signed.extend(self.answers().await?.into_iter().map(|answer| match answer.outcome {
                Some(Outcome::Signature(signature)) => Ok(signature),
                Some(Outcome::Error(error)) => Err(error),
                None => panic!("an answer without an outcome"),
            }));
        }
        Ok(signed)
    }

    /// Asks for one signature.
    async fn sign(&mut self, request: v1::TlsSignRequest) -> Signed {
        self.ask(1, request).await.expect("an open connection").remove(0)
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
    let mut first = rules.connect(AGENT).await;
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
    let signed = rules.connect(SECOND).await.sign(certificate_verify(shop)).await;
    assert!(is_signature(&signed), "{signed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_undeployed_is_refused_on_the_open_connection() {
    let rules = Rules::new();
    let (shop, other) = (rules.key(CERTIFICATE), rules.key(OTHER));
    let (mut first, mut second) = (rules.connect(AGENT).await, rules.connect(SECOND).await);
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
async fn what_an_update_lets_a_key_sign_is_in_force_on_the_open_connection() {
    let rules = Rules::new();
    let key = rules.key(CERTIFICATE);
    let mut connection = rules.connect(AGENT).await;
    let messages = [certificate_verify(key), server_key_exchange(key), digest(key)];
    // Each use lets one more message be signed than the one before it.
    for (tls_use, allowed) in [("message", 2), ("digest", 3), ("tls13", 1), ("message", 2)] {
        rules.vault().ok(&["cert", "update", CERTIFICATE, "--tls-use", tls_use]);
        for (at, message) in messages.iter().enumerate() {
            let signed = connection.sign(message.clone()).await;
            if at < allowed {
                assert!(is_signature(&signed), "{tls_use}: {at}: {signed:?}");
            } else {
                let why = format!("the key's use is {tls_use}");
                refused(&signed, ErrorKind::Denied, &why, "vaultctl cert update --tls-use");
            }
        }
    }
    // The other certificate's key is as it was.
    let signed = connection.sign(digest(rules.key(OTHER))).await;
    refused(&signed, ErrorKind::Denied, "the key's use is message", "vaultctl cert update");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicted_agent_s_connection_ends_without_another_signature() {
    let rules = Rules::new();
    let key = rules.key(CERTIFICATE);
    let (mut first, mut second) = (rules.connect(AGENT).await, rules.connect(SECOND).await);
    let signed = second.sign(certificate_verify(key)).await;
    assert!(is_signature(&signed), "{signed:?}");
    rules.vault().ok(&["agent", "evict", SECOND, "--yes"]);
    // It is not waited for until it asks.
    let detail = second.answers().await.expect_err("the connection ends");
    assert_eq!(detail.kind(), ErrorKind::Unauthenticated, "{detail:?}");
    assert_eq!((detail.subject.as_str(), detail.why.as_str()), ("agent web2", "it is not active"));
    // It does not come back by another connection, and the other agent signs on.
    let again = rules.try_connect(SECOND).await.map(drop).expect_err("no connection");
    assert_eq!(again.kind(), ErrorKind::Unauthenticated, "{again:?}");
    assert!(is_signature(&first.sign(certificate_verify(key)).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_of_nobody_s_and_one_of_an_operator_s_are_refused() {
    let rules = Rules::new();
    let (_, root) = Certificate::of_agent(&rules.second);
    let refused = rules.connect_with(&root, None).await.map(drop).expect_err("no connection");
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{refused:?}");
    let operator = Certificate::of(&rules.vault().issue("boss", "operator"));
    let refused = rules.connect_with(&root, Some(&operator)).await.map(drop);
    let refused = refused.expect_err("no connection");
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_ends_the_connection_that_it_comes_on_and_no_other() {
    let rules = Rules::new();
    let key = rules.key(CERTIFICATE);
    let (mut first, mut other) = (rules.connect(AGENT).await, rules.connect(AGENT).await);
    // A length beyond reason, and what is none of the messages.
    for (garbage, why) in [(vec![0xff; 64], "too big"), (vec![0, 0, 0, 2, 0xff, 0xff], "varint")] {
        first.0.get_mut().write_all(&garbage).await.unwrap();
        let ended = first.answers().await.expect_err("the connection ends");
        assert_eq!(ended.kind(), ErrorKind::Invalid, "{ended:?}");
        assert!(ended.why.contains(why), "{ended:?}");
        first = rules.connect(AGENT).await;
    }
    assert!(is_signature(&other.sign(certificate_verify(key)).await));
}
