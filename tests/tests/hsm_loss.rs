//! An HSM that is lost for two seconds costs no signature and no restart: sessions are opened anew,
//! and whoever waits gets his signature inside the deadline.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use testkit::{faulty_hsm::FaultyHsm, grpc, process::eventually, vault::Vault};
use tokio::{runtime::Runtime, task::JoinHandle};
use tonic::transport::Channel;
use vault_proto::v1::{self, key_service_client::KeyServiceClient};

/// How long the HSM is away.
const AWAY: Duration = Duration::from_secs(2);

/// How long a signature may take: far more than `AWAY`, however busy the machine is.
const DEADLINE: &str = "60s";

/// Half of them sign with one key and half with another, so that a handle that has become another
/// key's is found out.
const CALLERS: usize = 8;

/// One who signs without pause until he is told to stop.
struct Caller {
    signed: Arc<AtomicUsize>,
    running: JoinHandle<()>,
}

/// Callers of a vault, all at once.
struct Load {
    runtime: Runtime,
    callers: Vec<Caller>,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn start(socket: &Path) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let stop = Arc::new(AtomicBool::new(false));
        let channel = runtime.block_on(grpc::local(socket)).expect("the admin socket");
        let keys = ["one", "two"].map(|name| runtime.block_on(generate(channel.clone(), name)));
        let start = |number: usize| {
            let signed = Arc::new(AtomicUsize::new(0));
            let key = keys[number % keys.len()].clone();
            let sign = sign(channel.clone(), key, number, signed.clone(), stop.clone());
            Caller { signed, running: runtime.spawn(sign) }
        };
        let callers = (0..CALLERS).map(start).collect();
        Self { runtime, callers, stop }
    }

    /// Waits until every caller has signed a few times more.
    fn wait_signing(&self) {
        for (number, caller) in self.callers.iter().enumerate() {
            let enough = caller.signed.load(Ordering::Relaxed) + 5;
            eventually(&format!("caller {number} signs"), || {
                let ended = caller.running.is_finished();
                (ended || caller.signed.load(Ordering::Relaxed) >= enough).then_some(())
            });
        }
    }

    /// Stops; every signature of every caller must have been right. How many there were.
    fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let end = |caller: Caller| {
            self.runtime.block_on(caller.running).expect("a caller whose signature failed");
            caller.signed.load(Ordering::Relaxed)
        };
        self.callers.into_iter().map(end).sum()
    }
}

async fn generate(channel: Channel, name: &str) -> v1::Key {
    let request = v1::GenerateKeyRequest {
        name: name.to_owned(),
        algorithm: v1::KeyAlgorithm::EcP256.into(),
        ..Default::default()
    };
    KeyServiceClient::new(channel).generate_key(request).await.expect("a key").into_inner()
}

async fn sign(
    channel: Channel,
    key: v1::Key,
    number: usize,
    signed: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) {
    let mut client = KeyServiceClient::new(channel);
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.public_key_der);
    while !stop.load(Ordering::Relaxed) {
        let message = format!("{number}: {}", signed.load(Ordering::Relaxed)).into_bytes();
        let request = v1::SignRequest {
            name: key.name.clone(),
            mechanism: "ecdsa-sha256".into(),
            message: message.clone(),
        };
        let answer = client.sign(request).await;
        let signature = answer.unwrap_or_else(|status| panic!("{status:?}")).into_inner().signature;
        public.verify(&message, &signature).expect("a signature of this key and message");
        signed.fetch_add(1, Ordering::Relaxed);
    }
}

fn vault_with(deadline: &str) -> (Vault, FaultyHsm) {
    let mut vault = Vault::new();
    vault.hsm_deadline(deadline);
    let hsm = FaultyHsm::before(&mut vault);
    vault.start();
    vault.ok(&["init"]);
    (vault, hsm)
}

