//! A vault whose store goes back to what it was: what a restore does, without the way there.

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;
use testkit::{
    agent::Agent,
    fault_ca::FaultCa,
    keyless::Keyless,
    nginx::Nginx,
    pebble::Pebble,
    process::eventually,
    programs::run,
    vault::{PIN, SOFTHSM, Vault},
    world::{ACCOUNT, AGENT, CERTIFICATE, Install, SITE, order, wait_connected, webroot},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The files of a SQLite store.
const STORE: [&str; 3] = ["vault.db", "vault.db-wal", "vault.db-shm"];

/// A vault, a CA that can fail, a web server and its agent.
pub struct Scene {
    pub vault: Vault,
    pub ca: FaultCa,
    pub nginx: Nginx,
    pub agent: Agent,
    _pebble: Pebble,
    _keyless: Keyless,
}

impl Scene {
    /// The agent is enrolled and runs.
    pub fn new() -> Self {
        Self::on(Vault::initialized())
    }

    /// The same on this vault.
    pub fn on(vault: Vault) -> Self {
        let mut scene = Self::around(vault);
        scene.enroll();
        scene
    }

    /// The agent is not enrolled yet.
    pub fn without_agent() -> Self {
        Self::around(Vault::initialized())
    }

    fn around(vault: Vault) -> Self {
        let (pebble, keyless) = (Pebble::start(), Keyless::new());
        let ca = FaultCa::before(&pebble);
        let nginx = Nginx::start_with(SITE, pebble.http01, keyless.environment());
        let install = Install::into(&nginx).toml();
        let config = format!("{install}{}{}", webroot(&nginx), keyless.signer());
        let agent = Agent::new(&vault, &config);
        let scene = Self { vault, ca, nginx, agent, _pebble: pebble, _keyless: keyless };
        scene.vault.ok(&scene.registration());
        scene
    }

    /// Enrols the agent and starts it.
    pub fn enroll(&mut self) {
        let ended = self.agent.enroll(&self.vault, AGENT);
        assert_eq!(ended.code, 0, "{ended:?}");
        self.agent.start();
        wait_connected(&self.vault, AGENT);
    }

    /// `vaultctl`'s arguments that register the account.
    pub fn registration(&self) -> Vec<&'static str> {
        let text = |text: String| -> &'static str { text.leak() };
        let (directory, root) = (self.ca.directory(), self.ca.root().display().to_string());
        let at = ["account", "register", ACCOUNT, "--directory", text(directory)];
        [&at[..], &["--ca-root", text(root), "--agree-tos"]].concat()
    }

    /// Orders [`CERTIFICATE`] and waits until it is served; its serial number.
    pub fn issue(&self, custody: &str, more: &[&str]) -> String {
        let more = [more, &["--wait"]].concat();
        serial(&self.vault.json(&order(CERTIFICATE, SITE, custody, &more)))
    }

    /// Renews it and waits until it is served; its serial number.
    pub fn renew(&self) -> String {
        serial(&self.vault.json(&["cert", "renew", CERTIFICATE, "--force", "--wait"]))
    }

    /// Enrols the agent anew, in the place of what it was.
    pub fn enroll_anew(&mut self) {
        self.agent.kill();
        let invited = self.vault.json(&["agent", "token", AGENT]);
        fs::write(self.agent.file("token"), invited["token"].as_str().unwrap()).unwrap();
        let mut enrolment = self.agent.enrolment(invited["ca_fingerprint"].as_str().unwrap());
        enrolment.arg("--replace");
        let ended = run(enrolment);
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    /// Waits until the agent's stream is open.
    pub fn wait_connected(&self) {
        wait_connected(&self.vault, AGENT);
    }

    /// What the vault says of [`CERTIFICATE`].
    pub fn certificate(&self) -> Value {
        self.vault.json(&["cert", "show", CERTIFICATE])
    }

    /// Waits until this version is the vault's and the agent's, and nginx serves it.
    pub fn wait_version(&self, version: u64) -> Value {
        let shown = eventually(&format!("version {version} is held"), || {
            let now = self.certificate();
            let held = &now["deployments"][0];
            let there = held["held_version"] == version && held["status"] == "serving";
            (now["version"] == version && there).then_some(now)
        });
        self.nginx.wait_serves(SITE, shown["serial"].as_str().unwrap());
        shown
    }

    /// The numbers of its versions, oldest first.
    pub fn history(&self) -> Vec<u64> {
        let history = self.vault.json(&["cert", "history", CERTIFICATE]);
        let mut all: Vec<_> =
            history.as_array().unwrap().iter().map(|v| v["version"].as_u64().unwrap()).collect();
        all.sort_unstable();
        all
    }

    /// Keeps the store as it is now. The vault is stopped and started again.
    pub fn back_up(&mut self) -> OffsetDateTime {
        self.vault.stop();
        for name in STORE {
            let _ = fs::remove_file(self.kept(name));
            if self.vault.file(name).exists() {
                fs::copy(self.vault.file(name), self.kept(name)).unwrap();
            }
        }
        self.vault.start();
        OffsetDateTime::now_utc()
    }

    /// Ends the vault and puts the store back as it was kept.
    pub fn put_back(&mut self, kept: OffsetDateTime) {
        self.vault.kill();
        for name in STORE {
            let _ = fs::remove_file(self.vault.file(name));
            if self.kept(name).exists() {
                fs::copy(self.kept(name), self.vault.file(name)).unwrap();
            }
        }
        mark_restored(&self.vault, kept);
    }

    /// The same, and starts it.
    pub fn restore(&mut self, kept: OffsetDateTime) {
        self.put_back(kept);
        self.vault.start();
    }

    fn kept(&self, name: &str) -> PathBuf {
        self.vault.file(&format!("kept-{name}"))
    }

    /// Destroys a key in the token, as a loss of the HSM does with one that is in no backup. The vault
    /// must not run.
    pub fn lose_key(&self, id: &str) {
        for kind in ["privkey", "pubkey"] {
            let mut command = Command::new("pkcs11-tool");
            command.env("SOFTHSM2_CONF", self.vault.file("softhsm2.conf"));
            command.args(["--module", SOFTHSM, "--token-label", "vault", "--login", "--pin", PIN]);
            command.args(["--delete-object", "--type", kind, "--id", &id.replace('-', "")]);
            let ended = run(command);
            assert_eq!(ended.code, 0, "{ended:?}");
        }
    }

    /// The id of the key in use that goes by a name.
    pub fn key(&self, name: &str) -> String {
        let keys = self.vault.json(&["key", "list"]);
        let key = keys
            .as_array()
            .unwrap()
            .iter()
            .find(|key| key["name"] == name && key["state"] == "active");
        key.unwrap_or_else(|| panic!("no key {name}: {keys}"))["id"].as_str().unwrap().to_owned()
    }

    /// What `vaultctl status` finds worth saying.
    pub fn findings(&self) -> Vec<String> {
        let findings = self.vault.json(&["status"])["findings"].clone();
        serde_json::from_value(findings).unwrap()
    }

    /// Waits until `vaultctl status` says this.
    pub fn wait_finding(&self, text: &str) -> String {
        eventually(&format!("{text:?} is found"), || {
            self.findings().into_iter().find(|finding| finding.contains(text))
        })
    }

    /// Waits until what follows the restore is on the audit log that many times; the last record.
    pub fn wait_recorded(&self, times: usize) -> Value {
        wait_recorded(&self.vault, times)
    }

    /// What followed restores, as the audit log has it.
    pub fn recorded(&self) -> Vec<Value> {
        recorded(&self.vault)
    }
}

/// Has a vault, which must not run, have been restored just now from what was kept then.
pub fn mark_restored(vault: &Vault, kept: OffsetDateTime) {
    let text = |at: OffsetDateTime| at.format(&Rfc3339).unwrap();
    let restored = serde_json::json!({ "at": text(OffsetDateTime::now_utc()),
        "snapshot_at": text(kept), "backup_sha256": "ab".repeat(32) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("sqlite://{}", vault.path("vault.db"));
        let store = sqlx::SqlitePool::connect(&url).await.unwrap();
        sqlx::query("INSERT INTO settings (name, value) VALUES ('restored', $1)")
            .bind(restored.to_string())
            .execute(&store)
            .await
            .unwrap();
        store.close().await;
    });
}

/// Waits until what follows a restore is on the audit log that many times; the last record.
pub fn wait_recorded(vault: &Vault, times: usize) -> Value {
    eventually("what follows the restore is on the audit log", || {
        let all = recorded(vault);
        (all.len() >= times).then(|| all.last().cloned().unwrap())
    })
}

fn recorded(vault: &Vault) -> Vec<Value> {
    let records = vault.audit().into_iter();
    records.filter(|record| record["action"] == "restore.reconcile").collect()
}

/// The serial number of a certificate that is served.
fn serial(certificate: &Value) -> String {
    assert_eq!(certificate["deployments"][0]["status"], "serving", "{certificate}");
    certificate["serial"].as_str().unwrap().to_owned()
}
