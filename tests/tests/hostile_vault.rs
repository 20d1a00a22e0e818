//! A vault that was taken over runs no code on a web server and writes to no file that `agent.toml`
//! does not name: the real agent on a vault that says what it likes.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use testkit::agent::Agent;
use testkit::fake_vault::{FakeVault, foreign_csr};
use testkit::nginx::Nginx;
use testkit::process::{eventually, free_port};
use testkit::tree::{Entry, snapshot};
use testkit::world::{AGENT, CERTIFICATE, Install, SITE, webroot};
use vault_proto::v1::{self, resource_report::Resource};

/// An agent on a web server, enrolled with a vault that somebody has taken over.
struct Captured {
    vault: FakeVault,
    nginx: Nginx,
    agent: Agent,
}

impl Captured {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// `change` changes the one `[[install]]`.
    fn with(change: impl FnOnce(&mut Install)) -> Self {
        let vault = FakeVault::start();
        let nginx = Nginx::start(SITE, SocketAddr::from(([127, 0, 0, 1], free_port())));
        let mut install = Install::into(&nginx);
        change(&mut install);
        let config = format!("{}{}", install.toml(), webroot(&nginx));
        let mut agent = Agent::at(vault.address, &config);
        let ended = agent.enroll_with("any", &vault.fingerprint);
        assert_eq!(ended.code, 0, "{ended:?}");
        agent.start();
        agent.wait_log("connected");
        Self { vault, nginx, agent }
    }

    fn report(&self, resource: &Resource, version: u64) -> v1::ResourceReport {
        eventually(&format!("a report on {resource:?}"), || {
            let reports = self.vault.reports();
            let found = |r: &v1::ResourceReport| {
                r.resource.as_ref() == Some(resource) && r.version == version
            };
            reports.into_iter().rfind(found)
        })
    }

    /// Has the agent make a key and hand in its CSR.
    fn csr(&self) -> Vec<u8> {
        let csr_wanted = v1::CsrWanted {
            order_id: "order".to_owned(),
            algorithm: v1::KeyAlgorithm::EcP256.into(),
            domains: vec![SITE.to_owned()],
            ..Default::default()
        };
        let csr_wanted = Some(csr_wanted);
        self.want(v1::WantedCertificate { csr_wanted, ..wanted(CERTIFICATE, 0, String::new()) });
        eventually("the CSR", || self.vault.csrs().pop().map(|csr| csr.csr_der))
    }

    fn want(&self, certificate: v1::WantedCertificate) {
        self.vault.say(v1::VaultMessage { certificates: vec![certificate], ..Default::default() });
    }

    /// Installs a chain for the agent's own key: what a good vault does.
    fn install(&self, version: u64, csr: &[u8]) {
        let chain = self.vault.chain(SITE, csr);
        self.want(wanted(CERTIFICATE, version, chain));
        let report = self.report(&Resource::Certificate(CERTIFICATE.to_owned()), version);
        assert_eq!(report.outcome(), v1::Outcome::Serving, "{report:?}");
    }

    /// Every file of the web server, without its log.
    fn site(&self) -> BTreeMap<PathBuf, Entry> {
        let mut all = snapshot(self.nginx.dir());
        all.remove(&self.nginx.file("nginx.log"));
        all
    }
}

fn wanted(name: &str, version: u64, chain_pem: String) -> v1::WantedCertificate {
    let custody = v1::Custody::Agent.into();
    v1::WantedCertificate {
        name: name.to_owned(),
        custody,
        version,
        chain_pem,
        csr_wanted: None,
        tls_keys: Vec::new(),
        ocsp_response: Vec::new(),
    }
}

fn challenge(token: &str) -> v1::WantedChallenge {
    v1::WantedChallenge {
        token: token.to_owned(),
        key_authorization: "* * * * * root touch /tmp/owned".to_owned(),
        identifier: SITE.to_owned(),
        kind: String::new(),
    }
}

/// Names that lead elsewhere where somebody takes them for a path, an option or a word of a shell.
const ODD: &[&str] = &[
    "../../x",
    "../x",
    "..",
    ".",
    "",
    "/etc/cron.d/x",
    "a/b",
    ".hidden",
    "a\\b",
    "a\0b",
    "$(touch owned)",
    "`touch owned`",
    "; touch owned",
    "--help",
    "x\ny",
    "\u{202e}x",
];

