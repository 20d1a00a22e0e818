//! A vault, a CA that says when to renew, and an agent that answers its challenges.

use serde_json::Value;
use testkit::{
    agent::Agent,
    ari_ca::{AriCa, certificate_id},
    pebble::Pebble,
    process::eventually,
    programs::Ended,
    vault::Vault,
    world::{ACCOUNT, AGENT, Install, wait_connected},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// All of it.
pub struct Scene {
    pub vault: Vault,
    pub ca: AriCa,
    pub pebble: Pebble,
    _agent: Agent,
}

/// What the vault's store has of one certificate.
#[derive(Debug)]
pub struct Row {
    pub failures: i64,
    pub checked_at: Option<i64>,
    pub window_start: Option<i64>,
}

impl Scene {
    /// The agent takes these certificates.
    pub fn new(certificates: &[&str]) -> Self {
        Self::on(Vault::initialized(), certificates)
    }

    /// The same on this vault.
    pub fn on(vault: Vault, certificates: &[&str]) -> Self {
        let pebble = Pebble::start();
        let ca = AriCa::before(&pebble);
        let (directory, root) = (ca.proxy.directory(), ca.proxy.root().display().to_string());
        let register = ["account", "register", ACCOUNT, "--directory", &directory];
        vault.ok(&[&register[..], &["--ca-root", &root, "--agree-tos"]].concat());
        let mut agent = Agent::new(&vault, "");
        let installs = certificates.iter().map(|name| {
            let key = Some(agent.file(&format!("{name}.key")));
            Install { key, ..Install::file(name, agent.file(&format!("{name}.pem"))) }.toml()
        });
        let listen = format!("[http01]\nlisten = \"{}\"\n", pebble.http01);
        agent.config = installs.chain([listen]).collect();
        let ended = agent.enroll(&vault, AGENT);
        assert_eq!(ended.code, 0, "{ended:?}");
        agent.start();
        wait_connected(&vault, AGENT);
        Self { vault, ca, pebble, _agent: agent }
    }

    /// Orders a certificate.
    pub fn order(&self, name: &str, more: &[&str]) -> Ended {
        let domain = format!("{name}.example");
        let issue = ["cert", "issue", name, "--account", ACCOUNT, "--domain", &domain];
        let how = ["--challenge", "http-01", "--custody", "agent", "--deploy-to", AGENT];
        self.vault.ctl(&[&issue[..], &how[..], more].concat())
    }

    /// Orders a certificate and waits until its agent has it.
    pub fn issue(&self, name: &str, more: &[&str]) -> Value {
        let ended = self.order(name, &[more, &["--wait"]].concat());
        assert_eq!(ended.code, 0, "{ended:?}");
        self.certificate(name)
    }

    /// What the vault says of a certificate.
    pub fn certificate(&self, name: &str) -> Value {
        self.vault.json(&["cert", "show", name])
    }

    /// The id of a certificate's version in force.
    pub fn id(&self, name: &str) -> String {
        certificate_id(&self.vault.ok(&["cert", "chain", name]))
    }

    /// Waits until the next order is due for this reason.
    pub fn wait_reason(&self, name: &str, reason: &str) -> Value {
        eventually(&format!("{name} is renewed for {reason}"), || {
            let shown = self.certificate(name);
            (shown["renewal_reason"] == reason).then_some(shown)
        })
    }

    /// Waits until this version of a certificate is held and idle.
    pub fn wait_version(&self, name: &str, version: u64) -> Value {
        eventually(&format!("version {version} of {name}"), || {
            let shown = self.certificate(name);
            let held = shown["deployments"][0]["held_version"] == version;
            (shown["version"] == version && held && shown["progress"] == "idle").then_some(shown)
        })
    }

    /// What the store has of a certificate, once its CA was asked about the version in force.
    pub fn wait_asked(&self, name: &str) -> Row {
        eventually(&format!("its CA is asked about {name}"), || self.row(name))
    }

    fn row(&self, name: &str) -> Option<Row> {
        let query = "SELECT failures, checked_at, window_start FROM renewal_info r
             JOIN certificates c ON c.name = r.certificate AND c.current_version = r.version
             WHERE r.certificate = $1";
        let row: Option<(i64, Option<i64>, Option<i64>)> = self.in_store(async |store| {
            sqlx::query_as(query).bind(name).fetch_optional(store).await.unwrap()
        });
        row.map(|(failures, checked_at, window_start)| Row { failures, checked_at, window_start })
    }

    /// Has the time come at which CAs are asked again.
    pub fn let_time_pass(&self) {
        self.in_store(async |store| {
            let update = "UPDATE renewal_info SET next_check_at = 0";
            sqlx::query(update).execute(store).await.unwrap();
        });
    }

    fn in_store<T>(&self, work: impl AsyncFnOnce(&sqlx::SqlitePool) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let url = format!("sqlite://{}", self.vault.path("vault.db"));
            let store = sqlx::SqlitePool::connect(&url).await.unwrap();
            let done = work(&store).await;
            store.close().await;
            done
        })
    }

    /// What the audit log has of an alert: the details of its records by action.
    pub fn alert_records(&self, action: &str) -> Vec<Value> {
        let records = self.vault.audit().into_iter();
        let records = records.filter(|record| record["action"] == action);
        let details = records.map(|record| record["detail"].clone());
        details.filter(|detail| detail["alert"] == "ari-early").collect()
    }
}

/// A time in an answer.
pub fn time(shown: &Value, name: &str) -> OffsetDateTime {
    let text = shown[name].as_str().unwrap_or_else(|| panic!("no {name}: {shown}"));
    OffsetDateTime::parse(text, &Rfc3339).unwrap()
}
