//! A running agent: its identity rotates by itself, sites serve on whatever dies beside them, and
//! it says clearly what is wrong with its own machine.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{fs, net::SocketAddr};

use testkit::process::{eventually, free_port};
use testkit::programs::{must, run};
use testkit::world::{AGENT, CERTIFICATE, Install, SITE, World, wait_connected, webroot};
use testkit::{agent::Agent, nginx::Nginx, tls, vault::Vault};
use vault_proto::local::VAULT_SERVER_NAME;

/// A vault with one more line in `[listen]`.
fn listening(line: &str) -> Vault {
    let mut vault = Vault::new();
    vault.reconfigure("[listen]\n", &format!("[listen]\n{line}\n"));
    vault.start();
    vault.ok(&["init"]);
    vault
}

/// Key and certificate of an agent's identity.
fn identity(agent: &Agent) -> (String, String) {
    let pem = agent.identity();
    let end = pem.find("-----BEGIN CERTIFICATE").unwrap();
    (pem[..end].to_owned(), pem[end..].to_owned())
}

#[test]
fn an_agent_renews_its_identity_with_a_new_key_and_stays_connected() {
    let vault = listening("identity_lifetime = \"12s\"");
    let mut agent = Agent::enrolled(&vault, AGENT, "");
    let first = identity(&agent);
    let before = vault.json(&["agent", "show", AGENT])["identity_not_after"].clone();
    let second = eventually("a new identity", || {
        let now = identity(&agent);
        (now != first).then_some(now)
    });
    assert_ne!(second.0, first.0, "the key is the old one");
    assert_ne!(second.1, first.1, "the certificate is the old one");
    wait_connected(&vault, AGENT);
    let shown = vault.json(&["agent", "show", AGENT]);
    assert!(shown["identity_not_after"].as_str() > before.as_str(), "{shown} / {before}");
    assert!(agent.process().exited().is_none());
}

#[test]
fn an_identity_is_renewed_at_half_its_lifetime_and_not_before() {
    let vault = listening("identity_lifetime = \"12s\"");
    let _agent = Agent::enrolled(&vault, AGENT, "");
    // The enrolment and two renewals.
    let times = eventually("two renewals", || {
        let times: Vec<_> = vault.audit().iter().filter_map(identity_asked_at).collect();
        (times.len() >= 3).then_some(times)
    });
    for pair in times.windows(2) {
        // A slow machine makes it longer, nothing makes it shorter.
        assert!(pair[1] - pair[0] >= time::Duration::seconds(4), "{times:?}");
    }
}

/// When an agent asked for an identity, where that is what a record of the audit log says.
fn identity_asked_at(record: &serde_json::Value) -> Option<time::OffsetDateTime> {
    let asked =
        record["action"] == "agent.enroll" || record["detail"]["change"] == "renew identity";
    let ours = asked && record["phase"] == "intent";
    let text = record["time"].as_str().filter(|_| ours)?;
    let format = &time::format_description::well_known::Rfc3339;
    Some(time::OffsetDateTime::parse(text, format).unwrap())
}

#[test]
fn an_agent_outlives_many_of_its_identities() {
    let vault = listening("identity_lifetime = \"6s\"");
    let mut agent = Agent::enrolled(&vault, AGENT, "");
    let mut seen = vec![identity(&agent)];
    eventually("four identities", || {
        let now = identity(&agent);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        (seen.len() >= 4).then_some(())
    });
    wait_connected(&vault, AGENT);
    assert!(agent.process().exited().is_none());
}

#[test]
fn an_identity_that_has_ended_is_refused_and_the_agent_says_so() {
    let vault = listening("identity_lifetime = \"2s\"");
    let mut agent = Agent::new(&vault, "");
    assert_eq!(agent.enroll(&vault, AGENT).code, 0);
    let end = agent.status()["identity_not_after"].as_str().unwrap().to_owned();
    let end = time::OffsetDateTime::parse(&end, &time::format_description::well_known::Rfc3339);
    let end = end.unwrap();
    eventually("the identity has ended", || (time::OffsetDateTime::now_utc() > end).then_some(()));
    agent.start();
    agent.wait_log("this agent's identity ended");
    assert_eq!(vault.json(&["agent", "show", AGENT])["connected"], false);
    let mut replace = {
        let invited = vault.json(&["agent", "token", AGENT]);
        fs::write(agent.file("token"), invited["token"].as_str().unwrap()).unwrap();
        agent.enrolment(invited["ca_fingerprint"].as_str().unwrap())
    };
    replace.arg("--replace");
    assert_eq!(run(replace).code, 0);
    agent.start();
    wait_connected(&vault, AGENT);
}

#[test]
fn an_agent_comes_back_to_a_vault_that_was_down() {
    let mut vault = Vault::initialized();
    let mut agent = Agent::enrolled(&vault, AGENT, "");
    wait_connected(&vault, AGENT);
    for orderly in [true, false] {
        match orderly {
            true => vault.stop(),
            false => vault.kill(),
        }
        agent.wait_log("check that vaultd runs");
        assert!(agent.process().exited().is_none());
        assert!(agent.status()["spiffe_id"].as_str().unwrap().ends_with(AGENT));
        vault.start();
        wait_connected(&vault, AGENT);
    }
}

