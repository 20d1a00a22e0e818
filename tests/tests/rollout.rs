//! A new version goes to one web server first; the rest follows once it is proven there, and keeps the
//! old one where it is not.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{fs, net::SocketAddr};

use serde_json::Value;
use testkit::process::{eventually, free_port};
use testkit::world::{ACCOUNT, CERTIFICATE, Install, SITE, register_account, wait_connected};
use testkit::{agent::Agent, keyless::Keyless, nginx::Nginx, pebble::Pebble, vault::Vault};

const AGENTS: [&str; 3] = ["web1", "web2", "web3"];

/// A web server with an agent; its key is in the HSM.
struct Web {
    agent: Agent,
    nginx: Nginx,
    /// What `agent.toml` says behind `[[install]]`.
    rest: String,
    _keyless: Keyless,
}

impl Web {
    fn start(vault: &Vault, name: &str, http01: SocketAddr) -> Self {
        let keyless = Keyless::new();
        let rest = format!("[http01]\nlisten = \"{http01}\"\n{}", keyless.signer());
        // There before the web server, whose module waits for it.
        let mut agent = Agent::enrolled(vault, name, &rest);
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let nginx = Nginx::start_with(SITE, http, keyless.environment());
        agent.kill();
        let mut web = Self { agent, nginx, rest, _keyless: keyless };
        web.test_by(None);
        web
    }

    /// Starts the agent anew, with this command as its test of what it has installed.
    fn test_by(&mut self, test: Option<String>) {
        let usual = Install::into(&self.nginx);
        let test = test.or_else(|| usual.test.clone());
        self.agent.config = format!("{}{}", Install { test, ..usual }.toml(), self.rest);
        self.agent.start();
    }

    fn serves(&self) -> String {
        let shown = self.nginx.served(SITE, &["-serial"]).to_lowercase();
        shown.trim_start_matches("serial=").to_owned()
    }
}

/// Three web servers with one certificate, which all of them serve.
struct Fleet {
    vault: Vault,
    webs: Vec<Web>,
    first: String,
    _pebble: Pebble,
}

impl Fleet {
    fn new(config: &str, more: &[&str]) -> Self {
        let mut vault = Vault::new();
        vault.config.push_str(config);
        vault.start();
        vault.ok(&["init"]);
        let pebble = Pebble::start();
        register_account(&vault, &pebble);
        let mut http01 = pebble.http01;
        let webs = AGENTS.map(|name| {
            let web = Web::start(&vault, name, http01);
            http01 = SocketAddr::from(([127, 0, 0, 1], free_port()));
            web
        });
        AGENTS.iter().for_each(|name| wait_connected(&vault, name));
        let order = ["cert", "issue", CERTIFICATE, "--account", ACCOUNT, "--domain", SITE];
        let how = ["--challenge", "http-01", "--custody", "vault", "--deploy-to"];
        let issued = vault.json(&[&order[..], &how, &AGENTS, more, &["--wait"]].concat());
        assert_eq!(issued["rollout_state"], "", "a first version goes to all at once: {issued}");
        let first = issued["serial"].as_str().unwrap().to_owned();
        let fleet = Self { vault, webs: webs.into(), first, _pebble: pebble };
        fleet.all_serve(&fleet.first);
        fleet
    }

    fn all_serve(&self, serial: &str) {
        self.webs.iter().for_each(|web| web.nginx.wait_serves(SITE, serial));
    }

    fn rollout(&self) -> Value {
        self.vault.json(&["cert", "rollout", CERTIFICATE])
    }

