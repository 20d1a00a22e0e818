//! What a vault remembers of its backups, and whose turn it is.

use time::Duration;
use vault::{
    error::ErrorKind,
    store::{BackupRecord, BackupState, History as _, ScheduleRecord, Settings as _, Store as _},
};
use vault_backup::{Counts, Table};
use vault_proto::ids::BackupId;

use super::{
    records::start,
    snapshot::all,
    world::{World, refused},
};

promises! {
    backups_come_newest_first_and_page_by_page
    a_backup_s_state_is_all_of_it_that_changes
    of_several_who_claim_a_schedule_one_gets_it
    a_schedule_that_is_not_held_any_more_is_not_changed
    a_schedule_reads_back_as_it_was_written
    history_is_in_no_snapshot
}

fn backup(minutes: i64) -> BackupRecord {
    BackupRecord {
        id: BackupId::random(),
        created_at: start() + Duration::minutes(minutes),
        size: 7,
        sha256: "ab".repeat(32),
        counts: Counts { keys_wrapped: 3, audit_records: 9, ..Counts::default() },
        kek_check_value: "c0ffee".to_owned(),
        audit_sequence: 9,
        audit_head: "cd".repeat(32),
        location: "file:///b/v.age".to_owned(),
        state: BackupState::Storing,
    }
}

async fn backups_come_newest_first_and_page_by_page(world: World) {
    // Two at one time are told apart by their ids.
    let mut made: Vec<_> = [0, 5, 3, 3, 1].map(backup).into();
    for one in &made {
        world.store.insert_backup(one).await.unwrap();
    }
    made.sort_by_key(|one| std::cmp::Reverse((one.created_at, one.id)));
    assert_eq!(world.store.backups(None, 100).await.unwrap(), made);
    let (mut paged, mut before) = (Vec::new(), None);
    loop {
        let page = world.store.backups(before, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        paged.extend(page);
    }
    assert_eq!(paged, made);
    assert_eq!(world.store.backups(Some(BackupId::random()), 9).await.unwrap(), []);
}

async fn a_backup_s_state_is_all_of_it_that_changes(world: World) {
    let (one, other) = (backup(0), backup(1));
    for made in [&one, &other] {
        world.store.insert_backup(made).await.unwrap();
    }
    refused(ErrorKind::Conflict, world.store.insert_backup(&one).await);
    world.store.set_backup_state(one.id, BackupState::Kept).await.unwrap();
    let kept = BackupRecord { state: BackupState::Kept, ..one.clone() };
    assert_eq!(world.store.backup(one.id).await.unwrap(), Some(kept.clone()));
    assert_eq!(world.store.backups_in(BackupState::Kept).await.unwrap(), [kept]);
    assert_eq!(world.store.backups_in(BackupState::Storing).await.unwrap(), [other]);
    let nobody = world.store.set_backup_state(BackupId::random(), BackupState::Kept).await;
    refused(ErrorKind::NotFound, nobody);
}

async fn of_several_who_claim_a_schedule_one_gets_it(world: World) {
    let (now, until) = (start(), start() + Duration::seconds(30));
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(world.open().await.unwrap());
    }
    let claims = nodes.into_iter().zip(["a", "b", "c", "d"]).map(|(node, holder)| {
        tokio::spawn(async move { node.claim_schedule("s", holder, now, until).await })
    });
    let claims: Vec<_> = claims.collect();
    let mut got = 0;
    for claim in claims {
        got += usize::from(claim.await.unwrap().unwrap());
    }
    assert_eq!(got, 1);
}

async fn a_schedule_that_is_not_held_any_more_is_not_changed(world: World) {
    let (store, now) = (&world.store, start());
    let until = now + Duration::seconds(30);
    assert!(store.claim_schedule("s", "a", now, until).await.unwrap());
    // Whoever holds it may go on holding it, and nobody else before its time is over.
    assert!(store.claim_schedule("s", "a", now, until).await.unwrap());
    assert!(!store.claim_schedule("s", "b", until - Duration::seconds(1), until).await.unwrap());
    assert!(store.claim_schedule("s", "b", until, until + Duration::seconds(30)).await.unwrap());
    let late = ScheduleRecord { failed_attempts: 1, ..Default::default() };
    assert!(!store.update_schedule("s", "a", &late).await.unwrap());
    store.release_schedule("s", "a").await.unwrap();
    assert!(!store.claim_schedule("s", "a", until, until).await.unwrap());
    store.release_schedule("s", "b").await.unwrap();
    assert!(store.claim_schedule("s", "a", now, until).await.unwrap());
    assert_eq!(store.schedule("s").await.unwrap(), ScheduleRecord::default());
}

async fn a_schedule_reads_back_as_it_was_written(world: World) {
    let store = &world.store;
    assert_eq!(store.schedule("s").await.unwrap(), ScheduleRecord::default());
    assert!(store.claim_schedule("s", "a", start(), start()).await.unwrap());
    let schedule = ScheduleRecord {
        last_ok_at: Some(start()),
        failed_attempts: 3,
        last_error: Some("a\0b".to_owned()),
        last_failed_at: Some(start() + Duration::microseconds(1)),
        retry_at: Some(start() + Duration::hours(1)),
        unfinished: Some("name id".to_owned()),
    };
    assert!(store.update_schedule("s", "a", &schedule).await.unwrap());
    let kept = ScheduleRecord { last_error: Some("a\u{fffd}b".to_owned()), ..schedule };
    assert_eq!(store.schedule("s").await.unwrap(), kept);
    assert_eq!(store.schedule("another").await.unwrap(), ScheduleRecord::default());
}

async fn history_is_in_no_snapshot(world: World) {
    let store = &world.store;
    store.put_settings(&[("a", "b")]).await.unwrap();
    store.insert_backup(&backup(0)).await.unwrap();
    assert!(store.claim_schedule("s", "a", start(), start()).await.unwrap());
    let mut snapshot = store.snapshot().await.unwrap();
    let mut rows = 0;
    for table in Table::ALL.iter().copied() {
        rows += all(&mut snapshot, table).await.len();
    }
    assert_eq!(rows, 1, "the setting alone");
}