#[test]
fn the_vaults_own_certificate_rotates_without_a_restart() {
    let vault = listening("server_certificate_lifetime = \"4s\"");
    let mut agent = Agent::enrolled(&vault, AGENT, "");
    wait_connected(&vault, AGENT);
    let serial = || tls::leaf(vault.address, VAULT_SERVER_NAME, &["-serial"]);
    let mut seen = std::collections::BTreeSet::from([serial()]);
    eventually("three certificates", || {
        seen.insert(serial());
        (seen.len() >= 3).then_some(())
    });
    wait_connected(&vault, AGENT);
    // Its stream is the first one still.
    assert_eq!(agent.process().log().matches(" connected").count(), 1);
    // New connections take the new certificate for the same vault.
    let _second = Agent::enrolled(&vault, "web2", "");
    wait_connected(&vault, "web2");
}

#[test]
fn a_site_serves_on_without_its_vault_and_gets_what_it_missed() {
    let mut world = World::new();
    let first = world.issue()["serial"].as_str().unwrap().to_owned();
    // The vault dies in the moment in which the next version is durable, before anybody hears of it.
    world.vault.kill();
    world.vault.environment = vec![("FAILPOINTS".to_owned(), "issue.stored=return".to_owned())];
    world.vault.start();
    world.wait_connected();
    world.vault.ok(&["cert", "renew", CERTIFICATE, "--force"]);
    assert!(!world.vault.process().wait_exit().success());

    assert_eq!(world.served_serial(), first);
    let status = world.agent.status();
    let held = &status["certificates"][0];
    assert_eq!((&held["version"], &held["served_now"]), (&1.into(), &true.into()), "{status}");

    world.vault.environment.clear();
    world.vault.start();
    let now = eventually("the missed version is held", || {
        let now = world.certificate(CERTIFICATE);
        (now["deployments"][0]["held_version"] == 2).then_some(now)
    });
    assert_ne!(now["serial"], first.as_str());
    world.wait_serves(now["serial"].as_str().unwrap());
}

#[test]
fn a_site_serves_on_without_its_agent_and_the_agent_goes_on_where_it_was() {
    let mut world = World::new();
    let first = world.issue()["serial"].as_str().unwrap().to_owned();
    world.agent.kill();
    assert_eq!(world.served_serial(), first);
    // Ordered while the agent is away: the vault waits for its CSR.
    world.vault.ok(&["cert", "renew", CERTIFICATE, "--force"]);
    eventually("the CSR is awaited", || {
        (world.certificate(CERTIFICATE)["progress"] == "awaiting_csr").then_some(())
    });
    assert_eq!(world.served_serial(), first);
    world.agent.start();
    eventually("the next version is held", || {
        (world.certificate(CERTIFICATE)["deployments"][0]["held_version"] == 2).then_some(())
    });
    assert_ne!(world.served_serial(), first);
}

#[test]
fn an_agent_answers_challenges_by_its_own_listener() {
    let vault = Vault::initialized();
    let pebble = testkit::pebble::Pebble::start();
    let nginx = Nginx::start(SITE, SocketAddr::from(([127, 0, 0, 1], free_port())));
    let listen = pebble.http01;
    let config = format!("{}[http01]\nlisten = \"{listen}\"\n", Install::into(&nginx).toml());
    let _agent = Agent::enrolled(&vault, AGENT, &config);
    testkit::world::register_account(&vault, &pebble);
    let order = testkit::world::order(CERTIFICATE, SITE, "agent", &["--wait"]);
    assert_eq!(vault.json(&order)["deployments"][0]["status"], "serving");
    // What nobody wants presented is not there, and nothing else is.
    for path in ["", ".well-known/acme-challenge/", ".well-known/acme-challenge/x", "../etc/passwd"]
    {
        let url = format!("http://{listen}/{path}");
        let code = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--path-as-is", &url];
        assert_eq!(must("curl", &code), "404", "{path}");
    }
}

#[test]
fn a_taken_challenge_port_is_said_at_start() {
    let vault = Vault::initialized();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let agent = Agent::new(&vault, &format!("[http01]\nlisten = \"{address}\"\n"));
    assert_eq!(agent.enroll(&vault, AGENT).code, 0);
    let ended = run(agent.command(&["run"]));
    ended.refused(6, &address.to_string());
    assert!(ended.stderr.contains("[http01] listen"), "{ended:?}");
}

#[test]
fn a_webroot_that_is_not_there_is_said_at_start() {
    let vault = Vault::initialized();
    let mut agent = Agent::new(&vault, "");
    agent.config = format!("[http01]\nwebroot = {:?}\n", agent.file("nowhere"));
    assert_eq!(agent.enroll(&vault, AGENT).code, 0);
    run(agent.command(&["run"])).refused(2, "[http01] webroot");
}

