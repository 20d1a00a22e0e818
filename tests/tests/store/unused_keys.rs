//! Which retired keys nothing is left for.

use time::Duration;
use vault::store::{
    CertificateRecord, Certificates as _, KeyPurpose, KeyRecord, KeyState, Keys as _, OrderRecord,
    OrderState,
};

use super::{
    records::{certificate, issue, key, order, put_account, start},
    world::World,
};

promises! {
    a_retired_key_is_unused_from_the_end_of_its_last_version_on
    a_key_that_is_in_use_or_gone_is_never_unused
    a_key_of_a_current_version_is_never_unused
    a_key_that_an_open_order_wants_is_not_unused
    only_certificates_keys_are_unused
}

/// No version of a key.
const NONE: [u32; 0] = [];

/// Certificate `shop`, and its keys, one after another, in these states.
async fn put_keys(world: &World, states: &[KeyState]) -> (CertificateRecord, Vec<KeyRecord>) {
    put_account(&world.store).await;
    let shop = certificate("shop");
    world.store.insert_certificate(&shop, &[]).await.unwrap();
    let mut keys = Vec::new();
    for (version, state) in (1..).zip(states) {
        let purpose = KeyPurpose::Certificate;
        let key = KeyRecord { version, purpose, state: *state, ..key("shop") };
        world.store.insert_key(&key, None).await.unwrap();
        keys.push(key);
    }
    (shop, keys)
}

/// The versions of the keys that are unused after that many days and microseconds.
async fn unused(world: &World, days: i64, microseconds: i64) -> Vec<u32> {
    let at = start() + Duration::days(days) + Duration::microseconds(microseconds);
    let keys = world.store.unused_keys(at).await.unwrap();
    keys.iter().map(|key| key.version).collect()
}

async fn a_retired_key_is_unused_from_the_end_of_its_last_version_on(world: World) {
    let (shop, keys) = put_keys(&world, &[KeyState::Retired, KeyState::Active]).await;
    // The first version ends after the second with the same key.
    issue(&world.store, &shop, 1, keys[0].id, 90).await;
    issue(&world.store, &shop, 2, keys[0].id, 60).await;
    issue(&world.store, &shop, 3, keys[1].id, 120).await;
    assert_eq!(unused(&world, 60, 0).await, NONE);
    assert_eq!(unused(&world, 90, -1).await, NONE);
    assert_eq!(unused(&world, 90, 0).await, [1]);
    // Whole, as it was written.
    let at = start() + Duration::days(90);
    assert_eq!(world.store.unused_keys(at).await.unwrap(), [keys[0].clone()]);
    // A version that was revoked is in date until its end all the same.
    world.store.revoke_version(&shop.name, 1, "superseded", None).await.unwrap();
    assert_eq!(unused(&world, 90, -1).await, NONE);
}

async fn a_key_that_is_in_use_or_gone_is_never_unused(world: World) {
    use KeyState::{Active, Destroyed, Lost, Retired};
    // Each state once with an ended version and once without any.
    let states = [Active, Retired, Destroyed, Lost, Active, Retired, Destroyed, Lost, Active];
    let (shop, keys) = put_keys(&world, &states).await;
    for (number, key) in (1..).zip(&keys[..4]) {
        issue(&world.store, &shop, number, key.id, 90).await;
    }
    issue(&world.store, &shop, 5, keys[8].id, 90).await;
    assert_eq!(unused(&world, 1000, 0).await, [2, 6]);
}

async fn a_key_of_a_current_version_is_never_unused(world: World) {
    let (shop, keys) = put_keys(&world, &[KeyState::Retired, KeyState::Active]).await;
    // Its renewal has a key and fails: what is served is the old version, even past its end.
    issue(&world.store, &shop, 1, keys[0].id, 90).await;
    assert_eq!(unused(&world, 1000, 0).await, NONE);
    issue(&world.store, &shop, 2, keys[1].id, 180).await;
    assert_eq!(unused(&world, 1000, 0).await, [1]);
}

async fn a_key_that_an_open_order_wants_is_not_unused(world: World) {
    let (shop, keys) = put_keys(&world, &[KeyState::Retired]).await;
    let wanting = OrderRecord { key_id: Some(keys[0].id), ..order(&shop) };
    world.store.insert_order(&wanting).await.unwrap();
    for state in [OrderState::AwaitingCsr, OrderState::Ready, OrderState::Finalizing] {
        let order = OrderRecord { state, ..wanting.clone() };
        world.store.update_order(&order).await.unwrap();
        assert_eq!(unused(&world, 1000, 0).await, NONE, "{state}");
    }
    world.store.fail_order(wanting.id, "no", 1, start(), start()).await.unwrap();
    assert_eq!(unused(&world, 1000, 0).await, [1]);
}

async fn only_certificates_keys_are_unused(world: World) {
    for purpose in KeyPurpose::ALL {
        let retired = KeyRecord { purpose: *purpose, state: KeyState::Retired, ..key("k") };
        world.store.insert_key(&retired, None).await.unwrap();
    }
    let unused = world.store.unused_keys(start()).await.unwrap();
    let purposes: Vec<_> = unused.iter().map(|key| key.purpose).collect();
    assert_eq!(purposes, [KeyPurpose::Certificate]);
}
