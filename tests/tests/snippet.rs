//! `vault-agent snippet`: what it prints is what the web servers of the other tests run with and what the
//! papers show; what it cannot print rightly it refuses.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::fs;

use testkit::{
    agent::Agent,
    apache::Apache,
    fake_vault::FakeVault,
    haproxy::Haproxy,
    keyless::Keyless,
    nginx::Nginx,
    process::free_port,
    programs::{Ended, run, workspace},
    tree::entry,
    web_server::WebServer,
    world::SITE,
};

const SIGNER: &str = "[signer]\nallow = [\"www-data\"]\n";

/// An agent that is configured so and runs nothing.
fn agent(config: &str) -> Agent {
    Agent::at(([127, 0, 0, 1], 1).into(), config)
}

fn snippet(agent: &Agent, arguments: &[&str]) -> Ended {
    run(agent.command(&[&["snippet"], arguments].concat()))
}

fn install(name: &str, dir: &str, key: &str) -> String {
    format!(
        "[[install]]\ncertificate = \"{name}\"\nchain = \"{dir}/{name}.pem\"\nkey = \"{dir}/{key}\"\n"
    )
}

/// Every line that is printed for a place, in order.
fn lines(snippet: &serde_json::Value, place: &str) -> Vec<String> {
    let parts = snippet["parts"].as_array().unwrap().iter();
    let parts = parts.filter(|part| part["place"].as_str().unwrap().contains(place));
    let lines = parts.flat_map(|part| part["lines"].as_array().unwrap());
    lines.map(|line| line.as_str().unwrap().to_owned()).collect()
}

/// The web servers of the tests are configured as the agent says: what is printed stands in their
/// configurations, and by these very configurations they serve.
#[test]
fn what_is_printed_is_what_servers_run_with() {
    let keyless = Keyless::new();
    let environment = keyless.environment();
    let http = ([127, 0, 0, 1], free_port()).into();
    let nginx = Nginx::start_with(SITE, http, environment.clone());
    let apache = Apache::start_with(SITE, environment.clone());
    let haproxy = Haproxy::start_with(environment.clone());
    let places = ["nginx.conf, ", "the virtual host of", "in the frontend"];
    let servers: [(_, _, Box<dyn WebServer>); 3] = [
        ("nginx", "nginx.conf", Box::new(nginx)),
        ("apache", "apache.conf", Box::new(apache)),
        ("haproxy", "haproxy.cfg", Box::new(haproxy)),
    ];
    for ((name, file, server), place) in servers.into_iter().zip(places) {
        let config = server.install().chain.with_file_name(file);
        let config = fs::read_to_string(config).unwrap();
        let agent = agent(&format!("{}{}", server.install().toml(), keyless.signer()));
        let printed = agent.snippet(name);
        let wanted = lines(&printed, place);
        assert!(!wanted.is_empty(), "{printed}");
        for line in wanted {
            // Where HAProxy listens is everybody's own affair.
            let line = line.trim_start_matches("bind :443 ");
            assert!(config.contains(line), "{name} does not run with {line:?}:\n{config}");
        }
        for variable in printed["environment"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            assert!(environment.iter().any(|(known, _)| known == name), "{printed}");
        }
    }
}

#[test]
fn the_papers_show_what_is_printed() {
    let papers = workspace().join("docs/keyless.md");
    let papers = fs::read_to_string(papers).unwrap();
    let vault = FakeVault::start();
    for (server, dir, key) in [
        ("nginx", "/etc/nginx/tls", "shop.key"),
        ("nginx-engine", "/etc/nginx/tls", "shop.key"),
        ("apache", "/etc/apache2/tls", "shop.key"),
        ("haproxy", "/etc/haproxy/tls", "shop.pem.key"),
    ] {
        let keys = "keys = \"/var/lib/vault-agent/signer-keys.pb\"\n";
        let agent =
            Agent::at(vault.address, &format!("{}{SIGNER}{keys}", install("shop", dir, key)));
        let enrolled = agent.enroll_with("a token", &vault.fingerprint);
        assert_eq!(enrolled.code, 0, "{enrolled:?}");
        let printed = snippet(&agent, &[server]);
        assert_eq!(printed.code, 0, "{printed:?}");
        // OpenSSL's configuration comes first; who wants to see it has the command.
        let (_, pasted) = printed.stdout.split_once("\n\n").unwrap();
        let indented = |line: &str| match line {
            "" => "\n".to_owned(),
            line => format!("    {line}\n"),
        };
        let block: String = pasted.trim_end().lines().map(indented).collect();
        assert!(papers.contains(&block), "the papers do not show this:\n{block}");
        let command = format!("    vault-agent snippet {server} --out /etc/vault-agent\n");
        assert!(papers.contains(&command), "the papers do not show {command}");
    }
}