#[test]
fn an_agent_that_is_not_enrolled_says_how_to_enrol() {
    let vault = Vault::initialized();
    let agent = Agent::new(&vault, "");
    let ended = run(agent.command(&["run"]));
    ended.refused(2, "this agent is not enrolled");
    assert!(ended.stderr.contains("vault-agent enroll"), "{ended:?}");
    assert_eq!(agent.status()["spiffe_id"], "");
    assert!(run(agent.command(&["status"])).stdout.starts_with("not enrolled"));
}

#[test]
fn a_damaged_identity_says_how_to_enrol_anew() {
    let vault = Vault::initialized();
    let agent = Agent::new(&vault, "");
    assert_eq!(agent.enroll(&vault, AGENT).code, 0);
    let whole = agent.identity();
    let half = whole[..whole.len() / 2].to_owned();
    for damaged in ["", "garbage", &half] {
        fs::write(agent.file("state/identity.pem"), damaged).unwrap();
        run(agent.command(&["run"])).refused(2, "enrol this agent anew");
    }
}

#[test]
fn two_agents_do_not_share_one_state() {
    let vault = Vault::initialized();
    let mut agent = Agent::enrolled(&vault, AGENT, "");
    wait_connected(&vault, AGENT);
    run(agent.command(&["run"])).refused(1, "another agent runs on this state");
    assert!(agent.process().exited().is_none());
    // SIGKILL leaves no lock behind.
    agent.kill();
    agent.start();
    agent.wait_log("running");
    wait_connected(&vault, AGENT);
}

#[test]
fn a_status_says_what_is_held_and_what_is_served_now() {
    let world = World::new();
    let before = world.agent.status();
    let row = &before["certificates"][0];
    assert_eq!((&row["certificate"], &row["version"]), (&CERTIFICATE.into(), &0.into()));
    assert_eq!((&row["served_now"], &row["since"]), (&serde_json::Value::Null, &row["not_after"]));

    let issued = world.issue();
    let status = world.agent.status();
    let row = &status["certificates"][0];
    assert_eq!(row["version"], 1);
    assert_eq!(row["serial"], issued["serial"]);
    assert_eq!(row["served_now"], true);
    assert!(row["detail"].as_str().unwrap().contains("a handshake with"), "{row}");
    assert!(row["since"].as_str().unwrap().ends_with('Z'), "{row}");
    assert_eq!(status["spiffe_id"], format!("spiffe://test.example/agent/{AGENT}"));
    let table = run(world.agent.command(&["status"])).stdout;
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("spiffe://test.example/agent/web1, until "), "{table}");
    for heading in ["CERTIFICATE", "VERSION", "SERIAL", "SERVED"] {
        assert!(lines[1].contains(heading), "{table}");
    }
    assert!(lines[2].contains(CERTIFICATE) && lines[2].contains("yes"), "{table}");

    // Somebody else changes what is served: it is seen, not remembered.
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![SITE.to_owned()]).unwrap();
    let other = params.self_signed(&key).unwrap();
    fs::write(world.nginx.file("chain.pem"), other.pem()).unwrap();
    fs::write(world.nginx.file("key.pem"), key.serialize_pem()).unwrap();
    world.nginx.reload();
    let row = eventually("another certificate is seen", || {
        let row = world.agent.status()["certificates"][0].clone();
        (row["served_now"] == false).then_some(row)
    });
    assert!(row["detail"].as_str().unwrap().contains("another certificate is served"), "{row}");
    assert_eq!(row["serial"], issued["serial"]);
    // Workers that began before the reload answer for a moment beside the new ones.
    eventually("the table says that it is not served", || {
        let table = run(world.agent.command(&["status"])).stdout;
        table.lines().nth(2).unwrap().contains(" no ").then_some(())
    });
}

#[test]
fn check_config_reports_every_fault_with_its_line() {
    let vault = Vault::initialized();
    let nginx = Nginx::start(SITE, SocketAddr::from(([127, 0, 0, 1], free_port())));
    let good = format!("{}{}", Install::into(&nginx).toml(), webroot(&nginx));
    let mut agent = Agent::new(&vault, &good);
    let checked = run(agent.command(&["check-config"]));
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""), "{checked:?}");

    agent.config = "colour = 1\n[[install]]\ncertificate = \"a\"\nchain = \"relative.pem\"\n\
        reload = \"sh -c true\"\nkey_mode = \"0644\"\n[[install]]\ncertificate = \"Not A Name\"\n\
        chain = \"/b.pem\"\n[http02]\n"
        .to_owned();
    let checked = run(agent.command(&["check-config"]));
    checked.refused(2, "agent.toml");
    // Lines 1 to 3 are the testkit's: state_dir, [vault], addresses.
    for fault in [
        "line 4: [vault] unknown field `colour`",
        "line 7: certificate a: chain relative.pem is not an absolute path",
        "line 8: [[install]] invalid type: string \"sh -c true\"",
        "line 9: certificate a: key_mode lets everybody read the key",
        "line 11: [[install]] certificate name \"Not A Name\" is not valid",
        "line 13: unknown table or field `http02`",
    ] {
        assert!(checked.stderr.contains(fault), "{fault:?} is not said: {}", checked.stderr);
    }
    // Nothing runs on it either, and it says the same.
    assert_eq!(run(agent.command(&["run"])).stderr.matches("line ").count(), 6);
}