/// Loses the HSM under load; what must hold while it is away and afterwards.
fn is_ridden_out(fault: &str) {
    let (mut vault, hsm) = vault_with(DEADLINE);
    let load = Load::start(&vault.file("admin.sock"));
    load.wait_signing();

    // Twice, since what was opened anew must be lost and found like what was there first.
    for _ in 0..2 {
        hsm.lose(fault);
        std::thread::sleep(AWAY);
        hsm.heal();
        load.wait_signing();
    }
    let signed = load.finish();

    assert!(vault.process().exited().is_none(), "vaultd has ended");
    assert!(vault.process().log().contains("the HSM dropped a session"), "nothing was lost");
    let records = vault.audit().into_iter();
    let outcomes: Vec<_> = records
        .filter(|record| record["action"] == "key.sign.message" && record["phase"] == "result")
        .map(|record| record["outcome"].clone())
        .collect();
    assert!(outcomes.iter().all(|outcome| outcome == "ok"), "a signature was recorded as failed");
    assert_eq!(outcomes.len(), signed, "signatures that are recorded and those that were got");
    is_whole(&vault);
}

/// Every intent has its result, the token has the keys that the vault knows, and the HSM is there.
fn is_whole(vault: &Vault) {
    let open = vault.open_operations();
    assert!(open.is_empty(), "intents without a result: {open:?}");
    let listed = vault.json(&["key", "list"]).as_array().unwrap().len();
    assert_eq!(vault.keys_in_token().len(), listed, "keys in the token and keys of the vault");
    let status = vault.json(&["status"]);
    assert_eq!(status["hsm"]["available"], true, "{status}");
}

macro_rules! losses {
    ($($promise:ident: $fault:literal;)*) => {$(
        #[test]
        fn $promise() {
            is_ridden_out($fault);
        }
    )*};
}

losses! {
    sessions_whose_handles_are_invalid_cost_no_signature: "CKR_SESSION_HANDLE_INVALID";
    sessions_that_are_closed_cost_no_signature: "CKR_SESSION_CLOSED";
    a_device_that_is_removed_costs_no_signature: "CKR_DEVICE_REMOVED";
    a_device_that_fails_costs_no_signature: "CKR_DEVICE_ERROR";
    a_token_that_is_not_present_costs_no_signature: "CKR_TOKEN_NOT_PRESENT";
    a_login_that_is_lost_costs_no_signature: "CKR_USER_NOT_LOGGED_IN";
    a_module_that_is_finalised_costs_no_signature: "CKR_CRYPTOKI_NOT_INITIALIZED";
}

#[test]
fn a_key_asked_for_while_the_hsm_is_away_is_refused_and_leaves_nothing() {
    // Short, so that what is waited for in vain is not waited for long.
    let (mut vault, hsm) = vault_with("3s");
    let generate = ["key", "generate", "late", "--algorithm", "ec-p256"];
    hsm.lose("CKR_DEVICE_REMOVED");
    vault.ctl(&generate).refused(6, "token vault");
    vault.stop();
    hsm.heal();
    vault.start();
    is_whole(&vault);
    vault.ok(&generate);
    is_whole(&vault);
}

#[test]
fn a_key_that_the_hsm_makes_and_disowns_is_made_again_and_there_once() {
    let (mut vault, hsm) = vault_with(DEADLINE);
    let before = vault.keys_in_token().len();
    hsm.lose("CKR_GENERAL_ERROR");
    vault.ok(&["key", "generate", "shop", "--algorithm", "ec-p256"]);
    assert!(vault.process().log().contains("the HSM dropped a session"), "nothing was disowned");
    assert_eq!(vault.keys_in_token().len(), before + 1);
    is_whole(&vault);
}

#[test]
fn a_token_that_stays_away_is_unavailable_until_it_is_back() {
    let (vault, hsm) = vault_with("3s");
    vault.ok(&["key", "generate", "shop", "--algorithm", "ec-p256"]);
    let (message, signature) = (vault.path("vault.toml"), vault.path("signature"));
    let how = ["--mechanism", "ecdsa-sha256", "--input", &message, "--signature", &signature];
    let sign = [&["key", "sign", "shop"], &how[..]].concat();
    hsm.lose("CKR_TOKEN_NOT_PRESENT");
    // Not a key that is missing, which would be another's fault.
    vault.ctl(&sign).refused(6, "no slot has the token any more");
    assert_eq!(vault.json(&["status"])["hsm"]["available"], false);
    hsm.heal();
    vault.ok(&sign);
    is_whole(&vault);
}