#[test]
fn a_challenge_with_an_odd_token_is_refused_and_written_nowhere() {
    let captured = Captured::new();
    let before = captured.site();
    let long = "x".repeat(5000);
    // A leading hyphen is base64url, and no path.
    let odd = ODD.iter().copied().filter(|name| *name != "--help").chain([long.as_str()]);
    for token in odd {
        let challenges = vec![challenge(token)];
        captured.vault.say(v1::VaultMessage { challenges, ..Default::default() });
        let report = captured.report(&Resource::Challenge(token.to_owned()), 0);
        assert_eq!(report.outcome(), v1::Outcome::Failed, "{token:?}: {report:?}");
        assert!(report.detail.contains("its token is malformed"), "{token:?}: {report:?}");
    }
    assert!(captured.site() == before, "{:?}", captured.site().keys());
    // A good one goes where it belongs, and nowhere else; the odd ones are removed from nowhere.
    let challenges = vec![challenge("good-token_1")];
    let removed_challenges = ODD.iter().map(|token| (*token).to_owned()).collect();
    captured.vault.say(v1::VaultMessage { challenges, removed_challenges, ..Default::default() });
    let report = captured.report(&Resource::Challenge("good-token_1".to_owned()), 0);
    assert_eq!(report.outcome(), v1::Outcome::Serving, "{report:?}");
    let webroot = captured.nginx.file("webroot");
    let new: Vec<_> =
        captured.site().into_keys().filter(|path| !before.contains_key(path)).collect();
    assert!(new.iter().all(|path| path.starts_with(webroot.join(".well-known"))), "{new:?}");
    assert!(webroot.join(".well-known/acme-challenge/good-token_1").is_file());
}

#[test]
fn a_certificate_that_agent_toml_does_not_name_is_refused_and_written_nowhere() {
    let captured = Captured::new();
    let csr = captured.csr();
    let (site, state) = (captured.site(), snapshot(&captured.agent.file("state")));
    for name in ODD.iter().chain(&["other", "shop/", "shop/../shop", "SHOP", "./shop"]) {
        captured.want(wanted(name, 7, captured.vault.chain(SITE, &csr)));
        let report = captured.report(&Resource::Certificate((*name).to_owned()), 7);
        assert_eq!(report.outcome(), v1::Outcome::Failed, "{name:?}: {report:?}");
        assert!(report.detail.contains("agent.toml has no [[install]]"), "{name:?}: {report:?}");
    }
    assert!(captured.site() == site, "{:?}", captured.site().keys());
    let now = snapshot(&captured.agent.file("state"));
    assert!(now == state, "{:?}", now.keys());
}

#[test]
fn a_key_is_made_for_no_certificate_that_agent_toml_does_not_name() {
    let captured = Captured::new();
    let csr_wanted = |order: &str| {
        let (order_id, domains) = (order.to_owned(), vec!["bank.example".to_owned()]);
        Some(v1::CsrWanted { order_id, domains, ..Default::default() })
    };
    let state = snapshot(&captured.agent.file("state"));
    for name in ODD.iter().chain(&["other"]) {
        let certificate = wanted(name, 0, String::new());
        captured.want(v1::WantedCertificate { csr_wanted: csr_wanted(name), ..certificate });
        let report = captured.report(&Resource::Certificate((*name).to_owned()), 0);
        assert_eq!(report.outcome(), v1::Outcome::Failed, "{name:?}: {report:?}");
        assert!(report.detail.contains("agent.toml has no [[install]]"), "{name:?}: {report:?}");
    }
    assert!(captured.vault.csrs().is_empty());
    let now = snapshot(&captured.agent.file("state"));
    assert!(now == state, "{:?}", now.keys());
}

#[test]
fn a_chain_that_is_none_or_belongs_to_another_key_touches_no_file_and_runs_no_command() {
    let captured = Captured::with(|install| {
        let dir = install.chain.parent().unwrap().to_owned();
        let touch = |name: &str| format!("[\"sh\", \"-c\", \"echo >> '{}'\"]", path(&dir, name));
        install.test = Some(touch("tested"));
        install.reload = Some(touch("reloaded"));
        install.check = None;
    });
    let csr = captured.csr();
    let good = captured.vault.chain(SITE, &csr);
    let before = captured.site();
    let foreign = captured.vault.chain(SITE, &foreign_csr());
    let bad: &[(&str, &str)] = &[
        ("", "it is empty"),
        ("no PEM at all", "it is empty"),
        ("../../../etc/passwd", "it is empty"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "the chain"),
        ("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", "the chain"),
        (&good[..good.len() / 3], "the chain"),
        (&foreign, "no key of this server belongs to the chain"),
    ];
    for (version, (chain, why)) in (1..).zip(bad) {
        captured.want(wanted(CERTIFICATE, version, (*chain).to_owned()));
        let report = captured.report(&Resource::Certificate(CERTIFICATE.to_owned()), version);
        assert_eq!(report.outcome(), v1::Outcome::Failed, "{chain}: {report:?}");
        assert!(report.detail.contains(why), "{chain}: {why:?} is not said: {report:?}");
    }
    assert!(captured.site() == before, "{:?}", captured.site().keys());
    // The commands do run, by the agent's own configuration, once a chain is right.
    captured.want(wanted(CERTIFICATE, 100, good));
    let report = captured.report(&Resource::Certificate(CERTIFICATE.to_owned()), 100);
    assert_eq!(report.outcome(), v1::Outcome::Installed, "{report:?}");
    assert!(captured.nginx.file("tested").is_file() && captured.nginx.file("reloaded").is_file());
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).display().to_string()
}

