//! TLS-ALPN-01 by agents (RFC 8737): beside a web server on the same port, and to nobody but the CA.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{fs, net::SocketAddr};

use testkit::process::free_port;
use testkit::world::{AGENT, CERTIFICATE, Install, SITE, register_account};
use testkit::{
    agent::Agent, haproxy::Haproxy, nginx::Nginx, pebble::Pebble, tls, vault::Vault,
    web_server::WebServer,
};

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

fn order<'a>(how: &[&'a str]) -> Vec<&'a str> {
    let order = ["cert", "issue", CERTIFICATE, "--account", "ca", "--custody", "agent"];
    let rest = ["--challenge", "tls-alpn-01", "--deploy-to", AGENT, "--wait"];
    [&order[..], &rest[..], how].concat()
}

/// Has nginx take TLS on this address, too: who offers `acme-tls/1` gets to the agent, all others to
/// the site, as docs/acme.md says.
fn hand_over(nginx: &Nginx, address: SocketAddr, agent: SocketAddr) {
    let file = nginx.file("nginx.conf");
    let config = fs::read_to_string(&file).unwrap();
    let stream = format!(
        "stream {{\n\
           map $ssl_preread_alpn_protocols $tls_to {{ acme-tls/1 {agent}; default {site}; }}\n\
           server {{ listen {address}; ssl_preread on; proxy_pass $tls_to; }}\n\
         }}\n",
        site = nginx.https,
    );
    let module = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;";
    fs::write(file, format!("{module}\n{config}{stream}")).unwrap();
}

#[test]
fn a_site_on_nginx_serves_on_the_port_where_its_agent_answers_the_ca() {
    let (vault, pebble) = (Vault::initialized(), Pebble::start());
    let mut nginx = Nginx::start(SITE, free_address());
    let listen = free_address();
    hand_over(&nginx, pebble.tls_alpn01, listen);
    nginx.restart();
    let install =
        Install { check: Some((pebble.tls_alpn01, "15s".into())), ..Install::into(&nginx) };
    let config = format!("{}[tls_alpn01]\nlisten = \"{listen}\"\n", install.toml());
    let _agent = Agent::enrolled(&vault, AGENT, &config);
    register_account(&vault, &pebble);
    let issued = vault.json(&order(&["--domain", SITE]));
    let served = tls::leaf(pebble.tls_alpn01, SITE, &["-serial"]).to_lowercase();
    assert_eq!(served, format!("serial={}", issued["serial"].as_str().unwrap()));
}

/// Has HAProxy do the same, as docs/acme.md says.
fn hand_over_by_haproxy(haproxy: &Haproxy, address: SocketAddr, agent: SocketAddr) {
    let file = haproxy.file("haproxy.cfg");
    let config = fs::read_to_string(&file).unwrap();
    let tcp = format!(
        "frontend passthrough\n  mode tcp\n  bind {address}\n  \
           tcp-request inspect-delay 5s\n  \
           tcp-request content accept if {{ req.ssl_hello_type 1 }}\n  \
           use_backend challenges if {{ req.ssl_alpn acme-tls/1 }}\n  \
           default_backend sites\n\
         backend challenges\n  mode tcp\n  server agent {agent}\n\
         backend sites\n  mode tcp\n  server sites {site}\n",
        site = haproxy.https,
    );
    fs::write(file, config + &tcp).unwrap();
}

#[test]
fn a_site_on_haproxy_serves_on_the_port_where_its_agent_answers_the_ca() {
    let (vault, pebble) = (Vault::initialized(), Pebble::start());
    let mut haproxy = Haproxy::start_with(Vec::new());
    let listen = free_address();
    hand_over_by_haproxy(&haproxy, pebble.tls_alpn01, listen);
    haproxy.restart();
    let install =
        Install { check: Some((pebble.tls_alpn01, "30s".into())), ..WebServer::install(&haproxy) };
    let config = format!("{}[tls_alpn01]\nlisten = \"{listen}\"\n", install.toml());
    let _agent = Agent::enrolled(&vault, AGENT, &config);
    register_account(&vault, &pebble);
    let issued = vault.json(&order(&["--domain", SITE]));
    let served = tls::leaf(pebble.tls_alpn01, SITE, &["-serial"]).to_lowercase();
    assert_eq!(served, format!("serial={}", issued["serial"].as_str().unwrap()));
}

#[test]
fn an_address_is_proven_on_the_agents_own_port() {
    let (vault, pebble) = (Vault::initialized(), Pebble::start());
    let mut agent = Agent::new(&vault, "");
    let install = Install::file(CERTIFICATE, agent.file("shop.pem"));
    let install = Install { key: Some(agent.file("shop.key")), ..install };
    let listen = pebble.tls_alpn01;
    agent.config = format!("{}[tls_alpn01]\nlisten = \"{listen}\"\n", install.toml());
    assert_eq!(agent.enroll(&vault, AGENT).code, 0);
    agent.start();
    register_account(&vault, &pebble);
    let issued = vault.json(&order(&["--ip", "127.0.0.1"]));
    assert_eq!(issued["version"], 1);
    // Whoever offers another protocol, or none, is shown nothing.
    let address = listen.to_string();
    for more in [&[][..], &["-alpn", "http/1.1"]] {
        let base = ["s_client", "-connect", &address, "-servername", "1.0.0.127.in-addr.arpa"];
        let mut command = std::process::Command::new("openssl");
        command.args(base).args(more).stdin(std::process::Stdio::null());
        let shown = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert!(!shown.contains("BEGIN CERTIFICATE"), "{shown}");
    }
}

#[test]
fn an_agent_without_a_listener_refuses_and_says_what_is_missing() {
    let (vault, pebble) = (Vault::initialized(), Pebble::start());
    let mut agent = Agent::new(&vault, "");
    agent.config = Install::file(CERTIFICATE, agent.file("shop.pem")).toml();
    agent.config.push_str(&format!("key = {:?}\n", agent.file("shop.key")));
    assert_eq!(agent.enroll(&vault, AGENT).code, 0);
    agent.start();
    register_account(&vault, &pebble);
    vault.ctl(&order(&["--domain", SITE])).refused(1, "no [tls_alpn01] is configured");
    vault.ctl(&order(&["--domain", "*.shop.example"])).refused(2, "wildcard");
}
