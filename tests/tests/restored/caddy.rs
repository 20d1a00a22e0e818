//! Another ACME server, which offers less and says it in its own way.

use testkit::{
    agent::Agent,
    caddy::{self, Caddy},
    namespace::inside,
    vault::Vault,
    world::{ACCOUNT, AGENT, CERTIFICATE, Install, SITE, order, wait_connected},
};
use time::OffsetDateTime;

use super::scene::{mark_restored, wait_recorded};

#[test]
fn what_another_acme_server_says_and_does_not_say_is_understood() {
    let name = "caddy::what_another_acme_server_says_and_does_not_say_is_understood";
    inside(name, &[caddy::NAME, SITE], || {
        let mut vault = Vault::initialized();
        let caddy = Caddy::start();
        let mut agent = Agent::new(&vault, "");
        let chain = Install::file(CERTIFICATE, agent.file("chain.pem"));
        let install = Install { key: Some(agent.file("key.pem")), ..chain }.toml();
        agent.config = format!("{install}[http01]\nlisten = \"{}\"\n", caddy::HTTP01);
        let ended = agent.enroll(&vault, AGENT);
        assert_eq!(ended.code, 0, "{ended:?}");
        agent.start();
        wait_connected(&vault, AGENT);
        let (directory, root) = (caddy.directory(), caddy.root().display().to_string());
        let at = ["account", "register", ACCOUNT, "--directory", &directory, "--ca-root", &root];
        vault.ok(&[&at[..], &["--agree-tos"]].concat());
        vault.ok(&order(CERTIFICATE, SITE, "agent", &["--wait"]));

        vault.stop();
        mark_restored(&vault, OffsetDateTime::now_utc());
        vault.start();
        // Everything that it can be asked was asked and answered, at the first try.
        let record = wait_recorded(&vault, 1);
        assert_eq!(record["detail"]["accounts_not_asked"]["count"], 0, "{record}");
        assert_eq!(record["detail"]["ordered_anew"]["count"], 0, "{record}");
        let findings = vault.json(&["status"])["findings"].to_string();
        assert!(findings.contains("RFC 9773"), "{findings}");
        assert!(!findings.contains("makes no sense"), "{findings}");
    });
}
