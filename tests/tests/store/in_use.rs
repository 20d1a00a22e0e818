//! Which keys web servers may use, of a certificate and on an agent.

use time::Duration;
use vault::store::{
    AgentViews as _, CertificateRecord, CertificateSettings, Certificates as _, Custody,
    DeploymentRecord, DeploymentStatus, KeyPurpose, KeyRecord, KeyState, Keys as _, TlsUse,
};
use vault_proto::ids::{AgentName, KeyId};

use super::{
    records::{certificate, issue, key, name, put_account, put_agents, start},
    world::World,
};

promises! {
    keys_are_in_use_while_a_version_with_them_is_in_date
    a_revoked_version_is_in_use_while_it_is_in_force_or_held
    an_agent_s_keys_are_those_of_what_is_deployed_to_it
    versions_are_found_by_why_they_were_revoked
}

/// A certificate in the HSM's custody, and so many keys.
async fn put(world: &World, shop: &str, keys: u32) -> (CertificateRecord, Vec<KeyId>) {
    let shop = certificate(shop);
    world.store.insert_certificate(&shop, &[]).await.unwrap();
    let mut ids = Vec::new();
    for version in 1..=keys {
        let purpose = KeyPurpose::Certificate;
        let key = KeyRecord { version, purpose, state: state(version), ..key(shop.name.as_str()) };
        world.store.insert_key(&key, None).await.unwrap();
        ids.push(key.id);
    }
    (shop, ids)
}

/// The first key is active, the others are not.
fn state(version: u32) -> KeyState {
    if version == 1 { KeyState::Active } else { KeyState::Retired }
}

/// The versions that are in use after so many days.
async fn in_use(world: &World, shop: &CertificateRecord, days: i64) -> Vec<u64> {
    let at = start() + Duration::days(days);
    let read = world.store.versions_for(&shop.name, 0, at).await.unwrap();
    assert_eq!(read.wanted, None);
    read.in_use.iter().map(|version| version.version).collect()
}

/// What an agent may sign with after so many days, and what for.
async fn keys_on(world: &World, agent: &AgentName, days: i64) -> Vec<(KeyId, TlsUse)> {
    let at = start() + Duration::days(days);
    let keys = world.store.keys_in_use_on(agent, at).await.unwrap();
    let mut keys: Vec<_> = keys.into_iter().map(|(key, tls_use)| (key.id, tls_use)).collect();
    keys.sort_by_key(|(id, _)| *id);
    keys
}

async fn keys_are_in_use_while_a_version_with_them_is_in_date(world: World) {
    put_account(&world.store).await;
    let (shop, keys) = put(&world, "shop", 2).await;
    assert_eq!(in_use(&world, &shop, 1).await, [0; 0]);
    issue(&world.store, &shop, 1, keys[0], 90).await;
    issue(&world.store, &shop, 2, keys[0], 60).await;
    issue(&world.store, &shop, 3, keys[1], 120).await;
    assert_eq!(in_use(&world, &shop, 59).await, [3, 2, 1]);
    assert_eq!(in_use(&world, &shop, 60).await, [3, 1]);
    assert_eq!(in_use(&world, &shop, 120).await, [0; 0]);
    // Whole, as it was written.
    let whole = world.store.version(&shop.name, 3).await.unwrap();
    let at = start() + Duration::days(100);
    let read = world.store.versions_for(&shop.name, 2, at).await.unwrap();
    assert_eq!(read.in_use.into_iter().next(), whole);
    // What is wanted is there whether or not anybody may sign with its key.
    let wanted = world.store.version(&shop.name, 2).await.unwrap();
    assert_eq!(read.wanted, wanted.map(|wanted| (wanted, None)));
}

