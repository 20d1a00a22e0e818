//! DNS-01 on a real name server: proven without any agent, shown by every server before the CA is
//! told, and nothing of it stays.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{fs, os::unix::fs::PermissionsExt as _};

use testkit::{
    bind::{Bind, KEY, KEY_NAME},
    pebble::{Behaviour, Pebble},
    process::eventually,
    vault::Vault,
    world::{ACCOUNT, register_account},
};

const ZONE: &str = "shop.example";
const RECORD: &str = "_acme-challenge.shop.example";

/// A name server with zones, a CA that asks it, and a vault whose `[[acme.dns]]` has these lines.
fn world(zones: &[&str], entry: impl FnOnce(&Bind) -> String) -> (Bind, Pebble, Vault) {
    let bind = Bind::start(zones);
    let behaviour = Behaviour { dns: Some(bind.address.port()), ..Behaviour::default() };
    let pebble = Pebble::start_with(behaviour);
    let mut vault = Vault::new();
    let acme = format!("[acme]\nresolvers = [\"{}\"]\n", bind.address);
    let entry = format!("[[acme.dns]]\nnameservers = [\"{}\"]\n{}", bind.address, entry(&bind));
    vault.reconfigure("[acme]\n", &acme);
    vault.reconfigure("[policy]\n", &format!("{entry}[policy]\n"));
    vault.start();
    vault.ok(&["init"]);
    register_account(&vault, &pebble);
    (bind, pebble, vault)
}

/// Updates by TSIG.
fn rfc2136(bind: &Bind) -> String {
    format!(
        "provider = \"rfc2136\"\nserver = \"{}\"\nkey_name = \"{KEY_NAME}\"\nsecret = {{ file = {:?} }}\n",
        bind.address,
        bind.key_file()
    )
}

fn order<'a>(name: &'a str, domains: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["cert", "issue", name, "--account", ACCOUNT, "--challenge", "dns-01"];
    args.extend(["--custody", "vault"]);
    for domain in domains {
        args.extend(["--domain", domain]);
    }
    args.extend(more);
    args
}

fn nothing_stays(bind: &Bind, record: &str) {
    eventually("the record is gone", || bind.records(record, "TXT").is_empty().then_some(()));
}

#[test]
fn a_wildcard_and_its_parent_are_proven_in_one_order_without_an_agent() {
    let (bind, _pebble, vault) = world(&[ZONE], rfc2136);
    let issued = vault.json(&order("shop", &[ZONE, "*.shop.example"], &["--wait"]));
    assert_eq!(issued["status"], "issued");
    nothing_stays(&bind, RECORD);
}

#[test]
fn what_others_have_written_beside_a_challenge_stays() {
    let (bind, _pebble, vault) = world(&[ZONE], rfc2136);
    bind.update(&format!("update add {RECORD} 1 TXT another"));
    vault.json(&order("shop", &[ZONE], &["--wait"]));
    eventually("ours is gone", || (bind.records(RECORD, "TXT") == ["\"another\""]).then_some(()));
}

#[test]
fn an_alias_is_followed_into_another_zone() {
    let (bind, _pebble, vault) = world(&[ZONE, "proofs.example"], rfc2136);
    bind.update(&format!("update add {RECORD} 1 CNAME shop.proofs.example."));
    let issued = vault.json(&order("shop", &[ZONE], &["--wait"]));
    assert_eq!(issued["status"], "issued");
    nothing_stays(&bind, "shop.proofs.example");
}

#[test]
fn a_wrong_key_is_said_with_the_zone_that_refuses_it() {
    let (_bind, _pebble, vault) = world(&[ZONE], |bind| {
        fs::write(bind.key_file(), format!("{}\n", KEY.replace("MDEy", "eHh4"))).unwrap();
        rfc2136(bind)
    });
    vault.ok(&order("shop", &[ZONE], &[]));
    let said = eventually("the failure is shown", || {
        let error = vault.json(&["cert", "show", "shop"])["last_error"].clone();
        error.as_str().filter(|said| !said.is_empty()).map(str::to_owned)
    });
    assert!(said.contains("zone shop.example") && said.contains("rfc2136"), "{said}");
}

#[test]
fn a_program_is_called_as_lego_calls_it() {
    let (bind, _pebble, vault) = world(&[ZONE], |bind| {
        let hook = bind.key_file().with_file_name("hook");
        let script = format!(
            "#!/bin/sh\nset -eu\ncase $1 in present) change=add ttl=1;; cleanup) change=delete ttl=;; *) exit 9;; esac\n\
             printf '%s\\nupdate %s %s %s TXT %s\\nsend\\n' '{}' $change \"$2\" \"$ttl\" \"$3\" |\n\
             nsupdate -y 'hmac-sha256:{KEY_NAME}:{KEY}'\n",
            bind.server_line()
        );
        fs::write(&hook, script).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        format!("provider = \"exec\"\ncommand = [{hook:?}]\n")
    });
    let issued = vault.json(&order("shop", &[ZONE], &["--wait"]));
    assert_eq!(issued["status"], "issued");
    nothing_stays(&bind, RECORD);
}

#[test]
fn the_ca_is_not_told_before_every_server_shows_the_record() {
    let second = Bind::start(&[ZONE]);
    let both = format!("nameservers = [\"{}\", ", second.address);
    let (bind, pebble, mut vault) = world(&[ZONE], rfc2136);
    vault.stop();
    vault.reconfigure("nameservers = [", &both);
    vault.start();
    vault.ok(&order("shop", &[ZONE], &[]));
    let shown = eventually("the first server shows it", || bind.records(RECORD, "TXT").pop());
    assert_eq!(vault.json(&["cert", "show", "shop"])["status"], "pending");
    assert!(!pebble.log().contains("Attempting to validate"), "{}", pebble.log());
    second.update(&format!("update add {RECORD} 1 TXT {shown}"));
    eventually("it is issued", || {
        (vault.json(&["cert", "show", "shop"])["status"] == "issued").then_some(())
    });
    nothing_stays(&bind, RECORD);
}

#[test]
fn a_vault_that_dies_leaves_nothing_in_the_dns() {
    let (bind, _pebble, mut vault) = world(&[ZONE], rfc2136);
    for point in ["dns.row", "dns.added", "dns.shown", "dns.removed"] {
        vault.kill();
        vault.environment = vec![("FAILPOINTS".to_owned(), format!("{point}=return"))];
        vault.start();
        // A name of its own: Pebble asks for no proof of a name that it has just seen proven.
        let name = point.replace('.', "-");
        let domain = format!("{name}.{ZONE}");
        vault.ctl(&order(&name, &[&domain], &[]));
        let status = vault.process().wait_exit();
        assert!(!status.success(), "{point}: the vault did not crash");
        vault.environment.clear();
        vault.start();
        eventually(&format!("{name} is issued"), || {
            (vault.json(&["cert", "show", &name])["status"] == "issued").then_some(())
        });
        nothing_stays(&bind, &format!("_acme-challenge.{domain}"));
    }
}