    fn wait_rollout(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || {
            let shown = self.vault.ctl(&["-o", "json", "cert", "rollout", CERTIFICATE]);
            (shown.code == 0).then(|| shown.json()).filter(&is_so)
        })
    }

    fn serial(&self) -> String {
        let shown = self.vault.json(&["cert", "show", CERTIFICATE]);
        shown["serial"].as_str().unwrap().to_owned()
    }

    fn renew(&self) {
        self.vault.ok(&["cert", "renew", CERTIFICATE, "--force"]);
    }

    /// The vault dies at this point of a renewal, and is started again.
    fn dies_renewing(&mut self, point: &str) {
        self.vault.kill();
        self.vault.environment = vec![("FAILPOINTS".to_owned(), format!("{point}=return"))];
        self.vault.start();
        AGENTS.iter().for_each(|name| wait_connected(&self.vault, name));
        // Where the vault dies before it answers, the command fails, and where it dies after, not.
        self.vault.ctl(&["cert", "renew", CERTIFICATE, "--force"]);
        let status = self.vault.process().wait_exit();
        assert!(!status.success(), "{point}: the vault did not crash");
        self.vault.environment.clear();
        self.vault.start();
    }

    fn is_done(&self, version: u64) {
        self.wait_rollout("every agent has it", |now| {
            now["state"] == "done" && now["version"] == version
        });
        self.all_serve(&self.serial());
        let shown = self.rollout();
        for agent in shown["agents"].as_array().unwrap() {
            assert_eq!(agent["held_version"], version, "{shown}");
            assert_eq!(agent["status"], "serving", "{shown}");
        }
        assert_eq!(self.alerts(), [""; 0]);
    }

    fn alerts(&self) -> Vec<String> {
        let status = self.vault.json(&["status"]);
        let alerts = status["alerts"].as_array().unwrap().iter();
        alerts.map(|alert| alert["kind"].as_str().unwrap().to_owned()).collect()
    }
}

/// A test that waits until there is a file.
fn gate(fleet: &Fleet, name: &str) -> String {
    let file = fleet.vault.path(name);
    // Not for ever: where its agent is killed it has nobody.
    let wait = format!("for i in $(seq 400); do [ -e {file} ] && exit; sleep 0.05; done; exit 1");
    format!("[\"/bin/sh\", \"-c\", \"{wait}\"]")
}

fn versions(shown: &Value, field: &str) -> Vec<u64> {
    shown["agents"].as_array().unwrap().iter().map(|one| one[field].as_u64().unwrap()).collect()
}

#[test]
fn a_renewal_changes_one_web_server_until_it_is_proven_there() {
    let mut fleet = Fleet::new("", &["--rotate-key"]);
    let test = gate(&fleet, "open");
    fleet.webs[0].test_by(Some(test));
    wait_connected(&fleet.vault, AGENTS[0]);
    fleet.renew();
    let shown = fleet.wait_rollout("the first is asked", |now| now["canary"] == "web1");
    assert_eq!(shown["state"], "running", "{shown}");
    assert_eq!((&shown["version"], &shown["base_version"]), (&2.into(), &1.into()), "{shown}");
    assert_eq!(versions(&shown, "wanted_version"), [2, 1, 1]);
    assert_eq!(versions(&shown, "held_version"), [1, 1, 1]);
    let roles: Vec<_> = shown["agents"].as_array().unwrap().iter().map(|a| &a["role"]).collect();
    assert_eq!(roles, ["canary", "follower", "follower"]);
    // It has a key of its own; those who keep the old chain sign with the old key.
    assert_ne!(fleet.serial(), fleet.first);
    for web in &fleet.webs[1..] {
        assert_eq!(web.serves(), fleet.first);
    }
    fs::write(fleet.vault.file("open"), "").unwrap();
    fleet.is_done(2);
}

