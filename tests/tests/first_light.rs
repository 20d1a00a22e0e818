//! One certificate's whole life, from the HSM to a served handshake.

use testkit::{agent::Agent, nginx::Nginx, pebble::Pebble, vault::Vault};

/// A web server with an agent, a CA and a vault, and an account at the CA.
struct World {
    vault: Vault,
    pebble: Pebble,
    nginx: Nginx,
    agent: Agent,
}

impl World {
    fn new() -> Self {
        let vault = Vault::initialized();
        let pebble = Pebble::start();
        let nginx = Nginx::start("shop.example", pebble.http01);
        let config = install(&nginx, "shop");
        let agent = Agent::enrolled(&vault, "web1", &config);
        let root = pebble.root().display().to_string();
        vault.ok(&[
            "account",
            "register",
            "ca",
            "--directory",
            &pebble.directory(),
            "--ca-root",
            &root,
            "--contact",
            "mailto:ops@shop.example",
            "--agree-tos",
        ]);
        Self { vault, pebble, nginx, agent }
    }

    fn issue(&self) -> serde_json::Value {
        self.vault.json(&[
            "cert",
            "issue",
            "shop",
            "--account",
            "ca",
            "--domain",
            "shop.example",
            "--challenge",
            "http-01",
            "--custody",
            "agent",
            "--deploy-to",
            "web1",
            "--wait",
        ])
    }
}

fn install(nginx: &Nginx, certificate: &str) -> String {
    format!(
        "[[install]]\ncertificate = \"{certificate}\"\nchain = {:?}\nkey = {:?}\n\
         test = {}\nreload = {}\n\
         check = {{ address = \"{}\", server_name = \"shop.example\" }}\n\
         [http01]\nwebroot = {:?}\n",
        nginx.file("chain.pem"),
        nginx.file("key.pem"),
        nginx.test_command(),
        nginx.reload_command(),
        nginx.https,
        nginx.file("webroot"),
    )
}

#[test]
fn a_certificate_is_issued_pushed_proven_and_renewed() {
    let world = World::new();
    let issued = world.issue();
    assert_eq!(issued["version"], 1);
    assert_eq!(issued["deployments"][0]["status"], "serving");
    let serial = issued["serial"].as_str().unwrap();
    let served = world.nginx.served("shop.example", &["-serial"]);
    assert_eq!(served.to_lowercase(), format!("serial={serial}"));

    let renewed = world.vault.json(&["cert", "renew", "shop", "--force", "--wait"]);
    assert_eq!(renewed["version"], 2);
    let second = renewed["serial"].as_str().unwrap();
    assert_ne!(second, serial);
    let served = world.nginx.served("shop.example", &["-serial"]);
    assert_eq!(served.to_lowercase(), format!("serial={second}"));

    let status = world.agent.status();
    assert_eq!(status["certificates"][0]["served_now"], true, "{status}");
    assert_eq!(status["certificates"][0]["version"], 2);
    let history = world.vault.json(&["cert", "history", "shop"]);
    assert_eq!(history.as_array().unwrap().len(), 2);
    drop(world.pebble);
}
