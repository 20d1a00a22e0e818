//! What CAs say of when to renew.

use time::Duration;
use vault::store::{Certificates as _, RenewalInfoRecord, RenewalInfos as _, sql::SqlStore};
use vault_proto::ids::CertificateName;

use super::{
    records::{certificate, issue_next, name, order, put_account, start},
    world::World,
};

promises! {
    what_was_said_is_kept_for_the_version_in_force_only
    a_renewal_is_made_later_only_where_none_is_due_under_way_or_failing
    a_ca_is_asked_about_what_is_in_force_and_in_date_when_it_is_time_to
    that_nothing_is_replaced_any_more_is_kept_with_its_version
    what_was_said_goes_with_its_certificate
}

async fn put_shop(store: &SqlStore) -> CertificateName {
    put_account(store).await;
    let shop = certificate("shop");
    store.insert_certificate(&shop, &[]).await.unwrap();
    issue_next(store, &shop.name).await;
    shop.name
}

fn said(version: u64) -> RenewalInfoRecord {
    let window = (start() + Duration::days(40), start() + Duration::days(41));
    RenewalInfoRecord {
        certificate: name("shop"),
        version,
        window: Some(window),
        explanation_url: Some("https://ca.example/why".parse().unwrap()),
        selected_at: Some(start() + Duration::days(40)),
        checked_at: Some(start()),
        next_check_at: start() + Duration::hours(6),
        failures: 0,
        replaces_refused: false,
    }
}

async fn what_was_said_is_kept_for_the_version_in_force_only(world: World) {
    let store = &world.store;
    let shop = put_shop(store).await;
    assert_eq!(store.renewal_info(&shop).await.unwrap(), None);
    let renew_at = Some(start() + Duration::days(40));
    assert!(store.keep_renewal_info(&said(1), renew_at, start()).await.unwrap());
    assert_eq!(store.renewal_info(&shop).await.unwrap(), Some(said(1)));
    let nothing = RenewalInfoRecord {
        window: None,
        explanation_url: None,
        selected_at: None,
        checked_at: None,
        failures: 3,
        ..said(1)
    };
    assert!(store.keep_renewal_info(&nothing, None, start()).await.unwrap());
    assert_eq!(store.renewal_info(&shop).await.unwrap(), Some(nothing.clone()));
    let planned = store.certificate(&shop).await.unwrap().unwrap();
    assert_eq!(Some(planned.renew_at), renew_at);
    // It was renewed while its CA was asked.
    issue_next(store, &shop).await;
    let before = store.certificate(&shop).await.unwrap();
    assert!(!store.keep_renewal_info(&said(1), renew_at, start()).await.unwrap());
    assert!(!store.keep_renewal_info(&said(1), None, start()).await.unwrap());
    assert_eq!(store.renewal_info(&shop).await.unwrap(), Some(nothing));
    assert_eq!(store.certificate(&shop).await.unwrap(), before);
}

async fn a_renewal_is_made_later_only_where_none_is_due_under_way_or_failing(world: World) {
    let store = &world.store;
    let shop = put_shop(store).await;
    let day = |day: i64| start() + Duration::days(day);
    let plan = async |to: i64, now: i64| {
        let kept = store.keep_renewal_info(&said(1), Some(day(to)), day(now)).await.unwrap();
        assert!(kept);
        store.certificate(&shop).await.unwrap().unwrap().renew_at
    };
    assert_eq!(plan(70, 1).await, day(70));
    assert_eq!(plan(50, 1).await, day(50));
    // Somebody has asked for it.
    assert_eq!(plan(70, 50).await, day(50));
    assert_eq!(plan(49, 50).await, day(49));
    let again = order(&store.certificate(&shop).await.unwrap().unwrap());
    store.insert_order(&again).await.unwrap();
    assert_eq!(plan(70, 1).await, day(49), "an order is under way");
    assert_eq!(plan(48, 1).await, day(48));
    store.fail_order(again.id, "no", 1, day(45), start()).await.unwrap();
    assert_eq!(plan(70, 1).await, day(45), "the next try waits for its time");
    assert_eq!(plan(44, 1).await, day(44));
}

async fn a_ca_is_asked_about_what_is_in_force_and_in_date_when_it_is_time_to(world: World) {
    let store = &world.store;
    let shop = put_shop(store).await;
    let never = certificate("never");
    store.insert_certificate(&never, &[]).await.unwrap();
    let all = std::slice::from_ref(&shop);
    let due = async |at| store.renewal_info_due(&name("ca"), at, 10).await.unwrap();
    assert_eq!(due(start()).await, *all);
    assert!(store.renewal_info_due(&name("other"), start(), 10).await.unwrap().is_empty());
    store.keep_renewal_info(&said(1), None, start()).await.unwrap();
    assert!(due(start()).await.is_empty());
    assert_eq!(due(start() + Duration::hours(6)).await, *all);
    assert!(due(start() + Duration::days(90)).await.is_empty(), "it has ended");
    // A version that is new was never asked about.
    issue_next(store, &shop).await;
    assert_eq!(due(start()).await, *all);
    store.revoke_version(&shop, 2, "superseded", None).await.unwrap();
    assert!(due(start()).await.is_empty(), "it is revoked");
}

async fn that_nothing_is_replaced_any_more_is_kept_with_its_version(world: World) {
    let store = &world.store;
    let shop = put_shop(store).await;
    let refused = async || store.renewal_info(&shop).await.unwrap().unwrap().replaces_refused;
    store.refuse_replaces(&shop, 1, start()).await.unwrap();
    assert!(refused().await);
    // Whoever had read it before knows nothing of that.
    store.keep_renewal_info(&said(1), None, start()).await.unwrap();
    assert!(refused().await);
    issue_next(store, &shop).await;
    store.keep_renewal_info(&said(2), None, start()).await.unwrap();
    assert!(!refused().await);
    store.refuse_replaces(&shop, 2, start()).await.unwrap();
    let kept = RenewalInfoRecord { replaces_refused: true, ..said(2) };
    assert_eq!(store.renewal_info(&shop).await.unwrap(), Some(kept));
    // Of a version before, nothing stays.
    issue_next(store, &shop).await;
    store.refuse_replaces(&shop, 3, start()).await.unwrap();
    let row = store.renewal_info(&shop).await.unwrap().unwrap();
    assert_eq!((row.version, row.window, row.next_check_at), (3, None, start()));
}

async fn what_was_said_goes_with_its_certificate(world: World) {
    let store = &world.store;
    let shop = put_shop(store).await;
    store.keep_renewal_info(&said(1), None, start()).await.unwrap();
    store.delete_certificate(&shop).await.unwrap();
    assert_eq!(store.renewal_info(&shop).await.unwrap(), None);
    store.refuse_replaces(&shop, 1, start()).await.unwrap_err();
}
