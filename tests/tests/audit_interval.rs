//! `[audit] sync = "interval"`: records of TLS signatures are synced in groups, and still nothing that
//! was acknowledged is lost in a crash of the vault, and nothing is signed that cannot be written.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, JoinHandle},
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use testkit::{
    keyless_world::{KeylessWorld, Server},
    process::eventually,
    signer_client::{Failure, SignerClient, certificate_verify},
    small_disk::SmallDisk,
    spy::Spy,
    vault::Vault,
};
use vault_proto::local::v1::Reason;

/// Web servers' threads that ask for signatures.
const CALLERS: usize = 8;
/// Signatures that are a load.
const ENOUGH: u32 = 400;
/// Big enough for every record that a test here writes.
const DISK: u64 = 512 * 1024;

/// A vault that syncs records of TLS signatures after an hour at the earliest, so never in a test.
fn vault() -> Vault {
    let mut vault = Vault::new();
    vault.reconfigure("[audit]\n", "[audit]\nsync = \"interval\"\nsync_interval = \"1h\"\n");
    vault
}

/// Asks until the agent hangs up; the SHA-256 of everything that was signed, as the log has it.
fn ask(socket: PathBuf, caller: usize, signed: &'static AtomicU32) -> JoinHandle<Vec<String>> {
    thread::spawn(move || {
        let mut agent = SignerClient::connect(&socket).unwrap();
        let key = agent.only_key();
        let mut acknowledged = Vec::new();
        for number in 0_u64.. {
            let transcript: [u8; 32] = Sha256::digest(format!("{caller} {number}")).into();
            let message = certificate_verify(transcript);
            match agent.sign(&key, &message) {
                Ok(_) => acknowledged.push(hex::encode(Sha256::digest(&message))),
                Err(Failure::Gone(_)) => break,
                Err(Failure::Refused(refusal)) => panic!("{refusal:?}"),
            }
            signed.fetch_add(1, Ordering::Relaxed);
        }
        acknowledged
    })
}

/// The SHA-256 of everything whose signature stands in a log, intent and result.
fn recorded(records: &[Value]) -> BTreeSet<String> {
    let succeeded = |record: &&Value| record["phase"] == "result" && record["outcome"] == "ok";
    let done: BTreeSet<_> =
        records.iter().filter(succeeded).filter_map(|r| r["operation"].as_str()).collect();
    let intents = records.iter().filter(|r| r["phase"] == "intent");
    let ours = intents.filter(|r| r["operation"].as_str().is_some_and(|id| done.contains(id)));
    ours.filter_map(|r| r["detail"]["message_sha256"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_vault_that_is_killed_under_load_has_recorded_every_signature_it_gave() {
    static SIGNED: AtomicU32 = AtomicU32::new(0);
    let mut vault = vault();
    vault.start();
    vault.ok(&["init"]);
    let mut world = KeylessWorld::new(Server::Nginx, vault);
    world.issue(&[]);
    let callers: Vec<_> =
        (0..CALLERS).map(|caller| ask(world.keyless.socket(), caller, &SIGNED)).collect();
    eventually("a load of signatures", || (SIGNED.load(Ordering::Relaxed) > ENOUGH).then_some(()));
    world.vault.kill();
    // What was given before has arrived; whoever still waits is hung up on.
    world.agent.kill();
    let acknowledged = callers.into_iter().flat_map(|caller| caller.join().unwrap());
    let acknowledged: Vec<_> = acknowledged.collect();
    assert!(acknowledged.len() > ENOUGH as usize);

    world.vault.start();
    assert_eq!(world.vault.json(&["audit", "verify"])["ok"], true);
    let recorded = recorded(&world.vault.audit());
    let lost: Vec<_> = acknowledged.iter().filter(|one| !recorded.contains(*one)).collect();
    assert!(lost.is_empty(), "{} of {} are lost", lost.len(), acknowledged.len());
}

/// Has one signature made, of a handshake that there was never before.
fn sign(socket: &Path) -> Result<(), Reason> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut agent = SignerClient::connect(socket).unwrap();
    let key = agent.only_key();
    let message = certificate_verify(Sha256::digest(number.to_be_bytes()).into());
    match agent.sign(&key, &message) {
        Ok(_) => Ok(()),
        Err(Failure::Refused(refusal)) => Err(refusal.reason()),
        Err(Failure::Gone(error)) => panic!("the agent is gone: {error}"),
    }
}

#[test]
fn on_a_full_disk_no_handshake_is_signed_and_the_hsm_is_not_asked() {
    let mut vault = vault();
    let disk = SmallDisk::under_audit_log(&mut vault, DISK);
    let spy = Spy::on(&mut vault);
    vault.start();
    vault.ok(&["init"]);
    let mut world = KeylessWorld::new(Server::Nginx, vault);
    world.issue(&[]);
    let socket = world.keyless.socket();
    assert_eq!(sign(&socket), Ok(()));

    disk.fill(world.vault.process());
    // The log's last page still has room for some records.
    eventually("the log is full", || sign(&socket).err());
    let asked = spy.calls("C_SignInit");
    for _ in 0..5 {
        // One after the other, and so many that a worker begins several together.
        assert_eq!(sign(&socket), Err(Reason::Unavailable));
        thread::scope(|scope| {
            let all = [(); 2 * CALLERS].map(|()| scope.spawn(|| sign(&socket)));
            for one in all {
                assert_eq!(one.join().unwrap(), Err(Reason::Unavailable));
            }
        });
    }
    assert_eq!(spy.calls("C_SignInit"), asked, "the HSM was asked");

    disk.free(world.vault.process());
    eventually("signatures are made again", || sign(&socket).ok());
    assert_eq!(world.vault.json(&["audit", "verify"])["ok"], true);
}
