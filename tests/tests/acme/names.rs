//! As many names as public CAs take, and not one more.

use std::collections::BTreeSet;

use testkit::pebble::Behaviour;
use x509_cert::ext::pkix::{SubjectAltName, name::GeneralName};

use super::world::{World, leaf};

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("n{n:03}.shop.example")).collect()
}

fn options(names: &[String]) -> Vec<&str> {
    names.iter().flat_map(|name| ["--domain", name.as_str()]).collect()
}

#[test]
fn a_hundred_names_are_one_certificate_and_one_more_are_none() {
    let behaviour = Behaviour { nonce_reject: 0, ..Behaviour::default() };
    let world = World::behaving(behaviour).ready(&["shop"]);
    let many = names(101);
    world.issue("shop", "vault", &options(&many)).refused(2, "it has 101 names, 100 are the most");
    assert_eq!(world.vault.json(&["cert", "list"]).as_array().unwrap().len(), 0);
    let hundred = names(100);
    let more = [&options(&hundred)[..], &["--wait", "--wait-timeout", "20m"]].concat();
    let ended = world.issue("shop", "vault", &more);
    assert_eq!(ended.code, 0, "{ended:?}");
    let chain = world.vault.ok(&["cert", "chain", "shop"]);
    let leaf = leaf(&chain);
    let (_, named) = leaf.tbs_certificate().get_extension::<SubjectAltName>().unwrap().unwrap();
    let named: BTreeSet<_> = named
        .0
        .iter()
        .map(|name| match name {
            GeneralName::DnsName(name) => name.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(named, hundred.into_iter().collect());
}
