//! Keys' rows.

use vault::{
    error::ErrorKind,
    keystore::{Algorithm, Escrow},
    store::{KeyPurpose, KeyRecord, KeyState, Keys as _},
};
use vault_proto::ids::KeyId;

use super::{
    records::key,
    world::{World, refused},
};

promises! {
    a_key_reads_back_as_it_was_written
    a_key_s_name_is_unique_within_its_purpose_and_version
    a_rotation_retires_the_old_version_or_changes_nothing
    versions_come_newest_first_and_keys_by_purpose_name_and_version
    the_key_of_a_name_is_the_newest_in_use_or_else_the_newest
    a_key_that_is_not_there_is_not_moved_on
}

async fn a_key_reads_back_as_it_was_written(world: World) {
    let mut written = Vec::new();
    let every = Algorithm::ALL.iter().flat_map(|a| Escrow::ALL.iter().map(move |e| (*a, *e)));
    for (version, (algorithm, escrow)) in (1..).zip(every) {
        let key = KeyRecord { algorithm, escrow, version, ..key("k") };
        world.store.insert_key(&key, None).await.unwrap();
        assert_eq!(world.store.key(key.id).await.unwrap().as_ref(), Some(&key));
        written.push(key);
    }
    for state in KeyState::ALL {
        world.store.set_key_state(written[0].id, *state).await.unwrap();
        let moved = KeyRecord { state: *state, ..written[0].clone() };
        assert_eq!(world.store.key(moved.id).await.unwrap(), Some(moved));
    }
    assert_eq!(world.store.key(KeyId::random()).await.unwrap(), None);
}

async fn a_key_s_name_is_unique_within_its_purpose_and_version(world: World) {
    let first = key("k");
    world.store.insert_key(&first, None).await.unwrap();
    for same in [KeyRecord { id: KeyId::random(), ..first.clone() }, key("k"), first.clone()] {
        let error = refused(ErrorKind::Conflict, world.store.insert_key(&same, None).await);
        assert!(error.to_string().contains("key k"), "{error}");
    }
    for purpose in KeyPurpose::ALL.iter().filter(|purpose| **purpose != first.purpose) {
        world.store.insert_key(&KeyRecord { purpose: *purpose, ..key("k") }, None).await.unwrap();
    }
    world.store.insert_key(&KeyRecord { version: 2, ..key("k") }, None).await.unwrap();
    world.store.insert_key(&key("other"), None).await.unwrap();
    assert_eq!(world.store.keys().await.unwrap().len(), KeyPurpose::ALL.len() + 2);
}

async fn a_rotation_retires_the_old_version_or_changes_nothing(world: World) {
    let store = &world.store;
    let first = key("k");
    store.insert_key(&first, None).await.unwrap();
    let second = KeyRecord { version: 2, ..key("k") };
    let state = async |key: &KeyRecord| store.key(key.id).await.unwrap().map(|key| key.state);

    // The old version is not there: no new one.
    let missing = store.insert_key(&second, Some(KeyId::random())).await;
    refused(ErrorKind::NotFound, missing);
    assert_eq!(state(&second).await, None);
    // The new version is there already: the old one stays in use.
    refused(ErrorKind::Conflict, store.insert_key(&key("k"), Some(first.id)).await);
    assert_eq!(state(&first).await, Some(KeyState::Active));

    store.insert_key(&second, Some(first.id)).await.unwrap();
    assert_eq!(state(&first).await, Some(KeyState::Retired));
    assert_eq!(state(&second).await, Some(KeyState::Active));

    // What is not in use is not retired: a destroyed key does not come back.
    store.set_key_state(second.id, KeyState::Destroyed).await.unwrap();
    let third = KeyRecord { version: 3, ..key("k") };
    refused(ErrorKind::NotFound, store.insert_key(&third, Some(second.id)).await);
    assert_eq!(state(&second).await, Some(KeyState::Destroyed));
}

async fn versions_come_newest_first_and_keys_by_purpose_name_and_version(world: World) {
    let store = &world.store;
    for (name, version) in [("b", 2), ("a", 10), ("b", 10), ("a", 9), ("b", 1)] {
        store.insert_key(&KeyRecord { version, ..key(name) }, None).await.unwrap();
    }
    let account = KeyRecord { purpose: KeyPurpose::AcmeAccount, ..key("c") };
    store.insert_key(&account, None).await.unwrap();
    let numbers = |keys: Vec<KeyRecord>| keys.iter().map(|key| key.version).collect::<Vec<_>>();
    let of_b = store.key_versions(KeyPurpose::General, "b").await.unwrap();
    assert_eq!(numbers(of_b), [10, 2, 1]);
    let newest = store.key_by_name(KeyPurpose::General, "a").await.unwrap().unwrap();
    assert_eq!(newest.version, 10);
    assert_eq!(store.key_by_name(KeyPurpose::AcmeAccount, "a").await.unwrap(), None);
    let all = store.keys().await.unwrap();
    let all: Vec<_> = all.iter().map(|key| (key.name.as_str(), key.version)).collect();
    assert_eq!(all, [("c", 1), ("a", 9), ("a", 10), ("b", 1), ("b", 2), ("b", 10)]);
}

async fn the_key_of_a_name_is_the_newest_in_use_or_else_the_newest(world: World) {
    use KeyState::{Active, Destroyed, Lost, Retired};
    let store = &world.store;
    for (name, states, newest) in [
        ("in-use", &[Retired, Active][..], 2),
        ("given-up", &[Retired, Active, Destroyed], 2),
        ("two-in-use", &[Active, Active, Lost], 2),
        ("ended", &[Destroyed, Destroyed], 2),
        ("lost", &[Destroyed, Lost, Retired], 3),
    ] {
        for (version, state) in (1..).zip(states) {
            let key = KeyRecord { version, state: *state, ..key(name) };
            store.insert_key(&key, None).await.unwrap();
        }
        let found = store.key_by_name(KeyPurpose::General, name).await.unwrap().unwrap();
        assert_eq!(found.version, newest, "{name}");
    }
    assert_eq!(store.key_by_name(KeyPurpose::General, "missing").await.unwrap(), None);
}

async fn a_key_that_is_not_there_is_not_moved_on(world: World) {
    let id = KeyId::random();
    let error =
        refused(ErrorKind::NotFound, world.store.set_key_state(id, KeyState::Retired).await);
    assert!(error.to_string().contains(&id.to_string()), "{error}");
}
