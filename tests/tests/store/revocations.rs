//! Checks and staples: what is to be checked, and what a revocation is.

use time::Duration;
use vault::store::{
    AgentViews as _, Certificates as _, RevocationCheck, RevocationStatus, Revocations as _,
    Staple, VersionRecord,
};

use super::{
    records::{put_agents, put_order, start, version},
    world::World,
};

promises! {
    a_version_is_checked_while_it_is_in_force_or_held_and_not_before_its_time
    a_revocation_is_one_transaction_and_the_end_of_checks
    a_staple_replaces_the_one_before_and_goes_with_its_certificate
}

fn check(version: &VersionRecord) -> RevocationCheck {
    RevocationCheck {
        certificate: version.certificate.clone(),
        version: version.version,
        status: RevocationStatus::Good,
        source: "crl".to_owned(),
        detail: "says \0 it".to_owned(),
        checked_at: start(),
        unknown_since: None,
        next_at: start() + Duration::hours(1),
    }
}

async fn a_version_is_checked_while_it_is_in_force_or_held_and_not_before_its_time(world: World) {
    let store = &world.store;
    let (_, order) = put_order(store).await;
    let first = version(&order);
    store.record_issuance(order.id, &first, start() + Duration::days(30)).await.unwrap();
    let due = async |after: Duration| store.versions_to_check(start() + after, 9).await.unwrap();
    assert_eq!(due(Duration::ZERO).await, std::slice::from_ref(&first));
    assert_eq!(store.next_check(start()).await.unwrap(), None);
    store.put_revocation_check(&check(&first)).await.unwrap();
    let kept = store.revocation_check(&first.certificate, first.version).await.unwrap().unwrap();
    assert_eq!(kept, RevocationCheck { detail: "says \u{fffd} it".to_owned(), ..check(&first) });
    assert_eq!(due(Duration::minutes(59)).await, []);
    let next = store.next_check(start()).await.unwrap();
    assert_eq!(next, Some(start() + Duration::hours(1)));
    assert_eq!(due(Duration::hours(1)).await, std::slice::from_ref(&first));
    assert_eq!(due(first.not_after - start()).await, []);
}

async fn a_revocation_is_one_transaction_and_the_end_of_checks(world: World) {
    let store = &world.store;
    let (shop, order) = put_order(store).await;
    let first = version(&order);
    store.record_issuance(order.id, &first, start() + Duration::days(30)).await.unwrap();
    let found = RevocationCheck { status: RevocationStatus::Revoked, ..check(&first) };
    let nobodys = RevocationCheck { version: 7, ..found.clone() };
    assert!(store.record_revocation(&nobodys, "superseded", Some(start())).await.is_err());
    let now = async || store.certificate(&shop.name).await.unwrap().unwrap();
    assert_eq!(now().await.renew_at, start() + Duration::days(30));
    store.record_revocation(&found, "superseded", Some(start())).await.unwrap();
    assert_eq!(now().await.renew_at, start());
    assert_eq!(now().await.status.as_str(), "revoked");
    let marked = store.version(&shop.name, first.version).await.unwrap().unwrap();
    assert_eq!(marked.revoked.as_deref(), Some("superseded"));
    assert_eq!(store.versions_to_check(start() + Duration::days(1), 9).await.unwrap(), []);
}

async fn a_staple_replaces_the_one_before_and_goes_with_its_certificate(world: World) {
    let store = &world.store;
    let (shop, order) = put_order(store).await;
    let web1 = put_agents(store, &["web1"]).await.remove(0);
    store.insert_deployment(&shop.name, &web1, start()).await.unwrap();
    let seen = async || store.agent_view(&shop.name, &web1).await.unwrap().unwrap();
    let first = version(&order);
    let staple = Staple {
        certificate: shop.name.clone(),
        version: first.version,
        response: vec![0, 1, 2],
        this_update: start(),
        next_update: start() + Duration::days(4),
        fetched_at: start(),
    };
    assert!(store.put_staple(&staple).await.is_err(), "of no version");
    store.record_issuance(order.id, &first, start() + Duration::days(30)).await.unwrap();
    assert_eq!((seen().await.is_stapled, seen().await.wanted_version), (false, 1));
    store.put_staple(&staple).await.unwrap();
    let newer = Staple { response: vec![3], fetched_at: start() + Duration::days(2), ..staple };
    store.put_staple(&newer).await.unwrap();
    assert_eq!(store.staple(&shop.name, 1).await.unwrap().as_ref(), Some(&newer));
    // What goes to an agent has it, too.
    assert!(seen().await.is_stapled);
    let sent = store.versions_for(&shop.name, 1, start()).await.unwrap();
    assert_eq!(sent.wanted, Some((first.clone(), Some(newer))));
    store.remove_deployment(&shop.name, &web1).await.unwrap();
    store.put_revocation_check(&check(&first)).await.unwrap();
    store.delete_certificate(&shop.name).await.unwrap();
    assert_eq!(store.staple(&shop.name, 1).await.unwrap(), None);
    assert_eq!(store.revocation_check(&shop.name, 1).await.unwrap(), None);
}
