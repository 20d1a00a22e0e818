//! An audit log that cannot be written refuses signatures: the file system it is on is full.

use std::fs;

use serde_json::Value;
use testkit::{
    agent::Agent,
    grpc,
    pebble::Pebble,
    process::eventually,
    programs::Ended,
    small_disk::SmallDisk,
    spy::Spy,
    vault::Vault,
    world::{ACCOUNT, register_account},
};
use tonic_health::pb::health_check_response::ServingStatus;

/// Big enough for every record that a test here writes.
const DISK: u64 = 512 * 1024;
/// What the token is asked for a private key's sake.
const PRIVATE: &[&str] = &["C_SignInit", "C_GenerateKeyPair", "C_DestroyObject"];

/// A vault whose audit log has a small file system of its own, and a spy before its HSM.
struct World {
    vault: Vault,
    disk: SmallDisk,
    spy: Spy,
}

impl World {
    fn new() -> Self {
        let mut vault = Vault::new();
        let disk = SmallDisk::under_audit_log(&mut vault, DISK);
        let spy = Spy::on(&mut vault);
        vault.start();
        vault.ok(&["init"]);
        vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
        fs::write(vault.file("message"), "a message").unwrap();
        Self { vault, disk, spy }
    }

    fn log(&mut self) -> String {
        fs::read_to_string(self.disk.file(self.vault.process(), "audit.log")).unwrap()
    }

    /// The log's last records.
    fn last(&mut self, count: usize) -> Vec<Value> {
        let log = self.log();
        let all: Vec<_> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        all[all.len() - count..].to_vec()
    }

    fn fill(&mut self) {
        self.disk.fill(self.vault.process());
    }

    fn free(&mut self) {
        self.disk.free(self.vault.process());
    }

    /// What the token was asked so far.
    fn asked(&self) -> Vec<usize> {
        PRIVATE.iter().map(|function| self.spy.calls(function)).collect()
    }

    fn sign(&self) -> Ended {
        let (message, signature) = (self.vault.path("message"), self.vault.path("signature"));
        let files = ["--input", &message, "--signature", &signature];
        let sign = ["key", "sign", "k", "--mechanism", "ecdsa-sha256"];
        self.vault.ctl(&[&sign[..], &files[..]].concat())
    }

    /// Everything that needs a private key, by `vaultctl`.
    fn signatures(&self) -> Vec<Vec<String>> {
        let path = |name: &str| self.vault.path(name);
        let line = |text: String| text.split(' ').map(ToOwned::to_owned).collect();
        let message = path("message");
        vec![
            line(format!(
                "key sign k --mechanism ecdsa-sha256 --input {message} --signature {}",
                path("signature")
            )),
            line(format!("csr create --key k --domain shop.example --out {}", path("csr"))),
            line(format!(
                "jws sign --account {ACCOUNT} --url https://ca.example/order --payload {message}"
            )),
            line("key generate new --algorithm ec-p256".to_owned()),
            line("key rotate k".to_owned()),
            line("key destroy spare --yes".to_owned()),
            line(format!("operator issue ada --out {}", path("ada"))),
        ]
    }
}

#[test]
fn a_full_audit_disk_refuses_what_needs_a_private_key_and_the_hsm_is_not_asked() {
    let mut world = World::new();
    let pebble = Pebble::start();
    register_account(&world.vault, &pebble);
    world.vault.ok(&["key", "generate", "spare", "--algorithm", "ec-p256"]);
    let invited = world.vault.json(&["agent", "token", "web1"]);
    let text = |field: &str| invited[field].as_str().unwrap().to_owned();
    let (token, fingerprint) = (text("token"), text("ca_fingerprint"));
    let agent = Agent::new(&world.vault, "");
    let (keys, in_token) = (world.vault.json(&["key", "list"]), world.vault.keys_in_token());

    world.fill();
    // The log's last page still has room for some records: they are used up by what signs nothing.
    eventually("the log is full", || {
        let invited = world.vault.ctl(&["agent", "token", "web2"]);
        (invited.code != 0).then_some(invited)
    });
    let asked = world.asked();
    for command in world.signatures() {
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        world.vault.ctl(&command).refused(6, "audit log");
    }
    agent.enroll_with(&token, &fingerprint).refused(6, "audit log");

    assert_eq!(world.asked(), asked, "{PRIVATE:?} of the token");
    assert_eq!(world.vault.keys_in_token(), in_token);
    assert_eq!(world.vault.json(&["key", "list"]), keys, "reading goes on, and nothing changed");
    for file in ["signature", "csr", "ada/cert.pem", "ada/key.pem"] {
        assert!(!world.vault.file(file).exists(), "{file} was handed out");
    }
    assert!(!agent.file("state").join("identity.pem").exists());
    assert_eq!(world.vault.json(&["status"])["audit"]["writable"], false);
    eventually("health says no", || {
        (grpc::health(&world.vault) == ServingStatus::NotServing).then_some(())
    });

    world.free();
    // Nobody calls a vault that says it does not serve: it must find out by itself.
    eventually("health says yes", || {
        (grpc::health(&world.vault) == ServingStatus::Serving).then_some(())
    });
    assert_eq!(world.vault.json(&["status"])["audit"]["writable"], true);
    for command in world.signatures() {
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        world.vault.ok(&command);
    }
    let enrolled = agent.enroll_with(&token, &fingerprint);
    assert_eq!(enrolled.code, 0, "the token was not used up: {enrolled:?}");
    assert_eq!(world.vault.json(&["audit", "verify"])["ok"], true);
    let log = world.disk.file(world.vault.process(), "audit.log").display().to_string();
    assert_eq!(world.vault.json(&["audit", "verify", &log])["ok"], true);
}

/// The log's last page takes the intent and not the result, so the HSM is asked and has signed.
#[test]
fn a_signature_whose_result_cannot_be_recorded_is_not_handed_out() {
    let mut world = World::new();
    assert_eq!(world.sign().code, 0);
    fs::remove_file(world.vault.file("signature")).unwrap();
    let lengths: Vec<_> = world.last(2).iter().map(|r| r.to_string().len() as u64 + 1).collect();
    let page = world.disk.page(world.vault.process());
    // A record's length varies by a few digits.
    let (least, most) = (lengths[0] + 24, lengths[0] + lengths[1] - 24);
    eventually("the log ends where one record fits and two do not", || {
        let left = page - world.log().len() as u64 % page;
        let fits = (least..most).contains(&left);
        (fits || world.sign().code != 0).then_some(())
    });
    let _ = fs::remove_file(world.vault.file("signature"));

    world.fill();
    let asked = world.spy.calls("C_SignInit");
    world.sign().refused(6, "audit log");
    assert_eq!(world.spy.calls("C_SignInit"), asked + 1, "the HSM has signed");
    assert!(!world.vault.file("signature").exists(), "the signature was handed out");
    let left = world.log();
    let last: Value = serde_json::from_str(left.lines().last().unwrap()).unwrap_or_default();
    assert_ne!(last["phase"], "result", "{last}");

    world.free();
    assert_eq!(world.sign().code, 0);
    assert_eq!(world.vault.json(&["audit", "verify"])["ok"], true);
    let [intent, result] = &world.last(2)[..] else { panic!("two records") };
    assert_eq!((&intent["phase"], &result["phase"]), (&"intent".into(), &"result".into()));
    assert_eq!(intent["operation"], result["operation"]);
}
