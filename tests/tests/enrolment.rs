//! Joining a vault and leaving it: a token counts once and for the pinned vault alone, who is
//! refused has written nothing, and who is evicted is out at once.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::PathBuf};

use testkit::process::{eventually, free_port};
use testkit::programs::{Ended, run};
use testkit::world::{AGENT, wait_connected};
use testkit::{agent::Agent, vault::Vault};

/// What an operator hands over.
struct Invitation {
    token: String,
    fingerprint: String,
}

fn invite(vault: &Vault, name: &str, more: &[&str]) -> Invitation {
    let made = vault.json(&[&["agent", "token", name], more].concat());
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    Invitation { token: text("token"), fingerprint: text("ca_fingerprint") }
}

fn enroll(agent: &Agent, invitation: &Invitation) -> Ended {
    agent.enroll_with(&invitation.token, &invitation.fingerprint)
}

fn nothing_is_written(agent: &Agent) {
    let state = agent.file("state");
    let files: Vec<PathBuf> = match fs::read_dir(&state) {
        Ok(all) => all.map(|file| file.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    };
    assert!(files.is_empty(), "{files:?}");
}

/// How many joins the vault was asked for, whatever became of them.
fn joins(vault: &Vault) -> usize {
    let asked = |r: &&serde_json::Value| r["action"] == "agent.enroll" && r["phase"] == "intent";
    vault.audit().iter().filter(asked).count()
}

#[test]
fn a_join_token_counts_once() {
    let vault = Vault::initialized();
    let invitation = invite(&vault, AGENT, &[]);
    let (first, second) = (Agent::new(&vault, ""), Agent::new(&vault, ""));
    assert_eq!(enroll(&first, &invitation).code, 0);
    enroll(&second, &invitation).refused(4, "the join token is unknown, used or expired");
    nothing_is_written(&second);
}

#[test]
fn a_token_that_the_vault_never_made_or_that_has_expired_is_denied() {
    let vault = Vault::initialized();
    let good = invite(&vault, AGENT, &[]);
    let agent = Agent::new(&vault, "");
    let mut forged = good.token.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'E' } else { 'A' });
    for token in ["vjt_unknown", "x", &"x".repeat(10_000), &forged] {
        let ended = agent.enroll_with(token, &good.fingerprint);
        ended.refused(4, "the join token is unknown, used or expired");
        nothing_is_written(&agent);
    }
    let made = vault.json(&["agent", "token", AGENT, "--ttl", "1s"]);
    let end = made["expires_at"].as_str().unwrap().to_owned();
    let rfc3339 = &time::format_description::well_known::Rfc3339;
    let end = time::OffsetDateTime::parse(&end, rfc3339).unwrap();
    eventually("the token has expired", || (time::OffsetDateTime::now_utc() > end).then_some(()));
    let ended = agent.enroll_with(made["token"].as_str().unwrap(), &good.fingerprint);
    ended.refused(4, "the join token is unknown, used or expired");
    nothing_is_written(&agent);
    assert_eq!(vault.json(&["agent", "show", AGENT])["status"], "invited");
}

#[test]
fn a_server_without_the_pinned_root_hears_no_token() {
    let (vault, other) = (Vault::initialized(), Vault::initialized());
    let invitation = invite(&vault, AGENT, &[]);
    let elsewhere = invite(&other, AGENT, &[]);
    let agent = Agent::new(&vault, "");
    let before = joins(&vault);
    let ended = agent.enroll_with(&invitation.token, &elsewhere.fingerprint);
    ended.refused(7, &invitation.fingerprint);
    nothing_is_written(&agent);
    assert_eq!(joins(&vault), before, "the vault was asked");
    // Nothing was lost: the token still counts.
    assert_eq!(enroll(&agent, &invitation).code, 0);
    assert_eq!(joins(&vault), before + 1);
}

#[test]
fn a_malformed_fingerprint_is_bad_usage() {
    let vault = Vault::initialized();
    let invitation = invite(&vault, AGENT, &[]);
    let agent = Agent::new(&vault, "");
    let digits = invitation.fingerprint.trim_start_matches("sha256:");
    for text in [
        "",
        "sha256:",
        digits,
        &format!("sha1:{digits}"),
        &format!("sha256:{}", &digits[2..]),
        &format!("sha256:{digits}00"),
        &format!("sha256:{}zz", &digits[2..]),
    ] {
        let ended = agent.enroll_with(&invitation.token, text);
        assert_eq!(ended.code, 2, "{text:?}: {ended:?}");
        assert!(ended.stderr.contains("--ca-fingerprint"), "{text:?}: {ended:?}");
        nothing_is_written(&agent);
    }
    assert_eq!(enroll(&agent, &invitation).code, 0);
}

#[test]
fn a_vault_that_is_not_there_can_be_tried_again() {
    let mut vault = Vault::initialized();
    let invitation = invite(&vault, AGENT, &[]);
    let agent = Agent::new(&vault, "");
    vault.kill();
    enroll(&agent, &invitation).refused(6, &vault.address.to_string());
    nothing_is_written(&agent);
    let nobody = Agent::at(SocketAddr::from(([127, 0, 0, 1], free_port())), "");
    enroll(&nobody, &invitation).refused(6, "Connection refused");
    vault.start();
    assert_eq!(enroll(&agent, &invitation).code, 0);
}

