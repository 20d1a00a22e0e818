//! acme-dns: names lead to a server that has challenges alone.

use std::fs;

use testkit::{
    acme_dns::{AcmeDns, SUBDOMAIN},
    bind::Resolver,
    name_server::{NameServer, Software},
};

use super::world::{RECORD, World, ZONE, order};

/// The zone that acme-dns is for.
const AUTH: &str = "auth.example";

/// The `[[acme.dns]]` for its account.
fn entry(acme_dns: &AcmeDns) -> String {
    let [username, password, subdomain] = ["username", "password", "subdomain"]
        .map(|name| format!("{{ file = {:?} }}", acme_dns.secret(name)));
    format!(
        "provider = \"acme-dns\"\nurl = \"{}\"\n\
         credentials = {{ username = {username}, password = {password}, subdomain = {subdomain} }}\n",
        acme_dns.url()
    )
}

/// A world whose site leads to its acme-dns, and that one's secret as it is changed.
fn world(change: impl FnOnce(&AcmeDns)) -> (World, AcmeDns, Resolver) {
    let server = NameServer::start(Software::Bind, &[ZONE, AUTH]);
    server.update(&format!("update add {RECORD} 1 CNAME {SUBDOMAIN}.{AUTH}."));
    let acme_dns = AcmeDns::before(&server, AUTH);
    change(&acme_dns);
    let resolver = Resolver::over(server.address);
    let environment = ("SSL_CERT_FILE".to_owned(), acme_dns.root().display().to_string());
    let world =
        World::with_environment(server, resolver.address, vec![environment], |_| entry(&acme_dns));
    (world, acme_dns, resolver)
}

#[test]
fn a_wildcard_and_its_parent_are_proven_at_once_and_again() {
    let (world, _acme_dns, resolver) = world(|_| ());
    let domains = [ZONE, "*.shop.example"];
    let issued = world.vault.json(&order("shop", &domains, &["--wait"]));
    assert_eq!(issued["status"], "issued");
    let shown = world.server.records(&format!("{SUBDOMAIN}.{AUTH}"), "TXT");
    assert_eq!(shown.len(), 2, "acme-dns keeps the last two: {shown:?}");
    // The CA asks this resolver, which may still know the first order's texts alone.
    resolver.wait_forgotten();
    let another = world.vault.json(&order("wild", &["*.shop.example"], &["--wait"]));
    assert_eq!(another["status"], "issued");
}

#[test]
fn a_wrong_password_is_said_as_the_server_says_it() {
    let (world, _acme_dns, _resolver) =
        world(|acme_dns| fs::write(acme_dns.secret("password"), "x".repeat(40)).unwrap());
    world.vault.ok(&order("shop", &[ZONE], &[]));
    let said = world.wait_failed("shop");
    assert!(said.contains("acme-dns") && said.contains("forbidden"), "{said}");
    assert!(!said.contains("xxxx"), "{said}");
}

#[test]
fn a_name_that_does_not_lead_there_is_not_written() {
    let (world, _acme_dns, _resolver) = world(|_| ());
    world.vault.ok(&order("other", &["other.shop.example"], &[]));
    let said = world.wait_failed("other");
    assert!(said.contains("_acme-challenge.other.shop.example"), "{said}");
    assert!(said.contains("no [[acme.dns]] has its zone"), "{said}");
}