#[test]
fn openssls_configuration_is_written_once_for_everybody_to_read() {
    let agent = agent(&format!("{}{SIGNER}", install("shop", "/etc/tls", "shop.key")));
    let dir = agent.file("made/for it");
    let refused = snippet(&agent, &["nginx", "--out", &dir.display().to_string()]);
    refused.refused(2, "means something else");
    assert!(!dir.exists());

    let dir = agent.file("made/for-it");
    let arguments = ["nginx", "--out", &dir.display().to_string()];
    let printed = snippet(&agent, &arguments);
    assert_eq!(printed.code, 0, "{printed:?}");
    let (file, made) = (dir.join("openssl.cnf"), fs::metadata(dir.join("openssl.cnf")).unwrap());
    assert_eq!(entry(&file).mode, 0o644);
    let assigned = format!("Environment=OPENSSL_CONF={}\n", file.display());
    assert!(printed.stdout.contains(&assigned), "{printed:?}");
    assert!(!printed.stdout.contains("openssl_init"), "it is written, not to be pasted");

    assert_eq!(snippet(&agent, &arguments).stdout, printed.stdout);
    let again = fs::metadata(&file).unwrap();
    assert_eq!(made.modified().unwrap(), again.modified().unwrap(), "it was written again");
    fs::write(&file, "something else").unwrap();
    assert_eq!(snippet(&agent, &arguments).code, 0);
    assert!(fs::read_to_string(&file).unwrap().contains("openssl_init"));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "something was left behind");
}

#[test]
fn what_is_well_known_is_not_said() {
    let well_known = "keys = \"/var/lib/vault-agent/signer-keys.pb\"\n";
    let install = install("shop", "/etc/tls", "shop.key");
    for (signer, names) in [
        (format!("{SIGNER}{well_known}"), vec!["OPENSSL_CONF"]),
        (SIGNER.to_owned(), vec!["OPENSSL_CONF", "VAULT_AGENT_KEYS"]),
        (
            format!("{SIGNER}{well_known}socket = \"/run/other.sock\"\n"),
            vec!["OPENSSL_CONF", "VAULT_AGENT_SOCKET", "VAULT_AGENT_KEYS"],
        ),
    ] {
        let printed = agent(&format!("{install}{signer}")).snippet("nginx");
        let said = printed["environment"].as_array().unwrap().iter();
        let said: Vec<_> = said.map(|variable| variable["name"].as_str().unwrap()).collect();
        assert_eq!(said, names, "{signer}");
    }
}

#[test]
fn what_would_not_work_is_refused() {
    let (shop, mail) = (install("shop", "/etc/tls", "shop.key"), install("mail", "/etc/tls", "m"));
    let no_key = "[[install]]\ncertificate = \"shop\"\nchain = \"/etc/tls/shop.pem\"\n";
    let all = format!("{shop}{mail}{SIGNER}");
    let odd = format!("{}{SIGNER}", install("shop", "/etc/my tls", "shop.key"));
    let no_key = format!("{no_key}{SIGNER}");
    let cases: [(&str, &[&str], i32, &str); 9] = [
        (&shop, &["nginx"], 2, "it has no [signer]"),
        (SIGNER, &["apache"], 2, "no [[install]] with a key"),
        (&no_key, &["nginx", "--certificate", "shop"], 2, "names no key"),
        (&odd, &["nginx"], 2, "means something else"),
        (&all, &["haproxy"], 2, "HAProxy finds the key by the chain's name"),
        (&all, &["nginx-engine"], 2, "not enrolled"),
        (&all, &["nginx", "--certificate", "blog"], 3, "certificate blog"),
        (&all, &["nginx", "--pkcs11-module", "/nowhere/m.so"], 3, "it is not at /nowhere/m.so"),
        (&all, &["apache", "--openssl-module", "/nowhere/p.so"], 3, "it is not at /nowhere/p.so"),
    ];
    for (config, arguments, code, why) in cases {
        snippet(&agent(config), arguments).refused(code, why);
    }
    let one = snippet(&agent(&all), &["nginx", "--certificate", "mail"]);
    assert!(one.stdout.contains("mail.pem") && !one.stdout.contains("shop.pem"), "{one:?}");
}
