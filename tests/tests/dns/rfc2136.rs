//! RFC 2136 with TSIG, on each name server.

use std::fs;

use testkit::{
    bind::Resolver,
    name_server::{KEY, NameServer, Software},
    process::eventually,
};

use super::world::{RECORD, World, ZONE, order, rfc2136};

promises! {
    a_wildcard_and_its_parent_are_proven_in_one_order_without_an_agent
    what_others_have_written_beside_a_challenge_stays
    an_alias_is_followed_into_another_zone
    a_wrong_key_is_said_with_the_zone_that_refuses_it
    the_ca_is_not_told_before_every_server_shows_the_record
    a_vault_that_dies_leaves_nothing_in_the_dns
}

fn a_wildcard_and_its_parent_are_proven_in_one_order_without_an_agent(software: Software) {
    let world = World::new(software, &[ZONE], rfc2136);
    let issued = world.vault.json(&order("shop", &[ZONE, "*.shop.example"], &["--wait"]));
    assert_eq!(issued["status"], "issued");
    world.nothing_stays(RECORD);
}

fn what_others_have_written_beside_a_challenge_stays(software: Software) {
    let world = World::new(software, &[ZONE], rfc2136);
    world.server.update(&format!("update add {RECORD} 1 TXT another"));
    world.vault.json(&order("shop", &[ZONE], &["--wait"]));
    let records = || world.server.records(RECORD, "TXT");
    eventually("ours is gone", || (records() == ["\"another\""]).then_some(()));
}

fn an_alias_is_followed_into_another_zone(software: Software) {
    let server = NameServer::start(software, &[ZONE, "proofs.example"]);
    server.update(&format!("update add {RECORD} 1 CNAME shop.proofs.example."));
    let resolver = Resolver::over(server.address);
    let world = World::over(server, resolver.address, rfc2136);
    let issued = world.vault.json(&order("shop", &[ZONE], &["--wait"]));
    assert_eq!(issued["status"], "issued");
    world.nothing_stays("shop.proofs.example");
}

fn a_wrong_key_is_said_with_the_zone_that_refuses_it(software: Software) {
    let world = World::new(software, &[ZONE], |server| {
        fs::write(server.key_file(), format!("{}\n", KEY.replace("MDEy", "eHh4"))).unwrap();
        rfc2136(server)
    });
    world.vault.ok(&order("shop", &[ZONE], &[]));
    let said = world.wait_failed("shop");
    assert!(said.contains("zone shop.example") && said.contains("rfc2136"), "{said}");
}

fn the_ca_is_not_told_before_every_server_shows_the_record(software: Software) {
    let second = NameServer::start(software, &[ZONE]);
    let both = format!("nameservers = [\"{}\", ", second.address);
    let mut world = World::new(software, &[ZONE], rfc2136);
    world.vault.stop();
    world.vault.reconfigure("nameservers = [", &both);
    world.vault.start();
    world.vault.ok(&order("shop", &[ZONE], &[]));
    let record = || world.server.records(RECORD, "TXT").pop();
    let shown = eventually("the first server shows it", record);
    assert_eq!(world.vault.json(&["cert", "show", "shop"])["status"], "pending");
    let validated = || world.pebble.log().contains("Pulled a task from the Tasks queue");
    assert!(!validated(), "the CA was told too soon: {}", world.pebble.log());
    second.update(&format!("update add {RECORD} 1 TXT {shown}"));
    world.wait_issued("shop");
    assert!(validated(), "what tells that the CA validates is not in its log");
    world.nothing_stays(RECORD);
}

fn a_vault_that_dies_leaves_nothing_in_the_dns(software: Software) {
    let mut world = World::new(software, &[ZONE], rfc2136);
    for point in ["dns.row", "dns.added", "dns.shown", "dns.removed"] {
        world.vault.kill();
        world.vault.environment = vec![("FAILPOINTS".to_owned(), format!("{point}=return"))];
        world.vault.start();
        // A name of its own: Pebble asks for no proof of a name that it has just seen proven.
        let name = point.replace('.', "-");
        let domain = format!("{name}.{ZONE}");
        world.vault.ctl(&order(&name, &[&domain], &[]));
        let status = world.vault.process().wait_exit();
        assert!(!status.success(), "{point}: the vault did not crash");
        world.vault.environment.clear();
        world.vault.start();
        world.wait_issued(&name);
        world.nothing_stays(&format!("_acme-challenge.{domain}"));
    }
}