#[test]
fn a_chain_of_another_key_never_replaces_one_that_is_served() {
    let captured = Captured::new();
    captured.install(1, &captured.csr());
    let before = captured.site();
    let served = captured.nginx.served(SITE, &["-serial"]);
    // Said to be of custody vault, no local key has to fit: nginx's own test finds it.
    let foreign = captured.vault.chain(SITE, &foreign_csr());
    let custody = v1::Custody::Vault.into();
    captured.want(v1::WantedCertificate { custody, ..wanted(CERTIFICATE, 2, foreign) });
    let report = captured.report(&Resource::Certificate(CERTIFICATE.to_owned()), 2);
    assert_eq!(report.outcome(), v1::Outcome::Failed, "{report:?}");
    assert!(report.detail.contains("the last good files are back"), "{report:?}");
    assert!(captured.site() == before, "{:?}", captured.site().keys());
    captured.nginx.reload();
    assert_eq!(captured.nginx.served(SITE, &["-serial"]), served);
}

#[test]
fn what_a_vault_takes_back_stays_served() {
    let captured = Captured::new();
    captured.install(1, &captured.csr());
    let before = captured.site();
    captured.vault.say(v1::VaultMessage {
        removed_certificates: vec![CERTIFICATE.to_owned()],
        ..Default::default()
    });
    captured.vault.say(v1::VaultMessage { full: true, ..Default::default() });
    // A sign that both were taken in.
    let challenges = vec![challenge("after")];
    captured.vault.say(v1::VaultMessage { challenges, ..Default::default() });
    captured.report(&Resource::Challenge("after".to_owned()), 0);
    let now: BTreeMap<_, _> =
        captured.site().into_iter().filter(|(path, _)| path.is_file()).collect();
    let files: BTreeMap<_, _> = before.into_iter().filter(|(path, _)| path.is_file()).collect();
    for (path, entry) in &files {
        assert!(now.get(path) == Some(entry), "{} has changed", path.display());
    }
}

#[test]
fn a_flood_of_wishes_costs_the_site_nothing() {
    let captured = Captured::new();
    captured.install(1, &captured.csr());
    let served = captured.nginx.served(SITE, &["-serial"]);
    let files = (
        fs::read(captured.nginx.file("chain.pem")).unwrap(),
        fs::read(captured.nginx.file("key.pem")).unwrap(),
    );
    for batch in 0..20u64 {
        let name = |n: u64| format!("flood-{batch}-{n}");
        let certificates = (0..100).map(|n| wanted(&name(n), 1, "x".repeat(1000))).collect();
        let challenges = (0..100).map(|n| challenge(&name(n))).collect();
        captured.vault.say(v1::VaultMessage { certificates, challenges, ..Default::default() });
    }
    // It still does what it is there for, and drops what is not wanted any more.
    captured.vault.say(v1::VaultMessage { full: true, ..Default::default() });
    captured
        .vault
        .say(v1::VaultMessage { challenges: vec![challenge("after")], ..Default::default() });
    let report = captured.report(&Resource::Challenge("after".to_owned()), 0);
    assert_eq!(report.outcome(), v1::Outcome::Serving, "{report:?}");
    assert_eq!(captured.nginx.served(SITE, &["-serial"]), served);
    assert_eq!(fs::read(captured.nginx.file("chain.pem")).unwrap(), files.0);
    assert_eq!(fs::read(captured.nginx.file("key.pem")).unwrap(), files.1);
    let shown = captured.nginx.file("webroot/.well-known/acme-challenge");
    eventually("the flood's challenges are gone", || {
        (fs::read_dir(&shown).unwrap().count() == 1).then_some(())
    });
    assert_eq!(
        captured.agent.status()["spiffe_id"],
        format!("spiffe://test.example/agent/{AGENT}")
    );
}