#[test]
fn a_token_file_that_holds_no_token_is_bad_input() {
    let vault = Vault::initialized();
    let invitation = invite(&vault, AGENT, &[]);
    let agent = Agent::new(&vault, "");
    let file = agent.file("token");
    run(agent.enrolment(&invitation.fingerprint)).refused(2, "No such file");
    let contents = [(&b""[..], "it is empty"), (b" \n\t\n", "it is empty"), (b"\xff\xfe", "UTF-8")];
    for (content, why) in contents {
        fs::write(&file, content).unwrap();
        run(agent.enrolment(&invitation.fingerprint)).refused(2, why);
    }
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    run(agent.enrolment(&invitation.fingerprint)).refused(2, "directory");
    nothing_is_written(&agent);
}

#[test]
fn a_state_directory_that_cannot_be_made_uses_no_token_up() {
    let vault = Vault::initialized();
    let invitation = invite(&vault, AGENT, &[]);
    let agent = Agent::new(&vault, "");
    fs::write(agent.file("state"), "in the way").unwrap();
    let ended = enroll(&agent, &invitation);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("state"), "{ended:?}");
    fs::remove_file(agent.file("state")).unwrap();
    assert_eq!(enroll(&agent, &invitation).code, 0);
}

#[test]
fn an_enrolled_agent_keeps_its_identity_unless_it_is_told_to_replace_it() {
    let vault = Vault::initialized();
    let agent = Agent::new(&vault, "");
    assert_eq!(agent.enroll(&vault, AGENT).code, 0);
    let identity = agent.identity();
    let invitation = invite(&vault, AGENT, &[]);
    enroll(&agent, &invitation).refused(1, "enrolled already");
    assert_eq!(agent.identity(), identity);
    // The token was not used up by that.
    let mut replace = agent.enrolment(&invitation.fingerprint);
    replace.arg("--replace");
    let ended = run(replace);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_ne!(agent.identity(), identity);
}

#[test]
fn an_identity_is_for_the_agent_alone() {
    let vault = Vault::initialized();
    let agent = Agent::new(&vault, "");
    assert_eq!(agent.enroll(&vault, AGENT).code, 0);
    let mode = |file: &str| fs::metadata(agent.file(file)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("state"), 0o700);
    assert_eq!(mode("state/identity.pem"), 0o600);
}

#[test]
fn an_evicted_agent_is_out_at_once_and_comes_back_by_a_new_token() {
    let vault = Vault::initialized();
    let mut agent = Agent::enrolled(&vault, AGENT, "");
    wait_connected(&vault, AGENT);
    let unused = invite(&vault, AGENT, &[]);
    let evicted = vault.json(&["agent", "evict", AGENT, "--yes"]);
    assert_eq!(evicted["status"], "evicted");
    assert_eq!(evicted["connected"], false);
    agent.wait_log("it was closed by the vault");
    // It tries again and is not let in, and says what to do.
    agent.wait_log(&format!("agent/{AGENT} is revoked"));
    agent.wait_log("ask an operator for a new identity");
    let shown = vault.json(&["agent", "show", AGENT]);
    assert_eq!((&shown["status"], &shown["connected"]), (&"evicted".into(), &false.into()));
    // A token from before the eviction is no way back.
    let elsewhere = Agent::new(&vault, "");
    enroll(&elsewhere, &unused).refused(4, "the join token is unknown, used or expired");

    let invitation = invite(&vault, AGENT, &[]);
    fs::write(agent.file("token"), &invitation.token).unwrap();
    let mut replace = agent.enrolment(&invitation.fingerprint);
    replace.arg("--replace");
    let ended = run(replace);
    assert_eq!(ended.code, 0, "{ended:?}");
    agent.start();
    wait_connected(&vault, AGENT);
    assert_eq!(vault.json(&["agent", "show", AGENT])["status"], "active");
}

#[test]
fn an_old_identity_of_an_evicted_agent_stays_out_after_a_new_invitation() {
    let vault = Vault::initialized();
    let mut stolen = Agent::enrolled(&vault, AGENT, "");
    wait_connected(&vault, AGENT);
    vault.ok(&["agent", "evict", AGENT, "--yes"]);
    let mut rightful = Agent::enrolled(&vault, AGENT, "");
    wait_connected(&vault, AGENT);
    stolen.start();
    stolen.wait_log(&format!("agent/{AGENT} is revoked"));
    assert!(rightful.process().exited().is_none());
    wait_connected(&vault, AGENT);
}

#[test]
fn an_agent_speaks_to_its_own_vault_alone() {
    let (vault, other) = (Vault::initialized(), Vault::initialized());
    let mut agent = Agent::new(&vault, "");
    assert_eq!(agent.enroll(&vault, AGENT).code, 0);
    let before = other.audit().len();
    agent.addresses = vec![other.address.to_string(), vault.address.to_string()];
    agent.start();
    agent.wait_log("this is not the vault that the agent knows");
    // The next address is the right one.
    wait_connected(&vault, AGENT);
    assert_eq!(other.audit().len(), before);
    assert_eq!(other.json(&["agent", "list"]), serde_json::json!([]));
}
