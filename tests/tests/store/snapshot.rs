//! A snapshot: everything as it was at one moment, page by page, whatever is written meanwhile.

use serde_json::Value;
use vault::store::{
    Agents as _, Certificates as _, IdentityRecord, KeyRecord, KeyState, Keys as _, Settings as _,
    Snapshot, Store as _, sql::SqlStore,
};
use vault_backup::{Content, Table};

use super::{
    records::{agent, key, name, put_agents, put_order, start, version},
    world::World,
};

promises! {
    a_snapshot_has_every_row_once_and_in_order
    a_snapshot_does_not_see_what_is_written_after_its_first_page
    every_column_of_every_table_is_one_that_a_backup_knows
}

/// More than two pages.
const MANY: usize = 300;

/// A table to its end.
pub async fn all(snapshot: &mut Box<dyn Snapshot>, table: Table) -> Vec<vault::store::Columns> {
    let mut rows = Vec::new();
    loop {
        let page = snapshot.page(table).await.unwrap();
        if page.is_empty() {
            return rows;
        }
        rows.extend(page);
    }
}

/// A row in every table.
pub async fn fill(store: &SqlStore) {
    let (_, order) = put_order(store).await;
    store.record_issuance(order.id, &version(&order), start()).await.unwrap();
    put_agents(store, &["web1"]).await;
    store.insert_deployment(&order.certificate, &name("web1"), start()).await.unwrap();
    store.put_settings(&[("a", "b")]).await.unwrap();
    let identity = IdentityRecord {
        serial: "0a".to_owned(),
        spiffe_id: "spiffe://test/agent/web1".to_owned(),
        not_after: start(),
        revoked_at: None,
    };
    store.insert_identity(&identity).await.unwrap();
}

async fn a_snapshot_has_every_row_once_and_in_order(world: World) {
    let (_, order) = put_order(&world.store).await;
    for number in 0..MANY {
        world.store.insert_key(&key(&format!("k{number}")), None).await.unwrap();
        world.store.put_agent(&agent(&format!("web{number}"))).await.unwrap();
        world
            .store
            .insert_deployment(&order.certificate, &name(&format!("web{number}")), start())
            .await
            .unwrap();
    }
    let mut snapshot = world.store.snapshot().await.unwrap();
    for (table, columns, expected) in [
        (Table::Keys, &["id"][..], MANY + 1),
        (Table::Agents, &["name"], MANY),
        (Table::Deployments, &["certificate", "agent"], MANY),
    ] {
        let rows = all(&mut snapshot, table).await;
        let key = |row: &vault::store::Columns| {
            columns.iter().map(|c| row[*c].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(rows.len(), expected, "{table}");
        assert!(rows.windows(2).all(|two| key(&two[0]) < key(&two[1])), "{table}");
    }
}

async fn a_snapshot_does_not_see_what_is_written_after_its_first_page(world: World) {
    for number in 0..MANY {
        world.store.insert_key(&key(&format!("k{number}")), None).await.unwrap();
    }
    world.store.put_settings(&[("a", "before")]).await.unwrap();
    let mut snapshot = world.store.snapshot().await.unwrap();
    let first = snapshot.page(Table::Settings).await.unwrap();
    assert_eq!(first[0]["value"], "before");
    // Nobody waits for it, either.
    for number in 0..MANY {
        let late = KeyRecord { version: 2, ..key(&format!("k{number}")) };
        world.store.insert_key(&late, None).await.unwrap();
    }
    for record in world.store.keys().await.unwrap() {
        world.store.set_key_state(record.id, KeyState::Destroyed).await.unwrap();
    }
    put_agents(&world.store, &["late"]).await;
    let keys = all(&mut snapshot, Table::Keys).await;
    assert_eq!(keys.len(), MANY);
    assert!(keys.iter().all(|row| row["state"] == "active" && row["version"] == 1));
    assert!(all(&mut snapshot, Table::Agents).await.is_empty());
}

async fn every_column_of_every_table_is_one_that_a_backup_knows(world: World) {
    fill(&world.store).await;
    let mut snapshot = world.store.snapshot().await.unwrap();
    for table in Table::ALL.iter().copied().filter(|table| *table != Table::Audit) {
        let rows = all(&mut snapshot, table).await;
        assert!(!rows.is_empty(), "{table} has no row to look at");
        let mut content = Content::default();
        for mut row in rows {
            let line = match table {
                Table::Keys => {
                    row.insert("escrow".to_owned(), "none".into());
                    serde_json::json!({ "row": row, "status": "none: re-issue", "wrapped": null })
                }
                _ => Value::Object(row),
            };
            let taken = content.take(table, line.to_string().as_bytes());
            taken.unwrap_or_else(|why| panic!("{table}: {why}: {line}"));
        }
    }
}
