//! The whole life of a certificate before Caddy's ACME server, which is another implementation and
//! validates on the ports that the standards name.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::fs;

use testkit::{
    agent::Agent,
    caddy::{self, Caddy},
    name_server::{KEY_NAME, NameServer, Software},
    namespace::inside,
    nginx::Nginx,
    process::{eventually, free_port},
    programs::must,
    vault::Vault,
    world::{AGENT, Install, SITE, wait_connected},
};

#[test]
fn a_certificate_lives_its_life_before_another_acme_server() {
    inside("a_certificate_lives_its_life_before_another_acme_server", &[caddy::NAME, SITE], || {
        let vault = Vault::initialized();
        let caddy = Caddy::start();
        let http = ([127, 0, 0, 1], free_port()).into();
        let nginx = Nginx::start(SITE, http);
        let agent = agent(&vault, &nginx);
        register(&vault, &caddy);
        issue_for_the_agent(&vault, &caddy, &nginx);
        issue_for_the_vault(&vault, &caddy, &agent);
        no_rollover(&vault);
        revoke_and_leave(&vault, &agent);
    });
}

/// The vault asks the system's resolver, and then the servers that the zone itself names.
#[test]
fn a_wildcard_is_proven_by_dns_before_another_acme_server() {
    inside("a_wildcard_is_proven_by_dns_before_another_acme_server", &[caddy::NAME], || {
        let server = NameServer::start_on(Software::Bind, ([127, 0, 0, 1], 53).into(), &[SITE]);
        let mut vault = Vault::new();
        let entry = format!(
            "[[acme.dns]]\nprovider = \"rfc2136\"\nserver = \"127.0.0.1\"\n\
             key_name = \"{KEY_NAME}\"\nsecret = {{ file = {:?} }}\n",
            server.key_file()
        );
        vault.reconfigure("[policy]\n", &format!("{entry}[policy]\n"));
        vault.start();
        vault.ok(&["init"]);
        let caddy = Caddy::start();
        register(&vault, &caddy);
        let wildcard = format!("*.{SITE}");
        let order = ["cert", "issue", "shop", "--account", "ca", "--challenge", "dns-01"];
        let names = ["--custody", "vault", "--domain", SITE, "--domain", &wildcard, "--wait"];
        let issued = vault.json(&[&order[..], &names[..]].concat());
        assert_eq!(issued["status"], "issued");
        verifies(&vault, &caddy, "shop");
        let record = format!("_acme-challenge.{SITE}");
        let gone = || server.records(&record, "TXT").is_empty().then_some(());
        eventually("the record is gone", gone);
    });
}

#[test]
fn a_name_and_an_address_are_proven_by_tls_alpn_before_another_acme_server() {
    let test = "a_name_and_an_address_are_proven_by_tls_alpn_before_another_acme_server";
    inside(test, &[caddy::NAME, SITE], || {
        let vault = Vault::initialized();
        let caddy = Caddy::start();
        let mut agent = Agent::new(&vault, "");
        let install = Install::file("shop", agent.file("shop.pem"));
        let listen = format!("[tls_alpn01]\nlisten = \"{}\"\n", caddy::TLS_ALPN01);
        agent.config = install.toml() + &listen;
        assert_eq!(agent.enroll(&vault, AGENT).code, 0);
        agent.start();
        wait_connected(&vault, AGENT);
        register(&vault, &caddy);
        let order = ["cert", "issue", "shop", "--account", "ca", "--challenge", "tls-alpn-01"];
        let names = ["--domain", SITE, "--ip", "127.0.0.1", "--custody", "vault"];
        let issued =
            vault.json(&[&order[..], &names[..], &["--deploy-to", AGENT, "--wait"]].concat());
        assert_eq!(issued["version"], 1);
        verifies(&vault, &caddy, "shop");
        let chain = vault.path("chain.pem");
        let said = must("openssl", &["x509", "-in", &chain, "-noout", "-checkip", "127.0.0.1"]);
        assert!(said.contains("does match"), "{said}");
    });
}