#[test]
fn what_the_first_refuses_goes_nowhere_until_it_is_repaired() {
    let mut fleet = Fleet::new("", &["--canary", "web2"]);
    fleet.webs[1].test_by(Some("[\"/bin/false\"]".to_owned()));
    wait_connected(&fleet.vault, AGENTS[1]);
    let ended = fleet.vault.ctl(&["cert", "renew", CERTIFICATE, "--force", "--wait"]);
    ended.refused(1, "agent web2 refused version 2");
    let stopped = fleet.rollout();
    assert_eq!((&stopped["state"], &stopped["canary"]), (&"stopped".into(), &"web2".into()));
    assert_eq!(versions(&stopped, "wanted_version"), [1, 1, 1], "{stopped}");
    fleet.all_serve(&fleet.first);
    eventually("an alert is raised", || (fleet.alerts() == ["rollout-stopped"]).then_some(()));
    // Not after a restart of the vault, either.
    fleet.vault.kill();
    fleet.vault.start();
    AGENTS.iter().for_each(|name| wait_connected(&fleet.vault, name));
    assert_eq!(versions(&fleet.rollout(), "held_version"), [1, 1, 1]);
    fleet.all_serve(&fleet.first);

    fleet.webs[1].test_by(None);
    wait_connected(&fleet.vault, AGENTS[1]);
    let resumed = fleet.vault.json(&["cert", "rollout", CERTIFICATE, "--resume"]);
    assert_eq!(resumed["canary"], "web2", "{resumed}");
    fleet.is_done(2);
    let refused = fleet.vault.ctl(&["cert", "rollout", CERTIFICATE, "--resume"]);
    refused.refused(1, "it is done");

    // Whoever calls one off has the old chain back everywhere.
    let (test, second) = (gate(&fleet, "open"), fleet.serial());
    fleet.webs[1].test_by(Some(test));
    wait_connected(&fleet.vault, AGENTS[1]);
    fleet.renew();
    fleet.wait_rollout("the chosen one is asked", |now| {
        now["version"] == 3 && now["canary"] == "web2" && now["state"] == "running"
    });
    fleet.vault.ok(&["cert", "rollout", CERTIFICATE, "--abandon"]);
    fs::write(fleet.vault.file("open"), "").unwrap();
    eventually("web2 holds the one before", || {
        (versions(&fleet.rollout(), "held_version") == [2, 2, 2]).then_some(())
    });
    fleet.all_serve(&second);
    // The next version is a new rollout.
    fleet.renew();
    fleet.is_done(4);
}

#[test]
fn another_is_asked_where_the_first_is_gone() {
    let mut fleet = Fleet::new("[rollout]\ncanary_patience = \"4s\"\n", &[]);
    let test = gate(&fleet, "never");
    fleet.webs[0].test_by(Some(test));
    wait_connected(&fleet.vault, AGENTS[0]);
    fleet.renew();
    fleet.wait_rollout("the first is asked", |now| now["canary"] == "web1");
    fleet.webs[0].agent.kill();
    let shown = fleet.wait_rollout("another is asked", |now| now["canary"] == "web2");
    assert_eq!(versions(&shown, "wanted_version")[1], 2, "{shown}");
    let second = fleet.serial();
    fleet.webs[1..].iter().for_each(|web| web.nginx.wait_serves(SITE, &second));
    fleet.webs[0].test_by(None);
    fleet.is_done(2);
}

#[test]
fn a_rollout_goes_on_wherever_the_vault_dies() {
    let mut fleet = Fleet::new("", &[]);
    let points = ["rollout.ask", "rollout.asked", "rollout.follow", "rollout.followed"];
    for (version, point) in (2..).zip(points) {
        fleet.dies_renewing(point);
        fleet.is_done(version);
    }
    fleet.webs[0].test_by(Some("[\"/bin/false\"]".to_owned()));
    for (version, point) in (6..).zip(["rollout.stop", "rollout.stopped"]) {
        let good = fleet.webs[0].serves();
        fleet.dies_renewing(point);
        fleet.wait_rollout("it is stopped", |now| {
            now["state"] == "stopped" && now["version"] == version
        });
        AGENTS.iter().for_each(|name| wait_connected(&fleet.vault, name));
        fleet.all_serve(&good);
        assert_eq!(versions(&fleet.rollout(), "held_version"), [5, 5, 5], "{point}");
    }
}
