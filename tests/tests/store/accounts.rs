//! ACME accounts' rows.

use std::slice;

use vault::{
    error::ErrorKind,
    store::{AccountRecord, AccountStatus, Accounts as _, Certificates as _, Keys as _},
};

use super::{
    records::{account, certificate, key, name, put_account, start},
    world::{World, refused},
};

promises! {
    an_account_reads_back_as_it_was_written_and_as_it_was_replaced
    a_note_of_an_account_changes_nothing_else
    an_account_s_name_is_unique
    an_account_needs_its_key
    only_a_pending_account_is_forgotten
    an_account_that_is_used_is_not_forgotten
}

async fn an_account_reads_back_as_it_was_written_and_as_it_was_replaced(world: World) {
    let store = &world.store;
    let (key, next) = (key("ca"), key("next"));
    store.insert_key(&key, None).await.unwrap();
    store.insert_key(&next, None).await.unwrap();
    let first = account("ca", &key);
    store.insert_account(&first).await.unwrap();
    assert_eq!(store.account(&first.name).await.unwrap().as_ref(), Some(&first));
    for status in AccountStatus::ALL {
        let replaced = AccountRecord {
            name: first.name.clone(),
            directory: "https://other.example/dir?x=%20".parse().unwrap(),
            url: None,
            status: *status,
            contacts: Vec::new(),
            next_contacts: Some(vec!["mailto:next@shop.example".to_owned()]),
            key_id: next.id,
            next_key_id: Some(key.id),
            eab_kid: None,
            ca_root_pem: Some("-----BEGIN CERTIFICATE-----\n".to_owned()),
            created_at: start() + time::Duration::seconds(1),
            last_ok_at: None,
            last_error: Some("the CA's \"reason\"".to_owned()),
        };
        store.update_account(&replaced).await.unwrap();
        assert_eq!(store.account(&first.name).await.unwrap().as_ref(), Some(&replaced));
        assert_eq!(store.accounts().await.unwrap(), [replaced]);
    }
}

async fn a_note_of_an_account_changes_nothing_else(world: World) {
    let store = &world.store;
    let first = put_account(store).await;
    let now = start() + time::Duration::hours(1);
    store.note_account(&first.name, Some("away"), now).await.unwrap();
    let failing = AccountRecord { last_error: Some("away".to_owned()), ..first.clone() };
    assert_eq!(store.accounts().await.unwrap(), [failing]);
    store.note_account(&first.name, None, now).await.unwrap();
    let well = AccountRecord { last_ok_at: Some(now), ..first };
    assert_eq!(store.accounts().await.unwrap(), [well]);
    refused(ErrorKind::NotFound, store.note_account(&name("missing"), None, now).await);
}

async fn an_account_s_name_is_unique(world: World) {
    let first = put_account(&world.store).await;
    let other = AccountRecord { contacts: Vec::new(), ..first.clone() };
    let error = refused(ErrorKind::Conflict, world.store.insert_account(&other).await);
    assert!(error.to_string().contains("account ca"), "{error}");
    assert_eq!(world.store.accounts().await.unwrap(), [first]);
}

async fn an_account_needs_its_key(world: World) {
    let store = &world.store;
    let stored = put_account(store).await;
    refused(ErrorKind::Conflict, store.insert_account(&account("new", &key("no"))).await);
    let replaced = AccountRecord { key_id: key("no").id, ..stored.clone() };
    refused(ErrorKind::Conflict, store.update_account(&replaced).await);
    let missing = AccountRecord { name: name("missing"), ..stored.clone() };
    refused(ErrorKind::NotFound, store.update_account(&missing).await);
    assert_eq!(store.accounts().await.unwrap(), [stored]);
}

async fn only_a_pending_account_is_forgotten(world: World) {
    let store = &world.store;
    let valid = put_account(store).await;
    refused(ErrorKind::NotFound, store.delete_pending_account(&valid.name).await);
    refused(ErrorKind::NotFound, store.delete_pending_account(&name("missing")).await);
    assert_eq!(store.accounts().await.unwrap(), slice::from_ref(&valid));
    let pending = AccountRecord { status: AccountStatus::Pending, ..valid };
    store.update_account(&pending).await.unwrap();
    store.delete_pending_account(&pending.name).await.unwrap();
    assert_eq!(store.account(&pending.name).await.unwrap(), None);
}

async fn an_account_that_is_used_is_not_forgotten(world: World) {
    let store = &world.store;
    let pending = AccountRecord { status: AccountStatus::Pending, ..put_account(store).await };
    store.update_account(&pending).await.unwrap();
    store.insert_certificate(&certificate("shop"), &[]).await.unwrap();
    refused(ErrorKind::Conflict, store.delete_pending_account(&pending.name).await);
    assert_eq!(store.accounts().await.unwrap(), [pending]);
}
