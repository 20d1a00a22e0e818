//! A restoration: rows as a snapshot gave them, all of them or none, into a store that has no vault.

use std::collections::BTreeMap;

use vault::{
    error::ErrorKind,
    store::{Agents as _, Columns, Keys as _, Settings as _, Store as _},
};
use vault_backup::Table;

use super::{
    records::{agent, key},
    snapshot::{all, fill},
    world::{World, refused},
};

promises! {
    what_a_snapshot_gave_is_what_a_restored_store_has
    a_restoration_that_is_not_committed_has_written_nothing
    what_an_interrupted_ceremony_left_goes
    a_store_that_a_vault_is_in_is_refused
    a_column_that_the_schema_does_not_have_is_refused
}

type Everything = BTreeMap<Table, Vec<Columns>>;

async fn everything(world: &World) -> Everything {
    let mut snapshot = world.store.snapshot().await.unwrap();
    let mut tables = BTreeMap::new();
    for table in Table::ALL.iter().copied().filter(|table| *table != Table::Audit) {
        tables.insert(table, all(&mut snapshot, table).await);
    }
    tables
}

async fn what_a_snapshot_gave_is_what_a_restored_store_has(world: World) {
    fill(&world.store).await;
    let (was, new) = (everything(&world).await, world.another().await);
    let before = new.store.changes();
    let mut restoration = new.store.restoration().await.unwrap();
    for (table, rows) in &was {
        assert!(!rows.is_empty(), "{table} has no row to look at");
        restoration.put(*table, rows).await.unwrap();
    }
    restoration.commit().await.unwrap();
    assert_eq!(everything(&new).await, was);
    assert!(new.store.changes() > before, "what was read before still counts");
}

async fn a_restoration_that_is_not_committed_has_written_nothing(world: World) {
    fill(&world.store).await;
    let (was, new) = (everything(&world).await, world.another().await);
    new.store.put_settings(&[("left", "here")]).await.unwrap();
    let before = everything(&new).await;
    let mut restoration = new.store.restoration().await.unwrap();
    for (table, rows) in &was {
        restoration.put(*table, rows).await.unwrap();
    }
    drop(restoration);
    assert_eq!(everything(&new).await, before);
}

async fn what_an_interrupted_ceremony_left_goes(world: World) {
    world.store.put_settings(&[("init.started", "vault")]).await.unwrap();
    world.store.insert_key(&key("root"), None).await.unwrap();
    let restoration = world.store.restoration().await.unwrap();
    restoration.commit().await.unwrap();
    assert!(everything(&world).await.values().all(Vec::is_empty));
}

async fn a_store_that_a_vault_is_in_is_refused(world: World) {
    world.store.put_settings(&[("vault", "{}")]).await.unwrap();
    refused(ErrorKind::Conflict, world.store.restoration().await.map(drop));
    let other = world.another().await;
    other.store.put_agent(&agent("web1")).await.unwrap();
    refused(ErrorKind::Conflict, other.store.restoration().await.map(drop));
    assert_eq!(other.store.agents().await.unwrap().len(), 1);
}

async fn a_column_that_the_schema_does_not_have_is_refused(world: World) {
    let mut row = Columns::new();
    for (column, value) in [("name", "a"), ("value", "b"), ("value) VALUES ('c', 'd'); --", "e")] {
        row.insert(column.to_owned(), value.into());
    }
    let mut restoration = world.store.restoration().await.unwrap();
    refused(ErrorKind::Invalid, restoration.put(Table::Settings, &[row]).await);
}