async fn a_revoked_version_is_in_use_while_it_is_in_force_or_held(world: World) {
    put_account(&world.store).await;
    let agents = put_agents(&world.store, &["web1", "web2"]).await;
    let (shop, keys) = put(&world, "shop", 1).await;
    for agent in &agents {
        world.store.insert_deployment(&shop.name, agent, start()).await.unwrap();
    }
    issue(&world.store, &shop, 1, keys[0], 90).await;
    world.store.revoke_version(&shop.name, 1, "superseded", None).await.unwrap();
    assert_eq!(in_use(&world, &shop, 1).await, [1], "it is in force");
    let held = DeploymentRecord {
        certificate: shop.name.clone(),
        agent: agents[1].clone(),
        held_version: 1,
        status: DeploymentStatus::Serving,
        detail: String::new(),
        updated_at: start(),
    };
    world.store.update_deployment(&held).await.unwrap();
    issue(&world.store, &shop, 2, keys[0], 90).await;
    assert_eq!(in_use(&world, &shop, 1).await, [2, 1], "it is held");
    world.store.update_deployment(&DeploymentRecord { held_version: 2, ..held }).await.unwrap();
    assert_eq!(in_use(&world, &shop, 1).await, [2]);
}

async fn an_agent_s_keys_are_those_of_what_is_deployed_to_it(world: World) {
    let store = &world.store;
    put_account(store).await;
    let agents = put_agents(store, &["web1", "web2"]).await;
    let (shop, keys) = put(&world, "shop", 2).await;
    let (mail, others) = put(&world, "mail", 3).await;
    let web = CertificateRecord { custody: Custody::Agent, ..certificate("web") };
    store.insert_certificate(&web, &agents[..1]).await.unwrap();
    issue(&world.store, &web, 1, others[1], 90).await;
    store.insert_deployment(&shop.name, &agents[0], start()).await.unwrap();
    for agent in &agents {
        store.insert_deployment(&mail.name, agent, start()).await.unwrap();
    }
    assert_eq!(keys_on(&world, &agents[0], 1).await, []);
    issue(&world.store, &shop, 1, keys[0], 60).await;
    issue(&world.store, &shop, 2, keys[0], 90).await;
    issue(&world.store, &shop, 3, keys[1], 30).await;
    issue(&world.store, &mail, 1, others[0], 120).await;
    store.set_key_state(others[2], KeyState::Destroyed).await.unwrap();
    issue(&world.store, &mail, 2, others[2], 120).await;
    let settings = mail.settings();
    let looser = CertificateSettings { tls_use: TlsUse::Digest, ..settings.clone() };
    assert!(store.change_settings(&mail.name, &settings, &looser).await.unwrap());
    let sorted = |mut keys: Vec<(KeyId, TlsUse)>| {
        keys.sort_by_key(|(id, _)| *id);
        keys
    };
    let (first, second) = ((keys[0], TlsUse::Tls13), (keys[1], TlsUse::Tls13));
    let mail = (others[0], TlsUse::Digest);
    assert_eq!(keys_on(&world, &agents[0], 1).await, sorted(vec![first, second, mail]));
    assert_eq!(keys_on(&world, &agents[0], 70).await, sorted(vec![first, mail]));
    assert_eq!(keys_on(&world, &agents[1], 1).await, [mail]);
    assert_eq!(keys_on(&world, &name("web3"), 1).await, []);
}

async fn versions_are_found_by_why_they_were_revoked(world: World) {
    put_account(&world.store).await;
    let (shop, keys) = put(&world, "shop", 1).await;
    for number in 1..=3 {
        issue(&world.store, &shop, number, keys[0], 90).await;
    }
    world.store.revoke_version(&shop.name, 1, "superseded", None).await.unwrap();
    world.store.revoke_version(&shop.name, 2, "key-compromise", None).await.unwrap();
    let found = world.store.versions_revoked(&shop.name, "key-compromise").await.unwrap();
    assert_eq!(found.iter().map(|version| version.version).collect::<Vec<_>>(), [2]);
    assert_eq!(world.store.versions_revoked(&shop.name, "unspecified").await.unwrap(), []);
}
