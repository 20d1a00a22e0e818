//! HTTP-01 where one name leads to several web servers, and where a site sends everything to HTTPS.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{fs, net::SocketAddr, path::Path};

use rustix::process::Signal;
use testkit::process::{eventually, free_port};
use testkit::world::{CERTIFICATE, Install, SITE, register_account, wait_connected, webroot};
use testkit::{
    agent::Agent, apache::Apache, haproxy::Haproxy, nginx::Nginx, pebble::Pebble, tls,
    vault::Vault, web_server::WebServer,
};

/// The agents of the web servers behind one name.
const AGENTS: [&str; 3] = ["web1", "web2", "web3"];

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// Has nginx do something else on plain HTTP than serve its webroot.
fn serve_instead(nginx: &Nginx, http: SocketAddr, top: &str, location: &str) {
    let file = nginx.file("nginx.conf");
    let config = fs::read_to_string(&file).unwrap();
    let before = format!("server {{ listen {http}; root {}; }}", nginx.file("webroot").display());
    assert!(config.contains(&before), "{config}");
    let after = format!("{top}server {{ listen {http}; location / {{ {location} }} }}");
    fs::write(file, config.replace(&before, &after)).unwrap();
    nginx.reload();
}

/// An nginx on this address that hands each request to the next of these.
fn balancer(address: SocketAddr, to: &[SocketAddr]) -> Nginx {
    let nginx = Nginx::start(SITE, address);
    let servers: String = to.iter().map(|server| format!("server {server}; ")).collect();
    // One worker's turn is not another's: they share it by a zone.
    let upstream = format!("upstream webs {{ zone webs 64k; {servers}}}\n");
    serve_instead(&nginx, address, &upstream, "proxy_pass http://webs;");
    nginx
}

/// How many challenges a web server's root holds.
fn shown(webroot: &Path) -> usize {
    fs::read_dir(webroot.join(".well-known/acme-challenge")).map_or(0, Iterator::count)
}

#[test]
fn a_challenge_is_on_every_web_server_behind_the_name_before_the_ca_is_told() {
    let (vault, pebble) = (Vault::initialized(), Pebble::start());
    let plain = AGENTS.map(|_| free_address());
    let webs = plain.map(|address| Nginx::start(SITE, address));
    let _balancer = balancer(pebble.http01, &plain);
    let mut agents: Vec<_> = AGENTS
        .iter()
        .zip(&webs)
        .map(|(name, nginx)| {
            let install = Install::file(CERTIFICATE, nginx.file("shop.pem"));
            Agent::enrolled(&vault, name, &format!("{}{}", install.toml(), webroot(nginx)))
        })
        .collect();
    AGENTS.iter().for_each(|name| wait_connected(&vault, name));
    register_account(&vault, &pebble);

    // The slow one is connected, and does nothing.
    agents[2].process().signal(Signal::STOP);
    let order = ["cert", "issue", CERTIFICATE, "--account", "ca", "--domain", SITE];
    let how = ["--challenge", "http-01", "--deploy-to", "web1", "--deploy-to", "web2"];
    vault.ok(&[&order[..], &how[..], &["--deploy-to", "web3"]].concat());
    eventually("the quick ones show it", || {
        webs[..2].iter().all(|nginx| shown(&nginx.file("webroot")) == 1).then_some(())
    });
    assert_eq!(shown(&webs[2].file("webroot")), 0);
    let validated = || pebble.log().contains("Pulled a task from the Tasks queue");
    assert!(!validated(), "the CA was told too soon: {}", pebble.log());
    agents[2].process().signal(Signal::CONT);

    let issued = eventually("it is issued", || {
        let now = vault.json(&["cert", "show", CERTIFICATE]);
        (now["version"] == 1).then_some(now)
    });
    assert_eq!(issued["failed_attempts"], 0, "{issued}");
    assert!(validated(), "what tells that the CA validates is not in its log: {}", pebble.log());
    eventually("no web server shows it any more", || {
        webs.iter().all(|nginx| shown(&nginx.file("webroot")) == 0).then_some(())
    });
}

#[test]
fn a_site_that_sends_everything_to_https_answers_the_challenge_there() {
    let (vault, pebble) = (Vault::initialized(), Pebble::start());
    let nginx = Nginx::start(SITE, pebble.http01);
    let to = format!("return 301 https://$host:{}$request_uri;", nginx.https.port());
    serve_instead(&nginx, pebble.http01, "", &to);
    let config = format!("{}{}", Install::into(&nginx).toml(), webroot(&nginx));
    let _agent = Agent::enrolled(&vault, AGENTS[0], &config);
    register_account(&vault, &pebble);
    let order = ["cert", "issue", CERTIFICATE, "--account", "ca", "--domain", SITE, "--wait"];
    let how = ["--challenge", "http-01", "--custody", "agent", "--deploy-to", AGENTS[0]];
    let issued = vault.json(&[&order[..], &how[..]].concat());
    nginx.wait_serves(SITE, issued["serial"].as_str().unwrap());
}

/// A certificate for a web server whose agent answers challenges as `http01` says.
fn issue_beside(server: &dyn WebServer, vault: &Vault, pebble: &Pebble, http01: &str) {
    let config = format!("{}[http01]\n{http01}\n", server.install().toml());
    let _agent = Agent::enrolled(vault, AGENTS[0], &config);
    register_account(vault, pebble);
    let order = ["cert", "issue", CERTIFICATE, "--account", "ca", "--domain", SITE, "--wait"];
    let how = ["--challenge", "http-01", "--custody", "agent", "--deploy-to", AGENTS[0]];
    let issued = vault.json(&[&order[..], &how[..]].concat());
    let served = tls::leaf(server.https(), SITE, &["-serial"]).to_lowercase();
    assert_eq!(served, format!("serial={}", issued["serial"].as_str().unwrap()));
}

#[test]
fn an_apache_that_sends_everything_to_https_answers_the_challenge_there() {
    let (vault, pebble) = (Vault::initialized(), Pebble::start());
    let mut apache = Apache::start_with(SITE, Vec::new());
    let (file, root) = (apache.file("apache.conf"), apache.file("webroot"));
    fs::create_dir(&root).unwrap();
    let root = root.display();
    let redirect = format!(
        "LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so\nListen {http}\n\
         <VirtualHost {http}>\n  Redirect permanent / https://{SITE}:{https}/\n</VirtualHost>\n\
         DocumentRoot {root}\n<Directory {root}>\n  Require all granted\n</Directory>\n",
        http = pebble.http01,
        https = apache.https.port(),
    );
    fs::write(&file, fs::read_to_string(&file).unwrap() + &redirect).unwrap();
    apache.restart();
    issue_beside(&apache, &vault, &pebble, &format!("webroot = \"{root}\""));
}

#[test]
fn a_haproxy_that_sends_everything_to_https_hands_the_challenge_to_its_agent() {
    let (vault, pebble) = (Vault::initialized(), Pebble::start());
    let mut haproxy = Haproxy::start_with(Vec::new());
    let (file, agent) = (haproxy.file("haproxy.cfg"), free_address());
    let web = format!(
        "frontend web\n  bind {http}\n  acl challenge path_beg /.well-known/acme-challenge/\n  \
           http-request redirect scheme https code 301 unless challenge\n  \
           use_backend agent if challenge\n\
         backend agent\n  server agent {agent}\n",
        http = pebble.http01,
    );
    fs::write(&file, fs::read_to_string(&file).unwrap() + &web).unwrap();
    haproxy.restart();
    issue_beside(&haproxy, &vault, &pebble, &format!("listen = \"{agent}\""));
}