/// An agent that answers challenges itself, on port 80.
fn agent(vault: &Vault, nginx: &Nginx) -> Agent {
    let mut agent = Agent::new(vault, "");
    let kept = Install::file("kept", agent.file("kept.pem")).toml();
    let listen = format!("[http01]\nlisten = \"{}\"\n", caddy::HTTP01);
    agent.config = Install::into(nginx).toml() + &kept + &listen;
    let ended = agent.enroll(vault, AGENT);
    assert_eq!(ended.code, 0, "{ended:?}");
    agent.start();
    wait_connected(vault, AGENT);
    agent
}

fn register(vault: &Vault, caddy: &Caddy) {
    let (directory, root) = (caddy.directory(), caddy.root().display().to_string());
    let at = ["account", "register", "ca", "--directory", &directory, "--ca-root", &root];
    let rest = ["--contact", "mailto:ops@shop.example", "--agree-tos"];
    let account = vault.json(&[&at[..], &rest[..]].concat());
    assert_eq!(account["status"], "valid");
}

fn issue(vault: &Vault, name: &str, custody: &str) -> serde_json::Value {
    vault.json(&[
        "cert",
        "issue",
        name,
        "--account",
        "ca",
        "--domain",
        SITE,
        "--challenge",
        "http-01",
        "--custody",
        custody,
        "--deploy-to",
        AGENT,
        "--wait",
    ])
}

/// The chain in force leads to Caddy's root, in OpenSSL's eyes.
fn verifies(vault: &Vault, caddy: &Caddy, name: &str) {
    let chain = vault.path("chain.pem");
    fs::write(&chain, vault.ok(&["cert", "chain", name])).unwrap();
    let root = caddy.root().display().to_string();
    let told = ["verify", "-CAfile", &root, "-untrusted", &chain, "-verify_hostname", SITE, &chain];
    must("openssl", &told);
}

fn issue_for_the_agent(vault: &Vault, caddy: &Caddy, nginx: &Nginx) {
    let serves =
        |issued: &serde_json::Value| nginx.wait_serves(SITE, issued["serial"].as_str().unwrap());
    let issued = issue(vault, "shop", "agent");
    assert_eq!(issued["deployments"][0]["status"], "serving");
    serves(&issued);
    verifies(vault, caddy, "shop");
    let renewed = vault.json(&["cert", "renew", "shop", "--force", "--wait"]);
    assert_eq!((&renewed["version"], &renewed["failed_attempts"]), (&2.into(), &0.into()));
    assert_ne!(renewed["serial"], issued["serial"]);
    serves(&renewed);
    verifies(vault, caddy, "shop");
}

fn issue_for_the_vault(vault: &Vault, caddy: &Caddy, agent: &Agent) {
    let issued = issue(vault, "kept", "vault");
    assert_eq!(issued["version"], 1);
    verifies(vault, caddy, "kept");
    let chain = agent.file("kept.pem").display().to_string();
    assert_eq!(fs::read_to_string(&chain).unwrap(), vault.ok(&["cert", "chain", "kept"]));
    let key = must("openssl", &["x509", "-noout", "-pubkey", "-in", &chain]);
    assert_eq!(key, vault.ok(&["key", "public", "kept"]));
}

/// Caddy does not do what it need not: the account stays as it was, and usable.
fn no_rollover(vault: &Vault) {
    let before = vault.json(&["account", "show", "ca"]);
    let keys = vault.keys_in_token();
    vault.ctl(&["account", "rollover", "ca"]).refused(2, "not implemented");
    assert_eq!(vault.json(&["account", "show", "ca"]), before);
    assert_eq!(vault.keys_in_token(), keys);
}

fn revoke_and_leave(vault: &Vault, agent: &Agent) {
    vault.ok(&["cert", "revoke", "kept", "--reason", "superseded", "--yes", "--no-replace"]);
    assert_eq!(vault.json(&["cert", "show", "kept"])["status"], "revoked");
    let again = ["cert", "revoke", "kept", "--reason", "superseded", "--yes", "--no-replace"];
    vault.ctl(&again).refused(1, "revoked");
    assert!(agent.file("kept.pem").is_file(), "what is served is the web server's business");
    for name in ["kept", "shop"] {
        vault.ok(&["cert", "undeploy", name, "--from", AGENT]);
        vault.ok(&["cert", "delete", name, "--yes"]);
    }
    vault.ok(&["account", "deactivate", "ca", "--yes"]);
    assert_eq!(vault.json(&["account", "show", "ca"])["status"], "deactivated");
}
