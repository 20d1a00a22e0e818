//! Drills on record.

use time::Duration;
use vault::{
    error::ErrorKind,
    store::{DrillCheck, DrillRecord, Drills as _},
};
use vault_proto::ids::DrillId;

use super::{records::start, world::World};

promises! {
    a_drill_is_kept_as_it_was_recorded_and_once
    drills_are_listed_from_the_newest_on_and_the_last_proven_one_is_found
}

fn drill(minutes: i64, ok: bool) -> DrillRecord {
    let status = if ok { "ok" } else { "failed" };
    let check = |name: &str| DrillCheck {
        name: name.to_owned(),
        status: status.to_owned(),
        detail: "Größe\n'\"".to_owned(),
    };
    DrillRecord {
        id: DrillId::random(),
        started_at: start(),
        recorded_at: start() + Duration::minutes(minutes),
        recorded_by: "local:0".to_owned(),
        backup_sha256: "a".repeat(64),
        backup_created_at: ok.then(start),
        ok,
        checks: vec![check("keys"), check("store")],
        keys_proven: 7,
        rto_milliseconds: 1234,
        rpo_milliseconds: u64::from(u32::MAX),
        report_json_sha256: "b".repeat(64),
        report_html_sha256: "c".repeat(64),
        statement: "{}\n".to_owned(),
    }
}

async fn a_drill_is_kept_as_it_was_recorded_and_once(world: World) {
    let store = &world.store;
    for drill in [drill(0, true), drill(1, false)] {
        store.insert_drill(&drill).await.unwrap();
        assert_eq!(store.drill(drill.id).await.unwrap(), Some(drill.clone()));
        let error = store.insert_drill(&drill).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict, "{error}");
    }
    assert_eq!(store.drill(DrillId::random()).await.unwrap(), None);
    assert_eq!(store.backup_of(&"a".repeat(64)).await.unwrap(), None);
}

async fn drills_are_listed_from_the_newest_on_and_the_last_proven_one_is_found(world: World) {
    let store = &world.store;
    assert_eq!(store.last_proven_drill().await.unwrap(), None);
    let [first, second, last] = [drill(0, true), drill(1, true), drill(2, false)];
    for drill in [&second, &last, &first] {
        store.insert_drill(drill).await.unwrap();
    }
    assert_eq!(store.last_proven_drill().await.unwrap(), Some(second.clone()));
    assert_eq!(store.drills(2).await.unwrap(), [last.clone(), second.clone()]);
    assert_eq!(store.drills(100).await.unwrap(), [last, second, first]);
}
